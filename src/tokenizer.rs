//! The tokenizer that step04 shows the inside of, ready made.

use crate::text::printable;
use anyhow::{Context, Result, bail, ensure};
use base64::{Engine, prelude::BASE64_STANDARD};
use rustc_hash::FxHashMap;
use std::{fs::File, io::Read, path::Path};
use tiktoken_rs::CoreBPE;

/// What stands in a text, and in a vocabulary, for the border between two documents.
pub const END_OF_TEXT: &str = "<|endoftext|>";

/// GPT-2's rule for cutting text into pieces, so that no token runs across them, as step04 explains it.
const PIECES: &str =
    r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s";

const GPT2_TOKENS: i64 = 50_257;

/// Larger files are no vocabulary: the largest in use, of 200,000 tokens, has 4 MB.
const MOST_BYTES: u64 = 64_000_000;

/// A byte-pair tokenizer: text becomes ids in `0..n_vocab`, and ids become text.
pub struct Tokenizer {
    name: String,
    bpe: CoreBPE,
    n_vocab: i64,
    end_of_text: i64,
}

impl Tokenizer {
    /// The tokenizer of this name: `gpt2`; `fables`, the 1,024 tokens that step04 learns from the
    /// fables; or the path of a vocabulary in tiktoken's format, as step04 writes it.
    ///
    /// # Errors
    /// See [`Self::open`].
    pub fn load(name: &str) -> Result<Self> {
        match name {
            "gpt2" => Self::gpt2(),
            "fables" => Self::parse(name, fables::VOCABULARY),
            path => Self::open(Path::new(path)),
        }
    }

    fn gpt2() -> Result<Self> {
        let (name, end_of_text) = ("gpt2".into(), GPT2_TOKENS - 1);
        Ok(Self { name, bpe: tiktoken_rs::r50k_base()?, n_vocab: GPT2_TOKENS, end_of_text })
    }

    /// Reads a vocabulary: a line for each token with its bytes in base64, a space, and its id. The 256
    /// single bytes and `<|endoftext|>` must be among them, and the ids be 0, 1, 2, … in any order. Empty
    /// lines are passed over, as tiktoken does.
    ///
    /// # Errors
    /// One sentence that names the file and what is wrong with it: a line that is no token, an id or a
    /// token that is missing or there twice.
    pub fn open(path: &Path) -> Result<Self> {
        let name = path.display().to_string();
        let text = || -> Result<String> {
            let mut bytes = Vec::new();
            File::open(path)?.take(MOST_BYTES + 1).read_to_end(&mut bytes)?;
            ensure!(bytes.len() as u64 <= MOST_BYTES, "it is too long for a vocabulary");
            String::from_utf8(bytes).ok().context("it is no text")
        };
        let text = text().with_context(|| {
            format!("--tokenizer {name}: choose gpt2, fables, or a file that step04 has written")
        })?;
        Self::parse(&name, &text)
    }

    fn parse(name: &str, text: &str) -> Result<Self> {
        Self::try_parse(name, text).with_context(|| format!("--tokenizer {name}"))
    }

    fn try_parse(name: &str, text: &str) -> Result<Self> {
        let mut ranks: FxHashMap<Vec<u8>, u32> = FxHashMap::default();
        let mut has_id = Vec::new();
        let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
        for (i, line) in lines {
            let (bytes, id) = token(line).with_context(|| {
                format!(
                    "line {}, {:?}, is no token: bytes in base64, a space, and an id",
                    i + 1,
                    printable(&line.chars().take(40).collect::<String>())
                )
            })?;
            let twice = ranks.insert(bytes, id).is_some();
            ensure!(!twice, "line {}: this token was there before", i + 1);
            has_id.push(id);
        }
        ensure!(!has_id.is_empty(), "the file is empty");
        has_id.sort_unstable();
        for (expected, id) in (0..).zip(&has_id) {
            ensure!(*id >= expected, "two tokens have the id {id}");
            ensure!(*id == expected, "no token has the id {expected}, but one has {id}");
        }
        for byte in 0..=255 {
            ensure!(
                ranks.contains_key(&[byte][..]),
                "there is no token for the byte {byte}, so not every text could be written with it"
            );
        }
        let Some(end_of_text) = ranks.remove(END_OF_TEXT.as_bytes()) else {
            bail!(
                "there is no token {END_OF_TEXT} to stand between two documents; add the line `{} {}`",
                BASE64_STANDARD.encode(END_OF_TEXT),
                has_id.len()
            )
        };
        let special = FxHashMap::from_iter([(END_OF_TEXT.to_string(), end_of_text)]);
        Ok(Self {
            name: name.into(),
            n_vocab: has_id.len() as i64,
            end_of_text: end_of_text.into(),
            bpe: CoreBPE::new(ranks, special, PIECES)?,
        })
    }

    /// V: how many ids there are, `<|endoftext|>` included.
    pub fn n_vocab(&self) -> i64 {
        self.n_vocab
    }

    /// The id of `<|endoftext|>`, the token between two documents.
    pub fn end_of_text(&self) -> i64 {
        self.end_of_text
    }

    /// What `--tokenizer` calls it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The ids of a text. Where it says `<|endoftext|>`, that is one token.
    pub fn encode(&self, text: &str) -> Vec<i64> {
        self.bpe.encode_with_special_tokens(text).into_iter().map(i64::from).collect()
    }

