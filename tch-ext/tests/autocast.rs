//! Autocast: the right dtype inside, the old one after, however a region ends.

use std::panic::{self, AssertUnwindSafe};
use std::sync::{Mutex, MutexGuard};
use std::thread;
use tch::Kind::{BFloat16, Double, Float, Half};
use tch::{Cuda, Device, Kind, Tensor};
use tch_ext::{autocast, memory};

/// The cache of cast weights is one for the whole process, so its tests run one at a time.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn devices() -> Vec<Device> {
    let gpu = Cuda::is_available().then_some(Device::Cuda(0));
    [Device::Cpu].into_iter().chain(gpu).collect()
}

const SIDE: i64 = 64;

fn matrix(device: Device) -> Tensor {
    Tensor::randn([SIDE, SIDE], (Float, device))
}

/// The dtype in which a matrix product of two float32 tensors comes out.
fn product_kind(device: Device) -> Kind {
    matrix(device).matmul(&matrix(device)).kind()
}

/// `‖a − b‖ / ‖b‖`.
fn distance(a: &Tensor, b: &Tensor) -> f64 {
    let (a, b) = (a.to_kind(Double), b.to_kind(Double));
    ((a - &b).norm() / b.norm()).double_value(&[])
}

#[test]
fn a_product_is_what_casting_by_hand_gives() {
    let _turn = alone();
    for device in devices() {
        let (a, b) = (matrix(device), matrix(device));
        for dtype in [BFloat16, Half] {
            let by_hand = a.to_kind(dtype).matmul(&b.to_kind(dtype));
            let inside = autocast(device, dtype, || a.matmul(&b)).unwrap();
            assert_eq!(inside.kind(), dtype);
            assert_eq!(inside, by_hand);
            assert_eq!(a.matmul(&b).kind(), Float, "after {dtype:?} on {device:?}");
        }
    }
}

/// The table in the documentation of `autocast`, by libtorch's lists in ATen/autocast_mode.cpp. On a
/// CPU softmax and layer norm are on no list; on CUDA they are on that of float32.
#[test]
fn libtorchs_lists_say_what_computes_in_which_dtype() {
    let _turn = alone();
    for device in devices() {
        let x = matrix(device);
        let low = x.to_kind(BFloat16);
        let (weight, bias) = (Tensor::ones([SIDE], (Float, device)), matrix(device).get(0));
        let heads = x.view([1, 2, 4, -1]);
        let targets = Tensor::zeros([SIDE], (Kind::Int64, device));
        let norm = |x: &Tensor| x.layer_norm([SIDE], Some(&weight), Some(&bias), 1e-5, true);
        let mean = tch::Reduction::Mean;
        let as_it_comes = if device == Device::Cpu { BFloat16 } else { Float };
        let sdpa = || {
            let none: Option<Tensor> = None;
            Tensor::scaled_dot_product_attention(
                &heads, &heads, &heads, none, 0., true, None, false,
            )
        };
        #[rustfmt::skip]
        autocast(device, BFloat16, || {
            for (what, result, expected) in [
                ("matmul", x.matmul(&x), BFloat16),
                ("linear", x.linear(&x, Some(&bias)), BFloat16),
                ("attention", sdpa(), BFloat16),
                ("float64", x.to_kind(Double).matmul(&x.to_kind(Double)), Double),
                ("softmax", low.softmax(-1, None), as_it_comes),
                ("layer norm", norm(&low), as_it_comes),
                ("exp", low.exp(), as_it_comes),
                ("sum", low.sum(None), as_it_comes),
                ("softmax of float32", x.softmax(-1, None), Float),
                ("layer norm of float32", norm(&x), Float),
                ("gelu", low.gelu("tanh"), BFloat16),
                ("residual", &x + &low, Float),
                ("embedding", Tensor::embedding(&x, &targets, -1, false, false), Float),
                ("cross_entropy_loss", low.cross_entropy_loss::<Tensor>(&targets, None, mean, -100, 0.), Float),
                ("cross_entropy_for_logits", low.cross_entropy_for_logits(&targets), Float),
                ("mse_loss", low.mse_loss(&low, mean), Float),
            ] {
                assert_eq!(result.kind(), expected, "{what} on {device:?}");
            }
        })
        .unwrap();
    }
}

