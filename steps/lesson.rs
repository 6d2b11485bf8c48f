// step14_checkpoint: stop, and go on
//
// New since step13: all that the next step depends on is written to disk before each evaluation: weights, the
// optimizer's means, the place in the text, the state of the random numbers. A run that was stopped, by
// Ctrl-C or by a power cut, goes on with --resume and ends with the same weights, bit for bit.
//
// Run:  cargo run --bin step14_checkpoint
//       Ctrl-C, and cargo run --bin step14_checkpoint -- --resume
// See:  10 steps at once, and 5 with a checkpoint and 5 more by another model and optimizer, give the same
//       bits; without any one part of the checkpoint they do not.

use anyhow::{Result, ensure};
use clap::Parser;
use lab::{
    BatchFlags, CheckpointFlags, Checkpoints, DataFlags, Flags, Gpt2Sizes, Log, ModelFlags,
    Precision, Prefetch, Question, QuestionFlags, RankFlags, Reducer, Rng, Sampling, Shards, Size,
    Tokenizer, Weights, World,
};
use serde::{Deserialize, Serialize};
use std::{f64::consts::PI, path::Path, process::ExitCode};
use tch::nn::{self, Module};
use tch::{Device, IndexOp, Kind, Reduction, Tensor};
use tch_ext::optim::{FusedAdamW, clear_grads};
use tch_ext::random;

#[path = "proofs/step14.rs"]
mod proof;

const INIT_STD: f64 = 0.02; // standard deviation of the initial weights
const WARMUP_STEPS: usize = 40;
const BETAS: (f64, f64) = (0.9, 0.95);
const WEIGHT_DECAY: f64 = 0.1;
const MAX_NORM: f64 = 1.0;
const EVAL_INTERVAL: usize = 100;
const EVAL_SEQUENCES: i64 = 10_000; // at most; the fables' validation split has fewer
const QUESTION_INTERVAL: usize = 200;
const SAMPLE_INTERVAL: usize = 300;

/// All heads at once: they are one more dimension of the same tensors.
#[derive(Debug)]
struct CausalSelfAttention {
    c_attn: nn::Linear, // query, key and value of all heads, side by side
    c_proj: nn::Linear,
    n_head: i64,
}

impl CausalSelfAttention {
    fn new(p: nn::Path, config: &Config) -> Self {
        let c = config.n_embd;
        Self {
            c_attn: linear(&p / "c_attn", c, 3 * c, INIT_STD),
            c_proj: linear(&p / "c_proj", c, c, config.residual_std()),
            n_head: config.n_head,
        }
    }
}

impl Module for CausalSelfAttention {
    fn forward(&self, x: &Tensor) -> Tensor {
        let (b, t, c) = x.size3().expect("x is (B, T, C)");
        let hs = c / self.n_head;
        let heads = |x: &Tensor| x.view([b, t, self.n_head, hs]).transpose(1, 2); // → (B, nh, T, hs)
        let qkv = x.apply(&self.c_attn).chunk(3, -1); // (B, T, 3·C) → 3 × (B, T, C)
        let y = attention(&heads(&qkv[0]), &heads(&qkv[1]), &heads(&qkv[2])); // (B, nh, T, hs)
        let y = y.transpose(1, 2).reshape([b, t, c]); // the heads side by side again
        y.apply(&self.c_proj)
    }
}

/// softmax(q·kᵀ/√hs)·v, with the future masked. All are (B, nh, T, hs).
fn attention(q: &Tensor, k: &Tensor, v: &Tensor) -> Tensor {
    // Block by block, so that no (T, T) tensor is ever stored.
    let (no_mask, dropout, is_causal) = (None::<&Tensor>, 0.0, true); // the mask is in is_causal
    let (scale, enable_gqa) = (None, false); // None: 1/√hs
    Tensor::scaled_dot_product_attention(q, k, v, no_mask, dropout, is_causal, scale, enable_gqa)
}

