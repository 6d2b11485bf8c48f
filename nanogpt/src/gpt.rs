//! The model: GPT-2, with nanoGPT's options.

use crate::precision::Precision;
use anyhow::{Result, ensure};
use lab::{Gpt2Sizes, Weights, grouped};
use serde::{Deserialize, Serialize};
use std::path::Path;
use tch::{
    Device, IndexOp, Kind, Reduction, Tensor,
    nn::{self, Init, VarStore},
};

/// Standard deviation of GPT-2's initial weights.
const INIT_STD: f64 = 0.02;

/// No size of a model is larger.
const MOST: i64 = 1 << 24;

/// The slowest pair of numbers of a head turns once in 2π times as many places.
const ROPE_BASE: f64 = 10_000.0;

/// A vocabulary of as many tokens has 65,536 pairs. All rows of their table have a gradient, and AdamW goes through all of
/// them at each step, also through those of pairs that no batch has.
const MOST_BIGRAM_TOKENS: i64 = 256;

/// The sizes of a model.
///
/// ```
/// use nanogpt::{Gpt, GptConfig};
///
/// let config = GptConfig { n_layer: 2, n_head: 2, n_embd: 64, ..GptConfig::default() };
/// let model = Gpt::new(&config, tch::Device::Cpu).unwrap();
/// let idx = tch::Tensor::from_slice2(&[[1i64, 2, 3]]); // (B, T) token ids
/// assert_eq!(model.forward(&idx, false).size(), [1, 3, config.vocab_size]); // (B, T, V)
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GptConfig {
    /// T at most: how many tokens the model can see.
    pub block_size: i64,
    /// V: how many tokens there are.
    pub vocab_size: i64,
    pub n_layer: i64,
    pub n_head: i64,
    /// C: how wide the residual stream is.
    pub n_embd: i64,
    /// The share of numbers that training sets to 0 at each dropout: 0 for pretraining, 0.1 and more for small texts.
    pub dropout: f64,
    /// Whether linear layers and layer norms have a bias, as GPT-2's do.
    pub bias: bool,
    /// Whether queries and keys are turned by an angle that grows with their place, instead of a table of positions.
    /// Then a head sees how far two tokens are from each other, and need not learn it (RoPE: Su and others, 2021).
    #[serde(default)]
    pub rope: bool,
    /// Whether each token adds a row for itself and the one before it: the table of step01, as an embedding. It takes
    /// V² rows, and each step goes through all of them.
    #[serde(default)]
    pub bigram: bool,
}

/// GPT-2 124M with its 50,257 tokens rounded up to a multiple of 64, as in nanoGPT.
impl Default for GptConfig {
    fn default() -> Self {
        Self {
            block_size: 1024,
            vocab_size: 50_304,
            n_layer: 12,
            n_head: 12,
            n_embd: 768,
            dropout: 0.0,
            bias: true,
            rope: false,
            bigram: false,
        }
    }
}

impl From<Gpt2Sizes> for GptConfig {
    fn from(sizes: Gpt2Sizes) -> Self {
        let Gpt2Sizes { block_size, vocab_size, n_layer, n_head, n_embd } = sizes;
        Self { block_size, vocab_size, n_layer, n_head, n_embd, ..Self::default() }
    }
}

impl GptConfig {
    /// Refuses sizes of which no model can be made.
    ///
    /// # Errors
    /// One sentence that names the size.
    pub fn check(&self) -> Result<()> {
        let sizes = [
            ("block_size", self.block_size),
            ("vocab_size", self.vocab_size),
            ("n_layer", self.n_layer),
            ("n_head", self.n_head),
            ("n_embd", self.n_embd),
        ];
        for (name, size) in sizes {
            ensure!((1..=MOST).contains(&size), "{name} = {size}: from 1 to {}", grouped(MOST));
        }
        // Nobody trains what is a thousand times less, and what is computed with these numbers fits into 64 bits.
        let [t, v, l, _, c] = sizes.map(|(_, size)| size as f64);
        let n = (t + v + 12.0 * l * c) * c;
        ensure!(
            t * (n + l * c * t) < 1e17,
            "{n:.1e} parameters and windows of {t} tokens are more than any machine can compute"
        );
        ensure!(
            self.n_embd % self.n_head == 0,
            "n_embd = {} cannot be shared out among n_head = {} heads: choose a multiple",
            self.n_embd,
            self.n_head
        );
        ensure!(
            (0.0..1.0).contains(&self.dropout),
            "dropout = {}: from 0 to below 1",
            self.dropout
        );
        let hs = self.n_embd / self.n_head;
        ensure!(
            !self.rope || hs % 2 == 0,
            "rope turns pairs of numbers, and a head has {hs}: choose another n_head, or rope = false"
        );
        ensure!(
            !self.bigram || self.vocab_size <= MOST_BIGRAM_TOKENS,
            "bigram takes a row for each pair of tokens, so it is for vocabularies of at most {MOST_BIGRAM_TOKENS}, and \
             this one has {}",
            self.vocab_size
        );
        Ok(())
    }

