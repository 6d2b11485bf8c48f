// interlude_autograd: what `backward` does, on single numbers and without libtorch
//
// Run:  cargo run --bin interlude_autograd
// See:  step00's slopes, −12 and −7; a network's slopes beside what a nudge says; its training, on points
//       that no line can follow.

const LEARNING_RATE: f64 = 0.1;
const NUDGE: f64 = 1e-5;

/// A number, known by its place on the tape.
type Num = usize;

/// All numbers of a computation, in the order in which they were made.
#[derive(Default)]
struct Tape {
    values: Vec<f64>,
    inputs: Vec<Vec<(Num, f64)>>, // of each, what it was made from, and its slope in that
}

impl Tape {
    fn push(&mut self, value: f64, inputs: &[(Num, f64)]) -> Num {
        self.values.push(value);
        self.inputs.push(inputs.to_vec());
        self.values.len() - 1
    }

    fn number(&mut self, value: f64) -> Num {
        self.push(value, &[])
    }

    fn add(&mut self, a: Num, b: Num) -> Num {
        self.push(self.values[a] + self.values[b], &[(a, 1.0), (b, 1.0)])
    }

    fn sub(&mut self, a: Num, b: Num) -> Num {
        self.push(self.values[a] - self.values[b], &[(a, 1.0), (b, -1.0)])
    }

    fn mul(&mut self, a: Num, b: Num) -> Num {
        let (x, y) = (self.values[a], self.values[b]);
        self.push(x * y, &[(a, y), (b, x)])
    }

    fn tanh(&mut self, a: Num) -> Num {
        let t = self.values[a].tanh();
        self.push(t, &[(a, 1.0 - t * t)])
    }

    /// The slope of the number `end` in each number on the tape.
    fn backward(&self, end: Num) -> Vec<f64> {
        let mut slopes = vec![0.0; self.values.len()];
        slopes[end] = 1.0;
        for n in (0..=end).rev() {
            for &(input, slope) in &self.inputs[n] {
                slopes[input] += slopes[n] * slope; // adds: a number may be used more than once
            }
        }
        slopes
    }
}

type Model = fn(&mut Tape, &[Num], Num) -> Num;

fn line(tape: &mut Tape, p: &[Num], x: Num) -> Num {
    let wx = tape.mul(p[0], x);
    tape.add(wx, p[1])
}

/// Two lines, each bent into an S, and their sum through a third line.
fn network(tape: &mut Tape, p: &[Num], x: Num) -> Num {
    let left = line(tape, &p[0..2], x);
    let left = tape.tanh(left);
    let right = line(tape, &p[2..4], x);
    let right = tape.tanh(right);
    let sum = tape.add(left, right);
    line(tape, &p[4..6], sum)
}

/// The mean of the squared distances, and its slope in each parameter.
fn loss(model: Model, params: &[f64], points: &[(f64, f64)]) -> (f64, Vec<f64>) {
    let mut tape = Tape::default();
    let p: Vec<Num> = params.iter().map(|&value| tape.number(value)).collect();
    let mut sum = tape.number(0.0);
    for &(x, y) in points {
        let (x, y) = (tape.number(x), tape.number(y));
        let guess = model(&mut tape, &p, x);
        let d = tape.sub(guess, y);
        let square = tape.mul(d, d);
        sum = tape.add(sum, square);
    }
    let share = tape.number(1.0 / points.len() as f64);
    let mean = tape.mul(sum, share);
    (tape.values[mean], tape.backward(mean)[..params.len()].to_vec())
}

fn main() {
    let (value, slopes) = loss(line, &[0.0, 0.0], &[(1.0, 2.0), (2.0, 5.0)]);
    println!("step00's two points: loss {value}, slopes {slopes:?}\n");

    let points = [(-1.0, 0.0), (0.0, 1.0), (1.0, 0.0)]; // up, and down again
    let mut params = [1.0, 1.0, -1.0, 0.0, 0.5, 0.0];
    let (_, slopes) = loss(network, &params, &points);
    println!("parameter   by backward    by a nudge");
    for (i, slope) in slopes.iter().enumerate() {
        let mut more = params;
        more[i] += NUDGE;
        let mut less = params;
        less[i] -= NUDGE;
        let change = loss(network, &more, &points).0 - loss(network, &less, &points).0;
        println!("{i:>9} {slope:>13.6} {:>13.6}", change / (2.0 * NUDGE));
    }
    println!();
    for step in 0..=100 {
        let (value, slopes) = loss(network, &params, &points);
        if step % 20 == 0 {
            println!("step {step:>5} | loss {value:.4}");
        }
        for (param, slope) in params.iter_mut().zip(slopes) {
            *param -= LEARNING_RATE * slope;
        }
    }
}