#[derive(Debug)]
struct Mlp {
    c_fc: nn::Linear,
    c_proj: nn::Linear,
}

impl Mlp {
    fn new(p: nn::Path, config: &Config) -> Self {
        let c = config.n_embd;
        Self {
            c_fc: linear(&p / "c_fc", c, 4 * c, INIT_STD),
            c_proj: linear(&p / "c_proj", 4 * c, c, config.residual_std()),
        }
    }
}

impl Module for Mlp {
    fn forward(&self, x: &Tensor) -> Tensor {
        let x = x.apply(&self.c_fc); // (B, T, C) → (B, T, 4·C)
        // GELU is a relu with its corner rounded off; GPT-2 was trained with this approximation of it.
        x.gelu("tanh").apply(&self.c_proj) // (B, T, 4·C) → (B, T, C)
    }
}

/// Talk, then think; each adds to the stream.
#[derive(Debug)]
struct Block {
    ln_1: nn::LayerNorm,
    attn: CausalSelfAttention,
    ln_2: nn::LayerNorm,
    mlp: Mlp,
}

impl Block {
    fn new(p: nn::Path, config: &Config) -> Self {
        Self {
            ln_1: nn::layer_norm(&p / "ln_1", vec![config.n_embd], Default::default()),
            attn: CausalSelfAttention::new(&p / "attn", config),
            ln_2: nn::layer_norm(&p / "ln_2", vec![config.n_embd], Default::default()),
            mlp: Mlp::new(&p / "mlp", config),
        }
    }
}

impl Module for Block {
    fn forward(&self, x: &Tensor) -> Tensor {
        let x = x + x.apply(&self.ln_1).apply(&self.attn); // (B, T, C)
        &x + x.apply(&self.ln_2).apply(&self.mlp) // (B, T, C)
    }
}

/// A linear layer that starts as GPT-2's do: weights from N(0, std²), biases 0.
fn linear(p: nn::Path, fan_in: i64, fan_out: i64, std: f64) -> nn::Linear {
    let ws_init = nn::Init::Randn { mean: 0.0, stdev: std };
    let config = nn::LinearConfig { ws_init, bs_init: Some(nn::Init::Const(0.0)), bias: true };
    nn::linear(p, fan_in, fan_out, config)
}

/// A table of n vectors, one for each id, that starts as GPT-2's do.
fn embedding(p: nn::Path, n: i64, n_embd: i64) -> nn::Embedding {
    let ws_init = nn::Init::Randn { mean: 0.0, stdev: INIT_STD };
    nn::embedding(p, n, n_embd, nn::EmbeddingConfig { ws_init, ..Default::default() })
}

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
        // Rounded up to a multiple of 128, since hardware cuts a matrix into even blocks: 50,257 → 50,304.
        let vocab_size = (vocab_size + 127) / 128 * 128;
        Self { block_size, vocab_size, n_layer, n_head, n_embd }
    }

    /// The standard deviation of the initial weights in layers that write into the residual stream. Each
    /// block has two; scaled like this, all 2·n_layer together add the variance of one.
    fn residual_std(&self) -> f64 {
        INIT_STD / (2.0 * self.n_layer as f64).sqrt()
    }
}

struct Gpt {
    vs: nn::VarStore, // holds the parameters, under their names
    config: Config,
    precision: Precision, // of the matrix products in a loss
    wte: nn::Embedding,   // word token embedding, and the matrix that makes the logits
    wpe: nn::Embedding,   // word position embedding
    h: Vec<Block>,
    ln_f: nn::LayerNorm,
}

