//! What `size` promises: the numbers of nanoGPT's notebook, and the memory of runs.

use nanogpt::{
    Gpt, GptConfig, Optimizer, TrainConfig,
    checkpoint::{Run, Saved},
    optim::OptimizerKind,
    precision::Precision,
    size::{self, Job, Memory},
};
use std::{path::Path, sync::Mutex};
use tch::{Device, Kind, Tensor};
use tch_ext::memory;

/// The prediction may be off by this share of what is measured.
const TOLERANCE: f64 = 0.03;

fn gpt2() -> GptConfig {
    GptConfig { vocab_size: 50_257, bias: false, ..GptConfig::default() }
}

#[test]
fn parameters_are_those_of_nanogpts_notebook() {
    let parts = size::parameters(&gpt2());
    let expected = [
        ("embedding/position", 786_432),
        ("embedding/token", 38_597_376),
        ("embedding", 39_383_808),
        ("attention/ln", 768),
        ("attention/qkv", 1_769_472),
        ("attention/proj", 589_824),
        ("attention", 2_360_064),
        ("mlp/ln", 768),
        ("mlp/fc", 2_359_296),
        ("mlp/proj", 2_359_296),
        ("mlp", 4_719_360),
        ("block", 7_079_424),
        ("all blocks", 84_953_088),
        ("ln_f", 768),
        ("lm_head", 0),
        ("total", 124_337_664),
    ];
    assert_eq!(parts, expected);
    for bias in [true, false] {
        let config = GptConfig { bias, ..gpt2() };
        assert_eq!(size::of(&size::parameters(&config), "total"), config.n_params(false));
    }
}

#[test]
fn operations_are_those_of_nanogpts_notebook() {
    let flops = size::forward_flops(&gpt2(), 1024);
    let expected = [
        ("attention/qkv", 3_623_878_656),
        ("attention/scores", 1_610_612_736),
        ("attention/values", 1_610_612_736),
        ("attention/proj", 1_207_959_552),
        ("attention", 8_053_063_680),
        ("mlp/fc", 4_831_838_208),
        ("mlp/proj", 4_831_838_208),
        ("mlp", 9_663_676_416),
        ("block", 17_716_740_096),
        ("all blocks", 212_600_881_152),
        ("lm_head", 79_047_426_048),
        ("forward", 291_648_307_200),
        ("backward", 583_296_614_400),
        ("forward and backward", 874_944_921_600),
    ];
    assert_eq!(flops, expected);
    assert_eq!(size::checkpoint_bytes(&gpt2(), OptimizerKind::AdamW), 12 * 124_337_664); // 1.49 GB
}

#[test]
fn openais_models_have_their_sizes() {
    let named = |name: &str| {
        let config = TrainConfig { init_from: name.into(), ..TrainConfig::default() };
        size::model_of(&config, 7).unwrap().n_params(false)
    };
    let sizes = ["gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl"].map(named);
    assert_eq!(sizes, [124_439_808, 354_823_168, 774_030_080, 1_557_611_200]);
}

/// GPT-2's files say it, or the checkpoint of a run of ours, whatever the settings say.
#[test]
fn a_run_that_begins_with_a_model_has_its_sizes() {
    let begun_with = |init_from: &str, out_dir: &Path| {
        let (init_from, out_dir) = (init_from.into(), out_dir.display().to_string());
        let settings = TrainConfig { init_from, out_dir, block_size: 8, ..TrainConfig::default() };
        size::model_of(&TrainConfig { dropout: 0.1, ..settings }, 7)
    };
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path();
    let theirs = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/gpt2-tiny");
    let tiny = Gpt::from_pretrained(theirs.as_ref(), 0.1, Device::Cpu).unwrap();
    let seen = GptConfig { block_size: 8, ..tiny.config };
    assert_eq!(begun_with(theirs, out).unwrap(), seen);

    assert!(begun_with("resume", out).is_err(), "there is nothing to go on with");
    let scratch = TrainConfig { dropout: 0.1, block_size: 8, ..TrainConfig::default() };
    assert_eq!(begun_with("auto", out).unwrap(), scratch.gpt(7));
    let sizes = GptConfig { block_size: 6, n_layer: 1, n_head: 1, n_embd: 4, ..gpt2() };
    let sizes = GptConfig { vocab_size: 9, rope: true, ..sizes };
    let model = Gpt::new(&sizes, Device::Cpu).unwrap();
    let saved = Saved::new(&sizes, 1, None);
    Run::new(out, 1).newest.save(1, &saved, &model.named_parameters()).unwrap();
    for init_from in ["resume", "auto"] {
        assert_eq!(begun_with(init_from, out).unwrap(), sizes);
    }
    let from = begun_with(out.to_str().unwrap(), Path::new("elsewhere")).unwrap();
    assert_eq!(from, GptConfig { dropout: 0.1, ..sizes });
    assert!(begun_with("no/such", out).unwrap_err().to_string().contains("there is no no/such"));
}

