//! The numbers of a run: aligned lines on the screen, `metrics.csv`, and events for TensorBoard.

use crate::{curve, tensorboard::EventFile};
use anyhow::{Context, Result, anyhow, ensure};
use files::Records;
use std::{
    fs,
    io::{self, IsTerminal},
    path::Path,
    time::{Duration, Instant},
};

/// The file in the folder of a run.
pub const FILE: &str = "metrics.csv";

const HEADER: &str =
    "step,tokens,seconds,train_loss,val_loss,loss,lr,grad_norm,ms,tokens_per_second";

/// `metrics.csv`: a row for each evaluation and each printed line. A field that a row does not have is empty.
pub struct Metrics {
    file: Records,
    events: Option<EventFile>,
    begun: Instant,
    /// What the run had taken when it was stopped.
    seconds_before: f64,
    /// The evaluations so far.
    evaluations: Vec<Row>,
}

/// One row.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Row {
    pub step: usize,
    /// Tokens that the run has trained on.
    pub tokens: Option<f64>,
    /// What it has taken: [`Metrics::push`] knows it.
    pub seconds: Option<f64>,
    /// Mean losses of an evaluation, in nats a token.
    pub train_loss: Option<f64>,
    pub val_loss: Option<f64>,
    /// The loss of the step's own batch.
    pub loss: Option<f64>,
    pub lr: Option<f64>,
    /// Of the gradient, before it is clipped.
    pub grad_norm: Option<f64>,
    pub ms: Option<f64>,
    pub tokens_per_second: Option<f64>,
}

impl Metrics {
    /// Begins the file in a folder; for a run that goes on after `step`, behind the rows up to there. With
    /// `tensorboard` an event file stands beside it.
    ///
    /// # Errors
    /// If it cannot be written, or what is there is none.
    pub fn new(folder: &Path, step: usize, tensorboard: bool) -> Result<Self> {
        let path = folder.join(FILE);
        let mut kept = Vec::new();
        if step > 0 && path.exists() {
            kept = read(&path).map_err(|error| {
                anyhow!("{error:#}; move it away to go on without the rows before")
            })?;
            // An evaluation is held again where a run goes on.
            kept.retain(|row| row.step < step || row.step == step && row.val_loss.is_none());
        }
        files::write_atomically(&path, |file| {
            writeln!(file, "{HEADER}")?;
            kept.iter().try_for_each(|row| writeln!(file, "{}", row.csv()))?;
            Ok(())
        })?;
        Ok(Self {
            file: Records::open(&path)?,
            events: tensorboard.then(|| EventFile::create(folder, step)).transpose()?,
            begun: Instant::now(),
            seconds_before: kept.iter().filter_map(|row| row.seconds).fold(0.0, f64::max),
            evaluations: kept.into_iter().filter(|row| row.val_loss.is_some()).collect(),
        })
    }

    /// Adds a row.
    ///
    /// # Errors
    /// If it cannot be written, say since the disk is full.
    pub fn push(&mut self, row: &Row) -> Result<()> {
        let row =
            Row { seconds: Some(self.seconds_before + self.begun.elapsed().as_secs_f64()), ..*row };
        if row.val_loss.is_some() {
            self.evaluations.push(row);
        }
        self.file.push(format!("{}\n", row.csv()).as_bytes())?;
        match &mut self.events {
            Some(events) => events.push(row.step, &row.scalars()),
            None => Ok(()),
        }
    }

    /// Draws the losses of all evaluations so far, if somebody is watching.
    pub fn draw(&self) {
        if !io::stdout().is_terminal() {
            return;
        }
        let points = |loss: fn(&Row) -> Option<f64>| -> Vec<(f64, f64)> {
            let point = |row: &Row| Some((row.step as f64, loss(row)?));
            self.evaluations.iter().filter_map(point).collect()
        };
        let curves = [('t', points(|row| row.train_loss)), ('v', points(|row| row.val_loss))];
        print!("{}", curve::text(&curves));
    }
}

impl Row {
    fn fields(&self) -> [Option<f64>; 9] {
        [
            self.tokens,
            self.seconds.map(|seconds| (seconds * 1e3).round() / 1e3),
            self.train_loss,
            self.val_loss,
            self.loss,
            self.lr,
            self.grad_norm,
            self.ms,
            self.tokens_per_second,
        ]
    }

    fn csv(&self) -> String {
        let fields = self.fields().map(|field| field.map_or(String::new(), |x| x.to_string()));
        format!("{},{}", self.step, fields.join(","))
    }

    /// What TensorBoard shows of it, in the groups in which it shows them.
    fn scalars(&self) -> Vec<(&'static str, f64)> {
        let named = [
            ("loss/train", self.train_loss),
            ("loss/val", self.val_loss),
            ("loss/batch", self.loss),
            ("step/lr", self.lr),
            ("step/grad_norm", self.grad_norm),
            ("speed/ms", self.ms),
            ("speed/tokens_per_second", self.tokens_per_second),
        ];
        named.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }
}

/// The rows of a run's `metrics.csv`. A last line that was cut off is left out.
///
/// # Errors
/// If it cannot be read, or a line is none of such a file: which one, in a sentence.
pub fn read(path: &Path) -> Result<Vec<Row>> {
    let name = path.display();
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {name}"))?;
    let Some((header, rows)) = text.split_once('\n') else {
        return Ok(Vec::new());
    };
    ensure!(header == HEADER, "{name} is no file of metrics: it does not begin with {HEADER}");
    let end = rows.rfind('\n').map_or(0, |end| end + 1);
    let lines = rows[..end].lines().enumerate();
    let row = |(i, line): (usize, &str)| {
        row_of(line).with_context(|| format!("{name}: line {} is no row of metrics", i + 2))
    };
    lines.map(row).collect()
}

fn row_of(line: &str) -> Option<Row> {
    let mut texts = line.split(',');
    let step = texts.next()?.parse().ok()?;
    let mut fields = [None; 9];
    for field in &mut fields {
        let text = texts.next()?;
        *field = if text.is_empty() { None } else { Some(text.parse().ok()?) };
    }
    let [tokens, seconds, train_loss, val_loss, loss, lr, grad_norm, ms, tokens_per_second] =
        fields;
    texts.next().is_none().then_some(Row {
        step,
        tokens,
        seconds,
        train_loss,
        val_loss,
        loss,
        lr,
        grad_norm,
        ms,
        tokens_per_second,
    })
}

/// A duration as people say it: `45 s`, `12 min`, `3 h 20 min`.
pub fn said(duration: Duration) -> String {
    let seconds = duration.as_secs_f64().round() as u64;
    match (seconds / 3600, seconds / 60 % 60) {
        (0, 0) => format!("{seconds} s"),
        (0, minutes) => format!("{minutes} min {} s", seconds % 60),
        (hours, minutes) => format!("{hours} h {minutes} min"),
    }
}
