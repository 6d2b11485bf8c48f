//! The command `nanogpt`: a subcommand for each thing to do with a GPT.

mod command;

use clap::{Parser, Subcommand};
use command::{eval, export, import, plot, prepare, sample, size, train};
use std::process::ExitCode;

/// Trains, samples, evaluates and resumes GPTs
#[derive(Parser)]
#[command(name = "nanogpt", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Prepare(prepare::Args),
    Train(train::Args),
    Sample(sample::Args),
    Eval(eval::Args),
    Export(export::Args),
    Import(import::Args),
    Size(size::Args),
    Plot(plot::Args),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    lab::run(|| match cli.command {
        Command::Prepare(args) => prepare::run(&args),
        Command::Train(args) => train::run(&args),
        Command::Sample(args) => sample::run(&args),
        Command::Eval(args) => eval::run(&args),
        Command::Export(args) => export::run(&args),
        Command::Import(args) => import::run(&args),
        Command::Size(args) => size::run(&args),
        Command::Plot(args) => plot::run(&args),
    })
}
