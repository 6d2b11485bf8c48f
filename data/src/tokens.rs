//! Any text as shards.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use lab::Tokenizer;

use crate::{
    shards::{Job, SHARD_TOKENS},
    text::Texts,
};

/// Text of your own, in shards: .txt, .jsonl and .parquet files, or folders of them
///
/// In a text, lines that say <|endoftext|> separate documents; in a .jsonl or .parquet file each line or row is one. The
/// end of all is to validate on. A run that is stopped goes on where it was when you give the same command again.
#[derive(clap::Args)]
pub struct Args {
    /// Files of text (UTF-8), of JSON lines (.jsonl, .ndjson) or of parquet, or folders, which are searched for them
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,

    /// Put the shards into this folder instead [default: data/<the first file's name>-<the tokenizer's> in
    /// the repository]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,

    /// The tokens: gpt2's 50,257; fables, the 1,024 that step04 learns; or a file that step04 has written
    #[arg(long, value_name = "NAME", default_value = "gpt2")]
    tokenizer: String,

    /// The field of a line of JSON, or the column, that has the text
    #[arg(long, value_name = "NAME", default_value = "text")]
    field: String,

    /// Which share of the text, at its end, is to validate on
    #[arg(long, value_name = "SHARE", default_value_t = 0.1, value_parser = share)]
    val_share: f64,

    /// Tokens in a shard
    #[arg(long, value_name = "N", default_value_t = SHARD_TOKENS)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=1 << 32))]
    shard_tokens: u64,
}

fn share(text: &str) -> Result<f64> {
    let share = text.parse().ok().filter(|share| (0.0..1.0).contains(share));
    share.context("choose a number from 0 to less than 1")
}

/// Prepares the shards, unless they are there.
///
/// # Errors
/// When a file is missing, empty or no text, a line is no JSON or has no such field, the disk is full, or the folder has
/// another data set; says which and how to go on.
pub fn run(args: &Args) -> Result<()> {
    let stem = |path: &PathBuf| path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let texts = Texts::new(&args.files, &args.field, args.val_share)?;
    let tokenizer = Tokenizer::load(&args.tokenizer)?;
    let name = stem(&args.files[0]);
    let folder = match &args.out {
        Some(folder) => folder.clone(),
        None => {
            ensure!(
                !name.is_empty(),
                "{} has no name; say where to with --out",
                args.files[0].display()
            );
            let tokenizer = stem(&PathBuf::from(&args.tokenizer));
            crate::data_folder()?.join(format!("{name}-{tokenizer}"))
        }
    };
    let job = Job {
        name: if name.is_empty() { "tokens" } else { &name },
        folder: &folder,
        tokenizer: &tokenizer,
        keeps_vocabulary: false,
        needs_val: false,
        shard_tokens: args.shard_tokens,
        most_tokens: None,
        settings: vec![
            ("files", texts.description()),
            ("field", args.field.as_str().into()),
            ("val-share", args.val_share.into()),
        ],
    };
    job.run(&texts)
}
