// One step by hand and the same step fused; and how many numbers decay.

use super::{AdamW, DataLoader, Gpt};
use anyhow::Result;
use lab::Table;
use std::time::Instant;
use tch::nn::{self, OptimizerConfig};
use tch::{Device, Kind, Tensor};

const REPETITIONS: usize = 5;

pub fn print(
    model: &Gpt,
    [at_init, loss]: [f64; 2],
    floor: Option<f64>,
    train: &mut DataLoader,
) -> Result<()> {
    let (x, y) = train.next_batch();
    model.loss(&x, &y).backward();
    let parameters = model.vs.trainable_variables();
    let (by_hand, fused) = (one_step(&parameters, true)?, one_step(&parameters, false)?);

    println!("a step of AdamW over {} tensors:", parameters.len());
    println!("  by hand      {:>8.2} ms", by_hand.ms);
    println!("  tch's AdamW  {:>8.2} ms", tchs_own(model, &parameters)?);
    println!("  fused        {:>8.2} ms\n", fused.ms);

    let mut table = Table::new();
    let (v, t, c) = (model.config.vocab_size, model.config.block_size, model.config.n_embd);
    let n_layer = model.config.n_layer;
    let [matrices, vectors] = AdamW::new(parameters, false).groups;
    let count = |params: &[Tensor]| params.iter().map(|p| p.numel() as i64).sum();
    let decayed = (v + t) * c + n_layer * 12 * c * c;
    table.equal("decayed: (V + T)·C + L·12C²", decayed, count(&matrices.params));
    table.equal("in so many tensors: 2 + 4L", 2 + 4 * n_layer, matrices.params.len() as i64);
    let not_decayed = n_layer * 13 * c + 2 * c;
    table.equal("not decayed: L·13C + 2C", not_decayed, count(&vectors.params));
    table.equal("in so many tensors: 8L + 2", 8 * n_layer + 2, vectors.params.len() as i64);
    // Both round to float32, which has 24 bits: 6e-8, a few times.
    table.below("a step by hand, against fused", 1e-5, relative(&by_hand.moved, &fused.moved));
    table
        .below("loss after training < at init", at_init, loss)
        .unless(floor.is_none().then_some("another text"));
    if let Some(floor) = floor {
        table.above("loss after training > the corpus's floor", floor, loss);
    }
    table.print();
    Ok(())
}

struct Step {
    ms: f64,
    moved: Tensor, // by how much the first step moves each parameter
}

/// A first step on copies of the parameters, and the least time of a few more.
fn one_step(parameters: &[Tensor], by_hand: bool) -> Result<Step> {
    let copy = |p: &Tensor| p.detach().copy().set_requires_grad(true);
    let copies: Vec<Tensor> = parameters.iter().map(copy).collect();
    let flat = |tensors: &[Tensor]| {
        Tensor::cat(&tensors.iter().map(|t| t.detach().flatten(0, -1)).collect::<Vec<_>>(), 0)
    };
    let mut optimizer = AdamW::new(copies.iter().map(Tensor::shallow_clone).collect(), by_hand);
    let (mut ms, mut moved) = (f64::INFINITY, None);
    for _ in 0..REPETITIONS {
        give_gradients(&copies, parameters); // a step has cleared them
        let start = Instant::now();
        optimizer.step(1e-3)?;
        copies[0].double_value(&[0, 0]); // on a GPU: wait until it has happened
        ms = ms.min(start.elapsed().as_secs_f64() * 1e3);
        moved.get_or_insert_with(|| flat(&copies) - flat(parameters));
    }
    Ok(Step { ms, moved: moved.expect("at least one repetition") })
}

/// Lets the others have gradients like those of `parameters`.
fn give_gradients(others: &[Tensor], parameters: &[Tensor]) {
    for (other, parameter) in others.iter().zip(parameters) {
        // The gradient of a sum of products is the other factor.
        (other * parameter.grad()).sum(Kind::Float).backward();
    }
}

/// What tch's optimizer, which is PyTorch's without fusion, takes; on a model of the same size.
fn tchs_own(model: &Gpt, parameters: &[Tensor]) -> Result<f64> {
    let other = Gpt::new(model.config, parameters[0].device());
    give_gradients(&other.vs.trainable_variables(), parameters);
    let mut optimizer = nn::AdamW::default().build(&other.vs, 1e-3)?;
    let mut ms = f64::INFINITY;
    for _ in 0..REPETITIONS {
        let start = Instant::now();
        optimizer.step();
        other.wte.ws.double_value(&[0, 0]);
        ms = ms.min(start.elapsed().as_secs_f64() * 1e3);
    }
    Ok(ms)
}

/// How far `a` is from `b`, as a share of `b`'s size.
fn relative(a: &Tensor, b: &Tensor) -> f64 {
    let norm = |x: &Tensor| x.to(Device::Cpu).square().sum(Kind::Double).sqrt().double_value(&[]);
    norm(&(a - b)) / norm(b)
}
