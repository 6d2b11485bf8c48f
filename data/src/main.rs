//! The program of the crate: one subcommand for each data set.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use data::shakespeare;

/// Downloads data sets and makes them ready for the lessons
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
    Shakespeare(shakespeare::Args),
}

impl DataSet {
    fn prepare(&self) -> Result<()> {
        match self {
            DataSet::Shakespeare(args) => shakespeare::run(args),
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
