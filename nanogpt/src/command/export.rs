use anyhow::Result;
use lab::printable;
use nanogpt::{export::export, source};
use std::path::PathBuf;
use tch::Device;

/// Write a model as a folder that Hugging Face's libraries load
#[derive(clap::Args)]
pub struct Args {
    /// The folder of a run (its best checkpoint is taken), a folder of Hugging Face's, or gpt2 …
    #[arg(value_name = "FROM")]
    from: String,

    /// Where to: a folder that is not there yet, or empty
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

pub fn run(args: &Args) -> Result<()> {
    let (model, tokenizer) = source::open(&args.from, Device::Cpu)?;
    export(&model, &tokenizer, &args.out)?;
    let folder = printable(&args.out.display().to_string());
    println!(
        "{folder} is ready: GPT2LMHeadModel.from_pretrained({folder:?}) and AutoTokenizer.from_pretrained({folder:?}) \
         load it, and so does `nanogpt sample {folder}`"
    );
    Ok(())
}
