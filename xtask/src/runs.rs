//! What can be recorded and checked: every step as it stands, every variation of one, which is a patch in
//! `steps/patches`, and every try-out of a section.

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use anyhow::{Context, Result, bail, ensure};
use ladder::{patch, steps::Step};
use regex::Regex;

use crate::{
    cargo,
    record::{OUTPUT, QUICK, RECORD},
    sections,
    variations::{self, Program},
    workspace,
};

/// A run of a step, or of what is made of it.
#[derive(Clone)]
pub struct Run {
    pub step: Step,
    pub kind: Kind,
    /// `step02`, or `step02-no_mask`: the name of its folder in `book/recorded`.
    pub name: String,
    /// What a person types after `cargo run --bin stepNN_name --`.
    pub args: Vec<String>,
    /// Whether it takes a twentieth of the steps, as `--quick` says.
    pub quick: bool,
}

#[derive(Clone)]
pub enum Kind {
    Step,
    /// A patch, by its path, and what must match a line each of what it prints.
    Variation {
        patch: String,
        shows: Vec<Regex>,
    },
    /// The program as it is after a section.
    Tryout {
        program: String,
    },
}

/// What a run leaves behind.
pub struct Outcome {
    /// As printed without a terminal.
    pub output: String,
    /// The files that it wrote, by name: `record.json`, `metrics.csv` and plots.
    pub files: BTreeMap<String, Vec<u8>>,
    pub seconds: f64,
}

impl Run {
    fn of_step(step: &Step) -> Self {
        let (step, name) = (step.clone(), step.key().into());
        Self { step, kind: Kind::Step, name, args: Vec::new(), quick: false }
    }

    /// Reads a patch's head:
    ///
    /// ```text
    /// Title: A head that sees the future
    /// Kind: break
    /// Args: --steps 300
    /// Shows: step +300 .* val 0\.
    /// ```
    fn of_patch(step: &Step, path: &str, text: &str) -> Result<Self> {
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
            kind: Kind::Variation { patch: path.into(), shows },
            name: name.to_string_lossy().into_owned(),
            args: first("Args:").unwrap_or_default().split_whitespace().map(Into::into).collect(),
            ..Self::of_step(step)
        })
    }

    pub fn is_step(&self) -> bool {
        matches!(self.kind, Kind::Step)
    }

    /// The file of its record that a check compares with.
    pub fn compared(&self) -> &'static str {
        match (&self.kind, self.quick) {
            (Kind::Tryout { .. }, _) => OUTPUT,
            (_, true) => QUICK,
            (_, false) => RECORD,
        }
    }

    /// What a person types.
    pub fn command(&self) -> String {
        let args = if self.args.is_empty() { "" } else { &format!(" -- {}", self.args.join(" ")) };
        format!("cargo run --bin {}{args}", self.step.name)
    }

    /// The folder in `book/recorded` that its record is kept in.
    pub fn folder(&self, recorded: &Path) -> PathBuf {
        recorded.join(&self.name)
    }

    /// What it makes of its step, which does not run as it stands then.
    fn program(&self) -> Result<Option<Program>> {
        let patch = match &self.kind {
            Kind::Step => return Ok(None),
            Kind::Tryout { program } => return Ok(Some(Program::unfinished(&self.name, program))),
            Kind::Variation { patch, .. } => patch,
        };
        let mut files = patch::apply(patch, &read(patch)?, read)?;
        for path in [self.step.program(), self.step.proof()] {
            if !files.iter().any(|(changed, _)| *changed == path) {
                let text = read(&path)?;
                files.push((path, text));
            }
        }
        Ok(Some(Program { name: self.name.clone(), main: self.step.program(), files }))
    }

    /// What keeps a check, on whatever processor, to the float32 in which the records were made: bfloat16 is the
    /// default of later steps where the hardware is fast at it, and its rounding moves a loss by more than that
    /// of another processor.
    fn precision_of_the_record(&self) -> &'static [&'static str] {
        let source = match &self.kind {
            Kind::Tryout { program } => program,
            _ => &read(&self.step.program()).unwrap_or_default(),
        };
        let chosen = self.args.iter().any(|arg| arg == "--precision");
        let choosable = source.contains("precision: Option<Precision>");
        if choosable && !chosen { &["--precision", "float32"] } else { &[] }
    }

    /// Runs its program, which is in the folder `programs`, in a folder of its own, on the CPU, which every
    /// machine has, and with so many threads as `threads` says, or else as OMP_NUM_THREADS or libtorch says.
    ///
    /// # Errors
    /// If it cannot be started or fails, or if its output lacks what a variation is to show.
    pub fn run(&self, programs: &Path, threads: Option<u32>) -> Result<Outcome> {
        let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
        #[cfg(unix)]
        if let Kind::Tryout { .. } = self.kind {
            // It runs in a clone, and may read a fixture of the tests.
            std::os::unix::fs::symlink(workspace().join("tests"), folder.path().join("tests"))?;
        }
        let name = if self.is_step() { &self.step.name } else { &self.name };
        let program = programs.join(name).with_extension(env::consts::EXE_EXTENSION);
        // As it is by default for the step, and for a variation too, whose program has another name.
        let out = Path::new("out").join(&self.step.name);
        let start = Instant::now();
        let output = Command::new(&program)
            .args(&self.args)
            .args(self.quick.then_some("--quick"))
            .args(["--device", "cpu", "--out"])
            .arg(&out)
            .args(threads.map_or(&[][..], |_| self.precision_of_the_record()))
            .current_dir(folder.path())
            .envs(threads.map(|threads| ("OMP_NUM_THREADS", threads.to_string())))
            .output()
            .with_context(|| format!("cannot run {}", program.display()))?;
        let seconds = start.elapsed().as_secs_f64();
        ensure!(
            output.status.success(),
            "{} fails ({}): {}",
            self.command(),
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
        let output = String::from_utf8(output.stdout).context("its output is no UTF-8 text")?;
        self.ensure_shown(&output)?;
        Ok(Outcome { output, files: files_in(&folder.path().join(out))?, seconds })
    }

    fn ensure_shown(&self, output: &str) -> Result<()> {
        let Kind::Variation { patch, shows } = &self.kind else { return Ok(()) };
        for regex in shows {
            ensure!(
                output.lines().any(|line| regex.is_match(line)),
                "no line of its output matches `Shows: {regex}` of {patch}; it printed:\n{output}"
            );
        }
        Ok(())
    }
}

