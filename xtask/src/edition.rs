//! `cargo xtask edition`: an edition of the lecture becomes part of the history that everybody clones.

use anyhow::{Context, Result, ensure};
use clap::Args;

use crate::{git::Git, lecture};

/// Names an edition's number in the message of its merge.
const TRAILER: &str = "Edition";

/// Merge the branch `lecture` into the branch that you are on, without a change to its files
///
/// Each clone then holds the lecture's commits, and `cargo xtask lecture` in it only has to set the
/// branch and the tags. Later steps can come in a later edition.
#[derive(Args)]
pub struct Edition {}

impl Edition {
    pub fn run(self) -> Result<()> {
        let git = Git::here()?;
        let branch = git.ask(&["symbolic-ref", "--quiet", "--short", "HEAD"]);
        let branch = branch.context("HEAD is on no branch: switch to the one to merge into")?;
        ensure!(
            branch != "lecture",
            "you are on the branch lecture: switch to the one to merge into"
        );
        let lessons = lecture::project(&git)?;
        let tip = lessons.last().context("a lecture has commits")?;
        ensure!(
            git.find(lecture::BRANCH).as_ref() == Some(&tip.commit),
            "the branch lecture is not the lecture of HEAD: run `cargo xtask lecture` first"
        );
        let held = git.ask(&["rev-list", "--count", &format!("HEAD..{}", tip.commit)])? == "0";
        if held {
            println!("{branch} already holds this edition of the lecture");
            return Ok(());
        }
        let number = editions(&git)? + 1;
        let list: String = lessons
            .iter()
            .map(|lesson| format!("- {} {}\n", &lesson.commit[..12], lesson.subject))
            .collect();
        let message = format!("Edition {number} of the lecture\n\n{list}\n{TRAILER}: {number}\n");
        git.ask(&[
            "merge",
            "--strategy=ours",
            "--no-ff",
            "--no-edit",
            "--allow-unrelated-histories",
            "--cleanup=verbatim",
            "-m",
            &message,
            &tip.commit,
        ])?;
        println!("edition {number} of the lecture is part of {branch}");
        Ok(())
    }
}

/// The edition of which `tip` is the last commit, if HEAD holds it.
pub fn ending_with(git: &Git, tip: &str) -> Result<Option<u32>> {
    let format = format!("--format=%P:%(trailers:key={TRAILER},valueonly,separator=)");
    let merges = git.ask(&["log", "--merges", &format])?;
    let mut merges = merges.lines().filter_map(|line| line.split_once(':'));
    let merge = merges.find(|(parents, _)| parents.split(' ').any(|parent| parent == tip));
    Ok(merge.and_then(|(_, number)| number.trim().parse().ok()))
}

/// How many editions HEAD holds: the number of the latest.
fn editions(git: &Git) -> Result<u32> {
    let format = format!("--format=%(trailers:key={TRAILER},valueonly)");
    let trailers = git.ask(&["log", "--merges", &format])?;
    Ok(trailers.lines().filter_map(|line| line.trim().parse().ok()).max().unwrap_or(0))
}
