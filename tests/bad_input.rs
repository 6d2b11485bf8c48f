//! Whatever a person gets wrong, a step answers in one sentence that names it and the way out, with
//! exit code 1 or 2 and no panic.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

const STEPS: [(&str, &str); 11] = [
    ("step00_tensors", env!("CARGO_BIN_EXE_step00_tensors")),
    ("step01_bigram", env!("CARGO_BIN_EXE_step01_bigram")),
    ("step02_attention", env!("CARGO_BIN_EXE_step02_attention")),
    ("step03_blocks", env!("CARGO_BIN_EXE_step03_blocks")),
    ("step04_tokenizer", env!("CARGO_BIN_EXE_step04_tokenizer")),
    ("step05_gpt2", env!("CARGO_BIN_EXE_step05_gpt2")),
    ("step06_training", env!("CARGO_BIN_EXE_step06_training")),
    ("step07_flash_attention", env!("CARGO_BIN_EXE_step07_flash_attention")),
    ("step08_mixed_precision", env!("CARGO_BIN_EXE_step08_mixed_precision")),
    ("step09_optimizer", env!("CARGO_BIN_EXE_step09_optimizer")),
    ("step10_grad_accumulation", env!("CARGO_BIN_EXE_step10_grad_accumulation")),
];

/// Those that read a corpus, those whose model knows characters, and those that are GPT-2.
const WITH_CORPUS: std::ops::Range<usize> = 1..STEPS.len();
const WITH_CHARACTERS: std::ops::Range<usize> = 1..4;
const GPT2: std::ops::Range<usize> = 5..STEPS.len();

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn file(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.path().join(name);
        fs::write(&path, content).unwrap();
        path.to_str().unwrap().into()
    }

    /// Runs a step in this folder, on the CPU unless `args` say otherwise.
    fn run(&self, step: usize, args: &[&str]) -> Output {
        let mut command = Command::new(STEPS[step].1);
        command.current_dir(self.path()).args(args);
        // Tests run side by side; threads that wait for each other would only be in their way.
        command.env("OMP_NUM_THREADS", "1");
        command.env_remove("RUST_BACKTRACE").output().unwrap()
    }

    /// The step must refuse, and what it says must contain every one of `words`.
    #[track_caller]
    fn refused(&self, step: usize, args: &[&str], words: &[&str]) {
        let output = self.run(step, args);
        let said = String::from_utf8_lossy(&output.stderr);
        let name = STEPS[step].0;
        assert!(matches!(output.status.code(), Some(1 | 2)), "{name} {args:?}: {output:?}");
        // clap adds a hint to its sentence, after an empty line.
        let sentence = said.split("\n\n").next().unwrap().trim_end();
        assert!(sentence.starts_with("error: "), "{name} {args:?}: {said}");
        assert_eq!(sentence.lines().count(), 1, "{name} {args:?}: {said}");
        assert!(!said.contains("panicked"), "{name} {args:?}: {said}");
        for word in words {
            assert!(sentence.contains(word), "{name} {args:?} does not say {word:?}: {said}");
        }
    }
}

#[test]
fn no_steps() {
    for step in 0..STEPS.len() {
        Folder::new().refused(step, &["--steps", "0"], &["--steps"]);
        Folder::new().refused(step, &["--steps", "many"], &["--steps"]);
        Folder::new().refused(step, &["--steps", "-5"], &["--steps", "-5"]);
        Folder::new().refused(step, &["--steps", "4294967296"], &["--steps"]);
        Folder::new().refused(step, &["--seed", "-1"], &["--seed", "-1"]);
    }
}

#[test]
fn an_unknown_flag() {
    for step in 0..STEPS.len() {
        Folder::new().refused(step, &["--stepz", "10"], &["--stepz"]);
    }
}

#[test]
fn a_device_that_is_not_there() {
    for step in 0..STEPS.len() {
        Folder::new().refused(step, &["--device", "cuda:99"], &["cuda:99", "--device cpu"]);
        Folder::new().refused(step, &["--device", "toaster"], &["toaster", "cpu"]);
    }
}

#[test]
fn a_folder_that_cannot_be_written() {
    let writes = |step: &usize| *step != 5; // step05 writes text to the terminal alone
    for step in (0..STEPS.len()).filter(writes) {
        let folder = Folder::new();
        let file = folder.file("file", "not a folder");
        let out = format!("{file}/out");
        folder.refused(step, &["--out", &out], &[&out, "--out"]);
        folder.refused(step, &["--out", &file], &[&file, "--out"]);
        assert_eq!(fs::read_to_string(file).unwrap(), "not a folder");
    }
}

