// step00_tensors: tensors, a gradient, an optimizer, a training loop
//
// New: everything. A tensor has a shape and a kind of number; autograd knows the slope of a loss in
// every parameter; an optimizer takes a step down that slope. A line fitted to points needs all of
// it, and so does a GPT: from here on only the model changes.
//
// Run:  cargo run --bin step00_tensors
// See:  the gradient worked out by hand is autograd's; the loop ends at the line that the formula
//       for least squares gives.

use anyhow::Result;
use std::process::ExitCode;

fn lesson() -> Result<()> {
    Ok(())
}

fn main() -> ExitCode {
    lab::run(lesson)
}
