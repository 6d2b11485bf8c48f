//! The steps: their names, their files, their chain.

use std::{fs, path::Path};

use anyhow::{Context, Result};

/// A lesson, such as `step02_attention`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Step {
    pub name: String,
}

impl Step {
    /// `step02`: what the names of all its other files begin with.
    pub fn key(&self) -> &str {
        &self.name[..6]
    }

    pub fn number(&self) -> u32 {
        self.name[4..6].parse().expect("two digits")
    }

    pub fn program(&self) -> String {
        format!("steps/{}.rs", self.name)
    }

    pub fn proof(&self) -> String {
        format!("steps/proofs/{}.rs", self.key())
    }

    /// Whether `path` is a variation of the step.
    pub fn has_patch(&self, path: &str) -> bool {
        let slug = path.strip_prefix("steps/patches/").and_then(|name| name.strip_suffix(".patch"));
        slug.is_some_and(|slug| slug.strip_prefix(self.key()).is_some_and(|s| s.starts_with('-')))
    }

    /// Its variations, as paths from the folder `root` of the repository, in order.
    pub fn patches(&self, root: &Path) -> Vec<String> {
        let entries = fs::read_dir(root.join("steps/patches")).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        let paths = names.map(|name| format!("steps/patches/{name}"));
        let mut paths: Vec<String> = paths.filter(|path| self.has_patch(path)).collect();
        paths.sort();
        paths
    }

    pub fn chapter(&self) -> String {
        format!("book/src/{}.md", self.name)
    }
}

/// The steps of the working tree below `root`.
pub fn in_folder(root: &Path) -> Result<Vec<Step>> {
    let entries = fs::read_dir(root.join("steps")).context("there is no folder steps")?;
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let paths: Vec<String> = names.map(|name| format!("steps/{name}")).collect();
    Ok(among(paths.iter().map(String::as_str)))
}

/// The steps whose programs are among the paths, in order.
pub fn among<'a>(paths: impl IntoIterator<Item = &'a str>) -> Vec<Step> {
    let mut steps: Vec<Step> = paths.into_iter().filter_map(step_at).collect();
    steps.sort();
    steps
}

/// `steps/step02_attention.rs` is one.
fn step_at(path: &str) -> Option<Step> {
    let name = path.strip_prefix("steps/")?.strip_suffix(".rs")?;
    let (number, rest) = name.strip_prefix("step")?.split_at_checked(2)?;
    let is_step = number.bytes().all(|byte| byte.is_ascii_digit())
        && rest.strip_prefix('_').is_some_and(|rest| !rest.is_empty() && !rest.contains('/'));
    is_step.then(|| Step { name: name.into() })
}

/// Cuts a program into the comment at its top, with the empty line below it, and the rest.
pub fn split_header(source: &str) -> (&str, &str) {
    let is_comment = |line: &&str| line.starts_with("//") && !line.starts_with("///");
    let comment = source.split_inclusive('\n').take_while(is_comment);
    let mut end = comment.map(str::len).sum();
    if end > 0 && source[end..].starts_with('\n') {
        end += 1;
    }
    source.split_at(end)
}

/// Whether a program goes on from the one before it; its header then says "New since stepNN". Others
/// start a fresh file.
pub fn goes_on(source: &str) -> bool {
    let (header, _) = split_header(source);
    header.lines().any(|line| line.starts_with("// New since step"))
}