impl Gpt {
    fn new(config: Config, device: Device) -> Self {
        let vs = nn::VarStore::new(device);
        let p = vs.root(); // p / "x" is the place of a parameter called x
        let (v, c) = (config.vocab_size, config.n_embd);
        Self {
            wte: embedding(&p / "wte", v, c),
            wpe: embedding(&p / "wpe", config.block_size, c),
            h: (0..config.n_layer).map(|i| Block::new(&p / "h" / i, &config)).collect(),
            ln_f: nn::layer_norm(&p / "ln_f", vec![c], Default::default()),
            precision: Precision::Float32,
            config,
            vs,
        }
    }

    /// A model with the weights of a checkpoint. The lab now reads them as step05 does.
    fn from_pretrained(path: &Path, device: Device) -> Result<Self> {
        let weights = Weights::open(path)?;
        let Gpt2Sizes { block_size, vocab_size, n_layer, n_head, n_embd } = weights.gpt2_sizes()?;
        let model = Self::new(Config { block_size, vocab_size, n_layer, n_head, n_embd }, device);
        weights.copy_to(&model.vs)?;
        Ok(model)
    }

    fn forward(&self, idx: &Tensor) -> Tensor {
        let pos = Tensor::arange(idx.size()[1], (Kind::Int64, idx.device())); // (T)
        let tok_emb = idx.apply(&self.wte); // (B, T) → (B, T, C)
        let pos_emb = pos.apply(&self.wpe); // (T) → (T, C)
        let mut x = tok_emb + pos_emb; // (B, T, C) + (T, C) → (B, T, C)
        for block in &self.h {
            x = x.apply(block); // (B, T, C)
        }
        x.apply(&self.ln_f).matmul(&self.wte.ws.tr()) // × wteᵀ: (B, T, C) × (C, V) → (B, T, V)
    }

    /// Mean cross-entropy in nats per token, a scalar tensor.
    fn loss(&self, idx: &Tensor, targets: &Tensor) -> Tensor {
        // Products in bfloat16, the cross-entropy in float32; backward follows.
        self.precision.autocast(self.vs.device(), || {
            let logits = self.forward(idx).flatten(0, 1); // (B·T, V)
            logits.cross_entropy_for_logits(&targets.flatten(0, 1)) // (B·T) → ()
        })
    }

    /// The cross-entropy of each target in nats: (B, T).
    fn losses(&self, idx: &Tensor, targets: &Tensor) -> Tensor {
        self.precision.autocast(self.vs.device(), || {
            let logits = self.forward(idx).transpose(1, 2); // (B, T, V) → (B, V, T): classes second
            logits.cross_entropy_loss::<Tensor>(targets, None, Reduction::None, -100, 0.0)
        })
    }

    /// The loss of each sequence of the split, of which the ranks take B each in turn. (The last tokens of the
    /// split may not fill a sequence.)
    fn evaluate(&self, val: &DataLoader, world: &World) -> Result<Vec<f64>> {
        let _guard = tch::no_grad_guard();
        let (b, t) = (val.batch_size, val.sequence_length);
        let sequences = EVAL_SEQUENCES.min((val.stream.shards.total() - 1) / t);
        let mut losses = Vec::new();
        for first in (world.rank * b..sequences).step_by((world.size * b) as usize) {
            let b = b.min(sequences - first);
            let (x, y) = val.batch(&val.stream.read(first * t, b * t + 1)?, b);
            let of_sequences = self.losses(&x, &y).mean_dim(-1, false, Kind::Float); // (b, T) → (b)
            losses.extend(Vec::<f64>::try_from(of_sequences)?);
        }
        world.gather(&losses)
    }

    /// How many questions the model answers rightly, of which each rank takes its share: by the ending whose
    /// tokens it finds likeliest on average.
    fn hellaswag(
        &self,
        questions: &[Question],
        tokenizer: &Tokenizer,
        world: &World,
    ) -> Result<usize> {
        let mut right = 0.0;
        for question in questions.iter().skip(world.rank as usize).step_by(world.size as usize) {
            let (tokens, mask) = render(question, tokenizer, self.config.block_size as usize);
            let (_, means) = self.score(&tokens, &mask);
            right += f64::from(means.argmin(0, false).int64_value(&[]) == question.label as i64);
        }
        Ok(world.gather(&[right])?.iter().sum::<f64>() as usize)
    }

