//! Whether a folder with a libtorch is whole: told by the libraries' own records, so that it can be told
//! of a platform on which nothing can be run here.
//!
//! Three things are looked at. Each library that is loaded finds those that it needs: in the folder, or the
//! system has them. Each calls itself by the name by which programs will look for it. And what our C++ calls is
//! there: all of torch's operators that the headers declare (so that tch, which is compiled with these headers, can
//! call no other), and the functions in [`CALLED`]. What it does not show: that the code in the libraries runs.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use anyhow::{Context, Result, bail, ensure};
use object::BinaryFormat;
use regex::Regex;

use crate::libtorch;

use super::{
    platform::{Platform, is_of_the_system},
    records::{Library, defined, import_library},
};

/// What the C++ of torch-sys and of tch-ext calls besides the operators. (A test compares it with what the
/// compiler has made of that C++.)
const CALLED: &str = include_str!("called.txt");

/// A small file for the linker in place of an empty library: see [`super::fetch`].
pub const LINKER_SCRIPT: &str =
    "/* for the linker: libtorch is libtorch_cpu */\nINPUT(-ltorch_cpu)\n";

/// What was found.
pub struct Whole {
    /// The libraries that are loaded, with their sizes in bytes.
    pub libraries: BTreeMap<String, u64>,
    /// What they need of the system.
    pub of_the_system: BTreeSet<String>,
    /// How many operators and functions were looked for, and found.
    pub symbols: usize,
}

/// Whether among the libraries is the one by which libtorch uses the GPU of a Mac.
pub fn needs_mps<'a>(needed: impl IntoIterator<Item = &'a String>) -> bool {
    needed.into_iter().any(|name| name.ends_with("/MetalPerformanceShadersGraph"))
}

/// # Errors
/// What is not right, a sentence without its end.
pub fn check(folder: &Path, platform: Platform) -> Result<Whole> {
    let version =
        libtorch::header_version(folder).context("its headers do not say their version")?;
    ensure!(version == libtorch::VERSION, "it has version {version}, not {}", libtorch::VERSION);
    let lib = folder.join("lib");
    let mut whole =
        Whole { libraries: BTreeMap::new(), of_the_system: BTreeSet::new(), symbols: 0 };
    let mut ahead: Vec<String> =
        ["c10", "torch_cpu", "torch"].map(|name| platform.library(name)).into();
    let torch = fs::read_to_string(lib.join(platform.library("torch")));
    let cuda = platform.library("torch_cuda");
    if lib.join(&cuda).exists() {
        ahead.push(cuda);
    } else if torch.is_ok_and(|text| text == LINKER_SCRIPT) {
        ahead.pop();
    }
    while let Some(name) = ahead.pop() {
        let path = lib.join(&name);
        if whole.libraries.contains_key(&name) {
            continue;
        }
        let bytes = fs::metadata(&path).with_context(|| format!("there is no {name}"))?.len();
        whole.libraries.insert(name.clone(), bytes);
        let library = Library::read(&path).with_context(|| format!("cannot read {name}"))?;
        check_names(&name, &library, platform)?;
        for needed in &library.needs {
            if is_of_the_system(needed) {
                whole.of_the_system.insert(needed.clone());
            } else {
                ahead.push(find(&lib, &name, &library, needed)?);
            }
        }
    }
    whole.symbols = check_symbols(folder, platform)?;
    Ok(whole)
}

/// Whether the library is for the platform, and called as its file is. (One that nobody but its neighbours
/// asks for may have another name, or none: they ask for its file.)
fn check_names(file: &str, library: &Library, platform: Platform) -> Result<()> {
    ensure!(
        (library.format, library.architecture) == platform.code(),
        "{file} is not for {}",
        platform.name()
    );
    let expected = match library.format {
        BinaryFormat::MachO => format!("@rpath/{file}"),
        _ => file.to_string(),
    };
    let linked = ["c10", "torch_cpu", "torch", "torch_cuda"].map(|name| platform.library(name));
    let name = library.name.as_deref().unwrap_or("nothing");
    ensure!(
        !linked.contains(&file.to_string()) || name == expected,
        "{file} calls itself {name}, where programs would not find it"
    );
    Ok(())
}

