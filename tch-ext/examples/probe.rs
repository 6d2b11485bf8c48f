//! The first thing to run on a new machine: which libtorch this is, whether it sees a GPU, and a few
//! matrix products, timed and checked. `cargo xtask doctor` reads what it prints: lines of a name, a
//! colon and a value. Exit code 1 if a product is wrong.
use std::{process::ExitCode, time::Instant};

use tch::{Cuda, Device, Kind, Tensor};
use tch_ext::precision::bf16_is_fast;

/// Timed: the best of so many.
const REPEATS: usize = 3;

unsafe extern "C" {
    // From torch/csrc/inductor/aoti_torch/c/shim.h: major, minor and patch in the three highest bytes.
    safe fn aoti_torch_abi_version() -> u64;
}

fn main() -> ExitCode {
    let [major, minor, patch, ..] = aoti_torch_abi_version().to_be_bytes();
    println!("libtorch: {major}.{minor}.{patch}");
    // `has_cuda` would also ask for a GPU.
    println!("CUDA linked: {}", tch::utils::has_cudart());
    println!("GPUs: {}", Cuda::device_count());

    let mut right = true;
    for device in devices() {
        for (kind, name) in kinds(device) {
            for n in [64, 2048] {
                let product = product(n, kind, device);
                let verdict = if product.right { "right" } else { "WRONG" };
                println!(
                    "{name} {n}x{n} on {}: {verdict}, {:.0} GFLOP/s",
                    if device == Device::Cpu { "CPU" } else { "GPU" },
                    product.gflops
                );
                right &= product.right;
            }
        }
    }
    if right { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn devices() -> Vec<Device> {
    let mut devices = vec![Device::Cpu];
    if Cuda::is_available() {
        devices.push(Device::Cuda(0));
    }
    devices
}

/// The number types that the device computes with in hardware.
fn kinds(device: Device) -> Vec<(Kind, &'static str)> {
    let mut kinds = vec![(Kind::Float, "fp32")];
    if device.is_cuda() || bf16_is_fast(device).unwrap_or(false) {
        kinds.push((Kind::BFloat16, "bf16"));
    }
    kinds
}

struct Product {
    right: bool,
    gflops: f64,
}

/// Multiplies two n × n matrices of whole numbers from -3 to 3.
fn product(n: usize, kind: Kind, device: Device) -> Product {
    let numbers =
        |step: usize| -> Vec<i64> { (0..n * n).map(|i| (i * step % 97 % 7) as i64 - 3).collect() };
    let (a, b) = (numbers(31), numbers(57));
    let on_device = |numbers: &[i64]| {
        Tensor::from_slice(numbers).view([n as i64, n as i64]).to_kind(kind).to_device(device)
    };
    let (ta, tb) = (on_device(&a), on_device(&b));

    let mut result = ta.matmul(&tb); // not timed: the first one sets things up
    let mut seconds = f64::INFINITY;
    for _ in 0..REPEATS {
        synchronize(device);
        let start = Instant::now();
        result = ta.matmul(&tb);
        synchronize(device);
        seconds = seconds.min(start.elapsed().as_secs_f64());
    }

    let right = (0..n).step_by(n / 64).all(|row| {
        let actual = result.get(row as i64).to_kind(Kind::Double).to_device(Device::Cpu);
        let actual = Vec::<f64>::try_from(actual).expect("a row of numbers");
        row_is_right(&actual, &row_of_product(&a, &b, n, row), kind)
    });
    Product { right, gflops: 2.0 * (n as f64).powi(3) / seconds / 1e9 }
}

/// GPUs compute while we go on: wait for them before looking at the clock.
fn synchronize(device: Device) {
    if let Device::Cuda(index) = device {
        Cuda::synchronize(index as i64);
    }
}

/// In fp32 all whole numbers up to 2^24 are exact, so the result must be, too. bf16 has 8 bits, and a
/// GPU may round partial sums to them: two units in the last place of the row's largest entry.
fn row_is_right(actual: &[f64], expected: &[i64], kind: Kind) -> bool {
    let largest = expected.iter().map(|x| x.abs()).max().unwrap_or(0) as f64;
    let tolerance = if kind == Kind::BFloat16 { largest / 128.0 } else { 0.0 };
    actual.iter().zip(expected).all(|(x, y)| (x - *y as f64).abs() <= tolerance)
}

/// A row of the product, in plain Rust.
fn row_of_product(a: &[i64], b: &[i64], n: usize, row: usize) -> Vec<i64> {
    let mut sums = vec![0; n];
    for (k, x) in a[row * n..][..n].iter().enumerate() {
        for (sum, y) in sums.iter_mut().zip(&b[k * n..][..n]) {
            *sum += x * y;
        }
    }
    sums
}