/// Trains for two steps, and measures what tensors take at most in the second.
fn measured(config: &GptConfig, job: &Job) -> i64 {
    static TURN: Mutex<()> = Mutex::new(()); // the counter is one for the whole process
    let _turn = TURN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let before = memory::now(Device::Cpu).unwrap();
    let mut model = Gpt::new(config, Device::Cpu).unwrap();
    model.precision = job.precision;
    let knobs = TrainConfig { optimizer: job.optimizer, ..TrainConfig::default() };
    let mut optimizer = Optimizer::new(&model.named_parameters(), &knobs.hyper(), model.precision);
    let ids = || {
        let shape = [job.batch_size, job.block_size];
        Tensor::randint(config.vocab_size, shape, (Kind::Int64, Device::Cpu))
    };
    for _ in 0..2 {
        memory::reset_peak(Device::Cpu).unwrap();
        for _ in 0..if job.accumulates { 2 } else { 1 } {
            model.loss(&ids(), &ids(), true).backward();
        }
        optimizer.clip_grad_norm(1.0);
        optimizer.step(1e-3).unwrap();
    }
    (memory::peak(Device::Cpu).unwrap() - before) as i64
}

#[test]
fn memory_is_what_a_run_takes() {
    tch::set_num_threads(1);
    let config = GptConfig {
        block_size: 64,
        vocab_size: 300,
        n_layer: 2,
        n_head: 4,
        n_embd: 64,
        dropout: 0.0,
        bias: false,
        ..GptConfig::default()
    };
    let of_letters = GptConfig { vocab_size: 65, n_embd: 128, ..config.clone() };
    let configs = [
        ("as it is", config.clone()),
        ("with a large vocabulary", GptConfig { vocab_size: 4000, ..config.clone() }),
        ("of letters", of_letters.clone()),
        ("deep", GptConfig { n_layer: 5, ..of_letters.clone() }),
        ("with pairs", GptConfig { rope: true, bigram: true, ..of_letters.clone() }),
        ("with dropout", GptConfig { dropout: 0.2, ..of_letters }),
        ("with long windows", GptConfig { dropout: 0.1, block_size: 256, n_head: 8, ..config }),
    ];
    let precisions = [Precision::Float32, Precision::Bfloat16];
    for (name, config) in &configs {
        for (precision, batch_size, accumulates) in precisions.iter().flat_map(|precision| {
            [(precision, 8, false), (precision, 3, true), (precision, 1, false)]
        }) {
            let job = Job {
                batch_size,
                block_size: config.block_size,
                accumulates,
                optimizer: OptimizerKind::AdamW,
                precision: *precision,
                device: Device::Cpu,
            };
            expect_near(name, config, &job);
            expect_near(name, config, &Job { optimizer: OptimizerKind::Muon, ..job });
        }
    }
}

fn expect_near(name: &str, config: &GptConfig, job: &Job) {
    let Memory { peak, .. } = size::memory(config, job);
    let measured = measured(config, job);
    let off = peak as f64 / measured as f64 - 1.0;
    assert!(off.abs() < TOLERANCE, "{name}: {peak} predicted, {measured} measured, {job:?}");
}
