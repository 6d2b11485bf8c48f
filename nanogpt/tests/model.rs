//! The model: as many parameters as it says, the same text with a cache as without, and GPT-2's logits.

use lab::Rng;
use nanogpt::{Generator, Gpt, GptConfig, Sampling, precision::Precision};
use std::{collections::BTreeMap, sync::Mutex};
use tch::{Device, Kind, Tensor};

fn config() -> GptConfig {
    GptConfig {
        block_size: 24,
        vocab_size: 40,
        n_layer: 3,
        n_head: 4,
        n_embd: 32,
        ..GptConfig::default()
    }
}

/// GPT-2's model, and ours with what it does not have.
fn configs() -> [GptConfig; 3] {
    let rope = GptConfig { rope: true, ..config() };
    [config(), rope.clone(), GptConfig { bigram: true, bias: false, ..rope }]
}

/// A model whose logits differ by more than rounding: its weights are ten times as large as at the start.
fn model(config: &GptConfig) -> Gpt {
    static SEEDING: Mutex<()> = Mutex::new(()); // libtorch has one generator for all threads
    let _turn = SEEDING.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    tch::manual_seed(7);
    let model = Gpt::new(config, Device::Cpu).unwrap();
    let _guard = tch::no_grad_guard();
    for (_, mut parameter) in model.named_parameters() {
        if parameter.dim() == 2 {
            parameter *= 10.0;
        }
    }
    model
}

fn ids(n: i64) -> Tensor {
    let mut rng = Rng::new(3);
    let ids: Vec<i64> = (0..n).map(|_| rng.below(40)).collect();
    Tensor::from_slice(&ids).unsqueeze(0)
}

fn relative(a: &Tensor, b: &Tensor) -> f64 {
    ((a - b).norm() / b.norm()).double_value(&[])
}

#[test]
fn it_has_as_many_parameters_as_it_says() {
    for config in configs() {
        let there = Gpt::new(&config, Device::Cpu).unwrap().named_parameters();
        let count: usize = there.iter().map(|(_, p)| p.numel()).sum();
        assert_eq!(config.n_params(false), count as i64);
        let there: BTreeMap<_, _> = there.into_iter().map(|(name, p)| (name, p.size())).collect();
        assert_eq!(config.shapes().collect::<BTreeMap<_, _>>(), there);
    }
    // nanoGPT's notebook on sizes, and OpenAI's checkpoint.
    let gpt2 = GptConfig { vocab_size: 50_257, ..GptConfig::default() };
    assert_eq!(gpt2.n_params(false), 124_439_808);
    assert_eq!(GptConfig { bias: false, ..gpt2 }.n_params(false), 124_337_664);
}

/// Sums are added in another order, so logits agree to float32's rounding and no further.
#[test]
fn the_logits_are_the_same_with_a_cache() {
    let _guard = tch::no_grad_guard();
    for config in configs() {
        let (model, ids) = (model(&config), ids(20));
        let mut cache = model.cache(1);
        let mut logits = vec![model.forward_cached(&ids.narrow(1, 0, 5), &mut cache)];
        for i in 5..20 {
            logits.push(model.forward_cached(&ids.narrow(1, i, 1), &mut cache));
        }
        let cached = Tensor::stack(&logits, 1); // (1, 16, V)
        let whole = model.forward(&ids, false).narrow(1, 4, 16);
        assert!(relative(&cached, &whole) < 1e-5, "{}", relative(&cached, &whole));
        assert_eq!(cache.len(), 20);
    }
}

/// bfloat16 keeps 8 bits of each number, and kernels for one token add in another order than those for many: the logits
/// are the same to its rounding, and a text is where no two tokens are as likely.
#[test]
fn bfloat16s_logits_are_nearly_the_same_with_a_cache() {
    let _guard = tch::no_grad_guard();
    for config in configs() {
        let (mut model, ids) = (model(&config), ids(20));
        let float32 = model.forward(&ids, false).narrow(1, 4, 16);
        model.precision = Precision::Bfloat16;
        let mut cache = model.cache(1);
        let mut logits = vec![model.forward_cached(&ids.narrow(1, 0, 5), &mut cache)];
        for i in 5..20 {
            logits.push(model.forward_cached(&ids.narrow(1, i, 1), &mut cache));
        }
        let cached = Tensor::stack(&logits, 1); // (1, 16, V)
        assert_eq!(cached.kind(), Kind::BFloat16);
        let cached = cached.to_kind(Kind::Float);
        let whole = model.precision.autocast(Device::Cpu, || model.forward(&ids, false));
        let whole = whole.to_kind(Kind::Float).narrow(1, 4, 16);
        assert!(relative(&cached, &whole) < 0.02, "{}", relative(&cached, &whole));
        let rounding = relative(&cached, &float32);
        assert!((1e-3..0.03).contains(&rounding), "{rounding}");
    }
}

/// After one step on "a b" the pair's row has moved, and that of no other pair.
#[test]
fn bigram_gives_each_pair_a_row_of_its_own() {
    let model = model(&GptConfig { bigram: true, ..config() });
    let (x, y) = (Tensor::from_slice2(&[[3i64, 7, 9]]), Tensor::from_slice2(&[[7i64, 9, 1]]));
    model.loss(&x, &y, true).backward();
    let rows = model.vs.variables()["bigram.weight"].grad().abs().sum_dim_intlist(1, false, None);
    let moved: Vec<i64> = rows.nonzero().flatten(0, 1).try_into().unwrap();
    assert_eq!(moved, [3, 3 * 40 + 7, 7 * 40 + 9]); // nothing, then 3; 3, then 7; 7, then 9
}

