// Three ways to average the past, then what one head and several are worth.

use super::{BLOCK_SIZE, Model, N_EMBD};
use lab::{Corpus, Log, Table};
use tch::{IndexOp, Kind, Tensor, kind};

pub fn print(model: &Model, corpus: &Corpus, log: &Log) {
    let vocab_size = model.token_embedding_table.ws.size()[0];
    let loss_after = |run| log.values(run, "val").pop().expect("it was trained");
    let (one_head, several) = (loss_after("one head"), loss_after("four heads"));
    let mut table = Table::new();

    let x = Tensor::randn([4, BLOCK_SIZE, N_EMBD], kind::FLOAT_CPU);
    let by_loop = average_by_loop(&x);
    let product = distance(&average_by_product(&x), &by_loop);
    let softmax = distance(&average_by_softmax(&x), &by_loop);
    table.below("averages: product and softmax − loop", 1e-5, product.max(softmax));

    // Embeddings of ids and positions, three C × C matrices however many heads share them, and lm_head.
    let (v, t, c) = (vocab_size, BLOCK_SIZE, N_EMBD);
    let predicted = v * c + t * c + 3 * c * c + (c * v + v);
    let parameters = model.vs.trainable_variables().iter().map(|p| p.numel() as i64).sum();
    table.equal("parameters: (2V + T + 3C)·C + V", predicted, parameters);

    table
        .below("one head's loss < what counting pairs gives", corpus.bigram_loss(), one_head)
        .unless(log.excuse());
    table.below("several heads' loss < one head's", one_head, several).unless(log.excuse());
    table.print();
}

/// Each row becomes the mean of itself and the rows before it: (B, T, C) → (B, T, C).
fn average_by_loop(x: &Tensor) -> Tensor {
    let mean_to = |t| x.i((.., ..=t)).mean_dim(1, false, Kind::Float); // (B, t+1, C) → (B, C)
    let means: Vec<Tensor> = (0..x.size()[1]).map(mean_to).collect();
    Tensor::stack(&means, 1)
}

/// The same as one product: row t of the weights holds t + 1 times 1/(t + 1), then zeros.
fn average_by_product(x: &Tensor) -> Tensor {
    let t = x.size()[1];
    let tril = Tensor::ones([t, t], kind::FLOAT_CPU).tril(0); // (T, T)
    let wei = &tril / tril.sum_dim_intlist(1, true, Kind::Float); // (T, T) / (T, 1)
    wei.matmul(x) // (T, T) × (B, T, C) → (B, T, C)
}

/// The same once more: softmax turns equal scores into equal shares, and −∞ into none.
fn average_by_softmax(x: &Tensor) -> Tensor {
    let t = x.size()[1];
    let future = Tensor::ones([t, t], kind::FLOAT_CPU).tril(0).eq(0.0);
    let scores = Tensor::zeros([t, t], kind::FLOAT_CPU).masked_fill(&future, f64::NEG_INFINITY);
    scores.softmax(-1, Kind::Float).matmul(x)
}

fn distance(a: &Tensor, b: &Tensor) -> f64 {
    (a - b).abs().max().double_value(&[])
}
