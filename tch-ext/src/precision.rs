//! How precisely matrix products of float32 are computed, and where bfloat16 pays.

use crate::{Error, device::Device, error::Outcome};

unsafe extern "C" {
    fn tch_ext_float32_matmul_precision(precision: *mut i8) -> Outcome;
    safe fn tch_ext_set_float32_matmul_precision(precision: i8) -> Outcome;
    fn tch_ext_bf16_is_fast(device: Device, fast: *mut bool) -> Outcome;
}

/// What a matrix product of float32 tensors may round its factors to. Its result is float32 each time,
/// and so are its sums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Float32Matmul {
    /// 23 bits after the point, float32 itself. libtorch begins with this.
    Highest,
    /// 10 bits where the hardware multiplies so: TF32 on CUDA GPUs of compute capability 8.0 (Ampere)
    /// or later, and on CPUs with AMX-FP16. Elsewhere as `Highest`.
    High,
    /// 7 bits, bfloat16, on CPUs with AMX-BF16. On a CPU without, the precision stays, but not every
    /// last bit: another library, oneDNN, computes the product. On CUDA as `High`.
    Medium,
}

/// Sets how precisely float32 matrix products are computed from now on, on all devices and threads, as
/// `torch.set_float32_matmul_precision` does. Call it while no other thread computes, best when the
/// program begins.
///
/// # Errors
/// None that is known.
pub fn set_float32_matmul_precision(precision: Float32Matmul) -> Result<(), Error> {
    let number = match precision {
        Float32Matmul::Highest => 0, // these are at::Float32MatmulPrecision's numbers
        Float32Matmul::High => 1,
        Float32Matmul::Medium => 2,
    };
    tch_ext_set_float32_matmul_precision(number).into_result()
}

/// How precisely float32 matrix products are computed at present.
///
/// # Errors
/// If something else set libtorch's newer switches, for each backend, to what this has no name for.
pub fn float32_matmul_precision() -> Result<Float32Matmul, Error> {
    let mut number = 0;
    // SAFETY: C++ writes one number to where `number` is.
    unsafe { tch_ext_float32_matmul_precision(&mut number) }.into_result()?;
    Ok(match number {
        0 => Float32Matmul::Highest,
        1 => Float32Matmul::High,
        _ => Float32Matmul::Medium,
    })
}

/// Whether a device has instructions for matrix products in bfloat16, so that
/// [`autocast`](crate::autocast) to it is likely to be faster than float32.
///
/// - CPU: AVX512-BF16 or AMX-BF16, on ARM the extension BF16.
/// - CUDA: compute capability 8.0 (Ampere) or later.
/// - `false` where there is no way to ask: MPS, ROCm, and CUDA on Windows.
///
/// Without them bfloat16 is right all the same, and usually slower than float32.
///
/// # Errors
/// If libtorch knows no such device, or CUDA has none of that index.
pub fn bf16_is_fast(device: tch::Device) -> Result<bool, Error> {
    let mut fast = false;
    // SAFETY: C++ writes one truth value to where `fast` is.
    unsafe { tch_ext_bf16_is_fast(device.into(), &mut fast) }.into_result()?;
    Ok(fast)
}
