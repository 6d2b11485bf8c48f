//! Whatever ends a program, a kill, a full disk, a rank that is gone, what lies on the disk is whole, and the same command
//! goes on from there to the very same end.
#![cfg(target_os = "linux")] // which knows a process's children

mod workshop;

use lab::{Rng, Series};
use nanogpt::{checkpoint::Saved, metrics};
use safetensors::SafeTensors;
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};
use workshop::{Workshop, refused, said, succeeded};

/// How soon the others are to be gone when a rank is.
const SOON: Duration = Duration::from_secs(10);

/// The process ids of the ranks that a launcher has started.
fn children(launcher: &Child) -> Vec<String> {
    let path = format!("/proc/{0}/task/{0}/children", launcher.id());
    let children = fs::read_to_string(path).unwrap_or_default();
    children.split_whitespace().map(str::to_string).collect()
}

/// Sends SIGKILL, unless the process is gone.
fn kill(pid: &str) {
    let _ = Command::new("kill").args(["-KILL", pid]).stderr(Stdio::null()).status();
}

fn wait_for<T>(mut ask: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(start.elapsed() < Duration::from_secs(120), "it does not come");
        thread::sleep(Duration::from_millis(10));
    }
}

/// Starts a program that says nothing but its errors.
fn start(mut command: Command) -> Child {
    command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Waits for a moment somewhere in a run that takes so long as a whole. Whether the program still runs then.
fn wait_somewhere(child: &mut Child, whole: Duration, rng: &mut Rng) -> bool {
    let end = Instant::now() + whole.mul_f64(rng.uniform());
    while child.try_wait().unwrap().is_none() {
        if Instant::now() >= end {
            return true;
        }
        thread::sleep(Duration::from_millis(1));
    }
    false
}

fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let done = work();
    (done, start.elapsed())
}

// ---------------------------------------------------------------------------------------------------------------------
// Kills

/// Kills a training, or one of its ranks, and goes on, until it is done; and so again, if that were too few kills.
fn kill_training(nproc: &str, kills: usize, seed: u64) {
    let workshop = Workshop::new();
    let flags = ["--nproc", nproc, "--save_interval", "1", "--log_interval", "1"];
    let whole = [&flags[..], &["--keep", "1000"]].concat();
    let (whole, takes) = timed(|| workshop.train("whole", &whole));
    succeeded(&whole);
    let resume = ["train", "run.toml", "--out_dir", "killed", "--init_from", "auto"];
    let resume = [&resume[..], &flags].concat();
    let (mut rng, mut killed, mut runs) = (Rng::new(seed), 0, 0);
    while killed < kills {
        let mut child = start(workshop.command(&resume));
        let is_hit = wait_somewhere(&mut child, takes, &mut rng);
        if is_hit {
            kill_one(&child, &mut rng);
            killed += 1;
        }
        let (output, ends) = timed(|| child.wait_with_output().unwrap());
        assert!(output.status.success() || is_hit && ends < SOON, "{ends:?} {output:?}");
        expect_whole(&workshop);
        if output.status.success() && killed < kills {
            runs += 1;
            expect_same_end(&workshop);
            fs::remove_dir_all(workshop.path("killed")).unwrap();
        }
    }
    succeeded(&workshop.run(&resume));
    expect_same_end(&workshop);
    println!("{killed} kills, {nproc} ranks: {} runs, all of them with the same end", runs + 1);
}

/// The program itself or, as often, one of the ranks that it has started.
fn kill_one(child: &Child, rng: &mut Rng) {
    let mut processes = children(child);
    processes.push(child.id().to_string());
    kill(&processes[rng.pick(&vec![1.0; processes.len()])]);
}

/// Whatever has a checkpoint's name has the content that the undisturbed run has written there.
fn expect_whole(workshop: &Workshop) {
    let names = |name: &str| name.starts_with("step_");
    for (name, content) in workshop.files("killed/checkpoints") {
        let whole = || fs::read(workshop.path("whole/checkpoints").join(&name)).unwrap();
        assert!(!names(&name) || content == whole(), "{name} is not as it should be");
    }
    let best = Series::new(workshop.path("killed/best"), 1);
    for step in best.steps().unwrap() {
        best.read::<Saved>(step).unwrap();
        let name = format!("checkpoints/step_{step:06}.safetensors");
        let (best, whole) =
            (fs::read(best.tensors(step)), fs::read(workshop.path("whole").join(name)));
        expect_weights_of(&best.unwrap(), &whole.unwrap());
    }
}

