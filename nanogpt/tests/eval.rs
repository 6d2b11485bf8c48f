//! What `eval` measures: each token of a split once, by hand the same, and questions as Hugging Face's GPT-2 has it.

use lab::{Question, ShardWriter, Shards, Tokenizer, questions};
use nanogpt::{Gpt, GptConfig, eval};
use serde_json::Value;
use std::{fs, path::Path, sync::Mutex};
use tch::{Device, IndexOp, Kind, Tensor};

fn model(n_vocab: i64, block_size: i64) -> Gpt {
    static ALONE: Mutex<()> = Mutex::new(()); // the generator is the whole process's
    let _alone = ALONE.lock();
    tch::manual_seed(3);
    let config = GptConfig {
        block_size,
        vocab_size: n_vocab + 3, // padded
        n_layer: 2,
        n_head: 2,
        n_embd: 16,
        dropout: 0.5, // of which an evaluation knows nothing
        bias: true,
        ..GptConfig::default()
    };
    let model = Gpt::new(&config, Device::Cpu).unwrap();
    let _guard = tch::no_grad_guard();
    for (_, mut parameter) in model.named_parameters() {
        let noise = Tensor::randn(parameter.size(), tch::kind::FLOAT_CPU) * 0.3;
        parameter += noise;
    }
    model
}

/// A split with the documents of `texts`, in shards of 40 tokens.
fn split(tokenizer: &Tokenizer, texts: &[&str]) -> (tempfile::TempDir, Shards) {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = ShardWriter::new("test", folder.path(), 40, tokenizer).unwrap();
    writer.begin_split("val").unwrap();
    for text in texts {
        writer.push(&tokenizer.encode_document(text), text.chars().count() as u64).unwrap();
    }
    writer.finish().unwrap();
    let shards = Shards::open(folder.path(), "val", tokenizer).unwrap();
    (folder, shards)
}

/// The loss of the token at a place after those from `begin` on, token by token.
fn loss_at(model: &Gpt, ids: &[i64], begin: usize, at: usize) -> f64 {
    let x = Tensor::from_slice(&ids[begin..at]).unsqueeze(0);
    let logits = tch::no_grad(|| model.forward(&x, false)).i((0, -1));
    -logits.to_kind(Kind::Double).log_softmax(-1, Kind::Double).double_value(&[ids[at]])
}

#[test]
fn each_token_is_predicted_once_with_what_is_before_it() {
    let tokenizer = Tokenizer::load("fables").unwrap();
    let texts = [
        "A fox met a crow, and Füchse 🦊 too.",
        "The end of it all, in a few words more. So long.",
    ];
    let (_folder, shards) = split(&tokenizer, &texts);
    let ids: Vec<i64> =
        texts.iter().flat_map(|t| tokenizer.encode_document(t)).map(i64::from).collect();
    assert_eq!(shards.total(), ids.len() as i64);
    let bytes: usize = texts.iter().map(|text| text.len()).sum();
    // Windows longer than the split, and such that the last is shorter, or is not.
    for (t, stride) in [(8, 8), (8, 3), (8, 1), (9, 4), (16, 16), (200, 200), (200, 7)] {
        let model = model(tokenizer.n_vocab(), t);
        let window = |at: usize| (at as i64 - 1 - (t - stride)).max(0) / stride * stride;
        let losses: Vec<f64> =
            (1..ids.len()).map(|at| loss_at(&model, &ids, window(at) as usize, at)).collect();
        let expected = losses.iter().sum::<f64>() / losses.len() as f64;
        let mut told = Vec::new();
        let loss =
            eval::loss(&model, &shards, &tokenizer, stride, |done, of| told.push((done, of)));
        let loss = loss.unwrap();
        assert!((loss.loss - expected).abs() < 1e-5, "{t} {stride}: {} {expected}", loss.loss);
        assert_eq!((loss.tokens, loss.bytes), (losses.len() as i64, bytes as i64));
        assert_eq!(told.last(), Some(&(loss.tokens, loss.tokens)));
        assert!((loss.perplexity.ln() - loss.loss).abs() < 1e-12);
        let bits = loss.loss * loss.tokens as f64 / 2f64.ln() / bytes as f64;
        assert!((loss.bits_per_byte.unwrap() - bits).abs() < 1e-12);
        assert_eq!(loss.standard_error.is_some(), loss.windows > 1);
    }
    let error = eval::loss(&model(tokenizer.n_vocab(), 8), &shards, &tokenizer, 9, |_, _| ());
    assert!(error.unwrap_err().to_string().contains("from 1 to 8"));
}

