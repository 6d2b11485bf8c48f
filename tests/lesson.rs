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

mod step01 {
    use super::ids;
    include!("../steps/lesson.rs");

    fn vocab(text: &str) -> Vocab {
        Vocab { chars: text.chars().collect::<BTreeSet<_>>().into_iter().collect() }
    }

    #[test]
    fn text_comes_back_as_it_went_in() {
        let text = "Füchse → 狐狸 🦊\n";
        let vocab = vocab(text);
        assert_eq!(vocab.decode(&vocab.encode(text).unwrap()), text);
        assert_eq!(vocab.size(), text.chars().collect::<BTreeSet<_>>().len() as i64);
    }

    #[test]
    fn an_unknown_character_is_named() {
        let error = vocab("abc").encode("ab?").unwrap_err().to_string();
        assert!(error.contains("'?'"), "{error}");
    }

    #[test]
    fn targets_are_the_next_characters_and_every_window_can_be_drawn() {
        // Ids 0, 1, 2, … so that an id is its own place in the data.
        let data = Tensor::arange(BLOCK_SIZE + 3, (Kind::Int64, Device::Cpu));
        let mut rng = Rng::new(1);
        let mut starts = BTreeSet::new();
        for _ in 0..20 {
            let (x, y) = batch(&data, &mut rng);
            assert_eq!(x.size(), [BATCH_SIZE, BLOCK_SIZE]);
            assert_eq!(&x + 1, y);
            starts.extend(Vec::<i64>::try_from(x.select(1, 0)).unwrap());
        }
        assert_eq!(starts, BTreeSet::from([0, 1, 2]));
    }

    #[test]
    fn evaluate_is_the_mean_over_the_characters() {
        tch::manual_seed(1);
        let model = Model::new(Device::Cpu, 10);
        let data = ids(1 + 70 * BLOCK_SIZE as usize, 10);
        let log_probs = model.token_embedding_table.ws.log_softmax(-1, Kind::Double);
        let data: Vec<i64> = data.try_into().unwrap();
        let nats = data.windows(2).map(|pair| -log_probs.double_value(&[pair[0], pair[1]]));
        let by_hand = nats.sum::<f64>() / (data.len() - 1) as f64;
        let loss = model.evaluate(&Tensor::from_slice(&data));
        assert!((loss - by_hand).abs() < 1e-5, "{loss} {by_hand}"); // single against double precision
    }

    #[test]
    fn samples_follow_the_probabilities() {
        tch::manual_seed(1);
        let model = Model::new(Device::Cpu, 3);
        let drawn = model.generate(&[0], 20_000, &mut Rng::new(1));
        let probs = model.token_embedding_table.ws.softmax(-1, Kind::Double);
        for first in 0..3 {
            let next: Vec<i64> =
                drawn.windows(2).filter(|pair| pair[0] == first).map(|pair| pair[1]).collect();
            for second in 0..3 {
                let p = probs.double_value(&[first, second]);
                let n = next.len() as f64;
                let share = next.iter().filter(|&&id| id == second).count() as f64 / n;
                // Five standard deviations of a share of n draws.
                assert!((share - p).abs() < 5.0 * (p * (1.0 - p) / n).sqrt(), "{share} {p}");
            }
        }
    }
}
