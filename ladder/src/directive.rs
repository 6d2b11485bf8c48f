//! How a directive is written: `{{#name words "quoted words"}}`.

use std::{ops::Range, sync::LazyLock};

use anyhow::{Result, bail};
use regex::Regex;

static DIRECTIVE: LazyLock<Regex> = LazyLock::new(|| {
    let word = r#"(?:"(?:[^"\\\n]|\\.)*"|[^\s"{}]+)"#;
    Regex::new(&format!(r"^\{{\{{#(\w+)((?:[ \t]+{word})*)[ \t]*\}}\}}")).expect("it is valid")
});

static WORD: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r#""((?:[^"\\]|\\.)*)"|(\S+)"#).expect("it is valid"));

/// One place in a chapter where `{{#` stands.
pub struct Found {
    pub range: Range<usize>,
    /// Nothing if what follows does not read as a directive.
    pub directive: Option<Directive>,
}

/// A directive: its name and its words.
pub struct Directive {
    pub name: String,
    pub words: Vec<Word>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Word {
    Bare(String),
    Quoted(String),
}

/// All directives of a text, in order. A backslash before one says that it is none.
pub fn find(text: &str) -> Vec<Found> {
    let mut found = Vec::new();
    let mut from = 0;
    while let Some(at) = text[from..].find("{{#").map(|at| from + at) {
        let read = DIRECTIVE.captures(&text[at..]);
        let length = read.as_ref().map_or("{{#".len(), |read| read[0].len());
        if !text[..at].ends_with('\\') {
            let directive =
                read.map(|read| Directive { name: read[1].into(), words: words(&read[2]) });
            found.push(Found { range: at..at + length, directive });
        }
        from = at + length;
    }
    found
}

fn words(text: &str) -> Vec<Word> {
    let read = |word: regex::Captures| match (word.get(1), word.get(2)) {
        (Some(quoted), _) => Word::Quoted(quoted.as_str().replace("\\\"", "\"")),
        (_, bare) => Word::Bare(bare.map_or("", |bare| bare.as_str()).into()),
    };
    WORD.captures_iter(text).map(read).collect()
}

/// The words of a directive, taken one by one.
pub struct Words<'a>(std::slice::Iter<'a, Word>);

impl Directive {
    pub fn words(&self) -> Words<'_> {
        Words(self.words.iter())
    }
}

impl<'a> Words<'a> {
    /// The next word, which says `what` and is not quoted.
    pub fn bare(&mut self, what: &str) -> Result<&'a str> {
        match self.0.next() {
            Some(Word::Bare(word)) => Ok(word),
            Some(Word::Quoted(word)) => bail!("{what} should stand where \"{word}\" does"),
            None => bail!("{what} is missing"),
        }
    }

    /// The next word, which says `what` and is quoted.
    pub fn quoted(&mut self, what: &str) -> Result<&'a str> {
        match self.0.next() {
            Some(Word::Quoted(word)) => Ok(word),
            Some(Word::Bare(word)) => bail!("{what} should stand, in quotes, where {word} does"),
            None => bail!("{what}, in quotes, is missing"),
        }
    }

    /// The next word if it is `word`, not quoted.
    pub fn skip(&mut self, word: &str) -> bool {
        let is = matches!(self.0.as_slice().first(), Some(Word::Bare(bare)) if bare == word);
        if is {
            self.0.next();
        }
        is
    }

    /// An item's name: all words up to a quoted one and the `from` or `to` before it.
    pub fn item(&mut self) -> Result<String> {
        let words = self.0.as_slice();
        let length = words.iter().position(|word| matches!(word, Word::Quoted(_)));
        let length = length.map_or(words.len(), |quoted| quoted.saturating_sub(1));
        let name: Vec<&str> =
            (0..length).map(|_| self.bare("an item's name")).collect::<Result<_>>()?;
        if name.is_empty() {
            bail!("an item's name is missing");
        }
        Ok(name.join(" "))
    }

    /// `from "text" to "text"`, either or none of them.
    pub fn excerpt(&mut self) -> Result<Excerpt<'a>> {
        let from = self.skip("from").then(|| self.quoted("the text after `from`")).transpose()?;
        let to = self.skip("to").then(|| self.quoted("the text after `to`")).transpose()?;
        Ok(Excerpt { from, to })
    }

    /// Fails if there are words left.
    pub fn end(&mut self) -> Result<()> {
        match self.0.next() {
            None => Ok(()),
            Some(Word::Bare(word)) => bail!("{word} is one word too many"),
            Some(Word::Quoted(word)) => bail!("\"{word}\" is one word too many"),
        }
    }
}

/// Which lines of a text are asked for.
pub struct Excerpt<'a> {
    from: Option<&'a str>,
    to: Option<&'a str>,
}

impl Excerpt<'_> {
    /// All of it.
    pub fn whole() -> Excerpt<'static> {
        Excerpt { from: None, to: None }
    }

    /// From the first line that contains the one text to the next that contains the other. The same
    /// text twice means that one line.
    pub fn of<'t>(&self, text: &'t str) -> Result<Vec<&'t str>> {
        let lines: Vec<&str> = text.lines().collect();
        let range = self.range(&lines)?;
        Ok(lines[range].to_vec())
    }

    /// The same, as places in a list of lines.
    pub fn range(&self, lines: &[&str]) -> Result<Range<usize>> {
        let find = |start: usize, wanted: &str| {
            let found = lines.iter().skip(start).position(|line| line.contains(wanted));
            found.map(|found| start + found)
        };
        let first = match self.from {
            None => 0,
            Some(from) => match find(0, from) {
                Some(first) => first,
                None => bail!("no line contains \"{from}\""),
            },
        };
        let after = if self.from.is_some() && self.from != self.to { first + 1 } else { first };
        let end = match self.to {
            None => lines.len(),
            Some(to) => match find(after, to) {
                Some(last) => last + 1,
                None => bail!("no line from there on contains \"{to}\""),
            },
        };
        Ok(first..end)
    }
}
