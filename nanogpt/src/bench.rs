//! How fast this machine trains a model, and how fast it could at best: what nanoGPT's bench.py measures.

use crate::{
    config::TrainConfig,
    data::{Batches, Dataset},
    gpt::{Gpt, GptConfig},
    optim::Optimizer,
    precision::{GradScaler, Precision},
};
use anyhow::{Result, ensure};
use serde::Serialize;
use std::time::{Duration, Instant};
use tch::{Cuda, Device, Kind, Tensor};
use tch_ext::memory;

/// What was measured. Times are in milliseconds.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Of a step: the median, the fastest and the slowest.
    pub ms: f64,
    pub fastest_ms: f64,
    pub slowest_ms: f64,
    pub tokens_per_second: f64,
    /// The model's own operations in a second, as nanoGPT counts them: see [`GptConfig::flops_per_token`].
    pub flops_per_second: f64,
    /// The most that tensors took on the device in a step, in bytes.
    pub peak_bytes: u64,
    /// Medians of a step's parts.
    pub data_ms: f64,
    pub forward_ms: f64,
    pub backward_ms: f64,
    pub optimizer_ms: f64,
}

/// One kind of operation of the forward pass, measured by itself.
#[derive(Clone, Debug, Serialize)]
pub struct Operation {
    pub name: &'static str,
    /// How often it is in a forward pass.
    pub times: i64,
    /// Of one, the median.
    pub ms: f64,
    /// Of one; 0 for what is no matrix product.
    pub flops: i64,
}

/// Trains a new model for `warmup` steps and then `steps` more, which are measured: on a data set, or on the same random
/// tokens in each step. With `parts` a GPU is waited for after each part of a step, without which its times mean nothing,
/// and with which the step takes a little longer.
///
/// # Errors
/// If the data cannot be read, or settings do not fit it.
pub fn measure(
    config: &TrainConfig,
    model: &GptConfig,
    dataset: Option<Dataset>,
    (warmup, steps): (usize, usize),
    parts: bool,
    device: Device,
) -> Result<Report> {
    ensure!(steps > 0, "--steps 0: choose a number from 1 on");
    let mut bench = Bench::new(config, model, dataset, parts, device)?;
    for step in 0..warmup {
        bench.step(step)?;
    }
    memory::reset_peak(device)?;
    let laps: Result<Vec<[f64; 4]>> =
        (warmup..warmup + steps).map(|step| bench.step(step)).collect();
    let laps = laps?;
    let whole: Vec<f64> = laps.iter().map(|lap| lap.iter().sum()).collect();
    let part = |i: usize| median(laps.iter().map(|lap| lap[i]).collect());
    let tokens = config.gradient_accumulation_steps as i64 * config.batch_size * config.block_size;
    let ms = median(whole.clone());
    let tokens_per_second = tokens as f64 / ms * 1e3;
    Ok(Report {
        ms,
        fastest_ms: whole.iter().copied().fold(f64::INFINITY, f64::min),
        slowest_ms: whole.iter().copied().fold(0.0, f64::max),
        tokens_per_second,
        flops_per_second: tokens_per_second * model.flops_per_token(config.block_size),
        peak_bytes: memory::peak(device)?,
        data_ms: part(0),
        forward_ms: part(1),
        backward_ms: part(2),
        optimizer_ms: part(3),
    })
}

struct Bench<'a> {
    config: &'a TrainConfig,
    model: Gpt,
    optimizer: Optimizer,
    scaler: GradScaler,
    batches: Option<Batches>,
    synthetic: (Tensor, Tensor),
    parts: bool,
    device: Device,
}

impl<'a> Bench<'a> {
    fn new(
        config: &'a TrainConfig,
        sizes: &GptConfig,
        dataset: Option<Dataset>,
        parts: bool,
        device: Device,
    ) -> Result<Self> {
        tch::manual_seed(config.seed);
        let mut model = Gpt::new(sizes, device)?;
        model.precision = Precision::choose(config.precision(), sizes.n_embd, device)?;
        let optimizer = Optimizer::new(&model.named_parameters(), &config.hyper(), model.precision);
        let (b, t) = (config.batch_size, config.block_size);
        let ids = || Tensor::randint(sizes.vocab_size, [b, t], (Kind::Int64, device));
        let seed = config.seed as u64;
        if let Some(dataset) = &dataset {
            let (there, rows) = (dataset.vocab_size(), sizes.vocab_size);
            let name = dataset.folder.display();
            ensure!(there <= rows, "{name} has {there} tokens, and the model knows {rows}");
        }
        let batches = dataset.map(|dataset| Batches::new(dataset.train, seed, b, t, device));
        let batches = batches.transpose()?;
        let (synthetic, scaler) = ((ids(), ids()), GradScaler::new(model.precision));
        Ok(Self { config, model, optimizer, scaler, batches, synthetic, parts, device })
    }

    /// Takes a step as `train` does. Returns what data, forward pass, backward pass and optimizer took.
    fn step(&mut self, step: usize) -> Result<[f64; 4]> {
        let (config, mut lap) = (self.config, [0.0; 4]);
        let micro_batches = config.gradient_accumulation_steps as u64;
        let mut clock = Instant::now();
        for i in 0..micro_batches {
            let number = step as u64 * micro_batches + i;
            let (x, y) = match &mut self.batches {
                Some(batches) => batches.get(number, number + 1)?,
                None => (self.synthetic.0.shallow_clone(), self.synthetic.1.shallow_clone()),
            };
            lap[0] += self.lap(&mut clock, self.parts);
            let loss = self.model.loss(&x, &y, true) / micro_batches as f64;
            lap[1] += self.lap(&mut clock, self.parts);
            self.scaler.scaled(&loss).backward();
            lap[2] += self.lap(&mut clock, self.parts);
        }
        self.scaler.unscale(self.optimizer.parameters());
        let grad_norm = self.optimizer.clip_grad_norm(config.grad_clip);
        match self.scaler.accepts(grad_norm, self.model.precision) {
            true => self.optimizer.step(config.schedule().lr(step))?,
            false => self.optimizer.clear_grads()?,
        }
        lap[3] = self.lap(&mut clock, true);
        Ok(lap)
    }