/// A best checkpoint has the weights of the run's own after that step, without what else that has.
fn expect_weights_of(best: &[u8], whole: &[u8]) {
    let [best, whole] = [best, whole].map(|bytes| SafeTensors::deserialize(bytes).unwrap());
    for (name, tensor) in best.tensors() {
        assert!(tensor.data() == whole.tensor(&name).unwrap().data(), "{name}");
    }
}

fn expect_same_end(workshop: &Workshop) {
    assert!(workshop.end("killed") == workshop.end("whole"));
    assert!(workshop.files("killed/best") == workshop.files("whole/best"));
    assert_eq!(workshop.losses("killed"), workshop.losses("whole"));
}

/// What a sampling has written when it is killed is the beginning of what it would have written.
fn kill_sampling(kills: usize, seed: u64) {
    let workshop = Workshop::new();
    succeeded(&workshop.train("out", &[]));
    let args = ["sample", "out", "--num-samples", "3", "--max-new-tokens", "1000", "--start", "ab"];
    let (whole, takes) = timed(|| workshop.run(&args));
    let whole = succeeded(&whole);
    let before = ["out", "out/best", "out/checkpoints"].map(|folder| workshop.files(folder));
    let (mut rng, mut killed) = (Rng::new(seed), 0);
    while killed < kills {
        let mut command = workshop.command(&args);
        let file = fs::File::create(workshop.path("text")).unwrap();
        let mut child = command.stdout(file).stderr(Stdio::null()).spawn().unwrap();
        if wait_somewhere(&mut child, takes, &mut rng) {
            child.kill().unwrap();
            killed += 1;
        }
        child.wait().unwrap();
        let text = fs::read_to_string(workshop.path("text")).unwrap();
        assert!(whole.starts_with(&text), "{text:?}");
    }
    assert_eq!(succeeded(&workshop.run(&args)), whole);
    let after = ["out", "out/best", "out/checkpoints"].map(|folder| workshop.files(folder));
    assert!(after == before);
    println!("{killed} kills while sampling");
}

/// Each shard that is there after a kill is as it is in the end.
fn kill_preparing(kills: usize, seed: u64) {
    let workshop = Workshop::new();
    fs::write(workshop.path("book.txt"), lab::fables::text(1, 6_000_000).text).unwrap();
    let args = ["prepare", "book.txt", "--vocab-size", "500", "--shard-tokens", "20000", "--out"];
    let (whole, takes) = timed(|| workshop.run(&[&args[..], &["whole"]].concat()));
    succeeded(&whole);
    let whole = workshop.files("whole");
    let (mut rng, mut killed, mut runs) = (Rng::new(seed), 0, 0);
    while killed < kills || runs == 0 {
        let mut child = start(workshop.command(&[&args[..], &["killed"]].concat()));
        if killed < kills && wait_somewhere(&mut child, takes, &mut rng) {
            child.kill().unwrap();
            killed += 1;
        }
        let has_ended = child.wait_with_output().unwrap().status.success();
        let files = workshop.files("killed");
        for file in
            files.iter().filter(|(name, _)| name.ends_with(".npy") && !name.starts_with('.'))
        {
            assert!(whole.contains(file), "{} is not as it should be", file.0);
        }
        if has_ended {
            runs += 1;
            assert!(files == whole);
            fs::remove_dir_all(workshop.path("killed")).unwrap();
        }
    }
    println!(
        "{killed} kills while preparing: {runs} data sets were finished, all of them the same"
    );
}

#[test]
fn a_training_that_is_killed_ends_as_if_it_had_not_been() {
    kill_training("1", 2, 1);
    kill_training("2", 2, 2);
}

#[test]
fn a_sampling_that_is_killed_has_written_the_beginning_of_its_text() {
    kill_sampling(2, 3);
}

// Two hundred kills: `cargo test -p nanogpt --test reliability -- --ignored --nocapture --test-threads 1 soak`

#[test]
#[ignore = "takes minutes"]
fn soak_of_a_training() {
    kill_training("1", 70, 4);
}

#[test]
#[ignore = "takes minutes"]
fn soak_of_a_training_on_two_ranks() {
    kill_training("2", 70, 5);
}

