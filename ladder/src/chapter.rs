//! A chapter as the lecture sees it: its headings cut the way from one step's program to the next into
//! sections, and each section is a commit.
//!
//! A heading with an anchor that begins with the step's name, `### The loader {#step06-loader}`, begins a
//! section. What `{{#hunk ...}}` and `{{#code ...}}` show in it of the chapter's own step is what its commit
//! changes; a heading with the step's whole name, `{#step06_training}`, begins the closing commit. A block
//! ```` ```rust,tryout ```` is a **try-out**: lines that run in the place of the lesson until the step's own take
//! theirs. They stand at the end of `fn lesson` in a fresh file, and in others in a function of their own. The
//! `use` lines come with what needs them, the comment at the top before the first section, and whatever prints
//! the proof with the closing commit.

use std::{
    cmp::Ordering::{Equal, Greater, Less},
    collections::BTreeMap,
};

use anyhow::{Result, bail};

use crate::{
    change::{self, Line, Sign},
    directive::{self, Directive, Excerpt},
    imports::Imports,
    steps::{Step, goes_on},
    syntax::Outline,
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
    /// The lines of its try-out, if it has one.
    pub tryout: Option<String>,
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

pub struct Chapter {
    /// Its first heading without the step's number; empty where there is none.
    pub title: String,
    pub sections: Vec<Section>,
    lines: Vec<Line>,
    /// When each line changes.
    moments: Vec<Moment>,
    /// The lines that each `{{#hunk ...}}` shows, by the place where it stands in the chapter's text.
    hunks: BTreeMap<usize, (Moment, Vec<usize>)>,
    imports: Imports,
    starts_afresh: bool,
    new: String,
}

/// When somebody who types along comes to a line.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Moment {
    /// 0 before the first section, n with section n, then with the closing commit.
    commit: usize,
    /// Where the directive that shows the line stands in the chapter's text; 0 if none has to.
    at: usize,
}

