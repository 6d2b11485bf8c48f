use anyhow::{Context, Result, ensure};
use lab::{Rng, Tokenizer, printable};
use nanogpt::{
    generate::{Generator, Sampling, Writer},
    precision::Precision,
    source,
};
use std::{
    fs,
    io::{self, Write},
};

/// Write text with a model, as it comes
#[derive(clap::Args)]
pub struct Args {
    /// The folder of a run, a folder of Hugging Face's, or gpt2, gpt2-medium, gpt2-large, gpt2-xl
    #[arg(value_name = "FROM", default_value = "out")]
    from: String,

    /// What the text begins with; FILE:path takes a file's [default: a new document, or a new line]
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    start: Option<String>,

    /// How many texts to write
    #[arg(long, alias = "num_samples", value_name = "N", default_value_t = 1)]
    num_samples: usize,

    /// How many tokens each goes on for
    #[arg(long, alias = "max_new_tokens", value_name = "N", default_value_t = 500)]
    max_new_tokens: usize,

    /// Below 1 makes likely tokens likelier; 0 always takes the likeliest
    #[arg(long, value_name = "X", default_value_t = 0.8)]
    temperature: f64,

    /// Draw from the N likeliest tokens only
    #[arg(long, alias = "top_k", value_name = "N", default_value_t = 200)]
    #[arg(value_parser = clap::value_parser!(i64).range(1..))]
    top_k: i64,

    /// Draw from the likeliest tokens only that have this share of the probability together
    #[arg(long, alias = "top_p", value_name = "X")]
    top_p: Option<f64>,

    #[arg(long, value_name = "N", default_value_t = 1337)]
    seed: u64,

    /// cpu, cuda, cuda:1, mps, or auto (a GPU if there is one)
    #[arg(long, default_value = "auto")]
    device: String,

    /// What matrix products are computed in: float32, tf32, bfloat16, float16, or auto (as `train` has it)
    #[arg(long, value_name = "NAME", default_value = "float32")]
    dtype: String,

    /// How many processor cores to use [default: all]; take 1 beside a training
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..=1024))]
    threads: Option<i32>,

    /// Compute every token anew from all before it, to compare
    #[arg(long)]
    no_cache: bool,
}

pub fn run(args: &Args) -> Result<()> {
    let sampling = args.sampling()?;
    if let Some(threads) = args.threads {
        tch::set_num_threads(threads);
    }
    let device = lab::device(&args.device)?;
    let precision =
        Precision::named(&args.dtype).with_context(|| format!("--dtype {}", args.dtype))?;
    let given = args.start()?;
    let (mut model, tokenizer) = source::open(&args.from, device)?;
    model.precision = Precision::choose(precision, model.config.n_embd, device)?;
    let start = given.unwrap_or_else(|| default_start(&tokenizer).into());
    tokenizer.expect_known(&start).context("--start")?;
    let mut prompt = tokenizer.encode(&start);
    if prompt.is_empty() {
        prompt = vec![tokenizer.end_of_text().unwrap_or(0)]; // a new document
    }
    let mut rng = Rng::new(args.seed);
    let mut out = io::stdout().lock();
    model.precision.autocast(device, || {
        for _ in 0..args.num_samples {
            let generator =
                Generator::new(&model, tokenizer.n_vocab(), &prompt, sampling, !args.no_cache);
            write(&mut out, &start)?;
            args.write_text(&mut out, generator, &tokenizer, &mut rng)?;
        }
        Ok(())
    })
}

/// Shows what has come at once. A control character of a model's could change the terminal.
fn write(out: &mut impl Write, text: &str) -> Result<()> {
    let written = out.write_all(printable(text).as_bytes()).and_then(|()| out.flush());
    written.context("failed printing to stdout") // as `println!` says it
}

impl Args {
    fn write_text(
        &self,
        out: &mut impl Write,
        mut generator: Generator,
        tokenizer: &Tokenizer,
        rng: &mut Rng,
    ) -> Result<()> {
        let mut writer = Writer::new(tokenizer);
        for _ in 0..self.max_new_tokens {
            let id = generator.next(rng);
            if Some(id) == tokenizer.end_of_text() {
                break;
            }
            write(out, &writer.push(id))?;
        }
        write(out, &writer.finish())?;
        write(out, "\n---------------\n")
    }

    fn sampling(&self) -> Result<Sampling> {
        let Self { temperature, top_k, top_p, .. } = *self;
        ensure!(
            temperature == 0.0 || (1e-3..=1e3).contains(&temperature),
            "--temperature {temperature}: choose 0, or a number from 0.001 to 1000"
        );
        ensure!(
            top_p.is_none_or(|p| 0.0 < p && p <= 1.0),
            "--top-p {}: choose a number above 0, up to 1",
            top_p.unwrap_or_default()
        );
        Ok(Sampling { temperature, top_k: Some(top_k), top_p })
    }

    fn start(&self) -> Result<Option<String>> {
        let Some(start) = &self.start else { return Ok(None) };
        let text = match start.strip_prefix("FILE:") {
            Some(path) => {
                fs::read_to_string(path).with_context(|| format!("--start: cannot read {path}"))?
            }
            None => start.clone(),
        };
        Ok(Some(text))
    }
}

/// A new line, with which nanoGPT begins, where characters have no new document and know one.
fn default_start(tokenizer: &Tokenizer) -> &'static str {
    let knows_lines = tokenizer.expect_known("\n").is_ok();
    if tokenizer.end_of_text().is_none() && knows_lines { "\n" } else { "" }
}
