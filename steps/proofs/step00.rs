// The gradient and the best line, worked out by hand, beside what autograd and the loop find.

use super::Line;
use lab::{Flags, Table};
use tch::{Kind, Tensor};

pub struct Gradient {
    by_hand: [f64; 2],
    by_autograd: [f64; 2],
}

/// The slope of the loss in w and in b where training starts. With the distances d = w·x + b − y the
/// loss is the mean of d², so its slopes are the means of 2·d·x and of 2·d.
pub fn gradient(line: &Line, x: &Tensor, y: &Tensor) -> Gradient {
    let d = line.forward(x).detach() - y; // (N)
    let by_hand = [mean(&(&d * x * 2.0)), mean(&(&d * 2.0))];
    line.loss(x, y).backward();
    let by_autograd = [line.w.grad().double_value(&[0]), line.b.grad().double_value(&[0])];
    Gradient { by_hand, by_autograd }
}

/// Prints the table; returns the smallest loss that any line has on these points.
pub fn print(line: &Line, x: &Tensor, y: &Tensor, gradient: Gradient, flags: &Flags) -> f64 {
    // Least squares: w is the covariance of x and y over the variance of x, b puts the line through
    // the means.
    let w = mean(&((x - mean(x)) * (y - mean(y)))) / mean(&(x - mean(x)).square());
    let b = mean(y) - w * mean(x);
    let loss = mean(&(x * w + b - y).square());

    // Single precision keeps seven digits; the sums here are over a hundred numbers of size 10 or less.
    let rounding = 1e-4;
    let mut table = Table::new();
    table.near("slope of the loss in w", gradient.by_hand[0], gradient.by_autograd[0], rounding);
    table.near("slope of the loss in b", gradient.by_hand[1], gradient.by_autograd[1], rounding);
    table.near("w: least squares", w, line.w.double_value(&[0]), rounding).unless(flags.excuse());
    table.near("b: least squares", b, line.b.double_value(&[0]), rounding).unless(flags.excuse());
    table
        .near("loss: least squares", loss, line.loss(x, y).double_value(&[]), rounding)
        .unless(flags.excuse());
    println!();
    table.print();
    loss
}

fn mean(x: &Tensor) -> f64 {
    x.mean(Kind::Float).double_value(&[])
}
