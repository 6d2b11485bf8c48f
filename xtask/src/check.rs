//! `cargo xtask check`: whether the book still tells the truth.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result, ensure};
use clap::Args;

use crate::{
    compare::{self, Difference},
    record::{self, Programs, RECORDED},
    runs::{self, Outcome, Run},
    workspace,
};

/// Run steps and their variations again and compare with what is recorded
///
/// Words, counts and marks must be the same, losses and other measured numbers near; times, speeds and
/// sampled text are not compared. A variation must still show what its patch says. Everything runs with
/// one thread. Exit code 1 if anything differs.
#[derive(Args)]
pub struct Check {
    /// What to check: step02 with its variations, step02-no_mask alone; everything by default
    #[arg(value_name = "STEP|PATCH")]
    names: Vec<String>,

    /// Where the records are (the tests have others)
    #[arg(long, hide = true, default_value_os_t = workspace().join(RECORDED))]
    recorded: PathBuf,
}

impl Check {
    pub fn run(&self) -> Result<ExitCode> {
        let runs = runs::named(&self.names)?;
        let programs = Programs::build(&runs)?;
        let mut differ = Vec::new();
        for run in &runs {
            print!("{:<28}", run.name());
            record::flush();
            // One thread, because where others want the cores too, threads that wait for each other
            // take many times as long, and a check may well run beside other things.
            match programs.run(run, Some(1)).and_then(|outcome| self.compare(run, &outcome)) {
                Ok(summary) => println!("{summary}"),
                Err(why) => {
                    println!("differs\n  {}", format!("{why:#}").replace('\n', "\n  "));
                    differ.push(run.name());
                }
            }
        }
        let strays = match self.names.is_empty() {
            true => record::others(&self.recorded, &runs)?,
            false => Vec::new(),
        };
        for folder in &strays {
            eprintln!("error: {} is of no step and no patch: remove it", folder.display());
        }
        if !differ.is_empty() {
            eprintln!(
                "error: {} of {} differ from what is recorded: mend the cause, or, if it is meant, \
                 `cargo xtask record {}`",
                differ.len(),
                runs.len(),
                differ.join(" ")
            );
        }
        let is_as_recorded = differ.is_empty() && strays.is_empty();
        Ok(if is_as_recorded { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    /// One line about a run that is as recorded; an error that shows what differs if it is not.
    fn compare(&self, run: &Run, outcome: &Outcome) -> Result<String> {
        let folder = run.folder(&self.recorded);
        let path = folder.join("output.txt");
        let recorded = fs::read_to_string(&path).with_context(|| {
            format!("it is not recorded yet: `cargo xtask record {}`", run.name())
        })?;
        let differences = compare::differences(&recorded, &outcome.output);
        ensure!(differences.is_empty(), "{}", show(&path, &differences));
        for (name, _) in outcome.files.iter().filter(|_| run.variation.is_none()) {
            ensure!(folder.join(name).exists(), "it writes {name}, which is not recorded");
        }
        Ok(format!("{:>6.1} s   as recorded", outcome.seconds))
    }
}

fn show(path: &Path, differences: &[Difference]) -> String {
    let path = path.strip_prefix(workspace()).unwrap_or(path).display();
    let mut shown = Vec::new();
    for Difference { line, recorded, now } in differences {
        shown.push(format!("{path}:{line}"));
        shown.push(format!("  recorded: {}", recorded.as_deref().unwrap_or("(no such line)")));
        shown.push(format!("  now:      {}", now.as_deref().unwrap_or("(no such line)")));
    }
    shown.join("\n")
}
