//! FineWeb-Edu's sample of 10 billion tokens, from Hugging Face's hub: what build-nanogpt trains GPT-2 on.
//!
//! <https://huggingface.co/datasets/HuggingFaceFW/fineweb-edu>. The text is in parquet files of about 2 GB. One after the
//! other they are downloaded, read, and taken away, so that the disk needs room for two of them and the shards.

use std::{
    env,
    fs::{self, File},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, anyhow, ensure};
use files::Download;
use lab::{Tokenizer, grouped};
use parquet::{
    column::reader::{ColumnReaderImpl, get_typed_column_reader},
    data_type::{ByteArray, ByteArrayType},
    file::reader::{FileReader, SerializedFileReader},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::shards::{
    Chunk, Chunks, Job, Piece, Place, SHARD_TOKENS, Source, read_json, write_json,
};

const HUB: &str = "https://huggingface.co";
const REPOSITORY: &str = "HuggingFaceFW/fineweb-edu";
/// The folder of the configuration sample-10BT.
const SAMPLE: &str = "sample/10BT";

/// Which files there are, so that whoever goes on need not ask again.
const FILES: &str = "files.json";

/// How much text is read at once, in bytes, and how many rows between two looks at how much it is.
const CHUNK: usize = 4 << 20;
const ROWS: usize = 100;

/// FineWeb-Edu, the sample of 10 billion tokens (28 GB to download, 20 GB of shards): what build-nanogpt trains GPT-2 on
///
/// Becomes data/fineweb-edu, with GPT-2's tokens in shards of 100 million: edufineweb_val_000000.npy, which is to
/// validate on, edufineweb_train_000001.npy, … A run that is stopped goes on where it was when you give the
/// same command again.
#[derive(clap::Args)]
pub struct Args {
    /// Put the shards into this folder instead [default: data/fineweb-edu in the repository]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,

    /// Stop after so many tokens, those to validate on among them
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(2..))]
    tokens: Option<u64>,

    /// Tokens in a shard; the first shard is to validate on
    #[arg(long, value_name = "N", default_value_t = SHARD_TOKENS)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=1 << 32))]
    shard_tokens: u64,

    /// The tokens: gpt2's 50,257; fables, the 1,024 that step04 learns; or a file that step04 has written
    #[arg(long, value_name = "NAME", default_value = "gpt2")]
    tokenizer: String,

    /// Keep the files that were downloaded
    #[arg(long)]
    keep: bool,

    /// Download from this hub, for example a mirror that your network can reach [default: the
    /// environment's HF_ENDPOINT, or else https://huggingface.co]
    #[arg(long, value_name = "URL")]
    endpoint: Option<String>,

    /// Wait this long for a connection, and three times as long when the hub falls silent
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout: u64,
}

/// Prepares the shards, unless they are there.
///
/// # Errors
/// When a file cannot be downloaded or is not what the hub promised, the disk is full, or the folder has another
/// data set; says how to go on.
pub fn run(args: &Args) -> Result<()> {
    let folder = match &args.out {
        Some(folder) => folder.clone(),
        None => crate::data_folder()?.join("fineweb-edu"),
    };
    if let Some(tokens) = args.tokens {
        ensure!(
            tokens > args.shard_tokens,
            "--tokens {}: the first {}, a shard, are to validate on, and none would be left to train on; take more, or \
             smaller shards with --shard-tokens",
            grouped(tokens as i64),
            grouped(args.shard_tokens as i64)
        );
    }
    let tokenizer = Tokenizer::load(&args.tokenizer)?;
    let hub = Hub::new(args, folder.clone());
    let files = hub.files()?;
    let settings = vec![("files", serde_json::to_value(&files)?)];
    let source = Parquet { hub, files, keep: args.keep };
    let job = Job {
        name: "edufineweb",
        folder: &folder,
        tokenizer: &tokenizer,
        shard_tokens: args.shard_tokens,
        most_tokens: args.tokens,
        settings,
    };
    job.run(&source)
}

// ---------------------------------------------------------------------------------------------------------------------
// The hub

/// A file of the data set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct ParquetFile {
    /// In the repository.
    path: String,
    size: u64,
    sha256: String,
}

struct Hub {
    endpoint: String,
    timeout: Duration,
    folder: PathBuf,
}

impl Hub {
    fn new(args: &Args, folder: PathBuf) -> Self {
        let endpoint = args.endpoint.clone().or_else(|| env::var("HF_ENDPOINT").ok());
        let endpoint = endpoint.as_deref().unwrap_or(HUB).trim_end_matches('/').to_string();
        Self { endpoint, timeout: Duration::from_secs(args.timeout), folder }
    }

