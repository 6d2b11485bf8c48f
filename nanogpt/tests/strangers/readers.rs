//! Everything here that reads a file which may be a stranger's, each reader by its name. It may refuse what it reads; it
//! must not panic, and not take much more memory than the file. `tests/strangers.rs` gives them damaged files, and the
//! fuzzer of `nanogpt/fuzz` whatever it finds.
//!
//! Where a format has two files, what a reader is given is the first, a byte 0, and the second.

use anyhow::Result;
use lab::{ShardWriter, Shards, Tokenizer, questions};
use nanogpt::{
    Gpt, GptConfig, TrainConfig,
    checkpoint::{Run, Saved, model_of},
    export::export,
    import::TorchCheckpoint,
    pickle::Pickle,
    source,
};
use serde_json::Value;
use std::{
    fs,
    io::{Cursor, Read, Write},
    path::Path,
};
use tch::{Device, Tensor};
use tempfile::TempDir;
use zip::{ZipArchive, ZipWriter, write::SimpleFileOptions};

pub type Reader = fn(&[u8]) -> Result<()>;

pub const READERS: [(&str, Reader); 11] = [
    ("checkpoint", checkpoint),
    ("hugging_face", hugging_face),
    ("index", index),
    ("config", config),
    ("vocabulary", vocabulary),
    ("text", text),
    ("shard", shard),
    ("questions", questions_file),
    ("ckpt", ckpt),
    ("ckpt_pickle", ckpt_pickle),
    ("pickle", pickle),
];

const CKPT: &[u8] = include_bytes!("../fixtures/ckpt.pt");

/// A folder that goes away again, in memory where Linux has that.
fn folder() -> TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { TempDir::new_in(memory) } else { TempDir::new() }.unwrap()
}

fn two(bytes: &[u8]) -> (&[u8], &[u8]) {
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    (&bytes[..end], bytes.get(end + 1..).unwrap_or_default())
}

/// A checkpoint's JSON and its tensors. Where the former is JSON, it gets the right length and checksum, which keep
/// accidents out and nobody who means it.
fn checkpoint(bytes: &[u8]) -> Result<()> {
    let (json, tensors) = two(bytes);
    let json = match serde_json::from_slice(json) {
        Ok(Value::Object(mut map)) => {
            map.insert("bytes".into(), tensors.len().into());
            map.insert("crc32".into(), crc32fast::hash(tensors).into());
            serde_json::to_vec(&map).unwrap()
        }
        _ => json.to_vec(),
    };
    let folder = folder();
    let run = Run::new(folder.path(), 1);
    fs::create_dir(run.best.folder()).unwrap();
    fs::write(run.best.folder().join("step_000001.json"), json).unwrap();
    fs::write(run.best.tensors(1), tensors).unwrap();
    let checkpoint = run.best.read::<Saved>(1)?;
    let model = model_of(&checkpoint, Device::Cpu)?;
    checkpoint.copy_into(&model.named_parameters())?;
    let _ = model.forward(&Tensor::zeros([1, 1], (tch::Kind::Int64, Device::Cpu)), false);
    Ok(())
}

/// A folder of Hugging Face's: `config.json` and `model.safetensors`.
fn hugging_face(bytes: &[u8]) -> Result<()> {
    let (config, weights) = two(bytes);
    let folder = folder();
    fs::write(folder.path().join("config.json"), config).unwrap();
    fs::write(folder.path().join("model.safetensors"), weights).unwrap();
    Gpt::from_pretrained(folder.path(), 0.0, Device::Cpu)?;
    Ok(())
}

/// The list of the files of a large model, in a folder without them.
fn index(bytes: &[u8]) -> Result<()> {
    let folder = folder();
    fs::write(folder.path().join("model.safetensors.index.json"), bytes).unwrap();
    source::open(folder.path().to_str().unwrap(), Device::Cpu)?;
    Ok(())
}

fn config(bytes: &[u8]) -> Result<()> {
    let folder = folder();
    let path = folder.path().join("config.toml");
    fs::write(&path, bytes).unwrap();
    let config = TrainConfig::load(Some(&path), &[])?;
    config.schedule().lr(config.max_iters / 2);
    config.gpt(100).n_params(false);
    Ok(())
}

fn vocabulary(bytes: &[u8]) -> Result<()> {
    let folder = folder();
    let path = folder.path().join("vocab.tiktoken");
    fs::write(&path, bytes).unwrap();
    let tokenizer = Tokenizer::open(&path)?;
    let text = "A fox, 狐 <|endoftext|>";
    if tokenizer.expect_known(text).is_ok() {
        assert_eq!(tokenizer.decode(&tokenizer.encode(text)), text);
    }
    let all: Vec<i64> = (0..tokenizer.n_vocab()).collect();
    tokenizer.decode(&all);
    fs::write(&path, tokenizer.to_file()).unwrap();
    let again = Tokenizer::open(&path).expect("what it has written itself");
    assert_eq!(again.fingerprint(), tokenizer.fingerprint());
    Ok(())
}

/// A text to be cut into tokens.
fn text(bytes: &[u8]) -> Result<()> {
    thread_local! {
        static FABLES: Tokenizer = Tokenizer::load("fables").unwrap();
    }
    let text = String::from_utf8_lossy(bytes);
    FABLES.with(|tokenizer| {
        assert_eq!(tokenizer.decode(&tokenizer.encode(&text)), text);
        let document = tokenizer.encode_document(&text);
        let ids: Vec<i64> = document[1..].iter().map(|&id| id.into()).collect();
        assert_eq!(tokenizer.decode(&ids), text);
    });
    Ok(())
}

