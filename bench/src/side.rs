//! The ways to train that are compared, each in a process of its own.

use crate::{
    job::{Answer, Job},
    step10::ours,
};
use anyhow::{Context, Result, ensure};
use serde::Serialize;
use std::{
    env, io,
    path::{Path, PathBuf},
    process::{Command, Output},
};

const FOLDER: &str = env!("CARGO_MANIFEST_DIR");
const SETUP: &str =
    "`cargo run -p bench -- setup` installs PyTorch, or name a Python that has it with --python";

#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub enum Side {
    /// step10, with the malloc of every program here: it keeps what is freed, and maps it in huge pages.
    Step10,
    /// Eager, with PyTorch's defaults: AdamW not fused, malloc as the system has it.
    NanoGpt,
    /// Eager, AdamW fused, malloc as ours.
    Tuned,
    /// The same with torch.compile.
    Compiled,
}

impl Side {
    pub fn name(self) -> &'static str {
        match self {
            Self::Step10 => "step10",
            Self::NanoGpt => "PyTorch as nanoGPT runs it on a CPU",
            Self::Tuned => "PyTorch at its best, eager",
            Self::Compiled => "PyTorch at its best, compiled",
        }
    }

    /// Does a job in a new process, with so many threads, and waits for it.
    pub fn work(self, job: &Job, python: &Path, threads: usize) -> Result<Answer> {
        let tuned = matches!(self, Self::Tuned | Self::Compiled);
        let job = Job { fused: tuned, compile: self == Self::Compiled, ..job.clone() };
        let mut command = match self {
            Self::Step10 => Command::new(env::current_exe()?),
            _ => Command::new(python),
        };
        match self {
            Self::Step10 => command.arg("worker"),
            _ => command.arg(script("train.py")?),
        };
        if tuned {
            // What tch_ext::memory::keep_freed and use_huge_pages do for us: glibc reads it when a
            // program begins.
            command
                .env("MALLOC_MMAP_MAX_", "0")
                .env("MALLOC_TRIM_THRESHOLD_", i32::MAX.to_string())
                .env("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1");
        }
        command.arg(serde_json::to_string(&job)?).env("OMP_NUM_THREADS", threads.to_string());
        let answer = said(&mut command)?;
        serde_json::from_str(&answer).with_context(|| format!("{} answers {answer:?}", self.name()))
    }
}

/// Python's side: beside the program, where both were packed for another machine, or in the repository.
pub fn script(name: &str) -> Result<PathBuf> {
    let packed = env::current_exe()?.with_file_name(name);
    Ok(if packed.exists() { packed } else { Path::new(FOLDER).join(name) })
}

/// The Python that `setup` makes.
pub fn venv_python() -> PathBuf {
    Path::new(FOLDER).join(".venv/bin/python")
}

/// Our side's process: does the job and prints the answer.
pub fn worker(job: &str) -> Result<()> {
    let job = serde_json::from_str(job).context("a worker's job is not what it should be")?;
    println!("{}", serde_json::to_string(&ours::work(&job)?)?);
    Ok(())
}

/// A Python whose PyTorch has our libtorch.
///
/// # Errors
/// If there is none, or it has another version.
pub fn python(named: Option<PathBuf>) -> Result<PathBuf> {
    let python = named.unwrap_or_else(venv_python);
    let mut ask = Command::new(&python);
    let version = said(ask.args(["-c", "import torch; print(torch.__version__)"]));
    let version = version.context(SETUP)?;
    let wanted = tch_ext::LIBTORCH_VERSION;
    ensure!(
        version.trim().split('+').next() == Some(wanted),
        "{} has PyTorch {}, step10 has libtorch {wanted}: {SETUP}",
        python.display(),
        version.trim(),
    );
    Ok(python)
}

/// Makes bench/.venv and installs bench/requirements.txt into it.
pub fn setup() -> Result<()> {
    let folder = Path::new(FOLDER).join(".venv");
    let mut venv = Command::new("python3");
    let mut pip = Command::new(folder.join("bin/python"));
    pip.args(["-m", "pip", "install", "--disable-pip-version-check", "-r"]);
    pip.arg(Path::new(FOLDER).join("requirements.txt"));
    for command in [venv.args(["-m", "venv"]).arg(&folder), &mut pip] {
        let program = command.get_program().display().to_string();
        let status = command.status().with_context(|| format!("cannot run {program}"))?;
        ensure!(status.success(), "{program} did not succeed; its own words are above");
    }
    Ok(())
}

/// What a program prints, if it succeeds.
pub fn said(command: &mut Command) -> Result<String> {
    let program = command.get_program().display().to_string();
    let output: io::Result<Output> = command.output();
    let Output { status, stdout, stderr } =
        output.with_context(|| format!("cannot run {program}"))?;
    let stderr = String::from_utf8_lossy(&stderr);
    let last = stderr.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("nothing");
    ensure!(status.success(), "{program} stopped ({status}), it says: {last}");
    Ok(String::from_utf8_lossy(&stdout).into_owned())
}
