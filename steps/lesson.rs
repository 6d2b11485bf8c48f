// step00_tensors: tensors, a gradient, an optimizer, a training loop
//
// New: everything. A tensor has a shape and a kind of number; autograd knows the slope of a loss in
// every parameter; an optimizer takes a step down that slope. A line fitted to points needs all of
// it, and so does a GPT: from here on only the model changes.
//
// Run:  cargo run --bin step00_tensors
// See:  the gradient worked out by hand is autograd's; the loop ends at the line that the formula
//       for least squares gives.

use anyhow::Result;
use clap::Parser;
use lab::{Flags, Log};
use std::process::ExitCode;
use tch::nn::{self, OptimizerConfig};
use tch::{Device, Kind, Tensor};

#[path = "proofs/step00.rs"]
mod proof;

const N: i64 = 100; // points
const SLOPE: f64 = 3.0;
const INTERCEPT: f64 = -1.0;
const NOISE: f64 = 0.5; // standard deviation of what is added to each point
const MAX_STEPS: usize = 200;
const LOG_INTERVAL: usize = 25;
const LEARNING_RATE: f64 = 0.1;

/// Tensors, gradients and the training loop, on the smallest model there is: a line.
#[derive(Parser)]
struct Args {
    #[command(flatten)]
    lab: Flags,
}

/// A line y = w·x + b; w and b are what is to be learned.
struct Line {
    vs: nn::VarStore, // holds the parameters, under their names
    w: Tensor,        // (1)
    b: Tensor,        // (1)
}

impl Line {
    fn new(device: Device) -> Self {
        let vs = nn::VarStore::new(device);
        let w = vs.root().var("w", &[1], nn::Init::Const(0.0));
        let b = vs.root().var("b", &[1], nn::Init::Const(0.0));
        Self { vs, w, b }
    }

    fn forward(&self, x: &Tensor) -> Tensor {
        x * &self.w + &self.b // (N) · (1) + (1) → (N): a dimension of 1 is stretched to fit
    }

    /// The mean of the squared distances, a scalar tensor.
    fn loss(&self, x: &Tensor, y: &Tensor) -> Tensor {
        (self.forward(x) - y).square().mean(Kind::Float)
    }
}

/// Points around the line y = SLOPE·x + INTERCEPT: x and y, both (N).
fn points(device: Device) -> (Tensor, Tensor) {
    let x = Tensor::randn([N], (Kind::Float, device));
    let noise = Tensor::randn([N], (Kind::Float, device)) * NOISE;
    let y = &x * SLOPE + INTERCEPT + noise;
    (x, y)
}

fn lesson() -> Result<()> {
    let args = Args::parse();
    let device = args.lab.device;
    let steps = args.lab.steps(MAX_STEPS);
    let mut log = Log::new(&args.lab)?;

    tch::manual_seed(args.lab.seed.into());
    let (x, y) = points(device);
    println!("libtorch {}", tch_ext::LIBTORCH_VERSION);
    println!("x is a tensor of shape {:?}, of {:?}, on {:?}\n", x.size(), x.kind(), x.device());

    let line = Line::new(device);
    let gradient = proof::gradient(&line, &x, &y);

    let mut optimizer = nn::Sgd::default().build(&line.vs, LEARNING_RATE)?;
    log.start("line", steps);
    for step in 1..=steps {
        let loss = line.loss(&x, &y); // how wrong is the line?
        optimizer.zero_grad(); // gradients add up: forget the last step's
        loss.backward(); // fills w.grad() and b.grad()
        optimizer.step(); // w ← w − lr · w.grad(), and b likewise
        log.step(loss.double_value(&[]), N);
        if step % LOG_INTERVAL == 0 || step == steps {
            log.line(step, &[("w", line.w.double_value(&[0])), ("b", line.b.double_value(&[0]))])?;
        }
    }

    let least_squares = proof::print(&line, &x, &y, gradient, &args.lab);
    log.finish(Some(least_squares))
}

fn main() -> ExitCode {
    lab::run(lesson)
}