    /// The ids of a document for a shard: `<|endoftext|>`, then its text, in which `<|endoftext|>` is a text like
    /// any other.
    ///
    /// # Panics
    /// If [`Self::n_vocab`] is above 65,536, so that an id may not fit.
    pub fn encode_document(&self, text: &str) -> Vec<u16> {
        let tokens = self.bpe.encode_ordinary(text).into_iter().map(i64::from);
        let tokens = [self.end_of_text].into_iter().chain(tokens);
        tokens
            .map(|token| token.try_into().expect("a vocabulary of 65,536 tokens at most"))
            .collect()
    }

    /// A number that tells vocabularies apart, whatever they are called: FNV-1a of the lengths and bytes of all tokens
    /// in the order of their ids.
    pub fn fingerprint(&self) -> u64 {
        let mut hash = 0xcbf2_9ce4_8422_2325;
        for id in 0..self.n_vocab as u32 {
            let token = self.bpe.decode_bytes(&[id]).expect("an id below n_vocab");
            for byte in (token.len() as u32).to_le_bytes().iter().chain(&token) {
                hash = (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
            }
        }
        hash
    }

    /// The text of ids. Where a token ends inside a character, as a model's may, the broken character
    /// becomes �.
    ///
    /// # Panics
    /// If an id is not below [`Self::n_vocab`].
    pub fn decode(&self, ids: &[i64]) -> String {
        let ids: Vec<u32> = ids.iter().map(|&id| id as u32).collect();
        let bytes = self.bpe.decode_bytes(&ids).expect("ids below n_vocab");
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// The bytes and the id that a line of a vocabulary gives.
fn token(line: &str) -> Option<(Vec<u8>, u32)> {
    let (bytes, id) = line.split_once(' ')?;
    let bytes = BASE64_STANDARD.decode(bytes).ok()?;
    (!bytes.is_empty()).then_some((bytes, id.trim_end().parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        let error = Tokenizer::parse("name", text).err().expect("accepted");
        format!("{error:#}")
    }

    /// The single bytes and `<|endoftext|>`.
    fn smallest() -> String {
        let tokens = (0..=255u8).map(|byte| vec![byte]).chain([END_OF_TEXT.as_bytes().to_vec()]);
        let line = |(id, token)| format!("{} {id}\n", BASE64_STANDARD.encode::<Vec<u8>>(token));
        tokens.enumerate().map(line).collect()
    }

    #[test]
    fn text_comes_back_as_it_went_in() {
        let text = "The fox said: 你好, 🦊!\n\n<|endoftext|>It's 2026\r\n   Füchse";
        for tokenizer in ["gpt2", "fables"].map(Tokenizer::load).map(Result::unwrap) {
            let ids = tokenizer.encode(text);
            assert_eq!(tokenizer.decode(&ids), text);
            assert!(ids.iter().all(|&id| (0..tokenizer.n_vocab()).contains(&id)));
            assert_eq!(ids.iter().filter(|&&id| id == tokenizer.end_of_text()).count(), 1);
        }
        assert_eq!(Tokenizer::parse("", &smallest()).unwrap().n_vocab(), 257);
    }

    #[test]
    fn the_fables_vocabulary_is_small_and_ends_in_the_token_between_stories() {
        let tokenizer = Tokenizer::load("fables").unwrap();
        assert_eq!((tokenizer.n_vocab(), tokenizer.end_of_text()), (1024, 1023));
    }

    #[test]
    fn what_is_no_vocabulary_is_refused_by_its_line() {
        assert!(refused("\n\n").contains("empty"));
        assert!(refused("Once upon a time").contains("line 1"));
        assert!(refused("QQ== -1").contains("line 1"));
        assert!(refused("QQ== 0\nQg== 1\n\u{1b}[0m 2").contains("line 3"));
        assert!(refused("QQ== 0\nQQ== 1").contains("line 2"));
        assert!(refused(" 0").contains("line 1"), "no bytes");
    }

    #[test]
    fn a_missing_token_is_named() {
        let without = |token: &str| {
            let lines = smallest();
            let lines = lines.lines().filter(|line| !line.starts_with(&format!("{token} ")));
            let numbered = lines.enumerate().map(|(id, line)| {
                let (token, _) = line.split_once(' ').unwrap();
                format!("{token} {id}\n")
            });
            refused(&numbered.collect::<String>())
        };
        assert!(without("QQ==").contains("byte 65"), "A");
        assert!(
            without("PHxlbmRvZnRleHR8Pg==").contains("add the line `PHxlbmRvZnRleHR8Pg== 256`")
        );
        let renumbered = |id| refused(&smallest().replace(" 256\n", &format!(" {id}\n")));
        assert!(renumbered(257).contains("no token has the id 256"));
        assert!(renumbered(255).contains("two tokens have the id 255"));
    }

    #[test]
    fn lines_may_end_as_on_windows_and_stand_in_any_order() {
        let lines = smallest();
        let turned: Vec<&str> = lines.lines().rev().collect();
        let turned = Tokenizer::parse("", &(turned.join("\r\n") + "\r\n\r\n")).unwrap();
        assert_eq!(turned.encode("aé<|endoftext|>"), [97, 195, 169, 256]);
    }

    #[test]
    fn a_file_that_is_not_there_names_the_choices() {
        let error = Tokenizer::load("no/such/file").err().unwrap();
        let error = format!("{error:#}");
        assert!(error.contains("gpt2, fables") && error.contains("no/such/file"), "{error}");
    }
}
