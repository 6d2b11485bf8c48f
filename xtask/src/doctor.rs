//! `cargo xtask doctor`: what this machine has for us, what is wrong, and what to do about it.

use std::{
    env,
    ffi::OsStr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
};

use anyhow::{Context, Result, ensure};

use crate::{
    cargo,
    libtorch::{self, Fault},
    machine::{self, first_line},
    own_libtorch,
    setup::has_mps,
    workspace,
};

/// Where the system looks for libraries before it looks where a program says, or after.
const LIBRARY_PATH: &str = if cfg!(windows) {
    "PATH"
} else if cfg!(target_os = "macos") {
    "DYLD_LIBRARY_PATH"
} else {
    "LD_LIBRARY_PATH"
};

/// The libraries that the system loads into every program.
const PRELOAD: &str =
    if cfg!(target_os = "macos") { "DYLD_INSERT_LIBRARIES" } else { "LD_PRELOAD" };

pub fn run() -> Result<()> {
    let own = own_libtorch();
    let folder = match &own {
        Ok(Some(own)) => own.clone(),
        _ => workspace().join("libtorch"),
    };
    let mut rows = vec![rustc(), cxx(), libtorch(&own, &folder)];
    rows.extend(libtorch::check_variables(&folder).err().map(|why| fault("environment", &why)));
    rows.extend([library_path(&folder), preloaded(&folder)].into_iter().flatten());
    rows.extend([cores(), vector_units(), memory()]);
    rows.iter().for_each(Row::print);
    if healthy(&rows) {
        rows = probe(&folder)?;
        rows.iter().for_each(Row::print);
    }
    ensure!(healthy(&rows), "what is marked !! has to be mended before anything runs");
    Ok(())
}

/// One line of the report.
struct Row {
    name: String,
    /// What there is. An `Err` is something that must be mended before anything runs.
    finding: Result<String, String>,
    /// What the reader can do about it.
    advice: Option<String>,
}

impl Row {
    fn good(name: &str, finding: impl Into<String>) -> Row {
        Row { name: name.into(), finding: Ok(finding.into()), advice: None }
    }

    fn bad(name: &str, finding: impl Into<String>, advice: &str) -> Row {
        Row { name: name.into(), finding: Err(finding.into()), advice: Some(advice.into()) }
    }

    fn advise(self, advice: &str) -> Row {
        Row { advice: Some(advice.into()), ..self }
    }

    fn print(&self) {
        let (mark, finding) = match &self.finding {
            Ok(finding) => ("ok", finding),
            Err(finding) => ("!!", finding),
        };
        println!("{mark}  {:<22}  {finding}", self.name);
        if let Some(advice) = &self.advice {
            println!("{:<26}  what to do: {advice}", "");
        }
    }
}

fn healthy(rows: &[Row]) -> bool {
    rows.iter().all(|row| row.finding.is_ok())
}

fn rustc() -> Row {
    const NEEDED: &str = env!("CARGO_PKG_RUST_VERSION");
    let advice = "install Rust from https://rustup.rs, or `rustup update`";
    match machine::rustc() {
        None => Row::bad("rustc", "there is none", advice),
        Some(number) if minor(&number) < minor(NEEDED) => {
            Row::bad("rustc", format!("{number} is too old, {NEEDED} is needed"), advice)
        }
        Some(number) => Row::good("rustc", format!("{number} ({NEEDED} is needed)")),
    }
}

/// The 88 of 1.88.0.
fn minor(version: &str) -> Option<u32> {
    version.split('.').nth(1)?.parse().ok()
}

/// tch compiles its C++ part with the compiler that `CXX` names, or else with `c++`.
fn cxx() -> Row {
    let name = "C++ compiler";
    if cfg!(windows) {
        return msvc(name);
    }
    // On a Mac `c++` is there before its compiler is: a program that only offers to install it.
    if cfg!(target_os = "macos") && first_line(Command::new("xcode-select").arg("-p")).is_none() {
        let finding = "Xcode's command line tools are not installed";
        return Row::bad(name, finding, "`xcode-select --install`");
    }
    let cxx = env::var("CXX").unwrap_or_else(|_| "c++".into());
    let advice = "install one: `apt install g++`, `dnf install gcc-c++`, `xcode-select --install`";
    let Some(version) = first_line(Command::new(&cxx).arg("--version")) else {
        return Row::bad(name, format!("`{cxx}` does not run"), advice);
    };
    let mut compile = Command::new(&cxx);
    compile.args(["-std=c++17", "-fsyntax-only", "-include", "vector", "-x", "c++", "/dev/null"]);
    match compile.stderr(Stdio::null()).status() {
        Ok(status) if status.success() => Row::good(name, version),
        _ => Row::bad(name, format!("{version} cannot compile C++17"), advice),
    }
}

