// What theory says about the bigram model, beside what the program measures.

use super::{Model, Vocab};
use anyhow::Result;
use lab::plot::{HeatMap, heat_maps};
use lab::{Corpus, Log, Table, record};
use tch::{Device, IndexOp, Kind, Tensor};

pub fn print(model: &Model, corpus: &Corpus, log: &Log) {
    let losses = log.values("training", "val");
    let vocab_size = model.token_embedding_table.ws.size()[0];
    let parameters = model.vs.trainable_variables().iter().map(|p| p.numel() as i64).sum();
    let mut table = Table::new();
    table.equal("parameters: V²", vocab_size * vocab_size, parameters);
    // Logits drawn from N(0, σ²) make log Σ exp(logits) = ln V + σ²/2, and here σ = 1. A few dozen
    // common pairs carry most of the text, so the luck of the draw moves the mean by about 0.1.
    table
        .near("loss at init: ln V + ½", (vocab_size as f64).ln() + 0.5, losses[0], 0.3)
        .unless(log.other_text());
    let loss = losses[losses.len() - 1];
    table
        .near("loss after training: counting pairs", corpus.bigram_loss(), loss, 0.03)
        .unless(log.excuse());
    table.print();
    if let Some(floor) = corpus.floor() {
        let floor = record::measured("floor", format!("{floor:.4}"));
        println!("\nthe floor: {floor} nats a character: on average no model gets below it");
    }
    if let Err(why) = draw_tables(model, corpus, log) {
        eprintln!("no picture of the tables: {why:#}");
    }
}

const DRAWN: i64 = 27; // characters that the picture has room for

/// Draws how often each of the commonest characters follows another, as counted in the training text and as
/// the table has learned it.
fn draw_tables(model: &Model, corpus: &Corpus, log: &Log) -> Result<()> {
    let Some(path) = log.picture("tables.svg") else { return Ok(()) };
    let vocab = Vocab::new(corpus);
    let ids = Tensor::from_slice(&vocab.encode(&corpus.train)?); // (N)
    let (v, n) = (vocab.size(), ids.size()[0]);
    let pairs = ids.i(..n - 1) * v + ids.i(1..); // (N − 1): one number for each pair
    let counts = pairs.bincount(None::<Tensor>, v * v).view([v, v]);
    let times = counts.sum_dim_intlist(-1, true, Kind::Float); // (V, 1)
    let counted = counts / times.clamp_min(1.0); // (V, V): shares
    let learned = model.token_embedding_table.ws.softmax(-1, Kind::Float).to(Device::Cpu);

    let (_, common) = times.squeeze_dim(-1).topk(DRAWN.min(v), -1, true, true);
    let (common, _) = common.sort(-1, false); // in the vocabulary's order
    let labels: Vec<String> = Vec::<i64>::try_from(&common)?
        .iter()
        .map(|&id| vocab.decode(&[id]).replace('\n', "↵").replace(' ', "␣"))
        .collect();
    let map = |title: &str, shares: &Tensor| -> Result<HeatMap> {
        let shares = shares.index_select(0, &common).index_select(1, &common);
        Ok(HeatMap { title: title.into(), labels: labels.clone(), shares: shares.try_into()? })
    };
    heat_maps(&path, &[map("counted", &counted)?, map("learned", &learned)?], 2)?;
    println!("\ntables: {}", path.display());
    Ok(())
}
