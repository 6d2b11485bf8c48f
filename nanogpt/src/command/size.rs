use super::knobs::{Knobs, NOTE};
use anyhow::Result;
use lab::{Tokenizer, grouped};
use nanogpt::{
    data::{folder_of, padded, tokenizer_of},
    precision::Precision,
    size::{self, Job, said},
};

/// Say how large a run's model is, what it computes, and whether it will fit, before anything is trained
#[derive(clap::Args)]
#[command(after_help = NOTE)]
pub struct Args {
    #[command(flatten)]
    knobs: Knobs,

    /// How many tokens there are [default: as the data set has them; GPT-2's where it is not there]
    #[arg(long, value_name = "N")]
    vocab_size: Option<i64>,
}

pub fn run(args: &Args) -> Result<()> {
    let config = args.knobs.load()?;
    let device = lab::device(&config.device)?;
    let precision = Precision::choose(config.precision(), device)?;
    let vocab_size = args.vocab_size.unwrap_or_else(|| vocab_size_of(&config.dataset));
    let model = size::model_of(&config, vocab_size);
    model.check()?;
    println!("{model:?}\n");

    let parameters = size::parameters(&model);
    let total = size::of(&parameters, "total");
    println!("{:<24}{:>16}{:>12}", "parameters", "", "share");
    for (part, n) in &parameters {
        println!("  {part:<22}{:>16}{:>10.2} %", grouped(*n), 100.0 * *n as f64 / total as f64);
    }

    let t = config.block_size.min(model.block_size);
    let flops = size::forward_flops(&model, t);
    let forward = size::of(&flops, "forward");
    println!("\n{:<24}{:>16}{:>12}", format!("FLOPs, {t} tokens"), "", "of forward");
    for (part, n) in &flops {
        println!("  {part:<22}{:>16}{:>10.2} %", grouped(*n), 100.0 * *n as f64 / forward as f64);
    }
    let per_token = size::of(&flops, "forward and backward") as f64 / t as f64;
    println!("  a token in training: {}", grouped(per_token as i64));

    let job = Job::new(&config, precision, device, 1);
    let memory = size::memory(&model, &job);
    println!("\nmemory, {} windows of {t} tokens, {precision:?}", config.batch_size);
    let parts = [
        ("weights", memory.weights),
        ("gradients", memory.gradients),
        ("optimizer", memory.optimizer),
        ("activations", memory.activations),
        ("logits", memory.logits),
        ("at most", memory.peak),
    ];
    for (part, bytes) in parts {
        println!("  {part:<22}{:>16}", said(bytes as f64));
    }
    let checkpoint = size::checkpoint_bytes(&model, config.optimizer);
    println!("  {:<22}{:>16}", "a checkpoint on disk", said(checkpoint as f64));
    println!("{}", verdict(memory.peak as u64, device));
    Ok(())
}

/// Whether it will fit. A GPU's free memory is not asked for here.
fn verdict(peak: u64, device: tch::Device) -> String {
    let Some(free) = lab::free_memory().filter(|_| !device.is_cuda()) else {
        return "  will it fit? compare `at most` with your device's memory".into();
    };
    let fits =
        if peak < free { "yes" } else { "no: make batch_size, block_size or the model smaller" };
    format!("  will it fit? {} are free here: {fits}", said(free as f64))
}

/// V of a model for the data set of a run; for GPT-2's tokens where it is not there.
fn vocab_size_of(dataset: &str) -> i64 {
    let tokenizer = match dataset {
        "fables" => Tokenizer::load(dataset),
        _ => tokenizer_of(&folder_of(dataset)),
    };
    padded(tokenizer.map_or(50_257, |tokenizer| tokenizer.n_vocab()))
}
