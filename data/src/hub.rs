//! Data sets of Hugging Face's hub whose text is in parquet files, of some hundred megabytes or a few gigabytes.
//!
//! One after the other they are downloaded, read, and taken away, so that the disk needs room for two of them and the
//! shards.

use std::{
    env, fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, anyhow};
use files::Download;
use lab::Tokenizer;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    rows::{Border, Rows},
    shards::{
        Chunks, Job, Place, SHARD_TOKENS, Source, expect_some_to_train_on, read_json, write_json,
    },
};

const HUB: &str = "https://huggingface.co";

/// Which files there are, so that whoever goes on need not ask again.
const FILES: &str = "files.json";

/// Where the hub has a data set.
pub struct HubSet {
    /// What its folder in `data/` is called.
    pub folder: &'static str,
    /// What the names of its shards begin with.
    pub shards: &'static str,
    pub repository: &'static str,
    /// The folder in it that has the parquet files.
    pub files: &'static str,
    /// Which share of it, at its beginning, is to validate on; `None`: the first shard is.
    pub val_share: Option<f64>,
}

/// How to download.
#[derive(clap::Args)]
pub struct HubFlags {
    /// Keep the files that were downloaded
    #[arg(long)]
    pub keep: bool,

    /// Download from this hub, for example a mirror that your network can reach [default: the
    /// environment's HF_ENDPOINT, or else https://huggingface.co]
    #[arg(long, value_name = "URL")]
    pub endpoint: Option<String>,

    /// Wait this long for a connection, and three times as long when the hub falls silent
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub timeout: u64,
}

/// How to prepare one of these data sets.
#[derive(clap::Args)]
pub struct HubArgs {
    /// Put the shards into this folder instead [default: the one of its name in the repository's data/]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,

    /// Stop after so many tokens, those to validate on among them
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(2..))]
    tokens: Option<u64>,

    /// Tokens in a shard
    #[arg(long, value_name = "N", default_value_t = SHARD_TOKENS)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=1 << 32))]
    shard_tokens: u64,

    /// The tokens: gpt2's 50,257; fables, the 1,024 that step04 learns; or a file that step04 has written
    #[arg(long, value_name = "NAME", default_value = "gpt2")]
    tokenizer: String,

    #[command(flatten)]
    hub: HubFlags,
}

impl HubSet {
    /// Prepares the shards, unless they are there.
    ///
    /// # Errors
    /// When a file cannot be downloaded or is not what the hub promised, the disk is full, or the folder has another
    /// data set; says how to go on.
    pub fn prepare(&'static self, args: &HubArgs) -> Result<()> {
        let folder = match &args.out {
            Some(folder) => folder.clone(),
            None => crate::data_folder()?.join(self.folder),
        };
        if self.val_share.is_none() {
            expect_some_to_train_on(args.tokens, args.shard_tokens)?;
        }
        let tokenizer = Tokenizer::load(&args.tokenizer)?;
        let source = HubFiles::new(self, &args.hub, &folder)?;
        let job = Job {
            name: self.shards,
            folder: &folder,
            tokenizer: &tokenizer,
            keeps_vocabulary: false,
            needs_val: false,
            shard_tokens: args.shard_tokens,
            most_tokens: args.tokens,
            settings: vec![("files", source.description())],
        };
        job.run(&source)
    }
}

/// A file of the data set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct ParquetFile {
    /// In the repository.
    path: String,
    size: u64,
    sha256: String,
}

/// Where a data set's files come from, and where they go.
struct Hub {
    endpoint: String,
    timeout: Duration,
    folder: PathBuf,
    data_set: &'static HubSet,
}

impl Hub {
    fn new(data_set: &'static HubSet, flags: &HubFlags, folder: PathBuf) -> Self {
        let endpoint = flags.endpoint.clone().or_else(|| env::var("HF_ENDPOINT").ok());
        let endpoint = endpoint.as_deref().unwrap_or(HUB).trim_end_matches('/').to_string();
        Self { endpoint, timeout: Duration::from_secs(flags.timeout), folder, data_set }
    }

    /// The files of the data set, in the order of their names: as the hub has them now, or had them when this folder was
    /// begun.
    fn files(&self) -> Result<Vec<ParquetFile>> {
        let noted = self.folder.join(FILES);
        if let Some(files) = read_json(&noted)? {
            return Ok(files);
        }
        let listing = self.folder.join("listing.json");
        let HubSet { repository, files, .. } = self.data_set;
        let url = format!("{}/api/datasets/{repository}/tree/main/{files}", self.endpoint);
        self.download(&url, &listing, None)?;
        let files = read_json(&listing)?.and_then(|listing| parquet_files(&listing));
        fs::remove_file(&listing)
            .with_context(|| format!("cannot take away {}", listing.display()))?;
        let files = files.with_context(|| {
            format!("{url} does not list parquet files; name another hub with --endpoint")
        })?;
        write_json(&noted, &files)?;
        Ok(files)
    }

