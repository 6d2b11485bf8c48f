//! What `lab::Weights` promises: a checkpoint of Hugging Face's is read as it was written, and
//! anything else is refused in one sentence, before memory is taken for a tensor.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use lab::{Weights, expect_gpt2_tokens};
use serde_json::{Map, Value, json};
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

/// A folder with the fixture gpt2-odd, whose `config.json` is changed.
fn reconfigured(change: impl FnOnce(&mut Map<String, Value>)) -> TempDir {
    let folder = folder(&fs::read(fixture("gpt2-odd").join("model.safetensors")).unwrap());
    let text = fs::read(fixture("gpt2-odd").join("config.json")).unwrap();
    let mut config = serde_json::from_slice(&text).unwrap();
    change(&mut config);
    fs::write(folder.path().join("config.json"), Value::Object(config).to_string()).unwrap();
    folder
}

fn with_key(key: &str, value: &Value) -> TempDir {
    reconfigured(|config| drop(config.insert(key.into(), value.clone())))
}

/// What a step does with a `config.json` before it reads a tensor.
fn is_plain_gpt2(folder: &TempDir) -> anyhow::Result<Option<i64>> {
    let weights = Weights::open(folder.path())?;
    weights.expect_plain_gpt2()?;
    for (key, size) in [("n_embd", 30), ("n_layer", 2), ("vocab_size", 67), ("n_positions", 19)] {
        weights.agrees(key, size)?;
    }
    weights.expect_tied()?;
    weights.config("n_head")
}

/// With most of these, transformers 5.23 computes other logits from gpt2-odd, or refuses it (tried key
/// by key); the others say that the model is no plain GPT-2.
#[test]
fn a_config_json_that_asks_for_another_computation() {
    let wrong = r#"{
        "model_type": ["bert", "gpt_neo", "openai-gpt", "GPT2", "", 2, null],
        "vocab_size": [70, 60, 0, -67, 67.5, "67", null, [67], 1e30],
        "n_positions": [1024, 18, "19", null],
        "max_position_embeddings": [1024, "19", null],
        "n_embd": [768, "30", null],
        "hidden_size": [60, "30", null],
        "n_layer": [1, 3, "2", null],
        "num_hidden_layers": [1, "2", null],
        "n_head": ["5", 5.5, true, null, {}],
        "num_attention_heads": [3, "5", null],
        "n_inner": [100, 0, -1, "120", 120.5, true],
        "activation_function":
            ["relu", "gelu", "gelu_python", "gelu_10", "silu", "swish", "quick_gelu", "tanh", "linear",
             "GELU_NEW", "", 1, null, ["gelu_new"]],
        "layer_norm_epsilon": [1e-6, 1e-12, 0, 1, "1e-5", null],
        "scale_attn_weights": [false, 0, 1, "true", null],
        "scale_attn_by_inverse_layer_idx": [true, 1, 0, "false", null],
        "is_causal": [false, "true"],
        "add_cross_attention": [true, 1, "false"],
        "is_encoder_decoder": [true, "false"],
        "tie_word_embeddings": [false, 1, "true", null],
        "pruned_heads": [{"0": [1]}, [0], "0", false],
        "per_layer_config": [{"1": {"n_head": 3}}],
        "quantization_config": [{"quant_method": "bitsandbytes", "load_in_8bit": true}, true],
        "transformers_weights": ["other.safetensors"],
        "peft_type": ["LORA"]
    }"#;
    let wrong: Map<String, Value> = serde_json::from_str(wrong).unwrap();
    for (key, values) in &wrong {
        for value in values.as_array().unwrap() {
            let folder = with_key(key, value);
            let config = folder.path().join("config.json");
            assert_refused(is_plain_gpt2(&folder), &config, &[key, &value.to_string()]);
        }
    }
}

