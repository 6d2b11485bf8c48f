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

mod step04 {
    include!("../steps/lesson.rs");
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
