// Three ways to average the past, then what one head and several are worth.

use super::{BLOCK_SIZE, Model, N_EMBD};
use lab::{Corpus, Flags, Table};
use tch::{Kind, Tensor, kind};

pub fn print(models: &[Model], losses: &[f64], corpus: &Corpus, flags: &Flags) {
    let (one_head, several) = (&models[0], &models[1]);
    let vocab_size = one_head.token_embedding_table.ws.size()[0];
    let mut table = Table::new();

    let x = Tensor::randn([4, BLOCK_SIZE, N_EMBD], kind::FLOAT_CPU);
    let by_loop = average_by_loop(&x);
    table.below(
        "averages, product with tril − loop",
        1e-5,
        distance(&average_by_product(&x), &by_loop),
    );
    table.below("averages, softmax − loop", 1e-5, distance(&average_by_softmax(&x), &by_loop));

    // Embeddings of ids and positions, three C × C matrices however many heads share them, and lm_head.
    let (v, t, c) = (vocab_size, BLOCK_SIZE, N_EMBD);
    let predicted = v * c + t * c + 3 * c * c + (c * v + v);
    table.equal("parameters, one head: (2V + T + 3C)·C + V", predicted, parameters(one_head));
    table.equal("parameters, several heads: the same", predicted, parameters(several));

    table
        .below("one head's loss < what counting pairs gives", corpus.bigram_loss(), losses[0])
        .unless(flags.excuse());
    table.below("several heads' loss < one head's", losses[0], losses[1]).unless(flags.excuse());
    if let Some(floor) = corpus.floor(corpus.val.chars().count()) {
        table.above("several heads' loss > the corpus's floor", floor, losses[1]);
    }
    table.print();
}

/// Each row becomes the mean of itself and the rows before it: (B, T, C) → (B, T, C).
fn average_by_loop(x: &Tensor) -> Tensor {
    let mean_to = |t| x.narrow(1, 0, t + 1).mean_dim(1, false, Kind::Float); // (B, t+1, C) → (B, C)
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

fn parameters(model: &Model) -> i64 {
    model.vs.trainable_variables().iter().map(|p| p.numel() as i64).sum()
}