/// With each of these, transformers 5.23 computes the same logits, but for rounding.
#[test]
fn a_config_json_that_asks_for_nothing_else() {
    let right = r#"{
        "activation_function":
            ["gelu_new", "gelu_fast", "gelu_accurate", "gelu_pytorch_tanh", "gelu_python_tanh"],
        "n_inner": [null, 120],
        "hidden_size": [30],
        "num_attention_heads": [5],
        "num_hidden_layers": [2],
        "max_position_embeddings": [19],
        "layer_norm_epsilon": [0.00001, 1e-5],
        "is_causal": [true],
        "pruned_heads": [null, {}],
        "per_layer_config": [null, {}],
        "quantization_config": [null],
        "reorder_and_upcast_attn": [true, false],
        "resid_pdrop": [0.9], "embd_pdrop": [0.9], "attn_pdrop": [0.9],
        "initializer_range": [5.0],
        "summary_type": ["first"], "summary_use_proj": [false], "summary_activation": ["tanh"],
        "summary_proj_to_labels": [false], "summary_first_dropout": [0.5],
        "use_cache": [false],
        "bos_token_id": [3], "eos_token_id": [4, [4, 5]], "pad_token_id": [5],
        "dtype": ["float32", "float16"], "torch_dtype": ["bfloat16"],
        "architectures": [null, ["GPT2Model"], ["GPT2DoubleHeadsModel"]],
        "task_specific_params": [{"text-generation": {"do_sample": true, "max_length": 50}}],
        "id2label": [{"0": "a"}], "problem_type": ["regression"],
        "n_ctx": [5], "is_decoder": [true], "chunk_size_feed_forward": [1], "torchscript": [true],
        "attn_implementation": ["eager"], "output_attentions": [true],
        "temperature": [0.7], "something_new": [{"a": [1, "b"]}]
    }"#;
    let right: Map<String, Value> = serde_json::from_str(right).unwrap();
    for (key, values) in &right {
        for value in values.as_array().unwrap() {
            let heads = is_plain_gpt2(&with_key(key, value));
            assert_eq!(heads.unwrap_or_else(|error| panic!("{key} {value}: {error:#}")), Some(5));
        }
    }
    for key in ["model_type", "activation_function", "layer_norm_epsilon", "scale_attn_weights"] {
        let folder = reconfigured(|config| drop(config.remove(key)));
        assert_eq!(is_plain_gpt2(&folder).unwrap(), Some(5), "without {key}");
    }
}

#[test]
fn the_number_of_heads_may_have_its_other_name_and_is_12_where_it_is_not_said() {
    let renamed = reconfigured(|config| {
        let heads = config.remove("n_head").unwrap();
        config.insert("num_attention_heads".into(), heads);
    });
    assert_eq!(is_plain_gpt2(&renamed).unwrap(), Some(5));
    let other = reconfigured(|config| {
        config.remove("n_embd");
        config.insert("hidden_size".into(), json!(60));
    });
    let config = other.path().join("config.json");
    assert_refused(is_plain_gpt2(&other), &config, &["hidden_size is 60", "it is 30"]);
    // transformers takes its default too.
    let unsaid = reconfigured(|config| drop(config.remove("n_head")));
    assert_eq!(is_plain_gpt2(&unsaid).unwrap(), Some(12));
    let twice = with_key("num_attention_heads", &json!(6));
    let words = ["n_head is 5", "num_attention_heads is 6"];
    assert_refused(is_plain_gpt2(&twice), &twice.path().join("config.json"), &words);
}

#[test]
fn a_value_without_end_is_cut_off() {
    let folder = with_key("activation_function", &json!("é".repeat(10_000)));
    let error = format!("{:#}", is_plain_gpt2(&folder).unwrap_err());
    assert!(error.contains("activation_function") && error.chars().count() < 400, "{error}");
}

