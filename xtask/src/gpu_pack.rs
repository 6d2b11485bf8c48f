//! `cargo xtask gpu-pack`: all that is to be measured on a GPU, in one folder that can be carried to it.

use std::{
    cmp::Reverse,
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    time::SystemTime,
};

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde_json::json;
use walkdir::WalkDir;

use crate::{cargo, git::Git, libtorch, machine, own_libtorch, setup::remove, workspace};

/// More than this is too much to carry to a machine that is lent for half an hour.
const LIMIT: u64 = 60_000_000;

const PROGRAMS: [&str; 2] = ["all_steps", "bench"];

/// What goes with them, from the repository's root.
const SCRIPTS: [&str; 3] = ["bench/gpu/run.sh", "bench/gpu/run.py", "bench/train.py"];

/// What the steps read, which find it in the pack where it lies here: what their proofs compare with, and a
/// text, if it was fetched.
const READ: [&str; 2] = ["tests/fixtures", "data/shakespeare"];

/// Put all that is to be measured on a GPU into bench/gpu/pack: at most 60 MB, ready to run
///
/// Builds the steps and the comparison with PyTorch against the libtorch for NVIDIA's GPUs, which
/// goes into the folder libtorch-cuda (3 GB to download, once). This machine needs no GPU, and what
/// is set up for its CPU stays as it is. bench/gpu/README.md says how to go on.
#[derive(Args)]
pub struct GpuPack {
    /// Pack programs for CPUs, built against the libtorch that is set up: to try run.sh
    #[arg(long)]
    cpu: bool,

    /// The folder to fill (the tests fill others)
    #[arg(long, hide = true, default_value_os_t = workspace().join("bench/gpu/pack"))]
    into: PathBuf,

    /// A folder of programs to pack instead of building them (the tests have their own)
    #[arg(long, hide = true)]
    programs: Option<PathBuf>,

    /// How many bytes a pack may have (the tests have less)
    #[arg(long, hide = true, default_value_t = LIMIT)]
    limit: u64,
}

impl GpuPack {
    pub fn run(&self) -> Result<()> {
        let programs = match &self.programs {
            Some(folder) => folder.clone(),
            None if self.cpu => build(None)?,
            None => build(Some(&cuda()?))?,
        };
        let part = self.into.with_extension("part");
        remove(&part)?; // of an interrupted run
        let packed = self.fill(&part, &programs).and_then(|()| {
            remove(&self.into)?;
            fs::rename(&part, &self.into)
                .with_context(|| format!("cannot write {}", self.into.display()))
        });
        remove(&part)?;
        packed
    }

    /// Puts everything into the folder `to`, and says how much that is.
    fn fill(&self, to: &Path, programs: &Path) -> Result<()> {
        fs::create_dir_all(to).with_context(|| format!("cannot write {}", to.display()))?;
        for name in PROGRAMS {
            strip(&programs.join(name), &to.join(name))?;
        }
        for path in SCRIPTS.map(Path::new) {
            copy(&workspace().join(path), &to.join(path.file_name().expect("a file")))?;
        }
        for folder in READ.map(Path::new) {
            let from = workspace().join(folder);
            for (name, _) in if from.exists() { files_in(&from)? } else { Vec::new() } {
                copy(&from.join(&name), &to.join(folder).join(&name))?;
            }
        }
        let about = serde_json::to_vec_pretty(&self.about()?)?;
        files::write_atomically(&to.join("pack.json"), |file| Ok(file.write_all(&about)?))?;

        let files = files_in(to)?;
        let size: u64 = files.iter().map(|(_, bytes)| bytes).sum();
        let (mb, limit) = (size as f64 / 1e6, self.limit as f64 / 1e6);
        let list = list(files);
        ensure!(
            size <= self.limit,
            "the pack has {mb:.1} MB, and more than {limit:.0} MB cannot be carried to a GPU: {list}"
        );
        println!("{}: {mb:.1} MB\n  {list}", self.into.display());
        Ok(())
    }

    /// What the pack was made of.
    fn about(&self) -> Result<serde_json::Value> {
        let git = Git::here()?;
        let now = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
        Ok(json!({
            "commit": git.ask(&["rev-parse", "HEAD"])?,
            // Whether there is something in it that this commit has not.
            "changed": !git.ask(&["status", "--porcelain"])?.is_empty(),
            "date": now,
            "libtorch": libtorch::VERSION,
            "cuda": !self.cpu,
            "rustc": machine::rustc(),
        }))
    }
}

/// A libtorch for GPUs: the user's own, if that is one, or else that of a folder beside the one for this
/// machine's CPU.
fn cuda() -> Result<PathBuf> {
    let own = own_libtorch().ok().flatten();
    if let Some(own) = own.filter(|own| libtorch::has_cuda(own) && libtorch::check(own).is_ok()) {
        return Ok(own);
    }
    let folder = workspace().join("libtorch-cuda");
    let mut setup = Command::new(env::current_exe().context("where is this program?")?);
    setup.args(["setup", "--cuda", "--into"]).arg(&folder).env_remove("LIBTORCH");
    let status = setup.status().context("cannot run setup")?;
    ensure!(status.success(), "there is no libtorch for GPUs; why is said above");
    Ok(folder)
}

/// Builds the programs and returns their folder: against a `libtorch` for GPUs in a target folder of its
/// own, or else as everything here is built.
fn build(libtorch: Option<&Path>) -> Result<PathBuf> {
    let mut target = cargo::target_folder()?;
    let mut cargo = cargo::command();
    if let Some(libtorch) = libtorch {
        target.push("gpu");
        cargo.env("LIBTORCH", libtorch);
    }
    cargo.args(["build", "--package=bench", "--bins", "--target-dir"]).arg(&target);
    cargo::run(&mut cargo)?;
    Ok(target.join("debug"))
}

/// Copies a program without what only a debugger needs, most of its size.
fn strip(from: &Path, to: &Path) -> Result<()> {
    ensure!(from.exists(), "there is no program {}", from.display());
    let output = Command::new("strip").arg("-o").arg(to).arg(from).output();
    let output =
        output.context("`strip` does not run: install binutils (`apt install binutils`)")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "`strip` cannot read {}: {}", from.display(), said.trim());
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let copied =
        fs::create_dir_all(to.parent().expect("below the pack")).and_then(|()| fs::copy(from, to));
    copied.with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))?;
    Ok(())
}

/// The files below a folder, by their paths in it, with their sizes in bytes.
fn files_in(folder: &Path) -> Result<Vec<(String, u64)>> {
    let mut files = Vec::new();
    for entry in WalkDir::new(folder) {
        let entry = entry?;
        if entry.file_type().is_file() {
            let name = entry.path().strip_prefix(folder)?.to_string_lossy().into_owned();
            files.push((name, entry.metadata()?.len()));
        }
    }
    Ok(files)
}

/// The largest of them, with their sizes in MB.
fn list(mut files: Vec<(String, u64)>) -> String {
    files.sort_by_key(|(_, bytes)| Reverse(*bytes));
    let sizes =
        files.iter().take(8).map(|(name, bytes)| format!("{name} {:.1}", *bytes as f64 / 1e6));
    sizes.collect::<Vec<_>>().join(", ")
}
