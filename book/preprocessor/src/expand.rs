//! Each directive by its name: what stands in its place.

use anyhow::{Result, bail};

use ladder::{
    directive::{Directive, Excerpt, Words},
    syntax::Outline,
};

use crate::{
    block::Block,
    hunk, patch, picture, recorded,
    source::{self, Library},
};

/// What a directive becomes.
pub enum Filled {
    /// Words within a line.
    Text(String),
    /// A mention of another page within a line.
    Link { title: String, path: String },
    /// What stands on its own.
    Blocks(Vec<Block>),
}

/// What stands in the place of a directive.
pub fn expand(directive: &Directive, library: &Library) -> Result<Filled> {
    let mut words = directive.words();
    let words = &mut words;
    match directive.name.as_str() {
        "code" => code(library, words).map(one),
        "hunk" => hunk(library, words).map(Filled::Blocks),
        "diff" => diff(library, words).map(one),
        "output" => output(library, words).map(one),
        "plot" => plot(library, words).map(one),
        "picture" => picture(library, words).map(one),
        "patch" => patch(library, words).map(one),
        "solution" => solution(library, words).map(one),
        "answer" => answer(words).map(one),
        "end" => end(words).map(one),
        "number" => number(library, words).map(Filled::Text),
        "lines" => lines(library, words).map(Filled::Text),
        "ref" => reference(library, words),
        _ => bail!(
            "there is no such directive; there are code, hunk, diff, output, number, plot, picture, \
             patch, solution, answer, end, lines and ref"
        ),
    }
}

fn one(block: Block) -> Filled {
    Filled::Blocks(vec![block])
}

fn code(library: &Library, words: &mut Words) -> Result<Block> {
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
    Ok(Block::code(title, &excerpt.of(&text)?))
}

fn hunk(library: &Library, words: &mut Words) -> Result<Vec<Block>> {
    let step = words.bare("a step")?;
    let item = words.item()?;
    let excerpt = words.excerpt()?;
    words.end()?;
    let new = library.source(step)?.text;
    hunk::of_item(&library.grown_from(step, &new)?, &new, &item, &excerpt)
}

fn diff(library: &Library, words: &mut Words) -> Result<Block> {
    let step = words.bare("a step")?;
    words.end()?;
    let (old, new) = below_headers(library, step)?;
    let (added, removed) = hunk::changed(&old, &new)?;
    let before = source::before(step)?;
    let title =
        format!("All that changes from {before} to {step}: {added} lines added, {removed} removed");
    Ok(Block::Folded { class: "whole", title, blocks: hunk::between(&old, &new)? })
}

fn lines(library: &Library, words: &mut Words) -> Result<String> {
    let step = words.bare("a step")?;
    words.end()?;
    let (old, new) = below_headers(library, step)?;
    let (added, _) = hunk::changed(&old, &new)?;
    Ok(added.to_string())
}

/// A step and the one before it, without the comments at their tops, which always change.
fn below_headers(library: &Library, step: &str) -> Result<(String, String)> {
    let (old, new) = (library.source_before(step)?, library.source(step)?);
    Ok((hunk::without_header(&old.text)?, hunk::without_header(&new.text)?))
}

fn output(library: &Library, words: &mut Words) -> Result<Block> {
    let name = words.bare("a step or a variation")?;
    let excerpt = words.excerpt()?;
    words.end()?;
    recorded::output(library, name, &excerpt)
}

fn number(library: &Library, words: &mut Words) -> Result<String> {
    let name = words.bare("a step or a variation")?;
    let value = words.bare("a value's name, such as loss@100")?;
    words.end()?;
    recorded::number(library, name, value)
}

fn plot(library: &Library, words: &mut Words) -> Result<Block> {
    let name = words.bare("a step or a variation")?;
    let file = words.bare("a file's name")?;
    let alt = words.quoted("a text for those who do not see the picture")?;
    words.end()?;
    let svg = recorded::file(library, name, file)?;
    picture::block("plot", &format!("{name}-{file}"), &svg, alt)
}

fn picture(library: &Library, words: &mut Words) -> Result<Block> {
    let file = words.bare("a file's name")?;
    let alt = words.quoted("a text for those who do not see the picture")?;
    words.end()?;
    let svg = library.read(&library.in_book(&format!("src/pictures/{file}")))?;
    picture::block("picture", file, &svg, alt)
}

fn patch(library: &Library, words: &mut Words) -> Result<Block> {
    let name = words.bare("a variation")?;
    words.end()?;
    let variation = patch::read(library, name)?;
    Ok(Block::Section { class: "variation", title: variation.title, blocks: variation.hunks })
}

fn solution(library: &Library, words: &mut Words) -> Result<Block> {
    let name = words.bare("a variation")?;
    words.end()?;
    let variation = patch::read(library, name)?;
    let mut blocks = variation.hunks;
    blocks.push(recorded::output(library, name, &Excerpt::whole())?);
    let title = format!("Solution: {}", variation.title);
    Ok(Block::FoldBegins { class: "solution", title, blocks })
}

fn answer(words: &mut Words) -> Result<Block> {
    words.end()?;
    Ok(Block::FoldBegins { class: "solution", title: "Answer".into(), blocks: Vec::new() })
}

fn end(words: &mut Words) -> Result<Block> {
    words.end()?;
    Ok(Block::FoldEnds)
}

fn reference(library: &Library, words: &mut Words) -> Result<Filled> {
    let (path, title) = library.link(words.bare("a chapter")?)?;
    words.end()?;
    Ok(Filled::Link { title, path })
}
