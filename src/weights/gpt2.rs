//! A whole GPT-2 from its checkpoint, as step05 shows it piece by piece.

use super::Weights;
use anyhow::{Result, ensure};
use std::collections::BTreeMap;
use tch::{Tensor, nn::VarStore};

/// The sizes of a GPT-2: how far it sees, how many tokens it knows, how deep and how wide it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gpt2Sizes {
    pub block_size: i64,
    pub vocab_size: i64,
    pub n_layer: i64,
    pub n_head: i64,
    pub n_embd: i64,
}

impl Weights {
    /// The sizes that the tensors' shapes show, and `config.json` for the number of heads.
    ///
    /// # Errors
    /// When `config.json` asks for anything but the plain GPT-2 or contradicts the shapes, or a tensor is
    /// missing that shows a size.
    pub fn gpt2_sizes(&self) -> Result<Gpt2Sizes> {
        self.expect_plain_gpt2()?;
        let (vocab_size, n_embd) = self.matrix("wte.weight")?;
        let (block_size, _) = self.matrix("wpe.weight")?;
        let has_layer = |i: &i64| self.shape(&format!("h.{i}.ln_1.weight")).is_some();
        let n_layer = (0..).take_while(has_layer).count() as i64;
        let n_head = self.config("n_head")?.unwrap_or(n_embd / 64);
        ensure!(
            n_head > 0 && n_embd % n_head == 0,
            "n_head: {n_embd} numbers do not make {n_head} heads of equal width"
        );
        // Before a model of this size takes memory: a name alone, with nothing behind it, is no layer, and rows without
        // columns are no positions.
        self.stored("wpe.weight", &[block_size, n_embd])?;
        for i in 0..n_layer {
            self.stored(&format!("h.{i}.mlp.c_fc.weight"), &[n_embd, 4 * n_embd])?;
        }
        self.agrees("n_embd", n_embd)?;
        self.agrees("n_layer", n_layer)?;
        self.agrees("vocab_size", vocab_size)?;
        self.agrees("n_positions", block_size)?;
        Ok(Gpt2Sizes { block_size, vocab_size, n_layer, n_head, n_embd })
    }

    /// Copies every tensor into the parameter of the same name. `vs` is that of a GPT-2 which reads and
    /// writes tokens with one matrix. OpenAI's matrices are (in, out), and are turned.
    ///
    /// # Errors
    /// When a tensor is missing, one too many, of another shape, not finite, or cannot be read; or when
    /// the file has two different matrices for reading and writing tokens.
    pub fn copy_to(&self, vs: &VarStore) -> Result<()> {
        let _guard = tch::no_grad_guard();
        let parameters: BTreeMap<_, _> = vs.variables().into_iter().collect();
        let view = |(name, parameter): (String, Tensor)| {
            let view = if is_transposed(&name) { parameter.tr() } else { parameter };
            (name, view)
        };
        let mut views: Vec<_> = parameters.into_iter().map(view).collect();
        let shapes: Vec<_> = views.iter().map(|(name, view)| (name.clone(), view.size())).collect();
        self.expect(&shapes)?;
        for ((name, shape), (_, view)) in shapes.iter().zip(&mut views) {
            view.copy_(&self.tensor(name, shape)?);
        }
        self.expect_tied()
    }
}

/// Whether the tensor of this name is a matrix that OpenAI's code has as (in, out), and ours as (out, in).
pub fn is_transposed(name: &str) -> bool {
    ["c_attn.weight", "c_proj.weight", "c_fc.weight"].iter().any(|end| name.ends_with(end))
}