#[test]
fn a_corpus_that_cannot_be_used() {
    for step in WITH_CORPUS {
        let folder = Folder::new();
        let corpus = |path: &str, words: &[&str]| folder.refused(step, &["--corpus", path], words);
        corpus("missing.txt", &["missing.txt", "No such file"]);
        corpus(".", &["cannot read"]);
        corpus(&folder.file("empty.txt", ""), &["empty.txt", "empty"]);
        corpus(&folder.file("latin1.txt", b"caf\xe9 au lait"), &["latin1.txt", "UTF-8"]);
        corpus(&folder.file("short.txt", "ab"), &["short.txt", "longer"]);
        corpus("shakespeare", &["data/shakespeare/input.txt", "cargo run -p data -- shakespeare"]);
    }
}

#[test]
fn a_corpus_one_character_too_short_for_the_block_and_one_just_long_enough() {
    // The validation part is the last tenth, and a window of T needs T + 1 characters.
    for (step, block_size) in [(1, 8), (2, 32), (3, 64)] {
        let folder = Folder::new();
        let text = |val: usize| "ab".repeat(5 * val);
        let short = folder.file("short.txt", text(block_size));
        folder.refused(step, &["--corpus", &short], &["short.txt", "longer"]);
        let long = folder.file("long.txt", text(block_size + 1));
        let output = folder.run(step, &["--corpus", &long, "--steps", "1", "--prompt", "a"]);
        assert!(output.status.success(), "{output:?}");
    }
}

#[test]
fn a_prompt_that_the_vocabulary_lacks() {
    for step in WITH_CHARACTERS {
        Folder::new().refused(step, &["--prompt", "a 狐 b"], &["--prompt", "狐"]);
        Folder::new().refused(step, &["--prompt", ""], &["--prompt"]);
    }
}

#[test]
fn a_prompt_may_begin_with_a_minus() {
    let folder = Folder::new();
    let text = folder.file("dialogue.txt", "- yes - said the fox -\n".repeat(100));
    for step in WITH_CHARACTERS {
        let args = ["--corpus", &text, "--steps", "1", "--prompt", "- said the fox"];
        let output = folder.run(step, &args);
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{output:?}");
        assert!(said.contains("\n- said the fox"), "{said}");
    }
    let args = ["--prompt", "- said the fox", "--max-new-tokens", "1", "--temperature", "0"];
    let output = folder.run(5, &args);
    assert!(String::from_utf8_lossy(&output.stdout).contains("\n- said the fox"), "{output:?}");
    let output = folder.run(4, &["--corpus", &text, "--steps", "1", "--prompt", "--abc"]);
    assert!(String::from_utf8_lossy(&output.stdout).contains("\"--\""), "{output:?}");
}

#[test]
fn a_corpus_without_a_new_line_gives_the_prompt_itself() {
    let folder = Folder::new();
    let text = folder.file("line.txt", "the fox said hello, ".repeat(100));
    for step in WITH_CHARACTERS {
        let output = folder.run(step, &["--corpus", &text, "--steps", "1"]);
        assert!(output.status.success(), "{output:?}");
        assert!(String::from_utf8_lossy(&output.stdout).contains("\n\nt"), "{output:?}");
        folder.refused(step, &["--corpus", &text, "--prompt", "\n"], &["--prompt", "'\\n'"]);
    }
}

#[test]
fn a_corpus_of_more_characters_than_a_model_of_characters_can_do_with() {
    let folder = Folder::new();
    let characters = |n| (' '..).take(n).collect::<String>();
    let text = folder.file("scripts.txt", characters(67_552));
    let just_too_many = folder.file("many.txt", characters(10_001));
    for step in WITH_CHARACTERS {
        let words = ["scripts.txt", "67,552 different characters", "10,000", "later step"];
        folder.refused(step, &["--corpus", &text], &words);
        folder.refused(step, &["--corpus", &just_too_many], &["10,001"]);
    }
}

#[test]
fn a_vocabulary_below_the_single_bytes() {
    for size in ["256", "0", "-1", "4294967296"] {
        Folder::new().refused(4, &["--vocab-size", size], &["--vocab-size", size]);
    }
}

/// tests/weights.rs has every way in which a checkpoint can be wrong.
#[test]
fn weights_that_cannot_be_used() {
    let folder = Folder::new();
    let cut = folder.file("cut.safetensors", [9, 0, 0, 0, 0, 0, 0, 0, b'{']);
    for step in GPT2 {
        folder.refused(step, &["--weights", "gpt3"], &["gpt3", "cargo run -p data -- gpt2"]);
        folder.refused(step, &["--weights", "."], &["model.safetensors"]);
        folder.refused(step, &["--weights", &cut], &["cut.safetensors", "header"]);
        folder.refused(step, &["--weights", &cut, "--size", "gpt2"], &["--size", "--weights"]);
    }
}

