//! The precision of float32 products, and whether bfloat16 is fast.

use std::sync::{Mutex, MutexGuard};
use tch::{Cuda, Device, Kind, Tensor};
use tch_ext::precision::{
    Float32Matmul::{High, Highest, Medium},
    bf16_is_fast, float32_matmul_precision, set_float32_matmul_precision,
};

/// The setting is one for the whole process, so its tests run one at a time.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Whether Linux lists one of these instructions of the CPU; None on other systems.
fn cpu_has(instructions: &[&str]) -> Option<bool> {
    let info = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let flags =
        info.lines().find(|line| line.starts_with("flags") || line.starts_with("Features"))?;
    Some(flags.split_whitespace().any(|flag| instructions.contains(&flag)))
}

#[test]
fn what_is_set_is_read() {
    let _turn = alone();
    for precision in [High, Medium, Highest, Medium, High, Highest] {
        set_float32_matmul_precision(precision).unwrap();
        assert_eq!(float32_matmul_precision().unwrap(), precision);
    }
}

/// A factor rounded to bfloat16 is off by 2⁻⁸ of its size at most, by a 600th in the mean square. Two of
/// them make √2/600 = 1/424. Sums in another order are off by some 2⁻²⁴.
#[test]
fn on_a_cpu_high_changes_no_bit_and_medium_rounds_to_bfloat16_at_most() {
    let _turn = alone();
    let matrix = || Tensor::randn([256, 256], (Kind::Float, Device::Cpu));
    let (a, b) = (matrix(), matrix());
    let product = |precision| {
        set_float32_matmul_precision(precision).unwrap();
        a.matmul(&b)
    };
    let (high, medium, highest) = (product(High), product(Medium), product(Highest));
    assert_eq!(medium.kind(), Kind::Float);
    let error = ((&medium - &highest).norm() / highest.norm()).double_value(&[]);
    assert!(error < 1.0 / 256.0, "rounded to bfloat16 at most: {error}");
    if cfg!(target_arch = "x86_64") && cpu_has(&["amx_bf16"]) == Some(false) {
        assert!(error < 1e-6, "as precise as float32 where there is no AMX: {error}");
    }
    // The only CPUs that multiply in TF32 are those with AMX-FP16.
    if cpu_has(&["amx_fp16"]) == Some(false) {
        assert_eq!(high, highest);
    }
}

#[test]
fn bf16_is_fast_where_the_cpu_has_instructions_for_it() {
    let fast = bf16_is_fast(Device::Cpu).unwrap();
    if let Some(expected) = cpu_has(&["avx512_bf16", "amx_bf16", "bf16"]) {
        assert_eq!(fast, expected);
    }
}

#[test]
fn a_device_that_is_not_there_is_named() {
    let sentence = bf16_is_fast(Device::Vulkan).unwrap_err().to_string();
    assert_eq!(sentence, "this libtorch was built without VULKAN");
    if Cuda::is_available() {
        bf16_is_fast(Device::Cuda(0)).unwrap();
    } else {
        bf16_is_fast(Device::Cuda(0)).unwrap_err();
    }
}
