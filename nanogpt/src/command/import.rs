use anyhow::{Context, Result, bail};
use lab::{grouped, printable};
use nanogpt::import::{TorchCheckpoint, vocabulary};
use std::path::PathBuf;

/// Turn nanoGPT's own ckpt.pt into a run, without executing anything in it
#[derive(clap::Args)]
pub struct Args {
    /// What nanoGPT's train.py has saved
    #[arg(value_name = "CKPT.PT")]
    checkpoint: PathBuf,

    /// The folder of the run: `nanogpt sample DIR` and `train --init_from DIR` take it
    #[arg(long, value_name = "DIR")]
    out: PathBuf,

    /// Its tokens: gpt2, a data set that `nanogpt prepare` has made of the same text, or a file
    /// [default: gpt2, if it has as many]
    #[arg(long, value_name = "NAME|DIR|FILE")]
    vocab: Option<String>,
}

pub fn run(args: &Args) -> Result<()> {
    let checkpoint = TorchCheckpoint::open(&args.checkpoint)?;
    let (model, step) = (checkpoint.model.clone(), checkpoint.step);
    let vocab = match (&args.vocab, model.vocab_size) {
        (Some(name), _) => name.as_str(),
        (None, 50_257 | 50_304) => "gpt2",
        (None, other) => bail!(
            "the model has {other} tokens, which are not GPT-2's: name the data set that it was trained on with --vocab"
        ),
    };
    let tokenizer = vocabulary(vocab).context("--vocab")?;
    let loss = checkpoint.best_val_loss;
    checkpoint.write_run(&tokenizer, &args.out)?;
    let folder = printable(&args.out.display().to_string());
    println!(
        "{folder} is ready: {} parameters after step {}{}; `nanogpt sample {folder}` writes text",
        grouped(model.n_params(false)),
        grouped(step as i64),
        loss.map_or(String::new(), |loss| format!(", val {loss:.4} at best")),
    );
    Ok(())
}