    fn download(&self, url: &str, to: &Path, sha256: Option<&str>) -> Result<()> {
        let download = Download { url, to, sha256, connect_timeout: self.timeout };
        let HubSet { repository, files, .. } = self.data_set;
        let done = if sha256.is_some() { download.resume() } else { download.run() };
        done.map_err(|error| {
            anyhow!(
                "{error:#}; give the same command again to go on, name another hub with --endpoint, or get the file by \
                 hand from {HUB}/datasets/{repository}/tree/main/{files} and save it as {}",
                to.display()
            )
        })
    }
}

/// What the hub's answer says of the parquet files; none if it does not.
fn parquet_files(listing: &Value) -> Option<Vec<ParquetFile>> {
    let file = |entry: &Value| {
        let path = entry["path"].as_str()?;
        Some(ParquetFile {
            path: path.into(),
            size: entry["size"].as_u64()?,
            sha256: entry["lfs"]["oid"].as_str()?.into(),
        })
    };
    let is_parquet =
        |entry: &&Value| entry["path"].as_str().is_some_and(|path| path.ends_with(".parquet"));
    let entries = listing.as_array()?.iter().filter(is_parquet);
    let mut files: Vec<ParquetFile> = entries.map(file).collect::<Option<_>>()?;
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Some(files).filter(|files| !files.is_empty())
}

/// The files of a data set on the hub, which are downloaded one after the other.
pub struct HubFiles {
    hub: Hub,
    files: Vec<ParquetFile>,
    keep: bool,
}

impl HubFiles {
    /// Asks the hub which files there are, or the folder, where it was begun before.
    ///
    /// # Errors
    /// When the hub cannot be reached, or does not list parquet files.
    pub fn new(data_set: &'static HubSet, flags: &HubFlags, folder: &Path) -> Result<Self> {
        let hub = Hub::new(data_set, flags, folder.into());
        let files = hub.files()?;
        Ok(Self { hub, files, keep: flags.keep })
    }

    /// What tells whether they are still the same.
    pub fn description(&self) -> Value {
        json!(self.files)
    }

    /// What of a file is to validate on, where that is a share of the data set's beginning.
    fn border(&self, file: usize) -> Option<Border> {
        let share = self.hub.data_set.val_share?;
        let whole: u64 = self.files.iter().map(|file| file.size).sum();
        let before: u64 = self.files[..file].iter().map(|file| file.size).sum();
        let byte = ((whole as f64 * share) as u64).saturating_sub(before);
        Some(Border { byte, splits: ["val", "train"] })
    }

    /// Where a file is while it is read.
    fn path(&self, file: usize) -> PathBuf {
        let path = &self.files[file].path;
        let name = path.rsplit('/').next().unwrap_or(path);
        self.hub.folder.join("parquet").join(name)
    }
}

impl Source for HubFiles {
    fn name(&self, file: usize) -> String {
        self.path(file).display().to_string()
    }

    fn sizes(&self) -> Vec<u64> {
        self.files.iter().map(|file| file.size).collect()
    }

    fn open(&self, from: Place) -> Result<Chunks<'_>> {
        let ParquetFile { path, size, sha256 } = &self.files[from.file];
        let local = self.path(from.file);
        // It has its name only once it is whole and its checksum right.
        if !fs::metadata(&local).is_ok_and(|there| there.len() == *size) {
            let Hub { endpoint, data_set, .. } = &self.hub;
            let url = format!("{endpoint}/datasets/{}/resolve/main/{path}", data_set.repository);
            self.hub.download(&url, &local, Some(sha256))?;
        }
        let name = self.name(from.file);
        let rows = Rows::open(&local, *size, "text", from, self.border(from.file))
            .with_context(|| name.clone())?;
        Ok(Box::new(rows.map(move |chunk| chunk.with_context(|| name.clone()))))
    }

    fn done(&self, before: usize) {
        if self.keep {
            return;
        }
        for file in 0..before {
            fs::remove_file(self.path(file)).ok(); // most are gone already
        }
        fs::remove_dir(self.hub.folder.join("parquet")).ok(); // where it is empty
    }
}
