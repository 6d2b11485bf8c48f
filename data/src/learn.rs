//! Vocabularies made from a text: its characters, or the byte pairs that are most frequent in it.
//!
//! Byte pairs are learned as step04 learns them: of all neighbours inside the pieces that GPT-2's rule cuts, the most
//! frequent become a token, again and again. Here each piece is counted once, however often it is there; a heap knows
//! the most frequent pair; and a merge visits only the pieces that have it.

use std::{
    cmp::Reverse,
    collections::{BTreeSet, BinaryHeap},
};

use anyhow::{Result, ensure};
use lab::{Tokenizer, grouped};
use rayon::prelude::*;
use rustc_hash::{FxHashMap, FxHashSet};

use crate::{
    pieces::pieces,
    progress::Progress,
    shards::{Chunk, Place, Source, VOCABULARY},
};

/// How much text byte pairs are learned from, in bytes: of a longer one the beginning of each file.
const MOST_TEXT: u64 = 100_000_000;

/// Longer pieces, in bytes, are counted in parts: a merge has to read what it visits.
const LONGEST_PIECE: usize = 128;

/// The tokens that every vocabulary of byte pairs has: the single bytes, and `<|endoftext|>`.
pub const FEWEST_TOKENS: usize = 257;

/// The largest vocabulary whose ids fit into a shard.
pub const MOST_TOKENS: usize = 1 << 16;

/// One token for each character that the source's text has, what is to validate on included, as nanoGPT does it.
///
/// # Errors
/// When a file cannot be read, or has no text.
pub fn characters(source: &dyn Source) -> Result<Tokenizer> {
    let mut all = BTreeSet::new();
    read(source, u64::MAX, |chunk| {
        let of_piece = |text: &str| text.chars().collect::<FxHashSet<char>>();
        let of_pieces: Vec<_> =
            chunk.pieces.par_iter().map(|piece| of_piece(&piece.text)).collect();
        all.extend(of_pieces.into_iter().flatten());
    })?;
    ensure!(!all.is_empty(), "{}: there is no text in it", source.name(0));
    Tokenizer::of_characters(VOCABULARY, all)
}

/// Up to `n` tokens of byte pairs that are frequent in the source's text, `<|endoftext|>` among them; fewer where no pair
/// is left that is there twice. What is to validate on is not read, and of a long text only the beginning of each file.
/// The same text gives the same tokens.
///
/// # Errors
/// When a file cannot be read, or has no text to train on.
///
/// # Panics
/// If `n` is not from [`FEWEST_TOKENS`] to [`MOST_TOKENS`].
pub fn byte_pairs(source: &dyn Source, n: usize) -> Result<Tokenizer> {
    let mut counts = Counts::default();
    read(source, MOST_TEXT, |chunk| {
        if chunk.split == Some("val") {
            return;
        }
        let of_pieces = chunk.pieces.par_iter().fold(Counts::default, |mut counts, piece| {
            count(&piece.text, &mut counts);
            counts
        });
        for of_piece in of_pieces.collect::<Vec<_>>() {
            add(of_piece, &mut counts);
        }
    })?;
    ensure!(!counts.is_empty(), "{}: there is no text to train on in it", source.name(0));
    Tokenizer::of_byte_pairs(VOCABULARY, learn(counts, n - 1))
}

/// The same from a text in memory.
///
/// # Errors
/// Never, for a text that is not empty.
///
/// # Panics
/// As [`byte_pairs`].
pub fn byte_pairs_of(text: &str, n: usize) -> Result<Tokenizer> {
    let mut counts = Counts::default();
    count(text, &mut counts);
    Tokenizer::of_byte_pairs(VOCABULARY, learn(counts, n - 1))
}

/// That a vocabulary has as many tokens as were asked for.
///
/// # Errors
/// If the text was too short for them.
pub fn expect_all(tokenizer: &Tokenizer, n: usize) -> Result<()> {
    let learned = tokenizer.n_vocab();
    ensure!(
        learned == n as i64,
        "--vocab-size {}: the text gives {} tokens, and then no two stand side by side twice; choose that or less",
        grouped(n as i64),
        grouped(learned)
    );
    Ok(())
}

