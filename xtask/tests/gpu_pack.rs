//! What `cargo xtask gpu-pack` and the pack's run.sh promise, with scripts in place of the programs, of
//! PyTorch and of nvidia-smi. That the real programs go through every part is tested in `bench`.
#![cfg(target_os = "linux")]

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output},
    thread::sleep,
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;

/// A step with sizes, one without, and one that does what the test wants: the script in `odd`.
const STEPS: &str = r#"
echo "$*" >>"$(dirname "$0")/calls"
[ $# = 0 ] && { cat "$(dirname "$0")/steps"; exit; }
step=$1
if [ "$2" = --help ]; then
    [ $step = step01_plain ] || cat <<END
      --size <SIZE>
          How large a model

          Possible values:
          - tiny: small
          - gpt2: - large

      --steps <N>
          Not --size:

          Possible values:
          - none: of these
END
    printf '      --out <DIR>\n      --device-of-another <NAME>\n'
    [ $step = step01_plain ] || printf '      --device <DEVICE>\n'
    exit
fi
while [ $# -gt 0 ]; do
    [ "$1" = --out ] && out=$2
    shift
done
[ $step = step07_odd ] && . "$(dirname "$0")/odd"
printf 'run,step,loss,ms,tok/s,val\na,0,,,,5\na,1,4.5,9.0,1000,4\na,2,4.0,2.0,4000,3.5\n' >"$out/metrics.csv"
echo 'a promise   1   2   NO'
"#;

/// Writes the file that --json names. Batches of 8 or more than 32 do not fit.
const BENCH: &str = r#"
[ "$3" = fast ] && { cat "$(dirname "$0")/fast"; exit; }
echo "bench $*" >>"$(dirname "$0")/calls"
while [ $# -gt 0 ]; do
    [ "$1" = --json ] && json=$2
    [ "$1" = --batch-size ] && batch=$2
    shift
done
case ${batch:-4} in 8|64|128) echo 'failed: CUDA out of memory. Tried to allocate'; exit 1;; esac
echo '{"flops_per_token": {"gpt2": 8e8},
       "comparisons": [{"rows": [{"precision": "fp32", "gflops": 9e9}, {"precision": "bf16", "gflops": 8e3}]}]}' >"$json"
echo 'a table'
"#;

const TORCH: &str = "\
from . import version
__version__ = version.__version__
get_num_threads = lambda: 2
class cuda:
    is_available = lambda: False
";

const TORCH_WITH_GPU: &str = "\
from . import version
from types import SimpleNamespace as N
__version__ = version.__version__
get_num_threads = lambda: 2
card = N(name='a card', major=9, minor=0, multi_processor_count=132, total_memory=80 * 10**9)
cuda = N(is_available=lambda: True, get_device_properties=lambda _: card)
backends = N(cudnn=N(version=lambda: 9))
";

/// Says at first that nothing is in use, then what stands in `reading`.
const NVIDIA_SMI: &str = r#"
case "$*" in
*--loop-ms*)
    echo '3, 0, 70.1, 345, 30'
    while sleep 0.05; do cat "$(dirname "$0")/reading" || exit; done;;
*) echo 'an answer';;
esac
"#;

/// A pack, and a Python that finds a PyTorch in `site`.
struct Home {
    folder: TempDir,
}

