//! Training: stopped and gone on is never stopped, several ranks are one, what is wrong is refused.

mod workshop;

use nanogpt::{TrainConfig, metrics};
use std::{fs, path::Path, process::Command, thread, time::Duration};
use workshop::{Workshop, refused, succeeded};

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
        losses.retain(|(step, [_, val_loss, _])| *step != 11 || val_loss.is_none());
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
        workshop.losses(out).into_iter().flat_map(|(_, losses)| losses).flatten().collect()
    };
    let (one, two) = (numbers("1"), numbers("2"));
    assert_eq!(one.len(), two.len());
    for (one, two) in one.iter().zip(&two) {
        assert!((one - two).abs() <= 1e-4 * one.abs(), "{one} and {two}");
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
