//! The machine that walks the grammar: it makes the choices, or reads them from a text, and keeps the account.

use std::fmt;

use super::grammar::{List, derived, list, reference, speech};
use super::{Choice, Rng, Story};

/// Where a tale's choices come from.
pub enum Source<'a> {
    /// Each by its probability.
    Dice(&'a mut Rng),
    /// From the choices of a story told before.
    Script(&'a [u8]),
    /// From a text that is read along; what is left of it.
    Text(&'a str),
}

/// Why a tale could not be told to its end.
pub enum Trouble {
    /// The text or script ended first.
    Ended,
    /// The text goes on as no story can.
    Strayed { at: usize, found: String },
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Trouble::Ended => write!(f, "it breaks off"),
            Trouble::Strayed { at, found } => {
                write!(f, "from byte {at} on (\"{found}\") it goes on as no fable can")
            }
        }
    }
}

/// What a slot holds: a word of a list.
#[derive(Clone, Copy)]
pub struct Memory {
    pub slot: &'static str,
    pub list: &'static List,
    pub index: usize,
}

/// A story being told.
pub struct Tale<'a> {
    pub source: Source<'a>,
    pub story: Story,
    pub memory: Vec<Memory>,
    /// Where the closing sentence begins.
    pub closing: usize,
    /// What is to be remembered wrongly from there on.
    pub twist: Option<Memory>,
    /// Once in trouble, a tale stays silent, so the grammar need not ask after each sentence.
    pub trouble: Option<Trouble>,
    pub visit: Option<&'a mut dyn FnMut(Choice)>,
}

