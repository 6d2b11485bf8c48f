//! What `lab::Weights` promises: a checkpoint of Hugging Face's is read as it was written, and
//! anything else is refused in one sentence, before memory is taken for a tensor.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use lab::Weights;
use tch::{Kind, Tensor};
use tempfile::TempDir;

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures");

fn fixture(name: &str) -> PathBuf {
    Path::new(FIXTURES).join(name)
}

/// A safetensors file: the header's length, the header, the tensors' bytes.
fn bytes(header: &str, data: &[u8]) -> Vec<u8> {
    let length = (header.len() as u64).to_le_bytes();
    [&length, header.as_bytes(), data].concat()
}

/// A file with one tensor, `a`.
fn one(dtype: &str, shape: &str, end: usize) -> Vec<u8> {
    bytes(&format!(r#"{{"a":{}}}"#, entry(dtype, shape, 0, end)), &vec![0; end])
}

fn entry(dtype: &str, shape: &str, start: usize, end: usize) -> String {
    format!(r#"{{"dtype":"{dtype}","shape":{shape},"data_offsets":[{start},{end}]}}"#)
}

/// A folder with this `model.safetensors`.
fn folder(model: &[u8]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("model.safetensors"), model).unwrap();
    folder
}

/// What `outcome` was refused for: one sentence, which names `path` first, and each of `words`.
#[track_caller]
fn assert_refused<T>(outcome: anyhow::Result<T>, path: &Path, words: &[&str]) {
    let Err(error) = outcome else { panic!("{words:?} was not refused") };
    let sentence = format!("{error:#}");
    assert!(sentence.starts_with(path.to_str().unwrap()), "{sentence}");
    assert!(!sentence.contains('\n'), "{sentence}");
    for word in words {
        assert!(sentence.contains(word), "{sentence:?} does not say {word:?}");
    }
}

/// Such a file is refused when it is opened.
#[track_caller]
fn assert_bad(model: &[u8], words: &[&str]) {
    let folder = folder(model);
    let path = folder.path().join("model.safetensors");
    assert_refused(Weights::open(folder.path()), &path, words);
    assert_refused(Weights::open(&path), &path, words);
}

fn is_mask(name: &str) -> bool {
    name.ends_with(".attn.bias")
}

/// The names and shapes in a checkpoint but the masks: what a model of that size needs.
fn shapes(weights: &Weights) -> Vec<(String, Vec<i64>)> {
    let shape = |name: &str| weights.shape(name).unwrap().to_vec();
    let names = weights.names().filter(|name| !is_mask(name));
    names.map(|name| (name.to_owned(), shape(name))).collect()
}

fn same(left: &Tensor, right: &Tensor) -> bool {
    left.kind() == Kind::Float && left.size() == right.size() && left.equal(right)
}

#[test]
fn a_checkpoint_is_read_as_hugging_face_wrote_it() {
    for name in ["gpt2-tiny", "gpt2-odd", "gpt2-odd-original"] {
        let weights = Weights::open(fixture(name)).unwrap();
        weights.expect(&shapes(&weights)).unwrap();
        // tch's own reader is another implementation of the format.
        let expected = Tensor::read_safetensors(fixture(name).join("model.safetensors")).unwrap();
        assert_eq!(weights.names().count(), expected.len());
        for (long_name, tensor) in expected {
            let name = long_name.trim_start_matches("transformer.");
            assert_eq!(weights.shape(name), Some(tensor.size().as_slice()));
            assert!(same(&weights.tensor(name, &tensor.size()).unwrap(), &tensor), "{name}");
        }
    }
}

#[test]
fn a_name_is_found_with_and_without_its_prefix_in_files_with_and_without() {
    let [new, old] = ["gpt2-odd", "gpt2-odd-original"].map(|name| Weights::open(fixture(name)));
    let (new, old) = (new.unwrap(), old.unwrap());
    assert_eq!(shapes(&new), shapes(&old));
    for (name, shape) in shapes(&new) {
        let long_name = format!("transformer.{name}");
        assert_eq!(old.shape(&long_name), Some(shape.as_slice()));
        let tensor = new.tensor(&name, &shape).unwrap();
        for (weights, name) in [(&new, &long_name), (&old, &name), (&old, &long_name)] {
            assert!(same(&weights.tensor(name, &shape).unwrap(), &tensor), "{name}");
        }
    }
    let long_names =
        shapes(&new).into_iter().map(|(name, shape)| (format!("transformer.{name}"), shape));
    old.expect(&long_names.collect::<Vec<_>>()).unwrap();
}

#[test]
fn half_precision_becomes_single() {
    // The bit patterns of IEEE 754's binary16, and of bfloat16, which is the upper half of a single.
    let cases: [(&str, [u16; 4], [f32; 4]); 2] = [
        ("F16", [0x3c00, 0xc000, 0x7bff, 0x0001], [1.0, -2.0, 65504.0, 1.0 / 16_777_216.0]),
        ("BF16", [0x3f80, 0xc020, 0x7f7f, 0x3e80], [1.0, -2.5, f32::from_bits(0x7f7f_0000), 0.25]),
    ];
    for (dtype, bits, expected) in cases {
        let data: Vec<u8> = bits.iter().flat_map(|bits| bits.to_le_bytes()).collect();
        let header = format!(r#"{{"a":{}}}"#, entry(dtype, "[2,2]", 0, 8));
        let folder = folder(&bytes(&header, &data));
        let weights = Weights::open(folder.path()).unwrap();
        weights.expect(&[("a".into(), vec![2, 2])]).unwrap();
        let expected = Tensor::from_slice(&expected).view([2, 2]);
        assert!(same(&weights.tensor("a", &[2, 2]).unwrap(), &expected), "{dtype}");
    }
}

#[test]
fn tensors_lie_where_the_header_says_and_in_any_order() {
    // The first in the header is the last in the file, and one has no elements, one no dimensions.
    let (b, a) = (entry("F32", "[2]", 4, 12), entry("F32", "[]", 0, 4));
    let header = format!(r#"{{"b":{b},"empty":{},"a":{a}}}   "#, entry("F32", "[0,3]", 4, 4));
    let data: Vec<u8> = [1f32, 2.0, 3.0].iter().flat_map(|x| x.to_le_bytes()).collect();
    let folder = folder(&bytes(&header, &data));
    let weights = Weights::open(folder.path()).unwrap();
    assert!(weights.names().eq(["a", "b", "empty"]));
    assert!(same(&weights.tensor("b", &[2]).unwrap(), &Tensor::from_slice(&[2f32, 3.0])));
    assert!(same(&weights.tensor("a", &[]).unwrap(), &Tensor::from(1f32)));
    assert_eq!(weights.tensor("empty", &[0, 3]).unwrap().numel(), 0);
}

#[test]
fn config_json_gives_whole_numbers() {
    let weights = Weights::open(fixture("gpt2-tiny")).unwrap();
    let config = fixture("gpt2-tiny").join("config.json");
    assert_eq!(weights.config("n_head").unwrap(), Some(4));
    assert_eq!(weights.config("n_inner").unwrap(), None, "it is null");
    assert_eq!(weights.config("n_heads").unwrap(), None, "there is no such key");
    assert_refused(weights.config("model_type"), &config, &["model_type", "gpt2", "whole number"]);
    assert_eq!(weights.matrix("wte.weight").unwrap(), (101, 36));
    weights.agrees("vocab_size", 101).unwrap();
    weights.agrees("n_inner", 144).unwrap();
    assert_refused(weights.agrees("n_layer", 4), &config, &["n_layer is 3", "it is 4"]);

    // A file by itself finds the config.json beside it, and does without.
    let model = fixture("gpt2-tiny").join("model.safetensors");
    assert_eq!(Weights::open(&model).unwrap().config("n_head").unwrap(), Some(4));
    let alone = folder(&one("F32", "[1]", 4));
    assert_eq!(Weights::open(alone.path()).unwrap().config("n_head").unwrap(), None);
}

#[test]
fn a_config_json_that_is_none() {
    for text in ["", "{", "[1, 2]", "n_head: 4", r#"{"n_head": 4} {}"#, "\u{1}"] {
        let folder = folder(&one("F32", "[1]", 4));
        let config = folder.path().join("config.json");
        fs::write(&config, text).unwrap();
        assert_refused(Weights::open(folder.path()), &config, &["JSON", "from the same place"]);
    }
}

#[test]
fn where_there_is_no_checkpoint_the_way_to_one_is_named() {
    let fetch = "cargo run -p data -- gpt2";
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing");
    assert_refused(Weights::open(&missing), &missing, &["No such file", fetch]);
    assert_refused(Weights::open(folder.path()), folder.path(), &["no model.safetensors", fetch]);
    fs::write(folder.path().join("pytorch_model.bin"), "PK").unwrap();
    let words = ["pytorch_model.bin", "pickle", "save_pretrained"];
    assert_refused(Weights::open(folder.path()), folder.path(), &words);
}

#[test]
fn a_part_of_a_file_and_more_than_a_file() {
    let whole = fs::read(fixture("gpt2-odd").join("model.safetensors")).unwrap();
    let header = 8 + u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    let lengths = (0..header).step_by(7).chain(header - 1..header + 3).chain([whole.len() - 1]);
    for length in lengths {
        assert_bad(&whole[..length], &["get the file again"]);
    }
    assert_bad(
        &[&whole[..], b"x"].concat(),
        &["102673 bytes long", "102672", "get the file again"],
    );
}

#[test]
fn a_header_that_is_none() {
    let again = "get the file again";
    assert_bad(b"PK\x03\x04 a Python pickle in a zip archive", &["no safetensors file", again]);
    assert_bad(&bytes("[]", b""), &["header is damaged", again]);
    assert_bad(&bytes("{\"a\":", b""), &["header is damaged", again]);
    assert_bad(&bytes("{} x", b""), &["header is damaged", again]);
    assert_bad(&bytes(r#"{"a":{"dtype":"F32","shape":[1]}}"#, &[0; 4]), &["data_offsets", again]);
    assert_bad(&one("F31", "[1]", 4), &["F31", again]);
    assert_bad(&one("F32", "[-1]", 4), &["-1", again]);
    let invalid_utf8 = [&2u64.to_le_bytes()[..], b"\xff\xff"].concat();
    assert_bad(&invalid_utf8, &["header is damaged", again]);
}

/// The memory for a header is only taken when the file can have one of that size, and none has one
/// of more than 10 MB. A sparse file is as long as one wishes.
#[test]
fn a_header_too_large() {
    for header in [1 << 40, 10_000_001, u64::MAX] {
        let folder = folder(&header.to_le_bytes());
        let path = folder.path().join("model.safetensors");
        File::options().write(true).open(&path).unwrap().set_len((1 << 40) + 8).unwrap();
        assert_refused(Weights::open(&path), &path, &[&header.to_string(), "get the file again"]);
    }
}

#[test]
fn tensors_that_overlap_or_leave_a_gap_or_have_the_wrong_size() {
    let two = |a: (usize, usize), b: (usize, usize), end: usize| {
        let a = entry("F32", "[2]", a.0, a.1);
        let b = entry("F32", "[2]", b.0, b.1);
        bytes(&format!(r#"{{"a":{a},"b":{b}}}"#), &vec![0; end])
    };
    assert!(Weights::open(folder(&two((8, 16), (0, 8), 16)).path()).is_ok());
    assert_bad(&two((0, 8), (4, 12), 12), &["`b` overlaps another"]);
    let odd_name = format!(r#"{{"a\nb":{}}}"#, entry("F32", "[1]", 4, 8));
    assert_bad(&bytes(&odd_name, &[0; 8]), &[r"`a\nb` follows a gap"]);
    assert_bad(&two((0, 8), (0, 8), 8), &["`b` overlaps another"]);
    assert_bad(&two((0, 8), (12, 20), 20), &["`b` follows a gap"]);
    assert_bad(&two((4, 12), (12, 20), 20), &["`a` follows a gap"]);
    assert_bad(&two((0, 8), (8, 16), 12), &["get the file again"]);
    assert_bad(&two((0, 8), (8, 4), 8), &["`b`, [2] of F32, has another size"]);
    assert_bad(&one("F32", "[2,3]", 20), &["`a`, [2, 3] of F32, has another size"]);
    // 2³² · 2³² elements are 0 modulo 2⁶⁴.
    assert_bad(&one("F32", "[4294967296,4294967296]", 0), &["`a`", "has another size"]);
    assert_bad(&one("F32", "[18446744073709551615,0]", 0), &["`a`", "has another size"]);
    let (most, end) = (usize::MAX / 4, usize::MAX / 4 * 4);
    let header = format!(r#"{{"a":{}}}"#, entry("F32", &format!("[{most}]"), 0, end));
    assert_bad(&bytes(&header, &[]), &["no end", "get the file again"]);
}

#[test]
fn two_tensors_of_one_name() {
    let (a, b) = (entry("F32", "[1]", 0, 4), entry("F32", "[1]", 4, 8));
    let header = format!(r#"{{"transformer.wte.weight":{a},"wte.weight":{b}}}"#);
    assert_bad(&bytes(&header, &[0; 8]), &["two tensors", "wte.weight`", "transformer."]);
}

/// Whatever byte of a header is damaged, the file is refused or still read without a panic.
#[test]
fn damage_to_a_header_is_no_panic() {
    let (a, b) = (entry("F32", "[2,3]", 0, 24), entry("F16", "[2]", 24, 28));
    let header = format!(r#"{{"__metadata__":{{"format":"pt"}},"h.0.a":{a},"b":{b}}}"#);
    let whole = bytes(&header, &[0; 28]);
    let path = tempfile::tempdir().unwrap().keep().join("model.safetensors");
    let mut refused = 0;
    for at in 0..8 + header.len() {
        for byte in [0, b'0', b'9', b'"', b'}', whole[at] ^ 1, 0xff] {
            let mut damaged = whole.clone();
            damaged[at] = byte;
            fs::write(&path, damaged).unwrap();
            match Weights::open(&path) {
                Ok(weights) => shapes(&weights).iter().for_each(|(name, shape)| {
                    weights.tensor(name, shape).ok();
                }),
                Err(_) => refused += 1,
            }
        }
    }
    fs::remove_dir_all(path.parent().unwrap()).unwrap();
    assert!(refused > 500, "only {refused}");
}

#[test]
fn a_model_of_another_size_is_refused_by_the_name_of_the_tensor() {
    let weights = Weights::open(fixture("gpt2-odd-original")).unwrap();
    let path = fixture("gpt2-odd-original").join("model.safetensors");
    let good = shapes(&weights);
    let refused = |list: &[(String, Vec<i64>)], words: &[&str]| {
        assert_refused(weights.expect(list), &path, words);
    };
    let with =
        |name: &str, shape: &[i64]| [&good[..], &[(name.to_owned(), shape.to_vec())]].concat();
    refused(&with("h.2.ln_1.weight", &[30]), &["no tensor `h.2.ln_1.weight`", "of this size"]);
    refused(&with("wte.weight", &[30, 67]), &["`wte.weight`", "[67, 30]", "needs [30, 67]"]);
    refused(&with("wte.weight", &[67]), &["`wte.weight`", "[67, 30]", "needs [67]"]);
    let without = |name: &str| good.iter().filter(|(n, _)| n != name).cloned().collect::<Vec<_>>();
    refused(&without("h.1.mlp.c_fc.bias"), &["`h.1.mlp.c_fc.bias` has no place"]);
    refused(&without("h.1.attn.c_attn.bias"), &["`h.1.attn.c_attn.bias` has no place"]);

    assert_refused(weights.tensor("wte.weight", &[30, 67]), &path, &["`wte.weight`", "[67, 30]"]);
    assert_refused(weights.tensor("wte", &[67, 30]), &path, &["no tensor `wte`"]);
    assert_refused(weights.matrix("wte"), &path, &["no tensor `wte`"]);
    assert_refused(weights.matrix("ln_f.bias"), &path, &["`ln_f.bias`", "[30]", "two dimensions"]);
    assert_eq!(weights.shape("wte"), None);
}

#[test]
fn only_floating_point_is_read() {
    for (dtype, size) in [("I64", 8), ("F64", 8), ("I32", 4), ("U8", 1), ("BOOL", 1)] {
        let folder = folder(&one(dtype, "[1]", size));
        let path = folder.path().join("model.safetensors");
        let weights = Weights::open(&path).unwrap();
        let words = ["`a`", dtype, "F32, F16 and BF16"];
        assert_refused(weights.expect(&[("a".into(), vec![1])]), &path, &words);
        assert_refused(weights.tensor("a", &[1]), &path, &words);
    }
}

#[test]
fn what_is_no_weight_may_be_there_or_not() {
    let name_and_type =
        [("h.0.attn.bias", "U8"), ("h.0.attn.masked_bias", "I64"), ("lm_head.weight", "F32")];
    for (name, dtype) in name_and_type {
        let size = if dtype == "U8" {
            1
        } else if dtype == "I64" {
            8
        } else {
            4
        };
        let (a, b) = (entry("F32", "[1]", 0, 4), entry(dtype, "[1]", 4, 4 + size));
        let folder = folder(&bytes(&format!(r#"{{"a":{a},"{name}":{b}}}"#), &vec![0; 4 + size]));
        let weights = Weights::open(folder.path()).unwrap();
        weights.expect(&[("a".into(), vec![1])]).unwrap();
    }
}

/// A file that claims a terabyte and has it, sparsely: whoever took memory for a tensor before
/// comparing its shape could not answer.
#[test]
fn no_memory_is_taken_before_the_checks() {
    let elements = 1usize << 38;
    let header = format!(r#"{{"a":{}}}"#, entry("F32", &format!("[{elements}]"), 0, 4 * elements));
    let folder = folder(&bytes(&header, &[]));
    let path = folder.path().join("model.safetensors");
    let length = 8 + header.len() + 4 * elements;
    File::options().write(true).open(&path).unwrap().set_len(length as u64).unwrap();
    let weights = Weights::open(&path).unwrap();
    assert_refused(weights.expect(&[("a".into(), vec![1])]), &path, &["`a`", "needs [1]"]);
    assert_refused(weights.tensor("a", &[1]), &path, &["`a`", "needs [1]"]);
    assert_refused(weights.expect(&[]), &path, &["`a` has no place"]);
}

/// The file may shrink between the check and the reading.
#[test]
fn a_file_that_shrinks() {
    let folder = folder(&one("F32", "[4]", 16));
    let path = folder.path().join("model.safetensors");
    let weights = Weights::open(&path).unwrap();
    let file = File::options().write(true).open(&path).unwrap();
    file.set_len(file.metadata().unwrap().len() - 1).unwrap();
    assert_refused(weights.tensor("a", &[4]), &path, &["cannot read `a`"]);
}
