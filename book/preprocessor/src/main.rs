//! The book's program. Without a subcommand it is a preprocessor as `mdbook` calls them; with one it
//! builds the book itself, so that nobody has to install mdbook.

use std::{
    io,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result};
use book::{Steps, build, serve};
use clap::{Args, Parser, Subcommand};
use mdbook_preprocessor::{Preprocessor, parse_input};

#[derive(Parser)]
/// Builds the book; without a subcommand, fills the chapters that mdbook hands over
struct Program {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    Build(Build),
    Check(Check),
    /// Answer mdbook, which asks whether this goes with a renderer
    #[command(hide = true)]
    Supports {
        renderer: String,
    },
}

/// Build the book and check its links
#[derive(Args)]
struct Build {
    /// Show it in the browser, and build it again when something changes
    #[arg(long)]
    serve: bool,
    /// The port for --serve
    #[arg(long, default_value_t = 3000)]
    port: u16,
    /// The book's folder
    #[arg(long, value_name = "FOLDER", default_value = folder())]
    book: PathBuf,
}

/// Check the links of the built book
#[derive(Args)]
struct Check {
    /// The folder of its pages
    #[arg(value_name = "FOLDER", default_value = pages())]
    pages: PathBuf,
}

fn folder() -> &'static str {
    concat!(env!("CARGO_MANIFEST_DIR"), "/..")
}

fn pages() -> &'static str {
    concat!(env!("CARGO_MANIFEST_DIR"), "/../book")
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
        Some(Command::Build(Build { serve: true, port, book })) => {
            serve::serve(&resolved(&book)?, port)
        }
        Some(Command::Build(Build { book, .. })) => {
            let pages = build::build(&resolved(&book)?)?;
            println!("open {}", pages.join("index.html").display());
            Ok(())
        }
        Some(Command::Check(Check { pages })) => build::check(&resolved(&pages)?),
    }
}

fn resolved(folder: &Path) -> Result<PathBuf> {
    folder.canonicalize().with_context(|| format!("{}", folder.display()))
}

/// mdbook hands the whole book over on standard input and takes it back on standard output.
fn preprocess() -> Result<()> {
    let (context, book) = parse_input(io::stdin())?;
    let book = Steps.run(&context, book)?;
    serde_json::to_writer(io::stdout(), &book).context("mdbook no longer listens")
}
