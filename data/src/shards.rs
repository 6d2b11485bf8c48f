//! From documents to shards: reads ahead, tokenises on all cores, writes, and goes on where it was stopped.
//!
//! A [`Source`] cuts its text into [`Chunk`]s, in a fixed order. While the cores tokenise one, the next is read; in memory
//! are three chunks and the shard that is being filled. Whenever a shard has been written, `unfinished.json` notes
//! the chunk in which it became full, and how far the writer was when that chunk began. Whoever goes on reads
//! that chunk again and comes to the same tokens.

use std::{
    fs, io,
    path::Path,
    sync::{Mutex, PoisonError, mpsc},
    thread,
};

use anyhow::{Context, Result, anyhow, ensure};
use lab::{ShardState, ShardWriter, Shards, Tokenizer, grouped};
use rayon::prelude::*;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{pieces::Encoder, progress::Progress};

/// What a data set was made from and how, beside its shards.
const SETTINGS: &str = "settings.json";

/// The vocabulary beside the shards of a [`Job`] that keeps it.
pub const VOCABULARY: &str = "vocab.tiktoken";

/// Tokens in a shard, as in build-nanogpt.
pub const SHARD_TOKENS: u64 = 100_000_000;

/// How many chunks wait to be tokenised.
const READ_AHEAD: usize = 1;

/// Files with text in them.
pub trait Source: Sync {
    /// What a file is called.
    fn name(&self, file: usize) -> String;

    /// How large each file is, in bytes.
    fn sizes(&self) -> Vec<u64>;

    /// The chunks of a file from a place on, one after the other.
    ///
    /// # Errors
    /// When the file cannot be had.
    fn open(&self, from: Place) -> Result<Chunks<'_>>;

    /// What the files before this one became is on the disk: they are not needed again.
    fn done(&self, _before: usize) {}
}

pub type Chunks<'a> = Box<dyn Iterator<Item = Result<Chunk>> + Send + 'a>;

/// Where a chunk begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Place {
    pub file: usize,
    /// The byte or the row, as the source counts.
    pub at: u64,
    /// How many lines are before it, where there are lines.
    pub line: u64,
    /// Whether it is inside a document.
    pub inside: bool,
}

/// Some megabytes of text for one split.
#[derive(Debug)]
pub struct Chunk {
    pub place: Place,
    /// How much of the file has been read, this chunk included, in bytes.
    pub read: u64,
    /// `None`: the first shard is to validate on, all others are to train on.
    pub split: Option<&'static str>,
    pub pieces: Vec<Piece>,
}

/// A document, or a part of a long one, cut where no token runs across.
#[derive(Debug, PartialEq)]
pub struct Piece {
    pub text: String,
    /// Whether a document begins here.
    pub begins: bool,
}

/// What is to be made.
pub struct Job<'a> {
    /// What the names of the shards begin with.
    pub name: &'a str,
    pub folder: &'a Path,
    pub tokenizer: &'a Tokenizer,
    /// Whether the tokens are written beside the shards, as [`VOCABULARY`].
    pub keeps_vocabulary: bool,
    /// Whether there must be something to validate on.
    pub needs_val: bool,
    pub shard_tokens: u64,
    /// How many tokens to stop at, if before the end.
    pub most_tokens: Option<u64>,
    /// What else decides on the tokens, by the names of its flags: the same settings give the same shards.
    pub settings: Vec<(&'static str, Value)>,
}

/// `unfinished.json`: a chunk, and how far the writer was before it.
#[derive(Serialize, Deserialize)]
struct Unfinished {
    place: Place,
    writer: ShardState,
}

/// One for each core, with what it has seen so far.
struct Encoders<'a> {
    tokenizer: &'a Tokenizer,
    idle: Mutex<Vec<Encoder<'a>>>,
}

impl Encoders<'_> {
    fn with<T>(&self, work: impl FnOnce(&mut Encoder) -> T) -> T {
        let idle = || self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let encoder = idle().pop();
        let mut encoder = encoder.unwrap_or_else(|| Encoder::new(self.tokenizer));
        let done = work(&mut encoder);
        idle().push(encoder);
        done
    }
}

/// The tokens of a piece, and how many characters they stand for.
struct Encoded {
    tokens: Vec<u16>,
    characters: u64,
    begins: bool,
}

