use crate::{
    Flags, grouped,
    plot::{Plot, save_panels},
    ranks, record,
    record::Kind,
    run,
};
use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressStyle};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeSet,
    fmt::Write as _,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};
use tch::nn::VarStore;

/// Keeps a training loop's books: a progress bar on a terminal, one aligned line now and then,
/// `metrics.csv`, the values in `record.json` and, at the end, a plot: the losses in `loss.svg` or, of a run
/// that answered questions, losses, accuracy and speed in `training.svg`.
///
/// ```text
/// step   120 | loss 2.4801 | val 2.5102 |  31.2 ms | 24,600 tok/s
/// ```
pub struct Log {
    out: PathBuf,
    plot: bool,
    run: String,
    bar: ProgressBar,
    lines: Vec<Line>,
    losses: Vec<Losses>,
    references: Vec<Reference>,
    since_line: Tally,
    all_steps: Tally,
    /// What this run's steps have taken, without the evaluations; `None` once a note says how long all will take.
    in_steps: Option<Duration>,
    last_event: Instant,
    /// Why the run need not reach what the step's own reaches: see [`Flags::excuse`].
    excuse: Option<&'static str>,
    /// Why a mean over the text may be off: see [`Flags::other_text`].
    other_text: Option<&'static str>,
    /// How many characters a token stands for: a loss per token, divided by it, is a loss per character.
    pub chars_per_token: f64,
    /// Whether a validation loss has been seen: then the run trains a model, and its loss must stay a number.
    validated: bool,
}

/// What one printed line says; `metrics.csv` has a row for each.
struct Line {
    run: String,
    step: usize,
    values: Vec<(String, f64)>,
}

/// The training loss of every step of a run.
struct Losses {
    run: String,
    of_steps: Vec<f64>,
}

/// What another model has reached.
struct Reference {
    value: &'static str,
    label: String,
    y: f64,
}

/// The share of rightly answered questions that guessing gives, as each has four endings.
const CHANCE: f64 = 0.25;

/// What has happened since the last line.
#[derive(Clone, Default, Deserialize, Serialize)]
pub(crate) struct Tally {
    steps: usize,
    tokens: i64,
    loss: f64,
    time: Duration,
}

impl Log {
    /// Makes the folder `--out`, and sees that `metrics.csv` can be written there. What stands in it stays until
    /// the first line.
    pub fn new(flags: &Flags) -> Result<Self> {
        let log = Self {
            out: flags.out()?,
            plot: !flags.no_plot,
            run: String::new(),
            bar: ProgressBar::hidden(),
            lines: Vec::new(),
            losses: Vec::new(),
            references: Vec::new(),
            since_line: Tally::default(),
            all_steps: Tally::default(),
            in_steps: None,
            last_event: Instant::now(),
            excuse: flags.excuse(),
            other_text: flags.other_text(),
            chars_per_token: 1.0,
            validated: false,
        };
        match fs::read_to_string(log.csv()) {
            Ok(csv) => log.write(csv.trim_end())?,
            Err(_) => log.write_csv()?,
        }
        Ok(log)
    }

    /// The folder `--out`.
    pub fn out(&self) -> &Path {
        &self.out
    }

    /// Where a picture of this name goes; nowhere, with `--no-plot`.
    pub fn picture(&self, name: &str) -> Option<PathBuf> {
        self.plot.then(|| self.out.join(name))
    }

    fn csv(&self) -> PathBuf {
        self.out.join("metrics.csv")
    }

    /// Prints how many parameters a model has, and where they live.
    pub fn parameters(&self, vs: &VarStore) {
        let parameters = vs.trainable_variables().iter().map(|p| p.numel() as i64).sum();
        let parameters = record::exact("parameters", grouped(parameters));
        println!("{parameters} parameters, {:?}", vs.device());
    }

    /// Begins a run of `steps` steps; the plot draws a curve for each run and labels it `name`.
    pub fn start(&mut self, name: &str, steps: usize) {
        println!("{name}: {} steps", grouped(steps as i64));
        let style = "{spinner} step {pos}/{len} {wide_bar} {eta} left";
        let style = ProgressStyle::with_template(style).expect("the template is a constant");
        self.run = name.into();
        self.losses.push(Losses { run: name.into(), of_steps: Vec::new() });
        if ranks::speaks() {
            self.bar = ProgressBar::new(steps as u64).with_style(style);
        }
        self.since_line = Tally::default();
        self.all_steps = Tally::default();
        self.in_steps = Some(Duration::ZERO);
        self.last_event = Instant::now();
    }

