//! The lecture's `Cargo.toml` and `Cargo.lock`.

use std::{collections::HashSet, env, fs, process::Command};

use anyhow::{Context, Result, ensure};
use toml_edit::{ArrayOfTables, DocumentMut, Item, Table, value};

use crate::git::Tree;

/// Makes the manifests of the lecture's commits, one after the other.
pub struct Manifest {
    head: DocumentMut,
    /// Every word of the Rust code so far.
    words: HashSet<String>,
    /// The manifest for which the lock file was made last, without its program.
    locked: String,
}

impl Manifest {
    /// # Errors
    /// The tree has no `Cargo.toml`, or it is not TOML.
    pub fn of(head: &Tree) -> Result<Self> {
        let text = head.text("Cargo.toml")?.context("HEAD has no Cargo.toml")?;
        let head = text.parse().context("Cargo.toml")?;
        Ok(Self { head, words: HashSet::new(), locked: String::new() })
    }

    /// Gives the tree a manifest with one program, or none, with those members that are there, and
    /// with those dependencies that the code of this tree or of one before it names; and the lock
    /// file that goes with it.
    ///
    /// # Errors
    /// Cargo cannot make the lock file.
    pub fn write_into(&mut self, tree: &mut Tree, program: Option<(&str, &str)>) -> Result<()> {
        self.read_words(tree)?;
        let mut manifest = self.head.clone();
        if let Some(members) = manifest["workspace"]["members"].as_array_mut() {
            members.retain(|member| {
                member.as_str().is_some_and(|member| tree.has(&format!("{member}/Cargo.toml")))
            });
        }
        for table in ["dependencies", "dev-dependencies"] {
            if let Some(table) = manifest.get_mut(table).and_then(Item::as_table_mut) {
                table.retain(|name, _| self.words.contains(&name.replace('-', "_")));
            }
        }
        manifest.remove("bin");
        let without_program = manifest.to_string();
        if let Some((name, path)) = program {
            manifest.insert("bin", Item::ArrayOfTables(bin(name, path)));
        }
        tree.put("Cargo.toml", &manifest.to_string())?;
        if without_program != self.locked && tree.has("Cargo.lock") {
            tree.put("Cargo.lock", &lock(tree)?)?;
        }
        self.locked = without_program;
        Ok(())
    }

    fn read_words(&mut self, tree: &Tree) -> Result<()> {
        let is_code = |path: &&str| {
            let in_folder = ["src/", "steps/", "tests/"].iter().any(|name| path.starts_with(name));
            path.ends_with(".rs") && (in_folder || *path == "build.rs")
        };
        for path in tree.paths().filter(is_code) {
            let text = tree.text(path)?.unwrap_or_default();
            let words = text.split(|c: char| !c.is_alphanumeric() && c != '_');
            self.words.extend(words.map(str::to_string));
        }
        Ok(())
    }
}

fn bin(name: &str, path: &str) -> ArrayOfTables {
    let mut table = Table::new();
    table.insert("name", value(name));
    table.insert("path", value(path));
    table.insert("test", value(false));
    ArrayOfTables::from_iter([table])
}

/// The lock file without what the manifest no longer needs. Versions stay, and cargo asks nobody.
fn lock(tree: &Tree) -> Result<String> {
    let folder = tree.export()?;
    let mut cargo = Command::new(env::var("CARGO").unwrap_or_else(|_| "cargo".into()));
    cargo.args(["update", "--workspace", "--offline", "--quiet"]).current_dir(&folder);
    let output = cargo.output().context("cargo does not run")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "cargo cannot make the lecture's Cargo.lock: {}", said.trim());
    Ok(fs::read_to_string(folder.path().join("Cargo.lock"))?)
}
