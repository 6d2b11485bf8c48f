//! One chapter: its directives and formulas are replaced, all else is left as it is.

use std::{ops::Range, path::Path};

use pulldown_cmark::{CodeBlockKind, Event, Tag};

use anyhow::{Result, anyhow, bail};
use ladder::{
    chapter::{Chapter, Fault, Shown, line_of},
    directive::{self, Found},
    steps::{self, Step},
};

use crate::{
    expand::{self, Filled},
    html, markdown, math,
    source::Library,
};

/// An inline formula with the stop that follows it: a line may break after a formula, but not there.
fn unbroken(text: &str, formula: &Range<usize>, mathml: &str) -> (Range<usize>, String) {
    let stop = text[formula.end..].bytes().take_while(|b| b".,;:!?)".contains(b)).count();
    let end = formula.end + stop;
    let stop = &text[formula.end..end];
    (formula.start..end, format!("<span class=\"unbroken\">{mathml}{stop}</span>"))
}

/// The chapter in `file` with everything filled in, and what could not be: `line: directive: why`.
pub fn fill(text: &str, library: &Library, file: &Path) -> (String, Vec<String>) {
    let found = directive::find(text);
    let parts = Parts::of(&without(text, &found));
    let (cut, mut faults) = cut(text, library, file)
        .unwrap_or_else(|why| (None, vec![Fault { line: 1, what: format!("{why:#}") }]));
    let mut edits = cut.as_ref().map_or(Vec::new(), |(step, chapter)| tags(step, chapter, text));
    let stale = "```rust: Rust typed into a chapter goes stale: show the step's own with {{#code ...}}, \
                 or mark it ```rust,sketch";
    let typed = parts.rust.iter().map(|&at| Fault { line: line_of(text, at), what: stale.into() });
    faults.extend(typed);
    faults.extend(unpaired(text, &found));

    let chapter = cut.as_ref().map(|(_, chapter)| chapter);
    for Found { range, directive } in &found {
        let filled = match directive {
            Some(directive) => expand::expand(directive, library, chapter, range.start)
                .and_then(|filled| placed(filled, text, range, &parts)),
            None => Err(anyhow!(
                "this does not read as a directive: {}",
                r#"{{#name words "quoted words"}}"#
            )),
        };
        match filled {
            Ok(filled) => edits.push((range.clone(), filled)),
            Err(why) => faults.push(fault(text, range, &format!("{why:#}"))),
        }
    }
    for (range, latex, display) in &parts.formulas {
        match math::mathml(latex, *display) {
            Ok(mathml) if *display => edits.push((range.clone(), mathml)),
            Ok(mathml) => edits.push(unbroken(text, range, &mathml)),
            Err(why) => faults.push(fault(text, range, &why)),
        }
    }
    faults.sort_by_key(|fault| fault.line);
    let faults = faults.iter().map(|fault| format!("{}: {}", fault.line, fault.what));
    (apply(text, edits), faults.collect())
}

/// What is wrong with the piece of the text in `range`.
fn fault(text: &str, range: &Range<usize>, why: &str) -> Fault {
    let what = format!("{}: {why}", brief(&text[range.clone()]));
    Fault { line: line_of(text, range.start), what }
}

/// A step's chapter, cut into the sections of the lecture, and what is wrong with them.
type Cut = (Option<(Step, Chapter)>, Vec<Fault>);

fn cut(text: &str, library: &Library, file: &Path) -> Result<Cut> {
    let name = file.file_stem().map(|stem| format!("steps/{}.rs", stem.to_string_lossy()));
    let Some(step) = steps::among(name.as_deref()).pop() else { return Ok((None, Vec::new())) };
    let new = library.source(step.key())?.text;
    let old = library.grown_from(step.key(), &new)?;
    let (chapter, faults) = Chapter::read(&step, &old, &new, text)?;
    Ok((Some((step, chapter)), faults))
}

/// Below each heading that begins a section, the tag of its commit.
fn tags(step: &Step, chapter: &Chapter, text: &str) -> Vec<(Range<usize>, String)> {
    let tags = chapter.sections.iter().enumerate().map(|(i, section)| {
        let end = section.at + text[section.at..].find('\n').unwrap_or(0);
        let state = match chapter.shown(i + 1) {
            Shown::Tryout => "try it",
            Shown::Lesson => "run it",
            Shown::Nothing => "runs, with nothing new to see",
        };
        let tag = html::tag(&section.slug, &step.name, state);
        (end..end, format!("\n\n{tag}"))
    });
    tags.collect()
}

