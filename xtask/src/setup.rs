//! `cargo xtask setup`: the libtorch that everything here is built against.
//!
//! Everything happens in a folder beside the target, `libtorch.part`, which becomes the target by a
//! rename at the very end. So a target that exists is whole, however setup was interrupted.

use std::{
    fs::{self, File},
    io::{self, BufReader, BufWriter, IsTerminal, Read},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use zip::ZipArchive;

use crate::{libtorch, own_libtorch, workspace};

/// The official archive for CPUs, a third of the wheels' size.
const ARCHIVE: &str =
    "https://download.pytorch.org/libtorch/cpu/libtorch-shared-with-deps-2.11.0%2Bcpu.zip";

/// How long the archive's server may take to answer before we turn to the wheels.
const PATIENCE: Duration = Duration::from_secs(5);

/// What pip is asked for: the Python packages that hold libtorch and the two small libraries that it links,
/// and nothing of what those require.
const CPU_WHEELS: [&str; 4] =
    ["--no-deps", "torch==2.11.0", "nvidia-cuda-runtime==13.0.96", "nvidia-cuda-cupti==13.0.85"];

/// The same with CUDA 13: PyTorch and what it requires. The last two hold headers that those
/// of libtorch include and that nothing requires.
const CUDA_WHEELS: [&str; 3] =
    ["torch==2.11.0", "nvidia-cuda-crt==13.0.88", "nvidia-cuda-cccl==13.0.85"];

/// pip takes a platform by its very name, and the wheels were built for several: the number is the oldest
/// version of the C library that a wheel runs with. (2014 is an older name of 2.17.)
const PLATFORMS: [&str; 6] = [
    "manylinux_2_28_x86_64",
    "manylinux_2_27_x86_64",
    "manylinux_2_25_x86_64",
    "manylinux_2_18_x86_64",
    "manylinux_2_17_x86_64",
    "manylinux2014_x86_64",
];

/// What of the wheels' libraries a CPU needs; the rest, most of it, is for GPUs.
const CPU_LIBRARIES: [&str; 6] = [
    "torch/lib/libtorch.so",
    "torch/lib/libtorch_cpu.so",
    "torch/lib/libc10.so",
    "torch/lib/libgomp.so.1",
    "nvidia/cu13/lib/libcudart.so.13",
    "nvidia/cu13/lib/libcupti.so.13",
];

/// Put libtorch 2.11.0 into the folder `libtorch`, once; a LIBTORCH of your own is only checked
///
/// On x86-64 Linux it comes from download.pytorch.org or, where that does not answer or with --cuda, by
/// pip (`python3 -m pip download`). Elsewhere: install PyTorch 2.11.0 with pip and set LIBTORCH to its
/// folder `torch`.
#[derive(Args)]
pub struct Setup {
    /// Get the libtorch for NVIDIA's GPUs, with CUDA 13 and its headers: 3 GB to download. The machine
    /// need not have a GPU
    #[arg(long)]
    cuda: bool,

    /// The folder to fill (the tests fill others)
    #[arg(long, hide = true, default_value_os_t = workspace().join("libtorch"))]
    into: PathBuf,

    /// Where the official archive is (the tests have their own)
    #[arg(long, hide = true, default_value = ARCHIVE)]
    archive: String,
}

impl Setup {
    pub fn run(&self) -> Result<()> {
        let own = own_libtorch()?;
        let found = own.as_deref().unwrap_or(&self.into);
        libtorch::check_variables(found)?;
        match (self.check(found), &own) {
            (Ok(()), _) => {
                println!("libtorch 2.11.0 is in {}: nothing to do", found.display());
                return Ok(());
            }
            (Err(why), Some(_)) => bail!(
                "LIBTORCH is set, but {why}: point it at another 2.11.0, or unset it and run this command again"
            ),
            (Err(_), None) => {}
        }
        if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
            bail!(
                "setup can get libtorch for x86-64 Linux only: install PyTorch 2.11.0 (`pip install torch==2.11.0`) \
                 and set LIBTORCH to its folder, which `python3 -c \"import torch; print(torch.__path__[0])\"` prints"
            );
        }

        let part = self.into.with_extension("part");
        let got = self.get(&part);
        // Also after a failure, so that a full disk is not left full.
        let cleaned = remove(&part);
        got.map_err(|error| self.say_if_full(error))?;
        cleaned?;
        println!("libtorch 2.11.0 is in {}", self.into.display());
        Ok(())
    }

    /// Whether the libtorch in `folder` is the one that is wanted.
    fn check(&self, folder: &Path) -> Result<(), String> {
        libtorch::check(folder)?;
        if self.cuda && !libtorch::has_cuda(folder) {
            return Err(format!("the libtorch in {} is for CPUs only", folder.display()));
        }
        Ok(())
    }

    fn say_if_full(&self, error: anyhow::Error) -> anyhow::Error {
        if !is_full(&error) {
            return error;
        }
        let (while_it_works, in_the_end) = if self.cuda { (7.0, 4.0) } else { (1.2, 0.5) };
        anyhow!(
            "the disk of {} is full: setup needs {while_it_works} GB there while it works and {in_the_end} GB \
             in the end; make room and run this command again",
            self.into.display()
        )
    }

    /// Gets libtorch into `part`, then moves it to where it belongs.
    fn get(&self, part: &Path) -> Result<()> {
        remove(part)?; // of an interrupted run
        let new = part.join("libtorch");
        if self.cuda {
            from_wheels(part, &new, &CUDA_WHEELS, |_| true)?;
        } else if let Err(why) = from_archive(&self.archive, part, &new) {
            if is_full(&why) {
                return Err(why);
            }
            eprintln!("{why:#}; trying pip");
            remove(part)?;
            let needed =
                |path: &str| CPU_LIBRARIES.contains(&path) || path.starts_with("torch/include/");
            from_wheels(part, &new, &CPU_WHEELS, needed)?;
        }
        write_synced(&new.join("build-version"), libtorch::VERSION.as_bytes())?;
        self.check(&new).map_err(|why| anyhow!("what was downloaded is of no use: {why}"))?;

        remove(&self.into)?; // not whole, or of another version
        fs::rename(&new, &self.into)
            .and_then(|()| File::open(parent(&self.into))?.sync_all())
            .with_context(|| format!("cannot write {}", self.into.display()))
    }
}

