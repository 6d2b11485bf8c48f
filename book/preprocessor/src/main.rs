//! The book's program. Without a subcommand it is a preprocessor as `mdbook` calls them; with `build` it
//! builds the book itself, so that nobody has to install mdbook.

use std::{io, path::Path, process::ExitCode};

use anyhow::{Context, Result};
use book::{Steps, build};
use clap::{Parser, Subcommand};
use mdbook_preprocessor::{Preprocessor, parse_input};

#[derive(Parser)]
/// Builds the book; without a subcommand, fills the chapters that mdbook hands over
struct Program {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Build the book and check its links
    Build,
    /// Answer mdbook, which asks whether this goes with a renderer
    #[command(hide = true)]
    Supports { renderer: String },
}

fn main() -> ExitCode {
    match run(Program::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Option<Command>) -> Result<()> {
    match command {
        None => preprocess(),
        Some(Command::Supports { .. }) => Ok(()),
        Some(Command::Build) => {
            let book = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize()?;
            let pages = build::build(&book)?;
            println!("open {}", pages.join("index.html").display());
            Ok(())
        }
    }
}

/// mdbook hands the whole book over on standard input and takes it back on standard output.
fn preprocess() -> Result<()> {
    let (context, book) = parse_input(io::stdin())?;
    let book = Steps.run(&context, book)?;
    serde_json::to_writer(io::stdout(), &book).context("mdbook no longer listens")
}
