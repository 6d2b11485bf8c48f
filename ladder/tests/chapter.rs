//! How the headings of a chapter cut the way from one program to the next.

use ladder::{change::Sign, chapter::Chapter, steps, syntax::Outline};

const OLD: &str = r#"// step05_small: a model

use anyhow::Result;
use std::{collections::BTreeMap, process::ExitCode};

#[path = "proofs/step05.rs"]
mod proof;

struct Model {
    table: BTreeMap<i64, i64>,
}

impl Model {
    fn new() -> Self {
        Self { table: BTreeMap::new() }
    }

    fn size(&self) -> usize {
        self.table.len()
    }
}

fn lesson() -> Result<()> {
    let model = Model::new();
    println!("{}", model.size());
    proof::print(&model)
}

fn main() -> ExitCode {
    lab::run(lesson)
}
"#;

const NEW: &str = r#"// step06_larger: a loader
//
// New since step05: a loader.

use anyhow::{Context, Result};
use std::{path::Path, process::ExitCode};

#[path = "proofs/step06.rs"]
mod proof;

const BATCH_SIZE: i64 = 8;

struct Model {
    table: Vec<i64>,
}

impl Model {
    fn new() -> Self {
        Self { table: Vec::new() }
    }

    fn size(&self) -> usize {
        self.table.len()
    }
}

struct Loader {
    position: i64,
}

impl Loader {
    fn next(&mut self, path: &Path) -> Result<i64> {
        self.position += BATCH_SIZE;
        let text = std::fs::read(path).context("the text")?;
        Ok(text.len() as i64)
    }
}

fn lesson() -> Result<()> {
    let model = Model::new();
    let mut loader = Loader { position: 0 };
    loader.next(Path::new("text"))?;
    println!("{}", model.size());
    proof::print(&model)
}

fn main() -> ExitCode {
    lab::run(lesson)
}
"#;

const TEXT: &str = "\
# A chapter

## A list {#step06-list}

The table is a list.

