// That a training which goes on is the one that was never stopped, and what it takes for that.

use super::{Args, Config, DataLoader, Gpt, accumulate_grads, tensors};
use super::{BETAS, WEIGHT_DECAY, clip_grad_norm};
use anyhow::Result;
use lab::{Log, Table, World, record};
use tch::{Kind, Tensor};
use tch_ext::optim::{FusedAdamW, clear_grads};

const STEPS: usize = 5; // before the checkpoint, and after it

pub fn print(model: &Gpt, train: &mut DataLoader, _: &World, args: &Args, _: &Log) -> Result<()> {
    // In this process alone, however many ranks there are: they all do the same.
    let world = &World::alone(args.lab.device);
    (train.rank, train.world_size) = (0, world.size);
    train.position = 0;
    let mut trainer = Trainer::new(model.config, args);
    trainer.train(train, STEPS)?;
    let (saved, position) = (copies(&trainer, world)?, train.position);
    trainer.train(train, STEPS)?;

    // A process of its own would begin like this: with other weights, and nothing else.
    let goes_on = |train: &mut DataLoader, without: &str| -> Result<i64> {
        let mut other = Trainer::new(model.config, args);
        other.restore(&saved, without, world)?;
        other.optimizer.set_steps(if without == "steps" { 0 } else { STEPS as i64 });
        train.position = if without == "position" { 0 } else { position };
        other.train(train, STEPS)?;
        Ok(differing(&trainer.model, &other.model))
    };
    let p: i64 = trainer.model.vs.trainable_variables().iter().map(|p| p.numel() as i64).sum();
    let mut table = Table::new();
    let name = format!("weights that differ: {} steps, and {STEPS} + {STEPS}", 2 * STEPS);
    table.equal(&name, 0, goes_on(train, "")?);
    let bytes: usize = saved.iter().map(|(_, t)| t.numel() * t.kind().elt_size_in_bytes()).sum();
    let random = saved.last().map_or(0, |(_, random)| random.numel() as i64);
    table.equal("bytes of tensors: 3·4·P + random state", 12 * p + random, bytes as i64);
    for (part, without) in [
        ("exp_avg", "the mean gradients"),
        ("position", "the place in the text"),
        ("steps", "the number of steps"),
    ] {
        println!(
            "without {without}, {} of {} weights differ",
            record::measured(&format!("without_{part}"), lab::grouped(goes_on(train, part)?)),
            lab::grouped(p),
        );
    }
    println!();
    table.print();
    Ok(())
}

/// A model in training.
struct Trainer {
    model: Gpt,
    parameters: Vec<Tensor>,
    optimizer: FusedAdamW,
}

impl Trainer {
    fn new(config: Config, args: &Args) -> Self {
        tch::manual_seed(args.lab.seed.into());
        let model = Gpt::new(config, args.lab.device);
        let parameters = model.vs.trainable_variables();
        let weight_decay = |p: &Tensor| if p.dim() >= 2 { WEIGHT_DECAY } else { 0.0 };
        let optimizer = FusedAdamW::new(&parameters, BETAS, weight_decay);
        Self { model, parameters, optimizer }
    }

    fn train(&mut self, train: &mut DataLoader, steps: usize) -> Result<()> {
        let reducer = World::alone(self.model.vs.device()).reducer(&self.parameters)?;
        for _ in 0..steps {
            accumulate_grads(&self.model, train, train.batch_size, &reducer)?;
            clip_grad_norm(&self.parameters);
            self.optimizer.step(1e-3)?;
            clear_grads(&self.parameters)?;
        }
        Ok(())
    }

    /// Takes over what was saved, but for the tensors whose names begin so (`exp_avg` is the mean gradients alone,
    /// not their squares), and for the random state, from which nothing is drawn here.
    fn restore(&self, saved: &[(String, Tensor)], without: &str, world: &World) -> Result<()> {
        let _guard = tch::no_grad_guard();
        let tensors = tensors(&self.model, &self.optimizer, world)?;
        for ((name, mut tensor), (_, saved)) in tensors.into_iter().zip(saved) {
            if without.is_empty() || name.split('.').next() != Some(without) {
                tensor.copy_(saved);
            }
        }
        Ok(())
    }
}

fn copies(trainer: &Trainer, world: &World) -> Result<Vec<(String, Tensor)>> {
    let tensors = tensors(&trainer.model, &trainer.optimizer, world)?;
    Ok(tensors.into_iter().map(|(name, tensor)| (name, tensor.detach().copy())).collect())
}

/// How many weights of two models are not the same, bit for bit.
fn differing(a: &Gpt, b: &Gpt) -> i64 {
    let bits = |model: &Gpt| {
        let all = model.vs.trainable_variables();
        let all: Vec<Tensor> = all.iter().map(|p| p.detach().flatten(0, -1)).collect();
        Tensor::cat(&all, 0).view_dtype(Kind::Int)
    };
    bits(a).ne_tensor(&bits(b)).sum(Kind::Int64).int64_value(&[])
}
