//! Tokens on disk: a folder of shards, as build-nanogpt's `fineweb.py` writes it.
//!
//! ```text
//! edufineweb_val_000000.npy      a shard: uint16 tokens, one dimension, in numpy's format
//! edufineweb_train_000001.npy    100 million tokens in each, fewer in a split's last
//! edufineweb_train_000002.npy
//! dataset.json                   whose tokens these are, and of how many characters: ours alone has it
//! ```
//!
//! Where a folder has no shards, nanoGPT's `train.bin` and `val.bin` are read: the tokens alone, without a header.

mod fables;
mod npy;
mod writer;

use crate::{Flags, Tokenizer, flags::start_folder, grouped, text::printable};
use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    sync::Arc,
};

pub use writer::{ShardState, ShardWriter};

/// The largest vocabulary whose ids a shard can hold: 2¹⁶.
const MOST_TOKENS: i64 = 1 << 16;

/// A longer [`DATASET`] is none: it has some hundred bytes.
const MOST_JSON: u64 = 1_000_000;

/// The version of the format of [`DATASET`].
const VERSION: u32 = 1;

/// What a data set says of itself.
const DATASET: &str = ShardWriter::DATASET;

/// What nanoGPT's files end in.
const BIN: &str = "bin";

/// The way out of what is wrong with a folder.
const PREPARE: &str =
    "prepare one with `cargo run -p data -- fables` or `nanogpt prepare` (`--help` names the rest)";

/// Which data set to read.
#[derive(Args, Clone, Debug)]
pub struct DataFlags {
    /// A folder of shards, which `cargo run -p data` prepares [default: data/fables, made on the spot]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

impl DataFlags {
    /// The shards of a split, `train` or `val`, of the folder that `--data` names, or of the fables.
    ///
    /// # Errors
    /// As [`Shards::open`] and [`Shards::fables`]; and where `--corpus` names a text, which is no folder of shards.
    pub fn shards(&self, split: &str, flags: &Flags, tokenizer: &Tokenizer) -> Result<Shards> {
        let corpus = &flags.corpus;
        ensure!(
            corpus == "fables",
            "--corpus {corpus}: this step reads tokens; prepare them with `cargo run -p data -- --help`, and \
             name their folder with --data"
        );
        match &self.data {
            Some(folder) => Shards::open(folder, split, tokenizer),
            None => {
                let folder = start_folder().join("data").join(Shards::fables_folder(tokenizer));
                Shards::fables(&folder, split, tokenizer)
            }
        }
    }

    /// Why a table's rows about what training reaches on the fables need not hold: another data set is read.
    pub fn excuse(&self) -> Option<&'static str> {
        self.data.is_some().then_some("other data")
    }
}

/// The shards of one split of a data set, and what is known of it. A clone shares them.
#[derive(Clone, Debug)]
pub struct Shards(Arc<Split>);

#[derive(Debug)]
struct Split {
    shards: Vec<Shard>,
    tokenizer: String,
    n_vocab: i64,
    counts: Option<Counts>,
}

/// A file, and what its header promises.
#[derive(Debug)]
struct Shard {
    path: PathBuf,
    /// Where the tokens begin, in bytes.
    offset: u64,
    tokens: u64,
}

/// `dataset.json`.
#[derive(Debug, Serialize, Deserialize)]
struct DataSet {
    version: u32,
    name: String,
    tokenizer: Vocabulary,
    splits: BTreeMap<String, Counts>,
}

/// Which ids the tokens are.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Vocabulary {
    /// What `--tokenizer` calls it.
    name: String,
    n_vocab: i64,
    /// Of the bytes of all tokens, in hexadecimal: see [`Tokenizer::fingerprint`].
    fingerprint: String,
}

/// What a split holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Counts {
    shards: u64,
    tokens: u64,
    documents: u64,
    characters: u64,
    /// The lowest loss that any model can reach, in nats a character, where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    floor: Option<f64>,
}

