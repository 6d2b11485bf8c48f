//! Variations of a step: the patches with which one breaks it, or solves an exercise.

use anyhow::{Context, Result, bail, ensure};
use diffy::patch_set::{FileOperation, ParseOptions, PatchSet};

use crate::{block::Block, hunk, source::Library};

/// A patch as the book shows it.
pub struct Variation {
    pub title: String,
    pub hunks: Vec<Block>,
}

/// Reads `steps/patches/NAME.patch` and holds it against the files that it changes.
pub fn read(library: &Library, name: &str) -> Result<Variation> {
    ensure!(!name.contains('/'), "{name} should be a variation's name, such as step02-no_root");
    let path = format!("steps/patches/{name}.patch");
    let text = library.read(&path)?;
    let title = text.lines().find_map(|line| line.strip_prefix("Title:"));
    let title = title.with_context(|| format!("{path} has no line `Title:`"))?.trim().to_string();
    let mut hunks = Vec::new();
    for file in PatchSet::parse(&text, ParseOptions::unidiff()) {
        let file = file.with_context(|| format!("{path} cannot be read"))?;
        let operation = file.operation().strip_prefix(1);
        let FileOperation::Modify { modified: target, .. } = operation else {
            bail!("{path} should change files, not make or remove them");
        };
        let patch = file.patch().as_text().with_context(|| format!("{path} is not text"))?;
        hunks.extend(changes(library, &target, patch).context(path.clone())?);
    }
    ensure!(!hunks.is_empty(), "{path} changes nothing");
    Ok(Variation { title, hunks })
}

/// What a patch makes of one file. The hunks are computed anew: the patch's own may have shifted.
fn changes(library: &Library, target: &str, patch: &diffy::Patch<str>) -> Result<Vec<Block>> {
    let old = library.source(target)?.text;
    let new = diffy::apply(&old, patch).ok();
    let new =
        new.with_context(|| format!("does not apply to {target}; run `cargo xtask propagate`"))?;
    hunk::between(&old, &new)
}
