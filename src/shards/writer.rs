//! Writes what [`Shards`](super::Shards) reads.

use super::{
    Counts, DataSet, MOST_TOKENS, VERSION, Vocabulary, files_of, files_or_bin, name_and_number,
    npy, shown,
};
use crate::{Tokenizer, grouped, text::printable};
use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

const SPLITS: [&str; 2] = ["train", "val"];

/// Writes a data set: the documents of one split, then those of the next.
///
/// Each shard is written when it is full (see [`files::write_atomically`]), and `dataset.json` at the end, so that what
/// a killed process leaves is whole shards. A split's shards are counted from 0 for `val`, from 1 for any
/// other, so that they are called as `fineweb.py` calls them, whose shard 0 is for validation.
///
/// ```
/// # fn main() -> anyhow::Result<()> {
/// # let folder = tempfile::tempdir()?;
/// let tokenizer = lab::Tokenizer::load("fables")?;
/// let mut writer = lab::ShardWriter::new("mine", folder.path(), 100_000, &tokenizer)?;
/// writer.begin_split("train")?;
/// let text = "A document.";
/// writer.push(&tokenizer.encode_document(text), text.chars().count() as u64)?;
/// writer.finish()?;
/// # Ok(())
/// # }
/// ```
pub struct ShardWriter {
    folder: PathBuf,
    shard_tokens: usize,
    vocabulary: Vocabulary,
    state: ShardState,
    /// The tokens of the shard that is being filled; `state.filled` of them.
    tokens: Vec<u16>,
    /// The shard that is being filled is on the disk already: [`Self::resume`].
    is_there: bool,
}

/// How far a [`ShardWriter`] has come.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ShardState {
    name: String,
    split: String,
    splits: BTreeMap<String, Counts>,
    /// How many tokens the shard that is being filled has.
    filled: usize,
}

impl ShardWriter {
    /// The file that says, in a folder that is being prepared, how far it has come. [`Shards`](super::Shards) takes no
    /// folder that has it. Whoever can go on after a kill writes it and takes it away when all is done.
    pub const UNFINISHED: &str = "unfinished.json";

    /// The file that says what the shards are. It is written last.
    pub const DATASET: &str = "dataset.json";

    /// Begins a data set called `name` in a folder, which is made if need be.
    ///
    /// # Errors
    /// When the folder cannot be made or has shards, or the tokenizer has more than 65,536 tokens.
    ///
    /// # Panics
    /// If `shard_tokens` is 0.
    pub fn new(
        name: &str,
        folder: &Path,
        shard_tokens: usize,
        tokenizer: &Tokenizer,
    ) -> Result<Self> {
        Self::begin(name, folder, shard_tokens, tokenizer, |_| true)
    }

    /// The same over an older data set of that name: each of its shards is replaced when the new one is whole, and
    /// what the new one does not have goes away at the end.
    pub(super) fn replace(
        name: &str,
        folder: &Path,
        shard_tokens: usize,
        tokenizer: &Tokenizer,
    ) -> Result<Self> {
        Self::begin(name, folder, shard_tokens, tokenizer, |shard| {
            SPLITS
                .iter()
                .all(|split| name_and_number(shard, split).is_none_or(|(of, _)| of != name))
        })
    }

    fn begin(
        name: &str,
        folder: &Path,
        shard_tokens: usize,
        tokenizer: &Tokenizer,
        is_foreign: impl Fn(&str) -> bool,
    ) -> Result<Self> {
        let (name, split) = (name.to_string(), SPLITS[0].to_string());
        let state = ShardState { name, split, splits: BTreeMap::new(), filled: 0 };
        let writer = Self::resume(state, folder, shard_tokens, tokenizer)?;
        fs::create_dir_all(folder)
            .with_context(|| format!("cannot make the folder {}", shown(folder)))?;
        for split in SPLITS {
            let files = files_or_bin(folder, split)?;
            let names = files.iter().filter_map(|file| file.file_name()?.to_str());
            if let Some(foreign) = names.into_iter().find(|name| is_foreign(name)) {
                bail!(
                    "{} has shards already, {} for one; take another folder, or take them away",
                    shown(folder),
                    printable(foreign)
                );
            }
        }
        Ok(writer)
    }

    /// Goes on from a state, whose shards are in the folder: the full ones and, unless it was empty, also the one
    /// that was being filled. It is not written again.
    ///
    /// # Errors
    /// When the tokenizer has more than 65,536 tokens.
    ///
    /// # Panics
    /// If `shard_tokens` is 0.
    pub fn resume(
        state: ShardState,
        folder: &Path,
        shard_tokens: usize,
        tokenizer: &Tokenizer,
    ) -> Result<Self> {
        assert!(shard_tokens > 0, "a shard has room for a token");
        ensure!(
            tokenizer.n_vocab() <= MOST_TOKENS,
            "the vocabulary {} has {} tokens, and a shard's 16 bits can tell only {} apart; take a smaller one",
            printable(tokenizer.name()),
            grouped(tokenizer.n_vocab()),
            grouped(MOST_TOKENS)
        );
        Ok(Self {
            folder: folder.into(),
            shard_tokens,
            vocabulary: Vocabulary::of(tokenizer),
            tokens: vec![0; state.filled],
            is_there: state.filled > 0,
            state,
        })
    }

