//! Files of text, of JSON lines and of parquet as a [`Source`]: the beginning is to train on, the end to validate on.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use lab::{END_OF_TEXT, grouped};
use serde_json::Value;

use crate::{
    rows::{Border, Rows},
    shards::{Chunk, Chunks, Piece, Place, Source},
};

/// How much text is read at once, in bytes.
const CHUNK: u64 = 4 << 20;

/// Where a long document is cut, in bytes, so that all cores have a part of it.
const PART: usize = 64 << 10;

/// A line of JSON that is longer than this, in bytes, would not leave enough memory.
const LONGEST_LINE: u64 = 256 << 20;

/// The files that a folder is searched for.
const KINDS: [&str; 6] = ["txt", "text", "md", "jsonl", "ndjson", "parquet"];

/// Files of text, one after the other.
pub struct Texts {
    files: Vec<TextFile>,
    /// The field of a line of JSON that has the text.
    field: String,
    /// From which byte on, counted over all files, they are to validate on.
    val_from: u64,
    /// Whether the text is taken as it stands, and not as documents: [`Self::as_it_stands`].
    as_it_stands: bool,
}

#[derive(Clone)]
struct TextFile {
    path: PathBuf,
    size: u64,
    /// When it was changed, in nanoseconds since 1970.
    changed: u128,
}

impl Texts {
    /// The files, and those in folders, by name. `val_share` of all bytes, at the end, is to validate on.
    ///
    /// # Errors
    /// When a file is missing, empty or no plain file, or a folder has no text.
    pub fn new(paths: &[PathBuf], field: &str, val_share: f64) -> Result<Self> {
        let mut files = Vec::new();
        for path in paths {
            collect(path, &mut files)?;
        }
        let whole: u64 = files.iter().map(|file| file.size).sum();
        ensure!(whole > 0, "{}: there is no text in it", paths[0].display());
        let val_from = whole - (whole as f64 * val_share) as u64;
        Ok(Self { files, field: field.into(), val_from, as_it_stands: false })
    }

    /// The same as one text, as nanoGPT takes it: no token stands between documents, `<|endoftext|>` is a text like any
    /// other, and nothing is trimmed. Where all files are plain text, `val_share` of the characters, to the character,
    /// is to validate on. Where a line of JSON or a row has a text, a new line follows it.
    ///
    /// # Errors
    /// When a file cannot be read, or is no UTF-8 text.
    pub fn as_it_stands(mut self, val_share: f64) -> Result<Self> {
        self.as_it_stands = true;
        let is_plain = |file: &TextFile| Kind::of(&file.path) == Kind::Plain;
        if self.files.iter().all(is_plain) {
            self.val_from =
                self.byte_of_character(|whole| (whole as f64 * (1.0 - val_share)) as u64)?;
        }
        Ok(self)
    }

    /// The byte, counted over all files, at which the character begins that `which` names when it is told how many there
    /// are. The text is read twice, and never all of it in memory.
    fn byte_of_character(&self, which: impl Fn(u64) -> u64) -> Result<u64> {
        let count = |file| -> Result<u64> {
            let texts = self.texts(file)?;
            texts.map(|text| Ok(text?.chars().count() as u64)).sum()
        };
        let counts: Vec<u64> = (0..self.files.len()).map(count).collect::<Result<_>>()?;
        let mut wanted = which(counts.iter().sum());
        let mut byte = 0;
        for (file, count) in counts.into_iter().enumerate() {
            if wanted > count {
                wanted -= count;
                byte += self.files[file].size;
                continue;
            }
            for text in self.texts(file)? {
                let text = text?;
                if let Some((at, _)) = text.char_indices().nth(wanted as usize) {
                    return Ok(byte + at as u64);
                }
                wanted -= text.chars().count() as u64;
                byte += text.len() as u64;
            }
            break;
        }
        Ok(byte)
    }

