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
        let mut build = Command::new(env::var("CARGO").unwrap_or_else(|_| "cargo".into()));
        build.args(["run", "--profile", "xtask", "--package", "book", "--", "build"]);
        build.current_dir(workspace());
        if self.serve {
            build.args(["--serve", "--port", &self.port.to_string()]);
        }
        let status = build.status().context("cargo does not run")?;
        Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}
