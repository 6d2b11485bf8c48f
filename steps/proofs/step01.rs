// What theory says about the bigram model, beside what the program measures.

use super::Model;
use lab::{Corpus, Log, Table, record};

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
        println!("\nthe floor: {floor} nats a character, which no model can beat");
    }
}
