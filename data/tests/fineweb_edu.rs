//! What `data fineweb-edu` and `data openwebtext` promise, against a hub on this machine with small parquet files: the tokens in fineweb.py's
//! order, the same bytes after a kill as without one, downloads that go on, and one sentence where something is wrong.

#[path = "../../files/tests/refusal/mod.rs"]
mod refusal;

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use files::sha256_of;
use lab::{Shards, Tokenizer, fables};
use parquet::{
    basic::{Compression, ZstdLevel},
    data_type::{ByteArray, ByteArrayType, Int64Type},
    file::{properties::WriterProperties, writer::SerializedFileWriter},
    schema::parser::parse_message_type,
};
use refusal::expect_refusal;
use tempfile::TempDir;

const PREFIX: &str = "/datasets/HuggingFaceFW/fineweb-edu/resolve/main/sample/10BT/";
const LISTING: &str = "/api/datasets/HuggingFaceFW/fineweb-edu/tree/main/sample/10BT";

/// The same of OpenWebText.
const PAGES: &str = "/datasets/Skylion007/openwebtext/resolve/main/plain_text/";
const PAGES_LISTING: &str = "/api/datasets/Skylion007/openwebtext/tree/main/plain_text";

/// Writes a parquet file as the hub's are: more columns than the text, which may be missing in a row, in row groups.
fn write_parquet(path: &Path, texts: &[Option<String>], compression: Compression, column: &str) {
    let schema = format!("message m {{ required int64 id; optional binary {column} (UTF8); }}");
    let schema = Arc::new(parse_message_type(&schema).unwrap());
    let properties = WriterProperties::builder().set_compression(compression).build();
    let file = fs::File::create(path).unwrap();
    let mut writer = SerializedFileWriter::new(file, schema, Arc::new(properties)).unwrap();
    for group in texts.chunks(250) {
        let mut rows = writer.next_row_group().unwrap();
        let ids: Vec<i64> = (0..group.len() as i64).collect();
        let mut ids_writer = rows.next_column().unwrap().unwrap();
        ids_writer.typed::<Int64Type>().write_batch(&ids, None, None).unwrap();
        ids_writer.close().unwrap();
        let there: Vec<ByteArray> =
            group.iter().flatten().map(|text| text.as_str().into()).collect();
        let levels: Vec<i16> = group.iter().map(|text| text.is_some().into()).collect();
        let mut text_writer = rows.next_column().unwrap().unwrap();
        text_writer.typed::<ByteArrayType>().write_batch(&there, Some(&levels), None).unwrap();
        text_writer.close().unwrap();
        rows.close().unwrap();
    }
    writer.close().unwrap();
}

/// What the hub does with a parquet file.
#[derive(Clone, Copy, PartialEq)]
enum Mood {
    Good,
    /// Sends half of this file, and then nothing more.
    StallsAt(usize),
    /// Sends half of this file, and hangs up.
    BreaksOffAt(usize),
    /// Knows nothing of ranges.
    WithoutRanges,
}

struct Hub {
    url: String,
    folder: TempDir,
    mood: Arc<Mutex<Mood>>,
    /// The paths asked for, and the ranges.
    asked: Arc<Mutex<Vec<String>>>,
    texts: Vec<Vec<Option<String>>>,
}

impl Hub {
    /// Three files of stories, in both ways that such files are compressed.
    fn new() -> Self {
        let stories = fables::text(7, 1_500_000).text;
        let stories: Vec<&str> = fables::stories(&stories).collect();
        let text = |(i, story): (usize, &&str)| match i % 50 {
            7 => None,
            8 => Some(String::new()),
            9 => Some("<|endoftext|> is a text like any other".into()),
            _ => Some(story.to_string()),
        };
        let texts: Vec<Option<String>> = stories.iter().enumerate().map(text).collect();
        let texts: Vec<Vec<_>> = texts.chunks(texts.len().div_ceil(3)).map(<[_]>::to_vec).collect();
        let folder = tempfile::tempdir().unwrap();
        for (i, texts) in texts.iter().enumerate() {
            let compression = match i {
                0 => Compression::SNAPPY,
                _ => Compression::ZSTD(ZstdLevel::default()),
            };
            write_parquet(&folder.path().join(name(i)), texts, compression, "text");
        }
        Self::serve(folder, texts)
    }

