// step04_tokenizer: text becomes fewer integers
//
// New: any text is bytes; byte-pair encoding glues the pair that occurs most often into a token of
// its own, again and again. With the merges that GPT-2 learned, the same code is GPT-2's tokenizer.
//
// Run:  cargo run --bin step04_tokenizer
//       cargo run --bin step04_tokenizer -- --vocab-size 1000 --prompt "Any text, 你好 and 🦊"
// See:  the merges as they are learned; text of every script comes back as it went in; our GPT-2
//       tokens are exactly tiktoken's; how many bytes a token stands for as the vocabulary grows.

use anyhow::{Result, ensure};
use base64::{Engine, prelude::BASE64_STANDARD};
use clap::Parser;
use fancy_regex::Regex;
use lab::{Corpus, Flags, grouped, plot::Plot};
use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
    path::Path,
    process::ExitCode,
};

#[path = "proofs/step04.rs"]
mod proof;

const MAX_MERGES: usize = 767; // with the 256 single bytes and END_OF_TEXT, 1,024 tokens
const END_OF_TEXT: &[u8] = b"<|endoftext|>"; // a token that stands between two documents
const GPT2_TOKENS: u32 = 50_256; // the next id, <|endoftext|>, stands for no bytes

/// GPT-2's rule for cutting text into pieces, so that no token runs across them: English endings,
/// then letters, numbers and other signs with the space before them, then white space, whose last
/// one is left to the word that follows.
const PIECES: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";

/// The bytes that each token stands for. A token's id is its place; the lower, the earlier learned.
struct Tokenizer {
    tokens: Vec<Vec<u8>>,
    ids: HashMap<Vec<u8>, u32>,
    pieces: Regex,
}

impl Tokenizer {
    fn new(tokens: Vec<Vec<u8>>) -> Result<Self> {
        let ids = tokens.iter().cloned().zip(0..).collect();
        Ok(Self { tokens, ids, pieces: Regex::new(PIECES)? })
    }

    /// Learns tokens from `text` until there are `vocab_size` or no pair is left that occurs twice.
    /// Reports every merge. Each one takes time for all bytes of all different pieces.
    fn train(text: &str, vocab_size: usize, mut report: impl FnMut(&Merge)) -> Result<Self> {
        let mut tokenizer = Self::new((0..=255).map(|byte| vec![byte]).collect())?;
        // A piece that occurs a thousand times is kept once, with its count.
        let mut counts: HashMap<&str, usize> = HashMap::new();
        for piece in tokenizer.pieces.find_iter(text) {
            *counts.entry(piece?.as_str()).or_default() += 1;
        }
        let as_ids = |piece: &str| piece.bytes().map(u32::from).collect();
        let mut pieces: Vec<(Vec<u32>, usize)> =
            counts.iter().map(|(piece, count)| (as_ids(piece), *count)).collect();

        while tokenizer.tokens.len() < vocab_size {
            let Some((pair, times)) = most_frequent_pair(&pieces) else { break };
            let id = tokenizer.learn(pair);
            for (ids, _) in &mut pieces {
                merge(ids, pair, id);
            }
            let tokens = pieces.iter().map(|(ids, count)| ids.len() * count).sum();
            report(&Merge { pair, id, times, tokens, tokenizer: &tokenizer });
        }
        Ok(tokenizer)
    }

    /// The id of the token that a pair makes: a new one, unless another pair has made the same bytes.
    fn learn(&mut self, (left, right): (u32, u32)) -> u32 {
        let bytes = [self.bytes(left), self.bytes(right)].concat();
        *self.ids.entry(bytes).or_insert_with_key(|bytes| {
            self.tokens.push(bytes.clone());
            self.tokens.len() as u32 - 1
        })
    }

    /// GPT-2's tokens: tiktoken keeps its table to itself, but decodes one id after the other.
    fn gpt2() -> Result<Self> {
        let tiktoken = tiktoken_rs::r50k_base()?;
        let tokens: Result<_, _> =
            (0..GPT2_TOKENS).map(|id| tiktoken.decode_bytes(&[id])).collect();
        Self::new(tokens?)
    }

    /// Writes the tokens as tiktoken reads them: a line for each, its bytes in base64, and its id.
    fn save(&self, path: &Path) -> Result<()> {
        let tokens = self.tokens.iter().map(Vec::as_slice);
        files::write_atomically(path, |file| {
            for (id, token) in tokens.chain([END_OF_TEXT]).enumerate() {
                writeln!(file, "{} {id}", BASE64_STANDARD.encode(token))?;
            }
            Ok(())
        })
    }

    fn bytes(&self, id: u32) -> &[u8] {
        &self.tokens[id as usize]
    }

    fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let mut ids = Vec::new();
        for piece in self.pieces.find_iter(text) {
            ids.extend(self.encode_piece(piece?.as_str().as_bytes()));
        }
        Ok(ids)
    }

    /// Starts from single bytes and glues, again and again, the pair that was learned first.
    fn encode_piece(&self, piece: &[u8]) -> Vec<u32> {
        if let Some(&id) = self.ids.get(piece) {
            return vec![id];
        }
        // A token runs from one cut to the next. Every cut knows the next one on its left and right.
        let n = piece.len();
        let mut left: Vec<usize> = (0..=n).map(|cut| cut.wrapping_sub(1)).collect();
        let mut right: Vec<usize> = (0..=n).map(|cut| cut + 1).collect();
        // The pair at a cut, if it makes a token. Beyond the piece's ends `get` finds no bytes.
        let pair = |start, cut, end| {
            let id = self.ids.get(piece.get(start..end)?)?;
            Some(Reverse((*id, start, cut, end)))
        };
        // The heap hands out the pair of the lowest id and, of several, the leftmost.
        let mut pairs: BinaryHeap<_> =
            (1..n).filter_map(|cut| pair(cut - 1, cut, cut + 1)).collect();
        while let Some(Reverse((_, start, cut, end))) = pairs.pop() {
            if (left[cut], right[cut]) != (start, end) {
                continue; // out of date: one of the two has been glued to its other neighbour
            }
            // The cut goes, and the two beside it have a longer token on one side.
            right[start] = end;
            left[end] = start;
            pairs.extend(pair(left[start], start, end));
            pairs.extend(pair(start, end, right[end]));
        }
        let mut ids = Vec::new();
        let mut start = 0;
        while start < n {
            ids.push(self.ids[&piece[start..right[start]]]);
            start = right[start];
        }
        ids
    }

    /// The text that `ids` stand for. Where a token ends inside a character, as a model's may, the
    /// broken character becomes �.
    fn decode(&self, ids: &[u32]) -> String {
        let bytes: Vec<u8> = ids.iter().flat_map(|&id| self.bytes(id)).copied().collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// One step of the training: `pair`, found `times` times, is now `id`, and the text `tokens` long.
struct Merge<'a> {
    pair: (u32, u32),
    id: u32,
    times: usize,
    tokens: usize,
    tokenizer: &'a Tokenizer,
}

/// The pair of neighbours that occurs most often, if one occurs twice; the smaller ids win a tie.
fn most_frequent_pair(pieces: &[(Vec<u32>, usize)]) -> Option<((u32, u32), usize)> {
    let mut times: HashMap<(u32, u32), usize> = HashMap::new();
    for (ids, count) in pieces {
        for pair in ids.windows(2) {
            *times.entry((pair[0], pair[1])).or_default() += count;
        }
    }
    let most = times.into_iter().max_by_key(|&(pair, times)| (times, Reverse(pair)));
    most.filter(|&(_, times)| times > 1)
}

/// Replaces `pair` by `id` wherever it stands in `ids`, from left to right.
fn merge(ids: &mut Vec<u32>, pair: (u32, u32), id: u32) {
    let mut merged = Vec::with_capacity(ids.len());
    let mut rest = ids.as_slice();
    while let [first, tail @ ..] = rest {
        if tail.first().is_some_and(|second| (*first, *second) == pair) {
            merged.push(id);
            rest = &tail[1..];
        } else {
            merged.push(*first);
            rest = tail;
        }
    }
    *ids = merged;
}

/// A token as a person can read it: bytes that are no whole character are shown as `\xe4`.
fn show(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => format!("{text:?}"),
        Err(_) => format!("\"{}\"", bytes.escape_ascii()),
    }
}

/// A byte-pair tokenizer, trained from scratch; then GPT-2's.
#[derive(Parser)]
struct Args {
    /// How many tokens in all, the 256 single bytes and <|endoftext|> included [default: 257 + --steps]
    #[arg(long, value_name = "N")]
    vocab_size: Option<usize>,
    /// A text to show as tokens
    #[arg(long, value_name = "TEXT", default_value = "The fox said hello; it's 2026.")]
    prompt: String,
    #[command(flatten)]
    lab: Flags,
}

fn lesson() -> Result<()> {
    let args = Args::parse();
    let out = args.lab.out()?;
    let corpus = Corpus::load(&args.lab, 1)?;
    let vocab_size = args.vocab_size.unwrap_or(257 + args.lab.steps(MAX_MERGES));
    ensure!(
        vocab_size > 257,
        "--vocab-size {vocab_size}: the bytes and <|endoftext|> take 257 already"
    );

    let mut curve = vec![(256.0, 1.0)];
    let trained = Tokenizer::train(&corpus.train, vocab_size - 1, |merge| {
        let bytes_per_token = corpus.train.len() as f64 / merge.tokens as f64;
        curve.push((merge.tokenizer.tokens.len() as f64, bytes_per_token));
        if merge.id < 256 + 24 || merge.id % 64 == 63 {
            proof::print_merge(merge, bytes_per_token);
        }
    })?;

    let gpt2 = Tokenizer::gpt2()?;
    for (name, tokenizer) in [("ours", &trained), ("GPT-2's", &gpt2)] {
        let ids = tokenizer.encode(&args.prompt)?;
        let tokens: Vec<String> = ids.iter().map(|&id| show(tokenizer.bytes(id))).collect();
        println!("\n{name}: {ids:?}\n  {}", tokens.join(" "));
    }

    let path = out.join("vocab.tiktoken");
    trained.save(&path)?;
    println!("\nvocabulary: {}\n", path.display());
    proof::print(&trained, &gpt2, &corpus)?;
    if !args.lab.no_plot {
        let path = out.join("compression.svg");
        let mut plot = Plot::new("tokens in the vocabulary", "bytes a token");
        plot.line("ours", curve);
        plot.floor(
            &format!("GPT-2's, with {} tokens", grouped(GPT2_TOKENS.into())),
            proof::bytes_per_token(&gpt2, &corpus.train)?,
        );
        plot.save(&path)?;
        println!("\nplot: {}", path.display());
    }
    Ok(())
}

fn main() -> ExitCode {
    lab::run(lesson)
}