impl Job<'_> {
    /// Makes the data set, or what is missing of it, and says what there is.
    ///
    /// # Errors
    /// When the folder has another data set, a file has no text or something that is no text, the tokenizer is too
    /// large, or the disk is full. What has been written is kept, and the next run goes on from there.
    pub fn run(&self, source: &dyn Source) -> Result<()> {
        let shown = self.folder.display();
        let settings = self.settings();
        let begun = begun(self.folder, &settings)?;
        let unfinished = read_json(&self.folder.join(ShardWriter::UNFINISHED))?;
        if begun && unfinished.is_none() && self.folder.join(ShardWriter::DATASET).is_file() {
            let there = self.summary().with_context(|| {
                format!("{shown} is damaged; take it away, and give the same command again")
            })?;
            println!("{shown} is already there: {there}");
            return Ok(());
        }
        let (place, writer) = match unfinished.filter(|_| begun) {
            Some(Unfinished { place, writer }) => {
                println!("{shown}: going on where it was stopped");
                (
                    place,
                    ShardWriter::resume(writer, self.folder, self.shard_size()?, self.tokenizer)?,
                )
            }
            None => self.begin(&settings)?,
        };
        self.write(source, place, writer).map_err(|error| match has_shards(self.folder) {
            true => anyhow!(
                "{error:#}; the shards in {shown} are kept, and the same command goes on from there"
            ),
            false => error,
        })?;
        println!("{shown} is ready: {}", self.summary()?);
        Ok(())
    }

    /// All that decides on the bytes of the shards.
    fn settings(&self) -> Value {
        let tokenizer = format!("{} {:016x}", self.tokenizer.name(), self.tokenizer.fingerprint());
        let own = [
            ("name", self.name.into()),
            ("tokenizer", tokenizer.into()),
            ("shard-tokens", self.shard_tokens.into()),
            ("tokens", self.most_tokens.into()),
        ];
        let all = own.into_iter().chain(self.settings.iter().cloned());
        all.map(|(name, value)| (name.to_string(), value)).collect()
    }

    fn begin(&self, settings: &Value) -> Result<(Place, ShardWriter)> {
        let mut writer =
            ShardWriter::new(self.name, self.folder, self.shard_size()?, self.tokenizer)?;
        writer.begin_split("val")?;
        // In this order: whoever finds settings finds how to go on, too.
        if self.keeps_vocabulary {
            let text = self.tokenizer.to_file();
            files::write_atomically(&self.folder.join(VOCABULARY), |file| {
                Ok(file.write_all(text.as_bytes())?)
            })?;
        }
        self.note(Place::default(), writer.state())?;
        write_json(&self.folder.join(SETTINGS), settings)?;
        Ok((Place::default(), writer))
    }

    fn shard_size(&self) -> Result<usize> {
        self.shard_tokens.try_into().context("--shard-tokens: more than this machine can hold")
    }

    fn note(&self, place: Place, writer: ShardState) -> Result<()> {
        write_json(&self.folder.join(ShardWriter::UNFINISHED), &Unfinished { place, writer })
    }

    fn write(&self, source: &dyn Source, from: Place, mut writer: ShardWriter) -> Result<()> {
        let sizes = source.sizes();
        let encoders = Encoders { tokenizer: self.tokenizer, idle: Mutex::default() };
        let mut progress = Progress::new(self.most_tokens.unwrap_or(sizes.iter().sum()));
        for file in from.file..sizes.len() {
            let place = if file == from.file { from } else { Place { file, ..Place::default() } };
            let chunks = progress.suspend(|| source.open(place))?;
            let before: u64 = sizes[..file].iter().sum();
            let wants_more = ahead(chunks, |chunk| {
                let read = before + chunk.read;
                self.write_chunk(source, chunk, &encoders, &mut writer)?;
                let done = if self.most_tokens.is_some() { writer.tokens() } else { read };
                progress.show(done, writer.tokens());
                Ok(self.wanted(&writer) > 0)
            })?;
            if !wants_more {
                break;
            }
        }
        let name = source.name(0);
        ensure!(writer.tokens() > 0, "{name}: there is no text in it");
        for (split, purpose) in [("train", "train on"), ("val", "validate on")] {
            let has_any = writer.tokens_of(split) > 0 || (split == "val" && !self.needs_val);
            ensure!(
                has_any,
                "{name}: there is nothing to {purpose}; take more text, or another share of it to validate on"
            );
        }
        writer.finish()?;
        source.done(sizes.len());
        let unfinished = self.folder.join(ShardWriter::UNFINISHED);
        fs::remove_file(&unfinished)
            .with_context(|| format!("cannot take away {}", unfinished.display()))
    }

    /// How many tokens more there may be.
    fn wanted(&self, writer: &ShardWriter) -> u64 {
        self.most_tokens.map_or(u64::MAX, |most| most.saturating_sub(writer.tokens()))
    }

    fn write_chunk(
        &self,
        source: &dyn Source,
        chunk: Chunk,
        encoders: &Encoders,
        writer: &mut ShardWriter,
    ) -> Result<()> {
        let (state, shards) = (writer.state(), writer.shards());
        let encoded: Result<Vec<Encoded>> =
            chunk.pieces.par_iter().map(|piece| self.encode(piece, encoders)).collect();
        let encoded = encoded.with_context(|| source.name(chunk.place.file))?;
        if let Some(split) = chunk.split.filter(|split| *split != writer.split()) {
            writer.begin_split(split)?;
        }
        for mut piece in encoded {
            piece.tokens.truncate(self.wanted(writer).try_into().unwrap_or(usize::MAX));
            if piece.tokens.is_empty() {
                break;
            }
            match chunk.split {
                Some(_) => push(writer, &piece.tokens, piece.characters, piece.begins)?,
                None => push_first_shard_to_val(writer, &piece)?,
            }
        }
        if writer.shards() > shards {
            self.note(chunk.place, state)?;
            source.done(chunk.place.file);
        }
        Ok(())
    }

    fn encode(&self, piece: &Piece, encoders: &Encoders) -> Result<Encoded> {
        let Piece { text, begins } = piece;
        self.tokenizer.expect_known(text).with_context(|| {
            let beginning: String = text.chars().take(40).collect();
            format!("the text that begins {beginning:?} cannot be tokenised")
        })?;
        let mut tokens = encoders.with(|encoder| encoder.encode_document(text));
        if !begins && self.tokenizer.end_of_text().is_some() {
            tokens.remove(0);
        }
        Ok(Encoded { tokens, characters: text.chars().count() as u64, begins: *begins })
    }

    /// What there is, in a line.
    fn summary(&self) -> Result<String> {
        let of = |split| {
            let shards = Shards::open(self.folder, split, self.tokenizer)?;
            let n = shards.len();
            let plural = if n == 1 { "" } else { "s" };
            anyhow::Ok(format!("{} tokens in {n} shard{plural}", grouped(shards.total())))
        };
        let (train, val) = (of("train")?, of("val").unwrap_or_else(|_| "none".into()));
        Ok(format!("{train} to train on, {val} to validate on"))
    }
}

