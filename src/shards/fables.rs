//! The fables as shards: what is read where no data set is named.

use super::{DATASET, DataSet, ShardWriter, Shards, Vocabulary, shown};
use crate::{Tokenizer, corpus::trimmed, fables};
use anyhow::{Context, Result, ensure};
use std::{fs, path::Path, thread};

const NAME: &str = "fables";

/// How long the fables are told, in characters.
#[derive(Clone, Copy)]
pub(super) struct Length {
    pub train: usize,
    /// As in `Corpus`, so that losses compare with those of the steps that read it.
    pub val: usize,
    /// Tokens in a shard.
    pub shard: usize,
}

const LONG: Length = Length { train: 8_000_000, val: 100_000, shard: 250_000 };

/// No story is as long as this, in characters.
const LONGEST_STORY: u64 = 10_000;

impl Shards {
    /// The name of the folder in `data/` for the fables in this vocabulary: `fables`, `fables-gpt2`, …
    pub fn fables_folder(tokenizer: &Tokenizer) -> String {
        let name = Path::new(tokenizer.name()).file_stem().unwrap_or_default().to_string_lossy();
        if name == NAME { NAME.into() } else { format!("{NAME}-{name}") }
    }

    /// The shards of the fables: each story is a document. To train on they are told eight times as long as
    /// [`Corpus`](crate::Corpus) has them, to validate on as there.
    ///
    /// Writes the shards of both splits into the folder, in a few seconds, unless they are there; what is cut off, or
    /// was told by another version of this program, is told again. The same tokenizer gives the same bytes on
    /// every machine, so that several processes may do this at once.
    ///
    /// # Errors
    /// When the folder cannot be written, or has the fables in the tokens of another tokenizer, or other shards.
    pub fn fables(folder: &Path, split: &str, tokenizer: &Tokenizer) -> Result<Self> {
        ensure_told(folder, tokenizer, LONG)?;
        Self::open(folder, split, tokenizer)
    }
}

pub(super) fn ensure_told(folder: &Path, tokenizer: &Tokenizer, length: Length) -> Result<()> {
    let data_set = DataSet::read(folder);
    if let Ok(Some(data_set)) = &data_set
        && data_set.tokenizer.name != tokenizer.name()
    {
        data_set.tokenizer.expect(tokenizer).with_context(|| shown(folder))?;
    }
    if let Ok(None) = data_set {
        return tell(folder, tokenizer, length); // nothing is there, or another process is telling them
    }
    if let Err(error) = expect_told(folder, tokenizer, length) {
        eprintln!("the fables are told again: {error:#}");
        tell(folder, tokenizer, length)?;
    }
    Ok(())
}

/// That the folder has these fables, whole.
fn expect_told(folder: &Path, tokenizer: &Tokenizer, length: Length) -> Result<()> {
    let data_set = DataSet::read(folder)?.context("there are none")?;
    let counts = |split| data_set.splits.get(split).copied().unwrap_or_default();
    let (train, val) = (counts("train"), counts("val"));
    let told = fables::text(fables::VALIDATION, length.val);
    let same = data_set.name == NAME
        && data_set.tokenizer == Vocabulary::of(tokenizer)
        && (val.characters, val.documents) == (told.text.len() as u64, told.stories as u64)
        && val.floor.is_some_and(|floor| (floor - told.floor()).abs() < 1e-9)
        && (0..LONGEST_STORY).contains(&train.characters.wrapping_sub(length.train as u64));
    ensure!(same, "those in {} are of another version", shown(folder));
    for split in ["train", "val"] {
        Shards::open(folder, split, tokenizer)?;
    }
    Ok(())
}

/// Writes the shards over those that may be there.
fn tell(folder: &Path, tokenizer: &Tokenizer, length: Length) -> Result<()> {
    fs::remove_file(folder.join(DATASET)).ok(); // it does not hold while shards are replaced
    let mut writer = ShardWriter::replace(NAME, folder, length.shard, tokenizer)?;
    for (split, seed, length) in
        [("val", fables::VALIDATION, length.val), ("train", fables::TRAINING, length.train)]
    {
        let told = fables::text(seed, length);
        writer.begin_split(split)?;
        push(&told.text, tokenizer, &mut writer)?;
        if split == "val" {
            writer.set_floor(told.floor());
        }
    }
    writer.finish()
}

/// Each story as a document, tokenised on all cores.
fn push(text: &str, tokenizer: &Tokenizer, writer: &mut ShardWriter) -> Result<()> {
    let stories: Vec<&str> = fables::stories(text).collect();
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let encode = |story: &&str| tokenizer.encode_document(trimmed(story));
    let documents: Vec<Vec<u16>> = thread::scope(|scope| {
        let parts = stories.chunks(stories.len().div_ceil(threads));
        let parts: Vec<_> = parts
            .map(|part| scope.spawn(move || part.iter().map(encode).collect::<Vec<_>>()))
            .collect();
        parts.into_iter().flat_map(|part| part.join().expect("encoding does not panic")).collect()
    });
    for (story, document) in stories.iter().zip(&documents) {
        writer.push(document, story.len() as u64)?; // ASCII: a byte is a character
    }
    Ok(())
}
