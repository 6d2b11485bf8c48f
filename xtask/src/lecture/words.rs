//! What the lecture's commits say.

use anyhow::{Context, Result, bail};
use ladder::{
    chapter::{Chapter, Section, Shown},
    directive::{self, Found},
    record::Record,
    steps::{Step, split_header},
};
use regex::Regex;

use crate::git::Tree;

/// Names the step in each message, and so marks the commits that this program made.
pub const TRAILER: &str = "Lecture";

/// A message's lines are this long at most, where their words allow it.
const WIDTH: usize = 72;

pub const LAB: &str = "\
The lab: what the lessons need and do not teach

Reading files, flags, progress, plots, and what libtorch can do and tch
does not bind. Each commit from here on is one lesson, and what it
changes in the one program is all that is new.

Lecture: lab
";

pub const README: &str = "\
# Build nanoGPT in Rust: the lecture

Each commit of this branch is one idea, and its tag is the anchor of the section in the book that tells of it. They
all change the same program, [`steps/lesson.rs`](steps/lesson.rs), so that a commit's diff is the lesson:

```sh
git log --oneline --reverse lecture    # the sections, in order
git switch --detach step06-tying       # stand in one
git show                               # what it changes, and why
cargo xtask setup                      # once: libtorch, into the folder `libtorch`
cargo run --bin step06_training        # the program has the step's name
```

Of each step comes first `stepNN-begin`, which takes the table of the step before away, then its sections, each of
which changes `steps/lesson.rs` alone and runs, and at last the whole step under its own name (`step06_training`):
there the program prints the table that proves the lesson, `cargo test` says what it promises, and
`steps/patches/` holds its variations, solutions of exercises among them: `git apply steps/patches/NAME.patch`, and
`git apply -R` to take it back.

To type along, start a branch of your own (`git switch -c mine step06-begin`), type the next section, and compare:
`git diff step06-tying -- steps/lesson.rs`.

`src/`, `tch-ext/`, `fables/`, `files/`, `data/` are the lab, which is what the lessons need and do not teach.

A program makes this branch from the repository where the steps are written side by side, and may make it
anew. So keep your own work on a branch of your own.
";

/// What is said of a step's commits.
pub struct Words<'a> {
    pub step: &'a Step,
    /// Where the records are.
    pub head: &'a Tree<'a>,
}

impl Words<'_> {
    pub fn of_beginning(&self, chapter: &Chapter) -> Result<String> {
        let key = self.step.key();
        let (title, goal) = self.of_header(chapter);
        let (old, run) = match chapter.starts_afresh() {
            true => ("a fresh file", "Run it"),
            false => (
                "the last step without its table, variations and tests",
                "Before its first section it still does what the step before did",
            ),
        };
        let run = format!("{run}: cargo run --bin {}", self.step.name);
        Ok(format!("{key}-begin: {old}\n\n{title}\n\n{goal}\n\n{run}\n\n{TRAILER}: {key}-begin\n"))
    }

    /// Title, first paragraph, and what the try-out has printed.
    pub fn of_section(&self, chapter: &Chapter, i: usize) -> Result<String> {
        let section = &chapter.sections[i];
        let Section { slug, title, text, .. } = section;
        let (title, text) = (self.told(title)?, wrapped(&plain(&self.told(text)?)));
        let run = format!("cargo run --bin {}", self.step.name);
        let output = format!("book/recorded/{slug}/output.txt");
        let shown = match (chapter.shown(i + 1), self.head.text(&output)?) {
            (Shown::Tryout, Some(output)) => {
                let lines = output.lines().map(|line| format!("    {line}").trim_end().to_string());
                format!("Run it: {run}\n\n{}", lines.collect::<Vec<_>>().join("\n"))
            }
            (Shown::Nothing, _) => format!("It runs, with nothing new to see yet: {run}"),
            _ => format!("Run it: {run}"),
        };
        Ok(format!("{slug}: {title}\n\n{text}\n\n{shown}\n\n{TRAILER}: {slug}\n"))
    }

    pub fn of_step(&self, chapter: &Chapter) -> Result<String> {
        let name = &self.step.name;
        let (title, goal) = self.of_header(chapter);
        let body = match chapter.sections.is_empty() {
            true => goal,
            false => {
                "The whole step: the table that proves it, its variations and its tests.".into()
            }
        };
        Ok(format!(
            "{name}: {title}\n\n{body}\n\nRun it: cargo run --bin {name}\n\n{TRAILER}: {name}\n"
        ))
    }

    /// Of the comment at the program's top the first line, and the paragraphs from there down to "Run:".
    fn of_header(&self, chapter: &Chapter) -> (String, String) {
        let (header, _) = split_header(chapter.closing());
        let lines = header.lines().map(|line| line.trim_start_matches('/').trim());
        let text = lines.collect::<Vec<_>>().join("\n");
        let mut paragraphs = text.split("\n\n").map(str::trim);
        let title = paragraphs.next().unwrap_or_default();
        let title = title.split_once(": ").map_or(title, |(_name, title)| title);
        let title = if chapter.title.is_empty() { title } else { &chapter.title };
        let goal = paragraphs.take_while(|text| !text.starts_with("Run:")).map(wrapped);
        (title.into(), goal.collect::<Vec<_>>().join("\n\n"))
    }

    /// A text of the chapter with its numbers, and the steps that it mentions.
    fn told(&self, text: &str) -> Result<String> {
        let mut told = text.to_string();
        for Found { range, directive } in directive::find(text).into_iter().rev() {
            let Some(directive) = directive else { continue };
            let mut words = directive.words();
            let instead = match directive.name.as_str() {
                "number" => self.number(words.bare("a run")?, words.bare("a value's name")?)?,
                "ref" => words.bare("a chapter")?.to_string(),
                other => bail!(
                    "{{{{#{other} ...}}}} in the first words of a section, in {}",
                    self.step.chapter()
                ),
            };
            told.replace_range(range, &instead);
        }
        Ok(told)
    }

    /// What a run has printed as the value of this name.
    fn number(&self, run: &str, name: &str) -> Result<String> {
        let path = format!("book/recorded/{run}/record.json");
        let record = self.head.text(&path)?.with_context(|| format!("there is no {path}"))?;
        Ok(Record::parse(&record).context(path)?.printed(run, name)?.to_string())
    }
}

/// Without Markdown's signs: `[text](address)` becomes `text`.
fn plain(text: &str) -> String {
    let link = Regex::new(r"\[([^\[\]]*)\]\([^)]*\)").expect("it is valid");
    link.replace_all(text, "$1").replace("**", "")
}

/// The paragraph with line breaks of its own.
fn wrapped(paragraph: &str) -> String {
    let mut lines: Vec<String> = vec![];
    for word in paragraph.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= WIDTH => {
                *line += " ";
                *line += word;
            }
            _ => lines.push(word.into()),
        }
    }
    lines.join("\n")
}
