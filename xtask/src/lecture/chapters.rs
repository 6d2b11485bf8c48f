//! The chapters, as the book renders them.

use anyhow::Result;

use crate::{git::Tree, steps::Step};

/// Each step's chapter in plain Markdown, if it has one.
pub fn render(head: &Tree, steps: &[Step]) -> Result<Vec<Option<String>>> {
    let chapter = |step: &Step| {
        let path = head.paths().find(|path| step.has_chapter(path));
        path.map_or(Ok(None), |path| head.text(path))
    };
    steps.iter().map(chapter).collect()
}
