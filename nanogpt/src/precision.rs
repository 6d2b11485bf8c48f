//! In which precision a model computes, and what float16 needs beside it.

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};
use tch_ext::precision::{Float32Matmul, bf16_is_fast, set_float32_matmul_precision};

/// What the factors of a matrix product are rounded to. Weights, sums and the optimizer stay in float32.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Precision {
    /// 8 bits of exponent, 23 of fraction.
    Float32,
    /// float32 whose factors are rounded to 10 bits of fraction, on NVIDIA GPUs.
    Tf32,
    /// 8 bits of exponent, 7 of fraction.
    Bfloat16,
    /// 5 bits of exponent, 10 of fraction, for GPUs before NVIDIA's Ampere: small gradients vanish in it, so a
    /// [`GradScaler`] goes with it.
    Float16,
}

/// From which `n_embd` on a CPU that is fast at bfloat16 takes it. The book records two models on one with AMX: with 192, a
/// step of 2,048 tokens took 0.6 times as long as in float32, and with 128, one of 768 tokens 1.3 times.
pub const WIDE_ENOUGH: i64 = 192;

impl Precision {
    /// The one that a `dtype` names; `None` for `auto`, where the device decides.
    ///
    /// # Errors
    /// If it is no such name.
    pub fn named(dtype: &str) -> Result<Option<Self>> {
        Ok(match dtype {
            "auto" => None,
            "float32" => Some(Self::Float32),
            "tf32" => Some(Self::Tf32),
            "bfloat16" => Some(Self::Bfloat16),
            "float16" => Some(Self::Float16),
            _ => bail!("choose auto, float32, tf32, bfloat16 or float16"),
        })
    }

    /// The kind of numbers that matrix products are given.
    pub fn kind(self) -> Kind {
        match self {
            Self::Float32 | Self::Tf32 => Kind::Float,
            Self::Bfloat16 => Kind::BFloat16,
            Self::Float16 => Kind::Half,
        }
    }

    /// The one that is `named`; else bfloat16 where `device` is fast at it and, on a CPU, the model is at least
    /// [`WIDE_ENOUGH`], and float32 where not. Sets at once how float32 itself is multiplied, which is a setting of the
    /// whole process.
    ///
    /// # Errors
    /// If libtorch does not know the device.
    pub fn choose(named: Option<Self>, n_embd: i64, device: Device) -> Result<Self> {
        let is_wide = device != Device::Cpu || n_embd >= WIDE_ENOUGH;
        let default = if is_wide && bf16_is_fast(device)? { Self::Bfloat16 } else { Self::Float32 };
        let precision = named.unwrap_or(default);
        let is_full = precision == Self::Float32;
        let float32 = if is_full { Float32Matmul::Highest } else { Float32Matmul::High };
        set_float32_matmul_precision(float32)?;
        Ok(precision)
    }

    /// Runs a forward pass, under autocast if this has 16 bits.
    ///
    /// # Panics
    /// If the device has no such autocast: [`lab::run`] makes a sentence of it.
    pub fn autocast<T>(self, device: Device, forward: impl FnOnce() -> T) -> T {
        if self.kind() == Kind::Float {
            return forward();
        }
        let outcome = tch_ext::autocast(device, self.kind(), forward);
        outcome.unwrap_or_else(|error| panic!("{error}"))
    }
}

/// Multiplies the loss, so that no gradient is too small for float16, and divides the gradients again. Where one became
/// too large instead, the step is left out and the factor halved; after 2,000 good steps it is doubled.
///
/// Source: Micikevicius and others, Mixed Precision Training (arXiv 1710.03740), and `torch.amp.GradScaler`, whose
/// numbers these are.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct GradScaler {
    scale: f64,
    /// Steps since the factor has changed.
    good_steps: u32,
}

impl GradScaler {
    /// One for this precision: it multiplies by 1 where that is not float16.
    pub fn new(precision: Precision) -> Self {
        let scale = if precision == Precision::Float16 { 65_536.0 } else { 1.0 };
        Self { scale, good_steps: 0 }
    }

    /// The loss to call `backward` on.
    pub fn scaled(&self, loss: &Tensor) -> Tensor {
        if self.scale == 1.0 { loss.shallow_clone() } else { loss * self.scale }
    }

    /// Divides the gradients again.
    ///
    /// # Panics
    /// If it multiplies by more than 1 and a parameter has no gradient.
    pub fn unscale(&self, parameters: &[Tensor]) {
        if self.scale == 1.0 {
            return;
        }
        for parameter in parameters {
            let mut grad = parameter.grad();
            grad /= self.scale; // in place: it is the parameter's own
        }
    }

    /// Takes note of the norm of a step's gradients, and returns whether the step is to be taken.
    pub fn accepts(&mut self, norm: f64, precision: Precision) -> bool {
        const GROWTH_INTERVAL: u32 = 2000;
        if precision != Precision::Float16 {
            return true;
        }
        self.good_steps += 1;
        if !norm.is_finite() {
            *self = Self { scale: self.scale / 2.0, good_steps: 0 };
            return false;
        }
        if self.good_steps == GROWTH_INTERVAL {
            *self = Self { scale: self.scale * 2.0, good_steps: 0 };
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_factor_is_halved_after_an_overflow_and_doubled_after_2000_good_steps() {
        let float16 = Precision::Float16;
        let mut scaler = GradScaler::new(float16);
        assert!(!scaler.accepts(f64::INFINITY, float16) && !scaler.accepts(f64::NAN, float16));
        assert_eq!(scaler.scale, 16_384.0);
        assert!((0..1999).all(|_| scaler.accepts(1.0, float16)));
        assert_eq!(scaler.scale, 16_384.0);
        assert!(scaler.accepts(1.0, float16));
        assert_eq!(scaler.scale, 32_768.0);
    }

    #[test]
    fn a_narrow_model_on_a_cpu_computes_in_float32() {
        let choose = |named, n_embd| Precision::choose(named, n_embd, Device::Cpu).unwrap();
        let fast = if bf16_is_fast(Device::Cpu).unwrap() {
            Precision::Bfloat16
        } else {
            Precision::Float32
        };
        assert_eq!(choose(None, WIDE_ENOUGH - 1), Precision::Float32);
        assert_eq!(choose(None, WIDE_ENOUGH), fast);
        assert_eq!(choose(Some(Precision::Bfloat16), 8), Precision::Bfloat16);
    }

    #[test]
    fn gradients_are_what_they_would_be_without_it() {
        let float16 = Precision::Float16;
        let grad = |scaler: GradScaler| {
            let x = Tensor::from_slice(&[1f32, 2.0]).set_requires_grad(true);
            scaler.scaled(&x.square().sum(Kind::Float)).backward();
            scaler.unscale(&[x.shallow_clone()]);
            Vec::<f32>::try_from(x.grad()).unwrap()
        };
        assert_eq!(grad(GradScaler::new(float16)), [2.0, 4.0]);
        assert_eq!(grad(GradScaler::new(Precision::Bfloat16)), [2.0, 4.0]);
    }
}
