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
use lab::{Corpus, Rng};
use std::{collections::BTreeSet, process::ExitCode};
use tch::{Device, IndexOp, Kind, Tensor};

const BATCH_SIZE: i64 = 32; // B: windows in a batch
const BLOCK_SIZE: i64 = 8; // T: characters in a window

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

/// B random windows of T characters: x, what the model sees, and y, the same windows one character
/// later, what it should say. Both are (B, T).
fn batch(data: &Tensor, rng: &mut Rng) -> (Tensor, Tensor) {
    let last = data.size()[0] - BLOCK_SIZE;
    let starts: Vec<i64> = (0..BATCH_SIZE).map(|_| rng.below(last)).collect();
    let x: Vec<Tensor> = starts.iter().map(|&i| data.i(i..i + BLOCK_SIZE)).collect();
    let y: Vec<Tensor> = starts.iter().map(|&i| data.i(i + 1..i + BLOCK_SIZE + 1)).collect();
    (Tensor::stack(&x, 0), Tensor::stack(&y, 0)) // B × (T) → (B, T)
}

fn lesson() -> Result<()> {
    let data = Tensor::arange(1000, (Kind::Int64, Device::Cpu));
    let (x, y) = batch(&data, &mut Rng::new(1337));
    println!("x {:?}, y {:?}", x.size(), y.size());
    println!("{:?}", Vec::<i64>::try_from(x.i(0))?);
    println!("{:?}", Vec::<i64>::try_from(y.i(0))?);
    Ok(())
}

fn main() -> ExitCode {
    lab::run(lesson)
}
