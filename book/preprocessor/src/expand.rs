//! Each directive by its name: what stands in its place.

use anyhow::{Context, Result, bail};

use ladder::{
    change,
    chapter::{self, Chapter, Typed},
    directive::{Directive, Excerpt, Words},
    patch,
    steps::split_header,
};

use crate::{
    html, hunk, picture, recorded,
    source::{self, Library},
};

use Filled::{Block, Link, Text};

/// What a directive becomes.
pub enum Filled {
    /// Words within a line.
    Text(String),
    /// A mention of another page within a line.
    Link { title: String, path: String },
    /// HTML that stands on its own.
    Block(String),
}

/// What stands in the place of a directive, which stands at the place `at` of its chapter.
pub fn expand(
    directive: &Directive,
    library: &Library,
    chapter: Option<&Chapter>,
    at: usize,
) -> Result<Filled> {
    let mut words = directive.words();
    let words = &mut words;
    let filled = match directive.name.as_str() {
        "code" => Block(code(library, words)?),
        "hunk" => Block(hunk(library, words, chapter.and_then(|chapter| chapter.typed(at)))?),
        "diff" => Block(diff(library, words)?),
        "output" => Block(output(library, words)?),
        "plot" => Block(plot(library, words)?),
        "picture" => Block(picture(library, words)?),
        "patch" => Block(variation(library, words)?),
        "solution" => Block(solution(library, words)?),
        "answer" => Block(html::fold_begins("solution", "Answer", "")),
        "end" => Block(html::FOLD_ENDS.into()),
        "number" => Text(number(library, words)?),
        "lines" => Text(lines(library, words)?),
        "ref" => {
            library.link(words.bare("a chapter")?).map(|(path, title)| Link { title, path })?
        }
        _ => bail!(
            "there is no such directive; there are code, hunk, diff, output, number, plot, picture, \
             patch, solution, answer, end, lines and ref"
        ),
    };
    words.end()?;
    Ok(filled)
}

fn code(library: &Library, words: &mut Words) -> Result<String> {
    let source = library.source(words.bare("a step")?)?;
    let name = words.item()?;
    let excerpt = words.excerpt()?;
    let lines = change::between("", &source.text)?;
    let shown = chapter::places(&lines, &name, &excerpt)?;
    let shown: Vec<&str> = shown.into_iter().map(|i| lines[i].text.as_str()).collect();
    let title = match name.as_str() {
        "consts" => format!("the constants of `{}`", source.path),
        "use" => format!("the imports of `{}`", source.path),
        "header" => format!("the top of `{}`", source.path),
        _ => format!("`{name}` in `{}`", source.path),
    };
    Ok(html::listing(&title, &shown))
}

/// `typed` is what it shows if it belongs to a section of the step's own chapter.
fn hunk(library: &Library, words: &mut Words, typed: Option<Typed>) -> Result<String> {
    let step = words.bare("a step")?;
    let item = words.item()?;
    let excerpt = words.excerpt()?;
    if let Some(typed) = typed {
        return hunk::of_section(&typed, &item);
    }
    let new = library.source(step)?.text;
    hunk::of_item(&library.grown_from(step, &new)?, &new, &item, &excerpt)
}

fn diff(library: &Library, words: &mut Words) -> Result<String> {
    let step = words.bare("a step")?;
    let (old, new) = below_headers(library, step)?;
    let (added, removed) = change::count(&old, &new)?;
    let before = source::before(step)?;
    let title =
        format!("All that changes from {before} to {step}: {added} lines added, {removed} removed");
    Ok(html::folded("whole", &title, &hunk::between(&old, &new)?))
}

fn lines(library: &Library, words: &mut Words) -> Result<String> {
    let (old, new) = below_headers(library, words.bare("a step")?)?;
    Ok(change::count(&old, &new)?.0.to_string())
}

/// A step and the one before it, without the comments at their tops, which always change.
fn below_headers(library: &Library, step: &str) -> Result<(String, String)> {
    let (old, new) = (library.source(&source::before(step)?)?, library.source(step)?);
    Ok((split_header(&old.text).1.into(), split_header(&new.text).1.into()))
}

fn output(library: &Library, words: &mut Words) -> Result<String> {
    let name = words.bare("a step or a variation")?;
    recorded::output(library, name, &words.excerpt()?)
}

fn number(library: &Library, words: &mut Words) -> Result<String> {
    let name = words.bare("a step or a variation")?;
    recorded::number(library, name, words.bare("a value's name, such as loss@100")?)
}

fn plot(library: &Library, words: &mut Words) -> Result<String> {
    let name = words.bare("a step or a variation")?;
    let file = words.bare("a file's name")?;
    let alt = words.quoted("a text for those who do not see the picture")?;
    let svg = recorded::file(library, name, file)?;
    picture::inlined("plot", &format!("{name}-{file}"), &svg, alt)
}

fn picture(library: &Library, words: &mut Words) -> Result<String> {
    let file = words.bare("a file's name")?;
    let alt = words.quoted("a text for those who do not see the picture")?;
    let svg = library.read(&library.in_book(&format!("src/pictures/{file}")))?;
    picture::inlined("picture", file, &svg, alt)
}

fn variation(library: &Library, words: &mut Words) -> Result<String> {
    let (title, hunks) = patched(library, words.bare("a variation")?)?;
    Ok(html::section("variation", &title, &hunks))
}

fn solution(library: &Library, words: &mut Words) -> Result<String> {
    let name = words.bare("a variation")?;
    let (title, hunks) = patched(library, name)?;
    let output = recorded::output(library, name, &Excerpt::whole())?;
    Ok(html::fold_begins("solution", &format!("Solution: {title}"), &(hunks + &output)))
}

/// The title of `steps/patches/NAME.patch` and its hunks, computed anew: the patch's own may have shifted.
fn patched(library: &Library, name: &str) -> Result<(String, String)> {
    let path = format!("steps/patches/{name}.patch");
    let text = library.read(&path)?;
    let title = patch::said(&text, "Title:").next();
    let title = title.with_context(|| format!("{path} has no line `Title:`"))?.to_string();
    let mut hunks = String::new();
    for (target, new) in patch::apply(&path, &text, |target| library.read(target))? {
        hunks += &hunk::between(&library.read(&target)?, &new)?;
    }
    Ok((title, hunks))
}