    /// The cross-entropy of the tokens that `mask` marks, in nats: their sum and their mean in each row of
    /// (4, N) → (4).
    fn score(&self, tokens: &Tensor, mask: &Tensor) -> (Tensor, Tensor) {
        let _guard = tch::no_grad_guard();
        let n = tokens.size()[1] - 1; // predictions
        let part = |x: &Tensor, from| x.narrow(1, from, n).to(self.vs.device());
        let (x, y, mask) = (part(tokens, 0), part(tokens, 1), part(mask, 1));
        let sum = |x: &Tensor| x.sum_dim_intlist(-1, false, Kind::Float); // (4, N) → (4)
        let sums = sum(&(self.losses(&x, &y) * &mask));
        let means = &sums / sum(&mask);
        (sums, means)
    }

    /// Several continuations of a prompt, side by side: (B, T + n). Draws from the first `n_vocab`
    /// tokens, since a model may have more than its tokenizer has text for.
    fn generate(&self, prompt: &[i64], n_vocab: i64, sampling: &Sampling, rng: &mut Rng) -> Tensor {
        let _guard = tch::no_grad_guard();
        let prompt = Tensor::from_slice(prompt).to(self.vs.device());
        let mut x = prompt.repeat([sampling.num_samples, 1]); // (B, T)
        for _ in 0..sampling.max_new_tokens {
            let seen = x.size()[1].min(self.config.block_size);
            let logits = self.forward(&x.narrow(1, -seen, seen)); // x[:, -seen:] → (B, seen, V)
            let next = sample(&logits.i((.., -1, ..n_vocab)), sampling, rng); // [:, -1, :n_vocab] → (B, 1)
            x = Tensor::cat(&[x, next], 1); // (B, T + 1)
        }
        x
    }
}

/// Draws a token for each row of logits, (B, V) → (B, 1), from the `top_k` likeliest.
fn sample(logits: &Tensor, sampling: &Sampling, rng: &mut Rng) -> Tensor {
    let (k, temperature) = match sampling.temperature {
        0.0 => (1, 1.0), // the likeliest alone
        temperature => (sampling.top_k.min(logits.size()[1]), temperature),
    };
    let (logits, ids) = (logits / temperature).topk(k, -1, true, true); // largest first: (B, k) each
    let probs = logits.softmax(-1, Kind::Float); // (B, k)
    let drawn = rng.multinomial(&probs); // (B, 1): places among the k
    ids.gather(-1, &drawn, false) // (B, 1)
}

/// A question's context with each of its endings, filled up with zeros, and which tokens are the ending's, as
/// 1 and 0: (4, N) each. Of a context that is too long for a model the end is taken.
fn render(question: &Question, tokenizer: &Tokenizer, block_size: usize) -> (Tensor, Tensor) {
    let ctx = tokenizer.encode(&question.ctx);
    let mut endings =
        question.endings.each_ref().map(|ending| tokenizer.encode(&format!(" {ending}")));
    endings.iter_mut().for_each(|ending| ending.truncate(block_size));
    let longest = endings.iter().map(Vec::len).max().unwrap_or(0);
    let ctx = &ctx[ctx.len().saturating_sub(block_size + 1 - longest)..]; // the last token is only predicted
    let n = ctx.len() + longest;
    let (mut tokens, mut mask) = (Vec::new(), Vec::new());
    for ending in &endings {
        let padding = vec![0; n - ctx.len() - ending.len()];
        tokens.extend([ctx, ending, &padding].concat());
        mask.extend([&vec![0; ctx.len()][..], &vec![1; ending.len()], &padding].concat());
    }
    (Tensor::from_slice(&tokens).view([4, -1]), Tensor::from_slice(&mask).view([4, -1]))
}