    /// What the next line will say, for a run that is to go on from here.
    pub(crate) fn since_line(&self) -> Tally {
        self.since_line.clone()
    }

    /// Goes on with a run that had taken `step` steps: takes over what `metrics.csv` has of it up to there, but
    /// for the judgement of that step, which is held again.
    ///
    /// # Errors
    /// If `metrics.csv` is not what a log has written.
    pub(crate) fn resume(&mut self, step: usize, since_line: Tally) -> Result<()> {
        self.since_line = since_line;
        let path = self.csv();
        let csv = fs::read_to_string(&path).unwrap_or_default(); // without it there is nothing to take over
        let lines =
            csv_lines(&csv).with_context(|| format!("{} is no log of ours", path.display()))?;
        for line in lines {
            let is_before = line.step < step || line.step == step && line.get("loss").is_some();
            if line.run == self.run && is_before {
                self.take_over(line);
            }
        }
        self.bar.set_position(step as u64);
        Ok(())
    }

    fn take_over(&mut self, line: Line) {
        line.record();
        self.validated |= line.get("val").is_some();
        if let (Some(loss), Some(losses)) = (line.get("loss"), self.losses.last_mut()) {
            losses.of_steps.resize(line.step.max(losses.of_steps.len()), loss);
        }
        self.lines.push(line);
    }

    /// Counts one training step on `tokens` tokens. `loss` is its training loss in nats a token;
    /// the next line shows the mean since the last one, and the time that steps alone have taken.
    ///
    /// # Panics
    /// If the loss of a model is not finite: `lab::run` ends the program with a sentence that says at which step.
    pub fn step(&mut self, loss: f64, tokens: i64) {
        let step = self.losses.last().map_or(0, |losses| losses.of_steps.len()) + 1;
        if self.validated && !loss.is_finite() {
            self.diverged(&format!("step {step}: the training loss is {loss}"));
        }
        self.since_line.steps += 1;
        self.since_line.tokens += tokens;
        self.since_line.loss += loss;
        if let Some(losses) = self.losses.last_mut() {
            losses.of_steps.push(loss);
        }
        let time = self.last_event.elapsed();
        self.since_line.time += time;
        self.all_steps.steps += 1;
        self.all_steps.time += time;
        self.bar.inc(1);
        self.note_a_long_run(time);
        self.last_event = Instant::now();
    }

    /// Says once, after a few seconds, that a run will take long, and how to make it shorter.
    fn note_a_long_run(&mut self, time: Duration) {
        let Some(in_steps) = &mut self.in_steps else { return };
        *in_steps += time;
        let steps = self.bar.length().unwrap_or_default();
        if let Some(note) = long_run(*in_steps, self.bar.position(), steps) {
            // It is no part of what the lesson prints, and a closed stderr is no reason to stop.
            self.bar.suspend(|| drop(writeln!(std::io::stderr(), "{note}")));
            self.in_steps = None;
        }
    }

