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

mod step06 {
    use super::{fixture, ids, relative};
    include!("../steps/lesson.rs");

    #[test]
    fn gradients_are_hugging_faces() {
        for name in ["gpt2-tiny", "gpt2-odd"] {
            let model =
                Gpt::from_pretrained(Path::new(&format!("tests/fixtures/{name}")), Device::Cpu)
                    .unwrap();
            let file = format!("{name}/expected.safetensors");
            assert!(
                relative(&model.forward(&fixture(&file, "ids")), &fixture(&file, "logits")) < 1e-5
            );
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
    fn weights_start_as_gpt2s() {
        tch::manual_seed(1);
        let model = Gpt::new(Config::new(Size::Tiny, 1000), Device::Cpu);
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
            let mean = if name.contains("ln_") && name.ends_with("weight") { 1.0 } else { 0.0 };
            let measured = parameter.mean(Kind::Double).double_value(&[]);
            assert!((measured - mean).abs() <= 5.0 * expected / n.sqrt(), "{name} {measured}");
        }
        // The loss at init, on tokens that have nothing to do with the model.
        let ids = ids(8 * 64 + 1, 1000);
        let (x, y) = (ids.i(..8 * 64).view([8, 64]), ids.i(1..).view([8, 64]));
        let loss = model.loss(&x, &y).double_value(&[]);
        let predicted = 1000f64.ln() + 128.0 * 0.02 * 0.02 / 2.0;
        // 512 logits of std 0.23: their mean is off by 0.01.
        assert!((loss - predicted).abs() < 0.05, "{loss} {predicted}");
    }

    #[test]
    fn one_matrix_reads_and_writes() {
        let model = Gpt::new(Config::new(Size::Tiny, 1024), Device::Cpu);
        let parameters = model.vs.trainable_variables().into_iter();
        let (v, t, c, n_layer) = (1024, 128, 128, 4);
        let one = (v + t) * c + n_layer * (12 * c * c + 13 * c) + 2 * c;
        assert_eq!(parameters.map(|p| p.numel()).sum::<usize>(), one);
        // Both uses teach it: a token that is not read still learns that it was not next.
        let (x, y) = (Tensor::from_slice(&[1i64]), Tensor::from_slice(&[2i64]));
        model.loss(&x.unsqueeze(0), &y.unsqueeze(0)).backward();
        let lengths = model.wte.ws.grad().square().sum_dim_intlist(-1, false, Kind::Float);
        assert!(lengths.min().double_value(&[]) > 0.0);
    }
}
