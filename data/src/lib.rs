//! Data sets and weights, downloaded and made ready for the lessons.
//!
//! Heavy dependencies live here, so that the lessons build fast: a lesson only reads the folders
//! that this crate fills. Every data set is a module with its flags (`Args`) and its `run`, and a
//! subcommand of the program.

pub mod fables;
pub mod fineweb_edu;
pub mod gpt2;
pub mod hellaswag;
pub mod hub;
pub mod learn;
pub mod one_file;
pub mod openwebtext;
mod pieces;
mod progress;
mod rows;
pub mod shakespeare;
pub mod shards;
pub mod text;
pub mod tokens;

use std::{
    env,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

/// The repository's folder `data/`, whose subfolders hold the data sets.
///
/// The repository is looked for from the current folder upward, then from where cargo found this
/// program's source; the path is relative where it lies below the current folder.
///
/// # Errors
/// When neither leads to the repository.
pub fn data_folder() -> Result<PathBuf> {
    let here = env::current_dir().context("the current folder is gone; go to another one")?;
    let source = env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    let folder = [Some(here.clone()), source]
        .iter()
        .flatten()
        .flat_map(|start| start.ancestors())
        .map(|ancestor| ancestor.join("data"))
        .find(|folder| folder.join("Cargo.toml").is_file())
        .context("there is no repository around the current folder; say where to with --out")?;
    Ok(folder.strip_prefix(&here).map(Path::to_owned).unwrap_or(folder))
}
