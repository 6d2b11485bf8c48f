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

/// Lets an optimizer take five steps with the gradients of a fixture, and compares with PyTorch's AdamW
/// after each: a rate of 0.01, and a decay of 0.1 for all. One of the parameters is a vector, which would
/// not decay here; so both are made matrices of one column, since AdamW goes number by number.
fn follows_pytorch(mut step: impl FnMut(&[Tensor])) {
    let fixture = |name: String| fixture("adamw.safetensors", &name).view([-1, 1]);
    let mut params = [0, 1].map(|p| fixture(format!("before.{p}")).set_requires_grad(true));
    for taken in 1..=5 {
        for (p, param) in params.iter_mut().enumerate() {
            param.zero_grad();
            let grad = fixture(format!("grad.{taken}.{p}"));
            (&*param * grad).sum(tch::Kind::Float).backward();
        }
        step(&params);
        for (p, param) in params.iter().enumerate() {
            let expected = fixture(format!("after.{taken}.{p}"));
            // A few roundings of float32 a step.
            assert!(relative(param, &expected) < 1e-6, "step {taken}");
        }
    }
}

mod step14 {
    include!("../steps/lesson.rs");

    #[test]
    fn a_checkpoint_has_each_weight_with_its_two_means_and_the_random_state() {
        let model = Gpt::new(Config::new(Size::Tiny, 300), Device::Cpu);
        let parameters = model.vs.trainable_variables();
        let optimizer =
            FusedAdamW::new(&parameters, BETAS, |p| if p.dim() >= 2 { 0.1 } else { 0.0 });
        let tensors = tensors(&model, &optimizer, &World::alone(Device::Cpu)).unwrap();
        assert_eq!(tensors.len(), 3 * parameters.len() + 1);
        let numbers: usize = tensors.iter().rev().skip(1).map(|(_, tensor)| tensor.numel()).sum();
        assert_eq!(numbers, 3 * parameters.iter().map(Tensor::numel).sum::<usize>());
        // The means belong to the parameters in their order.
        for (i, parameter) in parameters.iter().enumerate() {
            for kind in ["exp_avg", "exp_avg_sq"] {
                let name = format!("{kind}.{i}");
                let found = tensors.iter().find(|(found, _)| *found == name).unwrap();
                assert_eq!(found.1.size(), parameter.size());
            }
        }
    }
}
