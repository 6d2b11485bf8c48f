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
    static CORPUS: LazyLock<Corpus> =
        LazyLock::new(|| Corpus::load(&Args::parse_from(["step04"]).lab, 1).unwrap());
    /// What the program learns when it is told nothing.
    static FABLES: LazyLock<Tokenizer> =
        LazyLock::new(|| Tokenizer::train(&CORPUS.train, 256 + MAX_MERGES, |_| {}).unwrap());
    static LATER_STEPS: LazyLock<lab::Tokenizer> =
        LazyLock::new(|| lab::Tokenizer::load("fables").unwrap());

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
            let ids: Vec<i64> = FABLES.encode(&text).unwrap().into_iter().map(i64::from).collect();
            prop_assert_eq!(LATER_STEPS.encode(&text), ids);
        }
    }

    #[test]
    fn the_program_learns_the_vocabulary_that_the_later_steps_read_with() {
        let out = tempfile::tempdir().unwrap();
        let mut program = std::process::Command::new(env!("CARGO_BIN_EXE_step04_tokenizer"));
        let output = program.args(["--no-plot", "--out"]).arg(out.path()).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let learned = std::fs::read(out.path().join("vocab.tiktoken")).unwrap();
        let ours = lab::fables::VOCABULARY.as_bytes();
        assert!(learned == ours, "fables/src/vocab.tiktoken is not what step04 learns: renew it");
    }

    /// A vocabulary's file as tiktoken's users open it.
    fn tiktoken_from(path: &Path) -> tiktoken_rs::CoreBPE {
        let token = |line: &str| -> (Vec<u8>, u32) {
            let (bytes, rank) = line.split_once(' ').unwrap();
            (BASE64_STANDARD.decode(bytes).unwrap(), rank.parse().unwrap())
        };
        let file = std::fs::read_to_string(path).unwrap();
        let ranks = file.lines().map(token).filter(|(bytes, _)| bytes != END_OF_TEXT).collect();
        tiktoken_rs::CoreBPE::new(ranks, Default::default(), PIECES).unwrap()
    }

    #[test]
    fn a_saved_vocabulary_is_read_alike_by_this_step_tiktoken_and_the_later_steps() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vocab.tiktoken");
        let texts = proof::TEXTS.into_iter().chain([("validation text", CORPUS.val.as_str())]);
        for ours in [&*FABLES, &*TRAINED] {
            ours.save(&path).unwrap();
            let (later, tiktoken) = (lab::Tokenizer::open(&path).unwrap(), tiktoken_from(&path));
            let end_of_text = ours.tokens.len() as i64;
            assert_eq!(
                (later.end_of_text(), later.n_vocab()),
                (Some(end_of_text), end_of_text + 1)
            );
            for (name, text) in texts.clone() {
                let ids = ours.encode(text).unwrap();
                assert!(tiktoken.encode_ordinary(text) == ids, "{name}");
                let ids: Vec<i64> = ids.into_iter().map(i64::from).collect();
                assert!(later.encode(text) == ids, "{name}");
                assert!(later.decode(&ids) == text, "{name}");
            }
        }
    }

    #[test]
    fn the_first_merge_is_the_most_frequent_pair() {
        let mut first = None;
        Tokenizer::train("ab ab ab ac ac", 257, |merge| {
            let bytes = merge.tokenizer.bytes(merge.id).to_vec();
            first.get_or_insert((bytes, merge.times, merge.tokens));
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

    /// tiktoken with tokens of our own in the order in which they are to be glued.
    fn tiktoken_with(tokenizer: &Tokenizer) -> tiktoken_rs::CoreBPE {
        let ranks = tokenizer.ids.iter().map(|(bytes, id)| (bytes.clone(), *id)).collect();
        tiktoken_rs::CoreBPE::new(ranks, Default::default(), PIECES).unwrap()
    }

    /// The single bytes, then `tokens`, each once.
    fn tokenizer_of<'a>(tokens: impl IntoIterator<Item = &'a str>) -> Tokenizer {
        let mut all: Vec<Vec<u8>> = (0..=255).map(|byte| vec![byte]).collect();
        for token in tokens {
            if !all.iter().any(|known| known == token.as_bytes()) {
                all.push(token.into());
            }
        }
        Tokenizer::new(all).unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        // Two letters and any order: pairs overlap, several spell the same bytes, and what is glued
        // makes pairs that come before it. tiktoken goes another way below 100 bytes than above.
        #[test]
        fn any_order_of_tokens_is_glued_as_tiktoken_does(
            tokens in prop::collection::vec("[ab]{2,5}", 1..24),
            short in "[ab]{0,90}",
            long in "[ab]{100,400}",
        ) {
            let ours = tokenizer_of(tokens.iter().map(String::as_str));
            let theirs = tiktoken_with(&ours);
            for text in [short, long] {
                prop_assert_eq!(ours.encode(&text).unwrap(), theirs.encode_ordinary(&text));
            }
        }
    }

    #[test]
    fn of_pairs_that_make_the_same_token_the_leftmost_is_glued() {
        // a·ba and ab·a spell the same, and of five letters each may have the middle one.
        for tokens in [["ab", "ba", "aba"], ["ba", "aba", "ab"], ["aba", "ab", "ba"]] {
            let ours = tokenizer_of(tokens);
            let theirs = tiktoken_with(&ours);
            for text in ["ababa".to_string(), "aababaab".into(), "aba".repeat(100) + "b"] {
                let ids = ours.encode(&text).unwrap();
                assert_eq!(ids, theirs.encode_ordinary(&text), "{tokens:?} {text}");
            }
        }
        let ours = tokenizer_of(["aa"]);
        let aa = ours.ids[&b"aa"[..]];
        assert_eq!(ours.encode("aaaaa").unwrap(), [aa, aa, b'a'.into()]);
    }

    /// `bytes` of text or a few more, its characters drawn from `among`, the same every time.
    fn drawn(among: &str, bytes: usize) -> String {
        let among: Vec<char> = among.chars().collect();
        let mut rng = lab::Rng::new(4);
        let mut text = String::new();
        while text.len() < bytes {
            text.push(among[rng.below(among.len() as i64) as usize]);
        }
        text
    }

    #[track_caller]
    fn is_as_tiktokens(text: &str) {
        let ids = GPT2.encode(text).unwrap();
        let start: String = text.chars().take(20).collect();
        assert!(ids == TIKTOKEN.encode_ordinary(text), "{start:?}"); // too long to be printed
        assert!(GPT2.decode(&ids) == text, "{start:?}");
    }

    // With a look at the whole piece for every pair that is glued, this takes a quarter of an hour.
    #[test]
    fn a_megabyte_without_a_break_is_no_trouble() {
        is_as_tiktokens(&"x".repeat(1_000_000));
        is_as_tiktokens(&drawn("abcdefghijklmnopqrstuvwxyz", 1_000_000));
        for among in ["0123456789", "!?.,-=*#", "狐狸é", "🦊🍇👩"] {
            is_as_tiktokens(&drawn(among, 200_000));
        }
    }

    #[test]
    fn nor_is_a_megabyte_of_everything() {
        is_as_tiktokens(&drawn(" \n\t07🦊xé'!", 1_000_000));
        is_as_tiktokens(&drawn("e\u{301}7 ", 200_000));
        is_as_tiktokens(&drawn(" \n\t\u{3000}", 100_000));
        is_as_tiktokens(&(" ".repeat(100_000) + "x"));
    }

    #[test]
    fn a_megabyte_without_a_break_is_learned_from() {
        let text = "x".repeat(1 << 20);
        let tokenizer = Tokenizer::train(&text, 1000, |_| {}).unwrap();
        // Every merge halves the row, until two tokens are left and their pair occurs once.
        assert_eq!(tokenizer.tokens.len(), 256 + 19);
        // One letter fewer is one token of each size.
        let sizes: Vec<u32> = (256..275).rev().chain([b'x'.into()]).collect();
        assert_eq!(tokenizer.encode(&text[1..]).unwrap(), sizes);
    }
}