/// Hands on the chunks of all files, of each the same share at its beginning, so that it is about `most` bytes.
fn read(source: &dyn Source, most: u64, mut take: impl FnMut(&Chunk)) -> Result<()> {
    let sizes = source.sizes();
    let whole: u64 = sizes.iter().sum();
    let share = (most as f64 / whole as f64).min(1.0);
    let mut progress = Progress::new((whole as f64 * share) as u64);
    let mut before = 0;
    for (file, size) in sizes.into_iter().enumerate() {
        let end = (size as f64 * share).ceil() as u64;
        let chunks = progress.suspend(|| source.open(Place { file, ..Place::default() }))?;
        for chunk in chunks {
            let chunk = chunk?;
            take(&chunk);
            progress.show_reading(before + chunk.read);
            if chunk.read >= end {
                break;
            }
        }
        before += end;
    }
    Ok(())
}

/// How often each piece is there.
type Counts = FxHashMap<Box<[u8]>, u64>;

fn count(text: &str, counts: &mut Counts) {
    for piece in pieces(text).flat_map(|piece| piece.as_bytes().chunks(LONGEST_PIECE)) {
        match counts.get_mut(piece) {
            Some(count) => *count += 1,
            None => drop(counts.insert(piece.into(), 1)),
        }
    }
}

fn add(other: Counts, counts: &mut Counts) {
    for (piece, count) in other {
        *counts.entry(piece).or_default() += count;
    }
}

/// Two ids side by side. Ids fit, since `<|endoftext|>` has the last of 65,536.
type Pair = (u16, u16);

struct Word {
    ids: Vec<u16>,
    count: u64,
}

impl Word {
    fn pairs(&self) -> impl Iterator<Item = Pair> {
        self.ids.windows(2).map(|pair| (pair[0], pair[1]))
    }
}

/// What is known of a pair.
#[derive(Default)]
struct Known {
    count: u64,
    /// The words that have had it; some no longer have.
    words: Vec<u32>,
}

/// Up to `n` tokens: the single bytes, then what pairs were merged to, in this order. Of pairs that are equally
/// frequent the one of earlier tokens comes first, so that nothing depends on the order of the counts.
fn learn(counts: Counts, n: usize) -> Vec<Vec<u8>> {
    assert!((FEWEST_TOKENS - 1..MOST_TOKENS).contains(&n), "{n} tokens and <|endoftext|>");
    let mut tokens: Vec<Vec<u8>> = (0..=255).map(|byte| vec![byte]).collect();
    let mut ids: FxHashMap<Vec<u8>, u16> = tokens.iter().cloned().zip(0..).collect();
    let mut words = words(counts);
    let mut known = pairs_of(&words);
    let mut heap: BinaryHeap<(u64, Reverse<Pair>)> =
        known.iter().map(|(&pair, known)| (known.count, Reverse(pair))).collect();
    while tokens.len() < n {
        let Some((count, Reverse(pair))) = heap.pop() else { break };
        // It may have been merged, or be less frequent than when it was put here.
        match known.get(&pair).map_or(0, |known| known.count) {
            0 | 1 => continue,
            now if now < count => {
                heap.push((now, Reverse(pair)));
                continue;
            }
            _ => {}
        }
        let token = [&tokens[pair.0 as usize][..], &tokens[pair.1 as usize]].concat();
        // Two pairs may spell the same token; it is there once.
        let id = *ids.entry(token.clone()).or_insert(tokens.len() as u16);
        if id as usize == tokens.len() {
            tokens.push(token);
        }
        for new in merge(pair, id, &mut words, &mut known) {
            heap.push((known[&new].count, Reverse(new)));
        }
    }
    tokens
}

fn words(counts: Counts) -> Vec<Word> {
    let word = |(piece, count): (Box<[u8]>, u64)| {
        let ids = piece.iter().map(|&byte| byte.into()).collect();
        Word { ids, count }
    };
    counts.into_iter().filter(|(piece, _)| piece.len() > 1).map(word).collect()
}

fn pairs_of(words: &[Word]) -> FxHashMap<Pair, Known> {
    let mut known: FxHashMap<Pair, Known> = FxHashMap::default();
    for (i, word) in (0..).zip(words) {
        for pair in word.pairs() {
            let known = known.entry(pair).or_default();
            known.count += word.count;
            if known.words.last() != Some(&i) {
                known.words.push(i);
            }
        }
    }
    known
}

