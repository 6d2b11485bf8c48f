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
use lab::Flags;
use std::process::ExitCode;
use tch::nn;
use tch::{Device, Kind, Tensor};

const N: i64 = 100; // points
const SLOPE: f64 = 3.0;
const INTERCEPT: f64 = -1.0;
const NOISE: f64 = 0.5; // standard deviation of what is added to each point
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

    tch::manual_seed(args.lab.seed.into());
    let (x, y) = points(device);
    println!("libtorch {}", tch_ext::LIBTORCH_VERSION);
    println!("x is a tensor of shape {:?}, of {:?}, on {:?}\n", x.size(), x.kind(), x.device());

    let line = Line::new(device);
    println!("the loss at first: {:.2}", line.loss(&x, &y).double_value(&[]));
    Ok(())
}

fn main() -> ExitCode {
    lab::run(lesson)
}
