use super::knobs::{self, Knobs};
use anyhow::Result;
use lab::RankFlags;

/// Train a model: from nothing, from a GPT-2, or from where a run was stopped
#[derive(clap::Args)]
#[command(after_help = knobs::list())]
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
    println!(
        "done after step {}: val {:.4}, at best {:.4}; `nanogpt sample {}` writes text",
        report.step, report.val_loss, report.best_val_loss, config.out_dir
    );
    Ok(())
}
