//! The optimizers: AdamW in decay groups, and Muon for the matrices inside the blocks.

use crate::precision::Precision;
use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};
use tch_ext::optim::{FusedAdamW, clear_grads};

/// The optimizer of the matrices inside the blocks. All else always has AdamW.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OptimizerKind {
    #[default]
    AdamW,
    Muon,
}

/// The hyper-parameters of [`Optimizer`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hyper {
    pub kind: OptimizerKind,
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
    /// An optimizer of these parameters; with Muon for those whose name begins with `h.` and which are matrices. Muon
    /// multiplies matrices in `precision`.
    pub fn new(named: &[(String, Tensor)], hyper: &Hyper, precision: Precision) -> Self {
        let is_muons = |(name, p): &(String, Tensor)| {
            hyper.kind == OptimizerKind::Muon && name.starts_with("h.") && p.dim() == 2
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
            muon: (!matrices.is_empty()).then(|| Muon::new(matrices, hyper, precision)),
        }
    }

    /// Takes a step down the gradients, and lets them go.
    ///
    /// # Errors
    /// If a parameter has no gradient; then none has changed.
    pub fn step(&mut self, lr: f64) -> Result<()> {
        for parameter in &self.parameters {
            let size = parameter.size();
            ensure!(
                parameter.grad().defined(),
                "a parameter of size {size:?} has no gradient: call backward on a loss that it takes part in"
            );
        }
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
    ///
    /// # Panics
    /// If a parameter has no gradient.
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
    /// Which matrices are computed together: small ones of the same shape, which takes less time than one after the other.
    groups: Vec<Vec<usize>>,
    momentum: f64,
    lr_scale: f64,
    weight_decay: f64,
    /// What is multiplied: bfloat16 if the model's products are.
    kind: Kind,
}

/// How many numbers are computed together at most: larger matrices keep all cores busy by themselves.
pub(crate) const MOST_TOGETHER: i64 = 1 << 22;

impl Muon {
    fn new(matrices: Vec<Tensor>, hyper: &Hyper, precision: Precision) -> Self {
        let is_half = precision == Precision::Bfloat16;
        Self {
            momenta: matrices.iter().map(Tensor::zeros_like).collect(),
            groups: groups(&matrices.iter().map(wide).collect::<Vec<_>>()),
            matrices,
            momentum: hyper.muon_momentum,
            lr_scale: hyper.muon_lr_scale,
            weight_decay: hyper.weight_decay,
            kind: if is_half { Kind::BFloat16 } else { Kind::Float },
        }
    }

    fn state(&self) -> Vec<(String, Tensor)> {
        let momenta = self.momenta.iter().enumerate();
        momenta.map(|(i, momentum)| (format!("momentum.{i}"), momentum.shallow_clone())).collect()
    }

    fn step(&mut self, lr: f64) {
        let _guard = tch::no_grad_guard();
        let lr = lr * self.lr_scale;
        for group in &self.groups {
            let directions: Vec<Tensor> = group.iter().map(|&i| self.direction(i)).collect();
            let counts: Vec<i64> = directions.iter().map(|x| x.size()[0]).collect();
            let together = Tensor::cat(&directions, 0);
            drop(directions); // or they would be there twice
            let updates = orthogonalized(together).split_with_sizes(counts, 0);
            for (&i, update) in group.iter().zip(updates) {
                let mut matrix = self.matrices[i].shallow_clone(); // a handle
                let (rows, columns) = size_of_parts(&matrix);
                let update = if rows > columns { update.transpose(1, 2) } else { update };
                let scale = (rows as f64 / columns as f64).max(1.0).sqrt();
                matrix *= 1.0 - lr * self.weight_decay;
                matrix -= update.reshape(matrix.size()) * (lr * scale);
            }
        }
    }

    /// Takes the gradient of a matrix into its momentum. Returns where the step goes, as [`wide`] parts.
    fn direction(&self, i: usize) -> Tensor {
        let (grad, mut momentum) = (self.matrices[i].grad(), self.momenta[i].shallow_clone());
        let _ = momentum.lerp_(&grad, 1.0 - self.momentum); // m ← β·m + (1 − β)·g
        let ahead = grad.lerp(&momentum, self.momentum); // Nesterov: where the mean will be
        wide(&ahead).to_kind(self.kind)
    }
}

/// The rows and columns of each of a matrix's parts: query, key and value are three matrices below each other.
fn size_of_parts(matrix: &Tensor) -> (i64, i64) {
    let (rows, columns) = matrix.size2().expect("a matrix");
    if rows == 3 * columns { (columns, columns) } else { (rows, columns) }
}

/// A matrix's parts as (N, n, m) with n ≤ m, so that X·Xᵀ is the smaller of the two squares.
fn wide(matrix: &Tensor) -> Tensor {
    let (rows, columns) = size_of_parts(matrix);
    let parts = matrix.view([-1, rows, columns]);
    if rows > columns { parts.transpose(1, 2) } else { parts }
}

/// Shares matrices out into groups of one shape, of at most [`MOST_TOGETHER`] numbers.
fn groups(matrices: &[Tensor]) -> Vec<Vec<usize>> {
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for (i, x) in matrices.iter().enumerate() {
        let has_room = |group: &&mut Vec<usize>| {
            let numbers: usize = group.iter().map(|&j| matrices[j].numel()).sum();
            matrices[group[0]].size()[1..] == x.size()[1..]
                && (numbers + x.numel()) as i64 <= MOST_TOGETHER
        };
        match groups.iter_mut().find(has_room) {
            Some(group) => group.push(i),
            None => groups.push(vec![i]),
        }
    }
    groups
}

