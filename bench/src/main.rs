//! Trains the same model with step10's code and with PyTorch, in turn, and prints how fast each is.

mod job;
mod report;
mod side;
mod tokens;

/// The lesson's code, in whole, and in `ours`, which sees its private parts, what times it.
#[allow(dead_code)] // its `main` is not called here
mod step10 {
    include!("../../steps/step10_grad_accumulation.rs");
    pub mod ours;
}

use anyhow::{Result, ensure};
use clap::{Parser, Subcommand};
use job::{Device, Job, Precision, Size};
use report::{Comparison, Row};
use side::Side;
use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    thread,
};
use tch_ext::precision::bf16_is_fast;

/// Trains the same model with step10's code and with PyTorch, in turn, and prints how fast each is
///
/// Leave the machine alone meanwhile: ten minutes on two cores.
#[derive(Parser)]
struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// One thing only: characters (L6 C384, B64 T256), GPT-2 (124M; B4 T64, on a GPU B16 T1024), or
    /// the ceilings: matrix products, and a single step to see that the losses agree
    #[arg(long, value_parser = ["char", "gpt2", "ceiling"])]
    only: Option<String>,
    /// Where to train
    #[arg(long, default_value = "cpu")]
    device: Device,
    /// How to multiply matrices, as often as wanted [default: fp32, bf16 where the hardware is fast at it,
    /// on a GPU tf32]
    #[arg(long)]
    precision: Vec<Precision>,
    /// Sequences in a batch, instead of the model's own number
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(1..=4096))]
    batch_size: Option<i64>,
    /// Small models and few steps: seconds, to see that it works; the times mean nothing
    #[arg(long)]
    quick: bool,
    /// Also PyTorch with torch.compile, which needs a C++ compiler, on a GPU a C compiler
    #[arg(long)]
    compile: bool,
    /// How often each side takes its turn, in a fresh process each time
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Timed steps in a turn, after some that are not timed [default: 4, on a GPU 20]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    steps: Option<u32>,
    /// Threads of each side [default: one for each core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    threads: Option<u32>,
    /// A Python with PyTorch [default: bench/.venv/bin/python]
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
    /// How fast text becomes shards of tokens, beside Python's tiktoken and multiprocessing
    Tokens(tokens::Args),
    #[command(hide = true)]
    Worker { job: String },
    /// Say whether the device is fast at bfloat16, in JSON
    #[command(hide = true)]
    Fast,
}

impl Args {
    fn threads(&self) -> usize {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        self.threads.map_or(cores, |threads| threads as usize)
    }

    /// Whether the device has instructions for bfloat16. A CPU without them computes each product in
    /// software, and a training step takes minutes.
    ///
    /// # Errors
    /// If there is no such device.
    fn fast_bf16(&self) -> Result<bool> {
        Ok(bf16_is_fast(step10::ours::device(self.device)?)?)
    }

    /// The ways to train, in the order of their turns. Where bfloat16 is not `fast`, its rows have none
    /// unless they are asked for.
    fn rows(&self, fast: bool) -> Vec<Row> {
        use {Precision::*, Side::*};
        let mut rows = match self.device {
            Device::Cpu => {
                vec![(Step10, Fp32), (NanoGpt, Fp32), (Tuned, Fp32), (Step10, Bf16), (Tuned, Bf16)]
            }
            Device::Cuda => {
                let sides = |precision| [(Step10, precision), (Tuned, precision)];
                [Bf16, Tf32, Fp32].into_iter().flat_map(sides).collect()
            }
        };
        if self.compile {
            let tuned: Vec<_> = rows.iter().filter(|(side, _)| *side == Tuned).copied().collect();
            rows.extend(tuned.into_iter().map(|(_, precision)| (Compiled, precision)));
        }
        let asked = |precision| self.precision.is_empty() || self.precision.contains(&precision);
        rows.retain(|&(_, precision)| asked(precision));
        let left_out = |precision| precision == Bf16 && !fast && self.precision.is_empty();
        let row = |(side, precision)| Row::new(side, precision, left_out(precision));
        rows.into_iter().map(row).collect()
    }

    /// What is compared, with nothing measured yet.
    fn comparison(&self, name: &'static str, fast: bool) -> Comparison {
        // The ceilings need a product alone, and whatever model to go with it.
        let mut size = Size::of(name, self.quick || name == "ceiling", self.device);
        if name == "ceiling" {
            size.product = Size::of("gpt2", self.quick, self.device).product;
        }
        size.batch_size = self.batch_size.unwrap_or(size.batch_size);
        let (tokens, flops) = (size.tokens(), size.flops());
        Comparison { name, device: self.device, size, tokens, flops, rows: self.rows(fast) }
    }

    fn job(&self, size: Size, folder: &Path) -> Job {
        let job = Job::new(size, self.device);
        let steps = self.steps.map_or(job.steps, |steps| steps as usize);
        Job { steps, start: folder.join("start.safetensors"), ..job }
    }

