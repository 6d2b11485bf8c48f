//! A small repository of steps, in a temporary folder, for the tests that need git.
#![allow(dead_code, unused_imports)] // no test needs all of it

mod files;

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Output},
};

use tempfile::TempDir;

use files::FILES;
pub use files::STEPS;

/// A repository with a working tree.
pub struct Repository {
    folder: TempDir,
}

impl Repository {
    /// The small one, committed on the branch `main`.
    pub fn new() -> Self {
        let repository = Self { folder: tempfile::tempdir().unwrap() };
        for (path, text) in FILES {
            repository.write(path, text);
        }
        repository.git(&["init", "--quiet", "--initial-branch=main"]);
        repository.commit("The steps");
        repository
    }

    /// A copy of the real one, as it is in the working tree now.
    pub fn real() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let files = git(root, &["ls-files", "--cached", "--others", "--exclude-standard"]);
        let copy = Self { folder: tempfile::tempdir().unwrap() };
        // What is listed and not there has been removed and not committed.
        for file in files.lines().filter(|file| root.join(file).exists()) {
            let to = copy.path(file);
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            self::copy(&root.join(file), &to);
        }
        let parents = files.lines().flat_map(|file| Path::new(file).ancestors().skip(1));
        for folder in parents.filter(|folder| copy.folder.path().join(folder).exists()) {
            copy_time(&root.join(folder), &copy.folder.path().join(folder));
        }
        copy.git(&["init", "--quiet", "--initial-branch=main"]);
        copy.commit("All of it");
        copy
    }

    pub fn clone(&self) -> Self {
        let clone = Self { folder: tempfile::tempdir().unwrap() };
        clone.git(&["clone", "--quiet", self.path("").to_str().unwrap(), "."]);
        clone
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    pub fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Replaces what must stand in the file.
    #[track_caller]
    pub fn edit(&self, path: &str, from: &str, to: &str) {
        let text = self.read(path);
        assert!(text.contains(from), "{path} has no {from:?}: {text}");
        self.write(path, &text.replace(from, to));
    }

    pub fn commit(&self, message: &str) {
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--message", message]);
    }

    /// What git prints; it must succeed.
    #[track_caller]
    pub fn git(&self, args: &[&str]) -> String {
        git(self.folder.path(), args)
    }

    /// All branches and tags, and where they point.
    pub fn refs(&self) -> String {
        self.git(&["for-each-ref"])
    }

    pub fn xtask(&self, args: &[&str]) -> Output {
        xtask(self.folder.path(), args)
    }

    /// What xtask prints; it must succeed.
    #[track_caller]
    pub fn done(&self, args: &[&str]) -> String {
        let output = self.xtask(args);
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// It must refuse in one sentence that has all the words.
    #[track_caller]
    pub fn refused(&self, args: &[&str], words: &[&str]) {
        let output = self.xtask(args);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{args:?}: {said}");
        assert!(said.starts_with("error: ") && said.lines().count() == 1, "{args:?}: {said}");
        for word in words {
            assert!(said.contains(word), "{args:?} does not say {word:?}: {said}");
        }
    }
}

/// Copies a file and the time of its last change, by which cargo sees whether it has been built.
pub fn copy(from: &Path, to: &Path) {
    fs::copy(from, to).unwrap();
    copy_time(from, to);
}

fn copy_time(from: &Path, to: &Path) {
    let time = fs::metadata(from).unwrap().modified().unwrap();
    File::open(to).unwrap().set_modified(time).unwrap();
}

/// Nothing of the machine's: no settings, no hooks, no name, none of what a hook that runs these
/// tests has set.
fn isolate(command: &mut Command) {
    for variable in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX"] {
        command.env_remove(variable);
    }
    command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
    for role in ["AUTHOR", "COMMITTER"] {
        command.env(format!("GIT_{role}_NAME"), "A user");
        command.env(format!("GIT_{role}_EMAIL"), "user@example.invalid");
    }
}

#[track_caller]
pub fn git(folder: &Path, args: &[&str]) -> String {
    let mut command = Command::new("git");
    isolate(&mut command);
    let output = command.args(args).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim_end().to_string()
}

pub fn xtask(folder: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    isolate(&mut command);
    command.args(args).current_dir(folder).output().unwrap()
}
