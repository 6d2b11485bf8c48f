// step07_flash_attention: the same attention, without its table of scores
//
// New since step06: one fused operation instead of four, which never holds all T² scores at once.
//
// Run:  cargo run --bin step07_flash_attention
// See:  the same logits and gradients as by hand; the time and the memory of both as sequences grow.

use anyhow::{Context, Result, ensure};
use clap::{Parser, ValueEnum};
use lab::{Corpus, Flags, Log, Rng, Weights, grouped};
use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};
use tch::nn::{self, Module, OptimizerConfig};
use tch::{Device, Kind, Tensor};

#[path = "proofs/step07.rs"]
mod proof;

const MAX_STEPS: usize = 150;
const EVAL_INTERVAL: usize = 25;
const EVAL_BATCHES: usize = 10;
const STD: f64 = 0.02; // of the weights at the start
const END_OF_TEXT: i64 = 50_256; // the token between two documents

/// GPT-2: trains from nothing, or goes on from a checkpoint.
#[derive(Parser)]
struct Args {
    /// How large a model [default: gpt2 on a GPU, tiny without one]
    #[arg(long, conflicts_with = "weights")]
    size: Option<Size>,
    /// GPT-2's weights: a folder from Hugging Face, or a safetensors file
    #[arg(long, value_name = "PATH")]
    weights: Option<PathBuf>,
    #[command(flatten)]
    sampling: Sampling,
    #[command(flatten)]
    lab: Flags,
}

impl Args {
    fn size(&self) -> Size {
        let large = self.lab.device.is_cuda() || self.weights.is_some();
        self.size.unwrap_or(if large { Size::Gpt2 } else { Size::Tiny })
    }

    /// A fresh model, or one with the weights of a checkpoint.
    fn model(&self) -> Result<Gpt> {
        tch::manual_seed(self.lab.seed.into());
        let model = match &self.weights {
            Some(path) => Gpt::from_pretrained(path, self.lab.device)?,
            None => Gpt::new(Config::new(self.size()), self.lab.device),
        };
        Ok(model)
    }

    /// B and T: how many sequences a batch has, and how many tokens each.
    fn batch(&self) -> (i64, i64) {
        match self.size() {
            Size::Tiny => (8, 64),
            _ if self.lab.device.is_cuda() => (16, 1024),
            _ => (4, 64),
        }
    }

    fn learning_rate(&self) -> f64 {
        if self.size() == Size::Tiny { 1e-3 } else { 3e-4 }
    }
}

#[derive(clap::Args)]
struct Sampling {
    /// What the samples begin with; nothing at all begins a new document
    #[arg(long, value_name = "TEXT", default_value = "Once upon a time")]
    prompt: String,
    /// How many samples to write
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=1000))]
    num_samples: u32,
    /// How many tokens to write after the prompt
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u32).range(..=100_000))]
    max_new_tokens: u32,
    /// Below 1 makes likely tokens likelier, above 1 less likely; 0 always takes the likeliest
    #[arg(long, value_name = "X", default_value_t = 1.0, value_parser = temperature)]
    temperature: f64,
    /// Draw from the N likeliest tokens only
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    top_k: u32,
}