    /// A plain file's text, some megabytes at a time.
    fn texts(&self, file: usize) -> Result<impl Iterator<Item = Result<String>>> {
        let name = self.name(file);
        let TextFile { path, size, .. } = &self.files[file];
        let opened = File::open(path).with_context(|| format!("cannot read {name}"))?;
        let mut text = PlainText::whole(opened, *size);
        let next = move || (text.place.at < text.size).then(|| text.read_next(text.size));
        Ok(std::iter::from_fn(next).map(move |read| match read {
            Ok((text, _)) => Ok(text),
            Err(error) => Err(error.context(name.clone())),
        }))
    }

    /// How much text there is, in bytes, parquet's as it is compressed.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.size).sum()
    }

    /// What tells whether they are still the same.
    pub fn description(&self) -> Value {
        let files = self.files.iter().map(|file| {
            let changed = file.changed.to_string();
            Value::from_iter([
                ("path", Value::from(file.path.to_string_lossy())),
                ("size", file.size.into()),
                ("changed", changed.into()),
            ])
        });
        files.collect()
    }

    /// Where, in a file, what is to validate on begins, in bytes.
    fn val_from(&self, file: usize) -> u64 {
        let before: u64 = self.files[..file].iter().map(|file| file.size).sum();
        self.val_from.saturating_sub(before).min(self.files[file].size)
    }
}

/// Adds the file, or the texts in the folder.
fn collect(path: &Path, files: &mut Vec<TextFile>) -> Result<()> {
    let shown = path.display();
    let meta = fs::metadata(path).with_context(|| format!("cannot read {shown}"))?;
    if meta.is_dir() {
        let before = files.len();
        collect_folder(path, files)?;
        ensure!(
            files.len() > before,
            "{shown}: there is no text in this folder (files that end in .{}); name files of other endings themselves",
            KINDS.join(", .")
        );
        return Ok(());
    }
    ensure!(meta.is_file(), "{shown} is not a plain file: save the text in one");
    let path = fs::canonicalize(path).with_context(|| format!("cannot read {shown}"))?;
    let changed = meta.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    files.push(TextFile {
        path,
        size: meta.len(),
        changed: changed.unwrap_or_default().as_nanos(),
    });
    Ok(())
}

fn collect_folder(folder: &Path, files: &mut Vec<TextFile>) -> Result<()> {
    let cannot_read = || format!("cannot read the folder {}", folder.display());
    let entries = fs::read_dir(folder).with_context(cannot_read)?;
    let mut paths: Vec<PathBuf> =
        entries.map(|entry| Ok(entry?.path())).collect::<Result<_>>().with_context(cannot_read)?;
    paths.sort();
    for path in paths {
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if path.is_dir() && !hidden && !path.is_symlink() {
            collect_folder(&path, files)?;
        } else if path.is_file() && !hidden && KINDS.contains(&ending(&path).as_str()) {
            collect(&path, files)?;
        }
    }
    Ok(())
}

/// How a file is read.
#[derive(PartialEq)]
enum Kind {
    Plain,
    JsonLines,
    Parquet,
}

impl Kind {
    fn of(path: &Path) -> Self {
        match ending(path).as_str() {
            "jsonl" | "ndjson" => Self::JsonLines,
            "parquet" => Self::Parquet,
            _ => Self::Plain,
        }
    }
}

/// Without a token where a document begins; a new line follows what was one.
fn as_one_text(mut chunk: Chunk) -> Chunk {
    for piece in &mut chunk.pieces {
        if piece.begins {
            piece.text.push('\n');
        }
        piece.begins = false;
    }
    chunk
}

/// What a file's name ends in, in lower case.
fn ending(path: &Path) -> String {
    path.extension().unwrap_or_default().to_string_lossy().to_lowercase()
}

impl Source for Texts {
    fn name(&self, file: usize) -> String {
        self.files[file].path.display().to_string()
    }

    fn sizes(&self) -> Vec<u64> {
        self.files.iter().map(|file| file.size).collect()
    }

