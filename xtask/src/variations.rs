//! Variations of steps: the patches in `steps/patches`, and how they are built.
//!
//! A patch is applied to a copy of the steps, never to the steps. The copies are the programs of a
//! double of this workspace below the target folder: its manifest is the root's with these programs
//! instead of the steps, everything else in it is a link to the root. To cargo it is the same workspace,
//! lock file and all, so whatever is built for the steps is built for the variations, and one call
//! builds all of them.

use std::{
    env,
    ffi::OsStr,
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, anyhow, ensure};
use ladder::{patch, steps::Step};
use regex::Regex;
use toml_edit::{ArrayOfTables, DocumentMut, Table, value};

use crate::workspace;

/// A patch of `steps/patches` with what its header says.
pub struct Variation {
    /// `step02-no_mask`
    pub name: String,
    /// From the repository's root.
    pub path: String,
    /// What the program is run with.
    pub args: Vec<String>,
    /// Each must match a line of what it prints.
    pub shows: Vec<Regex>,
    /// The whole program, if it is the try-out of a section and no patch; `path` is then where it goes.
    pub program: Option<String>,
}

impl Variation {
    /// Reads a patch's head:
    ///
    /// ```text
    /// Title: A head that sees the future
    /// Kind: break
    /// Args: --steps 300
    /// Shows: step +300 .* val 0\.
    /// ```
    pub fn read(path: &str) -> Result<Self> {
        Self::parse(path, &read(path)?).with_context(|| path.to_string())
    }

    fn parse(path: &str, text: &str) -> Result<Self> {
        let first = |name| patch::said(text, name).next().filter(|value| !value.is_empty());
        first("Title:").context("its header lacks a line `Title: …`")?;
        let kind = first("Kind:").context("its header lacks a line `Kind: break` or `solution`")?;
        ensure!(
            ["break", "solution"].contains(&kind),
            "Kind is `break` or `solution`, not `{kind}`"
        );
        let shows: Result<Vec<Regex>, _> = patch::said(text, "Shows:").map(Regex::new).collect();
        let shows = shows.context("what stands after Shows: is no regular expression")?;
        ensure!(!shows.is_empty(), "its header lacks a line `Shows: …`");
        let name = Path::new(path).file_stem().expect("the path of a patch");
        Ok(Self {
            name: name.to_string_lossy().into_owned(),
            path: path.into(),
            args: first("Args:").unwrap_or_default().split_whitespace().map(Into::into).collect(),
            shows,
            program: None,
        })
    }

    /// The try-out of a section: the program as it is after it.
    pub fn tryout(slug: &str, step: &Step, program: String) -> Self {
        Self {
            name: slug.into(),
            path: step.program(),
            args: Vec::new(),
            shows: Vec::new(),
            program: Some(program),
        }
    }

    pub fn ensure_shown(&self, output: &str) -> Result<()> {
        for regex in &self.shows {
            let shown = output.lines().any(|line| regex.is_match(line));
            ensure!(
                shown,
                "no line of its output matches `Shows: {regex}` of {}; it printed:\n{output}",
                self.path
            );
        }
        Ok(())
    }

    /// What it makes of its step.
    pub fn of(&self, step: &Step) -> Result<Program> {
        if let Some(program) = &self.program {
            return Ok(Program::unfinished(&self.name, program));
        }
        let mut changed = patch::apply(&self.path, &read(&self.path)?, read)?;
        for path in [step.program(), step.proof()] {
            if !changed.iter().any(|file| file.0 == path) {
                let text = read(&path)?;
                changed.push((path, text));
            }
        }
        Ok(Program { name: self.name.clone(), main: step.program(), files: changed })
    }
}

fn read(path: &str) -> Result<String> {
    fs::read_to_string(workspace().join(path)).with_context(|| format!("cannot read {path}"))
}

/// A program that is no step.
pub struct Program {
    pub name: String,
    /// The file that it begins in.
    main: String,
    /// All its files, by their paths, and what is in them.
    files: Vec<(String, String)>,
}

impl Program {
    /// A step that is not whole yet, and may have functions that nothing calls.
    pub fn unfinished(name: &str, text: &str) -> Self {
        let main = "lesson.rs".to_string();
        let text = format!("#![allow(dead_code)]\n{text}");
        Self { name: name.into(), files: vec![(main.clone(), text)], main }
    }
}

/// Builds the steps and returns the folder of their programs.
pub fn build_steps() -> Result<PathBuf> {
    let target = target_folder()?;
    cargo(&["build".as_ref(), "--package=lab".as_ref(), "--bins".as_ref()])?;
    Ok(target.join("debug"))
}

/// Builds programs and returns the folder where they are, under their names.
pub fn build(programs: &[Program]) -> Result<PathBuf> {
    let double = Double::with(programs)?;
    double.cargo("build")?;
    Ok(double.target.join("debug"))
}

/// Compiles programs as far as to find all errors, and holds them against rustfmt.
pub fn check(programs: &[Program]) -> Result<()> {
    let double = Double::with(programs)?;
    double.cargo("check")?;
    let mut rustfmt = Command::new("rustfmt");
    rustfmt.args(["--check", "--edition=2024", "--config-path"]).arg(workspace());
    rustfmt
        .args(programs.iter().map(|program| double.folder.join(&program.name).join(&program.main)));
    let status = rustfmt.status().context("cannot run rustfmt")?;
    ensure!(status.success(), "rustfmt would have them otherwise: read what it says above");
    Ok(())
}

