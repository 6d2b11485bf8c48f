// step04_tokenizer: text becomes fewer integers
//
// New: any text is bytes; byte-pair encoding glues the pair that occurs most often into a token of
// its own, again and again. With the merges that GPT-2 learned, the same code is GPT-2's tokenizer.
//
// Run:  cargo run --bin step04_tokenizer
//       cargo run --bin step04_tokenizer -- --vocab-size 1000 --prompt "Any text, 你好 and 🦊"
// See:  the merges as they are learned; text of every script comes back as it went in; our GPT-2
//       tokens are exactly tiktoken's; how many bytes a token stands for as the vocabulary grows.

use anyhow::Result;
use std::process::ExitCode;

fn lesson() -> Result<()> {
    Ok(())
}

fn main() -> ExitCode {
    lab::run(lesson)
}