/// Whether a job with these settings has been begun in the folder.
///
/// # Errors
/// If one has that differs in any of them, and has left shards.
pub fn begun(folder: &Path, settings: &Value) -> Result<bool> {
    let Some(there) = read_json::<Value>(&folder.join(SETTINGS))? else {
        return Ok(false);
    };
    let names = settings.as_object().into_iter().flatten().map(|(name, _)| name.as_str());
    let others: Vec<String> = names
        .filter(|&name| there.get(name) != settings.get(name))
        .map(|name| match name {
            "files" => "other or changed files".into(),
            name => format!("another {name}"),
        })
        .collect();
    ensure!(
        others.is_empty() || !has_shards(folder),
        "{} was prepared otherwise ({}): name another folder with --out, or take this one away",
        folder.display(),
        others.join(", ")
    );
    Ok(others.is_empty())
}

/// Where the first shard is to validate on, and no more than some tokens are wanted: that they are more than it has.
///
/// # Errors
/// If not.
pub fn expect_some_to_train_on(tokens: Option<u64>, shard_tokens: u64) -> Result<()> {
    let tokens = tokens.unwrap_or(u64::MAX);
    ensure!(
        tokens > shard_tokens,
        "--tokens {}: the first {}, a shard, are to validate on, and none would be left to train on; take more, or \
         smaller shards with --shard-tokens",
        grouped(tokens as i64),
        grouped(shard_tokens as i64)
    );
    Ok(())
}

/// Hands each chunk to `take` while the next one is read, until `take` wants no more; returns whether it still does.
fn ahead(chunks: Chunks<'_>, mut take: impl FnMut(Chunk) -> Result<bool>) -> Result<bool> {
    thread::scope(|scope| {
        let (sender, receiver) = mpsc::sync_channel(READ_AHEAD);
        // Ends when the receiver is gone.
        scope.spawn(move || chunks.map(|chunk| sender.send(chunk)).find(Result::is_err));
        for chunk in receiver {
            if !take(chunk?)? {
                return Ok(false);
            }
        }
        Ok(true)
    })
}

fn push(writer: &mut ShardWriter, tokens: &[u16], characters: u64, begins: bool) -> Result<()> {
    match begins {
        true => writer.push(tokens, characters),
        false => writer.push_more(tokens, characters),
    }
}

/// As fineweb.py does: where the first shard ends, which is to validate on, the next begins.
fn push_first_shard_to_val(writer: &mut ShardWriter, piece: &Encoded) -> Result<()> {
    let in_val = if writer.split() == "val" { writer.room() } else { 0 };
    let (now, later) = piece.tokens.split_at(in_val.min(piece.tokens.len()));
    if !now.is_empty() {
        push(writer, now, piece.characters, piece.begins)?;
    }
    if writer.split() == "val" && writer.shards() > 0 {
        writer.begin_split("train")?;
    }
    match now.is_empty() {
        true => push(writer, later, piece.characters, piece.begins),
        false => push(writer, later, 0, false),
    }
}

fn has_shards(folder: &Path) -> bool {
    let mut entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.any(|entry| entry.path().extension().is_some_and(|end| end == "npy"))
}

/// The content of a JSON file, if there is one.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let text = match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        text => text,
    };
    let parse = || Ok(Some(serde_json::from_str(&text?)?));
    parse().map_err(|error: anyhow::Error| {
        error.context(format!("cannot read {}; take its folder away", path.display()))
    })
}

pub fn write_json(path: &Path, content: &impl Serialize) -> Result<()> {
    let json = serde_json::to_string_pretty(content)?;
    files::write_atomically(path, |file| Ok(writeln!(file, "{json}")?))
}
