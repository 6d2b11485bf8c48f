//! What is recorded can be checked, and what is not as recorded is shown. On step00, which is fast.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

fn xtask(args: &[&str], recorded: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    command.args(args).arg("--recorded").arg(recorded);
    command.output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
#[ignore = "builds for a minute; .ci/run runs it"]
fn a_record_is_whole_and_a_change_in_it_is_found() {
    let recorded = tempfile::tempdir().unwrap();
    let folder = |name: &str| recorded.path().join(name);
    fs::create_dir(folder("step00")).unwrap();
    fs::write(folder("step00").join("old.svg"), "").unwrap();

    let record = xtask(&["record", "step00", "step00-zero_grad"], recorded.path());
    assert!(record.status.success(), "{}", text(&record.stderr));
    let files = |name: &str| {
        let entries = fs::read_dir(folder(name)).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| text(entry.unwrap().file_name().as_encoded_bytes())).collect();
        names.sort();
        names
    };
    assert_eq!(
        files("step00"),
        ["loss.svg", "metrics.csv", "output.txt", "record.json", "run.toml"]
    );
    assert_eq!(files("step00-zero_grad"), ["output.txt", "record.json", "run.toml"]);
    let run = fs::read_to_string(folder("step00-zero_grad").join("run.toml")).unwrap();
    for line in [
        "command = \"cargo run --bin step00_tensors\"",
        "patch = \"steps/patches/step00-zero_grad.patch\"",
        "seed = 1337",
        "libtorch = \"2.11.0\"",
    ] {
        assert!(run.contains(line), "{line} is not in {run}");
    }

    let check = xtask(&["check", "step00"], recorded.path());
    assert!(check.status.success(), "{}{}", text(&check.stdout), text(&check.stderr));

    let path = folder("step00").join("record.json");
    let record = fs::read_to_string(&path).unwrap();
    fs::write(&path, record.replace("\"text\": \"ok\"", "\"text\": \"NO\"")).unwrap();
    let check = xtask(&["check", "step00"], recorded.path());
    assert_eq!(check.status.code(), Some(1));
    let said = text(&check.stdout);
    assert!(said.contains("record.json:\n"), "{said}");
    assert!(said.contains("  w.verdict\n    recorded: NO\n    now:      ok\n"), "{said}");
    assert!(text(&check.stderr).contains("cargo xtask record step00"));
}

#[test]
#[ignore = "builds for a minute; .ci/run runs it"]
fn what_takes_long_is_recorded_and_checked_quickly() {
    let recorded = tempfile::tempdir().unwrap();
    let folder = |name: &str| recorded.path().join(name);
    for (name, seconds) in [("step00", 20.0), ("step01", 19.9), ("step00-momentum", 20.0)] {
        fs::create_dir(folder(name)).unwrap();
        fs::write(folder(name).join("run.toml"), format!("seconds = {seconds:.1}\n")).unwrap();
    }
    // What a whole record leaves beside.
    for name in ["loss.svg", "metrics.csv", "record.json"] {
        fs::write(folder("step00").join(name), "").unwrap();
    }
    // Of no names in particular, and yet nothing else is touched.
    let record = xtask(&["record", "--quick"], recorded.path());
    assert!(record.status.success(), "{}", text(&record.stderr));
    let quick = folder("step00").join("quick.json");
    assert!(!folder("step01").join("quick.json").exists());
    assert!(!folder("step00-momentum").join("quick.json").exists());
    assert!(folder("step00-momentum").join("run.toml").exists());

    let is_checked = || xtask(&["check", "--quick", "step00_tensors"], recorded.path());
    let said = text(&is_checked().stdout);
    let line = said.lines().find(|line| line.starts_with("step00 ")).unwrap();
    assert!(line.ends_with("as recorded (--quick)"), "{said}");
    let record = fs::read_to_string(&quick).unwrap();
    assert!(record.contains("\"text\": \"ok\""), "{record}");
    fs::write(&quick, record.replace("\"text\": \"ok\"", "\"text\": \"NO\"")).unwrap();
    let said = text(&is_checked().stdout);
    assert!(said.contains("quick.json:\n"), "{said}");
}

#[test]
fn what_is_not_recorded_is_named() {
    let empty = tempfile::tempdir().unwrap();
    let check = xtask(&["check", "step00-momentum"], empty.path());
    assert_eq!(check.status.code(), Some(1));
    let said = text(&check.stdout);
    assert!(said.contains("not recorded yet: `cargo xtask record step00-momentum`"), "{said}");
}

#[test]
fn an_unknown_name_is_refused_with_the_known_ones() {
    let empty = tempfile::tempdir().unwrap();
    for command in ["record", "check"] {
        let output = xtask(&[command, "step77"], empty.path());
        assert_eq!(output.status.code(), Some(1));
        let said = text(&output.stderr);
        assert!(said.contains("`step77`") && said.contains("step00-zero_grad"), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
}
