// That an epoch has every token once, whoever reads it, and how long a step waits for its batch.

use super::{Args, DataLoader, Gpt, Stream};
use anyhow::Result;
use lab::{Log, Prefetch, Table, World, record};
use std::{collections::BTreeMap, time::Instant};
use tch::Device;

const RANKS: i64 = 3; // as if there were so many, each of which reads
const BATCH: i64 = 5; // sequences of
const LENGTH: i64 = 100; // tokens, so that nothing comes out even

pub fn print(model: &Gpt, train: &mut DataLoader, _: &World, _: &Args, _: &Log) -> Result<()> {
    print_waiting(model, train)?;
    let stream = &train.stream;
    let total = stream.shards.total();
    let mut table = Table::new();
    let mut tokens = Vec::new();
    let steps = (total + RANKS * BATCH * LENGTH - 1) / (RANKS * BATCH * LENGTH);
    let mut ranks = ranks_of(stream);
    for _ in 0..steps {
        for rank in &mut ranks {
            let (x, _) = rank.next_batch(BATCH)?;
            tokens.extend(Vec::<i64>::try_from(x.flatten(0, -1))?);
        }
    }
    tokens.truncate(total as usize); // what is more is the next epoch's
    let all: Vec<usize> = (0..stream.shards.len()).collect();
    let on_disk = counts(&stream.shards.read(&all, 0, total)?);
    let handed_out = counts(&tokens);
    let differing = on_disk.iter().filter(|(id, n)| handed_out.get(id) != Some(n)).count();
    let name = format!("ids whose count in an epoch of {RANKS} ranks is off");
    table.equal(&name, 0, differing as i64);
    let (first, second) = (stream.order(0), stream.order(1));
    table.equal("shards in an epoch's order", stream.shards.len() as i64, distinct(&first));
    let same = first.iter().zip(&second).filter(|(a, b)| a == b).count();
    println!(
        "{} tokens in {} shards; {} of them at the same place in the next epoch\n",
        record::exact("tokens", lab::grouped(total)),
        record::exact("shards", stream.shards.len()),
        record::exact("same_place", same),
    );
    table.print();
    Ok(())
}

fn ranks_of(stream: &Stream) -> Vec<DataLoader> {
    let rank = |rank| DataLoader {
        stream: stream.clone(),
        ahead: Prefetch::new(),
        device: Device::Cpu,
        batch_size: BATCH,
        sequence_length: LENGTH,
        rank,
        world_size: RANKS,
        position: 0,
    };
    (0..RANKS).map(rank).collect()
}

/// How often each id occurs.
fn counts(tokens: &[i64]) -> BTreeMap<i64, usize> {
    let mut counts = BTreeMap::new();
    for token in tokens {
        *counts.entry(*token).or_default() += 1;
    }
    counts
}

fn distinct(order: &[usize]) -> i64 {
    order.iter().collect::<std::collections::BTreeSet<_>>().len() as i64
}

/// Prints how long a batch takes to come, read ahead and not.
fn print_waiting(model: &Gpt, train: &mut DataLoader) -> Result<()> {
    const BATCHES: usize = 20;
    let mut seconds = [0.0; 3]; // reading when asked, waiting for what was read ahead, computing
    for _ in 0..BATCHES {
        train.ahead = Prefetch::new();
        let start = Instant::now();
        let (x, y) = train.next_batch(train.batch_size)?;
        seconds[0] += start.elapsed().as_secs_f64();
        let start = Instant::now();
        model.loss(&x, &y).backward();
        seconds[2] += start.elapsed().as_secs_f64();
        let start = Instant::now();
        drop(train.next_batch(train.batch_size)?);
        seconds[1] += start.elapsed().as_secs_f64();
    }
    let ms = seconds.map(|seconds| seconds * 1e3 / BATCHES as f64);
    println!(
        "a batch: {} ms to read when it is asked for,\n  \
         {} ms to wait for when it is read ahead, {} ms to compute with",
        record::masked("read_ms", format!("{:.3}", ms[0])),
        record::masked("waited_ms", format!("{:.3}", ms[1])),
        record::masked("computed_ms", format!("{:.1}", ms[2])),
    );
    Ok(())
}
