//! Fables: a corpus of short stories whose information content is known exactly.
//!
//! A story is a walk of choices. At each one the teller picks among a few alternatives, whose
//! probabilities are known because small whole-number weights give them, and writes the one picked.
//! Choosing something of probability p costs −ln p nats, so a story's information content is the sum of
//! its choices' costs, and nothing that reads the story, however clever, can predict it more
//! cheaply on average. Divided by the number of characters that sum is the **floor**: the loss of a reader who
//! knows the grammar below and remembers all of the story so far.
//!
//! For the floor to be the true one, a story must not be tellable in two ways. Hence the one law of
//! the grammar: **each choice writes at once, and no alternative begins with another**. The first letter in which
//! the alternatives differ tells which was taken, and [`decode`] finds every choice again.
//!
//! Stories remember. A name, a hiding place or a promise is chosen once and costs its nats once;
//! from then on it is certain, for a reader who looks back far enough. That is what attention is
//! for, and why counting letter pairs stays far above the floor.
//!
//! # Notation
//! The stories stand in `grammar.rs` as text with gaps:
//!
//! | written | told |
//! |---|---|
//! | `[food]` | a word chosen from a list |
//! | `[gift:thing]` | a word chosen from a list, and remembered as `gift` |
//! | `{gift}` | what was remembered: certain, so it costs nothing |
//! | `[a gift.look:look]`, `{a gift.look}` | the same with "a" or "an" before it |
//! | `[Food]`, `{Gift}` | the same with a capital |
//! | `[hero?]` | the hero by name or by kind: "Bram" or "the fox" |
//! | `[hero!]` | how the hero speaks: "said", "cried", or in the voice of its kind |
//! | `{hero.he}` `{hero.his}` `{hero.him}` `{hero.went}` | what follows from the hero's name and kind |
//!
//! A list never yields a word that it has already put into this story's memory.
//!
//! # Seeds
//! [`text`] tells the same bytes for a seed on every machine: no floating-point number takes part in a choice.
//! Training and validation text come from different seeds ([`TRAINING`] and [`VALIDATION`] by custom);
//! a story has one chance in e⁹⁰ or so to be told, so none is told twice.

mod grammar;
mod rng;
mod teller;

use std::collections::BTreeSet;

use anyhow::bail;
use serde_json::json;

use self::grammar::tell;
use self::teller::{Memory, Source, Tale, Trouble};

pub use self::rng::Rng;

/// The vocabulary that step04 learns from the training text, in tiktoken's format: 1,024 tokens, the last of them
/// `<|endoftext|>`.
pub const VOCABULARY: &str = include_str!("vocab.tiktoken");

/// The seed of the training text, by custom.
pub const TRAINING: u64 = 1;
/// The seed of the validation text, by custom.
pub const VALIDATION: u64 = 2;

/// A text of many stories.
pub struct Fables {
    /// The stories, each with its title line, its moral and the blank line that ends it. ASCII.
    pub text: String,
    /// The text's information content in nats. Over `text.len()` it is the floor per character; over the
    /// number of tokens that a tokenizer makes of the text, the floor per token.
    pub nats: f64,
    /// How many stories there are.
    pub stories: usize,
}

impl Fables {
    /// The floor: the loss per character, in nats, that no model can beat on this text.
    pub fn floor(&self) -> f64 {
        self.nats / self.text.len() as f64
    }
}

/// A text that breaks off, and four endings, one of which is the right one.
#[derive(Clone, Debug, PartialEq)]
pub struct Question {
    /// The text so far. The endings follow after a space.
    pub ctx: String,
    pub endings: [String; 4],
    /// The index of the right ending.
    pub label: usize,
}

/// One story and the choices that made it.
#[derive(Clone, Debug, PartialEq)]
pub struct Story {
    /// Title line, story, moral and a blank line.
    pub text: String,
    /// Minus the logarithm of the story's probability.
    pub nats: f64,
    /// Which alternative was taken, choice by choice.
    pub choices: Vec<u8>,
}

/// A choice met on the way through a story, as [`replay`] shows it.
#[derive(Clone, Debug)]
pub struct Choice {
    /// Where in the story the choice falls, in bytes.
    pub at: usize,
    /// The alternatives: weight, and the text that it writes up to the next choice. Weight 0: not to be had here.
    pub alternatives: Vec<(u32, String)>,
    /// The index of the alternative taken.
    pub taken: usize,
}

/// Whole stories of `seed` until there are at least `bytes` bytes.
pub fn text(seed: u64, bytes: usize) -> Fables {
    let mut rng = Rng::new(seed);
    let mut fables = Fables { text: String::with_capacity(bytes + 1000), nats: 0.0, stories: 0 };
    while fables.text.len() < bytes {
        let story = story(&mut rng);
        fables.text += &story.text;
        fables.nats += story.nats;
        fables.stories += 1;
    }
    fables
}

/// The next story of a stream of random numbers.
pub fn story(rng: &mut Rng) -> Story {
    let mut tale = Tale::new(Source::Dice(rng));
    tell(&mut tale);
    tale.story
}

/// The story that these choices make: the inverse of [`decode`].
pub fn encode(choices: &[u8]) -> anyhow::Result<Story> {
    let mut tale = Tale::new(Source::Script(choices));
    tell(&mut tale);
    match (tale.trouble, tale.source) {
        (None, Source::Script([])) => Ok(tale.story),
        _ => bail!("these {} choices do not make a story", choices.len()),
    }
}