    fn open(&self, from: Place) -> Result<Chunks<'_>> {
        let name = self.name(from.file);
        let TextFile { path, size, .. } = &self.files[from.file];
        let mut file = File::open(path).with_context(|| format!("cannot read {name}"))?;
        let val_from = self.val_from(from.file);
        let chunks: Chunks = match Kind::of(path) {
            Kind::JsonLines => {
                let cannot_read = || format!("cannot read {name}");
                file.seek(SeekFrom::Start(from.at)).with_context(cannot_read)?;
                let input = BufReader::new(file);
                Box::new(JsonLines { input, place: from, val_from, field: &self.field })
            }
            Kind::Parquet => {
                let border = Border { byte: val_from, splits: ["train", "val"] };
                let rows = Rows::open(path, *size, &self.field, from, Some(border));
                Box::new(rows.with_context(|| name.clone())?)
            }
            Kind::Plain if self.as_it_stands => Box::new(PlainText {
                place: from,
                val_from,
                as_it_stands: true,
                ..PlainText::whole(file, *size)
            }),
            Kind::Plain => {
                Box::new(PlainText::new(file, *size, from, val_from).with_context(|| name.clone())?)
            }
        };
        let chunks = chunks.map(|chunk| match self.as_it_stands {
            true => chunk.map(as_one_text),
            false => chunk,
        });
        Ok(Box::new(chunks.map(move |chunk| chunk.with_context(|| name.clone()))))
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// Plain text

/// Lines that say `<|endoftext|>` separate documents. What is to train on and what is to validate on are documents
/// of their own.
struct PlainText {
    file: File,
    size: u64,
    place: Place,
    val_from: u64,
    as_it_stands: bool,
}

impl Iterator for PlainText {
    type Item = Result<Chunk>;

    fn next(&mut self) -> Option<Self::Item> {
        (self.place.at < self.size).then(|| self.read())
    }
}

impl PlainText {
    fn new(mut file: File, size: u64, place: Place, val_from: u64) -> Result<Self> {
        let val_from = if val_from < size { line_before(&mut file, val_from)? } else { size };
        Ok(Self { place, val_from, ..Self::whole(file, size) })
    }

    /// All of it, to train on.
    fn whole(file: File, size: u64) -> Self {
        Self { file, size, place: Place::default(), val_from: size, as_it_stands: false }
    }

    fn read(&mut self) -> Result<Chunk> {
        let place = self.place;
        let (end, split) = match place.at < self.val_from {
            true => (self.val_from, "train"),
            false => (self.size, "val"),
        };
        let (text, is_last) = self.read_next(end)?;
        if self.as_it_stands {
            let piece = |text: &str| Piece { text: text.into(), begins: false };
            let pieces = parts(&text).into_iter().map(piece).collect();
            return Ok(Chunk { place, read: self.place.at, split: Some(split), pieces });
        }
        let text = text.strip_prefix('\u{feff}').filter(|_| place.at == 0).unwrap_or(&text);
        let (pieces, inside) = pieces(text, place.inside, is_last);
        self.place.inside = inside;
        Ok(Chunk { place, read: self.place.at, split: Some(split), pieces })
    }

    /// What [`Self::read_to_a_cut`] reads, and goes on behind it.
    fn read_next(&mut self, end: u64) -> Result<(String, bool)> {
        let (text, is_last) = self.read_to_a_cut(end)?;
        self.place.at += text.len() as u64;
        Ok((text, is_last))
    }

