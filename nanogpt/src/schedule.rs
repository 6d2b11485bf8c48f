//! How the learning rate changes while a model is trained.

use serde::{Deserialize, Serialize};
use std::f64::consts::PI;

/// How the learning rate falls after the warm-up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Decay {
    /// Half a cosine, as GPT-3's and nanoGPT's.
    #[default]
    Cosine,
    /// A straight line.
    Linear,
}

/// A linear warm-up, then a fall to a least rate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schedule {
    pub learning_rate: f64,
    /// Whether it changes at all.
    pub decay_lr: bool,
    pub warmup_iters: usize,
    /// The step at which `min_lr` is reached.
    pub lr_decay_iters: usize,
    pub min_lr: f64,
    pub decay: Decay,
}

impl Schedule {
    /// The learning rate of a step, counted from 0, by nanoGPT's rule.
    pub fn lr(&self, step: usize) -> f64 {
        let Self { learning_rate, warmup_iters, lr_decay_iters, min_lr, .. } = *self;
        if !self.decay_lr {
            return learning_rate;
        }
        if step < warmup_iters {
            return learning_rate * (step + 1) as f64 / (warmup_iters + 1) as f64;
        }
        if step >= lr_decay_iters {
            return min_lr;
        }
        let progress = (step - warmup_iters) as f64 / (lr_decay_iters - warmup_iters) as f64;
        let left = match self.decay {
            Decay::Cosine => 0.5 * (1.0 + (PI * progress).cos()),
            Decay::Linear => 1.0 - progress,
        };
        min_lr + left * (learning_rate - min_lr)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_rises_falls_and_stays() {
        let cosine = Schedule {
            learning_rate: 1.0,
            decay_lr: true,
            warmup_iters: 3,
            lr_decay_iters: 13,
            min_lr: 0.1,
            decay: Decay::Cosine,
        };
        let lrs = [0, 1, 2, 3, 8, 13, 99].map(|step| cosine.lr(step));
        let expected = [0.25, 0.5, 0.75, 1.0, 0.55, 0.1, 0.1];
        for (lr, expected) in lrs.iter().zip(expected) {
            assert!((lr - expected).abs() < 1e-12, "{lrs:?}");
        }
        let linear = Schedule { decay: Decay::Linear, ..cosine };
        assert!((linear.lr(5) - (0.1 + 0.8 * 0.9)).abs() < 1e-12);
        assert_eq!(Schedule { decay_lr: false, ..cosine }.lr(0), 1.0);
    }

    #[test]
    fn without_room_for_a_fall_the_rate_is_the_least_after_the_warm_up() {
        let schedule = Schedule {
            learning_rate: 1.0,
            decay_lr: true,
            warmup_iters: 5,
            lr_decay_iters: 5,
            min_lr: 0.1,
            decay: Decay::Cosine,
        };
        assert_eq!(schedule.lr(5), 0.1);
    }
}
