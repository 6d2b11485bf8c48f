//! FineWeb-Edu's sample of 10 billion tokens, from Hugging Face's hub: what build-nanogpt trains GPT-2 on.
//!
//! <https://huggingface.co/datasets/HuggingFaceFW/fineweb-edu>. The text is in parquet files of about 2 GB.

use anyhow::Result;

use crate::hub::{HubArgs, HubSet};

/// The configuration sample-10BT.
pub const FINEWEB_EDU: HubSet = HubSet {
    folder: "fineweb-edu",
    shards: "edufineweb",
    repository: "HuggingFaceFW/fineweb-edu",
    files: "sample/10BT",
    val_share: None,
};

/// FineWeb-Edu, the sample of 10 billion tokens (28 GB to download, 20 GB of shards): what build-nanogpt trains GPT-2 on
///
/// Becomes data/fineweb-edu, with GPT-2's tokens in shards of 100 million: edufineweb_val_000000.npy, which is to
/// validate on, edufineweb_train_000001.npy, … A run that is stopped goes on where it was when you give the
/// same command again.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    hub: HubArgs,
}

/// Prepares the shards, unless they are there.
///
/// # Errors
/// See [`HubSet::prepare`].
pub fn run(args: &Args) -> Result<()> {
    FINEWEB_EDU.prepare(&args.hub)
}
