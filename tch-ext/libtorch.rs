// What a build script has to know about libtorch. A linker argument reaches only the programs of the
// package whose build script prints it, so every package with programs includes this file. So does xtask,
// that setup, doctor and the build always agree.
#![allow(dead_code)] // nobody needs all of it

use std::env::consts::{DLL_PREFIX, DLL_SUFFIX};
use std::ffi::OsStr;
use std::fmt::{self, Display, Formatter};
use std::path::{Path, PathBuf};
use std::{env, fs, io, process};

/// The one version that our tch binds.
pub const VERSION: &str = "2.11.0";

/// Where a libtorch says its version, whether from pytorch.org or from pip.
const VERSION_HEADER: &str = "include/torch/headeronly/version.h";

/// The variables, other than LIBTORCH, by which torch-sys can be turned to another libtorch. (It reads two
/// more: LIBTORCH_BYPASS_VERSION_CHECK, but we check the version ourselves, and TORCH_CUDA_VERSION, which
/// says what to download where LIBTORCH is not set.)
const VARIABLES: [&str; 5] = [
    "LIBTORCH_USE_PYTORCH",
    "LIBTORCH_INCLUDE",
    "LIBTORCH_LIB",
    "LIBTORCH_STATIC",
    "LIBTORCH_CXX11_ABI",
];

/// Why nothing can be built. Displayed, it is one sentence.
#[derive(Debug)]
pub struct Fault {
    pub what: String,
    pub way_out: String,
}

impl Display for Fault {
    fn fmt(&self, f: &mut Formatter) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.way_out)
    }
}

impl std::error::Error for Fault {}

fn fault(what: impl Into<String>, way_out: impl Into<String>) -> Fault {
    Fault { what: what.into(), way_out: way_out.into() }
}

/// For the build script that all others depend on: if there is no libtorch to build against, the build
/// ends with one sentence that says what to do.
pub fn guard() {
    if let Err(fault) = wanted() {
        println!("cargo::error={fault}");
    }
}

/// Tells cargo how to link this package's programs to libtorch, and returns libtorch's folder. `None` if
/// there is none to link to: then the guard says why, and nothing of this package is compiled.
pub fn link() -> Option<PathBuf> {
    let libtorch = wanted().ok()?;
    link_programs(&libtorch);
    Some(libtorch)
}

/// The libtorch to build against. Tells cargo to ask again when the answer may be another one.
fn wanted() -> Result<PathBuf, Fault> {
    for name in VARIABLES.iter().chain(&["LIBTORCH"]) {
        println!("cargo::rerun-if-env-changed={name}");
    }
    let Some(value) = env::var_os("LIBTORCH") else {
        return Err(fault(
            "LIBTORCH is not set",
            "run cargo inside the repository, whose .cargo/config.toml sets it",
        ));
    };
    for inside in [VERSION_HEADER, "lib"] {
        println!("cargo::rerun-if-changed={}", Path::new(&value).join(inside).display());
    }
    let libtorch = folder(&value)?;
    check(&libtorch).map_err(|what| {
        let way_out = format!("run `cargo xtask setup`, or point LIBTORCH at a libtorch {VERSION}");
        fault(what, way_out)
    })?;
    check_variables(&libtorch)?;
    Ok(libtorch)
}

