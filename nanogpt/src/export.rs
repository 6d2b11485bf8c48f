//! A model as a folder that Hugging Face's libraries load.
//!
//! ```text
//! config.json             the sizes
//! model.safetensors       the weights, under Hugging Face's names
//! tokenizer.json          the vocabulary, and how text is cut
//! tokenizer_config.json
//! vocab.tiktoken          the vocabulary once more, by which this crate reads the folder
//! ```

use crate::{
    data::VOCABULARY,
    gpt::{Gpt, GptConfig},
};
use anyhow::{Result, ensure};
use lab::{END_OF_TEXT, Tokenizer, byte_spelling, is_transposed, write_safetensors};
use serde_json::{Map, Value, json};
use std::{
    collections::{BTreeMap, HashMap},
    fs,
    path::{Path, PathBuf},
};
use tch::{Device, Kind, Tensor};

/// What is written, all or nothing.
const FILES: [&str; 5] =
    ["model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json", VOCABULARY];

/// Writes a model and its vocabulary into a folder, which is made. `transformers` computes the same logits of it and
/// cuts text into the same tokens.
///
/// GPT-2 always has biases: those that the model has not are zeros. Rows that pad the vocabulary are left out. Weights
/// are float32.
///
/// # Errors
/// If the folder has something in it, or cannot be written, say since the disk is full; then nothing is left in it.
pub fn export(model: &Gpt, tokenizer: &Tokenizer, folder: &Path) -> Result<()> {
    let is_empty = || Ok::<_, std::io::Error>(fs::read_dir(folder)?.next().is_none());
    ensure!(
        !folder.exists() || is_empty().unwrap_or(false),
        "{} is there and is no empty folder: choose another one",
        folder.display()
    );
    let GptConfig { rope, bigram, .. } = model.config;
    ensure!(
        !rope && !bigram,
        "a GPT-2 of Hugging Face's has no rope and no bigram, and this model was trained with them"
    );
    write_files(model, tokenizer, &FILES.map(|name| folder.join(name))).inspect_err(|_| {
        for name in FILES {
            let _ = fs::remove_file(folder.join(name)); // it may not have come to that one
        }
    })
}

fn write_files(model: &Gpt, tokenizer: &Tokenizer, paths: &[PathBuf; 5]) -> Result<()> {
    let [weights, sizes, tokens, class, vocabulary] = paths;
    let config = GptConfig { vocab_size: tokenizer.n_vocab(), bias: true, ..model.config.clone() };
    write_weights(model, &config, weights)?;
    write_json(sizes, &config_json(&config, tokenizer))?;
    let of_tokenizer = match tokenizer.is_of_characters() {
        true => characters_json(tokenizer),
        false => pairs_json(tokenizer),
    };
    write_json(tokens, &of_tokenizer)?;
    write_json(class, &class_json(&config, tokenizer))?;
    let text = tokenizer.to_file();
    files::write_atomically(vocabulary, |file| Ok(file.write_all(text.as_bytes())?))
}

fn write_json(path: &Path, value: &Value) -> Result<()> {
    files::write_atomically(path, |file| Ok(serde_json::to_writer_pretty(file, value)?))
}

/// Under Hugging Face's names, and of the sizes that it is told of: without the rows that no token has, and with the
/// biases that the model may lack.
fn write_weights(model: &Gpt, config: &GptConfig, path: &Path) -> Result<()> {
    let there: BTreeMap<String, Tensor> = model.named_parameters().into_iter().collect();
    let tensors: Vec<(String, Tensor)> = config
        .shapes()
        .map(|(name, shape)| {
            let tensor = match there.get(&name) {
                Some(tensor) => tensor.narrow(0, 0, shape[0]),
                None => Tensor::zeros(shape, (Kind::Float, Device::Cpu)),
            };
            let tensor = if is_transposed(&name) { tensor.tr() } else { tensor };
            (format!("transformer.{name}"), tensor)
        })
        .collect();
    files::write_atomically(path, |file| write_safetensors(file, &tensors))
}

