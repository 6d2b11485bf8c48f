//! Whether a checkpoint's tokens are GPT-2's.

use super::{FETCH, read, read_json};
use anyhow::{Result, bail, ensure};
use serde::Deserialize;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// The token between two documents, the last of GPT-2's. A tokenizer may have it apart from the others.
const END_OF_TEXT: usize = 50_256;

/// Files of the library sentencepiece, whose tokens are never GPT-2's.
const SENTENCEPIECE: [&str; 4] =
    ["spiece.model", "spm.model", "sentencepiece.bpe.model", "tokenizer.model"];

const OTHER: &str = "the model was trained with another tokenizer";

/// Checks that the ids of GPT-2's tokenizer mean in a checkpoint of `vocab_size` tokens what they mean
/// in GPT-2: there are enough of them, and if tokenizer files lie beside the weights at `path`, a
/// folder or a file, their first 50,257 tokens are GPT-2's. Tokens beyond these may be anything.
///
/// # Errors
/// One sentence that names `path` when the vocabulary is too small; the file and the first token
/// that differs when it is another one; or the file, when it cannot be read.
pub fn expect_gpt2_tokens(path: &Path, vocab_size: i64) -> Result<()> {
    let needed = END_OF_TEXT + 1;
    ensure!(
        vocab_size >= needed as i64,
        "{}: this checkpoint has {vocab_size} tokens, and GPT-2's tokenizer {needed}: {OTHER}; {FETCH}",
        path.display()
    );
    let folder = if path.is_dir() { path } else { path.parent().unwrap_or(Path::new("")) };
    let tokenizers = tokenizers_in(folder)?;
    if tokenizers.is_empty() {
        return Ok(());
    }
    let gpt2 = gpt2_tokens()?;
    tokenizers.iter().try_for_each(|tokenizer| tokenizer.expect(&gpt2))
}

/// What a tokenizer's file says.
struct Tokenizer {
    path: PathBuf,
    /// BPE, WordPiece, …; empty where the file does not say it.
    kind: String,
    tokens: BTreeMap<usize, String>,
}

impl Tokenizer {
    /// `more` tokens may stand elsewhere; of two with the same id the former counts.
    fn new(
        path: PathBuf,
        kind: String,
        vocabulary: Vocabulary,
        more: Vec<(usize, String)>,
    ) -> Self {
        let mut tokens = BTreeMap::new();
        for (id, token) in vocabulary.by_id().into_iter().chain(more) {
            tokens.entry(id).or_insert(token);
        }
        Self { path, kind, tokens }
    }

    /// Checks that the first of the tokens are these.
    fn expect(&self, gpt2: &[String]) -> Result<()> {
        let path = self.path.display();
        for (id, ours) in gpt2.iter().enumerate() {
            match self.tokens.get(&id) {
                Some(theirs) if theirs == ours => {}
                None if id == END_OF_TEXT => {}
                Some(theirs) => {
                    let theirs: String = theirs.chars().take(40).collect();
                    bail!(
                        "{path}: token {id} is {theirs:?}, and GPT-2's is {ours:?}: {OTHER}; {FETCH}"
                    );
                }
                None => {
                    bail!(
                        "{path}: there is no token {id}, and GPT-2's is {ours:?}: {OTHER}; {FETCH}"
                    )
                }
            }
        }
        let kind = &self.kind;
        ensure!(
            matches!(kind.as_str(), "" | "BPE"),
            "{path}: this tokenizer is a {kind:?}, and GPT-2's a BPE: {OTHER}; {FETCH}"
        );
        Ok(())
    }
}

/// The tokenizers that lie in a folder.
fn tokenizers_in(folder: &Path) -> Result<Vec<Tokenizer>> {
    let file = |name: &str| Some(folder.join(name)).filter(|path| path.is_file());
    if let Some(path) = SENTENCEPIECE.into_iter().find_map(file) {
        bail!("{}: this is a vocabulary of sentencepiece: {OTHER}; {FETCH}", path.display());
    }
    let mut found = Vec::new();
    if let Some(path) = file("tokenizer.json") {
        let TokenizerJson { model, added_tokens } = read_json(&path, "tokenizer in JSON")?;
        let added = added_tokens.into_iter().map(|token| (token.id, token.content)).collect();
        found.push(Tokenizer::new(path, model.kind, model.vocab, added));
    }
    for path in ["vocab.json", "encoder.json"].into_iter().filter_map(file) {
        let added = match file("added_tokens.json") {
            Some(path) => read_json::<Vocabulary>(&path, "list of tokens in JSON")?.by_id(),
            None => Vec::new(),
        };
        let vocabulary = read_json(&path, "vocabulary in JSON")?;
        found.push(Tokenizer::new(path, String::new(), vocabulary, added));
    }
    if let Some(path) = file("vocab.txt") {
        let text = read(&path)?;
        let tokens =
            String::from_utf8_lossy(&text).lines().map(str::to_owned).enumerate().collect();
        found.push(Tokenizer { path, kind: "WordPiece".into(), tokens });
    }
    Ok(found)
}

/// A `tokenizer.json`, as far as it is looked at.
#[derive(Deserialize)]
struct TokenizerJson {
    model: Model,
    #[serde(default)]
    added_tokens: Vec<AddedToken>,
}

#[derive(Deserialize)]
struct Model {
    #[serde(rename = "type", default)]
    kind: String,
    vocab: Vocabulary,
}

#[derive(Deserialize)]
struct AddedToken {
    id: usize,
    content: String,
}

/// Tokens with their ids, or in the order of these, each with how likely it is.
#[derive(Deserialize)]
#[serde(untagged)]
enum Vocabulary {
    Ids(BTreeMap<String, usize>),
    Likelihoods(Vec<(String, f64)>),
}

impl Vocabulary {
    fn by_id(self) -> Vec<(usize, String)> {
        match self {
            Self::Ids(ids) => ids.into_iter().map(|(token, id)| (id, token)).collect(),
            Self::Likelihoods(tokens) => {
                tokens.into_iter().map(|(token, _)| token).enumerate().collect()
            }
        }
    }
}

/// GPT-2's tokens in the order of their ids, spelled as in its `vocab.json`.
fn gpt2_tokens() -> Result<Vec<String>> {
    let tokenizer = tiktoken_rs::r50k_base()?;
    let spelling = byte_spelling();
    let spell = |id| {
        let bytes = tokenizer.decode_bytes(&[id])?;
        Ok(bytes.into_iter().map(|byte| spelling[usize::from(byte)]).collect())
    };
    (0..=END_OF_TEXT as u32).map(spell).collect()
}

/// The character that GPT-2's files write for each byte: the printable ones of Latin-1 as they are,
/// and for the others, a space or half a letter, the characters from `Ā` on.
pub fn byte_spelling() -> [char; 256] {
    let mut others = 'Ā'..;
    std::array::from_fn(|byte| match byte as u8 {
        byte @ (b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff) => char::from(byte),
        _ => others.next().expect("more characters than bytes"),
    })
}
