//! The tokenizer that step04 shows the inside of, ready made.

use crate::text::printable;
use anyhow::{Context, Result, anyhow, bail, ensure};
use base64::{Engine, prelude::BASE64_STANDARD};
use rustc_hash::FxHashMap;
use std::{collections::BTreeSet, fs::File, io::Read, path::Path};
use tiktoken_rs::CoreBPE;

/// What stands in a text, and in a vocabulary, for the border between two documents.
pub const END_OF_TEXT: &str = "<|endoftext|>";

/// GPT-2's rule for cutting text into pieces, so that no token runs across them, as step04 explains it.
const PIECES: &str =
    r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s";

const GPT2_TOKENS: i64 = 50_257;

/// Larger files are no vocabulary: the largest in use, of 200,000 tokens, has 4 MB.
const MOST_BYTES: u64 = 64_000_000;

/// A tokenizer: text becomes ids in `0..n_vocab`, and ids become text.
pub struct Tokenizer {
    name: String,
    tokens: Tokens,
    n_vocab: i64,
    end_of_text: Option<i64>,
}

/// What a token is.
enum Tokens {
    /// The bytes that byte pairs were merged to.
    Pairs(CoreBPE),
    /// One character, in the order of their ids.
    Characters(Vec<char>),
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
            path => Self::of_flag(Path::new(path)),
        }
    }

    fn of_flag(path: &Path) -> Result<Self> {
        Self::open(path).map_err(|error| match path.is_file() {
            true => anyhow!("--tokenizer {error:#}"),
            false => anyhow!(
                "--tokenizer {}: choose gpt2, fables, or a file that step04 has written: {}",
                path.display(),
                error.root_cause()
            ),
        })
    }

    fn gpt2() -> Result<Self> {
        let (name, end_of_text) = ("gpt2".into(), Some(GPT2_TOKENS - 1));
        let tokens = Tokens::Pairs(tiktoken_rs::r50k_base()?);
        Ok(Self { name, tokens, n_vocab: GPT2_TOKENS, end_of_text })
    }

    /// One token for each of these characters, in Unicode's order, as nanoGPT's `shakespeare_char` has it. No token
    /// stands between documents.
    ///
    /// # Errors
    /// If there are none.
    pub fn of_characters(name: &str, characters: impl IntoIterator<Item = char>) -> Result<Self> {
        let characters: BTreeSet<char> = characters.into_iter().collect();
        ensure!(!characters.is_empty(), "there are no characters to make a vocabulary of");
        let characters: Vec<char> = characters.into_iter().collect();
        let n_vocab = characters.len() as i64;
        let tokens = Tokens::Characters(characters);
        Ok(Self { name: name.into(), tokens, n_vocab, end_of_text: None })
    }

    /// Reads a vocabulary: a line for each token with its bytes in base64, a space, and its id. The 256
    /// single bytes and `<|endoftext|>` must be among them, and the ids be 0, 1, 2, … in any order. Empty
    /// lines are passed over, as tiktoken does. A file in which each token is one character, in Unicode's order, is a
    /// vocabulary of characters.
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
        let text = text().with_context(|| format!("{name}: it cannot be read as a vocabulary"))?;
        Self::parse(&name, &text)
    }

    fn parse(name: &str, text: &str) -> Result<Self> {
        Self::try_parse(name, text).with_context(|| name.to_string())
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
        if let Some(characters) = characters_of(&ranks) {
            return Self::of_characters(name, characters);
        }
        Self::of_ranks(name, ranks)
    }

    /// The byte pairs with these tokens, in the order in which they were learned; `<|endoftext|>` comes behind them.
    ///
    /// # Errors
    /// If a single byte is missing, or a token is there twice.
    pub fn of_byte_pairs(name: &str, tokens: impl IntoIterator<Item = Vec<u8>>) -> Result<Self> {
        let tokens = tokens.into_iter().chain([END_OF_TEXT.into()]);
        let mut ranks = FxHashMap::default();
        for (id, token) in (0..).zip(tokens) {
            let twice = ranks.insert(token, id).is_some();
            ensure!(!twice, "the token with the id {id} was there before");
        }
        Self::of_ranks(name, ranks)
    }

    fn of_ranks(name: &str, mut ranks: FxHashMap<Vec<u8>, u32>) -> Result<Self> {
        let n_vocab = ranks.len() as i64;
        for byte in 0..=255 {
            ensure!(
                ranks.contains_key(&[byte][..]),
                "there is no token for the byte {byte}, so not every text could be written with it"
            );
        }
        let Some(end_of_text) = ranks.remove(END_OF_TEXT.as_bytes()) else {
            bail!(
                "there is no token {END_OF_TEXT} to stand between two documents; add the line `{} {n_vocab}`",
                BASE64_STANDARD.encode(END_OF_TEXT)
            )
        };
        let special = FxHashMap::from_iter([(END_OF_TEXT.to_string(), end_of_text)]);
        Ok(Self {
            name: name.into(),
            n_vocab,
            end_of_text: Some(end_of_text.into()),
            tokens: Tokens::Pairs(CoreBPE::new(ranks, special, PIECES)?),
        })
    }

    /// The same under another name.
    pub fn called(self, name: &str) -> Self {
        Self { name: name.into(), ..self }
    }

    /// V: how many ids there are, `<|endoftext|>` included.
    pub fn n_vocab(&self) -> i64 {
        self.n_vocab
    }

    /// The id of `<|endoftext|>`, the token between two documents; characters have none.
    pub fn end_of_text(&self) -> Option<i64> {
        self.end_of_text
    }

    /// Refuses a text that cannot be written with these tokens; with byte pairs every text can.
    ///
    /// # Errors
    /// The first character that is not among the tokens.
    pub fn expect_known(&self, text: &str) -> Result<()> {
        if let Tokens::Characters(characters) = &self.tokens {
            let unknown = text.chars().find(|c| characters.binary_search(c).is_err());
            if let Some(c) = unknown {
                bail!("the character {c:?} is not among the {} of {}", self.n_vocab, self.name);
            }
        }
        Ok(())
    }

    /// The tokens as a file that [`Self::open`] reads.
    pub fn to_file(&self) -> String {
        let line = |id| format!("{} {id}\n", BASE64_STANDARD.encode(self.bytes(id)));
        (0..self.n_vocab).map(line).collect()
    }

    /// Whether each token is a character, and text is not cut into longer pieces.
    pub fn is_of_characters(&self) -> bool {
        matches!(self.tokens, Tokens::Characters(_))
    }

    /// What `--tokenizer` calls it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The ids of a text. Where it says `<|endoftext|>`, that is one token, if there is such a token.
    ///
    /// # Panics
    /// If the text has a character that is not among the tokens: see [`Self::expect_known`].
    pub fn encode(&self, text: &str) -> Vec<i64> {
        match &self.tokens {
            Tokens::Pairs(bpe) => {
                let between = self.end_of_text.expect("byte pairs have it");
                let mut ids = Vec::new();
                for (i, text) in text.split(END_OF_TEXT).enumerate() {
                    ids.extend((i > 0).then_some(between));
                    ids.extend(ordinary(bpe, text));
                }
                ids
            }
            Tokens::Characters(characters) => {
                let id = |c| match characters.binary_search(&c) {
                    Ok(id) => id as i64,
                    Err(_) => {
                        panic!("the character {c:?} is not among the tokens of {}", self.name)
                    }
                };
                text.chars().map(id).collect()
            }
        }
    }

    /// The ids of a document for a shard: `<|endoftext|>` if there is one, then its text, in which `<|endoftext|>` is a
    /// text like any other.
    ///
    /// # Panics
    /// As [`Self::encode`]; and if [`Self::n_vocab`] is above 65,536, so that an id may not fit.
    pub fn encode_document(&self, text: &str) -> Vec<u16> {
        let text: Vec<i64> = match &self.tokens {
            Tokens::Pairs(bpe) => ordinary(bpe, text).collect(),
            Tokens::Characters(_) => self.encode(text),
        };
        let tokens = self.end_of_text.into_iter().chain(text);
        tokens
            .map(|token| token.try_into().expect("a vocabulary of 65,536 tokens at most"))
            .collect()
    }

    /// A number that tells vocabularies apart, whatever they are called: FNV-1a of the lengths and bytes of all tokens
    /// in the order of their ids.
    pub fn fingerprint(&self) -> u64 {
        let mut hash = 0xcbf2_9ce4_8422_2325;
        for id in 0..self.n_vocab {
            let token = self.bytes(id);
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
        let bytes: Vec<u8> = ids.iter().flat_map(|&id| self.bytes(id)).collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The bytes of a token; of `<|endoftext|>`, those of its name.
    ///
    /// # Panics
    /// If the id is not below [`Self::n_vocab`].
    pub fn bytes(&self, id: i64) -> Vec<u8> {
        match &self.tokens {
            Tokens::Pairs(bpe) => bpe.decode_bytes(&[id as u32]).expect("an id below n_vocab"),
            Tokens::Characters(characters) => characters[id as usize].to_string().into_bytes(),
        }
    }
}

/// The ids of a text in which `<|endoftext|>` is nothing special.
fn ordinary(bpe: &CoreBPE, text: &str) -> impl Iterator<Item = i64> {
    let ids = parts(text).into_iter().flat_map(|part| bpe.encode_ordinary(part));
    ids.map(i64::from)
}

/// The text cut where [`PIECES`] cuts it too, around each long run of white space. By its rule the last of these
/// characters goes with the word that follows; the regular expression finds it by going back through all others, and gives
/// up after a million.
fn parts(text: &str) -> Vec<&str> {
    const LONG: usize = 1000;
    let (mut parts, mut begin) = (Vec::new(), 0);
    let (mut run, mut last, mut n) = (0, 0, 0); // the run's beginning, its last character, and how many it has
    let end_of_text = [(text.len(), 'a')];
    for (at, c) in text.char_indices().chain(end_of_text) {
        if c.is_whitespace() {
            run = if n == 0 { at } else { run };
            (last, n) = (at, n + 1);
            continue;
        }
        if n > LONG {
            let end = if at == text.len() { at } else { last };
            parts.extend([&text[begin..run], &text[run..end]]);
            begin = end;
        }
        n = 0;
    }
    parts.push(&text[begin..]);
    parts
}

/// The characters, if each token is one and the order of their ids is Unicode's.
fn characters_of(ranks: &FxHashMap<Vec<u8>, u32>) -> Option<Vec<char>> {
    let character = |(token, id): (&Vec<u8>, &u32)| {
        let mut chars = std::str::from_utf8(token).ok()?.chars();
        chars.next().filter(|_| chars.next().is_none()).map(|c| (*id, c))
    };
    let mut characters: Vec<(u32, char)> = ranks.iter().map(character).collect::<Option<_>>()?;
    characters.sort_unstable();
    let characters: Vec<char> = characters.into_iter().map(|(_, c)| c).collect();
    characters.is_sorted().then_some(characters)
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
            assert_eq!(ids.iter().filter(|&&id| Some(id) == tokenizer.end_of_text()).count(), 1);
        }
        assert_eq!(Tokenizer::parse("", &smallest()).unwrap().n_vocab(), 257);
    }

    /// tiktoken's own way has no limit below a million.
    #[test]
    fn long_runs_of_white_space_are_cut_as_short_ones_are() {
        let Tokens::Pairs(bpe) = Tokenizer::load("gpt2").unwrap().tokens else { panic!() };
        for run in
            [" ".repeat(3000), "\n".repeat(3000), " \n".repeat(2000), "\u{3000} ".repeat(2000)]
        {
            for around in
                [("", ""), ("a", ""), ("", "b"), ("a b", "b c"), ("a\n", ".<|endoftext|>")]
            {
                let text = format!("{}{run}{}{run}", around.0, around.1);
                let ids: Vec<i64> = ordinary(&bpe, &text).collect();
                let expected = bpe.encode_ordinary(&text);
                assert_eq!(ids, expected.into_iter().map(i64::from).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn the_fables_vocabulary_is_small_and_ends_in_the_token_between_stories() {
        let tokenizer = Tokenizer::load("fables").unwrap();
        assert_eq!((tokenizer.n_vocab(), tokenizer.end_of_text()), (1024, Some(1023)));
    }

    #[test]
    fn a_vocabulary_is_read_as_it_was_written() {
        let text = "Füchse, 🦊\nfoxes";
        let characters = Tokenizer::of_characters("", text.chars()).unwrap();
        assert_eq!((characters.n_vocab(), characters.end_of_text()), (13, None));
        for tokenizer in [characters, Tokenizer::load("fables").unwrap()] {
            let again = Tokenizer::parse("", &tokenizer.to_file()).unwrap();
            assert_eq!(again.fingerprint(), tokenizer.fingerprint());
            assert_eq!(again.encode(text), tokenizer.encode(text));
            assert_eq!(again.decode(&again.encode(text)), text);
        }
    }

    #[test]
    fn a_character_that_is_no_token_is_named() {
        let tokenizer = Tokenizer::of_characters("abc.tiktoken", "cab".chars()).unwrap();
        assert_eq!(tokenizer.encode("abc"), [0, 1, 2]);
        let error = tokenizer.expect_known("bad").unwrap_err().to_string();
        assert!(error.contains("'d'") && error.contains("abc.tiktoken"), "{error}");
        assert!(Tokenizer::load("gpt2").unwrap().expect_known("any 🦊").is_ok());
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
