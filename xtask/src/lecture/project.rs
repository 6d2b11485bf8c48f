//! The lecture's commits, from the tree of HEAD.

use anyhow::{Result, ensure};
use ladder::steps::{self, Step};

use super::{manifest::Manifest, words};
use crate::{
    git::{Git, Tree},
    sections,
};

/// Author and committer of every commit of the lecture.
pub const AUTHOR: (&str, &str) = ("The lecture", "lecture@xtask.invalid");

/// Noon of 2026-01-01 in UTC, when the lab is committed; a step follows each day, a section each minute.
const FIRST_DAY: i64 = 1_767_268_800;
const DAY: i64 = 24 * 60 * 60;
const MINUTE: i64 = 60;

/// The one program. It keeps its name, so that each commit's diff is the lesson.
const PROGRAM: &str = "steps/lesson.rs";
const TESTS: &str = "tests/lesson.rs";

/// What the lab's commit takes over from HEAD, beside the tests that need no step. All else is the
/// steps, what is made from them, and what takes care of the repository that they are written in.
const LAB: [&str; 17] = [
    ".cargo/",
    ".gitignore",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "build.rs",
    "data/",
    "fables/",
    "files/",
    "ladder/",
    "rustfmt.toml",
    "src/",
    "tch-ext/",
    "tests/fixtures/",
    "xtask/Cargo.toml",
    "xtask/libtorch-guard/",
    "xtask/src/",
];

/// A commit of the lecture.
pub struct Lesson {
    /// None for the lab.
    pub tag: Option<String>,
    pub commit: String,
    pub subject: String,
}

/// Makes all commits of the lecture, in order. No branch and no tag points at them yet.
///
/// Of each step first what takes care of the one before it away, then a commit for each section of its
/// chapter, then what goes with the whole step. Nothing but the tree of HEAD has a say in it, and in a step's
/// commits nothing but the lab, this step with its chapter and its records, and those before it.
///
/// # Errors
/// HEAD has no steps, a file of theirs is not what it is taken for, or the sections of a chapter do not add up
/// to its step.
pub fn project(git: &Git) -> Result<Vec<Lesson>> {
    let head = Tree::of(git, "HEAD")?;
    let steps = steps::among(head.paths());
    ensure!(
        !steps.is_empty(),
        "HEAD has no steps (steps/stepNN_name.rs): switch to the branch that they are written on"
    );
    let chapters = sections::chapters(&steps, |path| head.text(path))?;

    let mut tree = lab(&head)?;
    let mut manifest = Manifest::of(&tree)?;
    manifest.write_into(&mut tree, None)?;
    let mut history = History { git, lessons: Vec::new() };
    history.commit(&tree, None, FIRST_DAY, words::LAB)?;
    for (step, chapter) in &chapters {
        let day = FIRST_DAY + (1 + i64::from(step.number())) * DAY;
        let words = words::Words { step, head: &head };
        tree.retain(|path| !path.starts_with("steps/") && path != TESTS);
        // The manifest names what the whole step needs, and stays so from here on.
        tree.put(PROGRAM, chapter.closing())?;
        manifest.write_into(&mut tree, Some((&step.name, PROGRAM)))?;
        // A chapter that is not cut yet is one commit.
        let states = if chapter.sections.is_empty() { 0 } else { chapter.sections.len() + 1 };
        for sections in 0..states {
            tree.put(PROGRAM, &translate(&chapter.state(sections), step))?;
            let (tag, message) = match sections {
                0 => (format!("{}-begin", step.key()), words.of_beginning(chapter)?),
                n => (chapter.sections[n - 1].slug.clone(), words.of_section(chapter, n - 1)?),
            };
            history.commit(&tree, Some(tag), day + sections as i64 * MINUTE, &message)?;
        }
        teach(&mut tree, &head, step, chapter.closing())?;
        let message = words.of_step(chapter)?;
        let when = day + (chapter.sections.len() as i64 + 1) * MINUTE;
        history.commit(&tree, Some(step.name.clone()), when, &message)?;
    }
    Ok(history.lessons)
}

/// The lab's files. The manifest and the lock file are still HEAD's.
fn lab<'a>(head: &Tree<'a>) -> Result<Tree<'a>> {
    let mut tests = Vec::new();
    for path in head.paths().filter(|path| path.starts_with("tests/") && path.ends_with(".rs")) {
        let text = head.text(path)?.unwrap_or_default();
        if !text.contains("steps/") && !text.contains("CARGO_BIN_EXE_") {
            tests.push(path);
        }
    }
    let mut tree = head.clone();
    tree.retain(|path| {
        let is_lab = |name: &&str| path == *name || name.ends_with('/') && path.starts_with(*name);
        LAB.iter().any(is_lab) || tests.contains(&path)
    });
    tree.put("README.md", words::README)?;
    Ok(tree)
}

/// Gives the tree the whole step: its program, proof, patches and tests.
fn teach(tree: &mut Tree, head: &Tree, step: &Step, program: &str) -> Result<()> {
    tree.put(PROGRAM, &translate(program, step))?;
    for path in head.paths().filter(|path| *path == step.proof() || step.has_patch(path)) {
        let text = head.text(path)?.unwrap_or_default();
        tree.put(path, &translate(&text, step))?;
    }
    let tests = head.text("tests/lessons.rs")?.unwrap_or_default();
    if let Some(tests) = tests_of(step, &tests) {
        tree.put(TESTS, &translate(&tests, step))?;
    }
    Ok(())
}

/// The step's program has another name in the lecture.
fn translate(text: &str, step: &Step) -> String {
    text.replace(&step.program(), PROGRAM)
}

/// Of `tests/lessons.rs`, what stands before the first module, and the step's own.
fn tests_of(step: &Step, tests: &str) -> Option<String> {
    let (before, _) = tests.split_once("mod step")?;
    let start = tests.find(&format!("\nmod {} {{\n", step.key()))? + 1;
    let end = start + tests[start..].find("\n}\n")? + "\n}\n".len();
    // What stands before is for all modules, and this one may not need all of it.
    Some(format!("#![allow(unused_imports)]\n{before}{}", &tests[start..end]))
}

/// The commits so far.
struct History<'a> {
    git: &'a Git,
    lessons: Vec<Lesson>,
}

impl History<'_> {
    fn commit(&mut self, tree: &Tree, tag: Option<String>, when: i64, message: &str) -> Result<()> {
        let parent = self.lessons.last().map(|lesson| lesson.commit.as_str());
        let commit = self.git.commit(&tree.write()?, parent, AUTHOR, when, message)?;
        let subject = message.lines().next().unwrap_or_default().into();
        self.lessons.push(Lesson { tag, commit, subject });
        Ok(())
    }
}