impl<'a> Tale<'a> {
    pub fn new(source: Source<'a>) -> Tale<'a> {
        Tale {
            source,
            story: Story {
                text: String::with_capacity(700),
                nats: 0.0,
                choices: Vec::with_capacity(80),
            },
            memory: Vec::with_capacity(32),
            closing: 0,
            twist: None,
            trouble: None,
            visit: None,
        }
    }

    /// Tells a text with gaps (see the module's notation).
    pub fn say(&mut self, mut text: &'static str) {
        while let Some((before, gap, after)) = cut(text, '[', ']') {
            self.write(before);
            self.fill_gap(gap);
            text = after;
        }
        self.write(text);
    }

    /// Chooses one of some texts with gaps by its weight and tells it. Returns its index.
    pub fn choose(&mut self, ways: &[(u32, &'static str)]) -> usize {
        let taken = self.decide(
            ways.len(),
            |i| ways[i].0,
            |tale, i| {
                let text = ways[i].1;
                tale.recalled(cut(text, '[', ']').map_or(text, |(before, _, _)| before))
            },
        );
        self.say(ways[taken].1);
        taken
    }

    /// Tells what stands for a gap: `[food]`, `[gift:thing]`, `[a gift.look:look]`, `[hero?]`, `[hero!]`.
    fn fill_gap(&mut self, gap: &'static str) {
        if let Some(who) = gap.strip_suffix('?') {
            self.choose(reference(who));
        } else if let Some(who) = gap.strip_suffix('!') {
            self.choose(speech(who));
        } else {
            self.choose_word(gap);
        }
    }

    /// Chooses a word from the list that a gap names, writes it and, if the gap names a slot, remembers it.
    fn choose_word(&mut self, gap: &'static str) {
        let (style, gap) = Style::of(gap);
        let (slot, name) = match gap.split_once(':') {
            Some((slot, name)) => (Some(slot), name),
            None => (None, gap),
        };
        let metal = slot.is_none_or(|slot| self.first_half(&format!("{slot}.look")));
        let list = list(name, metal);
        // The words that this list has put into memory already, a bit each.
        let known = self.memory.iter().filter(|m| std::ptr::eq(m.list, list));
        let known: u64 = known.fold(0, |bits, m| bits | 1 << m.index);
        let index = self.decide(
            list.words.len(),
            |i| u32::from(known >> i & 1 == 0),
            |_, i| {
                let mut head = String::new();
                style.write(list.words[i], &mut head);
                head
            },
        );
        let mut word = String::new();
        style.write(list.words[index], &mut word);
        self.put(&word);
        if let Some(slot) = slot {
            self.memory.push(Memory { slot, list, index });
        }
    }

    /// Makes one choice among `count` alternatives: the heart of the matter.
    ///
    /// `head` is what an alternative writes before the next choice, by which a reader recognises it.
    fn decide(
        &mut self,
        count: usize,
        weight: impl Fn(usize) -> u32,
        head: impl Fn(&Self, usize) -> String,
    ) -> usize {
        if self.trouble.is_some() {
            return 0;
        }
        let total: u32 = (0..count).map(&weight).sum();
        let taken = match &mut self.source {
            Source::Dice(rng) => {
                let mut draw = rng.below(total.into()) as u32;
                (0..count).find(|&i| match draw.checked_sub(weight(i)) {
                    Some(left) => {
                        draw = left;
                        false
                    }
                    None => true,
                })
            }
            Source::Script(script) => script.split_off_first().map(|&i| i.into()),
            &mut Source::Text(rest) => {
                (0..count).find(|&i| weight(i) > 0 && rest.starts_with(&head(self, i)))
            }
        };
        let Some(taken) = taken.filter(|&taken| taken < count && weight(taken) > 0) else {
            let strays =
                |i| matches!(self.source, Source::Text(rest) if !head(self, i).starts_with(rest));
            let ended = !(0..count).filter(|&i| weight(i) > 0).all(strays);
            self.stray(ended);
            return 0;
        };
        self.story.nats += (f64::from(total) / f64::from(weight(taken))).ln();
        self.story.choices.push(taken as u8);
        if let Some(visit) = self.visit.take() {
            visit(Choice {
                at: self.story.text.len(),
                alternatives: (0..count).map(|i| (weight(i), head(self, i))).collect(),
                taken,
            });
            self.visit = Some(visit);
        }
        taken
    }

    /// Here the closing sentence begins: the one that questions ask for.
    pub fn close(&mut self) {
        self.closing = self.story.text.len();
        if let Some(twist) = self.twist {
            self.memory.push(twist);
        }
    }

    /// Remembers under a second name what a slot holds: the hero is now also the winner.
    pub fn also(&mut self, slot: &'static str, of: &str) {
        if let Some(&memory) = self.memory(of) {
            self.memory.push(Memory { slot, ..memory });
        }
    }

    /// Whether a slot's word stands in the first half of its list: a good trait, a woman's name, a thing of metal.
    pub fn first_half(&self, slot: &str) -> bool {
        self.memory(slot).is_some_and(|m| m.list.in_first_half(m.index))
    }

    /// What a slot holds now: the latest that was put into it.
    fn memory(&self, slot: &str) -> Option<&Memory> {
        self.memory.iter().rev().find(|m| m.slot.eq_ignore_ascii_case(slot))
    }

    /// What is written for `{slot}`: the word remembered, or what follows from it.
    fn recall(&self, slot: &str) -> &'static str {
        if let Some(memory) = self.memory(slot) {
            return memory.list.words[memory.index];
        }
        let (who, property) = slot.rsplit_once('.').unwrap_or((slot, ""));
        let kind = self.memory(&format!("{who}.kind")).map(|m| m.index);
        derived(property, self.first_half(who), kind)
            .unwrap_or_else(|| panic!("the grammar recalls {slot}, which was never chosen"))
    }

    /// A text without choices, its memories filled in.
    fn recalled(&self, mut text: &'static str) -> String {
        let mut told = String::with_capacity(text.len() + 16);
        while let Some((before, slot, after)) = cut(text, '{', '}') {
            told += before;
            let (style, slot) = Style::of(slot);
            style.write(self.recall(slot), &mut told);
            text = after;
        }
        told + text
    }

    fn write(&mut self, text: &'static str) {
        // In trouble the memory has gaps.
        if self.trouble.is_none() {
            self.put(&self.recalled(text));
        }
    }

    /// Writes a piece of the story; a reader checks that the text says the same.
    fn put(&mut self, piece: &str) {
        if self.trouble.is_some() {
            return;
        }
        if let Source::Text(rest) = &mut self.source {
            match rest.strip_prefix(piece) {
                Some(after) => *rest = after,
                None => {
                    let ended = piece.starts_with(*rest);
                    return self.stray(ended);
                }
            }
        }
        self.story.text += piece;
    }

    /// Falls silent: the text has ended, or it is no story.
    fn stray(&mut self, ended: bool) {
        self.trouble = Some(match self.source {
            Source::Text(rest) if !ended => Trouble::Strayed {
                at: self.story.text.len(),
                found: rest.chars().take(24).collect(),
            },
            _ => Trouble::Ended,
        });
    }
}

/// Splits a text around its first gap: before, inside, after.
fn cut(
    text: &'static str,
    open: char,
    close: char,
) -> Option<(&'static str, &'static str, &'static str)> {
    let (before, rest) = text.split_once(open)?;
    let (inside, after) = rest.split_once(close)?;
    Some((before, inside, after))
}

/// How a word is written: after an article or not, with a capital or not.
#[derive(Clone, Copy)]
struct Style {
    article: bool,
    capital: bool,
}

impl Style {
    /// Reads the style off a gap: `a look`, `A look`, `look` or `Look`. Returns the rest of the gap.
    fn of(gap: &'static str) -> (Style, &'static str) {
        let capital = gap.starts_with(|c: char| c.is_ascii_uppercase());
        let rest = gap.strip_prefix("a ").or(gap.strip_prefix("A "));
        let style = Style { article: rest.is_some(), capital };
        (style, rest.unwrap_or(gap))
    }

    fn write(self, word: &str, text: &mut String) {
        let start = text.len();
        if self.article {
            let vowel = word.starts_with(['a', 'e', 'i', 'o', 'u']) || word.starts_with("hon");
            text.push_str(if vowel { "an " } else { "a " });
        }
        text.push_str(word);
        if self.capital {
            text[start..][..1].make_ascii_uppercase();
        }
    }
}
