//! Training: stopped and gone on is never stopped, several ranks are one, what is wrong is refused.

mod workshop;

use nanogpt::{TrainConfig, metrics};
use std::{
    fs::{self, File},
    io::{Read, Write},
    path::Path,
    process::{Command, Stdio},
    thread,
    time::Duration,
};
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
    let child = workshop.command(&args).stderr(Stdio::piped()).spawn().unwrap();
    while fs::read_to_string(workshop.path("out/metrics.csv")).unwrap_or_default().lines().count()
        < 4
    {
        thread::sleep(Duration::from_millis(20));
    }
    refused(&workshop.train("out", &[]), &["another run writes into out"]);
    let asked = Command::new("kill").arg(child.id().to_string()).status().unwrap();
    assert!(asked.success());
    refused(&child.wait_with_output().unwrap(), &["stopped after step", "--init_from resume"]);
    assert!(workshop.path("out/checkpoints").read_dir().unwrap().count() == 2);
}

/// An evaluation may take longer than anybody waits.
#[cfg(unix)]
#[test]
fn an_evaluation_that_is_asked_to_stop_ends_too() {
    let workshop = Workshop::new();
    let args = ["train", "run.toml", "--eval_only", "true", "--eval_iters", "100000000"];
    let mut command = workshop.command(&args);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // From its first line on, a signal waits for it to look.
    let mut said = [0];
    child.stdout.as_mut().unwrap().read_exact(&mut said).unwrap();
    Command::new("kill").arg(child.id().to_string()).status().unwrap();
    refused(&child.wait_with_output().unwrap(), &["stopped before anything was done"]);
}

/// What rank 0 does for all may take longer than `--timeout`, which is for those who never come. Here it reads from a
/// pipe.
#[cfg(unix)]
#[test]
fn ranks_wait_for_what_the_first_reads() {
    let workshop = Workshop::new();
    let (vocabulary, kept) = (workshop.path("data/letters/vocab.tiktoken"), workshop.path("kept"));
    fs::rename(&vocabulary, &kept).unwrap();
    let made = Command::new("mkfifo").arg(&vocabulary).status().unwrap();
    assert!(made.success());
    let writer = thread::spawn(move || {
        let mut pipe = File::options().write(true).open(&vocabulary).unwrap(); // once rank 0 reads
        thread::sleep(Duration::from_secs(6));
        fs::remove_file(&vocabulary).unwrap();
        fs::copy(&kept, &vocabulary).unwrap(); // for those who read it next
        pipe.write_all(&fs::read(&kept).unwrap()).unwrap();
    });
    succeeded(&workshop.train("out", &["--nproc", "2", "--timeout", "5", "--max_iters", "2"]));
    writer.join().unwrap();
}

/// Two ranks that tell the fables at the same time would read each other's half.
#[test]
fn ranks_begin_with_fables_that_nobody_has_told() {
    let workshop = Workshop::new();
    let flags = ["--dataset", "fables", "--nproc", "2", "--max_iters", "1", "--eval_iters", "1"];
    succeeded(&workshop.train("out", &flags));
}

