//! A step of AdamW over all parameters in one operation, and gradients let go.

use crate::{
    Error,
    error::Outcome,
    tensor::{List, pointers},
};
use tch::Tensor;

/// AdamW's hyper-parameters, by PyTorch's names.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamW {
    /// The learning rate.
    pub lr: f64,
    /// How much of the mean gradient a step keeps.
    pub beta1: f64,
    /// How much of the mean squared gradient a step keeps.
    pub beta2: f64,
    /// Each step shrinks a parameter by `lr` times this share of it.
    pub weight_decay: f64,
    /// Keeps the division from one by 0.
    pub eps: f64,
}

unsafe extern "C" {
    fn tch_ext_fused_adamw(
        params: List,
        grads: List,
        exp_avgs: List,
        exp_avg_sqs: List,
        steps: List,
        adamw: AdamW,
    ) -> Outcome;
    fn tch_ext_clear_grads(params: List) -> Outcome;
}

/// One step of AdamW, in place, for all parameters at once: libtorch's `_fused_adamw_`, which is what
/// `torch.optim.AdamW(fused=True)` calls, without `amsgrad` and `maximize`.
///
/// Entry `i` of every list belongs to parameter `i`. For each, with its gradient g, and t = `steps[i]`,
///
/// ```text
/// p ← p − lr · weight_decay · p
/// m ← beta1 · m + (1 − beta1) · g          m is exp_avgs[i]
/// v ← beta2 · v + (1 − beta2) · g²         v is exp_avg_sqs[i]
/// p ← p − lr · m / (1 − beta1ᵗ) / (√(v / (1 − beta2ᵗ)) + eps)
/// ```
///
/// `params`, `grads`, `exp_avgs` and `exp_avg_sqs` have the parameter's shape, one floating-point dtype
/// and one device, and are contiguous; the two means start as zeros. A step is one float32 on that
/// device. It is read, not counted up: **add 1 to it before the call**, as PyTorch does, so that it is
/// 1 in the first step. With 0 the formula divides by zero, and every parameter becomes NaN.
///
/// No gradient is recorded, so parameters may require one. Empty lists are fine.
///
/// Source: Loshchilov and Hutter, Decoupled Weight Decay Regularization (arXiv 1711.05101).
///
/// # Errors
/// If the lists differ in length, or if a tensor is not as described above; then nothing has changed.
pub fn fused_adamw(
    params: &mut [Tensor],
    grads: &[Tensor],
    exp_avgs: &mut [Tensor],
    exp_avg_sqs: &mut [Tensor],
    steps: &[Tensor],
    adamw: AdamW,
) -> Result<(), Error> {
    let lists = [&*params, grads, &*exp_avgs, &*exp_avg_sqs, steps].map(pointers);
    let [params, grads, exp_avgs, exp_avg_sqs, steps] = lists.each_ref().map(|list| List::of(list));
    // SAFETY: tch's pointers are valid as long as the tensors, which the caller has lent us, and C++
    // reads no more of them than each list says.
    unsafe { tch_ext_fused_adamw(params, grads, exp_avgs, exp_avg_sqs, steps, adamw) }.into_result()
}

/// AdamW over all parameters of a model, by [`fused_adamw`], with eps 1e-8.
pub struct FusedAdamW {
    betas: (f64, f64),
    groups: Vec<Group>,
    step: i64,
}

/// Parameters that share a weight decay, and the running means of their gradients and of these' squares.
struct Group {
    weight_decay: f64,
    indices: Vec<usize>, // among all parameters
    params: Vec<Tensor>,
    exp_avgs: Vec<Tensor>,
    exp_avg_sqs: Vec<Tensor>,
}

impl FusedAdamW {
    /// An optimizer of `params`, each with the weight decay that `weight_decay` gives it.
    pub fn new(
        params: &[Tensor],
        betas: (f64, f64),
        weight_decay: impl Fn(&Tensor) -> f64,
    ) -> FusedAdamW {
        let mut groups: Vec<Group> = Vec::new();
        for (param_index, param) in params.iter().enumerate() {
            let weight_decay = weight_decay(param);
            let found = groups.iter().position(|group| group.weight_decay == weight_decay);
            let index = found.unwrap_or_else(|| {
                groups.push(Group::empty(weight_decay));
                groups.len() - 1
            });
            groups[index].indices.push(param_index);
            groups[index].params.push(param.shallow_clone());
            groups[index].exp_avgs.push(param.zeros_like());
            groups[index].exp_avg_sqs.push(param.zeros_like());
        }
        FusedAdamW { betas, groups, step: 0 }
    }

    /// How many steps it has taken.
    pub fn steps(&self) -> i64 {
        self.step
    }

    /// For an optimizer that goes on where another has stopped: after how many steps.
    pub fn set_steps(&mut self, steps: i64) {
        self.step = steps;
    }

    /// The running means by name, `exp_avg.0` and `exp_avg_sq.0` for parameter 0 and so on: handles, so that what
    /// is written to one changes the optimizer.
    pub fn state(&self) -> Vec<(String, Tensor)> {
        let mut state = Vec::new();
        for group in &self.groups {
            for (index, (exp_avg, exp_avg_sq)) in
                group.indices.iter().zip(group.exp_avgs.iter().zip(&group.exp_avg_sqs))
            {
                state.push((format!("exp_avg.{index}"), exp_avg.shallow_clone()));
                state.push((format!("exp_avg_sq.{index}"), exp_avg_sq.shallow_clone()));
            }
        }
        state
    }

    /// Takes a step down the gradients.
    ///
    /// # Errors
    /// If a parameter has no gradient, or one that does not fit it.
    pub fn step(&mut self, lr: f64) -> Result<(), Error> {
        self.step += 1;
        let (beta1, beta2) = self.betas;
        for Group { weight_decay, params, exp_avgs, exp_avg_sqs, .. } in &mut self.groups {
            let grads: Vec<Tensor> = params.iter().map(Tensor::grad).collect();
            let step = Tensor::from(self.step as f32).to(params[0].device());
            let steps: Vec<Tensor> = params.iter().map(|_| step.shallow_clone()).collect();
            let adamw = AdamW { lr, beta1, beta2, weight_decay: *weight_decay, eps: 1e-8 };
            fused_adamw(params, &grads, exp_avgs, exp_avg_sqs, &steps, adamw)?;
        }
        Ok(())
    }
}

impl Group {
    fn empty(weight_decay: f64) -> Group {
        Group {
            weight_decay,
            indices: vec![],
            params: vec![],
            exp_avgs: vec![],
            exp_avg_sqs: vec![],
        }
    }
}

/// Lets go of the parameters' gradients, as PyTorch's `zero_grad(set_to_none=True)` does. The next
/// backward pass hands each parameter a new one.
///
/// `Tensor::zero_grad` fills them with zeros instead, and the backward pass adds to those: the memory
/// stays taken, and each gradient is written, read and written once more.
///
/// # Errors
/// If one of `params` holds no tensor.
pub fn clear_grads(params: &[Tensor]) -> Result<(), Error> {
    let params = pointers(params);
    // SAFETY: tch's pointers are valid as long as the tensors, which the caller has lent us.
    unsafe { tch_ext_clear_grads(List::of(&params)) }.into_result()
}
