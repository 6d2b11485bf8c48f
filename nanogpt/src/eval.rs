//! How good a model is: its loss on a whole split, and how many questions with four endings it answers.

use crate::gpt::Gpt;
use anyhow::{Context, Result, ensure};
use lab::{Question, Shards, Tokenizer, grouped};
use serde::Serialize;
use std::f64::consts::LN_2;
use tch::{Device, Kind, Tensor};

/// So many logits at once at most: 256 MiB.
const MOST_LOGITS: i64 = 1 << 26;

/// A model's loss on a split of a data set.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Loss {
    /// How many tokens were predicted: all but the split's first.
    pub tokens: i64,
    /// How many bytes of text they stand for. `<|endoftext|>` stands for none.
    pub bytes: i64,
    /// How many windows of the model's `block_size` that took.
    pub windows: i64,
    /// The mean cross-entropy in nats a token.
    pub loss: f64,
    /// Of `loss`, were the windows drawn from a text without an end. `None` if there is one window only.
    pub standard_error: Option<f64>,
    /// e to the power of `loss`.
    pub perplexity: f64,
    /// The cross-entropy of all tokens, in bits, over `bytes`. It compares models with different vocabularies. `None`
    /// where there are no bytes.
    pub bits_per_byte: Option<f64>,
}

/// The loss on all of a split, in windows that begin `stride` tokens apart: with `block_size` each token is seen once,
/// and those at a window's beginning have little before them; with a smaller stride each but the first has at least
/// `block_size − stride` tokens before it, and it takes `block_size / stride` times as long. `progress` is told how
/// many tokens are done, and of how many.
///
/// The logits of rows that pad the vocabulary count, as in training.
///
/// # Errors
/// If `stride` is not from 1 to `block_size`, the split has one token only, or it cannot be read.
pub fn loss(
    model: &Gpt,
    shards: &Shards,
    tokenizer: &Tokenizer,
    stride: i64,
    mut progress: impl FnMut(i64, i64),
) -> Result<Loss> {
    let _guard = tch::no_grad_guard();
    let t = model.config.block_size;
    let total = shards.total() - 1;
    ensure!((1..=t).contains(&stride), "stride {stride}: this model takes from 1 to {t}");
    ensure!(total > 0, "the split has one token only, and nothing to predict");
    let order: Vec<usize> = (0..shards.len()).collect();
    let sizes = byte_lengths(tokenizer);
    let at_once = (MOST_LOGITS / (t * model.config.vocab_size)).clamp(1, 64);
    // What the window before has predicted already is not counted again.
    let seen = |begin: i64| if begin == 0 { 0 } else { t - stride };
    let (mut windows, mut bytes, mut begin, mut done) = (Vec::new(), 0, 0, 0);
    while done < total {
        // The windows of a batch have one length, so the last one, which may be shorter, is alone.
        let b = at_once.min(whole_windows(total - begin, t, stride).max(1));
        let begins: Vec<i64> = (0..b).map(|i| begin + i * stride).collect();
        let length = t.min(total - begin);
        let mut ids = Vec::new();
        for &begin in &begins {
            let read = shards.read(&order, begin, length + 1)?;
            let new = &read[1 + seen(begin) as usize..];
            bytes += new.iter().map(|&id| sizes[id as usize]).sum::<i64>();
            ids.extend(read);
        }
        let ids = Tensor::from_slice(&ids).view([b, length + 1]).to(model.vs.device());
        let losses = model.losses(&ids.narrow(1, 0, length), &ids.narrow(1, 1, length));
        for (row, &begin) in (0..).zip(&begins) {
            let n = length - seen(begin);
            // On the CPU, for not every device has 64-bit numbers.
            let losses = losses.get(row).narrow(0, seen(begin), n).to(Device::Cpu);
            windows.push((losses.sum(Kind::Double).double_value(&[]), n));
            done += n;
        }
        begin += b * stride;
        progress(done, total);
    }
    Ok(Loss::of(&windows, bytes))
}

/// How many windows of `t` lie in `n` tokens, each `stride` further on.
fn whole_windows(n: i64, t: i64, stride: i64) -> i64 {
    if n < t { 0 } else { (n - t) / stride + 1 }
}

/// How many bytes of text each token stands for.
fn byte_lengths(tokenizer: &Tokenizer) -> Vec<i64> {
    let length = |id| match Some(id) == tokenizer.end_of_text() {
        true => 0,
        false => tokenizer.bytes(id).len() as i64,
    };
    (0..tokenizer.n_vocab()).map(length).collect()
}

