//! What `data gpt2` promises when the hub is good and when it is not: the exit code, the sentence,
//! what is in the folder afterwards, and what was asked of the hub. The hub is on this machine and
//! has the tests' own small model.

#[path = "../../files/tests/refusal/mod.rs"]
mod refusal;
#[path = "../../files/tests/server/mod.rs"]
mod server;

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::{Arc, Mutex},
    thread,
};

use files::sha256_of;
use refusal::expect_refusal;
use server::{Answer, NOBODY, serve};
use tempfile::TempDir;

const REVISION: &str = "607a30d783dfa663caf39e06633721c8d4cfcd7e";
const CONFIG: &str = "config.json";
const WEIGHTS: &str = "model.safetensors";

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/gpt2-tiny").join(name)
}

/// A hub that has the tests' model under GPT-2's name and commit. As the real one, it sends whoever
/// asks for the weights on to another address.
struct Hub {
    url: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Hub {
    /// `weights` is what comes from the other address, head included.
    fn new(weights: Vec<u8>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let hub = Self { url: url.clone(), asked: asked.clone() };
        thread::spawn(move || {
            for connection in listener.incoming() {
                let mut connection = connection.unwrap();
                let mut lines = BufReader::new(connection.try_clone().unwrap()).lines();
                let request = lines.next().unwrap().unwrap();
                lines.map_while(Result::ok).find(String::is_empty);
                let path = request.split(' ').nth(1).unwrap().to_owned();
                let repository = format!("/openai-community/gpt2/resolve/{REVISION}");
                let answer = match path.strip_prefix(&repository) {
                    Some("/config.json") => good(&fs::read(fixture(CONFIG)).unwrap()),
                    Some("/model.safetensors") => {
                        // Without `close` the next request may come on this connection, and is lost.
                        let head = "HTTP/1.1 302 Found\r\nConnection: close\r\nContent-Length: 0";
                        format!("{head}\r\nLocation: {url}/elsewhere?signed=1\r\n\r\n").into()
                    }
                    None if path == "/elsewhere?signed=1" => weights.clone(),
                    _ => b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_vec(),
                };
                asked.lock().unwrap().push(path);
                connection.write_all(&answer).ok();
            }
        });
        hub
    }

    fn good() -> Self {
        Self::new(good(&fs::read(fixture(WEIGHTS)).unwrap()))
    }

    fn asked(&self) -> usize {
        self.asked.lock().unwrap().len()
    }
}

fn good(content: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", content.len());
    [head.as_bytes(), content].concat()
}

/// A home with an empty cache, and the folder for the model.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn out(&self) -> PathBuf {
        self.0.path().join("data/gpt2")
    }

    fn hf_home(&self) -> PathBuf {
        self.0.path().join("hf")
    }

    /// Runs `data gpt2` for the tests' model.
    fn run(&self, endpoint: &str, flags: &[&str]) -> Output {
        let sha256 = [CONFIG, WEIGHTS].map(|name| sha256_of(&fixture(name)).unwrap());
        let mut command = Command::new(env!("CARGO_BIN_EXE_data"));
        command.args(["gpt2", "--sha256"]).args(sha256).arg("--out").arg(self.out()).args(flags);
        for name in ["HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"] {
            command.env_remove(name);
        }
        command.env("HF_HOME", self.hf_home()).env("HF_ENDPOINT", endpoint).output().unwrap()
    }

    #[track_caller]
    fn succeeds(&self, endpoint: &str, flags: &[&str], end: &str) {
        let output = self.run(endpoint, flags);
        assert!(output.status.success(), "{output:?}");
        let said = String::from_utf8(output.stdout).unwrap();
        let out = self.out().display().to_string();
        let command = format!("cargo run --bin step05_gpt2 -- --weights {out}");
        let line = said.lines().last().unwrap();
        assert!(line.starts_with(&format!("{out} is {end}: {command}")), "{said}");
        self.assert_holds_the_model();
    }

    /// The program fails with one sentence that says all of `words`, and leaves these files.
    #[track_caller]
    fn fails(&self, endpoint: &str, flags: &[&str], words: &[&str], left: &[&str]) {
        let output = self.run(endpoint, flags);
        assert!(output.stdout.is_empty(), "{output:?}");
        let said = expect_refusal(output, words);
        assert_eq!(said.matches("error").count(), 1, "{said}");
        assert_eq!(names_in(&self.out()), left);
    }

    #[track_caller]
    fn assert_holds_the_model(&self) {
        assert_eq!(names_in(&self.out()), [CONFIG, WEIGHTS]);
        for name in [CONFIG, WEIGHTS] {
            assert!(fs::read(self.out().join(name)).unwrap() == fs::read(fixture(name)).unwrap());
        }
    }

    /// Puts files into the cache as Hugging Face's programs do: the content under its checksum, the
    /// name as a symbolic link to it.
    #[cfg(unix)]
    fn fill_cache(&self, folder: &str, files: &[(&str, &[u8])]) {
        let folder = self.hf_home().join("hub").join(folder);
        let names = folder.join("snapshots").join(REVISION);
        fs::create_dir_all(folder.join("blobs")).unwrap();
        fs::create_dir_all(&names).unwrap();
        for (name, content) in files {
            fs::write(folder.join("blobs").join(name), content).unwrap();
            let content = Path::new("../../blobs").join(name);
            std::os::unix::fs::symlink(content, names.join(name)).unwrap();
        }
    }
}

