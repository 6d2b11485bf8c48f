//! What the book tells of `nanogpt`'s own runs: book/recorded/nanogpt_*. They are made by
//! `RECORD=1 cargo test -p nanogpt --test recorded -- --include-ignored --test-threads 1`, on an idle machine, and hold
//! today's program to what is recorded without `RECORD`.

#[path = "recorded/recipes.rs"]
mod recipes;

use nanogpt::{
    TrainConfig, metrics,
    precision::Precision,
    scaling::{Family, Law, Point, Trust},
    size,
};
use serde_json::{Value, json};
use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};
use tch::Device;

/// How far a loss may be off on another processor.
const TOLERANCE: f64 = 0.03;

fn here() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn recorded(name: &str) -> PathBuf {
    here().join("../book/recorded").join(name)
}

/// A file of a record, after it has been written where records are made.
fn file(name: &str, file: &str, now: &str) -> String {
    let path = recorded(name).join(file);
    if env::var_os("RECORD").is_some() {
        files::write_atomically(&path, |file| Ok(file.write_all(now.as_bytes())?)).unwrap();
    }
    fs::read_to_string(path).unwrap()
}

/// Values by name, as the book looks them up. Returns what is recorded under the same names.
fn values(name: &str, values: &[(String, String)]) -> Vec<String> {
    let entry = |(name, text): &(String, String)| json!({ "name": name, "text": text });
    let values = json!({ "values": values.iter().map(entry).collect::<Vec<_>>() });
    let text = serde_json::to_string_pretty(&values).unwrap() + "\n";
    let there: Value = serde_json::from_str(&file(name, "record.json", &text)).unwrap();
    let names = |json: &Value| -> Vec<String> {
        json["values"].as_array().unwrap().iter().map(|value| value["name"].to_string()).collect()
    };
    assert_eq!(names(&there), names(&values), "{name}");
    let texts = there["values"].as_array().unwrap().iter();
    texts.map(|value| value["text"].as_str().unwrap().to_string()).collect()
}

/// A text that a model has written, under the command that made it write. Another processor has it write another one.
fn sample(name: &str, command: &str, (text, seconds): (String, f64)) {
    circumstances(name, command, seconds);
    let json = json!({ "values": [], "samples": [text] });
    file(name, "record.json", &(serde_json::to_string_pretty(&json).unwrap() + "\n"));
    file(name, "output.txt", &text);
}

/// The same where the values must be the same.
fn exactly(name: &str, now: &[(String, String)]) {
    let there = values(name, now);
    for ((value, now), there) in now.iter().zip(there) {
        assert_eq!(*now, there, "{value} of {name}");
    }
}

/// The same where they are losses or bytes. At which step a loss was lowest is luck.
fn nearly(name: &str, now: &[(String, String)]) {
    let there = values(name, now);
    for ((value, now), there) in now.iter().zip(there) {
        if value.ends_with("_step") {
            continue;
        }
        let (a, b): (f64, f64) = (now.parse().unwrap(), there.parse().unwrap());
        assert!((a / b - 1.0).abs() < TOLERANCE, "{value} of {name}: {now}, recorded {there}");
    }
}

/// Under what circumstances a run was recorded.
fn circumstances(name: &str, command: &str, seconds: f64) {
    if env::var_os("RECORD").is_none() {
        return;
    }
    let of_cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cpu = of_cpu.lines().find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1));
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let toml = format!(
        "command = {command:?}\ndevice = \"cpu\"\ncpu = {:?}\ncores = {cores}\nseconds = {seconds:.1}\n",
        cpu.unwrap_or("unknown")
    );
    file(name, "run.toml", &toml);
}

/// A folder with the settings that come along.
struct Workshop(tempfile::TempDir);

