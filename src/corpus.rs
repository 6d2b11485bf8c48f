use crate::{END_OF_TEXT, Flags, fables, grouped, text::printable};
use anyhow::{Context, Result, ensure};
use std::{
    collections::{HashMap, HashSet},
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::Path,
};

const TRAIN_BYTES: usize = 1_000_000;
const VAL_BYTES: usize = 100_000;

/// How many times longer the fables are told where a GPU reads them: a batch of 16 · 1,024 tokens would
/// see all of the shorter ones every 18 steps.
const ON_A_GPU: usize = 20;

/// The most that is taken of a file of one's own, in bytes: more than a lesson looks at in its minute.
const MOST: Most = Most { train: 20_000_000, val: 200_000 };

/// The rule by which GPT-2 cuts text into pieces gives up on a run of white space of about a million.
const LONGEST_BLANK: usize = 100_000;

/// V at most. A table of V × V numbers takes 1.6 GB then, with its gradient and the optimizer's two means.
const MOST_CHARACTERS: i64 = 10_000;

struct Most {
    train: usize,
    val: usize,
}

/// A text to learn from and another, never trained on, to be judged by.
pub struct Corpus {
    pub name: String,
    pub train: String,
    pub val: String,
    /// How many characters the validation text has.
    val_chars: usize,
    /// The information content of `val` in nats, where it is known.
    val_nats: Option<f64>,
}