/// The tokens of all epochs, one after the other without an end. A document that a shard's end cuts goes on in
/// another place.
#[derive(Clone)]
struct Stream {
    shards: Shards,
    seed: Option<u64>, // shuffles the shards, anew in each epoch; None leaves them in order
}

impl Stream {
    /// The order in which an epoch reads the shards, the same on all ranks.
    fn order(&self, epoch: i64) -> Vec<usize> {
        match self.seed {
            Some(seed) => Rng::new(seed + epoch as u64).randperm(self.shards.len()),
            None => (0..self.shards.len()).collect(),
        }
    }

    /// The `n` tokens from a place of the stream on, of as many shards and epochs as it takes.
    fn read(&self, from: i64, n: i64) -> Result<Vec<i64>> {
        let total = self.shards.total();
        let mut tokens = Vec::new();
        while (tokens.len() as i64) < n {
            let (place, left) = (from + tokens.len() as i64, n - tokens.len() as i64);
            let order = self.order(place / total);
            tokens.extend(self.shards.read(&order, place % total, left)?); // fewer at the epoch's end
        }
        Ok(tokens)
    }
}

/// Hands out the tokens of a stream in order, b·T at a time to each rank.
struct DataLoader {
    stream: Stream,
    ahead: Prefetch<(i64, i64), Result<Vec<i64>>>, // the next batch, read while the model computes
    device: Device,
    batch_size: i64,
    sequence_length: i64,
    rank: i64,
    world_size: i64,
    position: i64, // how many tokens all ranks have had
}

impl DataLoader {
    fn new(stream: Stream, b: i64, t: i64, device: Device, world: &World) -> Self {
        let (rank, world_size, position, ahead) = (world.rank, world.size, 0, Prefetch::new());
        let (batch_size, sequence_length) = (b, t);
        Self { stream, ahead, device, batch_size, sequence_length, rank, world_size, position }
    }

    /// What the model sees, and, one token further on, what it should say: (b, T), b ≤ B.
    fn next_batch(&mut self, b: i64) -> Result<(Tensor, Tensor)> {
        let t = self.sequence_length;
        let (from, n) = (self.position + self.rank * b * t, b * t + 1); // side by side, and none overlaps
        let tokens = match self.ahead.take((from, n)) {
            Some(tokens) => tokens?,
            None => self.stream.read(from, n)?, // at first, or where another was expected
        };
        self.position += self.world_size * b * t;
        let (stream, next) = (self.stream.clone(), from + self.world_size * b * t);
        self.ahead.begin((next, n), move || stream.read(next, n));
        Ok(self.batch(&tokens, b))
    }

    /// b·T + 1 tokens as a batch.
    fn batch(&self, tokens: &[i64], b: i64) -> (Tensor, Tensor) {
        let t = self.sequence_length;
        let tokens = Tensor::from_slice(tokens).to(self.device);
        let x = tokens.narrow(0, 0, b * t).view([b, t]);
        let y = tokens.narrow(0, 1, b * t).view([b, t]);
        (x, y)
    }
}

/// Scales the gradients down to a norm of MAX_NORM, all of them as one vector. Returns the norm before.
fn clip_grad_norm(parameters: &[Tensor]) -> f64 {
    let grads: Vec<Tensor> = parameters.iter().map(Tensor::grad).collect();
    let norms: Vec<Tensor> = grads.iter().map(Tensor::norm).collect();
    let norm = Tensor::stack(&norms, 0).norm().double_value(&[]);
    if norm > MAX_NORM {
        for mut grad in grads {
            grad *= MAX_NORM / norm; // in place: it is the parameter's own
        }
    }
    norm
}