impl Workshop {
    fn new() -> Self {
        let workshop = Self(tempfile::tempdir().unwrap());
        fs::create_dir(workshop.path("configs")).unwrap();
        for config in fs::read_dir(here().join("configs")).unwrap() {
            let config = config.unwrap();
            fs::copy(config.path(), workshop.path("configs").join(config.file_name())).unwrap();
        }
        workshop
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A data set of a text's characters.
    fn characters(&self, name: &str, text: &str) {
        fs::write(self.path("text.txt"), text).unwrap();
        self.run(&format!("nanogpt prepare text.txt --vocab characters --out data/{name}"));
    }

    /// What a command prints.
    fn run(&self, line: &str) -> String {
        let mut program = Command::new(env!("CARGO_BIN_EXE_nanogpt"));
        let output = program.args(line.split(' ').skip(1)).current_dir(self.0.path()).output();
        let output = output.unwrap();
        assert!(output.status.success(), "{line}\n{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// The same, with the seconds that it took.
    fn timed(&self, line: &str) -> (String, f64) {
        let start = Instant::now();
        (self.run(line), start.elapsed().as_secs_f64())
    }
}

/// Tiny Shakespeare, which is not in the repository: `SHAKESPEARE=data/shakespeare/input.txt`.
fn shakespeare() -> String {
    let path = env::var("SHAKESPEARE").expect("SHAKESPEARE names the file");
    fs::read_to_string(here().join("..").join(path)).unwrap()
}

fn value(name: &str, text: impl ToString) -> (String, String) {
    (name.into(), text.to_string())
}

/// Sixty-five characters, as many as Shakespeare has.
fn sixty_five() -> String {
    let characters: String = (' '..='`').collect();
    characters.repeat(40)
}

#[test]
fn a_small_models_size_is_as_the_book_shows_it() {
    let workshop = Workshop::new();
    workshop.characters("shakespeare_char", &sixty_five());
    let command = "nanogpt size configs/shakespeare_char_cpu.toml";
    let (said, seconds) = workshop.timed(command);
    // The first line is too long for the book, and what is free differs.
    let lines: Vec<&str> =
        said.lines().skip(2).filter(|line| !line.contains("fits into")).collect();
    let said = lines.join("\n") + "\n";
    circumstances("nanogpt_size", command, seconds);
    assert_eq!(said, file("nanogpt_size", "output.txt", &said));
}

/// The values that the page on GPT-2 tells of its run: of the bfloat16 column.
#[test]
fn gpt2s_size_is_as_the_book_says() {
    let page = fs::read_to_string(here().join("../book/src/using_gpt2.md")).unwrap();
    let settings = page.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gpt2_10b.toml");
    fs::write(&path, settings).unwrap();
    let config = TrainConfig::load(Some(&path), &[]).unwrap();
    let model = size::model_of(&config, 50_304).unwrap();
    let job = size::Job::new(&config, Precision::Bfloat16, Device::Cpu, 8);
    let memory = size::memory(&model, &job);
    let said = |bytes: i64| size::said(bytes as f64);
    // nanoGPT's run, at a hundred billion operations a second.
    let path = here().join("configs/gpt2.toml");
    let nanogpts = TrainConfig::load(Some(&path), &[]).unwrap();
    let t = nanogpts.block_size;
    let flops = size::forward_flops(&nanogpts.gpt(50_304), t);
    let per_token = size::of(&flops, "forward and backward") as f64 / t as f64;
    let per_step = nanogpts.gradient_accumulation_steps as i64 * nanogpts.batch_size * t;
    let operations = per_token * per_step as f64 * nanogpts.max_iters as f64;
    // The page on finetuning has these two.
    let path = here().join("configs/finetune_shakespeare.toml");
    let finetuning = |from: &str| {
        let config = TrainConfig::load(Some(&path), &[value("init_from", from)]).unwrap();
        let job = size::Job::new(&config, Precision::Float32, Device::Cpu, 1);
        said(size::memory(&size::model_of(&config, 50_257).unwrap(), &job).peak)
    };
    let now = [
        value("finetuning_xl", finetuning("gpt2-xl")),
        value("finetuning_small", finetuning("gpt2")),
        value("operations_per_token", format!("{:.0}", per_token / 1e6)),
        value("operations", format!("{:.1}", operations / 1e20)),
        value("years", format!("{:.0}", operations / 1e11 / (365.25 * 86_400.0))),
        value("bfloat16_peak", said(memory.peak)),
        value("bfloat16_logits", said(memory.logits)),
        value("checkpoint", said(size::checkpoint_bytes(&model, config.optimizer))),
    ];
    file("nanogpt_gpt2", "output.txt", "");
    exactly("nanogpt_gpt2", &now);
}

const SCALING: &str = "nanogpt_scaling";
const SCALING_RUN: &str = "nanogpt scaling --threads 1";

/// The points that were recorded.
fn points() -> Vec<Point> {
    let csv = fs::read_to_string(recorded(SCALING).join("points.csv")).unwrap();
    let point = |line: &str| {
        let numbers: Vec<f64> = line.split(',').map(|number| number.parse().unwrap()).collect();
        let &[n_layer, n_embd, parameters, tokens, loss] = &numbers[..] else { panic!("{line}") };
        Point { n_layer: n_layer as i64, n_embd: n_embd as i64, parameters, tokens, loss }
    };
    csv.lines().skip(1).map(point).collect()
}

/// The law and its picture are what the command makes of the recorded points.
#[test]
fn the_law_in_the_book_is_that_of_its_points() {
    let points = points();
    let workshop = Workshop::new();
    workshop.characters("shakespeare_char", &sixty_five());
    let Family { sizes, tokens } = Family::small();
    let names = tokens.iter().flat_map(|t| sizes.iter().map(move |(l, c)| format!("{l}x{c}_{t}")));
    let names: Vec<String> = names.collect();
    assert_eq!(names.len(), points.len());
    for (name, point) in names.iter().zip(&points) {
        let folder = workshop.path("out/scaling").join(name);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("point.json"), serde_json::to_string(point).unwrap()).unwrap();
    }
    let said = workshop.run(SCALING_RUN);
    assert_eq!(said, file(SCALING, "output.txt", &said));
    let svg = fs::read_to_string(workshop.path("out/scaling/scaling.svg")).unwrap();
    assert_eq!(svg, file(SCALING, "scaling.svg", &svg));

    let (law, trust) = (Law::fit(&points), Trust::of(&points));
    let most = points.iter().map(Point::flops).fold(0.0, f64::max);
    let (n, d) = law.optimum(most);
    let grouped = |x: f64| lab::grouped(x.round() as i64);
    let ends = points.iter().rev().take(sizes.len()).rev().enumerate();
    let mut now: Vec<(String, String)> =
        ends.map(|(i, end)| value(&format!("end_{}", i + 1), format!("{:.2}", end.loss))).collect();
    now.extend([
        value("e", format!("{:.2}", law.e)),
        value("e_error", format!("{:.2}", trust.e)),
        value("alpha", format!("{:.2}", law.alpha)),
        value("alpha_error", format!("{:.2}", trust.alpha)),
        value("beta", format!("{:.2}", law.beta)),
        value("beta_error", format!("{:.2}", trust.beta)),
        value("off", format!("{:.1}", 100.0 * law.error(&points))),
        value("left_out", format!("{:.1}", 100.0 * trust.left_out)),
        value("largest", grouped(points.iter().map(|point| point.parameters).fold(0.0, f64::max))),
        value("smallest", grouped(points[0].parameters)),
        value("second", grouped(points[1].parameters)),
        value("third", grouped(points[2].parameters)),
        value("best_parameters", grouped(n)),
        value("best_tokens", grouped(d)),
        value("tokens_per_parameter", grouped(d / n)),
    ]);
    exactly(SCALING, &now);
}

#[test]
#[ignore = "trains for minutes, on a text that is not in the repository"]
fn a_family_is_trained() {
    let workshop = Workshop::new();
    workshop.characters("shakespeare_char", &shakespeare());
    let (_, seconds) = workshop.timed(SCALING_RUN);
    let csv = fs::read_to_string(workshop.path("out/scaling/points.csv")).unwrap();
    file(SCALING, "points.csv", &csv);
    circumstances(SCALING, SCALING_RUN, seconds);
    let losses = csv.lines().skip(1).map(|line| line.rsplit(',').next().unwrap());
    for (loss, point) in losses.zip(points()) {
        let loss: f64 = loss.parse().unwrap();
        assert!((loss / point.loss - 1.0).abs() < TOLERANCE, "{loss}, {point:?}");
    }
}

/// Settings of a run, how they are called in the record, and how the page says them.
const MEMORY: [(&str, &str); 5] = [
    ("as_it_is", ""),
    ("batch", " --batch_size 48"),
    ("wide", " --n_embd 256"),
    ("dropout", " --dropout 0.2"),
    ("bfloat16", " --dtype bfloat16"),
];

/// Predicted and measured.
#[test]
fn memory_is_as_the_book_says() {
    let workshop = Workshop::new();
    workshop.characters("shakespeare_char", &sixty_five());
    let mut now = Vec::new();
    for (name, flags) in MEMORY {
        let command = format!(
            "nanogpt bench configs/shakespeare_char_cpu.toml --steps 2 --warmup 1 --threads 1 --json{flags}"
        );
        let report: Value = serde_json::from_str(&workshop.run(&command)).unwrap();
        let overrides: Vec<&str> = flags.split_whitespace().collect();
        let overrides: Vec<(String, String)> =
            overrides.chunks(2).map(|knob| value(&knob[0][2..], knob[1])).collect();
        let path = workshop.path("configs/shakespeare_char_cpu.toml");
        let config = TrainConfig::load(Some(&path), &overrides).unwrap();
        let precision = config.precision().unwrap();
        let job = size::Job::new(&config, precision, Device::Cpu, 1);
        let predicted = size::memory(&size::model_of(&config, 65).unwrap(), &job).peak as f64;
        let measured = report["peak_bytes"].as_f64().unwrap();
        now.push(value(&format!("{name}_predicted"), format!("{:.1}", predicted / 1e6)));
        now.push(value(&format!("{name}_measured"), format!("{:.1}", measured / 1e6)));
    }
    file("nanogpt_memory", "output.txt", "");
    nearly("nanogpt_memory", &now);
}

/// The four runs of the page on finetuning: their folders, how the record calls them, and their settings.
const FINETUNED: [(&str, &str, &str); 4] = [
    ("3e-5", "low", "--learning_rate 3e-5"),
    ("3e-4", "middle", "--learning_rate 3e-4"),
    ("3e-3", "high", "--learning_rate 3e-3"),
    (
        "from_nothing",
        "scratch",
        "--learning_rate 3e-3 --init_from scratch --n_layer 4 --n_head 4 --n_embd 128",
    ),
];

/// The commands and settings of the page, with Shakespeare's first characters as the text.
#[test]
#[ignore = "trains for minutes, on a text that is not in the repository"]
fn a_storyteller_is_finetuned() {
    let workshop = Workshop::new();
    let page = fs::read_to_string(here().join("../book/src/using_finetune.md")).unwrap();
    let settings = page.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    fs::write(workshop.path("my_finetune.toml"), settings).unwrap();
    fs::write(workshop.path("my_text.txt"), &shakespeare()[..100_000]).unwrap();
    let lines = page.lines().filter(|line| {
        line.starts_with("nanogpt") && line.contains("storyteller") && !line.contains("sample")
    });
    for line in lines.filter(|line| !line.contains("eval ")) {
        let threads = if line.contains(" train ") { " --threads 1" } else { "" };
        workshop.run(&format!("{line}{threads}"));
    }

    let mut now = Vec::new();
    for (folder, name, flags) in FINETUNED {
        workshop.run(&format!(
            "nanogpt train my_finetune.toml {flags} --out_dir out/{folder} --threads 1"
        ));
        let rows = metrics::read(&workshop.path("out").join(folder).join(metrics::FILE)).unwrap();
        let evaluations = rows.iter().filter_map(|row| Some((row.step, row.val_loss?)));
        let evaluations: Vec<(usize, f64)> = evaluations.collect();
        let best = evaluations.iter().min_by(|a, b| a.1.total_cmp(&b.1)).unwrap();
        let (first, last) = (evaluations[0], evaluations[evaluations.len() - 1]);
        now.push(value(&format!("{name}_before"), format!("{:.2}", first.1)));
        now.push(value(&format!("{name}_best"), format!("{:.2}", best.1)));
        now.push(value(&format!("{name}_best_step"), best.0));
        now.push(value(&format!("{name}_end"), format!("{:.2}", last.1)));
        now.push(value(&format!("{name}_fables"), of_the_fables(&workshop, folder)));
    }
    now.push(value("storyteller_fables", of_the_fables(&workshop, "storyteller")));
    let command = "nanogpt plot out/3e-5 out/3e-4 out/3e-3 out/from_nothing --out loss.svg";
    workshop.run(command);
    let svg = fs::read_to_string(workshop.path("loss.svg")).unwrap();
    file(FINETUNE, "loss.svg", &svg);
    file(FINETUNE, "output.txt", "");
    nearly(FINETUNE, &now);

    for (name, folder) in [("before", "storyteller"), ("after", "3e-4")] {
        let shown = if name == "before" { "storyteller" } else { "my_finetune" };
        let command =
            |folder: &str| format!("nanogpt sample out/{folder} --start KING --max-new-tokens 80");
        let written = workshop.timed(&command(folder));
        sample(&format!("{FINETUNE}_{name}"), &command(shown), written);
    }
}

const FINETUNE: &str = "nanogpt_finetune";

/// The loss of a run's best model on the fables.
fn of_the_fables(workshop: &Workshop, folder: &str) -> String {
    let json =
        workshop.run(&format!("nanogpt eval out/{folder} --dataset fables --threads 1 --json"));
    let report: Value = serde_json::from_str(&json).unwrap();
    format!("{:.2}", report["loss"].as_f64().unwrap())
}
