// What theory says about GPT-2's size and its first loss; and our logits beside Hugging Face's.

use super::{Args, Config, Gpt, Size, Tokenizer};
use anyhow::{Context, Result};
use lab::{Corpus, Table};
use std::path::Path;
use tch::{Device, Kind, Tensor};

/// A small GPT-2 of random weights, made and run with Hugging Face's transformers: see
/// tests/fixtures/make_gpt2.py.
const REFERENCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/gpt2-tiny");

const WINDOWS: i64 = 16;

pub fn print(model: &Gpt, tokenizer: &Tokenizer, corpus: &Corpus, args: &Args) -> Result<()> {
    let mut table = Table::new();
    let counted = model.vs.trainable_variables().iter().map(|p| p.numel() as i64).sum();
    table.equal(
        "parameters: C·(2V + T + 2 + L·(12C + 13))",
        predicted_parameters(&model.config),
        counted,
    );
    // No memory is needed to count what stands in the list of names and shapes.
    let gpt2 = Config::new(Size::Gpt2);
    let listed = gpt2.checkpoint().into_iter().map(|(_, shape)| shape.iter().product::<i64>());
    let head = gpt2.vocab_size * gpt2.n_embd;
    table.equal(
        "GPT-2's own, its lm_head counted too",
        predicted_parameters(&gpt2),
        listed.sum::<i64>() + head,
    );

    let ids = Tensor::from_slice(&tokenizer.encode(&corpus.val)).to(model.vs.device());
    let ln_v = (model.config.vocab_size as f64).ln();
    // A text of one token has nothing to predict.
    if ids.numel() > 1 {
        let loss = loss_on(model, &ids);
        let row = match args.weights {
            None => table.near("loss at init: ln V + 1/6", ln_v + 1.0 / 6.0, loss, 0.1),
            Some(_) => table.below("loss on the corpus < ln V", ln_v, loss),
        };
        row.unless(args.lab.other_text());
    }
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

/// The loss on the first windows of `ids`.
fn loss_on(model: &Gpt, ids: &Tensor) -> f64 {
    let _guard = tch::no_grad_guard();
    let t = model.config.block_size.min(ids.size()[0] - 1);
    let n = WINDOWS.min((ids.size()[0] - 1) / t);
    let windows = |from| ids.narrow(0, from, n * t).view([n, t]);
    model.loss(&windows(0), &windows(1)).double_value(&[])
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
