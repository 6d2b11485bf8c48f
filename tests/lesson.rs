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

mod step06 {
    use super::{fixture, relative};
    include!("../steps/lesson.rs");

    #[test]
    fn gradients_are_hugging_faces() {
        for name in ["gpt2-tiny", "gpt2-odd"] {
            let model =
                Gpt::from_pretrained(Path::new(&format!("tests/fixtures/{name}")), Device::Cpu)
                    .unwrap();
            let file = format!("{name}/expected.safetensors");
            let loss = model.loss(&fixture(&file, "ids"), &fixture(&file, "targets"));
            let expected = fixture(&file, "loss").double_value(&[]);
            assert!((loss.double_value(&[]) - expected).abs() < 1e-5 * expected);
            loss.backward();
            let (mut ours, mut theirs) = (Vec::new(), Vec::new());
            for (name, parameter) in model.vs.variables() {
                theirs.push(fixture(&file, &format!("grad.{name}")).reshape([-1]));
                let is_linear = ["c_attn.weight", "c_proj.weight", "c_fc.weight"];
                let is_linear = is_linear.iter().any(|end| name.ends_with(end));
                let grad = if is_linear { parameter.grad().tr() } else { parameter.grad() };
                ours.push(grad.reshape([-1]));
            }
            // All as one vector: a parameter whose true gradient is 0 has nothing to be relative to.
            assert!(relative(&Tensor::cat(&ours, 0), &Tensor::cat(&theirs, 0)) < 1e-5, "{name}");
        }
    }

    #[test]
    fn the_loader_hands_out_each_token_once_and_begins_again() {
        let n = 7 * 6 + 1;
        let tokens = Tensor::arange(n, (Kind::Int64, Device::Cpu));
        let mut loader = DataLoader::new(tokens, 2, 3).unwrap();
        let mut seen = Vec::new();
        for _ in 0..7 {
            let (x, y) = loader.next_batch();
            assert_eq!(x.size(), [2, 3]);
            assert_eq!(&x + 1, y);
            seen.extend(Vec::<i64>::try_from(x.flatten(0, -1)).unwrap());
        }
        assert_eq!(seen, (0..n - 1).collect::<Vec<_>>());
        assert_eq!(loader.next_batch().0.int64_value(&[0, 0]), 0);
        let short = Tensor::arange(6, (Kind::Int64, Device::Cpu));
        assert!(DataLoader::new(short, 2, 3).is_err());
    }

    #[test]
    fn weights_start_as_gpt2s() {
        tch::manual_seed(1);
        let config = Config { vocab_size: 1000, ..Config::new(Size::Tiny) };
        let model = Gpt::new(config, Device::Cpu);
        for (name, parameter) in model.vs.variables() {
            let (std, n) = (parameter.std(false).double_value(&[]), parameter.numel() as f64);
            let expected = match name.as_str() {
                name if name.ends_with("bias") => 0.0,
                name if name.contains("ln_") => 0.0, // all ones
                name if name.ends_with("c_proj.weight") => 0.02 / 8f64.sqrt(),
                _ => 0.02,
            };
            // Five standard deviations of the std of n draws.
            assert!((std - expected).abs() <= 5.0 * expected / (2.0 * n).sqrt(), "{name} {std}");
        }
        // The loss at init, on tokens that have nothing to do with the model.
        let mut rng = Rng::new(1);
        let ids: Vec<i64> = (0..8 * 64 + 1).map(|_| rng.below(1000)).collect();
        let loss = DataLoader::new(Tensor::from_slice(&ids), 8, 64).unwrap().next_batch();
        let loss = model.loss(&loss.0, &loss.1).double_value(&[]);
        let predicted = 1000f64.ln() + 128.0 * 0.02 * 0.02 / 2.0;
        // 512 logits of std 0.23: their mean is off by 0.01.
        assert!((loss - predicted).abs() < 0.05, "{loss} {predicted}");
    }
}
