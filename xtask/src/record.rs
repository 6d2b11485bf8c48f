//! `cargo xtask record`: what the book shows of each run, as it really was.

use std::{
    env, fs,
    io::{self, Write},
    path::{Path, PathBuf},
    thread,
    time::SystemTime,
};

use anyhow::{Context, Result};
use clap::Args;
use toml_edit::{Array, DocumentMut, value};

use crate::{
    libtorch, machine,
    runs::{self, Kind, Outcome, Run},
    setup::remove,
    workspace,
};

/// Where the records are, from the repository's root.
pub const RECORDED: &str = "book/recorded";

/// What a run says of itself, as data: see `lab`'s module of that name.
pub const RECORD: &str = "record.json";

/// What a long run says of itself when it is `--quick`.
pub const QUICK: &str = "quick.json";

/// Under what circumstances the record came to be.
const CIRCUMSTANCES: &str = "run.toml";

/// And what it has printed.
pub const OUTPUT: &str = "output.txt";

/// From how many seconds on a step is recorded a second time, `--quick`, for a check that cannot wait.
const LONG: f64 = 20.0;

/// What all recorded runs start from: the default of `--seed`.
const SEED: i64 = 1337;

/// Run steps and their variations and write what they print and draw to `book/recorded`
///
/// On the CPU, with each step's defaults or the arguments that the patch names. Do this on an idle
/// machine, so that the times are honest.
#[derive(Args)]
pub struct Record {
    /// What to record: step02 with its variations, step02-no_mask alone; everything by default
    #[arg(value_name = "STEP|PATCH")]
    names: Vec<String>,

    /// Of the steps that take long, record only what `check --quick` compares
    #[arg(long)]
    quick: bool,

    /// Where the records are (the tests have others)
    #[arg(long, hide = true, default_value_os_t = workspace().join(RECORDED))]
    recorded: PathBuf,
}

impl Record {
    pub fn run(&self) -> Result<()> {
        let mut runs = runs::named(&self.names)?;
        if self.quick {
            runs.retain(|run| is_long(run, &self.recorded));
        }
        let programs = runs::build(&runs)?;
        for run in &runs {
            print!("{:<28}", run.name);
            io::stdout().flush().ok(); // what is running shows before it is done
            let folder = run.folder(&self.recorded);
            if !self.quick {
                let outcome = run.run(&programs, None).context(run.name.clone())?;
                write(&folder, run, &outcome)?;
                print!("{:>6.1} s", outcome.seconds);
            }
            if is_long(run, &self.recorded) {
                let quick = Run { quick: true, ..run.clone() };
                let outcome = quick.run(&programs, None).context(run.name.clone())?;
                let record = outcome.files.get(RECORD).context("it writes no record.json")?;
                files::write_atomically(&folder.join(QUICK), |file| Ok(file.write_all(record)?))?;
                print!("   --quick {:>6.1} s", outcome.seconds);
            }
            println!();
        }
        if self.names.is_empty() && !self.quick {
            for folder in others(&self.recorded, &runs)? {
                remove(&folder)?;
                println!("removed {}: there is no such step or patch", folder.display());
            }
        }
        Ok(())
    }
}

/// Whether it is a step that was recorded as taking long.
fn is_long(run: &Run, recorded: &Path) -> bool {
    let circumstances = fs::read_to_string(run.folder(recorded).join(CIRCUMSTANCES));
    let toml = circumstances.unwrap_or_default().parse::<DocumentMut>().unwrap_or_default();
    let seconds = toml.get("seconds").and_then(|seconds| seconds.as_float());
    run.is_step() && seconds.is_some_and(|seconds| seconds >= LONG)
}