#[test]
#[ignore = "takes minutes"]
fn soak_of_a_sampling() {
    kill_sampling(30, 6);
}

#[test]
#[ignore = "takes minutes"]
fn soak_of_a_preparation() {
    kill_preparing(30, 7);
}

// ---------------------------------------------------------------------------------------------------------------------
// Full disks

/// Runs `nanogpt` where no file may become longer than so many kB: writing fails then, as on a full disk.
fn limited(workshop: &Workshop, kb: usize, args: &[&str]) -> Output {
    let limit = format!("trap '' XFSZ; ulimit -f {kb}; exec \"$@\"");
    let mut command = Command::new("bash");
    command.args(["-c", &limit, "bash", env!("CARGO_BIN_EXE_nanogpt")]).args(args);
    command.current_dir(workshop.path("")).output().unwrap()
}

#[test]
fn a_run_whose_checkpoint_finds_no_room_keeps_the_last_one() {
    let workshop = Workshop::new();
    succeeded(&workshop.train("whole", &[]));
    succeeded(&workshop.train("full", &["--max_iters", "11"]));
    let before = ["full/checkpoints", "full/best"].map(|folder| workshop.files(folder));
    let resume = ["train", "run.toml", "--out_dir", "full", "--init_from", "resume"];
    let output = limited(&workshop, 16, &resume);
    refused(&output, &["step 16 could not be saved", "the checkpoint after step 11 is whole"]);
    refused(&output, &["--init_from resume", "cannot write", "step_000016", "File too large"]);
    assert_eq!((output.status.code(), said(&output).lines().count()), (Some(1), 1));
    // Nothing half-written, and nothing that takes room.
    let after = ["full/checkpoints", "full/best"].map(|folder| workshop.files(folder));
    assert!(after == before);
    succeeded(&workshop.run(&resume));
    assert!(workshop.end("full") == workshop.end("whole"));
}

#[test]
fn a_run_goes_on_without_a_checkpoint_if_it_is_told_to_but_not_without_its_last() {
    let workshop = Workshop::new();
    let go_on = ["--on_write_error", "go_on"];
    let run = [&["train", "run.toml", "--out_dir", "full"], &go_on[..]].concat();
    let output = limited(&workshop, 16, &run);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = said(&output);
    let went_on: Vec<&str> =
        said.lines().filter(|line| line.ends_with("; the run goes on")).collect();
    assert!(went_on.len() >= 2 && went_on[0].starts_with("step 8 could not be saved"), "{said}");
    let last = said.lines().last().unwrap();
    assert!(
        last.starts_with("error: step 20 could not be saved; there is no checkpoint"),
        "{said}"
    );
    assert_eq!(workshop.losses("full").last().unwrap().0, 20);

    // Nor does what it prints stop it.
    succeeded(&workshop.train("whole", &[]));
    let mut command = workshop.command(&["train", "run.toml", "--out_dir", "printed"]);
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    succeeded(&command.args(go_on).stdout(full).output().unwrap());
    assert!(workshop.end("printed") == workshop.end("whole"));
}

/// A line, or an event, that finds no room leaves no half of itself, so that those after it can be read.
#[test]
fn metrics_that_find_no_room_are_whole_as_far_as_they_go() {
    let workshop = Workshop::new();
    let long = ["--max_iters", "100", "--eval_interval", "1000", "--log_interval", "1"];
    for (out, more) in [
        ("stopped", ["--tensorboard", "false"]),
        ("went_on", ["--on_write_error", "go_on"]), // events too
    ] {
        let run = ["train", "run.toml", "--out_dir", out];
        let output = limited(&workshop, 4, &[&run[..], &long, &more].concat());
        refused(&output, &["cannot write", "metrics.csv: File too large"]);
        let rows = metrics::read(&workshop.path(out).join("metrics.csv")).unwrap();
        assert!((10..90).contains(&rows.len()), "{} rows", rows.len());
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(printed.contains("step    100"), out == "went_on", "{printed}");
        let csv = fs::read_to_string(workshop.path(out).join("metrics.csv")).unwrap();
        assert!(csv.ends_with('\n') && csv.len() <= 4096);
        for (name, events) in workshop.files(out) {
            assert!(!name.starts_with("events.out") || are_whole(&events), "{name}");
        }
    }
}

