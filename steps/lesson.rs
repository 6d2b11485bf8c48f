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
use std::process::ExitCode;
use tch::{Device, Kind, Tensor};

const N: i64 = 100; // points
const SLOPE: f64 = 3.0;
const INTERCEPT: f64 = -1.0;
const NOISE: f64 = 0.5; // standard deviation of what is added to each point

/// Points around the line y = SLOPE·x + INTERCEPT: x and y, both (N).
fn points(device: Device) -> (Tensor, Tensor) {
    let x = Tensor::randn([N], (Kind::Float, device));
    let noise = Tensor::randn([N], (Kind::Float, device)) * NOISE;
    let y = &x * SLOPE + INTERCEPT + noise;
    (x, y)
}

fn lesson() -> Result<()> {
    tch::manual_seed(1337);
    let (x, y) = points(Device::Cpu);
    println!("x {:?}, y {:?}", x.size(), y.size());
    println!("y less x: {:?}", (&y - &x).size());
    println!("y less x as a column: {:?}", (&y - x.unsqueeze(1)).size());
    Ok(())
}

fn main() -> ExitCode {
    lab::run(lesson)
}