/// What [`CIRCUMSTANCES`] says.
fn circumstances(run: &Run, outcome: &Outcome) -> String {
    let now = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    let unknown = || "unknown".to_string();
    let mut toml = DocumentMut::new();
    // What a person types in a clone, after `git apply PATCH` if there is a patch.
    toml["command"] = value(run.command());
    match &run.kind {
        Kind::Step => {}
        Kind::Variation { patch, .. } => toml["patch"] = value(patch),
        Kind::Tryout { .. } => toml["section"] = value(&run.name),
    }
    toml["args"] = value(Array::from_iter(&run.args));
    toml["seed"] = value(SEED);
    toml["device"] = value("cpu");
    toml["cpu"] = value(machine::proc("cpuinfo", "model name").unwrap_or_else(unknown));
    toml["cores"] = value(thread::available_parallelism().map_or(0, |cores| cores.get() as i64));
    toml["ram_gib"] = value(machine::memory("MemTotal").unwrap_or(0.0).round() as i64);
    toml["system"] = value(format!("{} {}", env::consts::OS, env::consts::ARCH));
    toml["rustc"] = value(machine::rustc().unwrap_or_else(unknown));
    toml["libtorch"] = value(libtorch::VERSION);
    toml["date"] = value(&now[..10]);
    toml["seconds"] = value((outcome.seconds * 10.0).round() / 10.0);
    toml.to_string()
}

/// Writes a record, each file whole or not at all, and removes what an earlier one has left there.
fn write(folder: &Path, run: &Run, outcome: &Outcome) -> Result<()> {
    let mut files = outcome.files.clone();
    // Of a variation the book shows no pictures.
    files.retain(|name, _| run.is_step() || name == RECORD);
    files.insert(OUTPUT.into(), outcome.output.clone().into());
    files.insert(CIRCUMSTANCES.into(), circumstances(run, outcome).into());
    for (name, content) in &files {
        files::write_atomically(&folder.join(name), |file| Ok(file.write_all(content)?))?;
    }
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if !files.contains_key(&*entry.file_name().to_string_lossy()) {
            fs::remove_file(entry.path())
                .with_context(|| format!("cannot remove {}", entry.path().display()))?;
        }
    }
    Ok(())
}

/// The folders in `recorded` that belong to no run: of steps, patches or try-outs that are gone. What the
/// interlude prints is kept by its test.
pub fn others(recorded: &Path, runs: &[Run]) -> Result<Vec<PathBuf>> {
    let mut others = Vec::new();
    for entry in fs::read_dir(recorded).into_iter().flatten() {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_known = runs.iter().any(|run| run.name == name);
        if entry.path().is_dir() && name.starts_with("step") && !is_known {
            others.push(entry.path());
        }
    }
    others.sort();
    Ok(others)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    /// What a terminal of 80 columns wraps is hard to read. Not held to it are what a model writes, lists of the
    /// tokens of a sentence, and the sizes of a large model.
    #[test]
    fn what_is_recorded_is_not_too_wide() {
        let is_list = |line: &str| {
            line.starts_with("ours: [")
                || line.starts_with("tokens [")
                || line.starts_with("  \"")
                || line.starts_with("Config {")
        };
        let (mut seen, mut wide) = (0, Vec::new());
        for folder in fs::read_dir(workspace().join(RECORDED)).unwrap() {
            let folder = folder.unwrap().path();
            // A try-out has none.
            let record = fs::read(folder.join(RECORD)).unwrap_or(b"{}".to_vec());
            let record: Value = serde_json::from_slice(&record).unwrap();
            let samples = record["samples"].as_array().into_iter().flatten();
            let written = samples.map(|sample| sample.as_str().unwrap());
            let written = written.collect::<Vec<_>>().join("\n");
            for line in fs::read_to_string(folder.join("output.txt")).unwrap().lines() {
                seen += 1;
                let is_exempt = is_list(line) || written.contains(line);
                if line.chars().count() > 80 && !is_exempt {
                    wide.push(format!("{}: {line}", folder.display()));
                }
            }
        }
        assert!(seen > 500, "{seen}");
        assert!(wide.is_empty(), "{}", wide.join("\n"));
    }
}