/// The learning rate of a step rises linearly to `max_lr`, then falls along half a cosine to a tenth of it.
fn get_lr(step: usize, steps: usize, max_lr: f64) -> f64 {
    let warmup = WARMUP_STEPS.min(steps / 2); // half of a short run
    if step <= warmup {
        return max_lr * (step as f64 / warmup as f64);
    }
    let progress = (step - warmup) as f64 / (steps - warmup) as f64; // 0 … 1
    let cosine = 0.5 * (1.0 + (PI * progress).cos()); // 1 … 0
    max_lr * (0.1 + 0.9 * cosine)
}

/// Leaves the gradient of the mean loss over the ranks' next `sequences` in the parameters, computed in
/// micro-batches of B sequences, the last of which may be smaller. Returns this rank's loss.
fn accumulate_grads(
    model: &Gpt,
    train: &mut DataLoader,
    sequences: i64,
    reducer: &Reducer,
) -> Result<f64> {
    let mut loss = 0.0;
    let mut left = sequences;
    while left > 0 {
        let b = left.min(train.batch_size);
        let (x, y) = train.next_batch(b)?;
        // A mean over b sequences; weighted by b / sequences, all of them add up to the mean of the batch.
        let share = b as f64 / sequences as f64;
        let micro_loss = model.loss(&x, &y) * share;
        if left == b {
            reducer.average_next_backward(); // the last one; the others stay on this rank
        }
        micro_loss.backward(); // grad += …
        loss += micro_loss.double_value(&[]);
        left -= b;
    }
    Ok(loss)
}

/// How a model of some size is trained.
#[derive(Debug)]
struct Recipe {
    total_batch_size: i64, // tokens that a step of the optimizer sees, of all ranks
    batch_size: i64,       // B: sequences that a rank computes at once
    sequence_length: i64,  // T
    max_steps: usize,
    learning_rate: f64,
}

impl Recipe {
    fn new(size: Size, device: Device) -> Self {
        let (total_batch_size, batch_size, sequence_length, max_steps, learning_rate) = match size {
            Size::Tiny => (1024, 4, 128, 800, 3e-3), // 2 × 4 × 128: step09's batch
            _ if device.is_cuda() => (524_288, 16, 1024, 50, 6e-4), // 32 × 16 × 1,024: half a million
            _ => (1024, 4, 64, 20, 6e-4),                           // and on a CPU
        };
        Self { total_batch_size, batch_size, sequence_length, max_steps, learning_rate }
    }
}

/// What a model is judged by while it trains.
struct Exam {
    val: DataLoader, // text that it never learns from
    questions: Vec<Question>,
    tokenizer: Tokenizer,
    sampling: Sampling,
    seed: u64,
}

impl Exam {
    fn hold(&self, model: &Gpt, step: usize, world: &World, log: &mut Log) -> Result<()> {
        log.validation(step, &model.evaluate(&self.val, world)?)?;
        if step.is_multiple_of(QUESTION_INTERVAL) {
            let right = model.hellaswag(&self.questions, &self.tokenizer, world)?;
            log.accuracy(step, right, self.questions.len())?;
        }
        if step > 0 && step.is_multiple_of(SAMPLE_INTERVAL) {
            self.print_samples(model);
        }
        Ok(())
    }

    fn print_samples(&self, model: &Gpt) {
        let (prompt, n_vocab) = (self.sampling.prompt(&self.tokenizer), self.tokenizer.n_vocab());
        let mut rng = Rng::new(self.seed);
        let samples = model.generate(&prompt, n_vocab, &self.sampling, &mut rng);
        lab::print_samples(&self.tokenizer, &samples);
    }
}

/// Where a training stands, besides its tensors.
#[derive(Deserialize, Serialize)]
struct State {
    step: usize,   // steps taken
    position: i64, // tokens read
}

