//! Whatever a person gets wrong, a step answers in one sentence that names it and the way out, with
//! exit code 1 or 2 and no panic.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

const STEPS: [(&str, &str); 15] = [
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
    ("step11_ddp", env!("CARGO_BIN_EXE_step11_ddp")),
    ("step12_dataset", env!("CARGO_BIN_EXE_step12_dataset")),
    ("step13_evaluation", env!("CARGO_BIN_EXE_step13_evaluation")),
    ("step14_checkpoint", env!("CARGO_BIN_EXE_step14_checkpoint")),
];

/// Those that read a corpus, those whose model knows characters, those that are GPT-2, those of them that
/// read shards in place of a corpus, and those that may be several processes.
const WITH_CORPUS: std::ops::Range<usize> = 1..12;
const WITH_CHARACTERS: std::ops::Range<usize> = 1..4;
const GPT2: std::ops::Range<usize> = 5..STEPS.len();
const WITH_SHARDS: std::ops::Range<usize> = 12..STEPS.len();
const WITH_RANKS: std::ops::Range<usize> = 11..STEPS.len();

/// step05 reads a checkpoint by itself, all later ones by the lab, as the last does.
const READ_WEIGHTS: [usize; 2] = [GPT2.start, GPT2.end - 1];

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

    /// Runs a step in this folder, as one process (tests/ranks.rs has what several say).
    fn run(&self, step: usize, args: &[&str]) -> Output {
        let mut command = Command::new(STEPS[step].1);
        command.current_dir(self.path()).args(args);
        if WITH_RANKS.contains(&step) {
            command.args(["--nproc", "1"]);
        }
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

/// What is tried with which step. The lab does the refusing, so one step is tried with every case, and each of the
/// others with one of them, in turn: programs of libtorch take half a second to start.
fn tries<T>(steps: std::ops::Range<usize>, cases: &[T]) -> Vec<(usize, &T)> {
    let first = steps.start;
    let of_others = (first + 1..steps.end).zip(cases.iter().cycle());
    cases.iter().map(|case| (first, case)).chain(of_others).collect()
}

#[test]
fn no_steps() {
    let cases = [("--steps", "0"), ("--steps", "many"), ("--steps", "-5"), ("--seed", "-1")];
    for (step, (flag, value)) in tries(0..STEPS.len(), &cases) {
        Folder::new().refused(step, &[flag, value], &[flag, value]);
    }
    Folder::new().refused(0, &["--steps", "4294967296"], &["--steps"]);
}

#[test]
fn an_unknown_flag() {
    Folder::new().refused(0, &["--stepz", "10"], &["--stepz"]);
}

#[test]
fn a_device_that_is_not_there() {
    let cases = [("cuda:99", "--device cpu"), ("toaster", "cpu")];
    for (step, (device, word)) in tries(0..STEPS.len(), &cases) {
        Folder::new().refused(step, &["--device", device], &[device, word]);
    }
}

#[test]
fn a_folder_that_cannot_be_written() {
    let folder = Folder::new();
    let file = folder.file("file", "not a folder");
    for (step, below) in tries(0..STEPS.len(), &["", "/out"]) {
        let out = format!("{file}{below}");
        folder.refused(step, &["--out", &out], &[&out, "--out"]);
    }
    assert_eq!(fs::read_to_string(file).unwrap(), "not a folder");
}

/// A path need be no text on Linux (a Mac's file system makes it one).
#[cfg(target_os = "linux")]
#[test]
fn a_folder_whose_name_is_no_text() {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt};
    let folder = Folder::new();
    let out = folder.path().join(OsStr::from_bytes(b"caf\xe9"));
    let mut step = Command::new(STEPS[0].1);
    let output = step.args(["--quick", "--no-plot", "--out"]).arg(&out).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(out.join("record.json").exists());
}

