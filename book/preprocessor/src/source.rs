//! Where the chapters' code comes from: the files of the repository, and the chapters themselves.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use ladder::steps::{self, goes_on};

use crate::markdown;

/// All that a directive can draw on.
pub struct Library {
    repository: PathBuf,
    book: PathBuf,
    pages: Vec<Page>,
}

/// A chapter as others can refer to it.
pub struct Page {
    title: String,
    /// Its file, from the folder of the chapters.
    path: String,
    anchors: Vec<(String, String)>,
}

/// A Rust file of the repository.
pub struct Source {
    /// From the repository's root.
    pub path: String,
    pub text: String,
}

impl Page {
    pub fn new(title: &str, path: &Path, text: &str) -> Option<Page> {
        let anchors = markdown::anchors(text);
        Some(Page { title: title.into(), path: path.to_str()?.into(), anchors })
    }

    fn answers_to(&self, name: &str) -> bool {
        let stem = self.path.strip_suffix(".md").unwrap_or(&self.path);
        stem == name || (is_step(name) && stem.starts_with(&format!("{name}_")))
    }
}

/// Whether it is `step` and two digits.
fn is_step(name: &str) -> bool {
    let digits = name.strip_prefix("step").unwrap_or_default();
    digits.len() == 2 && digits.bytes().all(|digit| digit.is_ascii_digit())
}

impl Library {
    pub fn new(repository: &Path, book: &Path, pages: Vec<Page>) -> Library {
        Library { repository: repository.into(), book: book.into(), pages }
    }

    /// `step01`, `step01/proof`, or a file's path from the repository's root.
    pub fn source(&self, name: &str) -> Result<Source> {
        if let Some(step) = name.strip_suffix("/proof").filter(|step| is_step(step)) {
            return self.file(&format!("steps/proofs/{step}.rs"));
        }
        if is_step(name) {
            return self.file(&self.program(name)?);
        }
        ensure!(
            name.ends_with(".rs"),
            "{name} is neither a step (step01, step01/proof) nor a path to a Rust file"
        );
        self.file(name)
    }

    /// The program that a step's grows from: nothing, if it starts a fresh file.
    pub fn grown_from(&self, step: &str, new: &str) -> Result<String> {
        if goes_on(new) { Ok(self.source(&before(step)?)?.text) } else { Ok(String::new()) }
    }

    /// `steps/step01_bigram.rs`, for `step01`.
    fn program(&self, key: &str) -> Result<String> {
        let steps = steps::in_folder(&self.repository)?;
        let step = steps.iter().find(|step| step.key() == key);
        Ok(step.with_context(|| format!("there is no steps/{key}_*.rs"))?.program())
    }

    fn file(&self, path: &str) -> Result<Source> {
        Ok(Source { path: path.into(), text: self.read(path)? })
    }

    /// The text of a file, its path given from the repository's root.
    pub fn read(&self, path: &str) -> Result<String> {
        let outside = path.starts_with('/') || path.contains("..");
        ensure!(!outside, "{path} leads out of the repository");
        let file = self.repository.join(path);
        ensure!(file.exists(), "there is no {path}");
        fs::read_to_string(file).with_context(|| format!("{path} cannot be read"))
    }

    /// The path of a file from the repository's root, given from the book's folder.
    pub fn in_book(&self, path: &str) -> String {
        let book = self.book.strip_prefix(&self.repository).unwrap_or(&self.book);
        format!("{}/{path}", book.display())
    }

    /// The path and the title that `step02`, `step02-head`, `glossary` or `glossary#logits` leads to.
    pub fn link(&self, name: &str) -> Result<(String, String)> {
        let (page, anchor) = match (name.split_once('#'), name.split_once('-')) {
            (Some((page, anchor)), _) => (page, Some(anchor)),
            (_, Some((step, _))) if is_step(step) => (step, Some(name)),
            _ => (name, None),
        };
        let page = self.pages.iter().find(|known| known.answers_to(page));
        let page = page.with_context(|| format!("no chapter in SUMMARY.md answers to {name}"))?;
        let Some(anchor) = anchor else { return Ok((page.path.clone(), page.title.clone())) };
        let heading = page.anchors.iter().find(|(known, _)| known == anchor);
        let (_, title) =
            heading.with_context(|| format!("{} has no heading #{anchor}", page.path))?;
        // A section is known by its tag.
        let title = if anchor == name { format!("`{name}`") } else { title.clone() };
        Ok((format!("{}#{anchor}", page.path), title))
    }
}

/// `step01` for `step02`, `step01/proof` for `step02/proof`.
pub fn before(name: &str) -> Result<String> {
    let (step, rest) = name.split_at_checked("step01".len()).unwrap_or((name, ""));
    ensure!(is_step(step), "{name} is not a step, so none comes before it");
    let number: u32 = step["step".len()..].parse()?;
    ensure!(number > 0, "no step comes before {step}");
    Ok(format!("step{:02}{rest}", number - 1))
}
