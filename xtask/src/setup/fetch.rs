//! Where libtorch comes from: the official archive, or the part of PyTorch's wheels that is libtorch.

use std::{
    fs::{self, File},
    io::{self, BufReader, BufWriter, Read},
    path::Path,
    process::{Command, Output, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail};
use indicatif::{ProgressBar, ProgressStyle};
use zip::ZipArchive;

use super::{
    parent,
    platform::{CPU_LIBRARIES, Platform},
    whole::LINKER_SCRIPT,
};

/// How long the archive's server may take to answer before we turn to the wheels.
const PATIENCE: Duration = Duration::from_secs(5);

/// What pip is asked for with CUDA 13: PyTorch and what it requires. The last two hold headers that those
/// of libtorch include and that nothing requires.
const CUDA_WHEELS: [&str; 3] =
    ["torch==2.11.0", "nvidia-cuda-crt==13.0.88", "nvidia-cuda-cccl==13.0.85"];

/// What runs Python here, in the order of trying.
const PYTHONS: &[&str] = if cfg!(windows) { &["python", "py"] } else { &["python3"] };

/// Downloads the official archive into `part`, and lays out in `new` what is needed of it.
///
/// # Errors
/// Where it cannot be had whole: "cannot download URL: REASON", "cannot unpack NAME: REASON".
pub fn from_archive(url: &str, platform: Platform, part: &Path, new: &Path) -> Result<()> {
    let archive = part.join("libtorch.zip");
    files::Download { url, to: &archive, sha256: None, connect_timeout: PATIENCE }.run()?;
    unpack(&archive, new, |path| {
        let inside = path.strip_prefix("libtorch/")?;
        let library = inside.strip_prefix("lib/").is_some_and(|name| platform.is_library(name));
        (library || inside.starts_with("include/")).then(|| inside.into())
    })
}

/// Has pip download the wheels into `part`, and lays out in `new` what of them is libtorch: all of it with `cuda`, or
/// else what a CPU needs.
///
/// # Errors
/// A sentence about Python or pip; "cannot unpack NAME: REASON".
pub fn from_wheels(platform: Platform, part: &Path, new: &Path, cuda: bool) -> Result<()> {
    let wheels = part.join("wheels");
    let asked = if cuda { CUDA_WHEELS.to_vec() } else { platform.cpu_wheels() };
    download_wheels(platform, part, &wheels, &asked)?;
    let needed =
        |path: &str| cuda || CPU_LIBRARIES.contains(&path) || path.starts_with("torch/include/");
    for wheel in fs::read_dir(&wheels)? {
        unpack(&wheel?.path(), new, |path| place(path, platform).filter(|_| needed(path)))?;
    }
    // The wheels' libtorch.so is empty: whoever is linked to it gets libtorch_cpu.so and libtorch_cuda.so, which
    // is not here. A text can say the same to a linker (ld's manual: "Implicit Linker Scripts"; C's own libc.so is one).
    if platform.is_linux() && !cuda {
        let script = new.join("lib").join(platform.library("torch"));
        files::write_atomically(&script, |file| Ok(file.write_all(LINKER_SCRIPT.as_bytes())?))?;
    }
    Ok(())
}

/// All libraries go into one folder, where they find each other, and all headers into one: those of
/// `torch/lib`, `nvidia/cudnn/lib`, … and of `torch/include`, `nvidia/cu13/include`, ….
fn place(path: &str, platform: Platform) -> Option<String> {
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
    let of_python = name == platform.library("torch_python");
    (platform.is_library(name) && !name.contains('/') && !of_python).then(|| inside.into())
}

/// Has pip, with the first Python that there is, download wheels into the folder `to`. It checks their hashes and
/// shows its progress.
fn download_wheels(platform: Platform, part: &Path, to: &Path, asked: &[&str]) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("cannot write {}", to.display()))?;
    for python in PYTHONS {
        let mut pip = Command::new(python);
        pip.args(["-m", "pip", "download", "--disable-pip-version-check", "--retries=2"])
            .args(["--only-binary=:all:", "--python-version=3.11"])
            .args(platform.tags().iter().map(|tag| format!("--platform={tag}")))
            .arg("--dest")
            .arg(to)
            .args(asked)
            // pip's own intermediate files: on the disk that has room, and gone when we are done.
            .envs(["TMPDIR", "TMP", "TEMP"].map(|name| (name, part)))
            .stderr(Stdio::piped());
        match pip.spawn().and_then(|running| running.wait_with_output()) {
            // Where Python is not installed, Windows has a program of its name that only says where to get it.
            Ok(output) if says(&output, "Python was not found") => {}
            Ok(output) if output.status.success() => return Ok(()),
            Ok(output) => return Err(explain_pip(&output)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| format!("cannot run {python}")),
        }
    }
    bail!(no_python())
}

fn says(output: &Output, words: &str) -> bool {
    String::from_utf8_lossy(&output.stderr).contains(words)
}

fn no_python() -> String {
    let python = PYTHONS[0];
    let install = if cfg!(windows) {
        "`winget install Python.Python.3.13`, in a new terminal afterwards"
    } else if cfg!(target_os = "macos") {
        "`xcode-select --install`"
    } else {
        "`apt install python3-pip`"
    };
    format!(
        "there is no {python}, whose pip is to get libtorch: install Python 3 with pip ({install}), or set \
         LIBTORCH to a libtorch 2.11.0"
    )
}

/// Makes one sentence of what pip printed when it failed.
fn explain_pip(output: &Output) -> anyhow::Error {
    let says = |words| says(output, words);
    if says("No module named pip") {
        let python = PYTHONS[0];
        let apt = if cfg!(target_os = "linux") { "`apt install python3-pip`, or " } else { "" };
        return anyhow!(
            "{python} has no pip: install it ({apt}`{python} -m ensurepip`), or set LIBTORCH to a libtorch 2.11.0"
        );
    }
    if says("No space left on device") {
        return io::Error::from(io::ErrorKind::StorageFull).into();
    }
    // A shim of a version manager that has no Python behind it.
    if says("command not found") {
        return anyhow!(no_python());
    }
    let unreachable =
        ["connection broken by", "(from versions: none)", "ConnectionError", "Read timed out"];
    if unreachable.into_iter().any(says) {
        return anyhow!(
            "pip's package index does not answer: check the network and its proxy (HTTPS_PROXY) and run this \
             command again, or set LIBTORCH to a libtorch 2.11.0"
        );
    }
    let said = String::from_utf8_lossy(&output.stderr);
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

    let template = "{wide_bar} {binary_bytes} of {binary_total_bytes}, {eta} left";
    let style = ProgressStyle::with_template(template).expect("the template is right");
    // On a terminal only.
    let bar = ProgressBar::new(bytes).with_style(style);
    eprintln!("unpacking {name}");
    for (index, path) in wanted {
        let entry = archive.by_index(index).with_context(context)?;
        write_entry(bar.wrap_read(entry), &path).with_context(context)?;
    }
    bar.finish();
    Ok(())
}

fn write_entry(mut entry: impl Read, path: &Path) -> Result<()> {
    fs::create_dir_all(parent(path))?;
    let mut file = BufWriter::new(File::create(path)?);
    io::copy(&mut entry, &mut file)?;
    Ok(file.into_inner()?.sync_all()?)
}
