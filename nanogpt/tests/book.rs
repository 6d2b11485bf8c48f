//! The commands of the book's pages about `nanogpt`, as they stand there, with small numbers.

use std::{fs, path::Path, process::Command};

/// What is added to the commands that would take minutes.
const SMALL: &str = " --max_iters 4 --eval_interval 2 --eval_iters 1 --batch_size 2 --n_embd 16 --n_layer 1 \
                     --block_size 16 --threads 1 --dtype float32 --device cpu";

/// The blocks of a page in this language, one after the other.
fn blocks<'a>(page: &'a str, language: &str) -> Vec<&'a str> {
    let opening = format!("```{language}\n");
    let blocks = page.split(&*opening).skip(1);
    blocks.map(|rest| rest.split("```").next().unwrap()).collect()
}

#[test]
fn a_text_of_ones_own_from_file_to_samples() {
    let book = Path::new(env!("CARGO_MANIFEST_DIR")).join("../book/src/using_own_text.md");
    let page = fs::read_to_string(book).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let text = "Once, the quick brown fox jumped over the lazy dog. ".repeat(200);
    fs::write(folder.path().join("my_text.txt"), text).unwrap();
    let [settings] = blocks(&page, "toml")[..] else { panic!("one file of settings") };
    fs::write(folder.path().join("my_run.toml"), settings).unwrap();

    let commands: Vec<&str> = blocks(&page, "sh").into_iter().flat_map(str::lines).collect();
    assert!(commands.len() >= 7, "{commands:?}");
    for command in commands {
        let line = match command.split(' ').nth(1) {
            Some("train") => format!("{command}{SMALL}"),
            Some("sample") => format!("{command} --max-new-tokens 5"),
            _ => command.to_string(),
        };
        // A shell would take the quotes away.
        let words = line.split(' ').map(|word| word.trim_matches('"'));
        let mut words = words.skip_while(|word| *word == "nanogpt");
        let mut program = Command::new(env!("CARGO_BIN_EXE_nanogpt"));
        let output = program.args(&mut words).current_dir(folder.path()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{line}\n{said}");
    }
    assert!(folder.path().join("my_model/model.safetensors").is_file());
}

/// A page that shows a program shows the one that is compiled.
#[test]
fn the_program_in_the_book_is_the_example() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(here.join("../book/src/using_nanogpt.md")).unwrap();
    let example = fs::read_to_string(here.join("examples/own_model.rs")).unwrap();
    let [shown] = blocks(&page, "rust,sketch")[..] else { panic!("one program") };
    assert!(example.contains(shown), "book/src/using_nanogpt.md shows another program");
}
