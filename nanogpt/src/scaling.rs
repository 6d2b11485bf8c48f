//! A scaling law of one's own: a family of small models, each trained on several numbers of tokens, and what their losses
//! say about larger ones.
//!
//! The law is L(N, D) = E + A/N^α + B/D^β for N parameters (without the position embedding) and D tokens: Hoffmann and
//! others, Training Compute-Optimal Large Language Models (arXiv 2203.15556), their approach 3. Theirs is fitted by
//! Huber's loss of the logarithms. Here the sum of squared relative errors is minimized, which is the same as long as
//! no point is far off: for each pair of exponents the rest is a linear problem, and the exponents are searched.

use crate::{TrainConfig, optim::OptimizerKind, schedule::Decay, train};
use anyhow::{Context, Result, bail, ensure};
use lab::World;
use serde::{Deserialize, Serialize};
use std::{fs, path::Path};
use tch::Device;

/// A trained model.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Point {
    pub n_layer: i64,
    pub n_embd: i64,
    /// N, without the position embedding.
    pub parameters: f64,
    /// D: tokens trained on, those that were read twice counted twice.
    pub tokens: f64,
    /// Of the validation split at the end, in nats a token.
    pub loss: f64,
}

impl Point {
    /// The operations of its training, C ≈ 6·N·D.
    pub fn flops(&self) -> f64 {
        6.0 * self.parameters * self.tokens
    }
}

/// Which models are trained, and on how many tokens each.
#[derive(Clone, Debug, PartialEq)]
pub struct Family {
    /// `n_layer` and `n_embd`.
    pub sizes: Vec<(i64, i64)>,
    pub tokens: Vec<i64>,
}

impl Family {
    /// Twenty models, five minutes or so on two cores; on Tiny Shakespeare no token is read twice.
    pub fn small() -> Self {
        Self {
            sizes: vec![(2, 16), (2, 32), (2, 64), (3, 96), (4, 128)],
            tokens: vec![100_000, 200_000, 400_000, 800_000],
        }
    }

    /// Nine models, half a minute or so: the law that comes out is a rough one.
    pub fn quick() -> Self {
        Self { sizes: vec![(2, 16), (2, 32), (2, 64)], tokens: vec![50_000, 100_000, 200_000] }
    }

    /// That there is enough to find five unknowns: three sizes and three budgets.
    ///
    /// # Errors
    /// One sentence that says which is missing.
    pub fn check(&self) -> Result<()> {
        let different = |values: Vec<i64>| {
            let mut values = values;
            values.sort_unstable();
            values.dedup();
            values.len()
        };
        let sizes = different(self.sizes.iter().map(|(l, c)| l << 32 | c).collect());
        ensure!(sizes >= 3, "--sizes: {sizes} of them; a law needs three that differ");
        let budgets = different(self.tokens.clone());
        ensure!(budgets >= 3, "--tokens: {budgets} of them; a law needs three that differ");
        Ok(())
    }
}

/// The settings of all models: Muon, whose best learning rate hardly depends on the width, small batches, since the small
/// models would take too few steps otherwise, and float32, so that losses are nearly the same on all processors.
pub fn base(dataset: &str) -> TrainConfig {
    TrainConfig {
        dataset: dataset.into(),
        init_from: "auto".into(),
        gradient_accumulation_steps: 1,
        batch_size: 8,
        block_size: 64,
        eval_iters: 100,
        learning_rate: 8e-3,
        beta2: 0.99,
        min_lr: 0.0,
        decay: Decay::Linear,
        optimizer: OptimizerKind::Muon,
        muon_lr_scale: 10.0,
        dtype: "float32".into(),
        tensorboard: false,
        always_save_checkpoint: false,
        keep: 1,
        ..TrainConfig::default()
    }
}

/// The settings of one model. Its learning rate falls to 0 exactly where its tokens end: a loss on the way of a longer
/// run is higher, and would bend the law.
pub fn settings(base: &TrainConfig, folder: &Path, size: (i64, i64), tokens: i64) -> TrainConfig {
    let (n_layer, n_embd) = size;
    let per_step = base.gradient_accumulation_steps as i64 * base.batch_size * base.block_size;
    let steps = (tokens / per_step).max(1) as usize;
    TrainConfig {
        out_dir: folder.join(format!("{n_layer}x{n_embd}_{tokens}")).display().to_string(),
        n_layer,
        n_embd,
        n_head: if n_embd % 16 == 0 { n_embd / 16 } else { 1 },
        max_iters: steps,
        lr_decay_iters: steps,
        warmup_iters: steps / 20,
        eval_interval: steps,
        log_interval: steps.div_ceil(4),
        save_interval: steps.div_ceil(4),
        ..base.clone()
    }
}

