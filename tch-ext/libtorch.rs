// What a build script has to know about libtorch. A linker argument reaches only the programs of the
// package whose build script prints it, so every package with programs includes this file.
use std::env::consts::{DLL_PREFIX, DLL_SUFFIX};
use std::path::{Path, PathBuf};
use std::{env, fs};

/// The one version that our tch binds.
pub const VERSION: &str = "2.11.0";

/// Where a libtorch says its version, whether from pytorch.org or from pip.
const VERSION_HEADER: &str = "include/torch/headeronly/version.h";

/// Tells cargo how to link this package's programs to libtorch, and returns libtorch's folder.
/// If there is none to link to, the build ends with one sentence that says what to do.
pub fn link() -> Option<PathBuf> {
    println!("cargo::rerun-if-env-changed=LIBTORCH");
    let libtorch = PathBuf::from(env::var_os("LIBTORCH").unwrap_or_default());
    if libtorch.as_os_str().is_empty() {
        println!(
            "cargo::error=LIBTORCH is not set: run cargo inside the repository, whose .cargo/config.toml sets it"
        );
        return None;
    }
    println!("cargo::rerun-if-changed={}", libtorch.join(VERSION_HEADER).display());
    println!("cargo::rerun-if-changed={}", libtorch.join("lib").display());
    if let Err(why) = check(&libtorch) {
        println!(
            "cargo::error={why}: run `cargo xtask setup`, or point LIBTORCH at a libtorch {VERSION}"
        );
        return None;
    }
    link_programs(&libtorch);
    Some(libtorch)
}

/// Whether `libtorch` is a folder to build against: the archive from pytorch.org, or the folder
/// `torch` of PyTorch as pip installs it.
///
/// # Errors
/// What is wrong with it, a sentence without its end, so that the caller can say the way out.
pub fn check(libtorch: &Path) -> Result<(), String> {
    let folder = libtorch.display();
    if libtorch.is_relative() {
        return Err(format!("the path {folder} does not start at the root"));
    }
    if !libtorch.join(format!("lib/{DLL_PREFIX}torch_cpu{DLL_SUFFIX}")).exists() {
        return Err(format!("there is no libtorch in {folder}"));
    }
    match version(libtorch).as_deref() {
        Some(VERSION) => Ok(()),
        Some(other) => Err(format!("the libtorch in {folder} has version {other}, not {VERSION}")),
        None => Err(format!("the libtorch in {folder} is not version {VERSION}")),
    }
}

/// `2.11.0` from the three lines `#define TORCH_VERSION_MAJOR 2`, `…_MINOR 11` and `…_PATCH 0`.
fn version(libtorch: &Path) -> Option<String> {
    let header = fs::read_to_string(libtorch.join(VERSION_HEADER)).ok()?;
    let part = |name: &str| {
        let definition = format!("#define TORCH_VERSION_{name} ");
        header.lines().find_map(|line| line.strip_prefix(&definition))
    };
    Some(format!("{}.{}.{}", part("MAJOR")?, part("MINOR")?, part("PATCH")?))
}

/// Whether the libtorch in a folder can use NVIDIA's GPUs.
pub fn has_cuda(libtorch: &Path) -> bool {
    libtorch.join(format!("lib/{DLL_PREFIX}torch_cuda{DLL_SUFFIX}")).exists()
}

fn link_programs(libtorch: &Path) {
    // Windows has no rpath: its programs look along PATH.
    if cfg!(unix) {
        println!("cargo::rustc-link-arg=-Wl,-rpath,{}", libtorch.join("lib").display());
    }
    // Nothing in a program names libtorch_cuda, which registers itself when it is loaded, so a linker
    // that drops unneeded libraries would drop it, and CUDA would silently not be there.
    if cfg!(target_os = "linux") && has_cuda(libtorch) {
        println!("cargo::rustc-link-arg=-Wl,--push-state,--no-as-needed,-ltorch_cuda,--pop-state");
    }
}