/// Every tensor that the next step depends on, by name: the weights, the optimizer's means, and each rank's
/// state of the random numbers. Writing into one changes the model or the optimizer; only the last is a copy.
fn tensors(model: &Gpt, optimizer: &FusedAdamW, world: &World) -> Result<Vec<(String, Tensor)>> {
    let mut tensors: Vec<_> = model.vs.variables().into_iter().collect();
    tensors.sort_by(|a, b| a.0.cmp(&b.0)); // they come in another order each time
    tensors.extend(optimizer.state());
    let random = world.all_gather(&random::state(model.vs.device())?)?; // (ranks, bytes)
    tensors.push(("random".into(), random));
    Ok(tensors)
}

/// Puts back what the newest checkpoint holds, on all ranks what rank 0 reads. Returns how many steps it has taken.
fn restore(
    checkpoints: &Checkpoints,
    model: &Gpt,
    optimizer: &mut FusedAdamW,
    train: &mut DataLoader,
    world: &World,
    log: &mut Log,
) -> Result<usize> {
    let tensors = tensors(model, optimizer, world)?;
    let state = world.share(|| checkpoints.restore::<State>(&tensors, log))?;
    let tensors: Vec<Tensor> = tensors.into_iter().map(|(_, tensor)| tensor).collect();
    world.broadcast(&tensors)?;
    let random = tensors.last().expect("the random numbers' state").get(world.rank);
    random::set_state(model.vs.device(), &random)?;
    optimizer.set_steps(state.step as i64);
    train.position = state.position;
    Ok(state.step)
}

/// Trains `model`, from a checkpoint on if there is one to go on with. Saves one and holds an exam every
/// EVAL_INTERVAL steps.
fn fit(
    model: &Gpt,
    train: &mut DataLoader,
    exam: &Exam,
    recipe: &Recipe,
    world: &World,
    checkpoints: &Checkpoints,
    log: &mut Log,
) -> Result<()> {
    let parameters = model.vs.trainable_variables();
    world.broadcast(&parameters)?; // all begin with rank 0's
    let reducer = world.reducer(&parameters)?;
    // Matrices and tables decay; biases and the gains of layer norms, which are vectors, do not.
    let weight_decay = |p: &Tensor| if p.dim() >= 2 { WEIGHT_DECAY } else { 0.0 };
    let mut optimizer = FusedAdamW::new(&parameters, BETAS, weight_decay);
    let sequences = recipe.total_batch_size / train.sequence_length / world.size; // of this rank
    let first = match checkpoints.resume() {
        true => restore(checkpoints, model, &mut optimizer, train, world, log)?,
        false => 0,
    };
    let is_due = |step: usize| step.is_multiple_of(EVAL_INTERVAL) || step == recipe.max_steps;
    if is_due(first) {
        exam.hold(model, first, world, log)?;
    }
    for step in first + 1..=recipe.max_steps {
        let lr = get_lr(step, recipe.max_steps, recipe.learning_rate);
        let loss = world.mean(accumulate_grads(model, train, sequences, &reducer)?)?;
        let norm = clip_grad_norm(&parameters);
        optimizer.step(lr)?;
        clear_grads(&parameters)?; // None, as zero_grad(set_to_none=True)
        log.step(loss, recipe.total_batch_size);
        if is_due(step) {
            log.line(step, &[("lr", lr), ("norm", norm)])?;
        }
        let interrupted = world.any(lab::interrupted())?; // by Ctrl-C, on any rank
        if is_due(step) || checkpoints.is_due(step) || interrupted {
            let state = State { step, position: train.position };
            checkpoints.save(step, &state, &tensors(model, &optimizer, world)?, log)?;
        }
        ensure!(!interrupted, "stopped after step {step}; the same command with --resume goes on");
        if is_due(step) {
            exam.hold(model, step, world, log)?; // after saving: it may run out of memory
        }
    }
    Ok(())
}

