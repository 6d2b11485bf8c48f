//! A step's patches, carried over from its old text to its new one.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Result, bail, ensure};
use tempfile::TempDir;

use super::{
    Edit, Propagation,
    merge::{Side, has_markers, merge},
};
use crate::{git, setup::remove};
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
        if let Some((_, true)) = now {
            return Ok(());
        }
        let varied = match (apply(&patch, old)?, now) {
            (Some((before, _)), _) => {
                self.merge_variation(path, &folder, step, old, before, new)?
            }
            (None, Some((now, _))) => now,
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
        remove(&self.root.join(folder))
    }

    /// Merges the edit into the files as the patch had made them. What somebody has made of a conflict is in `folder`.
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
            let (text, is_clean) = merge(
                Side { name: &format!("{} with the patch", step.name), text: &text },
                Side { name: &format!("{} in {}", step.name, self.revision), text: &old[&file] },
                Side { name: &format!("{} as edited", step.name), text: &new[&file] },
            )?;
            let conflict = format!("{folder}/{file}");
            let text = if is_clean { text } else { self.mended(text, &conflict, path, step)? };
            merged.insert(file, text);
        }
        Ok(merged)
    }

    /// A text with a conflict is written to the file `conflict`, and once somebody has mended it there, that is
    /// the text.
    fn mended(&self, text: String, conflict: &str, patch: &str, step: &Step) -> Result<String> {
        if !self.root.join(conflict).exists() {
            self.write(conflict, &text)?;
        }
        let mended = self.read(conflict)?;
        ensure!(
            !has_markers(&mended),
            "{patch} conflicts with the edit of {}: mend {conflict} between the markers <<<<<<< and \
             >>>>>>>, then go on with {}, which makes the patch from that file",
            step.name,
            self.command(step)
        );
        Ok(mended)
    }
}

/// What the patch makes of the files, if it can be applied to them, and whether all its hunks were where it says.
fn apply(patch: &str, files: &Files) -> Result<Option<(Files, bool)>> {
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
    Ok(Some((files, in_place)))
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
