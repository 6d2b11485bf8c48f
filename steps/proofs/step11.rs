// That all ranks are one: their weights, their gradient, and what they send each other for it.

use super::{Args, DataLoader, Gpt, accumulate_grads};
use anyhow::Result;
use lab::{Log, Reducer, Table, World, record};
use std::{fs, time::Instant};
use tch::{Device, Kind, Tensor};

const SEQUENCES: i64 = 5; // of each rank,
const PARTS: i64 = 2; // in micro-batches of 2 + 2 + 1

pub fn print(
    model: &Gpt,
    train: &mut DataLoader,
    world: &World,
    args: &Args,
    _: &Log,
) -> Result<()> {
    let differing = differing(world, &model.vs.trainable_variables())?;
    // On a fresh model, whose gradient is large, and in float32, so that rounding does not blur it.
    tch::manual_seed(args.lab.seed.into());
    let fresh = Gpt::new(model.config, args.lab.device);
    let parameters = fresh.vs.trainable_variables();
    world.broadcast(&parameters)?;
    let reducer = world.reducer(&parameters)?;
    let of_all_ranks = gradient(&fresh, train, SEQUENCES, &reducer);
    let of_one_process = in_one_process(&fresh, train, world)?;
    let wire = bytes_on_the_wire(&fresh, train, &reducer, world)?;
    if world.size > 1 {
        print_overhead(&fresh, train, &reducer, world)?;
    }

    let mut table = Table::new();
    table.equal("weights that differ from rank 0's", 0, differing).of_the_machine(); // how many, if any
    let difference = norm(&(&of_all_ranks - &of_one_process)) / norm(&of_one_process);
    let name = format!("gradient of {} ranks and of one process", world.size);
    table.below(&name, 1e-5, difference); // both sum in float32, in another order
    if let Some(bytes) = wire {
        // Each of n ranks sends 2·(n − 1)/n of its gradients, 4 bytes each.
        let p: i64 = parameters.iter().map(|p| p.numel() as i64).sum();
        let formula = (2 * (world.size - 1) * 4 * p) as f64 / 1e6;
        table.near("MB sent by all in a step: 2·(n − 1)·4·P", formula, bytes / 1e6, 0.05 * formula);
    }
    table.print();
    Ok(())
}

/// How many of all ranks' weights are not rank 0's, to the last bit.
fn differing(world: &World, parameters: &[Tensor]) -> Result<i64> {
    let Some(group) = world.group() else { return Ok(0) };
    let mine: Vec<Tensor> = parameters.iter().map(|p| p.detach().flatten(0, -1)).collect();
    let all = group.all_gather(&Tensor::cat(&mine, 0))?; // (ranks, P)
    let bits = all.view_dtype(Kind::Int); // two numbers may be equal and differ in their bits: 0 and −0
    Ok(bits.ne_tensor(&bits.get(0)).sum(Kind::Int64).int64_value(&[]))
}

/// The gradient of the first sequences of each rank, as one vector.
fn gradient(model: &Gpt, train: &mut DataLoader, sequences: i64, reducer: &Reducer) -> Tensor {
    (train.position, train.batch_size) = (0, PARTS);
    accumulate_grads(model, train, sequences, reducer);
    let parameters = model.vs.trainable_variables();
    let grads: Vec<Tensor> = parameters.iter().map(|p| p.grad().flatten(0, -1)).collect();
    let gradient = Tensor::cat(&grads, 0).copy();
    parameters.iter().for_each(|p| drop(p.grad().zero_()));
    gradient
}

/// The same, with all the ranks' sequences in this process.
fn in_one_process(model: &Gpt, train: &mut DataLoader, world: &World) -> Result<Tensor> {
    let (rank, world_size) = (train.rank, train.world_size);
    (train.rank, train.world_size) = (0, 1);
    let alone = World::alone(model.vs.device());
    let reducer = alone.reducer(&model.vs.trainable_variables())?;
    let gradient = gradient(model, train, SEQUENCES * world.size, &reducer);
    (train.rank, train.world_size) = (rank, world_size);
    Ok(gradient)
}

/// What this machine's ranks send each other in a step, if Linux counts it.
fn bytes_on_the_wire(
    model: &Gpt,
    train: &mut DataLoader,
    reducer: &Reducer,
    world: &World,
) -> Result<Option<f64>> {
    const STEPS: i64 = 10;
    let before = bytes_written();
    for _ in 0..STEPS {
        drop(gradient(model, train, PARTS, reducer));
    }
    let sent = world.gather(&[(bytes_written() - before) / STEPS as f64])?.iter().sum::<f64>();
    Ok(Some(sent).filter(|sent| world.size > 1 && sent.is_finite()))
}

/// The bytes that this process has written so far, to the other ranks too, as Linux counts them; elsewhere NaN.
fn bytes_written() -> f64 {
    let io = fs::read_to_string("/proc/self/io").unwrap_or_default();
    let written = io.lines().find_map(|line| line.strip_prefix("wchar: ")?.parse().ok());
    written.unwrap_or(f64::NAN)
}

/// Prints how much longer a step takes because gradients are averaged: some with and some without, in turn.
fn print_overhead(
    model: &Gpt,
    train: &mut DataLoader,
    reducer: &Reducer,
    world: &World,
) -> Result<()> {
    const ROUNDS: usize = 5;
    const STEPS: i64 = 2;
    let nothing_sent = World::alone(model.vs.device()).reducer(&[])?;
    let mut seconds = [0.0; 2];
    for _ in 0..ROUNDS {
        for (seconds, reducer) in seconds.iter_mut().zip([reducer, &nothing_sent]) {
            world.mean(0.0)?;
            let start = Instant::now();
            for _ in 0..STEPS {
                drop(gradient(model, train, 4 * PARTS, reducer));
            }
            world.mean(0.0)?;
            *seconds += start.elapsed().as_secs_f64();
        }
    }
    let ms = seconds.map(|seconds| seconds * 1e3 / (ROUNDS as f64 * STEPS as f64));
    println!(
        "the gradient of {} sequences in 4 parts: {} ms,\n  {} ms if nothing is sent; averaging adds {} %\n",
        4 * PARTS * world.size,
        record::masked("averaged_ms", format!("{:.1}", ms[0])),
        record::masked("nothing_sent_ms", format!("{:.1}", ms[1])),
        record::masked("overhead_percent", format!("{:.1}", 100.0 * (ms[0] / ms[1] - 1.0))),
    );
    Ok(())
}

fn norm(x: &Tensor) -> f64 {
    x.to(Device::Cpu).square().sum(Kind::Double).sqrt().double_value(&[])
}