/// Folds that have no end, ends that have no fold, and folds within folds.
fn unpaired(text: &str, found: &[Found]) -> Vec<Fault> {
    let no_end = |begun: &Range<usize>| {
        fault(text, begun, "after what belongs to it an {{#end}} is missing")
    };
    let (mut faults, mut open) = (Vec::new(), None);
    for Found { range, directive } in found {
        match directive.as_ref().map_or("", |directive| &directive.name) {
            "solution" | "answer" => faults.extend(open.replace(range).map(no_end)),
            "end" if open.take().is_none() => faults.push(fault(text, range, "it ends nothing")),
            _ => {}
        }
    }
    faults.extend(open.map(no_end));
    faults
}

/// The text on one line, and not more than fits there.
fn brief(text: &str) -> String {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match text.char_indices().nth(100) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

/// The text with each directive blotted out, byte by byte, so that its quotes, stars and dollars are
/// not read as Markdown.
fn without(text: &str, found: &[Found]) -> String {
    let mut text = text.to_string();
    for Found { range, .. } in found {
        text.replace_range(range.clone(), &"x".repeat(range.len()));
    }
    text
}

/// What a directive becomes, if it may stand where it stands.
fn placed(filled: Filled, text: &str, range: &Range<usize>, parts: &Parts) -> Result<String> {
    if parts.formulas.iter().any(|(formula, ..)| formula.contains(&range.start)) {
        bail!("it stands inside a formula; end the formula before it");
    }
    let in_code = parts.code.iter().any(|code| code.contains(&range.start));
    match filled {
        Filled::Text(text) => Ok(text),
        _ if in_code => bail!("it cannot stand inside code"),
        Filled::Link { title, path } => Ok(format!("[{title}]({path})")),
        Filled::Block(_) if !alone(text, range) => bail!("it has to stand alone on its line"),
        Filled::Block(html) => Ok(set_apart(&html, text, range)),
    }
}

/// The block as far from the left as the directive whose place it takes, between empty lines: Markdown
/// takes lines for HTML until an empty one, and a caption for a part of the paragraph above it.
fn set_apart(block: &str, text: &str, range: &Range<usize>) -> String {
    let mut above = text[..range.start].rsplit('\n');
    let indentation = above.next().unwrap_or_default();
    let is_text = |line: Option<&str>| line.is_some_and(|line| !line.trim().is_empty());
    let before = if is_text(above.next()) { format!("\n{indentation}") } else { String::new() };
    let after = if is_text(text[range.end..].lines().nth(1)) { "\n" } else { "" };
    let indent = |line: &str| match line {
        "" => String::new(),
        line => format!("{indentation}{line}"),
    };
    let block = block.split('\n').map(indent).collect::<Vec<_>>().join("\n");
    format!("{before}{}{after}", block.trim_start())
}

fn alone(text: &str, range: &Range<usize>) -> bool {
    let before = text[..range.start].rsplit('\n').next().unwrap_or_default();
    let after = text[range.end..].split('\n').next().unwrap_or_default();
    before.trim().is_empty() && after.trim().is_empty()
}

/// What a chapter's Markdown holds that matters here.
#[derive(Default)]
struct Parts {
    code: Vec<Range<usize>>,
    /// LaTeX, and whether it stands on a line of its own.
    formulas: Vec<(Range<usize>, String, bool)>,
    /// Where Rust is typed straight into the chapter.
    rust: Vec<usize>,
}

impl Parts {
    fn of(text: &str) -> Parts {
        let mut parts = Parts::default();
        for (event, range) in markdown::events(text) {
            match event {
                Event::Code(_) => parts.code.push(range),
                Event::Start(Tag::CodeBlock(kind)) => {
                    if is_typed_rust(&kind) {
                        parts.rust.push(range.start);
                    }
                    parts.code.push(range);
                }
                Event::InlineMath(latex) => {
                    parts.formulas.push((range, latex.into_string(), false))
                }
                Event::DisplayMath(latex) => {
                    parts.formulas.push((range, latex.into_string(), true))
                }
                _ => {}
            }
        }
        parts
    }
}

fn is_typed_rust(kind: &CodeBlockKind) -> bool {
    let CodeBlockKind::Fenced(info) = kind else { return false };
    let mut words = info.split([' ', '\t', ',']).filter(|word| !word.is_empty());
    matches!(words.next(), Some("rust" | "rs"))
        && !words.any(|word| ["sketch", "tryout"].contains(&word))
}

/// Puts the edits in, and takes off the backslash of what only looks like a directive.
fn apply(text: &str, mut edits: Vec<(Range<usize>, String)>) -> String {
    edits.sort_by_key(|(range, _)| range.start);
    let mut result = String::new();
    let mut from = 0;
    for (range, new) in edits {
        result.push_str(&text[from..range.start].replace("\\{{#", "{{#"));
        result.push_str(&new);
        from = range.end;
    }
    result.push_str(&text[from..].replace("\\{{#", "{{#"));
    result
}