    /// How many parameters the model has; where `non_embedding`, without the tables that are only looked up, of
    /// positions and of pairs, as nanoGPT counts. The token embedding is also the matrix that makes the logits.
    pub fn n_params(&self, non_embedding: bool) -> i64 {
        let is_counted =
            |name: &str| !non_embedding || !["wpe.weight", "bigram.weight"].contains(&name);
        let counted = self.shapes().filter(|(name, _)| is_counted(name));
        counted.map(|(_, shape)| shape.iter().product::<i64>()).sum()
    }

    /// The rows of the table of positions.
    pub(crate) fn positions(&self) -> i64 {
        if self.rope { 0 } else { self.block_size }
    }

    /// The rows of the table of pairs.
    pub(crate) fn pairs(&self) -> i64 {
        if self.bigram { self.vocab_size * self.vocab_size } else { 0 }
    }

    /// The parameters of the model by name, each with its shape, in no special order. Nothing takes memory yet.
    pub fn shapes(&self) -> impl Iterator<Item = (String, Vec<i64>)> {
        let (c, bias) = (self.n_embd, self.bias);
        let tables =
            [("wte", self.vocab_size), ("wpe", self.positions()), ("bigram", self.pairs())];
        let tables = tables.into_iter().filter(|(_, rows)| *rows > 0);
        let tables = tables.map(move |(name, rows)| (format!("{name}.weight"), vec![rows, c]));
        let layers = [
            ("ln_1", vec![c]),
            ("attn.c_attn", vec![3 * c, c]),
            ("attn.c_proj", vec![c, c]),
            ("ln_2", vec![c]),
            ("mlp.c_fc", vec![4 * c, c]),
            ("mlp.c_proj", vec![c, 4 * c]),
        ];
        let of_block =
            move |i| layers.clone().map(|(name, shape)| (format!("h.{i}.{name}"), shape));
        let layers = (0..self.n_layer).flat_map(of_block).chain([("ln_f".into(), vec![c])]);
        let both = move |(name, shape): (String, Vec<i64>)| {
            let bias = bias.then(|| (format!("{name}.bias"), vec![shape[0]]));
            [(format!("{name}.weight"), shape)].into_iter().chain(bias)
        };
        tables.chain(layers.flat_map(both))
    }

    /// The floating-point operations of training on one token in a window of `t`: two for each parameter and token
    /// forward and four backward, and 12·L·C·T for attention's own two products.
    ///
    /// Source: PaLM's appendix B (arXiv 2204.02311), as in nanoGPT's `estimate_mfu`.
    pub fn flops_per_token(&self, t: i64) -> f64 {
        (6 * self.n_params(true) + 12 * self.n_layer * self.n_embd * t) as f64
    }
}

/// A GPT: its parameters, and how they are put together.
pub struct Gpt {
    /// Holds the parameters, under GPT-2's names.
    pub vs: VarStore,
    pub config: GptConfig,
    /// Of the matrix products in [`Self::loss`], [`Self::losses`] and [`Self::forward_cached`]. [`Self::forward`] has no
    /// autocast of its own.
    pub precision: Precision,
    wte: nn::Embedding,
    wpe: Option<nn::Embedding>,
    bigram: Option<nn::Embedding>,
    rope: Option<Rope>,
    h: Vec<Block>,
    ln_f: LayerNorm,
}

/// The keys and values of the tokens that a model has seen, so that the next token is computed alone.
pub struct Cache {
    /// For each layer two tensors (B, nh, block_size, hs), of whose places the first `len` are filled.
    layers: Vec<(Tensor, Tensor)>,
    /// The ids of the last tokens, (B, 1).
    last: Tensor,
    len: i64,
}