/// Finds the choices behind a story, and with them its information content.
///
/// # Errors
/// If the grammar cannot tell this text; the message says from which byte on.
pub fn decode(text: &str) -> anyhow::Result<Story> {
    replay(text, |_| {})
}

/// Like [`decode`], and shows each choice on the way to `visit`.
pub fn replay(text: &str, mut visit: impl FnMut(Choice)) -> anyhow::Result<Story> {
    let mut tale = Tale::new(Source::Text(text));
    tale.visit = Some(&mut visit);
    tell(&mut tale);
    let told = tale.story.text.len();
    match tale.trouble {
        Some(trouble) => bail!("this is not a fable: {trouble}"),
        None if told < text.len() => bail!("the fable ends at byte {told}, and text follows"),
        None => Ok(tale.story),
    }
}

/// Whether some story begins with this text.
pub fn possible(beginning: &str) -> bool {
    let mut tale = Tale::new(Source::Text(beginning));
    tell(&mut tale);
    match tale.trouble {
        Some(Trouble::Ended) => true,
        Some(Trouble::Strayed { .. }) => false,
        None => tale.story.text.len() == beginning.len(),
    }
}

/// The stories of a text, one by one, each with the blank line that ends it.
pub fn stories(text: &str) -> impl Iterator<Item = &str> {
    text.split_inclusive("\n\n")
}

// ---------------------------------------------------------------------------------------------------------------------
// Questions

/// `n` questions of `seed`: stories that break off before their closing sentence, with the closing sentences of
/// three other stories beside their own. Who has followed what the story is about knows the right one.
pub fn plots(seed: u64, n: usize) -> Vec<Question> {
    let mut rng = Rng::new(seed);
    (0..n).map(|_| plot(&mut rng)).collect()
}

/// A question about the next story.
fn plot(rng: &mut Rng) -> Question {
    let (ctx, right) = told(rng);
    let mut wrong = BTreeSet::new();
    while wrong.len() < 3 {
        let (_, closing) = told(rng);
        if closing != right {
            wrong.insert(closing);
        }
    }
    let mut endings: Vec<String> = wrong.into_iter().collect();
    let label = rng.below(4) as usize;
    endings.insert(label, right);
    Question { ctx, endings: endings.try_into().expect("3 + 1 endings"), label }
}

/// The next story up to its closing sentence, and that.
fn told(rng: &mut Rng) -> (String, String) {
    let mut tale = Tale::new(Source::Dice(rng));
    tell(&mut tale);
    let Tale { story, closing, .. } = tale;
    (story.text[..closing].trim_end().to_string(), first_line(&story.text[closing..]))
}

/// `n` questions of `seed`: stories that break off before their closing sentence.
///
/// The right ending is the story's own. The wrong ones are told by the same choices after one thing in
/// the story's memory (the same for all three) was exchanged for another of its list. So the four
/// differ in one word or two, are as likely as each other for who has not read the story, and the wrong ones
/// are impossible for who has.
pub fn questions(seed: u64, n: usize) -> Vec<Question> {
    let mut rng = Rng::new(seed);
    std::iter::repeat_with(|| question(&mut rng)).flatten().take(n).collect()
}

/// Questions about fables as a file of JSON lines, with all the fields of `hellaswag_val.jsonl`.
pub fn to_jsonl(questions: &[Question]) -> String {
    let lines = questions.iter().enumerate().map(|(ind, question)| {
        let Question { ctx, endings, label } = question;
        let line = json!({
            "ind": ind,
            "activity_label": first_line(ctx), // the title
            "ctx_a": ctx,
            "ctx_b": "", // as where HellaSwag breaks off between two sentences
            "ctx": ctx,
            "split": "val",
            "split_type": "indomain",
            "label": label,
            "endings": endings,
            "source_id": format!("fables~{ind}"),
        });
        format!("{line}\n")
    });
    lines.collect()
}

/// A question about the next story, or none if its closing sentence recalls nothing that could be exchanged.
fn question(rng: &mut Rng) -> Option<Question> {
    let mut tale = Tale::new(Source::Dice(rng));
    tell(&mut tale);
    let Tale { story, memory, closing, .. } = tale;
    let right = first_line(&story.text[closing..]);

    let mut slots = memory;
    while !slots.is_empty() {
        let slot = slots.swap_remove(rng.below(slots.len() as i64) as usize);
        let mut wrong = misremembered(&story.choices, slot, &right);
        if wrong.len() < 3 {
            continue;
        }
        let label = rng.below(4) as usize;
        let endings = std::array::from_fn(|i| {
            if i == label {
                right.clone()
            } else {
                wrong.swap_remove(rng.below(wrong.len() as i64) as usize)
            }
        });
        let ctx = story.text[..closing].trim_end().to_string();
        return Some(Question { ctx, endings, label });
    }
    None
}

/// The closing sentences of a teller who exchanges what is in this slot for each other word of its list,
/// as far as they differ from the right one and use no word that the right one uses elsewhere.
fn misremembered(choices: &[u8], slot: Memory, right: &str) -> Vec<String> {
    let Memory { list, .. } = slot;
    let others = (0..list.words.len())
        .filter(|&other| list.akin(slot.index, other) && !right.contains(list.words[other]));
    let closings = others.map(|index| {
        let mut tale = Tale::new(Source::Script(choices));
        tale.twist = Some(Memory { index, ..slot });
        tell(&mut tale);
        first_line(&tale.story.text[tale.closing..])
    });
    // Two animals may hop alike: each closing once.
    let closings: BTreeSet<String> = closings.filter(|closing| closing != right).collect();
    closings.into_iter().collect()
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or("").trim_start().to_string()
}