    /// The milliseconds since the clock was read last.
    fn lap(&self, clock: &mut Instant, waits: bool) -> f64 {
        if waits {
            wait_for(self.device);
        }
        let lap = milliseconds(clock.elapsed());
        *clock = Instant::now();
        lap
    }
}

/// The operations in a second that this machine reaches in the product of two large matrices, in the precision of a run:
/// no model can be faster. The best of what fits into a second or so.
pub fn ceiling(precision: Precision, device: Device) -> f64 {
    let n = if device == Device::Cpu { 1024 } else { 8192 };
    let options = (precision.kind(), device);
    let (a, b) = (Tensor::randn([n, n], options), Tensor::randn([n, n], options));
    let begun = Instant::now();
    let mut best = f64::INFINITY;
    for i in 0.. {
        if i >= 3 && begun.elapsed() > Duration::from_secs(1) {
            break;
        }
        best = best.min(timed(device, &|| drop(a.matmul(&b))));
    }
    2.0 * (n as f64).powi(3) / best * 1e3
}

/// What the parts of a forward pass take, each measured by itself on as many numbers as the model gives it. libtorch's own
/// profiler is not to be had through tch.
pub fn operations(
    model: &GptConfig,
    (b, t): (i64, i64),
    precision: Precision,
    device: Device,
) -> Vec<Operation> {
    let _guard = tch::no_grad_guard();
    let GptConfig { n_layer, n_head, n_embd: c, vocab_size: v, dropout, .. } = *model;
    let kind = precision.kind();
    let random = |shape: &[i64], kind| Tensor::randn(shape, (kind, device));
    let product = |from: i64, to: i64| {
        let (x, w) = (random(&[b * t, from], kind), random(&[from, to], kind));
        measured(device, || drop(x.matmul(&w)))
    };
    let stream = random(&[b, t, c], Kind::Float);
    let heads = random(&[b, n_head, t, c / n_head], kind);
    let hidden = random(&[b, t, 4 * c], kind);
    let logits = random(&[b * t, v], Kind::Float);
    let targets = Tensor::randint(v, [b * t], (Kind::Int64, device));
    let attention = || {
        drop(Tensor::scaled_dot_product_attention::<Tensor>(
            &heads, &heads, &heads, None, dropout, true, None, false,
        ));
    };
    let flops = |from: i64, to: i64| 2 * b * t * from * to;
    let operation = |name, times, ms, flops| Operation { name, times, ms, flops };
    vec![
        operation("attention/qkv", n_layer, product(c, 3 * c), flops(c, 3 * c)),
        operation("attention", n_layer, measured(device, attention), 2 * flops(t, c)),
        operation("attention/proj", n_layer, product(c, c), flops(c, c)),
        operation("mlp/fc", n_layer, product(c, 4 * c), flops(c, 4 * c)),
        operation("mlp/gelu", n_layer, measured(device, || drop(hidden.gelu("tanh"))), 0),
        operation("mlp/proj", n_layer, product(4 * c, c), flops(4 * c, c)),
        operation("layer norms", 2 * n_layer + 1, measured(device, || norm(&stream)), 0),
        operation("lm_head", 1, product(c, v), flops(c, v)),
        operation(
            "cross-entropy",
            1,
            measured(device, || drop(logits.cross_entropy_for_logits(&targets))),
            0,
        ),
    ]
}

fn norm(x: &Tensor) {
    let c = x.size()[2];
    drop(x.layer_norm([c].as_slice(), None::<&Tensor>, None::<&Tensor>, 1e-5, true));
}

/// The median of seven, after one to warm up.
fn measured(device: Device, body: impl Fn()) -> f64 {
    body();
    median((0..7).map(|_| timed(device, &body)).collect())
}

fn timed(device: Device, body: &impl Fn()) -> f64 {
    wait_for(device);
    let begun = Instant::now();
    body();
    wait_for(device);
    milliseconds(begun.elapsed())
}

/// A GPU computes on while the program does.
fn wait_for(device: Device) {
    if let Device::Cuda(index) = device {
        Cuda::synchronize(index as i64);
    }
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() % 2 {
        1 => values[middle],
        _ => (values[middle - 1] + values[middle]) / 2.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// After a step that is far too long no loss is finite in float16. Such steps are left out, as in training.
    #[test]
    fn a_step_with_an_overflow_is_left_out() {
        let config = TrainConfig {
            n_layer: 1,
            n_head: 1,
            n_embd: 16,
            block_size: 8,
            batch_size: 2,
            gradient_accumulation_steps: 1,
            learning_rate: 1e4,
            decay_lr: false,
            dtype: "float16".into(),
            ..TrainConfig::default()
        };
        let mut bench = Bench::new(&config, &config.gpt(16), None, false, Device::Cpu).unwrap();
        for step in 0..3 {
            bench.step(step).unwrap();
        }
        assert!(bench.optimizer.steps() < 3, "no step was left out");
        assert!(bench.optimizer.parameters().iter().all(lab::is_finite));
    }
}
