//! What stands beside a run: settings for others, metrics, pictures, events for TensorBoard.

use nanogpt::{
    TrainConfig,
    metrics::{Metrics, Row, read},
    tensorboard,
};
use std::{fs, path::Path, process::Command};

fn configs() -> Vec<std::path::PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs");
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
}

/// nanoGPT's own are compared with its config folder's numbers.
#[test]
fn the_settings_that_come_along_are_settings() {
    let load = |name: &str| {
        let path = configs().into_iter().find(|path| path.ends_with(format!("{name}.toml")));
        TrainConfig::load(Some(&path.unwrap()), &[]).unwrap()
    };
    assert_eq!(configs().len(), 12);
    for path in configs() {
        let config = TrainConfig::load(Some(&path), &[]);
        assert!(config.is_ok(), "{}: {:#}", path.display(), config.unwrap_err());
    }
    let gpt2 = load("gpt2");
    let tokens = gpt2.batch_size * gpt2.block_size * gpt2.gradient_accumulation_steps as i64;
    assert_eq!((tokens, gpt2.max_iters, gpt2.weight_decay), (491_520, 600_000, 0.1));
    let letters = load("shakespeare_char");
    assert_eq!((letters.n_layer, letters.n_head, letters.n_embd), (6, 6, 384));
    assert_eq!((letters.batch_size, letters.block_size, letters.dropout), (64, 256, 0.2));
    assert_eq!((letters.max_iters, letters.beta2, letters.learning_rate), (5000, 0.99, 1e-3));
    let cpu = load("shakespeare_char_cpu");
    assert_eq!((cpu.n_layer, cpu.n_embd, cpu.batch_size, cpu.block_size), (4, 128, 12, 64));
    let finetune = load("finetune_shakespeare");
    assert_eq!((finetune.init_from.as_str(), finetune.decay_lr), ("gpt2-xl", false));
    for (name, from) in [("eval_gpt2", "gpt2"), ("eval_gpt2_xl", "gpt2-xl")] {
        let eval = load(name);
        assert_eq!((eval.init_from.as_str(), eval.eval_only, eval.eval_iters), (from, true, 500));
    }
}

fn evaluation(step: usize, val_loss: f64) -> Row {
    let row = Row { step, tokens: Some(64.0 * step as f64), ..Row::default() };
    Row { train_loss: Some(val_loss - 0.1), val_loss: Some(val_loss), ..row }
}

#[test]
fn a_run_that_goes_on_goes_on_with_its_rows() {
    let folder = tempfile::tempdir().unwrap();
    let mut metrics = Metrics::new(folder.path(), 0, false).unwrap();
    for step in 0..5 {
        metrics.push(&Row { step, loss: Some(3.0), ..Row::default() }).unwrap();
        metrics.push(&evaluation(step, 2.0)).unwrap();
    }
    drop(metrics);
    // What a kill in the middle of a line leaves.
    let path = folder.path().join("metrics.csv");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text + "5,320,0.1,2.").unwrap();
    drop(Metrics::new(folder.path(), 3, false).unwrap());
    let rows = read(&path).unwrap();
    let steps: Vec<(usize, bool)> =
        rows.iter().map(|row| (row.step, row.val_loss.is_some())).collect();
    let expected =
        [(0, false), (0, true), (1, false), (1, true), (2, false), (2, true), (3, false)];
    assert_eq!(steps, expected, "the evaluation after step 3 is held again");
    assert_eq!(rows[1].tokens, Some(0.0));
    fs::write(&path, "step,loss\n1,2\n").unwrap();
    assert!(read(&path).unwrap_err().to_string().contains("no file of metrics"));
}

#[test]
fn several_runs_stand_on_one_picture() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["first & best", "second"] {
        let run = folder.path().join(name);
        fs::create_dir(&run).unwrap();
        let mut metrics = Metrics::new(&run, 0, false).unwrap();
        (0..4).for_each(|step| metrics.push(&evaluation(step, 3.0 - 0.5 * step as f64)).unwrap());
    }
    let plot = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_nanogpt"));
        command.arg("plot").args(args).current_dir(folder.path()).output().unwrap()
    };
    for x in ["step", "tokens", "time"] {
        let output = plot(&["first & best", "second", "--x", x, "--train", "--out", "both.svg"]);
        assert!(output.status.success(), "{output:?}");
        let svg = fs::read_to_string(folder.path().join("both.svg")).unwrap();
        assert!(svg.contains("first &amp; best, validation") && svg.contains("second, training"));
    }
    let output = plot(&["third"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("cannot read third"));
}

/// The bytes of one record, put together from the formats' descriptions by hand; TensorBoard 2.20 has read such files.
#[test]
fn an_event_is_what_tensorboard_reads() {
    let event = tensorboard::summary(1.5, 300, &[("loss", 2.0)]);
    let expected = [
        &[0x09, 0, 0, 0, 0, 0, 0, 0xf8, 0x3f][..], // wall_time, a double
        &[0x10, 0xac, 0x02],                       // step, 300 in seven bits at a time
        &[0x2a, 13, 0x0a, 11],                     // summary, and its first value
        &[0x0a, 4, b'l', b'o', b's', b's', 0x15, 0, 0, 0, 0x40], // tag and simple_value, a float
    ];
    assert_eq!(event, expected.concat());
    let record = tensorboard::record(&event);
    assert_eq!(record[..8], (event.len() as u64).to_le_bytes());
    assert_eq!(record.len(), 8 + 4 + event.len() + 4);
}

/// `TENSORBOARD=/tmp/tb/bin/python cargo test -p nanogpt --test runs -- --ignored`, a Python that has TensorBoard.
#[test]
#[ignore = "needs TensorBoard"]
fn tensorboard_reads_a_run_that_has_gone_on() {
    let folder = tempfile::tempdir().unwrap();
    for first in [0, 3] {
        let mut metrics = Metrics::new(folder.path(), first, true).unwrap();
        (first..5).for_each(|step| metrics.push(&evaluation(step, 2.0 + step as f64)).unwrap());
        std::thread::sleep(std::time::Duration::from_millis(1100)); // its files have names of seconds
    }
    let script = "
import sys
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
events = EventAccumulator(sys.argv[1])
events.Reload()
print([(event.step, event.value) for event in events.Scalars('loss/val')])
";
    let python = std::env::var("TENSORBOARD").expect("TENSORBOARD names a Python that has it");
    let output = Command::new(python).args(["-c", script]).arg(folder.path()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    // The evaluation after step 3 was held again.
    assert_eq!(
        said.trim(),
        "[(0, 2.0), (1, 3.0), (2, 4.0), (3, 5.0), (3, 5.0), (4, 6.0)]",
        "{output:?}"
    );
}