/// Windows's libtorch is made with Visual C++, and only that can build what is to work with it.
fn msvc(name: &str) -> Row {
    let installer = env::var_os("ProgramFiles(x86)").unwrap_or_default();
    let vswhere = Path::new(&installer).join(r"Microsoft Visual Studio\Installer\vswhere.exe");
    let mut newest = Command::new(vswhere);
    newest.args(["-latest", "-products", "*", "-property", "installationPath"]);
    newest.args(["-requires", "Microsoft.VisualStudio.Component.VC.Tools.x86.x64"]);
    if let Some(folder) = first_line(&mut newest).filter(|folder| !folder.is_empty()) {
        return Row::good(name, format!("Visual C++ in {folder}"));
    }
    // In a "Developer Command Prompt" it is in PATH, wherever it lies.
    if first_line(Command::new("where").arg("cl.exe")).is_some() {
        return Row::good(name, "Visual C++, in PATH");
    }
    let advice = "install Visual Studio's Build Tools with \"Desktop development with C++\": \
                  `winget install Microsoft.VisualStudio.2022.BuildTools`";
    Row::bad(name, "there is no Visual C++ for x64", advice)
}

fn libtorch(own: &Result<Option<PathBuf>, Fault>, folder: &Path) -> Row {
    if let Err(why) = own {
        return fault("libtorch", why);
    }
    if let Err(why) = libtorch::check(folder) {
        let advice = "`cargo xtask setup`, or point LIBTORCH at a libtorch 2.11.0";
        return Row::bad("libtorch", why, advice);
    }
    let origin = match own {
        Ok(Some(_)) if folder.join("version.py").exists() => "pip's PyTorch, by your LIBTORCH",
        Ok(Some(_)) => "by your LIBTORCH",
        _ => "from setup",
    };
    let kind = match () {
        _ if libtorch::has_cuda(folder) => "with CUDA",
        _ if cfg!(target_os = "macos") && has_mps(folder) => "with MPS (`--device mps`)",
        _ => "for CPUs",
    };
    let version = libtorch::VERSION;
    Row::good("libtorch", format!("{version} {kind} in {} ({origin})", folder.display()))
}

fn fault(name: &str, fault: &Fault) -> Row {
    Row::bad(name, &fault.what, &fault.way_out)
}

/// Only where the library path leads to another libtorch, as users of tch have it in their shell's start-up
/// file.
fn library_path(folder: &Path) -> Option<Row> {
    let ours = folder.join("lib");
    let path = env::var_os(LIBRARY_PATH)?;
    let other = env::split_paths(&path).find(|folder| libtorch::holds_libtorch(folder))?;
    if libtorch::is_same(&other, &ours) {
        return None;
    }
    let finding = format!("leads to another libtorch, in {}", other.display());
    // On Linux a program's RPATH comes first, and on Windows the program's own folder.
    if !cfg!(target_os = "macos") {
        return Some(Row::good(LIBRARY_PATH, finding + "; it does no harm, ours comes first"));
    }
    let advice = libtorch::unset(&[LIBRARY_PATH]);
    Some(Row::bad(LIBRARY_PATH, finding + ", which comes before ours", &advice))
}

/// Only where a library of another libtorch, or of its kind of threads, is loaded into every program.
fn preloaded(folder: &Path) -> Option<Row> {
    let ours = folder.join("lib");
    let list = env::var(PRELOAD).ok().filter(|_| cfg!(unix))?;
    let foreign = |prefixes: &[&str]| {
        list.split([':', ' ']).map(Path::new).find(|library| {
            let name = library.file_name().and_then(OsStr::to_str).unwrap_or_default();
            prefixes.iter().any(|prefix| name.starts_with(prefix))
                && !library.parent().is_some_and(|folder| libtorch::is_same(folder, &ours))
        })
    };
    let advice = libtorch::unset(&[PRELOAD]);
    if let Some(library) = foreign(&["libtorch", "libc10"]) {
        let finding = format!("puts {} in the place of ours", library.display());
        return Some(Row::bad(PRELOAD, finding, &advice));
    }
    let library = foreign(&["libgomp", "libomp", "libiomp"])?;
    let finding = format!("puts {} in the place of libtorch's own", library.display());
    let advice = format!("if programs are slow or break off: {advice}");
    Some(Row::good(PRELOAD, finding).advise(&advice))
}