fn temperature(text: &str) -> Result<f64> {
    let temperature: f64 = text.parse()?;
    // By a number close to 0, logits are divided into infinite ones.
    let is_usual = (1e-3..=1e3).contains(&temperature);
    ensure!(temperature == 0.0 || is_usual, "choose 0, or a number from 0.001 to 1000");
    Ok(temperature)
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Size {
    /// 4 layers, 128 wide, 64 tokens: learns something on a CPU in a minute
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
    fn new(size: Size) -> Self {
        let (block_size, n_layer, n_head, n_embd) = match size {
            Size::Tiny => (64, 4, 4, 128),
            Size::Gpt2 => (1024, 12, 12, 768),
            Size::Gpt2Medium => (1024, 24, 16, 1024),
            Size::Gpt2Large => (1024, 36, 20, 1280),
            Size::Gpt2Xl => (1024, 48, 25, 1600),
        };
        Self { block_size, vocab_size: 50_257, n_layer, n_head, n_embd }
    }

    /// The standard deviation with which a layer starts that writes into the residual stream. Two
    /// layers a block add to it; with this, 2·n_layer of them add what one alone would.
    fn residual_std(&self) -> f64 {
        STD / (2.0 * self.n_layer as f64).sqrt()
    }

    /// The sizes that a checkpoint's shapes show. The number of heads is in no shape: config.json has
    /// it, and without that file, a head is 64 wide, as in every GPT-2.
    fn of(weights: &Weights) -> Result<Self> {
        let (vocab_size, n_embd) = weights.matrix("wte.weight")?;
        let (block_size, _) = weights.matrix("wpe.weight")?;
        let has_layer = |i: &i64| weights.shape(&format!("h.{i}.ln_1.weight")).is_some();
        let n_layer = (0..).take_while(has_layer).count() as i64;
        let n_head = weights.config("n_head")?.unwrap_or(n_embd / 64);
        let (c, nh) = (n_embd, n_head);
        ensure!(nh > 0 && c % nh == 0, "n_head: {c} numbers do not make {nh} heads of equal width");
        let sizes = [n_embd, n_layer, vocab_size, block_size];
        for (key, size) in ["n_embd", "n_layer", "vocab_size", "n_positions"].into_iter().zip(sizes)
        {
            weights.agrees(key, size)?;
        }
        Ok(Self { block_size, vocab_size, n_layer, n_head, n_embd })
    }

    /// The names and shapes of GPT-2's checkpoint, as OpenAI wrote it: each matrix is (in, out).
    fn checkpoint(&self) -> Vec<(String, Vec<i64>)> {
        let (v, t, c) = (self.vocab_size, self.block_size, self.n_embd);
        let mut shapes = vec![("wte.weight".to_string(), vec![v, c])];
        shapes.push(("wpe.weight".into(), vec![t, c]));
        for i in 0..self.n_layer {
            let layer = [
                ("ln_1.weight", vec![c]),
                ("ln_1.bias", vec![c]),
                ("attn.c_attn.weight", vec![c, 3 * c]),
                ("attn.c_attn.bias", vec![3 * c]),
                ("attn.c_proj.weight", vec![c, c]),
                ("attn.c_proj.bias", vec![c]),
                ("ln_2.weight", vec![c]),
                ("ln_2.bias", vec![c]),
                ("mlp.c_fc.weight", vec![c, 4 * c]),
                ("mlp.c_fc.bias", vec![4 * c]),
                ("mlp.c_proj.weight", vec![4 * c, c]),
                ("mlp.c_proj.bias", vec![c]),
            ];
            shapes.extend(layer.map(|(name, shape)| (format!("h.{i}.{name}"), shape)));
        }
        shapes.extend(["ln_f.weight", "ln_f.bias"].map(|name| (name.into(), vec![c])));
        shapes
    }
}

/// All heads at once: they are one more dimension of the same tensors.
struct CausalSelfAttention {
    c_attn: nn::Linear, // query, key and value of all heads, side by side
    c_proj: nn::Linear,
    n_head: i64,
}

impl CausalSelfAttention {
    fn new(p: nn::Path, config: &Config) -> Self {
        let c = config.n_embd;
        Self {
            c_attn: linear(&p / "c_attn", c, 3 * c, STD),
            c_proj: linear(&p / "c_proj", c, c, config.residual_std()),
            n_head: config.n_head,
        }
    }

    fn forward(&self, x: &Tensor) -> Tensor {
        let (b, t, c) = x.size3().expect("x is (B, T, C)");
        let hs = c / self.n_head;
        let qkv = self.c_attn.forward(x).chunk(3, -1); // (B, T, 3·C) → 3 × (B, T, C)
        let heads = |x: &Tensor| x.view([b, t, self.n_head, hs]).transpose(1, 2); // → (B, nh, T, hs)
        let (q, k, v) = (heads(&qkv[0]), heads(&qkv[1]), heads(&qkv[2]));
        let y = attention(&q, &k, &v); // (B, nh, T, hs)
        let y = y.transpose(1, 2).reshape([b, t, c]); // the heads side by side again
        self.c_proj.forward(&y)
    }
}

/// softmax(q·kᵀ/√hs)·v, with the future masked. All are (B, nh, T, hs).
fn attention(q: &Tensor, k: &Tensor, v: &Tensor) -> Tensor {
    let no_mask = None::<&Tensor>; // of one's own: is_causal masks the future
    let (dropout, is_causal, scale) = (0.0, true, None); // scale: 1/√hs unless given
    Tensor::scaled_dot_product_attention(q, k, v, no_mask, dropout, is_causal, scale, false)
}

struct Mlp {
    c_fc: nn::Linear,
    c_proj: nn::Linear,
}

impl Mlp {
    fn new(p: nn::Path, config: &Config) -> Self {
        let c = config.n_embd;
        Self {
            c_fc: linear(&p / "c_fc", c, 4 * c, STD),
            c_proj: linear(&p / "c_proj", 4 * c, c, config.residual_std()),
        }
    }

    fn forward(&self, x: &Tensor) -> Tensor {
        let x = self.c_fc.forward(x); // (B, T, C) → (B, T, 4·C)
        // GELU is a relu with its corner rounded off; GPT-2 was trained with this approximation of it.
        self.c_proj.forward(&x.gelu("tanh")) // (B, T, 4·C) → (B, T, C)
    }
}

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

    fn forward(&self, x: &Tensor) -> Tensor {
        let x = x + self.attn.forward(&self.ln_1.forward(x)); // (B, T, C)
        &x + self.mlp.forward(&self.ln_2.forward(&x)) // (B, T, C)
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
    let init = nn::Init::Randn { mean: 0.0, stdev: STD };
    nn::embedding(p, n, n_embd, nn::EmbeddingConfig { ws_init: init, ..Default::default() })
}

struct Gpt {
    vs: nn::VarStore,
    config: Config,
    wte: nn::Embedding, // word token embedding, and the matrix that makes the logits
    wpe: nn::Embedding, // word position embedding
    h: Vec<Block>,
    ln_f: nn::LayerNorm,
}

impl Gpt {
    fn new(config: Config, device: Device) -> Self {
        let vs = nn::VarStore::new(device);
        let p = vs.root();
        let (v, c) = (config.vocab_size, config.n_embd);
        Self {
            wte: embedding(&p / "wte", v, c),
            wpe: embedding(&p / "wpe", config.block_size, c),
            h: (0..config.n_layer).map(|i| Block::new(&p / "h" / i, &config)).collect(),
            ln_f: nn::layer_norm(&p / "ln_f", vec![c], Default::default()),
            config,
            vs,
        }
    }

    /// A model with the weights of a checkpoint.
    fn from_pretrained(path: &Path, device: Device) -> Result<Self> {
        let weights = Weights::open(path)?;
        weights.expect_plain_gpt2()?; // config.json may ask for another activation function, say
        let config = Config::of(&weights)?;
        let checkpoint = config.checkpoint();
        weights.expect(&checkpoint)?; // before any memory is taken
        let model = Self::new(config, device);
        let mut parameters = model.vs.variables();
        let _guard = tch::no_grad_guard();
        for (name, shape) in checkpoint {
            let weight = weights.tensor(&name, &shape)?;
            // OpenAI's matrices are (in, out), those of a linear layer (out, in).
            let is_linear = ["c_attn.weight", "c_proj.weight", "c_fc.weight"];
            let turned = is_linear.iter().any(|end| name.ends_with(end));
            let weight = if turned { weight.tr() } else { weight };
            parameters.get_mut(&name).context(name)?.copy_(&weight);
        }
        weights.expect_tied()?; // GPT-2 reads and writes tokens with one matrix
        Ok(model)
    }

    fn forward(&self, idx: &Tensor) -> Tensor {
        let tok_emb = self.wte.forward(idx); // (B, T) → (B, T, C)
        let pos = Tensor::arange(idx.size()[1], (Kind::Int64, idx.device())); // (T)
        let pos_emb = self.wpe.forward(&pos); // (T) → (T, C)
        let mut x = tok_emb + pos_emb; // (B, T, C) + (T, C) → (B, T, C)
        for block in &self.h {
            x = block.forward(&x); // (B, T, C)
        }
        self.ln_f.forward(&x).matmul(&self.wte.ws.tr()) // (B, T, C) × (C, V) → (B, T, V)
    }

    /// Mean cross-entropy in nats per token, a tensor of no dimension.
    fn loss(&self, idx: &Tensor, targets: &Tensor) -> Tensor {
        let logits = self.forward(idx).flatten(0, 1); // (B·T, V)
        logits.cross_entropy_for_logits(&targets.flatten(0, 1)) // (B·T) → ()
    }

    /// The mean loss over the first batches of `val`.
    fn evaluate(&self, val: &mut DataLoader) -> f64 {
        let _guard = tch::no_grad_guard();
        val.position = 0;
        let losses = (0..EVAL_BATCHES).map(|_| {
            let (x, y) = val.next_batch();
            self.loss(&x, &y).double_value(&[])
        });
        losses.sum::<f64>() / EVAL_BATCHES as f64
    }

    /// Several continuations of `prompt`, side by side.
    fn generate(&self, prompt: &[i64], sampling: &Sampling, rng: &mut Rng) -> Vec<Vec<i64>> {
        let _guard = tch::no_grad_guard();
        let prompt = Tensor::from_slice(prompt).to(self.vs.device());
        let mut x = prompt.repeat([sampling.num_samples.into(), 1]); // (B, T)
        for _ in 0..sampling.max_new_tokens {
            let seen = x.size()[1].min(self.config.block_size);
            let logits = self.forward(&x.narrow(1, -seen, seen)).select(1, -1); // (B, V)
            // The tokenizer has no text for an id beyond its own: a token that was added, or padding.
            let logits = logits.narrow(1, 0, self.config.vocab_size.min(END_OF_TEXT + 1));
            x = Tensor::cat(&[x, sample(&logits, sampling, rng)], 1); // (B, T + 1)
        }
        Vec::try_from(x).expect("two dimensions of integers")
    }
}

/// Draws a token for each row of logits, (B, V) → (B, 1), from the `top_k` likeliest.
fn sample(logits: &Tensor, sampling: &Sampling, rng: &mut Rng) -> Tensor {
    lab::expect_finite(logits); // the likeliest of numbers that are NaN would be token 0, a "!"
    if sampling.temperature == 0.0 {
        return logits.argmax(-1, true); // (B, 1)
    }
    let k = i64::from(sampling.top_k).min(logits.size()[1]);
    let (logits, ids) = (logits / sampling.temperature).topk(k, -1, true, true); // (B, k) each
    let probs = logits.to(Device::Cpu).softmax(-1, Kind::Double); // (B, k)
    let probs = Vec::<Vec<f64>>::try_from(probs).expect("two dimensions of doubles");
    let drawn: Vec<i64> = probs.iter().map(|row| rng.pick(row) as i64).collect();
    let drawn = Tensor::from_slice(&drawn).unsqueeze(1).to(ids.device()); // (B, 1): places among k
    ids.gather(-1, &drawn, false) // (B, 1)
}

/// GPT-2's tokenizer, ready made: step04 shows what is in it.
struct Tokenizer(tiktoken_rs::CoreBPE);

impl Tokenizer {
    fn gpt2() -> Result<Self> {
        Ok(Self(tiktoken_rs::r50k_base()?))
    }

    fn encode(&self, text: &str) -> Vec<i64> {
        self.0.encode_with_special_tokens(text).into_iter().map(i64::from).collect()
    }

    /// A token may end inside a character; the broken character becomes �.
    fn decode(&self, ids: &[i64]) -> Result<String> {
        let ids: Vec<u32> = ids.iter().map(|&id| id as u32).collect();
        Ok(String::from_utf8_lossy(&self.0.decode_bytes(&ids)?).into_owned())
    }
}

/// Hands out tokens in order, B·T at a time, and begins again when they are used up.
struct DataLoader {
    tokens: Tensor, // on the device, all of them
    batch_size: i64,
    sequence_length: i64,
    position: i64,
}

impl DataLoader {
    fn new(tokens: Tensor, batch_size: i64, sequence_length: i64) -> Result<Self> {
        let (n, needed) = (tokens.size()[0], batch_size * sequence_length + 1);
        ensure!(
            n >= needed,
            "a batch needs {needed} tokens, a part of the corpus has {n}: take more text"
        );
        Ok(Self { tokens, batch_size, sequence_length, position: 0 })
    }

    /// What the model sees, and, one token further on, what it should say. Both are (B, T).
    fn next_batch(&mut self) -> (Tensor, Tensor) {
        let (b, t) = (self.batch_size, self.sequence_length);
        if self.position + b * t >= self.tokens.size()[0] {
            self.position = 0;
        }
        let cut = |from| self.tokens.narrow(0, from, b * t).view([b, t]);
        let batch = (cut(self.position), cut(self.position + 1));
        self.position += b * t;
        batch
    }
}

/// Trains `model` and returns its loss on `val`, text that it never saw.
fn fit(
    model: &Gpt,
    [train, val]: [&mut DataLoader; 2],
    steps: usize,
    learning_rate: f64,
    log: &mut Log,
) -> Result<f64> {
    let mut optimizer = nn::AdamW::default().build(&model.vs, learning_rate)?;
    for step in 0..steps {
        if step % EVAL_INTERVAL == 0 {
            log.line(step, &[("val", model.evaluate(val))])?;
        }
        let (x, y) = train.next_batch();
        let loss = model.loss(&x, &y);
        optimizer.backward_step(&loss);
        log.step(loss.double_value(&[]), x.numel() as i64);
    }
    let val_loss = model.evaluate(val);
    log.line(steps, &[("val", val_loss)])?;
    Ok(val_loss)
}

/// Prints samples of what the model writes.
fn write(model: &Gpt, tokenizer: &Tokenizer, args: &Args) -> Result<()> {
    let mut prompt = tokenizer.encode(&args.sampling.prompt);
    if prompt.is_empty() {
        prompt.push(END_OF_TEXT);
    }
    let mut rng = Rng::new(args.lab.seed.into());
    let samples = model.generate(&prompt, &args.sampling, &mut rng);
    for (i, ids) in samples.iter().enumerate() {
        println!("\n--- sample {}\n{}", i + 1, lab::printable(&tokenizer.decode(ids)?));
    }
    println!("---\n");
    Ok(())
}

fn lesson() -> Result<()> {
    let args = Args::parse();
    let mut log = Log::new(&args.lab)?;
    let corpus = Corpus::load(&args.lab, 1)?;
    let tokenizer = Tokenizer::gpt2()?;

    let model = args.model()?;
    if let Some(path) = &args.weights {
        lab::expect_gpt2_tokens(path, model.config.vocab_size)?;
    }
    let parameters = model.vs.trainable_variables().iter().map(|p| p.numel() as i64).sum();
    println!("{:?}\n{} parameters, {:?}", model.config, grouped(parameters), args.lab.device);
    let (b, t) = args.batch();
    let t = t.min(model.config.block_size);
    let tokens = |text: &str| Tensor::from_slice(&tokenizer.encode(text)).to(args.lab.device);
    let mut train = DataLoader::new(tokens(&corpus.train), b, t)?;
    let mut val = DataLoader::new(tokens(&corpus.val), b, t)?;
    let floor = corpus.floor(val.tokens.numel());
    let loss_at_init = model.evaluate(&mut val);
    let learning_rate = args.learning_rate();
    let steps = args.lab.steps(MAX_STEPS);
    log.start("flash attention", steps);
    let val_loss = fit(&model, [&mut train, &mut val], steps, learning_rate, &mut log)?;
    write(&model, &tokenizer, &args)?;
    proof::print(&model, [loss_at_init, val_loss], floor, &mut val, &args.lab)?;
    log.finish(floor)
}

fn main() -> ExitCode {
    lab::run(lesson)
}
