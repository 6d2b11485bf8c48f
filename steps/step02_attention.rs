// step02_attention: a character looks back
//
// New since step01: positions, a head of causal self-attention, and several heads side by side.
// Every character asks a question (query), shows what it holds (key) and hands over something
// (value); the better a key answers the query, the more of its value is averaged in.
//
// Run:  cargo run --bin step02_attention
//       cargo run --bin step02_attention -- --corpus shakespeare
// See:  three ways to average the past agree; one head gets below the bigram's entropy, which no
//       model of a single character can; several narrow heads of the same total width do better.

use anyhow::{Context, Result, anyhow, ensure};
use clap::Parser;
use lab::{Corpus, Flags, Log, Rng};
use std::{collections::BTreeSet, process::ExitCode};
use tch::nn::{self, Module, OptimizerConfig};
use tch::{Device, Kind, Tensor};

#[path = "proofs/step02.rs"]
mod proof;

const BATCH_SIZE: i64 = 32; // B: windows in a batch
const BLOCK_SIZE: i64 = 32; // T: characters in a window, as far as a character can look back
const N_EMBD: i64 = 64; // C: numbers that stand for a character
const N_HEADS: [i64; 2] = [1, 4]; // trained one after the other
const MAX_STEPS: usize = 3000;
const EVAL_INTERVAL: usize = 500;
const LEARNING_RATE: f64 = 3e-3;
const SAMPLE: usize = 400; // characters to write at the end

/// Causal self-attention: the next character guessed from all that the window holds so far.
#[derive(Parser)]
struct Args {
    /// What the sample begins with [default: a new line; the corpus's first character if it has none]
    #[arg(long, value_name = "TEXT")]
    prompt: Option<String>,
    #[command(flatten)]
    lab: Flags,
}

/// The distinct characters of a text, sorted. A character's id is its place among them.
struct Vocab {
    chars: Vec<char>,
}

impl Vocab {
    fn of(corpus: &Corpus) -> Self {
        let chars: BTreeSet<char> = corpus.train.chars().chain(corpus.val.chars()).collect();
        Self { chars: chars.into_iter().collect() }
    }

    fn size(&self) -> i64 {
        self.chars.len() as i64
    }

    fn encode(&self, text: &str) -> Result<Vec<i64>> {
        let id = |c| self.chars.binary_search(&c).map(|id| id as i64);
        let ids = text.chars().map(|c| {
            id(c).map_err(|_| anyhow!("the corpus does not have {c:?}; use its own characters"))
        });
        ids.collect()
    }

    fn decode(&self, ids: &[i64]) -> String {
        ids.iter().map(|&id| self.chars[id as usize]).collect()
    }
}

/// Cuts B windows of T characters out of `data` at random: what the model sees, and, one character
/// further on, what it should say. Both are (B, T).
fn batch(data: &Tensor, rng: &mut Rng) -> (Tensor, Tensor) {
    let last = data.size()[0] - BLOCK_SIZE;
    let starts: Vec<i64> = (0..BATCH_SIZE).map(|_| rng.below(last)).collect();
    let within = Tensor::arange(BLOCK_SIZE, (Kind::Int64, Device::Cpu)); // (T)
    let ix = (Tensor::from_slice(&starts).unsqueeze(1) + within).to(data.device()); // (B, 1) + (T) → (B, T)
    (data.take(&ix), data.take(&(ix + 1)))
}

/// One head of causal self-attention.
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

    /// How much each character (row) looks at each one before it (column); rows sum to 1.
    fn weights(&self, x: &Tensor) -> Tensor {
        let q = self.query.forward(x); // (B, T, C) → (B, T, hs)
        let k = self.key.forward(x); // (B, T, C) → (B, T, hs)
        let (t, head_size) = (q.size()[1], q.size()[2]);
        // Without the root the products grow with hs, and softmax would look at one character only.
        let wei = q.matmul(&k.transpose(-2, -1)) / (head_size as f64).sqrt(); // (B, T, T)
        let future = self.tril.narrow(0, 0, t).narrow(1, 0, t).eq(0.0); // (T, T)
        wei.masked_fill(&future, f64::NEG_INFINITY).softmax(-1, Kind::Float)
    }

    fn forward(&self, x: &Tensor) -> Tensor {
        let v = self.value.forward(x); // (B, T, C) → (B, T, hs)
        self.weights(x).matmul(&v) // (B, T, T) × (B, T, hs) → (B, T, hs)
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
    sa_heads: Vec<Head>, // several look at once, each with a question of its own
    lm_head: nn::Linear,
}

impl Model {
    fn new(device: Device, vocab_size: i64, n_head: i64) -> Self {
        let vs = nn::VarStore::new(device);
        let p = vs.root();
        let head = |i| Head::new(&p / "sa_heads" / i, N_EMBD / n_head);
        Self {
            token_embedding_table: embedding(&p / "token_embedding_table", vocab_size, N_EMBD),
            position_embedding_table: embedding(
                &p / "position_embedding_table",
                BLOCK_SIZE,
                N_EMBD,
            ),
            sa_heads: (0..n_head).map(head).collect(),
            lm_head: linear(&p / "lm_head", N_EMBD, vocab_size, true),
            vs,
        }
    }