impl Cache {
    /// How many tokens it holds.
    pub fn len(&self) -> i64 {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl Gpt {
    /// A model with GPT-2's initial weights, drawn by libtorch's generator (see [`tch::manual_seed`]).
    ///
    /// # Errors
    /// See [`GptConfig::check`].
    pub fn new(config: &GptConfig, device: Device) -> Result<Self> {
        config.check()?;
        let vs = VarStore::new(device);
        let p = vs.root();
        let block = |i| Block::new(&p / "h" / i, config);
        let zeros = Init::Const(0.0); // a pair says nothing yet
        Ok(Self {
            wte: embedding(&p / "wte", config.vocab_size, config.n_embd, NORMAL),
            wpe: (!config.rope)
                .then(|| embedding(&p / "wpe", config.block_size, config.n_embd, NORMAL)),
            bigram: (config.bigram)
                .then(|| embedding(&p / "bigram", config.pairs(), config.n_embd, zeros)),
            rope: config.rope.then(|| Rope::new(config, device)),
            h: (0..config.n_layer).map(block).collect(),
            ln_f: LayerNorm::new(&p / "ln_f", config),
            config: config.clone(),
            precision: Precision::Float32,
            vs,
        })
    }

    /// A GPT-2 with the weights in a folder that Hugging Face's libraries wrote, or in one safetensors file.
    ///
    /// # Errors
    /// One sentence that says what is missing there, or is not the plain GPT-2.
    pub fn from_pretrained(path: &Path, dropout: f64, device: Device) -> Result<Self> {
        let weights = Weights::open(path)?;
        let sizes = GptConfig::from(weights.gpt2_sizes()?);
        let model = Self::new(&GptConfig { dropout, ..sizes }, device)?;
        weights.copy_to(&model.vs)?;
        Ok(model)
    }

    /// Lets training drop out this share of the numbers from now on.
    pub fn set_dropout(&mut self, dropout: f64) {
        self.config.dropout = dropout;
        for block in &mut self.h {
            (block.attn.dropout, block.mlp.dropout) = (dropout, dropout);
        }
    }

    /// The same model for shorter windows: it forgets the later positions.
    ///
    /// # Errors
    /// If it cannot see as far as that.
    pub fn crop_block_size(self, block_size: i64) -> Result<Self> {
        ensure!(
            (1..=self.config.block_size).contains(&block_size),
            "block_size = {block_size}: this model sees from 1 to {} tokens",
            self.config.block_size
        );
        let config = GptConfig { block_size, ..self.config.clone() };
        let mut cropped = Self::new(&config, self.vs.device())?;
        cropped.precision = self.precision;
        let _guard = tch::no_grad_guard();
        let parameters = self.vs.variables();
        for (name, mut parameter) in cropped.vs.variables() {
            let rows = parameter.size()[0];
            parameter.copy_(&parameters[&name].narrow(0, 0, rows));
        }
        Ok(cropped)
    }

    /// The parameters by name, in the order of their names: handles, so that writing into one changes the model.
    pub fn named_parameters(&self) -> Vec<(String, Tensor)> {
        let mut parameters: Vec<_> = self.vs.variables().into_iter().collect();
        parameters.sort_by(|a, b| a.0.cmp(&b.0)); // they come in another order each time
        parameters
    }

    /// The logits of the token after each: (B, T) ids → (B, T, V). Drops out where `train`.
    ///
    /// # Panics
    /// If T is above `block_size`, or an id is not below `vocab_size`.
    pub fn forward(&self, idx: &Tensor, train: bool) -> Tensor {
        let x = self.trunk(idx, train, None);
        self.lm_head(&x)
    }

    /// The logits of the token after the last: (B, T) ids, which follow those in `cache` → (B, V). Adds them to `cache`. An
    /// empty one takes a whole text at once; later tokens come one at a time, so T is 1.
    ///
    /// # Panics
    /// If the cache has no room for them, or T is above 1 and the cache not empty.
    pub fn forward_cached(&self, idx: &Tensor, cache: &mut Cache) -> Tensor {
        let logits = self.precision.autocast(self.vs.device(), || {
            let x = self.trunk(idx, false, Some(cache));
            self.lm_head(&x.i((.., -1)))
        });
        cache.len += idx.size()[1];
        cache.last = idx.narrow(1, -1, 1);
        logits
    }

    /// A cache for `batch_size` texts at once, of numbers of the model's precision, which stays the same while it is used.
    pub fn cache(&self, batch_size: i64) -> Cache {
        let GptConfig { n_head, block_size, n_embd, .. } = self.config;
        let shape = [batch_size, n_head, block_size, n_embd / n_head];
        let zeros = || Tensor::zeros(shape, (self.precision.kind(), self.vs.device()));
        let last = nothing_before(batch_size, self.vs.device());
        Cache { layers: self.h.iter().map(|_| (zeros(), zeros())).collect(), last, len: 0 }
    }

    /// Mean cross-entropy in nats a token, a scalar. `idx` and `targets` are (B, T) ids.
    pub fn loss(&self, idx: &Tensor, targets: &Tensor, train: bool) -> Tensor {
        self.precision.autocast(self.vs.device(), || {
            let logits = self.forward(idx, train).flatten(0, 1); // (B·T, V)
            logits.cross_entropy_for_logits(&targets.flatten(0, 1))
        })
    }

    /// The cross-entropy of each target in nats, (B, T). `idx` and `targets` are (B, T) ids.
    pub fn losses(&self, idx: &Tensor, targets: &Tensor) -> Tensor {
        self.precision.autocast(self.vs.device(), || {
            let logits = self.forward(idx, false).flatten(0, 1); // (B·T, V)
            let (targets, shape) = (targets.flatten(0, 1), targets.size());
            let losses =
                logits.cross_entropy_loss::<Tensor>(&targets, None, Reduction::None, -100, 0.0);
            losses.view(&shape[..])
        })
    }

    fn trunk(&self, idx: &Tensor, train: bool, mut cache: Option<&mut Cache>) -> Tensor {
        let seen = cache.as_ref().map_or(0, |cache| cache.len);
        let end = seen + idx.size()[1];
        assert!(
            end <= self.config.block_size,
            "{end} tokens, and the model sees {}",
            self.config.block_size
        );
        let mut x = idx.apply(&self.wte); // (B, T, C)
        if let Some(wpe) = &self.wpe {
            x += wpe.ws.i(seen..end); // (T, C)
        }
        if let Some(bigram) = &self.bigram {
            let first = cache.as_ref().map(|cache| cache.last.shallow_clone());
            let first = first.unwrap_or_else(|| nothing_before(idx.size()[0], idx.device()));
            let before = Tensor::cat(&[&first, &idx.narrow(1, 0, idx.size()[1] - 1)], 1);
            x += (before * self.config.vocab_size + idx).apply(bigram);
        }
        let mut x = x.dropout(self.config.dropout, train);
        let angles = self.rope.as_ref().map(|rope| rope.at(seen, end));
        for (i, block) in self.h.iter().enumerate() {
            let past = cache.as_mut().map(|cache| (&mut cache.layers[i], seen));
            x = block.forward(&x, train, angles.as_ref(), past);
        }
        self.ln_f.forward(&x)
    }

    fn lm_head(&self, x: &Tensor) -> Tensor {
        x.linear::<&Tensor>(&self.wte.ws, None) // the matrix itself, so that autocast casts it once
    }
}

/// What stands in for the token before a window's first, which the model does not see: token 0, (B, 1).
fn nothing_before(batch_size: i64, device: Device) -> Tensor {
    Tensor::zeros([batch_size, 1], (Kind::Int64, device))
}

/// The angles of rotary position embeddings.
struct Rope {
    /// (T, hs) each. The sines are negative for a head's first half.
    cos: Tensor,
    sin: Tensor,
}

impl Rope {
    /// The i-th pair of a head's numbers turns by 10,000^(−2i/hs) with each place.
    fn new(config: &GptConfig, device: Device) -> Self {
        let hs = config.n_embd / config.n_head;
        let options = (Kind::Float, device);
        let pair = Tensor::arange_start_step(0, hs, 2, options); // 2i
        let speed = (pair * (-ROPE_BASE.ln() / hs as f64)).exp();
        let angle = Tensor::arange(config.block_size, options).outer(&speed); // (T, hs/2)
        Self { cos: angle.cos().repeat([1, 2]), sin: Tensor::cat(&[-angle.sin(), angle.sin()], 1) }
    }

    /// Those of the places from `begin` to before `end`.
    fn at(&self, begin: i64, end: i64) -> Self {
        Self { cos: self.cos.i(begin..end), sin: self.sin.i(begin..end) }
    }

    /// Turns queries or keys, (B, nh, T, hs): the i-th number a of a head's first half is paired with b, that of its
    /// second, and they become a·cos − b·sin and b·cos + a·sin.
    fn turn(&self, x: &Tensor) -> Tensor {
        let swapped = x.roll(x.size()[3] / 2, -1); // b where a was, and a where b was
        // In x's own precision: with float32's angles the copies would take longer than the turning.
        x * self.cos.to_kind(x.kind()) + swapped * self.sin.to_kind(x.kind())
    }
}

struct Block {
    ln_1: LayerNorm,
    attn: CausalSelfAttention,
    ln_2: LayerNorm,
    mlp: Mlp,
}

/// A layer's keys and values so far, and how many there are.
type Past<'a> = Option<(&'a mut (Tensor, Tensor), i64)>;

impl Block {
    fn new(p: nn::Path, config: &GptConfig) -> Self {
        Self {
            ln_1: LayerNorm::new(&p / "ln_1", config),
            attn: CausalSelfAttention::new(&p / "attn", config),
            ln_2: LayerNorm::new(&p / "ln_2", config),
            mlp: Mlp::new(&p / "mlp", config),
        }
    }

