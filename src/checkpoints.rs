//! What a run needs to go on where it was stopped, on disk: tensors as safetensors, all else as JSON, so that
//! reading a checkpoint runs nobody's code.
//!
//! ```text
//! out/step14_checkpoint/checkpoints/step_000400.safetensors
//! out/step14_checkpoint/checkpoints/step_000400.json         written last: without it there is no checkpoint
//! ```

mod series;

use crate::{Log, log::Tally, ranks, ranks::differences, text::printable};
use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{
    fs, io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};
use tch::Tensor;

pub use series::{Checkpoint, Series};

/// The version of the format.
const VERSION: u32 = 1;

/// How a run that was stopped goes on.
#[derive(Args, Clone, Debug)]
pub struct CheckpointFlags {
    /// Go on where the last run with the same flags was stopped
    #[arg(long)]
    resume: bool,

    /// Save every N steps [default: before each evaluation]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    save_interval: Option<u32>,

    /// How many checkpoints to keep, the newest ones
    #[arg(long, value_name = "N", default_value_t = 2)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    keep: u32,
}

/// The checkpoints of a run.
pub struct Checkpoints {
    flags: CheckpointFlags,
    series: Series,
    settings: String,
}

/// What is saved beside the tensors.
#[derive(Deserialize, Serialize)]
struct Content<S> {
    version: u32,
    program: String,
    settings: String,
    /// For the log's next line.
    since_line: Tally,
    state: S,
}

impl Checkpoints {
    /// Those of a run with these settings, in its `--out`. Without `--resume` a new series begins, and that of
    /// the run before is kept beside it until the next time.
    ///
    /// # Errors
    /// If `--resume` finds none, or old ones cannot be moved.
    pub fn new(flags: &CheckpointFlags, log: &Log, settings: &str) -> Result<Self> {
        let series = Series::new(log.out().join("checkpoints"), flags.keep as usize);
        let checkpoints = Self { flags: flags.clone(), series, settings: settings.into() };
        interrupted(); // from here on Ctrl-C waits for the next step
        if ranks::speaks() && !flags.resume {
            checkpoints.set_aside()?;
        }
        Ok(checkpoints)
    }

    /// Whether the run is to go on with the newest one.
    pub fn resume(&self) -> bool {
        self.flags.resume
    }

    /// Whether `--save-interval` wants one after this step.
    pub fn is_due(&self, step: usize) -> bool {
        self.flags.save_interval.is_some_and(|interval| step.is_multiple_of(interval as usize))
    }

    fn set_aside(&self) -> Result<()> {
        if self.series.steps()?.is_empty() {
            return Ok(());
        }
        let folder = self.series.folder();
        let before = folder.with_extension("before");
        let moved = match fs::remove_dir_all(&before) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => fs::rename(folder, &before),
        };
        moved.with_context(|| format!("cannot move {} out of the way", folder.display()))?;
        println!("the checkpoints of the run before are in {}", before.display());
        Ok(())
    }

    /// Writes a checkpoint, and then removes the oldest. Only rank 0 does.
    ///
    /// # Errors
    /// If it cannot be written, say since the disk is full. The one before is whole then.
    pub fn save(
        &self,
        step: usize,
        state: &impl Serialize,
        tensors: &[(String, Tensor)],
        log: &Log,
    ) -> Result<()> {
        if !ranks::speaks() {
            return Ok(());
        }
        let content = Content {
            version: VERSION,
            program: program(),
            settings: self.settings.clone(),
            since_line: log.since_line(),
            state,
        };
        self.series.save(step, &content, tensors).with_context(|| self.way_out())
    }

    fn way_out(&self) -> String {
        match self.series.steps() {
            Ok(steps) if !steps.is_empty() => format!(
                "the checkpoint after step {} is whole, and the same command with --resume goes on there",
                steps[0]
            ),
            _ => "there is no checkpoint yet".into(),
        }
    }

    /// Puts the newest checkpoint that is whole into `tensors`, lets `log` go on after its step, and returns its
    /// state. Says on stderr which newer ones are not whole.
    ///
    /// # Errors
    /// If there is none, if it is of another program or of other settings, or has other tensors.
    pub fn restore<S: DeserializeOwned>(
        &self,
        tensors: &[(String, Tensor)],
        log: &mut Log,
    ) -> Result<S> {
        let newest = self.series.newest().context("start without --resume")?;
        let Some(checkpoint): Option<Checkpoint<Content<S>>> = newest else {
            bail!(
                "there is no checkpoint in {}: start without --resume, or name the run's folder with --out",
                self.series.folder().display()
            )
        };
        let path = self.series.tensors(checkpoint.step);
        self.expect_same(&checkpoint.content)?;
        checkpoint.copy_into(tensors).with_context(|| path.display().to_string())?;
        println!("goes on after step {}, from {}", checkpoint.step, path.display());
        let Content { since_line, state, .. } = checkpoint.content;
        log.resume(checkpoint.step, since_line)?;
        Ok(state)
    }

    fn expect_same<S>(&self, saved: &Content<S>) -> Result<()> {
        let folder = self.series.folder().display();
        ensure!(
            (saved.version, &saved.program) == (VERSION, &program()),
            "the checkpoints in {folder} are of {} (format {}), and this is {} ({VERSION})",
            printable(&saved.program),
            saved.version,
            program()
        );
        let differences = differences(&saved.settings, &self.settings);
        ensure!(
            differences.is_empty(),
            "the run in {folder} cannot go on with {}; give the flags that it was started with",
            printable(&differences)
        );
        Ok(())
    }
}

/// The name of this program.
fn program() -> String {
    let path = std::env::current_exe().unwrap_or_default();
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// Whether somebody wants this program to end, by Ctrl-C or `kill`. From the first call on, that no longer
/// ends it at once; a second Ctrl-C does.
pub fn interrupted() -> bool {
    static ASKED: std::sync::OnceLock<Arc<AtomicBool>> = std::sync::OnceLock::new();
    let asked = ASKED.get_or_init(|| {
        use signal_hook::{consts, flag};
        let (asked, by_key) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        // Where one of these cannot be had, the program ends at once, as it would without it.
        let _ = flag::register_conditional_shutdown(consts::SIGINT, 130, by_key.clone());
        let _ = flag::register(consts::SIGINT, by_key);
        for signal in [consts::SIGINT, consts::SIGTERM] {
            let _ = flag::register(signal, asked.clone());
        }
        asked
    });
    asked.load(Ordering::Relaxed)
}