impl Shards {
    /// Opens the shards of a split, `train` or `val`, in the order of their names, and checks the header of each
    /// against its file's length. No token is read yet.
    ///
    /// `dataset.json` may be missing, as it is from the folders that build-nanogpt's `fineweb.py` and nanoGPT's
    /// `prepare.py` write. Then a token that `tokenizer` does not have is the only sign of another vocabulary: see
    /// [`Self::read`].
    ///
    /// # Errors
    /// One sentence that names the folder or file, and what to do: the folder is missing, has no shard of
    /// this split or is not finished; a file is no shard (no `.npy`, other numbers than uint16, two dimensions, no
    /// tokens), or shorter or longer than its header says; `dataset.json` tells of other shards than there are,
    /// or of another vocabulary.
    pub fn open(folder: &Path, split: &str, tokenizer: &Tokenizer) -> Result<Self> {
        let shown = shown(folder);
        let files = files_or_bin(folder, split)?;
        ensure!(
            !files.is_empty(),
            "{shown} has no shards to {} (files like NAME_{split}_000001.npy): {PREPARE}",
            if split == "val" { "validate on" } else { "train on" }
        );
        ensure!(
            !folder.join(ShardWriter::UNFINISHED).exists(),
            "{shown} is not finished: give the same `cargo run -p data` command again, or `nanogpt prepare`, which goes on \
             where it was stopped, or delete {} there to use what there is",
            ShardWriter::UNFINISHED
        );
        let data_set = DataSet::read(folder)?;
        if let Some(data_set) = &data_set {
            data_set.tokenizer.expect(tokenizer).with_context(|| shown.clone())?;
        }
        let shards: Vec<Shard> = files.into_iter().map(Shard::open).collect::<Result<_>>()?;
        let counts = data_set.and_then(|data_set| data_set.splits.get(split).copied());
        if let Some(counts) = counts {
            let tokens = shards.iter().map(|shard| shard.tokens).sum();
            ensure!(
                (counts.shards, counts.tokens) == (shards.len() as u64, tokens),
                "{shown} has {} {split} shards with {} tokens, and its {DATASET} tells of {} with {}: a shard is \
                 missing or is another data set's; prepare it again in a folder of its own",
                shards.len(),
                count(tokens),
                counts.shards,
                count(counts.tokens)
            );
        }
        let (name, n_vocab) = (tokenizer.name().to_string(), tokenizer.n_vocab());
        Ok(Self(Arc::new(Split { shards, tokenizer: name, n_vocab, counts })))
    }

    /// What `--tokenizer` called the vocabulary of a folder's shards, if its `dataset.json` tells.
    ///
    /// # Errors
    /// If that is damaged.
    pub fn tokenizer_of(folder: &Path) -> Result<Option<String>> {
        Ok(DataSet::read(folder)?.map(|data_set| data_set.tokenizer.name))
    }

    /// How many shards there are, at least 1.
    #[allow(clippy::len_without_is_empty)] // it never is
    pub fn len(&self) -> usize {
        self.0.shards.len()
    }

    /// How many tokens a shard has, at least 1.
    ///
    /// # Panics
    /// If `shard` is not below [`Self::len`].
    pub fn tokens(&self, shard: usize) -> i64 {
        self.0.shards[shard].tokens as i64
    }

    /// How many tokens there are in all shards.
    pub fn total(&self) -> i64 {
        self.0.shards.iter().map(|shard| shard.tokens as i64).sum()
    }

    /// The file of a shard.
    ///
    /// # Panics
    /// If `shard` is not below [`Self::len`].
    pub fn path(&self, shard: usize) -> &Path {
        &self.0.shards[shard].path
    }

    /// Up to `n` tokens from `from` on, as tensors want them, as if the shards lay one after the other in
    /// `order`. Fewer where they end.
    ///
    /// # Errors
    /// One sentence that names the file: it cannot be read, ends before that, or has a token that the
    /// tokenizer does not have.
    ///
    /// # Panics
    /// If there is no such shard.
    pub fn read(&self, order: &[usize], mut from: i64, n: i64) -> Result<Vec<i64>> {
        let mut tokens = Vec::new();
        for &shard in order {
            let here = (n - tokens.len() as i64).min(self.tokens(shard) - from);
            if here > 0 {
                tokens.extend(self.read_one(shard, from, here)?);
            }
            from = (from - self.tokens(shard)).max(0);
        }
        Ok(tokens)
    }

    fn read_one(&self, shard: usize, start: i64, n: i64) -> Result<Vec<i64>> {
        let Split { shards, n_vocab, tokenizer, .. } = &*self.0;
        let shard = &shards[shard];
        let tokens = shard.read(start as u64, n as usize)?;
        if let Some(at) = tokens.iter().position(|token| token >= n_vocab) {
            bail!(
                "{}: the token at place {} is {}, and the tokenizer {} has {} tokens: these are shards of another \
                 vocabulary; take theirs, or prepare the text again",
                shown(&shard.path),
                grouped(start + at as i64),
                tokens[at],
                printable(tokenizer),
                grouped(*n_vocab)
            );
        }
        Ok(tokens)
    }

    /// How many characters of the text a token stands for, if `dataset.json` tells: a loss per token, divided
    /// by it, is a loss per character.
    pub fn chars_per_token(&self) -> Option<f64> {
        self.0.counts.map(|counts| counts.characters as f64 / counts.tokens as f64)
    }

    /// The lowest loss that any model can reach on this split, in nats per character, if `dataset.json` tells. Only
    /// known for the fables' validation split.
    pub fn floor(&self) -> Option<f64> {
        self.0.counts.and_then(|counts| counts.floor)
    }
}

impl Shard {
    fn open(path: PathBuf) -> Result<Self> {
        let check = || {
            let mut file = File::open(&path).context("cannot read it")?;
            let length = file.metadata().context("cannot read it")?.len();
            match path.extension().is_some_and(|end| end == BIN) {
                true => expect_bin(&path, length).map(|tokens| (0, tokens)),
                false => npy::read_header(&mut file, length),
            }
        };
        let (offset, tokens) = check().with_context(|| shown(&path))?;
        Ok(Self { path, offset, tokens })
    }

