//! The fables as shards: what step12 reads by default.

use std::path::PathBuf;

use anyhow::Result;
use lab::{Shards, Tokenizer, grouped};

/// The fables, in shards (made on the spot, in seconds): what step12 reads by default
///
/// Becomes data/fables: 8 million characters to train on, in shards of 250,000 tokens, and 100,000 to validate on. With
/// the 1,024 tokens of step04 it is what step12 makes itself when it is not there.
#[derive(clap::Args)]
pub struct Args {
    /// Put the shards into this folder instead [default: data/fables in the repository, data/fables-gpt2 in
    /// GPT-2's tokens]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,

    /// The tokens: fables, the 1,024 that step04 learns; gpt2's 50,257; or a file that step04 has written
    #[arg(long, value_name = "NAME", default_value = "fables")]
    tokenizer: String,
}

/// Writes the shards, unless they are there.
///
/// # Errors
/// When the folder cannot be written, or has shards of other tokens.
pub fn run(args: &Args) -> Result<()> {
    let tokenizer = Tokenizer::load(&args.tokenizer)?;
    let folder = match &args.out {
        Some(folder) => folder.clone(),
        None => crate::data_folder()?.join(Shards::fables_folder(&tokenizer)),
    };
    let of = |split| {
        let shards = Shards::fables(&folder, split, &tokenizer)?;
        anyhow::Ok(grouped(shards.total()))
    };
    let (train, val) = (of("train")?, of("val")?);
    println!("{} is ready: {train} tokens to train on, {val} to validate on", folder.display());
    Ok(())
}