    /// Some megabytes up to where they can be cut, and whether `end` is there.
    fn read_to_a_cut(&mut self, end: u64) -> Result<(String, bool)> {
        let mut wanted = CHUNK;
        loop {
            let is_last = end - self.place.at <= wanted;
            let mut text = self.read_text(wanted.min(end - self.place.at), is_last)?;
            if is_last {
                return Ok((text, true));
            }
            if let Some(cut) = (0..text.len()).rev().find_map(|at| cut(&text, at)) {
                text.truncate(cut);
                return Ok((text, false));
            }
            wanted *= 2;
            ensure!(
                wanted <= LONGEST_LINE,
                "there is no single space or new line in the {} bytes from byte {} on: is it text?",
                grouped(wanted as i64 / 2),
                grouped(self.place.at as i64)
            );
        }
    }

    /// So many bytes of text; the character that the end cuts is left out, unless they are the last.
    fn read_text(&mut self, bytes: u64, is_last: bool) -> Result<String> {
        let mut read = vec![0; bytes as usize];
        self.file.seek(SeekFrom::Start(self.place.at)).context("cannot read it")?;
        self.file.read_exact(&mut read).context("cannot read it as it was when this began")?;
        if let Err(error) = std::str::from_utf8(&read) {
            ensure!(
                error.error_len().is_none() && !is_last,
                "it is no UTF-8 text (byte {} is not); convert it with iconv or your editor",
                grouped(self.place.at as i64 + error.valid_up_to() as i64)
            );
            read.truncate(error.valid_up_to());
        }
        String::from_utf8(read).context("it was UTF-8 a moment ago")
    }
}

/// Where the line begins that the byte at `at` belongs to, or its character where the line is long.
fn line_before(file: &mut File, at: u64) -> Result<u64> {
    let from = at.saturating_sub(PART as u64);
    let mut bytes = vec![0; (at - from) as usize];
    file.seek(SeekFrom::Start(from)).context("cannot read it")?;
    file.read_exact(&mut bytes).context("cannot read it")?;
    let after_line = bytes.iter().rposition(|&byte| byte == b'\n').map(|at| at + 1);
    let is_first = |byte: &u8| byte & 0xc0 != 0x80; // of a character
    let at = after_line.or_else(|| bytes.iter().rposition(is_first)).unwrap_or(0);
    Ok(from + at as u64)
}

/// The documents of a text, long ones in parts, and whether it ends inside one. It may begin inside one; where
/// `is_last`, its last ends with it.
fn pieces(text: &str, mut inside: bool, is_last: bool) -> (Vec<Piece>, bool) {
    let mut pieces = Vec::new();
    let (mut from, mut at) = (0, 0);
    for line in text.split_inclusive('\n') {
        if line.trim() == END_OF_TEXT {
            push_document(&text[from..at], inside, true, &mut pieces);
            (from, inside) = (at + line.len(), false);
        }
        at += line.len();
    }
    let rest = push_document(&text[from..], inside, is_last, &mut pieces);
    (pieces, !is_last && (inside || rest))
}

/// Adds a document, or the part of it that is there, without the empty lines around it; returns whether there is any.
fn push_document(text: &str, inside: bool, ends: bool, pieces: &mut Vec<Piece>) -> bool {
    let text = if ends { text.trim_end() } else { text };
    let text = if inside { text } else { text.trim_start_matches(['\n', '\r']) };
    for (i, text) in parts(text).into_iter().enumerate() {
        pieces.push(Piece { text: text.into(), begins: i == 0 && !inside });
    }
    !text.is_empty()
}

/// A text in parts that all together make the same tokens.
fn parts(mut text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    while let Some(cut) = (PART..text.len()).find_map(|at| cut(text, at)) {
        let (part, rest) = text.split_at(cut);
        parts.push(part);
        text = rest;
    }
    parts.extend(Some(text).filter(|text| !text.is_empty()));
    parts
}

/// Where a text may be cut, at a space or new line at the byte `at`, so that its two parts make the tokens that it makes
/// whole: before the only space between two words, after the only new line. In longer white space GPT-2's rule for
/// pieces looks at what follows. A line that says `<|endoftext|>` is not cut off from the text before it,
/// which it ends.
fn cut(text: &str, at: usize) -> Option<usize> {
    let cut = match text.as_bytes()[at] {
        b' ' => at,
        b'\n' => at + 1,
        _ => return None,
    };
    let is_word = |c: Option<char>| c.is_some_and(|c| !c.is_whitespace());
    let (before, after) = (&text[..at], &text[at + 1..]);
    let is_single = is_word(before.chars().next_back()) && is_word(after.chars().next());
    // The sign itself may go on behind what has been read.
    let ends = after.starts_with(END_OF_TEXT) || END_OF_TEXT.starts_with(after);
    (is_single && !ends).then_some(cut)
}

// ---------------------------------------------------------------------------------------------------------------------
// JSON lines

/// Each line is a document.
struct JsonLines<'a> {
    input: BufReader<File>,
    place: Place,
    val_from: u64,
    field: &'a str,
}

