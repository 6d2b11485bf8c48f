//! What a model takes before anything is trained: parameters, floating-point operations, bytes on disk and in memory.
//!
//! The lists are those of nanoGPT's notebook `transformer_sizing`; the memory follows from what libtorch keeps of each
//! operation for the backward pass. `tests/size.rs` holds it against runs.

use crate::{
    begin,
    checkpoint::{Run, sizes_of},
    config::TrainConfig,
    gpt::GptConfig,
    optim::{MOST_TOGETHER, OptimizerKind},
    precision::Precision,
    source,
};
use anyhow::Result;
use std::path::Path;
use tch::Device;

/// The model that a run trains, by its settings: of these sizes, or the one that it begins or goes on with, seeing no
/// further than `block_size`. OpenAI's need not be there.
///
/// # Errors
/// If what it begins with is not there, or damaged.
pub fn model_of(config: &TrainConfig, vocab_size: i64) -> Result<GptConfig> {
    let sizes = match config.init_from.as_str() {
        "scratch" => return Ok(config.gpt(vocab_size)),
        "resume" | "auto" => return going_on(config, vocab_size),
        from => source::sizes(from)?,
    };
    let block_size = config.block_size.min(sizes.block_size);
    Ok(GptConfig { block_size, dropout: config.dropout, ..sizes })
}

/// Of a run that goes on, if there is something to go on with.
fn going_on(config: &TrainConfig, vocab_size: i64) -> Result<GptConfig> {
    let run = Run::new(Path::new(&config.out_dir), 1);
    let checkpoint = match config.init_from == "resume" {
        true => Some(begin::newest(&run, config)?),
        false => run.newest.newest()?,
    };
    checkpoint.map_or(Ok(config.gpt(vocab_size)), |checkpoint| sizes_of(&checkpoint).cloned())
}

/// How many parameters each part has. A block's parts are of one block; those after it are of the whole model.
pub fn parameters(config: &GptConfig) -> Vec<(&'static str, i64)> {
    let (c, bias) = (config.n_embd, i64::from(config.bias));
    let layer_norm = c + bias * c;
    let linear = |from: i64, to: i64| from * to + bias * to;
    let (position, token) = (c * config.positions(), c * config.vocab_size);
    let pairs = c * config.pairs();
    let (qkv, proj) = (linear(c, 3 * c), linear(c, c));
    let (fc, out) = (linear(c, 4 * c), linear(4 * c, c));
    let (attention, mlp) = (layer_norm + qkv + proj, layer_norm + fc + out);
    let blocks = config.n_layer * (attention + mlp);
    let mut parts = vec![
        ("embedding/position", position),
        ("embedding/token", token),
        ("embedding", position + token + pairs),
        ("attention/ln", layer_norm),
        ("attention/qkv", qkv),
        ("attention/proj", proj),
        ("attention", attention),
        ("mlp/ln", layer_norm),
        ("mlp/fc", fc),
        ("mlp/proj", out),
        ("mlp", mlp),
        ("block", attention + mlp),
        ("all blocks", blocks),
        ("ln_f", layer_norm),
        ("lm_head", 0), // it is the table of tokens
        ("total", position + token + pairs + blocks + layer_norm),
    ];
    if config.bigram {
        parts.insert(2, ("embedding/bigram", pairs));
    }
    parts
}

/// The floating-point operations of the forward pass of one window of `t` tokens, by part: two for each number of each
/// matrix product, and none for anything else, since nothing else counts beside them. Training takes three times as
/// many: each product has two in the backward pass.
pub fn forward_flops(config: &GptConfig, t: i64) -> Vec<(&'static str, i64)> {
    let c = config.n_embd;
    let product = |rows: i64, inner: i64, columns: i64| 2 * rows * inner * columns;
    let qkv = product(t, c, 3 * c);
    let scores = product(t, c, t); // of all heads; causal kernels skip up to half
    let proj = product(t, c, c);
    let mlp = product(t, c, 4 * c);
    let attention = qkv + 2 * scores + proj;
    let blocks = config.n_layer * (attention + 2 * mlp);
    let head = product(t, c, config.vocab_size);
    vec![
        ("attention/qkv", qkv),
        ("attention/scores", scores),
        ("attention/values", scores),
        ("attention/proj", proj),
        ("attention", attention),
        ("mlp/fc", mlp),
        ("mlp/proj", mlp),
        ("mlp", 2 * mlp),
        ("block", attention + 2 * mlp),
        ("all blocks", blocks),
        ("lm_head", head),
        ("forward", blocks + head),
        ("backward", 2 * (blocks + head)),
        ("forward and backward", 3 * (blocks + head)),
    ]
}

