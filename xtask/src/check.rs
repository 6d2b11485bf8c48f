//! `cargo xtask check`: whether the book still tells the truth.

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use ladder::record::Record;
use rayon::{
    ThreadPoolBuilder,
    iter::{ParallelBridge, ParallelIterator},
};

use crate::{
    compare::{differences, words},
    record::{self, QUICK, RECORD, RECORDED},
    runs::{self, Kind, Run},
    workspace,
};

/// How many programs run at once where there are as many cores: each may take a gigabyte of memory.
const MOST_AT_ONCE: usize = 4;

/// Run steps and their variations again and compare with what is recorded
///
/// Of the values in `record.json`, counts and verdicts must be the same, losses and other measured numbers
/// near; times, speeds and sampled text are not compared. A variation must still show what its patch says.
/// Several run at once, with one thread each. Exit code 1 if anything differs.
#[derive(Args)]
pub struct Check {
    /// What to check: step02 with its variations, step02-no_mask alone; everything by default
    #[arg(value_name = "STEP|PATCH")]
    names: Vec<String>,

    /// Run the steps that take long for a twentieth of their training steps, and hold them to what
    /// that was recorded to give
    #[arg(long)]
    quick: bool,

    /// Where the records are (the tests have others)
    #[arg(long, hide = true, default_value_os_t = workspace().join(RECORDED))]
    recorded: PathBuf,
}

impl Check {
    pub fn run(&self) -> Result<()> {
        let mut runs = runs::named(&self.names)?;
        for run in runs.iter_mut().filter(|_| self.quick) {
            // Only what takes long is recorded so.
            run.quick = run.folder(&self.recorded).join(QUICK).exists();
        }
        let others = record::others(&self.recorded, &runs)?;
        if let Some(stray) = others.first().filter(|_| self.names.is_empty()) {
            bail!("{} is of no step and no patch: remove it", stray.display());
        }
        let is_recorded = |run: &Run| run.folder(&self.recorded).join(run.compared()).exists();
        let (runs, missing): (Vec<Run>, Vec<Run>) = runs.into_iter().partition(is_recorded);
        for Run { name, .. } in &missing {
            println!("{name:<28}not recorded yet: `cargo xtask record {name}`");
        }
        let mut differ: Vec<&str> = missing.iter().map(|run| &*run.name).collect();
        if !runs.is_empty() {
            differ.extend(self.differing(&runs)?);
        }
        ensure!(
            differ.is_empty(),
            "{} of {} differ from what is recorded: mend the cause, or, if it is meant, \
             `cargo xtask record {}`",
            differ.len(),
            runs.len() + missing.len(),
            differ.join(" ")
        );
        Ok(())
    }

    /// Builds and runs them all, and names those that are not as recorded.
    fn differing<'a>(&self, runs: &'a [Run]) -> Result<Vec<&'a str>> {
        let programs = runs::build(runs)?;
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let pool = ThreadPoolBuilder::new().num_threads(cores.min(MOST_AT_ONCE)).build()?;
        // Whoever is free takes the next run, so that they begin in the order of the steps.
        Ok(pool.install(|| {
            let runs = runs.iter().par_bridge();
            runs.filter(|run| !self.is_as_recorded(run, &programs)).map(|run| &*run.name).collect()
        }))
    }

    /// Runs it, and says so in a line, or in several if it is not.
    fn is_as_recorded(&self, run: &Run, programs: &Path) -> bool {
        let result = self.compare(run, programs);
        let said = match &result {
            Ok(seconds) => format!("{seconds:>6.1} s   as recorded"),
            Err(why) => format!("differs\n  {}", format!("{why:#}").replace('\n', "\n  ")),
        };
        println!("{:<28}{said}{}", run.name, if run.quick { " (--quick)" } else { "" });
        result.is_ok()
    }

    /// The seconds that a run took which is as recorded; an error that shows what differs if it is not.
    fn compare(&self, run: &Run, programs: &Path) -> Result<f64> {
        // One thread, because where others want the cores too, threads that wait for each other take
        // many times as long, and a check may well run beside other things.
        let outcome = run.run(programs, Some(1))?;
        let folder = run.folder(&self.recorded);
        let path = folder.join(run.compared());
        let recorded = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let (recorded, now) = match run.kind {
            Kind::Tryout { .. } => (words(&recorded), words(&outcome.output)),
            _ => {
                let now = outcome.files.get(RECORD).context("it writes no record.json")?;
                (Record::parse(&recorded)?, Record::parse(std::str::from_utf8(now)?)?)
            }
        };
        let differences = differences(&recorded, &now, rounding(run));
        let path = path.strip_prefix(workspace()).unwrap_or(&path).display();
        ensure!(differences.is_empty(), "{path}:\n{}", differences.join("\n"));
        for name in outcome.files.keys().filter(|_| run.is_step()) {
            ensure!(folder.join(name).exists(), "it writes {name}, which is not recorded");
        }
        Ok(outcome.seconds)
    }
}

/// How far a run's numbers may be off. In one that is computed in bfloat16 as a whole, which has 8 bits, processors
/// with instructions for it round at other places than those without. One whose learning rate is to be too high makes
/// much of the order in which sums are added: without a warm-up 0.9937 and 1.0328 nats a character with two threads
/// and with one.
fn rounding(run: &Run) -> f64 {
    match &*run.name {
        "step08-all_bfloat16" | "step10-bfloat16" => 0.02,
        "step09-no_warmup" => 0.05,
        _ => 0.0,
    }
}
