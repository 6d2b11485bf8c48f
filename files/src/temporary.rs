//! The temporary file beside a target.

use std::{
    ffi::{OsStr, OsString},
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use tempfile::NamedTempFile;

/// The end of every temporary file's name.
const SUFFIX: &str = ".part";

/// A file `.NAME.random.part` that becomes `NAME` when it is kept and goes away when it is dropped.
///
/// A killed process cannot clean up. So each temporary file is locked as long as its process lives,
/// and the next one to write the same target removes those that nobody holds.
pub(crate) struct Temporary {
    file: NamedTempFile,
    target: PathBuf,
}

impl Temporary {
    /// Makes an empty temporary file in the folder of `target`, and the folder if need be.
    pub(crate) fn beside(target: &Path) -> Result<Self> {
        let name = target.file_name().context("this names no file")?;
        // Renaming onto a device or a pipe would replace it by a plain file.
        if let Ok(there) = fs::metadata(target) {
            ensure!(there.is_file(), "this is not a plain file");
        }
        let folder = folder_of(target);
        fs::create_dir_all(folder)?;
        let mut prefix = OsString::from(".");
        prefix.push(name);
        prefix.push(".");
        remove_abandoned(folder, &prefix);
        Ok(Self { file: new_locked_file(folder, &prefix)?, target: target.to_owned() })
    }

    pub(crate) fn file(&mut self) -> &mut File {
        self.file.as_file_mut()
    }

    /// Brings the content to the disk and gives the file its final name.
    pub(crate) fn keep(self) -> Result<()> {
        self.file.as_file().sync_all()?;
        self.file.persist(&self.target).map_err(|e| e.error)?;
        // Makes the new name survive a power cut. Not every file system can do that; where it
        // cannot, the old name's content is whole too, so this is no reason to fail.
        if let Ok(folder) = File::open(folder_of(&self.target)) {
            folder.sync_all().ok();
        }
        Ok(())
    }
}

/// A file `NAME.part` that stays when it is dropped, to be gone on with, and becomes `NAME` when it is kept.
#[cfg(feature = "download")]
pub(crate) struct Part {
    file: File,
    path: PathBuf,
    target: PathBuf,
}

#[cfg(feature = "download")]
impl Part {
    /// Opens what there is, or an empty file, in the folder of `target`, which is made if need be.
    pub(crate) fn beside(target: &Path) -> Result<Self> {
        let mut name = target.file_name().context("this names no file")?.to_owned();
        name.push(SUFFIX);
        let path = target.with_file_name(name);
        fs::create_dir_all(folder_of(target))?;
        let file = File::options().read(true).append(true).create(true).open(&path)?;
        // Where there are no locks, nobody can tell.
        ensure!(
            !matches!(file.try_lock(), Err(fs::TryLockError::WouldBlock)),
            "another process is writing it"
        );
        Ok(Self { file, path, target: target.to_owned() })
    }

    /// Written to at its end.
    pub(crate) fn file(&mut self) -> &mut File {
        &mut self.file
    }

    pub(crate) fn clear(&mut self) -> io::Result<()> {
        self.file.set_len(0)
    }

    pub(crate) fn remove(self) -> io::Result<()> {
        fs::remove_file(&self.path)
    }

    /// As [`Temporary::keep`].
    pub(crate) fn keep(self) -> Result<()> {
        self.file.sync_all()?;
        fs::rename(&self.path, &self.target)?;
        if let Ok(folder) = File::open(folder_of(&self.target)) {
            folder.sync_all().ok();
        }
        Ok(())
    }
}

/// The folder that `path` lies in, also for a bare file name.
fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    }
}

fn new_locked_file(folder: &Path, prefix: &OsStr) -> io::Result<NamedTempFile> {
    loop {
        let file = tempfile::Builder::new()
            .prefix(prefix)
            .suffix(SUFFIX)
            // Not `tempfile_in`: that would keep the file from everybody but its owner for ever.
            .make_in(folder, |path| File::create_new(path))?;
        // Some file systems have no locks. Then nobody removes what they think is abandoned either.
        file.as_file().lock().ok();
        // Somebody may have taken it for abandoned before it was locked.
        if file.path().exists() {
            return Ok(file);
        }
    }
}

/// Removes what killed processes left behind. What cannot be removed does no harm.
fn remove_abandoned(folder: &Path, prefix: &OsStr) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let name = name.as_encoded_bytes();
        let ours = name.starts_with(prefix.as_encoded_bytes()) && name.ends_with(SUFFIX.as_bytes());
        if ours
            && let Ok(file) = File::open(entry.path())
            && file.try_lock().is_ok()
        {
            fs::remove_file(entry.path()).ok();
        }
    }
}
