//! What the real steps promise, and the lecture that is made of them.

mod repository;

use std::{
    fs,
    path::Path,
    process::{Command, Output, Stdio},
};

use ladder::steps;
use repository::{Repository, copy};
use tempfile::TempDir;

/// A lesson adds no more lines than this, its header and its proof not counted.
const LIMIT: usize = 80;

/// But for this one, which has three things to say: the loss of a whole split, HellaSwag, samples in the loop.
const LARGER: (&str, usize) = ("step13_evaluation", 135);

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
            let limit = if pair[1].name == LARGER.0 { LARGER.1 } else { LIMIT };
            assert!((1..=limit).contains(&added), "{} adds {added} lines", pair[1].name);
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
        repository.git(&["switch", "--quiet", "--detach", &step.name]);
        for entry in fs::read_dir(repository.path("steps/patches")).into_iter().flatten() {
            repository.git(&["apply", "--check", entry.unwrap().path().to_str().unwrap()]);
        }
        // Fails where the lock file is not just what the manifests ask for.
        cargo(&repository.path(""), &repository.path("target"), &["update", "--workspace"]);
    }
}

/// How many sections the steps have at least, and how many lines of the program half of them, and nine in ten,
/// change at most.
const SECTIONS: usize = 75;
const MEDIAN: usize = 30;
const NINE_IN_TEN: usize = 70;

#[test]
fn a_section_is_small_and_its_commit_is_the_lesson() {
    let repository = Repository::real();
    repository.done(&["lecture"]);
    let steps = steps_of(&repository);
    let mut changed = Vec::new();
    for tag in repository.git(&["tag", "--list", "step*"]).lines() {
        let message = repository.git(&["log", "-1", "--format=%B", tag]);
        let (subject, body) = message.split_once("\n\n").unwrap();
        assert!(subject.starts_with(&format!("{tag}: ")), "{subject}");
        assert!(subject.chars().count() <= 72, "{subject}");
        assert!(body.split_whitespace().count() > 10 && !message.contains("{{#"), "{message}");
        let shown = repository.git(&["show", "--format=", tag]);
        assert!(!shown.contains("Binary files"), "{shown}");
        if tag.ends_with("-begin") || steps.iter().any(|step| step.name == tag) {
            continue;
        }
        let numbers = repository.git(&["show", "--format=", "--numstat", tag]);
        let numbers: Vec<&str> = numbers.split_whitespace().collect();
        assert_eq!(numbers[2..], ["steps/lesson.rs"], "{tag}");
        let sum = |number: &str| number.parse::<usize>().unwrap();
        changed.push(sum(numbers[0]) + sum(numbers[1]));
    }
    changed.sort_unstable();
    assert!(changed.len() >= SECTIONS, "{} sections", changed.len());
    let (median, most) = (changed[changed.len() / 2], changed[changed.len() * 9 / 10]);
    assert!(median <= MEDIAN && most <= NINE_IN_TEN, "median {median}, nine in ten {most}");
}

/// As with `cargo xtask sections | head`.
#[test]
#[cfg(unix)]
fn when_nobody_reads_any_more_it_ends_without_a_word() {
    let mut sections = Command::new(env!("CARGO_BIN_EXE_xtask"));
    let sections = sections.arg("sections").stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut sections = sections.spawn().unwrap();
    drop(sections.stdout.take());
    let output = sections.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert_eq!(output.status.code(), Some(141));
}

#[test]
#[ignore = "builds for a minute; .ci/run runs it"]
fn a_middle_commit_builds_runs_and_passes_its_tests() {
    let tree = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    // `cargo xtask check` needs the same, so it is no detour.
    cargo(tree, target, &["build", "--package", "lab", "--bins"]);

    let repository = Repository::real();
    repository.done(&["lecture"]);
    repository.git(&["switch", "--quiet", "--detach", "step02_attention"]);
    let (folder, target) = (repository.path(""), target_with_libraries_of(target));
    let run =
        ["run", "--bin", "step02_attention", "--", "--steps", "10", "--no-plot", "--out", "out"];
    let output = cargo(&folder, target.path(), &run);
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("predicted"), "{said}");
    assert!(said.contains("parameters: "), "{said}");
    let output = cargo(&folder, target.path(), &["test", "--test", "lesson"]);
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

/// A target folder for another copy of the workspace, in which all libraries are built already.
///
/// To cargo, packages in two copies of a workspace are the same packages. In one target folder, each copy's
/// lab would take the place of the other's. So this one has a folder of its own, with the compiled
/// libraries as links, and what cargo knows about them as copies. Of the lab there is nothing in it.
fn target_with_libraries_of(tree: &Path) -> TempDir {
    let target = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    for part in ["deps", "build", ".fingerprint"] {
        let part = Path::new("debug").join(part);
        share(&tree.join(&part), &target.path().join(&part));
    }
    target
}

/// Links or copies what a folder holds, except what is of the lab.
fn share(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let from = entry.unwrap().path();
        let name = from.file_name().unwrap().to_str().unwrap();
        let to = to.join(name);
        if name.starts_with("lab-") || name.starts_with("liblab-") {
            continue;
        }
        match from.extension().and_then(|extension| extension.to_str()) {
            _ if from.is_dir() => share(&from, &to),
            // The compiler writes these anew and never into the old ones.
            Some("rlib" | "rmeta" | "so") => fs::hard_link(&from, &to).unwrap(),
            // Programs, and lists of sources that only other tools read.
            _ if from.parent().is_some_and(|parent| parent.ends_with("deps")) => {}
            _ => copy(&from, &to),
        }
    }
}

/// Runs cargo, which has all that it needs on this machine.
#[track_caller]
fn cargo(folder: &Path, target: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO"));
    command.args(["--locked", "--offline"]).args(args).current_dir(folder);
    let output =
        command.env("CARGO_TARGET_DIR", target).env("OMP_NUM_THREADS", "1").output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

/// Apple's GPUs know no float64: a tensor goes to the processor before it becomes one.
#[test]
fn double_precision_is_made_on_the_cpu() {
    // All tensors of this one are made on the CPU.
    const ON_CPU: &str = "steps/patches/step08-rounding.patch";
    let mut seen = 0;
    let mut check = |path: String, source: String| {
        let lines = source.lines().filter(|line| !line.starts_with('-'));
        for line in lines.filter(|line| line.contains("Kind::Double")) {
            seen += 1;
            assert!(line.contains(".to(Device::Cpu)"), "{path}: {line}");
        }
    };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../steps");
    for below in ["", "proofs", "patches"] {
        for entry in fs::read_dir(folder.join(below)).unwrap() {
            let path = entry.unwrap().path();
            let name = path.display().to_string();
            if path.is_file() && !name.ends_with(ON_CPU) {
                check(name, fs::read_to_string(path).unwrap());
            }
        }
    }
    assert!(seen >= 5, "{seen}");
    let rounding = fs::read_to_string(folder.join("patches/step08-rounding.patch")).unwrap();
    assert!(rounding.contains("Tensor::randn([rows, columns], (Kind::Float, Device::Cpu))"));
}