/// Trains the model of these settings, or takes what an earlier call has found in its folder. One that was stopped goes
/// on.
///
/// # Errors
/// See [`train`]; and if its folder has a run with other settings.
pub fn point(config: &TrainConfig, world: &World, device: Device) -> Result<Point> {
    let folder = Path::new(&config.out_dir);
    let (settings, result) = (folder.join("config.toml"), folder.join("point.json"));
    if settings.exists() {
        let same = TrainConfig::load(Some(&settings), &[]).is_ok_and(|there| there == *config);
        ensure!(same, "{} has a run with other settings: choose another --out", folder.display());
    }
    if let Ok(text) = fs::read_to_string(&result) {
        let point = serde_json::from_str(&text);
        return point.with_context(|| format!("{} is damaged: remove it", result.display()));
    }
    let report = match train(config, world, device) {
        Err(_) if lab::interrupted() => bail!("stopped; the same command goes on there"),
        outcome => outcome?,
    };
    let per_step =
        config.gradient_accumulation_steps as i64 * config.batch_size * config.block_size;
    let vocab_size = crate::Dataset::open(&config.dataset)?.vocab_size();
    let point = Point {
        n_layer: config.n_layer,
        n_embd: config.n_embd,
        parameters: config.gpt(vocab_size).n_params(true) as f64,
        tokens: (config.max_iters as i64 * per_step) as f64,
        loss: report.val_loss,
    };
    let json = serde_json::to_string_pretty(&point)?;
    files::write_atomically(&result, |file| Ok(file.write_all(json.as_bytes())?))?;
    let _ = fs::remove_dir_all(folder.join("checkpoints")); // nothing goes on from there
    Ok(point)
}

/// L(N, D) = E + A/N^α + B/D^β.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Law {
    pub e: f64,
    pub a: f64,
    pub alpha: f64,
    pub b: f64,
    pub beta: f64,
}

impl Law {
    /// The law with the least sum of squared relative errors.
    ///
    /// # Panics
    /// If there are no points.
    pub fn fit(points: &[Point]) -> Self {
        let mut best = (f64::INFINITY, Self { e: 0.0, a: 0.0, alpha: 1.0, b: 0.0, beta: 1.0 });
        let (mut middle, mut width) = ((1.0, 1.0), 0.95);
        // Each round looks closer around the best so far.
        for _ in 0..10 {
            for i in -6..=6 {
                for j in -6..=6 {
                    let alpha: f64 = middle.0 + width * f64::from(i) / 6.0;
                    let beta: f64 = middle.1 + width * f64::from(j) / 6.0;
                    let law = Self::with_exponents(points, alpha.max(0.02), beta.max(0.02));
                    let error = law.error(points);
                    if error < best.0 {
                        best = (error, law);
                    }
                }
            }
            middle = (best.1.alpha, best.1.beta);
            width /= 2.5;
        }
        best.1
    }

    /// The best law with these exponents. E, A and B are not negative.
    fn with_exponents(points: &[Point], alpha: f64, beta: f64) -> Self {
        // Measured in units of the points' own middle, all three unknowns are about as large as a loss.
        let count = points.len() as f64;
        let middle = |of: fn(&Point) -> f64| {
            (points.iter().map(|point| of(point).ln()).sum::<f64>() / count).exp()
        };
        let (n0, d0) = (middle(|point| point.parameters), middle(|point| point.tokens));
        let rows = points.iter().map(|point| {
            let terms = [1.0, (n0 / point.parameters).powf(alpha), (d0 / point.tokens).powf(beta)];
            terms.map(|term| term / point.loss) // relative to the loss, they should sum up to 1
        });
        let rows: Vec<[f64; 3]> = rows.collect();
        let [e, a, b] = least_squares(&rows);
        Self { e, a: a * n0.powf(alpha), alpha, b: b * d0.powf(beta), beta }
    }

    /// The loss that it predicts.
    pub fn loss(&self, parameters: f64, tokens: f64) -> f64 {
        let Self { e, a, alpha, b, beta } = *self;
        e + a / parameters.powf(alpha) + b / tokens.powf(beta)
    }