/// The number of a part in one of the lists above.
///
/// # Panics
/// If the list has no such part.
pub fn of(list: &[(&'static str, i64)], part: &str) -> i64 {
    list.iter().find(|(name, _)| *name == part).expect("a part of the list").1
}

/// How a model is trained, as far as memory goes.
#[derive(Clone, Copy, Debug)]
pub struct Job {
    /// Windows in a micro-batch, and tokens in a window.
    pub batch_size: i64,
    pub block_size: i64,
    /// Whether a step has several micro-batches.
    pub accumulates: bool,
    pub optimizer: OptimizerKind,
    pub precision: Precision,
    /// On the CPU attention with dropout has no kernel of its own, and keeps all its scores.
    pub device: Device,
}

impl Job {
    /// The training that a run does on one rank of `ranks`.
    pub fn new(config: &TrainConfig, precision: Precision, device: Device, ranks: usize) -> Self {
        Self {
            batch_size: config.batch_size,
            block_size: config.block_size,
            accumulates: config.gradient_accumulation_steps > ranks,
            optimizer: config.optimizer,
            precision,
            device,
        }
    }
}

/// Bytes that tensors take while a model is trained.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Memory {
    /// Always there: float32, whatever the precision.
    pub weights: i64,
    /// AdamW's two means; of a matrix with Muon one.
    pub optimizer: i64,
    /// From the first backward pass of a step to its end.
    pub gradients: i64,
    /// What the forward pass leaves in the blocks and before them for the backward pass, copies of weights included.
    pub activations: i64,
    /// The logits' logarithms at the end of the forward pass.
    pub logits: i64,
    /// The most at any moment, to within a few per cent on the CPU. On a GPU the kernels' own workspace comes on top, and
    /// what the caching allocator cannot use.
    pub peak: i64,
}

/// What a model will take in training.
pub fn memory(config: &GptConfig, job: &Job) -> Memory {
    let (c, v) = (config.n_embd, config.vocab_size);
    let n = of(&parameters(config), "total");
    let matrices = 12 * c * c; // in a block
    let is_muon = job.optimizer == OptimizerKind::Muon;
    let optimizer = 8 * n - if is_muon { 4 * config.n_layer * matrices } else { 0 };
    let (tokens, table) = (job.batch_size * job.block_size, 4 * v * c);
    let kept = Kept::of(config, job);
    let activations = config.n_layer * kept.block + kept.ends;
    let logits = 4 * tokens * v;
    let earlier = if job.accumulates { 4 * n } else { 0 };

    // The moments at which most is there, beside what always is. The backward pass begins: two gradients as large as
    // the logits.
    let of_logits = earlier + activations + 3 * logits;
    // It is in the middle of the last block's MLP.
    let of_mlp = earlier + activations + kept.in_mlp + table;
    // It is in the last block's attention.
    let of_attention = earlier + activations + kept.in_attention + table;
    // It ends: all gradients are there, and the table's two halves, of its two uses.
    let at_end = 4 * n + 2 * table;
    let of_muon = 4 * n + if is_muon { in_muon(config, job) } else { 0 };
    let moments = [of_logits, of_mlp, of_attention, at_end, of_muon];
    let always = 4 * n + optimizer + 2 * 8 * tokens;
    Memory {
        weights: 4 * n,
        optimizer,
        gradients: 4 * n,
        activations,
        logits,
        peak: always + moments.iter().max().expect("there are some"),
    }
}

/// Bytes that Muon takes for the matrices that it works on together: two and a half times what the MLPs' hold, or four
/// times what attention's do.
fn in_muon(config: &GptConfig, job: &Job) -> i64 {
    let square = config.n_embd * config.n_embd;
    let together = |matrix: i64, all: i64| matrix * (MOST_TOGETHER / matrix).clamp(1, all);
    let of_mlp = together(4 * square, 2 * config.n_layer) * 5 / 2;
    let of_attention = together(4 * square, config.n_layer) * 4;
    let x = if job.precision == Precision::Bfloat16 { 2 } else { 4 };
    x * of_mlp.max(of_attention)
}

/// Bytes that the forward pass leaves for the backward pass, and what that adds at its fullest moments.
struct Kept {
    block: i64,
    /// Before and behind the blocks.
    ends: i64,
    in_mlp: i64,
    in_attention: i64,
}

impl Kept {
    fn of(config: &GptConfig, job: &Job) -> Self {
        let (c, v, tokens) = (config.n_embd, config.vocab_size, job.batch_size * job.block_size);
        let stream = tokens * c; // numbers in the residual stream, which stays in float32
        let is_half = matches!(job.precision, Precision::Bfloat16 | Precision::Float16);
        let x = if is_half { 2 } else { 4 }; // bytes of what matrix products take and give
        let copies = if is_half { 2 } else { 0 }; // of each weight of a matrix product
        let statistics = 2 * 4 * tokens; // of a layer norm: mean and standard deviation
        let dropout = config.dropout > 0.0;
        let is_gpu = job.device.is_cuda();
        // Which numbers are dropped out is a byte on a GPU, and a number on a CPU.
        let noise = |bytes: i64| if dropout { stream * if is_gpu { 1 } else { bytes } } else { 0 };
        let heads = tokens * config.n_head; // rows of scores
        let (scores, attention) = match dropout && !is_gpu {
            // In float32: softmax, noise, their product; and queries, keys and values of its own.
            true => (4 * heads * job.block_size, 3 * 4 * heads * job.block_size + 3 * 4 * stream),
            false => (0, 4 * heads + 3 * x * stream),
        };
        // The stream twice; what goes into qkv, into c_proj and into c_fc; GELU's input and output.
        let of_stream = 2 * 4 + 3 * x + 2 * 4 * x;
        // Queries and keys once more, as RoPE has turned them.
        let turned = if config.rope { 2 * x * stream } else { 0 };
        let block = of_stream * stream
            + attention
            + turned
            + 2 * statistics
            + 2 * noise(x)
            + copies * 12 * c * c;
        let ends = noise(4) + (4 + x) * stream + statistics + copies * v * c;
        // What the backward pass has let go of before: of the last layer norm and the head, then of the MLP.
        let head = (4 + x) * stream + statistics + copies * v * c;
        let mlp = (4 + 9 * x) * stream + statistics + copies * 8 * c * c + 2 * noise(x);
        let in_float32 = if is_half { 4 } else { 0 };
        Self {
            block,
            ends,
            // The gradients of the stream and of GELU's input, and of c_proj.
            in_mlp: (4 + 4 * x) * stream + (16 - 4 * copies) * c * c - head,
            // One more matrix of scores, the gradients of the stream and of what attention gave, and of three matrices.
            in_attention: scores + turned + (4 + x + in_float32) * stream + (36 - copies) * c * c
                - head
                - mlp,
        }
    }
}

/// Bytes of a checkpoint from which a run goes on: weights and optimizer, in float32.
pub fn checkpoint_bytes(config: &GptConfig, optimizer: OptimizerKind) -> i64 {
    let n = config.n_params(false);
    let spared = match optimizer {
        OptimizerKind::Muon => 4 * config.n_layer * 12 * config.n_embd * config.n_embd,
        OptimizerKind::AdamW => 0,
    };
    12 * n - spared
}

/// Bytes as people say them: `1.49 GB`.
pub fn said(bytes: f64) -> String {
    match bytes {
        1e9.. => format!("{:.2} GB", bytes / 1e9),
        1e6.. => format!("{:.1} MB", bytes / 1e6),
        _ => format!("{:.1} kB", bytes / 1e3),
    }
}
