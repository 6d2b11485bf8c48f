//! What `data tokens` promises: the same tokens as the whole text at once, the same bytes after a kill as without one,
//! and one sentence for whatever is no text.

#[path = "../../files/tests/refusal/mod.rs"]
mod refusal;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread,
    time::Duration,
};

use lab::{Shards, Tokenizer, fables};
use refusal::expect_refusal;
use tempfile::TempDir;

fn start(args: &[&str], files: &[&Path], out: &Path) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_data"));
    command.arg("tokens").args(args).args(files).arg("--out").arg(out);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn run(args: &[&str], files: &[&Path], out: &Path) -> Output {
    start(args, files, out).wait_with_output().unwrap()
}

/// Runs it, and returns what it said last.
#[track_caller]
fn succeeds(args: &[&str], files: &[&Path], out: &Path) -> String {
    let output = run(args, files, out);
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8(output.stdout).unwrap();
    said.lines().last().unwrap().to_string()
}

#[track_caller]
fn fails(args: &[&str], files: &[&Path], out: &Path, words: &[&str]) {
    expect_refusal(run(args, files, out), words);
}

struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn out(&self) -> PathBuf {
        self.0.path().join("out")
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }
}

/// All tokens of a split.
fn tokens(folder: &Path, split: &str, tokenizer: &str) -> Vec<i64> {
    let shards = Shards::open(folder, split, &Tokenizer::load(tokenizer).unwrap()).unwrap();
    let order: Vec<usize> = (0..shards.len()).collect();
    shards.read(&order, 0, shards.total()).unwrap()
}

fn files_in(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
    let mut files: Vec<_> = entries
        .map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap()))
        .collect();
    files.sort();
    files
}

/// The names alone differ where it matters; what they hold is compared without being printed.
#[track_caller]
fn assert_same(a: &Path, b: &Path) {
    let (a, b) = (files_in(a), files_in(b));
    let names =
        |files: &[(String, Vec<u8>)]| files.iter().map(|file| file.0.clone()).collect::<Vec<_>>();
    assert_eq!(names(&a), names(&b));
    for (a, b) in a.iter().zip(&b) {
        assert!(a == b, "{} differs", a.0);
    }
}

/// A long document is cut into chunks and parts, and documents end wherever they do: nobody can see it in the tokens.
#[test]
fn the_tokens_are_those_of_the_whole_text() {
    let place = Place::new();
    let awkward =
        "It's  here,\n\nand we're\r\nthere\u{3000}now. \n 12 345\t狐は、走る\n   'tis  \u{a0}x\n";
    let long: String = (0..90_000).map(|i| format!("{awkward}{}", &"abc de\n"[i % 7..])).collect();
    assert!(long.len() > 5 << 20);
    let short: String = long.chars().take(70_000).collect();
    let documents = ["one", &long, "three\n\nparts", awkward.trim(), &short];
    let text = format!("\u{feff}\n\n{}\n", documents.join("\n  <|endoftext|> \n\n"));
    let file = place.write("text.txt", text);
    for tokenizer in ["gpt2", "fables"] {
        let out = place.0.path().join(tokenizer);
        let said = succeeds(&["--tokenizer", tokenizer, "--val-share", "0"], &[&file], &out);
        assert!(said.ends_with("none to validate on"), "{said}");
        let encode = Tokenizer::load(tokenizer).unwrap();
        let document = |text: &&str| format!("<|endoftext|>{}", text.trim_end());
        let expected = encode.encode(&documents.iter().map(document).collect::<String>());
        assert!(tokens(&out, "train", tokenizer) == expected, "{tokenizer}");
    }
}

#[test]
fn the_end_is_to_validate_on() {
    let place = Place::new();
    let lines: Vec<String> = (0..100).map(|i| format!("This is line {i}.\n")).collect();
    let file = place.write("text.txt", lines.concat());
    let said = succeeds(&["--tokenizer", "fables", "--val-share", "0.25"], &[&file], &place.out());
    let tokenizer = Tokenizer::load("fables").unwrap();
    let text = |split| {
        let text = tokenizer.decode(&tokens(&place.out(), split, "fables"));
        text.strip_prefix("<|endoftext|>").unwrap().to_string()
    };
    let (train, val) = (text("train"), text("val"));
    assert_eq!(format!("{train}\n{val}\n"), lines.concat(), "cut between two lines");
    assert!((421..440).contains(&val.len()), "{}", val.len());
    assert!(said.contains("tokens in 1 shard to train on"), "{said}");
    let again = succeeds(&["--tokenizer", "fables", "--val-share", "0.25"], &[&file], &place.out());
    assert!(again.contains("is already there"), "{again}");
}

