// step01_bigram: the smallest language model
//
// New: a text becomes integers, random windows of it become a batch, and a table of V × V numbers
// learns which character follows which. Cross-entropy says how well, sampling writes new text.
//
// Run:  cargo run --bin step01_bigram
//       cargo run --bin step01_bigram -- --corpus shakespeare --prompt "O "
// See:  the loss starts at ln V + ½ and ends at the bigram entropy that counting the same text
//       gives: the most that can be known from one character. The sample is not English yet.

use anyhow::Result;
use lab::Corpus;
use std::{collections::BTreeSet, process::ExitCode};

/// The distinct characters of a text, sorted. A character's id is its place among them.
struct Vocab {
    chars: Vec<char>,
}

impl Vocab {
    fn new(corpus: &Corpus) -> Self {
        let chars: BTreeSet<char> = corpus.train.chars().chain(corpus.val.chars()).collect();
        Self { chars: chars.into_iter().collect() }
    }

    fn size(&self) -> i64 {
        self.chars.len() as i64
    }
}

fn lesson() -> Result<()> {
    Ok(())
}

fn main() -> ExitCode {
    lab::run(lesson)
}
