//! A chapter as the lecture sees it: its headings cut the way from one step's program to the next into
//! sections, and each section is a commit.
//!
//! A heading with an anchor that begins with the step's name, `### The loader {#step06-loader}`, begins a
//! section. What `{{#hunk ...}}` and `{{#code ...}}` show in it of the chapter's own step is what its commit
//! changes; a heading with the step's whole name, `{#step06_training}`, begins the closing commit. A block
//! ```` ```rust,tryout ```` is a **try-out**: lines that run in the place of the lesson until the step's own take
//! theirs. They stand at the end of `fn lesson` in a fresh file; in others in a function of their own, or, if
//! the old lesson no longer compiles, in its place (```` ```rust,tryout,instead ````). The `use` lines come with
//! what needs them, the comment at the top before the first section, and whatever prints the proof with the
//! closing commit.

use anyhow::{Result, ensure};

use crate::{
    change::{self, Line, Sign},
    directive::{self, Directive, Excerpt},
    imports::Imports,
    steps::{Step, goes_on},
};

/// A piece of the way from one step to the next.
#[derive(Debug)]
pub struct Section {
    /// Anchor, tag and subject: `step06-loader`.
    pub slug: String,
    pub title: String,
    /// Where its heading stands in the chapter's text.
    pub at: usize,
    /// The first paragraph below the heading.
    pub text: String,
    pub tryout: Option<Tryout>,
}

/// What there is to see in a section's commit.
pub enum Shown {
    /// The section's own try-out.
    Tryout,
    /// The step's lesson, as far as it has come.
    Lesson,
    /// What the commit before shows.
    Nothing,
}

#[derive(Debug)]
pub struct Tryout {
    text: String,
    /// Whether it stands in the old lesson's place.
    is_instead: bool,
}

pub struct Chapter {
    /// Its first heading without the step's number; empty where there is none.
    pub title: String,
    pub sections: Vec<Section>,
    lines: Vec<Line>,
    /// When each line changes: 0 before the first section, n with section n, then with the closing commit.
    commits: Vec<usize>,
    imports: Imports,
    starts_afresh: bool,
    new: String,
}

/// What is wrong with a chapter, and in which of its lines.
pub struct Fault {
    pub line: usize,
    pub what: String,
}

const LESSON: &str = "fn lesson";

impl Chapter {
    /// Reads the chapter of a step whose program is `new`, and the program before it `old`.
    ///
    /// # Errors
    /// The programs are not Rust.
    pub fn read(step: &Step, old: &str, new: &str, text: &str) -> Result<(Chapter, Vec<Fault>)> {
        let starts_afresh = !goes_on(new);
        let old = if starts_afresh { "" } else { old };
        let heading = text.lines().next().and_then(|line| line.strip_prefix("# "));
        let title = heading.and_then(|title| title.split_once(": ")).map_or("", |(_, title)| title);
        let mut chapter = Chapter {
            title: title.into(),
            sections: sections(step, text),
            lines: without_proof(change::between(old, new)?),
            commits: Vec::new(),
            imports: Imports::of(old, new)?,
            starts_afresh,
            new: new.into(),
        };
        let mut faults = chapter.assign(step, text);
        if chapter.sections.is_empty() {
            faults.clear(); // it is not cut yet: the whole step is one commit
        }
        Ok((chapter, faults))
    }