fn cores() -> Row {
    let cores = thread::available_parallelism().map_or("unknown".into(), |n| n.to_string());
    Row::good("cores", cores)
}

/// The instructions that make a CPU fast at this.
fn vector_units() -> Row {
    let units: &[(&str, bool)] = &[
        #[cfg(target_arch = "x86_64")]
        ("AVX2", is_x86_feature_detected!("avx2")),
        #[cfg(target_arch = "x86_64")]
        ("AVX-512", is_x86_feature_detected!("avx512f")),
        #[cfg(target_arch = "x86_64")]
        ("AVX-512 bf16", is_x86_feature_detected!("avx512bf16")),
        #[cfg(target_arch = "aarch64")]
        ("NEON", std::arch::is_aarch64_feature_detected!("neon")),
        #[cfg(target_arch = "aarch64")]
        ("bf16", std::arch::is_aarch64_feature_detected!("bf16")),
    ];
    let said = units.iter().map(|(name, has)| format!("{}{name}", if *has { "" } else { "no " }));
    let said: Vec<String> = said.collect();
    let finding = match units.first() {
        None => "unknown on this architecture".into(),
        Some((_, true)) => said.join(", "),
        Some((_, false)) => format!("{}; the lessons will be slow", said.join(", ")),
    };
    Row::good("vector instructions", finding)
}

fn memory() -> Row {
    match (machine::memory("MemAvailable"), machine::memory("MemTotal")) {
        (Some(free), Some(all)) => {
            Row::good("memory", format!("{free:.1} GiB free of {all:.1} GiB"))
        }
        _ => Row::good("memory", "unknown on this system"),
    }
}

/// Builds and runs the probe program, `tch-ext/examples/probe.rs`, and reports what it finds.
fn probe(folder: &Path) -> Result<Vec<Row>> {
    println!("    building and running the probe (some minutes the first time)");
    let mut probe = cargo::command();
    probe.args(["run", "--package", "tch-ext", "--example", "probe"]).stderr(Stdio::inherit());
    let output = probe.output().context("cannot run cargo")?;
    let lines = String::from_utf8_lossy(&output.stdout).into_owned();
    let said: Vec<(&str, &str)> = lines.lines().filter_map(|line| line.split_once(": ")).collect();

    let mut rows = Vec::new();
    if let Some((_, version)) = said.iter().find(|(name, _)| *name == "libtorch") {
        rows.push(Row::good("libtorch runs", format!("and says that it is {version}")));
    }
    rows.push(cuda(folder, &said));
    for (name, value) in said.iter().filter(|(name, _)| name.contains(" on ")) {
        rows.push(if value.starts_with("right") {
            Row::good(name, *value)
        } else {
            Row::bad(name, *value, "another libtorch; this one computes wrongly here")
        });
    }
    if !output.status.success() && healthy(&rows) {
        let finding = "does not build or breaks off";
        rows.push(Row::bad("probe", finding, "read what cargo says above"));
    }
    Ok(rows)
}

/// Whether a GPU can be used, and if not, which of the things that it takes is missing.
fn cuda(folder: &Path, said: &[(&str, &str)]) -> Row {
    let gpus = said.iter().find(|(name, _)| *name == "GPUs").map_or("0", |(_, gpus)| gpus);
    let driver = Path::new("/proc/driver/nvidia/version").exists();
    let for_cpus = "not linked and not available: this libtorch is for CPUs";
    let (finding, advice) = match libtorch::has_cuda(folder) {
        _ if gpus != "0" => {
            return Row::good("CUDA", format!("linked and available, GPUs: {gpus}"));
        }
        false if !driver => return Row::good("CUDA", for_cpus),
        false => (for_cpus, "to use the GPU: `cargo xtask setup --cuda`, or a LIBTORCH with CUDA"),
        true if said.contains(&("CUDA linked", "false")) => (
            "not linked, although this libtorch has CUDA, so not available",
            "`cargo clean`, then once more",
        ),
        true if !driver => (
            "linked, not available: there is no NVIDIA driver",
            "on a machine with an NVIDIA GPU, install its driver",
        ),
        true => (
            "linked, not available: the driver is there and shows no GPU",
            "run `nvidia-smi`, look at CUDA_VISIBLE_DEVICES, and update the driver for CUDA 13",
        ),
    };
    Row::good("CUDA", finding).advise(advice)
}
