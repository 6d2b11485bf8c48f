//! What the subcommands promise that measure: the law of known points, a benchmark's numbers, scripts for shells.

use lab::Rng;
use nanogpt::{
    GptConfig, TrainConfig,
    optim::OptimizerKind,
    precision::Precision,
    scaling::{Family, Law, Point, Trust},
    size::{self, Job},
    tensorboard,
};
use std::{
    fs,
    path::Path,
    process::{Command, Output},
};
use tch::Device;

/// The law that Hoffmann and others found.
const CHINCHILLA: Law = Law { e: 1.69, a: 406.4, alpha: 0.34, b: 410.7, beta: 0.28 };

/// Points on that law, but for a share of up to `noise` of their loss.
fn points(noise: f64) -> Vec<Point> {
    let mut rng = Rng::new(5);
    let mut points = Vec::new();
    for parameters in [5e4, 2e5, 6e5, 2e6] {
        for tokens in [1e6, 4e6, 2e7, 8e7] {
            let loss =
                CHINCHILLA.loss(parameters, tokens) * (1.0 + noise * (2.0 * rng.uniform() - 1.0));
            points.push(Point { n_layer: 1, n_embd: 1, parameters, tokens, loss });
        }
    }
    points
}

fn near(a: f64, b: f64, share: f64) -> bool {
    (a / b - 1.0).abs() < share
}

#[test]
fn a_law_is_found_in_its_own_points() {
    let law = Law::fit(&points(0.0));
    assert!(near(law.e, 1.69, 1e-2) && near(law.alpha, 0.34, 1e-2), "{law:?}");
    assert!(near(law.beta, 0.28, 1e-2) && law.error(&points(0.0)) < 1e-4, "{law:?}");
    let trust = Trust::of(&points(0.0));
    assert!(trust.left_out < 1e-3 && trust.alpha < 1e-2, "{trust:?}");

    let (noisy, doubted) = (Law::fit(&points(0.01)), Trust::of(&points(0.01)));
    assert!((noisy.alpha - 0.34).abs() < 3.0 * doubted.alpha, "{noisy:?} {doubted:?}");
    assert!(doubted.left_out > 0.002 && doubted.left_out < 0.03, "{doubted:?}");
}

#[test]
fn the_best_size_is_the_best() {
    let flops = 5.76e23;
    let (n, d) = CHINCHILLA.optimum(flops);
    assert!(near(6.0 * n * d, flops, 1e-9));
    let best = CHINCHILLA.loss(n, d);
    for factor in [0.9, 1.1] {
        assert!(CHINCHILLA.loss(n * factor, d / factor) > best);
    }
}

/// Where more parameters bring nothing, the law says so, and is no worse for it.
#[test]
fn a_term_may_be_nothing() {
    let flat = Law { a: 0.0, ..CHINCHILLA };
    let points: Vec<Point> = points(0.0)
        .iter()
        .map(|point| Point { loss: flat.loss(point.parameters, point.tokens), ..*point })
        .collect();
    assert!(Law::fit(&points).error(&points) < 1e-4);
}

#[test]
fn a_family_needs_three_sizes_and_three_budgets() {
    Family::small().check().unwrap();
    Family::quick().check().unwrap();
    let same = Family { sizes: vec![(1, 8), (1, 8), (2, 8)], ..Family::quick() };
    assert!(same.check().unwrap_err().to_string().contains("--sizes: 2 of them"));
}

fn nanogpt(folder: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nanogpt"));
    command.args(args).current_dir(folder).output().unwrap()
}

fn said(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn error(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1));
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// A data set of letters.
fn prepared() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let text: String = (0..6000).map(|i| char::from(b'a' + (i * i % 23) as u8)).collect();
    fs::write(folder.path().join("letters.txt"), text).unwrap();
    let args = ["prepare", "letters.txt", "--vocab", "characters", "--out", "data/letters"];
    said(&nanogpt(folder.path(), &args));
    folder
}

#[test]
fn a_family_is_trained_once() {
    let folder = prepared();
    let args = ["scaling", "--dataset", "letters", "--threads", "1", "--device", "cpu"];
    let family = ["--sizes", "1x4,1x8,1x16", "--tokens", "1024,2048,4096"];
    let first = said(&nanogpt(folder.path(), &[&args[..], &family].concat()));
    assert!(first.contains("L(N, D) = E + A/N^α + B/D^β") && first.contains("step "), "{first}");
    let out = folder.path().join("out/scaling");
    let csv = fs::read_to_string(out.join("points.csv")).unwrap();
    assert_eq!(csv.lines().count(), 1 + 9);
    assert!(fs::read_to_string(out.join("scaling.svg")).unwrap().contains("parameters"));

    // One that is not there is trained again, and to the same loss.
    fs::remove_dir_all(out.join("1x8_2048")).unwrap();
    let second = said(&nanogpt(folder.path(), &[&args[..], &family].concat()));
    assert_eq!(second.matches(" ranks\n").count(), 1, "one model is trained: {second}");
    assert_eq!(fs::read_to_string(out.join("points.csv")).unwrap(), csv);

    let other = [&args[..], &family, &["--seed", "7"]].concat();
    assert!(error(&nanogpt(folder.path(), &other)).contains("choose another --out"));
}

