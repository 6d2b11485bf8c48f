use anyhow::{Context, Result, bail, ensure};
use data::{
    fineweb_edu::FINEWEB_EDU,
    hub::{HubFiles, HubFlags, HubSet},
    one_file::FileFlags,
    openwebtext::OPENWEBTEXT,
    shakespeare,
    shards::{SHARD_TOKENS, Source, expect_some_to_train_on},
    text::Texts,
};
use lab::Tokenizer;
use nanogpt::{
    config::{nearest, quoted},
    prepare::{Preparation, Vocabulary, tell_fables},
};
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
};

/// What there is by name.
const DATA_SETS: [&str; 5] =
    ["fables", "shakespeare_char", "shakespeare", "openwebtext", "fineweb-edu"];

/// What nanoGPT takes of Shakespeare to validate on.
const VAL_SHARE: f64 = 0.1;

const AFTER_HELP: &str = "\
Data sets:
  fables            stories told on the spot, in 1,024 tokens, with a loss that no model can beat
  shakespeare_char  Tiny Shakespeare (1.1 MB), in its 65 characters, as nanoGPT has it
  shakespeare       the same in GPT-2's tokens
  openwebtext       what nanoGPT trains GPT-2 on: 24 GB to download, 18 GB of tokens
  fineweb-edu       what build-nanogpt trains GPT-2 on: 28 GB to download, 20 GB of tokens

Text of your own: .txt, .md and other plain text (UTF-8), in which lines that say <|endoftext|>
separate documents; .jsonl and .parquet, where each line or row is one. Without --vocab it becomes
characters below 2 MB, 4,096 learned tokens below 500 MB, and GPT-2's 50,257 from there on.

A run that is stopped goes on where it was when you give the same command again.";

/// Make a data set of a text: tokens to train on and to validate on
#[derive(clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct Args {
    /// A data set's name, or files of text and folders of them
    #[arg(required = true, value_name = "WHAT")]
    what: Vec<String>,

    /// Where to [default: data/<its name>]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,

    /// The tokens: characters, gpt2, fables, or a file like data/*/vocab.tiktoken
    #[arg(long, value_name = "NAME", conflicts_with = "vocab_size")]
    vocab: Option<String>,

    /// Learn a vocabulary of N tokens from the text (of a long one, from 100 MB)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(257..=65_536))]
    vocab_size: Option<u32>,

    /// What a line of JSON or a parquet file calls the text [default: text]
    #[arg(long, value_name = "NAME")]
    field: Option<String>,

    /// Which share of your text, at its end, is to validate on [default: 0.1]
    #[arg(long, value_name = "SHARE", value_parser = share)]
    val_share: Option<f64>,

    /// Tokens in a file [default: 100000000]; fineweb-edu's first is to validate on
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1 << 32))]
    shard_tokens: Option<u64>,

    /// Stop after so many tokens of openwebtext or fineweb-edu
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(2..))]
    tokens: Option<u64>,

    /// Keep the files of openwebtext or fineweb-edu that were downloaded
    #[arg(long)]
    keep: bool,

    /// Download them from this hub [default: HF_ENDPOINT, or https://huggingface.co]
    #[arg(long, value_name = "URL")]
    endpoint: Option<String>,

    /// Download Shakespeare from this address
    #[arg(long)]
    url: Option<String>,

    /// Wait this long for a connection, and three times as long in silence
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout: u64,
}

fn share(text: &str) -> Result<f64> {
    let share = text.parse().ok().filter(|&share| 0.0 < share && share < 1.0);
    share.context("choose a number between 0 and 1")
}

pub fn run(args: &Args) -> Result<()> {
    let first = args.what[0].as_str();
    let name = if DATA_SETS.contains(&first) { first.into() } else { name_of(Path::new(first))? };
    ensure!(
        args.what.len() == 1 || args.what.iter().all(|what| !DATA_SETS.contains(&what.as_str())),
        "{}: prepare data sets one at a time (a file of that name is ./{0})",
        args.what.iter().find(|what| DATA_SETS.contains(&what.as_str())).unwrap_or(&name)
    );
    args.expect_flags_of(first)?;
    let folder = args.out.clone().unwrap_or_else(|| Path::new("data").join(&name));
    ensure!(!folder.is_file(), "--out {}: this is a file; name a folder", folder.display());
    let (vocabulary, tokenizer) = match first {
        "fables" => {
            let vocabulary = args.vocabulary(Vocabulary::Fables);
            let tokenizer = tell_fables(&folder, &vocabulary)?;
            (vocabulary, tokenizer)
        }
        "shakespeare_char" => args.shakespeare(&name, &folder, Vocabulary::Characters)?,
        "shakespeare" => args.shakespeare(&name, &folder, Vocabulary::Gpt2)?,
        "openwebtext" => args.of_the_hub(&name, &folder, &OPENWEBTEXT)?,
        "fineweb-edu" => args.of_the_hub("edufineweb", &folder, &FINEWEB_EDU)?,
        _ => args.texts(&name, &folder)?,
    };
    println!("its vocabulary: {}", vocabulary.describe(&tokenizer));
    let dataset = if args.out.is_some() { folder.display().to_string() } else { name };
    println!("`nanogpt train CONFIG.toml --dataset {}` trains on it", quoted(&dataset));
    Ok(())
}