    /// Prints a line with the mean training loss, `values` and the speed, and adds it to `metrics.csv`.
    pub fn line(&mut self, step: usize, values: &[(&'static str, f64)]) -> Result<()> {
        let tally = std::mem::take(&mut self.since_line);
        let mut all = Vec::new();
        if tally.steps > 0 {
            all.push(("loss", tally.loss / tally.steps as f64));
        }
        all.extend_from_slice(values);
        if tally.steps > 0 {
            all.push(("ms", tally.time.as_secs_f64() * 1e3 / tally.steps as f64));
            all.push(("tok/s", tally.tokens as f64 / tally.time.as_secs_f64()));
        }
        let line = Line::new(&self.run, step, &all);
        self.bar.suspend(|| println!("{}", line.text()));
        self.wrote(line)
    }

    /// After a line: keeps it in `metrics.csv`, and ends the program where a loss is no number.
    fn wrote(&mut self, line: Line) -> Result<()> {
        let (step, val) = (line.step, line.get("val"));
        line.record();
        self.lines.push(line);
        self.summarize(step, val);
        self.write_csv()?;
        if self.bar.length().is_some_and(|steps| self.bar.position() >= steps) {
            self.bar.finish_and_clear(); // before the samples, not above them
        }
        if let Some(val) = val {
            self.validated = true;
            if !val.is_finite() {
                self.diverged(&format!("step {step}: the validation loss is {val}"));
            }
        }
        self.last_event = Instant::now();
        Ok(())
    }

    /// What the record says of every training in the same words.
    fn summarize(&self, step: usize, val: Option<f64>) {
        record::latest(Kind::Exact, "steps", grouped(step as i64));
        if self.all_steps.steps > 0 {
            let ms = self.all_steps.time.as_secs_f64() * 1e3 / self.all_steps.steps as f64;
            record::latest(Kind::Masked, "ms_per_step", digits("ms", ms));
        }
        if let Some(val) = val {
            let per_char = format!("{:.4}", val / self.chars_per_token);
            record::latest(Kind::Measured, "val_nats_per_char", per_char);
        }
    }

    /// Prints the mean of validation losses in nats a token, of as many batches, with its standard error,
    /// and both per character; and adds them to `metrics.csv`.
    pub fn validation(&mut self, step: usize, losses: &[f64]) -> Result<()> {
        let n = losses.len() as f64;
        let val = losses.iter().sum::<f64>() / n;
        let variance =
            losses.iter().map(|loss| (loss - val).powi(2)).sum::<f64>() / (n - 1.0).max(1.0);
        let error = (variance / n).sqrt();
        let (per_char, char_error) = (val / self.chars_per_token, error / self.chars_per_token);
        self.bar.suspend(|| {
            println!(
                "step {step:>5} | val {val:.4} ± {error:.4} nats a token, \
                 {per_char:.4} ± {char_error:.4} a character"
            )
        });
        let values = [
            ("val", val),
            ("val_error", error),
            ("val_per_char", per_char),
            ("val_per_char_error", char_error),
        ];
        self.wrote(Line::new(&self.run, step, &values))
    }

    /// Prints how many of `questions` questions were answered rightly, as a share with its standard error, and
    /// adds both to `metrics.csv`.
    ///
    /// # Panics
    /// If there are no questions, or fewer than right answers.
    pub fn accuracy(&mut self, step: usize, right: usize, questions: usize) -> Result<()> {
        assert!(
            right <= questions && questions > 0,
            "{right} right answers to {questions} questions"
        );
        let n = questions as f64;
        let share = right as f64 / n;
        let error = (share * (1.0 - share) / n).sqrt();
        self.bar.suspend(|| {
            println!("step {step:>5} | hellaswag {right}/{questions} = {share:.4} ± {error:.4}")
        });
        let values = [("hellaswag", share), ("hellaswag_error", error), ("hellaswag_questions", n)];
        self.wrote(Line::new(&self.run, step, &values))
    }

    /// Lets the plot of `value` (`"val"`, in nats a token, or `"hellaswag"`, a share) show what another model
    /// has reached, as a level line. The number is added to the label.
    pub fn reference(&mut self, value: &'static str, label: &str, y: f64) {
        self.references.push(Reference { value, label: label.into(), y });
    }

    /// For a table's rows about what training reaches: see [`Flags::excuse`].
    pub fn excuse(&self) -> Option<&'static str> {
        self.excuse
    }

    /// For a table's rows about means over the text: see [`Flags::other_text`].
    pub fn other_text(&self) -> Option<&'static str> {
        self.other_text
    }

    /// All that was logged under this name in a run, in order.
    pub fn values(&self, run: &str, name: &str) -> Vec<f64> {
        self.curve(run, name).into_iter().map(|(_, value)| value).collect()
    }

    /// Ends the program; what has been written stays.
    fn diverged(&self, what: &str) -> ! {
        self.bar.finish_and_clear();
        run::stop(format!(
            "{what}, so the run ends here; what it logged is in {}. The usual causes: a learning rate that \
             is too high, no clipping of the gradient, numbers too large for float16, or weights that were \
             not finite to begin with",
            self.csv().display()
        ))
    }

    /// Ends the log: draws every run's losses in nats a character, with the `floor` that no model beats on
    /// average, where it is known, and what else the plot shows; and says where the files are.
    pub fn finish(self, floor: Option<f64>) -> Result<()> {
        self.bar.finish_and_clear();
        println!("\nmetrics: {}", self.csv().display());
        if self.plot && ranks::speaks() {
            println!("plot:    {}", self.draw(floor)?.display());
        }
        Ok(())
    }

    /// Draws the plot and returns its path.
    fn draw(&self, floor: Option<f64>) -> Result<PathBuf> {
        let losses = self.loss_plot(floor);
        if self.lines.iter().all(|line| line.get("hellaswag").is_none()) {
            let path = self.out.join("loss.svg");
            losses.save(&path)?;
            return Ok(path);
        }
        let path = self.out.join("training.svg");
        save_panels(&path, &losses, &[self.accuracy_plot(), self.speed_plot()])?;
        Ok(path)
    }

