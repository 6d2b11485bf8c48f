//! `cargo xtask setup`: the libtorch that everything here is built against.
//!
//! Everything happens in a folder beside the target, `libtorch.part`, which becomes the target by a
//! rename at the very end. So a target that exists is whole, however setup was interrupted.

mod fetch;
mod platform;
mod records;
mod whole;

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use anyhow::{Context, Error, Result, anyhow, ensure};
use clap::Args;

use crate::{libtorch, own_libtorch, workspace};
use platform::Platform;
use whole::Whole;

/// Put libtorch 2.11.0 into the folder `libtorch`, once; a LIBTORCH of your own is only checked
///
/// It comes from download.pytorch.org or, where that does not answer or with --cuda, by pip
/// (`python3 -m pip download`): for Linux on x86-64 and ARM, macOS on ARM, and Windows on x86-64.
#[derive(Args)]
pub struct Setup {
    /// Get the libtorch for NVIDIA's GPUs, with CUDA 13 and its headers: 3 GB to download, on Linux only. The
    /// machine need not have a GPU
    #[arg(long)]
    cuda: bool,

    /// Get the libtorch of a platform for a look at it or for a machine without a network, into the folder
    /// `libtorch-PLATFORM`; the folder `libtorch` stays as it is
    #[arg(long)]
    platform: Option<Platform>,

    /// The folder to fill (the tests fill others)
    #[arg(long, hide = true)]
    into: Option<PathBuf>,

    /// Where the official archive is (the tests have their own)
    #[arg(long, hide = true)]
    archive: Option<String>,
}

impl Setup {
    pub fn run(&self) -> Result<()> {
        // What the environment says is for the programs that are built here.
        let own = if self.platform.is_none() { own_libtorch()? } else { None };
        let into = self.into();
        let found = own.as_deref().unwrap_or(&into);
        if self.platform.is_none() {
            libtorch::check_variables(found)?;
        }
        let Err(why) = self.check(found) else {
            println!("libtorch 2.11.0 is in {}: nothing to do", found.display());
            return Ok(());
        };
        ensure!(
            own.is_none(),
            "LIBTORCH is set, but {why}: point it at another 2.11.0, or unset it and run this command again"
        );
        let platform = self.platform.map_or_else(Platform::here, Ok)?;
        if self.cuda {
            may_have_cuda(platform)?;
        }

        let part = into.with_extension("part");
        let got = self.get(platform, &part, &into);
        // Also after a failure, so that a full disk is not left full.
        let cleaned = remove(&part);
        let whole = got.map_err(|error| self.say_if_full(error, &into))?;
        cleaned?;
        println!("libtorch 2.11.0 is in {}", into.display());
        self.report(&whole, platform);
        Ok(())
    }

    fn into(&self) -> PathBuf {
        let name = self.platform.map(|platform| format!("libtorch-{}", platform.name()));
        let folder = || workspace().join(name.as_deref().unwrap_or("libtorch"));
        self.into.clone().unwrap_or_else(folder)
    }

    /// Whether the libtorch in `folder` is the one that is wanted.
    fn check(&self, folder: &Path) -> Result<()> {
        let cuda = match self.platform {
            None => {
                libtorch::check(folder).map_err(Error::msg)?;
                libtorch::has_cuda(folder)
            }
            Some(platform) => {
                // We write it when all the rest is there.
                let version = fs::read_to_string(folder.join("build-version"));
                let is_there = version.is_ok_and(|version| version == libtorch::VERSION);
                ensure!(is_there, "there is no libtorch in {}", folder.display());
                folder.join("lib").join(platform.library("torch_cuda")).exists()
            }
        };
        ensure!(cuda || !self.cuda, "the libtorch in {} is for CPUs only", folder.display());
        Ok(())
    }

