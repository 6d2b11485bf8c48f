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
use std::process::ExitCode;

fn lesson() -> Result<()> {
    Ok(())
}

fn main() -> ExitCode {
    lab::run(lesson)
}
