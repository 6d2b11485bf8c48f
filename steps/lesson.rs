// step03_blocks: the transformer, as in "Let's build GPT"
//
// New since step02: a feed-forward layer lets each character think about what it has heard; both go
// into a block, and blocks are stacked. Residual connections and layer norm make the depth trainable.
//
// Run:  cargo run --bin step03_blocks
//       cargo run --bin step03_blocks -- --corpus shakespeare --steps 2000
// See:  a much lower loss, and a sample that reads like the corpus. The attention maps show which
//       earlier characters each head looks at.

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use lab::{Corpus, Flags, Log, Rng};
use std::{collections::BTreeSet, process::ExitCode};
use tch::nn::{self, Module, OptimizerConfig};
use tch::{Device, IndexOp, Kind, Tensor};

#[path = "proofs/step03.rs"]
mod proof;

const BATCH_SIZE: i64 = 12; // B: windows in a batch
const BLOCK_SIZE: i64 = 64; // T: characters in a window, as far as a character can look back
const N_EMBD: i64 = 128; // C: numbers that stand for a character
const N_HEAD: i64 = 4; // heads, each N_EMBD / N_HEAD wide
const N_LAYER: i64 = 4; // blocks
const MAX_STEPS: usize = 1000;
const EVAL_INTERVAL: usize = 250;
const LEARNING_RATE: f64 = 2e-3;
const SAMPLE: usize = 400; // characters to write at the end

/// One head of causal self-attention.
#[derive(Debug)]
struct Head {
    query: nn::Linear,
    key: nn::Linear,
    value: nn::Linear,
    tril: Tensor, // (T, T) of ones on and below the diagonal
}

impl Head {
    fn new(p: nn::Path, head_size: i64) -> Self {
        Self {
            query: linear(&p / "query", N_EMBD, head_size, false),
            key: linear(&p / "key", N_EMBD, head_size, false),
            value: linear(&p / "value", N_EMBD, head_size, false),
            tril: Tensor::ones([BLOCK_SIZE, BLOCK_SIZE], (Kind::Float, p.device())).tril(0),
        }
    }

    /// How much each character (row) looks at itself and at each one before it (column); rows sum to 1.
    fn weights(&self, x: &Tensor) -> Tensor {
        let q = x.apply(&self.query); // (B, T, C) → (B, T, hs)
        let k = x.apply(&self.key); // (B, T, C) → (B, T, hs)
        let (t, hs) = (q.size()[1], q.size()[2]);
        // Without the root the products grow with hs, and softmax gives nearly all to one character.
        let wei = q.matmul(&k.transpose(-2, -1)) / (hs as f64).sqrt(); // (B, T, T)
        let future = self.tril.i((..t, ..t)).eq(0.0); // (T, T)
        wei.masked_fill(&future, f64::NEG_INFINITY).softmax(-1, Kind::Float) // −∞ becomes 0
    }
}

impl Module for Head {
    fn forward(&self, x: &Tensor) -> Tensor {
        let v = x.apply(&self.value); // (B, T, C) → (B, T, hs)
        self.weights(x).matmul(&v) // (B, T, T) × (B, T, hs) → (B, T, hs)
    }
}

/// Several heads look at once, each with a question of its own; a projection mixes their answers.
#[derive(Debug)]
struct MultiHead {
    heads: Vec<Head>,
    proj: nn::Linear,
}

impl MultiHead {
    fn new(p: nn::Path) -> Self {
        Self {
            heads: (0..N_HEAD).map(|i| Head::new(&p / "heads" / i, N_EMBD / N_HEAD)).collect(),
            proj: linear(&p / "proj", N_EMBD, N_EMBD, true),
        }
    }
}

impl Module for MultiHead {
    fn forward(&self, x: &Tensor) -> Tensor {
        let heads: Vec<Tensor> = self.heads.iter().map(|head| x.apply(head)).collect();
        Tensor::cat(&heads, -1).apply(&self.proj) // n_head × (B, T, hs) → (B, T, C)
    }
}

/// Attention lets the characters talk; here each one thinks about it by itself.
fn feed_forward(p: nn::Path) -> nn::Sequential {
    nn::seq()
        .add(linear(&p / "0", N_EMBD, 4 * N_EMBD, true)) // (B, T, C) → (B, T, 4·C)
        .add_fn(|x| x.relu())
        .add(linear(&p / "2", 4 * N_EMBD, N_EMBD, true)) // (B, T, 4·C) → (B, T, C)
}

/// Talk, then think. Each adds to the stream, so that a gradient passes any number of blocks.
#[derive(Debug)]
struct Block {
    ln_1: nn::LayerNorm,
    sa: MultiHead,
    ln_2: nn::LayerNorm,
    ffwd: nn::Sequential,
}

