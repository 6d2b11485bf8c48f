//! What `data shakespeare` promises when the server is good and when it is not: the exit code, the
//! sentence, and what is in the folder afterwards. The server is on this machine; the text is not
//! Shakespeare's, so that the tests need no download.

#[path = "../../files/tests/server/mod.rs"]
mod server;

use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use server::{Answer, NOBODY, good, serve};
use tempfile::TempDir;

const TEXT: &str = "First Citizen:\nBefore we proceed any further, hear me speak.\n";
/// By `sha256sum`.
const SHA256_OF_TEXT: &str = "7eb824e873f453dd5ed544db04e59d444ef359668efc68b7a8ad0e6ceae1b8a8";
const OLD: &str = "an older file";

fn start(folder: &Path, flags: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_data"))
        .args(["shakespeare", "--sha256", SHA256_OF_TEXT, "--out"])
        .arg(folder)
        .args(flags)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Waits for the program; returns its exit code and what it printed to stdout and stderr.
fn end(program: Child) -> (Option<i32>, String, String) {
    let output = program.wait_with_output().unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(!format!("{stdout}{stderr}").contains('\x1b'), "no terminal, no escape codes");
    (output.status.code(), stdout, stderr)
}

fn run(folder: &Path, flags: &[&str]) -> (Option<i32>, String, String) {
    end(start(folder, flags))
}

fn folder_with(content: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("input.txt"), content).unwrap();
    folder
}

fn names_in(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn assert_holds_only(folder: &Path, content: &str) {
    assert_eq!(names_in(folder), ["input.txt"]);
    assert_eq!(fs::read_to_string(folder.join("input.txt")).unwrap(), content);
}

/// Downloads from `url` into an empty folder and over an older file: both must fail for `reason`,
/// say how to go on, and leave the folders as they were.
fn assert_fails_cleanly(url: &str, reason: &str) {
    let empty = tempfile::tempdir().unwrap();
    let full = folder_with(OLD);
    let flags = ["--url", url, "--timeout", "1", "--force"];
    let programs = [empty.path(), full.path()].map(|folder| (folder, start(folder, &flags)));
    for (folder, program) in programs {
        let (code, stdout, stderr) = end(program);
        assert_eq!((code, stdout.as_str()), (Some(1), ""));
        let sentence = stderr.lines().last().unwrap();
        let beginning = format!("error: cannot download {url}: {reason}");
        assert!(sentence.starts_with(&beginning), "{stderr}");
        let way_out = format!("and save it as {}", folder.join("input.txt").display());
        assert!(sentence.ends_with(&way_out), "{stderr}");
    }
    assert!(names_in(empty.path()).is_empty());
    assert_holds_only(full.path(), OLD);
}

#[test]
fn a_good_server() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("data/shakespeare");
    let path = folder.join("input.txt");
    let (code, stdout, stderr) = run(&folder, &["--url", &serve(Answer::Send(good(TEXT)))]);
    assert_eq!(code, Some(0), "{stderr}");
    assert_eq!(stdout, format!("{} is ready\n", path.display()));
    assert_holds_only(&folder, TEXT);

    // The second time nothing is asked of any server.
    let (code, stdout, stderr) = run(&folder, &["--url", NOBODY]);
    assert_eq!(code, Some(0), "{stderr}");
    assert_eq!(stdout, format!("{} is already there, and right\n", path.display()));
}

#[test]
fn another_file_in_its_place_is_replaced_only_by_force() {
    let folder = folder_with(OLD);
    let url = serve(Answer::Send(good(TEXT)));
    let (code, _, stderr) = run(folder.path(), &["--url", &url]);
    assert_eq!(code, Some(1));
    assert_eq!(
        stderr,
        format!(
            "error: {} is there but is not the expected text; \
             move it away, or replace it with --force\n",
            folder.path().join("input.txt").display()
        )
    );
    assert_holds_only(folder.path(), OLD);

    let (code, _, stderr) = run(folder.path(), &["--url", &url, "--force"]);
    assert_eq!(code, Some(0), "{stderr}");
    assert_holds_only(folder.path(), TEXT);
}

#[test]
fn a_truncated_file() {
    let mut answer = good(TEXT);
    answer.truncate(answer.len() - 10);
    let (received, length) = (TEXT.len() - 10, TEXT.len());
    assert_fails_cleanly(
        &serve(Answer::Send(answer)),
        &format!("the connection broke off after {received} of {length} bytes; "),
    );
}

#[test]
fn no_such_file() {
    let answer = b"HTTP/1.1 404 Not Found\r\nContent-Length: 9\r\n\r\nNot Found";
    assert_fails_cleanly(
        &serve(Answer::Send(answer.to_vec())),
        "the server answers with HTTP status 404; ",
    );
}

#[test]
fn wrong_content() {
    // A page instead of the file, as hotel networks like to send it; its SHA-256 by `sha256sum`.
    let page = "<html>Please log in</html>";
    assert_fails_cleanly(
        &serve(Answer::Send(good(page))),
        &format!(
            "what came is not the expected file: \
             its SHA-256 is 39bb8635d641dc29f401c1a029e80226f00e52eec6aff7e610ffdfd96b4954ab, not {SHA256_OF_TEXT}; "
        ),
    );
}

