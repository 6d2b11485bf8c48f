use crate::{Flags, fables};
use anyhow::{Context, Result, ensure};
use std::{
    collections::{HashMap, HashSet},
    fs,
    path::Path,
};

const TRAIN_BYTES: usize = 1_000_000;
const VAL_BYTES: usize = 100_000;

/// A text to learn from and another, never trained on, to be judged by.
pub struct Corpus {
    pub name: String,
    pub train: String,
    pub val: String,
    /// The information content of `val` in nats, where it is known.
    val_nats: Option<f64>,
}

impl Corpus {
    /// Loads what `--corpus` names. A file of one's own is split like ng-video-lecture splits it:
    /// the first 90 % of the characters to train on, the rest to validate.
    ///
    /// Refuses a file that is missing, empty or no UTF-8, and a text of which one part holds fewer
    /// than `block_size + 1` characters: no window could be cut from it.
    pub fn load(flags: &Flags, block_size: i64) -> Result<Self> {
        let corpus = match flags.corpus.as_str() {
            "fables" => Self::fables(),
            "shakespeare" => Self::shakespeare()?,
            path => Self::file(Path::new(path)).with_context(|| format!("--corpus {path}"))?,
        };
        let shortest = corpus.train.chars().count().min(corpus.val.chars().count());
        ensure!(
            shortest as i64 > block_size,
            "--corpus {}: its shorter part (90 % train, 10 % validate) has {shortest} characters, \
             and a window needs {}; take a longer text",
            corpus.name,
            block_size + 1
        );
        Ok(corpus)
    }

    fn fables() -> Self {
        let val = fables::text(fables::VALIDATION, VAL_BYTES);
        Self {
            name: "fables".into(),
            train: fables::text(fables::TRAINING, TRAIN_BYTES).text,
            val: val.text,
            val_nats: Some(val.nats),
        }
    }

    fn shakespeare() -> Result<Self> {
        let path = "data/shakespeare/input.txt";
        let corpus = Self::file(Path::new(path)).with_context(|| {
            format!("{path}: fetch it with `cargo run -p data -- shakespeare`, and start steps in the repository's folder")
        })?;
        Ok(Self { name: "shakespeare".into(), ..corpus })
    }

    fn file(path: &Path) -> Result<Self> {
        let bytes = fs::read(path).context("cannot read it")?;
        let text = String::from_utf8(bytes)
            .map_err(|e| e.utf8_error())
            .context("it is no UTF-8 text; convert it with iconv or your editor")?;
        ensure!(!text.is_empty(), "the file is empty; name one with text in it");
        let characters = text.chars().count();
        let split = text.char_indices().nth(characters * 9 / 10).map_or(text.len(), |(at, _)| at);
        let (train, val) = text.split_at(split);
        Ok(Self {
            name: path.display().to_string(),
            train: train.into(),
            val: val.into(),
            val_nats: None,
        })
    }

    /// The validation loss of the best guess from one character: each pair's share among its first
    /// character's pairs in the training text. In nats per character, by counting, without a model.
    ///
    /// Every count is raised by one, over the `V` characters of the corpus (Laplace's rule), so that
    /// a pair which only the validation text has does not cost infinitely much.
    pub fn bigram_loss(&self) -> f64 {
        let vocab: HashSet<char> = self.train.chars().chain(self.val.chars()).collect();
        let mut singles: HashMap<char, f64> = HashMap::new();
        let mut pairs: HashMap<(char, char), f64> = HashMap::new();
        for (first, second) in self.train.chars().zip(self.train.chars().skip(1)) {
            *singles.entry(first).or_default() += 1.0;
            *pairs.entry((first, second)).or_default() += 1.0;
        }
        let mut nats = Vec::new();
        for (first, second) in self.val.chars().zip(self.val.chars().skip(1)) {
            let pair = pairs.get(&(first, second)).unwrap_or(&0.0) + 1.0;
            let total = singles.get(&first).unwrap_or(&0.0) + vocab.len() as f64;
            nats.push(-f64::ln(pair / total));
        }
        nats.iter().sum::<f64>() / nats.len() as f64
    }

    /// The lowest validation loss that any model can reach, in nats per token, when the validation
    /// text is cut into `tokens` pieces (characters, or GPT-2's tokens). Only known for fables.
    pub fn floor(&self, tokens: usize) -> Option<f64> {
        self.val_nats.map(|nats| nats / tokens as f64)
    }
}
