//! What changed between two programs, hunk by hunk.

use anyhow::{Result, ensure};
use ladder::{
    change::{self, Line, Sign},
    chapter,
    directive::Excerpt,
    syntax::Outline,
};

use crate::block::Block;

/// How many unchanged lines are shown around a change.
const CONTEXT: usize = 3;

/// All that changed from one text to the next, hunk by hunk, and where each goes.
pub fn between(old: &str, new: &str) -> Result<Vec<Block>> {
    let (old_outline, new_outline) = (Outline::of(old)?, Outline::of(new)?);
    let lines = change::between(old, new)?;
    let place = |line: &Line| new_outline.place(line.at, &old_outline);
    Ok(blocks(&lines.iter().collect::<Vec<_>>(), place))
}

/// What changed in an item, or in some of its lines.
pub fn of_item(old: &str, new: &str, item: &str, excerpt: &Excerpt) -> Result<Vec<Block>> {
    let (old_outline, new_outline) = (Outline::of(old)?, Outline::of(new)?);
    let lines = change::between(old, new)?;
    let shown = chapter::places(&lines, item, excerpt)?;
    let shown: Vec<&Line> = shown.into_iter().map(|i| &lines[i]).collect();
    let is_gone = shown.iter().all(|line| line.sign == Sign::Removed);
    let blocks = blocks(&shown, |line| match item {
        "consts" => "among the constants".into(),
        "use" => "among the imports".into(),
        "header" => "in the comment at the top".into(),
        _ if is_gone => format!("`{item}` is gone"),
        _ => new_outline.place(line.at, &old_outline),
    });
    ensure!(!blocks.is_empty(), "nothing changed in `{item}`");
    Ok(blocks)
}

/// The changed lines with their neighbours; `place` says where the first changed line of a hunk stands.
fn blocks(lines: &[&Line], place: impl Fn(&Line) -> String) -> Vec<Block> {
    let is_changed = |i: &usize| lines[*i].sign != Sign::Same;
    let mut blocks = Vec::new();
    let mut changed = (0..lines.len()).filter(is_changed).peekable();
    while let Some(first) = changed.next() {
        let mut last = first;
        while let Some(next) = changed.next_if(|next| *next <= last + 2 * CONTEXT) {
            last = next;
        }
        let hunk = first.saturating_sub(CONTEXT)..lines.len().min(last + 1 + CONTEXT);
        let hunk = lines[hunk].iter().map(|line| (line.sign, line.text.clone()));
        let hunk: Vec<_> = hunk.skip_while(|(_, text)| text.is_empty()).collect();
        blocks.push(Block::hunk(place(lines[first]), &hunk));
    }
    blocks
}

/// How many lines are added and removed from one text to the next.
pub fn changed(old: &str, new: &str) -> Result<(usize, usize)> {
    let lines = change::between(old, new)?;
    let count = |sign| lines.iter().filter(|line| line.sign == sign).count();
    Ok((count(Sign::Added), count(Sign::Removed)))
}

/// A program below the comment at its top.
pub fn without_header(text: &str) -> Result<String> {
    let header = Outline::of(text)?.item("header").unwrap_or(0..0);
    Ok(text.lines().skip(header.end).map(|line| format!("{line}\n")).collect())
}