#[test]
fn nobody_listens() {
    assert_fails_cleanly(NOBODY, "the connection is refused");
}

/// The domain `.invalid` exists nowhere (RFC 6761), so this is what happens without a network.
#[test]
fn no_such_host() {
    assert_fails_cleanly("http://host.invalid/input.txt", "");
}

#[test]
fn a_server_that_is_no_web_server() {
    assert_fails_cleanly(&serve(Answer::Send(b"220 mail ready\r\n".to_vec())), "");
}

#[test]
fn a_server_that_never_answers() {
    let url = serve(Answer::SendAndStall(Vec::new()));
    assert_fails_cleanly(&url, "the server is silent for 3s; ");
}

#[test]
fn a_server_that_falls_silent() {
    let mut half = good(TEXT);
    half.truncate(half.len() - TEXT.len() / 2);
    let url = serve(Answer::SendAndStall(half));
    assert_fails_cleanly(&url, "the server is silent for 3s; ");
}

/// A killed program cannot clean up, but the next one does.
#[test]
fn a_killed_download() {
    let folder = tempfile::tempdir().unwrap();
    let mut half = good(TEXT);
    half.truncate(half.len() - TEXT.len() / 2);
    let url = serve(Answer::SendAndStall(half));
    // Hours of patience, so that it is certainly killed in the middle.
    let mut program = start(folder.path(), &["--url", &url, "--timeout", "3600"]);
    while names_in(folder.path()).is_empty() {
        assert!(program.try_wait().unwrap().is_none(), "it ended before it was killed");
        thread::sleep(Duration::from_millis(10));
    }
    program.kill().unwrap();
    program.wait().unwrap();
    assert!(!folder.path().join("input.txt").exists());

    let (code, _, stderr) = run(folder.path(), &["--url", &serve(Answer::Send(good(TEXT)))]);
    assert_eq!(code, Some(0), "{stderr}");
    assert_holds_only(folder.path(), TEXT);
}

#[test]
fn flags_that_mean_nothing() {
    let folder = tempfile::tempdir().unwrap();
    for flags in [&["--timeout", "0"], &["--timeout", "soon"], &["--mirror", "x"]] {
        let (code, _, stderr) = run(folder.path(), flags);
        assert_eq!(code, Some(2));
        assert!(stderr.contains(flags[0]), "{stderr}");
    }
}

/// Without `--out` the file goes to `data/shakespeare` of the repository around the current folder.
#[test]
fn the_repository_is_found_from_below() {
    let repository = tempfile::tempdir().unwrap();
    fs::create_dir_all(repository.path().join("data/src")).unwrap();
    fs::write(repository.path().join("data/Cargo.toml"), "").unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_data"))
        .current_dir(repository.path().join("data/src"))
        .args(["shakespeare", "--sha256", SHA256_OF_TEXT])
        .args(["--url", &serve(Answer::Send(good(TEXT)))])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_holds_only(&repository.path().join("data/shakespeare"), TEXT);
}

#[test]
fn without_a_repository_it_asks_for_the_folder() {
    let elsewhere = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_data"))
        .current_dir(elsewhere.path())
        .env_remove("CARGO_MANIFEST_DIR")
        .args(["shakespeare", "--url", NOBODY])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        String::from_utf8(output.stderr).unwrap(),
        "error: there is no repository around the current folder; say where to with --out\n"
    );
    assert!(names_in(elsewhere.path()).is_empty());
}

/// With `--tokenizer`, the last tenth of the lines is to validate on.
#[test]
fn shards_of_tokens_beside_the_text() {
    let folder = tempfile::tempdir().unwrap();
    let text: String = (0..50).map(|i| format!("Citizen {i}:\nHear me speak.\n\n")).collect();
    fs::write(folder.path().join("input.txt"), &text).unwrap();
    let sha256 = files::sha256_of(&folder.path().join("input.txt")).unwrap();
    let flags = ["--url", NOBODY, "--sha256", &sha256, "--tokenizer", "fables"];
    let run = || {
        let out = folder.path().to_str().unwrap();
        let program = Command::new(env!("CARGO_BIN_EXE_data"))
            .args(["shakespeare", "--out", out])
            .args(flags)
            .output()
            .unwrap();
        assert!(program.status.success(), "{program:?}");
        String::from_utf8(program.stdout).unwrap()
    };
    let said = run();
    assert!(said.contains("fables is ready: ") && said.contains("to validate on"), "{said}");
    let tokenizer = lab::Tokenizer::load("fables").unwrap();
    let read = |split| {
        let shards = lab::Shards::open(&folder.path().join("fables"), split, &tokenizer).unwrap();
        tokenizer.decode(&shards.read(&[0], 0, shards.total()).unwrap())
    };
    let parts = [read("train"), read("val")];
    let parts = parts.map(|part| part.strip_prefix("<|endoftext|>").unwrap().to_string());
    let words = |text: &str| text.split_whitespace().map(str::to_string).collect::<Vec<_>>();
    assert_eq!(words(&parts.join("\n")), words(&text));
    assert!(parts[1].starts_with("Citizen 45:"), "{}", parts[1]);
    assert!(run().contains("is already there"));
}