    /// With these files, whatever they are.
    fn serve(folder: TempDir, texts: Vec<Vec<Option<String>>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (mood, asked) = (Arc::new(Mutex::new(Mood::Good)), Arc::new(Mutex::new(Vec::new())));
        let path = folder.path().to_owned();
        let (moods, asks) = (mood.clone(), asked.clone());
        thread::spawn(move || {
            for connection in listener.incoming() {
                let (path, moods, asks) = (path.clone(), moods.clone(), asks.clone());
                thread::spawn(move || answer(connection.unwrap(), &path, &moods, &asks));
            }
        });
        Self { url, folder, mood, asked, texts }
    }

    fn set(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    fn start(&self, out: &Path, args: &[&str]) -> Child {
        self.start_set("fineweb-edu", out, args)
    }

    fn start_set(&self, set: &str, out: &Path, args: &[&str]) -> Child {
        let mut command = Command::new(env!("CARGO_BIN_EXE_data"));
        command.args([set, "--tokenizer", "fables"]).args(args).arg("--out").arg(out);
        command.env("HF_ENDPOINT", &self.url);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    fn run(&self, out: &Path, args: &[&str]) -> Output {
        self.start(out, args).wait_with_output().unwrap()
    }

    #[track_caller]
    fn succeeds(&self, out: &Path, args: &[&str]) -> String {
        let output = self.run(out, args);
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    #[track_caller]
    fn fails(&self, out: &Path, args: &[&str], words: &[&str]) {
        expect_refusal(self.run(out, args), words);
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }

    /// The tokens of all documents, each with `<|endoftext|>` before it.
    fn expected(&self) -> Vec<i64> {
        let tokenizer = Tokenizer::load("fables").unwrap();
        let texts = self.texts.iter().flatten().flatten().filter(|text| !text.is_empty());
        texts.flat_map(|text| tokenizer.encode_document(text)).map(i64::from).collect()
    }
}

fn name(file: usize) -> String {
    format!("{file:03}_00000.parquet")
}

fn answer(
    mut connection: TcpStream,
    folder: &Path,
    mood: &Mutex<Mood>,
    asked: &Mutex<Vec<String>>,
) {
    let mut lines = BufReader::new(connection.try_clone().unwrap()).lines().map_while(Result::ok);
    let request = lines.next().unwrap();
    let path = request.split(' ').nth(1).unwrap().to_owned();
    let head: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
    let range = head.iter().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("range").then(|| value.trim_start_matches("bytes=").to_string())
    });
    asked.lock().unwrap().push(format!("{path} {}", range.as_deref().unwrap_or("")));
    let mood = *mood.lock().unwrap();
    let whole = match path.strip_prefix(PREFIX).or(path.strip_prefix(PAGES)) {
        Some(name) => fs::read(folder.join(name)).ok(),
        None if path == LISTING => Some(listing(folder, "sample/10BT").into_bytes()),
        None if path == PAGES_LISTING => Some(listing(folder, "plain_text").into_bytes()),
        None => None,
    };
    let Some(whole) = whole else {
        connection.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n").ok();
        return;
    };
    let from = range.filter(|_| mood != Mood::WithoutRanges);
    let from: usize = from.map_or(0, |range| range.trim_end_matches('-').parse().unwrap());
    let (status, rest) = match from {
        0 => ("200 OK", &whole[..]),
        from if from < whole.len() => ("206 Partial Content", &whole[from..]),
        _ => ("416 Range Not Satisfiable", &whole[..0]),
    };
    let head =
        format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", rest.len());
    connection.write_all(head.as_bytes()).ok();
    let is_half = |file: usize| {
        [PREFIX, PAGES].iter().any(|prefix| path == format!("{prefix}{}", name(file)))
    };
    let half = &rest[..rest.len() / 2];
    match mood {
        Mood::StallsAt(file) if is_half(file) => {
            connection.write_all(half).ok();
            thread::sleep(Duration::from_secs(60));
        }
        Mood::BreaksOffAt(file) if is_half(file) => drop(connection.write_all(half)),
        _ => drop(connection.write_all(rest)),
    }
}

/// What the hub says of its files, and of one that is none of them.
fn listing(folder: &Path, under: &str) -> String {
    let mut names: Vec<_> = fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    names.sort();
    let entry = |path: &PathBuf| {
        serde_json::json!({
            "type": "file", "oid": "0123", "size": fs::metadata(path).unwrap().len(),
            "lfs": { "oid": sha256_of(path).unwrap(), "pointerSize": 135 },
            "path": format!("{under}/{}", path.file_name().unwrap().to_str().unwrap()),
        })
    };
    let mut entries: Vec<_> = names.iter().rev().map(entry).collect(); // in no order
    entries.push(
        serde_json::json!({ "type": "file", "size": 3, "path": format!("{under}/README.md") }),
    );
    serde_json::to_string(&entries).unwrap()
}

fn tokens(folder: &Path, split: &str) -> Vec<i64> {
    let shards = Shards::open(folder, split, &Tokenizer::load("fables").unwrap()).unwrap();
    let order: Vec<usize> = (0..shards.len()).collect();
    shards.read(&order, 0, shards.total()).unwrap()
}

fn names_in(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    let mut names: Vec<_> =
        entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[track_caller]
fn assert_same(a: &Path, b: &Path) {
    assert_eq!(names_in(a), names_in(b));
    for name in names_in(a) {
        assert!(fs::read(a.join(&name)).unwrap() == fs::read(b.join(&name)).unwrap(), "{name}");
    }
}

#[test]
fn the_first_shard_is_to_validate_on_and_the_next_goes_on_where_it_ends() {
    let (hub, place) = (Hub::new(), tempfile::tempdir().unwrap());
    let out = place.path().join("edu");
    let said = hub.succeeds(&out, &["--shard-tokens", "50000"]);
    assert!(
        said.contains("is ready: ") && said.contains("50,000 tokens in 1 shard to validate on"),
        "{said}"
    );
    let (val, train) = (tokens(&out, "val"), tokens(&out, "train"));
    assert_eq!(val.len(), 50_000);
    assert!([val, train].concat() == hub.expected());
    let names = names_in(&out);
    for name in
        ["edufineweb_val_000000.npy", "edufineweb_train_000001.npy", "edufineweb_train_000002.npy"]
    {
        assert!(names.contains(&name.to_string()), "{names:?}");
    }
    assert!(!names.contains(&"parquet".to_string()), "it is taken away");
    let asked = hub.asked();
    assert_eq!(asked.len(), 4, "{asked:?}");
    // Without a network it is still there.
    let said = hub.succeeds(&out, &["--shard-tokens", "50000", "--endpoint", "http://127.0.0.1:1"]);
    assert!(said.contains("is already there"), "{said}");
    assert_eq!(hub.asked().len(), 4);
}

#[test]
fn it_stops_at_the_token_and_keeps_what_it_is_told_to() {
    let (hub, place) = (Hub::new(), tempfile::tempdir().unwrap());
    let out = place.path().join("edu");
    hub.succeeds(&out, &["--shard-tokens", "10000", "--tokens", "25001", "--keep"]);
    let all = [tokens(&out, "val"), tokens(&out, "train")].concat();
    assert!(all == hub.expected()[..25_001]);
    assert_eq!(hub.asked().len(), 2, "no file more than needed");
    assert_eq!(names_in(&out.join("parquet")), [name(0)]);
    hub.fails(
        &place.path().join("other"),
        &["--tokens", "10000000"],
        &["--tokens 10,000,000", "the first 100,000,000", "--shard-tokens"],
    );
}

#[test]
fn killed_and_gone_on_with_is_byte_for_byte_the_same() {
    let (hub, place) = (Hub::new(), tempfile::tempdir().unwrap());
    let (whole, out) = (place.path().join("whole"), place.path().join("edu"));
    let args = ["--shard-tokens", "7000"];
    hub.succeeds(&whole, &args);
    let shards = || names_in(&out).iter().filter(|name| name.ends_with(".npy")).count();
    // Killed while the files come, and between two shards.
    for file in 0..3 {
        hub.set(Mood::StallsAt(file));
        let mut program = hub.start(&out, &args);
        let part = out.join("parquet").join(format!("{}.part", name(file)));
        while !fs::metadata(&part).is_ok_and(|part| part.len() > 0) {
            assert!(program.try_wait().unwrap().is_none());
            thread::sleep(Duration::from_millis(5));
        }
        program.kill().unwrap(); // SIGKILL
        program.wait().unwrap();
        let before = shards();
        hub.set(Mood::Good);
        let mut program = hub.start(&out, &args);
        while shards() < before + 3 && program.try_wait().unwrap().is_none() {
            thread::sleep(Duration::from_millis(1));
        }
        program.kill().unwrap();
        program.wait().unwrap();
    }
    let asked = hub.asked();
    let ranges = asked.iter().filter(|path| path.ends_with('-')).count();
    assert!(ranges >= 3, "the parts were gone on with: {asked:?}");
    let said = hub.succeeds(&out, &args);
    assert!(said.contains("is ready") || said.contains("is already there"), "{said}");
    assert_same(&whole, &out);
}

#[test]
fn a_download_that_breaks_off_goes_on() {
    let (hub, place) = (Hub::new(), tempfile::tempdir().unwrap());
    let out = place.path().join("edu");
    let args = ["--shard-tokens", "20000"];
    for mood in [Mood::Good, Mood::WithoutRanges] {
        hub.set(Mood::BreaksOffAt(1));
        let words =
            ["the connection broke off", &name(1), "same command", "--endpoint", "by hand from"];
        hub.fails(&out, &args, &words);
        hub.set(mood);
        hub.succeeds(&out, &args);
        let all = [tokens(&out, "val"), tokens(&out, "train")].concat();
        assert!(all == hub.expected());
        fs::remove_dir_all(&out).unwrap();
    }
    assert!(hub.asked().iter().any(|asked| asked.contains(&name(1)) && asked.ends_with('-')));
    // The whole had come, but for its name.
    fs::create_dir_all(out.join("parquet")).unwrap();
    let part = out.join("parquet").join(format!("{}.part", name(0)));
    fs::copy(hub.folder.path().join(name(0)), part).unwrap();
    hub.set(Mood::Good);
    hub.succeeds(&out, &args);
}

#[test]
fn what_the_hub_should_not_send_is_refused() {
    let (hub, place) = (Hub::new(), tempfile::tempdir().unwrap());
    let out = place.path().join("edu");
    // A part of something else.
    fs::create_dir_all(out.join("parquet")).unwrap();
    fs::write(out.join("parquet").join(format!("{}.part", name(0))), "something else").unwrap();
    hub.fails(&out, &[], &["not the expected file", &name(0)]);
    hub.succeeds(&out, &["--shard-tokens", "20000"]);
    let out = place.path().join("nothing");
    hub.fails(
        &out,
        &["--endpoint", "http://127.0.0.1:1"],
        &["connection is refused", "--endpoint"],
    );
    let elsewhere = format!("{}/mirror", hub.url);
    hub.fails(&out, &["--endpoint", &elsewhere], &["HTTP status 404", "/mirror/api/datasets"]);
    assert!(names_in(&out).is_empty());

    let empty = Hub::serve(tempfile::tempdir().unwrap(), Vec::new());
    empty.fails(&out, &[], &["does not list parquet files", "--endpoint"]);
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join(name(0)), "no parquet at all").unwrap();
    let other = Hub::serve(folder, Vec::new());
    other.fails(&out, &[], &[&name(0), "Parquet"]);
    let folder = tempfile::tempdir().unwrap();
    let texts = [Some("a text".to_string())];
    write_parquet(&folder.path().join(name(0)), &texts, Compression::SNAPPY, "body");
    let other = Hub::serve(folder, Vec::new());
    other.fails(&place.path().join("body"), &[], &[&name(0), "no column `text`"]);
}

/// Of OpenWebText the first 0.05 %, in whole pages, are to validate on, and a kill changes nothing.
#[test]
fn openwebtexts_first_pages_are_to_validate_on() {
    let (hub, place) = (Hub::new(), tempfile::tempdir().unwrap());
    let (whole, out) = (place.path().join("whole"), place.path().join("pages"));
    let args = ["--shard-tokens", "20000"];
    let output = hub.start_set("openwebtext", &whole, &args).wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let (val, train) = (tokens(&whole, "val"), tokens(&whole, "train"));
    let pages = val.iter().filter(|&&token| token == 1023).count();
    let all: usize = hub.texts.iter().map(Vec::len).sum();
    assert!((1..=1 + all / 1000).contains(&pages), "{pages} of {all}");
    assert!([val, train].concat() == hub.expected());

    hub.set(Mood::StallsAt(1));
    let mut program = hub.start_set("openwebtext", &out, &args);
    let part = out.join("parquet").join(format!("{}.part", name(1)));
    while !fs::metadata(&part).is_ok_and(|part| part.len() > 0) {
        assert!(program.try_wait().unwrap().is_none());
        thread::sleep(Duration::from_millis(5));
    }
    program.kill().unwrap(); // SIGKILL
    program.wait().unwrap();
    assert!(tokens_are_missing(&out));
    hub.set(Mood::Good);
    let output = hub.start_set("openwebtext", &out, &args).wait_with_output().unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).contains("going on"), "{output:?}");
    assert_same(&whole, &out);
}

fn tokens_are_missing(folder: &Path) -> bool {
    Shards::open(folder, "train", &Tokenizer::load("fables").unwrap()).is_err()
}
