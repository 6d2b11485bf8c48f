//! The lecture's commits, from the tree of HEAD.

use anyhow::{Context, Result, ensure};

use super::{chapters, manifest::Manifest, words};
use crate::{
    git::{Git, Tree},
    steps::{self, Step},
};

/// Author and committer of every commit of the lecture.
pub const AUTHOR: (&str, &str) = ("The lecture", "lecture@xtask.invalid");

/// Noon of 2026-01-01 in UTC, when the lab is committed; a step follows each day.
const FIRST_DAY: i64 = 1_767_268_800;
const DAY: i64 = 24 * 60 * 60;

/// The one program. It keeps its name, so that each commit's diff is the lesson.
const PROGRAM: &str = "steps/lesson.rs";
const TESTS: &str = "tests/lesson.rs";

/// What the lab's commit takes over from HEAD, beside the tests that need no step. All else is the
/// steps, what is made from them, and what takes care of the repository that they are written in.
const LAB: [&str; 16] = [
    ".cargo/",
    ".gitattributes",
    ".gitignore",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "build.rs",
    "data/",
    "files/",
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
    pub step: Option<Step>,
    pub commit: String,
    pub subject: String,
}

/// Makes all commits of the lecture, in order. No branch and no tag points at them yet.
///
/// Nothing but the tree of HEAD has a say in it, and in a step's commit nothing but the lab, this
/// step, those before it, and the titles of the pages that its chapter names.
///
/// # Errors
/// HEAD has no steps, a file of theirs is not what it is taken for, or the book cannot be rendered.
pub fn project(git: &Git) -> Result<Vec<Lesson>> {
    let head = Tree::of(git, "HEAD")?;
    let steps = steps::among(head.paths());
    ensure!(
        !steps.is_empty(),
        "HEAD has no steps (steps/stepNN_name.rs): switch to the branch that they are written on"
    );
    let chapters = chapters::render(&head, &steps)?;

    let mut tree = lab(&head)?;
    let mut manifest = Manifest::of(&tree)?;
    manifest.write_into(&mut tree, None)?;
    let lab = commit(git, &tree, None, None, words::LAB)?;
    let mut lessons = vec![lab];
    for (step, chapter) in steps.into_iter().zip(&chapters) {
        let program = teach(&mut tree, &head, &step)?;
        if let Some(chapter) = chapter {
            tree.put(&format!("text/{}.md", step.name), &translate(chapter, &step))?;
        }
        manifest.write_into(&mut tree, Some((&step.name, PROGRAM)))?;
        let message = words::message(&step, &program, chapter.as_deref());
        lessons.push(commit(git, &tree, lessons.last(), Some(step), &message)?);
    }
    Ok(lessons)
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

/// Puts a step's program, proof, patches and tests into the place of the step before's, and returns
/// the program's text.
fn teach(tree: &mut Tree, head: &Tree, step: &Step) -> Result<String> {
    tree.retain(|path| !path.starts_with("steps/") && path != TESTS);
    let program = head.text(&step.program())?.context("a step has a program")?;
    tree.put(PROGRAM, &translate(&program, step))?;
    for path in head.paths().filter(|path| *path == step.proof() || step.has_patch(path)) {
        let text = head.text(path)?.unwrap_or_default();
        tree.put(path, &translate(&text, step))?;
    }
    let tests = head.text("tests/lessons.rs")?.unwrap_or_default();
    if let Some(tests) = tests_of(step, &tests) {
        tree.put(TESTS, &translate(&tests, step))?;
    }
    Ok(program)
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

fn commit(
    git: &Git,
    tree: &Tree,
    parent: Option<&Lesson>,
    step: Option<Step>,
    message: &str,
) -> Result<Lesson> {
    let day = step.as_ref().map_or(0, |step| 1 + i64::from(step.number()));
    let parent = parent.map(|lesson| lesson.commit.as_str());
    let commit = git.commit(&tree.write()?, parent, AUTHOR, FIRST_DAY + day * DAY, message)?;
    let subject = message.lines().next().unwrap_or_default().into();
    Ok(Lesson { step, commit, subject })
}