    fn loss_plot(&self, floor: Option<f64>) -> Plot {
        let tokens = self.chars_per_token != 1.0;
        let mut plot = Plot::new("step", if tokens { "nats a character" } else { "loss" });
        let per_char = |curve: Vec<(f64, f64)>| {
            curve.into_iter().map(|(step, loss)| (step, loss / self.chars_per_token)).collect()
        };
        // With several runs to compare, their training losses would only be in the way.
        if let [only] = self.losses.as_slice() {
            plot.line("training", per_char(only.smooth()));
        }
        for Losses { run, .. } in &self.losses {
            let val = self.curve(run, "val");
            if !val.is_empty() {
                plot.line(&format!("{run}, validation"), per_char(val));
            }
        }
        self.add_references(&mut plot, "val", self.chars_per_token);
        if let Some(floor) = floor {
            plot.floor(&format!("floor {floor:.3}"), floor);
        }
        plot
    }

    fn accuracy_plot(&self) -> Plot {
        let mut plot = Plot::new("step", "accuracy");
        self.add_curves(&mut plot, "hellaswag");
        plot.level(&format!("chance {CHANCE:.2}"), CHANCE);
        self.add_references(&mut plot, "hellaswag", 1.0);
        plot.from_zero();
        plot.legend_above();
        plot
    }

    fn speed_plot(&self) -> Plot {
        let mut plot = Plot::new("step", "tokens a second");
        self.add_curves(&mut plot, "tok/s");
        plot.from_zero();
        plot
    }

    /// A curve for each run; a single one needs no name.
    fn add_curves(&self, plot: &mut Plot, value: &str) {
        for Losses { run, .. } in &self.losses {
            let label = if self.losses.len() > 1 { run.as_str() } else { "" };
            plot.line(label, self.curve(run, value));
        }
    }

    fn add_references(&self, plot: &mut Plot, value: &str, unit: f64) {
        for Reference { label, y, .. } in self.references.iter().filter(|r| r.value == value) {
            let y = y / unit;
            plot.level(&format!("{label} {y:.3}"), y);
        }
    }

    fn curve(&self, run: &str, value: &str) -> Vec<(f64, f64)> {
        let lines = self.lines.iter().filter(|line| line.run == run);
        lines.filter_map(|line| Some((line.step as f64, line.get(value)?))).collect()
    }

    fn write_csv(&self) -> Result<()> {
        let names: BTreeSet<&str> = self
            .lines
            .iter()
            .flat_map(|line| &line.values)
            .map(|(name, _)| name.as_str())
            .collect();
        let mut csv = String::from("run,step");
        names.iter().for_each(|name| csv += &format!(",{name}"));
        for line in &self.lines {
            write!(csv, "\n{},{}", line.run, line.step)?;
            for name in &names {
                csv += ",";
                csv += &line.get(name).map(|value| value.to_string()).unwrap_or_default();
            }
        }
        self.write(&csv)
    }

    fn write(&self, csv: &str) -> Result<()> {
        if !ranks::speaks() {
            return Ok(());
        }
        files::write_atomically(&self.csv(), |file| Ok(writeln!(file, "{csv}")?))
            .context("choose a folder that can be written with --out")
    }
}

/// The lines of a `metrics.csv`.
fn csv_lines(csv: &str) -> Option<Vec<Line>> {
    let mut rows = csv.lines();
    let names: Vec<&str> = rows.next().unwrap_or_default().split(',').skip(2).collect();
    rows.map(|row| {
        let (run, rest) = row.split_once(',')?;
        let (step, values) = rest.split_once(',')?;
        let values = names.iter().zip(values.split(',')).filter(|(_, value)| !value.is_empty());
        let values = values.map(|(name, value)| Some((*name, value.parse().ok()?)));
        Some(Line::new(run, step.parse().ok()?, &values.collect::<Option<Vec<_>>>()?))
    })
    .collect()
}

/// A note, if `done` of all `steps` took some seconds and by their speed all will take minutes.
fn long_run(in_steps: Duration, done: u64, steps: u64) -> Option<String> {
    let minutes = in_steps.as_secs_f64() / 60.0 * steps as f64 / done as f64;
    (in_steps > Duration::from_secs(5) && minutes > 3.0).then(|| {
        format!(
            "note: at {:.0} ms each, these {} steps take about {} minutes; --steps takes fewer of them, \
             --quick a twentieth",
            in_steps.as_secs_f64() * 1e3 / done as f64,
            grouped(steps as i64),
            grouped(minutes.round() as i64)
        )
    })
}

