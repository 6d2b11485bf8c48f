//! `cargo xtask propagate`: an edit of a step goes forward through the steps that build on it.

mod merge;
mod patches;

use std::{fs, path::Path};

use anyhow::{Context, Result, ensure};
use clap::Args;
use ladder::steps::{self, Step, goes_on, split_header};

use crate::{
    git::{Git, Tree},
    sections,
};
use merge::{Side, has_already, has_markers, merge};

/// Carry an edit of a step forward through the later steps, and through the patches of all of them
///
/// The edit is the difference between the step's file and the one in HEAD. Each later step gets it by
/// a three-way merge, down to the next step that starts a fresh file. The comment at a program's top
/// and its proof are each step's own and stay as they are. At a conflict it stops, with markers in the
/// file. Run twice, it changes nothing more.
#[derive(Args)]
pub struct Propagate {
    /// The step that was edited: step01, or 1
    step: String,
    /// Take the edit against this revision
    #[arg(long, value_name = "REV", default_value = "HEAD")]
    base: String,
}

impl Propagate {
    pub fn run(self) -> Result<()> {
        let git = Git::here()?;
        let base = Tree::of(&git, &self.base)?;
        let steps = steps::in_folder(&git.root)?;
        let first = self.place_in(&steps)?;
        Propagation { root: &git.root, base, revision: &self.base }.run(&steps[first..])
    }

    fn place_in(&self, steps: &[Step]) -> Result<usize> {
        let digits = self.step.strip_prefix("step").unwrap_or(&self.step);
        let number = digits.split('_').next().and_then(|digits| digits.parse().ok());
        let place = steps.iter().position(|step| Some(step.number()) == number);
        place.with_context(|| {
            let names: Vec<&str> = steps.iter().map(Step::key).collect();
            format!("there is no step {}: give one of {}", self.step, names.join(", "))
        })
    }
}

struct Propagation<'a> {
    /// Of the working tree.
    root: &'a Path,
    base: Tree<'a>,
    /// The base's name.
    revision: &'a str,
}

/// A program before and after.
struct Edit {
    old: String,
    new: String,
}

impl Propagation<'_> {
    /// Carries the edit of the first of the steps through the rest.
    fn run(&self, steps: &[Step]) -> Result<()> {
        let (first, later) = steps.split_first().expect("the step that was edited");
        let old = self.base_program(first)?;
        let old = old.with_context(|| {
            format!("{} has no {}: commit it first", self.revision, first.key())
        })?;
        let mut edit = Edit { old, new: self.program(first)? };
        self.renew_patches(first, &edit)?;
        let mut from = first;
        for step in later {
            if split_header(&edit.old).1 == split_header(&edit.new).1 {
                println!("{}: as in {}, nothing to carry further", from.name, self.revision);
                return Ok(());
            }
            let current = self.program(step)?;
            if !goes_on(&current) {
                println!("{}: starts a fresh file, so here it ends", step.name);
                break;
            }
            let new = self.merge_into(step, &current, from, &edit)?;
            let old = self.base_program(step)?.unwrap_or(current);
            edit = Edit { old, new };
            self.renew_patches(step, &edit)?;
            from = step;
        }
        println!("Proofs are each step's own: `cargo test` says whether one needs the edit too.");
        // The chapters name items, not lines, so the sections have the edit already, unless an item is new or gone.
        sections::of_working_tree(self.root)?;
        println!("The sections add up; `cargo xtask sections --check` compiles each.");
        Ok(())
    }

    /// Merges the edit of step `from` into the body of `step`.
    fn merge_into(&self, step: &Step, current: &str, from: &Step, edit: &Edit) -> Result<String> {
        let (header, body) = split_header(current);
        let ours = Side { name: &step.name, text: body };
        let before = format!("{} in {}", from.name, self.revision);
        let before = Side { name: &before, text: split_header(&edit.old).1 };
        let after = format!("{} as edited", from.name);
        let after = Side { name: &after, text: split_header(&edit.new).1 };
        if has_already(ours, before, after)? {
            println!("{}: has it already", step.name);
            return Ok(current.into());
        }
        let path = step.program();
        let (body, is_clean) = merge(ours, before, after)?;
        let new = format!("{header}{body}");
        self.write(&path, &new)?;
        ensure!(
            is_clean,
            "{path} conflicts with the edit of {}: mend it between the markers <<<<<<< and >>>>>>>, \
             then go on with {}",
            from.name,
            self.command(step)
        );
        println!("{}: merged", step.name);
        Ok(new)
    }

    /// What to type to go on.
    fn command(&self, step: &Step) -> String {
        let base = match self.revision {
            "HEAD" => String::new(),
            revision => format!(" --base {revision}"),
        };
        format!("`cargo xtask propagate {}{base}`", step.key())
    }

    /// The step's program in the working tree.
    fn program(&self, step: &Step) -> Result<String> {
        let path = step.program();
        let text = self.read(&path)?;
        ensure!(!has_markers(&text), "{path} still has markers of a conflict: mend it first");
        Ok(text)
    }

    /// The step's program in the base, where it may have had another name.
    fn base_program(&self, step: &Step) -> Result<Option<String>> {
        let steps = steps::among(self.base.paths());
        let old = steps.iter().find(|old| old.key() == step.key());
        old.map_or(Ok(None), |old| self.base.text(&old.program()))
    }

    fn read(&self, path: &str) -> Result<String> {
        fs::read_to_string(self.root.join(path)).with_context(|| format!("cannot read {path}"))
    }

    fn write(&self, path: &str, text: &str) -> Result<()> {
        files::write_atomically(&self.root.join(path), |file| Ok(file.write_all(text.as_bytes())?))
    }
}
