//! The book's chapters are Markdown with directives: every piece of code, output, picture or number in
//! the book is taken from the steps and from what they printed. This crate fills the directives in,
//! turns formulas (`$...$`, `$$...$$`) into MathML, and checks the links of the built book. What cannot be filled
//! in fails the build, with the chapter's file and line.
//!
//! Alone on a line:
//!
//! ```text
//! {{#code STEP ITEM}}                an item: `fn f`, `struct S`, `impl S`, `S::method`, `const C`, `consts`, `use`, `header`
//! {{#code STEP ITEM from "a" to "b"}} some of its lines; STEP is step01, step01/proof or a path such as src/rng.rs
//! {{#hunk STEP ITEM}}                what changed in it since the step before, and where that goes; from and to as above
//! {{#diff STEP}}                     all that changed, folded
//! {{#output RUN from "a" to "b"}}    what a run printed; RUN is step02 or a variation such as step02-no_root
//! {{#plot RUN file.svg "alt text"}}  a picture that a run drew
//! {{#picture file.svg "alt text"}}   a drawing from src/pictures
//! {{#patch VARIATION}}               a variation's title and hunks
//! {{#solution VARIATION}}            the same and its output, folded with what is said until {{#end}}
//! {{#answer}}                        only what is said until {{#end}}, folded
//! {{#end}}
//! ```
//!
//! What `hunk` and `code` show of the chapter's own step belongs to the section whose heading has an anchor such
//! as `{#step06-loader}` above them, which is a commit of the lecture: see [`ladder::chapter`]. There a hunk looks
//! at the program as it has been typed down to it.
//!
//! Within a line:
//!
//! ```text
//! {{#number RUN NAME}}               a value in the run's `record.json`, as it was printed: loss@100, parameters
//! {{#lines STEP}}                    how many lines are new since the step before
//! {{#ref step02}}                    a link to a chapter, with its title; or to a section or a heading: step02-head, glossary#logits
//! \{{#...}}                          no directive
//! ```

pub mod build;
mod chapter;
mod expand;
mod html;
mod hunk;
pub mod links;
mod markdown;
mod math;
mod picture;
mod recorded;
mod source;

use std::path::Path;

use anyhow::{Context, Result, bail};
use mdbook_preprocessor::{
    Preprocessor, PreprocessorContext,
    book::{Book, Chapter},
};

use crate::source::{Library, Page};

/// The preprocessor, under the name that `book.toml` gives it.
pub struct Steps;

impl Preprocessor for Steps {
    fn name(&self) -> &str {
        "steps"
    }

    fn run(&self, context: &PreprocessorContext, mut book: Book) -> Result<Book> {
        let source = context.root.join(&context.config.book.src);
        fill(&mut book, &context.root, &source)?;
        Ok(book)
    }
}

/// Fills all chapters of the book in the folder `root`, which lies in the repository.
fn fill(book: &mut Book, root: &Path, source: &Path) -> Result<()> {
    let root = root.canonicalize().context("the book's folder")?;
    let repository = root.parent().context("the book lies in the repository")?;
    let page =
        |chapter: &Chapter| Page::new(&chapter.name, chapter.path.as_deref()?, &chapter.content);
    let library = Library::new(repository, &root, book.chapters().filter_map(page).collect());
    let source = source.canonicalize().unwrap_or(source.into());
    let source = source.strip_prefix(repository).unwrap_or(&source);

    let mut failures = Vec::new();
    book.for_each_chapter_mut(|chapter| {
        let Some(path) = &chapter.path else { return };
        let file = source.join(path);
        let (filled, failed) = chapter::fill(&chapter.content, &library, &file);
        chapter.content = filled;
        failures.extend(failed.iter().map(|failure| format!("{}:{failure}", file.display())));
    });
    if !failures.is_empty() {
        bail!("the chapters ask for what is not there\n{}", failures.join("\n"));
    }
    Ok(())
}
