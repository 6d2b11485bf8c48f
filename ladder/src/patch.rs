//! Variations of a step: the patches with which one breaks it, or solves an exercise.

use anyhow::{Context, Result, bail, ensure};
use diffy::patch_set::{FileOperation, ParseOptions, PatchSet};

/// What stands before a patch's first file: lines such as `Title: A head that sees the future`.
pub fn head(patch: &str) -> &str {
    let is_head = |line: &&str| !line.starts_with("diff --git ") && !line.starts_with("--- ");
    let end = patch.split_inclusive('\n').take_while(is_head).map(str::len).sum();
    &patch[..end]
}

/// What its lines say that begin with `name`, such as `Title:`.
pub fn said<'a>(patch: &'a str, name: &str) -> impl Iterator<Item = &'a str> {
    head(patch).lines().filter_map(move |line| Some(line.strip_prefix(name)?.trim()))
}

/// The files that a patch changes, by their paths, as it makes them. It lies in the file `name`; `read` reads
/// a file as it is.
///
/// # Errors
/// It does not apply to the files as they are, or does not only change them.
pub fn apply(
    name: &str,
    patch: &str,
    read: impl Fn(&str) -> Result<String>,
) -> Result<Vec<(String, String)>> {
    let mut changed = Vec::new();
    for file in PatchSet::parse(patch, ParseOptions::unidiff()) {
        let file = file.with_context(|| format!("{name} cannot be read"))?;
        let FileOperation::Modify { modified: path, .. } = file.operation().strip_prefix(1) else {
            bail!("{name} should change files, not make or remove them");
        };
        let patch = file.patch().as_text().with_context(|| format!("{name} is not text"))?;
        let old = read(&path)?;
        // The lines may have moved since the patch was made.
        let Ok(new) = diffy::apply(&old, patch) else {
            bail!("{name} does not apply to {path}; run `cargo xtask propagate`");
        };
        changed.push((path.into(), new));
    }
    ensure!(!changed.is_empty(), "{name} changes nothing");
    Ok(changed)
}