impl Block {
    fn new(p: nn::Path) -> Self {
        Self {
            ln_1: nn::layer_norm(&p / "ln_1", vec![N_EMBD], Default::default()),
            sa: MultiHead::new(&p / "sa"),
            ln_2: nn::layer_norm(&p / "ln_2", vec![N_EMBD], Default::default()),
            ffwd: feed_forward(&p / "ffwd"),
        }
    }
}

impl Module for Block {
    fn forward(&self, x: &Tensor) -> Tensor {
        let x = x + x.apply(&self.ln_1).apply(&self.sa); // (B, T, C)
        &x + x.apply(&self.ln_2).apply(&self.ffwd) // (B, T, C)
    }
}

/// A linear layer that starts as PyTorch's does: uniform within ±1/√fan_in.
fn linear(p: nn::Path, fan_in: i64, fan_out: i64, bias: bool) -> nn::Linear {
    let bound = 1.0 / (fan_in as f64).sqrt();
    let init = nn::Init::Uniform { lo: -bound, up: bound };
    let config = nn::LinearConfig { ws_init: init, bs_init: Some(init), bias };
    nn::linear(p, fan_in, fan_out, config)
}

/// A table of n vectors, one for each id, that starts as PyTorch's does: N(0, 1).
fn embedding(p: nn::Path, n: i64, n_embd: i64) -> nn::Embedding {
    let init = nn::Init::Randn { mean: 0.0, stdev: 1.0 };
    nn::embedding(p, n, n_embd, nn::EmbeddingConfig { ws_init: init, ..Default::default() })
}

struct Model {
    vs: nn::VarStore, // holds the parameters, under their names
    token_embedding_table: nn::Embedding,
    position_embedding_table: nn::Embedding,
    blocks: Vec<Block>,
    ln_f: nn::LayerNorm,
    lm_head: nn::Linear,
}

impl Model {
    fn new(device: Device, vocab_size: i64) -> Self {
        let vs = nn::VarStore::new(device);
        let p = vs.root(); // p / "x" is the place of a parameter called x
        let c = N_EMBD;
        Self {
            token_embedding_table: embedding(&p / "token_embedding_table", vocab_size, c),
            position_embedding_table: embedding(&p / "position_embedding_table", BLOCK_SIZE, c),
            blocks: (0..N_LAYER).map(|i| Block::new(&p / "blocks" / i)).collect(),
            ln_f: nn::layer_norm(&p / "ln_f", vec![c], Default::default()),
            lm_head: linear(&p / "lm_head", c, vocab_size, true),
            vs,
        }
    }

    fn forward(&self, idx: &Tensor) -> Tensor {
        let pos = Tensor::arange(idx.size()[1], (Kind::Int64, idx.device())); // (T)
        let tok_emb = idx.apply(&self.token_embedding_table); // (B, T) → (B, T, C)
        let pos_emb = pos.apply(&self.position_embedding_table); // (T) → (T, C)
        let mut x = tok_emb + pos_emb; // (B, T, C) + (T, C) → (B, T, C)
        for block in &self.blocks {
            x = x.apply(block); // (B, T, C)
        }
        x.apply(&self.ln_f).apply(&self.lm_head) // (B, T, C) → (B, T, V)
    }

    /// Mean cross-entropy in nats per character, a scalar tensor.
    fn loss(&self, idx: &Tensor, targets: &Tensor) -> Tensor {
        let logits = self.forward(idx).flatten(0, 1); // (B·T, V)
        logits.cross_entropy_for_logits(&targets.flatten(0, 1)) // (B·T) → ()
    }

    /// The loss over all of `data`, cut into windows that lie side by side; a shorter rest at the end is
    /// left out.
    fn evaluate(&self, data: &Tensor) -> f64 {
        let _guard = tch::no_grad_guard();
        let n = (data.size()[0] - 1) / BLOCK_SIZE; // windows
        let x = data.i(..n * BLOCK_SIZE).view([n, BLOCK_SIZE]); // (n·T) → (n, T)
        let y = data.i(1..n * BLOCK_SIZE + 1).view([n, BLOCK_SIZE]); // (n·T) → (n, T)
        let mut sum = 0.0;
        // 64 windows at a time. The last group may have fewer, so each loss has the weight of its windows.
        for (x, y) in x.split(64, 0).iter().zip(&y.split(64, 0)) {
            sum += self.loss(x, y).double_value(&[]) * x.size()[0] as f64;
        }
        sum / n as f64
    }

