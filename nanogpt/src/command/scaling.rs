use anyhow::{Context, Result};
use lab::{World, grouped, plot::Plot};
use nanogpt::{
    Dataset,
    scaling::{self, Family, Law, Point, Trust},
};
use std::path::{Path, PathBuf};

/// Train a family of small models, and find the law by which more parameters and more tokens lower the loss
#[derive(clap::Args)]
#[command(
    after_help = "The law is L(N, D) = E + A/N^α + B/D^β (Hoffmann and others 2022, approach 3). What has been \
                        trained is kept: the same command goes on where it was stopped."
)]
pub struct Args {
    /// The data set to train on; the fables are no natural text, and follow no such law
    #[arg(long, value_name = "NAME", default_value = "shakespeare_char")]
    dataset: String,

    /// Where the models, points.csv and scaling.svg go
    #[arg(long, value_name = "DIR", default_value = "out/scaling")]
    out: PathBuf,

    /// A rough law in half a minute instead of five
    #[arg(long)]
    quick: bool,

    /// Layers and widths [default: 2x16,2x32,2x64,3x96,4x128]
    #[arg(long, value_name = "LxC,…", value_delimiter = ',', value_parser = size_of)]
    sizes: Vec<(i64, i64)>,

    /// How many tokens each is trained on [default: 100000,200000,400000,800000]
    #[arg(long, value_name = "N,…", value_delimiter = ',')]
    #[arg(value_parser = clap::value_parser!(i64).range(1..))]
    tokens: Vec<i64>,

    /// The learning rate of AdamW; Muon's is ten times that
    #[arg(long, value_name = "X", default_value_t = 8e-3)]
    learning_rate: f64,

    #[arg(long, value_name = "N", default_value_t = 1337)]
    seed: i64,

    /// How many processor cores to use; 0 for all
    #[arg(long, value_name = "N", default_value_t = 0)]
    #[arg(value_parser = clap::value_parser!(i32).range(0..=1024))]
    threads: i32,

    /// cpu, cuda, cuda:1, mps, or auto (a GPU if there is one)
    #[arg(long, default_value = "auto")]
    device: String,
}

/// `3x96` are 3 layers, 96 wide.
fn size_of(text: &str) -> Result<(i64, i64)> {
    let size = text.split_once('x').and_then(|(l, c)| Some((l.parse().ok()?, c.parse().ok()?)));
    size.filter(|(l, c)| *l > 0 && *c > 0).context("write layers and width as 3x96")
}

pub fn run(args: &Args) -> Result<()> {
    let family = args.family();
    family.check()?;
    if args.threads > 0 {
        tch::set_num_threads(args.threads);
    }
    let device = lab::device(&args.device)?;
    let world = World::alone(device);
    let mut base = scaling::base(&args.dataset);
    (base.seed, base.threads, base.device) = (args.seed, args.threads, args.device.clone());
    base.learning_rate = args.learning_rate;

    let mut points = Vec::new();
    for tokens in &family.tokens {
        for size in &family.sizes {
            let config = scaling::settings(&base, &args.out, *size, *tokens);
            config.check()?;
            points.push(scaling::point(&config, &world, device)?);
        }
    }
    let law = Law::fit(&points);
    write_csv(&args.out, &points)?;
    print_points(&points, &law);
    print_law(&points, &law, &args.dataset)?;
    draw(&args.out.join("scaling.svg"), &points, &law)?;
    println!("\n{}", args.out.join("scaling.svg").display());
    Ok(())
}

impl Args {
    fn family(&self) -> Family {
        let Family { sizes, tokens } = if self.quick { Family::quick() } else { Family::small() };
        Family {
            sizes: if self.sizes.is_empty() { sizes } else { self.sizes.clone() },
            tokens: if self.tokens.is_empty() { tokens } else { self.tokens.clone() },
        }
    }
}

fn write_csv(folder: &Path, points: &[Point]) -> Result<()> {
    files::write_atomically(&folder.join("points.csv"), |file| {
        writeln!(file, "n_layer,n_embd,parameters,tokens,val_loss")?;
        for Point { n_layer, n_embd, parameters, tokens, loss } in points {
            writeln!(file, "{n_layer},{n_embd},{parameters},{tokens},{loss}")?;
        }
        Ok(())
    })
}