impl Home {
    /// The pack of `gpu-pack` with these options, its programs then replaced by scripts.
    fn new(options: &[&str]) -> Home {
        let home = Home { folder: tempfile::tempdir().unwrap() };
        let output = home.pack(options);
        assert!(output.status.success(), "{}", stderr(&output));
        home.script("pack/all_steps", STEPS);
        home.script("pack/bench", BENCH);
        home.write("pack/odd", "true");
        home.write("pack/steps", "step01_plain\nstep06_sized\nstep07_odd\n");
        home.write("pack/fast", r#"{"bf16": true}"#);
        home.torch("2.11.0", TORCH);
        home
    }

    fn pack(&self, options: &[&str]) -> Output {
        fs::create_dir_all(self.path("programs")).unwrap();
        for name in ["all_steps", "bench"] {
            fs::copy("/bin/true", self.path("programs").join(name)).unwrap();
        }
        let mut pack = Command::new(env!("CARGO_BIN_EXE_xtask"));
        pack.arg("gpu-pack").args(options).arg("--programs").arg(self.path("programs"));
        pack.arg("--into").arg(self.path("pack")).output().unwrap()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, content: &str) {
        fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        fs::write(self.path(name), content).unwrap();
    }

    fn script(&self, name: &str, body: &str) {
        self.write(name, &format!("#!/bin/bash\n{body}"));
        fs::set_permissions(self.path(name), PermissionsExt::from_mode(0o755)).unwrap();
    }

    fn torch(&self, version: &str, init: &str) {
        self.write("site/torch/version.py", &format!("__version__ = '{version}'\ncuda = None\n"));
        self.write("site/torch/__init__.py", init);
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut run = Command::new(self.path("pack/run.sh"));
        run.args(args).arg("--out").arg(self.path("out")).env_remove("PYTHON");
        let path = std::env::var("PATH").unwrap();
        run.env("PATH", format!("{}:{path}", self.path("bin").display()));
        run.env("PYTHONPATH", self.path("site")).env("TMPDIR", self.folder.path());
        run
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    fn results(&self) -> Value {
        serde_json::from_slice(&fs::read(self.path("out/results.json")).unwrap()).unwrap()
    }

    /// The run of this part and name.
    fn result(&self, part: &str, name: &str) -> Value {
        let results = self.results();
        let mut runs = results["runs"].as_array().unwrap().iter();
        let run = runs.find(|run| run["part"] == part && run["name"] == name);
        run.unwrap_or_else(|| panic!("no run {part} {name} in {results:#}")).clone()
    }

    /// Whether the process whose number is in `pid` runs. One that has ended and that nobody has asked
    /// for its exit code (Z) does not.
    fn lives(&self) -> bool {
        let pid = fs::read_to_string(self.path("pack/pid")).unwrap();
        let stat = fs::read_to_string(Path::new("/proc").join(pid.trim()).join("stat"));
        stat.is_ok_and(|stat| !stat.contains(") Z "))
    }

    fn calls(&self) -> String {
        fs::read_to_string(self.path("pack/calls")).unwrap_or_default()
    }
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[track_caller]
fn assert_code(output: &Output, code: i32) {
    assert_eq!(output.status.code(), Some(code), "{}\n{}", stdout(output), stderr(output));
}

/// One sentence that says what is wrong, exit code 2, and nothing run.
#[track_caller]
fn assert_refused(home: &Home, args: &[&str], words: &str) {
    let output = home.run(args);
    assert_code(&output, 2);
    let said = stderr(&output);
    assert!(said.contains(words) && !said.contains("Traceback"), "{said}");
    assert!(!home.calls().contains("--out"), "{}", home.calls());
}

#[test]
fn a_pack_says_what_it_was_made_of() {
    let home = Home::new(&["--cpu"]);
    let about: Value =
        serde_json::from_slice(&fs::read(home.path("pack/pack.json")).unwrap()).unwrap();
    assert_eq!((&about["libtorch"], &about["cuda"]), (&"2.11.0".into(), &false.into()));
    assert_eq!(about["commit"].as_str().unwrap().len(), 40);
    for file in ["run.sh", "run.py", "train.py"] {
        assert!(home.path("pack").join(file).exists(), "{file}");
    }
    assert!(!home.path("pack.part").exists());
}

#[test]
fn too_large_a_pack_is_refused_and_the_old_one_stays() {
    let home = Home::new(&["--cpu"]);
    let output = home.pack(&["--cpu", "--limit", "1000"]);
    assert_code(&output, 1);
    let said = stderr(&output);
    assert!(said.contains("cannot be carried") && said.contains("model.safetensors"), "{said}");
    assert!(home.path("pack/odd").exists() && !home.path("pack.part").exists());
}

#[test]
fn every_part_is_gone_through_in_order_and_kept() {
    let home = Home::new(&["--cpu"]);
    let output = home.run(&["--cpu", "--quick"]);
    assert_code(&output, 0);
    let results = home.results();
    let mut parts: Vec<&str> = results["runs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|run| run["part"].as_str().unwrap())
        .collect();
    parts.dedup();
    let order = ["environment", "ceilings", "compare", "ladder", "batch", "precisions", "defaults"];
    assert_eq!(parts, order);
    assert_eq!(results["machine"]["torch"]["version"], "2.11.0");

    let step = home.result("ladder", "step06_sized tiny");
    let values = &step["values"]["a"];
    assert_eq!([&values["ms"], &values["ms median"]], [2.0, 5.5].map(Value::from).each_ref());
    assert_eq!([&values["val first"], &values["val"]], [5.0, 3.5].map(Value::from).each_ref());
    assert_eq!(step["flags"][0], "a promise   1   2   NO");
    assert_eq!(home.result("compare", "gpt2 bf16")["bench"]["flops_per_token"]["gpt2"], 8e8);
    // Batches that do not fit are no failure: half of them do.
    assert_eq!(home.result("batch", "gpt2 bf16, batches of 8")["state"], "out of memory");
    assert_eq!(home.result("batch", "gpt2 bf16, batches of 4")["state"], "done");
    // A step gets the flags that it has.
    let calls = home.calls();
    assert!(calls.contains("step06_sized --device cpu"), "{calls}");
    assert!(calls.contains("step01_plain --out") && !calls.contains("step01_plain --device"));
    assert!(stdout(&output).contains("step01_plain has no --device"));
}

#[test]
fn what_is_in_bf16_is_left_out_where_that_is_slow() {
    let home = Home::new(&["--cpu"]);
    home.write("pack/fast", r#"{"bf16": false}"#);
    home.write("pack/steps", "step01_plain\nstep06_sized\nstep08_mixed_precision\n");
    let output = home.run(&["--cpu", "--quick"]);
    assert_code(&output, 0);
    let runs =
        [("compare", "gpt2 bf16"), ("ladder", "step08_mixed_precision"), ("batch", "gpt2 bf16")];
    for (part, name) in runs {
        let run = home.result(part, name);
        assert_eq!(run["state"], "skipped", "{run:#}");
        assert!(run["why"].as_str().unwrap().contains("fast at bfloat16"), "{run:#}");
        assert!(stdout(&output).contains(&format!("{name}: skipped")), "{}", stdout(&output));
    }
    let calls = home.calls();
    assert!(!calls.contains("--precision bf16"), "{calls}");
    assert!(!calls.contains("step08_mixed_precision --device"), "{calls}");
    // The rest is there.
    assert_eq!(home.result("ceilings", "products")["state"], "done");
    assert_eq!(home.result("precisions", "gpt2 fp32")["state"], "done");
    // With its time, step08 runs here too.
    assert_code(&home.run(&["--cpu", "--only", "ladder"]), 0);
    assert_eq!(home.result("ladder", "step08_mixed_precision gpt2")["state"], "done");

    fs::remove_file(home.path("pack/calls")).unwrap();
    home.script("pack/bench", "echo no libtorch >&2; exit 127");
    assert_refused(&home, &["--cpu"], "bench does not start: no libtorch");
}

#[test]
fn a_program_that_fails_does_not_stop_the_others() {
    let home = Home::new(&["--cpu"]);
    home.write("pack/odd", "echo expected scalar type Double >&2; exit 7");
    let output = home.run(&["--cpu", "--quick", "--only", "ladder"]);
    assert_code(&output, 1);
    let run = home.result("ladder", "step07_odd tiny");
    assert_eq!((&run["state"], &run["exit"]), (&"failed".into(), &7.into()));
    assert!(run["flags"][0].as_str().unwrap().starts_with("float64"), "{run:#}");
    assert_eq!(home.result("ladder", "step06_sized tiny")["state"], "done");
    assert!(!home.calls().contains("bench"), "--only ladder: {}", home.calls());
}

#[test]
fn a_program_that_hangs_is_ended_at_the_deadline_and_resume_goes_on() {
    let home = Home::new(&["--cpu"]);
    // It does not listen to TERM, and neither does its child.
    home.write("pack/odd", "trap '' TERM; sleep 600 & echo $! >\"$(dirname \"$0\")/pid\"; wait");
    let begin = Instant::now();
    let output =
        home.run(&["--cpu", "--quick", "--only", "ladder", "--only", "batch", "--minutes", "0.15"]);
    // Nine seconds, and three to end it.
    assert!(begin.elapsed() < Duration::from_secs(15), "{:?}", begin.elapsed());
    assert_code(&output, 3);
    assert!(!home.lives(), "its child lives on");
    assert_eq!(home.result("ladder", "step07_odd tiny")["state"], "out of time");
    let left = home.result("batch", "gpt2 bf16, batches of 8");
    assert!(left["why"].as_str().unwrap().contains("no time"), "{left}");

    home.write("pack/odd", "true");
    let before = home.calls().matches("step06_sized --device").count();
    let parts = ["--only", "ladder", "--only", "batch"];
    assert_code(&home.run(&[&["--cpu", "--quick", "--resume"], parts.as_slice()].concat()), 0);
    assert_eq!(home.result("ladder", "step07_odd tiny")["state"], "done");
    assert_eq!(home.result("batch", "gpt2 bf16, batches of 4")["state"], "done");
    let after = home.calls().matches("step06_sized --device").count();
    assert_eq!(before, after, "what was done is not done again");
    assert_refused_resume(&home);
}

fn assert_refused_resume(home: &Home) {
    let output = home.run(&["--cpu", "--resume"]); // not --quick
    assert_code(&output, 2);
    assert!(stderr(&output).contains("is of another quick"), "{}", stderr(&output));
    home.write("out/results.json", "{");
    assert!(stderr(&home.run(&["--cpu", "--resume"])).contains("not of this program"));
}

#[test]
fn killed_from_outside_it_keeps_what_was_done_and_leaves_nothing_running() {
    let home = Home::new(&["--cpu"]);
    home.write("pack/odd", "echo $$ >\"$(dirname \"$0\")/pid\"; sleep 600");
    let mut run = home.command(&["--cpu", "--quick", "--only", "ladder"]).spawn().unwrap();
    let begin = Instant::now();
    while !home.path("pack/pid").exists() {
        assert!(begin.elapsed() < Duration::from_secs(30), "the step does not start");
        sleep(Duration::from_millis(20));
    }
    sleep(Duration::from_millis(50));
    Command::new("kill").arg(run.id().to_string()).status().unwrap();
    assert_eq!(run.wait().unwrap().code(), Some(130));
    assert!(!home.lives(), "the step lives on");
    assert_eq!(home.result("ladder", "step06_sized tiny")["state"], "done");
    assert_eq!(home.result("ladder", "step07_odd tiny")["state"], "interrupted");
}

#[test]
fn long_outputs_are_cut_in_the_middle() {
    let home = Home::new(&["--cpu"]);
    home.write("pack/odd", "echo begin; head -c 5000000 /dev/zero | tr '\\0' x; echo end");
    assert_code(&home.run(&["--cpu", "--quick", "--only", "ladder"]), 0);
    let run = home.result("ladder", "step07_odd tiny");
    let kept = run["stdout"].as_str().unwrap();
    let (head, tail) = kept.split_once("left out here").expect("it is cut");
    assert!(head.starts_with("begin\n") && tail.contains("xend\n"));
    assert!(kept.len() < 100_000, "{}", kept.len());
}

#[test]
fn on_a_gpu_it_is_watched_and_held_against_the_ceiling() {
    let home = Home::new(&[]);
    home.torch("2.11.0", TORCH_WITH_GPU);
    home.script("bin/nvidia-smi", NVIDIA_SMI);
    home.write("bin/reading", "40000, 97, 650.5, 1980, 61\n");
    home.write("pack/odd", "sleep 0.5");
    let parts = ["--only", "ceilings", "--only", "ladder", "--only", "batch"];
    assert_code(&home.run(&parts), 0);
    let run = home.result("ladder", "step07_odd gpt2");
    // 4,000 tokens of 8·10⁸ operations a second, of 8·10¹².
    assert!((run["mfu"].as_f64().unwrap() - 0.4).abs() < 1e-9, "{run:#}");
    let gpu = &run["gpu"];
    assert_eq!((&gpu["memory_mb_max"], &gpu["utilization_max"]), (&40000.0.into(), &97.0.into()));
    assert_eq!(gpu["memory_mb_idle"], 3.0);
    assert_eq!(home.results()["machine"]["nvidia-smi"]["driver_version"], "an answer");
    assert_eq!(home.result("batch", "gpt2 bf16, batches of 64")["state"], "out of memory");
    assert_eq!(home.result("batch", "gpt2 bf16, batches of 32")["state"], "done");
    assert!(home.calls().contains("step07_odd --device cuda"), "{}", home.calls());

    // A step that computes on the CPU is noticed.
    home.write("bin/reading", "3, 0, 70.1, 345, 30\n");
    home.write("pack/odd", "sleep 0.5; echo 'parameters, Cpu'");
    assert_code(&home.run(&["--only", "ladder"]), 0);
    let flags = home.result("ladder", "step07_odd gpt2")["flags"].to_string();
    assert!(flags.contains("stood idle") && flags.contains("names the CPU"), "{flags}");
}

#[test]
fn what_cannot_be_measured_is_refused_in_a_sentence() {
    let home = Home::new(&["--cpu"]);
    assert_refused(&home, &[], "say --cpu");
    assert_refused(&home, &["--cpu", "--minutes", "0"], "choose a number above 0");
    assert_refused(&home, &["--cpu", "--only", "nothing"], "invalid choice");
    home.torch("2.10.0", TORCH);
    assert_refused(&home, &["--cpu"], "has PyTorch 2.10.0, and 2.11.0 is needed");
    fs::remove_dir_all(home.path("site/torch")).unwrap();
    assert_refused(&home, &["--cpu"], "has no PyTorch");
    home.torch("2.11.0", "raise ImportError('libfoo.so is missing')");
    assert_refused(&home, &["--cpu"], "libfoo.so is missing");
    let output = home.command(&["--cpu"]).env("PYTHON", "/no/python").output().unwrap();
    assert_code(&output, 2);
    assert!(stderr(&output).contains("there is no /no/python"), "{}", stderr(&output));

    let home = Home::new(&[]);
    assert_refused(&home, &[], "PyTorch sees no GPU here");
    // A program that needs a library which is nowhere.
    let mut program = fs::read("/bin/true").unwrap();
    let name = b"libc.so.6";
    let at = program.windows(name.len()).position(|bytes| bytes == name).unwrap();
    program[at + 3] = b'X';
    fs::write(home.path("pack/bench"), program).unwrap();
    assert_refused(&home, &[], "libX.so.6 => not found");
    fs::remove_file(home.path("pack/pack.json")).unwrap();
    assert_refused(&home, &[], "is no pack");
}
