//! The promises of `Download` and `sha256_of`, against a server on this machine. The program of
//! the crate `data` is tested in the same way, and there for more of what a server can do wrong.

mod server;

use std::{fs, path::Path, time::Duration};

use files::{Download, sha256_of};
use server::{Answer, NOBODY, good, serve};

/// The example of the standard: the SHA-256 of "abc" (FIPS 180-4, "SHA256.pdf", one block).
const SHA256_OF_ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

fn download(url: &str, to: &Path, sha256: Option<&str>) -> Result<(), String> {
    let connect_timeout = Duration::from_millis(500);
    let download = Download { url, to, sha256, connect_timeout };
    download.run().map_err(|error| format!("{error:#}"))
}

/// Downloads what `answer` sends over a file that is already there.
fn download_over_old(answer: Vec<u8>) -> (Result<(), String>, String) {
    fetch_over_old(&serve(Answer::Send(answer)))
}

/// Downloads `url`, without a checksum, over a file that is already there. Returns the outcome and
/// what is in the file afterwards; fails if there is anything else.
fn fetch_over_old(url: &str) -> (Result<(), String>, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    fs::write(&path, "old").unwrap();
    let outcome = download(url, &path, None);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    (outcome, fs::read_to_string(&path).unwrap())
}

#[test]
fn a_large_file_arrives_whole() {
    let content = "0123456789".repeat(100_000);
    assert_eq!(download_over_old(good(&content)), (Ok(()), content));
}

#[test]
fn a_file_of_unknown_length_arrives_whole() {
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let answer = format!("{head}3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n");
    assert_eq!(download_over_old(answer.into()), (Ok(()), "abcde".into()));
}

#[test]
fn without_a_checksum_a_part_is_still_no_whole() {
    let mut truncated = good(&"x".repeat(200_000));
    truncated.pop();
    let (outcome, left) = download_over_old(truncated);
    let message = outcome.unwrap_err();
    let reason = ": the connection broke off after 199,999 of 200,000 bytes";
    assert!(message.ends_with(reason), "{message}");
    assert_eq!(left, "old");
}

#[test]
fn a_part_of_unknown_length_is_no_whole() {
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let (outcome, left) = download_over_old(format!("{head}3\r\nabc\r\n").into());
    let message = outcome.unwrap_err();
    assert!(message.ends_with(": the connection broke off after 3 bytes"), "{message}");
    assert_eq!(left, "old");
}

#[test]
fn a_server_that_falls_silent_is_given_up() {
    let mut half = good("abcdef");
    half.truncate(half.len() - 3);
    let (outcome, left) = fetch_over_old(&serve(Answer::SendAndStall(half)));
    let message = outcome.unwrap_err();
    assert!(message.ends_with(": the server is silent for 1.5s"), "{message}");
    assert_eq!(left, "old");
}

#[test]
fn a_slow_server_is_not_given_up() {
    // Twice as long in all as a server may be silent.
    let content = "x".repeat(100);
    let answer = Answer::SendSlowly(good(&content), Duration::from_millis(30));
    assert_eq!(fetch_over_old(&serve(answer)), (Ok(()), content));
}

#[test]
fn a_server_that_is_not_there() {
    let (outcome, left) = fetch_over_old(NOBODY);
    assert!(outcome.unwrap_err().contains(": the connection is refused"));
    assert_eq!(left, "old");
}

#[test]
fn a_redirection_is_followed() {
    let there = serve(Answer::Send(good("abc")));
    let redirection =
        format!("HTTP/1.1 302 Found\r\nLocation: {there}\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(download_over_old(redirection.into()), (Ok(()), "abc".into()));
}

#[test]
fn the_checksum_may_be_written_either_way() {
    let folder = tempfile::tempdir().unwrap();
    let url = serve(Answer::Send(good("abc")));
    for sha256 in [SHA256_OF_ABC, &SHA256_OF_ABC.to_uppercase()] {
        download(&url, &folder.path().join("file"), Some(sha256)).unwrap();
    }
}

#[test]
fn a_place_that_takes_no_file_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "not a folder").unwrap();
    let below = file.join("input.txt");
    let url = serve(Answer::Send(good("abc")));
    let message = download(&url, &below, None).unwrap_err();
    let start = format!("cannot download {url}: cannot write {}: ", below.display());
    assert!(message.starts_with(&start), "{message}");
}

