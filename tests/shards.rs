//! What `Shards` and `ShardWriter` promise: build-nanogpt's files in both directions, and one sentence for each
//! folder that is not right.

use lab::{Corpus, END_OF_TEXT, Flags, ShardWriter, Shards, Tokenizer};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};
use tempfile::TempDir;

fn tokenizer() -> Tokenizer {
    Tokenizer::load("fables").unwrap()
}

/// A folder with one training shard of these bytes.
fn folder_with(bytes: &[u8]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("x_train_000001.npy"), bytes).unwrap();
    folder
}

fn npy(dict: &str, data: &[u8]) -> Vec<u8> {
    let text = format!("{dict}\n");
    let length = (text.len() as u16).to_le_bytes();
    [b"\x93NUMPY\x01\x00", &length[..], text.as_bytes(), data].concat()
}

fn dict(descr: &str, shape: &str) -> String {
    format!("{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}")
}

/// A data set of 25 training and 3 validation tokens in shards of 10.
fn data_set(folder: &Path) {
    let mut writer = ShardWriter::new("mine", folder, 10, &tokenizer()).unwrap();
    writer.begin_split("val").unwrap();
    writer.push(&[1023, 1, 2], 7).unwrap();
    writer.begin_split("train").unwrap();
    writer.push(&(0..15).collect::<Vec<u16>>(), 30).unwrap();
    writer.push(&(15..25).collect::<Vec<u16>>(), 20).unwrap();
    writer.finish().unwrap();
}

