//! `cargo xtask book`: builds the book. The work is done by the crate in `book/preprocessor`, whose
//! libraries `cargo xtask` need not wait for.

use std::{
    env,
    process::{Command, ExitCode},
};

use anyhow::{Context, Result};
use clap::Args;

use crate::workspace;

/// Build the book into book/book and check its links
///
/// Fails if a chapter asks for code, an output or a page that is not there, and names the line.
#[derive(Args)]
pub struct Book {
    /// Show it in the browser, and build it again when something changes
    #[arg(long)]
    serve: bool,
    /// The port for --serve
    #[arg(long, default_value_t = 3000, requires = "serve")]
    port: u16,
}

impl Book {
    pub fn run(&self) -> Result<ExitCode> {
        let mut build = program(&[]);
        build.arg("build");
        if self.serve {
            build.args(["--serve", "--port", &self.port.to_string()]);
        }
        let status = build.status().context("cargo does not run")?;
        Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

/// The program of the crate `book`, without arguments yet: cargo builds it first, if need be, and takes
/// `options` for itself.
pub fn program(options: &[&str]) -> Command {
    let mut cargo = Command::new(env::var("CARGO").unwrap_or_else(|_| "cargo".into()));
    cargo.args(["run", "--profile", "xtask", "--package", "book"]).args(options).arg("--");
    cargo.current_dir(workspace());
    cargo
}
