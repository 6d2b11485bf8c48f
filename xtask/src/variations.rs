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
use regex::Regex;
use toml_edit::{ArrayOfTables, DocumentMut, Table, value};

use ladder::steps::Step;

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
    /// Reads a patch's header, which is what stands before its first file:
    ///
    /// ```text
    /// Title: A head that sees the future
    /// Kind: break
    /// Args: --steps 300
    /// Shows: step +300 .* val 0\.
    /// ```
    pub fn read(path: &str) -> Result<Self> {
        let text = fs::read_to_string(workspace().join(path))
            .with_context(|| format!("cannot read {path}"))?;
        Self::parse(path, &text).with_context(|| path.to_string())
    }

    fn parse(path: &str, text: &str) -> Result<Self> {
        let header = text.lines().take_while(|line| !line.starts_with("--- "));
        let header: Vec<&str> = header.take_while(|line| !line.starts_with("diff ")).collect();
        let all = |name: &'static str| {
            header.iter().filter_map(move |line| Some(line.strip_prefix(name)?.trim()))
        };
        let first = |name| all(name).next().filter(|value| !value.is_empty());
        first("Title:").context("its header lacks a line `Title: …`")?;
        let kind = first("Kind:").context("its header lacks a line `Kind: break` or `solution`")?;
        ensure!(
            ["break", "solution"].contains(&kind),
            "Kind is `break` or `solution`, not `{kind}`"
        );
        let shows: Result<Vec<Regex>, _> = all("Shows:").map(Regex::new).collect();
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

    /// Puts the patched steps into the folder `to`, without touching files that are so already:
    /// cargo rebuilds what is newer than its program.
    fn write(&self, to: &Path) -> Result<()> {
        if let Some(program) = &self.program {
            fs::create_dir_all(to)?;
            let name = Path::new(&self.path).file_name().context("the path of a program")?;
            return write_new(&to.join(name), unfinished(program).as_bytes());
        }
        let copy = tempfile::tempdir().context("cannot make a temporary folder")?;
        copy_new(&workspace().join("steps"), &copy.path().join("steps"))?;
        let patch = workspace().join(&self.path);
        let applied = Command::new("git")
            .args(["apply", "--whitespace=nowarn"])
            .arg(patch)
            .current_dir(copy.path())
            // git must not take a repository around the folder for the one to patch.
            .env("GIT_CEILING_DIRECTORIES", copy.path().parent().unwrap_or(Path::new("/")))
            .env_remove("GIT_DIR")
            .env_remove("GIT_INDEX_FILE")
            .env_remove("GIT_WORK_TREE")
            .output()
            .context("cannot run git")?;
        ensure!(
            applied.status.success(),
            "{} does not apply to the step as it is now (git says: {}): carry it forward with \
             `cargo xtask propagate`, or make it anew",
            self.path,
            String::from_utf8_lossy(&applied.stderr).trim().replace('\n', "; ")
        );
        copy_new(&copy.path().join("steps"), to)
    }
}

/// Copies what lies in a folder and in folders in it, except files that are the same there.
fn copy_new(from: &Path, to: &Path) -> Result<()> {
    let copy = || -> Result<()> {
        fs::create_dir_all(to)?;
        for entry in fs::read_dir(from)? {
            let (from, to) = {
                let entry = entry?;
                (entry.path(), to.join(entry.file_name()))
            };
            if from.is_dir() {
                copy_new(&from, &to)?;
            } else {
                write_new(&to, &fs::read(&from)?)?;
            }
        }
        Ok(())
    };
    copy().with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))
}

/// The program, told not to mind the functions that nothing calls before the step is whole.
fn unfinished(program: &str) -> String {
    format!("#![allow(dead_code)]\n{program}")
}

fn write_new(path: &Path, content: &[u8]) -> Result<()> {
    match fs::read(path) {
        Ok(old) if old == content => Ok(()),
        _ => Ok(fs::write(path, content)?),
    }
}

