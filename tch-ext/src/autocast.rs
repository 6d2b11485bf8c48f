use crate::{Error, device::Device, error::Outcome};
use tch::Kind;

/// Autocast on one kind of device, in this thread; `cpp/autocast.cpp` has the same two fields.
#[repr(C)]
#[derive(Clone, Copy)]
struct State {
    enabled: bool,
    dtype: i8,
}

unsafe extern "C" {
    fn tch_ext_autocast_state(device: Device, state: *mut State) -> Outcome;
    safe fn tch_ext_autocast_enter(device: Device, state: State) -> Outcome;
    safe fn tch_ext_autocast_exit(device: Device, before: State) -> Outcome;
}

/// Runs `body` in mixed precision: there, whatever libtorch deems safe and worth it on this kind of
/// device computes in `dtype`. It does what `torch.autocast(device_type, dtype)` does.
///
/// Parameters and inputs stay as they are, usually float32. Each operation casts what it is given, by
/// libtorch's lists, which differ from device to device:
///
/// | operation | CPU | CUDA |
/// |---|---|---|
/// | matrix products, `linear`, convolutions, attention | `dtype` | `dtype` |
/// | softmax, layer norm, `exp`, `log`, `sum` | as it comes | float32 |
/// | losses (`nll_loss`, `cross_entropy_loss`, `mse_loss`) | float32 | float32 |
/// | the others, such as GELU | as it comes | as it comes |
///
/// "As it comes" is the dtype of the tensors it is given; where these differ, a sum of two is
/// float32. float64 is never cast.
///
/// - Run the forward pass and the loss inside, `backward` outside: a backward operation computes in
///   the dtype of its forward operation, and a float32 parameter's gradient is float32.
/// - A parameter is cast once and the copy used again until the outermost region ends, so a step of
///   the optimizer belongs outside, too.
/// - bfloat16 has the range of float32. float16 has not, and wants the loss scaled, or small gradients
///   become 0. On a CPU, only bfloat16 is likely to be faster: see [`bf16_is_fast`].
/// - Regions nest, and each ends with its `body`, also if that panics. The setting belongs to the
///   thread; what `body` does on other threads is not cast.
///
/// The device's index does not matter: all GPUs are cast alike.
///
/// Sources: Micikevicius et al., Mixed Precision Training (arXiv 1710.03740); the lists are in
/// libtorch's `ATen/autocast_mode.h`.
///
/// [`bf16_is_fast`]: crate::precision::bf16_is_fast
///
/// # Errors
/// If `dtype` is neither `BFloat16` nor `Half`, or if libtorch knows no such device or has no autocast
/// there. Then `body` does not run.
pub fn autocast<T>(device: tch::Device, dtype: Kind, body: impl FnOnce() -> T) -> Result<T, Error> {
    let dtype = match dtype {
        Kind::Half => 5, // these are c10::ScalarType's numbers
        Kind::BFloat16 => 15,
        other => {
            return Err(Error::new(format!(
                "autocast casts to BFloat16 or Half, not to {other:?}: choose one of the two, or compute without autocast"
            )));
        }
    };
    let device = device.into();
    let before = state(device)?;
    let _region = Region::enter(device, before, State { enabled: true, dtype })?;
    Ok(body())
}

fn state(device: Device) -> Result<State, Error> {
    let mut state = State { enabled: false, dtype: 0 };
    // SAFETY: C++ writes the two fields of `state`, whose layout it shares.
    unsafe { tch_ext_autocast_state(device, &mut state) }.into_result()?;
    Ok(state)
}

/// Between entry and drop another state holds. Never handed out, so that it is dropped on the thread
/// on which it was made.
struct Region {
    device: Device,
    before: State,
}

impl Region {
    fn enter(device: Device, before: State, state: State) -> Result<Region, Error> {
        tch_ext_autocast_enter(device, state).into_result()?;
        Ok(Region { device, before })
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // Only an unknown device is an error, and this one was known on entry.
        let _ = tch_ext_autocast_exit(self.device, self.before).into_result();
    }
}
