//! A small repository in a temporary folder, with two steps, a recorded run, a variation and pictures.

#![allow(dead_code)] // no test needs all of it

use std::{
    fs,
    path::{Path, PathBuf},
};

use tempfile::TempDir;

pub const STEP01: &str = r##"// step01_one: the first
//
// Run: cargo run

use std::fs;
use std::io;

const BATCH: i64 = 4; // B
const STEPS: i64 = 10;

// Draws from the data,
// at random.
fn batch(data: &[i64]) -> i64 {
    let first = data[0];
    first + "<&>".len() as i64
}

struct Model {
    table: i64,
}

impl Model {
    /// What comes next.
    fn forward(&self, idx: i64) -> i64 {
        let x = self.table + idx;
        x
    }
}
"##;

pub const STEP02: &str = r##"// step02_two: the second
//
// New since step01: a head.

use std::fs;
use std::io;

const BATCH: i64 = 4; // B
const HEADS: i64 = 2;
const STEPS: i64 = 10;

// Draws from the data,
// at random.
fn batch(data: &[i64]) -> i64 {
    let first = data[0];
    first + "<&>".len() as i64
}

/// Looks back.
struct Head {
    key: i64,
}

struct Model {
    table: i64,
    head: Head,
}

impl Model {
    /// What comes next.
    fn forward(&self, idx: i64) -> i64 {
        let x = self.table + idx;
        let x = x * self.head.key;
        x
    }
}
"##;

const PATCH: &str = r#"Title: Without the `key`
Kind: solution
Args: --steps 3
Shows: loss

diff --git a/steps/step02_two.rs b/steps/step02_two.rs
index 1111111..2222222 100644
--- a/steps/step02_two.rs
+++ b/steps/step02_two.rs
@@ -31,7 +31,6 @@ impl Model {
     /// What comes next.
     fn forward(&self, idx: i64) -> i64 {
         let x = self.table + idx;
-        let x = x * self.head.key;
         x
     }
 }
diff --git a/steps/proofs/step02.rs b/steps/proofs/step02.rs
index 1111111..2222222 100644
--- a/steps/proofs/step02.rs
+++ b/steps/proofs/step02.rs
@@ -1,3 +1,3 @@
 pub fn print() {
-    println!("proof");
+    println!("no proof");
 }
"#;

const OUTPUT: &str = "corpus: fables\n\nstep 0 | val 4.25 | 3 < 4\nstep 9 | val 1.50 |\nend\n";

const RECORD: &str = r#"{
    "values": [
        { "name": "val@0", "text": "4.25", "value": 4.25, "class": "tolerant", "tolerance": 0.01 },
        { "name": "val@9", "text": " 1.50", "value": 1.5, "class": "tolerant", "tolerance": 0.01 },
        { "name": "parameters", "text": "3,481", "value": 3481, "class": "exact" }
    ]
}"#;

const RUN: &str = "command = \"cargo run --bin step02_two\"\ncpu = \"A CPU\"\ncores = 2\nseconds = 1.25\nargs = []\n";

const SVG: &str = r##"<?xml version="1.0"?>
<!-- drawn

by hand -->
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9" role="none">

<defs><linearGradient id="g"/></defs>
<rect fill="url(#g)"/>
</svg>
"##;

pub const GLOSSARY: &str = "# Glossary\n\n## Key & query\n\nWords.\n\nLogits\n: Numbers.\n";

/// A repository whose files go with it.
pub struct Repository {
    pub folder: TempDir,
}

impl Repository {
    pub fn new() -> Repository {
        let repository = Repository { folder: TempDir::new().unwrap() };
        repository.write("steps/step01_one.rs", STEP01);
        repository.write("steps/step02_two.rs", STEP02);
        repository.write("steps/proofs/step01.rs", "pub fn print() {}\n");
        repository
            .write("steps/proofs/step02.rs", "pub fn print() {\n    println!(\"proof\");\n}\n");
        repository.write("steps/patches/step02-no_key.patch", PATCH);
        repository.write("src/rng.rs", "pub struct Rng;\n");
        repository.write("book/recorded/step02/output.txt", OUTPUT);
        repository.write("book/recorded/step02/run.toml", RUN);
        repository.write("book/recorded/step02/record.json", RECORD);
        repository.write("book/recorded/step02/loss.svg", SVG);
        repository.write("book/recorded/step02-no_key/output.txt", "loss 9\n");
        let patched = format!("{RUN}patch = \"steps/patches/step02-no_key.patch\"\n");
        repository.write("book/recorded/step02-no_key/run.toml", &patched);
        repository.write("book/src/pictures/head.svg", SVG);
        repository
    }

    /// A repository with a book of one chapter and a glossary, set up as ours is.
    pub fn with_chapter(text: &str) -> Repository {
        let repository = Repository::new();
        let own = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        repository.copy(own, "book.toml");
        for folder in ["theme", "src/fonts"] {
            for entry in fs::read_dir(own.join(folder)).into_iter().flatten() {
                let name = entry.unwrap().file_name().into_string().unwrap();
                repository.copy(own, &format!("{folder}/{name}"));
            }
        }
        let summary = "- [step02: two](step02_two.md)\n- [Glossary](glossary.md)\n";
        repository.write("book/src/SUMMARY.md", summary);
        repository.write("book/src/step02_two.md", text);
        repository.write("book/src/glossary.md", GLOSSARY);
        repository
    }

    /// Copies a file of a book into this one.
    fn copy(&self, book: &Path, file: &str) {
        let to = self.path(&format!("book/{file}"));
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(book.join(file), to).unwrap();
    }

    pub fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    pub fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
}
