//! What makes a small model of Shakespeare's characters good sooner, and how soon: the page on recipes.

use super::{Workshop, file, shakespeare, sixty_five, value, values};
use serde_json::Value;
use std::{
    env, fs,
    path::Path,
    process::{Child, Command},
    time::Instant,
};

/// One thing changed in `shakespeare_char_fast.toml`: what it is called, after how many steps the run ends, so that all
/// take about as long, and the flags.
const TRIALS: [(&str, usize, &str); 30] = [
    ("recipe", 480, ""),
    ("seed_1", 480, "--seed 1"),
    ("seed_2", 480, "--seed 2"),
    ("2_layers", 260, "--n_layer 2"),
    ("4_layers", 130, "--n_layer 4"),
    ("64_wide", 800, "--n_embd 64"),
    ("192_wide", 270, "--n_embd 192 --n_head 6"),
    ("adamw", 700, "--optimizer adamw --learning_rate 5e-3"),
    ("adamw_4_layers", 205, "--n_layer 4 --optimizer adamw --learning_rate 5e-3"),
    ("no_bigram", 490, "--bigram false"),
    ("no_rope", 520, "--rope false"),
    ("neither", 530, "--rope false --bigram false"),
    ("half_rate", 480, "--learning_rate 2e-3"),
    ("twice_rate", 480, "--learning_rate 8e-3"),
    ("muon_half_rate", 480, "--muon_lr_scale 5"),
    ("muon_twice_rate", 480, "--muon_lr_scale 20"),
    ("cosine", 480, "--decay cosine --min_lr 4e-4"),
    ("warmup_100", 480, "--warmup_iters 100"),
    ("batch_6", 740, "--batch_size 6"),
    ("batch_24", 300, "--batch_size 24"),
    ("block_32", 490, "--block_size 32 --batch_size 24"),
    ("block_128", 460, "--block_size 128 --batch_size 6"),
    ("momentum_9", 480, "--muon_momentum 0.9"),
    ("beta2_95", 480, "--beta2 0.95"),
    ("no_decay", 480, "--weight_decay 0"),
    ("decay_3", 480, "--weight_decay 0.3"),
    ("no_clipping", 480, "--grad_clip 0"),
    ("bias", 470, "--bias true"),
    ("dropout", 440, "--dropout 0.1"),
    (
        "nanogpts",
        220,
        "--n_layer 4 --rope false --bigram false --optimizer adamw --learning_rate 1e-3",
    ),
];

/// The CPU time of all commands that have ended, in user mode.
fn cpu_seconds() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").expect("Linux");
    let cutime = stat.rsplit(") ").next().unwrap().split(' ').nth(13).unwrap();
    cutime.parse::<f64>().unwrap() / 100.0 // clock ticks
}

/// The loss of a run's best model over the whole validation split of its data set.
fn whole_loss(workshop: &Workshop, run: &str) -> f64 {
    let said = workshop.run(&format!("nanogpt eval {run} --json"));
    serde_json::from_str::<Value>(&said).unwrap()["loss"].as_f64().unwrap()
}

/// Nothing here sees the validation text: the last tenth of the training text is held out instead.
#[test]
#[ignore = "trains for minutes, on a text that is not in the repository"]
fn recipes_are_tried() {
    let workshop = Workshop::new();
    let text = shakespeare();
    workshop.characters("dev", &text[..text.len() * 9 / 10]); // ASCII
    let mut now = Vec::new();
    for (name, steps, flags) in TRIALS {
        let before = cpu_seconds();
        let command = format!(
            "nanogpt train configs/shakespeare_char_fast.toml --dataset dev --out_dir out/{name} --threads 1 \
             --max_iters {steps} --lr_decay_iters {steps} --eval_interval {steps} {flags}"
        );
        workshop.run(command.trim_end());
        let seconds = cpu_seconds() - before;
        let loss = whole_loss(&workshop, &format!("out/{name}"));
        println!("{name:<18} {steps:>5} steps {seconds:>6.1} s {loss:.4}");
        now.push(value(&format!("{name}/steps"), steps));
        now.push(value(&format!("{name}/seconds"), format!("{seconds:.1}")));
        now.push(value(&format!("{name}/loss"), format!("{loss:.3}")));
    }
    file("nanogpt_recipes", "output.txt", "");
    expect_losses("nanogpt_recipes", &now);
}

/// That the losses are those that are recorded. Seconds are another machine's, and two seeds differ by 0.02.
fn expect_losses(record: &str, now: &[(String, String)]) {
    let there = values(record, now);
    for ((name, now), there) in
        now.iter().zip(&there).filter(|((name, _), _)| name.ends_with("/loss"))
    {
        let (now, there): (f64, f64) = (now.parse().unwrap(), there.parse().unwrap());
        assert!((now - there).abs() < 0.05, "{name}: {now}, recorded {there}");
    }
}