/// Builds the steps and returns the folder of their programs.
pub fn build_steps() -> Result<PathBuf> {
    let target = target_folder()?;
    cargo(&["build".as_ref(), "--package=lab".as_ref(), "--bins".as_ref()])?;
    Ok(target.join("debug"))
}

/// Builds variations of `(program of the step, variation)` and returns the folder of their programs,
/// which are named as the variations are.
pub fn build(variations: &[(String, &Variation)]) -> Result<PathBuf> {
    let double = Double::open("variations")?;
    let mut programs = Vec::new();
    for (program, variation) in variations {
        variation.write(&double.folder.join(&variation.name))?;
        // Of steps/step02_attention.rs now step02-no_mask/step02_attention.rs
        let path = program.replacen("steps", &variation.name, 1);
        programs.push((variation.name.as_str(), path));
    }
    double.cargo("build", &programs)
}

/// Compiles programs, each with its name, as far as to find all errors.
pub fn check(programs: &[(String, String)]) -> Result<()> {
    let double = Double::open(SECTIONS)?;
    double.cargo("check", &double.written(programs)?)?;
    Ok(())
}

/// Builds one program, and returns where it is.
pub fn build_program(name: &str, program: &str) -> Result<PathBuf> {
    let double = Double::open(SECTIONS)?;
    let program = [(name.to_string(), program.to_string())];
    let folder = double.cargo("build", &double.written(&program)?)?;
    Ok(folder.join(name).with_extension(env::consts::EXE_EXTENSION))
}

/// The double whose programs are those of the lecture.
const SECTIONS: &str = "sections";

/// A double of this workspace, with other programs. Until it is dropped, no one else has it.
struct Double {
    folder: PathBuf,
    target: PathBuf,
    _lock: File,
}

impl Double {
    fn open(name: &str) -> Result<Self> {
        let target = target_folder()?;
        let folder = target.join(name);
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let lock = File::create(folder.join(".lock"))?;
        lock.lock()?;
        Ok(Self { folder, target, _lock: lock })
    }

    /// Writes programs into it, each with its name, and returns them as [`cargo`](Self::cargo) takes them.
    fn written<'a>(&self, programs: &'a [(String, String)]) -> Result<Vec<(&'a str, String)>> {
        let mut written = Vec::new();
        for (name, program) in programs {
            let path = format!("{name}.rs");
            write_new(&self.folder.join(&path), unfinished(program).as_bytes())?;
            written.push((name.as_str(), path));
        }
        Ok(written)
    }

    /// Lets cargo build or check the programs, by name and path, and returns the folder where it puts them.
    fn cargo(&self, command: &str, programs: &[(&str, String)]) -> Result<PathBuf> {
        let mut bins = ArrayOfTables::new();
        for (name, path) in programs {
            let mut bin = Table::new();
            bin["name"] = value(*name);
            bin["path"] = value(path);
            bin["test"] = value(false);
            bins.push(bin);
        }
        let root = fs::read_to_string(workspace().join("Cargo.toml"))?;
        let mut manifest: DocumentMut = root.parse().context("Cargo.toml")?;
        manifest["bin"] = bins.into();
        let folder = &self.folder;
        link_root(folder).with_context(|| format!("cannot write {}", folder.display()))?;
        write_new(&folder.join("Cargo.toml"), manifest.to_string().as_bytes())?;
        cargo(&[
            command.as_ref(),
            "--package=lab".as_ref(),
            "--bins".as_ref(),
            "--manifest-path".as_ref(),
            folder.join("Cargo.toml").as_os_str(),
            "--target-dir".as_ref(),
            self.target.as_os_str(),
        ])?;
        Ok(self.target.join("debug"))
    }
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
    fn a_patch_that_does_not_apply_says_so_and_touches_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("step00-small.patch");
        fs::write(&path, PATCH).unwrap();
        let variation = Variation::read(path.to_str().unwrap()).unwrap();
        let to = folder.path().join("applied");
        let why = variation.write(&to).unwrap_err().to_string();
        assert!(why.contains("step00-small.patch does not apply"), "{why}");
        assert!(why.contains("steps/step00_tensors.rs"), "{why}");
        assert!(!to.exists());
    }
}
