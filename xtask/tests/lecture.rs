//! What `cargo xtask lecture` promises.

mod repository;

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use repository::{Repository, STEPS, xtask};
use tempfile::TempDir;

/// All commits but the lab's, by their tags.
const COMMITS: [&str; 7] = [
    "step00_one",
    "step01-begin",
    "step01-two",
    "step01-say",
    "step01_two",
    "step02_three",
    "step03_fresh",
];

#[test]
fn first_the_lab_then_one_commit_a_section_each_with_its_tag() {
    let repository = Repository::new();
    repository.done(&["lecture"]);
    let subjects = repository.git(&["log", "--reverse", "--format=%s", "lecture"]);
    let subjects: Vec<&str> = subjects.lines().collect();
    assert_eq!(subjects.len(), 1 + COMMITS.len());
    assert!(subjects[0].starts_with("The lab"));
    for (n, tag) in COMMITS.iter().enumerate() {
        assert!(subjects[n + 1].starts_with(&format!("{tag}: ")), "{subjects:?}");
        let commit = format!("lecture~{}", COMMITS.len() - 1 - n);
        assert_eq!(repository.git(&["rev-parse", tag]), repository.git(&["rev-parse", &commit]));
    }
}

#[test]
fn a_section_changes_the_program_alone_and_the_whole_step_brings_what_goes_with_it() {
    let repository = Repository::new();
    repository.done(&["lecture"]);
    let changed = |tag| {
        let files = repository.git(&["show", "--format=", "--name-only", "--no-renames", tag]);
        files.lines().map(str::to_string).collect::<Vec<_>>()
    };
    assert_eq!(
        changed("step01-begin"),
        ["Cargo.toml", "steps/lesson.rs", "steps/proofs/step00.rs", "tests/lesson.rs"]
    );
    assert_eq!(changed("step01-two"), ["steps/lesson.rs"]);
    assert_eq!(changed("step01-say"), ["steps/lesson.rs"]);
    assert_eq!(
        changed("step01_two"),
        [
            "steps/lesson.rs",
            "steps/patches/step01-more.patch",
            "steps/proofs/step01.rs",
            "tests/lesson.rs",
        ]
    );
    let numbers = |tag, file| repository.git(&["show", "--format=", "--numstat", tag, "--", file]);
    assert_eq!(numbers("step01-begin", "Cargo.toml"), "1\t1\tCargo.toml"); // the program's name
    assert_eq!(numbers("step01-two", "steps/lesson.rs"), "4\t0\tsteps/lesson.rs");
    let program = repository.read("steps/step01_two.rs");
    let lesson = repository.git(&["show", "step01_two:steps/lesson.rs"]);
    assert_eq!(lesson.trim_end(), program.trim_end());
}

#[test]
fn sections_that_are_not_the_step_are_named_by_chapter_and_line() {
    for (from, to, words) in [
        ("{{#hunk step01 fn main}}", "", "1: no section shows what changes in fn main"),
        ("fn main}}", "fn two}}", "15: all that it shows has been shown before"),
        ("fn main}}", "fn no}}", "15: there is no `fn no`"),
    ] {
        let repository = Repository::new();
        repository.edit("book/src/step01_two.md", from, to);
        repository.commit("A slip");
        let output = repository.xtask(&["lecture"]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(&format!("book/src/step01_two.md:{words}")), "{said}");
        assert_eq!(repository.refs().lines().count(), 1); // main
    }
}

#[test]
fn what_belongs_to_other_steps_or_to_no_lesson_is_not_there() {
    let repository = Repository::new();
    repository.write("tests/fixtures/bytes", "");
    fs::write(repository.path("tests/fixtures/bytes"), [0xff]).unwrap(); // no text
    repository.commit("A fixture");
    repository.done(&["lecture"]);
    let files = |commit: &str| repository.git(&["ls-tree", "-r", "--name-only", commit]);
    let lab = "\
.gitignore
Cargo.lock
Cargo.toml
README.md
files/Cargo.toml
files/src/lib.rs
src/lib.rs";
    assert_eq!(files("step00_one~"), format!("{lab}\ntests/fixtures/bytes\ntests/lab.rs"));
    let step01 = "\
steps/lesson.rs
steps/patches/step01-more.patch
steps/proofs/step01.rs
tests/fixtures/bytes
tests/lab.rs
tests/lesson.rs";
    assert_eq!(files("step01_two"), format!("{lab}\n{step01}"));
    let step03 = "\
steps/lesson.rs
steps/patches/step03-none.patch
steps/proofs/step03.rs
tests/fixtures/bytes
tests/lab.rs";
    assert_eq!(files("step03_fresh"), format!("{lab}\n{step03}"));

    let manifest = |step: &str| repository.git(&["show", &format!("{step}:Cargo.toml")]);
    assert!(!manifest("step02_three").contains("for step03"));
    assert!(manifest("step03_fresh").contains("for step03"));
    assert!(!manifest("step03_fresh").contains("book"));
    assert!(!repository.git(&["show", "step03_fresh:Cargo.lock"]).contains("book"));
    assert!(repository.git(&["show", "step00_one:README.md"]).contains("one idea"));
}