/// The nearest matrices with singular values of about 1: (N, n, m) with n ≤ m → the same, by five steps of Newton and
/// Schulz's iteration X ← a·X + (b·A + c·A²)·X with A = X·Xᵀ. What was above a hundredth of the matrix's norm comes out
/// between 0.68 and 1.13; smaller values grow, too, but not so far: a thousandth becomes 0.47.
fn orthogonalized(mut x: Tensor) -> Tensor {
    let (a, b, c) = (3.4445, -4.775, 2.0315);
    let norm = x.norm_scalaropt_dim(2.0, [1i64, 2].as_slice(), true).clamp_min(1e-7);
    x /= norm; // singular values of at most 1
    for _ in 0..5 {
        let square = x.matmul(&x.transpose(1, 2));
        let polynomial = square.baddbmm(&square, &square, b, c); // b·A + c·A²
        x = x.baddbmm(&polynomial, &x, a, 1.0);
    }
    x
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;

    const HYPER: Hyper = Hyper {
        kind: OptimizerKind::Muon,
        betas: (0.9, 0.99),
        weight_decay: 0.0,
        muon_lr_scale: 1.0,
        muon_momentum: 0.95,
    };

    /// The matrices of two blocks, all zero, with gradients.
    fn matrices() -> Vec<Tensor> {
        tch::manual_seed(1);
        let c = 16;
        let shapes = [[3 * c, c], [c, c], [4 * c, c], [c, 4 * c]];
        let matrix = |shape: [i64; 2]| {
            let matrix = Tensor::zeros(shape, (Kind::Float, Device::Cpu)).set_requires_grad(true);
            (&matrix * Tensor::randn(shape, (Kind::Float, Device::Cpu))).sum(None).backward();
            matrix
        };
        shapes.into_iter().cycle().take(8).map(matrix).collect()
    }

    fn stepped(matrices: Vec<Tensor>, precision: Precision) -> Vec<Tensor> {
        let handles = matrices.iter().map(Tensor::shallow_clone).collect();
        Muon::new(handles, &HYPER, precision).step(1.0);
        matrices
    }

    /// What the iteration makes of a singular value after five steps (Jordan 2024).
    fn iterated(x: f64) -> f64 {
        (0..5).fold(x, |x, _| 3.4445 * x - 4.775 * x.powi(3) + 2.0315 * x.powi(5))
    }

    /// The first step goes against the gradient U·S·Vᵀ, with its singular values iterated, part by part: to float32's
    /// rounding, which the iteration may multiply by 3.4445⁵ = 485, and to as many of bfloat16's, most of which cancel.
    #[test]
    fn a_step_is_the_gradient_with_singular_values_of_about_one() {
        for (precision, tolerance) in [(Precision::Float32, 1e-4), (Precision::Bfloat16, 0.1)] {
            for matrix in stepped(matrices(), precision) {
                let (rows, columns) = size_of_parts(&matrix);
                let scale = (rows as f64 / columns as f64).max(1.0).sqrt();
                let (u, values, v) = wide(&matrix.grad()).svd(true, true);
                let norm = values.norm_scalaropt_dim(2.0, [-1i64].as_slice(), true);
                let values = (values / norm).to_kind(Kind::Double);
                let flat = Vec::<f64>::try_from(values.flatten(0, -1)).unwrap();
                let about_one: Vec<f64> = flat.into_iter().map(iterated).collect();
                let about_one = Tensor::from_slice(&about_one).view_as(&values);
                let right = u * about_one.unsqueeze(-2).to_kind(Kind::Float);
                let right = right.matmul(&v.transpose(-2, -1)) * -scale;
                let off = (wide(&matrix.detach()) - &right).norm() / right.norm();
                let off = off.double_value(&[]);
                assert!(off < tolerance, "{matrix:?}, {precision:?}: off by {off}");
            }
        }
        assert!((100..=10_000).all(|i| (0.68..1.14).contains(&iterated(i as f64 / 10_000.0))));
        assert!((iterated(0.001) - 0.47).abs() < 0.01);
    }

    /// To float32's rounding, which a product of five may multiply.
    #[test]
    fn matrices_together_take_the_steps_that_each_takes_alone() {
        let together = stepped(matrices(), Precision::Float32);
        let alone = matrices().into_iter().flat_map(|m| stepped(vec![m], Precision::Float32));
        for (a, b) in together.iter().zip(alone) {
            let off = ((a - &b).norm() / b.norm()).double_value(&[]);
            assert!(off < 1e-4, "{a:?}: {off}");
        }
    }

    #[test]
    fn without_a_gradient_nothing_moves() {
        let ones = || Tensor::ones([4, 4], (Kind::Float, Device::Cpu)).set_requires_grad(true);
        for (a, b) in [("wte", "h.0"), ("h.0", "wte"), ("h.0", "h.1")] {
            let (with, without) = (ones(), ones());
            with.square().sum(Kind::Float).backward();
            let named = [(a.into(), with.shallow_clone()), (b.into(), without)];
            let mut optimizer = Optimizer::new(&named, &HYPER, Precision::Float32);
            let refused = optimizer.step(1.0).unwrap_err().to_string();
            assert!(refused.contains("[4, 4] has no gradient"), "{refused}");
            assert_eq!((with, optimizer.steps()), (ones(), 0));
        }
    }

    #[test]
    fn matrices_of_one_shape_are_in_one_group_until_it_is_full() {
        let of = |shape: [i64; 3]| Tensor::empty(shape, (Kind::Float, Device::Cpu));
        let small = [of([3, 8, 8]), of([1, 8, 32]), of([1, 8, 8]), of([1, 8, 32])];
        assert_eq!(groups(&small), [[0, 2], [1, 3]]);
        let large = [of([1, 1024, 2048]), of([1, 1024, 2048]), of([1, 1024, 2048])];
        assert_eq!(groups(&large), [vec![0, 1], vec![2]]);
    }
}
