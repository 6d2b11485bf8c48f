//! Several processes that train one model: however they are started, they are one; and whatever goes wrong with
//! one of them ends all, with a sentence.

use serde_json::Value;
#[cfg(target_os = "linux")]
use std::os::unix::process::CommandExt;
use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::LazyLock,
    thread,
    time::{Duration, Instant},
};
use tempfile::TempDir;

const STEP11: &str = env!("CARGO_BIN_EXE_step11_ddp");

/// A training of three steps, each of 3 + 1 sequences a rank if there are two, where a test says nothing else.
const SHORT: [(&str, &str); 6] = [
    ("--steps", "3"),
    ("--total-batch-size", "1024"),
    ("--batch-size", "3"),
    ("--max-new-tokens", "2"),
    ("--device", "cpu"),
    ("--out", "out"),
];

/// `args`, and those of [`SHORT`] that are not among them.
fn with_short(args: &[&str]) -> Vec<String> {
    let missing = SHORT.into_iter().filter(|(flag, _)| !args.contains(flag));
    let short = missing.flat_map(|(flag, value)| [flag, value]);
    args.iter().copied().chain(short).chain(["--no-plot"]).map(str::to_string).collect()
}

fn step11(folder: &Path, args: &[&str]) -> Command {
    step(STEP11, folder, args)
}

fn step(program: &str, folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.current_dir(folder).args(with_short(args));
    let inherited =
        ["RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT", "RUST_BACKTRACE"];
    for variable in inherited {
        command.env_remove(variable);
    }
    command.env("OMP_NUM_THREADS", "1");
    command
}

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// A port that nobody has at the moment.
fn free_port() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port().to_string()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).trim_end().to_string()
}

#[track_caller]
fn succeeded(output: Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The values in a run's record, by name.
fn value(folder: &Path, name: &str) -> f64 {
    let record: Value =
        serde_json::from_slice(&fs::read(folder.join("out/record.json")).unwrap()).unwrap();
    let values = record["values"].as_array().unwrap();
    let found = values.iter().find(|value| value["name"] == name);
    let found = found.unwrap_or_else(|| panic!("no value {name} in {record}"));
    found["value"].as_f64().unwrap_or_else(|| panic!("{name} is {}", found["value"]))
}

/// That a run has ended as that of one process does. Both sum in float32, in another order; three steps make
/// little of it.
#[track_caller]
fn ended_as(folder: &Path, one: &Path) {
    let name = "val_nats_per_char";
    let (val, expected) = (value(folder, name), value(one, name));
    assert!((val - expected).abs() < 2e-4, "{val} {expected}");
}

/// The folder of the run that all others are held against, made once. (A static is never dropped, so it is no
/// temporary one.)
fn one_process() -> &'static Path {
    static ONE: LazyLock<PathBuf> = LazyLock::new(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("one_process");
        fs::create_dir_all(&folder).unwrap();
        succeeded(step11(&folder, &["--nproc", "1"]).output().unwrap());
        folder
    });
    &ONE
}