    /// Writes `n` characters after `prompt`, each drawn from the probabilities that the model gives.
    fn generate(&self, prompt: &[i64], n: usize, rng: &mut Rng) -> Vec<i64> {
        let _guard = tch::no_grad_guard();
        let mut ids = prompt.to_vec();
        for _ in 0..n {
            // There are no positions beyond BLOCK_SIZE: the oldest characters drop out of sight.
            let seen = &ids[ids.len().saturating_sub(BLOCK_SIZE as usize)..];
            let idx = Tensor::from_slice(seen).unsqueeze(0).to(self.vs.device()); // (1, T)
            let logits = self.forward(&idx).i((0, -1)); // (1, T, V) → (V)
            let probs = logits.softmax(-1, Kind::Float); // (V)
            ids.push(rng.multinomial(&probs).int64_value(&[0]));
        }
        ids
    }
}

/// The distinct characters of a text, sorted. A character's id is its place among them.
struct Vocab {
    chars: Vec<char>,
}

impl Vocab {
    fn new(corpus: &Corpus) -> Self {
        let chars: BTreeSet<char> = corpus.train.chars().chain(corpus.val.chars()).collect();
        Self { chars: chars.into_iter().collect() }
    }

    fn size(&self) -> i64 {
        self.chars.len() as i64
    }

    fn encode(&self, text: &str) -> Result<Vec<i64>> {
        let mut ids = Vec::new();
        for c in text.chars() {
            match self.chars.binary_search(&c) {
                Ok(id) => ids.push(id as i64),
                Err(_) => bail!("the corpus does not have {c:?}; use its own characters"),
            }
        }
        Ok(ids)
    }

    fn decode(&self, ids: &[i64]) -> String {
        ids.iter().map(|&id| self.chars[id as usize]).collect()
    }
}

/// B random windows of T characters: x, what the model sees, and y, the same windows one character
/// later, what it should say. Both are (B, T).
fn batch(data: &Tensor, rng: &mut Rng) -> (Tensor, Tensor) {
    let last = data.size()[0] - BLOCK_SIZE;
    let starts: Vec<i64> = (0..BATCH_SIZE).map(|_| rng.below(last)).collect();
    let x: Vec<Tensor> = starts.iter().map(|&i| data.i(i..i + BLOCK_SIZE)).collect();
    let y: Vec<Tensor> = starts.iter().map(|&i| data.i(i + 1..i + BLOCK_SIZE + 1)).collect();
    (Tensor::stack(&x, 0), Tensor::stack(&y, 0)) // B × (T) → (B, T)
}

/// Trains `model` on random batches, and logs its loss on `val`, text that it never saw.
fn fit(
    model: &Model,
    train: &Tensor,
    val: &Tensor,
    steps: usize,
    rng: &mut Rng,
    log: &mut Log,
) -> Result<()> {
    let mut optimizer = nn::AdamW::default().build(&model.vs, LEARNING_RATE)?;
    for step in 0..steps {
        if step % EVAL_INTERVAL == 0 {
            log.line(step, &[("val", model.evaluate(val))])?;
        }
        let (x, y) = batch(train, rng);
        let loss = model.loss(&x, &y);
        optimizer.backward_step(&loss); // zero_grad, backward and step in one
        log.step(loss.double_value(&[]), BATCH_SIZE * BLOCK_SIZE);
    }
    log.line(steps, &[("val", model.evaluate(val))])
}

/// Trains a language model on the characters of a text, and lets it write.
#[derive(Parser)]
struct Args {
    /// What the sample begins with [default: a new line; the corpus's first character if it has none]
    #[arg(long, value_name = "TEXT")]
    prompt: Option<String>,
    #[command(flatten)]
    lab: Flags,
}

fn lesson() -> Result<()> {
    let args = Args::parse();
    let device = args.lab.device;
    let corpus = Corpus::load(&args.lab, BLOCK_SIZE)?;
    let vocab = Vocab::new(&corpus);
    corpus.expect_alphabet(vocab.size())?; // each character more is paid for in every step
    let prompt = vocab.encode(&args.prompt.unwrap_or(corpus.opening())).context("--prompt")?;
    ensure!(!prompt.is_empty(), "--prompt: give at least one character");
    let train = Tensor::from_slice(&vocab.encode(&corpus.train)?).to(device);
    let val = Tensor::from_slice(&vocab.encode(&corpus.val)?).to(device);
    let steps = args.lab.steps(MAX_STEPS);
    let mut log = Log::new(&args.lab)?;

    tch::manual_seed(args.lab.seed.into());
    let mut rng = Rng::new(args.lab.seed.into());
    let model = Model::new(device, vocab.size());
    log.start("training", steps);
    fit(&model, &train, &val, steps, &mut rng, &mut log)?;

    lab::print_sample(&vocab.decode(&model.generate(&prompt, SAMPLE, &mut rng)));
    proof::print(&model, &log);
    proof::draw_attention(&model, &vocab, &val, &args.lab)?;
    log.finish(corpus.floor())
}

fn main() -> ExitCode {
    lab::run(lesson)
}
