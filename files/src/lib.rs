//! Files that are never half-written, and downloads that are never mistaken for whole.
//!
//! Both work the same way: the content goes to a temporary file beside the target, is synced to the
//! disk, and is then renamed to its final name. A rename within a folder happens entirely or not at
//! all, so that whoever opens the target sees the old content or the new one, never a part.
//!
//! Errors are chains of causes; print them with `{:#}` to get the whole sentence.

#[cfg(feature = "download")]
mod download;
mod records;
mod temporary;

use std::{
    fs::File,
    io::{self, BufWriter, Read, Write},
    path::Path,
};

use anyhow::{Context, Result};
use temporary::Temporary;

#[cfg(feature = "download")]
pub use download::{Download, sha256_of};
pub use records::Records;

/// Reads a file that may be a stranger's: no more memory is taken than for `most` bytes, whatever lies there.
///
/// # Errors
/// When it cannot be read, or is longer.
pub fn read_at_most(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        let sentence = format!("it has more than {most} bytes, and such a file has fewer");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, sentence));
    }
    Ok(bytes)
}

/// Replaces the content of the file at `path` by what `write` writes, as a whole or not at all.
///
/// Folders that are missing are made, and writing is buffered. When this returns without an error
/// the new content is on the disk.
///
/// # Errors
/// When the file cannot be written, or when `write` fails: "cannot write PATH: REASON". The old
/// content, if there was any, is then still there, and the temporary file is gone.
///
/// ```
/// # fn main() -> anyhow::Result<()> {
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("out/metrics.csv");
/// files::write_atomically(&path, |file| {
///     writeln!(file, "step,loss")?;
///     Ok(writeln!(file, "0,4.17")?)
/// })?;
/// assert_eq!(std::fs::read_to_string(&path)?, "step,loss\n0,4.17\n");
/// # Ok(())
/// # }
/// ```
pub fn write_atomically(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> Result<()>,
) -> Result<()> {
    let write_and_keep = || {
        let mut temporary = Temporary::beside(path)?;
        let mut buffered = BufWriter::new(temporary.file());
        write(&mut buffered)?;
        buffered.flush()?;
        drop(buffered);
        temporary.keep()
    };
    write_and_keep().with_context(|| format!("cannot write {}", path.display()))
}