/// The `dataset.json` of a data set, if it has one, and a shard.
fn shard(bytes: &[u8]) -> Result<()> {
    let (dataset, shard) = two(bytes);
    let folder = folder();
    if !dataset.is_empty() {
        fs::write(folder.path().join(ShardWriter::DATASET), dataset).unwrap();
    }
    fs::write(folder.path().join("test_val_000000.npy"), shard).unwrap();
    let tokenizer = Tokenizer::of_characters("characters", 'a'..='z')?;
    Shards::tokenizer_of(folder.path())?;
    let shards = Shards::open(folder.path(), "val", &tokenizer)?;
    shards.chars_per_token();
    let tokens = shards.read(&[0], 0, shards.total())?;
    assert!(tokens.iter().all(|token| (0..26).contains(token)));
    Ok(())
}

fn questions_file(bytes: &[u8]) -> Result<()> {
    let folder = folder();
    let path = folder.path().join("questions.jsonl");
    fs::write(&path, bytes).unwrap();
    let questions = questions::load(&path)?;
    assert!(questions.iter().all(|question| question.label < 4));
    Ok(())
}

/// nanoGPT's checkpoint.
fn ckpt(bytes: &[u8]) -> Result<()> {
    let folder = folder();
    let path = folder.path().join("ckpt.pt");
    fs::write(&path, bytes).unwrap();
    let checkpoint = TorchCheckpoint::open(&path)?;
    let tokenizer = Tokenizer::of_characters("characters", ('a'..).take(17))?;
    checkpoint.write_run(&tokenizer, &folder.path().join("out"))
}

/// The same with another pickle in it, and right checksums.
fn ckpt_pickle(bytes: &[u8]) -> Result<()> {
    let mut zip = ZipArchive::new(Cursor::new(CKPT)).unwrap();
    let mut out = ZipWriter::new(Cursor::new(Vec::new()));
    for i in 0..zip.len() {
        let mut entry = zip.by_index(i).unwrap();
        out.start_file(entry.name(), SimpleFileOptions::default().compression_method(STORED))
            .unwrap();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        let is_pickle = entry.name().ends_with("data.pkl");
        out.write_all(if is_pickle { bytes } else { &content }).unwrap();
    }
    ckpt(&out.finish().unwrap().into_inner())
}

const STORED: zip::CompressionMethod = zip::CompressionMethod::Stored;

fn pickle(bytes: &[u8]) -> Result<()> {
    let pickle = Pickle::read(bytes)?;
    pickle.get(&pickle.root, "model");
    Ok(())
}

/// A small whole file for each reader.
pub fn whole(name: &str) -> Vec<u8> {
    let folder = folder();
    let sizes = (4, 5, 1, 2, 4);
    let (block_size, vocab_size, n_layer, n_head, n_embd) = sizes;
    let config = GptConfig {
        block_size,
        vocab_size,
        n_layer,
        n_head,
        n_embd,
        dropout: 0.0,
        bias: true,
        ..GptConfig::default()
    };
    let model = || Gpt::new(&config, Device::Cpu).unwrap();
    let file = |name: &str| fs::read(folder.path().join(name)).unwrap();
    let characters = |n| Tokenizer::of_characters("characters", ('a'..).take(n)).unwrap();
    match name {
        "checkpoint" => {
            let run = Run::new(folder.path(), 1);
            let saved = Saved::new(&config, 1, Some(1.5));
            run.best.save(1, &saved, &model().named_parameters()).unwrap();
            [file("best/step_000001.json"), vec![0], file("best/step_000001.safetensors")].concat()
        }
        "hugging_face" => {
            export(&model(), &characters(5), &folder.path().join("out")).unwrap();
            [file("out/config.json"), vec![0], file("out/model.safetensors")].concat()
        }
        "index" => br#"{"metadata": {"total_size": 8}, "weight_map": {"wte.weight": "a.safetensors", "h.0.ln_1.weight": "b.safetensors"}}"#.into(),
        "config" => toml::to_string(&TrainConfig::default()).unwrap().into_bytes(),
        "vocabulary" => Tokenizer::load("fables").unwrap().to_file().into_bytes(),
        "text" => "It's a fox,  狐 🦊!\r\n\n 2026 <|endoftext|> Füchse e\u{301}\t".into(),
        "shard" => {
            let tokenizer = characters(26);
            let mut writer = ShardWriter::new("test", folder.path(), 100, &tokenizer).unwrap();
            writer.begin_split("val").unwrap();
            writer.push(&tokenizer.encode_document("thequickbrownfox"), 16).unwrap();
            writer.finish().unwrap();
            [file("dataset.json"), vec![0], file("test_val_000000.npy")].concat()
        }
        "questions" => br#"{"ctx": "A fox", "endings": ["a", "b", "c", "d"], "label": "3"}"#.into(),
        "ckpt" => CKPT.into(),
        "ckpt_pickle" | "pickle" => {
            let mut zip = ZipArchive::new(Cursor::new(CKPT)).unwrap();
            let mut pickle = Vec::new();
            zip.by_name("ckpt/data.pkl").unwrap().read_to_end(&mut pickle).unwrap();
            pickle
        }
        other => panic!("there is no reader {other}"),
    }
}