fn config_json(config: &GptConfig, tokenizer: &Tokenizer) -> Value {
    let end = tokenizer.end_of_text();
    json!({
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "activation_function": "gelu_new",
        "layer_norm_epsilon": 1e-5,
        "n_positions": config.block_size,
        "n_ctx": config.block_size,
        "n_embd": config.n_embd,
        "n_head": config.n_head,
        "n_inner": null,
        "n_layer": config.n_layer,
        "vocab_size": config.vocab_size,
        "attn_pdrop": config.dropout,
        "embd_pdrop": config.dropout,
        "resid_pdrop": config.dropout,
        "tie_word_embeddings": true,
        "torch_dtype": "float32",
        "bos_token_id": end,
        "eos_token_id": end,
    })
}

fn class_json(config: &GptConfig, tokenizer: &Tokenizer) -> Value {
    let end = tokenizer.end_of_text().map(|_| END_OF_TEXT);
    json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": config.block_size,
        "clean_up_tokenization_spaces": false,
        "bos_token": end,
        "eos_token": end,
    })
}

/// Byte pairs. tiktoken's format has the tokens and their order, and merges whatever two pieces make a token, the
/// token with the lowest id first; here all such pairs are written out.
fn pairs_json(tokenizer: &Tokenizer) -> Value {
    let spelling = byte_spelling();
    let spelled = |bytes: &[u8]| -> String {
        bytes.iter().map(|&byte| spelling[usize::from(byte)]).collect()
    };
    let is_text = |id: &i64| Some(*id) != tokenizer.end_of_text();
    let tokens: Vec<(i64, Vec<u8>)> =
        (0..tokenizer.n_vocab()).filter(is_text).map(|id| (id, tokenizer.bytes(id))).collect();
    let ids: HashMap<&[u8], i64> = tokens.iter().map(|(id, token)| (&token[..], *id)).collect();
    let mut merges = Vec::new();
    for (_, token) in &tokens {
        let splits = (1..token.len()).map(|at| token.split_at(at));
        let both = splits.filter(|(a, b)| ids.contains_key(a) && ids.contains_key(b));
        merges.extend(both.map(|(a, b)| format!("{} {}", spelled(a), spelled(b))));
    }
    let mut vocabulary: Map<String, Value> =
        tokens.iter().map(|(id, token)| (spelled(token), json!(id))).collect();
    let mut added = Vec::new();
    if let Some(id) = tokenizer.end_of_text() {
        vocabulary.insert(END_OF_TEXT.into(), json!(id));
        added.push(json!({
            "id": id, "content": END_OF_TEXT, "special": true, "normalized": false,
            "single_word": false, "lstrip": false, "rstrip": false,
        }));
    }
    let bytes = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    let model = json!({
        "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": "",
        "end_of_word_suffix": "", "fuse_unk": false, "byte_fallback": false,
        "ignore_merges": true, // a piece that is a token is taken whole, as tiktoken does
        "vocab": vocabulary, "merges": merges,
    });
    tokenizer_json(added, bytes.clone(), bytes, model)
}

/// Each character by itself. One that is not among the tokens is an error there too.
fn characters_json(tokenizer: &Tokenizer) -> Value {
    let token = |id| (String::from_utf8_lossy(&tokenizer.bytes(id)).into_owned(), json!(id));
    let vocabulary: Map<String, Value> = (0..tokenizer.n_vocab()).map(token).collect();
    let cut = json!({
        "type": "Split", "pattern": {"Regex": r"[\s\S]"}, "behavior": "Isolated", "invert": false,
    });
    let model = json!({"type": "WordLevel", "vocab": vocabulary, "unk_token": "<none>"});
    tokenizer_json(Vec::new(), cut, json!({"type": "Fuse"}), model)
}

fn tokenizer_json(added: Vec<Value>, cut: Value, join: Value, model: Value) -> Value {
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added,
        "normalizer": null, "pre_tokenizer": cut, "post_processor": null, "decoder": join,
        "model": model,
    })
}
