//! The commands of the book's pages about `nanogpt`, as they stand there, with small numbers.

use nanogpt::TrainConfig;
use std::{
    collections::BTreeSet,
    fs, iter,
    net::TcpListener,
    path::Path,
    process::{Child, Command, Output, Stdio},
};

/// What is added to the commands that would take minutes.
const SMALL: &str = " --max_iters 4 --eval_interval 2 --eval_iters 1 --save_interval 0 --batch_size 2 \
                     --gradient_accumulation_steps 2 --n_embd 16 --n_head 2 --n_layer 1 --block_size 16 --threads 1 \
                     --dtype float32 --device cpu";

/// A folder in which a page's commands run, and the page.
struct Page {
    text: String,
    folder: tempfile::TempDir,
}

impl Page {
    /// The page of this name, in a folder with a text of one's own and with the settings that come along.
    fn open(name: &str) -> Self {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let text = fs::read_to_string(here.join("../book/src").join(name)).unwrap();
        let page = Self { text, folder: tempfile::tempdir().unwrap() };
        let own = "Once, the quick brown fox jumped over the lazy dog. ".repeat(200);
        page.write("my_text.txt", &own);
        fs::create_dir(page.folder.path().join("configs")).unwrap();
        for config in fs::read_dir(here.join("configs")).unwrap() {
            let config = config.unwrap();
            page.write(
                &format!("configs/{}", config.file_name().to_str().unwrap()),
                &fs::read_to_string(config.path()).unwrap(),
            );
        }
        page
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.folder.path().join(name), text).unwrap();
    }

    fn has(&self, name: &str) -> bool {
        self.folder.path().join(name).exists()
    }

    /// The blocks of code, each with its language.
    fn blocks(&self) -> Vec<(&str, &str)> {
        let fenced = self.text.split("```").skip(1).step_by(2);
        fenced.map(|block| block.split_once('\n').unwrap()).collect()
    }

    fn blocks_in(&self, language: &str) -> Vec<&str> {
        let blocks = self.blocks().into_iter();
        blocks.filter(|(its, _)| *its == language).map(|(_, text)| text).collect()
    }

    /// The lines to type, but for comments.
    fn commands(&self) -> Vec<String> {
        let blocks = self.blocks_in("sh").join("\n");
        let lines = blocks.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        lines.map(str::to_string).collect()
    }

    /// Begins what a line of the page says, whatever starts it there.
    fn spawn(&self, line: &str) -> Child {
        let words = words(line);
        let words = words.iter().skip_while(|word| *word != "nanogpt").skip(1);
        let mut program = Command::new(env!("CARGO_BIN_EXE_nanogpt"));
        program.args(words).current_dir(self.folder.path()).env_remove("RANK");
        program.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    fn run(&self, line: &str) -> Output {
        self.spawn(line).wait_with_output().unwrap()
    }

    fn succeeds(&self, line: &str) -> String {
        said(line, &self.run(line))
    }
}

