//! Trains a small model on the fables, and lets it write: `cargo run -p nanogpt --example own_model`.

use nanogpt::{Generator, Rng, Sampling, TrainConfig, World, generate::Writer, source, train};
use tch::Device;

fn main() -> anyhow::Result<()> {
    let mut config = TrainConfig::load(None, &[])?;
    config.dataset = "fables".into(); // told on the spot; any folder of `nanogpt prepare` will do
    config.out_dir = "out/own_model".into();
    config.init_from = "auto".into(); // goes on where it was stopped
    (config.n_layer, config.n_head, config.n_embd, config.block_size) = (2, 2, 64, 64);
    (config.batch_size, config.gradient_accumulation_steps) = (8, 1);
    (config.max_iters, config.lr_decay_iters, config.warmup_iters) = (200, 200, 20);
    (config.eval_interval, config.eval_iters, config.learning_rate) = (100, 10, 3e-3);
    train(&config, &World::alone(Device::Cpu), Device::Cpu)?;

    let (model, tokenizer) = source::open(&config.out_dir, Device::Cpu)?;
    let prompt = tokenizer.encode("<|endoftext|>");
    let mut generator =
        Generator::new(&model, tokenizer.n_vocab(), &prompt, Sampling::default(), true);
    let (mut rng, mut writer) = (Rng::new(1), Writer::new(&tokenizer));
    (0..100).for_each(|_| print!("{}", writer.push(generator.next(&mut rng))));
    Ok(())
}