    fn forward(&self, x: &Tensor, train: bool, angles: Option<&Rope>, past: Past) -> Tensor {
        let x = x + self.attn.forward(&self.ln_1.forward(x), train, angles, past);
        &x + self.mlp.forward(&self.ln_2.forward(&x), train)
    }
}

struct CausalSelfAttention {
    c_attn: nn::Linear,
    c_proj: nn::Linear,
    n_head: i64,
    dropout: f64,
}

impl CausalSelfAttention {
    fn new(p: nn::Path, config: &GptConfig) -> Self {
        let c = config.n_embd;
        Self {
            c_attn: linear(&p / "c_attn", c, 3 * c, INIT_STD, config),
            c_proj: linear(&p / "c_proj", c, c, residual_std(config), config),
            n_head: config.n_head,
            dropout: config.dropout,
        }
    }

    fn forward(&self, x: &Tensor, train: bool, angles: Option<&Rope>, past: Past) -> Tensor {
        let (b, t, c) = x.size3().expect("x is (B, T, C)");
        let heads = |x: &Tensor| x.view([b, t, self.n_head, c / self.n_head]).transpose(1, 2); // → (B, nh, T, hs)
        let qkv = x.apply(&self.c_attn).chunk(3, -1);
        let (mut q, mut k, mut v) = (heads(&qkv[0]), heads(&qkv[1]), heads(&qkv[2]));
        if let Some(angles) = angles {
            (q, k) = (angles.turn(&q), angles.turn(&k));
        }
        let mut is_causal = true;
        if let Some((past, seen)) = past {
            k = append(&mut past.0, &k, seen);
            v = append(&mut past.1, &v, seen);
            // libtorch's causal mask lines the first query up with the first key. A single query sees all keys anyway.
            assert!(seen == 0 || t == 1, "tokens follow those in a cache one at a time");
            is_causal = seen == 0;
        }
        let dropout = if train { self.dropout } else { 0.0 };
        let y = Tensor::scaled_dot_product_attention::<Tensor>(
            &q, &k, &v, None, dropout, is_causal, None, false,
        );
        let y = y.transpose(1, 2).reshape([b, t, c]);
        y.apply(&self.c_proj).dropout(self.dropout, train)
    }
}

/// Writes the new keys or values, (B, nh, T, hs), behind those that a layer's cache has, and returns all.
fn append(cache: &mut Tensor, new: &Tensor, seen: i64) -> Tensor {
    let t = new.size()[2];
    cache.narrow(2, seen, t).copy_(new);
    cache.narrow(2, 0, seen + t)
}

struct Mlp {
    c_fc: nn::Linear,
    c_proj: nn::Linear,
    dropout: f64,
}

impl Mlp {
    fn new(p: nn::Path, config: &GptConfig) -> Self {
        let c = config.n_embd;
        Self {
            c_fc: linear(&p / "c_fc", c, 4 * c, INIT_STD, config),
            c_proj: linear(&p / "c_proj", 4 * c, c, residual_std(config), config),
            dropout: config.dropout,
        }
    }