    /// How far it has come, to go on from with [`Self::resume`] once the shard that is being filled has been written.
    pub fn state(&self) -> ShardState {
        ShardState { filled: self.tokens.len(), ..self.state.clone() }
    }

    /// What comes next belongs to this split, `train` or `val`. Writes the shard that is being filled, if it has any
    /// tokens.
    ///
    /// # Errors
    /// "cannot write FILE: REASON".
    pub fn begin_split(&mut self, split: &str) -> Result<()> {
        self.write_shard()?;
        self.state.split = split.into();
        Ok(())
    }

    /// How many tokens the shard that is being filled has still room for, at least 1.
    pub fn room(&self) -> usize {
        self.shard_tokens - self.tokens.len()
    }

    /// How many shards have been filled, of all splits.
    pub fn shards(&self) -> u64 {
        self.state.splits.values().map(|counts| counts.shards).sum()
    }

    /// How many tokens there have been, of all splits.
    pub fn tokens(&self) -> u64 {
        self.state.splits.values().map(|counts| counts.tokens).sum()
    }

    /// How many tokens there have been of a split.
    pub fn tokens_of(&self, split: &str) -> u64 {
        self.state.splits.get(split).map_or(0, |counts| counts.tokens)
    }

    /// The split that is being written.
    pub fn split(&self) -> &str {
        &self.state.split
    }

    /// The document's tokens, which begin with `<|endoftext|>` (see [`Tokenizer::encode_document`]), and how many
    /// characters of text they stand for. A document may go on in the next shard.
    ///
    /// # Errors
    /// "cannot write FILE: REASON".
    pub fn push(&mut self, tokens: &[u16], characters: u64) -> Result<()> {
        self.counts().documents += 1;
        self.push_more(tokens, characters)
    }

    /// More tokens of the last document.
    ///
    /// # Errors
    /// "cannot write FILE: REASON".
    pub fn push_more(&mut self, mut tokens: &[u16], characters: u64) -> Result<()> {
        self.counts().characters += characters;
        while !tokens.is_empty() {
            let (now, later) = tokens.split_at(tokens.len().min(self.room()));
            self.tokens.extend(now);
            self.counts().tokens += now.len() as u64;
            if self.room() == 0 {
                self.write_shard()?;
            }
            tokens = later;
        }
        Ok(())
    }

    /// Writes the last shard and `dataset.json`.
    ///
    /// # Errors
    /// "cannot write FILE: REASON".
    pub fn finish(mut self) -> Result<()> {
        self.write_shard()?;
        self.remove_surplus()?;
        let ShardState { name, mut splits, .. } = self.state;
        for counts in splits.values_mut().filter(|counts| counts.tokens > 0) {
            counts.documents = counts.documents.max(1); // a text as it stands is one
        }
        DataSet { version: VERSION, name, tokenizer: self.vocabulary, splits }.write(&self.folder)
    }

    /// Notes the lowest loss that any model can reach on this split, in nats a character.
    pub(super) fn set_floor(&mut self, floor: f64) {
        self.counts().floor = Some(floor);
    }

    fn counts(&mut self) -> &mut Counts {
        self.state.splits.entry(self.state.split.clone()).or_default()
    }

    fn write_shard(&mut self) -> Result<()> {
        if self.tokens.is_empty() {
            return Ok(());
        }
        if !self.is_there {
            let tokens = &self.tokens;
            files::write_atomically(&self.path(), |file| npy::write(file, tokens))?;
        }
        self.is_there = false;
        self.tokens.clear();
        self.counts().shards += 1;
        Ok(())
    }

    /// Where the shard goes that is being filled.
    fn path(&self) -> PathBuf {
        let ShardState { name, split, .. } = &self.state;
        let shards = self.state.splits.get(split).map_or(0, |counts| counts.shards);
        self.folder.join(file_name(name, split, shards))
    }

    /// Takes away the shards that an older data set of this name had and this one has not.
    fn remove_surplus(&self) -> Result<()> {
        let ShardState { name, splits, .. } = &self.state;
        for split in SPLITS {
            let shards = splits.get(split).map_or(0, |counts| counts.shards);
            let ours: Vec<String> = (0..shards).map(|i| file_name(name, split, i)).collect();
            for path in files_of(&self.folder, split)? {
                let file = path.file_name().unwrap_or_default().to_string_lossy();
                if !ours.contains(&file.into_owned()) {
                    fs::remove_file(&path)
                        .with_context(|| format!("cannot take away {}", shown(&path)))?;
                }
            }
        }
        Ok(())
    }
}

/// What a split's shard is called, counted from 0.
fn file_name(name: &str, split: &str, shard: u64) -> String {
    let number = shard + u64::from(split != "val");
    format!("{name}_{split}_{number:06}.npy")
}