/// Processes that are started by hand, as a cluster's scheduler does.
fn by_hand(folder: &Path, ranks: &[usize], world_size: usize, args: &[&str]) -> Vec<Output> {
    let port = free_port();
    let start = |rank: &usize| {
        let mut command = step11(folder, args);
        command.env("RANK", rank.to_string()).env("WORLD_SIZE", world_size.to_string());
        command.env("MASTER_ADDR", "127.0.0.1").env("MASTER_PORT", &port);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let started: Vec<Child> = ranks.iter().map(start).collect();
    started.into_iter().map(|child| child.wait_with_output().unwrap()).collect()
}

#[test]
fn two_ranks_are_one_process_and_only_the_first_speaks() {
    let (one, two) = (one_process(), folder());
    let output = step11(two.path(), &["--nproc", "2"]).output().unwrap();
    assert_eq!(said(&output), "");
    let printed = succeeded(output);
    assert_eq!(printed.matches("ranks: 2\n").count(), 1, "{printed}");
    assert_eq!(printed.matches("step     3 | val").count(), 1, "{printed}");
    assert!(!printed.contains(" NO"), "{printed}");
    let row = printed.lines().find(|line| line.starts_with("weights that differ from rank 0's"));
    assert!(row.unwrap().ends_with(" 0         0  ok"), "{printed}");
    ended_as(two.path(), one);
}

#[test]
fn three_that_are_started_by_hand_are_one_process_too() {
    // 3 × 128 tokens do not divide 1,024, so the batch is another here.
    let batch = ["--total-batch-size", "1920"];
    let (one, three) = (folder(), folder());
    succeeded(step11(one.path(), &[&batch[..], &["--nproc", "1"]].concat()).output().unwrap());
    let outputs = by_hand(three.path(), &[0, 1, 2], 3, &batch);
    let printed: Vec<String> = outputs.into_iter().map(succeeded).collect();
    assert!(printed[0].contains("ranks: 3\n") && !printed[0].contains(" NO"), "{}", printed[0]);
    assert_eq!(printed[1..], ["", ""], "the others are silent");
    ended_as(three.path(), one.path());
}

/// One of two machines with a rank each.
fn machine(folder: &Path, node_rank: &str, port: &str, more: &[&str]) -> Child {
    let nodes = ["--nproc", "1", "--nnodes", "2", "--node-rank", node_rank, "--master-port", port];
    let mut command = step11(folder, &[&nodes, more].concat());
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

#[test]
fn two_machines_are_one_process_too() {
    // Each with a loopback address of its own and its own --out; only the first writes.
    let (one, first, second) = (one_process(), folder(), folder());
    let port = free_port();
    let a = machine(first.path(), "0", &port, &["--local-addr", "127.0.0.1"]);
    let b = machine(second.path(), "1", &port, &["--local-addr", "127.0.0.2"]);
    let printed = succeeded(a.wait_with_output().unwrap());
    assert!(printed.contains("ranks: 2\n"), "{printed}");
    assert_eq!(succeeded(b.wait_with_output().unwrap()), "");
    ended_as(first.path(), one);
    assert!(!second.path().join("out").exists());
}

#[test]
fn ranks_that_share_an_exam_come_to_what_one_process_does() {
    let exam = |nproc| {
        let folder = folder();
        let program = env!("CARGO_BIN_EXE_step14_checkpoint");
        let args = ["--nproc", nproc, "--steps", "1", "--num-questions", "9"];
        let printed = succeeded(step(program, folder.path(), &args).output().unwrap());
        let line = printed.lines().find(|line| line.contains("| hellaswag ")).unwrap().to_string();
        (value(folder.path(), "val_nats_per_char"), line)
    };
    let ((val, answers), (val_of_two, answers_of_two)) = (exam("1"), exam("2"));
    assert!((val - val_of_two).abs() < 2e-4, "{val} {val_of_two}");
    assert_eq!(answers, answers_of_two);
}

/// torchrun of the Python that `TORCHRUN` names, or of the PATH.
fn torchrun() -> Option<PathBuf> {
    let named = std::env::var_os("TORCHRUN").map(PathBuf::from);
    let runs = |path: &PathBuf| {
        let mut help = Command::new(path);
        let help = help.arg("--help").stdout(Stdio::null()).stderr(Stdio::null());
        help.status().is_ok_and(|status| status.success())
    };
    named.or(Some("torchrun".into())).filter(runs)
}

#[test]
fn torchrun_starts_it() {
    let Some(torchrun) = torchrun() else {
        println!("not tried: there is no torchrun here; TORCHRUN may name one");
        return;
    };
    let (one, two) = (one_process(), folder());
    let mut command = Command::new(torchrun);
    command.args(["--standalone", "--nproc-per-node", "2", "--no-python", STEP11]);
    command.args(with_short(&[])).current_dir(two.path());
    let printed = succeeded(command.output().unwrap());
    assert!(printed.contains("ranks: 2\n"), "{printed}");
    ended_as(two.path(), one);
}

/// The process ids of the ranks that a launcher has started.
#[cfg(target_os = "linux")]
fn children(launcher: &Child) -> Vec<String> {
    let path = format!("/proc/{0}/task/{0}/children", launcher.id());
    let children = fs::read_to_string(path).unwrap_or_default();
    children.split_whitespace().map(str::to_string).collect()
}

#[cfg(target_os = "linux")]
fn wait_for<T>(mut ask: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(start.elapsed() < Duration::from_secs(60), "it does not come");
        thread::sleep(Duration::from_millis(20));
    }
}

/// What the training below is called, which is not the name of its file.
#[cfg(target_os = "linux")]
const NAME: &str = "a_step_among_others";

/// A training that goes on until somebody stops it, and the process ids of its two ranks, once they train.
#[cfg(target_os = "linux")]
fn endless(folder: &Path) -> (Child, Vec<String>) {
    let mut command = step11(folder, &["--nproc", "2", "--steps", "100000"]);
    command.arg0(NAME);
    let launcher = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let ranks = wait_for(|| Some(children(&launcher)).filter(|ranks| ranks.len() == 2));
    // The first validation is done when there is a line in the log.
    let csv = folder.join("out/metrics.csv");
    wait_for(|| fs::read_to_string(&csv).ok().filter(|csv| csv.lines().count() > 1));
    (launcher, ranks)
}

#[cfg(target_os = "linux")]
fn signal(name: &str, pid: &str) {
    // The shell's own, which every system has.
    assert!(
        Command::new("sh").args(["-c", &format!("kill {name} {pid}")]).status().unwrap().success()
    );
}

#[cfg(target_os = "linux")]
fn is_gone(pid: &str) -> bool {
    // A process that has ended and was not waited for is still listed, as a zombie.
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.is_empty() || status.contains("State:\tZ")
}

#[test]
#[cfg(target_os = "linux")]
fn a_rank_that_dies_ends_all_within_ten_seconds() {
    for (rank, others) in [(0, 1), (1, 0)] {
        let folder = folder();
        let (launcher, ranks) = endless(folder.path());
        let start = Instant::now();
        signal("-KILL", &ranks[rank]);
        let output = launcher.wait_with_output().unwrap();
        assert!(start.elapsed() < Duration::from_secs(10));
        assert_eq!(output.status.code(), Some(1));
        let expected = format!(
            "error: rank {rank} was ended by signal 9, and the other ranks have been stopped"
        );
        assert!(said(&output).ends_with(&expected), "{}", said(&output));
        assert!(is_gone(&ranks[others]));
    }
}

#[test]
#[cfg(target_os = "linux")]
fn no_rank_outlives_its_launcher_and_all_have_its_name() {
    let folder = folder();
    let (mut launcher, ranks) = endless(folder.path());
    for rank in &ranks {
        let called = fs::read_to_string(format!("/proc/{rank}/cmdline")).unwrap();
        assert!(
            called.starts_with(NAME),
            "a program that goes by its name would be another: {called}"
        );
    }
    signal("-KILL", &launcher.id().to_string());
    launcher.wait().unwrap();
    wait_for(|| ranks.iter().all(|rank| is_gone(rank)).then_some(()));
}

#[test]
#[cfg(target_os = "linux")]
fn nor_does_one_whose_launcher_ended_while_it_started() {
    let folder = folder();
    let mut command = step11(folder.path(), &[]);
    command.env("RANK", "1").env("WORLD_SIZE", "2").env("MASTER_ADDR", "127.0.0.1");
    command.env("MASTER_PORT", free_port());
    // That was its parent's number once; by now it has another.
    command.env("NANOGPT_LAUNCHER", u32::MAX.to_string());
    let begin = Instant::now();
    assert_eq!(command.output().unwrap().status.code(), Some(2));
    assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
}

#[track_caller]
fn refused(output: &Output, words: &[&str]) {
    let said = said(output);
    assert!(matches!(output.status.code(), Some(1 | 2)), "{output:?}");
    assert!(said.starts_with("error: ") && !said.contains("panicked"), "{said}");
    assert_eq!(said.split("\n\n").next().unwrap().lines().count(), 1, "{said}");
    for word in words {
        assert!(said.contains(word), "it does not say {word:?}: {said}");
    }
}

#[test]
fn numbers_that_make_no_sense() {
    let cases: [(&[&str], &[&str]); 8] = [
        (&["--nproc", "0"], &["--nproc 0", "choose from 1 to"]),
        (&["--nproc", "1000"], &["--nproc 1000", "processor cores"]),
        (&["--nproc", "two"], &["--nproc", "two"]),
        (&["--nnodes", "0"], &["--nnodes 0"]),
        (&["--nnodes", "2", "--node-rank", "2"], &["--node-rank 2", "the last one is 1"]),
        (&["--master-port", "70000"], &["--master-port", "70000"]),
        (&["--timeout", "0"], &["--timeout"]),
        (
            &["--total-batch-size", "128", "--nproc", "2"],
            &["--total-batch-size 128", "a multiple of 256"],
        ),
    ];
    for (args, words) in cases {
        refused(&step11(folder().path(), args).output().unwrap(), words);
    }
}

#[test]
fn an_environment_that_makes_no_sense() {
    type Case<'a> = (&'a [(&'a str, &'a str)], &'a [&'a str]);
    let cases: [Case; 5] = [
        (&[("RANK", "0")], &["RANK is set and WORLD_SIZE is not"]),
        (&[("RANK", "zero")], &["RANK is \"zero\""]),
        (&[("RANK", "2"), ("WORLD_SIZE", "2")], &["RANK is 2", "WORLD_SIZE 2"]),
        (&[("RANK", "0"), ("WORLD_SIZE", "2")], &["MASTER_ADDR is not"]),
        (
            &[
                ("RANK", "0"),
                ("WORLD_SIZE", "2"),
                ("MASTER_ADDR", "localhost"),
                ("MASTER_PORT", "99999"),
            ],
            &["MASTER_PORT is \"99999\""],
        ),
    ];
    for (variables, words) in cases {
        let folder = folder();
        let mut command = step11(folder.path(), &[]);
        refused(&command.envs(variables.iter().copied()).output().unwrap(), words);
    }
}