#[test]
fn a_corpus_that_cannot_be_used() {
    let folder = Folder::new();
    let fetch = ["data/shakespeare/input.txt", "cargo run -p data -- shakespeare"];
    let cases = [
        ("missing.txt".into(), ["missing.txt", "No such file"]),
        (".".into(), [".", "cannot read"]),
        (folder.file("empty.txt", ""), ["empty.txt", "empty"]),
        (folder.file("latin1.txt", b"caf\xe9 au lait"), ["latin1.txt", "UTF-8"]),
        (folder.file("short.txt", "ab"), ["short.txt", "longer"]),
        ("shakespeare".into(), fetch),
    ];
    for (step, (path, words)) in tries(WITH_CORPUS, &cases) {
        folder.refused(step, &["--corpus", path], words);
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
fn a_vocabulary_without_a_single_merge() {
    // 256 bytes and the token between documents are there before anything is learned.
    for tokens in ["0", "256", "257", "-1", "many"] {
        Folder::new().refused(4, &[&format!("--vocab-size={tokens}")], &["--vocab-size"]);
    }
    let folder = Folder::new();
    assert!(folder.run(4, &["--vocab-size", "258", "--out", "."]).status.success());
    let file = fs::read_to_string(folder.path().join("vocab.tiktoken")).unwrap();
    assert_eq!(file.lines().count(), 258);
    let flags = ["--tokenizer", "vocab.tiktoken", "--max-new-tokens", "1"];
    assert!(folder.run(5, &flags).status.success());
}

/// tests/weights.rs has every way in which a checkpoint can be wrong.
#[test]
fn weights_that_cannot_be_used() {
    let folder = Folder::new();
    let cut = folder.file("cut.safetensors", [9, 0, 0, 0, 0, 0, 0, 0, b'{']);
    let cases = [
        ("gpt3", ["gpt3", "cargo run -p data -- gpt2"]),
        (".", ["model.safetensors", "cargo run -p data -- gpt2"]),
        (&cut, ["cut.safetensors", "header"]),
    ];
    for (step, (path, words)) in tries(GPT2, &cases) {
        folder.refused(step, &["--weights", path], words);
    }
    folder.refused(5, &["--weights", &cut, "--size", "gpt2"], &["--size", "--weights"]);
}

const TINY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/gpt2-tiny");
const ODD: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/gpt2-odd");

/// The vocabulary that step04 learns from the fables, as it writes it.
const FABLES: &str = lab::fables::VOCABULARY;

/// Another line for the token with this id.
fn instead_of(id: u32, line: &str) -> String {
    let end = format!(" {id}");
    let lines = FABLES.lines().map(|other| if other.ends_with(&end) { line } else { other });
    lines.filter(|line| !line.is_empty()).map(|line| format!("{line}\n")).collect()
}

#[test]
fn a_vocabulary_that_is_none() {
    let folder = Folder::new();
    let cases = [
        ("missing.tiktoken".into(), "No such file"),
        (".".into(), "directory"),
        (folder.file("picture.png", b"\x89PNG\r\n\x1a\n\0\0"), "no text"),
        (folder.file("program", [0u8, 1, 2, 255, 254]), "no text"),
        (folder.file("zeros", [0u8; 100]), "line 1"),
        (folder.file("empty", ""), "empty"),
        (folder.file("story", "Once upon a time"), "line 1"),
        (folder.file("vocab.json", r#"{"a": 0}"#), "line 1"),
        (folder.file("no_end", instead_of(1023, "")), "add the line `PHxlbmRvZnRleHR8Pg== 1023`"),
        (folder.file("no_byte", instead_of(65, "QUFB 65")), "the byte 65"),
        (folder.file("gap", instead_of(500, "")), "no token has the id 500"),
        (folder.file("id_twice", instead_of(500, "QUFB 499")), "two tokens have the id 499"),
        (folder.file("token_twice", instead_of(500, "QQ== 500")), "line 501"),
        (folder.file("no_id", instead_of(500, "QUFB")), "line 501"),
    ];
    for (step, (path, word)) in tries(GPT2, &cases) {
        folder.refused(step, &["--tokenizer", path], &["--tokenizer", path, word]);
    }
    folder.refused(5, &["--tokenizer", "missing.tiktoken"], &["gpt2, fables, or a file"]);
}

#[test]
fn a_vocabulary_that_is_not_the_checkpoints() {
    let folder = Folder::new();
    with_added_tokens(&folder, 1.0);
    let file = folder.file("mine.tiktoken", FABLES);
    let cases: [(&str, &str, &[&str]); 4] = [
        ("fables", TINY, &["--tokenizer fables", "1024", "101"]),
        (&file, ODD, &["--tokenizer", &file, "1024", "67"]),
        ("gpt2", TINY, &[TINY, "50257", "101"]),
        ("fables", ".", &["--tokenizer fables", "1024", "50260"]),
    ];
    for (step, (tokenizer, weights, words)) in tries(GPT2, &cases) {
        folder.refused(step, &["--tokenizer", tokenizer, "--weights", weights], words);
    }
}

/// What a step writes as its first sample.
fn first_sample(output: &Output) -> String {
    let said = String::from_utf8(output.stdout.clone()).unwrap();
    let sample = said.split("--- sample 1\n").nth(1).unwrap_or_else(|| panic!("{output:?}"));
    sample.split("\n---").next().unwrap().trim_end().into()
}

#[test]
fn lines_that_say_so_separate_documents_and_an_empty_prompt_begins_one() {
    let folder = Folder::new();
    let names = ["fox", "hen", "crow", "wolf", "mouse"];
    let document = |i: usize| format!("Once the {} met the {}.", names[i % 5], names[i / 5 % 5]);
    let text: String = (0..2000).map(|i| document(i) + "\n\n<|endoftext|>\n\n").collect();
    let text = folder.file("text.txt", text);
    let flags = ["--corpus", &text, "--steps", "40", "--temperature", "0", "--num-samples", "1"];
    let flags = [&flags[..], &["--max-new-tokens", "30", "--no-plot"]].concat();
    let sample = first_sample(&folder.run(6, &flags));
    let is_one = (0..25).any(|i| sample == document(i));
    assert!(is_one, "{sample:?}");
}

#[test]
fn a_prompt_may_say_where_a_document_begins() {
    let flags = ["--temperature", "0", "--max-new-tokens", "8", "--prompt"];
    let sample = |prompt| first_sample(&Folder::new().run(5, &[&flags[..], &[prompt]].concat()));
    assert_eq!(sample("<|endoftext|>"), sample(""));
}

#[test]
fn a_model_that_lacks_the_corpus_tokens() {
    for step in READ_WEIGHTS {
        Folder::new().refused(step, &["--weights", ODD], &[ODD, "67", "50257"]);
    }
}

#[test]
fn a_model_that_computes_something_else() {
    let folder = Folder::new();
    with_added_tokens(&folder, 1.0);
    for (key, value) in [
        ("activation_function", "\"relu\""),
        ("scale_attn_by_inverse_layer_idx", "true"),
        ("model_type", "\"bert\""),
        ("n_head", "7"),
    ] {
        let rest = r#""model_type": "gpt2", "n_head": 1, "n_layer": 1"#;
        let rest = rest.replace(&format!("\"{key}\""), "\"_\"");
        folder.file("config.json", format!("{{{rest}, \"{key}\": {value}}}"));
        for step in READ_WEIGHTS {
            folder.refused(step, &["--weights", "."], &[key, value]);
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
    // A short text, for each token of it costs 50,260 logits.
    let text = folder.file("text.txt", "A fox met a hen. ".repeat(300));
    let flags = ["--weights", ".", "--temperature", "0", "--corpus", &text];
    let output = folder.run(5, &flags);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    folder.file("vocab.json", r#"{"[PAD]": 0}"#);
    for step in READ_WEIGHTS {
        folder.refused(step, &["--weights", "."], &["vocab.json", "token 0", "[PAD]"]);
    }
}

#[test]
fn logits_that_are_not_finite_write_no_text() {
    let folder = Folder::new();
    with_added_tokens(&folder, 3e38); // each is a number; their sums are not
    let text = folder.file("text.txt", "A fox met a hen. ".repeat(300));
    for step in GPT2.start..WITH_CORPUS.end {
        let flags = ["--weights", ".", "--corpus", &text];
        folder.refused(step, &flags, &["step 0", "not finite", "learning rate"]);
    }
}

#[test]
fn a_checkpoint_with_nan_in_it_is_named() {
    let folder = Folder::new();
    with_added_tokens(&folder, f64::NAN);
    for step in READ_WEIGHTS {
        folder.refused(step, &["--weights", "."], &["`h.0.attn.c_attn.bias`", "NaN"]);
    }
}

#[test]
fn sampling_that_makes_no_sense() {
    let temperatures = ["-1", "-0.5", "NaN", "inf", "1e-40", "0.0009", "1e300"];
    let mut cases = vec![
        ("--top-k", "0", "1.."),
        ("--top-k", "-1", "1.."),
        ("--num-samples", "0", "1..=1000"),
        ("--num-samples", "4294967295", "1..=1000"),
        ("--max-new-tokens", "-5", "1000000"),
        ("--max-new-tokens", "4294967295", "1000000"),
    ];
    cases.extend(temperatures.map(|temperature| ("--temperature", temperature, "0.001")));
    for (step, (flag, value, word)) in tries(GPT2, &cases) {
        Folder::new().refused(step, &[flag, value], &[flag, value, word]);
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
fn a_text_too_short_for_a_batch() {
    let folder = Folder::new();
    let short = folder.file("short.txt", "word ".repeat(400));
    let letters = folder.file("letters.txt", "abcdefghijk");
    let cases = [(short, "sequences of 128"), (letters, "enough for 0")];
    for (step, (text, words)) in tries(GPT2.start..WITH_CORPUS.end, &cases) {
        folder.refused(step, &["--corpus", text], &[words, "more text"]);
    }
}

#[test]
fn batches_that_are_too_large_or_cannot_be_cut() {
    let refused = |flag: &str, value: &str, words: &[&str]| {
        Folder::new().refused(10, &[flag, value], &[&[value], words].concat());
    };
    for flag in ["--batch-size", "--total-batch-size"] {
        for value in ["0", "-8", "1073741825", "9223372036854775807", "9223372036854775808"] {
            refused(flag, value, &[flag]);
        }
    }
    refused("--total-batch-size", "1000", &["--total-batch-size", "multiple of 128"]);
    refused("--batch-size", "1000000", &["sequences of 128", "smaller batch"]);
}

#[test]
fn shards_that_cannot_be_read() {
    let folder = Folder::new();
    fs::create_dir(folder.path().join("empty")).unwrap();
    let file = folder.file("file", "no folder");
    fs::create_dir(folder.path().join("foreign")).unwrap();
    folder.file("foreign/x_train_000001.npy", "no array");
    let theirs = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/shards");
    let cases: [(&[&str], &[&str]); 6] = [
        (&["--data", "missing"], &["missing", "cargo run -p data"]),
        (&["--data", "empty"], &["empty", "no shards to train on"]),
        (&["--data", &file], &["file"]),
        (&["--data", "foreign"], &["x_train_000001.npy"]),
        (&["--data", theirs.to_str().unwrap()], &["no shards to validate on"]),
        (&["--corpus", "shakespeare"], &["--corpus shakespeare", "--data"]),
    ];
    for (step, (args, words)) in tries(WITH_SHARDS, &cases) {
        folder.refused(step, args, words);
    }
}

#[test]
fn questions_that_cannot_be_asked() {
    let folder = Folder::new();
    let three =
        folder.file("three.jsonl", r#"{"ctx": "A", "endings": ["b", "c", "d"], "label": 0}"#);
    let cases: [(&[&str], &[&str]); 4] = [
        (&["--questions", "missing.jsonl"], &["--questions missing.jsonl", "cannot read"]),
        (&["--questions", "hellaswag"], &["cargo run -p data -- hellaswag"]),
        (&["--questions", &three], &["three.jsonl", "line 1"]),
        (&["--num-questions", "0"], &["--num-questions"]),
    ];
    for (step, (args, words)) in tries(13..STEPS.len(), &cases) {
        folder.refused(step, args, words);
    }
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
    // The steps after it print as step05 does, which writes at once.
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
fn a_folder_of_the_repository_keeps_its_outputs_in_one_place() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut step = Command::new(STEPS[0].1);
    let output = step.current_dir(root.join("steps")).arg("--quick").output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let place = root.join("out/step00_tensors/metrics.csv");
    assert!(said.contains(&format!("metrics: {}", place.display())), "{output:?}");
}
