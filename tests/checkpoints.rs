//! A training that is stopped at any moment and goes on is the one that was never stopped, and a checkpoint that
//! cannot be gone on with says why.

use lab::{Rng, ShardWriter, Tokenizer, fables};
use std::{
    fs::{self, OpenOptions},
    io::{Seek, SeekFrom, Write},
    path::Path,
    process::{Command, Output, Stdio},
    thread,
    time::Duration,
};
use tempfile::TempDir;

const STEP14: &str = env!("CARGO_BIN_EXE_step14_checkpoint");

/// A short training, with a checkpoint after every second step, where a test says nothing else.
const SHORT: [(&str, &str); 10] = [
    ("--steps", "20"),
    ("--save-interval", "2"),
    ("--total-batch-size", "256"),
    ("--batch-size", "1"),
    ("--num-questions", "2"),
    ("--max-new-tokens", "2"),
    ("--device", "cpu"),
    ("--out", "out"),
    ("--nproc", "1"),
    ("--data", "data"),
];

fn step14(folder: &Path, args: &[&str]) -> Command {
    let missing = SHORT.into_iter().filter(|(flag, _)| !args.contains(flag));
    let mut command = Command::new(STEP14);
    command.current_dir(folder).args(args).args(missing.flat_map(|(flag, value)| [flag, value]));
    command.arg("--no-plot").env("OMP_NUM_THREADS", "1").env_remove("RUST_BACKTRACE");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn run(folder: &Path, args: &[&str]) -> Output {
    step14(folder, args).output().unwrap()
}

#[track_caller]
fn done(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[track_caller]
fn refused(output: &Output, words: &[&str]) {
    let said = String::from_utf8_lossy(&output.stderr);
    let last = said.trim_end().lines().last().unwrap_or_default();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(last.starts_with("error: ") && !said.contains("panicked"), "{said}");
    for word in words {
        assert!(last.contains(word), "it does not say {word:?}: {said}");
    }
}

/// A data set of fables with little to validate on, for each run does so twice.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let tokenizer = Tokenizer::load("fables").unwrap();
    let mut shards =
        ShardWriter::new("few", &folder.path().join("data"), 10_000, &tokenizer).unwrap();
    for (split, seed, characters) in [("val", 1, 5_000), ("train", 2, 100_000)] {
        shards.begin_split(split).unwrap();
        for story in fables::stories(&fables::text(seed, characters).text) {
            let tokens = tokenizer.encode_document(story);
            shards.push(&tokens, story.len() as u64).unwrap();
        }
    }
    shards.finish().unwrap();
    folder
}

fn checkpoint(folder: &Path, step: usize) -> std::path::PathBuf {
    folder.join(format!("out/checkpoints/step_{step:06}.safetensors"))
}

/// The tensors after the last step, and what the log says of losses, but for times.
fn outcome(folder: &Path) -> (Vec<u8>, Vec<String>) {
    let csv = fs::read_to_string(folder.join("out/metrics.csv")).unwrap();
    let names: Vec<&str> = csv.lines().next().unwrap().split(',').collect();
    let is_time = |i: usize| ["ms", "tok/s"].contains(&names[i]);
    let without_times = |line: &str| {
        let values =
            line.split(',').enumerate().filter(|(i, _)| !is_time(*i)).map(|(_, value)| value);
        values.collect::<Vec<_>>().join(",")
    };
    let lines = csv.lines().map(without_times).collect();
    (fs::read(checkpoint(folder, 20)).unwrap(), lines)
}

/// Kills runs with SIGKILL at `times` moments, and holds what they come to against an undisturbed one.
#[cfg(target_os = "linux")]
fn killed_and_gone_on(nproc: &str, times: u64) {
    let undisturbed = folder();
    let begin = std::time::Instant::now();
    done(&run(undisturbed.path(), &["--nproc", nproc]));
    let whole = begin.elapsed();
    let expected = outcome(undisturbed.path());
    let mut moments = Rng::new(times);
    for kill in 0..times {
        let killed = folder();
        let mut wanted = 1;
        let (mut resume, mut kills): (&[&str], usize) = (&[], 0);
        loop {
            let args = [&["--nproc", nproc], resume].concat();
            let mut child = step14(killed.path(), &args).spawn().unwrap();
            if kills < wanted {
                // Anywhere in the run, its start and its end too.
                thread::sleep(whole.mul_f64(moments.uniform()));
                child.kill().unwrap();
                kills += 1;
            } else {
                wanted = 0;
            }
            child.wait().unwrap();
            wait_until_all_are_gone(killed.path());
            let checkpoints = fs::read_dir(killed.path().join("out/checkpoints"));
            let is_whole =
                |entry: fs::DirEntry| entry.path().extension().is_some_and(|end| end == "json");
            let any = checkpoints.into_iter().flatten().flatten().any(is_whole);
            resume = if any { &["--resume"] } else { &[] };
            if wanted == 0 {
                break;
            }
        }
        assert!(
            outcome(killed.path()) == expected,
            "kill {kill} of {nproc} ranks changed something"
        );
    }
}

/// A launcher that is killed takes its ranks along, but not before it is gone itself.
#[cfg(target_os = "linux")]
fn wait_until_all_are_gone(folder: &Path) {
    let is_here = |entry: &fs::DirEntry| {
        fs::read_link(entry.path().join("cwd")).is_ok_and(|cwd| cwd == folder)
    };
    for _ in 0..500 {
        let processes = fs::read_dir("/proc").unwrap().flatten();
        if !processes.into_iter().any(|process| is_here(&process)) {
            return;
        }
        thread::sleep(Duration::from_millis(20));
    }
    panic!("ranks outlive their launcher");
}

#[test]
#[cfg(target_os = "linux")]
fn killed_is_never_stopped() {
    killed_and_gone_on("1", 2);
    killed_and_gone_on("2", 2);
}

/// `cargo test --workspace --test checkpoints -- --ignored`: the same at twenty moments.
#[test]
#[ignore = "takes minutes"]
#[cfg(target_os = "linux")]
fn one_rank_killed_twenty_times_is_never_stopped() {
    killed_and_gone_on("1", 20);
}

#[test]
#[ignore = "takes minutes"]
#[cfg(target_os = "linux")]
fn two_ranks_killed_twenty_times_are_never_stopped() {
    killed_and_gone_on("2", 20);
}

#[test]
#[cfg(target_os = "linux")]
fn ctrl_c_and_kill_save_and_say_how_to_go_on() {
    let undisturbed = folder();
    done(&run(undisturbed.path(), &["--nproc", "2"]));
    for signal in ["-INT", "-TERM"] {
        let folder = folder();
        let child = step14(folder.path(), &["--nproc", "2"]).spawn().unwrap();
        let first = checkpoint(folder.path(), 2).with_extension("json");
        (0..3_000)
            .take_while(|_| !first.exists())
            .for_each(|_| thread::sleep(Duration::from_millis(10)));
        let kill = format!("kill {signal} {}", child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
        let output = child.wait_with_output().unwrap();
        refused(&output, &["stopped after step", "the same command with --resume goes on"]);
        done(&run(folder.path(), &["--nproc", "2", "--resume"]));
        assert!(outcome(folder.path()) == outcome(undisturbed.path()));
    }
}

#[test]
fn a_checkpoint_that_is_not_whole_is_passed_over() {
    let folder = folder();
    done(&run(folder.path(), &[]));
    let expected = outcome(folder.path());
    let newest = checkpoint(folder.path(), 20);
    let length = fs::metadata(&newest).unwrap().len();
    let flip = |at: u64| {
        let mut file = OpenOptions::new().write(true).open(&newest).unwrap();
        file.seek(SeekFrom::Start(at)).unwrap();
        file.write_all(b"x").unwrap();
    };
    let cut = || OpenOptions::new().write(true).open(&newest).unwrap().set_len(length / 2).unwrap();
    let faults: [&dyn Fn(); 4] =
        [&|| flip(length / 2), &cut, &|| fs::remove_file(&newest).unwrap(), &|| {
            fs::write(newest.with_extension("json"), "{").unwrap()
        }];
    for fault in faults {
        fault();
        let output = run(folder.path(), &["--resume"]);
        assert!(done(&output).contains("goes on after step 18"), "{output:?}");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("passed over: ") && said.contains("step_000020"), "{said}");
        let now = outcome(folder.path());
        assert_eq!(now.1, expected.1);
        assert!(now.0 == expected.0);
    }
    for step in [18, 20] {
        fs::write(checkpoint(folder.path(), step), "no tensors").unwrap();
    }
    refused(&run(folder.path(), &["--resume"]), &["none of the checkpoints", "without --resume"]);
}

#[test]
fn what_cannot_be_gone_on_with_is_refused() {
    let folder = folder();
    refused(&run(folder.path(), &["--resume"]), &["there is no checkpoint in out/checkpoints"]);
    done(&run(folder.path(), &["--steps", "4"]));
    let cases: [(&[&str], &[&str]); 3] = [
        (&["--steps", "6"], &["max_steps: 6 instead of max_steps: 4"]),
        (&["--steps", "4", "--batch-size", "2"], &["batch_size: 2 instead of batch_size: 1"]),
        (&["--steps", "4", "--seed", "1"], &["seed: 1 instead of seed: 1337"]),
    ];
    for (args, words) in cases {
        refused(&run(folder.path(), &[args, &["--resume"]].concat()), words);
    }
    let json = checkpoint(folder.path(), 4).with_extension("json");
    let text = fs::read_to_string(&json).unwrap();
    fs::write(&json, text.replace("step14_checkpoint", "step99_other")).unwrap();
    refused(
        &run(folder.path(), &["--steps", "4", "--resume"]),
        &["step99_other", "this is step14_checkpoint"],
    );
}

#[test]
fn the_newest_are_kept_and_a_new_run_sets_the_old_ones_aside() {
    let folder = folder();
    let names = |folder: &str| {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    let steps = |steps: &[&str]| -> Vec<String> {
        let ends = ["json", "safetensors"];
        steps.iter().flat_map(|step| ends.map(|end| format!("step_{step}.{end}"))).collect()
    };
    let out = folder.path().join("out");
    let (now, before) = (out.join("checkpoints"), out.join("checkpoints.before"));
    done(&run(folder.path(), &["--steps", "6", "--keep", "3"]));
    assert_eq!(names(now.to_str().unwrap()), steps(&["000002", "000004", "000006"]));
    let printed = done(&run(folder.path(), &["--steps", "4", "--keep", "1"]));
    assert!(printed.contains("the checkpoints of the run before are in"), "{printed}");
    assert_eq!(names(now.to_str().unwrap()), steps(&["000004"]));
    assert_eq!(names(before.to_str().unwrap()), steps(&["000002", "000004", "000006"]));
}

/// A disk of 40 MB, which three checkpoints of 11 MB and the data set fill, needs rights that not everybody has.
#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_keeps_the_last_good_checkpoint() {
    let disk = tempfile::tempdir().unwrap();
    let mount = |size: &str| {
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", size, "tmpfs"]).arg(disk.path());
        mount.stderr(Stdio::null()).status().is_ok_and(|status| status.success())
    };
    if !mount("size=20m") {
        println!("not tried: this user may not mount a small disk");
        return;
    }
    struct Unmount<'a>(&'a Path);
    impl Drop for Unmount<'_> {
        fn drop(&mut self) {
            let _ = Command::new("umount").arg("-l").arg(self.0).status();
        }
    }
    let _unmount = Unmount(disk.path());
    let folder = folder();
    let out = disk.path().join("out");
    let args = ["--out", out.to_str().unwrap()];
    // The first fits, the second does not.
    refused(
        &run(folder.path(), &args),
        &["the checkpoint after step 2 is whole", "--resume goes on there", "No space left"],
    );
    let names = fs::read_dir(out.join("checkpoints")).unwrap().count();
    assert_eq!(names, 2, "no part of the second is left");
    drop(_unmount);
}