#[test]
fn a_message_is_the_beginning_of_the_section_or_of_the_program() {
    let repository = Repository::new();
    repository.done(&["lecture"]);
    let message = |step| repository.git(&["log", "-1", "--format=%B", step]);
    assert_eq!(
        message("step01-two"),
        "\
step01-two: Two is 1 and 1

You count further than step00 did, and so this paragraph is longer than
a line of a message.

It runs, with nothing new to see yet: cargo run --bin step01_two

Lecture: step01-two"
    );
    assert_eq!(
        message("step00_one"),
        "\
step00_one: counting to one

New: everything. A number is a thing to count.

Run it: cargo run --bin step00_one

Lecture: step00_one"
    );
}

#[test]
fn patches_apply_and_names_are_those_of_the_lecture() {
    let repository = Repository::new();
    repository.done(&["lecture"]);
    for step in STEPS {
        repository.git(&["switch", "--quiet", "--detach", step]);
        for entry in fs::read_dir(repository.path("steps/patches")).into_iter().flatten() {
            repository.git(&["apply", "--check", entry.unwrap().path().to_str().unwrap()]);
        }
    }
}

#[test]
fn a_middle_commit_builds_runs_passes_its_tests_and_stays_clean() {
    let repository = Repository::new();
    repository.done(&["lecture"]);
    repository.git(&["switch", "--quiet", "--detach", "step01_two"]);
    let output = cargo(&repository.path(""), &["run", "--quiet", "--bin", "step01_two"]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "counting\n1\n2\nproof 01: 2\n");
    let output = cargo(&repository.path(""), &["test", "--quiet"]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("running 1 test"), "{said}");
    assert_eq!(repository.git(&["status", "--porcelain"]), "");
    // The lab's commit builds too, and so do those between, and one that needs another dependency.
    for step in ["step00_one~", "step01-begin", "step01-two", "step01-say", "step03_fresh"] {
        repository.git(&["switch", "--quiet", "--detach", step]);
        cargo(&repository.path(""), &["build", "--quiet", "--locked"]);
    }
}

#[test]
fn the_same_tree_gives_the_same_hashes() {
    let repository = Repository::new();
    repository.done(&["lecture"]);
    let lecture = repository.git(&["rev-parse", "lecture"]);

    let before = repository.refs();
    assert!(repository.done(&["lecture"]).contains("already there"));
    assert_eq!(repository.refs(), before);

    // Another machine, other settings, another time, another history, files that are not committed.
    let clone = repository.clone();
    for (name, value) in [
        ("user.name", "Somebody else"),
        ("i18n.commitEncoding", "ISO-8859-1"),
        ("core.autocrlf", "true"),
        ("commit.gpgSign", "true"),
        ("tag.gpgSign", "true"),
        ("core.quotePath", "false"),
    ] {
        clone.git(&["config", name, value]);
    }
    clone.git(&["commit", "--quiet", "--allow-empty", "--no-gpg-sign", "--message", "unrelated"]);
    clone.edit("steps/step00_one.rs", "counting", "counting aloud");
    clone.done(&["lecture"]);
    assert_eq!(clone.git(&["rev-parse", "lecture"]), lecture);
    assert_eq!(
        clone.git(&["rev-parse", "step02_three"]),
        repository.git(&["rev-parse", "step02_three"])
    );
}

