//! The flags of the steps that are GPT-2: which model, which tokens, and how samples are drawn.

use crate::{Tokenizer, Weights, expect_gpt2_tokens, printable, record};
use anyhow::{Result, ensure};
use clap::{Args, ValueEnum};
use std::path::PathBuf;
use tch::{Device, Tensor};

/// Which GPT-2, and which tokens it reads and writes.
#[derive(Args, Clone, Debug)]
pub struct ModelFlags {
    /// How large a model [default: gpt2 on a GPU, tiny without one]
    #[arg(long, conflicts_with = "weights")]
    size: Option<Size>,

    /// GPT-2's weights: a folder from Hugging Face, or a safetensors file
    #[arg(long, value_name = "PATH")]
    pub weights: Option<PathBuf>,

    /// The tokens: gpt2's 50,257; fables, the 1,024 that step04 learns; or a file that step04 has
    /// written [default: fables for the tiny model, else gpt2]
    #[arg(long, value_name = "NAME")]
    tokenizer: Option<String>,
}

/// How large a GPT-2 is.
#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
pub enum Size {
    /// 4 layers, 128 wide, 128 tokens: learns to write on a CPU in a minute or two
    Tiny,
    /// GPT-2's smallest, 124M parameters: 12 layers, 768 wide, 1,024 tokens
    Gpt2,
    /// 350M parameters
    Gpt2Medium,
    /// 774M parameters
    Gpt2Large,
    /// 1,558M parameters
    Gpt2Xl,
}

impl ModelFlags {
    pub fn size(&self, device: Device) -> Size {
        let large = device.is_cuda() || self.weights.is_some();
        self.size.unwrap_or(if large { Size::Gpt2 } else { Size::Tiny })
    }

    /// The tokenizer of the model.
    ///
    /// # Errors
    /// When there is no such vocabulary, or it is not that of `--weights`.
    pub fn tokenizer(&self, device: Device) -> Result<Tokenizer> {
        let default = if self.size(device) == Size::Tiny { "fables" } else { "gpt2" };
        let name = self.tokenizer.as_deref().unwrap_or(default);
        let tokenizer = Tokenizer::load(name)?;
        if let Some(path) = &self.weights {
            let rows = Weights::open(path)?.gpt2_sizes()?.vocab_size;
            if name == "gpt2" {
                expect_gpt2_tokens(path, rows)?;
            }
            let n_vocab = tokenizer.n_vocab();
            ensure!(
                name == "gpt2" || rows == n_vocab || rows == (n_vocab + 127) / 128 * 128,
                "--tokenizer {name} has {n_vocab} tokens and the checkpoint {rows}: name the vocabulary \
                 with which it was trained"
            );
        }
        Ok(tokenizer)
    }
}

/// How large a batch is, and in which parts it is computed.
#[derive(Args, Clone, Debug)]
pub struct BatchFlags {
    /// Tokens that a step of the optimizer sees [default: 1,024; 524,288 of gpt2 on a GPU]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(1..=1 << 30))]
    pub total_batch_size: Option<i64>,

    /// B: sequences computed at once; with fewer, the same gradient takes less memory
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(1..=1 << 30))]
    pub batch_size: Option<i64>,
}

/// What a sample begins with, and how its tokens are drawn.
#[derive(Args, Clone, Debug)]
pub struct Sampling {
    /// What the samples begin with; nothing at all begins a new document
    #[arg(long, value_name = "TEXT", default_value = "", allow_hyphen_values = true)]
    pub prompt: String,

    /// How many samples to write
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(i64).range(1..=1000))]
    pub num_samples: i64,

    /// How many tokens to write after the prompt, at most
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(i64).range(0..=1_000_000))]
    pub max_new_tokens: i64,

    /// Below 1 makes likely tokens likelier, above 1 less likely; 0 always takes the likeliest
    #[arg(long, value_name = "X", default_value_t = 1.0, value_parser = temperature)]
    pub temperature: f64,

    /// Draw from the N likeliest tokens only
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(i64).range(1..))]
    pub top_k: i64,
}

impl Sampling {
    /// The ids of the prompt; `<|endoftext|>`, with which a new document begins, where it is empty.
    pub fn prompt(&self, tokenizer: &Tokenizer) -> Vec<i64> {
        let ids = tokenizer.encode(&self.prompt);
        if ids.is_empty() { vec![tokenizer.end_of_text().unwrap_or(0)] } else { ids }
    }
}

/// A smaller one than a thousandth would only overflow: the likeliest token takes all long before.
fn temperature(text: &str) -> Result<f64> {
    let temperature: f64 = text.parse()?;
    let makes_sense = temperature == 0.0 || (1e-3..=1e3).contains(&temperature);
    ensure!(
        makes_sense,
        "choose 0, which always takes the likeliest, or a number from 0.001 to 1000"
    );
    Ok(temperature)
}

/// Prints samples, the rows of `ids` (B, T), one below the other, each up to where its document ends.
pub fn print_samples(tokenizer: &Tokenizer, ids: &Tensor) {
    let samples = Vec::<Vec<i64>>::try_from(ids).expect("two dimensions of integers");
    for (i, ids) in samples.iter().enumerate() {
        let text = printable(&document(tokenizer, ids));
        record::sample(&text);
        println!("\n--- sample {}\n{text}", i + 1);
    }
    println!("---\n");
}

/// The text of ids up to `<|endoftext|>`, which may also be the first, where it begins the document.
fn document(tokenizer: &Tokenizer, ids: &[i64]) -> String {
    let end = tokenizer.end_of_text();
    let ids = ids.strip_prefix(end.as_slice()).unwrap_or(ids);
    let text = tokenizer.decode(ids.split(|id| Some(*id) == end).next().unwrap_or_default());
    text.trim_end().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_ends_where_its_document_does() {
        for name in ["fables", "gpt2"] {
            let tokenizer = Tokenizer::load(name).unwrap();
            let sample = |text: &str| document(&tokenizer, &tokenizer.encode(text));
            assert_eq!(sample("<|endoftext|>A fox ate.\n<|endoftext|>A hen"), "A fox ate.");
            assert_eq!(sample("A fox ate.<|endoftext|>A hen<|endoftext|>"), "A fox ate.");
            assert_eq!(sample("<|endoftext|>A fox"), "A fox");
            assert_eq!(sample("<|endoftext|><|endoftext|>A fox"), "");
        }
    }

    #[test]
    fn an_empty_prompt_begins_a_document() {
        #[derive(clap::Parser)]
        struct Program {
            #[command(flatten)]
            sampling: Sampling,
        }
        let tokenizer = Tokenizer::load("fables").unwrap();
        let prompt = |args: &[&str]| {
            let args = [&["program"], args].concat();
            <Program as clap::Parser>::parse_from(args).sampling.prompt(&tokenizer)
        };
        assert_eq!(prompt(&[]), [tokenizer.end_of_text().unwrap()]);
        assert_eq!(tokenizer.decode(&prompt(&["--prompt", "- A fox"])), "- A fox");
    }
}
