// Tells the linker where the program will find libtorch when it runs, and makes tests of the examples in the
// documentation: rustdoc's own tests would not find libtorch.
#[path = "../tch-ext/libtorch.rs"]
mod libtorch;

use std::{env, fs, path::Path};

fn main() {
    libtorch::link();
    let examples = fs::read_dir("src").expect("the package's folder").flat_map(|file| {
        let path = file.expect("a readable folder").path();
        let is_in_library = path.is_file() && !path.ends_with("main.rs");
        if is_in_library { examples_in(&path) } else { Vec::new() }
    });
    let examples: String = examples.collect();
    let out = env::var("OUT_DIR").expect("cargo sets it");
    fs::write(Path::new(&out).join("examples.rs"), examples).expect("cargo's folder");
}

/// A test for each block of Rust in the file's documentation.
fn examples_in(path: &Path) -> Vec<String> {
    println!("cargo::rerun-if-changed={}", path.display());
    let text = fs::read_to_string(path).expect("a source");
    let stem = path.file_stem().and_then(|stem| stem.to_str()).expect("a module's name");
    let docs = text.lines().map(|line| {
        let line = line.trim_start();
        line.strip_prefix("///").or(line.strip_prefix("//!")).unwrap_or_default()
    });
    let (mut examples, mut block) = (Vec::new(), None::<(bool, String)>);
    for (i, line) in docs.enumerate() {
        match (&mut block, line.trim_start().strip_prefix("```")) {
            (None, Some(language)) => {
                let begin = format!("#[test]\nfn {stem}_line_{}() {{\n", i + 1);
                block = Some((["", "rust"].contains(&language), begin));
            }
            (Some((is_rust, code)), Some(_)) => {
                examples.extend(is_rust.then(|| format!("{code}}}\n")));
                block = None;
            }
            (Some((_, code)), None) => *code += &format!("{line}\n"),
            (None, None) => {}
        }
    }
    examples
}
