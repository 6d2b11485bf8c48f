//! `cargo xtask lecture`: the steps as a history, one commit a section.

mod manifest;
mod project;
mod words;

use anyhow::{Result, bail, ensure};
use clap::Args;

pub use project::project;

use crate::{edition, git::Git};
use project::Lesson;

pub const BRANCH: &str = "refs/heads/lecture";

/// Write the branch `lecture`: a commit with the lab, then one for each section of the book, with its tag
///
/// It is made from HEAD, not from files that you have not committed, and is the same each time:
/// the same tree gives the same hashes. Only the branch `lecture` and the tags with the steps'
/// and the sections' names are set, and only where they are missing or of this program's making.
#[derive(Args)]
pub struct Lecture {}

impl Lecture {
    pub fn run(self) -> Result<()> {
        let git = Git::here()?;
        if !git.ask(&["status", "--porcelain", "--untracked-files=no"])?.is_empty() {
            eprintln!(
                "note: the lecture is made from HEAD; your uncommitted changes are not in it"
            );
        }
        let lessons = project(&git)?;
        for lesson in &lessons {
            println!("{}  {}", &lesson.commit[..10], lesson.subject);
        }
        let tip = lessons.last().map_or("", |lesson| &lesson.commit);
        match edition::ending_with(&git, tip)? {
            Some(number) => println!("these are the very commits of edition {number}"),
            None => println!(
                "these are the commits of no edition: a step, a chapter or the lab is newer than the last one"
            ),
        }
        let changes = changes(&git, &lessons)?;
        if changes.is_empty() {
            println!("the branch lecture and its tags are already there");
            return Ok(());
        }
        // All or none, and only if nobody else has touched them since we looked.
        let transaction: String = changes.iter().map(Change::line).collect();
        git.tell(&["update-ref", "-m", "cargo xtask lecture", "--stdin"], &transaction)?;
        for change in changes {
            println!("{}", change.report());
        }
        Ok(())
    }
}

/// A branch or tag that is to point somewhere else.
struct Change {
    name: String,
    old: Option<String>,
    new: Option<String>,
}

impl Change {
    /// For `git update-ref --stdin`, where zeros stand for "is not there".
    fn line(&self) -> String {
        let hash = |hash: &Option<String>| hash.clone().unwrap_or_else(|| "0".repeat(40));
        format!("update {} {} {}\n", self.name, hash(&self.new), hash(&self.old))
    }

    fn report(&self) -> String {
        let name = self.name.replace("refs/heads/", "branch ").replace("refs/tags/", "tag ");
        match (&self.old, &self.new) {
            (None, _) => format!("{name} is new"),
            (_, Some(_)) => format!("{name} has moved"),
            (_, None) => format!("{name} is gone, as is its section"),
        }
    }
}

/// What must change for the branch and the tags to be the lecture's.
///
/// # Errors
/// One of them is not ours to change.
fn changes(git: &Git, lessons: &[Lesson]) -> Result<Vec<Change>> {
    let tip = lessons.last().map(|lesson| (BRANCH.to_string(), lesson.commit.clone()));
    let tags = lessons.iter().filter_map(|lesson| {
        let tag = lesson.tag.as_ref()?;
        Some((format!("refs/tags/{tag}"), lesson.commit.clone()))
    });
    let wanted: Vec<(String, String)> = tip.into_iter().chain(tags).collect();

    let mut changes = Vec::new();
    for (name, commit) in &wanted {
        let old = git.find(name);
        if old.as_ref() == Some(commit) {
            continue;
        }
        if old.is_some() {
            ensure_ours(git, name)?;
        }
        changes.push(Change { name: name.clone(), old, new: Some(commit.clone()) });
    }
    for name in git.ask(&["for-each-ref", "--format=%(refname)", "refs/tags/step*"])?.lines() {
        if !wanted.iter().any(|(wanted, _)| wanted == name) && is_ours(git, name)? {
            changes.push(Change { name: name.into(), old: git.find(name), new: None });
        }
    }
    if changes.iter().any(|change| change.name == BRANCH) {
        ensure_not_checked_out(git)?;
    }
    Ok(changes)
}

fn ensure_ours(git: &Git, name: &str) -> Result<()> {
    if is_ours(git, name)? {
        return Ok(());
    }
    match name.strip_prefix("refs/tags/") {
        Some(tag) => bail!(
            "the tag {tag} was not made by `cargo xtask lecture`, so it stays as it is: keep it under \
             another name (`git tag NAME {tag}`), remove it (`git tag -d {tag}`), and try again"
        ),
        None => bail!(
            "the branch lecture holds what `cargo xtask lecture` did not make, so it stays as it is: \
             rename it (`git branch -m lecture NAME`), and try again"
        ),
    }
}

/// Whether the branch or tag points straight at a commit of the lecture's. One that somebody has
/// amended or carried elsewhere still has the trailer, but has another committer.
fn is_ours(git: &Git, name: &str) -> Result<bool> {
    if git.ask(&["cat-file", "-t", name])? != "commit" {
        return Ok(false);
    }
    let format = format!("--format=%cn <%ce>%n%(trailers:key={},valueonly)", words::TRAILER);
    let said = git.ask(&["log", "-1", "--no-show-signature", &format, name])?;
    let (committer, trailer) = said.split_once('\n').unwrap_or((&said, ""));
    let (author, address) = project::AUTHOR;
    Ok(committer == format!("{author} <{address}>") && !trailer.trim().is_empty())
}

/// Moving a branch that somebody stands on would turn their files into uncommitted changes.
fn ensure_not_checked_out(git: &Git) -> Result<()> {
    let trees = git.ask(&["worktree", "list", "--porcelain"])?;
    let mut folder = "";
    for line in trees.lines() {
        folder = line.strip_prefix("worktree ").unwrap_or(folder);
        ensure!(
            line != format!("branch {BRANCH}"),
            "the branch lecture is checked out in {folder}: switch to another branch there, and try again"
        );
    }
    Ok(())
}
