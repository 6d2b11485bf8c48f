//! What was measured, and how it is shown.

use crate::{
    job::{Answer, Size},
    side::Side,
};
use anyhow::{Result, ensure};
use serde::Serialize;

/// What one way to train has shown, over all rounds.
#[derive(Serialize)]
pub struct Row {
    pub side: Side,
    pub bf16: bool,
    ms: Vec<f64>, // of each timed step, from the fastest to the slowest
    losses: Vec<f64>,
    peak_mb: Option<u64>, // the largest of its processes
    gflops: f64,          // the fastest matrix product of its processes
}

impl Row {
    pub fn new(side: Side, bf16: bool) -> Self {
        Self { side, bf16, ms: Vec::new(), losses: Vec::new(), peak_mb: None, gflops: 0.0 }
    }

    pub fn add(&mut self, answer: Answer) {
        self.ms.extend(answer.ms);
        self.ms.sort_by(f64::total_cmp);
        self.losses = answer.losses;
        self.peak_mb = self.peak_mb.max(answer.peak_mb);
        self.gflops = self.gflops.max(answer.gflops);
    }

    pub fn precision(&self) -> &'static str {
        if self.bf16 { "bf16" } else { "fp32" }
    }

    fn median(&self) -> f64 {
        let n = self.ms.len();
        (self.ms[(n - 1) / 2] + self.ms[n / 2]) / 2.0
    }

    /// How far this row's first and last loss are from `other`'s, as a share of them.
    ///
    /// # Errors
    /// If they are too far to be of the same computation.
    pub fn same_as(&self, other: &Row) -> Result<[f64; 2]> {
        let apart = |of: fn(&[f64]) -> Option<&f64>| {
            let [a, b] =
                [&self.losses, &other.losses].map(|losses| of(losses).unwrap_or(&f64::NAN));
            ((a - b) / b).abs()
        };
        let [first, last] = [apart(<[f64]>::first), apart(<[f64]>::last)];
        // float32 rounds to 6e-8, bfloat16 to 4e-3; a mean over a batch rounds less, AdamW blurs it again.
        let [limit, later] = if self.bf16 { [1e-3, 1e-2] } else { [1e-5, 1e-3] };
        ensure!(
            first < limit && last < later,
            "the two sides do not compute the same: {} has the losses {:?} in {}, {} {:?}",
            self.side.name(),
            self.losses,
            self.precision(),
            other.side.name(),
            other.losses,
        );
        Ok([first, last])
    }
}

/// All that was measured with one model.
#[derive(Serialize)]
pub struct Comparison {
    pub name: &'static str,
    pub size: Size,
    pub tokens: i64,
    pub flops: f64,
    pub rows: Vec<Row>,
}

impl Comparison {
    fn row(&self, side: Side, bf16: bool) -> Option<&Row> {
        self.rows.iter().find(|row| row.side == side && row.bf16 == bf16)
    }

    /// The fastest matrix product that either side has computed in this precision, in GFLOP/s.
    fn ceiling(&self, bf16: bool) -> f64 {
        let rows = self.rows.iter().filter(|row| row.bf16 == bf16);
        rows.map(|row| row.gflops).fold(0.0, f64::max)
    }

    pub fn print(&self) {
        let n = self.size.product;
        let [fp32, bf16] = [false, true].map(|bf16| self.ceiling(bf16));
        println!("  ceiling: {n}³ products at {fp32:.0} GFLOP/s in fp32, {bf16:.0} in bf16\n");
        println!(
            "  {:<36} {:>4} {:>9} {:>17} {:>8} {:>8} {:>9} {:>8} {:>8}",
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
        for row in &self.rows {
            let ms = row.median();
            let spread = format!("({:.1} … {:.1})", row.ms[0], row.ms[row.ms.len() - 1]);
            let times =
                |of: Option<&Row>| of.map_or("".into(), |of| format!("{:.2}", of.median() / ms));
            println!(
                "  {:<36} {:>4} {ms:>9.1} {spread:>17} {:>8} {:>8} {:>9} {:>8} {:>6.0} %",
                row.side.name(),
                row.precision(),
                lab::grouped((self.tokens as f64 / ms * 1e3) as i64),
                row.peak_mb.map_or("".into(), |mb| lab::grouped(mb as i64)),
                times(self.row(Side::NanoGpt, false)),
                times(self.row(Side::Tuned, row.bf16)),
                100.0 * self.flops / (ms * 1e6) / self.ceiling(row.bf16),
            );
        }
        println!();
    }
}
