//! What `nanogpt prepare` promises: nanoGPT's tokens, any kind of text, vocabularies of exactly the size asked for, the
//! same bytes after a kill as without one, and one sentence for whatever is wrong. All of it outside the repository.

#[path = "../../files/tests/refusal/mod.rs"]
mod refusal;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::Arc,
    thread,
    time::Duration,
};

use lab::{Shards, Tokenizer, fables};
use nanogpt::{Dataset, data::VOCABULARY};
use parquet::{
    data_type::{ByteArray, ByteArrayType},
    file::writer::SerializedFileWriter,
    schema::parser::parse_message_type,
};
use refusal::expect_refusal;
use tempfile::TempDir;

/// A folder that the command runs in.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn start(&self, args: &[&str]) -> Child {
        let mut command = Command::new(env!("CARGO_BIN_EXE_nanogpt"));
        command.arg("prepare").args(args).current_dir(self.0.path());
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    fn run(&self, args: &[&str]) -> Output {
        self.start(args).wait_with_output().unwrap()
    }

    #[track_caller]
    fn succeeds(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    #[track_caller]
    fn fails(&self, args: &[&str], words: &[&str]) {
        expect_refusal(self.run(args), words);
    }

    #[track_caller]
    fn dataset(&self, folder: &str) -> Dataset {
        Dataset::open(self.path(folder).to_str().unwrap()).unwrap()
    }

    fn error_of(&self, folder: &str) -> String {
        let error = Dataset::open(self.path(folder).to_str().unwrap()).err().expect("opened");
        format!("{error:#}")
    }

    fn files_in(&self, folder: &str) -> Vec<(String, Vec<u8>)> {
        let entries = fs::read_dir(self.path(folder)).into_iter().flatten().map(Result::unwrap);
        let file = |entry: fs::DirEntry| {
            (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())
        };
        let mut files: Vec<_> = entries.map(file).collect();
        files.sort();
        files
    }

    fn names_in(&self, folder: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(folder)).into_iter().flatten().map(Result::unwrap);
        let mut names: Vec<_> =
            entries.map(|entry| entry.file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

fn tokens(shards: &Shards) -> Vec<i64> {
    let order: Vec<usize> = (0..shards.len()).collect();
    shards.read(&order, 0, shards.total()).unwrap()
}

fn text(dataset: &Dataset, shards: &Shards) -> String {
    dataset.tokenizer.decode(&tokens(shards))
}

fn write_parquet(path: &Path, column: &str, texts: &[&str]) {
    let schema = format!("message m {{ required binary {column} (UTF8); }}");
    let schema = Arc::new(parse_message_type(&schema).unwrap());
    let file = fs::File::create(path).unwrap();
    let mut writer = SerializedFileWriter::new(file, schema, Arc::default()).unwrap();
    let mut rows = writer.next_row_group().unwrap();
    let texts: Vec<ByteArray> = texts.iter().map(|&text| text.into()).collect();
    let mut column = rows.next_column().unwrap().unwrap();
    column.typed::<ByteArrayType>().write_batch(&texts, None, None).unwrap();
    column.close().unwrap();
    rows.close().unwrap();
    writer.close().unwrap();
}

// ---------------------------------------------------------------------------------------------------------------------
// The tokens

/// nanoGPT's readme has these counts. SHAKESPEARE names the file, karpathy's `input.txt`.
#[test]
#[ignore = "needs Tiny Shakespeare, whose path SHAKESPEARE has"]
fn shakespeares_tokens_are_as_many_as_nanogpts() {
    let place = Place::new();
    let file = std::env::var_os("SHAKESPEARE").expect("SHAKESPEARE=/path/to/input.txt");
    let input = fs::read_to_string(file).unwrap();
    let train: String = input.chars().take(1_003_854).collect();
    for (name, n_vocab, expected) in
        [("shakespeare_char", 65, (1_003_854, 111_540)), ("shakespeare", 50_257, (301_966, 36_059))]
    {
        place.write(&format!("data/{name}/input.txt"), &input);
        let said = place.succeeds(&[name]);
        assert!(said.contains("`nanogpt train CONFIG.toml --dataset"), "{said}");
        let dataset = place.dataset(&format!("data/{name}"));
        assert_eq!(dataset.tokenizer.n_vocab(), n_vocab);
        assert_eq!((dataset.train.total(), dataset.val.total()), expected);
        assert_eq!(text(&dataset, &dataset.train), train);
        assert_eq!(text(&dataset, &dataset.val), input[train.len()..]);
    }
}

#[test]
fn characters_are_split_at_nine_tenths_to_the_character() {
    let place = Place::new();
    let input: String = "\n Füchse, 狐 and 🦊;\r\n<|endoftext|>\n  \n".repeat(2000) + "x";
    place.write("book.txt", &input);
    let said = place.succeeds(&["book.txt"]);
    assert!(said.contains("different characters"), "{said}");
    let dataset = place.dataset("data/book");
    let n = input.chars().count() * 9 / 10;
    assert_eq!(dataset.train.total(), n as i64);
    assert_eq!(text(&dataset, &dataset.train) + &text(&dataset, &dataset.val), input);
    assert_eq!(dataset.tokenizer.end_of_text(), None);

    // The same over several files, and where the text is longer than what is read at once.
    let long = input.repeat(70);
    assert!(long.len() > 5 << 20);
    place.write("long/a.txt", &long);
    place.write("long/b.txt", &input);
    place.succeeds(&["long", "--vocab", "data/book/vocab.tiktoken", "--val-share", "0.25"]);
    let dataset = place.dataset("data/long");
    let n = (long.chars().count() + input.chars().count()) as f64 * 0.75;
    assert_eq!(dataset.train.total(), n as i64);
    assert!(text(&dataset, &dataset.train) + &text(&dataset, &dataset.val) == long + &input);
}

#[test]
fn lines_of_json_and_parquet_are_documents() {
    let place = Place::new();
    let stories = fables::text(5, 60_000).text;
    let stories: Vec<&str> = fables::stories(&stories).map(str::trim_end).collect();
    let (first, rest) = stories.split_at(stories.len() / 3);
    let (second, third) = rest.split_at(rest.len() / 2);
    let line = |story: &&str| serde_json::json!({ "text": story }).to_string() + "\n";
    place.write("mine/a.jsonl", first.iter().map(line).collect::<String>());
    write_parquet(&place.path("mine/b.parquet"), "text", second);
    place.write("mine/c.txt", third.join("\n<|endoftext|>\n"));
    place.write("mine/cover.png", [255, 254]);

    let said = place.succeeds(&["mine", "--vocab-size", "400", "--val-share", "0.2"]);
    assert!(said.contains("its vocabulary: 400 tokens, learned from the text"), "{said}");
    let dataset = place.dataset("data/mine");
    assert_eq!((dataset.tokenizer.n_vocab(), dataset.vocab_size()), (400, 400));
    let all = text(&dataset, &dataset.train) + &text(&dataset, &dataset.val);
    let documents: Vec<&str> = all.split("<|endoftext|>").skip(1).map(str::trim_end).collect();
    // The plain text may be split inside a story.
    let (cut, whole) = (documents.len() - stories.len(), stories.concat());
    assert!(cut <= 1 && documents.concat().replace('\n', "") == whole.replace('\n', ""), "{cut}");
    assert_eq!(documents[..2 * first.len()], stories[..2 * first.len()]);

    place.succeeds(&["mine", "--vocab", "gpt2", "--out", "in-gpt2"]);
    assert_eq!(place.dataset("in-gpt2").tokenizer.name(), "gpt2");
    assert!(!place.path("in-gpt2").join(VOCABULARY).exists(), "everybody has it");

    write_parquet(&place.path("rows.parquet"), "body", &["one", "two", "three", "four"]);
    place.fails(&["rows.parquet"], &["rows.parquet", "no column `text`", "[\"body\"]", "--field"]);
    place.succeeds(&["rows.parquet", "--field", "body", "--val-share", "0.5"]);
    let dataset = place.dataset("data/rows");
    assert_eq!(text(&dataset, &dataset.train), "one\ntwo\n");
    assert_eq!(text(&dataset, &dataset.val), "three\nfour\n");
}

#[test]
fn the_default_vocabulary_follows_from_the_length() {
    let place = Place::new();
    let input = fables::text(3, 2_100_000).text;
    place.write("medium.txt", &input);
    let said = place.succeeds(&["medium.txt"]);
    assert!(said.contains(" tokens, learned from the text"), "{said}");
    let dataset = place.dataset("data/medium");
    assert!((1000..=4096).contains(&dataset.tokenizer.n_vocab()), "{said}");
    assert!(dataset.train.total() < input.len() as i64 / 4);
    // What was learned once is taken again: the file says so, and the folder may have moved.
    fs::rename(place.path("data/medium"), place.path("moved")).unwrap();
    assert_eq!(place.dataset("moved").train.total(), dataset.train.total());
    let said = place.succeeds(&["medium.txt", "--out", "moved"]);
    assert!(said.contains("moved is already there"), "{said}");
    // Another text in the same tokens.
    place.write("short.txt", "The fox.\nThe owl.\n");
    place.succeeds(&["short.txt", "--vocab", "moved/vocab.tiktoken"]);
    let short = place.dataset("data/short");
    assert_eq!(short.tokenizer.fingerprint(), dataset.tokenizer.fingerprint());
    assert_eq!(text(&short, &short.train), "<|endoftext|>The fox.");
}

#[test]
fn the_fables_come_in_any_vocabulary() {
    let place = Place::new();
    place.succeeds(&["fables"]);
    let dataset = place.dataset("data/fables");
    assert_eq!(dataset.tokenizer.name(), "fables");
    assert!(dataset.val.floor().is_some());
    place.fails(&["fables", "--vocab", "characters"], &["data/fables", "--out"]);
    place.succeeds(&["fables", "--vocab-size", "300", "--out", "small"]);
    let small = place.dataset("small");
    assert_eq!(small.tokenizer.n_vocab(), 300);
    let told = dataset.tokenizer.decode(&tokens(&dataset.val));
    assert!(text(&small, &small.val) == told);
}

/// nanoGPT's own files: its tokens of GPT-2, and not its characters, which a pickle names.
#[test]
fn nanogpts_own_files_are_read() {
    let place = Place::new();
    let bytes = |tokens: &[u16]| tokens.iter().flat_map(|t| t.to_le_bytes()).collect::<Vec<u8>>();
    place.write("data/theirs/train.bin", bytes(&[464, 21831, 13, 50256]));
    place.write("data/theirs/val.bin", bytes(&[464, 5193]));
    let dataset = place.dataset("data/theirs");
    assert_eq!(text(&dataset, &dataset.train), "The fox.<|endoftext|>");
    assert_eq!((dataset.val.total(), dataset.vocab_size()), (2, 50_304));
    place.write("book.txt", "some words\nand more\n");
    place.fails(&["book.txt", "--out", "data/theirs"], &["has shards already", "train.bin"]);

    place.write("data/theirs/meta.pkl", "a pickle");
    let error = place.error_of("data/theirs");
    assert!(error.contains("meta.pkl") && error.contains("nanogpt prepare"), "{error}");
    fs::remove_file(place.path("data/theirs/meta.pkl")).unwrap();
    place.write("data/theirs/train.bin", "odd");
    assert!(place.error_of("data/theirs").contains("3 bytes"));
}

/// On a million of them GPT-2's rule gives up; who reads texts from elsewhere meets such.
#[test]
fn long_white_space_is_text_like_any_other() {
    let place = Place::new();
    let gaps = [" ".repeat(1_100_000), "\n".repeat(300_000), " \t\n\u{3000}".repeat(100_000)];
    let lines = "a line of words\n".repeat(40_000); // the last tenth is of these
    let input = format!("One{}two{}three{}four.\n{lines}", gaps[0], gaps[1], gaps[2]);
    place.write("gaps.txt", &input);
    for vocabulary in [["--vocab", "characters"], ["--vocab", "gpt2"], ["--vocab-size", "270"]] {
        place.succeeds(&["gaps.txt", "--out", "out", vocabulary[0], vocabulary[1]]);
        let dataset = place.dataset("out");
        let [train, val] = [&dataset.train, &dataset.val].map(|shards| text(&dataset, shards));
        if vocabulary[1] == "characters" {
            assert!(train + &val == input);
        } else {
            let [train, val] =
                [&train, &val].map(|text| text.strip_prefix("<|endoftext|>").unwrap());
            assert!(format!("{train}\n{val}\n") == input, "{vocabulary:?}");
        }
        fs::remove_dir_all(place.path("out")).unwrap();
    }
}

#[test]
fn a_text_as_it_stands_is_one_document() {
    let place = Place::new();
    place.write("book.txt", "Once upon a time\nthere was a fox.\n");
    place.write("rows.jsonl", "{\"text\": \"a fox\"}\n".repeat(20));
    let documents = |name: &str| {
        let json = fs::read(place.path(name).join("dataset.json")).unwrap();
        let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
        ["train", "val"].map(|split| json["splits"][split]["documents"].as_u64().unwrap())
    };
    place.succeeds(&["book.txt"]);
    assert_eq!(documents("data/book"), [1, 1]);
    place.succeeds(&["rows.jsonl", "--vocab", "gpt2"]);
    assert_eq!(documents("data/rows"), [18, 2]);
}

// ---------------------------------------------------------------------------------------------------------------------
// What goes wrong

/// What remains after each kill is whole, and in the end all is as it would have been.
#[test]
fn killed_and_gone_on_with_is_byte_for_byte_the_same() {
    let place = Place::new();
    place.write("book.txt", fables::text(1, 30_000_000).text);
    let args = ["book.txt", "--vocab-size", "500", "--shard-tokens", "50000", "--out"];
    place.succeeds(&[&args[..], &["whole"]].concat());
    let shards = || place.names_in("out").iter().filter(|name| name.ends_with(".npy")).count();
    let args = [&args[..], &["out"]].concat();
    for wanted in [0, 1, 5, 12] {
        let mut program = place.start(&args);
        while shards() < wanted && program.try_wait().unwrap().is_none() {
            thread::sleep(Duration::from_millis(1));
        }
        if wanted == 0 {
            thread::sleep(Duration::from_millis(300)); // while the vocabulary is learned
        }
        assert!(program.try_wait().unwrap().is_none(), "it was too fast to be killed");
        program.kill().unwrap(); // SIGKILL
        program.wait().unwrap();
        assert!(!place.path("out/dataset.json").exists());
        if wanted > 1 {
            assert!(place.error_of("out").contains("the same `nanogpt prepare` command again"));
        }
    }
    place.fails(
        &["book.txt", "--vocab-size", "600", "--shard-tokens", "50000", "--out", "out"],
        &["was prepared otherwise (another vocab)", "--out"],
    );
    let said = place.succeeds(&args);
    assert!(said.contains("going on where it was stopped"), "{said}");
    assert_eq!(place.names_in("out"), place.names_in("whole"));
    assert!(place.files_in("out") == place.files_in("whole"));
}

/// A file-size limit stands for a full disk: writing fails, and what was written stays.
#[cfg(unix)]
#[test]
fn a_disk_that_is_full_is_said_and_gone_on_from() {
    let place = Place::new();
    let input = fables::text(1, 400_000).text;
    place.write("book.txt", &input);
    let limited = format!(
        "trap '' XFSZ; ulimit -f 100; exec {} prepare book.txt",
        env!("CARGO_BIN_EXE_nanogpt")
    );
    let mut command = Command::new("bash");
    let output = command.args(["-c", &limited]).current_dir(place.0.path()).output().unwrap();
    expect_refusal(output, &["cannot write", "book_train_000001.npy"]);
    assert_eq!(place.names_in("data/book"), ["settings.json", "unfinished.json", VOCABULARY]);
    place.succeeds(&["book.txt"]);
    let dataset = place.dataset("data/book");
    assert!(text(&dataset, &dataset.train) + &text(&dataset, &dataset.val) == input);
}

#[test]
fn what_is_no_text_is_refused_in_a_sentence() {
    let place = Place::new();
    let refused = |name: &str, content: &[u8], args: &[&str], words: &[&str]| {
        place.write(name, content);
        place.fails(&[&[name], args].concat(), &[&[name], words].concat());
    };
    refused("empty.txt", b"", &[], &["no text"]);
    refused("latin.txt", b"caf\xe9 au lait\n", &[], &["no UTF-8 text (byte 3 is not)"]);
    refused("latin.txt", b"caf\xe9 au lait\n", &["--vocab", "gpt2"], &["(byte 3 is not)"]);
    refused("blank.txt", b"\n \n\n", &["--vocab", "gpt2"], &["no text"]);
    refused("a.jsonl", b"{\"body\": 1}\n", &[], &["line 1", "no field \"text\"", "--field"]);
    refused("a.parquet", b"no parquet at all", &[], &["Parquet"]);
    place.fails(&["missing.txt"], &["missing.txt", "No such file", "shakespeare_char"]);
    place.fails(&["shakespear_char"], &["(or did you mean the data set shakespeare_char?)"]);
    fs::create_dir(place.path("folder")).unwrap();
    place.fails(&["folder"], &["no text in this folder", ".parquet"]);

    place.write("good.txt", "The quick brown fox\njumps over the lazy dog.\n".repeat(20));
    place.fails(&["good.txt", "--vocab-size", "5000"], &["--vocab-size 5,000", "the text gives"]);
    place.fails(&["good.txt", "--vocab", "gpt5"], &["--vocab gpt5", "characters, gpt2, fables"]);
    place.fails(&["good.txt", "--vocab", "good.txt"], &["--vocab good.txt: line 1", "no token"]);
    place.succeeds(&["good.txt"]);
    place.write("other.txt", "Was wäre\nein anderer Text?\n");
    let vocabulary = "data/good/vocab.tiktoken";
    place.fails(&["other.txt", "--vocab", vocabulary], &["'W'", "is not among"]);
    place.write("x.txt", "x");
    place.fails(&["x.txt"], &["nothing to train on", "more text"]);
    place.write("one.jsonl", "{\"text\": \"all of it\"}\n");
    place.fails(&["one.jsonl"], &["nothing to validate on", "more text"]);
    assert!(!place.path("data/other/dataset.json").exists());
    for flags in [["--val-share", "0"], ["--vocab-size", "256"], ["--vocab-size", "65537"]] {
        let output = place.run(&["good.txt", flags[0], flags[1]]);
        assert_eq!(output.status.code(), Some(2), "{flags:?}");
    }
}

#[test]
fn a_flag_without_a_meaning_is_named() {
    let place = Place::new();
    place.write("good.txt", "some words\n");
    place.fails(&["good.txt", "--tokens", "100"], &["--tokens is for openwebtext and fineweb-edu"]);
    place.fails(&["openwebtext", "--field", "text"], &["--field is for text of your own"]);
    place.fails(&["fables", "--keep"], &["--keep"]);
    place.fails(&["fables", "good.txt"], &["one at a time", "./fables"]);
    place.fails(&["good.txt", "shakespeare"], &["one at a time", "./shakespeare"]);
    place.fails(
        &["openwebtext", "--vocab-size", "4096"],
        &["--vocab-size 4096", "choose gpt2, fables or a file"],
    );
    let nobody = "http://127.0.0.1:1";
    place.fails(&["openwebtext", "--endpoint", nobody], &["refused", "--endpoint"]);
    place.fails(&["fineweb-edu", "--tokens", "10"], &["--tokens 10", "--shard-tokens"]);
    place.fails(&["shakespeare_char", "--url", nobody], &["data/shakespeare_char/input.txt"]);
    place.write("data/shakespeare/input.txt", "other");
    place.fails(&["shakespeare"], &["is not Tiny Shakespeare"]);
}

/// The vocabulary is the file's whatever it is called.
#[test]
fn a_vocabularys_file_is_the_one_beside_the_shards() {
    let place = Place::new();
    place.write("tokens.txt", fables::VOCABULARY);
    place.write("book.txt", "Once upon a time\nthere was a fox.\n");
    place.succeeds(&["book.txt", "--vocab", "tokens.txt"]);
    fs::remove_file(place.path("tokens.txt")).unwrap();
    let dataset = place.dataset("data/book");
    let fables = Tokenizer::load("fables").unwrap();
    assert_eq!(dataset.tokenizer.fingerprint(), fables.fingerprint());
    assert_eq!(text(&dataset, &dataset.train), "<|endoftext|>Once upon a time");
}