fn from_archive(url: &str, part: &Path, new: &Path) -> Result<()> {
    let archive = part.join("libtorch.zip");
    files::Download { url, to: &archive, sha256: None, connect_timeout: PATIENCE }.run()?;
    unpack(&archive, new, |path| {
        let inside = path.strip_prefix("libtorch/")?;
        let needed = inside.starts_with("include/")
            || (inside.starts_with("lib/") && inside.contains(".so"));
        needed.then(|| inside.into())
    })
}

/// Has pip download what it is `asked` for, and takes of libtorch and CUDA what is `needed`.
fn from_wheels(
    part: &Path,
    new: &Path,
    asked: &[&str],
    needed: impl Fn(&str) -> bool,
) -> Result<()> {
    let wheels = part.join("wheels");
    download_wheels(part, &wheels, asked)?;
    for wheel in fs::read_dir(&wheels)? {
        unpack(&wheel?.path(), new, |path| place(path).filter(|_| needed(path)))?;
    }
    Ok(())
}

/// All libraries go into one folder, where they find each other, and all headers into one: those of
/// `torch/lib`, `nvidia/cudnn/lib`, … and of `torch/include`, `nvidia/cu13/include`, ….
fn place(path: &str) -> Option<String> {
    let (package, inside) = path.split_once('/')?;
    let inside = match package {
        "torch" => inside,
        "nvidia" => inside.split_once('/')?.1,
        _ => return None,
    };
    if let Some(header) = inside.strip_prefix("include/") {
        return Some(format!("include/{}", header.strip_prefix("cccl/").unwrap_or(header)));
    }
    let name = inside.strip_prefix("lib/")?;
    let is_library = name.contains(".so") && !name.contains('/') && name != "libtorch_python.so";
    is_library.then(|| inside.into())
}

/// Has pip download wheels into the folder `to`. pip checks their hashes and shows its progress.
fn download_wheels(part: &Path, to: &Path, asked: &[&str]) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("cannot write {}", to.display()))?;
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "download", "--disable-pip-version-check", "--retries=2"])
        .args(["--only-binary=:all:", "--python-version=3.11"])
        .args(PLATFORMS.map(|platform| format!("--platform={platform}")))
        .arg("--dest")
        .arg(to)
        .args(asked)
        // pip's own intermediate files: on the disk that has room, and gone when we are done.
        .env("TMPDIR", part)
        .stderr(Stdio::piped());
    let output = match pip.spawn().and_then(|pip| pip.wait_with_output()) {
        Ok(output) => output,
        Err(error) if error.kind() == io::ErrorKind::NotFound => bail!(NO_PYTHON),
        Err(error) => return Err(error).context("cannot run python3"),
    };
    if !output.status.success() {
        return Err(explain_pip(&String::from_utf8_lossy(&output.stderr)));
    }
    Ok(())
}

