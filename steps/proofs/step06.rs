// What theory says about the first loss, the size and the residual stream.

use super::{Args, Config, DataLoader, Gpt, INIT_STD};
use anyhow::Result;
use lab::{Log, Table, record};
use tch::{Kind, Tensor};

pub fn print(model: &Gpt, train: &mut DataLoader, args: &Args, log: &Log) -> Result<()> {
    let mut table = Table::new();
    let counted = model.vs.trainable_variables().iter().map(|p| p.numel() as i64).sum();
    table.equal("parameters, wte and lm_head tied", predicted_parameters(&model.config), counted);
    if args.model.weights.is_none() {
        // ln_f hands on C numbers of variance 1, a row of wte has C of variance INIT_STD².
        let (v, c) = (model.config.vocab_size as f64, model.config.n_embd as f64);
        let predicted = v.ln() + c * INIT_STD * INIT_STD / 2.0;
        let at_init = log.values("training", "val")[0];
        table
            .near("loss at init: ln V + C·0.02²/2", predicted, at_init, 0.03)
            .unless(log.other_text());
        let (scaled, plain) = added_to_the_stream(&model.config, train);
        println!(
            "the blocks add numbers of std {} to the stream; without the scaling {}\n",
            record::measured("added_std", format!("{scaled:.4}")),
            record::measured("added_std.unscaled", format!("{plain:.4}")),
        );
        let ratio = (2.0 * model.config.n_layer as f64).sqrt();
        // Attention reads what the blocks before have added, so it is not exactly a factor.
        table.near("std unscaled over scaled: √(2L)", ratio, plain / scaled, 0.3);
    }
    table.print();
    Ok(())
}

fn predicted_parameters(config: &Config) -> i64 {
    let (v, t, c) = (config.vocab_size, config.block_size, config.n_embd);
    (v + t) * c + config.n_layer * (12 * c * c + 13 * c) + 2 * c
}

/// The standard deviation of what the blocks of a fresh model add to the residual stream: as it starts,
/// and with every layer that writes into the stream started like the others.
fn added_to_the_stream(config: &Config, train: &mut DataLoader) -> (f64, f64) {
    let _guard = tch::no_grad_guard();
    let (idx, _) = train.next_batch();
    let model = Gpt::new(*config, idx.device());
    let added = || {
        let pos = Tensor::arange(idx.size()[1], (Kind::Int64, idx.device()));
        let start = idx.apply(&model.wte) + pos.apply(&model.wpe);
        let end = model.h.iter().fold(start.shallow_clone(), |x, block| x.apply(block));
        (end - start).std(false).double_value(&[])
    };
    let scaled = added();
    for (name, mut parameter) in model.vs.variables() {
        if name.ends_with("c_proj.weight") {
            parameter *= INIT_STD / config.residual_std();
        }
    }
    (scaled, added())
}