impl Losses {
    /// About a hundred points: the means over as many stretches of the run, each in its middle.
    fn smooth(&self) -> Vec<(f64, f64)> {
        let width = self.of_steps.len().div_ceil(100).max(1);
        let middle = |i: usize, n: usize| (i * width) as f64 + (n as f64 + 1.0) / 2.0;
        let stretches = self.of_steps.chunks(width).enumerate();
        let mean = |losses: &[f64]| losses.iter().sum::<f64>() / losses.len() as f64;
        stretches.map(|(i, losses)| (middle(i, losses.len()), mean(losses))).collect()
    }
}

impl Line {
    fn new(run: &str, step: usize, values: &[(&str, f64)]) -> Self {
        let values = values.iter().map(|(name, value)| (name.to_string(), *value)).collect();
        Self { run: run.into(), step, values }
    }

    fn get(&self, name: &str) -> Option<f64> {
        self.values.iter().find(|(n, _)| n == name).map(|(_, value)| *value)
    }

    /// As much as a terminal of 80 columns has room for; `metrics.csv` has the rest.
    fn text(&self) -> String {
        let mut text = format!("step {:>5}", self.step);
        for (name, value) in &self.values {
            let digits = digits(name, *value);
            let part = match name.as_str() {
                "ms" => format!(" | {digits:>6} ms"),
                "tok/s" => format!(" | {digits:>7} tok/s"),
                name => format!(" | {name} {digits}"),
            };
            if text.len() + part.len() > 80 {
                break;
            }
            text += &part;
        }
        text
    }

    fn record(&self) {
        let questions = self.get("hellaswag_questions").unwrap_or(0.0) as usize;
        let values = self.values.iter().map(|(name, value)| {
            let kind = match name.as_str() {
                "lr" | "hellaswag_questions" => Kind::Exact,
                "hellaswag" => Kind::Accuracy { questions },
                // A standard error and the norm of a single gradient hang on the last bits too much.
                "norm" | "val_error" | "val_per_char_error" | "hellaswag_error" | "ms"
                | "tok/s" => Kind::Masked,
                _ => Kind::Measured,
            };
            (kind, name.as_str(), digits(name, *value))
        });
        record::line(&self.run, self.step, values.collect());
    }
}

