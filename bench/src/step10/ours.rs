//! Our side: the training step of step10's `fit`, timed.

use super::{
    BETAS, Config, DataLoader, Gpt, MAX_NORM, Precision, WEIGHT_DECAY, accumulate_grads,
    clip_grad_norm,
};
use crate::job::{self, Answer, Job, Size};
use anyhow::{Context, Result, ensure};
use lab::Rng;
use serde::{Deserialize, Serialize};
use std::{fs, path::Path, time::Instant};
use tch::{Cuda, Device, Kind, Tensor};
use tch_ext::optim::{FusedAdamW, clear_grads};

const SEED: u32 = 1337;

/// step10's constants, for PyTorch's side to use the same.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Optimizer {
    pub lr: f64,
    pub betas: (f64, f64),
    pub eps: f64,
    pub weight_decay: f64,
    pub max_norm: f64,
}

impl Default for Optimizer {
    fn default() -> Self {
        let (betas, weight_decay, max_norm) = (BETAS, WEIGHT_DECAY, MAX_NORM);
        Self { lr: 6e-4, betas, eps: 1e-8, weight_decay, max_norm } // eps is FusedAdamW's
    }
}

/// The model that every process starts with, and random tokens for so many steps: always the same.
fn start(size: &Size, steps: usize) -> (Gpt, Tensor) {
    let &Size { n_layer, n_head, n_embd, block_size, vocab_size, .. } = size;
    tch::manual_seed(SEED.into());
    let model = Gpt::new(Config { block_size, vocab_size, n_layer, n_head, n_embd }, Device::Cpu);
    let mut rng = Rng::new(SEED.into());
    let n = steps as i64 * size.tokens() + 1;
    let tokens: Vec<i64> = (0..n).map(|_| rng.below(vocab_size)).collect();
    (model, Tensor::from_slice(&tokens))
}

/// Hands the start over to PyTorch's side.
pub fn write_start(size: &Size, steps: usize, path: &Path) -> Result<()> {
    let (model, tokens) = start(size, steps);
    let mut tensors: Vec<_> = model.vs.variables().into_iter().collect();
    tensors.push(("tokens".into(), tokens));
    Tensor::write_safetensors(&tensors, path).with_context(|| {
        format!("cannot write {}; choose another folder with TMPDIR", path.display())
    })
}

/// libtorch's name of a job's device.
///
/// # Errors
/// If it is a GPU and there is none that libtorch can use.
pub fn device(job: job::Device) -> Result<Device> {
    match job {
        job::Device::Cpu => Ok(Device::Cpu),
        job::Device::Cuda => {
            ensure!(Cuda::is_available(), "libtorch sees no CUDA device here; use --device cpu");
            Ok(Device::Cuda(0))
        }
    }
}

/// Does the whole job.
pub fn work(job: &Job) -> Result<Answer> {
    let device = device(job.device)?;
    let (mut model, tokens) = start(&job.size, job.warmup + job.steps);
    if device.is_cuda() {
        let mut there = Gpt::new(model.config, device);
        there.vs.copy(&model.vs)?;
        model = there;
    }
    let (mut ms, losses) = train(model, tokens.to(device), job)?;
    Ok(Answer {
        ms: ms.split_off(job.warmup),
        losses,
        peak_mb: peak_mb(device)?,
        gflops: product(job, device),
        threads: tch::get_num_threads().into(),
        version: tch_ext::LIBTORCH_VERSION.into(),
    })
}

/// Every step's milliseconds and loss.
fn train(mut model: Gpt, tokens: Tensor, job: &Job) -> Result<(Vec<f64>, Vec<f64>)> {
    model.precision = match job.precision {
        job::Precision::Fp32 => Precision::Float32,
        job::Precision::Tf32 => Precision::Tf32,
        job::Precision::Bf16 => Precision::Bfloat16,
    };
    model.precision.set_float32()?;
    let (batch_size, sequence_length) = (job.size.batch_size, job.size.sequence_length);
    let mut train = DataLoader { tokens, batch_size, sequence_length, position: 0 };
    let parameters = model.vs.trainable_variables();
    let decays = |p: &Tensor| if p.dim() >= 2 { WEIGHT_DECAY } else { 0.0 };
    let mut optimizer = FusedAdamW::new(&parameters, BETAS, decays);
    let (mut ms, mut losses) = (Vec::new(), Vec::new());
    for _ in 0..job.warmup + job.steps {
        let begin = Instant::now();
        losses.push(accumulate_grads(&model, &mut train, batch_size));
        clip_grad_norm(&parameters);
        optimizer.step(job.optimizer.lr)?;
        clear_grads(&parameters)?;
        wait(model.vs.device());
        ms.push(begin.elapsed().as_secs_f64() * 1e3);
    }
    Ok((ms, losses))
}

/// A GPU works while the program goes on: waits until it has done all that it was given.
fn wait(device: Device) {
    if let Device::Cuda(index) = device {
        Cuda::synchronize(index as i64);
    }
}

/// How fast `device` multiplies two square matrices, in GFLOP/s: the best of a few tries.
fn product(job: &Job, device: Device) -> f64 {
    let (n, tries) = (job.size.product, if device.is_cuda() { 30 } else { 4 });
    let kind = if job.precision == job::Precision::Bf16 { Kind::BFloat16 } else { Kind::Float };
    let [a, b] = [0, 1].map(|_| Tensor::randn([n, n], (Kind::Float, device)).to_kind(kind));
    let times = (0..tries).map(|_| {
        wait(device);
        let begin = Instant::now();
        let _product = a.matmul(&b);
        wait(device);
        begin.elapsed().as_secs_f64()
    });
    2.0 * (n as f64).powi(3) / times.fold(f64::INFINITY, f64::min) / 1e9
}

fn peak_mb(device: Device) -> Result<Option<u64>> {
    if device.is_cuda() {
        return Ok(Some(tch_ext::memory::peak(device)? / 1_000_000));
    }
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kb =
        status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB"));
    Ok(kb.and_then(|kb| kb.parse::<u64>().ok()).map(|kb| kb * 1024 / 1_000_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loss_falls() {
        tch::set_num_threads(1); // tests run side by side
        let size = Size::of("char", true, job::Device::Cpu);
        for precision in [job::Precision::Fp32, job::Precision::Bf16] {
            let job = Job { precision, steps: 30, ..Job::new(size, job::Device::Cpu) };
            let (model, tokens) = start(&size, 1); // one batch, over and over
            let (ms, losses) = train(model, tokens, &job).unwrap();
            assert_eq!(ms.len(), losses.len());
            // It begins at ln 65 = 4.17, what guessing costs; a few steps take off far more than noise.
            assert!(losses[30] < 3.9 && losses[0] > 4.1, "{losses:?}");
        }
    }
}