#[test]
fn an_adapter_is_no_checkpoint() {
    let folder = with_key("n_head", &json!(5));
    fs::write(folder.path().join("adapter_config.json"), r#"{"peft_type": "LORA"}"#).unwrap();
    let words = ["adapter_config.json", "merge_and_unload"];
    assert_refused(Weights::open(folder.path()), folder.path(), &words);
    let model = folder.path().join("model.safetensors");
    assert_refused(Weights::open(&model), &model, &words);
    fs::remove_file(model).unwrap();
    assert_refused(Weights::open(folder.path()), folder.path(), &words);
}

fn floats(numbers: &[f32]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

#[test]
fn numbers_that_are_not_finite_are_refused_by_the_name_of_their_tensor() {
    let (nan, inf) = (f32::NAN, f32::INFINITY);
    for (numbers, counts) in [
        ([nan, 0.0, 1.0], "1 are NaN and 0 are infinite"),
        ([1.0, inf, -inf], "0 are NaN and 2 are infinite"),
        ([nan, -nan, -inf], "2 are NaN and 1 are infinite"),
        ([-inf, nan, 0.0], "1 are NaN and 1 are infinite"),
    ] {
        let header = format!(r#"{{"h.0.ln_1.bias":{}}}"#, entry("F32", "[3]", 0, 12));
        let folder = folder(&bytes(&header, &floats(&numbers)));
        let weights = Weights::open(folder.path()).unwrap();
        let path = folder.path().join("model.safetensors");
        let words = ["`h.0.ln_1.bias`", counts, "get the file again"];
        assert_refused(weights.tensor("h.0.ln_1.bias", &[3]), &path, &words);
    }
    // Not a number, infinity in half precision; infinity in bfloat16.
    for (dtype, bits) in [("F16", 0x7e00u16), ("F16", 0xfc00), ("BF16", 0x7f80)] {
        let header = format!(r#"{{"a":{}}}"#, entry(dtype, "[2]", 0, 4));
        let data = [[0; 2], bits.to_le_bytes()].concat();
        let folder = folder(&bytes(&header, &data));
        let weights = Weights::open(folder.path()).unwrap();
        let path = folder.path().join("model.safetensors");
        assert_refused(weights.tensor("a", &[2]), &path, &["`a`", "infinite"]);
    }
    // The largest numbers are numbers.
    let header = format!(r#"{{"a":{}}}"#, entry("F32", "[2]", 0, 8));
    let folder = folder(&bytes(&header, &floats(&[f32::MAX, f32::MIN])));
    assert!(Weights::open(folder.path()).unwrap().tensor("a", &[2]).is_ok());
}

/// A file with a `wte.weight` of two rows of two, and an `lm_head.weight`.
fn with_head(wte: [f32; 4], head: &[f32], shape: &str) -> TempDir {
    let end = 16 + 4 * head.len();
    let (a, b) = (entry("F32", "[2,2]", 0, 16), entry("F32", shape, 16, end));
    let header = format!(r#"{{"transformer.wte.weight":{a},"lm_head.weight":{b}}}"#);
    folder(&bytes(&header, &floats(&[&wte, head].concat())))
}

#[test]
fn the_second_name_of_the_matrix_that_reads_and_writes() {
    let wte = [1.0, 2.0, 3.0, 4.0];
    let check = |folder: &TempDir| Weights::open(folder.path()).unwrap().expect_tied();
    let fits = |head: &[f32], shape: &str| check(&with_head(wte, head, shape)).unwrap();
    fits(&wte, "[2,2]");
    fits(&[1.0, 2.0, 3.0, 4.0, 0.0, 0.0], "[3,2]"); // padded
    fits(&[1.0, 2.0, 3.0, 4.0, 0.0, -0.0, 0.0, 0.0], "[4,2]");
    let refused = |wte: [f32; 4], head: &[f32], shape: &str, words: &[&str]| {
        let folder = with_head(wte, head, shape);
        assert_refused(check(&folder), &folder.path().join("model.safetensors"), words);
    };
    let other = ["`lm_head.weight` is not `wte.weight`", "one matrix"];
    refused(wte, &[1.0, 2.0, 3.0, 5.0], "[2,2]", &other);
    refused(wte, &[1.0, 2.0, 3.0, 5.0, 0.0, 0.0], "[3,2]", &other);
    let padded = ["`lm_head.weight` has 3 rows", "1 more than `wte.weight`", "not 0"];
    refused(wte, &[1.0, 2.0, 3.0, 4.0, 0.0, 1e-9], "[3,2]", &padded);
    for (head, shape, shown) in [
        (&wte[..2], "[1,2]", "[1, 2]"),
        (&wte[..], "[1,4]", "[1, 4]"),
        (&wte[..], "[4]", "[4]"),
        (&[0.0; 12], "[6,2]", "[6, 2]"),
    ] {
        refused(wte, head, shape, &["`lm_head.weight`", shown, "`wte.weight` [2, 2]"]);
    }
    // Two matrices that are equal but for NaN would never be equal.
    let nan = [1.0, f32::NAN, 3.0, 4.0];
    refused(wte, &nan, "[2,2]", &["`lm_head.weight`, 1 are NaN"]);
    refused(nan, &wte, "[2,2]", &["`wte.weight`, 1 are NaN"]);
    refused(nan, &nan, "[2,2]", &["1 are NaN"]);

    let untied = with_head(wte, &[1.0, 2.0, 3.0, 5.0], "[2,2]");
    fs::write(untied.path().join("config.json"), r#"{"tie_word_embeddings": false}"#).unwrap();
    let model = untied.path().join("model.safetensors");
    assert_refused(check(&untied), &model, &["tie_word_embeddings is false", other[0]]);
    let untied = with_head(wte, &wte, "[2,2]");
    fs::write(untied.path().join("config.json"), r#"{"tie_word_embeddings": false}"#).unwrap();
    check(&untied).unwrap();
}

/// accelerate's `save_model` keeps one of two names, and transformers reads such a file.
#[test]
fn the_matrix_may_have_its_second_name_alone() {
    let header = format!(r#"{{"lm_head.weight":{}}}"#, entry("F32", "[1,2]", 0, 8));
    let folder = folder(&bytes(&header, &floats(&[1.0, 2.0])));
    let weights = Weights::open(folder.path()).unwrap();
    weights.expect(&[("wte.weight".into(), vec![1, 2])]).unwrap();
    weights.expect_tied().unwrap();
    assert_eq!(weights.matrix("transformer.wte.weight").unwrap(), (1, 2));
    let expected = Tensor::from_slice(&[1f32, 2.0]).view([1, 2]);
    assert!(same(&weights.tensor("wte.weight", &[1, 2]).unwrap(), &expected));
    // Where the two are said to differ, half of the model is missing.
    let config = folder.path().join("config.json");
    fs::write(&config, r#"{"tie_word_embeddings": false}"#).unwrap();
    let words = ["tie_word_embeddings is false", "only one of"];
    assert_refused(Weights::open(folder.path()).unwrap().expect_tied(), &config, &words);
}

/// A copy of the fixture whose tensors are in three files.
fn sharded() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for file in fs::read_dir(fixture("gpt2-odd-sharded")).unwrap().flatten() {
        fs::copy(file.path(), folder.path().join(file.file_name())).unwrap();
    }
    folder
}

const INDEX: &str = "model.safetensors.index.json";

/// What a checkpoint whose index is changed is refused for; the sentence begins with the file `named`.
#[track_caller]
fn assert_index_refused(
    change: impl FnOnce(&mut Map<String, Value>),
    named: &str,
    words: &[&str],
) -> TempDir {
    let folder = sharded();
    let path = folder.path().join(INDEX);
    let mut index: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(index["weight_map"].as_object_mut().unwrap());
    fs::write(&path, index.to_string()).unwrap();
    assert_refused(Weights::open(folder.path()), &folder.path().join(named), words);
    assert_refused(Weights::open(&path), &folder.path().join(named), words);
    folder
}

const FILES: [&str; 3] = [
    "model-00001-of-00003.safetensors",
    "model-00002-of-00003.safetensors",
    "model-00003-of-00003.safetensors",
];

#[test]
fn a_checkpoint_in_several_files_is_the_one_in_a_single_file() {
    let single = Weights::open(fixture("gpt2-odd")).unwrap();
    for path in [fixture("gpt2-odd-sharded"), fixture("gpt2-odd-sharded").join(INDEX)] {
        let several = Weights::open(path).unwrap();
        assert_eq!(shapes(&several), shapes(&single));
        several.expect(&shapes(&single)).unwrap();
        several.expect_plain_gpt2().unwrap();
        assert_eq!(several.config("n_head").unwrap(), Some(5));
        for (name, shape) in shapes(&single) {
            let expected = single.tensor(&name, &shape).unwrap();
            assert!(same(&several.tensor(&name, &shape).unwrap(), &expected), "{name}");
        }
    }
    // Faults are told of the file that has them.
    let weights = Weights::open(fixture("gpt2-odd-sharded")).unwrap();
    let of = |name: &str| fixture("gpt2-odd-sharded").join(name);
    assert_refused(weights.tensor("h.0.ln_1.bias", &[31]), &of(FILES[0]), &["`h.0.ln_1.bias`"]);
    assert_refused(weights.tensor("h.9.ln_1.bias", &[30]), &of(INDEX), &["`h.9.ln_1.bias`"]);
}

#[test]
fn beside_a_single_file_the_index_is_not_read() {
    let folder = sharded();
    fs::copy(
        fixture("gpt2-tiny").join("model.safetensors"),
        folder.path().join("model.safetensors"),
    )
    .unwrap();
    fs::write(folder.path().join(INDEX), "{").unwrap();
    assert_eq!(Weights::open(folder.path()).unwrap().shape("wte.weight"), Some(&[101, 36][..]));
}

#[test]
fn an_index_that_is_none() {
    let texts = [
        "",
        "{",
        "[]",
        "{}",
        r#"{"metadata": {}}"#,
        r#"{"weight_map": null}"#,
        r#"{"weight_map": ["a"]}"#,
        r#"{"weight_map": {"a": 1}}"#,
        "\u{1}",
    ];
    for text in texts {
        let folder = sharded();
        let index = folder.path().join(INDEX);
        fs::write(&index, text).unwrap();
        assert_refused(Weights::open(folder.path()), &index, &["no index", "from the same place"]);
    }
    assert_index_refused(Map::clear, INDEX, &["lists no tensors"]);
}

#[test]
fn an_index_that_leaves_its_folder() {
    let names = ["../x", "/etc/passwd", "a/b", "./x", "..", ".", "", "../x.safetensors"];
    for name in names {
        let change = |map: &mut Map<String, Value>| drop(map.insert("a".into(), json!(name)));
        assert_index_refused(change, INDEX, &[&format!("{name:?}"), "no file in its folder"]);
    }
}

#[test]
fn an_index_and_files_that_contradict_each_other() {
    let to = |name: &'static str, file: &'static str| {
        move |map: &mut Map<String, Value>| drop(map.insert(name.into(), json!(file)))
    };
    let wte = "transformer.wte.weight"; // is in the third file
    let words = ["`wte.weight`", FILES[0], "there it is not", "again"];
    assert_index_refused(to(wte, FILES[0]), INDEX, &words);
    let words = ["\"missing.safetensors\"", "not there", "get it too"];
    assert_index_refused(to(wte, "missing.safetensors"), INDEX, &words);
    assert_index_refused(to("h.7.x", FILES[0]), INDEX, &["`h.7.x`", FILES[0], "there it is not"]);
    let unlisted = |map: &mut Map<String, Value>| drop(map.remove("transformer.ln_f.bias"));
    assert_index_refused(unlisted, FILES[2], &["`ln_f.bias`", "not listed in"]);
    assert_index_refused(to("a\nb", FILES[0]), INDEX, &[r"`a\nb`"]);
    assert_index_refused(to("a", "a\nb"), INDEX, &[r#""a\nb""#]);

    // A file too few, or one that is damaged.
    let folder = sharded();
    fs::remove_file(folder.path().join(FILES[1])).unwrap();
    let index = folder.path().join(INDEX);
    assert_refused(Weights::open(folder.path()), &index, &[FILES[1], "not there"]);
    let second = folder.path().join(FILES[1]);
    fs::write(&second, [1; 7]).unwrap();
    assert_refused(Weights::open(folder.path()), &second, &["7 bytes", "get the file again"]);
    // The second file is the first once more.
    fs::copy(folder.path().join(FILES[0]), &second).unwrap();
    assert_refused(Weights::open(folder.path()), &second, &["is in", FILES[0], "too"]);
}

#[test]
fn one_of_several_files_or_files_without_their_index() {
    let folder = sharded();
    let first = folder.path().join(FILES[0]);
    assert_refused(Weights::open(&first), &first, &["one of several", "folder", INDEX]);
    fs::remove_file(folder.path().join(INDEX)).unwrap();
    assert_refused(Weights::open(folder.path()), folder.path(), &["several files", INDEX]);
    let pickles = tempfile::tempdir().unwrap();
    fs::write(pickles.path().join("pytorch_model.bin.index.json"), "{}").unwrap();
    let words = ["pytorch_model.bin", "pickle", "save_pretrained"];
    assert_refused(Weights::open(pickles.path()), pickles.path(), &words);
}

/// GPT-2's tokens as its `vocab.json` spells them, by OpenAI's own rule: each byte that is no printable
/// character gets the next character from 256 on.
fn gpt2_vocabulary() -> Map<String, Value> {
    let tokenizer = tiktoken_rs::r50k_base().unwrap();
    let printable = |byte: &u32| {
        (33..127).contains(byte) || (161..173).contains(byte) || (174..256).contains(byte)
    };
    let mut spelling: Vec<u32> = (0..256).collect();
    for (n, byte) in (0..256).filter(|byte| !printable(byte)).enumerate() {
        spelling[byte as usize] = 256 + n as u32;
    }
    let spell = |byte: u8| char::from_u32(spelling[usize::from(byte)]).unwrap();
    let token = |id| tokenizer.decode_bytes(&[id]).unwrap().into_iter().map(spell).collect();
    let vocabulary: Map<_, _> = (0..50_257).map(|id| (token(id), json!(id))).collect();
    // A few that anyone can look up in the file.
    for (token, id) in [("!", 0), ("Ċ", 198), ("Ġ", 220), ("Ġthe", 262), ("âĢ", 447)] {
        assert_eq!(vocabulary[token], id);
    }
    vocabulary
}

/// A folder with one more file than the weights.
fn beside(name: &str, text: impl AsRef<[u8]>) -> TempDir {
    let folder = folder(&one("F32", "[1]", 4));
    fs::write(folder.path().join(name), text).unwrap();
    folder
}

#[test]
fn a_vocabulary_smaller_than_gpt2s() {
    let folder = folder(&one("F32", "[1]", 4));
    for size in [50_257, 50_260, 50_304] {
        expect_gpt2_tokens(folder.path(), size).unwrap();
        expect_gpt2_tokens(&folder.path().join("model.safetensors"), size).unwrap();
    }
    for size in [1, 21_128, 50_256] {
        let refused = expect_gpt2_tokens(folder.path(), size);
        assert_refused(refused, folder.path(), &[&size.to_string(), "50257"]);
    }
}

#[test]
fn gpt2s_vocabulary_in_every_form_with_tokens_added() {
    let gpt2 = gpt2_vocabulary();
    let mut longer = gpt2.clone();
    longer.extend([("<|user|>".to_owned(), json!(50_257)), ("[PAD]".to_owned(), json!(50_258))]);
    let mut apart = gpt2.clone();
    apart.remove("<|endoftext|>");
    let end = json!([{"id": 50_256, "content": "<|endoftext|>", "special": true}]);
    for (name, text) in [
        ("vocab.json", json!(gpt2)),
        ("vocab.json", json!(longer)),
        ("vocab.json", json!(apart)),
        ("encoder.json", json!(gpt2)),
        ("tokenizer.json", json!({"model": {"vocab": gpt2, "merges": []}})),
        ("tokenizer.json", json!({"model": {"type": "BPE", "vocab": longer}})),
        ("tokenizer.json", json!({"model": {"type": "BPE", "vocab": apart}, "added_tokens": end})),
    ] {
        let folder = beside(name, text.to_string());
        fs::write(folder.path().join("added_tokens.json"), r#"{"<|user|>": 50257}"#).unwrap();
        expect_gpt2_tokens(folder.path(), 50_260).unwrap();
        expect_gpt2_tokens(&folder.path().join("model.safetensors"), 50_260).unwrap();
    }
}

#[test]
fn a_vocabulary_of_other_words() {
    let refused = |name: &str, text: &[u8], words: &[&str]| {
        let folder = beside(name, text);
        let path = folder.path().join(name);
        assert_refused(expect_gpt2_tokens(folder.path(), 60_000), &path, words);
        let model = folder.path().join("model.safetensors");
        assert_refused(expect_gpt2_tokens(&model, 60_000), &path, words);
    };
    let gpt2 = gpt2_vocabulary();
    let swapped = |a: &str, b: &str| {
        let mut vocabulary = gpt2.clone();
        let (id_a, id_b) = (vocabulary[a].clone(), vocabulary[b].clone());
        vocabulary.extend([(a.to_owned(), id_b), (b.to_owned(), id_a)]);
        json!(vocabulary).to_string().into_bytes()
    };
    let words = ["token 257", "\"Ġthe\"", "GPT-2's is \"Ġa\"", "another tokenizer"];
    refused("vocab.json", &swapped("Ġthe", "Ġa"), &words);
    let mut german = gpt2.clone();
    german.remove("Ġthe");
    german.insert("Ġder".into(), json!(262));
    let words = ["token 262", "\"Ġder\"", "\"Ġthe\"", "another tokenizer"];
    refused("vocab.json", json!(german).to_string().as_bytes(), &words);
    let tokenizer = json!({"model": {"type": "BPE", "vocab": german}}).to_string();
    refused("tokenizer.json", tokenizer.as_bytes(), &words);
    refused("encoder.json", br#"{"!": 0}"#, &["no token 1", "GPT-2's is \"\\\"\""]);
    refused("vocab.json", b"{}", &["no token 0", "\"!\""]);
    let mut last = gpt2.clone();
    last.remove("<|endoftext|>");
    last.insert("</s>".into(), json!(50_256));
    let words = ["token 50256", "\"</s>\"", "\"<|endoftext|>\""];
    refused("vocab.json", json!(last).to_string().as_bytes(), &words);
    last.remove("</s>");
    let added = json!([{"id": 50_256, "content": "</s>"}]);
    let tokenizer = json!({"model": {"vocab": last}, "added_tokens": added}).to_string();
    refused("tokenizer.json", tokenizer.as_bytes(), &words);

    refused("vocab.txt", "[PAD]\n[unused1]\n的\n".as_bytes(), &["token 0", "[PAD]", "\"!\""]);
    let bert = json!({"model": {"type": "WordPiece", "vocab": {"[PAD]": 0, "[UNK]": 1}}});
    refused("tokenizer.json", bert.to_string().as_bytes(), &["token 0", "[PAD]"]);
    let t5 = json!({"model": {"type": "Unigram", "vocab": [["<pad>", 0.0], ["▁the", -3.5]]}});
    refused("tokenizer.json", t5.to_string().as_bytes(), &["token 0", "<pad>"]);
    let words = json!({"model": {"type": "WordLevel", "vocab": gpt2}});
    refused("tokenizer.json", words.to_string().as_bytes(), &["WordLevel", "BPE"]);
    for name in ["spiece.model", "sentencepiece.bpe.model", "tokenizer.model", "spm.model"] {
        refused(name, b"\x0a\x0e", &["sentencepiece", "another tokenizer"]);
    }
    let long = json!({"x\n".repeat(5000): 0});
    refused("vocab.json", long.to_string().as_bytes(), &["token 0", r"x\nx\n"]);
}

#[test]
fn a_tokenizer_file_that_is_none() {
    for name in ["vocab.json", "encoder.json", "tokenizer.json"] {
        for text in
            ["", "{", "[1, 2]", r#"{"a": -1}"#, r#"{"a": "b"}"#, r#"{"model": {}}"#, "\u{1}"]
        {
            let folder = beside(name, text);
            let refused = expect_gpt2_tokens(folder.path(), 50_257);
            assert_refused(refused, &folder.path().join(name), &["JSON", "from the same place"]);
        }
    }
    let folder = beside("vocab.json", json!(gpt2_vocabulary()).to_string());
    let added = folder.path().join("added_tokens.json");
    fs::write(&added, "{").unwrap();
    assert_refused(expect_gpt2_tokens(folder.path(), 50_257), &added, &["JSON"]);
}
