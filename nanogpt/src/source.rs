//! Where a model comes from: a run of ours, a folder of Hugging Face's, or one of OpenAI's names.

use crate::{
    checkpoint::{Run, model_of, sizes_of},
    data::{Dataset, VOCABULARY},
    gpt::{Gpt, GptConfig},
};
use anyhow::{Context, Result, ensure};
use lab::{Gpt2Sizes, Tokenizer, Weights, expect_gpt2_tokens, grouped};
use std::{
    fs,
    path::{Path, PathBuf},
};
use tch::Device;

/// OpenAI's models, as `cargo run -p data` calls them too: name, `n_layer`, `n_head`, `n_embd`.
const PRETRAINED: [(&str, i64, i64, i64); 4] = [
    ("gpt2", 12, 12, 768),
    ("gpt2-medium", 24, 16, 1024),
    ("gpt2-large", 36, 20, 1280),
    ("gpt2-xl", 48, 25, 1600),
];

fn is_pretrained(from: &str) -> bool {
    PRETRAINED.iter().any(|(name, ..)| *name == from)
}

/// The model and the vocabulary that `from` names: `gpt2` and its larger sisters (in the folder `data`), the folder of a
/// run, or a folder or file of Hugging Face's.
///
/// # Errors
/// One sentence that says what is missing or damaged.
pub fn open(from: &str, device: Device) -> Result<(Gpt, Tokenizer)> {
    let path = path_of(from)?;
    if is_run(&path) {
        let run = Run::new(&path, 1);
        let checkpoint = run.for_use()?;
        let model = model_of(&checkpoint, device).with_context(|| {
            format!("the checkpoint of step {} in {}", checkpoint.step, path.display())
        })?;
        let tokenizer = run.tokenizer()?;
        expect_room(&model, &tokenizer)?;
        return Ok((model, tokenizer));
    }
    let model = Gpt::from_pretrained(&path, 0.0, device)?;
    let folder = if path.is_dir() { path.as_path() } else { path.parent().unwrap_or(&path) };
    let own = folder.join(VOCABULARY); // a folder that `export` has written has it
    let tokenizer = match own.is_file() {
        true => Tokenizer::open(&own)?,
        false => {
            expect_gpt2_tokens(&path, model.config.vocab_size)?;
            Tokenizer::load("gpt2")?
        }
    };
    expect_room(&model, &tokenizer)?;
    Ok((model, tokenizer))
}

/// The sizes of the model that `from` names, which is not read whole; OpenAI's need not be there.
///
/// # Errors
/// As [`open`].
pub fn sizes(from: &str) -> Result<GptConfig> {
    if let Some((_, n_layer, n_head, n_embd)) = PRETRAINED.into_iter().find(|of| of.0 == from) {
        let (block_size, vocab_size) = (1024, 50_257);
        let sizes = Gpt2Sizes { block_size, vocab_size, n_layer, n_head, n_embd };
        return Ok(GptConfig::from(sizes));
    }
    let path = path_of(from)?;
    match is_run(&path) {
        true => sizes_of(&Run::new(&path, 1).for_use()?).cloned(),
        false => Ok(GptConfig::from(Weights::open(&path)?.gpt2_sizes()?)),
    }
}

/// Where the model lies that `from` names.
fn path_of(from: &str) -> Result<PathBuf> {
    let path = match is_pretrained(from) {
        true => Path::new("data").join(from),
        false => PathBuf::from(from),
    };
    ensure!(path.exists(), "{}", missing(from, &path));
    let runs = if is_run(&path) { Vec::new() } else { runs_in(&path) };
    ensure!(runs.is_empty(), "{from} is not a run; name one that is in it: {}", shortened(&runs));
    ensure!(
        path.is_dir() || !path.with_extension("json").is_file(),
        "{from} is part of a checkpoint: name the folder of its run"
    );
    Ok(path)
}

/// Whether a folder is the `out_dir` of a run.
pub fn is_run(folder: &Path) -> bool {
    ["best", "checkpoints", "config.toml"].iter().any(|name| folder.join(name).exists())
}

/// The runs in a folder, by their paths.
fn runs_in(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let runs = entries.map(|entry| entry.path()).filter(|path| is_run(path));
    let mut runs: Vec<String> = runs.map(|path| path.display().to_string()).collect();
    runs.sort();
    runs
}

/// The first three, if there are more.
fn shortened(runs: &[String]) -> String {
    match runs.len() {
        0..=3 => runs.join(", "),
        n => format!("{} or {} more", runs[..3].join(", "), n - 3),
    }
}

/// That a data set was prepared with the vocabulary of the model that `from` names.
///
/// # Errors
/// If it was prepared with another.
pub fn expect_same(from: &str, tokenizer: &Tokenizer, dataset: &Dataset) -> Result<()> {
    ensure!(
        tokenizer.fingerprint() == dataset.tokenizer.fingerprint(),
        "{from} reads with another vocabulary ({}) than {} was prepared with ({}): prepare it with the model's, by \
         --vocab",
        described(tokenizer),
        dataset.folder.display(),
        described(&dataset.tokenizer)
    );
    Ok(())
}

fn described(tokenizer: &Tokenizer) -> String {
    format!("{}, {} tokens", tokenizer.name(), grouped(tokenizer.n_vocab()))
}

/// That a model has a row for each token.
pub fn expect_room(model: &Gpt, tokenizer: &Tokenizer) -> Result<()> {
    ensure!(
        tokenizer.n_vocab() <= model.config.vocab_size,
        "the vocabulary {} has {} tokens, and the model only {}: they do not belong together",
        tokenizer.name(),
        tokenizer.n_vocab(),
        model.config.vocab_size
    );
    Ok(())
}

fn missing(from: &str, path: &Path) -> String {
    match is_pretrained(from) {
        true => format!(
            "{} is not there: fetch it with `cargo run -p data -- {from}` in the repository, or name a folder that has \
             it",
            path.display()
        ),
        false => format!(
            "there is no {from}: name the folder of a run, a folder of Hugging Face's, or one of {}",
            PRETRAINED.map(|(name, ..)| name).join(", ")
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_of_runs_is_refused_by_their_names() {
        let folder = tempfile::tempdir().unwrap();
        for run in ["second", "first"] {
            fs::create_dir_all(folder.path().join(run).join("best")).unwrap();
        }
        let from = folder.path().to_str().unwrap();
        let error = open(from, Device::Cpu).err().expect("refused").to_string();
        assert!(error.ends_with(&format!("{from}/first, {from}/second")), "{error}");
    }
}
