//! Each directive by its name: what stands in its place.

use anyhow::{Result, bail};

use crate::{
    directive::{Directive, Excerpt, Words},
    html, hunk, patch, picture, recorded,
    source::{self, Library},
    syntax::Outline,
};

/// What a directive becomes.
pub enum Filled {
    /// Words within a line.
    Text(String),
    /// Markdown within a line.
    Link(String),
    /// HTML that stands on its own.
    Block(String),
}

/// What stands in the place of a directive.
pub fn expand(directive: &Directive, library: &Library) -> Result<Filled> {
    let mut words = directive.words();
    let words = &mut words;
    match directive.name.as_str() {
        "code" => code(library, words).map(Filled::Block),
        "hunk" => hunk(library, words).map(Filled::Block),
        "diff" => diff(library, words).map(Filled::Block),
        "output" => output(library, words).map(Filled::Block),
        "plot" => plot(library, words).map(Filled::Block),
        "picture" => picture(library, words).map(Filled::Block),
        "patch" => patch(library, words).map(Filled::Block),
        "solution" => solution(library, words).map(Filled::Block),
        "number" => number(library, words).map(Filled::Text),
        "lines" => lines(library, words).map(Filled::Text),
        "ref" => reference(library, words).map(Filled::Link),
        _ => bail!(
            "there is no such directive; there are code, hunk, diff, output, number, plot, picture, \
             patch, solution, lines and ref"
        ),
    }
}

fn code(library: &Library, words: &mut Words) -> Result<String> {
    let source = library.source(words.bare("a step")?)?;
    let name = words.item()?;
    let excerpt = words.excerpt()?;
    words.end()?;
    let lines = Outline::of(&source.text)?.item(&name)?;
    let text: Vec<&str> = source.text.lines().skip(lines.start).take(lines.len()).collect();
    let text = text.join("\n");
    let title = match name.as_str() {
        "consts" => format!("the constants of `{}`", source.path),
        "use" => format!("the imports of `{}`", source.path),
        "header" => format!("the top of `{}`", source.path),
        _ => format!("`{name}` in `{}`", source.path),
    };
    Ok(html::code(&title, &excerpt.of(&text)?))
}

fn hunk(library: &Library, words: &mut Words) -> Result<String> {
    let step = words.bare("a step")?;
    let item = words.item()?;
    words.end()?;
    let (old, new) = (library.source_before(step)?, library.source(step)?);
    hunk::of_item(&old.text, &new.text, &item)
}

fn diff(library: &Library, words: &mut Words) -> Result<String> {
    let step = words.bare("a step")?;
    words.end()?;
    let (old, new) = below_headers(library, step)?;
    let (added, removed) = hunk::changed(&old, &new);
    let before = source::before(step)?;
    let summary =
        format!("All that changes from {before} to {step}: {added} lines added, {removed} removed");
    Ok(html::folded("whole", &summary, &hunk::between(&old, &new)?))
}

fn lines(library: &Library, words: &mut Words) -> Result<String> {
    let step = words.bare("a step")?;
    words.end()?;
    let (old, new) = below_headers(library, step)?;
    let (added, _) = hunk::changed(&old, &new);
    Ok(added.to_string())
}

/// A step and the one before it, without the comments at their tops, which always change.
fn below_headers(library: &Library, step: &str) -> Result<(String, String)> {
    let (old, new) = (library.source_before(step)?, library.source(step)?);
    Ok((hunk::without_header(&old.text)?, hunk::without_header(&new.text)?))
}

fn output(library: &Library, words: &mut Words) -> Result<String> {
    let name = words.bare("a step or a variation")?;
    let excerpt = words.excerpt()?;
    words.end()?;
    recorded::output(library, name, &excerpt)
}

fn number(library: &Library, words: &mut Words) -> Result<String> {
    let name = words.bare("a step or a variation")?;
    let first = words.skip("first");
    let pattern = words.quoted("a pattern")?;
    words.end()?;
    recorded::number(library, name, first, pattern)
}

fn plot(library: &Library, words: &mut Words) -> Result<String> {
    let name = words.bare("a step or a variation")?;
    let file = words.bare("a file's name")?;
    let alt = words.quoted("a text for those who do not see the picture")?;
    words.end()?;
    let svg = recorded::file(library, name, file)?;
    picture::figure("plot", &format!("{name}-{file}"), &svg, alt)
}

fn picture(library: &Library, words: &mut Words) -> Result<String> {
    let file = words.bare("a file's name")?;
    let alt = words.quoted("a text for those who do not see the picture")?;
    words.end()?;
    let svg = library.read(&library.in_book(&format!("src/pictures/{file}")))?;
    picture::figure("picture", file, &svg, alt)
}

fn patch(library: &Library, words: &mut Words) -> Result<String> {
    let name = words.bare("a variation")?;
    words.end()?;
    let variation = patch::read(library, name)?;
    let title = html::caption(&variation.title);
    Ok(format!(
        "<section class=\"variation\"><p class=\"title\">{title}</p>{}</section>",
        variation.figures
    ))
}

fn solution(library: &Library, words: &mut Words) -> Result<String> {
    let name = words.bare("a variation")?;
    words.end()?;
    let variation = patch::read(library, name)?;
    let output = recorded::output(library, name, &Excerpt::whole())?;
    let body = variation.figures + &output;
    Ok(html::folded("solution", &format!("Solution: {}", variation.title), &body))
}

fn reference(library: &Library, words: &mut Words) -> Result<String> {
    let (path, title) = library.link(words.bare("a chapter")?)?;
    words.end()?;
    Ok(format!("[{title}]({path})"))
}