const NO_PYTHON: &str = "there is no python3, whose pip is to get libtorch: \
     install Python 3 with pip (`apt install python3-pip`), or set LIBTORCH to a libtorch 2.11.0";

/// Makes one sentence of what pip printed when it failed.
fn explain_pip(said: &str) -> anyhow::Error {
    let says = |words: &[&str]| words.iter().any(|word| said.contains(word));
    if says(&["No module named pip"]) {
        return anyhow!(
            "python3 has no pip: install it (`apt install python3-pip`, or `python3 -m ensurepip`), \
             or set LIBTORCH to a libtorch 2.11.0"
        );
    }
    if says(&["No space left on device"]) {
        return io::Error::from(io::ErrorKind::StorageFull).into();
    }
    // A shim of a version manager that has no Python behind it.
    if says(&["command not found"]) {
        return anyhow!(NO_PYTHON);
    }
    if says(&["connection broken by", "(from versions: none)", "ConnectionError", "Read timed out"])
    {
        return anyhow!(
            "pip's package index does not answer: check the network and its proxy (HTTPS_PROXY) and run this \
             command again, or set LIBTORCH to a libtorch 2.11.0"
        );
    }
    let last = said.lines().rfind(|line| !line.trim().is_empty());
    anyhow!("pip cannot download libtorch, it says: {}", last.unwrap_or("nothing"))
}

/// Unpacks the files of `archive` for which `place` names a place below `to`, all of them synced to
/// the disk. Each file's checksum is verified on the way.
fn unpack(archive: &Path, to: &Path, place: impl Fn(&str) -> Option<String>) -> Result<()> {
    let name = archive.file_stem().unwrap_or_default().to_string_lossy();
    let name = name.split('-').next().unwrap_or_default(); // without a wheel's long list of tags
    let context = || format!("cannot unpack {name}");
    let file = File::open(archive).with_context(context)?;
    let mut archive = ZipArchive::new(BufReader::new(file)).with_context(context)?;

    let mut wanted = Vec::new();
    let mut bytes = 0;
    for index in 0..archive.len() {
        let entry = archive.by_index(index).with_context(context)?;
        // None for a name that leads out of the archive.
        let Some(name) = entry.enclosed_name().filter(|_| entry.is_file()) else {
            continue;
        };
        if let Some(place) = name.to_str().and_then(&place) {
            wanted.push((index, to.join(place)));
            bytes += entry.size();
        }
    }

    if wanted.is_empty() {
        return Ok(());
    }
    let bar = progress_bar(name, bytes);
    for (index, path) in wanted {
        let entry = archive.by_index(index).with_context(context)?;
        write_entry(bar.wrap_read(entry), &path).with_context(context)?;
    }
    bar.finish();
    Ok(())
}

fn progress_bar(name: &str, bytes: u64) -> ProgressBar {
    if !io::stderr().is_terminal() {
        eprintln!("unpacking {name}");
        return ProgressBar::hidden();
    }
    let template = "unpacking {msg} {wide_bar} {binary_bytes} of {binary_total_bytes}, {eta} left";
    let style = ProgressStyle::with_template(template).expect("the template is right");
    ProgressBar::new(bytes).with_style(style).with_message(name.to_string())
}

fn write_entry(mut entry: impl Read, path: &Path) -> Result<()> {
    fs::create_dir_all(parent(path))?;
    let mut file = BufWriter::new(File::create(path)?);
    io::copy(&mut entry, &mut file)?;
    Ok(file.into_inner()?.sync_all()?)
}

fn write_synced(path: &Path, content: &[u8]) -> Result<()> {
    write_entry(content, path).with_context(|| format!("cannot write {}", path.display()))
}

/// Removes a folder and what is in it, if it is there.
fn remove(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", folder.display()))
        }
        _ => Ok(()),
    }
}

fn parent(path: &Path) -> &Path {
    path.parent().expect("a path below a folder of ours")
}

fn is_full(error: &anyhow::Error) -> bool {
    let mut causes = error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>());
    causes.any(|e| matches!(e.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded))
}
