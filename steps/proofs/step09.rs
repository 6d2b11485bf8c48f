// A step of ours beside one of libtorch's fused AdamW; and how many numbers decay.

use super::{AdamW, Args, BETAS, DataLoader, Gpt, WEIGHT_DECAY};
use anyhow::Result;
use lab::{Log, Table, record};
use std::time::Instant;
use tch::{Device, Kind, Tensor};
use tch_ext::optim::FusedAdamW;

const STEPS: usize = 5;
const LR: f64 = 1e-3;

pub fn print(model: &Gpt, train: &mut DataLoader, _: &Args, _: &Log) -> Result<()> {
    let (x, y) = train.next_batch();
    model.loss(&x, &y).backward();
    let parameters = model.vs.trainable_variables();
    let (ours, fused) = (copies(&parameters), copies(&parameters));
    let decays = |p: &Tensor| if p.dim() >= 2 { WEIGHT_DECAY } else { 0.0 };
    let mut by_hand = AdamW::new(ours.iter().map(Tensor::shallow_clone).collect());
    let mut libtorchs = FusedAdamW::new(&fused, BETAS, decays);
    let (mut ms, mut fused_ms) = (f64::INFINITY, f64::INFINITY);
    for _ in 0..STEPS {
        let by_hand = || {
            by_hand.step(LR);
            Ok(())
        };
        ms = ms.min(time(&ours, by_hand)?);
        fused_ms = fused_ms.min(time(&fused, || Ok(libtorchs.step(LR)?))?);
    }
    println!("a step of AdamW over {} tensors:", parameters.len());
    println!("  by hand      {:>8} ms", record::masked("by_hand_ms", format!("{ms:.2}")));
    println!("  fused        {:>8} ms\n", record::masked("fused_ms", format!("{fused_ms:.2}")));

    let mut table = Table::new();
    let (c, n_layer) = (model.config.n_embd, model.config.n_layer);
    let vectors = parameters.iter().filter(|p| p.dim() < 2).map(|p| p.numel() as i64).sum();
    table.equal("numbers that do not decay: L·13C + 2C", n_layer * 13 * c + 2 * c, vectors);
    // Both round to float32, which has 24 bits: 6e-8, a few times.
    let moved = |now: &[Tensor]| flat(now) - flat(&parameters);
    table.below("five steps by hand, against fused", 1e-5, relative(&moved(&ours), &moved(&fused)));
    table.print();
    Ok(())
}

/// Copies of the parameters, with copies of their gradients.
fn copies(parameters: &[Tensor]) -> Vec<Tensor> {
    let copy = |p: &Tensor| {
        let copy = p.detach().copy().set_requires_grad(true);
        // The gradient of a sum of products is the other factor.
        (&copy * p.grad()).sum(Kind::Float).backward();
        copy
    };
    parameters.iter().map(copy).collect()
}

fn time(parameters: &[Tensor], step: impl FnOnce() -> Result<()>) -> Result<f64> {
    let start = Instant::now();
    step()?;
    parameters[0].double_value(&[0, 0]); // on a GPU: wait until it has happened
    Ok(start.elapsed().as_secs_f64() * 1e3)
}

/// All tensors as one vector.
fn flat(tensors: &[Tensor]) -> Tensor {
    Tensor::cat(&tensors.iter().map(|t| t.detach().flatten(0, -1)).collect::<Vec<_>>(), 0)
}

/// How far `a` is from `b`, as a share of `b`'s size.
fn relative(a: &Tensor, b: &Tensor) -> f64 {
    let norm = |x: &Tensor| x.to(Device::Cpu).square().sum(Kind::Double).sqrt().double_value(&[]);
    norm(&(a - b)) / norm(b)
}
