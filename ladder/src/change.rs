//! What changes from one program to the next, item by item.
//!
//! A plain diff pairs lines that look alike, a brace of one function with that of another. Here items are
//! paired by their names first, and lines only within a pair.

use std::collections::HashMap;
use std::ops::Range;

use anyhow::Result;
use diffy::{DiffOptions, Line as Diffed};

use crate::syntax::Outline;

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
    /// Its place in the new program, counted from 0; of a removed line, the place of what follows it.
    pub at: usize,
}

/// Both programs in one, line by line.
pub fn between(old: &str, new: &str) -> Result<Vec<Line>> {
    let (old_pieces, new_pieces) = (pieces(old)?, pieces(new)?);
    let (old, new): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    let pairs = longest_common(&names(&old_pieces), &names(&new_pieces));
    let mut lines = Vec::new();
    let (mut i, mut j) = (0, 0);
    let ends = (old_pieces.len(), new_pieces.len());
    for (pair_old, pair_new) in pairs.into_iter().chain([ends]) {
        for piece in &old_pieces[i..pair_old] {
            let at = new_pieces.get(j).map_or(new.len(), |piece| piece.lines.start);
            lines.extend(whole(piece, &old, Sign::Removed, |_| at));
        }
        for piece in &new_pieces[j..pair_new] {
            lines.extend(whole(piece, &new, Sign::Added, |at| at));
        }
        if (pair_old, pair_new) != ends {
            lines.extend(pair(&old_pieces[pair_old], &old, &new_pieces[pair_new], &new));
        }
        (i, j) = (pair_old + 1, pair_new + 1);
    }
    Ok(lines)
}

/// An item, or the beginning or the end of one that holds others, with the empty lines above it.
struct Piece {
    name: String,
    /// Tells pieces of one name apart: the end of an `impl` from its beginning, one `use` from the next.
    key: String,
    lines: Range<usize>,
}

fn pieces(text: &str) -> Result<Vec<Piece>> {
    let outline = Outline::of(text)?;
    let length = text.lines().count();
    let mut seen = HashMap::new();
    let mut pieces = Vec::new();
    let mut start = 0;
    for (name, end) in outline.cuts() {
        if end > start {
            let count = seen.entry(name.clone()).and_modify(|n| *n += 1).or_insert(0);
            pieces.push(Piece { key: format!("{name} {count}"), name, lines: start..end });
            start = end;
        }
    }
    if start < length {
        pieces.push(Piece { name: "rest".into(), key: "rest".into(), lines: start..length });
    }
    Ok(pieces)
}

fn names(pieces: &[Piece]) -> Vec<&str> {
    pieces.iter().map(|piece| piece.key.as_str()).collect()
}

/// The places of a longest sequence that both hold in the same order.
fn longest_common(old: &[&str], new: &[&str]) -> Vec<(usize, usize)> {
    let mut best = vec![vec![0; new.len() + 1]; old.len() + 1];
    for i in (0..old.len()).rev() {
        for j in (0..new.len()).rev() {
            best[i][j] = match old[i] == new[j] {
                true => best[i + 1][j + 1] + 1,
                false => best[i + 1][j].max(best[i][j + 1]),
            };
        }
    }
    let (mut i, mut j, mut pairs) = (0, 0, Vec::new());
    while i < old.len() && j < new.len() {
        if old[i] == new[j] {
            pairs.push((i, j));
            (i, j) = (i + 1, j + 1);
        } else if best[i + 1][j] >= best[i][j + 1] {
            i += 1;
        } else {
            j += 1;
        }
    }
    pairs
}

fn whole<'a>(
    piece: &'a Piece,
    text: &'a [&str],
    sign: Sign,
    at: impl Fn(usize) -> usize + 'a,
) -> impl Iterator<Item = Line> + 'a {
    piece.lines.clone().map(move |i| Line {
        sign,
        text: text[i].into(),
        item: piece.name.clone(),
        at: at(i),
    })
}

fn pair(old: &Piece, old_text: &[&str], new: &Piece, new_text: &[&str]) -> Vec<Line> {
    let joined = |text: &[&str], lines: &Range<usize>| -> String {
        text[lines.clone()].iter().map(|line| format!("{line}\n")).collect()
    };
    let (before, after) = (joined(old_text, &old.lines), joined(new_text, &new.lines));
    let mut at = new.lines.start;
    let mut line = |sign, text: &str| {
        let line =
            Line { sign, text: text.trim_end_matches('\n').into(), item: new.name.clone(), at };
        at += usize::from(sign != Sign::Removed);
        line
    };
    if before == after {
        return after.lines().map(|text| line(Sign::Same, text)).collect();
    }
    let mut options = DiffOptions::new();
    options.set_context_len(usize::MAX);
    let patch = options.create_patch(&before, &after);
    let diffed = patch.hunks().iter().flat_map(|hunk| hunk.lines());
    diffed
        .map(|diffed| match diffed {
            Diffed::Context(text) => line(Sign::Same, text),
            Diffed::Insert(text) => line(Sign::Added, text),
            Diffed::Delete(text) => line(Sign::Removed, text),
        })
        .collect()
}
