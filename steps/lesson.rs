// step05_gpt2: GPT-2, with every parameter under the name that its checkpoint has
//
// New: the queries, keys and values of all heads from one product, GELU instead of relu, tokens instead
// of characters, and names and shapes so exact that OpenAI's own weights fit in. A loader hands out a
// text batch by batch to judge a model by. Sampling keeps to the k most likely tokens.
//
// Run:  cargo run --bin step05_gpt2
//       cargo run -p data -- gpt2    (fetches GPT-2's weights, once: 548 MB)
//       cargo run --bin step05_gpt2 -- --weights data/gpt2 --prompt "Hello, I'm a language model,"
// See:  a model that nobody has trained writes noise; with GPT-2's weights the same code writes
//       English. Its parameters, counted; its logits, those of Hugging Face's implementation.

use anyhow::Result;
use std::process::ExitCode;

fn lesson() -> Result<()> {
    Ok(())
}

fn main() -> ExitCode {
    lab::run(lesson)
}
