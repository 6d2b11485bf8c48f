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

mod step13 {
    include!("../steps/lesson.rs");

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() <= 1e-4 * b.abs() // single precision, summed in another order
    }

    #[test]
    fn questions_are_scored_as_hugging_faces_gpt2_scores_them() {
        let fixtures = Path::new("tests/fixtures");
        let text = std::fs::read_to_string(fixtures.join("hellaswag/expected.json")).unwrap();
        let expected: serde_json::Value = serde_json::from_str(&text).unwrap();
        let questions = lab::questions::load(&fixtures.join("hellaswag/questions.jsonl")).unwrap();
        let tokenizer = Tokenizer::load("gpt2").unwrap();
        let model = Gpt::from_pretrained(&fixtures.join("gpt2-tiny"), Device::Cpu).unwrap();
        let n_vocab = expected["vocab_size"].as_i64().unwrap();
        let mut right = 0;
        for (question, expected) in questions.iter().zip(expected["questions"].as_array().unwrap())
        {
            let (tokens, mask) = render(question, &tokenizer, 32);
            let (sums, means) = model.score(&tokens.remainder(n_vocab), &mask);
            for i in 0..4 {
                assert!(close(
                    sums.double_value(&[i]),
                    expected["sums"][i as usize].as_f64().unwrap()
                ));
                assert!(close(
                    means.double_value(&[i]),
                    expected["means"][i as usize].as_f64().unwrap()
                ));
            }
            let chosen = |losses: &Tensor| losses.argmin(0, false).int64_value(&[]);
            assert_eq!(chosen(&sums), expected["by_sum"].as_i64().unwrap());
            assert_eq!(chosen(&means), expected["by_mean"].as_i64().unwrap());
            right += i64::from(chosen(&means) == question.label as i64);
        }
        assert_eq!(right, expected["right_by_mean"].as_i64().unwrap());
        assert_eq!(questions.len(), 35);
    }

    fn question(ctx: &str, endings: [&str; 4]) -> Question {
        Question { ctx: ctx.into(), endings: endings.map(String::from), label: 0 }
    }

    #[test]
    fn of_a_long_context_the_end_is_taken_and_the_mask_marks_the_endings() {
        let tokenizer = Tokenizer::load("fables").unwrap();
        let long = "The fox ate a plum. ".repeat(50);
        let question = question(long.trim_end(), ["A hen.", "The hen is sad.", "No", "The"]);
        let (tokens, mask) = render(&question, &tokenizer, 30);
        assert_eq!(tokens.size(), [4, 31]);
        for (i, ending) in question.endings.iter().enumerate() {
            let ids = tokenizer.encode(&format!(" {ending}"));
            let marked = tokens.i(i as i64).masked_select(&mask.i(i as i64).to_kind(Kind::Bool));
            assert_eq!(Vec::<i64>::try_from(marked).unwrap(), ids);
        }
        assert_eq!(tokens.i((0, ..10)), tokens.i((3, ..10)), "one context for all");
    }

    #[test]
    fn an_ending_longer_than_a_model_sees_is_cut() {
        let tokenizer = Tokenizer::load("fables").unwrap();
        let long = "the fox ate a plum ".repeat(50);
        let (tokens, mask) = render(&question("Once", [&long, "a", "b", "c"]), &tokenizer, 16);
        tch::manual_seed(1);
        let config = Config { block_size: 16, ..Config::new(Size::Tiny, tokenizer.n_vocab()) };
        let (sums, means) = Gpt::new(config, Device::Cpu).score(&tokens, &mask);
        assert!(
            sums.isfinite().all().int64_value(&[]) == 1
                && means.isfinite().all().int64_value(&[]) == 1
        );
    }

    #[test]
    fn an_evaluation_is_of_every_whole_sequence_of_the_split() {
        let folder = tempfile::tempdir().unwrap();
        let tokenizer = Tokenizer::load("fables").unwrap();
        let mut writer = lab::ShardWriter::new("few", folder.path(), 50, &tokenizer).unwrap();
        let tokens: Vec<u16> = (0..135).map(|i| (i * 37 % 1_000) as u16).collect();
        for split in ["val", "train"] {
            writer.begin_split(split).unwrap();
            writer.push(&tokens, 1).unwrap();
        }
        writer.finish().unwrap();
        let shards = Shards::open(folder.path(), "val", &tokenizer).unwrap();
        let world = World::alone(Device::Cpu);
        tch::manual_seed(1);
        let model = Gpt::new(Config::new(Size::Tiny, tokenizer.n_vocab()), Device::Cpu);
        for b in [1, 3, 4, 100] {
            let stream = Stream { shards: shards.clone(), seed: None };
            let val = DataLoader::new(stream, b, 8, Device::Cpu, &world);
            let losses = model.evaluate(&val, &world).unwrap();
            assert_eq!(losses.len(), 134 / 8);
            for (i, loss) in losses.iter().enumerate() {
                let ids: Vec<i64> = tokens[8 * i..8 * i + 9].iter().map(|&id| id.into()).collect();
                let ids = Tensor::from_slice(&ids).view([1, 9]);
                let expected = model.loss(&ids.i((.., ..8)), &ids.i((.., 1..))).double_value(&[]);
                assert!(close(*loss, expected), "{loss} {expected}");
            }
        }
    }
}