    /// Opens the file anew for each piece: no number of shards is too many to be open, and it costs microseconds.
    fn read(&self, start: u64, n: usize) -> Result<Vec<i64>> {
        let end = start.checked_add(n as u64).filter(|&end| end <= self.tokens);
        ensure!(
            end.is_some(),
            "{} has {} tokens, and {n} are wanted from {} on",
            shown(&self.path),
            count(self.tokens),
            count(start)
        );
        let mut bytes = vec![0; 2 * n];
        let mut read = || -> io::Result<()> {
            let mut file = File::open(&self.path)?;
            file.seek(SeekFrom::Start(self.offset + 2 * start))?;
            file.read_exact(&mut bytes)
        };
        read().with_context(|| {
            format!("{} can no longer be read as when it was opened", shown(&self.path))
        })?;
        let token = |pair: &[u8]| u16::from_le_bytes([pair[0], pair[1]]).into();
        Ok(bytes.chunks_exact(2).map(token).collect())
    }
}

impl DataSet {
    /// What the folder says of itself, if it does.
    fn read(folder: &Path) -> Result<Option<Self>> {
        let path = folder.join(DATASET);
        let text = match files::read_at_most(&path, MOST_JSON) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            text => text,
        };
        let parse = || {
            let data_set: Self = serde_json::from_slice(&text.context("cannot read it")?)
                .context("it does not say what a data set says of itself")?;
            ensure!(
                data_set.version == VERSION,
                "it has version {}, and this program reads version {VERSION}",
                data_set.version
            );
            Ok(Some(data_set))
        };
        parse().with_context(|| {
            format!(
                "{}: prepare the data set again, or take this file away to go by the shards alone",
                shown(&path)
            )
        })
    }

    fn write(&self, folder: &Path) -> Result<()> {
        let json = serde_json::to_string_pretty(self)?;
        files::write_atomically(&folder.join(DATASET), |file| Ok(writeln!(file, "{json}")?))
    }
}

impl Vocabulary {
    fn of(tokenizer: &Tokenizer) -> Self {
        Self {
            name: tokenizer.name().into(),
            n_vocab: tokenizer.n_vocab(),
            fingerprint: format!("{:016x}", tokenizer.fingerprint()),
        }
    }

    /// That `tokenizer` is this one, under whatever name.
    fn expect(&self, tokenizer: &Tokenizer) -> Result<()> {
        let other = Self::of(tokenizer);
        ensure!(
            (self.n_vocab, &self.fingerprint) == (other.n_vocab, &other.fingerprint),
            "its {} tokens are those of the tokenizer {}, not of {} with {}; take the right one, or prepare the text again",
            grouped(self.n_vocab),
            printable(&self.name),
            printable(&other.name),
            grouped(other.n_vocab)
        );
        Ok(())
    }
}

/// The folder's files that are called `NAME_SPLIT_NUMBER.npy`, sorted.
fn files_of(folder: &Path, split: &str) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| {
        format!("{}: there is no such folder of shards; {PREPARE}", shown(folder))
    })?;
    let mut files = Vec::new();
    for entry in entries {
        let path =
            entry.with_context(|| format!("{}: cannot read the folder", shown(folder)))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name_and_number(&name, split).is_some() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Those, or nanoGPT's `SPLIT.bin` where there are none.
fn files_or_bin(folder: &Path, split: &str) -> Result<Vec<PathBuf>> {
    let files = files_of(folder, split)?;
    let bin = folder.join(split).with_extension(BIN);
    if files.is_empty() && bin.is_file() { Ok(vec![bin]) } else { Ok(files) }
}

/// How many tokens a file of nanoGPT's has that is `length` bytes long.
fn expect_bin(path: &Path, length: u64) -> Result<u64> {
    ensure!(
        !path.with_file_name("meta.pkl").exists(),
        "which characters its tokens are stands in meta.pkl, and reading a pickle runs the code in it: prepare the text \
         again with `nanogpt prepare FILE --vocab characters`"
    );
    ensure!(
        length > 0 && length.is_multiple_of(2),
        "it has {} bytes, and the tokens of nanoGPT's files have two each; prepare it again",
        count(length)
    );
    Ok(length / 2)
}

/// The two parts of `NAME_SPLIT_NUMBER.npy`; none if a file is called otherwise.
fn name_and_number<'a>(file: &'a str, split: &str) -> Option<(&'a str, &'a str)> {
    let (rest, number) = file.strip_suffix(".npy")?.rsplit_once('_')?;
    let name = rest.strip_suffix(split)?.strip_suffix('_')?;
    let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    (is_number && !name.starts_with('.')).then_some((name, number))
}

fn shown(path: &Path) -> String {
    printable(&path.display().to_string())
}

fn count(n: u64) -> String {
    grouped(n as i64)
}