{{#hunk step06 struct Model}}

{{#hunk step06 Model::new}}

## The loader {#step06-loader}

It hands out batches.

{{#hunk step06 consts}}

{{#code step06 struct Loader}}

{{#code step06 impl Loader}}

```rust,tryout
let mut loader = Loader { position: 0 };
println!(\"{}\", loader.next(Path::new(\"x\"))?);
```

## All together {#step06-all}

{{#hunk step06 fn lesson}}
";

fn read(new: &str, text: &str) -> (Chapter, Vec<String>) {
    let step = steps::among(["steps/step06_larger.rs"]).remove(0);
    let (chapter, faults) = Chapter::read(&step, OLD, new, text).unwrap();
    (chapter, faults.iter().map(|fault| format!("{}: {}", fault.line, fault.what)).collect())
}

fn chapter() -> Chapter {
    let (chapter, faults) = read(NEW, TEXT);
    assert!(faults.is_empty(), "{faults:?}");
    chapter
}

#[test]
fn the_sum_of_the_sections_is_the_step() {
    let chapter = chapter();
    let slugs: Vec<&str> = chapter.sections.iter().map(|section| section.slug.as_str()).collect();
    assert_eq!(slugs, ["step06-list", "step06-loader", "step06-all"]);
    assert_eq!(chapter.state(4), NEW);
    assert_eq!(chapter.closing(), NEW);
    assert_eq!(chapter.sections[0].text, "The table is a list.");
    assert_eq!([1, 3].map(|n| chapter.changed(n).unwrap()), [(3, 3), (3, 7)]);
}

#[test]
fn the_old_proof_goes_first_and_the_new_one_comes_last() {
    let chapter = chapter();
    for n in 0..=3 {
        assert!(!chapter.state(n).contains("proof"), "{n}");
    }
    let begin = chapter.state(0);
    assert!(begin.starts_with("// step06_larger: a loader\n"), "{begin}");
    assert!(begin.contains("    println!(\"{}\", model.size());\n    Ok(())\n}\n"), "{begin}");
}

#[test]
fn each_section_changes_what_it_shows_and_nothing_else() {
    let chapter = chapter();
    let list = chapter.state(1);
    assert!(list.contains("table: Vec<i64>") && list.contains("Vec::new()"), "{list}");
    assert!(!list.contains("Loader") && !list.contains("BATCH_SIZE"), "{list}");
    let all = chapter.state(3);
    assert!(all.contains("let model = Model::new();\n    let mut loader"), "{all}");
}

#[test]
fn imports_come_with_what_needs_them_and_go_with_it() {
    let chapter = chapter();
    let uses = |n| -> Vec<String> {
        let state = chapter.state(n);
        state.lines().filter(|line| line.starts_with("use ")).map(str::to_string).collect()
    };
    let begin = ["use anyhow::Result;", "use std::{collections::BTreeMap, process::ExitCode};"];
    assert_eq!(uses(0), begin);
    assert_eq!(uses(1), ["use anyhow::Result;", "use std::process::ExitCode;"]);
    assert_eq!(
        uses(2),
        ["use anyhow::{Context, Result};", "use std::{path::Path, process::ExitCode};"]
    );
}

#[test]
fn a_try_out_stands_in_the_lesson_until_the_steps_own_lines_come() {
    let chapter = chapter();
    let loader = chapter.state(2);
    let body = "    let mut loader = Loader { position: 0 };
    println!(\"{}\", loader.next(Path::new(\"x\"))?);
    Ok(())
}
";
    assert!(loader.contains(&format!("fn tryout() -> Result<()> {{\n{body}")), "{loader}");
    assert!(loader.contains("lab::run(tryout)") && loader.contains("model.size()"), "{loader}");
    assert!(!chapter.state(3).contains("\"x\"") && chapter.state(3).contains("lab::run(lesson)"));
}

/// Where the hunk of this item goes, as the book says it.
fn place(chapter: &Chapter, text: &str, item: &str) -> String {
    let at = text.find(&format!("{{{{#hunk step06 {item}}}}}")).unwrap();
    let typed = chapter.typed(at).unwrap();
    let first = typed.lines.iter().find(|line| line.sign != Sign::Same).unwrap();
    let outline = |text| Outline::of(text).unwrap();
    outline(&typed.after).place(first.at, &outline(&typed.before))
}

#[test]
fn a_place_is_told_in_what_has_been_typed_so_far() {
    // In the finished program the loader stands between the model and the lesson, and the size before it.
    let text = TEXT
        .replace("{{#code step06 struct Loader}}", "{{#hunk step06 struct Loader}}")
        .replace("### A list {#step06-list}", "")
        .replace(
            "## All together {#step06-all}",
            "{{#hunk step06 Loader::next}}\n\n## All together {#step06-all}",
        )
        .replace("{{#code step06 impl Loader}}", "");
    let (chapter, faults) = read(NEW, &text);
    assert!(faults.is_empty(), "{faults:?}");
    assert_eq!(place(&chapter, &text, "consts"), "new, below the imports");
    assert_eq!(place(&chapter, &text, "struct Loader"), "new, after `impl Model`");
    assert_eq!(place(&chapter, &text, "Loader::next"), "new, in `impl Loader`, at the top");

    // The same the other way round: what comes later is no neighbour yet.
    let later = "## Later {#step06-later}\n\n{{#hunk step06 struct Loader}}\n\n{{#code step06 impl Loader}}\n";
    let text = TEXT
        .replace("{{#code step06 struct Loader}}", "")
        .replace("{{#code step06 impl Loader}}", "");
    let text = text.replace("let mut loader = Loader { position: 0 };\nprintln!(\"{}\", loader.next(Path::new(\"x\"))?);", "println!();") + later;
    let (chapter, faults) = read(NEW, &text);
    assert!(faults.is_empty(), "{faults:?}");
    assert_eq!(place(&chapter, &text, "fn lesson"), "in `fn lesson`, after `let model`");
    assert!(chapter.typed(text.find("{{#code").unwrap_or(0)).is_none(), "only a hunk has a place");
}

#[test]
fn a_hunk_shows_as_new_only_what_is_typed_with_it() {
    let text = TEXT.replace(
        "{{#hunk step06 consts}}",
        "{{#hunk step06 consts}}\n\n{{#hunk step06 fn lesson from \"let mut\" to \"let mut\"}}",
    );
    let (chapter, faults) = read(NEW, &text);
    assert!(faults.is_empty(), "{faults:?}");
    let typed = chapter.typed(text.rfind("{{#hunk step06 fn lesson}}").unwrap()).unwrap();
    let lines: Vec<_> = typed.lines.iter().map(|line| (line.sign, line.text.trim())).collect();
    assert!(lines.contains(&(Sign::Same, "let mut loader = Loader { position: 0 };")), "{lines:?}");
    assert!(lines.contains(&(Sign::Added, "loader.next(Path::new(\"text\"))?;")), "{lines:?}");
    assert!(!lines.iter().any(|(_, line)| line.contains("proof")), "{lines:?}");
}

#[test]
fn a_state_is_set_as_rustfmt_sets_it() {
    let new = NEW
        .replace(
            "use anyhow::{Context, Result};",
            "use anyhow::{Context, Result};\nuse lab::{Log, plot::Plot};",
        )
        .replace(
            "    let model = Model::new();\n    let mut",
            "    let model = Model::new();\n\n    let mut",
        )
        .replace(
            "Ok(text.len() as i64)\n    }\n",
            "Ok(text.len() as i64)\n    }\n\n    fn log(&self) -> (Log, Plot) {}\n",
        );
    let text = TEXT.replace("{{#code step06 impl Loader}}", "{{#code step06 Loader::log}}")
        + "\n## Next {#step06-next}\n\n{{#code step06 impl Loader}}\n";
    let text = text.replace("```rust,tryout", "```rust,sketch");
    let (chapter, faults) = read(&new, &text);
    assert!(faults.is_empty(), "{faults:?}");
    let log = chapter.state(2);
    assert!(log.contains("impl Loader {\n    fn log"), "no empty line where a block begins: {log}");
    assert!(log.contains("use anyhow::Result;\nuse lab::{Log, plot::Plot};\nuse std::"), "{log}");
    // An empty line comes with what follows it.
    assert!(chapter.state(4).contains("    }\n\n    fn log"), "{}", chapter.state(4));
}

#[test]
fn a_fresh_file_grows_from_its_door() {
    let new = NEW.replace("// New since step05", "// New");
    let text = TEXT
        .replace("{{#hunk step06 Model::new}}", "{{#code step06 impl Model}}")
        .replace("{{#hunk step06 fn lesson}}", "{{#code step06 fn lesson to \"let mut\"}}\n\nThen:\n\n## Say it {#step06-say}\n\n{{#code step06 fn lesson from \"loader.next\"}}");
    let (chapter, faults) = read(&new, &text);
    assert!(faults.is_empty(), "{faults:?}");
    let begin = "\
// step06_larger: a loader
//
// New: a loader.

use anyhow::Result;
use std::process::ExitCode;

fn lesson() -> Result<()> {
    Ok(())
}

fn main() -> ExitCode {
    lab::run(lesson)
}
";
    assert_eq!(chapter.state(0), begin);
    let loader = "    let mut loader = Loader { position: 0 };\n    println!";
    assert!(chapter.state(2).contains(loader), "{}", chapter.state(2));
    let half = "    let mut loader = Loader { position: 0 };\n    Ok(())\n}\n";
    assert!(chapter.state(3).contains(half), "{}", chapter.state(3));
    assert_eq!(chapter.state(5), new);
}

#[test]
fn what_no_section_shows_or_two_or_none_can_is_named_with_its_line() {
    for (from, to, fault) in [
        ("{{#hunk step06 consts}}", "", "1: no section shows what changes in const BATCH_SIZE"),
        (
            "{{#hunk step06 consts}}",
            "{{#hunk step06 struct Model}}",
            "15: all that it shows has been shown",
        ),
        ("{{#hunk step06 consts}}", "{{#hunk step06 fn no}}", "15: there is no `fn no`"),
        ("## A list {#step06-list}", "## A list", "7: it stands above the first heading"),
        (
            "hunk step06 consts",
            "hunk step06 consts from \"no\" to \"no\"",
            "15: no line contains \"no\"",
        ),
    ] {
        let (_, faults) = read(NEW, &TEXT.replace(from, to));
        assert!(faults.iter().any(|said| said.starts_with(fault)), "{fault}: {faults:?}");
    }
}
