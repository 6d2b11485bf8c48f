//! What a run leaves on disk, and how others read it. Nothing in it is executed.
//!
//! ```text
//! out/config.toml                                the settings of the run
//! out/vocab.tiktoken                             its vocabulary
//! out/metrics.csv
//! out/checkpoints/step_000500.{json,safetensors} where the run goes on: weights, optimizer, random numbers
//! out/best/step_000250.{json,safetensors}        the weights with the best validation loss
//! ```

use crate::{
    data::{VOCABULARY, tokenizer_of},
    gpt::{Gpt, GptConfig},
    precision::GradScaler,
};
use anyhow::{Context, Result, ensure};
use lab::{Checkpoint, Series, Tokenizer};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use tch::{Device, Tensor};

/// The version of the format.
const VERSION: u32 = 1;

/// What is saved beside the tensors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Saved {
    pub version: u32,
    /// The sizes of the model.
    pub model: GptConfig,
    /// Steps taken.
    pub step: usize,
    /// The lowest validation loss so far, in nats a token.
    pub best_val_loss: Option<f64>,
    /// Steps that the optimizer has taken: fewer, where float16 has left some out.
    pub optimizer_steps: usize,
    /// Of a run in float16.
    pub scaler: Option<GradScaler>,
    /// How many micro-batches the run has trained on, all ranks together; `None` if each step had as many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub micro_batches: Option<u64>,
    /// Which of torchrun's launches the run is; `None` where another way led to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub launch: Option<String>,
}

impl Saved {
    /// What there is to say after a step.
    pub fn new(model: &GptConfig, step: usize, best_val_loss: Option<f64>) -> Self {
        let model = model.clone();
        let (version, optimizer_steps) = (VERSION, step);
        let (scaler, micro_batches, launch) = (None, None, None);
        Self { version, model, step, best_val_loss, optimizer_steps, scaler, micro_batches, launch }
    }

    fn expect_ours(&self) -> Result<()> {
        ensure!(
            self.version == VERSION,
            "it has format {}, and this program reads format {VERSION}",
            self.version
        );
        self.model.check()
    }
}

/// The checkpoints of a run's folder.
pub struct Run {
    folder: PathBuf,
    /// Where the run goes on.
    pub newest: Series,
    /// What has been best so far.
    pub best: Series,
}

impl Run {
    /// Those in a run's `out_dir`, of which the `keep` newest stay.
    pub fn new(folder: &Path, keep: usize) -> Self {
        Self {
            folder: folder.into(),
            newest: Series::new(folder.join("checkpoints"), keep),
            best: Series::new(folder.join("best"), 1),
        }
    }

    /// The best checkpoint; where there is none that is whole, the newest.
    ///
    /// # Errors
    /// If there is none at all, or none that is whole.
    pub fn for_use(&self) -> Result<Checkpoint<Saved>> {
        let best = match self.best.newest() {
            Ok(Some(best)) => Some(best),
            Ok(None) => self.newest.newest()?,
            Err(damaged) => Some(self.newest.newest().ok().flatten().ok_or(damaged)?),
        };
        best.with_context(|| {
            format!(
                "there is no checkpoint in {}: train one with `nanogpt train CONFIG.toml --out_dir {0}`",
                self.folder.display()
            )
        })
    }

    /// The vocabulary of the run.
    ///
    /// # Errors
    /// If its file is damaged.
    pub fn tokenizer(&self) -> Result<Tokenizer> {
        tokenizer_of(&self.folder)
    }

    /// Keeps the vocabulary beside the checkpoints, so that the folder is all that sampling needs.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn keep_vocabulary(&self, tokenizer: &Tokenizer) -> Result<()> {
        let text = tokenizer.to_file();
        files::write_atomically(&self.folder.join(VOCABULARY), |file| {
            Ok(file.write_all(text.as_bytes())?)
        })
    }
}

/// The sizes of the model in a checkpoint, which its tensors have.
///
/// # Errors
/// If it is of another format, or its tensors are not those of its sizes.
pub fn sizes_of(checkpoint: &Checkpoint<Saved>) -> Result<&GptConfig> {
    checkpoint.content.expect_ours()?;
    expect_shapes(checkpoint)?;
    Ok(&checkpoint.content.model)
}

/// The model in a checkpoint.
///
/// # Errors
/// If it is of another format, or its tensors are not those of its sizes. That is seen before the model takes memory.
pub fn model_of(checkpoint: &Checkpoint<Saved>, device: Device) -> Result<Gpt> {
    let model = Gpt::new(sizes_of(checkpoint)?, device)?;
    let parameters = model.named_parameters();
    checkpoint.copy_into(&parameters)?;
    expect_finite(&parameters)?;
    Ok(model)
}

/// That all tensors of these sizes are there, so that a checkpoint from a stranger cannot ask for more memory than its
/// own file takes.
fn expect_shapes(checkpoint: &Checkpoint<Saved>) -> Result<()> {
    for (name, shape) in checkpoint.content.model.shapes() {
        let there = checkpoint.shape(&name).with_context(|| format!("it has no tensor {name}"))?;
        ensure!(there == shape, "its tensor {name} is {there:?}, and its sizes say {shape:?}");
    }
    Ok(())
}

/// That no weight has become infinite or no number at all.
///
/// # Errors
/// Which tensor has such a number.
pub fn expect_finite(tensors: &[(String, Tensor)]) -> Result<()> {
    for (name, tensor) in tensors {
        ensure!(lab::is_finite(tensor), "its tensor {name} has numbers that are not finite");
    }
    Ok(())
}
