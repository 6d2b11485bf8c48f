//! FineWeb-Edu's sample of 10 billion tokens, from Hugging Face's hub: what build-nanogpt trains GPT-2 on.
//!
//! <https://huggingface.co/datasets/HuggingFaceFW/fineweb-edu>. The text is in parquet files of about 2 GB.

use std::path::PathBuf;

use anyhow::Result;
use lab::Tokenizer;

use crate::{
    hub::{HubFiles, HubFlags, HubSet},
    shards::{Job, SHARD_TOKENS, expect_some_to_train_on},
};

/// The configuration sample-10BT.
pub const FINEWEB_EDU: HubSet =
    HubSet { repository: "HuggingFaceFW/fineweb-edu", files: "sample/10BT", val_share: None };

/// FineWeb-Edu, the sample of 10 billion tokens (28 GB to download, 20 GB of shards): what build-nanogpt trains GPT-2 on
///
/// Becomes data/fineweb-edu, with GPT-2's tokens in shards of 100 million: edufineweb_val_000000.npy, which is to
/// validate on, edufineweb_train_000001.npy, … A run that is stopped goes on where it was when you give the
/// same command again.
#[derive(clap::Args)]
pub struct Args {
    /// Put the shards into this folder instead [default: data/fineweb-edu in the repository]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,

    /// Stop after so many tokens, those to validate on among them
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(2..))]
    tokens: Option<u64>,

    /// Tokens in a shard; the first shard is to validate on
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
/// When a file cannot be downloaded or is not what the hub promised, the disk is full, or the folder has another
/// data set; says how to go on.
pub fn run(args: &Args) -> Result<()> {
    let folder = match &args.out {
        Some(folder) => folder.clone(),
        None => crate::data_folder()?.join("fineweb-edu"),
    };
    expect_some_to_train_on(args.tokens, args.shard_tokens)?;
    let tokenizer = Tokenizer::load(&args.tokenizer)?;
    let source = HubFiles::new(&FINEWEB_EDU, &args.hub, &folder)?;
    let job = Job {
        name: "edufineweb",
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