    /// The root of the mean squared relative error at these points.
    pub fn error(&self, points: &[Point]) -> f64 {
        let squares = points
            .iter()
            .map(|point| (self.loss(point.parameters, point.tokens) / point.loss - 1.0).powi(2));
        (squares.sum::<f64>() / points.len() as f64).sqrt()
    }

    /// N and D with the lowest loss that `flops` operations can buy, at 6·N·D of them.
    pub fn optimum(&self, flops: f64) -> (f64, f64) {
        let Self { a, alpha, b, beta, .. } = *self;
        let g = (alpha * a / (beta * b)).powf(1.0 / (alpha + beta));
        let parameters = g * (flops / 6.0).powf(beta / (alpha + beta));
        (parameters, flops / 6.0 / parameters)
    }
}

/// How far a law can be trusted: each point is left out once, the law fitted to the others, and asked for it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Trust {
    /// The root of the mean squared relative error of what it says about the point left out.
    pub left_out: f64,
    /// Standard errors, the jackknife's.
    pub e: f64,
    pub alpha: f64,
    pub beta: f64,
}

impl Trust {
    /// In the law of these points.
    pub fn of(points: &[Point]) -> Self {
        let laws: Vec<Law> = (0..points.len())
            .map(|i| Law::fit(&[&points[..i], &points[i + 1..]].concat()))
            .collect();
        let count = points.len() as f64;
        let squares = laws.iter().zip(points).map(|(law, point)| law.error(&[*point]).powi(2));
        let spread = |of: fn(&Law) -> f64| {
            let mean = laws.iter().map(of).sum::<f64>() / count;
            let squares = laws.iter().map(|law| (of(law) - mean).powi(2));
            ((count - 1.0) / count * squares.sum::<f64>()).sqrt()
        };
        Self {
            left_out: (squares.sum::<f64>() / count).sqrt(),
            e: spread(|law| law.e),
            alpha: spread(|law| law.alpha),
            beta: spread(|law| law.beta),
        }
    }
}

/// The three numbers, none negative, with which the sums of the rows' terms come nearest to 1. Of the eight ways to set
/// some of them to 0, the best one whose others are not negative.
fn least_squares(rows: &[[f64; 3]]) -> [f64; 3] {
    let mut best = (f64::INFINITY, [0.0; 3]);
    for mask in 1..8u8 {
        let used: Vec<usize> = (0..3).filter(|i| mask >> i & 1 == 1).collect();
        let Some(solution) = solved(rows, &used) else { continue };
        let sum = |row: &[f64; 3]| -> f64 { row.iter().zip(&solution).map(|(x, k)| x * k).sum() };
        let error: f64 = rows.iter().map(|row| (sum(row) - 1.0).powi(2)).sum();
        if solution.iter().all(|x| *x >= 0.0) && error < best.0 {
            best = (error, solution);
        }
    }
    best.1
}

/// The normal equations of the columns `used`, by Gauss and Jordan. `None` where they do not determine all.
fn solved(rows: &[[f64; 3]], used: &[usize]) -> Option<[f64; 3]> {
    let n = used.len();
    let mut matrix = vec![vec![0.0; n + 1]; n];
    for (i, &column) in used.iter().enumerate() {
        for (j, &other) in used.iter().enumerate() {
            matrix[i][j] = rows.iter().map(|row| row[column] * row[other]).sum();
        }
        matrix[i][n] = rows.iter().map(|row| row[column]).sum();
    }
    for i in 0..n {
        let pivot = (i..n).max_by(|&p, &q| matrix[p][i].abs().total_cmp(&matrix[q][i].abs()))?;
        matrix.swap(i, pivot);
        let divisor = matrix[i][i];
        if divisor.abs() < 1e-12 {
            return None;
        }
        matrix[i].iter_mut().for_each(|x| *x /= divisor);
        let row = matrix[i].clone();
        for (_, other) in matrix.iter_mut().enumerate().filter(|(k, _)| *k != i) {
            let factor = other[i];
            other.iter_mut().zip(&row).for_each(|(x, y)| *x -= factor * y);
        }
    }
    let mut solution = [0.0; 3];
    for (row, &column) in matrix.iter().zip(used) {
        solution[column] = row[n];
    }
    Some(solution)
}
