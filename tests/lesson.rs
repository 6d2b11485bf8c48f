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

mod step02 {
    use super::{distance, ids, kind};
    include!("../steps/lesson.rs");

    #[test]
    fn attention_looks_back_only_and_its_shares_sum_to_one() {
        tch::manual_seed(1);
        let vs = nn::VarStore::new(Device::Cpu);
        let head = Head::new(vs.root(), 16);
        let wei = head.weights(&Tensor::randn([2, BLOCK_SIZE, N_EMBD], kind::FLOAT_CPU));
        assert_eq!(wei.triu(1).abs().max().double_value(&[]), 0.0);
        let sums = wei.sum_dim_intlist(-1, false, Kind::Float);
        assert!(distance(&sums, &sums.ones_like()) < 1e-6);
    }

    #[test]
    fn a_head_is_the_formula() {
        tch::manual_seed(1);
        let vs = nn::VarStore::new(Device::Cpu);
        let head = Head::new(vs.root(), 4);
        let x = Tensor::randn([1, 3, N_EMBD], kind::FLOAT_CPU);
        let row = |layer: &nn::Linear, t: i64| x.select(1, t).select(0, 0).matmul(&layer.ws.tr());
        let out = head.forward(&x);
        for t in 0..3 {
            let scores: Vec<f64> = (0..=t)
                .map(|s| row(&head.query, t).dot(&row(&head.key, s)).double_value(&[]) / 2.0)
                .collect();
            let total: f64 = scores.iter().map(|score| score.exp()).sum();
            let mut expected = Tensor::zeros([4], kind::FLOAT_CPU);
            for (s, score) in scores.iter().enumerate() {
                expected += row(&head.value, s as i64) * (score.exp() / total);
            }
            assert!(distance(&out.select(1, t).select(0, 0), &expected) < 1e-5);
        }
    }

    #[test]
    fn a_later_character_changes_no_earlier_logits() {
        tch::manual_seed(1);
        let model = Model::new(Device::Cpu, 10, 4);
        let idx = ids(BLOCK_SIZE as usize, 10).unsqueeze(0);
        let changed = idx.copy();
        let at = BLOCK_SIZE / 2;
        let _ = changed.narrow(1, at, 1).fill_(9 - idx.int64_value(&[0, at]));
        let (a, b) = (model.forward(&idx), model.forward(&changed));
        assert_eq!(distance(&a.narrow(1, 0, at), &b.narrow(1, 0, at)), 0.0);
        for t in at..BLOCK_SIZE {
            assert!(
                distance(&a.select(1, t), &b.select(1, t)) > 0.0,
                "position {t} does not look back"
            );
        }
    }

    #[test]
    fn a_short_window_gives_what_it_gives_inside_a_long_one() {
        tch::manual_seed(1);
        let model = Model::new(Device::Cpu, 10, 4);
        let idx = ids(BLOCK_SIZE as usize, 10).unsqueeze(0);
        let (long, short) = (model.forward(&idx), model.forward(&idx.narrow(1, 0, 5)));
        assert!(distance(&long.narrow(1, 0, 5), &short) < 1e-5);
    }
}
