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
use lab::Size;
use std::process::ExitCode;

/// The sizes of a model.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Config {
    block_size: i64, // T at most: the tokens that the model can see
    vocab_size: i64, // V
    n_layer: i64,
    n_head: i64,
    n_embd: i64, // C
}

impl Config {
    fn new(size: Size, vocab_size: i64) -> Self {
        let (block_size, n_layer, n_head, n_embd) = match size {
            Size::Tiny => (128, 4, 4, 128),
            Size::Gpt2 => (1024, 12, 12, 768),
            Size::Gpt2Medium => (1024, 24, 16, 1024),
            Size::Gpt2Large => (1024, 36, 20, 1280),
            Size::Gpt2Xl => (1024, 48, 25, 1600),
        };
        Self { block_size, vocab_size, n_layer, n_head, n_embd }
    }
}

fn lesson() -> Result<()> {
    for size in [Size::Tiny, Size::Gpt2, Size::Gpt2Xl] {
        println!("{:?}", Config::new(size, 50_257));
    }
    Ok(())
}

fn main() -> ExitCode {
    lab::run(lesson)
}
