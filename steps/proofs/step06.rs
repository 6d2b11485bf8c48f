// What theory says about the first loss, the size and the residual stream.

use super::{Args, Config, DataLoader, Gpt, STD, Size};
use anyhow::Result;
use lab::Table;
use tch::nn::Module;
use tch::{Kind, Tensor};

/// `losses`: at the start, of the one batch after learning it by heart, and on the validation text.
pub fn print(
    model: &Gpt,
    losses: [f64; 3],
    floor: Option<f64>,
    train: &mut DataLoader,
    args: &Args,
) -> Result<()> {
    let [at_init, of_one, val] = losses;
    let ln_v = (model.config.vocab_size as f64).ln();
    let mut table = Table::new();
    let counted = model.vs.trainable_variables().iter().map(|p| p.numel() as i64).sum();
    table.equal("parameters, wte and lm_head tied", predicted_parameters(&model.config), counted);
    let gpt2 = Config::new(Size::Gpt2);
    let listed =
        gpt2.checkpoint().into_iter().map(|(_, shape)| shape.iter().product::<i64>()).sum();
    table.equal(
        "GPT-2's own: 163,037,184 − V·C",
        163_037_184 - gpt2.vocab_size * gpt2.n_embd,
        listed,
    );
    if args.weights.is_none() {
        // ln_f hands on C numbers of variance 1, a row of wte has C of variance STD².
        let c = model.config.n_embd as f64;
        let predicted = ln_v + c * STD * STD / 2.0;
        table
            .near("loss at init: ln V + C·0.02²/2", predicted, at_init, 0.03)
            .unless(args.lab.other_text());
        let (scaled, plain) = added_to_the_stream(&model.config, train);
        println!(
            "the blocks add numbers of std {scaled:.4} to the stream; without the scaling {plain:.4}\n"
        );
        let ratio = (2.0 * model.config.n_layer as f64).sqrt();
        // Attention reads what the blocks before have added, so it is not exactly a factor.
        table.near("that is less by √(2L)", ratio, plain / scaled, 0.3);
    }
    table.below("loss of one batch, learned by heart", 0.1, of_one).unless(args.lab.excuse());
    table.below("loss after training < at init", at_init, val).unless(args.lab.excuse());
    if let Some(floor) = floor {
        table.above("loss after training > the corpus's floor", floor, val);
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
        let start = model.wte.forward(&idx) + model.wpe.forward(&pos);
        let end = model.h.iter().fold(start.shallow_clone(), |x, block| block.forward(&x));
        (end - start).std(false).double_value(&[])
    };
    let scaled = added();
    for (name, mut parameter) in model.vs.variables() {
        if name.ends_with("c_proj.weight") {
            parameter *= STD / config.residual_std();
        }
    }
    (scaled, added())
}
