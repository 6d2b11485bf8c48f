//! `cargo xtask readme`: the figures in README's tables of the steps, from the records.

use std::{fs, path::Path};

use anyhow::{Context, Result, ensure};
use ladder::record::Record;

use crate::{
    record::{RECORD, RECORDED},
    workspace,
};

pub fn run() -> Result<()> {
    let path = workspace().join("README.md");
    let readme = fs::read_to_string(&path).context("cannot read README.md")?;
    let filled = filled(&readme, &workspace().join(RECORDED))?;
    files::write_atomically(&path, |file| Ok(file.write_all(filled.as_bytes())?))
}

fn filled(readme: &str, recorded: &Path) -> Result<String> {
    let mut filled = String::new();
    for line in readme.lines() {
        match line.strip_prefix("| [`step") {
            Some(rest) => {
                let key = format!("step{}", rest.split('_').next().unwrap_or_default());
                filled += &row(line, &recorded.join(&key).join(RECORD))
                    .with_context(|| format!("README's row of {key}"))?;
            }
            None => filled += line,
        }
        filled.push('\n');
    }
    Ok(filled)
}

/// A row: the step, what it is about, its loss in nats a character, and its training steps. The last two are
/// filled in where the step has them.
fn row(line: &str, record: &Path) -> Result<String> {
    let cells: Vec<&str> = line.split('|').map(str::trim).collect();
    let &[_, step, about, _, _, _] = cells.as_slice() else {
        anyhow::bail!("it should have four cells: {line}");
    };
    let record = fs::read_to_string(record).context("the step is not recorded")?;
    let record = Record::parse(&record)?;
    let number = |name: &str| record.get(name)?.number();
    let mut row = format!("| {step} | {about} |");
    match number("val_nats_per_char") {
        Some(loss) => row += &format!(" {loss:.3} |"),
        None => return Ok(row + " | |"),
    }
    match (record.get("steps"), number("ms_per_step")) {
        (Some(steps), Some(ms)) => row += &format!(" {} × {ms:.1} ms |", steps.text),
        _ => row += " untrained |",
    }
    ensure!(row.split('|').count() == cells.len(), "a cell of it has a `|`");
    Ok(row)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_readme_says_what_is_recorded() {
        let readme = fs::read_to_string(workspace().join("README.md")).unwrap();
        let filled = filled(&readme, &workspace().join(RECORDED)).unwrap();
        let differ: Vec<_> = readme.lines().zip(filled.lines()).filter(|(a, b)| a != b).collect();
        assert!(differ.is_empty(), "`cargo xtask readme` fills it in: {differ:#?}");
        assert!(filled.matches("| [`step").count() >= 11);
    }

    #[test]
    fn a_row_has_the_loss_and_the_steps_that_the_step_has() {
        let recorded = tempfile::tempdir().unwrap();
        let record = |key: &str, values: &str| {
            fs::create_dir(recorded.path().join(key)).unwrap();
            let json = format!("{{ \"values\": [{values}] }}");
            fs::write(recorded.path().join(key).join(RECORD), json).unwrap();
        };
        let loss = r#"{ "name": "val_nats_per_char", "text": "0.31652", "class": "exact" }"#;
        let steps = r#"{ "name": "steps", "text": "1,800", "class": "exact" }"#;
        let ms = r#"{ "name": "ms_per_step", "text": "61.24", "class": "masked" }"#;
        record("step04", "");
        record("step05", loss);
        record("step06", &[loss, steps, ms].join(","));
        let fill = |line: &str| filled(line, recorded.path()).unwrap();
        assert_eq!(fill("| [`step04_a`](a.rs) | A | 1 | 2 |"), "| [`step04_a`](a.rs) | A | | |\n");
        assert_eq!(
            fill("| [`step05_b`](b.rs) | B | | |\ntext"),
            "| [`step05_b`](b.rs) | B | 0.317 | untrained |\ntext\n"
        );
        assert_eq!(
            fill("| [`step06_c`](c.rs) | C | 9 | 9 |"),
            "| [`step06_c`](c.rs) | C | 0.317 | 1,800 × 61.2 ms |\n"
        );
        let error = filled("| [`step07_d`](d.rs) | D | | |", recorded.path()).unwrap_err();
        assert!(format!("{error:#}").contains("step07: the step is not recorded"));
    }
}