/// The names in a folder, sorted; none if there is no such folder.
fn names_in(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_good_hub_is_asked_once() {
    let (hub, place) = (Hub::good(), Place::new());
    place.succeeds(&hub.url, &[], "ready");
    assert_eq!(hub.asked(), 3);
    place.succeeds(&hub.url, &[], "already there, and right");
    place.succeeds(NOBODY, &[], "already there, and right");
    assert_eq!(hub.asked(), 3);
    // Only what is missing is fetched.
    fs::remove_file(place.out().join(CONFIG)).unwrap();
    place.succeeds(&hub.url, &[], "ready");
    assert_eq!(hub.asked(), 4);
    // The flag goes before the environment, and a stroke at the end is no matter.
    place.succeeds(NOBODY, &["--force", "--endpoint", &format!("{}/", hub.url)], "ready");
    assert_eq!(hub.asked(), 7);
}

#[test]
fn another_file_in_its_place_is_replaced_only_by_force() {
    let (hub, place) = (Hub::good(), Place::new());
    for name in [CONFIG, WEIGHTS] {
        fs::create_dir_all(place.out()).unwrap();
        fs::write(place.out().join(name), "mine").unwrap();
        let shown = place.out().join(name).display().to_string();
        place.fails(&hub.url, &[], &[&shown, "not the expected file", "--force"], &[name]);
        assert_eq!(fs::read_to_string(place.out().join(name)).unwrap(), "mine");
        assert_eq!(hub.asked(), 0);
        fs::remove_file(place.out().join(name)).unwrap();
    }
    fs::write(place.out().join(WEIGHTS), "mine").unwrap();
    place.succeeds(&hub.url, &["--force"], "ready");
}

/// The download of the weights breaks off: the whole file that came before stays, and the next run
/// fetches the other.
#[test]
fn an_interrupted_download() {
    let mut part = good(&fs::read(fixture(WEIGHTS)).unwrap());
    part.truncate(part.len() / 2);
    let (hub, place) = (Hub::new(part), Place::new());
    let by_hand =
        format!("by hand from https://huggingface.co/openai-community/gpt2/tree/{REVISION}");
    let saved = place.out().join(WEIGHTS).display().to_string();
    let words = ["the connection broke off", "--endpoint", &by_hand, &saved];
    place.fails(&hub.url, &[], &words, &[CONFIG]);
    let hub = Hub::good();
    place.succeeds(&hub.url, &[], "ready");
    assert_eq!(hub.asked(), 2);
}

/// A page instead of the file, as hotel networks like to send it, and weights with a bit flipped.
#[test]
fn wrong_content() {
    let place = Place::new();
    let page = serve(Answer::Send(good(b"<html>Please log in</html>")));
    place.fails(&page, &[], &["not the expected file", "--endpoint"], &[]);
    let mut weights = fs::read(fixture(WEIGHTS)).unwrap();
    *weights.last_mut().unwrap() ^= 1;
    let hub = Hub::new(good(&weights));
    place.fails(&hub.url, &[], &["not the expected file", "--endpoint"], &[CONFIG]);
}

#[test]
fn a_hub_that_cannot_serve() {
    let (hub, place) = (Hub::good(), Place::new());
    let status = |status: &str| {
        serve(Answer::Send(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").into()))
    };
    let elsewhere = format!("{}/mirror", hub.url);
    place.fails(&elsewhere, &[], &["HTTP status 404", "/mirror/openai-community/gpt2"], &[]);
    place.fails(&status("401 Unauthorized"), &[], &["HTTP status 401", "--endpoint"], &[]);
    place.fails(&status("503 Service Unavailable"), &[], &["HTTP status 503", "by hand"], &[]);
    place.fails(NOBODY, &[], &["the connection is refused", "--endpoint"], &[]);
    place.fails("http://host.invalid", &[], &["cannot download", "--endpoint"], &[]);
    place.fails("hub", &[], &["cannot download hub/openai-community", "--endpoint"], &[]);
    let silent = serve(Answer::SendAndStall(Vec::new()));
    place.fails(&silent, &["--timeout", "1"], &["the server is silent for 3s"], &[]);
}

#[cfg(unix)]
#[test]
fn what_the_hubs_own_programs_have_downloaded_is_taken_from_their_cache() {
    use std::os::unix::fs::MetadataExt;
    let content = [CONFIG, WEIGHTS].map(|name| fs::read(fixture(name)).unwrap());
    for folder in ["models--openai-community--gpt2", "models--gpt2"] {
        let place = Place::new();
        place.fill_cache(folder, &[(CONFIG, &content[0]), (WEIGHTS, &content[1])]);
        place.succeeds(NOBODY, &[], "ready");
        // The same bytes on the disk under another name, not a link that can break.
        let weights = place.out().join(WEIGHTS);
        assert!(fs::symlink_metadata(&weights).unwrap().is_file());
        assert_eq!(fs::metadata(&weights).unwrap().nlink(), 2);
        fs::remove_dir_all(place.hf_home()).unwrap();
        place.assert_holds_the_model();
    }
}

#[cfg(unix)]
#[test]
fn a_part_in_the_cache_is_not_mistaken_for_the_whole() {
    let content = [CONFIG, WEIGHTS].map(|name| fs::read(fixture(name)).unwrap());
    let part = &content[1][..content[1].len() - 1];
    let (hub, place) = (Hub::good(), Place::new());
    place.fill_cache("models--openai-community--gpt2", &[(CONFIG, &content[0]), (WEIGHTS, part)]);
    place.succeeds(&hub.url, &[], "ready");
    assert_eq!(hub.asked(), 2, "only for the weights");
    // The cache is not ours to write.
    let names = place.hf_home().join("hub/models--openai-community--gpt2/blobs");
    assert_eq!(fs::read(names.join(WEIGHTS)).unwrap(), part);
}

/// Each size has its own folder, repository and commit.
#[test]
fn the_four_sizes() {
    for (model, revision) in [
        ("gpt2", REVISION),
        ("gpt2-medium", "6dcaa7a952f72f9298047fd5137cd6e4f05f41da"),
        ("gpt2-large", "32b71b12589c2f8d625668d2335a01cac3249519"),
        ("gpt2-xl", "15ea56dee5df4983c59b2538573817e1667135e2"),
    ] {
        let repository = tempfile::tempdir().unwrap();
        fs::create_dir(repository.path().join("data")).unwrap();
        fs::write(repository.path().join("data/Cargo.toml"), "").unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_data"))
            .current_dir(repository.path())
            .args([model, "--endpoint", NOBODY])
            .env("HF_HOME", repository.path())
            .env_remove("HF_HUB_CACHE")
            .env_remove("HUGGINGFACE_HUB_CACHE")
            .output()
            .unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        let from = format!("{NOBODY}/openai-community/{model}/resolve/{revision}/config.json: ");
        assert!(said.contains(&from), "{said}");
        assert!(
            said.trim_end().ends_with(&format!("save it as data/{model}/config.json")),
            "{said}"
        );
    }
}