const ODD: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/gpt2-odd");

#[test]
fn a_model_that_lacks_the_corpus_tokens() {
    for step in GPT2 {
        Folder::new().refused(step, &["--weights", ODD], &["--weights", "67", "50257"]);
    }
}

#[test]
fn a_model_that_computes_something_else() {
    let folder = Folder::new();
    for name in ["model.safetensors", "config.json"] {
        fs::copy(Path::new(ODD).join(name), folder.path().join(name)).unwrap();
    }
    let config = fs::read_to_string(folder.path().join("config.json")).unwrap();
    for (key, before, after) in [
        ("activation_function", "\"gelu_new\"", "\"relu\""),
        ("scale_attn_by_inverse_layer_idx", "false", "true"),
        ("model_type", "\"gpt2\"", "\"bert\""),
        ("n_head", "5", "7"),
    ] {
        let changed =
            config.replace(&format!("\"{key}\": {before}"), &format!("\"{key}\": {after}"));
        assert_ne!(changed, config);
        folder.file("config.json", changed);
        folder.refused(5, &["--weights", "."], &[key, after]);
        if key == "activation_function" {
            // The same code reads a checkpoint in all steps.
            GPT2.skip(1).for_each(|step| folder.refused(step, &["--weights", "."], &[key, after]));
        }
    }
}