/// How long nanoGPT's own code takes on this machine for the run of its README, and what our settings reach, in turns:
/// `NANOGPT` is a clone of it whose data/shakespeare_char is prepared, `PYTHON` a Python with PyTorch.
#[test]
#[ignore = "wants nanoGPT, PyTorch, and an idle machine for minutes"]
fn nanogpts_own_time() {
    let workshop = Workshop::new();
    workshop.characters("shakespeare_char", &shakespeare());
    let variable = |name: &str| env::var(name).unwrap_or_else(|_| panic!("{name} is not set"));
    let (nanogpt, python) = (variable("NANOGPT"), variable("PYTHON"));
    let mut now = Vec::new();
    for seed in [1337, 1, 2] {
        let mut said = |name: &str, (seconds, loss): (f64, f64)| {
            println!("{name:<10} seed {seed:<5} {seconds:>6.1} s  {loss:.4}");
            now.push(value(&format!("{name}_{seed}/seconds"), format!("{seconds:.0}")));
            now.push(value(&format!("{name}_{seed}/loss"), format!("{loss:.3}")));
        };
        said("nanogpt", theirs(&workshop, Path::new(&nanogpt), &python, seed));
        for config in ["cpu", "fast", "same_time", "minutes"] {
            said(config, ours(&workshop, config, seed));
        }
    }
    file("nanogpt_time", "output.txt", "");
    expect_losses("nanogpt_time", &now);
}

/// What changes a step, and by how much: what it is called, the config and the flags.
const STEPS: [(&str, &str, &str); 9] = [
    ("minutes", "minutes", ""),
    ("float32", "minutes", "--dtype float32"),
    ("six_heads", "minutes", "--n_head 6"),
    ("no_rope", "minutes", "--rope false"),
    ("bigram", "minutes", "--bigram true"),
    ("adamw", "minutes", "--optimizer adamw"),
    ("dropout", "minutes", "--dropout 0.1"),
    ("small", "cpu", ""),
    ("small_bfloat16", "cpu", "--dtype bfloat16"),
];

#[test]
#[ignore = "wants an idle machine that is fast at bfloat16, and a text that is not in the repository"]
fn what_a_step_costs() {
    let workshop = Workshop::new();
    workshop.characters("shakespeare_char", &shakespeare());
    let mut now = Vec::new();
    for (name, config, flags) in STEPS {
        let report = bench(&workshop, config, flags);
        for part in ["ms", "forward_ms", "backward_ms", "optimizer_ms"] {
            let ms = report[part].as_f64().unwrap();
            println!("{name:<15} {part:<12} {ms:>6.1}");
            now.push(value(&format!("{name}/{part}"), format!("{ms:.0}")));
        }
    }
    file("nanogpt_steps", "output.txt", "");
    values("nanogpt_steps", &now);
}

/// A program that keeps a core busy, in a session of its own as a user's other programs are.
struct Busy(Child);

impl Busy {
    fn new() -> Self {
        let program = ["sh", "-c", "while :; do :; done"];
        Self(Command::new("setsid").args(program).spawn().unwrap())
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Two threads, and one, on two cores that have nothing else to do, and on two that have.
#[test]
#[ignore = "wants an idle machine of two cores"]
fn two_threads_on_busy_cores() {
    let workshop = Workshop::new();
    workshop.characters("shakespeare_char", &sixty_five());
    let mut now = Vec::new();
    for name in ["idle", "busy"] {
        let others = if name == "busy" { 2 } else { 0 };
        let _others: Vec<Busy> = (0..others).map(|_| Busy::new()).collect();
        for threads in [1, 2] {
            let report = bench(&workshop, "cpu", &format!("--threads {threads}"));
            let ms = report["ms"].as_f64().unwrap();
            println!("{name} {threads} {ms:.1}");
            now.push(value(&format!("{name}_{threads}"), format!("{ms:.0}")));
        }
    }
    file("nanogpt_busy", "output.txt", "");
    values("nanogpt_busy", &now);
}

fn bench(workshop: &Workshop, config: &str, flags: &str) -> Value {
    let line =
        format!("nanogpt bench configs/shakespeare_char_{config}.toml --steps 30 --json {flags}");
    serde_json::from_str(&workshop.run(line.trim_end())).unwrap()
}

/// The wall time of the whole command, and the loss of its best model on all of the validation text.
fn ours(workshop: &Workshop, config: &str, seed: u64) -> (f64, f64) {
    let out = format!("out/{config}_{seed}");
    let (_, seconds) = workshop.timed(&format!(
        "nanogpt train configs/shakespeare_char_{config}.toml --seed {seed} --out_dir {out}"
    ));
    (seconds, whole_loss(workshop, &out))
}

/// The same of nanoGPT's own, with its README's flags for a CPU.
fn theirs(workshop: &Workshop, nanogpt: &Path, python: &str, seed: u64) -> (f64, f64) {
    let flags = "--device=cpu --compile=False --eval_iters=20 --log_interval=1 --block_size=64 --batch_size=12 \
                 --n_layer=4 --n_head=4 --n_embd=128 --max_iters=2000 --lr_decay_iters=2000 --dropout=0.0";
    // The seed stands in the code.
    let code = fs::read_to_string(nanogpt.join("train.py")).unwrap();
    let code = code.replace("manual_seed(1337 +", &format!("manual_seed({seed} +"));
    let program = nanogpt.join("train_with_seed.py");
    fs::write(&program, code).unwrap();
    let start = Instant::now();
    let mut command = Command::new(python);
    command.arg(&program).arg("config/train_shakespeare_char.py").args(flags.split_whitespace());
    let output = command.current_dir(nanogpt).output().unwrap();
    let seconds = start.elapsed().as_secs_f64();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let out = format!("out/theirs_{seed}");
    let checkpoint = nanogpt.join("out-shakespeare-char/ckpt.pt");
    workshop.run(&format!(
        "nanogpt import {} --vocab shakespeare_char --out {out}",
        checkpoint.display()
    ));
    let said = workshop.run(&format!("nanogpt eval {out} --dataset shakespeare_char --json"));
    let loss = serde_json::from_str::<Value>(&said).unwrap()["loss"].as_f64().unwrap();
    (seconds, loss)
}
