//! The random state: taken, put back, and refused when it is none.

use std::sync::{Mutex, MutexGuard};
use tch::{Device, Kind, Tensor};
use tch_ext::random;

/// The generator is one for the whole process, so its tests run one at a time.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn draw() -> Vec<f32> {
    // An odd count below 16 leaves half a pair of normal samples in the generator: state as well.
    Tensor::randn([7], (Kind::Float, Device::Cpu)).try_into().unwrap()
}

#[test]
fn the_same_state_gives_the_same_numbers() {
    let _turn = alone();
    tch::manual_seed(1);
    draw();
    let state = random::state(Device::Cpu).unwrap();
    let first = [draw(), draw()];
    assert_ne!(first[0], first[1]);

    random::set_state(Device::Cpu, &state).unwrap();
    assert_eq!([draw(), draw()], first);
}

#[test]
fn the_state_taken_is_a_copy() {
    let _turn = alone();
    let state = random::state(Device::Cpu).unwrap();
    let before = state.copy();
    draw();
    assert_eq!(state, before);
    assert_eq!(state.kind(), Kind::Uint8);
    assert_eq!(state.dim(), 1);
}

/// Real failures inside libtorch: each comes back as one sentence and leaves the generator alone.
#[test]
fn what_is_no_state_is_refused_in_one_sentence() {
    let _turn = alone();
    let state = random::state(Device::Cpu).unwrap();
    let zeros = |kind| Tensor::zeros(state.size(), (kind, Device::Cpu));
    for (what, tensor, reason) in [
        ("another size", state.narrow(0, 0, 100), "state size"),
        ("another dtype", zeros(Kind::Float), "ByteTensor"),
        ("nonsense of the right form", zeros(Kind::Uint8), "Invalid"),
        ("every second byte of two", state.repeat([2]).slice(0, 0, None, 2), "Invalid"),
        ("no tensor at all", Tensor::new(), "defined"),
    ] {
        let sentence = random::set_state(Device::Cpu, &tensor).unwrap_err().to_string();
        assert!(sentence.contains(reason), "{what}: {sentence}");
        assert!(!sentence.contains('\n'), "{what}: {sentence}");
        assert_eq!(random::state(Device::Cpu).unwrap(), state, "{what}");
    }
}

#[test]
fn a_device_that_is_not_there_is_named() {
    let sentence = random::state(Device::Vulkan).unwrap_err().to_string();
    assert_eq!(sentence, "this libtorch was built without VULKAN");
    // Whether libtorch lacks CUDA or this machine has fewer GPUs.
    assert!(random::state(Device::Cuda(99)).is_err());
}

#[test]
fn a_part_of_a_larger_tensor_is_a_state_too() {
    let _turn = alone();
    tch::manual_seed(3);
    let first = random::state(Device::Cpu).unwrap();
    let expected = draw();
    let rows = Tensor::stack(&[random::state(Device::Cpu).unwrap(), first], 0);
    random::set_state(Device::Cpu, &rows.get(1)).unwrap();
    assert_eq!(draw(), expected);
}
