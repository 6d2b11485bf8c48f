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
use std::{cmp::Reverse, collections::HashMap, process::ExitCode};

/// The pair of neighbours that occurs most often, if one occurs twice; the smaller ids win a tie.
fn most_frequent_pair(pieces: &[(Vec<u32>, usize)]) -> Option<((u32, u32), usize)> {
    let mut times: HashMap<(u32, u32), usize> = HashMap::new();
    for (ids, count) in pieces {
        for pair in ids.windows(2) {
            *times.entry((pair[0], pair[1])).or_default() += count;
        }
    }
    let most = times.into_iter().max_by_key(|&(pair, times)| (times, Reverse(pair)));
    most.filter(|&(_, times)| times > 1)
}

fn lesson() -> Result<()> {
    let ids: Vec<u32> = "the then this".bytes().map(u32::from).collect();
    println!("{ids:?}");
    println!("{:?}", most_frequent_pair(&[(ids, 1)]));
    Ok(())
}

fn main() -> ExitCode {
    lab::run(lesson)
}
