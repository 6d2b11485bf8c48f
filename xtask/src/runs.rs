//! What can be recorded and checked: every step as it stands, and every variation of one.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use anyhow::{Context, Result, bail, ensure};
use ladder::steps::Step;

use crate::{
    record::{OUTPUT, QUICK, RECORD},
    sections,
    variations::Variation,
    workspace,
};

/// A run of a step, or of a variation of it.
pub struct Run {
    pub step: Step,
    pub variation: Option<Variation>,
    /// Whether it takes a twentieth of the steps, as `--quick` says.
    pub quick: bool,
}

/// What a run leaves behind.
pub struct Outcome {
    /// As printed without a terminal.
    pub output: String,
    /// The files that it wrote, by name: `record.json`, `metrics.csv` and plots.
    pub files: Vec<(String, Vec<u8>)>,
    pub seconds: f64,
}

impl Outcome {
    pub fn file(&self, name: &str) -> Option<&[u8]> {
        self.files.iter().find(|(file, _)| file == name).map(|(_, content)| content.as_slice())
    }
}

impl Run {
    fn new(step: &Step, variation: Option<Variation>) -> Self {
        Self { step: step.clone(), variation, quick: false }
    }

    /// The same step, for a twentieth of its training steps.
    pub fn quickly(&self) -> Self {
        Self { quick: true, ..Self::new(&self.step, None) }
    }

    /// `step02`, or `step02-no_mask`: the name of its folder in `book/recorded`.
    pub fn name(&self) -> &str {
        self.variation.as_ref().map_or(self.step.key(), |variation| &variation.name)
    }

    /// Whether it is the try-out of a section.
    pub fn is_tryout(&self) -> bool {
        self.variation.as_ref().is_some_and(|variation| variation.program.is_some())
    }

    /// The file of its record that a check compares with.
    pub fn compared(&self) -> &'static str {
        match (self.is_tryout(), self.quick) {
            (true, _) => OUTPUT,
            (false, true) => QUICK,
            (false, false) => RECORD,
        }
    }

    /// What a person types after `cargo run --bin stepNN_name --`.
    pub fn args(&self) -> &[String] {
        self.variation.as_ref().map_or(&[], |variation| &variation.args)
    }

    /// What a person types.
    pub fn command(&self) -> String {
        let mut command = format!("cargo run --bin {}", self.step.name);
        if !self.args().is_empty() {
            command += &format!(" -- {}", self.args().join(" "));
        }
        command
    }

    /// The folder in `book/recorded` that its record is kept in.
    pub fn folder(&self, recorded: &Path) -> PathBuf {
        recorded.join(self.name())
    }

    /// What keeps a check, on whatever processor, to the float32 in which the records were made: bfloat16 is the
    /// default of later steps where the hardware is fast at it, and its rounding moves a loss by more than that
    /// of another processor.
    fn precision_of_the_record(&self) -> &'static [&'static str] {
        let of_step =
            || fs::read_to_string(workspace().join(self.step.program())).unwrap_or_default();
        let own = self.variation.as_ref().and_then(|variation| variation.program.clone());
        let source = own.unwrap_or_else(of_step);
        let chosen = self.args().iter().any(|arg| arg == "--precision");
        let choosable = source.contains("precision: Option<Precision>");
        if choosable && !chosen { &["--precision", "float32"] } else { &[] }
    }

    /// Runs `program` in a folder of its own, on the CPU, which every machine has, and with so many
    /// threads as `threads` says, or else as OMP_NUM_THREADS or libtorch says.
    ///
    /// # Errors
    /// If it cannot be started or fails, or if its output lacks what a variation is to show.
    pub fn run(&self, program: &Path, threads: Option<u32>) -> Result<Outcome> {
        let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
        #[cfg(unix)]
        if self.is_tryout() {
            // It runs in a clone, and may read a fixture of the tests.
            std::os::unix::fs::symlink(workspace().join("tests"), folder.path().join("tests"))?;
        }
        // As it is by default for the step, and for a variation too, whose program has another name.
        let out = Path::new("out").join(&self.step.name);
        let start = Instant::now();
        let output = Command::new(program)
            .args(self.args())
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
        if let Some(variation) = &self.variation {
            variation.ensure_shown(&output)?;
        }
        Ok(Outcome { output, files: files_in(&folder.path().join(out))?, seconds })
    }
}

/// The files in `folder`, if it is there: a step that only prints makes none. Not those in folders below it, such
/// as checkpoints.
fn files_in(folder: &Path) -> Result<Vec<(String, Vec<u8>)>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            continue;
        }
        files.push((entry.file_name().to_string_lossy().into_owned(), fs::read(entry.path())?));
    }
    files.sort();
    Ok(files)
}

/// Every run, in the order of the steps, each followed by its variations and the try-outs of its chapter.
pub fn all() -> Result<Vec<Run>> {
    let mut runs = Vec::new();
    for (step, chapter) in sections::of_working_tree(workspace(), |_| true)? {
        runs.push(Run::new(&step, None));
        for path in step.patches(workspace()) {
            runs.push(Run::new(&step, Some(Variation::read(&path)?)));
        }
        for (i, section) in chapter.sections.iter().enumerate() {
            if section.tryout.is_some() {
                let tryout = Variation::tryout(&section.slug, &step, chapter.state(i + 1));
                runs.push(Run::new(&step, Some(tryout)));
            }
        }
    }
    Ok(runs)
}

/// The runs that `names` name: `step02` and `step02_attention` the step and all its variations,
/// `step02-no_mask` that variation alone, nothing at all everything.
pub fn named(names: &[String]) -> Result<Vec<Run>> {
    let mut runs = all()?;
    let is_meant = |run: &Run, name: &String| {
        run.name() == name || run.step.key() == name || run.step.name == *name
    };
    if let Some(unknown) = names.iter().find(|name| !runs.iter().any(|run| is_meant(run, name))) {
        let known: Vec<&str> = runs.iter().map(Run::name).collect();
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
