//! Builds the book as `mdbook build` would, with the preprocessor in the same process.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use mdbook_driver::MDBook;

use crate::{Steps, links};

/// Builds the book in the folder `book`, checks its links, says what it found, and returns the folder of its
/// pages.
pub fn build(book: &Path) -> Result<PathBuf> {
    let mut mdbook =
        MDBook::load(book).with_context(|| format!("the book in {}", book.display()))?;
    mdbook.with_preprocessor(Steps);
    mdbook.build()?;
    let pages = mdbook.build_dir_for("html");
    let report = links::check(&pages)?;
    for link in &report.external {
        println!("not followed: {link}");
    }
    report.fail_if_broken()?;
    println!("{} pages, {} links within them, none broken", report.pages, report.links);
    Ok(pages)
}
