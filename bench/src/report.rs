//! What was measured, and how it is shown.

use crate::{
    job::{Answer, Device, Precision, Size},
    side::Side,
};
use anyhow::{Result, ensure};
use serde::Serialize;

/// What one way to train has shown, over all rounds.
#[derive(Serialize)]
pub struct Row {
    pub side: Side,
    pub precision: Precision,
    ms: Vec<f64>, // of each timed step, from the fastest to the slowest
    losses: Vec<f64>,
    peak_mb: Option<u64>,      // the largest of its processes
    gflops: f64,               // the fastest matrix product of its processes
    pub left_out: bool,        // it is in bfloat16, which is slow here: no turn
    pub error: Option<String>, // why it takes no more turns
}

impl Row {
    pub fn new(side: Side, precision: Precision, left_out: bool) -> Self {
        let (ms, losses) = (Vec::new(), Vec::new());
        Self { side, precision, ms, losses, peak_mb: None, gflops: 0.0, left_out, error: None }
    }

    /// Why it has nothing to show, if that is so.
    fn missing(&self) -> Option<String> {
        let failed = self.error.as_ref().map(|error| format!("failed: {error}"));
        failed.or(self.left_out.then(|| "left out: no instructions for bfloat16 here".into()))
    }

    /// `step10 bf16`
    pub fn name(&self) -> String {
        format!("{} {}", self.side.name(), self.precision.name())
    }

    fn add(&mut self, answer: Answer) {
        self.ms.extend(answer.ms);
        self.ms.sort_by(f64::total_cmp);
        self.losses = answer.losses;
        self.peak_mb = self.peak_mb.max(answer.peak_mb);
        self.gflops = self.gflops.max(answer.gflops);
    }

    /// Of the times, if there are any.
    fn median(&self) -> Option<f64> {
        let n = self.ms.len();
        (n > 0).then(|| (self.ms[(n - 1) / 2] + self.ms[n / 2]) / 2.0)
    }

    /// How far this row's first and last loss are from `other`'s, as a share of them.
    ///
    /// # Errors
    /// If they are too far to be of the same computation.
    fn same_as(&self, other: &Row) -> Result<[f64; 2]> {
        let apart = |of: fn(&[f64]) -> Option<&f64>| {
            let [a, b] =
                [&self.losses, &other.losses].map(|losses| of(losses).unwrap_or(&f64::NAN));
            ((a - b) / b).abs()
        };
        let [first, last] = [apart(<[f64]>::first), apart(<[f64]>::last)];
        // float32 rounds to 6e-8, TF32 to 5e-4, bfloat16 to 4e-3; a mean over a batch rounds less, AdamW blurs
        // it again.
        let [limit, later] = match self.precision {
            Precision::Fp32 => [1e-5, 1e-3],
            Precision::Tf32 | Precision::Bf16 => [1e-3, 1e-2],
        };
        ensure!(
            first < limit && last < later,
            "the two sides do not compute the same: {} has the losses {:?}, {} {:?}",
            self.name(),
            self.losses,
            other.name(),
            other.losses,
        );
        Ok([first, last])
    }
}

/// All that was measured with one model.
#[derive(Serialize)]
pub struct Comparison {
    pub name: &'static str,
    pub device: Device,
    pub size: Size,
    pub tokens: i64,
    pub flops: f64,
    pub rows: Vec<Row>,
}

impl Comparison {
    fn row(&self, side: Side, precision: Precision) -> Option<&Row> {
        self.rows.iter().find(|row| row.side == side && row.precision == precision)
    }

    /// Adds what a turn of row `i` has shown, and returns how far its first and last loss are from
    /// step10's, if that has had its turn. A row that fails takes no more turns, and the others go on.
    pub fn add(&mut self, i: usize, answer: Result<Answer>) -> Option<[f64; 2]> {
        let checked = answer.and_then(|answer| {
            self.rows[i].add(answer);
            let ours = self.row(Side::Step10, self.rows[i].precision);
            let ours =
                ours.filter(|ours| ours.side != self.rows[i].side && !ours.losses.is_empty());
            ours.map(|ours| self.rows[i].same_as(ours)).transpose()
        });
        checked.unwrap_or_else(|error| {
            self.rows[i].error = Some(format!("{error:#}"));
            None
        })
    }

    /// The fastest matrix product that either side has computed in this precision, in GFLOP/s.
    fn ceiling(&self, precision: Precision) -> f64 {
        let rows = self.rows.iter().filter(|row| row.precision == precision);
        rows.map(|row| row.gflops).fold(0.0, f64::max)
    }

    /// The products alone, for each side.
    pub fn print_ceilings(&self) {
        println!("\n  {}³ products:", self.size.product);
        for row in &self.rows {
            match row.missing() {
                Some(why) => println!("  {:<41} {why}", row.name()),
                None => {
                    println!("  {:<41} {:>9} GFLOP/s", row.name(), lab::grouped(row.gflops as i64))
                }
            }
        }
        println!();
    }

    pub fn print(&self) {
        println!("  ceiling: {}", self.ceilings());
        println!(
            "\n  {:<36} {:>4} {:>9} {:>17} {:>8} {:>8} {:>9} {:>8} {:>8}",
            "",
            "",
            "ms a step",
            "(min … max)",
            "tok/s",
            "peak MB",
            "× nanoGPT",
            "× tuned",
            "ceiling"
        );
        self.rows.iter().for_each(|row| self.print_row(row));
        println!();
    }

    fn ceilings(&self) -> String {
        let mut said = Vec::new();
        for precision in [Precision::Fp32, Precision::Tf32, Precision::Bf16] {
            if self.rows.iter().any(|row| row.precision == precision && !row.left_out) {
                said.push(format!("{:.0} in {}", self.ceiling(precision), precision.name()));
            }
        }
        format!("{}³ products, in GFLOP/s: {}", self.size.product, said.join(", "))
    }

    fn print_row(&self, row: &Row) {
        let (side, precision) = (row.side.name(), row.precision.name());
        let Some(ms) = row.median().filter(|_| row.error.is_none()) else {
            let why = row.missing().unwrap_or_else(|| "failed: it had no turn".into());
            println!("  {side:<36} {precision:>4} {why}");
            return;
        };
        let spread = format!("({:.1} … {:.1})", row.ms[0], row.ms[row.ms.len() - 1]);
        let times = |of: Option<&Row>| {
            of.and_then(Row::median).map_or(String::new(), |of| format!("{:.2}", of / ms))
        };
        println!(
            "  {side:<36} {precision:>4} {ms:>9.1} {spread:>17} {:>8} {:>8} {:>9} {:>8} {:>6.0} %",
            lab::grouped((self.tokens as f64 / ms * 1e3) as i64),
            row.peak_mb.map_or("".into(), |mb| lab::grouped(mb as i64)),
            times(self.row(Side::NanoGpt, Precision::Fp32)),
            times(self.row(Side::Tuned, row.precision)),
            100.0 * self.flops / (ms * 1e6) / self.ceiling(row.precision),
        );
    }
}
