//! OpenWebText, from Hugging Face's hub: what nanoGPT trains GPT-2 on.
//!
//! <https://huggingface.co/datasets/Skylion007/openwebtext>. The text, of 8 million pages that people on Reddit pointed
//! to, is in 80 parquet files of about 300 MB.

use anyhow::Result;

use crate::hub::{HubArgs, HubSet};

/// nanoGPT draws the pages to validate on at random, in memory; here they are the first of as large a share.
pub const OPENWEBTEXT: HubSet = HubSet {
    folder: "openwebtext",
    shards: "openwebtext",
    repository: "Skylion007/openwebtext",
    files: "plain_text",
    val_share: Some(0.0005),
};

/// OpenWebText (24 GB to download, 18 GB of shards): what nanoGPT trains GPT-2 on
///
/// Becomes data/openwebtext, with GPT-2's tokens in shards of 100 million. The first 0.05 % of the pages are to validate
/// on. A run that is stopped goes on where it was when you give the same command again.
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
    OPENWEBTEXT.prepare(&args.hub)
}