#[test]
fn a_port_that_is_taken() {
    let listener = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let output =
        step11(folder().path(), &["--nproc", "2", "--master-port", &port]).output().unwrap();
    refused(&output, &["--master-port", &port, "name another"]);
}

#[test]
fn a_rank_that_does_not_come_and_one_that_finds_nobody() {
    let folder = folder();
    let outputs = by_hand(folder.path(), &[0, 2], 3, &["--timeout", "3"]);
    for output in &outputs {
        refused(output, &["of 3 ranks", " s: 1;"]);
    }
    // Whoever began to wait later is told when rank 0 gives up.
    assert!(outputs.iter().any(|output| said(output).contains("within 3 s")), "{outputs:?}");
    refused(
        &by_hand(folder.path(), &[1], 2, &["--timeout", "1"])[0],
        &["rank 1 finds nobody at 127.0.0.1"],
    );
}

#[test]
fn a_rank_that_is_there_twice() {
    let folder = folder();
    let outputs = by_hand(folder.path(), &[0, 1, 1], 3, &["--timeout", "5"]);
    let twice: Vec<&Output> =
        outputs.iter().filter(|output| said(output).contains("rank 1 is there twice")).collect();
    assert_eq!(twice.len(), 1, "{outputs:?}");
    assert!(outputs.iter().all(|output| output.status.code() == Some(1)), "{outputs:?}");
}

#[test]
fn ranks_that_do_not_agree() {
    let folder = folder();
    let port = free_port();
    let a = machine(folder.path(), "0", &port, &["--batch-size", "4"]);
    let b = machine(folder.path(), "1", &port, &["--batch-size", "2"]);
    for output in [a.wait_with_output().unwrap(), b.wait_with_output().unwrap()] {
        refused(&output, &["do not agree", "rank 1 has batch_size: 2 instead of batch_size: 4"]);
    }
}