    /// The files of the sample, in the order of their names: as the hub has them now, or had them when this folder was
    /// begun.
    fn files(&self) -> Result<Vec<ParquetFile>> {
        let noted = self.folder.join(FILES);
        if let Some(files) = read_json(&noted)? {
            return Ok(files);
        }
        let listing = self.folder.join("listing.json");
        let url = format!("{}/api/datasets/{REPOSITORY}/tree/main/{SAMPLE}", self.endpoint);
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
        let done = if sha256.is_some() { download.resume() } else { download.run() };
        done.map_err(|error| {
            anyhow!(
                "{error:#}; give the same command again to go on, name another hub with --endpoint, or get the file by \
                 hand from {HUB}/datasets/{REPOSITORY}/tree/main/{SAMPLE} and save it as {}",
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

// ---------------------------------------------------------------------------------------------------------------------
// Parquet

struct Parquet {
    hub: Hub,
    files: Vec<ParquetFile>,
    keep: bool,
}

impl Parquet {
    /// Where a file is while it is read.
    fn path(&self, file: usize) -> PathBuf {
        let path = &self.files[file].path;
        let name = path.rsplit('/').next().unwrap_or(path);
        self.hub.folder.join("parquet").join(name)
    }
}

impl Source for Parquet {
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
            let Hub { endpoint, .. } = &self.hub;
            let url = format!("{endpoint}/datasets/{REPOSITORY}/resolve/main/{path}");
            self.hub.download(&url, &local, Some(sha256))?;
        }
        let name = self.name(from.file);
        let rows = Rows::open(&local, *size, from).with_context(|| name.clone())?;
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

/// The column `text` of a parquet file.
struct Rows {
    reader: SerializedFileReader<File>,
    column: usize,
    size: u64,
    rows: u64,
    place: Place,
    /// The row group that comes next, and what is left of the one before it.
    next_group: usize,
    group: Option<ColumnReaderImpl<ByteArrayType>>,
}

impl Rows {
    fn open(path: &Path, size: u64, from: Place) -> Result<Self> {
        let reader = SerializedFileReader::new(File::open(path)?)?;
        let file = reader.metadata().file_metadata();
        let columns = file.schema_descr().columns();
        let is_text = |column: &parquet::schema::types::ColumnDescPtr| {
            column.path().string() == "text"
                && column.physical_type() == parquet::basic::Type::BYTE_ARRAY
                && column.max_rep_level() == 0
        };
        let column =
            columns.iter().position(is_text).context("it has no column `text` with texts")?;
        let rows = file.num_rows() as u64;
        let mut all = Self { reader, column, size, rows, place: from, next_group: 0, group: None };
        all.pass_over(from.at)?;
        Ok(all)
    }

    fn pass_over(&mut self, mut rows: u64) -> Result<()> {
        let groups = self.reader.metadata().row_groups();
        let sizes: Vec<u64> = groups.iter().map(|group| group.num_rows() as u64).collect();
        while self.next_group < sizes.len() && rows >= sizes[self.next_group] {
            rows -= sizes[self.next_group];
            self.next_group += 1;
        }
        if rows > 0
            && let Some(group) = self.group()?
        {
            group.skip_records(rows as usize)?;
        }
        Ok(())
    }

    /// The row group that is being read, or the next; none after the last.
    fn group(&mut self) -> Result<Option<&mut ColumnReaderImpl<ByteArrayType>>> {
        if self.group.is_none() && self.next_group < self.reader.num_row_groups() {
            let group = self.reader.get_row_group(self.next_group)?;
            self.group = Some(get_typed_column_reader(group.get_column_reader(self.column)?));
            self.next_group += 1;
        }
        Ok(self.group.as_mut())
    }

    fn read(&mut self) -> Result<Chunk> {
        let place = self.place;
        let (mut pieces, mut bytes) = (Vec::new(), 0);
        while bytes < CHUNK {
            let Some(group) = self.group()? else { break };
            let (mut texts, mut levels) = (Vec::<ByteArray>::new(), Vec::new());
            // A row without a text has a level, and no value.
            let (rows, ..) = group.read_records(ROWS, Some(&mut levels), None, &mut texts)?;
            if rows == 0 {
                self.group = None;
            }
            self.place.at += rows as u64;
            for text in texts.iter().filter(|text| !text.is_empty()) {
                let text = text.as_utf8().context("a text in it is no UTF-8")?.to_string();
                bytes += text.len();
                pieces.push(Piece { text, begins: true });
            }
        }
        let read = (self.size as f64 * self.place.at as f64 / self.rows.max(1) as f64) as u64;
        Ok(Chunk { place, read, split: None, pieces })
    }
}

impl Iterator for Rows {
    type Item = Result<Chunk>;

    fn next(&mut self) -> Option<Self::Item> {
        (self.place.at < self.rows).then(|| self.read())
    }
}
