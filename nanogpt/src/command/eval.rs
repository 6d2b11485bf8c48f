use anyhow::{Context, Result, bail, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use lab::{Question, Tokenizer, grouped, printable, questions};
use nanogpt::{
    Dataset, Gpt, TrainConfig,
    eval::{self, Answers, Loss},
    precision::Precision,
    source,
};
use serde::Serialize;
use std::path::Path;

/// Measure a model: loss, perplexity, bits per byte, HellaSwag
#[derive(clap::Args)]
pub struct Args {
    /// The folder of a run, a folder of Hugging Face's, or gpt2, gpt2-medium, gpt2-large, gpt2-xl
    #[arg(value_name = "FROM", default_value = "out")]
    from: String,

    /// Whose validation split to read, all of it [default: the one that the run was trained on]
    #[arg(long, value_name = "NAME|DIR")]
    dataset: Option<String>,

    /// Let windows begin so many tokens apart, so that each token has others before it
    /// [default: as long as a window]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(1..))]
    stride: Option<i64>,

    /// Ask questions with four endings too: fables, hellaswag, or a file in HellaSwag's format
    #[arg(long, value_name = "NAME|FILE")]
    hellaswag: Option<String>,

    /// Ask the first N only [default: 200 of the fables, all of a file]
    #[arg(long, value_name = "N", requires = "hellaswag")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    num_questions: Option<u32>,

    /// cpu, cuda, cuda:1, mps, or auto (a GPU if there is one)
    #[arg(long, default_value = "auto")]
    device: String,

    /// What matrix products are computed in: float32, tf32, bfloat16, float16, or auto (as `train` has it)
    #[arg(long, value_name = "NAME", default_value = "float32")]
    dtype: String,

    /// How many processor cores to use [default: all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..=1024))]
    threads: Option<i32>,

    /// One JSON object instead of lines
    #[arg(long)]
    json: bool,
}

/// All that was measured.
#[derive(Serialize)]
struct Report<'a> {
    from: &'a str,
    parameters: i64,
    dataset: Option<&'a str>,
    split: &'static str,
    block_size: i64,
    stride: i64,
    #[serde(flatten)]
    loss: Option<Loss>,
    hellaswag: Option<Hellaswag>,
}

/// As the field calls its numbers.
#[derive(Serialize)]
struct Hellaswag {
    #[serde(flatten)]
    answers: Answers,
    acc: f64,
    acc_norm: f64,
}

pub fn run(args: &Args) -> Result<()> {
    if let Some(threads) = args.threads {
        tch::set_num_threads(threads);
    }
    let device = lab::device(&args.device)?;
    let precision =
        Precision::named(&args.dtype).with_context(|| format!("--dtype {}", args.dtype))?;
    let questions = args.questions()?;
    let (mut model, tokenizer) = source::open(&args.from, device)?;
    model.precision = Precision::choose(precision, model.config.n_embd, device)?;
    let dataset = args.dataset()?;
    let block_size = model.config.block_size;
    let stride = args.stride.unwrap_or(block_size);
    ensure!(stride <= block_size, "--stride {stride}: this model takes from 1 to {block_size}");
    let loss = match &dataset {
        Some(name) => Some(args.loss(&model, &tokenizer, stride, name)?),
        None => None,
    };
    let hellaswag = match &questions {
        Some(questions) => {
            let answers = answers(&model, &tokenizer, questions)?;
            let (acc, acc_norm) = answers.accuracies();
            Some(Hellaswag { answers, acc, acc_norm })
        }
        None => None,
    };
    let report = Report {
        from: &args.from,
        parameters: model.config.n_params(false),
        dataset: dataset.as_deref(),
        split: "val",
        block_size,
        stride,
        loss,
        hellaswag,
    };
    match args.json {
        true => println!("{}", serde_json::to_string(&report)?),
        false => print!("{}", report.lines(&model)),
    }
    Ok(())
}

impl Args {
    /// The data set to read; none, where a model without one only answers questions.
    fn dataset(&self) -> Result<Option<String>> {
        if self.dataset.is_some() {
            return Ok(self.dataset.clone());
        }
        let settings = Path::new(&self.from).join("config.toml");
        if source::is_run(Path::new(&self.from)) && settings.exists() {
            return Ok(Some(TrainConfig::load(Some(&settings), &[])?.dataset));
        }
        if self.hellaswag.is_none() {
            bail!(
                "{}: it does not say which data set to read; name one with --dataset, or ask questions with \
                 --hellaswag",
                self.from
            );
        }
        Ok(None)
    }

    fn loss(&self, model: &Gpt, tokenizer: &Tokenizer, stride: i64, name: &str) -> Result<Loss> {
        let dataset = Dataset::open(name)?;
        source::expect_same(&self.from, tokenizer, &dataset)?;
        let bar = bar(dataset.val.total() as u64 - 1, "tokens");
        let progress = |done: i64, _| bar.set_position(done as u64);
        let loss = eval::loss(model, &dataset.val, tokenizer, stride, progress);
        bar.finish_and_clear();
        loss.with_context(|| printable(name))
    }

    fn questions(&self) -> Result<Option<Vec<Question>>> {
        let Some(name) = &self.hellaswag else { return Ok(None) };
        let questions = questions::named(name, self.num_questions.map(|n| n as usize));
        Ok(Some(questions.with_context(|| format!("--hellaswag {}", printable(name)))?))
    }
}

fn answers(model: &Gpt, tokenizer: &Tokenizer, questions: &[Question]) -> Result<Answers> {
    let bar = bar(questions.len() as u64, "questions");
    let progress = |done| bar.set_position(done as u64);
    let answers = eval::answers(model, tokenizer, questions, progress);
    bar.finish_and_clear();
    answers.context("--hellaswag")
}

impl Report<'_> {
    fn lines(&self, model: &Gpt) -> String {
        let mut text = format!(
            "{}: {} parameters, windows of {} tokens\n",
            printable(self.from),
            grouped(model.config.n_params(false)),
            self.block_size
        );
        if let Some(loss) = &self.loss {
            text += &format!(
                "{}, {}: {} tokens, {} bytes, {} windows, {} tokens apart\n",
                printable(self.dataset.unwrap_or_default()),
                self.split,
                grouped(loss.tokens),
                grouped(loss.bytes),
                grouped(loss.windows),
                grouped(self.stride)
            );
            let error = loss.standard_error.map_or(String::new(), |error| format!(" ± {error:.4}"));
            text += &format!("loss           {:>9.4}{error} nats a token\n", loss.loss);
            text += &format!("perplexity     {:>9.4}\n", loss.perplexity);
            if let Some(bits) = loss.bits_per_byte {
                text += &format!("bits per byte  {bits:>9.4}\n");
            }
        }
        if let Some(Hellaswag { answers, acc, acc_norm }) = &self.hellaswag {
            let n = grouped(answers.questions as i64);
            text += &format!(
                "HellaSwag      {acc_norm:>9.4} right of {n}, by the mean of an ending's tokens (acc_norm)\n"
            );
            text += &format!("               {acc:>9.4} right, by their sum (acc)\n");
        }
        text
    }
}

/// A bar on stderr, and nothing where that is no terminal.
fn bar(length: u64, what: &str) -> ProgressBar {
    let template = format!("{{wide_bar}} {{human_pos}} of {{human_len}} {what}, {{eta}} left");
    let style = ProgressStyle::with_template(&template).expect("a template");
    ProgressBar::new(length).with_style(style)
}
