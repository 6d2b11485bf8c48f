//! Writes the book as plain Markdown: for `cargo xtask lecture`, whose commits carry their chapters, and
//! for whoever reads without a browser.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use mdbook_driver::MDBook;
use mdbook_preprocessor::book::{BookItem, Chapter};

use crate::block::Form;

/// Writes each chapter of the book in the folder `book` into the folder `into`, under its own name.
///
/// # Errors
/// Something that a chapter asks for is missing, or `into` is where the chapters are written by hand.
pub fn write(book: &Path, into: &Path) -> Result<()> {
    let mut mdbook =
        MDBook::load(book).with_context(|| format!("the book in {}", book.display()))?;
    let source = mdbook.source_dir();
    let is_source = into.canonicalize().is_ok_and(|into| source.canonicalize().ok() == Some(into));
    ensure!(!is_source, "{} holds the chapters themselves; name another folder", into.display());
    let root = mdbook.root.clone();
    crate::fill(&mut mdbook.book, &root, &source, Form::Plain)?;
    for item in mdbook.book.iter() {
        if let BookItem::Chapter(Chapter { path: Some(path), content, .. }) = item {
            let text = content.trim_end();
            files::write_atomically(&into.join(path), |file| Ok(writeln!(file, "{text}")?))?;
        }
    }
    Ok(())
}