    /// Says of each changed line with which commit it changes.
    fn assign(&mut self, step: &Step, text: &str) -> Vec<Fault> {
        let closing = self.sections.len() + 1;
        let mut faults = Vec::new();
        let mut commits: Vec<Option<usize>> =
            self.lines.iter().map(|line| self.of_itself(line, closing)).collect();
        let mut commit = 0;
        let mut headings = headings(step, text).into_iter().peekable();
        for found in directive::find(text) {
            while let Some(heading) = headings.next_if(|heading| heading.at < found.range.start) {
                commit = if heading.slug == step.name { closing } else { commit + 1 };
            }
            let Some(directive) = found.directive.filter(|directive| is_of(directive, step)) else {
                continue;
            };
            let mut fail = |what: String| {
                faults.push(Fault { line: line_of(text, found.range.start), what });
            };
            let places = match self.places(&directive) {
                Ok(places) => places,
                Err(why) => {
                    fail(format!("{why:#}"));
                    continue;
                }
            };
            let is_new = |&i: &usize| self.lines[i].sign != Sign::Same && commits[i].is_none();
            let new: Vec<usize> = places.iter().copied().filter(is_new).collect();
            if directive.name == "hunk" && new.is_empty() {
                fail("all that it shows has been shown before, or did not change".into());
            }
            if commit == 0 && directive.name == "hunk" {
                fail(format!(
                    "it stands above the first heading with an anchor {{#{}-...}}",
                    step.key()
                ));
            }
            // Code above the first section is shown ahead, and changes with a section below.
            for i in new.into_iter().filter(|_| commit > 0) {
                commits[i] = Some(commit);
            }
        }
        self.assign_holders(&mut commits);
        // An empty line goes with what follows it.
        for i in (0..commits.len().saturating_sub(1)).rev() {
            if self.lines[i].text.is_empty() && self.lines[i].item == self.lines[i + 1].item {
                commits[i] = commits[i].or(commits[i + 1]);
            }
        }
        let lost = self.lines.iter().zip(&commits).filter(|(_, commit)| commit.is_none());
        let mut names: Vec<&str> = lost.map(|(line, _)| line.item.as_str()).collect();
        names.dedup();
        let is_whole = names.is_empty();
        if !is_whole {
            let what = format!("no section shows what changes in {}", names.join(", "));
            faults.push(Fault { line: 1, what });
        }
        self.commits = commits.into_iter().map(|commit| commit.unwrap_or(closing)).collect();
        if is_whole && let Some(what) = difference(&self.state(closing), &self.new) {
            let what = format!("the sections do not add up to the step's program: {what}");
            faults.push(Fault { line: 1, what });
        }
        faults
    }

    /// The commit of a line that no section has to show.
    fn of_itself(&self, line: &Line, closing: usize) -> Option<usize> {
        let is_door = self.starts_afresh
            && (line.item == "fn main" || line.item == LESSON && is_frame(&line.text));
        match line.sign {
            Sign::Same => Some(0),
            _ if is_proof(line) && line.sign == Sign::Added => Some(closing),
            _ if is_proof(line) || is_door || line.item == "header" || line.item == "use" => {
                Some(0)
            }
            _ => None,
        }
    }

    /// An `impl` comes with the first of its methods, and goes with the last.
    fn assign_holders(&self, commits: &mut [Option<usize>]) {
        for i in 0..self.lines.len() {
            let Line { sign, item, .. } = &self.lines[i];
            let Some(name) = item.strip_prefix("impl ") else { continue };
            if commits[i].is_some() {
                continue;
            }
            let name = name.rsplit(' ').next().unwrap_or(name);
            let of_members = self.lines.iter().zip(commits.iter()).filter_map(|(line, commit)| {
                let is_member = line.item.strip_prefix(name)?.starts_with("::");
                (is_member && line.sign == *sign).then_some(*commit)?
            });
            commits[i] = match sign {
                Sign::Removed => of_members.max(),
                _ => of_members.min(),
            };
        }
    }

    /// The lines that a `hunk` or `code` directive shows.
    fn places(&self, directive: &Directive) -> Result<Vec<usize>> {
        let mut words = directive.words();
        words.bare("a step")?;
        let name = words.item()?;
        let excerpt = words.excerpt()?;
        words.end()?;
        places(&self.lines, &name, &excerpt)
    }

    /// The program after so many sections.
    pub fn state(&self, sections: usize) -> String {
        let shown = |(line, commit): &(&Line, &usize)| match line.sign {
            Sign::Same => true,
            Sign::Added => **commit <= sections,
            Sign::Removed => **commit > sections,
        };
        let present: Vec<&Line> =
            self.lines.iter().zip(&self.commits).filter(shown).map(|(line, _)| line).collect();
        let tryout = self.tryout(sections);
        let beside = tryout.filter(|tryout| !tryout.is_instead && !self.starts_afresh);
        let within = if beside.is_some() { None } else { tryout };
        let mut code: Vec<String> = Vec::new();
        let mut first_use = None;
        for (i, line) in present.iter().enumerate() {
            if line.item == "use" && !line.text.is_empty() {
                first_use.get_or_insert(code.len());
                continue;
            }
            let is_last = present.get(i + 1).is_none_or(|next| next.item != line.item);
            if line.item == LESSON && is_last {
                code.extend(end_of_lesson(&code, within));
            } else if self.is_replaced(line, within) {
                continue;
            }
            match beside {
                Some(_) => code.push(line.text.replace("lab::run(lesson)", "lab::run(tryout)")),
                None => code.push(line.text.clone()),
            }
            if line.item == LESSON && is_last {
                code.extend(beside.iter().flat_map(|tryout| tryout.function()));
            }
        }
        let place = first_use.unwrap_or(0);
        code.splice(place..place, self.imports.for_code(&code));
        tidied(&code)
    }

