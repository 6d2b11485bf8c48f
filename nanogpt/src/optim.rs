//! The optimizers: AdamW in decay groups, and Muon for the matrices inside the blocks.

use anyhow::Result;
use serde::{Deserialize, Serialize};
use tch::Tensor;
use tch_ext::optim::{FusedAdamW, clear_grads};

/// The optimizer of the matrices inside the blocks. All else always has AdamW.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Hidden {
    #[default]
    AdamW,
    Muon,
}

/// The hyper-parameters of [`Optimizer`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hyper {
    pub kind: Hidden,
    /// AdamW's β₁ and β₂: how much of its two means a step keeps.
    pub betas: (f64, f64),
    /// Each step shrinks matrices and tables, but no vectors, by this share of the learning rate.
    pub weight_decay: f64,
    /// Muon's learning rate as a multiple of AdamW's.
    pub muon_lr_scale: f64,
    /// How much of the mean gradient a step of Muon keeps.
    pub muon_momentum: f64,
}

/// Takes steps for all parameters of a model.
pub struct Optimizer {
    parameters: Vec<Tensor>,
    adamw: FusedAdamW,
    muon: Option<Muon>,
}

impl Optimizer {
    /// An optimizer of these parameters; with Muon for those whose name begins with `h.` and which are matrices.
    pub fn new(named: &[(String, Tensor)], hyper: &Hyper) -> Self {
        let is_muons = |(name, p): &(String, Tensor)| {
            hyper.kind == Hidden::Muon && name.starts_with("h.") && p.dim() == 2
        };
        let tensors = |muons: bool| -> Vec<Tensor> {
            let chosen = named.iter().filter(|named| is_muons(named) == muons);
            chosen.map(|(_, p)| p.shallow_clone()).collect()
        };
        let weight_decay = hyper.weight_decay;
        // Biases and the gains of layer norms are vectors.
        let decay = |p: &Tensor| if p.dim() >= 2 { weight_decay } else { 0.0 };
        let matrices = tensors(true);
        Self {
            parameters: named.iter().map(|(_, p)| p.shallow_clone()).collect(),
            adamw: FusedAdamW::new(&tensors(false), hyper.betas, decay),
            muon: (!matrices.is_empty()).then(|| Muon::new(matrices, hyper)),
        }
    }

    /// Takes a step down the gradients, and lets them go.
    ///
    /// # Errors
    /// If a parameter has no gradient.
    pub fn step(&mut self, lr: f64) -> Result<()> {
        self.adamw.step(lr)?;
        if let Some(muon) = &mut self.muon {
            muon.step(lr);
        }
        self.clear_grads()
    }

    /// Lets the gradients go, without a step.
    ///
    /// # Errors
    /// None that a model's parameters can cause.
    pub fn clear_grads(&self) -> Result<()> {
        Ok(clear_grads(&self.parameters)?)
    }

    /// What it optimizes.
    pub fn parameters(&self) -> &[Tensor] {
        &self.parameters
    }

    /// Scales the gradients down to a norm of `max_norm`, all of them as one vector; 0 leaves them. Returns the norm
    /// before.
    pub fn clip_grad_norm(&self, max_norm: f64) -> f64 {
        let grads: Vec<Tensor> = self.parameters.iter().map(Tensor::grad).collect();
        let norms: Vec<Tensor> = grads.iter().map(Tensor::norm).collect();
        let norm = Tensor::stack(&norms, 0).norm().double_value(&[]);
        if max_norm > 0.0 && norm > max_norm {
            for mut grad in grads {
                grad *= max_norm / norm; // in place: it is the parameter's own
            }
        }
        norm
    }

    /// All that the next step depends on, by name: handles, so that writing into one changes the optimizer.
    pub fn state(&self) -> Vec<(String, Tensor)> {
        let muon = self.muon.iter().flat_map(Muon::state);
        let state = self.adamw.state().into_iter().chain(muon);
        state.map(|(name, tensor)| (format!("optimizer.{name}"), tensor)).collect()
    }