/// Puts `id` in the place of a pair wherever it stands, and returns the pairs that have become more frequent by it.
fn merge(
    pair: Pair,
    id: u16,
    words: &mut [Word],
    known: &mut FxHashMap<Pair, Known>,
) -> FxHashSet<Pair> {
    let mut new = FxHashSet::default();
    for i in known.remove(&pair).unwrap_or_default().words {
        let word = &mut words[i as usize];
        if !word.pairs().any(|there| there == pair) {
            continue;
        }
        for before in word.pairs() {
            if let Some(known) = known.get_mut(&before) {
                known.count -= word.count;
            }
        }
        replace(pair, id, &mut word.ids);
        for after in word.pairs() {
            let known = known.entry(after).or_default();
            known.count += word.count;
            if after.0 == id || after.1 == id {
                new.insert(after);
                if known.words.last() != Some(&i) {
                    known.words.push(i);
                }
            }
        }
    }
    new
}

fn replace(pair: Pair, id: u16, ids: &mut Vec<u16>) {
    let (mut from, mut to) = (0, 0);
    while from < ids.len() {
        let is_pair = from + 1 < ids.len() && (ids[from], ids[from + 1]) == pair;
        ids[to] = if is_pair { id } else { ids[from] };
        from += if is_pair { 2 } else { 1 };
        to += 1;
    }
    ids.truncate(to);
}

#[cfg(test)]
mod tests {
    use super::*;
    use lab::fables;
    use proptest::prelude::*;

    /// Step04's way: counts all pairs anew for each token.
    fn slowly(text: &str, n: usize) -> Vec<Vec<u8>> {
        let mut tokens: Vec<Vec<u8>> = (0..=255).map(|byte| vec![byte]).collect();
        let mut words: Vec<Vec<u16>> =
            pieces(text).map(|piece| piece.bytes().map(u16::from).collect()).collect();
        while tokens.len() < n {
            let mut counts: FxHashMap<Pair, u64> = FxHashMap::default();
            for pair in words.iter().flat_map(|ids| ids.windows(2)) {
                *counts.entry((pair[0], pair[1])).or_default() += 1;
            }
            let most = counts.into_iter().max_by_key(|&(pair, count)| (count, Reverse(pair)));
            let Some((pair, 2..)) = most else { break };
            let token = [&tokens[pair.0 as usize][..], &tokens[pair.1 as usize]].concat();
            let id = tokens.iter().position(|there| *there == token).unwrap_or(tokens.len());
            if id == tokens.len() {
                tokens.push(token);
            }
            words.iter_mut().for_each(|ids| replace(pair, id as u16, ids));
        }
        tokens
    }

    fn quickly(text: &str, n: usize) -> Vec<Vec<u8>> {
        let mut counts = Counts::default();
        count(text, &mut counts);
        learn(counts, n)
    }

    #[test]
    fn the_tokens_are_those_of_counting_anew_each_time() {
        let text = fables::text(7, 30_000).text + "Füchse 狐狐狐狐狐 aaaaaaaaa aaaaaaa \n\n\n\n";
        assert_eq!(quickly(&text, 500), slowly(&text, 500));
    }

    #[test]
    fn a_vocabulary_has_as_many_tokens_as_asked_for_and_loses_nothing() {
        let told = fables::text(7, 100_000).text;
        for n in [257, 300, 1000] {
            let tokenizer = byte_pairs_of(&told, n).unwrap();
            assert_eq!(
                (tokenizer.n_vocab(), tokenizer.end_of_text()),
                (n as i64, Some(n as i64 - 1))
            );
            assert_eq!(byte_pairs_of(&told, n).unwrap().fingerprint(), tokenizer.fingerprint());
            for text in [&told, "Never seen: 你好 🦊\0\r\n"] {
                assert_eq!(tokenizer.decode(&tokenizer.encode(text)), *text);
            }
        }
        // More tokens, fewer of them in the text.
        let length = |n| byte_pairs_of(&told, n).unwrap().encode(&told).len();
        assert!(length(1000) < length(300) && length(300) < told.len());
    }

    #[test]
    fn a_text_without_pairs_gives_no_more_tokens() {
        let tokenizer = byte_pairs_of("abcabd xyz", 1000).unwrap();
        assert_eq!(tokenizer.n_vocab(), 258, "ab is there twice, and nothing else");
        let error = expect_all(&tokenizer, 1000).unwrap_err().to_string();
        assert!(error.contains("--vocab-size 1,000: the text gives 258 tokens"), "{error}");
    }

    proptest! {
        #[test]
        fn any_text_gives_the_tokens_of_counting_anew(text in "[ab \n狐]{0,200}") {
            prop_assert_eq!(quickly(&text, 300), slowly(&text, 300));
        }
    }
}