/// The folder that is meant by a `value` of LIBTORCH.
///
/// # Errors
/// Where it cannot be meant so, and one can tell what is.
pub fn folder(value: &OsStr) -> Result<PathBuf, Fault> {
    let Some(text) = value.to_str() else {
        return Err(fault(
            format!("LIBTORCH is {}, which is not UTF-8", Path::new(value).display()),
            "move libtorch to a folder whose path is",
        ));
    };
    let bare = text.trim().trim_matches(['"', '\'']);
    if bare.is_empty() {
        return Err(fault(
            format!(
                "LIBTORCH is empty ({text:?}), as a failed `export LIBTORCH=$(python3 …)` leaves it"
            ),
            format!(
                "{} and run `cargo xtask setup`, or `pip install torch=={VERSION}` and set it again",
                unset(&["LIBTORCH"])
            ),
        ));
    }
    if bare != text && !Path::new(text).exists() {
        return Err(fault(
            format!("LIBTORCH is {text:?}, with spaces or quotation marks around the path"),
            format!("set it to {bare}"),
        ));
    }
    if text.starts_with(['~', '$', '%']) {
        return Err(fault(
            format!("LIBTORCH is {text}, whose beginning the shell has not replaced by a folder"),
            "write the whole path, or set it without quotation marks around it",
        ));
    }
    let path = PathBuf::from(text);
    if path.is_relative() {
        // The shell's working folder; a build script's own is another one.
        let whole = Path::new(&env::var_os("PWD").unwrap_or_default()).join(&path);
        let way_out =
            if is_libtorch(&whole) { point_at(&whole) } else { "write the whole path".into() };
        return Err(fault(
            format!("LIBTORCH is {text}, which does not start at the root"),
            way_out,
        ));
    }
    match misplaced(&path) {
        Some((what, way_out)) => Err(fault(format!("LIBTORCH is {text}, {what}"), way_out)),
        None => Ok(path),
    }
}

/// What `path` is, if it is no libtorch, but near one, and what to do.
fn misplaced(path: &Path) -> Option<(&'static str, String)> {
    if is_libtorch(path) || !path.exists() {
        return None;
    }
    if let Some(libtorch) = path.ancestors().find(|folder| is_libtorch(folder)) {
        return Some(("which lies inside a libtorch", point_at(libtorch)));
    }
    if path.is_file() {
        let way_out = match path.extension().and_then(OsStr::to_str) {
            Some("zip" | "whl") => {
                "unpack it, and point LIBTORCH at the folder with `lib` and `include`".into()
            }
            _ => format!("point it at the folder of a libtorch {VERSION}"),
        };
        return Some(("a file and not a folder", way_out));
    }
    let pythons = fs::read_dir(path.join("lib")).into_iter().flatten().flatten();
    let packages = pythons.map(|python| python.path().join("site-packages/torch"));
    let below = ["torch", "libtorch", "Lib/site-packages/torch"].map(|name| path.join(name));
    let libtorch = below.into_iter().chain(packages).find(|folder| is_libtorch(folder))?;
    Some(("a folder around a libtorch", point_at(&libtorch)))
}

fn point_at(folder: &Path) -> String {
    format!("point it at {}", folder.display())
}

fn is_libtorch(folder: &Path) -> bool {
    main_library(folder).exists() && folder.join("include/torch").exists()
}

fn main_library(libtorch: &Path) -> PathBuf {
    libtorch.join(format!("lib/{DLL_PREFIX}torch_cpu{DLL_SUFFIX}"))
}

/// Whether `libtorch` is a folder to build against: the archive from pytorch.org, or the folder
/// `torch` of PyTorch as pip installs it.
///
/// # Errors
/// What is wrong with it, a sentence without its end, so that the caller can say the way out.
pub fn check(libtorch: &Path) -> Result<(), String> {
    let folder = libtorch.display();
    if !main_library(libtorch).exists() {
        let of_another_system = ["libtorch_cpu.so", "libtorch_cpu.dylib", "torch_cpu.dll"]
            .iter()
            .any(|name| libtorch.join("lib").join(name).exists());
        return Err(if of_another_system {
            format!("the libtorch in {folder} is for another operating system")
        } else {
            format!("there is no libtorch in {folder}")
        });
    }
    let headers = header_version(libtorch);
    // torch-sys compares the second one, too.
    let versions = [headers.clone(), noted_version(libtorch)].into_iter().flatten();
    if let Some(other) = versions.into_iter().find(|version| version != VERSION) {
        return Err(format!("the libtorch in {folder} has version {other}, not {VERSION}"));
    }
    match headers {
        Some(_) => Ok(()),
        None => Err(format!("the libtorch in {folder} lacks the headers of version {VERSION}")),
    }
}

