//! `cargo xtask edition`: an edition of the lecture becomes part of the history that everybody clones.

use anyhow::{Context, Result, ensure};

use crate::{
    git::Git,
    lecture::{self, Lesson},
};

/// Names an edition's number in the message of its merge.
const TRAILER: &str = "Edition";

pub fn run() -> Result<()> {
    let git = Git::here()?;
    let branch = git.ask(&["symbolic-ref", "--quiet", "--short", "HEAD"]);
    let branch = branch.context("HEAD is on no branch: switch to the one to merge into")?;
    ensure!(branch != "lecture", "you are on the branch lecture: switch to the one to merge into");
    let lessons = lecture::project(&git)?;
    let tip = &lessons.last().context("a lecture has commits")?.commit;
    ensure!(
        git.find(lecture::BRANCH).as_ref() == Some(tip),
        "the branch lecture is not the lecture of HEAD: run `cargo xtask lecture` first"
    );
    if git.ask(&["rev-list", "--count", &format!("HEAD..{tip}")])? == "0" {
        println!("{branch} already holds this edition of the lecture");
        return Ok(());
    }
    let number = editions(&git)?.into_iter().map(|(number, _)| number).max().unwrap_or(0) + 1;
    let line = |lesson: &Lesson| format!("- {} {}\n", &lesson.commit[..12], lesson.subject);
    let list: String = lessons.iter().map(line).collect();
    let message = format!("Edition {number} of the lecture\n\n{list}\n{TRAILER}: {number}\n");
    let merge = ["merge", "--strategy=ours", "--no-ff", "--no-edit", "--allow-unrelated-histories"];
    git.ask(&[&merge[..], &["--cleanup=verbatim", "-m", &message, tip]].concat())?;
    println!("edition {number} of the lecture is part of {branch}");
    Ok(())
}

/// The editions that HEAD holds: their numbers, and the parents of their merges, the lecture's last commit among
/// them.
pub fn editions(git: &Git) -> Result<Vec<(u32, String)>> {
    let format = format!("--format=%(trailers:key={TRAILER},valueonly,separator=):%P");
    let merges = git.ask(&["log", "--merges", &format])?;
    let edition = |merge: &str| {
        let (number, parents) = merge.split_once(':')?;
        Some((number.trim().parse().ok()?, parents.to_string()))
    };
    Ok(merges.lines().filter_map(edition).collect())
}