/// Whether TensorBoard's records end where the file does.
fn are_whole(mut events: &[u8]) -> bool {
    while let Some(length) = events.first_chunk::<8>() {
        let Some((_, rest)) = events.split_at_checked(u64::from_le_bytes(*length) as usize + 16)
        else {
            return false;
        };
        events = rest;
    }
    events.is_empty()
}

#[test]
fn an_export_that_finds_no_room_leaves_nothing_and_can_be_tried_again() {
    let workshop = Workshop::new();
    succeeded(&workshop.train("out", &["--max_iters", "2"]));
    for kb in [16, 1] {
        let output = limited(&workshop, kb, &["export", "out", "--out", "exported"]);
        refused(&output, &["cannot write exported/", "File too large"]);
        assert_eq!(workshop.files("exported"), []);
    }
    succeeded(&workshop.run(&["export", "out", "--out", "exported"]));
    succeeded(&workshop.run(&["sample", "exported", "--max-new-tokens", "2", "--start", "a"]));
}

#[test]
fn a_reader_that_has_left_is_told_nothing_and_a_full_disk_is() {
    let workshop = Workshop::new();
    succeeded(&workshop.train("out", &["--max_iters", "2"]));
    let commands: [&[&str]; 4] =
        [&["sample", "out"], &["eval", "out"], &["size"], &["completions", "bash"]];
    for args in commands {
        let (reader, left) = std::io::pipe().unwrap();
        drop(reader);
        assert_eq!(said(&workshop.command(args).stdout(left).output().unwrap()), "", "{args:?}");
        let full = fs::File::options().write(true).open("/dev/full").unwrap();
        let output = workshop.command(args).stdout(full).output().unwrap();
        let sentence = "error: failed printing to stdout: No space left on device (os error 28)\n";
        assert_eq!((output.status.code(), said(&output).as_str()), (Some(1), sentence));
    }
}

