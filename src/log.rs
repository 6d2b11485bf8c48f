use crate::{Flags, grouped, plot::Plot, run};
use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressStyle};
use std::{
    collections::BTreeSet,
    fmt::Write as _,
    io::Write as _,
    path::PathBuf,
    time::{Duration, Instant},
};

/// Keeps a training loop's books: a progress bar on a terminal, one aligned line now and then,
/// `metrics.csv` and, at the end, the plot of the losses.
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
    /// What this run's steps have taken, without the evaluations; `None` once a note says how long all will take.
    in_steps: Option<Duration>,
    last_event: Instant,
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
            in_steps: None,
            last_event: Instant::now(),
            validated: false,
        };
        log.write_csv()?;
        Ok(log)
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
        let val = line.get("val");
        self.lines.push(line);
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

    /// Ends the program; what has been written stays.
    fn diverged(&self, what: &str) -> ! {
        self.bar.finish_and_clear();
        run::stop(format!(
            "{what}, so training ends here; what it logged is in {}. The usual causes: a learning rate that \
             is too high, no clipping of the gradient, numbers too large for float16, or weights that were \
             not finite to begin with",
            self.out.join("metrics.csv").display()
        ))
    }

    /// Ends the log: draws every run's losses, with the `floor` that no model can beat where it is
    /// known, and says where the files are.
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
        let mut plot = Plot::new("step", "loss");
        // With several runs to compare, their training losses would only be in the way.
        if let [only] = self.losses.as_slice() {
            plot.line("training", only.smooth());
        }
        for Losses { run, .. } in &self.losses {
            let val = self.curve(run, "val");
            if !val.is_empty() {
                plot.line(&format!("{run}, validation"), val);
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

    fn text(&self) -> String {
        let mut text = format!("step {:>5}", self.step);
        for (name, value) in &self.values {
            text += " | ";
            text += &match *name {
                "lr" => format!("lr {value:.1e}"),
                "norm" => format!("norm {value:.2}"),
                "ms" if *value < 10.0 => format!("{value:>6.2} ms"),
                "ms" => format!("{value:>6.1} ms"),
                "tok/s" => format!("{:>7} tok/s", grouped(value.round() as i64)),
                name if value.abs() < 1e6 => format!("{name} {value:.4}"),
                name => format!("{name} {value:.4e}"), // diverges, and would fill the line
            };
        }
        text
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
}
