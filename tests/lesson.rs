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

mod step09 {
    use super::{follows_pytorch, relative};
    include!("../steps/lesson.rs");

    #[test]
    fn by_hand_is_pytorchs_adamw() {
        let mut optimizer = None;
        follows_pytorch(|params| {
            let params = || params.iter().map(Tensor::shallow_clone).collect();
            optimizer.get_or_insert_with(|| AdamW::new(params())).step(1e-2);
        });
    }

    /// With gradients of 0, a step is the decay alone.
    #[test]
    fn matrices_decay_and_vectors_do_not() {
        tch::manual_seed(1);
        let model = Gpt::new(Config { n_layer: 1, ..Config::new(Size::Tiny, 300) }, Device::Cpu);
        let parameters = model.vs.trainable_variables();
        let before: Vec<Tensor> = parameters.iter().map(|p| p.detach().copy()).collect();
        let nothing = parameters.iter().map(|p| p.sum(Kind::Float)).reduce(|a, b| a + b).unwrap();
        (nothing * 0.0).backward();
        AdamW::new(model.vs.trainable_variables()).step(0.5);
        for (now, before) in parameters.iter().zip(&before) {
            let factor = if now.dim() == 2 { 1.0 - 0.5 * WEIGHT_DECAY } else { 1.0 };
            let expected = before * factor;
            assert!((now - expected).abs().max().double_value(&[]) < 1e-7, "{:?}", now.size());
        }
        let vectors = parameters.iter().filter(|p| p.dim() < 2).count();
        assert_eq!((parameters.len(), vectors), (2 + 12 + 2, 8 + 2));
    }

    #[test]
    fn clipping_shortens_to_the_limit_and_leaves_short_gradients() {
        let parameter =
            |value: f64| Tensor::full([4, 4], value, tch::kind::FLOAT_CPU).set_requires_grad(true);
        for (value, norm) in [(1.0, 8.0), (0.01, 0.08)] {
            let (a, b) = (parameter(value), parameter(value));
            ((&a * &a).sum(Kind::Float) * 0.5 + (&b * &b).sum(Kind::Float) * 0.5 * 3f64.sqrt())
                .backward();
            let measured = clip_grad_norm(&[a.shallow_clone(), b.shallow_clone()]);
            assert!((measured - norm).abs() < 1e-5 * norm, "{measured}"); // √(16 + 3 · 16) = 8
            let left =
                (a.grad().square().sum(Kind::Double) + b.grad().square().sum(Kind::Double)).sqrt();
            assert!((left.double_value(&[]) - norm.min(MAX_NORM)).abs() < 1e-5);
            // All by the same factor: the direction stays.
            assert!(relative(&(a.grad() * 3f64.sqrt()), &b.grad()) < 1e-6);
        }
    }

    #[test]
    fn the_rate_rises_in_a_line_and_falls_to_a_tenth() {
        let rate = |step| get_lr(step, 100, 1.0);
        assert_eq!(rate(1), 1.0 / WARMUP_STEPS as f64);
        assert_eq!(rate(WARMUP_STEPS), 1.0);
        assert!((2..=WARMUP_STEPS).all(|step| rate(step) > rate(step - 1)));
        assert!((WARMUP_STEPS + 1..=100).all(|step| rate(step) < rate(step - 1)));
        assert!((rate(100) - 0.1).abs() < 1e-12);
        assert!((rate((WARMUP_STEPS + 100) / 2) - 0.55).abs() < 1e-12); // half way down
        for steps in 1..=3 {
            let rates = (1..=steps).map(|step| get_lr(step, steps, 1.0)); // a very short run
            assert!(rates.into_iter().all(|rate| rate > 0.0 && rate <= 1.0), "{steps} steps");
        }
    }
}