#[test]
fn a_change_leaves_the_commits_before_it_as_they_are() {
    let repository = Repository::new();
    repository.done(&["lecture"]);
    let hashes = || repository.git(&["log", "--reverse", "--format=%H", "lecture"]);
    let before = hashes();
    repository.edit("steps/step02_three.rs", "fn three", "fn drei");
    repository.edit("README.md", "How", "Why");
    repository.commit("An edit");
    repository.done(&["lecture"]);
    let after = hashes();
    let same = before.lines().zip(after.lines()).take_while(|(before, after)| before == after);
    assert_eq!(same.count(), 6); // the lab, step00, step01
}

#[test]
fn newer_packages_on_another_machine_change_no_hash() {
    let registry = registry(&["1.0.0"]);
    let repository = with_lexicon(registry.path());
    cargo(&repository.path(""), &["generate-lockfile"]);
    repository.commit("A lexicon");
    repository.done(&["lecture"]);
    let lecture = repository.git(&["rev-parse", "lecture"]);
    let lock = |step: &str| repository.git(&["show", &format!("{step}:Cargo.lock")]);
    assert!(!lock("step02_three").contains("lexicon"));
    assert!(lock("step03_fresh").contains("name = \"lexicon\"\nversion = \"1.0.0\"\n"));

    add_to(registry.path(), "1.1.0");
    repository.done(&["lecture"]);
    assert_eq!(repository.git(&["rev-parse", "lecture"]), lecture);
    for step in STEPS {
        repository.git(&["switch", "--quiet", "--detach", step]);
        cargo(&repository.path(""), &["metadata", "--locked", "--format-version=1"]);
        assert_eq!(repository.git(&["status", "--porcelain"]), "");
    }
}

#[test]
fn a_lock_file_that_lacks_a_package_is_named() {
    let (known, unknown) = (registry(&["1.0.0"]), registry(&[]));
    let repository = with_lexicon(known.path());
    repository.commit("A lexicon");
    repository.refused(&["lecture"], &["HEAD's Cargo.lock lacks lexicon 1.0.0", "`cargo check`"]);

    let repository = with_lexicon(unknown.path());
    repository.commit("A lexicon");
    let output = repository.xtask(&["lecture"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.starts_with("error: cargo cannot make the lecture's Cargo.lock"), "{said}");
    assert!(said.contains("`cargo fetch`") && said.contains("lexicon"), "{said}");
    assert_eq!(repository.refs().lines().count(), 1); // main
}

#[test]
fn says_what_it_needs() {
    let folder = tempfile::tempdir().unwrap();
    let output = xtask(folder.path(), &["lecture"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("this folder is in no git repository"), "{said}");

    let repository = Repository::new();
    repository.done(&["lecture"]);
    repository.git(&["switch", "--quiet", "--detach", "step01_two"]);
    repository.refused(&["lecture"], &["HEAD has no steps", "switch"]);
}

/// All that cargo knows of the world: these versions of the package `lexicon`.
fn registry(versions: &[&str]) -> TempDir {
    let registry = tempfile::tempdir().unwrap();
    versions.iter().for_each(|version| add_to(registry.path(), version));
    registry
}

fn add_to(registry: &Path, version: &str) {
    let package = registry.join(version);
    fs::create_dir_all(package.join("src")).unwrap();
    let write = |name: &str, text: &str| fs::write(package.join(name), text).unwrap();
    write("Cargo.toml", &format!("[package]\nname = \"lexicon\"\nversion = \"{version}\"\n"));
    write("src/lib.rs", "");
    let checksum = "0".repeat(64);
    write(".cargo-checksum.json", &format!("{{\"package\":\"{checksum}\",\"files\":{{}}}}"));
}

/// The small repository, in which step03 needs `lexicon` of this registry, and the lock file lacks it.
fn with_lexicon(registry: &Path) -> Repository {
    let repository = Repository::new();
    let sources = "[source.crates-io]\nreplace-with = \"here\"\n[source.here]\ndirectory";
    repository.write(".cargo/config.toml", &format!("{sources} = '{}'\n", registry.display()));
    repository.edit("Cargo.toml", "# for step03", "# for step03\nlexicon = \"1\"");
    repository.edit("steps/step03_fresh.rs", "words in place", "a lexicon in place");
    repository
}

#[track_caller]
fn cargo(folder: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO"));
    command.args(args).arg("--offline").current_dir(folder).env_remove("CARGO_TARGET_DIR");
    let output = command.output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}
