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

mod step03 {
    use super::{distance, ids, kind};
    include!("../steps/lesson.rs");

    #[test]
    fn a_later_character_changes_no_earlier_logits() {
        tch::manual_seed(1);
        let model = Model::new(Device::Cpu, 10);
        let idx = ids(BLOCK_SIZE as usize, 10).unsqueeze(0);
        let changed = idx.copy();
        let at = BLOCK_SIZE / 2;
        let _ = changed.narrow(1, at, 1).fill_(9 - idx.int64_value(&[0, at]));
        let (a, b) = (model.forward(&idx), model.forward(&changed));
        assert_eq!(distance(&a.narrow(1, 0, at), &b.narrow(1, 0, at)), 0.0);
        assert!(distance(&a.narrow(1, at, 1), &b.narrow(1, at, 1)) > 0.0);
    }

    #[test]
    fn a_block_adds_to_the_stream() {
        tch::manual_seed(1);
        let vs = nn::VarStore::new(Device::Cpu);
        let block = Block::new(vs.root());
        let x = Tensor::randn([2, 8, N_EMBD], kind::FLOAT_CPU);
        tch::no_grad(|| {
            for (name, mut parameter) in vs.variables() {
                if name.contains("proj") || name.contains("ffwd.2") {
                    let _ = parameter.zero_();
                }
            }
        });
        // With nothing to add, a block lets the stream through as it is.
        assert_eq!(distance(&block.forward(&x), &x), 0.0);
    }

    #[test]
    fn one_batch_can_be_learned_by_heart() {
        tch::set_num_threads(1); // tests run side by side
        tch::manual_seed(1);
        let model = Model::new(Device::Cpu, 10);
        let x = ids(2 * 16, 10).view([2, 16]);
        let y = x.roll(-1, 1);
        let mut optimizer = nn::AdamW::default().build(&model.vs, LEARNING_RATE).unwrap();
        for _ in 0..100 {
            optimizer.backward_step(&model.loss(&x, &y));
        }
        assert!(model.loss(&x, &y).double_value(&[]) < 0.05);
    }
}
