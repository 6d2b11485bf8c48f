use super::knobs::{self, Knobs};
use anyhow::{Context, Result};
use lab::RankFlags;
use nanogpt::config::{OnWriteError, quoted};
use std::io::{self, Write};

/// The steps begin with two processes, or one for each GPU.
const NPROC: &str = "How many processes to start on this machine, each with its share of the cores or with a GPU of \
                     its own [default: 1]";

/// Train a model: from nothing, from a GPT-2, or from where a run was stopped
#[derive(clap::Args)]
#[command(after_help = knobs::list())]
#[command(mut_arg("nproc", |arg| arg.help(NPROC)))]
pub struct Args {
    #[command(flatten)]
    knobs: Knobs,

    #[command(flatten)]
    ranks: RankFlags,
}

pub fn run(args: &Args) -> Result<()> {
    let config = args.knobs.load()?;
    let ranks = args.ranks.clone().or_one();
    if ranks.launch()? {
        return Ok(()); // this process has started the ranks, and they are done
    }
    let threads = (config.threads > 0).then_some(config.threads);
    if let Some(threads) = threads {
        tch::set_num_threads(threads);
    }
    let device = lab::device(&config.device)?;
    let world = ranks.join_on(device, threads)?;
    let report = nanogpt::train(&config, &world, device)?;
    let next = match report.step > 0 && !config.eval_only {
        true => format!("; `nanogpt sample {}` writes text", quoted(&config.out_dir)),
        false => String::new(),
    };
    let said = writeln!(
        io::stdout(),
        "done after step {}: val {:.4}, at best {:.4}{next}",
        report.step,
        report.val_loss,
        report.best_val_loss
    );
    match config.on_write_error {
        OnWriteError::Stop => said.context("failed printing to stdout"),
        OnWriteError::GoOn => Ok(()),
    }
}
