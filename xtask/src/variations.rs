//! How programs are built that are no steps: variations of them, and what they are after each section.
//!
//! They are the programs of a double of this workspace below the target folder: its manifest is the root's with
//! these programs instead of the steps, everything else in it is a link to the root. To cargo it is the same
//! workspace, lock file and all, so whatever is built for the steps is built for the variations, and one call
//! builds all of them.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use toml_edit::{ArrayOfTables, DocumentMut, Table, value};

use crate::{cargo, workspace};

/// A program that is no step.
pub struct Program {
    pub name: String,
    /// The file that it begins in.
    pub main: String,
    /// All its files, by their paths, and what is in them.
    pub files: Vec<(String, String)>,
}

impl Program {
    /// A step that is not whole yet, and may have functions that nothing calls.
    pub fn unfinished(name: &str, text: &str) -> Self {
        let main = "lesson.rs".to_string();
        let text = format!("#![allow(dead_code)]\n{text}");
        Self { name: name.into(), files: vec![(main.clone(), text)], main }
    }
}

/// Builds programs, which then lie among those of the steps, under their own names.
pub fn build(programs: &[Program]) -> Result<()> {
    double("build", programs).map(|_| ())
}

/// Compiles programs as far as to find all errors, and holds them against rustfmt.
pub fn check(programs: &[Program]) -> Result<()> {
    let (folder, _lock) = double("check", programs)?;
    let mut rustfmt = Command::new("rustfmt");
    rustfmt.args(["--check", "--edition=2024", "--config-path"]).arg(workspace());
    rustfmt.args(programs.iter().map(|program| folder.join(&program.name).join(&program.main)));
    let status = rustfmt.status().context("cannot run rustfmt")?;
    ensure!(status.success(), "rustfmt would have them otherwise: read what it says above");
    Ok(())
}

/// Runs a command of cargo on a double of this workspace, with other programs, and returns its folder. Until the
/// file is dropped, no one else has it.
fn double(command: &str, programs: &[Program]) -> Result<(PathBuf, File)> {
    let target = cargo::target_folder()?;
    let folder = target.join("variations");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let lock = File::create(folder.join(".lock"))?;
    lock.lock()?;

    let manifest = fs::read_to_string(workspace().join("Cargo.toml")).context("Cargo.toml")?;
    let mut manifest: DocumentMut = manifest.parse().context("Cargo.toml")?;
    let mut bins = ArrayOfTables::new();
    for Program { name, main, files } in programs {
        for (path, text) in files {
            write_new(&folder.join(name).join(path), text)?;
        }
        bins.push(bin(name, &format!("{name}/{main}")));
    }
    manifest["bin"] = bins.into();
    link_root(&folder).with_context(|| format!("cannot write {}", folder.display()))?;
    write_new(&folder.join("Cargo.toml"), &manifest.to_string())?;

    let mut cargo = cargo::command();
    cargo.args([command, "--package=lab", "--bins", "--manifest-path"]);
    cargo.arg(folder.join("Cargo.toml")).arg("--target-dir").arg(&target);
    cargo::run(&mut cargo)?;
    Ok((folder, lock))
}

/// What a manifest says of a program.
pub fn bin(name: &str, path: &str) -> Table {
    let mut bin = Table::new();
    bin["name"] = value(name);
    bin["path"] = value(path);
    bin["test"] = value(false);
    bin
}

/// Writes a file, but does not touch one that is so already: cargo rebuilds what is newer than its program.
fn write_new(path: &Path, content: &str) -> Result<()> {
    if fs::read(path).is_ok_and(|old| old == content.as_bytes()) {
        return Ok(());
    }
    files::write_atomically(path, |file| Ok(file.write_all(content.as_bytes())?))
}

/// Links all that the repository's root holds, but for its manifest, into the folder `double`.
#[cfg(unix)]
fn link_root(double: &Path) -> Result<()> {
    for entry in fs::read_dir(workspace())? {
        let entry = entry?;
        let (name, link) = (entry.file_name(), double.join(entry.file_name()));
        let is_hidden = name.as_encoded_bytes().starts_with(b".");
        if !is_hidden && name != "Cargo.toml" && name != "target" && !link.is_symlink() {
            std::os::unix::fs::symlink(entry.path(), link)?;
        }
    }
    Ok(())
}

#[cfg(not(unix))]
fn link_root(_: &Path) -> Result<()> {
    anyhow::bail!("variations are built on Linux and macOS only, where a folder can be linked")
}
