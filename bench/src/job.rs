//! What both sides are asked to do, and what they answer.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Where a training takes place.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Device {
    Cpu,
    /// The first of NVIDIA's GPUs
    Cuda,
}

/// How a training multiplies matrices.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// float32
    Fp32,
    /// float32 whose factors are rounded to 10 bits of fraction, on a GPU
    Tf32,
    /// Autocast to bfloat16
    Bf16,
}

impl Precision {
    pub fn name(self) -> &'static str {
        match self {
            Self::Fp32 => "fp32",
            Self::Tf32 => "tf32",
            Self::Bf16 => "bf16",
        }
    }
}

/// A model, and the batch that it is trained on.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub struct Size {
    pub n_layer: i64,
    pub n_head: i64,
    pub n_embd: i64,     // C
    pub block_size: i64, // rows of the table of positions
    pub vocab_size: i64, // V
    pub batch_size: i64,
    pub sequence_length: i64, // T
    pub product: i64,         // n of the n³ product that shows the ceiling
}

impl Size {
    /// The size of this name; `quick` is a small one of the same shape, to see that all works. A GPU gets
    /// GPT-2's batches as the steps' defaults have them there, and a product that fills it.
    pub fn of(name: &str, quick: bool, device: Device) -> Self {
        let sizes = match (name, quick, device) {
            ("char", true, _) => [2, 2, 64, 32, 65, 4, 32, 512],
            ("char", false, Device::Cpu) => [6, 6, 384, 256, 65, 64, 256, 4096],
            ("char", false, Device::Cuda) => [6, 6, 384, 256, 65, 64, 256, 8192],
            (_, true, _) => [2, 2, 128, 64, 512, 2, 32, 512],
            (_, false, Device::Cpu) => [12, 12, 768, 1024, 50_304, 4, 64, 4096],
            (_, false, Device::Cuda) => [12, 12, 768, 1024, 50_304, 16, 1024, 8192],
        };
        let [n_layer, n_head, n_embd, block_size, vocab_size, batch_size, sequence_length, product] =
            sizes;
        Self {
            n_layer,
            n_head,
            n_embd,
            block_size,
            vocab_size,
            batch_size,
            sequence_length,
            product,
        }
    }

    /// B·T: the tokens of a step.
    pub fn tokens(&self) -> i64 {
        self.batch_size * self.sequence_length
    }

    /// The floating-point operations that a training step needs: for each token 6·N + 12·L·C·T.
    ///
    /// N counts every parameter but the table of positions, which is looked up and not multiplied; that of
    /// the words is, at the end, into logits. Source: PaLM (arXiv 2204.02311), appendix B, as in nanoGPT's
    /// `estimate_mfu`. The products alone count, the masked half of the attention too.
    pub fn flops(&self) -> f64 {
        let (l, c) = (self.n_layer, self.n_embd);
        let block = 12 * c * c + 13 * c; // four matrices of 3·C², C², 4·C², 4·C²; biases, layer norms
        let n = self.vocab_size * c + l * block + 2 * c;
        (self.tokens() * (6 * n + 12 * l * c * self.sequence_length)) as f64
    }
}

/// One process's work: some training steps, and a matrix product to hold their speed against.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Job {
    #[serde(flatten)]
    pub size: Size,
    pub device: Device,
    pub precision: Precision,
    pub fused: bool,    // PyTorch's AdamW; ours always is
    pub compile: bool,  // PyTorch's model
    pub warmup: usize,  // steps that are not timed
    pub steps: usize,   // steps that are
    pub start: PathBuf, // the weights and tokens to start with: safetensors
    #[serde(flatten)]
    pub optimizer: crate::step10::ours::Optimizer,
}

impl Job {
    pub fn new(size: Size, device: Device) -> Self {
        // A GPU's first steps also load kernels and choose among them; the rest are short.
        let (warmup, steps) = match device {
            Device::Cpu => (2, 4),
            Device::Cuda => (5, 20),
        };
        Self {
            size,
            device,
            precision: Precision::Fp32,
            fused: false,
            compile: false,
            warmup,
            steps,
            start: PathBuf::new(),
            optimizer: Default::default(),
        }
    }
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Answer {
    pub ms: Vec<f64>,     // of each timed step
    pub losses: Vec<f64>, // of each step
    /// On a CPU the process's largest size, where Linux says it; on a GPU the most that libtorch's allocator
    /// had given to tensors.
    pub peak_mb: Option<u64>,
    pub gflops: f64, // of the matrix product
    pub threads: i64,
    pub version: String, // of libtorch
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flops_are_those_worked_out_by_hand() {
        // char: a block has 12·384² + 13·384 = 1,774,464 parameters, six of them 10,646,784; the last layer
        // norm has 768, the table of 65 characters 24,960. N = 10,672,512. A token takes
        // 6·N = 64,035,072 and 12·6·384·256 = 7,077,888, together 71,112,960; a step has 16,384 tokens.
        assert_eq!(Size::of("char", false, Device::Cpu).flops(), 71_112_960.0 * 16_384.0);
        // GPT-2 has 124,439,808 parameters, 1,024·768 of them positions, and here 47 more tokens.
        let n = 124_439_808.0 - 1_024.0 * 768.0 + 47.0 * 768.0;
        let gpt2 = 256.0 * (6.0 * n + 12.0 * 12.0 * 768.0 * 64.0);
        assert_eq!(Size::of("gpt2", false, Device::Cpu).flops(), gpt2);
        // On a GPU sixteen sequences of 1,024, sixteen times as long: attention costs so much more a token.
        let gpt2 = 16_384.0 * (6.0 * n + 12.0 * 12.0 * 768.0 * 1_024.0);
        assert_eq!(Size::of("gpt2", false, Device::Cuda).flops(), gpt2);
    }
}