/// The file in the folder `lib` that the loader will take when `library`, the file `asking`, asks for `needed`.
fn find(lib: &Path, asking: &str, library: &Library, needed: &str) -> Result<String> {
    let looks_in = |folder: &str| {
        library.looks_in.iter().any(|path| path.trim_end_matches(['/', '.']) == folder)
    };
    let (name, looks_here) = match library.format {
        BinaryFormat::MachO => match needed.split_once('/') {
            Some(("@rpath", name)) => (name, looks_in("@loader_path")),
            Some(("@loader_path", name)) => (name, true),
            _ => (needed, false),
        },
        BinaryFormat::Elf => (needed, looks_in("$ORIGIN")),
        // Windows looks in the folder of the program, to which the build brings all DLLs.
        _ => (needed, true),
    };
    let there = fs::read_dir(lib)?.filter_map(|file| file.ok()?.file_name().into_string().ok());
    let same = |file: &String| match library.format {
        BinaryFormat::Pe => file.eq_ignore_ascii_case(name),
        _ => file == name,
    };
    let Some(file) = there.into_iter().find(same) else {
        bail!("{asking} needs {needed}, which is not there and not the system's");
    };
    ensure!(looks_here, "{asking} needs {needed}, and does not look for it in its own folder");
    Ok(file)
}

/// Looks for what our C++ calls; returns how much that is.
fn check_symbols(folder: &Path, platform: Platform) -> Result<usize> {
    let mut called = operators(&folder.join("include/ATen/ops"))?;
    called.extend(CALLED.lines().map(str::to_string));

    let lib = folder.join("lib");
    let mut offered = BTreeSet::new();
    for name in ["torch_cpu", "c10"] {
        let library = platform.library(name);
        let cannot_read = || format!("cannot read the symbols of {library}");
        let mut symbols = defined(&lib.join(&library)).with_context(cannot_read)?;
        if platform == Platform::WindowsX86_64 {
            // The linker reads these, so what is missing here is missing for us.
            let linked = import_library(&lib.join(format!("{name}.lib")));
            let (dll, linked) = linked.with_context(cannot_read)?;
            ensure!(dll == library, "{name}.lib is for {dll}, not for {library}");
            symbols.retain(|symbol| linked.contains(symbol));
        }
        offered.extend(symbols);
    }
    for function in &called {
        let offers = |start: &String| {
            offered.range(start.clone()..).next().is_some_and(|symbol| symbol.starts_with(start))
        };
        ensure!(
            starts(function, platform).iter().any(offers),
            "the libraries do not define {function}, which tch calls"
        );
    }
    Ok(called.len())
}

/// All operators that the headers declare, one `at::_ops::name::call` each.
fn operators(headers: &Path) -> Result<BTreeSet<String>> {
    let declaration = Regex::new(r"(?m)^struct TORCH_API (\w+) \{")?;
    let mut names = BTreeSet::new();
    let files =
        fs::read_dir(headers).with_context(|| format!("there is no {}", headers.display()))?;
    for file in files {
        let path = file?.path();
        if path.to_string_lossy().ends_with("_ops.h") {
            let text = fs::read_to_string(&path)?;
            let found = declaration.captures_iter(&text);
            names.extend(found.map(|name| format!("at::_ops::{}::call", &name[1])));
        }
    }
    ensure!(!names.is_empty(), "no header in {} declares an operator", headers.display());
    Ok(names)
}

/// How the symbols of a function can begin, whatever its parameters are. A compiler's symbol begins with the
/// function's name and the scopes it lies in: each with its length before it, or, by Microsoft's compiler, from the
/// inside to the outside. The second is for a function that is `const`.
fn starts(function: &str, platform: Platform) -> Vec<String> {
    let scopes: Vec<_> = function.split("::").collect();
    if scopes.len() == 1 {
        return vec![function.into()]; // a C function
    }
    if platform == Platform::WindowsX86_64 {
        let inside_out: Vec<_> = scopes.into_iter().rev().collect();
        return vec![format!("?{}@@", inside_out.join("@"))];
    }
    let measured: String = scopes.iter().map(|scope| format!("{}{scope}", scope.len())).collect();
    vec![format!("_ZN{measured}E"), format!("_ZNK{measured}E")]
}
