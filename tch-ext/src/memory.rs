//! How much memory tensors take, and how the allocator treats what they leave.

use crate::{Error, device::Device, error::Outcome};

unsafe extern "C" {
    fn tch_ext_memory(device: Device, now: *mut u64, peak: *mut u64) -> Outcome;
    safe fn tch_ext_reset_peak(device: Device) -> Outcome;
    safe fn tch_ext_limit(bytes: u64);
    safe fn tch_ext_keep_freed() -> Outcome;
    safe fn tch_ext_use_huge_pages() -> Outcome;
}

/// Bytes that tensors take on a device at this moment.
///
/// On the CPU this is exact and the same in every run: what libtorch asked for, summed, without the
/// allocator's rounding. A tensor over memory of somebody else's does not count. On a GPU it is what
/// libtorch's caching allocator counts, rounded up to its blocks of 512 bytes.
///
/// # Errors
/// If libtorch knows no such device.
pub fn now(device: tch::Device) -> Result<u64, Error> {
    Ok(count(device)?.0)
}

/// The most that [`now`] has been since the program began, or since [`reset_peak`].
///
/// # Errors
/// As [`now`].
pub fn peak(device: tch::Device) -> Result<u64, Error> {
    Ok(count(device)?.1)
}

/// Lets the peak begin anew at what is taken now.
///
/// # Errors
/// As [`now`].
pub fn reset_peak(device: tch::Device) -> Result<(), Error> {
    tch_ext_reset_peak(device.into()).into_result()
}

/// Lets libtorch refuse a tensor on the CPU with which [`now`] would be more than `bytes`; there is no limit
/// before the first call.
///
/// Linux hands out memory that it does not have, and kills a program that goes on to use it. An operator that
/// is refused panics, as for every error of libtorch's: the message contains `can't allocate memory`.
pub fn limit(bytes: u64) {
    tch_ext_limit(bytes);
}

/// Tells malloc to keep what is freed instead of returning it to the system. Call it once, when the
/// program begins.
///
/// A training step allocates and frees the same large activations every time. glibc hands each of
/// them back to the system, which has to find, clear and map the pages again a moment later. The
/// price of keeping them is that the process stays as large as it once was. It works on the main
/// thread, whose heap has no limit: a block of more than 64 MiB of another thread's still goes back.
/// Without glibc (macOS, Windows, musl) nothing happens.
///
/// # Errors
/// If malloc refuses the setting.
pub fn keep_freed() -> Result<(), Error> {
    tch_ext_keep_freed().into_result()
}

/// Asks Linux to map malloc's heap in pages of 2 MiB instead of 4 KiB, as it grows from now on. Call it
/// once, on the main thread, when the program begins, and with [`keep_freed`], without which large
/// tensors do not lie in the heap.
///
/// A processor remembers where only a few thousand pages lie; what it has forgotten it must look up
/// before it can read a number. Pages that are 512 times as large need as many fewer entries. Most
/// systems leave the choice to the program (`/sys/kernel/mm/transparent_hugepage/enabled` says
/// `madvise`). It is advice: where Linux has no such page free, and without glibc, nothing changes.
///
/// # Errors
/// If malloc refuses the setting.
pub fn use_huge_pages() -> Result<(), Error> {
    tch_ext_use_huge_pages().into_result()
}

fn count(device: tch::Device) -> Result<(u64, u64), Error> {
    let (mut now, mut peak) = (0, 0);
    // SAFETY: C++ writes one number to each of the two.
    unsafe { tch_ext_memory(device.into(), &mut now, &mut peak) }.into_result()?;
    Ok((now, peak))
}