fn print_points(points: &[Point], law: &Law) {
    println!("\nlayers  wide  parameters      tokens  val loss  the law says");
    for Point { n_layer, n_embd, parameters, tokens, loss } in points {
        println!(
            "{n_layer:>6}{n_embd:>6}{:>12}{:>12}{loss:>10.4}{:>10.4} ({:+.1} %)",
            grouped(*parameters as i64),
            grouped(*tokens as i64),
            law.loss(*parameters, *tokens),
            100.0 * (law.loss(*parameters, *tokens) / loss - 1.0)
        );
    }
}

fn print_law(points: &[Point], law: &Law, dataset: &str) -> Result<()> {
    let trust = Trust::of(points);
    println!("\nL(N, D) = E + A/N^α + B/D^β, in nats a token");
    let e = match law.e {
        0.0 => "0: the points are too far from it to show it".into(),
        e => format!("{e:.3} ± {:.3}", trust.e),
    };
    println!("  E = {e}{}", floor(dataset)?);
    println!("  A = {:.4e}, α = {:.3} ± {:.3}", law.a, law.alpha, trust.alpha);
    println!("  B = {:.4e}, β = {:.3} ± {:.3}", law.b, law.beta, trust.beta);
    println!(
        "  off by {:.2} % at the points, and by {:.2} % at one that it has not seen",
        100.0 * law.error(points),
        100.0 * trust.left_out
    );
    if law.error(points) > 0.05 {
        println!(
            "  That is a lot: do not believe what follows. Other sizes and budgets may fit better."
        );
    }
    if law.a == 0.0 || law.b == 0.0 {
        println!(
            "  One of the terms is nothing here, so there is no best size: spread the points more."
        );
        return Ok(());
    }
    println!("\nThe best use of C ≈ 6·N·D operations (a guess where it lies beyond the points):");
    println!("{:>10}{:>16}{:>16}{:>10}", "C", "parameters", "tokens", "loss");
    let most = points.iter().map(Point::flops).fold(0.0, f64::max);
    for flops in [most, 10.0 * most, 100.0 * most] {
        let (n, d) = law.optimum(flops);
        let loss = law.loss(n, d);
        println!("{flops:>10.1e}{:>16}{:>16}{loss:>10.3}", grouped(n as i64), grouped(d as i64));
    }
    Ok(())
}

/// What no model can be better than, where that is known: of the fables.
fn floor(dataset: &str) -> Result<String> {
    let val = Dataset::open(dataset)?.val;
    let (Some(floor), Some(chars)) = (val.floor(), val.chars_per_token()) else {
        return Ok(String::new());
    };
    Ok(format!("; no model at all gets below {:.3}", floor * chars))
}

/// A line through the points of each size, the law beside it, and below all the best that the law has for each budget.
fn draw(path: &Path, points: &[Point], law: &Law) -> Result<()> {
    let mut plot = Plot::new("floating-point operations, 6·N·D", "validation loss, nats a token");
    plot.log_x();
    let mut sizes: Vec<(i64, i64)> = Vec::new();
    for point in points {
        let size = (point.n_layer, point.n_embd);
        if sizes.contains(&size) {
            continue;
        }
        sizes.push(size);
        let same = points.iter().filter(|other| (other.n_layer, other.n_embd) == size);
        let mut of_size: Vec<&Point> = same.collect();
        of_size.sort_by(|a, b| a.tokens.total_cmp(&b.tokens));
        let label = format!("{} parameters", grouped(point.parameters as i64));
        plot.line(&label, of_size.iter().map(|point| (point.flops(), point.loss)).collect());
        let said = |point: &&Point| (point.flops(), law.loss(point.parameters, point.tokens));
        plot.outline(of_size.iter().map(said).collect());
    }
    if law.a > 0.0 && law.b > 0.0 {
        plot.outline(frontier(points, law));
    }
    plot.save(path)
}

fn frontier(points: &[Point], law: &Law) -> Vec<(f64, f64)> {
    let flops = || points.iter().map(Point::flops);
    let (low, high) = (flops().fold(f64::INFINITY, f64::min), flops().fold(0.0, f64::max));
    let budgets = (0..=50).map(|i| low * (high / low).powf(f64::from(i) / 50.0));
    budgets
        .map(|flops| (flops, law.optimum(flops)))
        .map(|(c, (n, d))| (c, law.loss(n, d)))
        .collect()
}
