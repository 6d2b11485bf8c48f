//! What the steps and their variations printed when `cargo xtask record` ran them.

use anyhow::{Context, Result, anyhow, ensure};
use serde::Deserialize;

use ladder::directive::Excerpt;

use crate::{block::Block, source::Library};

/// What the book tells of a recorded run, from its `run.toml`.
#[derive(Deserialize)]
struct Run {
    command: String,
    /// The variation that was run, if it was one.
    patch: Option<String>,
    /// The section whose try-out it was.
    section: Option<String>,
    cpu: String,
    cores: u32,
    seconds: f64,
}

impl Run {
    fn machine(&self) -> String {
        let patch = self.patch.as_ref().map_or(String::new(), |patch| format!("with {patch}; "));
        let section = self.section.as_ref().map_or(String::new(), |slug| format!("at {slug}; "));
        let cores = if self.cores == 1 { "core" } else { "cores" };
        format!("{patch}{section}{}, {} {cores}, {:.1} s", self.cpu, self.cores, self.seconds)
    }
}

/// The folder of a run, within the book: a step's, or a variation's.
fn folder(name: &str) -> Result<String> {
    let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    ensure!(plain, "{name} is neither a step (step02) nor a variation (step02-no_root)");
    Ok(format!("recorded/{name}"))
}

/// A file that a run left.
pub fn file(library: &Library, name: &str, file: &str) -> Result<String> {
    ensure!(!file.contains('/'), "{file} should be a file's name");
    let path = library.in_book(&format!("{}/{file}", folder(name)?));
    library.read(&path).map_err(|why| anyhow!("{why:#}; run `cargo xtask record`"))
}

/// What a run printed, under its command.
pub fn output(library: &Library, name: &str, excerpt: &Excerpt) -> Result<Block> {
    let text = file(library, name, "output.txt")?;
    let run: Run = toml::from_str(&file(library, name, "run.toml")?)
        .with_context(|| format!("the run.toml of {name}"))?;
    let lines = excerpt.of(&text)?.into_iter().map(str::to_string).collect();
    Ok(Block::Output { machine: run.machine(), command: run.command, lines })
}

/// The values of a run, as `lab` records them.
#[derive(Deserialize)]
struct Record {
    values: Vec<Value>,
}

#[derive(Deserialize)]
struct Value {
    name: String,
    text: String,
}

/// What a run printed as the value of this name.
pub fn number(library: &Library, run: &str, name: &str) -> Result<String> {
    let record: Record = serde_json::from_str(&file(library, run, "record.json")?)
        .with_context(|| format!("the record.json of {run}"))?;
    let value = record.values.iter().find(|value| value.name == name);
    let value =
        value.with_context(|| format!("{run} has no value {name}{}", or_like_it(&record, name)))?;
    Ok(value.text.trim().to_string())
}

/// The names that begin like this one.
fn or_like_it(record: &Record, name: &str) -> String {
    let stem: String = name.chars().take(4).collect();
    let names = record.values.iter().map(|value| value.name.as_str());
    let alike: Vec<&str> = names.filter(|name| name.starts_with(&stem)).take(8).collect();
    if alike.is_empty() { String::new() } else { format!("; it has {}", alike.join(", ")) }
}
