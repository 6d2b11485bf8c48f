//! Much text at once: what a piece of it becomes is looked up the second time.
//!
//! GPT-2's rule cuts text into pieces, as a rule a word with the space before it, and finds the tokens of each piece
//! alone. Nearly all the time goes into the cutting, which a regular expression does that looks ahead and back. So
//! here the rule is written out, and tiktoken is asked for pieces that were not there before. Tests compare
//! the two, over every character there is.

use std::{ops::Range, sync::LazyLock};

use lab::Tokenizer;
use regex_syntax::hir::{Class, HirKind};
use rustc_hash::FxHashMap;

/// How many pieces are remembered before it begins anew: 100 MB of them at most.
const MOST_PIECES: usize = 1 << 20;

/// Longer ones, in bytes, are seldom seen twice.
const LONGEST_PIECE: usize = 32;

/// Makes tokens of documents, and remembers the pieces it has seen.
pub struct Encoder<'a> {
    tokenizer: &'a Tokenizer,
    /// Where in `tokens` those of a piece are.
    seen: FxHashMap<Box<str>, Range<usize>>,
    tokens: Vec<u16>,
}

impl<'a> Encoder<'a> {
    pub fn new(tokenizer: &'a Tokenizer) -> Self {
        Self { tokenizer, seen: FxHashMap::default(), tokens: Vec::new() }
    }

    /// The same as [`Tokenizer::encode_document`].
    ///
    /// # Panics
    /// As that.
    pub fn encode_document(&mut self, text: &str) -> Vec<u16> {
        let Some(end_of_text) = self.tokenizer.end_of_text() else {
            return self.tokenizer.encode_document(text); // characters, which are no pieces
        };
        let mut tokens = Vec::with_capacity(text.len() / 3 + 1);
        tokens.push(id(end_of_text));
        for piece in pieces(text) {
            self.encode_piece(piece, &mut tokens);
        }
        tokens
    }

    fn encode_piece(&mut self, piece: &str, to: &mut Vec<u16>) {
        if let Some(range) = self.seen.get(piece) {
            to.extend_from_slice(&self.tokens[range.clone()]);
            return;
        }
        let new: Vec<u16> = self.tokenizer.encode(piece).into_iter().map(id).collect();
        to.extend_from_slice(&new);
        if piece.len() > LONGEST_PIECE {
            return;
        }
        if self.seen.len() == MOST_PIECES {
            self.seen.clear();
            self.tokens.clear();
        }
        let from = self.tokens.len();
        self.tokens.extend(new);
        self.seen.insert(piece.into(), from..self.tokens.len());
    }
}

fn id(token: i64) -> u16 {
    token.try_into().expect("a vocabulary of 65,536 tokens at most")
}

/// The pieces of a text, by GPT-2's rule.
pub fn pieces(mut text: &str) -> impl Iterator<Item = &str> {
    std::iter::from_fn(move || {
        let (piece, rest) = text.split_at(piece_length(text));
        text = rest;
        (!piece.is_empty()).then_some(piece)
    })
}

/// What the rule tells apart.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Letter,
    Number,
    Space,
    Other,
}

/// The kind of each character, by the regular expression's own tables: Rust's `is_alphabetic` is not its `\p{L}`.
static KINDS: LazyLock<Vec<Kind>> = LazyLock::new(|| {
    let mut kinds = vec![Kind::Other; char::MAX as usize + 1];
    for (class, kind) in [(r"\p{L}", Kind::Letter), (r"\p{N}", Kind::Number), (r"\s", Kind::Space)]
    {
        let class = regex_syntax::parse(class).expect("it is a class");
        let HirKind::Class(Class::Unicode(class)) = class.kind() else {
            unreachable!("it is a class")
        };
        for range in class.ranges() {
            kinds[range.start() as usize..=range.end() as usize].fill(kind);
        }
    }
    kinds
});

fn kind(c: char) -> Kind {
    KINDS[c as usize]
}

/// How many bytes the first piece of a text has, by the rule
/// `'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s`.
fn piece_length(text: &str) -> usize {
    if let Some(length) = contraction_length(text) {
        return length;
    }
    let word = text.strip_prefix(' ').unwrap_or(text);
    match word.chars().next().map(kind) {
        Some(Kind::Space) | None => space_length(text),
        Some(first) => text.len() - word.len() + run_length(word, first),
    }
}

/// `'(?:[sdmt]|ll|ve|re)`
fn contraction_length(text: &str) -> Option<usize> {
    match text.strip_prefix('\'')?.as_bytes() {
        [b's' | b'd' | b'm' | b't', ..] => Some(2),
        [b'l', b'l', ..] | [b'v' | b'r', b'e', ..] => Some(3),
        _ => None,
    }
}

/// `\s++$|\s+(?!\S)|\s`: all of it at the end of the text, all but the last before a word, the last one alone.
fn space_length(text: &str) -> usize {
    let run = run_length(text, Kind::Space);
    let last = text[..run].chars().next_back().map_or(0, char::len_utf8);
    if run == text.len() || run == last { run } else { run - last }
}

/// How many bytes the characters of this kind have with which a text begins.
fn run_length(text: &str, of: Kind) -> usize {
    text.find(|c| kind(c) != of).unwrap_or(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use lab::{END_OF_TEXT, fables};
    use proptest::prelude::*;

    #[track_caller]
    fn assert_same(tokenizer: &Tokenizer, encoder: &mut Encoder, text: &str) {
        assert!(encoder.encode_document(text) == tokenizer.encode_document(text), "{text:?}");
    }

    #[test]
    fn text_with_any_character_becomes_tiktokens_tokens() {
        let tokenizer = Tokenizer::load("fables").unwrap();
        let mut encoder = Encoder::new(&tokenizer);
        let mut text = String::new();
        for c in (0..=char::MAX as u32).filter_map(char::from_u32) {
            text.extend(['a', c, '1', c, c, ' ', c, ' ', ' ', c, '\n', c, '-', c, 'b']);
            if text.len() > 50_000 || c == char::MAX {
                assert_same(&tokenizer, &mut encoder, &text);
                text.clear();
            }
        }
    }

    #[test]
    fn stories_become_tiktokens_tokens() {
        for tokenizer in ["gpt2", "fables"].map(Tokenizer::load).map(Result::unwrap) {
            let mut encoder = Encoder::new(&tokenizer);
            for story in fables::stories(&fables::text(3, 200_000).text) {
                assert_same(&tokenizer, &mut encoder, story);
            }
            for text in ["", END_OF_TEXT, "  ", " a", "'s", "'", " 's", "''s", "'S", "\r\n\r\n"] {
                assert_same(&tokenizer, &mut encoder, text);
            }
        }
    }

    proptest! {
        #[test]
        fn any_text_becomes_tiktokens_tokens(
            words in prop::collection::vec("[a-z]{0,3}'?[sdmtlver]{0,2}[ \n\r\t\u{3000}]{0,3}\\PC{0,4}", 1..40)
        ) {
            let tokenizer = Tokenizer::load("fables").unwrap();
            assert_same(&tokenizer, &mut Encoder::new(&tokenizer), &words.concat());
        }
    }
}
