//! From text to a data set: what its tokens are, and where they go.

use crate::data::VOCABULARY;
use ::data::{
    learn,
    shards::{Job, Source, begun},
};
use anyhow::{Result, anyhow, ensure};
use lab::{Shards, Tokenizer, fables, grouped};
use serde_json::Value;
use std::{
    fmt,
    path::{Path, PathBuf},
};

/// Below so many bytes a text is read by the character, as nanoGPT reads Shakespeare's 1.1 million.
const FEW_BYTES: u64 = 2_000_000;

/// From so many bytes on GPT-2's vocabulary is worth the size of its table.
const MANY_BYTES: u64 = 500_000_000;

/// The size of a vocabulary that is learned from a text between those.
const LEARNED: usize = 4096;

/// What the tokens of a data set are.
#[derive(Clone, Debug, PartialEq)]
pub enum Vocabulary {
    /// One token for each character of the text.
    Characters,
    /// Byte pairs learned from the text: so many tokens, and, unless it is to be exactly as many, fewer where the text
    /// is too short for them.
    Learned { n: usize, exactly: bool },
    /// GPT-2's 50,257.
    Gpt2,
    /// The 1,024 that step04 learns from the fables.
    Fables,
    /// Those of a file in tiktoken's format.
    File(PathBuf),
}

impl Vocabulary {
    /// What `--vocab` names: `characters`, `gpt2`, `fables`, or a file.
    pub fn named(name: &str) -> Self {
        match name {
            "characters" => Self::Characters,
            "gpt2" => Self::Gpt2,
            "fables" => Self::Fables,
            path => Self::File(path.into()),
        }
    }

    /// What suits a text of one's own that is so long: characters below 2 MB, GPT-2's from 500 MB on, and 4,096 learned
    /// from the text in between.
    pub fn for_text(bytes: u64) -> Self {
        match bytes {
            ..FEW_BYTES => Self::Characters,
            MANY_BYTES.. => Self::Gpt2,
            _ => Self::Learned { n: LEARNED, exactly: false },
        }
    }

    /// Whether it has a token to stand between documents; a vocabulary of characters has none.
    ///
    /// # Errors
    /// If its file cannot be read, or is none.
    pub fn tells_documents_apart(&self) -> Result<bool> {
        match self {
            Self::Characters => Ok(false),
            Self::File(_) => Ok(self.load()?.end_of_text().is_some()),
            _ => Ok(true),
        }
    }

    /// Whether only its text tells what the tokens are.
    fn is_made_of_the_text(&self) -> bool {
        matches!(self, Self::Characters | Self::Learned { .. })
    }

    /// The tokens, made of the source's text if need be.
    fn tokenizer(&self, source: &dyn Source) -> Result<Tokenizer> {
        match self {
            Self::Characters => learn::characters(source),
            Self::Learned { n, .. } => self.checked(learn::byte_pairs(source, *n)?),
            _ => self.load(),
        }
    }

    /// The same for the fables, which are told here and now.
    fn of_the_fables(&self) -> Result<Tokenizer> {
        let told = |seed| fables::text(seed, 1_000_000).text;
        match self {
            Self::Characters => {
                let text = told(fables::TRAINING) + &told(fables::VALIDATION);
                Tokenizer::of_characters(VOCABULARY, text.chars())
            }
            Self::Learned { n, .. } => {
                self.checked(learn::byte_pairs_of(&told(fables::TRAINING), *n)?)
            }
            _ => self.load(),
        }
    }

    fn load(&self) -> Result<Tokenizer> {
        let Self::File(path) = self else { return Tokenizer::load(&self.to_string()) };
        let shown = path.display();
        ensure!(
            path.is_file(),
            "--vocab {shown}: choose characters, gpt2, fables, or a file in tiktoken's format; --vocab-size N learns one"
        );
        let tokenizer = Tokenizer::open(path).map_err(|error| anyhow!("--vocab {error:#}"))?;
        Ok(tokenizer.called(VOCABULARY))
    }