fn said(line: &str, output: &Output) -> String {
    assert!(output.status.success(), "{line}\n{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into()
}

/// The words of a command as a shell reads them, as far as the pages have it.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut is_quoted) = (vec![String::new()], false);
    for c in line.chars() {
        match c {
            '"' => is_quoted = !is_quoted,
            ' ' if !is_quoted => words.push(String::new()),
            _ => words.last_mut().unwrap().push(c),
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

/// The same command with small numbers.
fn small(line: &str) -> String {
    let words = words(line);
    let subcommand = words.iter().skip_while(|word| *word != "nanogpt").nth(1).unwrap();
    match subcommand.as_str() {
        "train" => {
            // A flag may stand on a line once.
            let mut line = line.to_string();
            for knob in SMALL.split_whitespace().step_by(2) {
                if let Some(at) = words.iter().position(|word| word == knob) {
                    line = line.replace(&format!(" {knob} {}", words[at + 1]), "");
                }
            }
            line + SMALL
        }
        "bench" => format!("{line} --n_embd 16 --n_head 2 --n_layer 1 --steps 2 --warmup 1"),
        "sample" => format!("{line} --max-new-tokens 5"),
        _ => line.into(),
    }
}

#[test]
fn a_text_of_ones_own_from_file_to_samples() {
    let page = Page::open("using_own_text.md");
    let [settings] = page.blocks_in("toml")[..] else { panic!("one file of settings") };
    page.write("my_run.toml", settings);
    let commands = page.commands();
    assert!(commands.len() >= 7, "{commands:?}");
    for command in commands {
        page.succeeds(&small(&command));
    }
    assert!(page.has("my_model/model.safetensors"));
}

/// Where GPT-2 should be stands a small model with its vocabulary.
#[test]
fn a_model_is_finetuned_and_keeps_its_vocabulary() {
    let page = Page::open("using_finetune.md");
    let [settings] = page.blocks_in("toml")[..] else { panic!("one file of settings") };
    page.write("my_finetune.toml", settings);
    page.succeeds("nanogpt prepare my_text.txt --vocab gpt2 --out data/stand_in");
    page.succeeds(&small("nanogpt train --dataset stand_in --out_dir out/stand_in"));
    page.succeeds("nanogpt export out/stand_in --out data/gpt2");

    let commands = page.commands();
    assert!(commands.len() >= 8, "{commands:?}");
    for command in commands.iter().filter(|command| command.starts_with("nanogpt")) {
        page.succeeds(&small(command));
    }
    // The settings need not say how large the storyteller is, not even to go on.
    let again = "nanogpt train my_finetune.toml --out_dir out/again --block_size 16 --eval_iters 1 --threads 1";
    page.succeeds(&format!("{again} --max_iters 2"));
    let said = page.succeeds(&format!("{again} --max_iters 4 --init_from resume"));
    assert!(said.contains("goes on after step 2") && said.contains("n_embd: 16"), "{said}");

    let vocabulary = |name: &str| fs::read(page.folder.path().join(name)).unwrap();
    assert_eq!(
        vocabulary("out/my_finetune/vocab.tiktoken"),
        vocabulary("storyteller/vocab.tiktoken")
    );
}

/// In place of eight GPUs two ranks, in place of two hosts two programs, and in place of the hub a text.
#[test]
fn gpt2_is_trained_on_one_on_several_and_on_two_hosts() {
    let page = Page::open("using_gpt2.md");
    let [settings] = page.blocks_in("toml")[..] else { panic!("one file of settings") };
    page.write("gpt2_10b.toml", settings);
    let config = TrainConfig::load(Some(&page.folder.path().join("gpt2_10b.toml")), &[]).unwrap();
    let tokens = config.gradient_accumulation_steps as i64 * config.batch_size * config.block_size;
    assert_eq!((tokens, config.max_iters), (524_288, 19_073)); // build-nanogpt's

    let mut hosts = Vec::new();
    for (i, command) in page.commands().into_iter().enumerate() {
        if command.contains("node0") {
            let host = command.replace("node0", "127.0.0.1").replace("--nproc 8", "--nproc 1");
            hosts.push(small(&host) + " --out_dir out/hosts");
            continue;
        }
        let mut command = command.replace("--nproc 8", "--nproc 2");
        if command.contains("prepare ") {
            let name = command.split(' ').next_back().unwrap();
            command = format!("nanogpt prepare my_text.txt --vocab gpt2 --out data/{name}");
        }
        if page.has("out/gpt2_10b") && command.contains("nanogpt train") {
            command += &format!(" --out_dir out/{i}");
        }
        let command =
            command.replace("--hellaswag hellaswag", "--hellaswag fables --num-questions 2");
        page.succeeds(&small(&command));
    }
    assert_eq!(hosts.len(), 2);
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    hosts.iter_mut().for_each(|host| *host += &format!(" --master-port {port}"));
    let children: Vec<Child> = hosts.iter().map(|host| page.spawn(host)).collect();
    for (host, child) in iter::zip(&hosts, children) {
        said(host, &child.wait_with_output().unwrap());
    }
}

#[test]
fn sizes_are_said_and_a_law_is_found() {
    let page = Page::open("using_sizes.md");
    page.succeeds("nanogpt prepare my_text.txt --vocab characters --out data/shakespeare_char");
    for command in page.commands().into_iter().filter(|command| !command.contains("prepare")) {
        let command = match command.starts_with("nanogpt scaling") {
            true => format!("{command} --sizes 1x4,1x8,1x16 --tokens 1024,2048,4096 --device cpu"),
            false => small(&command),
        };
        page.succeeds(&command);
    }
    assert!(page.has("out/scaling/scaling.svg"));
}

/// A block that begins with `error:` is what the last command above it says.
#[test]
fn a_recipe_is_tried_on_what_was_held_out() {
    let page = Page::open("using_recipe.md");
    page.succeeds("nanogpt prepare my_text.txt --vocab characters --out data/shakespeare_char");
    page.write("dev.txt", &"A fox, a dog. ".repeat(100));
    let from_the_network = "nanogpt prepare shakespeare_char";
    let lines = page.commands().into_iter();
    for line in lines.filter(|line| line.starts_with("nanogpt") && line != from_the_network) {
        page.succeeds(&small(&line));
    }
}

#[test]
fn what_goes_wrong_says_what_the_page_says() {
    let page = Page::open("using_troubles.md");
    let letters = fs::read_to_string(page.folder.path().join("my_text.txt")).unwrap();
    page.write("letters.txt", &letters);
    page.write("short.txt", &letters[..1500]);
    for name in ["letters", "short"] {
        page.succeeds(&format!("nanogpt prepare {name}.txt --vocab characters"));
    }
    let knobs = words(&small("nanogpt train --dataset letters --out_dir out/letters"));
    let settings = knobs[2..].chunks(2).map(|knob| {
        let (name, value) = (knob[0].trim_start_matches('-'), &knob[1]);
        let is_text = value.parse::<f64>().is_err();
        if is_text { format!("{name} = '{value}'\n") } else { format!("{name} = {value}\n") }
    });
    page.write("letters.toml", &settings.collect::<String>());
    page.succeeds("nanogpt train letters.toml");

    let blocks = page.blocks();
    let mut refused = 0;
    for (i, (language, text)) in blocks.iter().enumerate().filter(|(_, (its, _))| *its == "sh") {
        assert_eq!(*language, "sh");
        let commands: Vec<&str> = text.lines().collect();
        let (last, before) = commands.split_last().unwrap();
        before.iter().for_each(|command| drop(page.succeeds(command)));
        match blocks.get(i + 1).filter(|(its, _)| *its == "text") {
            Some((_, error)) => {
                let output = page.run(last);
                let stderr = String::from_utf8_lossy(&output.stderr);
                assert_eq!(output.status.code(), Some(1), "{last}\n{stderr}");
                assert!(is_like(&stderr, error), "{last}\n{stderr}the page says\n{error}");
                refused += 1;
            }
            None => drop(page.succeeds(&small(last))),
        }
    }
    assert!(refused >= 7, "{refused}");
}

/// Whether a text has what stands between the dots of the other, in that order.
fn is_like(text: &str, dotted: &str) -> bool {
    let mut rest = text;
    dotted.trim().split('…').all(|piece| match rest.find(piece) {
        Some(at) => {
            rest = &rest[at + piece.len()..];
            true
        }
        None => false,
    })
}

/// The tables of train.py's knobs and of ours together are all that there are, with the defaults that they say.
#[test]
fn each_knob_stands_in_the_table() {
    let page = Page::open("using_knobs.md");
    let tables = page.text.split("## sample.py").next().unwrap();
    let rows = tables.lines().filter(|line| line.starts_with("| `"));
    let rows: Vec<Vec<&str>> = rows.map(|row| row.split('|').map(str::trim).collect()).collect();
    let told: BTreeSet<&str> = rows.iter().map(|row| row[1].trim_matches('`')).collect();
    let defaults = TrainConfig::defaults();
    let there: BTreeSet<&str> = defaults.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(told, there);
    for row in rows.iter().filter(|row| row[3].starts_with("the same")) {
        let (_, default) =
            defaults.iter().find(|(name, _)| name == row[1].trim_matches('`')).unwrap();
        let told = row[2].trim_matches('`').to_lowercase().replace('\'', "\"");
        let told: toml::Value = told.parse().unwrap();
        let number =
            |value: &toml::Value| value.as_float().or(value.as_integer().map(|i| i as f64));
        let is_same =
            *default == told || number(default).is_some() && number(default) == number(&told);
        assert!(is_same, "{}: {default}, and the page says {told}", row[1]);
    }
}

/// A page that shows a program shows the one that is compiled.
#[test]
fn the_program_in_the_book_is_the_example() {
    let page = Page::open("using_nanogpt.md");
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/own_model.rs");
    let example = fs::read_to_string(example).unwrap();
    let [shown] = page.blocks_in("rust,sketch")[..] else { panic!("one program") };
    assert!(example.contains(shown), "book/src/using_nanogpt.md shows another program");
}
