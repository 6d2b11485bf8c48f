//! The state of libtorch's random generators, which dropout and initialisation draw from: what a
//! checkpoint needs to go on as if it had never stopped.

use crate::{Error, device::Device, error::Outcome, tensor::CTensor};
use std::ptr;
use tch::Tensor;

unsafe extern "C" {
    fn tch_ext_random_state(device: Device, state: *mut *mut CTensor) -> Outcome;
    fn tch_ext_set_random_state(device: Device, state: *const CTensor) -> Outcome;
}

/// The state of a device's default generator: uint8, one dimension, on the CPU.
///
/// # Errors
/// If libtorch knows no such device.
pub fn state(device: tch::Device) -> Result<Tensor, Error> {
    let mut state = ptr::null_mut();
    // SAFETY: C++ writes one pointer to where `state` is.
    unsafe { tch_ext_random_state(device.into(), &mut state) }.into_result()?;
    // SAFETY: C++ made a tensor with `new` that nobody else owns, as tch expects it.
    Ok(unsafe { Tensor::from_ptr(state.cast()) })
}

/// Sets a device's default generator to what [`state`] gave earlier.
///
/// # Errors
/// If libtorch knows no such device, or if the tensor is no such state; then the generator stays
/// as it was.
pub fn set_state(device: tch::Device, state: &Tensor) -> Result<(), Error> {
    // SAFETY: tch's pointer is valid as long as `state`, and C++ only reads it during the call.
    unsafe { tch_ext_set_random_state(device.into(), state.as_ptr().cast()) }.into_result()
}
