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

mod step12 {
    include!("../steps/lesson.rs");

    const TOKENS: i64 = 1_000;

    /// The tokens 0, 1, 2, … 999, so that a token is its own place, in shards of `size`.
    fn shards(folder: &Path, size: usize) -> Shards {
        let tokenizer = lab::Tokenizer::load("fables").unwrap();
        let mut writer = lab::ShardWriter::new("numbers", folder, size, &tokenizer).unwrap();
        for split in ["val", "train"] {
            writer.begin_split(split).unwrap();
            writer.push(&(0..TOKENS as u16).collect::<Vec<_>>(), 1).unwrap();
        }
        writer.finish().unwrap();
        Shards::open(folder, "train", &tokenizer).unwrap()
    }

    fn loader(stream: &Stream, b: i64, rank: i64, world_size: i64) -> DataLoader {
        let mut loader =
            DataLoader::new(stream.clone(), b, 7, Device::Cpu, &World::alone(Device::Cpu));
        (loader.rank, loader.world_size) = (rank, world_size);
        loader
    }

    fn flat(x: &Tensor) -> Vec<i64> {
        x.flatten(0, -1).try_into().unwrap()
    }

    #[test]
    fn every_epoch_hands_out_every_token_once() {
        // Shards of 300, 300, 300 and 100; of 13, each smaller than a batch; a single one.
        for size in [300, 13, 1_000] {
            for seed in [None, Some(7)] {
                let folder = tempfile::tempdir().unwrap();
                let stream = Stream { shards: shards(folder.path(), size), seed };
                let mut ranks = [0, 1, 2].map(|rank| loader(&stream, 2, rank, 3));
                let (mut read, mut next) = (Vec::new(), Vec::new());
                while (read.len() as i64) < 3 * TOKENS {
                    for rank in &mut ranks {
                        let (x, y) = rank.next_batch(2).unwrap();
                        read.extend(flat(&x));
                        next.extend(flat(&y));
                    }
                }
                assert_eq!(
                    read[1..],
                    next[..read.len() - 1],
                    "what comes next is what is read next"
                );
                let epochs: Vec<&[i64]> = read.chunks_exact(TOKENS as usize).collect();
                for epoch in &epochs {
                    let mut sorted = epoch.to_vec();
                    sorted.sort_unstable();
                    assert_eq!(sorted, (0..TOKENS).collect::<Vec<_>>(), "size {size}, {seed:?}");
                }
                let shuffles = seed.is_some() && size < 1_000;
                assert_eq!(epochs[0] != epochs[1], shuffles, "size {size}, {seed:?}");
            }
        }
    }

    #[test]
    fn the_position_is_all_that_it_takes_to_go_on_and_any_batch_may_be_next() {
        let folder = tempfile::tempdir().unwrap();
        let stream = Stream { shards: shards(folder.path(), 64), seed: Some(1) };
        let mut never_stopped = loader(&stream, 3, 0, 1);
        for b in [3, 3, 1, 2, 3] {
            drop(never_stopped.next_batch(b).unwrap());
        }
        let mut goes_on = loader(&stream, 3, 0, 1);
        goes_on.position = never_stopped.position;
        for b in [3, 2, 2, 1, 3] {
            let (x, y) = never_stopped.next_batch(b).unwrap();
            assert_eq!((x, y), goes_on.next_batch(b).unwrap());
        }
    }

    #[test]
    fn a_shard_that_is_cut_while_it_is_read_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let stream = Stream { shards: shards(folder.path(), 1_000), seed: None };
        let mut loader = loader(&stream, 2, 0, 1);
        drop(loader.next_batch(2).unwrap());
        let shard = folder.path().join("numbers_train_000001.npy");
        std::fs::OpenOptions::new().write(true).open(shard).unwrap().set_len(300).unwrap();
        let error = (0..20).find_map(|_| loader.next_batch(2).err()).unwrap();
        assert!(format!("{error:#}").contains("numbers_train_000001.npy"), "{error:#}");
    }
}