/// What a `{{#hunk ...}}` shows to somebody who has typed all that stands above it.
pub struct Typed {
    /// The program before these lines are typed, and after.
    pub before: String,
    pub after: String,
    /// Each with its place in `after`.
    pub lines: Vec<Line>,
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
            moments: Vec::new(),
            hunks: BTreeMap::new(),
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
        let last = Moment { commit: closing, at: 0 };
        let mut faults = Vec::new();
        let of_itself = |line| Some(Moment { commit: self.of_itself(line, closing)?, at: 0 });
        let mut moments: Vec<Option<Moment>> = self.lines.iter().map(of_itself).collect();
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
            let is_new = |&i: &usize| match moments[i] {
                None => true,
                // The proof comes with the closing commit by itself, unless a hunk there shows it.
                Some(moment) => moment == last && commit == closing,
            };
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
            if commit == 0 {
                continue; // shown ahead: it changes with a section below
            }
            let moment = Moment { commit, at: found.range.start };
            if directive.name == "hunk" && !new.is_empty() {
                self.hunks.insert(moment.at, (moment, places));
            }
            for i in new {
                moments[i] = Some(moment);
            }
        }
        self.assign_holders(&mut moments);
        self.assign_empty(&mut moments);
        let lost = self.lines.iter().zip(&moments).filter(|(_, moment)| moment.is_none());
        let mut names: Vec<&str> = lost.map(|(line, _)| line.item.as_str()).collect();
        names.dedup();
        let is_whole = names.is_empty();
        if !is_whole {
            let what = format!("no section shows what changes in {}", names.join(", "));
            faults.push(Fault { line: 1, what });
        }
        self.moments = moments.into_iter().map(|moment| moment.unwrap_or(last)).collect();
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
    fn assign_holders(&self, moments: &mut [Option<Moment>]) {
        for i in 0..self.lines.len() {
            let Line { sign, item, .. } = &self.lines[i];
            let of_members = self.lines.iter().zip(moments.iter()).filter_map(|(line, moment)| {
                (line.holder == *item && line.sign == *sign).then_some(*moment)?
            });
            moments[i] = match sign {
                Sign::Removed => of_members.chain(moments[i]).max(),
                _ => of_members.chain(moments[i]).min(),
            };
        }
    }

    /// An empty line comes and goes with what follows it.
    fn assign_empty(&self, moments: &mut [Option<Moment>]) {
        for i in (1..moments.len()).rev() {
            let (line, next) = (&self.lines[i - 1], &self.lines[i]);
            if !line.text.is_empty() || line.item != next.item {
                continue;
            }
            let own = moments[i - 1].filter(|_| line.sign != next.sign);
            moments[i - 1] = own.or(moments[i]);
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
        self.program(sections, |_, moment| moment.commit <= sections).text()
    }

    /// What the hunk shows that stands at this place of the chapter's text, if the chapter is cut into sections.
    pub fn typed(&self, at: usize) -> Option<Typed> {
        let (now, shown) = self.hunks.get(&at)?;
        let mut before = self.program(now.commit, |_, moment| moment < *now);
        let mut after = self.program(now.commit, |line, moment| {
            // What goes with another hunk of the section is no neighbour to find a place by.
            let goes = line.sign == Sign::Removed && moment.commit == now.commit;
            goes || moment <= *now
        });
        if !before.is_rust() || !after.is_rust() {
            // A hunk of several may end within a block. The section as a whole does not.
            before = self.program(now.commit, |_, moment| moment.commit < now.commit);
            after = self.program(now.commit, |_, moment| moment.commit <= now.commit);
        }
        let line = |&i: &usize| {
            let line = &self.lines[i];
            let sign = match (line.sign, self.moments[i].cmp(now)) {
                (Sign::Same, _) | (Sign::Added, Less) | (Sign::Removed, Greater) => Sign::Same,
                (Sign::Added, Greater) | (Sign::Removed, Less) => return None,
                (sign, Equal) => sign,
            };
            Some(Line { sign, at: after.place(i), ..line.clone() })
        };
        let lines = shown.iter().filter_map(line).collect();
        Some(Typed { lines, before: before.text(), after: after.text() })
    }

    /// The program when what `is_done` has been typed, with the try-out that stands in it after so many sections.
    fn program(&self, sections: usize, is_done: impl Fn(&Line, Moment) -> bool) -> Program {
        let is_there = |&i: &usize| match self.lines[i].sign {
            Sign::Same => true,
            Sign::Added => is_done(&self.lines[i], self.moments[i]),
            Sign::Removed => !is_done(&self.lines[i], self.moments[i]),
        };
        let present: Vec<usize> = (0..self.lines.len()).filter(is_there).collect();
        let tryout = self.tryout(sections);
        let within = tryout.filter(|_| self.starts_afresh);
        let beside = tryout.filter(|_| !self.starts_afresh);
        let mut code = Program::default();
        let mut first_use = None;
        for (n, &i) in present.iter().enumerate() {
            let line = &self.lines[i];
            if line.item == "use" && !line.text.is_empty() {
                first_use.get_or_insert(code.lines.len());
                continue;
            }
            let is_last = present.get(n + 1).is_none_or(|next| self.lines[*next].item != line.item);
            let ends_lesson = line.item == LESSON && is_last;
            if ends_lesson {
                code.end_lesson(within);
            }
            let text = match beside {
                Some(_) => line.text.replace("lab::run(lesson)", "lab::run(tryout)"),
                None => line.text.clone(),
            };
            code.lines.push((Some(i), text));
            if let Some(tryout) = beside.filter(|_| ends_lesson) {
                code.add(["", "fn tryout() -> Result<()> {"]);
                code.add_tryout(tryout);
                code.add(["    Ok(())", "}"]);
            }
        }
        let imports = self.imports.for_code(&code.text());
        let place = first_use.unwrap_or(0);
        code.lines.splice(place..place, imports.into_iter().map(|line| (None, line)));
        code.tidied()
    }

    /// The try-out that stands in the program after so many sections: until another takes its place, or lines
    /// of the step's own lesson.
    fn tryout(&self, sections: usize) -> Option<&str> {
        let is_last = |n: &usize| self.sections[n - 1].tryout.is_some() || self.changes_lesson(*n);
        let last = (1..=sections.min(self.sections.len())).rev().find(is_last)?;
        let is_closing = sections > self.sections.len();
        self.sections[last - 1].tryout.as_deref().filter(|_| !is_closing)
    }

    fn changes_lesson(&self, section: usize) -> bool {
        let mut lines = self.lines.iter().zip(&self.moments);
        lines.any(|(line, moment)| {
            line.item == LESSON && line.sign != Sign::Same && moment.commit == section
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
        change::count(&self.state(section - 1), &self.state(section))
    }
}

/// Of these lines, those of an item, or some of them: of `fn batch`, `struct Head`, `impl Head` with its methods,
/// `Head::weights`, all `consts`, all that is imported with `use`, or the comment `header`.
pub fn places(lines: &[Line], name: &str, excerpt: &Excerpt) -> Result<Vec<usize>> {
    let is_meant = |line: &Line| match name {
        "consts" => line.item.starts_with("const "),
        name => line.item == name || line.holder == name,
    };
    let mut places: Vec<usize> = (0..lines.len()).filter(|&i| is_meant(&lines[i])).collect();
    if places.is_empty() {
        let mut names: Vec<&str> = lines.iter().map(|line| line.item.as_str()).collect();
        names.dedup();
        bail!("there is no `{name}`; there are `{}`", names.join("`, `"));
    }
    let empty = places.iter().take_while(|&&i| lines[i].text.is_empty()).count();
    places.drain(..empty);
    let texts: Vec<&str> = places.iter().map(|&i| lines[i].text.as_str()).collect();
    Ok(places[excerpt.range(&texts)?].to_vec())
}

/// `fn lesson() -> Result<()> {` and its last brace.
fn is_frame(line: &str) -> bool {
    line.starts_with(LESSON) || line == "}"
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

/// A program line by line, each with its place among the chapter's lines if it is one of them.
#[derive(Default)]
struct Program {
    lines: Vec<(Option<usize>, String)>,
}

impl Program {
    fn text(&self) -> String {
        self.lines.iter().map(|(_, line)| format!("{line}\n")).collect()
    }

    fn is_rust(&self) -> bool {
        Outline::of(&self.text()).is_ok()
    }

    /// Where a line of the chapter's stands, or if it is gone, what follows it.
    fn place(&self, line: usize) -> usize {
        let place = self.lines.iter().position(|(known, _)| known.is_some_and(|i| i >= line));
        place.unwrap_or(self.lines.len())
    }

    fn add<'a>(&mut self, lines: impl IntoIterator<Item = &'a str>) {
        self.lines.extend(lines.into_iter().map(|line| (None, line.to_string())));
    }

    fn add_tryout(&mut self, tryout: &str) {
        let indented = |line: &str| match line {
            "" => String::new(),
            line => format!("    {line}"),
        };
        self.lines.extend(tryout.lines().map(|line| (None, indented(line))));
    }

    /// What a lesson that is not whole ends with.
    fn end_lesson(&mut self, tryout: Option<&str>) {
        self.add_tryout(tryout.unwrap_or_default());
        let last = self.lines.last().map_or("", |(_, line)| line.trim_end());
        if last.ends_with([';', '{', '}']) || last.is_empty() {
            self.add(["    Ok(())"]);
        }
    }

    /// With empty lines as rustfmt leaves them: one at most, and none at the top or where a block begins.
    fn tidied(self) -> Program {
        let mut tidied = Program::default();
        for (i, line) in self.lines {
            let above = tidied.lines.last().map_or("", |(_, line)| line.as_str());
            if !line.is_empty() || !above.is_empty() && !above.ends_with('{') {
                tidied.lines.push((i, line));
            }
        }
        tidied
    }
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

fn tryout(text: &str) -> Option<String> {
    let (_, after) = text.split_once("```rust,tryout\n")?;
    Some(after.split_once("```")?.0.trim_end().to_string())
}

pub fn line_of(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}
