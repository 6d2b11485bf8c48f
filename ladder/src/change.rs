//! What changes from one program to the next, item by item.
//!
//! A plain diff pairs lines that look alike, a brace of one function with that of another. Here items are
//! paired by their names first, and lines only within a pair.

use std::collections::HashMap;

use anyhow::Result;
use diffy::{DiffOptions, Line as Diffed};

use crate::syntax::{Cut, Outline};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sign {
    Same,
    Added,
    Removed,
}

/// A line of the one program or the other, or of both.
#[derive(Clone, Debug)]
pub struct Line {
    pub sign: Sign,
    pub text: String,
    /// The name of the item that it stands in, such as `Gpt::forward`; of `impl Gpt` only its first lines
    /// and its brace.
    pub item: String,
    /// The `impl` that this item is a method of, if it is one.
    pub holder: String,
    /// Its place in the new program, counted from 0; of a removed line, the place of what follows it.
    pub at: usize,
}

/// Both programs in one, line by line.
pub fn between(old: &str, new: &str) -> Result<Vec<Line>> {
    let (old, new) = (pieces(old)?, pieces(new)?);
    let keys = |pieces: &[Piece]| -> String {
        pieces.iter().map(|piece| format!("{}\n", piece.key)).collect()
    };
    let (old_keys, new_keys) = (keys(&old), keys(&new));
    let (mut old, mut new) = (old.iter(), new.iter());
    let mut lines = Vec::new();
    let mut at = 0;
    for (sign, _) in diff(&old_keys, &new_keys) {
        let removed = if sign == Sign::Added { None } else { old.next() };
        let added = if sign == Sign::Removed { None } else { new.next() };
        let Some(Piece { name, holder, .. }) = added.or(removed) else { continue };
        let before = removed.map_or("", |piece| piece.text.as_str());
        let after = added.map_or("", |piece| piece.text.as_str());
        for (sign, text) in diff(before, after) {
            lines.push(Line { sign, text, item: name.clone(), holder: holder.clone(), at });
            at += usize::from(sign != Sign::Removed);
        }
    }
    Ok(lines)
}

/// How many lines are added and removed from one program to the next.
pub fn count(old: &str, new: &str) -> Result<(usize, usize)> {
    let lines = between(old, new)?;
    let count = |sign| lines.iter().filter(|line| line.sign == sign).count();
    Ok((count(Sign::Added), count(Sign::Removed)))
}

/// An item, or the beginning or the end of one that holds others, with the empty lines above it.
struct Piece {
    name: String,
    holder: String,
    /// Tells pieces of one name apart: the end of an `impl` from its beginning, one `use` from the next.
    key: String,
    text: String,
}

fn pieces(text: &str) -> Result<Vec<Piece>> {
    let mut seen = HashMap::new();
    let mut pieces = Vec::new();
    let mut lines = text.lines();
    let mut start = 0;
    for Cut { name, holder, end } in Outline::of(text)?.cuts() {
        let own = lines.by_ref().take(end.saturating_sub(start));
        let text: String = own.map(|line| format!("{line}\n")).collect();
        if !text.is_empty() {
            let count = seen.entry(name.clone()).and_modify(|n| *n += 1).or_insert(0);
            pieces.push(Piece { key: format!("{name} {count}"), name, holder, text });
            start = end;
        }
    }
    Ok(pieces)
}

/// The lines of both texts in one.
fn diff(old: &str, new: &str) -> Vec<(Sign, String)> {
    if old == new {
        return old.lines().map(|line| (Sign::Same, line.into())).collect();
    }
    let mut options = DiffOptions::new();
    options.set_context_len(usize::MAX);
    let patch = options.create_patch(old, new);
    let lines = patch.hunks().iter().flat_map(|hunk| hunk.lines());
    let lines = lines.map(|line| match line {
        Diffed::Context(text) => (Sign::Same, text),
        Diffed::Insert(text) => (Sign::Added, text),
        Diffed::Delete(text) => (Sign::Removed, text),
    });
    lines.map(|(sign, text)| (sign, text.trim_end_matches('\n').into())).collect()
}
