//! Tiny Shakespeare: 40,000 lines from Shakespeare's plays in one text file, the corpus of
//! Karpathy's char-rnn and of many lectures since.

use std::path::Path;

use anyhow::Result;
use files::sha256_of;
use lab::Tokenizer;

use crate::{
    one_file::{FileFlags, OneFile},
    shards::{Job, SHARD_TOKENS},
    text::Texts,
};

/// The text.
pub const FILE: OneFile = OneFile {
    folder: "shakespeare",
    name: "input.txt",
    url: "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt",
    sha256: "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
};

const VAL_SHARE: f64 = 0.1;

/// Tiny Shakespeare (1.1 MB): the corpus that the lessons read with --corpus shakespeare
///
/// Becomes data/shakespeare/input.txt. Its checksum is compared, so that every reader trains on the
/// same 1,115,394 characters. A file that is already there is kept: if it is the right one, there is
/// nothing to do; if not, you are told so.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    file: FileFlags,

    /// Also make shards of tokens, in the subfolder of this name: gpt2's 50,257 (`gpt2`), the 1,024 that
    /// step04 learns from the fables (`fables`), or those in a file that step04 has written
    #[arg(long, value_name = "NAME")]
    tokenizer: Option<String>,
}

/// Downloads the corpus, unless it is already there, and makes shards of it if they are asked for.
///
/// # Errors
/// See [`OneFile::fetch`].
pub fn run(args: &Args) -> Result<()> {
    let tokenizer = args.tokenizer.as_deref().map(Tokenizer::load).transpose()?;
    let path = FILE.fetch(&args.file)?;
    match tokenizer {
        Some(tokenizer) => tokenise(&path, &tokenizer),
        None => Ok(()),
    }
}

/// The last tenth of the lines is to validate on, as in nanoGPT.
fn tokenise(path: &Path, tokenizer: &Tokenizer) -> Result<()> {
    let name = Path::new(tokenizer.name()).file_stem().unwrap_or_default();
    let job = Job {
        name: "shakespeare",
        folder: &path.with_file_name(name),
        tokenizer,
        keeps_vocabulary: false,
        needs_val: false,
        shard_tokens: SHARD_TOKENS,
        most_tokens: None,
        settings: vec![("sha256", sha256_of(path)?.into())],
    };
    job.run(&Texts::new(&[path.to_owned()], "", VAL_SHARE)?)
}
