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

mod step07 {
    use super::{fixture, relative};
    include!("../steps/lesson.rs");

    #[test]
    fn fused_is_by_hand_forward_and_backward() {
        tch::manual_seed(1);
        for t in [1, 2, 33, 100] {
            let input =
                || Tensor::randn([2, 3, t, 20], tch::kind::FLOAT_CPU).set_requires_grad(true);
            let inputs = [input(), input(), input()];
            let outcome = |attention: fn(&Tensor, &Tensor, &Tensor) -> Tensor| {
                let [q, k, v] = &inputs;
                let y = attention(q, k, v);
                let direction = y.detach().cos(); // some direction, the same for both to rounding
                let gradients = Tensor::run_backward(
                    &[(&y * direction).sum(Kind::Float)],
                    &[q, k, v],
                    false,
                    false,
                );
                (y, gradients)
            };
            let (fused, fused_gradients) = outcome(attention);
            let (by_hand, gradients) = outcome(proof::attention_by_hand);
            assert!(relative(&fused, &by_hand) < 1e-5);
            let all = |gradients: &[Tensor]| Tensor::stack(gradients, 0);
            assert!(relative(&all(&fused_gradients), &all(&gradients)) < 1e-5, "T = {t}");
        }
    }

    #[test]
    fn logits_are_still_hugging_faces() {
        let path = Path::new("tests/fixtures/gpt2-odd");
        let file = "gpt2-odd/expected.safetensors";
        let model = Gpt::from_pretrained(path, Device::Cpu).unwrap();
        let logits = model.forward(&fixture(file, "ids"));
        assert!(relative(&logits, &fixture(file, "logits")) < 1e-5);
    }
}
