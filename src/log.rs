use crate::{Flags, grouped, plot::Plot, record, record::Kind, run};
use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressStyle};
use std::{
    collections::BTreeSet,
    fmt::Write as _,
    io::Write as _,
    path::PathBuf,
    time::{Duration, Instant},
};
use tch::nn::VarStore;

/// Keeps a training loop's books: a progress bar on a terminal, one aligned line now and then,
/// `metrics.csv`, the values in `record.json` and, at the end, the plot of the losses.
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
    values: Vec<(&'static str, f64)>,
}

/// The training loss of every step of a run.
struct Losses {
    run: String,
    of_steps: Vec<f64>,
}

/// What has happened since the last line.
#[derive(Default)]
struct Tally {
    steps: usize,
    tokens: i64,
    loss: f64,
    time: Duration,
}

impl Log {
    /// Makes the folder `--out` and starts `metrics.csv` in it.
    pub fn new(flags: &Flags) -> Result<Self> {
        let log = Self {
            out: flags.out()?,
            plot: !flags.no_plot,
            run: String::new(),
            bar: ProgressBar::hidden(),
            lines: Vec::new(),
            losses: Vec::new(),
            since_line: Tally::default(),
            all_steps: Tally::default(),
            in_steps: None,
            last_event: Instant::now(),
            excuse: flags.excuse(),
            other_text: flags.other_text(),
            chars_per_token: 1.0,
            validated: false,
        };
        log.write_csv()?;
        Ok(log)
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
        self.bar = ProgressBar::new(steps as u64).with_style(style);
        self.since_line = Tally::default();
        self.all_steps = Tally::default();
        self.in_steps = Some(Duration::ZERO);
        self.last_event = Instant::now();
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
        let line = Line { run: self.run.clone(), step, values: all };
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
        let values = vec![
            ("val", val),
            ("val_error", error),
            ("val_per_char", per_char),
            ("val_per_char_error", char_error),
        ];
        self.wrote(Line { run: self.run.clone(), step, values })
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
            self.out.join("metrics.csv").display()
        ))
    }

    /// Ends the log: draws every run's losses in nats a character, with the `floor` that no model can beat
    /// where it is known, and says where the files are.
    pub fn finish(self, floor: Option<f64>) -> Result<()> {
        self.bar.finish_and_clear();
        println!("\nmetrics: {}", self.out.join("metrics.csv").display());
        if self.plot {
            let path = self.out.join("loss.svg");
            self.loss_plot(floor).save(&path)?;
            println!("plot:    {}", path.display());
        }
        Ok(())
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
        if let Some(floor) = floor {
            plot.floor(&format!("floor {floor:.3}"), floor);
        }
        plot
    }

    fn curve(&self, run: &str, value: &str) -> Vec<(f64, f64)> {
        let lines = self.lines.iter().filter(|line| line.run == run);
        lines.filter_map(|line| Some((line.step as f64, line.get(value)?))).collect()
    }

    fn write_csv(&self) -> Result<()> {
        let names: BTreeSet<&str> =
            self.lines.iter().flat_map(|line| line.values.iter().map(|(name, _)| *name)).collect();
        let mut csv = String::from("run,step");
        names.iter().for_each(|name| csv += &format!(",{name}"));
        for line in &self.lines {
            write!(csv, "\n{},{}", line.run, line.step)?;
            for name in &names {
                csv += ",";
                csv += &line.get(name).map(|value| value.to_string()).unwrap_or_default();
            }
        }
        let path = self.out.join("metrics.csv");
        files::write_atomically(&path, |file| Ok(writeln!(file, "{csv}")?))
            .context("choose a folder that can be written with --out")
    }
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
    fn get(&self, name: &str) -> Option<f64> {
        self.values.iter().find(|(n, _)| *n == name).map(|(_, value)| *value)
    }

    /// As much as a terminal of 80 columns has room for; `metrics.csv` has the rest.
    fn text(&self) -> String {
        let mut text = format!("step {:>5}", self.step);
        for (name, value) in &self.values {
            let digits = digits(name, *value);
            let part = match *name {
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
        let values = self.values.iter().map(|(name, value)| {
            let kind = match *name {
                "lr" => Kind::Exact,
                // A standard error and the norm of a single gradient hang on the last bits too much.
                "norm" | "val_error" | "val_per_char_error" | "ms" | "tok/s" => Kind::Masked,
                _ => Kind::Measured,
            };
            (kind, *name, digits(name, *value))
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
        "tok/s" => grouped(value.round() as i64),
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
}
