// The same training in each precision, side by side.

use super::{Args, Config, DataLoader, Gpt, Precision};
use anyhow::Result;
use lab::{Table, grouped};
use std::time::Instant;
use tch::Kind;
use tch::nn::{self, OptimizerConfig};

const STEPS: i64 = 10;

pub fn print(
    model: &Gpt,
    [at_init, loss]: [f64; 2],
    floor: Option<f64>,
    train: &mut DataLoader,
    args: &Args,
) -> Result<()> {
    let with = |vocab_size| Config { vocab_size, ..model.config };
    let mut ways = vec![("float32", Precision::Float32, with(50_257))];
    ways.push(("float32", Precision::Float32, with(50_304)));
    if args.lab.device.is_cuda() {
        ways.push(("TF32", Precision::Tf32, with(50_304)));
    }
    ways.push(("bfloat16", Precision::Bfloat16, with(50_304)));

    println!("{STEPS} steps of training each:");
    println!(
        "{:10} {:>7} {:>12} {:>14} {:>10} {:>9} {:>8}",
        "", "V", "a step", "", "peak", "loss", ""
    );
    let mut losses = Vec::new();
    let mut first_ms = None;
    for (name, precision, config) in ways {
        let trial = trial(precision, config, train, args)?;
        let ratio = *first_ms.get_or_insert(trial.ms) / trial.ms;
        println!(
            "{name:10} {:>7} {:>9.1} ms {:>8} tok/s {:>7.0} MB {:>9.4} {ratio:>7.2}×",
            grouped(config.vocab_size),
            trial.ms,
            grouped(trial.tokens_per_second as i64),
            trial.mb,
            trial.loss,
        );
        losses.push(trial.loss);
    }
    println!();

    let mut table = Table::new();
    if args.weights.is_none() {
        let (v, c) = (model.config.vocab_size as f64, model.config.n_embd as f64);
        table
            .near("loss at init: ln 50,304 + C·0.02²/2", v.ln() + c * 0.0002, at_init, 0.03)
            .unless(args.lab.other_text());
    }
    let (float32, bfloat16) = (losses[1], losses[losses.len() - 1]);
    // bfloat16 has 8 significant bits: a relative error of up to 1/256 in each factor.
    table.near("loss after 10 steps, bfloat16 as float32", float32, bfloat16, 0.02);
    let parameters = model.vs.trainable_variables();
    let float = parameters.iter().filter(|p| p.kind() == Kind::Float).count() as i64;
    table.equal("tensors of weights that stayed float32", parameters.len() as i64, float);
    table.below("loss after training < at init", at_init, loss).unless(args.lab.excuse());
    if let Some(floor) = floor {
        table.above("loss after training > the corpus's floor", floor, loss);
    }
    table.print();
    Ok(())
}

struct Trial {
    ms: f64,
    tokens_per_second: f64,
    mb: f64,
    loss: f64,
}

/// Trains a fresh model for a few steps on the first batches; the time is that of the fastest step.
fn trial(
    precision: Precision,
    config: Config,
    train: &mut DataLoader,
    args: &Args,
) -> Result<Trial> {
    let device = args.lab.device;
    tch::manual_seed(args.lab.seed.into());
    let mut model = Gpt::new(config, device);
    model.precision = precision;
    let mut optimizer = nn::AdamW::default().build(&model.vs, args.learning_rate())?;
    train.position = 0;
    let (mut ms, mut last) = (f64::INFINITY, 0.0);
    tch_ext::memory::reset_peak(device)?;
    for _ in 0..STEPS {
        let start = Instant::now();
        let (x, y) = train.next_batch();
        let loss = model.loss(&x, &y);
        optimizer.backward_step(&loss);
        last = loss.double_value(&[]);
        ms = ms.min(start.elapsed().as_secs_f64() * 1e3);
    }
    let tokens = train.batch_size * train.sequence_length;
    Ok(Trial {
        ms,
        tokens_per_second: tokens as f64 / ms * 1e3,
        mb: tch_ext::memory::peak(device)? as f64 / 1e6,
        loss: last,
    })
}