    /// Whether a try-out stands in the place of this line of the step before.
    fn is_replaced(&self, line: &Line, tryout: Option<&Tryout>) -> bool {
        let is_body = line.item == LESSON && line.text.starts_with(' ');
        is_body && tryout.is_some() && !self.starts_afresh
    }

    /// The try-out that stands in `fn lesson` after so many sections: until another takes its place, or lines
    /// of the step's own.
    fn tryout(&self, sections: usize) -> Option<&Tryout> {
        let is_last = |n: &usize| self.sections[n - 1].tryout.is_some() || self.changes_lesson(*n);
        let last = (1..=sections.min(self.sections.len())).rev().find(is_last)?;
        let is_closing = sections > self.sections.len();
        self.sections[last - 1].tryout.as_ref().filter(|_| !is_closing)
    }

    fn changes_lesson(&self, section: usize) -> bool {
        let mut lines = self.lines.iter().zip(&self.commits);
        lines.any(|(line, commit)| {
            line.item == LESSON && line.sign != Sign::Same && *commit == section
        })
    }

    /// What the program shows after a section, counted from 1.
    pub fn shown(&self, section: usize) -> Shown {
        match &self.sections[section - 1].tryout {
            Some(_) => Shown::Tryout,
            None if self.changes_lesson(section) => Shown::Lesson,
            None => Shown::Nothing,
        }
    }

    /// Whether the step goes on from nothing.
    pub fn starts_afresh(&self) -> bool {
        self.starts_afresh
    }

    /// The whole program.
    pub fn closing(&self) -> &str {
        &self.new
    }

    /// How many lines of the program a section adds and removes, its imports and its try-out among them.
    ///
    /// # Errors
    /// The program is not Rust before it or after it.
    pub fn changed(&self, section: usize) -> Result<(usize, usize)> {
        let lines = change::between(&self.state(section - 1), &self.state(section))?;
        let count = |sign| lines.iter().filter(|line| line.sign == sign).count();
        Ok((count(Sign::Added), count(Sign::Removed)))
    }
}

/// Of these lines, those of an item, or some of them.
pub fn places(lines: &[Line], name: &str, excerpt: &Excerpt) -> Result<Vec<usize>> {
    let of_item = (0..lines.len()).filter(|&i| is_item(&lines[i].item, name));
    let mut places: Vec<usize> = of_item.collect();
    ensure!(!places.is_empty(), "there is no `{name}`");
    let empty = places.iter().take_while(|&&i| lines[i].text.is_empty()).count();
    places.drain(..empty);
    let texts: Vec<&str> = places.iter().map(|&i| lines[i].text.as_str()).collect();
    Ok(places[excerpt.range(&texts)?].to_vec())
}

/// Whether an item is meant by the name that a directive gives: `impl Gpt` means its methods too, and `consts`
/// all constants.
fn is_item(item: &str, name: &str) -> bool {
    let holder = name.strip_prefix("impl ").map(|name| name.rsplit(' ').next().unwrap_or(name));
    item == name
        || name == "consts" && item.starts_with("const ")
        || holder.is_some_and(|holder| {
            item.strip_prefix(holder).is_some_and(|rest| rest.starts_with("::"))
        })
}

/// `fn lesson() -> Result<()> {` and its last brace.
fn is_frame(line: &str) -> bool {
    line.starts_with(LESSON) || line == "}"
}

