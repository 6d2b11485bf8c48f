//! What the real steps promise, and the lecture that is made of them.

mod repository;
#[allow(dead_code)]
#[path = "../src/steps.rs"]
mod steps;

use std::{
    fs::{self, File},
    path::Path,
    process::{Command, Output},
    time::{Duration, SystemTime},
};

use repository::Repository;

/// A lesson adds no more lines than this, its header and its proof not counted.
const LIMIT: usize = 100;

#[test]
fn a_lesson_is_small() {
    let repository = Repository::real();
    let steps = steps_of(&repository);
    let body = |step: &steps::Step| {
        let source = repository.read(&step.program());
        (steps::goes_on(&source), steps::split_header(&source).1.to_string())
    };
    let mut lessons = 0;
    for pair in steps.windows(2) {
        let ((_, old), (goes_on, new)) = (body(&pair[0]), body(&pair[1]));
        if goes_on {
            let added = added(&repository, &old, &new);
            assert!((1..=LIMIT).contains(&added), "{} adds {added} lines", pair[1].name);
            lessons += 1;
        }
    }
    assert!(lessons >= 2, "step02 and step03 go on, at least");
}

#[test]
fn the_lecture_has_them_all_and_nothing_in_it_needs_the_rest() {
    let repository = Repository::real();
    repository.done(&["lecture"]);
    for step in steps_of(&repository) {
        let show = |path: &str| repository.git(&["show", &format!("{}:{path}", step.name)]);
        assert!(show("Cargo.toml").contains(&format!("name = \"{}\"", step.name)));
        assert!(show("steps/lesson.rs").contains(&format!("cargo run --bin {}", step.name)));
        let message = repository.git(&["log", "-1", "--format=%B", &step.name]);
        let subject = message.lines().next().unwrap();
        assert!(subject.starts_with(&step.name) && subject.len() < 100, "{subject}");
        assert!(message.lines().count() > 6 && !message.contains("{{#"), "{message}");
        repository.git(&["switch", "--quiet", "--detach", &step.name]);
        for entry in fs::read_dir(repository.path("steps/patches")).into_iter().flatten() {
            repository.git(&["apply", "--check", entry.unwrap().path().to_str().unwrap()]);
        }
    }
}

#[test]
#[ignore = "builds the lab again in the target folder, and the tree's own lab after it"]
fn a_middle_commit_builds_runs_and_passes_its_tests() {
    let repository = Repository::real();
    repository.done(&["lecture"]);
    repository.git(&["switch", "--quiet", "--detach", "step02_attention"]);
    let folder = repository.path("");
    BELOW_TCH.iter().for_each(|file| make_old(&folder.join(file)));
    let run =
        ["run", "--bin", "step02_attention", "--", "--steps", "10", "--no-plot", "--out", "out"];
    let output = cargo(&folder, &run);
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("predicted"), "{said}");
    assert!(said.contains("parameters, one head"), "{said}");
    let output = cargo(&folder, &["test", "--test", "lesson"]);
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("step02::"), "{said}");
    assert_eq!(repository.git(&["status", "--porcelain"]), "");
}

fn steps_of(repository: &Repository) -> Vec<steps::Step> {
    let paths = repository.git(&["ls-tree", "-r", "--name-only", "main"]);
    steps::among(paths.lines())
}

/// How many lines git would show as added.
fn added(repository: &Repository, old: &str, new: &str) -> usize {
    let blob = |text: &str| {
        repository.write("text", text);
        repository.git(&["hash-object", "-w", "text"])
    };
    let (old, new) = (blob(old), blob(new));
    let diff = repository.git(&["diff", "--unified=0", "--diff-algorithm=histogram", &old, &new]);
    diff.lines().filter(|line| line.starts_with('+') && !line.starts_with("+++")).count()
}

/// tch depends on these, and cargo builds again what hangs on a file newer than the last build. With
/// tch that would take minutes, for nothing.
const BELOW_TCH: [&str; 4] = [
    "tch-ext/libtorch.rs",
    "xtask/libtorch-guard/Cargo.toml",
    "xtask/libtorch-guard/build.rs",
    "xtask/libtorch-guard/lib.rs",
];

fn make_old(file: &Path) {
    let file = File::options().write(true).open(file).unwrap();
    file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000)).unwrap();
}

/// Runs cargo with the target folder of this test, where the dependencies are built already.
#[track_caller]
fn cargo(folder: &Path, args: &[&str]) -> Output {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let mut command = Command::new(env!("CARGO"));
    command.args(["--locked", "--offline"]).args(args).current_dir(folder);
    let output = command.env("CARGO_TARGET_DIR", target).output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}
