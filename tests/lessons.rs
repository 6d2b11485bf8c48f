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

mod step00 {
    include!("../steps/step00_tensors.rs");

    #[test]
    fn autograd_is_the_slope() {
        tch::manual_seed(1);
        let (x, y) = points(Device::Cpu);
        let line = Line::new(Device::Cpu);
        line.loss(&x, &y).backward();
        let slope = line.w.grad().double_value(&[0]);
        // The loss is a parabola in w, so the slope is the difference quotient over any distance.
        let loss_at = |w: f64| (&x * w - &y).square().mean(Kind::Double).double_value(&[]);
        let by_difference = (loss_at(0.5) - loss_at(-0.5)) / 1.0;
        assert!((slope - by_difference).abs() < 1e-4, "{slope} {by_difference}");
    }
}

mod step01 {
    use super::ids;
    include!("../steps/step01_bigram.rs");

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

mod step02 {
    use super::{distance, ids, kind};
    include!("../steps/step02_attention.rs");

    #[test]
    fn attention_looks_back_only_and_its_shares_sum_to_one() {
        tch::manual_seed(1);
        let vs = nn::VarStore::new(Device::Cpu);
        let head = Head::new(vs.root(), 16);
        let wei = head.weights(&Tensor::randn([2, BLOCK_SIZE, N_EMBD], kind::FLOAT_CPU));
        assert_eq!(wei.triu(1).abs().max().double_value(&[]), 0.0);
        let sums = wei.sum_dim_intlist(-1, false, Kind::Float);
        assert!(distance(&sums, &sums.ones_like()) < 1e-6);
    }

    #[test]
    fn a_head_is_the_formula() {
        tch::manual_seed(1);
        let vs = nn::VarStore::new(Device::Cpu);
        let head = Head::new(vs.root(), 4);
        let x = Tensor::randn([1, 3, N_EMBD], kind::FLOAT_CPU);
        let row = |layer: &nn::Linear, t: i64| x.select(1, t).select(0, 0).matmul(&layer.ws.tr());
        let out = head.forward(&x);
        for t in 0..3 {
            let scores: Vec<f64> = (0..=t)
                .map(|s| row(&head.query, t).dot(&row(&head.key, s)).double_value(&[]) / 2.0)
                .collect();
            let total: f64 = scores.iter().map(|score| score.exp()).sum();
            let mut expected = Tensor::zeros([4], kind::FLOAT_CPU);
            for (s, score) in scores.iter().enumerate() {
                expected += row(&head.value, s as i64) * (score.exp() / total);
            }
            assert!(distance(&out.select(1, t).select(0, 0), &expected) < 1e-5);
        }
    }

    #[test]
    fn a_later_character_changes_no_earlier_logits() {
        tch::manual_seed(1);
        let model = Model::new(Device::Cpu, 10, 4);
        let idx = ids(BLOCK_SIZE as usize, 10).unsqueeze(0);
        let changed = idx.copy();
        let at = BLOCK_SIZE / 2;
        let _ = changed.narrow(1, at, 1).fill_(9 - idx.int64_value(&[0, at]));
        let (a, b) = (model.forward(&idx), model.forward(&changed));
        assert_eq!(distance(&a.narrow(1, 0, at), &b.narrow(1, 0, at)), 0.0);
        for t in at..BLOCK_SIZE {
            assert!(
                distance(&a.select(1, t), &b.select(1, t)) > 0.0,
                "position {t} does not look back"
            );
        }
    }

    #[test]
    fn a_short_window_gives_what_it_gives_inside_a_long_one() {
        tch::manual_seed(1);
        let model = Model::new(Device::Cpu, 10, 4);
        let idx = ids(BLOCK_SIZE as usize, 10).unsqueeze(0);
        let (long, short) = (model.forward(&idx), model.forward(&idx.narrow(1, 0, 5)));
        assert!(distance(&long.narrow(1, 0, 5), &short) < 1e-5);
    }
}

mod step03 {
    use super::{distance, ids, kind};
    include!("../steps/step03_blocks.rs");

