//! Flash attention on and off: the same result, and not the same memory.

use tch::{Device, Kind, Tensor};
use tch_ext::{memory, set_flash_attention};

const T: i64 = 512;

/// The output and the gradient of q, and the bytes at the peak, all in `kind`.
fn attend(kind: Kind, flash: bool) -> (Tensor, Tensor, u64) {
    set_flash_attention(flash).unwrap();
    tch::manual_seed(1);
    let [q, k, v] = [(); 3].map(|()| {
        let x = Tensor::randn([1, 4, T, 32], (Kind::Float, Device::Cpu));
        x.to_kind(kind).set_requires_grad(true)
    });
    memory::reset_peak(Device::Cpu).unwrap();
    let before = memory::now(Device::Cpu).unwrap();
    let y =
        Tensor::scaled_dot_product_attention(&q, &k, &v, None::<Tensor>, 0.0, true, None, false);
    y.square().sum(Kind::Float).backward();
    let peak = memory::peak(Device::Cpu).unwrap() - before;
    set_flash_attention(true).unwrap();
    (y.detach(), q.grad(), peak)
}

/// `‖a − b‖ / ‖b‖`.
fn distance(a: &Tensor, b: &Tensor) -> f64 {
    let (a, b) = (a.to_kind(Kind::Double), b.to_kind(Kind::Double));
    ((a - &b).norm() / b.norm()).double_value(&[])
}

/// One test, since the switch and the count of bytes are the process's.
#[test]
fn without_flash_attention_the_result_stays_and_the_table_of_scores_is_there() {
    let table = |kind: Kind| 4 * T as u64 * T as u64 * if kind == Kind::Float { 4 } else { 2 };
    // float32 sums in another order; bfloat16 rounds each score by up to 1/256 as well.
    for (kind, tolerance) in [(Kind::Float, 1e-5), (Kind::BFloat16, 2e-2)] {
        let (y, grad, fused) = attend(kind, true);
        let (plain_y, plain_grad, plain) = attend(kind, false);
        assert_eq!(plain_y.kind(), kind);
        assert!(distance(&plain_y, &y) < tolerance, "{kind:?} {}", distance(&plain_y, &y));
        assert!(distance(&plain_grad, &grad) < tolerance, "{}", distance(&plain_grad, &grad));
        assert!(fused < table(kind) && plain > 2 * table(kind), "{kind:?}: {fused} {plain}");
    }
}