/// A checkpoint of GPT-2's smallest possible kind, with three tokens that were added to GPT-2's, as
/// people add `<|user|>`. They are far likelier than all others. Each weight of a layer is `weight`.
fn with_added_tokens(folder: &Folder, weight: f64) {
    let float = (tch::Kind::Float, tch::Device::Cpu);
    let (v, t, c) = (50_260, 16, 4);
    let wte = tch::Tensor::zeros([v, c], float);
    let _ = wte.narrow(0, 50_257, 3).fill_(10.0);
    let mut tensors = vec![("wte.weight".to_owned(), wte)];
    let mut add = |name: &str, shape: &[i64]| {
        tensors.push((name.to_owned(), tch::Tensor::full(shape, weight, float)));
    };
    add("wpe.weight", &[t, c]);
    for ln in ["h.0.ln_1", "h.0.ln_2", "ln_f"] {
        add(&format!("{ln}.weight"), &[c]);
        add(&format!("{ln}.bias"), &[c]);
    }
    for (layer, n, m) in [
        ("attn.c_attn", c, 3 * c),
        ("attn.c_proj", c, c),
        ("mlp.c_fc", c, 4 * c),
        ("mlp.c_proj", 4 * c, c),
    ] {
        add(&format!("h.0.{layer}.weight"), &[n, m]);
        add(&format!("h.0.{layer}.bias"), &[m]);
    }
    tch::Tensor::write_safetensors(&tensors, folder.path().join("model.safetensors")).unwrap();
    folder.file("config.json", r#"{"model_type": "gpt2", "n_head": 1, "n_layer": 1}"#);
}

#[test]
fn tokens_that_were_added_are_not_written_and_other_words_are_refused() {
    let folder = Folder::new();
    with_added_tokens(&folder, 1.0);
    folder.file("added_tokens.json", r#"{"<|user|>": 50257}"#);
    let output = folder.run(5, &["--weights", ".", "--temperature", "0"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    folder.file("vocab.json", r#"{"[PAD]": 0}"#);
    for step in GPT2 {
        folder.refused(step, &["--weights", "."], &["vocab.json", "token 0", "[PAD]"]);
    }
}

#[test]
fn logits_that_are_not_finite_write_no_text() {
    let folder = Folder::new();
    with_added_tokens(&folder, 3e38); // each is a number; their sums are not
    for sampling in [["--temperature", "0"], ["--top-k", "5"]] {
        let args = [&["--weights", "."], &sampling[..]].concat();
        folder.refused(5, &args, &["logits are not finite", "learning rate", "checkpoint"]);
    }
    // Where there is a training first, it has the first word.
    GPT2.skip(1).for_each(|step| folder.refused(step, &["--weights", "."], &["not finite"]));
}

#[test]
fn a_checkpoint_with_nan_in_it_is_named() {
    let folder = Folder::new();
    with_added_tokens(&folder, f64::NAN);
    GPT2.for_each(|step| folder.refused(step, &["--weights", "."], &["`wpe.weight`", "NaN"]));
}

#[test]
fn sampling_that_makes_no_sense() {
    for step in GPT2 {
        let refused = |flag: &str, value: &str, words: &[&str]| {
            Folder::new().refused(step, &[flag, value], &[&[flag, value], words].concat());
        };
        for temperature in ["-1", "-0.5", "NaN", "inf", "1e-40", "0.0009", "1e300"] {
            refused("--temperature", temperature, &["0.001"]);
        }
        refused("--top-k", "0", &["1.."]);
        refused("--top-k", "-1", &["1.."]);
        refused("--top-k", "4294967296", &["1.."]);
        refused("--num-samples", "0", &["1..=1000"]);
        refused("--num-samples", "4294967295", &["1..=1000"]);
        refused("--max-new-tokens", "-5", &["100000"]);
        refused("--max-new-tokens", "4294967295", &["100000"]);
    }
}

#[test]
fn sampling_at_the_limits() {
    let folder = Folder::new();
    for (temperature, top_k) in [("0", "1"), ("0.001", "4294967295"), ("1000", "50257")] {
        let args = ["--temperature", temperature, "--top-k", top_k, "--max-new-tokens", "1"];
        let output = folder.run(5, &args);
        assert!(output.status.success(), "{output:?}");
    }
}

#[test]
fn batches_that_cannot_be_cut() {
    let folder = Folder::new();
    let short = folder.file("short.txt", "word ".repeat(400));
    for step in GPT2.skip(1) {
        folder.refused(step, &["--corpus", &short], &["513", "more text"]);
    }
    let tiny = folder.file("tiny.txt", "word ".repeat(20));
    folder.refused(10, &["--corpus", &tiny], &["a sequence of 64", "more text"]);
}

#[test]
fn batches_that_are_too_large() {
    let refused = |flag: &str, value: &str, words: &[&str]| {
        Folder::new().refused(10, &[flag, value], &[&[value], words].concat());
    };
    for flag in ["--batch-size", "--total-batch-size"] {
        for value in ["0", "-8", "1073741825", "9223372036854775807", "9223372036854775808"] {
            refused(flag, value, &[flag]);
        }
    }
    refused("--total-batch-size", "1000", &["--total-batch-size", "1024"]);
    // The corpus has fewer tokens than that.
    let args = ["--batch-size", "1000000"];
    Folder::new().refused(10, &args, &["64000001", "--batch-size of at most "]);
}

#[test]
fn a_sample_moves_no_cursor() {
    let folder = Folder::new();
    // Each of the two characters follows the other, so that all samples are full of both.
    let corpus = folder.file("coloured.txt", "\x1b\n".repeat(5_000));
    for step in WITH_CHARACTERS {
        let output = folder.run(step, &["--corpus", &corpus, "--steps", "1", "--no-plot"]);
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.contains("\\u{1b}"), "{output:?}");
        assert!(!said.contains('\x1b'), "{said}");
    }
    // Steps 06 to 10 print as step05 does, which writes at once.
    let output = folder.run(5, &["--prompt", "\x1b[31mred", "--max-new-tokens", "1"]);
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("\\u{1b}[31mred") && !said.contains('\x1b'), "{output:?}");
}

#[test]
fn a_reader_that_leaves_early_is_no_panic() {
    let folder = Folder::new();
    let script = format!("{} --quick | head -n 1", STEPS[1].1);
    let output = Command::new("sh").current_dir(folder.path()).args(["-c", &script]).output();
    let said = output.unwrap().stderr;
    assert!(said.is_empty(), "{}", String::from_utf8_lossy(&said));
}

#[test]
fn threads_that_make_no_sense() {
    for threads in ["0", "-1", "2000", "all"] {
        Folder::new().refused(1, &["--threads", threads], &["--threads", "1 to 1024"]);
    }
    assert!(Folder::new().run(1, &["--threads", "1", "--steps", "1"]).status.success());
}

#[test]
fn a_corpus_of_eleven_letters_is_no_panic() {
    let folder = Folder::new();
    let text = folder.file("letters.txt", "abcdefghijk");
    let output = folder.run(5, &["--corpus", &text, "--max-new-tokens", "1"]);
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn a_folder_of_the_repository_keeps_its_outputs_in_one_place() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut step = Command::new(STEPS[0].1);
    let output = step.current_dir(root.join("steps")).arg("--quick").output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let place = root.join("out/step00_tensors/metrics.csv");
    assert!(said.contains(&format!("metrics: {}", place.display())), "{output:?}");
}
