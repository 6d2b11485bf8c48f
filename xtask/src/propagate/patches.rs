//! A step's patches, carried over from its old text to its new one.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Result, bail, ensure};
use tempfile::TempDir;

use super::{
    Edit, Propagation,
    merge::{Merged, Side, has_markers, merge},
};
use crate::git;
use ladder::{patch::head, steps::Step};

/// A step's program and its proof, by their paths in the repository.
type Files = BTreeMap<String, String>;

impl Propagation<'_> {
    /// Makes each patch of the step anew, so that it does to the new program what it did to the old.
    pub fn renew_patches(&self, step: &Step, edit: &Edit) -> Result<()> {
        let (program, proof) = (step.program(), step.proof());
        let mut old = Files::from([(program.clone(), edit.old.clone())]);
        let mut new = Files::from([(program, edit.new.clone())]);
        if self.root.join(&proof).exists() {
            let now = self.read(&proof)?;
            old.insert(proof.clone(), self.base.text(&proof)?.unwrap_or_else(|| now.clone()));
            new.insert(proof, now);
        }
        if old == new {
            return Ok(());
        }
        for path in step.patches(self.root) {
            self.renew(&path, step, &old, &new)?;
        }
        Ok(())
    }

    fn renew(&self, path: &str, step: &Step, old: &Files, new: &Files) -> Result<()> {
        let patch = self.read(path)?;
        let folder = format!("{}.conflict", path.trim_end_matches(".patch"));
        let now = apply(&patch, new)?;
        // The edit was elsewhere, or this program has been here before.
        if now.as_ref().is_some_and(|now| now.in_place) {
            return Ok(());
        }
        let varied = match (apply(&patch, old)?, now) {
            (Some(before), _) => {
                self.merge_variation(path, &folder, step, old, before.files, new)?
            }
            (None, Some(now)) => now.files,
            (None, None) => {
                bail!("{path} applies to {} neither before the edit nor after it", step.name)
            }
        };
        ensure!(
            varied != *new,
            "{path} changes nothing any more, because the edit of {} does the same: remove it",
            step.name
        );
        self.write(path, &format!("{}{}", head(&patch), diff(new, &varied)?))?;
        println!("{}: {path} made anew", step.name);
        let folder = self.root.join(folder);
        if folder.exists() {
            fs::remove_dir_all(folder)?;
        }
        Ok(())
    }

    /// Merges the edit into the files as the patch had made them.
    fn merge_variation(
        &self,
        path: &str,
        folder: &str,
        step: &Step,
        old: &Files,
        varied: Files,
        new: &Files,
    ) -> Result<Files> {
        let mut merged = Files::new();
        for (file, text) in varied {
            let text = merge(
                Side { name: &format!("{} with the patch", step.name), text: &text },
                Side { name: &format!("{} in {}", step.name, self.revision), text: &old[&file] },
                Side { name: &format!("{} as edited", step.name), text: &new[&file] },
            )?;
            let text = self.mended(text, &format!("{folder}/{file}"), path, step)?;
            merged.insert(file, text);
        }
        Ok(merged)
    }

    /// The text of a clean merge. A conflict is written to the file `conflict`, and once somebody has
    /// mended it there, that is the text.
    fn mended(&self, merged: Merged, conflict: &str, patch: &str, step: &Step) -> Result<String> {
        let text = match merged {
            Merged::Clean(text) => return Ok(text),
            Merged::Conflict(text) => text,
        };
        if self.root.join(conflict).exists() {
            let mended = self.read(conflict)?;
            if !has_markers(&mended) {
                return Ok(mended);
            }
        } else {
            self.write(conflict, &text)?;
        }
        bail!(
            "{patch} conflicts with the edit of {}: mend {conflict} between the markers <<<<<<< and \
             >>>>>>>, then go on with {}, which makes the patch from that file",
            step.name,
            self.command(step)
        )
    }
}

/// What a patch makes of files.
struct Applied {
    files: Files,
    /// All hunks were where the patch says.
    in_place: bool,
}

/// Applies the patch to the files, if it can be applied to them.
fn apply(patch: &str, files: &Files) -> Result<Option<Applied>> {
    let folder = folder_with(&[("", files)])?;
    let mut command = git::command(folder.path());
    // Without it, git would take a repository around the temporary folder for the patch's.
    command.env("GIT_CEILING_DIRECTORIES", folder.path().parent().unwrap_or(Path::new("/")));
    let output = git::run(command.args(["apply", "--verbose", "--whitespace=nowarn"]), patch)?;
    if !output.status.success() {
        return Ok(None);
    }
    let in_place = !String::from_utf8_lossy(&output.stderr).contains("(offset ");
    let read = |path: &String| Ok((path.clone(), fs::read_to_string(folder.path().join(path))?));
    let files = files.keys().map(read).collect::<Result<Files>>()?;
    Ok(Some(Applied { files, in_place }))
}

/// The hunks that lead from `a` to `b`, as `git diff` writes them, without hashes.
fn diff(a: &Files, b: &Files) -> Result<String> {
    let folder = folder_with(&[("a", a), ("b", b)])?;
    let mut command = git::command(folder.path());
    command.args(["diff", "--no-index", "--no-prefix", "--no-color", "--no-ext-diff"]);
    command.args(["--unified=3", "--diff-algorithm=histogram", "a", "b"]);
    let output = git::run(&mut command, "")?;
    ensure!(
        matches!(output.status.code(), Some(0 | 1)), // 1: there are differences
        "git diff fails: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    let text = String::from_utf8(output.stdout)?;
    Ok(text.split_inclusive('\n').filter(|line| !line.starts_with("index ")).collect())
}

/// A temporary folder with the files in subfolders.
fn folder_with(parts: &[(&str, &Files)]) -> Result<TempDir> {
    let folder = tempfile::tempdir()?;
    for (part, files) in parts {
        for (path, text) in *files {
            let path = folder.path().join(part).join(path);
            fs::create_dir_all(path.parent().expect("a file in a folder"))?;
            fs::write(path, text)?;
        }
    }
    Ok(folder)
}
