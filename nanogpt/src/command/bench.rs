use super::{
    knobs::{Knobs, NOTE},
    size::vocab_size_of,
};
use anyhow::{Result, ensure};
use lab::grouped;
use nanogpt::{
    Dataset, TrainConfig,
    bench::{self, Operation, Report},
    data::folder_of,
    precision::Precision,
    size::{self, said},
};
use tch::Device;

const SYNTHETIC: &str = "synthetic";

/// Measure how fast this machine trains a model, and how fast it could at best
#[derive(clap::Args)]
#[command(after_help = NOTE)]
#[command(mut_arg("curve", |arg| arg.hide(true)))] // it draws nothing here
pub struct Args {
    #[command(flatten)]
    knobs: Knobs,

    /// Where the tokens come from: `synthetic`, or a data set [default: the run's, if it is there]
    #[arg(long, value_name = "NAME")]
    data: Option<String>,

    /// How many steps to measure
    #[arg(long, value_name = "N", default_value_t = 20)]
    steps: usize,

    /// How many to take before
    #[arg(long, value_name = "N", default_value_t = 5)]
    warmup: usize,

    /// Say also where the time goes
    #[arg(long)]
    profile: bool,

    /// Print JSON, for programs
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Result<()> {
    let config = args.knobs.load()?;
    if config.threads > 0 {
        tch::set_num_threads(config.threads);
    }
    let device = lab::device(&config.device)?;
    let dataset = dataset(&config, args.data.as_deref())?;
    let vocab_size = match &dataset {
        Some(dataset) => dataset.vocab_size(),
        None => vocab_size_of(&config.dataset),
    };
    let name = match &dataset {
        Some(dataset) => dataset.folder.display().to_string(),
        None => SYNTHETIC.into(),
    };
    let model = size::model_of(&config, vocab_size)?;
    ensure!(
        config.block_size <= model.block_size,
        "block_size = {}: {} sees {} tokens",
        config.block_size,
        config.init_from,
        model.block_size
    );
    let precision = Precision::choose(config.precision(), model.n_embd, device)?;
    let report =
        bench::measure(&config, &model, dataset, (args.warmup, args.steps), args.profile, device)?;
    let ceiling = bench::ceiling(precision, device);
    let operations = match args.profile {
        true => {
            let shape = (config.batch_size, config.block_size);
            bench::operations(&model, shape, precision, device)
        }
        false => Vec::new(),
    };
    match args.json {
        true => print_json(&report, ceiling, &operations, &name, (precision, device))?,
        false => {
            println!("{model:?}");
            println!("{name}, {precision:?}, {device:?}, {} threads\n", tch::get_num_threads());
            print(&report, ceiling, &config);
            if args.profile {
                print_profile(&report, &operations, &config);
            }
        }
    }
    Ok(())
}

/// `None` for synthetic tokens. Only a data set that was not asked for may be missing.
fn dataset(config: &TrainConfig, asked_for: Option<&str>) -> Result<Option<Dataset>> {
    let name = asked_for.unwrap_or(&config.dataset);
    let is_there = folder_of(name).is_dir() || name == "fables";
    if name == SYNTHETIC || asked_for.is_none() && !is_there {
        return Ok(None);
    }
    Dataset::open(name).map(Some)
}

fn print(report: &Report, ceiling: f64, config: &TrainConfig) {
    let Report { ms, fastest_ms, slowest_ms, .. } = report;
    let tokens = config.gradient_accumulation_steps as i64 * config.batch_size * config.block_size;
    println!(
        "a step of {} tokens  {ms:.1} ms ({fastest_ms:.1} to {slowest_ms:.1})",
        grouped(tokens)
    );
    println!("tokens a second      {}", grouped(report.tokens_per_second as i64));
    println!(
        "MFU                  {:.1} %: {} of the {} that a large matrix product reaches here",
        100.0 * report.flops_per_second / ceiling,
        flops(report.flops_per_second),
        flops(ceiling)
    );
    println!("tensors at most      {}", said(report.peak_bytes as f64));
}

fn print_profile(report: &Report, operations: &[Operation], config: &TrainConfig) {
    let parts = [
        ("data", report.data_ms),
        ("forward", report.forward_ms),
        ("backward", report.backward_ms),
        ("optimizer", report.optimizer_ms),
    ];
    println!("\nof a step             ms   share");
    for (part, ms) in parts {
        println!("  {part:<14}{ms:>8.1}{:>6.1} %", 100.0 * ms / report.ms);
    }
    // The forward passes of a step have as many micro-batches.
    let forward = report.forward_ms / config.gradient_accumulation_steps as f64;
    println!("\nof a forward pass, each by itself    ms   share    FLOP/s");
    for Operation { name, times, ms, flops: n } in operations {
        let (all, rate) = (*times as f64 * ms, *n as f64 / ms * 1e3);
        let rate = if *n > 0 { flops(rate) } else { String::new() };
        println!("  {times:>3} × {name:<24}{all:>9.2}{:>6.1} %  {rate}", 100.0 * all / forward);
    }
    println!(
        "  the rest is dropout, additions, copies, and casts of what has not the precision yet"
    );
}

fn print_json(
    report: &Report,
    ceiling: f64,
    operations: &[Operation],
    data: &str,
    (precision, device): (Precision, Device),
) -> Result<()> {
    let mut json = serde_json::to_value(report)?;
    json["data"] = data.into();
    json["precision"] = format!("{precision:?}").into();
    json["device"] = format!("{device:?}").into();
    json["threads"] = tch::get_num_threads().into();
    json["ceiling_flops_per_second"] = ceiling.into();
    json["mfu"] = (report.flops_per_second / ceiling).into();
    if !operations.is_empty() {
        json["operations"] = serde_json::to_value(operations)?;
    }
    println!("{}", serde_json::to_string_pretty(&json)?);
    Ok(())
}

/// Operations in a second as people say them.
fn flops(per_second: f64) -> String {
    match per_second {
        1e12.. => format!("{:.1} TFLOP/s", per_second / 1e12),
        _ => format!("{:.1} GFLOP/s", per_second / 1e9),
    }
}