/// Also behind the end of what the model sees, where all positions move.
#[test]
fn the_text_is_the_same_with_a_cache() {
    for config in configs() {
        text_is_the_same_with_a_cache(&model(&config));
    }
}

fn text_is_the_same_with_a_cache(model: &Gpt) {
    let text = |cached: bool, sampling: Sampling| {
        let mut generator = Generator::new(model, 37, &[1, 2, 3], sampling, cached);
        let mut rng = Rng::new(5);
        (0..40).map(|_| generator.next(&mut rng)).collect::<Vec<i64>>()
    };
    for (temperature, top_k, top_p) in
        [(0.0, None, None), (1.0, None, None), (0.8, Some(10), None), (1.0, None, Some(0.7))]
    {
        let sampling = Sampling { temperature, top_k, top_p };
        assert_eq!(text(true, sampling), text(false, sampling), "{sampling:?}");
        assert!(text(true, sampling).iter().all(|&id| id < 37), "ids above pad the table");
    }
}

#[test]
fn top_k_and_top_p_leave_out_what_is_unlikely() {
    let logits = Tensor::from_slice(&[0.5f32, 0.3, 0.15, 0.05]).log();
    let drawn = |top_k, top_p| {
        let sampling = Sampling { temperature: 1.0, top_k, top_p };
        let mut rng = Rng::new(1);
        let mut drawn: Vec<i64> = (0..500).map(|_| sampling.draw(&logits, &mut rng)).collect();
        drawn.sort_unstable();
        drawn.dedup();
        drawn
    };
    assert_eq!(drawn(None, None), [0, 1, 2, 3]);
    assert_eq!(drawn(Some(2), None), [0, 1]);
    assert_eq!(drawn(None, Some(0.79)), [0, 1], "0.8 are reached with two");
    assert_eq!(drawn(None, Some(0.81)), [0, 1, 2]);
    assert_eq!(drawn(None, Some(1e-9)), [0], "the likeliest always stays");
}

#[test]
fn a_cropped_model_says_the_same_of_what_it_sees() {
    for config in configs() {
        let (model, ids) = (model(&config), ids(10));
        let whole = tch::no_grad(|| model.forward(&ids, false));
        let cropped = model.crop_block_size(10).unwrap();
        assert_eq!(cropped.config.block_size, 10);
        let logits = tch::no_grad(|| cropped.forward(&ids, false));
        assert!(relative(&logits, &whole) < 1e-6, "{}", relative(&logits, &whole));
    }
    assert!(self::model(&config()).crop_block_size(25).is_err());
}

#[test]
fn dropout_is_for_training_alone() {
    let config = GptConfig { dropout: 0.5, ..config() };
    let (model, ids) = (model(&config), ids(10));
    let _guard = tch::no_grad_guard();
    assert_eq!(model.forward(&ids, false), model.forward(&ids, false));
    assert_ne!(model.forward(&ids, true), model.forward(&ids, true));
}

#[test]
fn the_loss_at_the_start_is_that_of_guessing() {
    tch::manual_seed(1);
    let config = GptConfig { n_embd: 128, ..config() };
    let model = Gpt::new(&config, Device::Cpu).unwrap();
    let (x, y) = (ids(20), ids(21).narrow(1, 1, 20));
    let loss = tch::no_grad(|| model.loss(&x, &y, false)).double_value(&[]);
    // ln V, and half the variance of the logits: C·0.02²/2. The rest is this batch.
    let expected = 40f64.ln() + 128.0 * 0.02f64.powi(2) / 2.0;
    assert!((loss - expected).abs() < 0.15, "{loss} instead of {expected}");
}

#[test]
fn sizes_of_which_no_model_can_be_made_are_refused() {
    let refused = |config: GptConfig| Gpt::new(&config, Device::Cpu).err().unwrap().to_string();
    assert!(refused(GptConfig { n_head: 5, ..config() }).contains("n_head = 5"));
    assert!(refused(GptConfig { n_layer: 0, ..config() }).contains("n_layer = 0"));
    assert!(refused(GptConfig { dropout: 1.0, ..config() }).contains("dropout = 1"));
    assert!(refused(GptConfig { n_embd: 36, rope: true, ..config() }).contains("a head has 9"));
    let gpt2s = GptConfig { vocab_size: 50_257, bigram: true, ..config() };
    assert!(refused(gpt2s).contains("at most 256"));
}

#[test]
fn gpt2s_logits_are_transformers() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/gpt2-tiny");
    let model = Gpt::from_pretrained(folder.as_ref(), 0.0, Device::Cpu).unwrap();
    let reference = Tensor::read_safetensors(format!("{folder}/expected.safetensors")).unwrap();
    let tensor = |name: &str| {
        let found = reference.iter().find(|(found, _)| found == name);
        found.unwrap_or_else(|| panic!("no {name}")).1.shallow_clone()
    };
    let logits = tch::no_grad(|| model.forward(&tensor("ids").to_kind(Kind::Int64), false));
    assert!(relative(&logits, &tensor("logits")) < 1e-5);
}