    /// How many steps it has taken.
    pub fn steps(&self) -> usize {
        self.adamw.steps() as usize
    }

    /// For an optimizer that goes on where another has stopped: after how many steps.
    pub fn set_steps(&mut self, steps: usize) {
        self.adamw.set_steps(steps as i64);
    }
}

/// Momentum, then the nearest matrix whose singular values are all about 1, so that no direction of a matrix is left
/// behind by those with large gradients.
///
/// Source: Keller Jordan and others, Muon (2024); the coefficients of the iteration are theirs.
struct Muon {
    matrices: Vec<Tensor>,
    momenta: Vec<Tensor>,
    momentum: f64,
    lr_scale: f64,
    weight_decay: f64,
}

impl Muon {
    fn new(matrices: Vec<Tensor>, hyper: &Hyper) -> Self {
        Self {
            momenta: matrices.iter().map(Tensor::zeros_like).collect(),
            matrices,
            momentum: hyper.muon_momentum,
            lr_scale: hyper.muon_lr_scale,
            weight_decay: hyper.weight_decay,
        }
    }

    fn state(&self) -> Vec<(String, Tensor)> {
        let momenta = self.momenta.iter().enumerate();
        momenta.map(|(i, momentum)| (format!("momentum.{i}"), momentum.shallow_clone())).collect()
    }

    fn step(&mut self, lr: f64) {
        let _guard = tch::no_grad_guard();
        let lr = lr * self.lr_scale;
        for (matrix, momentum) in self.matrices.iter_mut().zip(&mut self.momenta) {
            let grad = matrix.grad();
            let _ = momentum.lerp_(&grad, 1.0 - self.momentum); // m ← β·m + (1 − β)·g
            let ahead = grad.lerp(momentum, self.momentum); // Nesterov: where the mean will be
            let (rows, columns) = matrix.size2().expect("a matrix");
            // Query, key and value are three matrices below each other.
            let parts = if rows == 3 * columns { 3 } else { 1 };
            let ahead = ahead.view([parts, rows / parts, columns]);
            let scale = (rows as f64 / parts as f64 / columns as f64).max(1.0).sqrt();
            let update = orthogonalized(&ahead).view([rows, columns]) * (lr * scale);
            *matrix *= 1.0 - lr * self.weight_decay;
            *matrix -= update.to_kind(matrix.kind());
        }
    }
}

/// The nearest matrices with singular values of about 1 (from 0.7 to 1.2): (N, rows, columns) → the same, by five
/// steps of Newton and Schulz's iteration X ← a·X + (b·A + c·A²)·X with A = X·Xᵀ.
fn orthogonalized(x: &Tensor) -> Tensor {
    let (a, b, c) = (3.4445, -4.775, 2.0315);
    let (_, rows, columns) = x.size3().expect("(N, rows, columns)");
    let is_tall = rows > columns;
    let norm = x.norm_scalaropt_dim(2.0, [1i64, 2].as_slice(), true).clamp_min(1e-7);
    let mut x = x / norm; // singular values of at most 1
    if is_tall {
        x = x.transpose(1, 2); // the smaller of X·Xᵀ and Xᵀ·X
    }
    for _ in 0..5 {
        let square = x.matmul(&x.transpose(1, 2));
        let polynomial = &square * b + square.matmul(&square) * c;
        x = &x * a + polynomial.matmul(&x);
    }
    if is_tall { x.transpose(1, 2).contiguous() } else { x }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind};

    #[test]
    fn muon_makes_singular_values_of_about_one() {
        tch::manual_seed(1);
        for shape in [[2, 20, 30], [1, 30, 20], [3, 16, 16]] {
            let x = Tensor::randn(shape, (Kind::Float, Device::Cpu));
            let (_, values, _) = orthogonalized(&x).svd(true, false);
            // Five steps bring what began above a hundredth between 0.68 and 1.13 (Jordan 2024).
            let (least, most) = (values.min().double_value(&[]), values.max().double_value(&[]));
            assert!(least > 0.3 && most < 1.3, "{shape:?}: from {least} to {most}");
        }
    }
}