fn names_in(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> =
        entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[track_caller]
fn refused(folder: &Path, words: &[&str]) {
    let error = Shards::open(folder, "train", &tokenizer()).expect_err("accepted");
    let sentence = format!("{error:#}");
    assert!(!sentence.contains('\n'), "{sentence}");
    for word in words {
        assert!(sentence.contains(word), "{sentence:?} does not say {word:?}");
    }
}

#[test]
fn what_was_written_is_read() {
    let folder = tempfile::tempdir().unwrap();
    data_set(folder.path());
    assert_eq!(
        names_in(folder.path()),
        [
            "dataset.json",
            "mine_train_000001.npy",
            "mine_train_000002.npy",
            "mine_train_000003.npy",
            "mine_val_000000.npy"
        ]
    );
    let train = Shards::open(folder.path(), "train", &tokenizer()).unwrap();
    let sizes: Vec<i64> = (0..train.len()).map(|shard| train.tokens(shard)).collect();
    assert_eq!((sizes, train.total()), (vec![10, 10, 5], 25));
    assert_eq!(train.read(&[1], 3, 4).unwrap(), [13, 14, 15, 16]);
    assert_eq!(train.read(&[2], 4, 1).unwrap(), [24]);
    assert_eq!(train.read(&[2], 5, 0).unwrap(), [0; 0]);
    assert_eq!((train.chars_per_token(), train.floor()), (Some(2.0), None));
    assert_eq!(train.read(&[2, 0], 3, 5).unwrap(), [23, 24, 0, 1, 2]);
    assert_eq!(train.read(&[2, 0], 6, 2).unwrap(), [1, 2]);
    assert_eq!(train.read(&[0, 2], 12, 9).unwrap(), [22, 23, 24], "no more are there");
    let val = Shards::open(folder.path(), "val", &tokenizer()).unwrap();
    assert_eq!(val.read(&[0], 0, 3).unwrap(), [1023, 1, 2]);
    assert_eq!(val.chars_per_token(), Some(7.0 / 3.0));
}

/// The fixtures are numpy 2's: `np.save(path, np.arange(1000, 1012, dtype=np.uint16))`, and 12 floats.
#[test]
fn numpys_own_files_are_read_and_ours_are_the_same_bytes() {
    let fixtures = Path::new("tests/fixtures/shards");
    let numpys = fixtures.join("edufineweb_train_000001.npy");
    let theirs = Shards::open(fixtures, "train", &tokenizer()).unwrap();
    let tokens: Vec<i64> = (1000..1012).collect();
    assert_eq!(theirs.read(&[0], 0, 12).unwrap(), tokens);
    assert_eq!((theirs.chars_per_token(), theirs.floor()), (None, None));

    let folder = tempfile::tempdir().unwrap();
    let mut writer = ShardWriter::new("edufineweb", folder.path(), 12, &tokenizer()).unwrap();
    writer.push(&tokens.iter().map(|&token| token as u16).collect::<Vec<_>>(), 1).unwrap();
    writer.finish().unwrap();
    let ours = folder.path().join("edufineweb_train_000001.npy");
    assert_eq!(fs::read(ours).unwrap(), fs::read(numpys).unwrap());
}

/// A Python with numpy: the one that `NUMPY_PYTHON` names, or the system's.
fn numpy() -> Option<PathBuf> {
    let named = std::env::var_os("NUMPY_PYTHON").map(PathBuf::from);
    let python = named.unwrap_or_else(|| "python3".into());
    let check = Command::new(&python).args(["-c", "import numpy"]).output();
    check.is_ok_and(|check| check.status.success()).then_some(python)
}

/// As fineweb.py writes and as train_gpt2.py's `load_tokens` reads.
#[test]
fn numpy_reads_ours_and_writes_what_we_read() {
    let Some(python) = numpy() else {
        println!("skipped: no Python with numpy (NUMPY_PYTHON names one)");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    data_set(folder.path());
    let script = "
import sys, numpy as np
npt = np.load(sys.argv[1] + '/mine_train_000002.npy')
assert npt.dtype == np.uint16 and npt.shape == (10,), (npt.dtype, npt.shape)
assert npt.astype(np.int32).tolist() == list(range(10, 20)), npt
tokens = np.full((70000,), 7, dtype=np.uint16)
tokens[69999] = 1023
np.save(sys.argv[2] + '/edufineweb_train_000001', tokens)
np.save(sys.argv[2] + '/edufineweb_val_000000', tokens[:5])
";
    let theirs = tempfile::tempdir().unwrap();
    let output = Command::new(python)
        .args(["-c", script])
        .args([folder.path(), theirs.path()])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let train = Shards::open(theirs.path(), "train", &tokenizer()).unwrap();
    assert_eq!((train.total(), train.read(&[0], 69_998, 2).unwrap()), (70_000, vec![7, 1023]));
    assert_eq!(Shards::open(theirs.path(), "val", &tokenizer()).unwrap().total(), 5);
}

#[test]
fn a_file_that_is_no_shard_is_refused_by_name() {
    let data = [1, 0, 2, 0, 3, 0, 4, 0];
    let good = dict("'<u2'", "(4,)");
    let file = "x_train_000001.npy";
    let refused = |bytes: &[u8], words: &[&str]| {
        refused(folder_with(bytes).path(), &[&[file], words].concat());
    };
    assert!(Shards::open(folder_with(&npy(&good, &data)).path(), "train", &tokenizer()).is_ok());
    refused(&npy(&good, &data[..7]), &["cut off", "promises 4 tokens, and 3 are there"]);
    refused(&npy(&good, &[]), &["cut off", "0 are there"]);
    refused(&npy(&good, &[data, data].concat()), &["longer than the 4 tokens"]);
    refused(&npy(&dict("'<i4'", "(2,)"), &data), &["'<i4'", "uint16", "astype(np.uint16)"]);
    refused(&npy(&dict("'<f8'", "(1,)"), &data), &["'<f8'", "uint16"]);
    refused(&npy(&dict("'>u2'", "(4,)"), &data), &["'>u2'", "uint16"]);
    refused(&npy(&dict("[('a', '<u2')]", "(4,)"), &data), &["[('a', '<u2')]", "uint16"]);
    refused(&npy(&dict("'<u2'", "(2, 2)"), &data), &["2 dimensions"]);
    refused(&npy(&dict("'<u2'", "()"), &data), &["0 dimensions"]);
    refused(&npy(&dict("'<u2'", "(0,)"), &[]), &["no tokens"]);
    refused(&npy(&dict("'<u2'", "(-4,)"), &data), &["how long"]);
    refused(&npy(&dict("'<u2'", "(99999999999999999999,)"), &data), &["how long"]);
    refused(&npy(&dict("'<u2'", "(9999999999999999999,)"), &data), &["cut off"]);
    refused(&npy("{}", &data), &["of no kind"]);
    for nothing in [&b""[..], b"\x93NUM", b"PK\x03\x04 is an npz file", &npy(&good, &data)[..20]] {
        refused(nothing, &["no shard"]);
    }
    refused(b"\x93NUMPY\x01\x00\x04\x00\xff\xff\xff\xff", &["no shard"]);
    refused(b"\x93NUMPY\x02\x00\xff\xff\xff\x7f", &["no shard"]);
}

#[test]
fn a_folder_without_shards_names_the_way_out() {
    let folder = tempfile::tempdir().unwrap();
    refused(folder.path(), &["no shards to train on", "cargo run -p data"]);
    fs::write(folder.path().join("train.npy"), "").unwrap();
    fs::write(folder.path().join("x_train_000001.npy.part"), "").unwrap();
    refused(folder.path(), &["no shards to train on"]);
    refused(&folder.path().join("missing"), &["missing", "no such folder", "cargo run -p data"]);
    refused(&folder.path().join("train.npy"), &["train.npy", "no such folder"]);
    data_set(folder.path());
    fs::write(folder.path().join(ShardWriter::UNFINISHED), "{}").unwrap();
    refused(folder.path(), &["not finished", "same `cargo run -p data` command again"]);
}

#[test]
fn shards_of_another_vocabulary_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    data_set(folder.path());
    let error = Shards::open(folder.path(), "train", &Tokenizer::load("gpt2").unwrap());
    let sentence = format!("{:#}", error.unwrap_err());
    assert!(sentence.contains("those of the tokenizer fables, not of gpt2"), "{sentence}");
    assert!(sentence.contains("take the right one"), "{sentence}");
    // Without dataset.json a token that is not in the vocabulary tells.
    let foreign = folder_with(&npy(&dict("'<u2'", "(4,)"), &[1, 0, 255, 3, 0, 4, 2, 0]));
    let shards = Shards::open(foreign.path(), "train", &tokenizer()).unwrap();
    assert_eq!(shards.read(&[0], 0, 2).unwrap(), [1, 1023]);
    let error = shards.read(&[0], 1, 2).unwrap_err().to_string();
    assert!(error.contains("x_train_000001.npy: the token at place 2 is 1024"), "{error}");
    assert!(error.contains("another vocabulary"), "{error}");
}

#[test]
fn a_data_set_whose_shards_do_not_add_up_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    data_set(folder.path());
    let (last, json) = ("mine_train_000003.npy", folder.path().join("dataset.json"));
    let shard = fs::read(folder.path().join(last)).unwrap();
    fs::remove_file(folder.path().join(last)).unwrap();
    refused(folder.path(), &["2 train shards with 20 tokens", "3 with 25"]);
    fs::write(folder.path().join(last), &shard).unwrap();
    fs::write(folder.path().join("other_train_000001.npy"), &shard).unwrap();
    refused(folder.path(), &["4 train shards with 30 tokens", "3 with 25"]);
    fs::remove_file(folder.path().join("other_train_000001.npy")).unwrap();
    let text = fs::read_to_string(&json).unwrap();
    fs::write(&json, text.replace("\"version\": 1", "\"version\": 2")).unwrap();
    refused(folder.path(), &["dataset.json", "version 2"]);
    fs::write(&json, "{").unwrap();
    refused(folder.path(), &["dataset.json", "prepare the data set again"]);
    fs::remove_file(&json).unwrap();
    assert!(Shards::open(folder.path(), "train", &tokenizer()).is_ok());
}

