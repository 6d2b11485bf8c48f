// What theory says about GPT-2's size and its first loss; and our logits beside Hugging Face's.

use super::{Args, Config, DataLoader, Gpt};
use anyhow::{Context, Result};
use lab::{Log, Table};
use std::path::Path;
use tch::{Device, Kind, Tensor};

/// A small GPT-2 of random weights, made and run with Hugging Face's transformers: see
/// tests/fixtures/make_gpt2.py.
const REFERENCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/gpt2-tiny");

pub fn print(model: &Gpt, _: &mut DataLoader, args: &Args, log: &Log) -> Result<()> {
    let mut table = Table::new();
    let counted = model.vs.trainable_variables().iter().map(|p| p.numel() as i64).sum();
    let predicted = predicted_parameters(&model.config);
    table.equal("parameters: C·(2V+T+2 + L·(12C+13))", predicted, counted);
    let ln_v = (model.config.vocab_size as f64).ln();
    let loss = log.values("", "val")[0];
    let row = match args.model.weights {
        None => table.near("loss at init: ln V + 1/6", ln_v + 1.0 / 6.0, loss, 0.1),
        Some(_) => table.below("loss on the corpus < ln V", ln_v, loss),
    };
    row.unless(log.other_text());
    table.below("logits against Hugging Face's", 1e-4, distance_to_reference(model.vs.device())?);
    table.print();
    Ok(())
}

fn predicted_parameters(config: &Config) -> i64 {
    let (v, t, c) = (config.vocab_size, config.block_size, config.n_embd);
    // In a block: c_attn, c_proj; c_fc, c_proj; two norms. Then ln_f.
    let block = (3 * c * c + 3 * c) + (c * c + c) + (4 * c * c + 4 * c) + (4 * c * c + c) + 4 * c;
    (2 * v + t) * c + config.n_layer * block + 2 * c
}

/// How far our logits are from those that Hugging Face's GPT-2 gave with the same weights, as a share of
/// their size.
fn distance_to_reference(device: Device) -> Result<f64> {
    let folder = Path::new(REFERENCE);
    let model = Gpt::from_pretrained(folder, device)?;
    let expected = Tensor::read_safetensors(folder.join("expected.safetensors"))?;
    let expected = |name: &str| {
        let found = expected.iter().find(|(n, _)| n == name);
        found.map(|(_, tensor)| tensor.to(device)).context("the reference is incomplete")
    };
    let (ids, logits) = (expected("ids")?, expected("logits")?);
    let ours = tch::no_grad(|| model.forward(&ids));
    let norm = |x: Tensor| x.to(Device::Cpu).square().sum(Kind::Double).sqrt().double_value(&[]);
    Ok(norm(ours - &logits) / norm(logits))
}
