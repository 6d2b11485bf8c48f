//! The lecture's `Cargo.toml` and `Cargo.lock`.

use std::{
    collections::{BTreeSet, HashSet},
    fs,
};

use anyhow::{Context, Result, bail, ensure};
use toml_edit::{ArrayOfTables, DocumentMut, Item, Table, value};

use crate::{cargo, git::Tree, variations::bin};

/// Makes the manifests of the lecture's commits, one after the other.
pub struct Manifest {
    head: DocumentMut,
    head_lock: Option<String>,
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
        let head_lock = head.text("Cargo.lock")?;
        let head = text.parse().context("Cargo.toml")?;
        Ok(Self { head, head_lock, words: HashSet::new(), locked: String::new() })
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
                let manifest = member.as_str().map(|member| format!("{member}/Cargo.toml"));
                tree.paths().any(|path| manifest.as_deref() == Some(path))
            });
        }
        for table in ["dependencies", "dev-dependencies"] {
            if let Some(table) = manifest.get_mut(table).and_then(Item::as_table_mut) {
                table.retain(|name, _| self.words.contains(&name.replace('-', "_")));
            }
        }
        manifest.remove("bin");
        // Until a step is whole, it has functions that nothing calls yet.
        manifest["workspace"]["lints"]["rust"]["dead_code"] = value("allow");
        let without_program = manifest.to_string();
        if let Some((name, path)) = program {
            manifest["bin"] = ArrayOfTables::from_iter([bin(name, path)]).into();
        }
        tree.put("Cargo.toml", &manifest.to_string())?;
        if let Some(head) = &self.head_lock
            && without_program != self.locked
        {
            // Not the commit before's, which lacks what this one needs anew: cargo would take the newest.
            tree.put("Cargo.lock", head)?;
            let lock = lock(tree, head)?;
            tree.put("Cargo.lock", &lock)?;
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

/// The tree's lock file, `head`, without what its manifests do not need. Each package that is left is as it
/// was, whatever newer ones this machine knows. Cargo cuts, for it alone knows which features are left.
fn lock(tree: &Tree, head: &str) -> Result<String> {
    let folder = tree.export()?;
    let mut cargo = cargo::command();
    cargo.args(["update", "--workspace", "--offline", "--quiet"]).current_dir(&folder);
    let output = cargo.output().context("cannot run cargo")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "cargo cannot make the lecture's Cargo.lock; if it lacks a package, `cargo fetch` gets it: {}",
        said.trim()
    );
    let lock = fs::read_to_string(folder.path().join("Cargo.lock"))?;
    let known = packages(head)?;
    if let Some(other) = packages(&lock)?.difference(&known).next() {
        bail!(
            "HEAD's Cargo.lock lacks {other}, which its manifests ask for: run `cargo check`, commit \
             Cargo.lock, and try again"
        );
    }
    Ok(lock)
}

/// The packages of a lock file, by name and version.
fn packages(lock: &str) -> Result<BTreeSet<String>> {
    let lock: DocumentMut = lock.parse().context("Cargo.lock")?;
    let packages = lock.get("package").and_then(Item::as_array_of_tables).into_iter().flatten();
    let word = |package: &Table, key| package[key].as_str().unwrap_or_default().to_string();
    Ok(packages.map(|package| word(package, "name") + " " + &word(package, "version")).collect())
}