/// A disk in memory, of so many kB. It goes away again.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// `None`, and a word about it, where one may not mount anything.
    fn new(kb: usize) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let size = format!("size={kb}k");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &size, "nanogpt-test"]).arg(folder.path());
        let mounted = mount.stderr(Stdio::null()).status();
        if !mounted.is_ok_and(|status| status.success()) {
            println!("not tried: only root may mount a small disk");
            return None;
        }
        Some(Self(folder))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Leaves so many kB free.
    fn fill(&self, free_kb: usize) {
        let mut kb = 0;
        while kb < 100_000 && fs::write(self.path("filler"), vec![1; kb << 10]).is_ok() {
            kb += 4;
        }
        fs::write(self.path("filler"), vec![1; kb.saturating_sub(4 + free_kb) << 10]).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

#[test]
fn a_full_disk_ends_a_run_or_not_and_keeps_its_checkpoint() {
    let Some(disk) = SmallDisk::new(2000) else { return };
    let workshop = Workshop::new();
    succeeded(&workshop.train("whole", &[]));
    let out = disk.path("out").display().to_string();
    succeeded(&workshop.train(&out, &["--max_iters", "11"]));
    disk.fill(24);
    let output = workshop.train(&out, &["--init_from", "resume"]);
    refused(&output, &["the checkpoint after step 11 is whole", "No space left on device"]);
    assert_eq!((output.status.code(), said(&output).lines().count()), (Some(1), 1), "{output:?}");
    let whole = Series::new(disk.path("out/checkpoints"), 1);
    assert_eq!(whole.newest::<Saved>().unwrap().unwrap().step, 11);

    // The same run, told to go on, writes again as soon as there is room.
    let args = ["train", "run.toml", "--out_dir", &out, "--init_from", "resume"];
    let go_on = ["--on_write_error", "go_on", "--max_iters", "1000000", "--save_interval", "1"];
    let mut command = workshop.command(&[&args[..], &go_on].concat());
    let errors = fs::File::create(workshop.path("errors")).unwrap();
    let mut child = command.stdout(Stdio::null()).stderr(errors).spawn().unwrap();
    let said = || fs::read_to_string(workshop.path("errors")).unwrap();
    wait_for(|| (said().matches("; the run goes on").count() > 5).then_some(()));
    assert_eq!(whole.steps().unwrap()[0], 11);
    fs::remove_file(disk.path("filler")).unwrap();
    wait_for(|| whole.steps().unwrap().first().filter(|step| **step > 11).copied());
    assert!(Command::new("kill").arg(child.id().to_string()).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(1));
    assert!(said().contains("No space left on device") && said().contains("stopped after step"));
    metrics::read(&disk.path("out/metrics.csv")).unwrap();

    // And the one that ended goes on to the same end, from its checkpoint.
    fs::remove_dir_all(disk.path("out")).unwrap();
    succeeded(&workshop.train(&out, &["--max_iters", "11"]));
    succeeded(&workshop.train(&out, &["--init_from", "resume"]));
    assert!(workshop.end(&out) == workshop.end("whole"));
}

#[test]
fn a_full_disk_ends_a_preparation_or_an_export_which_can_be_given_again() {
    let Some(disk) = SmallDisk::new(600) else { return };
    let workshop = Workshop::new();
    succeeded(&workshop.train("run", &["--max_iters", "2"]));
    fs::write(workshop.path("book.txt"), lab::fables::text(1, 400_000).text).unwrap();
    let prepare = |out: &Path| {
        let args = ["prepare", "book.txt", "--vocab", "gpt2", "--shard-tokens", "9000", "--out"];
        workshop.run(&[&args[..], &[out.to_str().unwrap()]].concat())
    };
    let export = |out: &Path| workshop.run(&["export", "run", "--out", out.to_str().unwrap()]);
    succeeded(&prepare(&workshop.path("book")));
    succeeded(&export(&workshop.path("exported")));

    let (book, exported) = (disk.path("book"), disk.path("exported"));
    disk.fill(100);
    refused(&prepare(&book), &["No space left on device", "the same command goes on from there"]);
    for free in [8, 32, 36, 40, 44] {
        disk.fill(free); // for some of the files
        let output = export(&exported);
        if !output.status.success() {
            refused(&output, &["cannot write", "No space left on device"]);
            assert_eq!(workshop.files(exported.to_str().unwrap()), []);
        }
    }
    fs::remove_file(disk.path("filler")).unwrap();
    let _ = fs::remove_dir_all(&exported);
    assert!(succeeded(&prepare(&book)).contains("going on where it was stopped"));
    succeeded(&export(&exported));
    for (name, out) in [("book", &book), ("exported", &exported)] {
        assert!(workshop.files(name) == workshop.files(out.to_str().unwrap()), "{name}");
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// Ranks

/// A training without an end, so many ranks of which each is started by hand, once they train.
fn by_hand(workshop: &Workshop, out: &str, ranks: usize) -> Vec<Child> {
    let port = free_port();
    let rank = |rank: usize| {
        let mut command = workshop.command(&["train", "run.toml", "--out_dir", out]);
        command.args(["--max_iters", "1000000", "--eval_interval", "1000000"]);
        command.args(["--gradient_accumulation_steps", &ranks.to_string()]);
        let numbers = [("RANK", rank), ("WORLD_SIZE", ranks), ("LOCAL_WORLD_SIZE", ranks)];
        command.envs(numbers.map(|(name, number)| (name, number.to_string())));
        command.env("MASTER_ADDR", "127.0.0.1").env("MASTER_PORT", &port);
        start(command)
    };
    let started = (0..ranks).map(rank).collect();
    wait_until_it_trains(workshop, out, 3);
    started
}

/// Until the metrics of a run have so many lines.
fn wait_until_it_trains(workshop: &Workshop, out: &str, lines: usize) {
    let csv = workshop.path(out).join("metrics.csv");
    wait_for(|| fs::read_to_string(&csv).ok().filter(|csv| csv.lines().count() >= lines));
}

/// A port that nobody has at the moment.
fn free_port() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port().to_string()
}

#[test]
fn ranks_end_soon_and_say_why_when_one_of_them_is_killed() {
    let workshop = Workshop::new();
    for (ranks, killed) in [(2, 1), (3, 0), (3, 2)] {
        let mut started = by_hand(&workshop, &format!("out{ranks}{killed}"), ranks);
        let since = Instant::now();
        started.remove(killed).kill().unwrap();
        for child in started {
            let output = child.wait_with_output().unwrap();
            assert!(said(&output).starts_with("error: another rank is gone"), "{output:?}");
            assert_eq!((output.status.code(), said(&output).lines().count()), (Some(2), 1));
        }
        println!(
            "rank {killed} of {ranks} killed: the others are gone after {:.1?}",
            since.elapsed()
        );
        assert!(since.elapsed() < SOON);
    }
}

#[test]
fn a_launcher_ends_soon_and_says_why_when_a_rank_is_killed() {
    let workshop = Workshop::new();
    let endless = ["--max_iters", "1000000", "--eval_interval", "1000000", "--nproc", "2"];
    for killed in [0, 1] {
        let out = format!("out{killed}");
        let launcher = start(
            workshop.command(&[&["train", "run.toml", "--out_dir", &out], &endless[..]].concat()),
        );
        wait_until_it_trains(&workshop, &out, 3);
        let ranks = children(&launcher);
        let since = Instant::now();
        kill(&ranks[killed]);
        let output = launcher.wait_with_output().unwrap();
        assert!(since.elapsed() < SOON);
        let sentence =
            format!("rank {killed} was ended by signal 9, and the other ranks have been");
        refused(&output, &[&sentence]);
        assert!(!Path::new("/proc").join(&ranks[1 - killed]).exists());
    }
}

/// A training as torchrun starts it, the first time or again.
fn as_of_torchrun(workshop: &Workshop, launch: &str, restarts: &str, args: &[&str]) -> Output {
    let mut command = workshop.command(&[&["train", "run.toml"], args].concat());
    let alone = [("RANK", "0"), ("WORLD_SIZE", "1"), ("MASTER_ADDR", "127.0.0.1")];
    command.envs(alone).env("MASTER_PORT", free_port());
    command.env("TORCHELASTIC_RUN_ID", launch).env("TORCHELASTIC_RESTART_COUNT", restarts);
    command.output().unwrap()
}

#[test]
fn a_run_that_torchrun_starts_again_goes_on_and_no_other_run_does() {
    let workshop = Workshop::new();
    succeeded(&workshop.train("whole", &[]));
    let train = |launch, restarts, args: &[&str]| as_of_torchrun(&workshop, launch, restarts, args);
    succeeded(&train("a", "0", &["--max_iters", "11"]));
    // The first is refused, and so must be the second try.
    for restarts in ["0", "1"] {
        refused(
            &train("b", restarts, &[]),
            &["the checkpoints of another run", "--init_from resume"],
        );
    }
    assert!(succeeded(&train("a", "1", &[])).contains("goes on after step 11"));
    assert!(workshop.end("out") == workshop.end("whole"));
}

/// `TORCHRUN=/tmp/hf/bin/torchrun cargo test -p nanogpt --test reliability -- --ignored torchrun`
#[test]
#[ignore = "needs torchrun"]
fn a_rank_that_is_killed_under_torchrun_costs_nothing_but_time() {
    let workshop = Workshop::new();
    let flags = ["--max_iters", "400", "--save_interval", "1", "--log_interval", "1"];
    succeeded(&workshop.train("whole", &[&flags[..], &["--nproc", "2"]].concat()));
    let torchrun = std::env::var("TORCHRUN").expect("TORCHRUN=/path/to/torchrun");
    let mut command = Command::new(torchrun);
    command.args(["--no-python", "--standalone", "--nproc_per_node", "2", "--max-restarts", "3"]);
    command.arg(env!("CARGO_BIN_EXE_nanogpt")).args(["train", "run.toml"]).args(flags);
    command.current_dir(workshop.path("")).stdout(Stdio::piped()).stderr(Stdio::piped());
    let torchrun = command.spawn().unwrap();
    let mut lines = 0;
    for killed in [1, 0, 1] {
        wait_until_it_trains(&workshop, "out", lines + 30);
        lines += 30;
        kill(&children(&torchrun)[killed]);
        let csv = workshop.path("out/metrics.csv");
        let length = || fs::read_to_string(&csv).map_or(0, |csv| csv.lines().count());
        lines = lines.max(length());
    }
    let output = torchrun.wait_with_output().unwrap();
    let printed = succeeded(&output);
    assert_eq!(printed.matches("goes on after step").count(), 3, "{printed}");
    let end = "checkpoints/step_000400.safetensors";
    let [whole, end] = ["whole", "out"].map(|out| fs::read(workshop.path(out).join(end)).unwrap());
    assert!(end == whole);
    assert_eq!(workshop.losses("out"), workshop.losses("whole"));
}
