use std::{
    fs::File,
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

/// A file that grows by records, such as lines. One that cannot be written leaves no part of itself behind, so that
/// those after it are read when there is room again.
///
/// ```
/// # fn main() -> anyhow::Result<()> {
/// # let folder = tempfile::tempdir()?;
/// let mut lines = files::Records::open(&folder.path().join("metrics.csv"))?;
/// lines.push(b"step,loss\n")?;
/// lines.push(b"0,4.17\n")?;
/// # Ok(())
/// # }
/// ```
pub struct Records {
    path: PathBuf,
    file: File,
    /// Of all whole records, in bytes.
    length: u64,
}

impl Records {
    /// Goes on behind what is there, or begins the file.
    ///
    /// # Errors
    /// "cannot write PATH: REASON".
    pub fn open(path: &Path) -> Result<Self> {
        let open = || -> std::io::Result<Self> {
            let file = File::options().append(true).create(true).open(path)?;
            let length = file.metadata()?.len();
            Ok(Self { path: path.to_owned(), file, length })
        };
        open().with_context(|| cannot_write(path))
    }

    /// Adds a record, which whoever reads the file sees at once.
    ///
    /// # Errors
    /// "cannot write PATH: REASON", say since the disk is full.
    pub fn push(&mut self, record: &[u8]) -> Result<()> {
        if let Err(error) = self.file.write_all(record) {
            // Where that fails too, the reader finds half a record.
            let _ = self.file.set_len(self.length);
            return Err(error).with_context(|| cannot_write(&self.path));
        }
        self.length += record.len() as u64;
        Ok(())
    }
}

fn cannot_write(path: &Path) -> String {
    format!("cannot write {}", path.display())
}