/// `2.11.0` from the three lines `#define TORCH_VERSION_MAJOR 2`, `…_MINOR 11` and `…_PATCH 0`.
pub fn header_version(libtorch: &Path) -> Option<String> {
    let header = fs::read_to_string(libtorch.join(VERSION_HEADER)).ok()?;
    let part = |name: &str| {
        let definition = format!("#define TORCH_VERSION_{name} ");
        header.lines().find_map(|line| line.strip_prefix(&definition))
    };
    Some(format!("{}.{}.{}", part("MAJOR")?, part("MINOR")?, part("PATCH")?))
}

/// `2.11.0` from the archive's note, `2.11.0+cpu`, or from pip's, `__version__ = '2.11.0+cu130'`. Older ones
/// have no such header.
fn noted_version(libtorch: &Path) -> Option<String> {
    let read = |name: &str| fs::read_to_string(libtorch.join(name)).ok();
    let note = read("build-version").or_else(|| {
        let module = read("version.py")?;
        let version = module.lines().find_map(|line| line.strip_prefix("__version__ = "))?;
        Some(version.trim().trim_matches(['"', '\'']).to_string())
    })?;
    Some(note.trim().split('+').next()?.to_string())
}

/// Whether nothing else in the environment would have programs built against another libtorch than
/// this one.
///
/// # Errors
/// All the variables that would, which another project may have left in a shell's start-up file.
pub fn check_variables(libtorch: &Path) -> Result<(), Fault> {
    let set: Vec<_> = VARIABLES
        .into_iter()
        // torch-sys, too, takes a value that is not UTF-8 for none.
        .filter_map(|name| Some((name, env::var(name).ok()?)))
        .filter_map(|(name, value)| Some((name, effect(name, &value, libtorch)?, value)))
        .collect();
    if !set.is_empty() {
        let says =
            |(name, effect, value): &(_, _, _)| format!("{name} is {value:?}, which {effect}");
        let what = set.iter().map(says).collect::<Vec<_>>().join("; ");
        let names: Vec<_> = set.iter().map(|(name, ..)| *name).collect();
        return Err(fault(what, format!("{}, for LIBTORCH says it all here", unset(&names))));
    }
    match in_rustflags(&libtorch.join("lib")) {
        Some(other) => Err(fault(
            format!("RUSTFLAGS leads to another libtorch, in {other}"),
            "take that folder out of it (or out of `rustflags` in a .cargo/config.toml)",
        )),
        None => Ok(()),
    }
}

/// What torch-sys does on seeing this variable, if that is not what it does without it.
fn effect(name: &str, value: &str, libtorch: &Path) -> Option<&'static str> {
    let ours = is_same(Path::new(value), libtorch);
    match name {
        "LIBTORCH_USE_PYTORCH" => Some("with any value asks python3 for another libtorch"),
        "LIBTORCH_INCLUDE" if !ours => Some("names the headers of another libtorch"),
        "LIBTORCH_LIB" if !ours => Some("names the libraries of another libtorch"),
        "LIBTORCH_STATIC" if !["0", "false", "FALSE"].contains(&value) => {
            Some("asks for static libraries")
        }
        "LIBTORCH_CXX11_ABI" if value != "1" => Some("asks for another C++ ABI"),
        _ => None,
    }
}

/// A folder with another libtorch among the flags, as in `-L FOLDER` or `-C link-arg=-Wl,-rpath,FOLDER`,
/// which the linker or the program would take before ours.
fn in_rustflags(ours: &Path) -> Option<String> {
    // A build script is told all flags there are, the user's shell knows the variable.
    let flags = env::var("CARGO_ENCODED_RUSTFLAGS").or_else(|_| env::var("RUSTFLAGS")).ok()?;
    let words = flags.split(['\u{1f}', ' ', '=', ',']).map(|word| word.trim_start_matches("-L"));
    let mut folders = words.filter(|word| Path::new(word).is_absolute());
    folders
        .find(|f| holds_libtorch(Path::new(f)) && !is_same(Path::new(f), ours))
        .map(str::to_string)
}

