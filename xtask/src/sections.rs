//! `cargo xtask sections`: how the chapters cut the steps into commits.

use std::{
    env, fs,
    path::Path,
    process::{Command, ExitCode},
};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use ladder::{
    chapter::Chapter,
    steps::{self, Step},
};

use crate::{
    variations::{self, Program},
    workspace,
};

/// List the sections of the chapters, each of which is a commit of the lecture
///
/// Says how many lines each changes, and fails if the sections of a chapter do not add up to its step.
#[derive(Args)]
pub struct Sections {
    /// Of which chapters: step02; of all by default
    #[arg(value_name = "STEP")]
    names: Vec<String>,

    /// Print the program as it is after this section
    #[arg(long, value_name = "SLUG")]
    show: Option<String>,

    /// Build the program as it is after this section, and run it
    #[arg(long, value_name = "SLUG")]
    run: Option<String>,

    /// Compile the program after each section, and hold it against rustfmt
    #[arg(long)]
    check: bool,
}

impl Sections {
    pub fn run(&self) -> Result<ExitCode> {
        let steps = steps::in_folder(workspace())?;
        for name in &self.names {
            let known = steps.iter().any(|step| is_called(step, name));
            ensure!(known, "there is no step {name}: `cargo xtask sections` lists them all");
        }
        let is_meant = |step: &Step| {
            self.names.is_empty() || self.names.iter().any(|name| is_called(step, name))
        };
        let chapters = of_working_tree(workspace(), is_meant)?;
        if let Some(slug) = &self.show {
            print!("{}", program_after(&chapters, slug)?);
            return Ok(ExitCode::SUCCESS);
        }
        if let Some(slug) = &self.run {
            let program = Program::unfinished(slug, &program_after(&chapters, slug)?);
            let program = variations::build(&[program])?.join(slug);
            let program = program.with_extension(env::consts::EXE_EXTENSION);
            let status = Command::new(program).status().context("it does not run")?;
            return Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        let mut all = Vec::new();
        for (step, chapter) in &chapters {
            println!("{}", step.name);
            for (i, section) in chapter.sections.iter().enumerate() {
                let (added, removed) =
                    chapter.changed(i + 1).with_context(|| section.slug.clone())?;
                let tryout = if section.tryout.is_some() { "  try-out" } else { "" };
                println!(
                    "  {:<36}{:>6}{:>6}{tryout}",
                    section.slug,
                    format!("+{added}"),
                    format!("-{removed}")
                );
                all.push(added + removed);
            }
        }
        all.sort_unstable();
        if let (Some(median), Some(most)) = (all.get(all.len() / 2), all.get(all.len() * 9 / 10)) {
            println!(
                "{} sections; lines changed: median {median}, nine in ten at most {most}",
                all.len()
            );
        }
        if self.check {
            let programs = programs(&chapters);
            let unfinished = programs.iter().map(|(name, text)| Program::unfinished(name, text));
            variations::check(&unfinished.collect::<Vec<_>>())?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn is_called(step: &Step, name: &str) -> bool {
    name == step.key() || name == step.name
}

/// Each program of the lecture that is not yet a step, with the name of its commit.
fn programs(chapters: &[(Step, Chapter)]) -> Vec<(String, String)> {
    let of_chapter = |(step, chapter): &(Step, Chapter)| {
        let begin = (format!("{}-begin", step.key()), chapter.state(0));
        let sections = chapter.sections.iter().enumerate();
        let states: Vec<_> =
            sections.map(|(i, section)| (section.slug.clone(), chapter.state(i + 1))).collect();
        [begin].into_iter().chain(states)
    };
    chapters.iter().flat_map(of_chapter).collect()
}

fn program_after(chapters: &[(Step, Chapter)], slug: &str) -> Result<String> {
    let found = programs(chapters).into_iter().find(|(name, _)| name == slug);
    found.map(|(_, program)| program).with_context(|| format!("there is no section {slug}"))
}

/// The chapters of those steps that are meant, as they are in the working tree below `root`.
///
/// # Errors
/// Those of [`chapters`].
pub fn of_working_tree(
    root: &Path,
    is_meant: impl Fn(&Step) -> bool,
) -> Result<Vec<(Step, Chapter)>> {
    let read = |path: &str| match fs::read_to_string(root.join(path)) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| path.to_string()),
    };
    chapters(&steps::in_folder(root)?, is_meant, read)
}

/// The chapters of those steps that are meant, cut into sections. `read` reads a file of the repository, if it
/// is there.
///
/// # Errors
/// The sections of a chapter do not add up to its step: all that is wrong, with chapter and line.
pub fn chapters(
    steps: &[Step],
    is_meant: impl Fn(&Step) -> bool,
    read: impl Fn(&str) -> Result<Option<String>>,
) -> Result<Vec<(Step, Chapter)>> {
    let (mut chapters, mut faults) = (Vec::new(), Vec::new());
    let mut old = String::new();
    for step in steps {
        if !is_meant(step) {
            old = read(&step.program())?.with_context(|| step.program())?;
            continue;
        }
        let new = read(&step.program())?.with_context(|| step.program())?;
        let path = step.chapter();
        // A chapter that is not written yet has no sections.
        let text = read(&path)?.unwrap_or_default();
        let (chapter, wrong) = Chapter::read(step, &old, &new, &text).context(step.program())?;
        faults.extend(wrong.iter().map(|fault| format!("{path}:{}: {}", fault.line, fault.what)));
        chapters.push((step.clone(), chapter));
        old = new;
    }
    if !faults.is_empty() {
        bail!("the sections are not the steps\n{}", faults.join("\n"));
    }
    Ok(chapters)
}
