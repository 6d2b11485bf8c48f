// step01_bigram: the smallest language model
//
// New: a text becomes integers, random windows of it become a batch, and a table of V × V numbers
// learns which character follows which. Cross-entropy says how well, sampling writes new text.
//
// Run:  cargo run --bin step01_bigram
//       cargo run --bin step01_bigram -- --corpus shakespeare --prompt "O "
// See:  the loss starts at ln V + ½ and ends at the bigram entropy that counting the same text
//       gives: the most that can be known from one character. The sample is not English yet.

use anyhow::{Result, bail};
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

    fn encode(&self, text: &str) -> Result<Vec<i64>> {
        let mut ids = Vec::new();
        for c in text.chars() {
            match self.chars.binary_search(&c) {
                Ok(id) => ids.push(id as i64),
                Err(_) => bail!("the corpus does not have {c:?}; use its own characters"),
            }
        }
        Ok(ids)
    }

    fn decode(&self, ids: &[i64]) -> String {
        ids.iter().map(|&id| self.chars[id as usize]).collect()
    }
}

fn lesson() -> Result<()> {
    let vocab = Vocab { chars: vec![' ', 'a', 'c', 's', 't'] };
    let ids = vocab.encode("a cat sat")?;
    println!("{ids:?}");
    println!("{}", vocab.decode(&ids));
    if let Err(why) = vocab.encode("a dog") {
        println!("{why}");
    }
    Ok(())
}

fn main() -> ExitCode {
    lab::run(lesson)
}