impl Iterator for JsonLines<'_> {
    type Item = Result<Chunk>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.read() {
            Ok(chunk) if chunk.read == chunk.place.at => None, // the end
            chunk => Some(chunk),
        }
    }
}

impl JsonLines<'_> {
    fn read(&mut self) -> Result<Chunk> {
        let place = self.place;
        let trains = place.at < self.val_from;
        let mut pieces = Vec::new();
        while self.place.at < place.at + CHUNK && (self.place.at < self.val_from) == trains {
            let Some(line) = self.read_line()? else { break };
            let text = text_in(&line, self.field).map_err(|error| {
                error.context(format!("line {}", grouped(self.place.line as i64)))
            })?;
            pieces.extend(text.map(|text| Piece { text, begins: true }));
        }
        let split = if trains { "train" } else { "val" };
        Ok(Chunk { place, read: self.place.at, split: Some(split), pieces })
    }

    fn read_line(&mut self) -> Result<Option<Vec<u8>>> {
        let mut line = Vec::new();
        let mut input = (&mut self.input).take(LONGEST_LINE);
        let read = input.read_until(b'\n', &mut line).context("cannot read it")? as u64;
        self.place.at += read;
        self.place.line += 1;
        ensure!(
            read < LONGEST_LINE,
            "line {} is longer than {} bytes: is it JSON lines?",
            grouped(self.place.line as i64),
            grouped(LONGEST_LINE as i64)
        );
        Ok((read > 0).then_some(line))
    }
}

/// The text of a line of JSON; none if the line or the text is empty.
fn text_in(line: &[u8], field: &str) -> Result<Option<String>> {
    let line = line.strip_prefix("\u{feff}".as_bytes()).unwrap_or(line);
    if line.trim_ascii().is_empty() {
        return Ok(None);
    }
    let mut object: serde_json::Map<String, Value> =
        serde_json::from_slice(line).map_err(|error| {
            let (reason, column) = (error.to_string(), error.column());
            let reason = reason.split(" at line ").next().unwrap_or_default();
            anyhow!("it is no JSON object: {reason} at column {column}")
        })?;
    match object.remove(field) {
        Some(Value::String(text)) => Ok(Some(text).filter(|text| !text.is_empty())),
        Some(_) => bail!("its field {field:?} is no text; name another with --field"),
        None => {
            let names: Vec<&str> = object.keys().map(String::as_str).take(10).collect();
            bail!("it has no field {field:?}, but {names:?}; name one with --field")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_between_two_words_and_not_before_the_end_of_a_document() {
        let cuts = |text: &str| (0..text.len()).filter_map(|at| cut(text, at)).collect::<Vec<_>>();
        assert_eq!(cuts("one two\nthree"), [3, 8]);
        assert!(cuts("one  two\n\nthree \n four\u{3000} five\r\nsix ").is_empty());
        for end in 1..=END_OF_TEXT.len() {
            assert!(cuts(&format!("end.\n{}", &END_OF_TEXT[..end])).is_empty(), "{end}");
        }
        assert_eq!(cuts("<|endoftext|>\nnext"), [14]);
    }
}
