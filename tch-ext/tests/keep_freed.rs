//! `keep_freed` keeps its promise: what tensors leave stays with the process, and is used again.

use std::fs;
use tch::{Device, Kind, Tensor};

const MIB: i64 = 1 << 20;

fn main() {
    if cfg!(all(target_os = "linux", target_env = "gnu")) {
        freed_memory_is_kept_and_used_again();
    }
}

fn freed_memory_is_kept_and_used_again() {
    let before = resident();
    activations();
    let returned = resident() - before;
    assert!(
        returned < 64 * MIB,
        "malloc returns large blocks unless told: {returned} bytes stayed"
    );

    tch_ext::memory::keep_freed().unwrap();
    // A few rounds until the heap has its size: at first a gap can be a little too small.
    (0..5).for_each(|_| activations());
    let kept = resident() - before;
    assert!(kept > 240 * MIB, "{kept} bytes stayed");

    (0..20).for_each(|_| activations());
    let grown = resident() - before - kept;
    assert!(grown < MIB, "used again, it does not grow: {grown} bytes more");
}

/// Allocates, writes and frees 256 MiB, as a training step does.
fn activations() {
    let tensor = |_| Tensor::ones([64 * MIB], (Kind::Uint8, Device::Cpu));
    drop((0..4).map(tensor).collect::<Vec<_>>());
}

/// Bytes of this process that are in memory, by the line `VmRSS:    1234 kB`.
fn resident() -> i64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<i64>().unwrap() * 1024
}
