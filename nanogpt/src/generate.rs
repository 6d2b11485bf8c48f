//! Text from a model, token by token.

use crate::gpt::{Cache, Gpt};
use lab::{Rng, Tokenizer, expect_finite};
use tch::{IndexOp, Kind, Tensor};

/// How the next token is drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// Below 1 makes likely tokens likelier; 0 always takes the likeliest.
    pub temperature: f64,
    /// Draw from so many of the likeliest tokens only.
    pub top_k: Option<i64>,
    /// Draw from the likeliest tokens only that have this share of the probability together.
    pub top_p: Option<f64>,
}

impl Default for Sampling {
    /// As nanoGPT's sample.py has it.
    fn default() -> Self {
        Self { temperature: 0.8, top_k: Some(200), top_p: None }
    }
}

impl Sampling {
    /// Draws a token from logits (V).
    pub fn draw(&self, logits: &Tensor, rng: &mut Rng) -> i64 {
        expect_finite(logits);
        if self.temperature == 0.0 {
            return logits.argmax(-1, false).int64_value(&[]);
        }
        let n_vocab = logits.size()[0];
        let k = self.top_k.unwrap_or(n_vocab).clamp(1, n_vocab);
        let (logits, ids) = logits.topk(k, -1, true, true); // the likeliest first
        let mut probs = (logits.to_kind(Kind::Float) / self.temperature).softmax(-1, Kind::Float);
        if let Some(p) = self.top_p {
            let before = probs.cumsum(-1, Kind::Float) - &probs;
            probs = probs.masked_fill(&before.ge(p), 0.0); // the first always stays
        }
        let drawn = rng.multinomial(&probs).int64_value(&[0]);
        ids.int64_value(&[drawn])
    }
}

/// Writes token after token behind a prompt, in the model's precision. In 16 bits the weights are cast for each token,
/// unless all are drawn in one [`Precision::autocast`](crate::precision::Precision::autocast).
pub struct Generator<'a> {
    model: &'a Gpt,
    sampling: Sampling,
    /// The ids below this are tokens; the rest pads the table.
    n_vocab: i64,
    ids: Vec<i64>,
    cache: Option<Cache>,
}

impl<'a> Generator<'a> {
    /// Begins behind `prompt`, of at least one id, with a cache of keys and values, or without one, to compare.
    ///
    /// # Panics
    /// If the prompt is empty.
    pub fn new(
        model: &'a Gpt,
        n_vocab: i64,
        prompt: &[i64],
        sampling: Sampling,
        cached: bool,
    ) -> Self {
        assert!(!prompt.is_empty(), "a prompt has at least one token");
        let cache = cached.then(|| model.cache(1));
        Self { model, sampling, n_vocab, ids: prompt.to_vec(), cache }
    }

    /// Draws the next token.
    pub fn next(&mut self, rng: &mut Rng) -> i64 {
        let logits = tch::no_grad(|| self.logits());
        let id = self.sampling.draw(&logits.narrow(0, 0, self.n_vocab), rng);
        self.ids.push(id);
        id
    }

    /// The logits of the next token, (V).
    fn logits(&mut self) -> Tensor {
        let device = self.model.vs.device();
        let block_size = self.model.config.block_size as usize;
        let row = |ids: &[i64]| Tensor::from_slice(ids).unsqueeze(0).to(device); // (1, T)
        if self.ids.len() > block_size {
            // Every token moves to another position, so nothing of the cache would be right.
            self.cache = None;
        }
        let logits = match &mut self.cache {
            Some(cache) => {
                let new = &self.ids[cache.len() as usize..];
                self.model.forward_cached(&row(new), cache).i(0)
            }
            None => {
                let seen = &self.ids[self.ids.len().saturating_sub(block_size)..];
                let forward = || self.model.forward(&row(seen), false);
                self.model.precision.autocast(device, forward).i((0, -1))
            }
        };
        logits.to_kind(Kind::Float)
    }
}

/// Turns ids into text as they come, and keeps back what is not a whole character yet.
pub struct Writer<'a> {
    tokenizer: &'a Tokenizer,
    held: Vec<i64>,
}

/// A character has at most four bytes, so at most so many tokens are waited for.
const LONGEST_CHARACTER: usize = 4;

impl<'a> Writer<'a> {
    pub fn new(tokenizer: &'a Tokenizer) -> Self {
        Self { tokenizer, held: Vec::new() }
    }

    /// The text that can be written now that this token has come.
    pub fn push(&mut self, id: i64) -> String {
        self.held.push(id);
        let text = self.tokenizer.decode(&self.held);
        let is_cut = text.ends_with(char::REPLACEMENT_CHARACTER);
        if is_cut && self.held.len() < LONGEST_CHARACTER {
            return String::new();
        }
        self.held.clear();
        text
    }

    /// What was kept back at the end.
    pub fn finish(&mut self) -> String {
        let text = self.tokenizer.decode(&self.held);
        self.held.clear();
        text
    }
}