/// GPT-2: trains from nothing, or goes on from a checkpoint.
#[derive(Parser)]
struct Args {
    #[command(flatten)]
    model: ModelFlags,
    #[command(flatten)]
    data: DataFlags,
    /// How to multiply matrices [default: bfloat16 where the hardware is fast at it, else float32]
    #[arg(long)]
    precision: Option<Precision>,
    #[command(flatten)]
    batch: BatchFlags,
    #[command(flatten)]
    ranks: RankFlags,
    #[command(flatten)]
    checkpoint: CheckpointFlags,
    #[command(flatten)]
    questions: QuestionFlags,
    #[command(flatten)]
    sampling: Sampling,
    #[command(flatten)]
    lab: Flags,
}

fn lesson() -> Result<()> {
    let args = Args::parse();
    if args.ranks.launch()? {
        return Ok(()); // this process has started the ranks, and they are done
    }
    let world = args.ranks.join(&args.lab)?;
    let (device, size) = (args.lab.device, args.model.size(args.lab.device));
    let mut log = Log::new(&args.lab)?;
    let tokenizer = args.model.tokenizer(device)?;
    let train = args.data.shards("train", &args.lab, &tokenizer)?;
    let val = args.data.shards("val", &args.lab, &tokenizer)?;
    log.chars_per_token = val.chars_per_token().unwrap_or(1.0); // not known of others' shards
    let floor = val.floor();

    tch::manual_seed(args.lab.seed.into());
    let mut model = match &args.model.weights {
        Some(path) => Gpt::from_pretrained(path, device)?,
        None => Gpt::new(Config::new(size, tokenizer.n_vocab()), device),
    };
    model.precision = Precision::choose(args.precision, device)?;
    println!("{:?}", model.config);
    log.parameters(&model.vs);

    let mut recipe = Recipe::new(size, device);
    recipe.max_steps = args.lab.steps(recipe.max_steps);
    recipe.sequence_length = recipe.sequence_length.min(model.config.block_size);
    recipe.total_batch_size = args.batch.total_batch_size.unwrap_or(recipe.total_batch_size);
    recipe.batch_size = args.batch.batch_size.unwrap_or(recipe.batch_size);
    println!("{recipe:#?}\nranks: {}", world.size);
    let (seed, ranks, tokens) = (args.lab.seed, world.size, train.total());
    let settings = format!(
        "{:?}, {recipe:?}, precision: {:?}, seed: {seed}, ranks: {ranks}, tokens: {tokens}",
        model.config, model.precision
    );
    world.agree(&settings)?;
    let checkpoints = Checkpoints::new(&args.checkpoint, &log, &settings)?;
    let (b, t) = (recipe.batch_size, recipe.sequence_length);
    let (total, unit) = (recipe.total_batch_size, t * world.size);
    ensure!(
        total % unit == 0,
        "--total-batch-size {total}: take a multiple of {unit}, a whole sequence a rank"
    );
    let train = Stream { shards: train, seed: Some(args.lab.seed.into()) };
    let val = Stream { shards: val, seed: None };
    let mut train = DataLoader::new(train, b, t, device, &world);
    let exam = Exam {
        val: DataLoader::new(val, b, t, device, &world),
        questions: lab::questions(&args.questions)?,
        tokenizer,
        sampling: args.sampling.clone(),
        seed: args.lab.seed.into(), // the same dice at each exam
    };
    println!("precision: {:?}", model.precision);
    if size == Size::Gpt2 {
        // What OpenAI's checkpoint reaches, as build-nanogpt's notebook has it.
        log.reference("val", "GPT-2 on FineWeb-Edu", 3.2924);
        log.reference("hellaswag", "GPT-2 on HellaSwag", 0.294463);
    }
    log.start("training", recipe.max_steps);
    fit(&model, &mut train, &exam, &recipe, &world, &checkpoints, &mut log)?;

    exam.print_samples(&model);
    proof::print(&model, &mut train, &world, &args, &log)?;
    log.finish(floor)
}

fn main() -> ExitCode {
    lab::run(lesson)
}