#[test]
fn a_file_that_changes_under_a_running_program_is_an_error_and_no_crash() {
    let folder = tempfile::tempdir().unwrap();
    data_set(folder.path());
    let shards = Shards::open(folder.path(), "train", &tokenizer()).unwrap();
    fs::write(shards.path(0), "").unwrap();
    let error = format!("{:#}", shards.read(&[0], 0, 10).unwrap_err());
    assert!(error.contains("mine_train_000001.npy"), "{error}");
}

#[test]
fn a_writer_takes_no_folder_with_shards_and_no_vocabulary_that_is_too_large() {
    let folder = tempfile::tempdir().unwrap();
    data_set(folder.path());
    let error = ShardWriter::new("other", folder.path(), 10, &tokenizer()).err().unwrap();
    assert!(error.to_string().contains("has shards already, mine_train_000001.npy"), "{error}");

    let vocabulary = folder.path().join("large.tiktoken");
    fs::write(&vocabulary, large_vocabulary()).unwrap();
    let large = Tokenizer::open(&vocabulary).unwrap();
    let error = ShardWriter::new("x", &folder.path().join("new"), 10, &large).err().unwrap();
    assert!(error.to_string().contains("has 65,537 tokens"), "{error}");
    assert!(!folder.path().join("new").exists());
}

/// The single bytes, `<|endoftext|>`, and pairs and triples of bytes up to 65,537 tokens.
fn large_vocabulary() -> String {
    use base64::{Engine, prelude::BASE64_STANDARD};
    let bytes = (0..=255u8).map(|byte| vec![byte]);
    let pairs = (0..=u16::MAX).map(|pair| pair.to_be_bytes().to_vec());
    let tokens = bytes.chain([END_OF_TEXT.into()]).chain(pairs).take(65_537);
    let lines =
        tokens.enumerate().map(|(id, token)| format!("{} {id}\n", BASE64_STANDARD.encode(token)));
    lines.collect()
}