#[test]
fn a_folder_is_read_by_name_and_lines_of_json_are_documents() {
    let place = Place::new();
    place.write("texts/b.txt", "second\n");
    place.write("texts/a.jsonl", "{\"text\": \"first\\nof all\"}\n\n{\"id\": 1, \"text\": \"\"}\n{\"text\": \"<|endoftext|>\"}");
    place.write("texts/c/d.JSONL", "{\"text\": \"third\"}\r\n");
    place.write("texts/image.png", [255, 254]);
    place.write("texts/.hidden.txt", "hidden");
    let folder = place.0.path().join("texts");
    succeeds(&["--val-share", "0"], &[&folder], &place.out());
    let tokenizer = Tokenizer::load("gpt2").unwrap();
    let mut expected = tokenizer.encode("<|endoftext|>first\nof all<|endoftext|>");
    // What a document says is no sign for its end.
    expected.extend(
        tokenizer.encode_document("<|endoftext|>")[1..].iter().map(|&token| i64::from(token)),
    );
    expected.extend(tokenizer.encode("<|endoftext|>second<|endoftext|>third"));
    assert_eq!(tokens(&place.out(), "train", "gpt2"), expected);
    let other = place.write("other.ndjson", "{\"body\": \"one\"}\n{\"body\": \"two\"}\n");
    let out = place.0.path().join("other");
    succeeds(&["--field", "body", "--val-share", "0.5"], &[&other], &out);
    assert_eq!(tokens(&out, "val", "gpt2"), tokenizer.encode("<|endoftext|>two"));
}

/// tiktoken's own rule gives up on a million of them.
#[test]
fn long_white_space_is_text_like_any_other() {
    let place = Place::new();
    let out = place.out();
    let text = format!("a{}b", " ".repeat(2_000_000));
    let file = place.write("spaces.txt", &text);
    succeeds(&["--val-share", "0"], &[&file], &out);
    let tokenizer = Tokenizer::load("gpt2").unwrap();
    assert!(tokens(&out, "train", "gpt2") == tokenizer.encode(&format!("<|endoftext|>{text}")));
}

#[test]
fn what_is_no_text_is_refused_in_a_sentence() {
    let place = Place::new();
    let out = place.out();
    let refused = |name: &str, content: &[u8], words: &[&str]| {
        let file = place.write(name, content);
        fails(&[], &[&file], &out, &[&[name], words].concat());
    };
    refused("empty.txt", b"", &["no text"]);
    refused("blank.txt", b"\n \n\n", &["no text"]);
    refused("latin.txt", b"caf\xe9 au lait\n", &["no UTF-8 text (byte 3 is not)", "iconv"]);
    refused("cut.txt", b"a caf\xc3", &["no UTF-8 text (byte 5 is not)"]);
    refused(
        "a.jsonl",
        b"{\"text\": \"x\"}\n{\"text\": \n",
        &["line 2", "no JSON object", "column"],
    );
    refused("b.jsonl", b"[1]\n", &["line 1", "no JSON object"]);
    refused(
        "c.jsonl",
        b"{\"body\": \"x\"}\n",
        &["line 1", "no field \"text\"", "[\"body\"]", "--field"],
    );
    refused("d.jsonl", b"\n{\"text\": 3}\n", &["line 2", "is no text", "--field"]);
    refused("e.jsonl", b"{\"text\": \"\xff\"}\n", &["line 1", "no JSON object"]);
    let missing = place.0.path().join("missing.txt");
    fails(&[], &[&missing], &out, &["missing.txt", "No such file"]);
    let folder = place.0.path().join("folder");
    fs::create_dir(&folder).unwrap();
    fails(&[], &[&folder], &out, &["no text in this folder", ".jsonl"]);
    let good = place.write("good.txt", "some words\n");
    fails(&["--tokenizer", "gpt5"], &[&good], &out, &["--tokenizer gpt5", "gpt2, fables"]);
    fails(&[], &[&good], &good, &["good.txt"]);
    assert!(!out.join("dataset.json").exists());
    // Nothing that failed stands in the way.
    succeeds(&[], &[&good], &out);
    for share in ["1", "-0.1", "NaN", "half"] {
        let output = run(&["--val-share", share], &[&good], &place.0.path().join("share"));
        assert_eq!(output.status.code(), Some(2), "{share}");
    }
}

