//! What a run begins with: nothing, somebody's model, or where it was stopped, which torchrun may decide.

use crate::{
    checkpoint::{Run, Saved, sizes_of},
    config::TrainConfig,
    data::Dataset,
    gpt::{Gpt, GptConfig},
    precision::Precision,
    source,
};
use anyhow::{Context, Result, ensure};
use std::{env, path::Path};
use tch::Device;

/// Whether a run is one that was stopped, by the checkpoints that this rank sees.
pub fn goes_on(config: &TrainConfig, run: &Run) -> Result<bool> {
    match config.init_from.as_str() {
        "resume" => Ok(true),
        "auto" => Ok(!run.newest.steps()?.is_empty()),
        _ => is_restarted(run),
    }
}

/// Whether torchrun has started its ranks anew, as it does with the same flags when one has died, and the checkpoints are
/// those of its launch: what it was refused to begin the first time it is not to go on with the second.
fn is_restarted(run: &Run) -> Result<bool> {
    let restarts: usize = variable("TORCHELASTIC_RESTART_COUNT").parse().unwrap_or(0);
    let (true, Some(launch)) = (restarts > 0, launch()) else { return Ok(false) };
    let newest = run.newest.newest::<Saved>()?;
    Ok(newest.is_some_and(|newest| newest.content.launch == Some(launch)))
}

/// What torchrun calls its launch; `None` without torchrun. Its folder of logs is one launch's alone, the name that the
/// user gives with `--rdzv-id` need not be.
pub fn launch() -> Option<String> {
    let log = variable("TORCHELASTIC_ERROR_FILE");
    let folder = log.split_once("/attempt_").map(|(folder, _)| folder.to_string());
    folder.or(Some(variable("TORCHELASTIC_RUN_ID"))).filter(|launch| !launch.is_empty())
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_default()
}

/// The checkpoint with which a run goes on.
pub fn newest(run: &Run, config: &TrainConfig) -> Result<lab::Checkpoint<Saved>> {
    run.newest.newest()?.with_context(|| {
        format!(
            "init_from = resume: there is no checkpoint in {}; begin with --init_from scratch",
            config.out_dir
        )
    })
}

/// That a run that goes on reads the vocabulary with which it began.
pub fn expect_own_vocabulary(config: &TrainConfig, run: &Run, dataset: &Dataset) -> Result<()> {
    match !run.newest.steps()?.is_empty() && goes_on(config, run)? {
        true => source::expect_same(&config.out_dir, &run.tokenizer()?, dataset),
        false => Ok(()),
    }
}

/// The sizes that the settings say; of a run that goes on with the settings of its beginning, those of its checkpoint:
/// one that began with somebody's model has that model's, which its settings need not name.
pub fn sizes_to_begin_with(
    config: &TrainConfig,
    run: &Run,
    dataset: &Dataset,
) -> Result<GptConfig> {
    let said = config.gpt(dataset.vocab_size());
    let settings = Path::new(&config.out_dir).join("config.toml");
    if !["resume", "auto"].contains(&config.init_from.as_str()) || !settings.is_file() {
        return Ok(said);
    }
    let first = TrainConfig::load(Some(&settings), &[])?;
    let newest = run.newest.newest::<Saved>()?;
    Ok(match newest.filter(|_| first.gpt(dataset.vocab_size()) == said) {
        Some(checkpoint) => sizes_of(&checkpoint)?.clone(),
        None => said,
    })
}

/// The model to begin with. One that goes on gets its weights later.
pub fn first_model(
    config: &TrainConfig,
    sizes: &GptConfig,
    dataset: &Dataset,
    device: Device,
) -> Result<Gpt> {
    let mut model = match config.init_from.as_str() {
        "scratch" | "resume" | "auto" => Gpt::new(sizes, device)?,
        from => {
            let (mut model, tokenizer) = source::open(from, device)?;
            source::expect_same(from, &tokenizer, dataset)?;
            model.set_dropout(config.dropout);
            match config.block_size < model.config.block_size {
                true => model.crop_block_size(config.block_size)?,
                false => model,
            }
        }
    };
    ensure!(
        config.block_size <= model.config.block_size,
        "block_size = {}: {} sees {} tokens",
        config.block_size,
        config.init_from,
        model.config.block_size
    );
    model.precision = Precision::choose(config.precision(), model.config.n_embd, device)?;
    Ok(model)
}