impl Corpus {
    /// Loads what `--corpus` names. A file of one's own is split like ng-video-lecture splits it:
    /// the first 90 % of the characters to train on, the rest to validate.
    ///
    /// Of a long file it takes the beginning to train on and some text after its first nine tenths to
    /// validate, and prints how much.
    ///
    /// Refuses a file that is missing, empty or no UTF-8, a text with white space without end, and one of
    /// which a part holds fewer than `block_size + 1` characters: no window could be cut from it.
    pub fn load(flags: &Flags, block_size: i64) -> Result<Self> {
        let corpus = match flags.corpus.as_str() {
            "fables" => Self::fables(if flags.device.is_cuda() { ON_A_GPU } else { 1 }),
            "shakespeare" => Self::shakespeare()?,
            path => {
                Self::file(Path::new(path), MOST).with_context(|| format!("--corpus {path}"))?
            }
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

    /// The fables, so many times as long as they are told on a CPU.
    fn fables(times: usize) -> Self {
        let val = fables::text(fables::VALIDATION, times * VAL_BYTES);
        Self {
            name: "fables".into(),
            train: fables::text(fables::TRAINING, times * TRAIN_BYTES).text,
            val_chars: val.text.chars().count(),
            val: val.text,
            val_nats: Some(val.nats),
        }
    }

    fn shakespeare() -> Result<Self> {
        let path = "data/shakespeare/input.txt";
        let corpus = Self::file(Path::new(path), MOST).with_context(|| {
            format!("{path}: fetch it with `cargo run -p data -- shakespeare`, and start steps in the repository's folder")
        })?;
        Ok(Self { name: "shakespeare".into(), ..corpus })
    }

    fn file(path: &Path, most: Most) -> Result<Self> {
        let mut file = File::open(path).context("cannot read it")?;
        let length = file.metadata().context("cannot read it")?.len();
        let (train, val, total) = if length > (most.train + most.train / 9) as u64 {
            let train = part(&mut file, 0, most.train)?;
            (train, part(&mut file, length / 10 * 9, most.val)?, length as usize)
        } else {
            let text = part(&mut file, 0, usize::MAX)?;
            let split = text.chars().count() * 9 / 10;
            let split = text.char_indices().nth(split).map_or(text.len(), |(at, _)| at);
            let (train, val) = text.split_at(split);
            let end = (0..=most.val.min(val.len())).rev().find(|&at| val.is_char_boundary(at));
            (train.to_string(), val[..end.unwrap_or(0)].to_string(), text.len())
        };
        ensure!(
            !train.is_empty() || !val.is_empty(),
            "the file is empty; name one with text in it"
        );
        expect_breaks(&train)?;
        expect_breaks(&val)?;
        if train.len() + val.len() < total {
            println!(
                "{} is long: of its {} bytes, the first {} are to train on and {} after nine tenths to \
                 validate",
                printable(&path.display().to_string()),
                grouped(total as i64),
                grouped(train.len() as i64),
                grouped(val.len() as i64)
            );
        }
        let val_chars = val.chars().count();
        Ok(Self { name: path.display().to_string(), train, val, val_chars, val_nats: None })
    }

    /// What a sample begins with where nobody says it: a new line, or the first character of a corpus that
    /// has none.
    pub fn opening(&self) -> String {
        let has_lines = self.train.contains('\n') || self.val.contains('\n');
        let first = self.train.chars().next().filter(|_| !has_lines);
        first.unwrap_or('\n').into()
    }

    /// Refuses a text of more than 10,000 different characters, given how many it has: a model of characters
    /// has a row of weights for each, or even V² weights.
    pub fn expect_alphabet(&self, characters: i64) -> Result<()> {
        ensure!(
            characters <= MOST_CHARACTERS,
            "--corpus {}: it has {} different characters, and a model with a row for each takes at most {}; \
             take a text in one language, or a later step, whose tokens can write any text",
            self.name,
            grouped(characters),
            grouped(MOST_CHARACTERS)
        );
        Ok(())
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

    /// What `--corpus` names, for a tokenizer that has `<|endoftext|>`: each document begins with it. In the
    /// fables that is a story, whose blank line it replaces; in a text of one's own, what lines that say
    /// `<|endoftext|>` separate.
    ///
    /// Refuses what [`load`] refuses.
    ///
    /// [`load`]: Self::load
    pub fn documents(flags: &Flags) -> Result<Self> {
        Ok(Self::load(flags, 1)?.with_documents())
    }

    fn with_documents(self) -> Self {
        if self.val_nats.is_some() {
            let (train, val) = (fables::stories(&self.train), fables::stories(&self.val));
            return Self { train: begun(train), val: begun(val), ..self };
        }
        let (train, val) = (documents(&self.train), documents(&self.val));
        let val_chars = val.iter().map(|document| document.chars().count()).sum();
        let begun = |documents: &[String]| begun(documents.iter().map(String::as_str));
        Self { train: begun(&train), val: begun(&val), val_chars, ..self }
    }

    /// How many characters of the validation text a token stands for, if that text makes `tokens` tokens.
    /// A loss per token, divided by it, is a loss per character.
    pub fn chars_per_token(&self, tokens: usize) -> f64 {
        self.val_chars as f64 / tokens as f64
    }

    /// The lowest validation loss that any model can reach, in nats per character. Only known for fables.
    pub fn floor(&self) -> Option<f64> {
        self.val_nats.map(|nats| nats / self.val_chars as f64)
    }
}

/// Whether a text of `n` tokens has enough of them for a batch of `b` sequences of `t`, and the one that follows.
///
/// # Errors
/// When it has not.
pub fn expect_batch(n: i64, b: i64, t: i64) -> Result<()> {
    let most = (n - 1).max(0) / t;
    ensure!(
        b <= most,
        "a part of the corpus has {n} tokens, enough for {most} sequences of {t}, and a batch needs {b}: take \
         more text, or a smaller batch"
    );
    Ok(())
}

/// Whether a text can be cut into the pieces that tokens do not run across: see [`LONGEST_BLANK`].
///
/// # Errors
/// When a run of white space is too long.
fn expect_breaks(text: &str) -> Result<()> {
    if text.len() <= LONGEST_BLANK {
        return Ok(());
    }
    let blank = longest_blank(text);
    ensure!(
        blank <= LONGEST_BLANK,
        "it has {} bytes of white space without a break; shorten that run",
        grouped(blank as i64)
    );
    Ok(())
}

/// What lines that say `<|endoftext|>` separate.
fn documents(text: &str) -> Vec<String> {
    let mut documents = vec![String::new()];
    for line in text.split_inclusive('\n') {
        if line.trim() == END_OF_TEXT {
            documents.push(String::new());
        } else {
            documents.last_mut().expect("there is one").push_str(line);
        }
    }
    documents
}

/// Documents one after the other, each with `<|endoftext|>` before it, without empty lines between them.
fn begun<'a>(documents: impl Iterator<Item = &'a str>) -> String {
    let documents = documents.map(trimmed).filter(|document| !document.is_empty());
    documents.flat_map(|document| [END_OF_TEXT, document]).collect()
}

/// A document without empty lines around it.
pub(crate) fn trimmed(document: &str) -> &str {
    document.trim_end().trim_start_matches(['\n', '\r'])
}

/// Up to `most` bytes of text from the byte `from` on, without the character that either end cuts.
fn part(file: &mut File, from: u64, most: usize) -> Result<String> {
    let mut bytes = Vec::new();
    if from > 0 {
        file.seek(SeekFrom::Start(from)).context("cannot read it")?;
    }
    let read = file.take(most as u64).read_to_end(&mut bytes).context("cannot read it")?;
    if from > 0 {
        let is_inside = |byte: &&u8| **byte & 0xc0 == 0x80;
        bytes.drain(..bytes.iter().take(3).take_while(is_inside).count());
    }
    if let Err(error) = std::str::from_utf8(&bytes)
        && error.error_len().is_none()
        && read == most
    {
        bytes.truncate(error.valid_up_to());
    }
    let text = String::from_utf8(bytes)
        .map_err(|e| e.utf8_error())
        .context("it is no UTF-8 text; convert it with iconv or your editor")?;
    // The mark with which some editors begin a file says how it is encoded and is no part of the text.
    Ok(text.strip_prefix('\u{feff}').map(str::to_string).unwrap_or(text))
}

/// The longest run of white space in bytes.
fn longest_blank(text: &str) -> usize {
    text.split(|c: char| !c.is_whitespace()).map(str::len).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn corpus(content: &[u8], train: usize, val: usize) -> Result<Corpus> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("text.txt");
        fs::write(&path, content).unwrap();
        Corpus::file(&path, Most { train, val })
    }

    #[test]
    fn a_short_file_is_taken_whole_and_without_its_byte_order_mark() {
        let corpus = corpus("\u{feff}abcdefghi狐".as_bytes(), 100, 100).unwrap();
        assert_eq!((corpus.train.as_str(), corpus.val.as_str()), ("abcdefghi", "狐"));
    }

    #[test]
    fn of_a_long_file_whole_characters_are_taken() {
        // 100 characters of 3 bytes; nine tenths are byte 270, the parts' ends lie inside characters.
        let corpus = corpus("狐".repeat(100).as_bytes(), 100, 10).unwrap();
        assert_eq!((corpus.train, corpus.val), ("狐".repeat(33), "狐".repeat(3)));
    }

    #[test]
    fn a_sample_begins_with_what_the_corpus_has() {
        assert_eq!(corpus(b"many a word\nof text", 100, 100).unwrap().opening(), "\n");
        assert_eq!(corpus(b"many words in all\n", 100, 100).unwrap().opening(), "\n");
        assert_eq!(corpus("狐 and others".as_bytes(), 100, 100).unwrap().opening(), "狐");
    }

    #[test]
    fn a_long_files_validation_begins_between_characters() {
        let text = format!("x{}", "狐".repeat(100)); // nine tenths of 301 bytes, 270, lie inside one
        let corpus = corpus(text.as_bytes(), 100, 10).unwrap();
        assert!(corpus.train.ends_with('狐') && "狐狐狐".starts_with(&corpus.val));
        assert!(!corpus.val.is_empty());
    }

    #[test]
    fn a_document_begins_with_the_token_for_it() {
        let text = "one\ntwo\n<|endoftext|>\n\n<|endoftext|>\r\n\r\nthree\n".repeat(10);
        let corpus = corpus(text.as_bytes(), 1_000, 1_000).unwrap().with_documents();
        assert!(corpus.train.starts_with("<|endoftext|>one\ntwo<|endoftext|>three\none\ntwo"));
        assert!(!corpus.train.contains("<|endoftext|><|endoftext|>"));
        let fables = Corpus::fables(1);
        let (stories, floor) = (fables.val.matches("\n\n").count(), fables.floor());
        let fables = fables.with_documents();
        assert_eq!(fables.val.matches(END_OF_TEXT).count(), stories);
        assert_eq!(fables.floor(), floor, "a separator costs a reader nothing");
    }

    #[test]
    fn white_space_without_end_is_refused() {
        let text = format!("word{}word", "\n".repeat(200_000)); // the longer part of it is nine tenths
        let Err(error) = corpus(text.as_bytes(), 1_000_000, 1_000_000) else { panic!("accepted") };
        assert!(format!("{error:#}").contains("bytes of white space without a break"), "{error:#}");
    }
}
