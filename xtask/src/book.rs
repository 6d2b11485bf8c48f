//! `cargo xtask book`: builds the book. The work is done by the crate in `book/preprocessor`, whose
//! libraries `cargo xtask` need not wait for.

use std::process::{Command, ExitCode};

use anyhow::{Context, Result};
use clap::Args;

use crate::{variations::cargo_program, workspace};

/// Build the book into book/book and check its links
///
/// Fails if a chapter asks for code, an output or a page that is not there, and names the line.
#[derive(Args)]
pub struct Book {}

impl Book {
    pub fn run(&self) -> Result<ExitCode> {
        let mut build = Command::new(cargo_program());
        build.args(["run", "--profile", "xtask", "--package", "book", "--", "build"]);
        let status = build.current_dir(workspace()).status().context("cargo does not run")?;
        Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}
