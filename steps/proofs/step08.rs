// The same steps in each precision, side by side, on a model of GPT-2's size.

use super::{Args, Config, DataLoader, Gpt, Precision};
use anyhow::Result;
use lab::{Log, Size, Table, grouped, record};
use std::time::Instant;
use tch::nn::{self, OptimizerConfig};
use tch::{Device, Kind, Tensor};
use tch_ext::precision::bf16_is_fast;

const STEPS: usize = 3;

pub fn print(model: &Gpt, train: &mut DataLoader, args: &Args, log: &Log) -> Result<()> {
    let device = args.lab.device;
    let mut table = Table::new();
    if args.model.weights.is_none() {
        let (v, c) = (model.config.vocab_size as f64, model.config.n_embd as f64);
        let at_init = log.values("training", "val")[0];
        table
            .near("loss at init: ln V + C·0.02²/2", v.ln() + c * 0.0002, at_init, 0.03)
            .unless(log.other_text());
    }
    let (idx, targets) = train.next_batch();
    let (float32, bfloat16) = in_both(model, &idx, &targets)?;
    // bfloat16 has 8 significant bits: a relative error of up to 1/256 in each factor.
    table.near("loss in bfloat16 as in float32", float32, bfloat16, 0.02);

    compare(device, args.lab.seed)?;
    table.print();
    Ok(())
}

/// The loss on one batch in float32 and in bfloat16.
fn in_both(model: &Gpt, idx: &Tensor, targets: &Tensor) -> Result<(f64, f64)> {
    let _guard = tch::no_grad_guard();
    let loss = |precision: Precision| {
        precision.set_float32()?;
        let loss = precision.autocast(idx.device(), || {
            let logits = model.forward(idx).flatten(0, 1);
            logits.cross_entropy_for_logits(&targets.flatten(0, 1))
        });
        Ok::<f64, anyhow::Error>(loss.double_value(&[]))
    };
    let losses = (loss(Precision::Float32)?, loss(Precision::Bfloat16)?);
    model.precision.set_float32()?;
    Ok(losses)
}

/// Some steps of GPT-2's real size: float32 with 50,257 tokens, with 50,304, and then in less precision.
/// They take turns, so that a machine that becomes slower is unjust to none.
fn compare(device: Device, seed: u32) -> Result<()> {
    if !bf16_is_fast(device)? {
        println!("on this hardware: no instructions for bfloat16, so float32 is the fastest\n");
        return Ok(());
    }
    let odd = Config { vocab_size: 50_257, ..Config::new(Size::Gpt2, 50_257) };
    let round = Config::new(Size::Gpt2, 50_257);
    let mut ways = vec![
        Way::new("float32", odd, Precision::Float32, device, seed)?,
        Way::new("float32", round, Precision::Float32, device, seed)?,
    ];
    if device.is_cuda() {
        ways.push(Way::new("TF32", round, Precision::Tf32, device, seed)?);
    }
    ways.push(Way::new("bfloat16", round, Precision::Bfloat16, device, seed)?);
    for _ in 0..STEPS {
        for way in &mut ways {
            way.step()?;
        }
    }
    let (b, t) = size_of_batch(device);
    println!(
        "on this hardware: GPT-2, 124M parameters, {b} sequences of {t}, fastest of {STEPS} steps:"
    );
    for way in &ways {
        let vocab_size = way.model.config.vocab_size;
        let name = |what: &str| format!("{}_{what}@{vocab_size}", way.name);
        println!(
            "  {:10} {:>7} tokens {:>9} ms {:>8} tok/s {:>6}×",
            way.name,
            grouped(vocab_size),
            record::masked(&name("ms"), format!("{:.1}", way.ms)),
            record::masked(&name("tok/s"), grouped(((b * t) as f64 / way.ms * 1e3) as i64)),
            record::masked(&name("times_as_fast"), format!("{:.2}", ways[0].ms / way.ms)),
        );
    }
    println!();
    Ok(())
}

fn size_of_batch(device: Device) -> (i64, i64) {
    if device.is_cuda() { (16, 1024) } else { (4, 64) }
}

struct Way {
    name: &'static str,
    model: Gpt,
    optimizer: nn::Optimizer,
    ids: Tensor, // (B, T + 1)
    ms: f64,
}

impl Way {
    fn new(
        name: &'static str,
        config: Config,
        precision: Precision,
        device: Device,
        seed: u32,
    ) -> Result<Self> {
        tch::manual_seed(seed.into());
        let mut model = Gpt::new(config, device);
        model.precision = precision;
        let (b, t) = size_of_batch(device);
        let ids = Tensor::randint(50_257, [b, t + 1], (Kind::Int64, device));
        let optimizer = nn::AdamW::default().build(&model.vs, 3e-4)?;
        Ok(Self { name, model, optimizer, ids, ms: f64::INFINITY })
    }

    fn step(&mut self) -> Result<()> {
        self.model.precision.set_float32()?;
        let t = self.ids.size()[1] - 1;
        let start = Instant::now();
        let loss = self.model.loss(&self.ids.narrow(1, 0, t), &self.ids.narrow(1, 1, t));
        self.optimizer.backward_step(&loss);
        loss.double_value(&[]); // on a GPU: wait until it has happened
        self.ms = self.ms.min(start.elapsed().as_secs_f64() * 1e3);
        Ok(())
    }
}
