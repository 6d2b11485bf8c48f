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

mod step10 {
    use super::{ids, relative};
    include!("../steps/lesson.rs");

    #[test]
    fn parts_of_any_size_have_the_gradient_of_the_whole() {
        tch::manual_seed(1);
        let model = Gpt::new(Config { vocab_size: 300, ..Config::new(Size::Tiny) }, Device::Cpu);
        let gradient = |micro_batch| {
            let mut train = DataLoader::new(ids(10 * 16 + 1, 300), micro_batch, 16).unwrap();
            let loss = backward(&model, &mut train, 10);
            let parameters = model.vs.trainable_variables();
            let all: Vec<Tensor> = parameters.iter().map(|p| p.grad().reshape([-1])).collect();
            let all = Tensor::cat(&all, 0);
            parameters.into_iter().for_each(|mut p| p.zero_grad());
            (loss, all)
        };
        let (loss, whole) = gradient(10);
        for micro_batch in [1, 2, 3, 4, 7] {
            let (loss_of_parts, parts) = gradient(micro_batch);
            assert!((loss - loss_of_parts).abs() < 1e-5 * loss);
            assert!(relative(&parts, &whole) < 1e-5, "{micro_batch} at a time");
        }
    }

    #[test]
    fn a_total_that_cannot_be_cut_is_refused() {
        let sequences = |args: &[&str]| {
            Args::try_parse_from([&["step10"], args].concat()).unwrap().sequences(64)
        };
        assert_eq!(sequences(&["--total-batch-size", "640"]).unwrap(), 10);
        let error = sequences(&["--total-batch-size", "650"]).unwrap_err().to_string();
        assert!(error.contains("650") && error.contains("704"), "{error}");
        assert!(sequences(&["--total-batch-size", "63"]).is_err());
        assert!(Args::try_parse_from(["step10", "--batch-size", "0"]).is_err());
    }
}