/// A double of this workspace, with other programs. Until it is dropped, no one else has it.
struct Double {
    folder: PathBuf,
    target: PathBuf,
    _lock: File,
}

impl Double {
    fn with(programs: &[Program]) -> Result<Self> {
        let target = target_folder()?;
        let folder = target.join("variations");
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let lock = File::create(folder.join(".lock"))?;
        lock.lock()?;

        let mut manifest: DocumentMut = read("Cargo.toml")?.parse().context("Cargo.toml")?;
        let mut bins = ArrayOfTables::new();
        for Program { name, main, files } in programs {
            for (path, text) in files {
                write_new(&folder.join(name).join(path), text)?;
            }
            let mut bin = Table::new();
            bin["name"] = value(name);
            bin["path"] = value(format!("{name}/{main}"));
            bin["test"] = value(false);
            bins.push(bin);
        }
        manifest["bin"] = bins.into();
        link_root(&folder).with_context(|| format!("cannot write {}", folder.display()))?;
        write_new(&folder.join("Cargo.toml"), &manifest.to_string())?;
        Ok(Self { folder, target, _lock: lock })
    }

    fn cargo(&self, command: &str) -> Result<()> {
        cargo(&[
            command.as_ref(),
            "--package=lab".as_ref(),
            "--bins".as_ref(),
            "--manifest-path".as_ref(),
            self.folder.join("Cargo.toml").as_os_str(),
            "--target-dir".as_ref(),
            self.target.as_os_str(),
        ])
    }
}

/// Writes a file, but does not touch one that is so already: cargo rebuilds what is newer than its program.
fn write_new(path: &Path, content: &str) -> Result<()> {
    if fs::read(path).is_ok_and(|old| old == content.as_bytes()) {
        return Ok(());
    }
    let write = || -> std::io::Result<()> {
        fs::create_dir_all(path.parent().expect("a file in a folder"))?;
        fs::write(path, content)
    };
    write().with_context(|| format!("cannot write {}", path.display()))
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

/// Where cargo puts what it builds here; the user may have chosen the place.
pub fn target_folder() -> Result<PathBuf> {
    let mut command = Command::new(cargo_program());
    command.args(["metadata", "--no-deps", "--offline", "--format-version=1"]);
    let output = command.current_dir(workspace()).output().context("cannot run cargo")?;
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout)
        .map_err(|_| anyhow!("{}", String::from_utf8_lossy(&output.stderr).trim()))?;
    let target = metadata["target_directory"].as_str().context("cargo names no target folder")?;
    Ok(target.into())
}

/// Runs cargo in the repository's root, where `.cargo/config.toml` says where libtorch is.
fn cargo(args: &[&OsStr]) -> Result<()> {
    let status = Command::new(cargo_program()).args(args).current_dir(workspace()).status();
    let status = status.context("cannot run cargo")?;
    ensure!(status.success(), "cargo cannot build the programs: read what it says above");
    Ok(())
}

pub fn cargo_program() -> String {
    env::var("CARGO").unwrap_or_else(|_| "cargo".into())
}

#[cfg(test)]
mod tests {
    use ladder::steps;

    use super::*;

    const PATCH: &str = "\
Title: A smaller step
Kind: break
Args: --steps 10
Shows: ^loss: .* NO
Shows: ok$

--- a/steps/step00_tensors.rs
+++ b/steps/step00_tensors.rs
@@ -1,1 +1,1 @@
-no such line
+another line
";

    fn refused(patch: &str) -> String {
        format!("{:#}", Variation::parse("steps/patches/step00-x.patch", patch).err().unwrap())
    }

    #[test]
    fn the_header_is_read() {
        let variation = Variation::parse("steps/patches/step00-small.patch", PATCH).unwrap();
        assert_eq!(variation.name, "step00-small");
        assert_eq!(variation.args, ["--steps", "10"]);
        assert_eq!(variation.shows.len(), 2);
    }

    #[test]
    fn a_header_that_lacks_something_is_refused() {
        for name in ["Title", "Kind", "Shows"] {
            assert!(refused(&PATCH.replace(name, "Other")).contains(name), "{name}");
        }
        assert!(refused(&PATCH.replace("break", "joke")).contains("joke"));
        assert!(refused(&PATCH.replace("ok$", "(ok")).contains("Shows"));
    }

    #[test]
    fn every_regex_must_match_some_line() {
        let variation = Variation::parse("steps/patches/step00-small.patch", PATCH).unwrap();
        assert!(variation.ensure_shown("w: 1 ok\nloss: 2 NO (± 1)\n").is_ok());
        let why = variation.ensure_shown("w: 1 ok\nloss: 2 ok\n").unwrap_err().to_string();
        assert!(why.contains("^loss: .* NO") && why.contains("step00-small.patch"), "{why}");
    }

    #[test]
    fn a_patch_that_does_not_apply_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("step00-small.patch");
        fs::write(&path, PATCH).unwrap();
        let step = steps::among(["steps/step00_tensors.rs"]).remove(0);
        let variation = Variation::read(path.to_str().unwrap()).unwrap();
        let why = variation.of(&step).err().unwrap().to_string();
        assert!(
            why.contains("step00-small.patch does not apply to steps/step00_tensors.rs"),
            "{why}"
        );
    }
}
