//! The book's program. Without an argument it is a preprocessor as `mdbook` calls them; with `build` it
//! builds the book itself, so that nobody has to install mdbook.

use std::{env, io, path::Path, process::ExitCode};

use anyhow::{Context, Result, bail};
use book::{Steps, build};
use mdbook_preprocessor::{Preprocessor, parse_input};

fn main() -> ExitCode {
    let done = run();
    if let Err(error) = &done {
        eprintln!("error: {error:#}");
    }
    if done.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn run() -> Result<()> {
    match env::args().nth(1).as_deref() {
        // mdbook hands the whole book over on standard input and takes it back on standard output.
        None => {
            let (context, book) = parse_input(io::stdin())?;
            let book = Steps.run(&context, book)?;
            serde_json::to_writer(io::stdout(), &book).context("mdbook no longer listens")
        }
        // mdbook asks whether this goes with a renderer.
        Some("supports") => Ok(()),
        Some("build") => {
            let book = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize()?;
            let pages = build::build(&book)?;
            println!("open {}", pages.join("index.html").display());
            Ok(())
        }
        Some(other) => bail!("{other} is unknown here: `cargo xtask book` builds the book"),
    }
}