#[test]
fn a_writer_goes_on_where_it_was() {
    let (whole, resumed) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    data_set(whole.path());
    let mut writer = ShardWriter::new("mine", resumed.path(), 10, &tokenizer()).unwrap();
    writer.begin_split("val").unwrap();
    writer.push(&[1023, 1, 2], 7).unwrap();
    writer.begin_split("train").unwrap();
    writer.push(&(0..15).collect::<Vec<u16>>(), 30).unwrap();
    let state = serde_json::to_string(&writer.state()).unwrap();
    writer.push(&(15..25).collect::<Vec<u16>>(), 20).unwrap(); // fills the second shard
    drop(writer); // killed
    let state = serde_json::from_str(&state).unwrap();
    let mut writer = ShardWriter::resume(state, resumed.path(), 10, &tokenizer()).unwrap();
    assert_eq!((writer.room(), writer.shards(), writer.tokens()), (5, 2, 18));
    writer.push(&(15..25).collect::<Vec<u16>>(), 20).unwrap();
    writer.finish().unwrap();
    assert_same_files(whole.path(), resumed.path());
}

#[track_caller]
fn assert_same_files(a: &Path, b: &Path) {
    assert_eq!(names_in(a), names_in(b));
    for name in names_in(a) {
        assert!(fs::read(a.join(&name)).unwrap() == fs::read(b.join(&name)).unwrap(), "{name}");
    }
}

#[test]
fn the_fables_on_disk_are_those_that_the_steps_before_read() {
    use clap::Parser;
    #[derive(Parser)]
    struct Args {
        #[command(flatten)]
        lab: Flags,
    }
    let folder = tempfile::tempdir().unwrap();
    let tokenizer = tokenizer();
    let train = Shards::fables(folder.path(), "train", &tokenizer).unwrap();
    let val = Shards::fables(folder.path(), "val", &tokenizer).unwrap();
    let args = Args::parse_from(["test", "--device", "cpu"]);
    let corpus = Corpus::documents(&args.lab).unwrap();
    let expected = tokenizer.encode(&corpus.val);
    assert_eq!((val.len(), val.total()), (1, expected.len() as i64));
    assert!(val.read(&[0], 0, expected.len() as i64).unwrap() == expected);
    assert_eq!(val.chars_per_token(), Some(corpus.chars_per_token(expected.len())));
    assert!((val.floor().unwrap() - corpus.floor().unwrap()).abs() < 1e-12);
    // The shorter training text is the beginning of the longer one.
    let expected = tokenizer.encode(&corpus.train);
    assert!(train.read(&[0], 0, 250_000).unwrap() == expected[..250_000]);
    assert!((0..train.len() - 1).all(|shard| train.tokens(shard) == 250_000));
    let characters = train.chars_per_token().unwrap() * train.total() as f64;
    assert!((8e6..8.01e6).contains(&characters), "{characters}");
}

#[test]
fn fables_that_are_not_whole_or_of_another_version_are_told_again() {
    let (folder, whole) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let tokenizer = tokenizer();
    let open = |folder: &Path| Shards::fables(folder, "val", &tokenizer);
    open(whole.path()).unwrap();
    let told = |name: &str| fs::metadata(folder.path().join(name)).unwrap().modified().unwrap();
    open(folder.path()).unwrap();
    let first = told("fables_train_000001.npy");
    open(folder.path()).unwrap();
    assert_eq!(told("fables_train_000001.npy"), first, "nothing to do");

    let json = folder.path().join("dataset.json");
    let text = fs::read_to_string(&json).unwrap();
    let cut = || {
        let shard = folder.path().join("fables_train_000003.npy");
        fs::File::options().write(true).open(shard).unwrap().set_len(1000).unwrap();
    };
    let older = || {
        fs::write(&json, text.replace("\"documents\": ", "\"documents\": 1")).unwrap();
        fs::write(folder.path().join("fables_train_000099.npy"), "").unwrap();
    };
    let killed = || fs::remove_file(&json).unwrap();
    for spoil in [&cut as &dyn Fn(), &older, &killed] {
        spoil();
        open(folder.path()).unwrap();
        assert_same_files(folder.path(), whole.path());
    }
    let gpt2 = Tokenizer::load("gpt2").unwrap();
    let error = format!("{:#}", Shards::fables(folder.path(), "val", &gpt2).unwrap_err());
    assert!(error.contains("of the tokenizer fables, not of gpt2"), "{error}");
    assert_same_files(folder.path(), whole.path());

    // Somebody else's shards stay.
    let mine = tempfile::tempdir().unwrap();
    data_set(mine.path());
    fs::remove_file(mine.path().join("dataset.json")).unwrap();
    let error = open(mine.path()).unwrap_err().to_string();
    assert!(error.contains("has shards already, mine_train_000001.npy"), "{error}");
    assert_eq!(names_in(mine.path()).len(), 4);
}
