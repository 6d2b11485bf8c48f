//! The program of the crate: one subcommand for each data set, and for each model.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use data::{fables, fineweb_edu, gpt2, hellaswag, openwebtext, shakespeare, tokens};

/// Downloads data sets and weights, and makes them ready for the lessons
///
/// Everything goes to a subfolder of data/, which git ignores. What is already there and right is
/// not downloaded again, and a download that is stopped leaves nothing half-done behind.
#[derive(Parser)]
#[command(name = "data", version)]
struct Cli {
    #[command(subcommand)]
    data_set: DataSet,
}

#[derive(Subcommand)]
enum DataSet {
    Fables(fables::Args),
    Shakespeare(shakespeare::Args),
    Hellaswag(hellaswag::Args),
    FinewebEdu(fineweb_edu::Args),
    Openwebtext(openwebtext::Args),
    Tokens(tokens::Args),
    /// GPT-2's weights (548 MB): what the lessons read with --weights data/gpt2
    ///
    /// Becomes data/gpt2/config.json and data/gpt2/model.safetensors, from Hugging Face's hub. Their
    /// checksums are compared, so that every reader has the same weights. Files that are already there
    /// are kept, and what Hugging Face's own programs have downloaded is not downloaded again.
    Gpt2(gpt2::Args),
    /// GPT-2 medium's weights (1.5 GB), in data/gpt2-medium
    Gpt2Medium(gpt2::Args),
    /// GPT-2 large's weights (3.2 GB), in data/gpt2-large
    Gpt2Large(gpt2::Args),
    /// GPT-2 XL's weights (6.4 GB), in data/gpt2-xl
    Gpt2Xl(gpt2::Args),
}

impl DataSet {
    fn prepare(&self) -> Result<()> {
        match self {
            DataSet::Fables(args) => fables::run(args),
            DataSet::Shakespeare(args) => shakespeare::run(args),
            DataSet::Hellaswag(args) => hellaswag::run(args),
            DataSet::FinewebEdu(args) => fineweb_edu::run(args),
            DataSet::Openwebtext(args) => openwebtext::run(args),
            DataSet::Tokens(args) => tokens::run(args),
            DataSet::Gpt2(args) => gpt2::run(args, &gpt2::GPT2),
            DataSet::Gpt2Medium(args) => gpt2::run(args, &gpt2::GPT2_MEDIUM),
            DataSet::Gpt2Large(args) => gpt2::run(args, &gpt2::GPT2_LARGE),
            DataSet::Gpt2Xl(args) => gpt2::run(args, &gpt2::GPT2_XL),
        }
    }
}

fn main() -> ExitCode {
    match Cli::parse().data_set.prepare() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