#[test]
fn a_folder_with_other_shards_is_left_as_it_is() {
    let place = Place::new();
    let (one, two) = (place.write("one.txt", "one\ntwo\n"), place.write("two.txt", "three\n"));
    succeeds(&[], &[&one], &place.out());
    let before = files_in(&place.out());
    fails(
        &[],
        &[&two],
        &place.out(),
        &["was prepared otherwise (other or changed files, another name", "--out"],
    );
    fails(&["--tokenizer", "fables"], &[&one], &place.out(), &["(another tokenizer)"]);
    fs::write(&one, "one\ntwa\n").unwrap();
    fails(&[], &[&one], &place.out(), &["(other or changed files)"]);
    assert!(files_in(&place.out()) == before);
    fs::remove_file(place.out().join("settings.json")).unwrap();
    fails(&[], &[&two], &place.out(), &["has shards already"]);
}

/// What remains after each kill is whole shards, and in the end all is as it would have been.
#[test]
fn killed_and_gone_on_with_is_byte_for_byte_the_same() {
    let place = Place::new();
    let text = place.write("a.txt", fables::text(1, 4_500_000).text);
    let story = fables::text(2, 1000).text;
    let line = serde_json::json!({ "text": story }).to_string();
    let lines = place.write("b.jsonl", format!("{line}\n").repeat(3_000));
    let (files, args) =
        ([text.as_path(), &lines], ["--tokenizer", "fables", "--shard-tokens", "50000"]);
    let whole = place.0.path().join("whole");
    succeeds(&args, &files, &whole);
    let shards = |folder: &Path| {
        let names = fs::read_dir(folder).into_iter().flatten().map(|e| e.unwrap().file_name());
        names.filter(|name| name.to_string_lossy().ends_with(".npy")).count()
    };
    assert!(shards(&whole) > 30, "{}", shards(&whole));
    let mut kills = 0;
    for wanted in [1, 5, 12, 25] {
        let mut program = start(&args, &files, &place.out());
        while shards(&place.out()) < wanted && program.try_wait().unwrap().is_none() {
            thread::sleep(Duration::from_millis(1));
        }
        if program.try_wait().unwrap().is_none() {
            program.kill().unwrap(); // SIGKILL
            kills += 1;
        }
        program.wait().unwrap();
        let error = Shards::open(&place.out(), "train", &Tokenizer::load("fables").unwrap());
        let sentence = error.unwrap_err().to_string();
        assert!(sentence.contains("not finished") || wanted == 1, "{sentence}");
    }
    assert_eq!(kills, 4);
    fails(&["--tokenizer", "fables"], &files, &place.out(), &["(another shard-tokens)"]);
    let output = run(&args, &files, &place.out());
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("going on where it was stopped"), "{said}");
    assert_same(&whole, &place.out());
}

/// A file-size limit stands for a full disk: writing fails, and what was written stays.
#[cfg(unix)]
#[test]
fn a_disk_that_is_full_is_said_and_gone_on_from() {
    let place = Place::new();
    let text = place.write("a.txt", fables::text(1, 2_000_000).text);
    let args = ["--tokenizer", "fables", "--shard-tokens", "100000"];
    let limited =
        format!("trap '' XFSZ; ulimit -f 100; exec {} \"$@\"", env!("CARGO_BIN_EXE_data"));
    let output = Command::new("bash")
        .args(["-c", &limited, "bash", "tokens"])
        .args(args)
        .arg(&text)
        .arg("--out")
        .arg(place.out())
        .output()
        .unwrap();
    expect_refusal(output, &["cannot write", "a_train_000001.npy", "File too large"]);
    let left: Vec<String> = files_in(&place.out()).into_iter().map(|file| file.0).collect();
    assert_eq!(left, ["settings.json", "unfinished.json"]);
    succeeds(&args, &[&text], &place.out());
}
