//! Cargo, called on this workspace.

use std::{env, path::PathBuf, process::Command};

use anyhow::{Context, Result, anyhow, ensure};

use crate::workspace;

/// The cargo that runs this program, in the repository's root, where `.cargo/config.toml` says where
/// libtorch is.
pub fn command() -> Command {
    let mut cargo = Command::new(env::var("CARGO").unwrap_or_else(|_| "cargo".into()));
    cargo.current_dir(workspace());
    cargo
}

/// Runs a cargo whose output goes to the user.
pub fn run(cargo: &mut Command) -> Result<()> {
    let status = cargo.status().context("cannot run cargo")?;
    ensure!(status.success(), "cargo does not succeed: read what it says above");
    Ok(())
}

/// Where cargo puts what it builds here; the user may have chosen the place.
pub fn target_folder() -> Result<PathBuf> {
    let metadata = ["metadata", "--no-deps", "--offline", "--format-version=1"];
    let output = command().args(metadata).output().context("cannot run cargo")?;
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout)
        .map_err(|_| anyhow!("{}", String::from_utf8_lossy(&output.stderr).trim()))?;
    let target = metadata["target_directory"].as_str().context("cargo names no target folder")?;
    Ok(target.into())
}
