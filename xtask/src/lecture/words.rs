//! What the lecture's commits say.

use crate::steps::{Step, goes_on, split_header};

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

Each commit of this branch is one lesson, and its tag is the lesson's name. They all change the same program,
[`steps/lesson.rs`](steps/lesson.rs), so that a commit's diff is the lesson:

```sh
git log --oneline --reverse lecture    # the lessons, in order
git switch --detach step02_attention   # stand in it
git show                               # what the lesson changes, and why
cargo xtask setup                      # once: libtorch, into the folder `libtorch`
cargo run --bin step02_attention       # the program has the lesson's name
cargo test                             # what the lesson promises about its code
```

To follow along, start a branch of your own at a lesson (`git switch -c mine step01_bigram`), take over
the next one's name and proof (`git checkout step02_attention -- Cargo.toml Cargo.lock steps/proofs`), type its
program, and compare: `git diff step02_attention -- steps/lesson.rs`.

- `steps/proofs/`: the table that the program prints at its end to prove the lesson
- `steps/patches/`: variations of the program, solutions of exercises among them:
  `git apply steps/patches/NAME.patch`, and `git apply -R` to take it back
- `text/`: the chapters so far, with their code and outputs filled in
- `src/`, `tch-ext/`, `files/`, `data/`: the lab, which is what the lessons need and do not teach

`git show` leaves out patches, chapters and `Cargo.lock`; `git show --text` shows them too.

A program makes this branch from the repository where the steps are written side by side, and may make it
anew. So keep your own work on a branch of your own.
";

/// A step's message: its title, its goal, and how to run it, from its chapter or, if there is none
/// that says its goal, from the comment at the top of its program.
pub fn message(step: &Step, program: &str, chapter: Option<&str>) -> String {
    let name = &step.name;
    let of_chapter = chapter.map(of_chapter).filter(|(_, goal)| !goal.is_empty());
    let (title, goal) = of_chapter.unwrap_or_else(|| of_header(program));
    let title = title.strip_prefix(step.key()).unwrap_or(&title).trim_start_matches([':', ' ']);
    let read = match goes_on(program) {
        true => String::new(),
        false => format!("It starts a fresh file: git show {name}:steps/lesson.rs\n"),
    };
    format!(
        "{name}: {title}\n\n{goal}\n\nRun it: cargo run --bin {name}\n{read}\n{TRAILER}: {name}\n"
    )
}

/// The first line, and the paragraphs from there down to "Run:".
fn of_header(program: &str) -> (String, String) {
    let (header, _) = split_header(program);
    let lines = header.lines().map(|line| line.trim_start_matches('/').trim());
    let text = lines.collect::<Vec<_>>().join("\n");
    let mut paragraphs = text.split("\n\n").map(str::trim);
    let title = paragraphs.next().unwrap_or_default();
    let title = title.split_once(": ").map_or(title, |(_name, title)| title);
    let goal = paragraphs.take_while(|text| !text.starts_with("Run:")).map(wrapped);
    (title.into(), goal.collect::<Vec<_>>().join("\n\n"))
}

/// The first heading, and the prose down to the next one or to code: paragraphs and lists. Tables,
/// pictures and formulas are left out, for they need more than a terminal.
fn of_chapter(chapter: &str) -> (String, String) {
    let mut blocks = chapter.split("\n\n").map(str::trim).filter(|block| !block.is_empty());
    let title = blocks.next().unwrap_or_default().trim_start_matches('#').trim();
    let goes_on = |block: &&str| !block.starts_with('#') && !block.starts_with("```");
    let is_prose = |block: &&str| !block.starts_with(['|', '$', '>']) && !block.starts_with("*(");
    let goal = blocks.take_while(goes_on).filter(is_prose).map(|block| {
        let text = without_links(block.strip_prefix("**Goal.** ").unwrap_or(block));
        if text.starts_with("- ") { text } else { wrapped(&text) }
    });
    (without_links(title), goal.collect::<Vec<_>>().join("\n\n"))
}

/// `[text](address)` becomes `text`.
fn without_links(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('[') {
        let link = after.split_once("](").and_then(|(words, after)| {
            let (_address, after) = after.split_once(')')?;
            (!words.contains(']')).then_some((words, after))
        });
        plain += before;
        match link {
            Some((words, after)) => (plain, rest) = (plain + words, after),
            None => (plain, rest) = (plain + "[", after),
        }
    }
    plain + rest
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
