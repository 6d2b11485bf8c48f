// Tells the linker where the programs will find libtorch when they run, and lists the steps for
// `all_steps`.
#[path = "../tch-ext/libtorch.rs"]
mod libtorch;

use std::{env, fs, path::Path};

fn main() {
    libtorch::link();
    let steps = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("steps");
    println!("cargo::rerun-if-changed={}", steps.display());
    let file = Path::new(&env::var_os("OUT_DIR").expect("cargo sets it")).join("steps.rs");
    fs::write(file, modules(&steps)).expect("OUT_DIR can be written");
}

/// A module for every `steps/stepNN_name.rs`, and a table of their names and doors.
fn modules(folder: &Path) -> String {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut files: Vec<_> = entries.map(|entry| entry.path()).collect();
    files.sort();
    let (mut modules, mut table) = (String::new(), String::new());
    for file in files.iter().filter(|file| file.extension().is_some_and(|end| end == "rs")) {
        let name = file.file_stem().expect("a file").to_string_lossy();
        if !name.starts_with("step") {
            continue;
        }
        // `main` is private; a module within sees it.
        modules += &format!(
            "mod {name} {{\n    include!({file:?});\n    \
             pub mod door {{\n        pub fn enter() -> std::process::ExitCode {{ super::main() }}\n    }}\n}}\n"
        );
        table += &format!("    ({name:?}, {name}::door::enter),\n");
    }
    format!("{modules}\nconst STEPS: &[(&str, Door)] = &[\n{table}];\n")
}
