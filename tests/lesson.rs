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

mod step08 {
    use super::{ids, relative};
    include!("../steps/lesson.rs");

    fn small() -> Gpt {
        Gpt::new(Config { vocab_size: 300, ..Config::new(Size::Tiny) }, Device::Cpu)
    }

    fn gradient(model: &Gpt) -> Tensor {
        let parameters = model.vs.trainable_variables();
        assert!(
            parameters.iter().all(|p| p.kind() == Kind::Float && p.grad().kind() == Kind::Float)
        );
        let all: Vec<Tensor> = parameters.iter().map(|p| p.grad().reshape([-1])).collect();
        Tensor::cat(&all, 0)
    }

    #[test]
    fn bfloat16_is_near_float32_and_no_more_than_that() {
        let x = ids(4 * 32, 300).view([4, 32]);
        let y = x.roll(-1, 1);
        let mut model = small();
        let mut outcome = |precision| {
            model.precision = precision;
            model.vs.trainable_variables().into_iter().for_each(|mut p| p.zero_grad());
            let loss = model.loss(&x, &y);
            loss.backward();
            (loss.double_value(&[]), gradient(&model))
        };
        let (full, full_gradient) = outcome(Precision::Float32);
        let (half, half_gradient) = outcome(Precision::Bfloat16);
        // A factor is rounded by up to 1/256, in either direction: over many, far less is left.
        assert!((full - half).abs() < 2e-3 * full, "{full} {half}");
        let distance = relative(&half_gradient, &full_gradient);
        assert!(distance < 2e-2, "{distance}");
        assert!(distance > 1e-5, "it was float32 all along: {distance}");
    }

    #[test]
    fn padding_is_never_written() {
        let mut model = small();
        model.config.vocab_size = 50_304;
        model.wte = embedding(&model.vs.root() / "padded", 50_304, model.config.n_embd);
        let _guard = tch::no_grad_guard();
        // The padding's rows are the likeliest by far.
        let _ = model.ln_f.bs.as_mut().unwrap().fill_(1.0);
        let _ = model.wte.ws.narrow(0, 50_257, 47).fill_(5.0);
        let args = Args::try_parse_from(["step08", "--temperature", "0"]).unwrap();
        let written = model.generate(&[1, 2], &args.sampling, &mut Rng::new(1));
        assert!(written.iter().flatten().all(|&id| id <= END_OF_TEXT));
    }
}