    fn say_if_full(&self, error: Error, into: &Path) -> Error {
        if !is_full(&error) {
            return error;
        }
        // Linux's on x86-64 are the largest.
        let (while_it_works, in_the_end) = if self.cuda { (7.0, 4.0) } else { (1.2, 0.5) };
        anyhow!(
            "the disk of {} is full: setup needs {while_it_works} GB there while it works and {in_the_end} GB \
             in the end; make room and run this command again",
            into.display()
        )
    }

    /// Gets libtorch into `part`, then moves it to where it belongs.
    fn get(&self, platform: Platform, part: &Path, into: &Path) -> Result<Whole> {
        remove(part)?; // of an interrupted run
        let new = part.join("libtorch");
        self.download(platform, part, &new)?;
        let of_no_use = "what was downloaded is of no use";
        let whole = whole::check(&new, platform).context(of_no_use)?;
        let version = libtorch::VERSION.as_bytes();
        files::write_atomically(&new.join("build-version"), |file| Ok(file.write_all(version)?))?;
        self.check(&new).context(of_no_use)?;

        remove(into)?; // not whole, or of another version
        fs::rename(&new, into)
            .and_then(|()| sync_folder(parent(into)))
            .with_context(|| format!("cannot write {}", into.display()))?;
        Ok(whole)
    }

    fn download(&self, platform: Platform, part: &Path, new: &Path) -> Result<()> {
        let archive = self.archive.clone().or(platform.archive()).filter(|_| !self.cuda);
        if let Some(archive) = archive {
            let Err(why) = fetch::from_archive(&archive, platform, part, new) else {
                return Ok(());
            };
            if is_full(&why) {
                return Err(why);
            }
            eprintln!("{why:#}; trying pip");
            remove(part)?;
        }
        fetch::from_wheels(platform, part, new, self.cuda)
    }

    /// Says what was found in the libraries' records.
    fn report(&self, whole: &Whole, platform: Platform) {
        let bytes: u64 = whole.libraries.values().sum();
        let mps = if whole::needs_mps(&whole.of_the_system) { " (with MPS)" } else { "" };
        println!(
            "{} libraries for {}{mps}, {:.0} MB, find each other and define the {} functions that tch calls",
            whole.libraries.len(),
            platform.name(),
            bytes as f64 / 1e6,
            whole.symbols
        );
        if self.platform.is_some() {
            let system: Vec<_> = whole.of_the_system.iter().map(String::as_str).collect();
            println!("they need of the system: {}", system.join(", "));
        }
    }
}

fn may_have_cuda(platform: Platform) -> Result<()> {
    ensure!(
        platform != Platform::MacosArm64,
        "there is no CUDA for Macs: `cargo xtask setup` brings a libtorch that can use their GPU (MPS)"
    );
    ensure!(
        platform.is_linux(),
        "pip has libtorch with CUDA for Linux only: on Windows, unpack the official libtorch 2.11.0 with CUDA and \
         point LIBTORCH at it, or work in WSL"
    );
    // pip goes by the system on which it runs when it chooses what PyTorch requires.
    ensure!(
        cfg!(target_os = "linux"),
        "pip can collect the CUDA of Linux on Linux only: run this command there"
    );
    Ok(())
}

/// Whether the libtorch in `folder`, one for macOS, can use the GPU of a Mac.
pub fn has_mps(folder: &Path) -> bool {
    let library = folder.join("lib").join(Platform::MacosArm64.library("torch_cpu"));
    records::Library::read(&library).is_ok_and(|library| whole::needs_mps(&library.needs))
}

/// Removes a folder and what is in it, if it is there.
pub fn remove(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", folder.display()))
        }
        _ => Ok(()),
    }
}

/// Brings the new name to the disk. Windows cannot, and does so by itself.
fn sync_folder(folder: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

fn parent(path: &Path) -> &Path {
    path.parent().expect("a path below a folder of ours")
}

fn is_full(error: &Error) -> bool {
    let mut causes = error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>());
    causes.any(|e| matches!(e.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded))
}
