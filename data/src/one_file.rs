//! What the data sets that are one file have in common.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Result, anyhow, ensure};
use files::{Download, sha256_of};

/// A data set that is one file.
pub struct OneFile {
    /// The subfolder of `data/` and the name that it gets there.
    pub folder: &'static str,
    pub name: &'static str,
    pub url: &'static str,
    /// The SHA-256 of its content, in hexadecimal.
    pub sha256: &'static str,
}

/// Where from and where to.
#[derive(clap::Args)]
pub struct FileFlags {
    /// Put the file into this folder instead [default: its own in the repository's data/]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,

    /// Download from this address, for example a mirror that your network can reach
    #[arg(long)]
    pub url: Option<String>,

    /// The checksum that the file must have, for a mirror with another edition of it
    #[arg(long, value_name = "HEX")]
    pub sha256: Option<String>,

    /// Wait this long for a connection, and three times as long when the server falls silent
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub timeout: u64,

    /// Download even if there is a file, and replace it once the new one is whole
    #[arg(long)]
    pub force: bool,
}

impl OneFile {
    /// Whether a file has the content that is expected.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn is_at(&self, path: &Path) -> Result<bool> {
        Ok(sha256_of(path)?.eq_ignore_ascii_case(self.sha256))
    }

    /// Downloads the file, unless it is already there, and returns its path.
    ///
    /// # Errors
    /// When another file is in its place, or it cannot be downloaded; says how to go on.
    pub fn fetch(&self, args: &FileFlags) -> Result<PathBuf> {
        let folder = match &args.out {
            Some(folder) => folder.clone(),
            None => crate::data_folder()?.join(self.folder),
        };
        let path = folder.join(self.name);
        let shown = path.display();
        let sha256 = args.sha256.as_deref().unwrap_or(self.sha256);
        if path.is_file() && !args.force {
            ensure!(
                sha256_of(&path)?.eq_ignore_ascii_case(sha256),
                "{shown} is there but is not the expected text; move it away, or replace it with --force"
            );
            println!("{shown} is already there, and right");
            return Ok(path);
        }
        let download = Download {
            url: args.url.as_deref().unwrap_or(self.url),
            to: &path,
            sha256: Some(sha256),
            connect_timeout: Duration::from_secs(args.timeout),
        };
        download.run().map_err(|error| {
            let url = self.url;
            anyhow!("{error:#}; you can also get it by hand from {url} and save it as {shown}")
        })?;
        println!("{shown} is ready");
        Ok(path)
    }
}