/// Whether a linker that looks into this folder, or a program that starts, finds a part of a libtorch in it.
pub fn holds_libtorch(folder: &Path) -> bool {
    ["torch", "torch_cpu", "c10"]
        .iter()
        .any(|name| folder.join(format!("{DLL_PREFIX}{name}{DLL_SUFFIX}")).exists())
}

/// Whether two paths are those of one folder.
pub fn is_same(a: &Path, b: &Path) -> bool {
    a == b || matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

/// The command that takes variables out of the environment.
pub fn unset(names: &[&str]) -> String {
    if cfg!(windows) {
        let names: Vec<_> = names.iter().map(|name| format!("Env:{name}")).collect();
        return format!("`Remove-Item {}`", names.join(", "));
    }
    format!("`unset {}`", names.join(" "))
}

/// Whether the libtorch in a folder can use NVIDIA's GPUs.
pub fn has_cuda(libtorch: &Path) -> bool {
    libtorch.join(format!("lib/{DLL_PREFIX}torch_cuda{DLL_SUFFIX}")).exists()
}

fn link_programs(libtorch: &Path) {
    let lib = libtorch.join("lib");
    if cfg!(unix) {
        // `-Wl,` would split a path with a comma in it.
        for argument in ["-rpath", lib.to_str().expect("was UTF-8 in the variable")] {
            println!("cargo::rustc-link-arg=-Xlinker");
            println!("cargo::rustc-link-arg={argument}");
        }
    }
    if cfg!(target_os = "linux") {
        // Another libtorch in LD_LIBRARY_PATH wins over RUNPATH, which linkers write today, and not over
        // RPATH, which they wrote before.
        println!("cargo::rustc-link-arg=-Wl,--disable-new-dtags");
        // RPATH holds for what the program itself names. libtorch_cpu would look for libc10 by a RUNPATH of
        // its own. And nothing in a program names libtorch_cuda, which registers itself when it is
        // loaded: a linker that drops unneeded libraries would drop it, and CUDA would silently not
        // be there.
        let cuda = if has_cuda(libtorch) { ",-ltorch_cuda" } else { "" };
        println!("cargo::rustc-link-arg=-Wl,--push-state,--no-as-needed,-lc10{cuda},--pop-state");
    }
    // Windows has no rpath: a program finds the DLLs that lie beside it.
    if cfg!(windows) {
        let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
        // target/debug/build/PACKAGE/out
        let build = out.ancestors().find(|folder| folder.ends_with("build"));
        let programs = build.and_then(Path::parent).expect("cargo's layout");
        if let Err(error) = put_dlls(&lib, programs) {
            let folder = programs.display();
            println!("cargo::error=cannot put libtorch's DLLs into {folder}: {error}");
        }
    }
}

/// Puts the DLLs of the folder `lib` beside the programs: as hard links where that can be, since those of a
/// libtorch with CUDA are gigabytes. `cargo test` and the examples find them there, too.
pub fn put_dlls(lib: &Path, programs: &Path) -> io::Result<()> {
    for entry in fs::read_dir(lib)? {
        let dll = entry?.path();
        let Some(name) = dll.file_name().filter(|_| dll.extension() == Some(OsStr::new("dll")))
        else {
            continue;
        };
        let placed = programs.join(name);
        if same(&dll, &placed)? {
            continue;
        }
        // Another package's build script may be doing the same at this moment.
        let new = placed.with_extension(process::id().to_string());
        if fs::hard_link(&dll, &new).is_err() {
            fs::copy(&dll, &new)?;
        }
        fs::rename(&new, &placed)?;
    }
    Ok(())
}

/// Whether `copy` is a link to `original` or a copy of it.
fn same(original: &Path, copy: &Path) -> io::Result<bool> {
    let Ok(copy) = copy.metadata() else {
        return Ok(false);
    };
    let original = original.metadata()?;
    Ok((original.len(), original.modified()?) == (copy.len(), copy.modified()?))
}
