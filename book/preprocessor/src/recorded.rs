//! What the steps and their variations printed when `cargo xtask record` ran them.

use anyhow::{Context, Result, anyhow};
use serde::Deserialize;

use ladder::{directive::Excerpt, record::Record};

use crate::{html, source::Library};

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

/// A file that a run left: a step's, or a variation's.
pub fn file(library: &Library, name: &str, file: &str) -> Result<String> {
    let path = library.in_book(&format!("recorded/{name}/{file}"));
    library.read(&path).map_err(|why| anyhow!("{why:#}; run `cargo xtask record`"))
}

/// What a run printed, under its command.
pub fn output(library: &Library, name: &str, excerpt: &Excerpt) -> Result<String> {
    let text = file(library, name, "output.txt")?;
    let run: Run = toml::from_str(&file(library, name, "run.toml")?)
        .with_context(|| format!("the run.toml of {name}"))?;
    Ok(html::output(&run.command, &run.machine(), &excerpt.of(&text)?))
}

/// What a run printed as the value of this name.
pub fn number(library: &Library, run: &str, name: &str) -> Result<String> {
    let record = Record::parse(&file(library, run, "record.json")?).context(run.to_string())?;
    Ok(record.printed(run, name)?.to_string())
}
