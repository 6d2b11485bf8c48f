//! OpenWebText, from Hugging Face's hub: what nanoGPT trains GPT-2 on.
//!
//! <https://huggingface.co/datasets/Skylion007/openwebtext>. The text, of 8 million pages that people on Reddit pointed
//! to, is in 80 parquet files of about 300 MB.

use std::path::PathBuf;

use anyhow::Result;
use lab::Tokenizer;

use crate::{
    hub::{HubFiles, HubFlags, HubSet},
    shards::{Job, SHARD_TOKENS},
};

/// nanoGPT draws the pages to validate on at random, in memory; here they are the first of as large a share.
pub const OPENWEBTEXT: HubSet =
    HubSet { repository: "Skylion007/openwebtext", files: "plain_text", val_share: Some(0.0005) };

/// OpenWebText (24 GB to download, 18 GB of shards): what nanoGPT trains GPT-2 on
///
/// Becomes data/openwebtext, with GPT-2's tokens in shards of 100 million. The first 0.05 % of the pages are to validate
/// on. A run that is stopped goes on where it was when you give the same command again.
#[derive(clap::Args)]
pub struct Args {
    /// Put the shards into this folder instead [default: data/openwebtext in the repository]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,

    /// Stop after so many tokens, those to validate on (about 4.5 million) among them
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(2..))]
    tokens: Option<u64>,

    /// Tokens in a shard
    #[arg(long, value_name = "N", default_value_t = SHARD_TOKENS)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=1 << 32))]
    shard_tokens: u64,

    /// The tokens: gpt2's 50,257; fables, the 1,024 that step04 learns; or a file that step04 has written
    #[arg(long, value_name = "NAME", default_value = "gpt2")]
    tokenizer: String,

    #[command(flatten)]
    hub: HubFlags,
}

/// Prepares the shards, unless they are there.
///
/// # Errors
/// As [`fineweb_edu::run`](crate::fineweb_edu::run).
pub fn run(args: &Args) -> Result<()> {
    let folder = match &args.out {
        Some(folder) => folder.clone(),
        None => crate::data_folder()?.join("openwebtext"),
    };
    let tokenizer = Tokenizer::load(&args.tokenizer)?;
    let source = HubFiles::new(&OPENWEBTEXT, &args.hub, &folder)?;
    let job = Job {
        name: "openwebtext",
        folder: &folder,
        tokenizer: &tokenizer,
        keeps_vocabulary: false,
        needs_val: false,
        shard_tokens: args.shard_tokens,
        most_tokens: args.tokens,
        settings: vec![("files", source.description())],
    };
    job.run(&source)
}
