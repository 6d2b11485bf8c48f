//! `cargo xtask sections`: how the chapters cut the steps into commits.

use std::{fs, path::Path};

use anyhow::{Context, Result, ensure};
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

    /// Compile the program after each section, and hold it against rustfmt
    #[arg(long)]
    check: bool,
}

impl Sections {
    pub fn run(&self) -> Result<()> {
        let is_called = |step: &Step, name: &String| *name == step.key() || *name == step.name;
        let mut chapters = of_working_tree(workspace())?;
        for name in &self.names {
            let known = chapters.iter().any(|(step, _)| is_called(step, name));
            ensure!(known, "there is no step {name}: `cargo xtask sections` lists them all");
        }
        if !self.names.is_empty() {
            chapters.retain(|(step, _)| self.names.iter().any(|name| is_called(step, name)));
        }
        if let Some(slug) = &self.show {
            let found = programs(&chapters).into_iter().find(|(name, _)| name == slug);
            print!("{}", found.with_context(|| format!("there is no section {slug}"))?.1);
            return Ok(());
        }
        list(&chapters)?;
        if self.check {
            let programs = programs(&chapters);
            let unfinished = programs.iter().map(|(name, text)| Program::unfinished(name, text));
            variations::check(&unfinished.collect::<Vec<_>>())?;
        }
        Ok(())
    }
}

/// Prints all sections, with the lines that each adds and removes.
fn list(chapters: &[(Step, Chapter)]) -> Result<()> {
    let mut all = Vec::new();
    for (step, chapter) in chapters {
        println!("{}", step.name);
        for (i, section) in chapter.sections.iter().enumerate() {
            let (added, removed) = chapter.changed(i + 1).with_context(|| section.slug.clone())?;
            let tryout = if section.tryout.is_some() { "  try-out" } else { "" };
            let (plus, minus) = (format!("+{added}"), format!("-{removed}"));
            println!("  {:<36}{plus:>6}{minus:>6}{tryout}", section.slug);
            all.push(added + removed);
        }
    }
    all.sort_unstable();
    if let (Some(median), Some(most)) = (all.get(all.len() / 2), all.get(all.len() * 9 / 10)) {
        let n = all.len();
        println!("{n} sections; lines changed: median {median}, nine in ten at most {most}");
    }
    Ok(())
}

/// Each program of the lecture that is not yet a step, with the name of its commit.
fn programs(chapters: &[(Step, Chapter)]) -> Vec<(String, String)> {
    let of_chapter = |(step, chapter): &(Step, Chapter)| {
        let begin = format!("{}-begin", step.key());
        let slugs = chapter.sections.iter().map(|section| section.slug.clone());
        let names = [begin].into_iter().chain(slugs).enumerate();
        names.map(|(n, name)| (name, chapter.state(n))).collect::<Vec<_>>()
    };
    chapters.iter().flat_map(of_chapter).collect()
}

/// The chapters of all steps, as they are in the working tree below `root`.
///
/// # Errors
/// Those of [`chapters`].
pub fn of_working_tree(root: &Path) -> Result<Vec<(Step, Chapter)>> {
    chapters(&steps::in_folder(root)?, |path| {
        let file = root.join(path);
        let text = file.exists().then(|| fs::read_to_string(file)).transpose();
        text.with_context(|| path.to_string())
    })
}

/// The chapters of the steps, cut into sections. `read` reads a file of the repository, if it is there.
///
/// # Errors
/// The sections of a chapter do not add up to its step: all that is wrong, with chapter and line.
pub fn chapters(
    steps: &[Step],
    read: impl Fn(&str) -> Result<Option<String>>,
) -> Result<Vec<(Step, Chapter)>> {
    let (mut chapters, mut faults) = (Vec::new(), Vec::new());
    let mut old = String::new();
    for step in steps {
        let new = read(&step.program())?.with_context(|| step.program())?;
        let path = step.chapter();
        // A chapter that is not written yet has no sections.
        let text = read(&path)?.unwrap_or_default();
        let (chapter, wrong) = Chapter::read(step, &old, &new, &text).context(step.program())?;
        faults.extend(wrong.iter().map(|fault| format!("{path}:{}: {}", fault.line, fault.what)));
        chapters.push((step.clone(), chapter));
        old = new;
    }
    ensure!(faults.is_empty(), "the sections are not the steps\n{}", faults.join("\n"));
    Ok(chapters)
}