    fn checked(&self, tokenizer: Tokenizer) -> Result<Tokenizer> {
        if let Self::Learned { n, exactly: true } = self {
            learn::expect_all(&tokenizer, *n)?;
        }
        Ok(tokenizer)
    }

    /// Whether it is written beside the shards: whoever opens them cannot know it by its name.
    fn is_kept(&self) -> bool {
        !matches!(self, Self::Gpt2 | Self::Fables)
    }

    /// What there is to say of it.
    pub fn describe(&self, tokenizer: &Tokenizer) -> String {
        let n = grouped(tokenizer.n_vocab());
        match self {
            Self::Characters => format!("{n} different characters"),
            Self::Learned { .. } => format!("{n} tokens, learned from the text"),
            Self::Gpt2 => format!("GPT-2's {n} tokens"),
            Self::Fables => format!("the {n} tokens that step04 learns from the fables"),
            Self::File(path) => format!("the {n} tokens of {}", path.display()),
        }
    }
}

/// As `--vocab` or `--vocab-size` has it.
impl fmt::Display for Vocabulary {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Characters => f.write_str("characters"),
            Self::Learned { n, .. } => write!(f, "{n} learned"),
            Self::Gpt2 => f.write_str("gpt2"),
            Self::Fables => f.write_str("fables"),
            Self::File(path) => path.display().fmt(f),
        }
    }
}

/// A data set to be made.
pub struct Preparation<'a> {
    /// What the names of its shards begin with.
    pub name: &'a str,
    pub folder: &'a Path,
    pub vocabulary: &'a Vocabulary,
    /// Tokens in a shard.
    pub shard_tokens: u64,
    /// How many tokens to stop at, if before the end.
    pub most_tokens: Option<u64>,
    /// What else decides on the tokens, by the names of its flags.
    pub settings: Vec<(&'static str, Value)>,
}

impl Preparation<'_> {
    /// Makes the data set of a source's text, or what is missing of it, and says what there is; returns its vocabulary.
    ///
    /// # Errors
    /// One sentence: the folder has another data set, a file has no text or something that is none, the text is too
    /// short for its vocabulary or has nothing to validate on, or the disk is full. What has been written is kept, and the
    /// next run goes on from there.
    pub fn run(mut self, source: &dyn Source) -> Result<Tokenizer> {
        self.settings.push(("vocab", self.vocabulary.to_string().into()));
        let settings = self.settings.iter().cloned();
        let settings: Value = settings.map(|(name, value)| (name.to_string(), value)).collect();
        let is_begun = begun(self.folder, &settings)?;
        let tokenizer = match is_begun && self.vocabulary.is_made_of_the_text() {
            true => Tokenizer::open(&self.folder.join(VOCABULARY))?.called(VOCABULARY),
            false => self.vocabulary.tokenizer(source)?,
        };
        let job = Job {
            name: self.name,
            folder: self.folder,
            tokenizer: &tokenizer,
            keeps_vocabulary: self.vocabulary.is_kept(),
            needs_val: true,
            shard_tokens: self.shard_tokens,
            most_tokens: self.most_tokens,
            settings: self.settings,
        };
        job.run(source)?;
        Ok(tokenizer)
    }
}

/// The fables as shards, unless they are there; returns their vocabulary.
///
/// # Errors
/// When the folder cannot be written, or has another data set.
pub fn tell_fables(folder: &Path, vocabulary: &Vocabulary) -> Result<Tokenizer> {
    let shown = folder.display();
    let tokenizer = vocabulary.of_the_fables()?;
    let of = |split| {
        let shards = Shards::fables(folder, split, &tokenizer).map_err(|error| {
            anyhow!("{error:#}; or name another folder than {shown} with --out")
        })?;
        anyhow::Ok(grouped(shards.total()))
    };
    let (train, val) = (of("train")?, of("val")?);
    if vocabulary.is_kept() {
        let text = tokenizer.to_file();
        files::write_atomically(&folder.join(VOCABULARY), |file| {
            Ok(file.write_all(text.as_bytes())?)
        })?;
    }
    println!("{shown} is ready: {train} tokens to train on, {val} to validate on");
    Ok(tokenizer)
}