fn read(path: &str) -> Result<String> {
    fs::read_to_string(workspace().join(path)).with_context(|| format!("cannot read {path}"))
}

/// The files in `folder`, if it is there: a step that only prints makes none. Not those in folders below it, such
/// as checkpoints.
fn files_in(folder: &Path) -> Result<BTreeMap<String, Vec<u8>>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            let name = entry.file_name().to_string_lossy().into_owned();
            files.insert(name, fs::read(entry.path())?);
        }
    }
    Ok(files)
}

/// Builds the programs of the runs and returns their folder.
pub fn build(runs: &[Run]) -> Result<PathBuf> {
    cargo::run(cargo::command().args(["build", "--package=lab", "--bins"]))?;
    let others = runs.iter().filter_map(|run| run.program().transpose());
    let others = others.collect::<Result<Vec<_>>>()?;
    if !others.is_empty() {
        variations::build(&others)?;
    }
    Ok(cargo::target_folder()?.join("debug"))
}

/// The runs that `names` name: `step02` and `step02_attention` the step, all its variations and the try-outs of its
/// chapter, `step02-no_mask` that variation alone, nothing at all everything. In the order of the steps.
pub fn named(names: &[String]) -> Result<Vec<Run>> {
    let mut runs = Vec::new();
    for (step, chapter) in sections::of_working_tree(workspace())? {
        runs.push(Run::of_step(&step));
        for path in step.patches(workspace()) {
            runs.push(Run::of_patch(&step, &path, &read(&path)?).context(path)?);
        }
        for (i, section) in chapter.sections.iter().enumerate() {
            if section.tryout.is_some() {
                let kind = Kind::Tryout { program: chapter.state(i + 1) };
                runs.push(Run { kind, name: section.slug.clone(), ..Run::of_step(&step) });
            }
        }
    }
    let is_meant =
        |run: &Run, name: &String| [&*run.name, run.step.key(), &run.step.name].contains(&&**name);
    if let Some(unknown) = names.iter().find(|name| !runs.iter().any(|run| is_meant(run, name))) {
        let known: Vec<&str> = runs.iter().map(|run| &*run.name).collect();
        bail!(
            "there is no step, no patch and no try-out `{unknown}`: there are {}",
            known.join(", ")
        );
    }
    if !names.is_empty() {
        runs.retain(|run| names.iter().any(|name| is_meant(run, name)));
    }
    Ok(runs)
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

    fn run(path: &str, patch: &str) -> Result<Run> {
        Run::of_patch(&steps::among(["steps/step00_tensors.rs"])[0], path, patch)
    }

    fn refused(patch: &str) -> String {
        format!("{:#}", run("steps/patches/step00-x.patch", patch).err().unwrap())
    }

    #[test]
    fn the_header_is_read() {
        let run = run("steps/patches/step00-small.patch", PATCH).unwrap();
        assert_eq!(run.name, "step00-small");
        assert_eq!(run.args, ["--steps", "10"]);
        assert!(matches!(run.kind, Kind::Variation { shows, .. } if shows.len() == 2));
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
        let run = run("steps/patches/step00-small.patch", PATCH).unwrap();
        assert!(run.ensure_shown("w: 1 ok\nloss: 2 NO (± 1)\n").is_ok());
        let why = run.ensure_shown("w: 1 ok\nloss: 2 ok\n").unwrap_err().to_string();
        assert!(why.contains("^loss: .* NO") && why.contains("step00-small.patch"), "{why}");
    }

    #[test]
    fn a_patch_that_does_not_apply_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("step00-small.patch");
        fs::write(&path, PATCH).unwrap();
        let run = run(path.to_str().unwrap(), PATCH).unwrap();
        let why = run.program().err().unwrap().to_string();
        assert!(
            why.contains("step00-small.patch does not apply to steps/step00_tensors.rs"),
            "{why}"
        );
    }
}