    fn compare(&self) -> Result<()> {
        let mut done = Vec::new();
        self.save(&done)?; // a file that cannot be written is known before the work
        let fast = self.fast_bf16()?;
        let rows = self.rows(fast);
        ensure!(!rows.is_empty(), "--precision tf32: only a GPU has it (--device cuda)");
        let python = side::python(self.python.clone())?;
        println!("{}, {} threads, libtorch {}", cpu(), self.threads(), tch_ext::LIBTORCH_VERSION);
        let n = rows.iter().filter(|row| row.left_out).count();
        if n > 0 {
            eprintln!(
                "note: {n} rows of each table are left out: the {} has no instructions for bfloat16, and a step \
                 would take minutes; --precision bf16 measures them all the same",
                if self.device == Device::Cpu { "processor" } else { "GPU" }
            );
        }
        let names: &[&str] =
            if self.only.is_some() { &["char", "gpt2", "ceiling"] } else { &["char", "gpt2"] };
        for &name in names {
            if self.only.as_ref().is_none_or(|only| only == name) {
                done.push(self.comparison(name, fast));
                self.train(&python, &mut done)?;
            }
        }
        let rows = || done.iter().flat_map(|comparison: &Comparison| &comparison.rows);
        let failed = rows().filter(|row| row.error.is_some()).count();
        ensure!(
            failed == 0,
            "{failed} of {} rows failed; why stands in the tables",
            rows().count()
        );
        Ok(())
    }

    /// Lets each side take its turns with the last model of `done`, and saves after each.
    fn train(&self, python: &Path, done: &mut [Comparison]) -> Result<()> {
        let folder = tempfile::tempdir()?;
        let at = done.len() - 1;
        let Comparison { name, size, tokens, flops, .. } = done[at];
        let mut job = self.job(size, folder.path());
        let mut rounds = self.rounds;
        if name == "ceiling" {
            (job.warmup, job.steps, rounds) = (1, 0, 1);
        }
        step10::ours::write_start(&size, job.warmup + job.steps, &job.start)?;
        println!("\n{name}: {size:?}");
        println!("  a step: {} tokens, {:.1} GFLOP", lab::grouped(tokens), flops / 1e9);
        for round in 1..=rounds {
            // A machine that grows warm, or is disturbed for a while, is so for both sides.
            let mut turns: Vec<usize> = (0..done[at].rows.len()).collect();
            if round % 2 == 0 {
                turns.reverse();
            }
            for i in turns {
                let row = &done[at].rows[i];
                if row.error.is_some() || row.left_out {
                    continue;
                }
                let what = row.name();
                eprintln!("{name}, round {round} of {rounds}: {what}");
                let job = Job { precision: row.precision, ..job.clone() };
                let answer = row.side.work(&job, python, self.threads());
                let apart = done[at].add(i, answer);
                if let (Some([first, last]), 1) = (apart, round) {
                    println!(
                        "  same as step10: {what}: losses differ by {first:.0e}, later {last:.0e}"
                    );
                }
                self.save(done)?;
            }
        }
        match name {
            "ceiling" => done[at].print_ceilings(),
            _ => done[at].print(),
        }
        Ok(())
    }

    fn save(&self, done: &[Comparison]) -> Result<()> {
        let Some(path) = &self.json else { return Ok(()) };
        let (threads, libtorch) = (self.threads(), tch_ext::LIBTORCH_VERSION);
        // For whoever times these models elsewhere and wants the share of a ceiling.
        let flops_per_token = ["char", "gpt2"].map(|name| {
            let size = Size::of(name, self.quick, self.device);
            (name, size.flops() / size.tokens() as f64)
        });
        let report = serde_json::json!({
            "cpu": cpu(), "threads": threads, "libtorch": libtorch,
            "flops_per_token": std::collections::BTreeMap::from(flops_per_token),
            "comparisons": done,
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
        Some(Command::Tokens(args)) => tokens::run(args),
        Some(Command::Worker { job }) => side::worker(job),
        Some(Command::Fast) => {
            println!("{}", serde_json::json!({ "bf16": args.fast_bf16()? }));
            Ok(())
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(args: &[&str], fast: bool) -> Vec<(Precision, bool)> {
        let args = Args::parse_from([&["bench"], args].concat());
        args.rows(fast).iter().map(|row| (row.precision, row.left_out)).collect()
    }

    #[test]
    fn bfloat16_is_left_out_where_it_is_slow_unless_asked_for() {
        use Precision::*;
        let left_out = |rows: &[(Precision, bool)]| rows.iter().filter(|row| row.1).count();
        for (args, of_bf16) in [(&[][..], 2), (&["--compile"], 3), (&["--device", "cuda"], 2)] {
            let (slow, fast) = (rows(args, false), rows(args, true));
            assert_eq!((left_out(&slow), left_out(&fast)), (of_bf16, 0), "{args:?}");
            assert!(slow.iter().all(|&(precision, left_out)| left_out == (precision == Bf16)));
        }
        assert_eq!(rows(&["--precision", "bf16"], false), [(Bf16, false); 2]);
    }
}
