//! The ways in for somebody who has just come: README's commands, the workflows, the dev container, the notebook.

use std::{fs, path::Path};

use serde_json::Value;

/// README's two commands, without the comments behind them.
fn commands() -> Vec<String> {
    let readme = read("README.md");
    let block = readme.split("```sh\n").nth(1).expect("README begins with its commands");
    let lines = block.split("```").next().unwrap().lines();
    lines.map(|line| line.split('#').next().unwrap().trim().to_string()).collect()
}

#[test]
fn the_workflow_runs_readmes_commands_on_every_platform() {
    let workflow = read(".github/workflows/test.yml");
    assert_eq!(commands().len(), 2);
    for command in commands() {
        let step = format!("- run: {command}");
        assert!(workflow.lines().any(|line| line.trim() == step), "{step}");
    }
    for system in ["ubuntu-latest", "ubuntu-24.04-arm", "macos-latest", "windows-latest"] {
        assert!(workflow.contains(system), "{system}");
    }
    assert!(read(".ci/run").lines().any(|line| line == commands()[1]));
}

#[test]
fn a_workflow_publishes_the_book_that_readme_names() {
    let workflow = read(".github/workflows/book.yml");
    for part in ["- run: cargo xtask book", "path: book/book", "uses: actions/deploy-pages@"] {
        assert!(workflow.contains(part), "{part}");
    }
    assert!(read("README.md").contains(".github/workflows/book.yml"));
}

#[test]
fn the_dev_container_sets_everything_up() {
    let container = json(".devcontainer/devcontainer.json");
    assert!(container["image"].as_str().unwrap().contains("rust"));
    let install = container["onCreateCommand"].as_str().unwrap();
    assert!(install.contains("g++") && install.contains("python3-pip"), "{install}");
    let setup = container["postCreateCommand"].as_str().unwrap();
    assert!(
        commands().iter().all(|command| command.starts_with(&format!("{setup} &&"))),
        "{setup}"
    );
}

#[test]
fn the_notebook_has_six_cells_and_runs_a_step() {
    let notebook = json("notebooks/colab.ipynb");
    assert_eq!(notebook["nbformat"], 4);
    let cells: Vec<_> = notebook["cells"].as_array().unwrap().iter().map(source).collect();
    assert_eq!(cells.len(), 6);
    assert!(cells[0].contains("has not been tried on Colab"), "{}", cells[0]);
    assert!(cells[1].contains("REPOSITORY = \"\""), "{}", cells[1]);
    assert!(cells[3].contains("cargo xtask setup --cuda"), "{}", cells[3]);
    // The step and its plot are there.
    let step = cells[4].split("--bin ").nth(1).unwrap().trim();
    assert!(root().join(format!("steps/{step}.rs")).exists(), "{step}");
    assert!(cells[5].contains(&format!("out/{step}/loss.svg")), "{}", cells[5]);
    // Nobody's outputs are in it.
    for cell in notebook["cells"].as_array().unwrap() {
        assert!(cell["outputs"].as_array().is_none_or(Vec::is_empty));
    }
}

fn source(cell: &Value) -> String {
    match &cell["source"] {
        Value::Array(lines) => lines.iter().map(|line| line.as_str().unwrap()).collect(),
        text => text.as_str().unwrap().to_string(),
    }
}

fn json(path: &str) -> Value {
    serde_json::from_str(&read(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}
