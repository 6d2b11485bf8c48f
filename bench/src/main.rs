//! Trains the same model with step10's code and with PyTorch, in turn, and prints how fast each is.

mod job;
mod report;
mod side;

/// The lesson's code, in whole, and in `ours`, which sees its private parts, what times it.
#[allow(dead_code)] // its `main` is not called here
mod step10 {
    include!("../../steps/step10_grad_accumulation.rs");
    pub mod ours;
}

use anyhow::Result;
use clap::{Parser, Subcommand};
use job::{Job, Size};
use report::{Comparison, Row};
use side::Side;
use std::{fs, path::PathBuf, process::ExitCode, thread};

/// Trains the same model with step10's code and with PyTorch, in turn, and prints how fast each is
///
/// Leave the machine alone meanwhile: ten minutes on two cores.
#[derive(Parser)]
struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// Compare one model only: characters (L6 C384, B64 T256), or GPT-2 (124M, B4 T64)
    #[arg(long, value_parser = ["char", "gpt2"])]
    only: Option<String>,
    /// Small models and few steps: seconds, to see that it works; the times mean nothing
    #[arg(long)]
    quick: bool,
    /// Also PyTorch with torch.compile, which needs a C++ compiler
    #[arg(long)]
    compile: bool,
    /// How often each side takes its turn, in a fresh process each time
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Timed steps in a turn; two before them are not timed
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..))]
    steps: u32,
    /// Threads of each side [default: one for each core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    threads: Option<u32>,
    /// A Python with PyTorch and numpy [default: bench/.venv/bin/python]
    #[arg(long, value_name = "PATH")]
    python: Option<PathBuf>,
    /// Write all that is measured to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Command {
    /// Install PyTorch for the comparison into bench/.venv (5 GB)
    Setup,
    #[command(hide = true)]
    Worker { job: String },
}

impl Args {
    fn threads(&self) -> usize {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        self.threads.map_or(cores, |threads| threads as usize)
    }

    fn rows(&self) -> Vec<Row> {
        let mut rows = vec![(Side::Step10, false), (Side::NanoGpt, false), (Side::Tuned, false)];
        rows.extend([(Side::Step10, true), (Side::Tuned, true)]);
        if self.compile {
            rows.extend([(Side::Compiled, false), (Side::Compiled, true)]);
        }
        rows.into_iter().map(|(side, bf16)| Row::new(side, bf16)).collect()
    }

    fn compare(&self) -> Result<()> {
        let mut done = Vec::new();
        self.save(&done)?; // a file that cannot be written is known before the work
        let python = side::python(self.python.clone())?;
        println!("{}, {} threads, libtorch {}", cpu(), self.threads(), tch_ext::LIBTORCH_VERSION);
        for name in ["char", "gpt2"] {
            if self.only.as_ref().is_none_or(|only| only == name) {
                done.push(self.train(name, &python)?);
                self.save(&done)?;
            }
        }
        Ok(())
    }

    fn train(&self, name: &'static str, python: &std::path::Path) -> Result<Comparison> {
        let size = Size::of(name, self.quick);
        let folder = tempfile::tempdir()?;
        let start = folder.path().join("start.safetensors");
        let job = Job { steps: self.steps as usize, start, ..Job::new(size) };
        step10::ours::write_start(&size, job.warmup + job.steps, &job.start)?;
        let (tokens, flops) = (size.tokens(), size.flops());
        println!("\n{name}: {size:?}");
        println!("  a step: {} tokens, {:.1} GFLOP", lab::grouped(tokens), flops / 1e9);
        let mut rows = self.rows();
        for round in 1..=self.rounds {
            for i in 0..rows.len() {
                let (side, bf16) = (rows[i].side, rows[i].bf16);
                let what = format!("{} {}", side.name(), rows[i].precision());
                eprintln!("{name}, round {round} of {}: {what}", self.rounds);
                let job = Job { bf16, ..job.clone() };
                rows[i].add(side.work(&job, python, self.threads())?);
                let ours = rows.iter().find(|row| row.side == Side::Step10 && row.bf16 == bf16);
                if let Some(ours) = ours.filter(|ours| round == 1 && ours.side != side) {
                    let [first, last] = rows[i].same_as(ours)?;
                    println!(
                        "  same as step10: {what}: losses differ by {first:.0e}, later {last:.0e}"
                    );
                }
            }
        }
        let comparison = Comparison { name, size, tokens, flops, rows };
        comparison.print();
        Ok(comparison)
    }

    fn save(&self, done: &[Comparison]) -> Result<()> {
        let Some(path) = &self.json else { return Ok(()) };
        let (threads, libtorch) = (self.threads(), tch_ext::LIBTORCH_VERSION);
        let report = serde_json::json!({
            "cpu": cpu(), "threads": threads, "libtorch": libtorch, "comparisons": done,
        });
        files::write_atomically(path, |file| Ok(serde_json::to_writer_pretty(file, &report)?))
    }
}

fn cpu() -> String {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = cpuinfo.lines().find_map(|line| line.strip_prefix("model name\t: "));
    name.unwrap_or("an unknown processor").into()
}

fn main() -> ExitCode {
    let args = Args::parse();
    lab::run(|| match &args.command {
        None => args.compare(),
        Some(Command::Setup) => side::setup(),
        Some(Command::Worker { job }) => side::worker(job),
    })
}
