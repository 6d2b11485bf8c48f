//! What changed between two texts, hunk by hunk.

use std::ops::Range;

use anyhow::{Result, ensure};
use diffy::{DiffOptions, Line};

use crate::{
    block::{Block, Sign},
    syntax::Outline,
};

/// How many unchanged lines are shown around a change.
const CONTEXT: usize = 3;

/// Some changed lines and their neighbours.
pub struct Hunk {
    /// Where its first changed line stands in the new text, counted from 0.
    pub at: usize,
    pub lines: Vec<(Sign, String)>,
}

impl Hunk {
    fn new(hunk: &diffy::Hunk<str>) -> Hunk {
        let line = |line: &Line<str>| match line {
            Line::Context(text) => (Sign::Same, text.trim_end_matches('\n').to_string()),
            Line::Insert(text) => (Sign::Added, text.trim_end_matches('\n').to_string()),
            Line::Delete(text) => (Sign::Removed, text.trim_end_matches('\n').to_string()),
        };
        let lines: Vec<_> = hunk.lines().iter().map(line).collect();
        let before = lines.iter().take_while(|(sign, _)| *sign == Sign::Same).count();
        Hunk { at: hunk.new_range().start().saturating_sub(1) + before, lines }
    }

    fn count(&self, wanted: Sign) -> usize {
        self.lines.iter().filter(|(sign, _)| *sign == wanted).count()
    }
}

fn hunks(old: &str, new: &str) -> Vec<Hunk> {
    let mut options = DiffOptions::new();
    options.set_context_len(CONTEXT);
    options.create_patch(old, new).hunks().iter().map(Hunk::new).collect()
}

/// All that changed from one text to the next, hunk by hunk, and where each goes.
pub fn between(old: &str, new: &str) -> Result<Vec<Block>> {
    let (old_outline, new_outline) = (Outline::of(old)?, Outline::of(new)?);
    let place = |hunk: &Hunk| new_outline.place(hunk.at, &old_outline);
    Ok(blocks(&hunks(old, new), place))
}

/// What changed in an item, or all of it if it is new or gone.
pub fn of_item(old: &str, new: &str, item: &str) -> Result<Vec<Block>> {
    let (old_outline, new_outline) = (Outline::of(old)?, Outline::of(new)?);
    let (before, after) = match (old_outline.item(item), new_outline.item(item)) {
        (Err(_), Err(why)) => return Err(why),
        (before, after) => (before.unwrap_or(0..0), after.unwrap_or(0..0)),
    };
    let hunks = hunks(&cut(old, &before), &cut(new, &after));
    ensure!(!hunks.is_empty(), "nothing changed in `{item}`");
    Ok(blocks(&hunks, |hunk| match item {
        "consts" => "among the constants".into(),
        "use" => "among the imports".into(),
        "header" => "in the comment at the top".into(),
        _ if after.is_empty() => format!("`{item}` is gone"),
        _ => new_outline.place(after.start + hunk.at, &old_outline),
    }))
}

fn cut(text: &str, lines: &Range<usize>) -> String {
    text.lines().skip(lines.start).take(lines.len()).map(|line| format!("{line}\n")).collect()
}

fn blocks(hunks: &[Hunk], place: impl Fn(&Hunk) -> String) -> Vec<Block> {
    hunks.iter().map(|hunk| Block::hunk(place(hunk), &hunk.lines)).collect()
}

/// How many lines are added and removed from one text to the next.
pub fn changed(old: &str, new: &str) -> (usize, usize) {
    let hunks = hunks(old, new);
    let sum = |sign| hunks.iter().map(|hunk| hunk.count(sign)).sum();
    (sum(Sign::Added), sum(Sign::Removed))
}

/// A program below the comment at its top.
pub fn without_header(text: &str) -> Result<String> {
    let header = Outline::of(text)?.item("header").unwrap_or(0..0);
    Ok(cut(text, &(header.end..usize::MAX)))
}
