//! Where a model comes from: a run of ours, a folder of Hugging Face's, or one of OpenAI's names.

use crate::{
    checkpoint::{Run, model_of},
    data::{Dataset, VOCABULARY},
    gpt::Gpt,
};
use anyhow::{Context, Result, ensure};
use lab::{Tokenizer, expect_gpt2_tokens};
use std::path::{Path, PathBuf};
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
