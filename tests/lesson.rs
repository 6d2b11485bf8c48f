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

mod step08 {
    use super::{ids, relative};
    include!("../steps/lesson.rs");

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
        tch::manual_seed(1);
        let mut model = Gpt::new(Config::new(Size::Tiny, 300), Device::Cpu);
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
    fn a_vocabulary_is_padded_to_even_blocks() {
        let padded = |n| Config::new(Size::Tiny, n).vocab_size;
        assert_eq!([50_257, 1024, 1025, 1].map(padded), [50_304, 1024, 1152, 128]);
    }

    #[test]
    fn padding_is_never_written() {
        let model = Gpt::new(Config { n_layer: 1, ..Config::new(Size::Tiny, 257) }, Device::Cpu);
        let padding = model.config.vocab_size - 257;
        assert_eq!(padding, 127);
        // The padding's rows are the likeliest by far.
        tch::no_grad(|| {
            let mut bias = model.ln_f.bs.as_ref().unwrap().shallow_clone();
            let _ = (bias.fill_(1.0), model.wte.ws.narrow(0, 257, padding).fill_(5.0));
        });
        let idx = Tensor::from_slice(&[1i64, 2]).unsqueeze(0);
        assert!(model.forward(&idx).i((0, 1)).argmax(-1, false).int64_value(&[]) >= 257);
        for args in [["step08", "--temperature", "0"], ["step08", "--top-k", "384"]] {
            let args = Args::try_parse_from(args).unwrap();
            let written = model.generate(&[1, 2], 257, &args.sampling, &mut Rng::new(1));
            assert!(written.max().int64_value(&[]) < 257);
        }
    }
}