/// What the data set of a file or folder is called.
fn name_of(path: &Path) -> Result<String> {
    let shown = path.display();
    let near = || nearest(&shown.to_string(), DATA_SETS.map(String::from));
    let path = fs::canonicalize(path).with_context(|| match near() {
        Some(name) => format!("cannot read {shown} (or did you mean the data set {name}?)"),
        None => {
            format!("cannot read {shown}, and no data set ({}) is called so", DATA_SETS.join(", "))
        }
    })?;
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let name = stem.trim_start_matches('.');
    Ok(if name.is_empty() { "text".into() } else { name.into() })
}

impl Args {
    /// What was asked for, or the default.
    fn vocabulary(&self, default: Vocabulary) -> Vocabulary {
        match (&self.vocab, self.vocab_size) {
            (Some(name), _) => Vocabulary::named(name),
            (None, Some(n)) => Vocabulary::Learned { n: n as usize, exactly: true },
            (None, None) => default,
        }
    }

    /// That no flag was given which has no meaning for this text.
    fn expect_flags_of(&self, what: &str) -> Result<()> {
        let is_own = !DATA_SETS.contains(&what);
        let is_large = ["openwebtext", "fineweb-edu"].contains(&what);
        let is_shakespeare = what.starts_with("shakespeare");
        let flags = [
            ("--field", self.field.is_some(), is_own, "text of your own"),
            ("--val-share", self.val_share.is_some(), is_own, "text of your own"),
            ("--tokens", self.tokens.is_some(), is_large, "openwebtext and fineweb-edu"),
            ("--keep", self.keep, is_large, "openwebtext and fineweb-edu"),
            ("--endpoint", self.endpoint.is_some(), is_large, "openwebtext and fineweb-edu"),
            ("--url", self.url.is_some(), is_shakespeare && !is_own, "Shakespeare"),
            ("--shard-tokens", self.shard_tokens.is_some(), what != "fables", "all but the fables"),
        ];
        for (flag, is_given, has_meaning, whose) in flags {
            ensure!(
                !is_given || has_meaning,
                "{flag} is for {whose}, and {what} has no use for it"
            );
        }
        Ok(())
    }

    /// nanoGPT's: one text as it stands, of which the last tenth of the characters is to validate on.
    fn shakespeare(
        &self,
        name: &str,
        folder: &Path,
        default: Vocabulary,
    ) -> Result<(Vocabulary, Tokenizer)> {
        let path = folder.join(shakespeare::FILE.name);
        ensure!(
            !path.is_file() || shakespeare::FILE.is_at(&path)?,
            "{} is there but is not Tiny Shakespeare: move it away, or prepare it as a text of your own",
            path.display()
        );
        let path = shakespeare::FILE.fetch(&FileFlags {
            out: Some(folder.into()),
            url: self.url.clone(),
            sha256: None,
            timeout: self.timeout,
            force: false,
        })?;
        let texts = Texts::new(&[path], "", VAL_SHARE)?.as_it_stands(VAL_SHARE)?;
        let settings = vec![("sha256", shakespeare::FILE.sha256.into())];
        self.prepare(name, folder, self.vocabulary(default), settings, &texts)
    }

    fn of_the_hub(
        &self,
        name: &str,
        folder: &Path,
        set: &'static HubSet,
    ) -> Result<(Vocabulary, Tokenizer)> {
        let vocabulary = self.vocabulary(Vocabulary::Gpt2);
        if matches!(vocabulary, Vocabulary::Characters | Vocabulary::Learned { .. }) {
            bail!(
                "{}: the text is read as it is downloaded, so that its vocabulary must be there before; \
                 choose gpt2, fables or a file",
                self.vocab_size
                    .map_or("--vocab characters".into(), |n| format!("--vocab-size {n}"))
            );
        }
        if set.val_share.is_none() {
            expect_some_to_train_on(self.tokens, self.shard_tokens.unwrap_or(SHARD_TOKENS))?;
        }
        let Self { keep, endpoint, timeout, .. } = self;
        let flags = HubFlags { keep: *keep, endpoint: endpoint.clone(), timeout: *timeout };
        let files = HubFiles::new(set, &flags, folder)?;
        let settings = vec![("files", files.description())];
        self.prepare(name, folder, vocabulary, settings, &files)
    }

    fn texts(&self, name: &str, folder: &Path) -> Result<(Vocabulary, Tokenizer)> {
        let paths: Vec<PathBuf> = self.what.iter().map(PathBuf::from).collect();
        let field = self.field.as_deref().unwrap_or("text");
        let val_share = self.val_share.unwrap_or(VAL_SHARE);
        let mut texts = Texts::new(&paths, field, val_share)?;
        let vocabulary = self.vocabulary(Vocabulary::for_text(texts.bytes()));
        if !vocabulary.tells_documents_apart()? {
            texts = texts.as_it_stands(val_share)?;
        }
        let settings = vec![
            ("files", texts.description()),
            ("field", field.into()),
            ("val-share", val_share.into()),
        ];
        self.prepare(name, folder, vocabulary, settings, &texts)
    }

    fn prepare(
        &self,
        name: &str,
        folder: &Path,
        vocabulary: Vocabulary,
        settings: Vec<(&'static str, Value)>,
        source: &dyn Source,
    ) -> Result<(Vocabulary, Tokenizer)> {
        let preparation = Preparation {
            name,
            folder,
            vocabulary: &vocabulary,
            shard_tokens: self.shard_tokens.unwrap_or(SHARD_TOKENS),
            most_tokens: self.tokens,
            settings,
        };
        let tokenizer = preparation.run(source)?;
        Ok((vocabulary, tokenizer))
    }
}