    fn forward(&self, idx: &Tensor) -> Tensor {
        let tok_emb = self.token_embedding_table.forward(idx); // (B, T) → (B, T, C)
        let pos = Tensor::arange(idx.size()[1], (Kind::Int64, idx.device())); // (T)
        let pos_emb = self.position_embedding_table.forward(&pos); // (T) → (T, C)
        let x = tok_emb + pos_emb; // (B, T, C) + (T, C) → (B, T, C)
        let heads: Vec<Tensor> = self.sa_heads.iter().map(|head| head.forward(&x)).collect();
        let x = Tensor::cat(&heads, -1); // n_head × (B, T, hs) → (B, T, C)
        self.lm_head.forward(&x) // (B, T, C) → (B, T, V)
    }

    /// Mean cross-entropy in nats per character, a tensor of no dimension.
    fn loss(&self, idx: &Tensor, targets: &Tensor) -> Tensor {
        let logits = self.forward(idx).flatten(0, 1); // (B·T, V)
        logits.cross_entropy_for_logits(&targets.flatten(0, 1)) // (B·T) → ()
    }

    /// The loss over all of `data`, cut into windows that lie side by side (what is left at the end and
    /// shorter than a window is left out).
    fn evaluate(&self, data: &Tensor) -> f64 {
        let _guard = tch::no_grad_guard();
        let n = (data.size()[0] - 1) / BLOCK_SIZE;
        let windows =
            |from| data.narrow(0, from, n * BLOCK_SIZE).view([n, BLOCK_SIZE]).split(64, 0);
        let mut sum = 0.0;
        for (x, y) in windows(0).iter().zip(windows(1)) {
            sum += self.loss(x, &y).double_value(&[]) * x.size()[0] as f64;
        }
        sum / n as f64
    }

    /// Writes `n` characters after `prompt`, each drawn from the probabilities that the model gives.
    fn generate(&self, prompt: &[i64], n: usize, rng: &mut Rng) -> Vec<i64> {
        let _guard = tch::no_grad_guard();
        let mut ids = prompt.to_vec();
        for _ in 0..n {
            // There are no positions beyond BLOCK_SIZE: the oldest characters drop out of sight.
            let window = &ids[ids.len().saturating_sub(BLOCK_SIZE as usize)..];
            let idx = Tensor::from_slice(window).unsqueeze(0).to(self.vs.device()); // (1, T)
            let logits = self.forward(&idx).select(1, -1).squeeze_dim(0); // (1, T, V) → (V)
            let probs = logits.to(Device::Cpu).softmax(-1, Kind::Double); // (V)
            ids.push(rng.pick(&Vec::try_from(probs).expect("one dimension of doubles")) as i64);
        }
        ids
    }
}

/// Trains `model` on random batches and returns its loss on `val`, text that it never saw.
fn fit(
    model: &Model,
    train: &Tensor,
    val: &Tensor,
    steps: usize,
    rng: &mut Rng,
    log: &mut Log,
) -> Result<f64> {
    let mut optimizer = nn::AdamW::default().build(&model.vs, LEARNING_RATE)?;
    for step in 0..steps {
        if step % EVAL_INTERVAL == 0 {
            log.line(step, &[("val", model.evaluate(val))])?;
        }
        let (x, y) = batch(train, rng);
        let loss = model.loss(&x, &y);
        optimizer.backward_step(&loss);
        log.step(loss.double_value(&[]), BATCH_SIZE * BLOCK_SIZE);
    }
    let val_loss = model.evaluate(val);
    log.line(steps, &[("val", val_loss)])?;
    Ok(val_loss)
}

fn lesson() -> Result<()> {
    let args = Args::parse();
    let device = args.lab.device;
    let corpus = Corpus::load(&args.lab, BLOCK_SIZE)?;
    let vocab = Vocab::of(&corpus);
    corpus.expect_alphabet(vocab.size())?; // each character more is paid for in every step
    let prompt = vocab.encode(&args.prompt.unwrap_or(corpus.opening())).context("--prompt")?;
    ensure!(!prompt.is_empty(), "--prompt: give at least one character");
    let train = Tensor::from_slice(&vocab.encode(&corpus.train)?).to(device);
    let val = Tensor::from_slice(&vocab.encode(&corpus.val)?).to(device);
    let steps = args.lab.steps(MAX_STEPS);
    let mut log = Log::new(&args.lab)?;

    let (mut models, mut losses) = (Vec::new(), Vec::new());
    for n_head in N_HEADS {
        tch::manual_seed(args.lab.seed.into());
        let mut rng = Rng::new(args.lab.seed.into());
        let model = Model::new(device, vocab.size(), n_head);
        log.start(&format!("heads: {n_head}"), steps);
        losses.push(fit(&model, &train, &val, steps, &mut rng, &mut log)?);
        lab::print_sample(&vocab.decode(&model.generate(&prompt, SAMPLE, &mut rng)));
        models.push(model);
    }

    proof::print(&models, &losses, &corpus, &args.lab);
    log.finish(corpus.floor(val.numel()))
}

fn main() -> ExitCode {
    lab::run(lesson)
}
