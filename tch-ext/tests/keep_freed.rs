//! `keep_freed` keeps its promise: what tensors leave stays with the process, and is used again. And
//! `use_huge_pages` its own: Linux maps large tensors so, where it leaves the choice to programs.

use std::fs;
use tch::{Device, Kind, Tensor};

const MIB: i64 = 1 << 20;

fn main() {
    if cfg!(all(target_os = "linux", target_env = "gnu")) {
        freed_memory_is_kept_and_used_again();
        large_tensors_are_mapped_in_huge_pages();
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

fn large_tensors_are_mapped_in_huge_pages() {
    let choice = fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled");
    if !choice.is_ok_and(|choice| choice.contains("[madvise]")) {
        return; // "always" would do it without being asked, "never" not at all
    }
    let tensor = || Tensor::ones([1024 * MIB], (Kind::Uint8, Device::Cpu));
    drop(tensor()); // more than the heap has kept: memory that nothing has touched
    let before = in_huge_pages();
    assert!(before < 64 * MIB, "nobody has asked yet: {before} bytes");
    tch_ext::memory::use_huge_pages().unwrap();
    let larger = Tensor::ones([2048 * MIB], (Kind::Uint8, Device::Cpu));
    let mapped = in_huge_pages();
    assert!(mapped > 512 * MIB, "{mapped} bytes of {}", larger.numel());
}

/// Bytes of this process that are in pages of 2 MiB.
fn in_huge_pages() -> i64 {
    bytes("/proc/self/smaps_rollup", "AnonHugePages:")
}

/// Allocates, writes and frees 256 MiB, as a training step does.
fn activations() {
    let tensor = |_| Tensor::ones([64 * MIB], (Kind::Uint8, Device::Cpu));
    drop((0..4).map(tensor).collect::<Vec<_>>());
}

/// Bytes of this process that are in memory.
fn resident() -> i64 {
    bytes("/proc/self/status", "VmRSS:")
}

/// The number of a line like `VmRSS:    1234 kB`.
fn bytes(file: &str, name: &str) -> i64 {
    let text = fs::read_to_string(file).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim().trim_end_matches(" kB").parse::<i64>().unwrap() * 1024
}
