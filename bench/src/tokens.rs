//! How fast text becomes shards of tokens: `data tokens` beside tiktoken in a pool of processes, as fineweb.py has it.

use crate::{cpu, side};
use anyhow::{Context, Result, ensure};
use base64::{Engine, prelude::BASE64_STANDARD};
use lab::{END_OF_TEXT, fables, grouped};
use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Instant,
};

/// Characters of fables. What both programs need to begin should not count for much.
const FABLES: usize = 32_000_000;

/// A text of one's own is repeated until it has so many bytes.
const LEAST: usize = 32_000_000;

/// Tokens of GPT-2.
const N_VOCAB: u32 = 50_257;

#[derive(clap::Args)]
pub struct Args {
    /// Also this text, repeated to 32 MB
    #[arg(long, value_name = "FILE")]
    text: Vec<PathBuf>,
    /// How often each side takes its turn
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// A Python with tiktoken and numpy [default: bench/.venv/bin/python]
    #[arg(long, value_name = "PATH")]
    python: Option<PathBuf>,
}

/// A way to make the shards, and how long it took, in seconds.
struct Side {
    name: String,
    /// `None`: ours.
    processes: Option<usize>,
    seconds: Vec<f64>,
}

/// Lets each side make shards of the same texts, in turn, and prints how fast each is.
///
/// # Errors
/// If a side fails, or the shards differ.
pub fn run(args: &Args) -> Result<()> {
    let python = args.python.clone().unwrap_or_else(side::venv_python);
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let folder = tempfile::tempdir()?;
    let vocabulary = folder.path().join("gpt2.tiktoken");
    fs::write(&vocabulary, gpt2_vocabulary()?)?;
    println!("{}, {cores} cores", cpu());
    let stories = fables::text(fables::TRAINING, FABLES).text;
    let mut texts = vec![("fables".to_string(), documents(fables::stories(&stories)))];
    for path in &args.text {
        let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
        ensure!(!text.trim().is_empty(), "{}: the file is empty", path.display());
        let paragraphs: Vec<&str> = text.split("\n\n").collect();
        let pages: Vec<String> = paragraphs.chunks(50).map(|page| page.join("\n\n")).collect();
        let times = LEAST.div_ceil(text.len());
        let pages = pages.iter().map(String::as_str).cycle().take(times * pages.len());
        texts.push((path.display().to_string(), documents(pages)));
    }
    for (name, text) in texts {
        let file = folder.path().join("text.txt");
        fs::write(&file, &text)?;
        let python_side = |processes: usize| Side {
            name: format!(
                "tiktoken, {processes} process{}",
                if processes == 1 { "" } else { "es" }
            ),
            processes: Some(processes),
            seconds: Vec::new(),
        };
        let mut sides = vec![
            Side { name: "data tokens".into(), processes: None, seconds: Vec::new() },
            python_side(cores.div_ceil(2)), // fineweb.py's number
            python_side(cores),
        ];
        sides.truncate(if cores == 1 { 2 } else { 3 });
        for round in 0..args.rounds {
            let mut shards = Vec::new();
            for i in 0..sides.len() {
                // A machine that is disturbed for a while is so for all.
                let i = if round % 2 == 0 { i } else { sides.len() - 1 - i };
                let out = folder.path().join("out");
                sides[i].make(&file, &out, &vocabulary, &python)?;
                shards.push(contents(&out)?);
                fs::remove_dir_all(&out)?;
            }
            let sizes: Vec<usize> =
                shards.iter().map(|files| files.iter().map(Vec::len).sum()).collect();
            ensure!(
                shards.iter().all(|other| *other == shards[0]),
                "{name}: the sides' shards differ (they have {sizes:?} bytes)"
            );
        }
        print(&name, text.len(), &sides);
    }
    Ok(())
}

impl Side {
    /// Makes the shards, and notes how long it took, the program's beginning included.
    fn make(&mut self, text: &Path, out: &Path, vocabulary: &Path, python: &Path) -> Result<()> {
        let mut command = match self.processes {
            None => {
                let data =
                    env::current_exe()?.with_file_name(format!("data{}", env::consts::EXE_SUFFIX));
                ensure!(
                    data.exists(),
                    "there is no {}: `cargo build -p data` makes it",
                    data.display()
                );
                let mut command = Command::new(data);
                command.args(["tokens", "--val-share", "0", "--out"]).arg(out).arg(text);
                command
            }
            Some(processes) => {
                let mut command = Command::new(python);
                command.arg(side::script("tokens.py")?).args([text, out, vocabulary]);
                command.args(["--processes", &processes.to_string()]);
                command
            }
        };
        let begun = Instant::now();
        side::said(&mut command)?;
        self.seconds.push(begun.elapsed().as_secs_f64());
        Ok(())
    }

    fn median(&self) -> f64 {
        let mut seconds = self.seconds.clone();
        seconds.sort_by(f64::total_cmp);
        seconds[seconds.len() / 2]
    }
}

fn print(name: &str, bytes: usize, sides: &[Side]) {
    let megabytes = bytes as f64 / 1e6;
    println!("\n{name}: {} bytes; all sides write the same shards", grouped(bytes as i64));
    for side in sides {
        let least = side.seconds.iter().copied().fold(f64::INFINITY, f64::min);
        let most = side.seconds.iter().copied().fold(0.0, f64::max);
        println!(
            "  {:<22} | {:6.1} MB/s | {:6.2} s ({least:.2} … {most:.2}) | ours is {:.2} times as fast",
            side.name,
            megabytes / side.median(),
            side.median(),
            side.median() / sides[0].median()
        );
    }
}

fn documents<'a>(texts: impl Iterator<Item = &'a str>) -> String {
    let texts: Vec<&str> = texts.map(str::trim).filter(|text| !text.is_empty()).collect();
    texts.join(&format!("\n{END_OF_TEXT}\n")) + "\n"
}

/// The shards of a folder, in the order of their names.
fn contents(folder: &Path) -> Result<Vec<Vec<u8>>> {
    let mut paths: Vec<PathBuf> =
        fs::read_dir(folder)?.flatten().map(|entry| entry.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|end| end == "npy"));
    paths.sort();
    Ok(paths.iter().map(fs::read).collect::<Result<_, _>>()?)
}

/// GPT-2's vocabulary in tiktoken's format, which Python's tiktoken would download.
fn gpt2_vocabulary() -> Result<String> {
    let bpe = tiktoken_rs::r50k_base()?;
    let line = |id| Ok(format!("{} {id}\n", BASE64_STANDARD.encode(bpe.decode_bytes(&[id])?)));
    (0..N_VOCAB).map(line).collect()
}
