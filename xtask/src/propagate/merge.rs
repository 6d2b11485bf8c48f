//! Three-way merges, by `git merge-file`.

use std::fs;

use anyhow::{Result, bail};

use crate::git;

/// A text that takes part in a merge, and what the markers call it.
#[derive(Clone, Copy)]
pub struct Side<'a> {
    pub name: &'a str,
    pub text: &'a str,
}

/// Applies to `current` what changed from `base` to `other`. Returns the text, with markers if there is a
/// conflict, and whether there is none.
pub fn merge(current: Side, base: Side, other: Side) -> Result<(String, bool)> {
    let folder = tempfile::tempdir()?;
    let mut command = git::command(folder.path());
    command.args(["merge-file", "--stdout", "--diff3"]);
    for (file, side) in [("current", current), ("base", base), ("other", other)] {
        fs::write(folder.path().join(file), side.text)?;
        command.args(["-L", side.name]);
    }
    let output = git::run(command.args(["current", "base", "other"]), "")?;
    // The exit code is the number of conflicts, up to 127.
    let Some(conflicts @ 0..=127) = output.status.code() else {
        bail!("git merge-file fails: {}", String::from_utf8_lossy(&output.stderr).trim());
    };
    Ok((String::from_utf8(output.stdout)?, conflicts == 0))
}

/// Whether `current` holds already what changed from `base` to `other`: it can be taken out, and
/// putting it in again gives `current`. (A merge alone cannot tell: where `current` has lines of its
/// own next to the change, it would find a conflict.)
pub fn has_already(current: Side, base: Side, other: Side) -> Result<bool> {
    let (without, is_clean) = merge(current, other, base)?;
    let (again, is_clean_again) = merge(Side { text: &without, ..current }, base, other)?;
    Ok(is_clean && is_clean_again && again == current.text)
}

/// Whether somebody has yet to mend a conflict in the text.
pub fn has_markers(text: &str) -> bool {
    let markers = ["<<<<<<< ", "||||||| ", ">>>>>>> "];
    text.lines().any(|line| markers.iter().any(|marker| line.starts_with(marker)))
}