#[test]
fn what_is_no_url_is_said_to_be_none() {
    let folder = tempfile::tempdir().unwrap();
    for url in ["", "input.txt", "http://", "ftp://127.0.0.1/input.txt"] {
        let message = download(url, &folder.path().join("file"), None).unwrap_err();
        assert!(message.starts_with(&format!("cannot download {url}: ")), "{message}");
        assert!(!message.contains('\n'), "{message}");
    }
}

#[test]
fn sha256_is_that_of_the_standard() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("abc");
    fs::write(&path, "abc").unwrap();
    assert_eq!(sha256_of(&path).unwrap(), SHA256_OF_ABC);
    // "a" a million times, also from the standard's examples, is longer than any buffer.
    fs::write(&path, "a".repeat(1_000_000)).unwrap();
    assert_eq!(
        sha256_of(&path).unwrap(),
        "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"
    );
    let missing = folder.path().join("missing");
    let message = format!("{:#}", sha256_of(&missing).unwrap_err());
    assert!(message.starts_with(&format!("cannot read {}: ", missing.display())), "{message}");
}

/// `resume`s a download of "abc", of which `part` is there, and returns the outcome and the files afterwards.
fn resume(part: &str, answer: &str) -> (Result<(), String>, Vec<(String, String)>) {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("file.part"), part).unwrap();
    let to = folder.path().join("file");
    let url = serve(Answer::Send(answer.into()));
    let connect_timeout = Duration::from_millis(500);
    let download = Download { url: &url, to: &to, sha256: Some(SHA256_OF_ABC), connect_timeout };
    let outcome = download.resume().map_err(|error| format!("{error:#}"));
    let entries = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path());
    let file = |path: std::path::PathBuf| {
        let name = path.file_name().unwrap().to_str().unwrap().to_string();
        (name, fs::read_to_string(&path).unwrap())
    };
    (outcome, entries.map(file).collect())
}

#[test]
fn a_part_is_gone_on_with() {
    let whole = vec![("file".to_string(), "abc".to_string())];
    let partial = "HTTP/1.1 206 Partial Content\r\nContent-Length: 2\r\n\r\nbc";
    assert_eq!(resume("a", partial), (Ok(()), whole.clone()));
    let all = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc";
    assert_eq!(resume("", all), (Ok(()), whole.clone()));
    assert_eq!(
        resume("a", all),
        (Ok(()), whole.clone()),
        "a server without ranges sends all of it"
    );
    let nothing = "HTTP/1.1 416 Range Not Satisfiable\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(resume("abc", nothing), (Ok(()), whole));
}

#[test]
fn a_part_stays_when_the_connection_breaks_and_goes_when_it_is_wrong() {
    let broken = "HTTP/1.1 206 Partial Content\r\nContent-Length: 2\r\n\r\nb";
    let (outcome, left) = resume("a", broken);
    let message = outcome.unwrap_err();
    assert!(message.ends_with(": the connection broke off after 2 of 3 bytes"), "{message}");
    assert_eq!(left, [("file.part".to_string(), "ab".to_string())]);
    let rest = "HTTP/1.1 206 Partial Content\r\nContent-Length: 2\r\n\r\nbc";
    let nothing = "HTTP/1.1 416 Range Not Satisfiable\r\nContent-Length: 0\r\n\r\n";
    for (part, answer) in [("x", rest), ("abcd", nothing)] {
        let (outcome, left) = resume(part, answer);
        assert!(outcome.unwrap_err().contains("what came is not the expected file"));
        assert!(left.is_empty(), "{left:?}");
    }
}

#[test]
fn two_processes_do_not_write_one_part() {
    let folder = tempfile::tempdir().unwrap();
    let other = fs::File::create(folder.path().join("file.part")).unwrap();
    other.lock().unwrap();
    let to = folder.path().join("file");
    let connect_timeout = Duration::from_millis(500);
    let download = Download { url: NOBODY, to: &to, sha256: Some(SHA256_OF_ABC), connect_timeout };
    let message = format!("{:#}", download.resume().unwrap_err());
    assert!(message.contains("file: another process is writing it"), "{message}");
}