/// What a lesson that is not whole ends with.
fn end_of_lesson(code: &[String], tryout: Option<&Tryout>) -> Vec<String> {
    let mut end = tryout.map(Tryout::lines).unwrap_or_default();
    let last = end.last().or(code.last()).map_or("", |line| line.trim_end());
    if last.ends_with([';', '{', '}']) || last.is_empty() {
        end.push("    Ok(())".into());
    }
    end
}

fn is_proof(line: &Line) -> bool {
    line.item == "mod proof" || line.text.contains("proof::")
}

/// Whatever prints the proof goes before the first section, and comes with the closing commit.
fn without_proof(lines: Vec<Line>) -> Vec<Line> {
    let twice = |line: Line| {
        let is_same_proof = line.sign == Sign::Same && is_proof(&line);
        let signs = if is_same_proof { vec![Sign::Removed, Sign::Added] } else { vec![line.sign] };
        signs.into_iter().map(move |sign| Line { sign, ..line.clone() })
    };
    lines.into_iter().flat_map(twice).collect()
}

/// The text of lines, with one empty line between items at most, and none at the top.
fn tidied(code: &[String]) -> String {
    let mut text = String::new();
    let mut empty = true;
    for line in code {
        if line.is_empty() && empty {
            continue;
        }
        empty = line.is_empty();
        text += line;
        text.push('\n');
    }
    text
}

/// Where a program first differs from what it should be.
fn difference(is: &str, should: &str) -> Option<String> {
    let (mut is, mut should) = (is.lines(), should.lines());
    for line in 1.. {
        match (is.next(), should.next()) {
            (None, None) => return None,
            (is, should) if is == should => {}
            (is, should) => {
                let of = |line: Option<&str>| line.unwrap_or("(the end)").trim().to_string();
                return Some(format!(
                    "its line {line} would be `{}` and not `{}`",
                    of(is),
                    of(should)
                ));
            }
        }
    }
    None
}

/// Whether a directive shows lines of the step's own program.
fn is_of(directive: &Directive, step: &Step) -> bool {
    let is_shown = ["hunk", "code"].contains(&directive.name.as_str());
    is_shown && directive.words().bare("a step").is_ok_and(|name| name == step.key())
}

struct Heading {
    at: usize,
    slug: String,
    title: String,
}

/// The headings that begin a section or the closing commit.
fn headings(step: &Step, text: &str) -> Vec<Heading> {
    let mut headings = Vec::new();
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        if let Some((title, slug)) =
            line.trim_end().strip_suffix('}').and_then(|line| line.split_once(" {#"))
            && title.starts_with('#')
            && (slug == step.name || slug.starts_with(&format!("{}-", step.key())))
        {
            let title = title.trim_start_matches('#').trim();
            headings.push(Heading { at, slug: slug.into(), title: title.into() });
        }
        at += line.len();
    }
    headings
}

fn sections(step: &Step, text: &str) -> Vec<Section> {
    let headings = headings(step, text);
    let ends = headings.iter().skip(1).map(|heading| heading.at).chain([text.len()]);
    let section = |(heading, end): (&Heading, usize)| {
        let body = text[heading.at..end].split_once('\n').map_or("", |(_, body)| body);
        Section {
            slug: heading.slug.clone(),
            title: heading.title.clone(),
            at: heading.at,
            text: body.trim_start().split("\n\n").next().unwrap_or_default().trim().into(),
            tryout: tryout(body),
        }
    };
    let all = headings.iter().zip(ends).map(section);
    all.filter(|section| section.slug != step.name).collect()
}

fn tryout(text: &str) -> Option<Tryout> {
    let (_, after) = text.split_once("```rust,tryout")?;
    let (kind, after) = after.split_once('\n')?;
    let text = after.split_once("```")?.0.trim_end().to_string();
    Some(Tryout { text, is_instead: kind == ",instead" })
}

impl Tryout {
    fn lines(&self) -> Vec<String> {
        let indented = |line: &str| match line {
            "" => String::new(),
            line => format!("    {line}"),
        };
        self.text.lines().map(indented).collect()
    }

    /// As a function of its own.
    fn function(&self) -> Vec<String> {
        let lines = |lines: [&str; 2]| lines.map(str::to_string);
        let mut function = lines(["", "fn tryout() -> Result<()> {"]).to_vec();
        function.extend(self.lines());
        function.extend(lines(["    Ok(())", "}"]));
        function
    }
}

fn line_of(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}
