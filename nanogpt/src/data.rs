//! Where the tokens come from: a folder of shards, its vocabulary, and random windows of it.

use crate::config::{nearest, quoted};
use anyhow::{Context, Result, ensure};
use lab::{Prefetch, Rng, ShardWriter, Shards, Tokenizer, grouped, printable};
use std::{
    fs,
    path::{Path, PathBuf},
};
use tch::{Device, Tensor};

/// The file in a data set's folder with its vocabulary, unless that is GPT-2's or the fables'.
pub use ::data::shards::VOCABULARY;

/// A folder that `nanogpt prepare`, build-nanogpt's `fineweb.py` or, with GPT-2's tokens, nanoGPT's `prepare.py` has
/// filled.
pub struct Dataset {
    pub folder: PathBuf,
    pub tokenizer: Tokenizer,
    pub train: Shards,
    pub val: Shards,
}

impl Dataset {
    /// The data set of this name in the folder `data`, or at this path. The fables are made on the spot.
    ///
    /// # Errors
    /// One sentence that says what is missing or damaged, and how to prepare it.
    pub fn open(name: &str) -> Result<Self> {
        let folder = folder_of(name);
        // Without this file they are not whole yet: another process may be telling them, and writes the same bytes.
        if name == "fables" && !folder.join(ShardWriter::DATASET).exists() {
            let tokenizer = Tokenizer::load(name)?;
            let train = Shards::fables(&folder, "train", &tokenizer)?;
            let val = Shards::fables(&folder, "val", &tokenizer)?;
            return Ok(Self { folder, tokenizer, train, val });
        }
        ensure!(folder.is_dir(), "{}", missing(name, &folder));
        ensure!(
            !folder.join(ShardWriter::UNFINISHED).exists(),
            "{} is not finished: give the same `nanogpt prepare` command again, which goes on where it was stopped",
            folder.display()
        );
        let tokenizer = tokenizer_of(&folder)?;
        let train = Shards::open(&folder, "train", &tokenizer)?;
        let val = Shards::open(&folder, "val", &tokenizer)?;
        Ok(Self { folder, tokenizer, train, val })
    }

    /// V of a model for it: GPT-2's 50,257 are rounded up to a multiple of 64, as in nanoGPT.
    pub fn vocab_size(&self) -> i64 {
        padded(self.tokenizer.n_vocab())
    }
}

/// The folder of the data set with this name in `data`, or at this path. A name goes before a folder beside `data`.
pub fn folder_of(name: &str) -> PathBuf {
    let prepared = Path::new("data").join(name);
    let is_path = name.contains(['/', '\\']) || name != "fables" && Path::new(name).is_dir();
    if is_path && !prepared.is_dir() { PathBuf::from(name) } else { prepared }
}

/// That there is none of this name, and what may have been meant.
fn missing(name: &str, folder: &Path) -> String {
    let prepared = fs::read_dir("data").into_iter().flatten().flatten();
    let prepared = prepared.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let near = nearest(name, prepared).map(|near| format!("; or did you mean {near}?"));
    let (near, folder) = (near.unwrap_or_default(), folder.display());
    format!(
        "there is no data set {name} (no folder {folder}): make it with `nanogpt prepare {}`{near}",
        quoted(name)
    )
}

/// How many rows the table of a vocabulary has.
pub fn padded(n_vocab: i64) -> i64 {
    if n_vocab > 1024 { (n_vocab + 63) / 64 * 64 } else { n_vocab }
}

/// The vocabulary of a folder: its own file, or the one that `dataset.json` names, or GPT-2's.
///
/// # Errors
/// If its file is none, or the name is no longer to be had.
pub fn tokenizer_of(folder: &Path) -> Result<Tokenizer> {
    let own = folder.join(VOCABULARY);
    if own.exists() {
        return Tokenizer::open(&own);
    }
    let name = Shards::tokenizer_of(folder)?.unwrap_or("gpt2".into());
    // It may be somebody else's folder, and name a pipe, which never ends.
    ensure!(
        ["gpt2", "fables"].contains(&name.as_str()) || Path::new(&name).is_file(),
        "{} was made with the vocabulary {}, which is not there: prepare it again",
        folder.display(),
        printable(&name)
    );
    Tokenizer::load(&name).with_context(|| format!("the vocabulary of {}", folder.display()))
}

/// Windows of a split at places that are drawn anew for each batch. Which ones depends on the seed and the number
/// of the batch alone, so that a run can go on anywhere, and ranks share a batch out.
pub struct Batches {
    shards: Shards,
    seed: u64,
    batch_size: i64,
    block_size: i64,
    device: Device,
    ahead: Prefetch<u64, Result<Vec<i64>>>,
}

impl Batches {
    /// Batches of `batch_size` windows of `block_size` tokens.
    ///
    /// # Errors
    /// If the split is shorter than a window.
    pub fn new(shards: Shards, seed: u64, b: i64, t: i64, device: Device) -> Result<Self> {
        let total = shards.total();
        ensure!(
            total > t,
            "block_size = {t}: the split has {} tokens, and a window needs {}; make block_size smaller, or take \
             more text",
            grouped(total),
            grouped(t + 1)
        );
        Ok(Self { shards, seed, batch_size: b, block_size: t, device, ahead: Prefetch::new() })
    }

    /// The batch with this number: what the model sees, and, one token further on, what it should say, (B, T) each.
    /// A thread reads the one numbered `next` meanwhile.
    ///
    /// # Errors
    /// If the shards can no longer be read.
    pub fn get(&mut self, number: u64, next: u64) -> Result<(Tensor, Tensor)> {
        let tokens = match self.ahead.take(number) {
            Some(tokens) => tokens?,
            None => self.reader(number)()?,
        };
        self.ahead.begin(next, self.reader(next));
        let tokens = Tensor::from_slice(&tokens).view([self.batch_size, self.block_size + 1]);
        let tokens = tokens.to(self.device);
        let x = tokens.narrow(1, 0, self.block_size);
        let y = tokens.narrow(1, 1, self.block_size);
        Ok((x.contiguous(), y.contiguous()))
    }

    /// What reads the windows of a batch, (B, T + 1) tokens.
    fn reader(&self, number: u64) -> impl FnOnce() -> Result<Vec<i64>> + Send + use<> {
        let (shards, b, n) = (self.shards.clone(), self.batch_size, self.block_size + 1);
        let mut rng = Rng::new((self.seed << 40) ^ number);
        move || {
            let order: Vec<usize> = (0..shards.len()).collect();
            let mut tokens = Vec::with_capacity((b * n) as usize);
            for _ in 0..b {
                let from = rng.below(shards.total() - n + 1);
                tokens.extend(shards.read(&order, from, n)?);
            }
            Ok(tokens)
        }
    }
}