    fn forward(&self, x: &Tensor, train: bool) -> Tensor {
        let x = x.apply(&self.c_fc).gelu("tanh"); // (B, T, C) → (B, T, 4·C)
        x.apply(&self.c_proj).dropout(self.dropout, train)
    }
}

/// tch's own always has a bias.
struct LayerNorm {
    weight: Tensor,
    bias: Option<Tensor>,
}

impl LayerNorm {
    fn new(p: nn::Path, config: &GptConfig) -> Self {
        let c = config.n_embd;
        Self {
            weight: p.var("weight", &[c], Init::Const(1.0)),
            bias: config.bias.then(|| p.var("bias", &[c], Init::Const(0.0))),
        }
    }

    fn forward(&self, x: &Tensor) -> Tensor {
        let shape = self.weight.size();
        x.layer_norm(&shape[..], Some(&self.weight), self.bias.as_ref(), 1e-5, true)
    }
}

/// Each block writes twice into the residual stream; scaled like this, all together add the variance of one.
fn residual_std(config: &GptConfig) -> f64 {
    INIT_STD / (2.0 * config.n_layer as f64).sqrt()
}

const NORMAL: Init = Init::Randn { mean: 0.0, stdev: INIT_STD };

fn linear(p: nn::Path, fan_in: i64, fan_out: i64, std: f64, config: &GptConfig) -> nn::Linear {
    let ws_init = Init::Randn { mean: 0.0, stdev: std };
    let bs_init = Some(Init::Const(0.0));
    nn::linear(p, fan_in, fan_out, nn::LinearConfig { ws_init, bs_init, bias: config.bias })
}

fn embedding(p: nn::Path, n: i64, n_embd: i64, ws_init: Init) -> nn::Embedding {
    nn::embedding(p, n, n_embd, nn::EmbeddingConfig { ws_init, ..Default::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A score is the product of a query and a key, turned by their places; to float32's rounding, it knows nothing but
    /// how far they are apart.
    #[test]
    fn with_rope_only_distances_count() {
        tch::manual_seed(1);
        let config = GptConfig { block_size: 20, n_head: 2, n_embd: 16, ..GptConfig::default() };
        let rope = Rope::new(&config, Device::Cpu);
        let vector = || Tensor::randn([8], (Kind::Float, Device::Cpu));
        let (query, key) = (vector(), vector());
        let turned = |x: &Tensor| rope.turn(&x.repeat([1, 1, 20, 1])); // at each place
        let scores = turned(&query).matmul(&turned(&key).transpose(2, 3)); // (1, 1, 20, 20)
        let score = |i, j| scores.double_value(&[0, 0, i, j]);
        assert!((score(3, 3) - query.dot(&key).double_value(&[])).abs() < 1e-5);
        assert!((score(7, 2) - score(19, 14)).abs() < 1e-5);
        assert!((score(7, 2) - score(7, 3)).abs() > 1e-2);
    }

    /// The formula by hand, for a head of (a₀, a₁, b₀, b₁); bfloat16 has 8 bits, and three of its roundings lie behind.
    #[test]
    fn rope_turns_each_pair_by_its_own_angle() {
        let config = GptConfig { block_size: 20, n_head: 1, n_embd: 4, ..GptConfig::default() };
        let rope = Rope::new(&config, Device::Cpu);
        let x = [0.5, -1.0, 2.0, 0.25];
        for (kind, tolerance) in [(Kind::Float, 1e-5), (Kind::BFloat16, 2.5 * 3.0 / 256.0)] {
            let heads = Tensor::from_slice(&x).to_kind(kind).repeat([1, 1, 20, 1]);
            let turned = rope.turn(&heads);
            assert_eq!(turned.kind(), kind);
            for (place, i) in [(0, 0), (3, 0), (3, 1), (19, 0), (19, 1)] {
                let angle = place as f64 * 10_000f64.powf(-(2.0 * i as f64) / 4.0);
                let (sin, cos) = angle.sin_cos();
                let (a, b) = (x[i], x[i + 2]);
                for (at, right) in [(i, a * cos - b * sin), (i + 2, b * cos + a * sin)] {
                    let off = turned.double_value(&[0, 0, place, at as i64]) - right;
                    assert!(off.abs() < tolerance, "{kind:?}, place {place}, {at}: off by {off}");
                }
            }
        }
    }
}
