//! `cargo xtask lecture`: the steps as a history, one commit a section.

mod manifest;
mod project;
mod words;

use anyhow::{Result, ensure};

pub use project::{Lesson, project};

use crate::{edition::editions, git::Git};

pub const BRANCH: &str = "refs/heads/lecture";

/// What stands for "is not there" in the place of a hash.
const NOTHING: &str = "0000000000000000000000000000000000000000";

pub fn run() -> Result<()> {
    let git = Git::here()?;
    if !git.ask(&["status", "--porcelain", "--untracked-files=no"])?.is_empty() {
        eprintln!("note: the lecture is made from HEAD; your uncommitted changes are not in it");
    }
    let lessons = project(&git)?;
    for lesson in &lessons {
        println!("{}  {}", &lesson.commit[..10], lesson.subject);
    }
    let tip = lessons.last().map_or("", |lesson| &lesson.commit);
    match editions(&git)?.iter().find(|(_, parents)| parents.contains(tip)) {
        Some((number, _)) => println!("these are the very commits of edition {number}"),
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
    let line = |change: &Change| format!("update {} {} {}\n", change.name, change.new, change.old);
    let transaction: String = changes.iter().map(line).collect();
    git.tell(&["update-ref", "-m", "cargo xtask lecture", "--stdin"], &transaction)?;
    for Change { name, old, new } in changes {
        let name = name.replace("refs/heads/", "branch ").replace("refs/tags/", "tag ");
        match (&*old, &*new) {
            (NOTHING, _) => println!("{name} is new"),
            (_, NOTHING) => println!("{name} is gone, as is its section"),
            _ => println!("{name} has moved"),
        }
    }
    Ok(())
}

/// A branch or tag that is to point somewhere else.
struct Change {
    name: String,
    old: String,
    new: String,
}

/// A branch or tag that is there.
struct Ref {
    name: String,
    hash: String,
    is_ours: bool,
    /// The folder of the working tree that stands on it, if one does.
    folder: String,
}

/// What must change for the branch and the tags to be the lecture's.
///
/// # Errors
/// One of them is not ours to change.
fn changes(git: &Git, lessons: &[Lesson]) -> Result<Vec<Change>> {
    let tip = lessons.last().map(|lesson| (BRANCH.to_string(), &lesson.commit));
    let tags = lessons.iter().filter_map(|lesson| {
        let tag = lesson.tag.as_ref()?;
        Some((format!("refs/tags/{tag}"), &lesson.commit))
    });
    let wanted: Vec<_> = tip.into_iter().chain(tags).collect();
    let there = refs(git)?;

    let mut changes = Vec::new();
    for (name, commit) in &wanted {
        let old = there.iter().find(|there| there.name == *name);
        let hash = old.map_or(NOTHING, |old| &old.hash);
        if hash != *commit {
            old.map_or(Ok(()), ensure_may_move)?;
            changes.push(Change { name: name.clone(), old: hash.into(), new: commit.to_string() });
        }
    }
    for Ref { name, hash, .. } in there.into_iter().filter(|there| there.is_ours) {
        if !wanted.iter().any(|(wanted, _)| *wanted == name) {
            changes.push(Change { name, old: hash, new: NOTHING.into() });
        }
    }
    Ok(changes)
}

fn ensure_may_move(there: &Ref) -> Result<()> {
    if let Some(tag) = there.name.strip_prefix("refs/tags/") {
        ensure!(
            there.is_ours,
            "the tag {tag} was not made by `cargo xtask lecture`, so it stays as it is: keep it under \
             another name (`git tag NAME {tag}`), remove it (`git tag -d {tag}`), and try again"
        );
    }
    ensure!(
        there.is_ours,
        "the branch lecture holds what `cargo xtask lecture` did not make, so it stays as it is: \
         rename it (`git branch -m lecture NAME`), and try again"
    );
    // Moving a branch that somebody stands on would turn their files into uncommitted changes.
    ensure!(
        there.folder.is_empty(),
        "the branch lecture is checked out in {}: switch to another branch there, and try again",
        there.folder
    );
    Ok(())
}

/// The branch and all tags of steps and sections. Ours are those that point straight at a commit of the lecture's.
/// One that somebody has amended or carried elsewhere still has the trailer, but has another committer.
fn refs(git: &Git) -> Result<Vec<Ref>> {
    let format = format!(
        "--format=%(refname)%00%(objectname)%00%(worktreepath)%00%(objecttype) %(committername) \
         %(committeremail) %(trailers:key={},valueonly,separator=)",
        words::TRAILER
    );
    let (author, address) = project::AUTHOR;
    let ours = format!("commit {author} <{address}> ");
    let one = |line: &str| {
        let parts: Vec<&str> = line.split('\0').collect();
        let &[name, hash, folder, what] = parts.as_slice() else { return None };
        let trailer = what.strip_prefix(&ours).unwrap_or_default();
        let is_ours = !trailer.trim().is_empty();
        Some(Ref { name: name.into(), hash: hash.into(), is_ours, folder: folder.into() })
    };
    let list = git.ask(&["for-each-ref", &format, BRANCH, "refs/tags/step*"])?;
    Ok(list.lines().filter_map(one).collect())
}