/// A value with as many digits as are of interest.
fn digits(name: &str, value: f64) -> String {
    match name {
        "lr" => format!("{value:.1e}"),
        "norm" => format!("{value:.2}"),
        "ms" if value < 10.0 => format!("{value:.2}"),
        "ms" => format!("{value:.1}"),
        "tok/s" | "hellaswag_questions" => grouped(value.round() as i64),
        _ if value.abs() < 1e6 => format!("{value:.4}"),
        _ => format!("{value:.4e}"), // diverges, and would fill the line
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::Stop;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    /// The sentence with which `training` is ended, and what metrics.csv then holds.
    fn ended(training: impl FnOnce(&mut Log)) -> (Option<String>, String) {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().to_str().unwrap();
        let mut log = Log::new(&Flags::parsed(&["--out", out])).unwrap();
        log.start("run", 10);
        let end = catch_unwind(AssertUnwindSafe(|| training(&mut log)));
        let sentence = end.err().map(|end| end.downcast::<Stop>().expect("a sentence").0);
        (sentence, std::fs::read_to_string(folder.path().join("metrics.csv")).unwrap())
    }

    #[test]
    fn a_run_of_minutes_is_known_after_seconds() {
        let after = |seconds, done| long_run(Duration::from_secs(seconds), done, 5_000);
        let note = after(6, 60).expect("8 minutes and 20 seconds");
        assert!(note.contains("100 ms") && note.contains("about 8 minutes"), "{note}");
        assert!(note.contains("--steps") && note.contains("--quick"), "{note}");
        assert_eq!(after(4, 40), None, "it is too early to say");
        assert_eq!(after(6, 600), None, "50 seconds in all are not long");
    }

    #[test]
    fn a_loss_that_is_no_number_ends_the_training_at_that_step() {
        for loss in [f64::NAN, f64::INFINITY] {
            let (sentence, csv) = ended(|log| {
                log.line(0, &[("val", 4.5)]).unwrap();
                log.step(4.0, 1);
                log.step(loss, 1);
            });
            let sentence = sentence.expect("it goes on");
            assert!(sentence.starts_with(&format!("step 2: the training loss is {loss}")));
            assert!(sentence.contains("metrics.csv") && csv.contains("4.5"), "{sentence} {csv}");
        }
    }

    #[test]
    fn so_does_a_validation_loss_and_what_was_measured_stays() {
        let (sentence, csv) = ended(|log| log.line(7, &[("val", f64::NAN)]).unwrap());
        assert!(sentence.unwrap().starts_with("step 7: the validation loss is NaN"));
        assert!(csv.contains("run,7,NaN"), "{csv}");
    }

    #[test]
    fn without_a_validation_loss_it_may_explode() {
        let (sentence, _) = ended(|log| {
            log.step(f64::INFINITY, 1);
            log.line(1, &[("w", f64::NAN)]).unwrap();
        });
        assert_eq!(sentence, None);
    }

    #[test]
    fn a_validation_has_its_standard_error_and_is_said_per_character() {
        let (_, csv) = ended(|log| {
            log.chars_per_token = 4.0;
            // Mean 2, variance 1 of three: the error of the mean is √(1/3).
            log.validation(5, &[1.0, 2.0, 3.0]).unwrap();
            assert_eq!(log.values("run", "val"), [2.0]);
        });
        let row = csv.lines().find(|line| line.starts_with("run,5")).unwrap();
        let numbers: Vec<f64> = row.split(',').skip(2).map(|n| n.parse().unwrap()).collect();
        let error = (1.0f64 / 3.0).sqrt();
        assert_eq!(numbers, [2.0, error, 0.5, error / 4.0], "{csv}");
    }

    /// What a run of four steps leaves behind, evaluated at both ends if `answers` says so: its lines in
    /// metrics.csv, and its pictures by name.
    fn left_behind(answers: bool) -> (String, Vec<(String, String)>) {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().to_str().unwrap();
        let mut log = Log::new(&Flags::parsed(&["--out", out])).unwrap();
        log.chars_per_token = 4.0;
        log.reference("val", "GPT-2", 8.0);
        log.reference("hellaswag", "GPT-2", 0.294463);
        log.start("run", 4);
        log.validation(0, &[4.0]).unwrap();
        for step in 1..=4 {
            log.step(4.0 / step as f64, 10);
        }
        log.line(4, &[]).unwrap();
        if answers {
            log.accuracy(4, 57, 200).unwrap();
        }
        log.finish(Some(0.125)).unwrap();
        let files = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path());
        let read = |path: PathBuf| {
            let name = path.file_name().unwrap().to_str().unwrap().to_string();
            (name, std::fs::read_to_string(path).unwrap())
        };
        let (csv, pictures) = files.map(read).partition(|(name, _)| name == "metrics.csv");
        let csv: Vec<_> = csv;
        (csv[0].1.clone(), pictures)
    }

    #[test]
    fn right_answers_have_their_standard_error() {
        let (csv, _) = left_behind(true);
        let mut lines = csv.lines();
        let names: Vec<&str> = lines.next().unwrap().split(',').collect();
        let row: Vec<&str> = lines.last().unwrap().split(',').collect();
        let value = |name| row[names.iter().position(|n| *n == name).unwrap()].parse::<f64>();
        assert_eq!(value("hellaswag"), Ok(0.285));
        assert_eq!(value("hellaswag_questions"), Ok(200.0));
        assert!((value("hellaswag_error").unwrap() - 0.0319).abs() < 5e-5, "{csv}");
    }

    #[test]
    fn a_run_that_answers_has_three_panels_and_another_has_its_losses() {
        let (_, pictures) = left_behind(false);
        let [(name, svg)] = &pictures[..] else { panic!("{pictures:?}") };
        // 8 nats a token are 2 a character here.
        assert!(name == "loss.svg" && svg.contains("GPT-2 2.000") && svg.contains("floor 0.125"));
        assert!(!svg.contains("chance") && !svg.contains("0.294"), "{svg}");

        let (_, pictures) = left_behind(true);
        let [(name, svg)] = &pictures[..] else { panic!("{pictures:?}") };
        assert_eq!(name, "training.svg");
        for words in ["floor 0.125", "GPT-2 2.000", "chance 0.25", "GPT-2 0.294", "tokens a second"]
        {
            assert!(svg.contains(words), "no {words} in {svg}");
        }
    }
}