impl Loss {
    /// Of windows, each with the sum of its losses and how many they are.
    fn of(windows: &[(f64, i64)], bytes: i64) -> Self {
        let nats: f64 = windows.iter().map(|(sum, _)| sum).sum();
        let tokens: i64 = windows.iter().map(|(_, n)| n).sum();
        let loss = nats / tokens as f64;
        // Tokens that follow each other are not drawn one by one; windows nearly are. The last may be shorter, so this
        // is the error of a ratio of two sums.
        let off = |(sum, n): &(f64, i64)| (sum - loss * *n as f64).powi(2);
        let k = windows.len() as f64;
        let variance = windows.iter().map(off).sum::<f64>() * k / (k - 1.0);
        Self {
            tokens,
            bytes,
            windows: windows.len() as i64,
            loss,
            standard_error: (k > 1.0).then(|| variance.sqrt() / tokens as f64),
            perplexity: loss.exp(),
            bits_per_byte: (bytes > 0).then(|| nats / LN_2 / bytes as f64),
        }
    }
}

/// How many questions a model has answered rightly, by two rules.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Answers {
    pub questions: usize,
    /// The ending whose tokens are likeliest together. It favours short endings.
    pub right_by_sum: usize,
    /// The ending whose tokens are likeliest on average: build-nanogpt's `acc_norm`. Most tables divide by the length of
    /// the ending's text.
    pub right_by_mean: usize,
}

impl Answers {
    /// The two shares of right answers, by the sum and by the mean.
    pub fn accuracies(&self) -> (f64, f64) {
        let of = |right| right as f64 / self.questions as f64;
        (of(self.right_by_sum), of(self.right_by_mean))
    }
}

/// Lets a model choose one of four endings for each question. `progress` is told after each.
///
/// # Errors
/// If a question has a character that is not among the tokens.
pub fn answers(
    model: &Gpt,
    tokenizer: &Tokenizer,
    questions: &[Question],
    mut progress: impl FnMut(usize),
) -> Result<Answers> {
    let mut answers = Answers::default();
    for (i, question) in questions.iter().enumerate() {
        let endings = question.endings.iter().map(|ending| as_ending(ending));
        for text in endings.chain([question.ctx.clone()]) {
            tokenizer
                .expect_known(&text)
                .with_context(|| format!("question {} cannot be asked", grouped(i as i64 + 1)))?;
        }
        let (tokens, mask) = with_endings(question, tokenizer, model.config.block_size as usize);
        let (sums, means) = score(model, &tokens, &mask);
        let is_right = |scores: Tensor| {
            usize::from(scores.argmin(0, false).int64_value(&[]) == question.label as i64)
        };
        answers.questions += 1;
        answers.right_by_sum += is_right(sums);
        answers.right_by_mean += is_right(means);
        progress(i + 1);
    }
    Ok(answers)
}

/// The text of an ending behind that of the question.
fn as_ending(ending: &str) -> String {
    format!(" {ending}")
}

/// A question's text with each of the four endings: token ids, and 1 where a token is the ending's, 0 elsewhere,
/// (4, N) each. Shorter rows are filled up with zeros. A text that is too long for the model loses its beginning; an
/// ending that is too long for it alone, its end.
pub fn with_endings(
    question: &Question,
    tokenizer: &Tokenizer,
    block_size: usize,
) -> (Tensor, Tensor) {
    let of_ending = |ending: &String| {
        let mut ids = tokenizer.encode(&as_ending(ending));
        ids.truncate(block_size);
        ids
    };
    let endings = question.endings.each_ref().map(of_ending);
    let ctx = tokenizer.encode(&question.ctx);
    let longest = endings.iter().map(Vec::len).max().unwrap_or(0);
    // The last token is predicted and not seen, so one more than the model sees has room.
    let ctx = &ctx[(ctx.len() + longest).saturating_sub(block_size + 1)..];
    let n = ctx.len() + longest;
    let tokens = Tensor::zeros([4, n as i64], (Kind::Int64, Device::Cpu));
    let mask = tokens.zeros_like();
    for (row, ending) in (0..).zip(&endings) {
        let whole = [ctx, ending].concat();
        tokens.get(row).narrow(0, 0, whole.len() as i64).copy_(&Tensor::from_slice(&whole));
        let _ = mask.get(row).narrow(0, ctx.len() as i64, ending.len() as i64).fill_(1);
    }
    (tokens, mask)
}

/// The cross-entropy of the tokens that `mask` marks in each row of (4, N), in nats: the sums and the means, (4) each.
pub fn score(model: &Gpt, tokens: &Tensor, mask: &Tensor) -> (Tensor, Tensor) {
    let _guard = tch::no_grad_guard();
    let n = tokens.size()[1] - 1;
    let part = |x: &Tensor, from| x.narrow(1, from, n).to(model.vs.device());
    let mask = part(mask, 1);
    let losses = model.losses(&part(tokens, 0), &part(tokens, 1)) * &mask; // (4, N − 1)
    let sum = |x: &Tensor| x.sum_dim_intlist(-1, false, Kind::Float);
    let sums = sum(&losses);
    let means = &sums / sum(&mask);
    (sums, means)
}
