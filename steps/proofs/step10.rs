// The gradient of a whole batch, and of the same batch in parts.

use super::{Args, DataLoader, Gpt, backward};
use anyhow::Result;
use lab::Table;
use tch::{Device, Kind, Tensor};

pub fn print(
    model: &Gpt,
    [at_init, loss]: [f64; 2],
    floor: Option<f64>,
    train: &mut DataLoader,
    args: &Args,
) -> Result<()> {
    // On a fresh model, whose gradient is large, and in float32, so that rounding does not blur it.
    tch::manual_seed(args.lab.seed.into());
    let fresh = Gpt::new(model.config, args.lab.device);
    let (whole_batch, micro_batch) = (10.min(2 * train.batch_size), 4.min(train.batch_size));
    let mut of = |micro_batch| {
        (train.position, train.batch_size) = (0, micro_batch);
        backward(&fresh, train, whole_batch);
        gradient(&fresh)
    };
    let (whole, parts) = (of(whole_batch), of(micro_batch));
    let without_shares = without_shares(&fresh, train, whole_batch);

    let mut table = Table::new();
    let n = (whole_batch as f64 / micro_batch as f64).ceil();
    let name = format!("{whole_batch} at once and {micro_batch} at a time: gradients differ by");
    // Both sum in float32, in another order.
    table.below(&name, 1e-5, norm(&(&whole - &parts)) / norm(&whole));
    table.near(
        "without the shares it is too long: n times",
        n,
        norm(&without_shares) / norm(&whole),
        0.5,
    );
    table.below("loss after training < at init", at_init, loss).unless(args.lab.excuse());
    if let Some(floor) = floor {
        table.above("loss after training > the corpus's floor", floor, loss);
    }
    table.print();
    Ok(())
}

/// What build-nanogpt warns of: the micro-batches' mean losses simply added.
fn without_shares(model: &Gpt, train: &mut DataLoader, sequences: i64) -> Tensor {
    train.position = 0;
    let mut left = sequences;
    while left > 0 {
        let b = left.min(train.batch_size);
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