fn json(workshop: &Workshop, step: usize) -> serde_json::Value {
    let path = workshop.path(&format!("out/checkpoints/step_{step:06}.json"));
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

#[test]
fn a_run_goes_on_with_other_settings_where_they_allow_it() {
    let workshop = Workshop::new();
    let train = |args: &[&str]| succeeded(&workshop.train("out", args));
    train(&["--max_iters", "3", "--nproc", "2"]);
    assert_eq!(json(&workshop, 3)["micro_batches"], 6);
    // Other micro-batches in a step: what has been read is not read again. One rank: other random numbers.
    let go_on = ["--init_from", "resume", "--gradient_accumulation_steps", "3", "--max_iters"];
    let said = train(&[&go_on[..], &["5"]].concat());
    assert!(said.contains("goes on after step 3, on other ranks"), "{said}");
    assert_eq!(json(&workshop, 5)["micro_batches"], 12);
    assert!(json(&workshop, 5)["scaler"].is_null());
    let rows = metrics::read(&workshop.path("out/metrics.csv")).unwrap();
    assert_eq!(rows.last().unwrap().tokens, Some(12.0 * 2.0 * 16.0));
    // float16 begins with a scale of its own.
    train(&[&go_on[..], &["6", "--dtype", "float16"]].concat());
    let scale = json(&workshop, 6)["scaler"]["scale"].as_f64().unwrap();
    assert!(scale >= 32_768.0, "{scale}"); // halved once at most
}

/// Of a model that has been trained, wherever its sizes stand.
#[test]
fn the_size_of_what_is_there_is_said() {
    let workshop = Workshop::new();
    succeeded(&workshop.train("out", &["--max_iters", "1", "--n_layer", "1", "--n_embd", "8"]));
    succeeded(&workshop.run(&["export", "out", "--out", "exported"]));
    let size = |args: &[&str]| succeeded(&workshop.run(&[&["size", "run.toml"], args].concat()));
    for from in [&["--init_from", "resume"], &["--init_from", "out"], &["--init_from", "exported"]]
    {
        let said = size(from);
        assert!(said.contains("n_layer: 1, n_head: 2, n_embd: 8,"), "{said}");
    }
    let said = size(&["--init_from", "auto", "--out_dir", "none"]);
    assert!(said.contains("n_layer: 2, n_head: 2, n_embd: 16,"), "{said}");
    let tensors = "out/checkpoints/step_000001.safetensors";
    refused(&workshop.run(&["sample", tensors]), &["part of a checkpoint", "folder of its run"]);
    let bigram = ["--bigram", "true", "--dataset", "none"];
    refused(
        &workshop.run(&[&["size", "run.toml"], &bigram[..]].concat()),
        &["GPT-2's vocabulary", "none is not there"],
    );
    let jpeg = ["plot", "out", "--out", "loss.jpg"];
    refused(&workshop.run(&jpeg), &["--out loss.jpg", ".svg"]);
}

#[test]
fn a_damaged_best_is_passed_over() {
    let workshop = Workshop::new();
    succeeded(&workshop.train("out", &["--max_iters", "1"]));
    fs::write(workshop.path("out/best/step_000001.safetensors"), "").unwrap();
    succeeded(&workshop.run(&["sample", "out", "--max-new-tokens", "3"]));
    fs::write(workshop.path("out/checkpoints/step_000001.safetensors"), "").unwrap();
    refused(&workshop.run(&["sample", "out"]), &["none of the checkpoints in out/best is whole"]);
    let nothing = workshop.run(&["train", "run.toml", "--out_dir", "new", "--max_iters", "0"]);
    assert!(!succeeded(&nothing).contains("writes text"));
    refused(&workshop.run(&["sample", "new"]), &["there is no checkpoint in new"]);
}

/// Of as many characters, but others.
#[test]
fn a_run_does_not_go_on_with_another_vocabulary() {
    let workshop = Workshop::new();
    succeeded(&workshop.train("out", &["--max_iters", "2"]));
    let before = workshop.files("out");
    let text = fs::read_to_string(workshop.path("letters.txt")).unwrap().to_uppercase();
    fs::write(workshop.path("capitals.txt"), text).unwrap();
    succeeded(&workshop.run(&["prepare", "capitals.txt", "--vocab", "characters"]));
    let go_on = ["--init_from", "resume", "--dataset", "capitals"];
    refused(&workshop.train("out", &go_on), &["out reads with another vocabulary", "--vocab"]);
    assert!(workshop.files("out") == before);
}

/// The loss of step 2 is that of the weights after step 1, which are finite and of no use.
#[test]
fn a_run_that_diverges_leaves_a_checkpoint_to_go_on_with() {
    let workshop = Workshop::new();
    let train = |args: &[&str]| {
        let flags = ["--warmup_iters", "0", "--eval_interval", "1", "--eval_iters", "1"];
        workshop.train("out", &[&flags[..], args].concat())
    };
    succeeded(&train(&["--max_iters", "2"]));
    let go_on = ["--init_from", "resume"];
    let diverging = train(&[&go_on[..], &["--learning_rate", "1e30", "--grad_clip", "0"]].concat());
    refused(&diverging, &["step 3: the validation loss is", "remove out/checkpoints/step_000003"]);
    fs::remove_file(workshop.path("out/checkpoints/step_000003.safetensors")).unwrap();
    let said = succeeded(&train(&[&go_on[..], &["--max_iters", "3"]].concat()));
    assert!(said.contains("goes on after step 2"), "{said}");
    // Weights that are not finite are not saved at all.
    let infinite = ["--max_iters", "4", "--learning_rate", "1e39", "--grad_clip", "0"];
    refused(&train(&[&go_on[..], &infinite].concat()), &["step 4", "not finite", "step 3"]);
    let said = succeeded(&train(&[&go_on[..], &["--max_iters", "4"]].concat()));
    assert!(said.contains("goes on after step 3"), "{said}");
}

#[test]
fn what_cannot_be_trained_is_refused() {
    let workshop = Workshop::new();
    let refused = |args: &[&str], parts: &[&str]| refused(&workshop.train("out", args), parts);
    refused(&["--dataset", "nowhere"], &["no data set nowhere", "nanogpt prepare"]);
    refused(&["--n_head", "3"], &["n_head = 3"]);
    refused(&["--n_haed", "2"], &["n_head"]);
    refused(&["--seed", "-1"], &["seed = -1: from 0"]);
    refused(&["--batch_size", "9e12"], &["batch_size = 9000000000000: from 1 to"]);
    let huge = ["--n_layer", "16777216", "--n_head", "1", "--n_embd", "16777216"];
    refused(&huge, &["parameters", "more than any machine can compute"]);
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
