// What theory says about the transformer, and pictures of what its heads look at and what that is worth.

use super::{BLOCK_SIZE, Model, N_EMBD, N_HEAD, N_LAYER, Vocab};
use anyhow::Result;
use lab::plot::{HeatMap, Plot, heat_maps};
use lab::{Flags, Log, Table, record};
use tch::{IndexOp, Kind, Reduction, Tensor};

pub fn print(model: &Model, log: &Log) {
    let loss_at_init = log.values("training", "val")[0];
    let vocab_size = model.lm_head.ws.size()[0];
    let parameters = model.vs.trainable_variables().iter().map(|p| p.numel() as i64).sum();
    let mut table = Table::new();

    let (v, t, c) = (vocab_size, BLOCK_SIZE, N_EMBD);
    // In a block: query, key, value; proj; up and down again; two norms. Then ln_f and lm_head.
    let block = 3 * c * c + (c * c + c) + (8 * c * c + 5 * c) + 4 * c;
    let predicted = v * c + t * c + N_LAYER * block + 2 * c + (c * v + v);
    table.equal("parameters: C·(2V + T + 2 + L·(12C + 10)) + V", predicted, parameters);

    // ln_f hands lm_head C numbers of variance 1, its weights have variance 1/(3C) and so has its
    // bias: logits of variance σ² = 1/3. As in step01, the loss is ln V + σ²/2. The luck of V logits'
    // draw stays in it: the mean over the text of a few numbers of standard deviation 0.6.
    table
        .near("loss at init: ln V + 1/6", (v as f64).ln() + 1.0 / 6.0, loss_at_init, 0.3)
        .unless(log.other_text());
    table.print();
}

const MAP_TOKENS: i64 = 24;

/// Draws what every head of every block looks at in the first characters of `ids`, and how the loss falls
/// along the window.
pub fn draw_attention(model: &Model, vocab: &Vocab, ids: &Tensor, flags: &Flags) -> Result<()> {
    if flags.no_plot {
        return Ok(());
    }
    let _guard = tch::no_grad_guard();
    let idx = ids.i(..MAP_TOKENS.min(ids.size()[0]).min(BLOCK_SIZE)).unsqueeze(0); // (1, T)
    let pos = Tensor::arange(idx.size()[1], (Kind::Int64, idx.device())); // (T)
    let tok_emb = idx.apply(&model.token_embedding_table); // (1, T) → (1, T, C)
    let mut x = tok_emb + pos.apply(&model.position_embedding_table); // (1, T, C)

    let tokens: Vec<String> = Vec::<i64>::try_from(idx.squeeze_dim(0))?
        .iter()
        .map(|&id| vocab.decode(&[id]).replace('\n', "↵").replace(' ', "␣"))
        .collect();
    let mut maps = Vec::new();
    for (layer, block) in model.blocks.iter().enumerate() {
        let seen = x.apply(&block.ln_1);
        for (head, attention) in block.sa.heads.iter().enumerate() {
            let mut shares = Vec::<Vec<f64>>::try_from(attention.weights(&seen).squeeze_dim(0))?;
            for (i, row) in shares.iter_mut().enumerate() {
                row.truncate(i + 1); // nobody sees what comes later
            }
            let title = format!("block {}, head {}", layer + 1, head + 1);
            maps.push(HeatMap { title, labels: tokens.clone(), shares });
        }
        x = x.apply(block);
    }
    let path = flags.out()?.join("attention.svg");
    heat_maps(&path, &maps, N_HEAD as usize)?;
    println!("\nattention maps: {}", path.display());
    draw_places(model, ids, flags)
}

/// Draws what a character costs at each place in the window: with no other before it, with one, with two …
fn draw_places(model: &Model, ids: &Tensor, flags: &Flags) -> Result<()> {
    let n = (ids.size()[0] - 1) / BLOCK_SIZE; // windows
    let x = ids.i(..n * BLOCK_SIZE).view([n, BLOCK_SIZE]); // (n·T) → (n, T)
    let y = ids.i(1..n * BLOCK_SIZE + 1).view([n, BLOCK_SIZE]);
    let mut losses = Vec::new();
    for (x, y) in x.split(64, 0).iter().zip(&y.split(64, 0)) {
        let logits = model.forward(x).transpose(1, 2); // (B, T, V) → (B, V, T)
        losses.push(logits.cross_entropy_loss(y, None::<Tensor>, Reduction::None, -100, 0.0)); // (B, T)
    }
    let losses = Tensor::cat(&losses, 0).mean_dim(0, false, Kind::Float); // (n, T) → (T)
    let losses = Vec::<f64>::try_from(losses)?;
    println!("\nplace in the window, nats:");
    let mut place = 1;
    while place <= losses.len() {
        let nats = format!("{:.3}", losses[place - 1]);
        println!("{place:>6} {}", record::measured(&format!("nats@{place}"), nats));
        place *= 2;
    }
    let path = flags.out()?.join("places.svg");
    let mut plot = Plot::new("place in the window", "loss, nats a character");
    plot.line("at this place", (1..).map(f64::from).zip(losses.iter().copied()).collect());
    plot.level("the mean over the window", losses.iter().sum::<f64>() / losses.len() as f64);
    plot.save(&path)?;
    println!("loss by place: {}", path.display());
    Ok(())
}