    #[test]
    fn a_later_character_changes_no_earlier_logits() {
        tch::manual_seed(1);
        let model = Model::new(Device::Cpu, 10);
        let idx = ids(BLOCK_SIZE as usize, 10).unsqueeze(0);
        let changed = idx.copy();
        let at = BLOCK_SIZE / 2;
        let _ = changed.narrow(1, at, 1).fill_(9 - idx.int64_value(&[0, at]));
        let (a, b) = (model.forward(&idx, false), model.forward(&changed, false));
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
        assert_eq!(distance(&block.forward(&x, true), &x), 0.0);
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
            optimizer.backward_step(&model.loss(&x, &y, true));
        }
        assert!(model.loss(&x, &y, false).double_value(&[]) < 0.05);
    }
}

mod step04 {
    include!("../steps/step04_tokenizer.rs");
    use proptest::prelude::*;
    use std::sync::LazyLock;

    static GPT2: LazyLock<Tokenizer> = LazyLock::new(|| Tokenizer::gpt2().unwrap());
    static TIKTOKEN: LazyLock<tiktoken_rs::CoreBPE> =
        LazyLock::new(|| tiktoken_rs::r50k_base().unwrap());
    static TRAINED: LazyLock<Tokenizer> = LazyLock::new(|| {
        let text = "the fox, the hen and the other fox: der Fuchs, die Füchse, 狐狸, 狐狸";
        Tokenizer::train(text, 290, |_| {}).unwrap()
    });

    proptest! {
        #[test]
        fn any_text_comes_back(text in any::<String>()) {
            for tokenizer in [&*TRAINED, &*GPT2] {
                prop_assert_eq!(&tokenizer.decode(&tokenizer.encode(&text).unwrap()), &text);
            }
        }

        #[test]
        fn any_text_has_the_tokens_that_tiktoken_gives(text in any::<String>()) {
            prop_assert_eq!(GPT2.encode(&text).unwrap(), TIKTOKEN.encode_ordinary(&text));
        }

        // Random characters rarely make words; these are made of what the rule of pieces looks at.
        #[test]
        fn so_has_text_of_words_and_spaces(text in "([ \t\n\r\u{a0}\u{3000}]{0,3}('(s|t|re|ll|S)|[a-zé]{1,6}|[0-9٣]{1,4}|[.,!?'\"-]{1,3}|[а-я狐狸🦊\u{301}]{1,4})){0,12}[ \n]{0,3}") {
            prop_assert_eq!(GPT2.encode(&text).unwrap(), TIKTOKEN.encode_ordinary(&text));
        }
    }

    #[test]
    fn the_first_merge_is_the_most_frequent_pair() {
        let mut first = None;
        Tokenizer::train("ab ab ab ac ac", 257, |merge| {
            first.get_or_insert((merge.of.bytes(merge.id).to_vec(), merge.times, merge.tokens));
        })
        .unwrap();
        // 14 bytes; " a" stands four times, "ab" three times.
        assert_eq!(first, Some((b" a".to_vec(), 4, 10)));
    }

    #[test]
    fn training_stops_when_no_pair_occurs_twice() {
        let tokenizer = Tokenizer::train("abc abc", 1000, |_| {}).unwrap();
        assert!(tokenizer.tokens.len() < 262);
        assert_eq!(tokenizer.encode("abc").unwrap().len(), 1);
    }

    #[test]
    fn training_is_the_same_every_time() {
        let text = "a quick brown fox jumps over the lazy dog and the dog sleeps on";
        let tokens = || Tokenizer::train(text, 300, |_| {}).unwrap().tokens;
        assert_eq!(tokens(), tokens()); // hash maps differ from run to run; ties must not
    }

    #[test]
    fn every_token_has_bytes_of_its_own() {
        for tokenizer in [&*TRAINED, &*GPT2] {
            assert_eq!(tokenizer.ids.len(), tokenizer.tokens.len());
        }
    }

    #[test]
    fn long_runs_are_no_trouble() {
        for text in [" ".repeat(20_000), "x".repeat(3_000), "\n".repeat(20_000) + "x"] {
            let ids = GPT2.encode(&text).unwrap();
            assert_eq!(ids, TIKTOKEN.encode_ordinary(&text));
        }
    }
}