/// The gradient of sum(x·w) is xᵀ·1: its factors and its result are each rounded to 8 bits, to 2⁻⁸ of
/// their size at most, together to 2⁻⁷.
#[test]
fn the_gradient_of_a_float32_parameter_is_float32() {
    let _turn = alone();
    for device in devices() {
        let x = matrix(device);
        let gradient = |product: &dyn Fn(&Tensor) -> Tensor| {
            let weight = matrix(device).set_requires_grad(true);
            product(&weight).sum(Float).backward();
            weight.grad()
        };
        let exact = gradient(&|weight| x.matmul(weight));
        let mixed = gradient(&|weight| autocast(device, BFloat16, || x.matmul(weight)).unwrap());
        assert_eq!(mixed.kind(), Float);
        let error = distance(&mixed, &exact);
        assert!(error > 0.0 && error < 1.0 / 128.0, "computed in bfloat16: {error} on {device:?}");
    }
}

#[test]
fn a_panic_ends_the_region_as_well() {
    let _turn = alone();
    let broken = panic::catch_unwind(AssertUnwindSafe(|| {
        autocast(Device::Cpu, BFloat16, || {
            autocast(Device::Cpu, Half, || matrix(Device::Cpu).matmul(&Tensor::new()))
        })
    }));
    assert!(broken.is_err());
    assert_eq!(product_kind(Device::Cpu), Float);
    // Not only switched off: the depth is 0 again, or this copy would stay in the cache.
    the_copy_of_a_weight_is_gone_after(|| ());
}

/// With one weight throughout: its copy in bfloat16 must not be handed to float16, nor back.
#[test]
fn a_region_in_a_region_has_its_own_dtype() {
    let _turn = alone();
    for device in devices() {
        let (x, weight) = (matrix(device), matrix(device).set_requires_grad(true));
        let kind = || x.matmul(&weight).kind();
        let inner = || {
            let half = autocast(device, Half, kind).unwrap();
            [kind(), half, kind()]
        };
        let seen =
            autocast(device, BFloat16, || [kind(), autocast(device, BFloat16, kind).unwrap()]);
        assert_eq!(seen.unwrap(), [BFloat16, BFloat16]);
        let seen = autocast(device, BFloat16, inner).unwrap();
        assert_eq!(seen, [BFloat16, Half, BFloat16]);
        assert_eq!(kind(), Float);
    }
}

#[test]
fn the_setting_belongs_to_the_thread() {
    let _turn = alone();
    let elsewhere = autocast(Device::Cpu, BFloat16, || {
        thread::scope(|scope| scope.spawn(|| product_kind(Device::Cpu)).join().unwrap())
    });
    assert_eq!(elsewhere.unwrap(), Float);
}

#[test]
fn a_weight_is_cast_once_until_the_outermost_region_ends() {
    let _turn = alone();
    the_copy_of_a_weight_is_gone_after(|| {
        autocast(Device::Cpu, BFloat16, || ()).unwrap();
    });
}

fn the_copy_of_a_weight_is_gone_after(inner: impl Fn()) {
    let (x, weight) = (matrix(Device::Cpu), matrix(Device::Cpu).set_requires_grad(true));
    let taken = || memory::now(Device::Cpu).unwrap();
    let before = taken();
    let copy = (SIDE * SIDE) as u64 * 2;
    autocast(Device::Cpu, BFloat16, || {
        for _ in 0..3 {
            drop(x.matmul(&weight));
            inner();
            assert_eq!(taken() - before, copy, "one copy, used again");
        }
    })
    .unwrap();
    assert_eq!(taken(), before);
}

/// The stale copy would otherwise be used: what a region must not outlive.
#[test]
fn the_next_region_sees_the_changed_weight() {
    let _turn = alone();
    let (x, mut weight) = (matrix(Device::Cpu), matrix(Device::Cpu).set_requires_grad(true));
    let product = |weight: &Tensor| autocast(Device::Cpu, BFloat16, || x.matmul(weight)).unwrap();
    let before = product(&weight);
    tch::no_grad(|| {
        let _ = weight.neg_();
    });
    assert_eq!(product(&weight), -before);
}

#[test]
fn another_dtype_is_refused_with_the_way_out() {
    for dtype in [Float, Double, Kind::Int64, Kind::Float8e4m3fn] {
        let refused = autocast(Device::Cpu, dtype, || panic!("must not run")).unwrap_err();
        assert_eq!(
            refused.to_string(),
            format!(
                "autocast casts to BFloat16 or Half, not to {dtype:?}: choose one of the two, or compute without autocast"
            )
        );
    }
}

#[test]
fn a_device_that_is_not_there_is_named() {
    let refused = autocast(Device::Vulkan, BFloat16, || panic!("must not run")).unwrap_err();
    assert_eq!(refused.to_string(), "this libtorch was built without VULKAN");
}
