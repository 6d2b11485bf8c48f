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

mod step09 {
    use super::{fixture, relative};
    include!("../steps/lesson.rs");

    const FILE: &str = "adamw.safetensors";

    /// Takes five steps with the fixture's gradients and compares with PyTorch's parameters after each.
    fn follows_pytorch(take: impl Fn(&mut Group, i64)) {
        let params: Vec<Tensor> =
            (0..2).map(|p| fixture(FILE, &format!("before.{p}")).set_requires_grad(true)).collect();
        let zeros = || params.iter().map(|p| p.detach().zeros_like()).collect();
        let (exp_avgs, exp_avg_sqs) = (zeros(), zeros());
        let mut group = Group { weight_decay: 0.1, params, exp_avgs, exp_avg_sqs };
        for step in 1..=5 {
            for (p, parameter) in group.params.iter_mut().enumerate() {
                parameter.zero_grad();
                let grad = fixture(FILE, &format!("grad.{step}.{p}"));
                (&*parameter * grad).sum(Kind::Float).backward();
            }
            tch::no_grad(|| take(&mut group, step));
            for (p, parameter) in group.params.iter().enumerate() {
                let expected = fixture(FILE, &format!("after.{step}.{p}"));
                // A few roundings of float32 a step.
                assert!(relative(parameter, &expected) < 1e-6, "step {step}");
            }
        }
    }

    #[test]
    fn by_hand_is_pytorchs_adamw() {
        follows_pytorch(|group, step| group.step_by_hand(step, 1e-2));
    }

    #[test]
    fn fused_is_pytorchs_adamw() {
        follows_pytorch(|group, step| group.step_fused(step, 1e-2).unwrap());
    }

    #[test]
    fn matrices_decay_and_vectors_do_not() {
        let config = Config { vocab_size: 300, ..Config::new(Size::Tiny) };
        let model = Gpt::new(config, Device::Cpu);
        let [matrices, vectors] = AdamW::new(model.vs.trainable_variables(), false).groups;
        assert_eq!((matrices.weight_decay, vectors.weight_decay), (0.1, 0.0));
        assert_eq!(matrices.params.len() + vectors.params.len(), model.vs.variables().len());
        assert!(matrices.params.iter().all(|p| p.dim() == 2));
        assert!(vectors.params.iter().all(|p| p.dim() == 1));
    }

    #[test]
    fn clipping_shortens_to_the_limit_and_leaves_short_gradients() {
        let parameter =
            |value: f64| Tensor::full([4, 4], value, tch::kind::FLOAT_CPU).set_requires_grad(true);
        for (value, norm) in [(1.0, 8.0), (0.01, 0.08)] {
            let (a, b) = (parameter(value), parameter(value));
            ((&a * &a).sum(Kind::Float) * 0.5 + (&b * &b).sum(Kind::Float) * 0.5 * 3f64.sqrt())
                .backward();
            let optimizer = AdamW::new(vec![a.shallow_clone(), b.shallow_clone()], false);
            let measured = optimizer.clip_grad_norm(); // √(16 + 3 · 16) = 8
            assert!((measured - norm).abs() < 1e-5 * norm, "{measured}");
            let left =
                (a.grad().square().sum(Kind::Double) + b.grad().square().sum(Kind::Double)).sqrt();
            assert!((left.double_value(&[]) - norm.min(MAX_NORM)).abs() < 1e-5);
        }
    }

    #[test]
    fn the_rate_rises_in_a_line_and_falls_to_a_tenth() {
        let rate = |step| learning_rate(step, 100, 1.0);
        assert_eq!(rate(0), 1.0 / WARMUP_STEPS as f64);
        assert_eq!(rate(WARMUP_STEPS - 1), 1.0);
        assert!((1..WARMUP_STEPS).all(|step| rate(step) > rate(step - 1)));
        assert!((WARMUP_STEPS + 1..100).all(|step| rate(step) < rate(step - 1)));
        assert!(rate(99) > 0.1 && rate(99) < 0.101);
        assert!((rate((WARMUP_STEPS + 100) / 2) - 0.55).abs() < 0.01); // half way down
        assert!((0..2).all(|step| learning_rate(step, 2, 1.0) <= 1.0)); // a very short run
    }
}
