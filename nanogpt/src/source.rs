//! Where a model comes from: a run of ours, a folder of Hugging Face's, or one of OpenAI's names.

use crate::{
    checkpoint::{Run, model_of},
    data::{Dataset, VOCABULARY},
    gpt::Gpt,
};
use anyhow::{Context, Result, ensure};
use lab::{Tokenizer, expect_gpt2_tokens};
use std::{
    fs,
    path::{Path, PathBuf},
};
use tch::Device;

/// OpenAI's models, as `cargo run -p data` calls them too.
pub const PRETRAINED: [&str; 4] = ["gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl"];

/// The model and the vocabulary that `from` names: `gpt2` and its larger sisters (in the folder `data`), the folder of a
/// run, or a folder or file of Hugging Face's.
///
/// # Errors
/// One sentence that says what is missing or damaged.
pub fn open(from: &str, device: Device) -> Result<(Gpt, Tokenizer)> {
    let path = match PRETRAINED.contains(&from) {
        true => Path::new("data").join(from),
        // nanoGPT's names of the larger ones are the same.
        false => PathBuf::from(from),
    };
    ensure!(path.exists(), "{}", missing(from, &path));
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
    let runs = runs_in(&path);
    ensure!(runs.is_empty(), "{from} is not a run; name one that is in it: {}", shortened(&runs));
    let model = Gpt::from_pretrained(&path, 0.0, device)?;
    let own = path.join(VOCABULARY); // a folder that `export` has written has it
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

/// Whether a folder is the `out_dir` of a run.
pub fn is_run(folder: &Path) -> bool {
    ["best", "checkpoints"].iter().any(|name| folder.join(name).is_dir())
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
        "{from} reads with the vocabulary {}, and {} was prepared with {}: prepare it with the model's",
        tokenizer.name(),
        dataset.folder.display(),
        dataset.tokenizer.name()
    );
    Ok(())
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
    match PRETRAINED.contains(&from) {
        true => format!(
            "{} is not there: fetch it with `cargo run -p data -- {from}` in the repository, or name a folder that has \
             it",
            path.display()
        ),
        false => format!(
            "there is no {from}: name the folder of a run, a folder of Hugging Face's, or one of {}",
            PRETRAINED.join(", ")
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
