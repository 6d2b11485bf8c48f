//! The chapters, as the book renders them.

use std::{fs, path::Path};

use anyhow::{Context, Result, ensure};

use crate::{book, git::Tree, steps::Step};

/// Each step's chapter in plain Markdown, if it has one: what the book's program makes of the chapters,
/// the programs and the records in `head`.
///
/// # Errors
/// A chapter asks for what is not there, or the book does not list it.
pub fn render(head: &Tree, steps: &[Step]) -> Result<Vec<Option<String>>> {
    let chapter = |step: &Step| head.paths().find(|path| step.has_chapter(path));
    let chapters: Vec<Option<&str>> = steps.iter().map(chapter).collect();
    if chapters.iter().all(Option::is_none) {
        return Ok(vec![None; steps.len()]);
    }
    println!("rendering the chapters (the first time, the program that does it is built)");
    let (tree, pages) = (head.export()?, tempfile::tempdir()?);
    write_pages(&tree.path().join("book"), pages.path())?;
    let page = |chapter: Option<&str>| {
        let name = chapter?.strip_prefix("book/src/")?;
        let page = fs::read_to_string(pages.path().join(name));
        Some(page.with_context(|| format!("book/src/SUMMARY.md does not list {name}")))
    };
    chapters.into_iter().map(|chapter| page(chapter).transpose()).collect()
}

fn write_pages(book: &Path, pages: &Path) -> Result<()> {
    let mut program = book::program(&["--quiet"]);
    program.arg("plain").arg("--book").arg(book).arg("--into").arg(pages);
    let output = program.output().context("cargo does not run")?;
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.trim().trim_start_matches("error: ");
    ensure!(output.status.success(), "the chapters of HEAD cannot be rendered: {said}");
    Ok(())
}
