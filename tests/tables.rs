//! A table says `NO` of what is wrong, and not of what a run is too short or a text too odd for.

use std::process::Command;

const STEP00: &str = env!("CARGO_BIN_EXE_step00_tensors");
const STEP01: &str = env!("CARGO_BIN_EXE_step01_bigram");
const STEP02: &str = env!("CARGO_BIN_EXE_step02_attention");
const STEP03: &str = env!("CARGO_BIN_EXE_step03_blocks");
const STEP05: &str = env!("CARGO_BIN_EXE_step05_gpt2");
const STEP06: &str = env!("CARGO_BIN_EXE_step06_training");

/// What the table of a run says.
fn table(step: &str, args: &[&str]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(step);
    command.args(args).args(["--device", "cpu", "--threads", "1", "--no-plot", "--out"]);
    let output = command.arg(folder.path()).env_remove("RUST_BACKTRACE").output().unwrap();
    assert!(output.status.success(), "{step} {args:?}: {output:?}");
    let said = String::from_utf8(output.stdout).unwrap();
    let from = said.rfind(" predicted ").unwrap_or_else(|| panic!("{step} has no table: {said}"));
    said[from..].into()
}

/// The lines with a verdict.
fn rows<'a>(table: &'a str, verdict: &str) -> Vec<&'a str> {
    table.lines().filter(|line| line.contains(&format!("  {verdict}"))).collect()
}

/// The table of a run on `text`.
fn on(step: &str, text: &str, args: &[&str]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("text.txt");
    std::fs::write(&path, text).unwrap();
    table(step, &[args, &["--steps", "1", "--corpus", path.to_str().unwrap()]].concat())
}

#[test]
fn a_quick_run_is_not_wrong() {
    // The tables of step03 and step06 have no row about what training reaches, however few steps it has.
    let quick: &[&str] = &["--quick"];
    let few = &["--quick", "--steps", "5"];
    for (step, args) in
        [(STEP00, quick), (STEP01, quick), (STEP02, quick), (STEP03, few), (STEP06, few)]
    {
        let table = table(step, args);
        assert!(rows(&table, "NO").is_empty(), "{step} {table}");
        let excused = !rows(&table, "-- (too few steps)").is_empty();
        assert_eq!(excused, args == quick, "{step} {table}");
        // What needs no training is compared as ever.
        assert!(!rows(&table, "ok").is_empty(), "{step} {table}");
    }
}

#[test]
fn a_run_of_as_few_steps_as_one_likes_is() {
    assert_eq!(rows(&table(STEP00, &["--steps", "10"]), "NO").len(), 3);
    assert_eq!(rows(&table(STEP00, &["--steps", "10", "--quick"]), "NO").len(), 3);
}

#[test]
fn an_odd_text_is_not_wrong_either() {
    let words = "apple river stone cloud tiger window garden silver music paper candle forest \
                 bridge rocket pencil orange mirror castle thunder blanket";
    let chinese = "狐狸说:早上好。然后走进了森林。山下有一条河,河边住着一位老人。".repeat(40);
    let texts = [
        "a".repeat(2_000),
        "abcdefghijk".repeat(100),
        "ab".repeat(20_000),
        [words; 40].join(" "),
        chinese,
        format!("{}\n{}", "The first line. ".repeat(50), "And now the second. ".repeat(50)),
    ];
    for text in &texts {
        let first = text.chars().next().unwrap().to_string();
        for step in [STEP01, STEP02] {
            let table = on(step, text, &["--prompt", &first]);
            assert!(rows(&table, "NO").is_empty(), "{step} {first} {table}");
            assert!(!table.contains("-0.0000"), "{step} {first} {table}");
        }
    }
    let (letter, two_letters, chinese) = (&texts[0], &texts[2], &texts[4]);
    for (text, first) in [(letter, "a"), (chinese, "狐")] {
        let table = on(STEP03, text, &["--prompt", first]);
        assert!(rows(&table, "NO").is_empty(), "step03 {table}");
        assert!(!table.contains("-0.0000"), "step03 {table}");
    }
    for step in [STEP05, STEP06] {
        let table = on(step, two_letters, &["--max-new-tokens", "1"]);
        assert!(rows(&table, "NO").is_empty(), "{step} {table}");
        assert!(!rows(&table, "-- (another text)").is_empty(), "{step} {table}");
    }
}

#[test]
fn two_lines_and_twenty_words_are_enough_for_pairs() {
    let words = "apple river stone cloud tiger window garden silver music paper candle forest \
                 bridge rocket pencil orange mirror castle thunder blanket";
    let lines = "The quick brown fox jumps over the lazy dog and runs home.\n\
                 A bird sang softly in the tree by the river.\n";
    for text in [words, lines, "abcdefghijk".repeat(9).as_str()] {
        let table = on(STEP01, text, &["--prompt", &text[1..2]]);
        assert!(rows(&table, "NO").is_empty(), "{table}");
    }
}
