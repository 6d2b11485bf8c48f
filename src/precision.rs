//! In which precision a model computes.

use anyhow::Result;
use clap::ValueEnum;
use tch::{Device, Kind};
use tch_ext::precision::{Float32Matmul, bf16_is_fast, set_float32_matmul_precision};

/// What the factors of a matrix product are rounded to.
#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
pub enum Precision {
    /// 8 bits of exponent, 23 of fraction
    Float32,
    /// float32 whose factors are rounded to 10 bits of fraction, on NVIDIA GPUs
    Tf32,
    /// 8 bits of exponent, 7 of fraction; sums and weights stay in float32
    Bfloat16,
}

impl Precision {
    /// The one that `--precision` names, else bfloat16 where `device` is fast at it and float32 where it
    /// is not. Sets at once how float32 itself is multiplied, which is a setting of the whole process.
    ///
    /// # Errors
    /// If libtorch does not know the device.
    pub fn choose(named: Option<Self>, device: Device) -> Result<Self> {
        let default = if bf16_is_fast(device)? { Self::Bfloat16 } else { Self::Float32 };
        let precision = named.unwrap_or(default);
        precision.set_float32()?;
        Ok(precision)
    }

    /// float32 in full, or, beside another precision, as TF32 where the hardware has it.
    pub fn set_float32(self) -> Result<()> {
        let is_full = self == Self::Float32;
        let float32 = if is_full { Float32Matmul::Highest } else { Float32Matmul::High };
        Ok(set_float32_matmul_precision(float32)?)
    }

    /// Runs a forward pass, under autocast if this is bfloat16.
    ///
    /// # Panics
    /// If the device has no autocast: `lab::run` makes a sentence of it.
    pub fn autocast<T>(self, device: Device, forward: impl FnOnce() -> T) -> T {
        if self != Self::Bfloat16 {
            return forward();
        }
        let outcome = tch_ext::autocast(device, Kind::BFloat16, forward);
        outcome.unwrap_or_else(|error| panic!("{error}"))
    }
}
