//! What `data hellaswag` promises beyond what the tests of `data shakespeare` show of the download: where
//! the file goes, and that no other file is taken for it.

#[path = "../../files/tests/refusal/mod.rs"]
mod refusal;
#[path = "../../files/tests/server/mod.rs"]
mod server;

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use refusal::expect_refusal;
use server::{Answer, NOBODY, good, serve};

const LINE: &str = r#"{"ctx": "A man is on a roof. he", "endings": ["sits", "eats", "sings", "flies"], "label": 0}"#;
/// By `sha256sum`.
const SHA256_OF_LINE: &str = "e397d3c325481fe994e21398570331f8a8cc7b99729fec0b1d7288092713607a";
const PATH: &str = "data/hellaswag/hellaswag_val.jsonl";

fn run(repository: &Path, flags: &[&str]) -> Output {
    fs::create_dir_all(repository.join("data")).unwrap();
    fs::write(repository.join("data/Cargo.toml"), "").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_data"));
    command.current_dir(repository).arg("hellaswag").args(flags).output().unwrap()
}

#[test]
fn the_questions_go_where_the_steps_look_for_them() {
    let repository = tempfile::tempdir().unwrap();
    let url = serve(Answer::Send(good(LINE)));
    let output = run(repository.path(), &["--sha256", SHA256_OF_LINE, "--url", &url]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(output.stdout, format!("{PATH} is ready\n").as_bytes());
    assert_eq!(fs::read_to_string(repository.path().join(PATH)).unwrap(), LINE);

    // The second time nothing is asked of any server.
    let output = run(repository.path(), &["--sha256", SHA256_OF_LINE, "--url", NOBODY]);
    assert_eq!(output.stdout, format!("{PATH} is already there, and right\n").as_bytes());
}

#[test]
fn other_questions_are_not_taken_for_hellaswags() {
    let repository = tempfile::tempdir().unwrap();
    let output = run(repository.path(), &["--url", &serve(Answer::Send(good(LINE)))]);
    // By the commit, not by a branch that may move.
    let by_hand =
        "rowanz/hellaswag/a29ff8e9a04bba4bd6588223785ce105328adc57/data/hellaswag_val.jsonl";
    let other = format!("its SHA-256 is {SHA256_OF_LINE}, not 0aa3b88843");
    let said = expect_refusal(output, &[&other, by_hand]);
    assert!(said.trim_end().ends_with(PATH), "{said}");
    assert!(!repository.path().join(PATH).exists());
}
