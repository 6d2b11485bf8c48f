//! Training: stopped and gone on is never stopped, several ranks are one, what is wrong is refused.

use nanogpt::{TrainConfig, metrics};
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    thread,
    time::Duration,
};

/// A folder with a data set of characters, in which `nanogpt` is run.
struct Workshop(tempfile::TempDir);

const SETTINGS: &str = "
dataset = 'data/letters'
out_dir = 'out'
eval_interval = 8
eval_iters = 2
gradient_accumulation_steps = 2
batch_size = 2
block_size = 16
n_layer = 2
n_head = 2
n_embd = 16
dropout = 0.1
learning_rate = 1e-2
max_iters = 20
lr_decay_iters = 20
warmup_iters = 4
device = 'cpu'
dtype = 'float32'
threads = 1
";

impl Workshop {
    fn new() -> Self {
        let workshop = Self(tempfile::tempdir().unwrap());
        let text: String = (0..4000).map(|i| char::from(b'a' + (i * i % 23) as u8)).collect();
        fs::write(workshop.path("letters.txt"), text).unwrap();
        fs::write(workshop.path("run.toml"), SETTINGS).unwrap();
        let prepare = ["prepare", "letters.txt", "--vocab", "characters", "--out", "data/letters"];
        succeeded(&workshop.run(&prepare));
        workshop
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_nanogpt"));
        command.current_dir(self.0.path()).args(args);
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    fn train(&self, out: &str, args: &[&str]) -> Output {
        self.run(&[&["train", "run.toml", "--out_dir", out], args].concat())
    }

    /// The tensors that a run has ended with, as bytes.
    fn end(&self, out: &str) -> Vec<u8> {
        fs::read(self.path(out).join("checkpoints/step_000020.safetensors")).unwrap()
    }

    /// The step, the losses of an evaluation and the loss of the step, of each row of a run's metrics.
    fn losses(&self, out: &str) -> Vec<[String; 4]> {
        let csv = fs::read_to_string(self.path(out).join("metrics.csv")).unwrap();
        let header: Vec<&str> = csv.lines().next().unwrap().split(',').collect();
        let column = |name| header.iter().position(|found| *found == name).unwrap();
        let columns = ["step", "train_loss", "val_loss", "loss"].map(column);
        let losses = |row: &str| {
            let fields: Vec<&str> = row.split(',').collect();
            columns.map(|column| fields[column].to_string())
        };
        csv.lines().skip(1).map(losses).collect()
    }
}

#[track_caller]
fn succeeded(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[track_caller]
fn refused(output: &Output, parts: &[&str]) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(matches!(output.status.code(), Some(1 | 2)), "{output:?}");
    assert!(parts.iter().all(|part| said.contains(part)), "{said}");
}

/// With dropout, whose random numbers go on too, and with both optimizers.
#[test]
fn a_run_that_was_stopped_ends_as_if_it_had_not_been() {
    let workshop = Workshop::new();
    for (optimizer, nproc) in [("adamw", "1"), ("muon", "1"), ("muon", "2")] {
        let flags = ["--optimizer", optimizer, "--nproc", nproc];
        let (whole, parts) = (format!("{optimizer}{nproc}"), format!("{optimizer}{nproc}parts"));
        succeeded(&workshop.train(&whole, &flags));
        let first = [&flags[..], &["--max_iters", "11", "--lr_decay_iters", "20"]].concat();
        succeeded(&workshop.train(&parts, &first));
        let said =
            succeeded(&workshop.train(&parts, &[&flags[..], &["--init_from", "resume"]].concat()));
        assert!(said.contains("goes on after step 11"), "{said}");
        assert!(workshop.end(&parts) == workshop.end(&whole), "{optimizer} with {nproc} ranks");
        // The run of 11 steps was judged at its end, the whole one was not.
        let mut losses = workshop.losses(&parts);
        losses.retain(|[step, _, val_loss, _]| step != "11" || val_loss.is_empty());
        assert_eq!(losses, workshop.losses(&whole));
    }
}

/// Sums are added in another order, and AdamW divides by what is nearly 0: losses agree, weights need not.
#[test]
fn two_ranks_see_what_one_would() {
    let workshop = Workshop::new();
    let flags = ["--dropout", "0", "--max_iters", "4", "--nproc"];
    for nproc in ["1", "2"] {
        succeeded(&workshop.train(nproc, &[&flags[..], &[nproc]].concat()));
    }
    let numbers = |out: &str| -> Vec<f64> {
        let fields = workshop.losses(out).into_iter().flatten();
        fields.filter_map(|field| field.parse().ok()).collect()
    };
    let (one, two) = (numbers("1"), numbers("2"));
    assert_eq!(one.len(), two.len());
    for (one, two) in one.iter().zip(&two) {
        assert!((one - two).abs() <= 1e-4 * one.abs(), "{one} and {two}");
    }
}

/// Kills a run at moments that differ, and goes on, until it is done.
fn killed_and_gone_on(workshop: &Workshop, nproc: &str, kills: u64) {
    let flags = ["--nproc", nproc, "--save_interval", "1", "--log_interval", "1"];
    succeeded(&workshop.train("whole", &flags));
    let args = [&["train", "run.toml", "--out_dir", "killed", "--init_from", "auto"], &flags[..]];
    let mut killed = 0;
    for i in 0.. {
        let mut child = workshop.command(&args.concat()).spawn().unwrap();
        // From before the first step to after the last; a machine that is busy only makes it earlier.
        thread::sleep(Duration::from_millis(150 + i * 97 % 900));
        if killed < kills && child.try_wait().unwrap().is_none() {
            child.kill().unwrap();
            killed += 1;
        }
        if child.wait().unwrap().success() {
            if killed == kills {
                break;
            }
            let _ = fs::remove_dir_all(workshop.path("killed"));
        }
        assert!(i < 20 * kills + 20, "it comes to no end");
    }
    assert!(workshop.end("killed") == workshop.end("whole"), "after {kills} kills");
    assert_eq!(workshop.losses("killed").last(), workshop.losses("whole").last());
}

#[test]
fn a_run_that_was_killed_ends_as_if_it_had_not_been() {
    killed_and_gone_on(&Workshop::new(), "1", 3);
}

/// `cargo test -p nanogpt --test training -- --ignored`: a hundred times with one rank and with two.
#[test]
#[ignore = "takes minutes"]
fn a_run_that_was_killed_a_hundred_times_ends_as_if_it_had_not_been() {
    for nproc in ["1", "2"] {
        killed_and_gone_on(&Workshop::new(), nproc, 100);
    }
}

/// What `kill` and Ctrl-C send.
#[cfg(unix)]
#[test]
fn a_run_that_is_asked_to_stop_saves_and_says_how_to_go_on() {
    let workshop = Workshop::new();
    let args = ["train", "run.toml", "--max_iters", "1000000", "--eval_interval", "1000000"];
    let child = workshop.command(&args).stderr(std::process::Stdio::piped()).spawn().unwrap();
    while fs::read_to_string(workshop.path("out/metrics.csv")).unwrap_or_default().lines().count()
        < 4
    {
        thread::sleep(Duration::from_millis(20));
    }
    let asked = Command::new("kill").arg(child.id().to_string()).status().unwrap();
    assert!(asked.success());
    refused(&child.wait_with_output().unwrap(), &["stopped after step", "--init_from resume"]);
    assert!(workshop.path("out/checkpoints").read_dir().unwrap().count() == 2);
}

#[test]
fn what_cannot_be_trained_is_refused() {
    let workshop = Workshop::new();
    let refused = |args: &[&str], parts: &[&str]| refused(&workshop.train("out", args), parts);
    refused(&["--dataset", "nowhere"], &["no data set nowhere", "nanogpt prepare"]);
    refused(&["--n_head", "3"], &["n_head = 3"]);
    refused(&["--n_haed", "2"], &["n_head"]);
    refused(&["--block_size", "5000"], &["block_size = 5000", "smaller"]);
    refused(&["--nproc", "2", "--gradient_accumulation_steps", "3"], &["2 ranks", "= 3"]);
    refused(&["--init_from", "resume"], &["no checkpoint in out", "scratch"]);
    refused(&["--init_from", "gpt2"], &["gpt2", "not there"]);
    refused(&["--learning_rate", "1e30", "--grad_clip", "0"], &["loss is", "learning rate"]);
    succeeded(&workshop.train("other", &["--max_iters", "2"]));
    let refused =
        |args: &[&str], parts: &[&str]| self::refused(&workshop.train("other", args), parts);
    refused(&[], &["other has the checkpoints of another run", "resume"]);
    refused(&["--init_from", "resume", "--n_layer", "1"], &["another model", "n_layer: 1"]);
    refused(
        &["--init_from", "resume", "--optimizer", "muon"],
        &["the optimizer", "other/checkpoints"],
    );
}

/// A model in 20 lines, without the command.
#[test]
fn the_library_trains_and_writes() {
    let workshop = Workshop::new();
    let config = TrainConfig {
        out_dir: workshop.path("mine").display().to_string(),
        dataset: workshop.path("data/letters").display().to_string(),
        max_iters: 2,
        ..TrainConfig::load(Some(&workshop.path("run.toml")), &[]).unwrap()
    };
    let device = tch::Device::Cpu;
    let report = nanogpt::train(&config, &lab::World::alone(device), device).unwrap();
    assert_eq!(report.step, 2);
    let (model, tokenizer) = nanogpt::source::open(&config.out_dir, device).unwrap();
    assert_eq!(tokenizer.n_vocab(), model.config.vocab_size);
    let said =
        succeeded(&workshop.run(&["sample", "mine", "--max-new-tokens", "9", "--start", "ab"]));
    assert!(said.starts_with("ab") && said.lines().next().unwrap().len() == 11, "{said}");
    assert!(Path::new(&config.out_dir).join("metrics.csv").is_file());
    assert_eq!(metrics::said(Duration::from_secs(3725)), "1 h 2 min");
}
