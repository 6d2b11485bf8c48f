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

mod step05 {
    use super::{fixture, ids, relative};
    include!("../steps/lesson.rs");

    const CHECKPOINTS: [&str; 3] = ["gpt2-tiny", "gpt2-odd", "gpt2-odd-original"];

    fn load(name: &str) -> Gpt {
        let path = format!("tests/fixtures/{name}");
        Gpt::from_pretrained(Path::new(&path), Device::Cpu).unwrap()
    }

    fn expected(checkpoint: &str) -> String {
        let of = checkpoint.trim_end_matches("-original"); // the same weights, saved as in 2019
        format!("{of}/expected.safetensors")
    }

    #[test]
    fn logits_are_hugging_faces() {
        for name in CHECKPOINTS {
            let file = expected(name);
            let logits = load(name).forward(&fixture(&file, "ids"));
            // Both sum in float32; the issue asks for 1e-4.
            assert!(relative(&logits, &fixture(&file, "logits")) < 1e-5, "{name}");
        }
    }

    #[test]
    fn the_list_of_shapes_is_the_model() {
        let model = load("gpt2-odd");
        let parameters = model.vs.variables();
        let listed = model.config.checkpoint();
        assert_eq!(parameters.len(), listed.len() + 1); // lm_head
        for (name, shape) in listed {
            let numel: i64 = shape.iter().product();
            assert_eq!(parameters[&name].numel() as i64, numel, "{name}");
        }
    }

    #[test]
    fn every_gpt2_has_its_published_number_of_parameters() {
        let count = |size| {
            let shapes = Config::new(size).checkpoint();
            shapes.iter().map(|(_, shape)| shape.iter().product::<i64>()).sum::<i64>()
        };
        let sizes = [Size::Gpt2, Size::Gpt2Medium, Size::Gpt2Large, Size::Gpt2Xl];
        // Hugging Face's num_parameters() of the four.
        assert_eq!(sizes.map(count), [124_439_808, 354_823_168, 774_030_080, 1_557_611_200]);
    }

    #[test]
    fn a_checkpoint_that_contradicts_itself_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let copy = |name: &str| {
            std::fs::copy(format!("tests/fixtures/gpt2-odd/{name}"), folder.path().join(name))
                .unwrap()
        };
        copy("model.safetensors");
        let error = |config: &str| {
            std::fs::write(folder.path().join("config.json"), config).unwrap();
            let error = Gpt::from_pretrained(folder.path(), Device::Cpu).err().expect(config);
            format!("{error:#}")
        };
        assert!(error(r#"{"n_head": 7}"#).contains("7 heads"));
        assert!(error(r#"{"n_head": 0}"#).contains("0 heads"));
        assert!(error(r#"{"n_head": 5, "n_layer": 3}"#).contains("n_layer is 3"));
        assert!(error(r#"{"n_head": 5, "n_positions": 1024}"#).contains("n_positions is 1024"));
        // Without a config.json a head would be 64 wide, and this model is 30 wide.
        std::fs::remove_file(folder.path().join("config.json")).unwrap();
        assert!(Gpt::from_pretrained(folder.path(), Device::Cpu).is_err());
    }

    fn sampling(args: &[&str]) -> Sampling {
        Args::try_parse_from([&["step05"], args].concat()).unwrap().sampling
    }

    #[test]
    fn no_temperature_and_one_candidate_take_the_likeliest() {
        let model = load("gpt2-odd");
        let prompt = Vec::<i64>::try_from(ids(4, 67)).unwrap();
        let write = |args: &[&str]| model.generate(&prompt, &sampling(args), &mut Rng::new(1));
        let greedy = write(&["--temperature", "0", "--max-new-tokens", "30"]);
        assert_eq!(greedy[0].len(), 34); // longer than the 19 tokens that the model can see
        assert_eq!(greedy[0], greedy[1]);
        assert_eq!(greedy, write(&["--top-k", "1", "--max-new-tokens", "30"]));
        for t in 4..15 {
            let idx = Tensor::from_slice(&greedy[0][..t]).unsqueeze(0);
            let likeliest = model.forward(&idx).select(1, -1).argmax(-1, false).int64_value(&[0]);
            assert_eq!(greedy[0][t], likeliest);
        }
    }

    #[test]
    fn only_the_top_k_are_drawn_each_as_likely_as_its_share() {
        let logits = Tensor::from_slice(&[0.0, 2.0, 1.0, -1.0, 1.5]);
        let n = 20_000;
        let logits = logits.unsqueeze(0).repeat([n, 1]);
        let args = ["--top-k", "3", "--temperature", "0.5"];
        let drawn = sample(&logits, &sampling(&args), &mut Rng::new(1));
        let likely = [2.0, 1.0, 1.5].map(|z: f64| (z / 0.5).exp());
        let total: f64 = likely.iter().sum();
        for (id, likely) in [1, 2, 4].into_iter().zip(likely) {
            let share = drawn.eq(id).sum(Kind::Double).double_value(&[]) / n as f64;
            let p = likely / total;
            // Five standard deviations of a share of n draws.
            assert!(
                (share - p).abs() < 5.0 * (p * (1.0 - p) / n as f64).sqrt(),
                "{id} {share} {p}"
            );
        }
        assert_eq!(drawn.eq(0).sum(Kind::Int64).int64_value(&[]), 0);
        assert_eq!(drawn.eq(3).sum(Kind::Int64).int64_value(&[]), 0);
    }
}
