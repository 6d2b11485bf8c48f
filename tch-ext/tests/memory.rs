//! The counter of tensor bytes: exact to the byte, from any thread.

use std::sync::{Mutex, MutexGuard};
use std::thread;
use tch::{Device, Kind, Tensor};
use tch_ext::memory;

const MIB: i64 = 1 << 20;

/// The counter is one for the whole process, so its tests run one at a time.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn now() -> u64 {
    memory::now(Device::Cpu).unwrap()
}

fn peak() -> u64 {
    memory::peak(Device::Cpu).unwrap()
}

fn reset_peak() {
    memory::reset_peak(Device::Cpu).unwrap();
}

fn bytes(count: i64) -> Tensor {
    Tensor::zeros([count], (Kind::Uint8, Device::Cpu))
}

#[test]
fn a_tensor_counts_from_birth_to_death() {
    let _turn = alone();
    let before = now();
    for size in [1, 63, 64, 4097, 3 * MIB] {
        let tensor = bytes(size);
        assert_eq!(now() - before, size as u64);
        let view = tensor.view([-1, 1]);
        drop(tensor);
        assert_eq!(now() - before, size as u64, "the view still holds its memory");
        drop(view);
        assert_eq!(now(), before);
    }
    let empty = bytes(0);
    assert_eq!(now(), before);
    drop(empty);
    assert_eq!(now(), before);
}

#[test]
fn tensors_stay_aligned_to_64_bytes() {
    let _turn = alone();
    for size in [1, 100, 4096, MIB] {
        assert_eq!(bytes(size).data_ptr() as usize % 64, 0);
    }
}

#[test]
fn the_peak_is_the_most_at_one_time() {
    let _turn = alone();
    let before = now();
    reset_peak();
    drop((bytes(2 * MIB), bytes(3 * MIB)));
    drop(bytes(4 * MIB));
    assert_eq!(peak() - before, 5 * MIB as u64);

    let held = bytes(MIB);
    reset_peak();
    assert_eq!(peak() - before, MIB as u64);
    drop(held);
    assert_eq!(peak() - before, MIB as u64, "freeing lowers no peak");
}

#[test]
fn memory_that_could_not_be_had_is_not_counted() {
    let _turn = alone();
    let before = (now(), peak());
    for size in [1 << 60, i64::MAX] {
        assert!(Tensor::f_empty([size], (Kind::Uint8, Device::Cpu)).is_err());
    }
    assert_eq!((now(), peak()), before);
}

#[test]
fn a_matrix_product_with_gradient_counts_each_result_once() {
    let _turn = alone();
    let before = now();
    reset_peak();
    let options = (Kind::Float, Device::Cpu);
    let (n, side) = (256 * 256 * 4, 256);
    let weight = Tensor::ones([side, side], options).set_requires_grad(true);
    let input = Tensor::ones([side, side], options);
    let output = input.matmul(&weight);
    assert_eq!(now() - before, 3 * n);
    output.sum(Kind::Float).backward();
    assert_eq!(now() - before, 4 * n, "the weight's gradient stays");
    drop((weight, input, output));
    assert_eq!(now(), before);
}

#[test]
fn threads_that_free_what_others_made_keep_the_count() {
    let _turn = alone();
    let before = now();
    reset_peak();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for size in 1..=500 {
                    let tensor = bytes(size);
                    thread::spawn(move || drop(tensor)).join().unwrap();
                }
            });
        }
    });
    assert_eq!(now(), before);
    let most = peak() - before;
    assert!((500..=2000).contains(&most), "four threads of 500 bytes at most: {most}");
}

#[test]
fn a_device_that_is_not_there_is_named() {
    let sentence = memory::now(Device::Vulkan).unwrap_err().to_string();
    assert_eq!(sentence, "this libtorch was built without VULKAN");
    if !tch::utils::has_cuda() {
        assert!(memory::peak(Device::Cuda(0)).is_err());
        assert!(memory::reset_peak(Device::Cuda(0)).is_err());
    }
}

#[test]
fn a_tensor_over_the_limit_is_refused_and_one_up_to_it_is_made() {
    let _turn = alone();
    memory::limit(now() + 2 * MIB as u64);
    let first = bytes(MIB);
    let refused = Tensor::f_zeros([MIB + 1], (Kind::Uint8, Device::Cpu));
    let second = bytes(MIB);
    memory::limit(u64::MAX);
    let error = refused.expect_err("it is over the limit").to_string();
    assert!(error.contains("can't allocate memory"), "{error}");
    drop((first, second));
    drop(bytes(3 * MIB));
}
