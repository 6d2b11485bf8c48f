//! Tiny Shakespeare: 40,000 lines from Shakespeare's plays in one text file, the corpus of
//! Karpathy's char-rnn and of many lectures since.

use std::{path::PathBuf, time::Duration};

use anyhow::{Result, anyhow, ensure};
use files::{Download, sha256_of};

const URL: &str =
    "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt";
const SHA256: &str = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed";

/// Tiny Shakespeare (1.1 MB): the corpus that the lessons read with --corpus shakespeare
///
/// Becomes data/shakespeare/input.txt. Its checksum is compared, so that every reader trains on the
/// same 1,115,394 characters. A file that is already there is kept: if it is the right one, there is
/// nothing to do; if not, you are told so.
#[derive(clap::Args)]
pub struct Args {
    /// Put the file into this folder instead [default: data/shakespeare in the repository]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,

    /// Download from this address, for example a mirror that your network can reach
    #[arg(long, default_value = URL)]
    url: String,

    /// The checksum that the file must have, for a mirror with another edition of the text
    #[arg(long, value_name = "HEX", default_value = SHA256)]
    sha256: String,

    /// Wait this long for a connection, and three times as long when the server falls silent
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout: u64,

    /// Download even if there is a file, and replace it once the new one is whole
    #[arg(long)]
    force: bool,
}

/// Downloads the corpus, unless it is already there.
///
/// # Errors
/// When another file is in its place, or it cannot be downloaded; says how to go on.
pub fn run(args: &Args) -> Result<()> {
    let folder = match &args.out {
        Some(folder) => folder.clone(),
        None => crate::data_folder()?.join("shakespeare"),
    };
    let path = folder.join("input.txt");
    let shown = path.display();
    if path.is_file() && !args.force {
        ensure!(
            sha256_of(&path)?.eq_ignore_ascii_case(&args.sha256),
            "{shown} is there but is not the expected text; move it away, or replace it with --force"
        );
        println!("{shown} is already there, and right");
        return Ok(());
    }
    let download = Download {
        url: &args.url,
        to: &path,
        sha256: Some(&args.sha256),
        connect_timeout: Duration::from_secs(args.timeout),
    };
    download.run().map_err(|error| {
        anyhow!("{error:#}; you can also get it by hand from {URL} and save it as {shown}")
    })?;
    println!("{shown} is ready");
    Ok(())
}
