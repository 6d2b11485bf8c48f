//! What the tests of training have in common: a small data set, a small model, and the command that trains it.
#![allow(dead_code)] // not every test has a use for all of it

use nanogpt::metrics;
use std::{
    fs,
    path::PathBuf,
    process::{Command, Output},
};

/// A folder with a data set of characters, in which `nanogpt` is run.
pub struct Workshop(tempfile::TempDir);

pub const SETTINGS: &str = "
dataset = 'data/letters'
out_dir = 'out'
eval_interval = 8
eval_iters = 2
gradient_accumulation_steps = 2
batch_size = 2
block_size = 16
n_layer = 2
n_head = 2
n_embd = 16
dropout = 0.1
learning_rate = 1e-2
max_iters = 20
lr_decay_iters = 20
warmup_iters = 4
device = 'cpu'
dtype = 'float32'
threads = 1
";

impl Workshop {
    pub fn new() -> Self {
        let workshop = Self(tempfile::tempdir().unwrap());
        let text: String = (0..4000).map(|i| char::from(b'a' + (i * i % 23) as u8)).collect();
        fs::write(workshop.path("letters.txt"), text).unwrap();
        fs::write(workshop.path("run.toml"), SETTINGS).unwrap();
        let prepare = ["prepare", "letters.txt", "--vocab", "characters", "--out", "data/letters"];
        succeeded(&workshop.run(&prepare));
        workshop
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_nanogpt"));
        command.current_dir(self.0.path()).args(args);
        command.env("OMP_NUM_THREADS", "1"); // two threads that share a busy core wait for each other
        command
    }

    pub fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    pub fn train(&self, out: &str, args: &[&str]) -> Output {
        self.run(&[&["train", "run.toml", "--out_dir", out], args].concat())
    }

    /// The tensors that a run has ended with, as bytes.
    pub fn end(&self, out: &str) -> Vec<u8> {
        fs::read(self.path(out).join("checkpoints/step_000020.safetensors")).unwrap()
    }

    /// The step, the losses of an evaluation and the loss of the step, of each row of a run's metrics.
    pub fn losses(&self, out: &str) -> Vec<(usize, [Option<f64>; 3])> {
        let rows = metrics::read(&self.path(out).join("metrics.csv")).unwrap();
        rows.iter().map(|row| (row.step, [row.train_loss, row.val_loss, row.loss])).collect()
    }

    /// The names and the contents of the files in a folder, sorted; none, where it is not there.
    pub fn files(&self, folder: &str) -> Vec<(String, Vec<u8>)> {
        let entries = fs::read_dir(self.path(folder)).into_iter().flatten().map(Result::unwrap);
        let plain = entries.filter(|entry| entry.path().is_file());
        let file = |entry: fs::DirEntry| {
            (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())
        };
        let mut files: Vec<_> = plain.map(file).collect();
        files.sort();
        files
    }
}

#[track_caller]
pub fn succeeded(output: &Output) -> String {
    assert!(output.status.success(), "{}", said(output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[track_caller]
pub fn refused(output: &Output, parts: &[&str]) {
    let said = said(output);
    assert!(matches!(output.status.code(), Some(1 | 2)), "{output:?}");
    assert!(parts.iter().all(|part| said.contains(part)), "{said}");
}

/// What a program has written to stderr.
pub fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
