//! The command `nanogpt`: a subcommand for each thing to do with a GPT.

mod command;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use command::{
    bench, completions, eval, export, import, plot, prepare, sample, scaling, size, train,
};
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
    Bench(bench::Args),
    Scaling(scaling::Args),
    Plot(plot::Args),
    Completions(completions::Args),
}

fn main() -> ExitCode {
    // A number that is refused for being negative is to be met as one, not as a flag that there isn't.
    let command = Cli::command().mut_subcommands(|command| command.allow_negative_numbers(true));
    let cli = Cli::from_arg_matches(&command.get_matches()).unwrap_or_else(|error| error.exit());
    lab::run(|| match cli.command {
        Command::Prepare(args) => prepare::run(&args),
        Command::Train(args) => train::run(&args),
        Command::Sample(args) => sample::run(&args),
        Command::Eval(args) => eval::run(&args),
        Command::Export(args) => export::run(&args),
        Command::Import(args) => import::run(&args),
        Command::Size(args) => size::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Scaling(args) => scaling::run(&args),
        Command::Plot(args) => plot::run(&args),
        Command::Completions(args) => completions::run(&args),
    })
}
