use anyhow::{Result, ensure};
use clap::ValueEnum;
use lab::plot::Plot;
use nanogpt::metrics::{FILE, Row, read};
use std::path::PathBuf;

/// Draw the losses of several runs on one picture
#[derive(clap::Args)]
pub struct Args {
    /// The folders of runs (their `out_dir`)
    #[arg(value_name = "RUN", required = true)]
    runs: Vec<PathBuf>,

    /// Where to
    #[arg(long, value_name = "FILE.svg", default_value = "loss.svg")]
    out: PathBuf,

    /// What the losses are drawn against
    #[arg(long, value_enum, default_value_t = Axis::Step)]
    x: Axis,

    /// Also draw the training loss of each evaluation
    #[arg(long)]
    train: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Axis {
    Step,
    Tokens,
    Time,
}

impl Axis {
    fn label(self) -> &'static str {
        match self {
            Self::Step => "step",
            Self::Tokens => "tokens",
            Self::Time => "seconds",
        }
    }

    fn of(self, row: &Row) -> Option<f64> {
        match self {
            Self::Step => Some(row.step as f64),
            Self::Tokens => row.tokens,
            Self::Time => row.seconds,
        }
    }
}

pub fn run(args: &Args) -> Result<()> {
    let is_svg = args.out.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("svg"));
    ensure!(is_svg, "--out {}: pictures are SVG; end the name in .svg", args.out.display());
    let mut plot = Plot::new(args.x.label(), "nats a token");
    for run in &args.runs {
        let rows = read(&run.join(FILE))?;
        let points = |loss: fn(&Row) -> Option<f64>| -> Vec<(f64, f64)> {
            rows.iter().filter_map(|row| Some((args.x.of(row)?, loss(row)?))).collect()
        };
        let name = run.file_name().unwrap_or(run.as_os_str()).to_string_lossy();
        let val = points(|row| row.val_loss);
        ensure!(!val.is_empty(), "{} has no evaluation yet", run.display());
        plot.line(&format!("{name}, validation"), val);
        if args.train {
            plot.line(&format!("{name}, training"), points(|row| row.train_loss));
        }
    }
    plot.save(&args.out)?;
    println!("{}", args.out.display());
    Ok(())
}
