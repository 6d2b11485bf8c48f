// The gradient of a whole batch, and of the same batch in parts.

use super::{Args, DataLoader, Gpt, accumulate_grads};
use anyhow::Result;
use lab::{Log, Table, record};
use tch::{Device, Kind, Tensor};

const WHOLE: i64 = 16;
const PARTS: i64 = 5; // 5 + 5 + 5 + 1

pub fn print(model: &Gpt, train: &mut DataLoader, args: &Args, _: &Log) -> Result<()> {
    // On a fresh model, whose gradient is large, and in float32, so that rounding does not blur it.
    tch::manual_seed(args.lab.seed.into());
    let fresh = Gpt::new(model.config, args.lab.device);
    let (whole, whole_mb) = in_parts(&fresh, train, WHOLE)?;
    let (parts, parts_mb) = in_parts(&fresh, train, PARTS)?;
    let without_shares = without_shares(&fresh, train);
    println!(
        "{WHOLE} sequences at once take {} MB, {PARTS} at a time {} MB\n",
        record::masked("whole_mb", format!("{whole_mb:.0}")),
        record::masked("parts_mb", format!("{parts_mb:.0}")),
    );

    let mut table = Table::new();
    // Both sum in float32, in another order.
    let difference = norm(&(&whole - &parts)) / norm(&whole);
    let name = format!("gradients of {WHOLE} at once and of {PARTS} at a time");
    table.below(&name, 1e-5, difference);
    let n = (WHOLE as f64 / PARTS as f64).ceil();
    let too_long = norm(&without_shares) / norm(&whole);
    table.near("without the shares it is too long: n times", n, too_long, 0.5);
    table.print();
    Ok(())
}

/// The gradient of the first sequences, so many at a time, and the memory at its peak in MB.
fn in_parts(model: &Gpt, train: &mut DataLoader, micro_batch: i64) -> Result<(Tensor, f64)> {
    let device = model.vs.device();
    (train.position, train.batch_size) = (0, micro_batch);
    tch_ext::memory::reset_peak(device)?;
    accumulate_grads(model, train, WHOLE);
    let mb = tch_ext::memory::peak(device)? as f64 / 1e6;
    Ok((gradient(model), mb))
}

/// What build-nanogpt warns of: the micro-batches' mean losses simply added.
fn without_shares(model: &Gpt, train: &mut DataLoader) -> Tensor {
    train.position = 0;
    let mut left = WHOLE;
    while left > 0 {
        let b = left.min(PARTS);
        let (x, y) = train.next_batch(b);
        model.loss(&x, &y).backward();
        left -= b;
    }
    gradient(model)
}

/// All parameters' gradients as one vector; clears them.
fn gradient(model: &Gpt) -> Tensor {
    let parameters = model.vs.trainable_variables();
    let gradient =
        Tensor::cat(&parameters.iter().map(|p| p.grad().flatten(0, -1)).collect::<Vec<_>>(), 0);
    let gradient = gradient.copy();
    parameters.into_iter().for_each(|mut p| p.zero_grad());
    gradient
}

fn norm(x: &Tensor) -> f64 {
    x.to(Device::Cpu).square().sum(Kind::Double).sqrt().double_value(&[])
}