/// Of windows of the same length it is that of their means, as textbooks have it.
#[test]
fn the_standard_error_is_that_of_the_windows_means() {
    let tokenizer = Tokenizer::of_characters("", "abcdefgh".chars()).unwrap();
    let (_folder, shards) = split(&tokenizer, &["abcdefghhgfedcbaabababababgfgfgfc"]);
    let (model, n) = (model(8, 8), 4.0);
    let loss = eval::loss(&model, &shards, &tokenizer, 8, |_, _| ()).unwrap();
    assert_eq!((loss.windows, loss.bytes), (4, 32));
    let ids = shards.read(&[0], 0, 33).unwrap();
    let mean = |w: usize| {
        (8 * w + 1..=8 * w + 8).map(|at| loss_at(&model, &ids, 8 * w, at)).sum::<f64>() / 8.0
    };
    let means: Vec<f64> = (0..4).map(mean).collect();
    let of_all = means.iter().sum::<f64>() / n;
    let variance = means.iter().map(|mean| (mean - of_all).powi(2)).sum::<f64>() / (n - 1.0);
    let expected = (variance / n).sqrt();
    assert!((loss.standard_error.unwrap() / expected - 1.0).abs() < 1e-4);
}

fn fixtures() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures")
}

/// tests/fixtures/make_hellaswag.py has asked Hugging Face's GPT-2 the same. The model has 101 tokens, so that ids
/// are taken modulo 101.
#[test]
fn questions_are_answered_as_by_hugging_faces_gpt2() {
    let model = Gpt::from_pretrained(&fixtures().join("gpt2-tiny"), 0.0, Device::Cpu).unwrap();
    let expected = fs::read_to_string(fixtures().join("hellaswag/expected.json")).unwrap();
    let expected: Value = serde_json::from_str(&expected).unwrap();
    let tokenizer = Tokenizer::load("gpt2").unwrap();
    let asked = questions::load(&fixtures().join("hellaswag/questions.jsonl")).unwrap();
    let block_size = model.config.block_size as usize;
    let mut right = [0, 0];
    for (question, expected) in asked.iter().zip(expected["questions"].as_array().unwrap()) {
        let (tokens, mask) = eval::with_endings(question, &tokenizer, block_size);
        let (sums, means) = eval::score(&model, &tokens.remainder(101), &mask);
        for (i, (scores, name)) in [(sums, "sums"), (means, "means")].into_iter().enumerate() {
            right[i] +=
                usize::from(scores.argmin(0, false).int64_value(&[]) as usize == question.label);
            let scores = Vec::<f64>::try_from(scores).unwrap();
            for (ours, theirs) in scores.iter().zip(expected[name].as_array().unwrap()) {
                let theirs = theirs.as_f64().unwrap();
                assert!((ours / theirs - 1.0).abs() < 1e-5, "{}: {ours} {theirs}", question.ctx);
            }
        }
    }
    assert_eq!(expected["right_by_sum"], right[0]);
    assert_eq!(expected["right_by_mean"], right[1]);
}

#[test]
fn the_two_rules_are_counted_apart() {
    let question = |ctx: &str, endings: [&str; 4], label| Question {
        ctx: ctx.into(),
        endings: endings.map(String::from),
        label,
    };
    let tokenizer = Tokenizer::of_characters("", "abcdefgh ".chars()).unwrap();
    let model = model(9, 16);
    let (ctx, endings) = ("abab", ["b", "aaaaaaa", "cdefgh", "dddd"]);
    // Token by token, by hand.
    let losses = endings.map(|ending| {
        let ids = tokenizer.encode(&format!("{ctx} {ending}"));
        (ctx.len()..ids.len()).map(|at| loss_at(&model, &ids, 0, at)).collect::<Vec<f64>>()
    });
    let sums = losses.each_ref().map(|losses| losses.iter().sum::<f64>());
    let means = [0, 1, 2, 3].map(|i| sums[i] / losses[i].len() as f64);
    let lowest =
        |scores: [f64; 4]| (0..4).min_by(|&i, &j| scores[i].total_cmp(&scores[j])).unwrap();
    let (by_sum, by_mean) = (lowest(sums), lowest(means));
    assert_ne!(by_sum, by_mean, "another question is needed");
    for (label, expected) in [(by_sum, (1.0, 0.0)), (by_mean, (0.0, 1.0))] {
        let asked = [question(ctx, endings, label)];
        let answers = eval::answers(&model, &tokenizer, &asked, |_| ()).unwrap();
        assert_eq!(answers.accuracies(), expected);
    }
    // Over 8 tokens long, of which a smaller model sees the end.
    let endings = ["b", "aaaaaaa", "abcdefghabcdefgh", "d"];
    let long = question("abababababab", endings, 0);
    let (tokens, mask) = eval::with_endings(&long, &tokenizer, 8);
    assert_eq!(
        (tokens.size(), mask.sum(Kind::Int64).int64_value(&[])),
        (vec![4, 9], 2 + 8 + 8 + 2)
    );
    let no_space = Tokenizer::of_characters("", "abcdefgh".chars()).unwrap();
    let error = eval::answers(&model, &no_space, &[long], |_| ()).unwrap_err();
    assert!(format!("{error:#}").contains("the character ' '"), "{error:#}");
    let unknown = question("abx", endings, 0);
    let error = eval::answers(&model, &tokenizer, &[unknown], |_| ()).unwrap_err();
    assert!(
        format!("{error:#}").contains("question 1 cannot be asked: the character 'x'"),
        "{error:#}"
    );
}
