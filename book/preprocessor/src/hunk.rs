//! What changed between two programs, hunk by hunk.

use anyhow::{Result, ensure};
use ladder::{
    change::{self, Line, Sign},
    chapter::{self, Typed},
    directive::Excerpt,
    syntax::Outline,
};

use crate::html;

/// How many unchanged lines are shown around a change.
const CONTEXT: usize = 3;

/// All that changed from one text to the next, hunk by hunk, and where each goes.
pub fn between(old: &str, new: &str) -> Result<String> {
    hunks(old, new, &change::between(old, new)?, None)
}

/// What changed in an item, or in some of its lines.
pub fn of_item(old: &str, new: &str, item: &str, excerpt: &Excerpt) -> Result<String> {
    let lines = change::between(old, new)?;
    let shown = chapter::places(&lines, item, excerpt)?;
    let shown: Vec<Line> = shown.into_iter().map(|i| lines[i].clone()).collect();
    let hunks = hunks(old, new, &shown, Some(item))?;
    ensure!(!hunks.is_empty(), "nothing changed in `{item}`");
    Ok(hunks)
}

/// What is typed of an item in a section of the step's own chapter.
pub fn of_section(typed: &Typed, item: &str) -> Result<String> {
    hunks(&typed.before, &typed.after, &typed.lines, Some(item))
}

/// The changed ones of these lines with their neighbours, and where the first changed line of each hunk goes.
fn hunks(old: &str, new: &str, lines: &[Line], item: Option<&str>) -> Result<String> {
    let (old, new) = (Outline::of(old)?, Outline::of(new)?);
    let place = |line: &Line| match item {
        Some("consts") => "among the constants".into(),
        Some("use") => "among the imports".into(),
        Some("header") => "in the comment at the top".into(),
        Some(item) if !new.has(item) => format!("`{item}` is gone"),
        _ => new.place(line.at, &old),
    };
    let is_changed = |i: &usize| lines[*i].sign != Sign::Same;
    let mut hunks = String::new();
    let mut changed = (0..lines.len()).filter(is_changed).peekable();
    while let Some(first) = changed.next() {
        let mut last = first;
        while let Some(next) = changed.next_if(|next| *next <= last + 2 * CONTEXT) {
            last = next;
        }
        let hunk = first.saturating_sub(CONTEXT)..lines.len().min(last + 1 + CONTEXT);
        let hunk = lines[hunk].iter().map(|line| (line.sign, line.text.as_str()));
        let hunk: Vec<_> = hunk.skip_while(|(_, text)| text.is_empty()).collect();
        hunks += &html::hunk(&place(&lines[first]), &hunk);
    }
    Ok(hunks)
}
