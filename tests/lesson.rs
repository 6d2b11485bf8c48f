#![allow(unused_imports)]
//! What the lessons promise about their own code. Each step is taken in whole, and its tests stand
//! beside it, where they see its private parts.

#![allow(dead_code)] // a step's `main` is not called here

use tch::{Tensor, kind};

/// The largest difference between two tensors of the same shape.
fn distance(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.size(), b.size());
    (a - b).abs().max().double_value(&[])
}

/// Ids for a test: `n` of them below `vocab_size`, always the same.
fn ids(n: usize, vocab_size: i64) -> Tensor {
    let mut rng = lab::Rng::new(7);
    let ids: Vec<i64> = (0..n).map(|_| rng.below(vocab_size)).collect();
    Tensor::from_slice(&ids)
}

/// How far `a` is from `b`, as a share of `b`'s size.
fn relative(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.size(), b.size());
    let norm = |x: &Tensor| x.square().sum(tch::Kind::Double).sqrt().double_value(&[]);
    norm(&(a - b)) / norm(b)
}

/// A tensor that a script in tests/fixtures has made with PyTorch.
fn fixture(file: &str, name: &str) -> Tensor {
    let tensors = Tensor::read_safetensors(format!("tests/fixtures/{file}")).unwrap();
    let found = tensors.into_iter().find(|(found, _)| found == name);
    found.unwrap_or_else(|| panic!("{file} has no {name}")).1
}

mod step00 {
    include!("../steps/lesson.rs");

    #[test]
    fn autograd_is_the_slope() {
        tch::manual_seed(1);
        let (x, y) = points(Device::Cpu);
        let line = Line::new(Device::Cpu);
        line.loss(&x, &y).backward();
        let slope = line.w.grad().double_value(&[0]);
        // The loss is a parabola in w, so the slope is the difference quotient over any distance.
        let loss_at = |w: f64| (&x * w - &y).square().mean(Kind::Double).double_value(&[]);
        let by_difference = (loss_at(0.5) - loss_at(-0.5)) / 1.0;
        assert!((slope - by_difference).abs() < 1e-4, "{slope} {by_difference}");
    }
}