#[test]
fn a_benchmark_says_how_fast_and_how_large() {
    let folder = prepared();
    let sizes = [
        ("n_layer", 2),
        ("n_head", 2),
        ("n_embd", 32),
        ("block_size", 32),
        ("batch_size", 8),
        ("gradient_accumulation_steps", 2),
    ];
    let knobs = sizes.iter().map(|(name, value)| format!("{name} = {value}\n"));
    let settings = "dataset = 'letters'\ndevice = 'cpu'\ndtype = 'float32'\nthreads = 1\n";
    let settings: String = knobs.collect::<String>() + settings;
    fs::write(folder.path().join("run.toml"), settings).unwrap();
    let bench = ["bench", "run.toml", "--steps", "3", "--warmup", "1"];

    let json = said(&nanogpt(folder.path(), &[&bench[..], &["--json", "--profile"]].concat()));
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let number = |name: &str| json[name].as_f64().unwrap_or_else(|| panic!("{name} in {json}"));
    assert!(number("mfu") > 0.0 && number("mfu") < 1.0);
    assert!(number("fastest_ms") <= number("ms") && number("ms") <= number("slowest_ms"));
    assert!(near(number("tokens_per_second"), 512.0 / number("ms") * 1e3, 1e-6));
    assert_eq!(json["operations"].as_array().unwrap().len(), 9);

    // The prediction of `nanogpt size` for the same run; tests/size.rs has more of them.
    let config = GptConfig {
        block_size: 32,
        vocab_size: letters(folder.path()),
        n_layer: 2,
        n_head: 2,
        n_embd: 32,
        dropout: 0.0,
        bias: false,
        ..GptConfig::default()
    };
    let knobs = TrainConfig {
        batch_size: 8,
        block_size: 32,
        gradient_accumulation_steps: 2,
        optimizer: OptimizerKind::AdamW,
        ..TrainConfig::default()
    };
    let job = Job::new(&knobs, Precision::Float32, Device::Cpu, 1);
    let predicted = size::memory(&config, &job).peak as f64;
    assert!(near(predicted, number("peak_bytes"), 0.05), "{predicted}, {}", number("peak_bytes"));

    let synthetic = said(&nanogpt(folder.path(), &[&bench[..], &["--data", "synthetic"]].concat()));
    assert!(synthetic.contains("synthetic, Float32") && synthetic.contains("MFU"), "{synthetic}");
    let missing = nanogpt(folder.path(), &[&bench[..], &["--data", "words"]].concat());
    assert!(error(&missing).contains("there is no data set words"));
    let misspelt = nanogpt(folder.path(), &[&bench[..], &["--data", "leters"]].concat());
    assert!(error(&misspelt).contains("or did you mean letters?"));
}

fn letters(folder: &Path) -> i64 {
    let path = folder.join("data/letters");
    nanogpt::Dataset::open(path.to_str().unwrap()).unwrap().vocab_size()
}

#[test]
fn a_size_is_said_in_both_precisions() {
    let folder = tempfile::tempdir().unwrap();
    let gpt2 = ["size", "--vocab-size", "50257", "--device", "cpu"];
    let text = said(&nanogpt(folder.path(), &gpt2));
    assert!(text.contains("124,337,664") && text.contains("1.49 GB"), "{text}");
    assert!(text.contains("float32") && text.contains("bfloat16"), "{text}");
}

/// A folder of that name may have another vocabulary.
#[test]
fn the_fables_are_those_that_were_prepared() {
    let folder = prepared();
    let size = || said(&nanogpt(folder.path(), &["size", "--dataset", "fables"]));
    assert!(size().contains("vocab_size: 1024"));
    let data = folder.path().join("data");
    fs::rename(data.join("letters"), data.join("fables")).unwrap();
    let theirs = nanogpt::Dataset::open(data.join("fables").to_str().unwrap()).unwrap();
    assert!(size().contains(&format!("vocab_size: {},", theirs.vocab_size())));
}

#[test]
fn shells_learn_the_subcommands() {
    let folder = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish", "powershell"] {
        let script = said(&nanogpt(folder.path(), &["completions", shell]));
        for word in ["prepare", "sample", "scaling", "completions", "profile"] {
            assert!(script.contains(word), "{shell} does not know {word}");
        }
    }
    assert_eq!(nanogpt(folder.path(), &["completions", "csh"]).status.code(), Some(2));
}

/// The same events as in `fixtures/make_tensorboard.py`, which writes them with TensorBoard's own code.
#[test]
fn events_are_tensorboards_byte_for_byte() {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tensorboard.tfevents");
    let events = [
        tensorboard::version(1.5),
        tensorboard::start(1.5, 301),
        tensorboard::summary(1_764_324_000.25, 0, &[("loss", 4.25), ("nothing", 0.0)]),
        tensorboard::summary(1_764_324_001.0, 600_000, &[("loss", -1e-3), ("speed", 123_456.0)]),
    ];
    let records: Vec<u8> = events.iter().flat_map(|event| tensorboard::record(event)).collect();
    assert_eq!(records, fs::read(fixture).unwrap());
}
