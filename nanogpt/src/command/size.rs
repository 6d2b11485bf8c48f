use super::knobs::{Knobs, NOTE};
use anyhow::{Context, Result};
use lab::{ShardWriter, Tokenizer, grouped};
use nanogpt::{
    GptConfig, TrainConfig,
    data::{folder_of, padded, tokenizer_of},
    precision::Precision,
    size::{self, Job, Memory, said},
};
use std::{env, process};
use tch::Device;

/// Say how large a run's model is, what it computes, and whether it will fit, before anything is trained
#[derive(clap::Args)]
#[command(after_help = NOTE)]
#[command(mut_arg("curve", |arg| arg.hide(true)))] // it draws nothing here
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
    let vocab_size = args.vocab_size.unwrap_or_else(|| vocab_size_of(&config.dataset));
    let model = size::model_of(&config, vocab_size)?;
    let assumed = args.vocab_size.is_none() && !folder_of(&config.dataset).is_dir();
    model.check().with_context(|| match assumed {
        true => format!(
            "with GPT-2's vocabulary, since the data set {} is not there (--vocab-size says another)",
            config.dataset
        ),
        false => "the model".into(),
    })?;
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

    print_memory(&config, &model, device)
}

/// In float32 and in bfloat16, whichever the run will take.
fn print_memory(config: &TrainConfig, model: &GptConfig, device: Device) -> Result<()> {
    let chosen = Precision::choose(config.precision(), model.n_embd, device)?;
    let t = config.block_size.min(model.block_size);
    let memory = [Precision::Float32, Precision::Bfloat16]
        .map(|precision| size::memory(model, &Job::new(config, precision, device, 1)));
    let row = |part: &str, of: fn(&Memory) -> i64| {
        let [float32, bfloat16] = memory.map(|memory| said(of(&memory) as f64));
        println!("  {part:<22}{float32:>16}{bfloat16:>12}");
    };
    let title = format!("memory, {} × {t} tokens", config.batch_size);
    println!("\n{title:<24}{:>16}{:>12}", "float32", "bfloat16");
    row("weights", |memory| memory.weights);
    row("gradients", |memory| memory.gradients);
    row("optimizer", |memory| memory.optimizer);
    row("activations", |memory| memory.activations);
    row("logits", |memory| memory.logits);
    row("at most at one time", |memory| memory.peak);
    if let Some(free) = free_on(device) {
        let verdicts = memory.map(|memory| if memory.peak as u64 <= free { "yes" } else { "no" });
        let question = format!("fits into {}?", said(free as f64));
        println!("  {question:<22}{:>16}{:>12}", verdicts[0], verdicts[1]);
    }
    let checkpoint = size::checkpoint_bytes(model, config.optimizer);
    println!("  {:<22}{:>16}", "a checkpoint on disk", said(checkpoint as f64));
    println!("Training here will be in {chosen:?}, on {device:?}.");
    Ok(())
}

/// Bytes that are free on a device at this moment, where that can be asked for.
fn free_on(device: Device) -> Option<u64> {
    match device {
        Device::Cpu => lab::free_memory(),
        Device::Cuda(index) => {
            // libtorch counts among the GPUs that it may see.
            let visible = env::var("CUDA_VISIBLE_DEVICES").unwrap_or_default();
            let of_system = visible.split(',').nth(index).filter(|id| !id.is_empty());
            let id = of_system.map_or(index.to_string(), str::to_string);
            let mut command = process::Command::new("nvidia-smi");
            command.args(["--query-gpu=memory.free", "--format=csv,noheader,nounits", "-i", &id]);
            let said = command.output().ok()?.stdout;
            let mebibytes: u64 = String::from_utf8(said).ok()?.trim().parse().ok()?;
            Some(mebibytes << 20)
        }
        _ => None,
    }
}

/// V of a model for the data set of a run; for GPT-2's tokens where it is not there.
pub fn vocab_size_of(dataset: &str) -> i64 {
    let folder = folder_of(dataset);
    let tokenizer = match dataset == "fables" && !folder.join(ShardWriter::DATASET).exists() {
        true => Tokenizer::load(dataset),
        false => tokenizer_of(&folder),
    };
    padded(tokenizer.map_or(50_257, |tokenizer| tokenizer.n_vocab()))
}
