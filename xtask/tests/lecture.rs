//! What `cargo xtask lecture` promises.

mod repository;

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use repository::{Repository, STEPS, xtask};
use tempfile::TempDir;

#[test]
fn first_the_lab_then_one_commit_a_step_each_with_its_tag() {
    let repository = Repository::new();
    repository.done(&["lecture"]);
    let subjects = repository.git(&["log", "--reverse", "--format=%s", "lecture"]);
    let subjects: Vec<&str> = subjects.lines().collect();
    assert_eq!(subjects.len(), 1 + STEPS.len());
    assert!(subjects[0].starts_with("The lab"));
    for (n, step) in STEPS.iter().enumerate() {
        assert!(subjects[n + 1].starts_with(step), "{subjects:?}");
        let commit = format!("lecture~{}", STEPS.len() - 1 - n);
        assert_eq!(repository.git(&["rev-parse", step]), repository.git(&["rev-parse", &commit]));
    }
}

#[test]
fn a_lesson_changes_its_program_and_what_goes_with_it() {
    let repository = Repository::new();
    repository.done(&["lecture"]);
    let changed =
        |step| repository.git(&["show", "--format=", "--name-only", "--no-renames", step]);
    assert_eq!(
        changed("step02_three").lines().collect::<Vec<_>>(),
        [
            "Cargo.toml",
            "steps/lesson.rs",
            "steps/patches/step01-more.patch",
            "steps/patches/step02-less.patch",
            "steps/proofs/step01.rs",
            "steps/proofs/step02.rs",
            "tests/lesson.rs",
        ]
    );
    let numbers =
        repository.git(&["show", "--format=", "--numstat", "step02_three", "--", "Cargo.toml"]);
    assert_eq!(numbers, "1\t1\tCargo.toml"); // the program's name
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
.gitattributes
.gitignore
Cargo.lock
Cargo.toml
README.md
files/Cargo.toml
files/src/lib.rs
src/lib.rs";
    assert_eq!(files("lecture~4"), format!("{lab}\ntests/fixtures/bytes\ntests/lab.rs"));
    let step01 = "\
steps/lesson.rs
steps/patches/step01-more.patch
steps/proofs/step01.rs
tests/fixtures/bytes
tests/lab.rs
tests/lesson.rs
text/step01_two.md";
    assert_eq!(files("step01_two"), format!("{lab}\n{step01}"));
    let step03 = "\
steps/lesson.rs
steps/patches/step03-none.patch
steps/proofs/step03.rs
tests/fixtures/bytes
tests/lab.rs
text/step01_two.md";
    assert_eq!(files("step03_fresh"), format!("{lab}\n{step03}"));

    let manifest = |step: &str| repository.git(&["show", &format!("{step}:Cargo.toml")]);
    assert!(!manifest("step02_three").contains("for step03"));
    assert!(manifest("step03_fresh").contains("for step03"));
    assert!(!manifest("step03_fresh").contains("book"));
    assert!(!repository.git(&["show", "step03_fresh:Cargo.lock"]).contains("book"));
    assert!(repository.git(&["show", "step00_one:README.md"]).contains("one lesson"));
}

#[test]
fn a_message_comes_from_the_chapter_or_else_from_the_programs_header() {
    let repository = Repository::new();
    repository.done(&["lecture"]);
    let message = |step| repository.git(&["log", "-1", "--format=%B", step]);
    assert_eq!(
        message("step01_two"),
        "\
step01_two: one and *two*

You count further than the step before did, by 7 lines, and so this
paragraph is longer than a line of a message.

- a first thing
- a second

Run it: cargo run --bin step01_two

Lecture: step01_two"
    );
    assert_eq!(
        message("step00_one"),
        "\
step00_one: counting to one

New: everything. A number is a thing to count.

Run it: cargo run --bin step00_one
It starts a fresh file: git show step00_one:steps/lesson.rs

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
fn a_chapter_is_carried_as_the_book_renders_that_of_head() {
    let repository = Repository::new();
    repository.edit("steps/step01_two.rs", "one() + one()", "2"); // not committed
    repository.edit("book/src/step01_two.md", "Nor this", "This"); // nor this
    repository.done(&["lecture"]);
    let text = repository.git(&["show", "step01_two:text/step01_two.md"]);
    assert!(text.starts_with("# step01: one and *two*\n\n**Goal.** You count [further]"), "{text}");
    let end = "\
Nor this. See `steps/lesson.rs`.

`fn two` in `steps/lesson.rs`:

```rust
fn two() -> i32 {
    one() + one()
}
```";
    assert!(text.ends_with(end), "{text}");
}

#[test]
fn a_chapter_that_cannot_be_rendered_is_named() {
    let repository = Repository::new();
    repository.edit("book/src/step01_two.md", "{{#lines step01}}", "{{#lines step01}}{{#nope}}");
    repository.commit("A slip");
    let output = repository.xtask(&["lecture"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("the chapters of HEAD cannot be rendered: "), "{said}");
    assert!(said.contains("book/src/step01_two.md:3: {{#nope}}: there is no such"), "{said}");
    assert_eq!(repository.refs().lines().count(), 1); // main

    let repository = Repository::new();
    repository.write("book/src/SUMMARY.md", "- [Other](other.md)\n");
    repository.write("book/src/other.md", "# Other\n");
    repository.commit("A chapter is forgotten");
    repository.refused(&["lecture"], &["book/src/SUMMARY.md does not list step01_two.md"]);
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
    // The lab's commit builds too, and so does one that needs another dependency.
    for step in ["step00_one~", "step03_fresh"] {
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
    assert_eq!(same.count(), 3); // the lab, step00, step01
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
