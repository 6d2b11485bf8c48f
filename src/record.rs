//! `record.json`: what a run has said, as data. It lies in `--out` beside `metrics.csv` and the plots.
//!
//! Each value has the name that the book asks for it by, the text that was printed, and a class, which says
//! how near the same program comes on another machine: see [`exact`], [`measured`] and [`masked`]. [`Log`] and
//! [`Table`] record what they print by themselves; what a proof prints with `println!` it names here:
//!
//! ```
//! let std = 0.03961;
//! println!("the blocks add numbers of std {}", lab::record::measured("added_std", format!("{std:.4}")));
//! ```
//!
//! [`Log`]: crate::Log
//! [`Table`]: crate::Table

use crate::Flags;
use anyhow::{Context, Result};
use serde_json::{Map, Value as Json, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Display,
    fs,
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
};

/// What a run has printed so far. There is one, as there is one standard output.
static RECORD: Mutex<Record> = Mutex::new(Record::new());

struct Record {
    begun: Option<Begun>,
    values: Vec<Value>,
    lines: Vec<Line>,
    samples: Vec<String>,
    /// The most training steps that a model has taken.
    steps: usize,
}

/// Where the record goes, and what it was started with.
struct Begun {
    out: PathBuf,
    seed: u32,
    device: String,
}

#[derive(Clone)]
struct Value {
    name: String,
    text: String,
    class: Class,
}

/// A line of a training's log: its values have the names `loss@100`, or `one_head/loss@100` where there are
/// several trainings.
struct Line {
    run: String,
    step: usize,
    values: Vec<Value>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Class {
    /// The same on every machine: counts, shapes, what was chosen.
    Exact,
    /// A number that may be off by so much.
    Tolerant(f64),
    /// Whatever it is: times, speeds, sampled text. It may be missing too, as hardware differs.
    Masked,
}

/// What a value is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Kind {
    Exact,
    Measured,
    /// How many of so many questions were answered rightly, as a share.
    Accuracy {
        questions: usize,
    },
    Masked,
}

/// Records what is the same on every machine (a count, a name, a verdict), and returns its text.
pub fn exact(name: &str, text: impl Display) -> String {
    value(Kind::Exact, name, text.to_string())
}

/// Records a number that was computed with rounding, and returns its text. How far another machine may be off
/// depends on the training steps behind it.
pub fn measured(name: &str, text: impl Display) -> String {
    value(Kind::Measured, name, text.to_string())
}

/// Records which share of `questions` was answered rightly, and returns it as text.
pub fn accuracy(name: &str, right: usize, questions: usize) -> String {
    let share = right as f64 / questions as f64;
    value(Kind::Accuracy { questions }, name, format!("{share:.4}"))
}

/// Records what is another on every machine (a time, a speed), and returns its text.
pub fn masked(name: &str, text: impl Display) -> String {
    value(Kind::Masked, name, text.to_string())
}

pub(crate) fn value(kind: Kind, name: &str, text: String) -> String {
    let mut record = record();
    let class = Class::of(kind, record.steps, &text);
    record.values.push(Value { name: slug(name), text: text.clone(), class });
    text
}

/// The record of this run goes into `out`.
pub(crate) fn begin(out: PathBuf, flags: &Flags) {
    let device = format!("{:?}", flags.device);
    record().begun = Some(Begun { out, seed: flags.seed, device });
}

/// A line of a training's log: each value's kind, name and text.
pub(crate) fn line(run: &str, step: usize, values: Vec<(Kind, &str, String)>) {
    let mut record = record();
    record.steps = record.steps.max(step);
    let values = values.into_iter().map(|(kind, name, text)| {
        let class = Class::of(kind, step, &text);
        Value { name: slug(name), text, class }
    });
    let values = values.collect();
    record.lines.push(Line { run: slug(run), step, values });
}

/// Says how a training stands; what was said under this name before no longer counts.
pub(crate) fn latest(kind: Kind, name: &str, text: String) {
    record().values.retain(|value| value.name != name);
    value(kind, name, text);
}

/// What a model has written.
pub(crate) fn sample(text: &str) {
    record().samples.push(text.into());
}

/// Writes `record.json`, if the program has said where.
///
/// # Errors
/// If it cannot be written.
pub(crate) fn write() -> Result<()> {
    let record = record();
    let Some(begun) = &record.begun else { return Ok(()) };
    let mut json = serde_json::to_string_pretty(&record.json(begun)?)?;
    json.push('\n');
    let path = begun.out.join("record.json");
    files::write_atomically(&path, |file| Ok(std::io::Write::write_all(file, json.as_bytes())?))
        .context("choose a folder that can be written with --out")
}

/// A panic elsewhere has left the record whole: values are added one at a time.
fn record() -> MutexGuard<'static, Record> {
    RECORD.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Record {
    const fn new() -> Self {
        Self { begun: None, values: Vec::new(), lines: Vec::new(), samples: Vec::new(), steps: 0 }
    }

    fn json(&self, begun: &Begun) -> Result<Json> {
        let values = self.all_values();
        let lines = self.lines.iter().map(|line| {
            let mut object = Map::new();
            object.insert("run".into(), json!(line.run));
            object.insert("step".into(), json!(line.step));
            object.extend(line.values.iter().map(|value| (value.name.clone(), value.number())));
            Json::Object(object)
        });
        // A path need be no UTF-8, and JSON is.
        let args = std::env::args_os().skip(1);
        let args: Vec<String> = args.map(|arg| arg.to_string_lossy().into_owned()).collect();
        let program = std::env::current_exe()?;
        Ok(json!({
            "program": program.file_stem().unwrap_or_default().to_string_lossy(),
            "args": args,
            "seed": begun.seed,
            "machine": {
                "device": begun.device,
                "cpu": cpu(),
                "cores": thread::available_parallelism().map_or(1, usize::from),
                "threads": tch::get_num_threads(),
            },
            "versions": {
                "repository": env!("CARGO_PKG_VERSION"),
                "libtorch": tch_ext::LIBTORCH_VERSION,
            },
            "values": values.iter().map(Value::json).collect::<Vec<_>>(),
            "lines": lines.collect::<Vec<_>>(),
            "samples": self.samples,
        }))
    }

    /// The values, and those of the lines under the names that tell them apart. What is said twice counts once;
    /// where a name has another text the second time, it becomes `name#2`.
    fn all_values(&self) -> Vec<Value> {
        let runs: BTreeSet<&str> = self.lines.iter().map(|line| line.run.as_str()).collect();
        let mut values = self.values.clone();
        for line in &self.lines {
            let run = if runs.len() > 1 { format!("{}/", line.run) } else { String::new() };
            values.extend(line.values.iter().map(|value| {
                let name = format!("{run}{}@{}", value.name, line.step);
                Value { name, ..value.clone() }
            }));
        }
        let mut texts: BTreeMap<String, Vec<String>> = BTreeMap::new();
        values.retain_mut(|value| {
            let texts = texts.entry(value.name.clone()).or_default();
            if texts.contains(&value.text) {
                return false;
            }
            texts.push(value.text.clone());
            if texts.len() > 1 {
                value.name = format!("{}#{}", value.name, texts.len());
            }
            true
        });
        values
    }
}

impl Class {
    /// The class of a text that was printed after so many training steps.
    ///
    /// Processors sum in another order, and so do other numbers of threads: the last bits differ, and each
    /// training step builds on what the one before it has made of them. Of libtorch's kernels for plain
    /// x86-64, AVX2 and AVX-512, and with one thread and two, no two gave step03's losses alike: by 0.04 %
    /// they differed after 250 steps, by 0.5 % after 500, by 1.5 % after 750 and by 1.8 % after 1,000.
    /// Allowed is about three times that, and one more in the last digit printed. From there on it hardly
    /// grows: however far two models have moved apart, both learn the same text, and their losses differ as
    /// those of two seeds do (step02: 1.2 % after 3,000).
    fn of(kind: Kind, steps: usize, text: &str) -> Self {
        let share = 1e-4 + 0.05 * (steps as f64 / 1000.0).min(1.0);
        match (kind, number(text)) {
            (Kind::Masked, _) => Self::Masked,
            (Kind::Measured, Some(value)) => {
                Self::Tolerant(share * value.abs().max(1.0) + last_digit(text))
            }
            (Kind::Accuracy { questions }, Some(share)) => {
                Self::Tolerant(accuracy_tolerance(share, questions as f64) + last_digit(text))
            }
            _ => Self::Exact,
        }
    }
}

/// How far an accuracy may be off on another machine: three of its standard errors.
///
/// An answer is the least of four losses: where two endings are as likely, the last bits decide, and models that
/// training has moved apart answer some questions otherwise though both know as much. If one is right and
/// the other wrong on a share d of n questions, their accuracies differ by about √(d/n). For two that have
/// nothing in common but their accuracy p, d is 2·p·(1 − p); allowed is three times the difference of models for
/// which it is half of that, √(p·(1 − p)/n). (Of step10's answers to 400 questions, libtorch's kernels for plain
/// x86-64 and those for AVX2 gave none otherwise after 200 steps, 2 after 300, 9 after 500 and 23 after 600.)
/// p is taken with four more answers, two of them right (after Agresti and Coull), so that something is
/// allowed where all are right, or none.
fn accuracy_tolerance(share: f64, questions: f64) -> f64 {
    let share = (share * questions + 2.0) / (questions + 4.0);
    3.0 * (share * (1.0 - share) / questions).sqrt()
}

impl Value {
    fn number(&self) -> Json {
        // JSON has no NaN.
        number(&self.text).map_or(json!(self.text), |number| json!(number))
    }

    fn json(&self) -> Json {
        let mut json = json!({ "name": self.name, "value": self.number(), "text": self.text });
        json["class"] = match self.class {
            Class::Exact => json!("exact"),
            Class::Tolerant(_) => json!("tolerant"),
            Class::Masked => json!("masked"),
        };
        if let Class::Tolerant(tolerance) = self.class {
            json["tolerance"] = json!(tolerance);
        }
        json
    }
}

/// The number that a text is: `3,481`, `2.0260`, `2.4e-7`.
fn number(text: &str) -> Option<f64> {
    let number: f64 = text.trim().replace(',', "").parse().ok()?;
    number.is_finite().then_some(number)
}

/// What one more in the last digit of a number is worth.
fn last_digit(text: &str) -> f64 {
    let (digits, exponent) = text.split_once('e').unwrap_or((text, "0"));
    let decimals = digits.split_once('.').map_or(0, |(_, decimals)| decimals.trim().len());
    let exponent: i32 = exponent.trim().parse().unwrap_or(0);
    10f64.powi(exponent - decimals as i32)
}

/// A name of letters, digits and underscores, and `/`, `@` and `.`, which have a meaning in it.
fn slug(name: &str) -> String {
    let mut slug = String::new();
    for c in name.replace("tok/s", "tok_per_s").replace('\'', "").chars() {
        match c {
            c if c.is_alphanumeric() => slug.extend(c.to_lowercase()),
            '/' | '@' | '.' => {
                slug.truncate(slug.trim_end_matches('_').len());
                slug.push(c);
            }
            _ if !slug.ends_with('_') && !slug.is_empty() => slug.push('_'),
            _ => {}
        }
    }
    slug.trim_end_matches('_').into()
}

/// The processor's name, where the system tells it in a file.
fn cpu() -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(name: &str, text: &str, class: Class) -> Value {
        Value { name: name.into(), text: text.into(), class }
    }

    fn begun() -> Begun {
        Begun { out: PathBuf::new(), seed: 1, device: "Cpu".into() }
    }

    #[test]
    fn a_value_is_a_number_where_its_text_is_one() {
        assert_eq!(value("v", "3,481", Class::Exact).number(), json!(3481.0));
        assert_eq!(value("v", "2.4e-7", Class::Exact).number(), json!(2.4e-7));
        assert_eq!(value("v", "ok", Class::Exact).number(), json!("ok"));
        assert_eq!(value("v", "NaN", Class::Exact).number(), json!("NaN"));
    }

    #[test]
    fn more_steps_allow_more_and_the_last_digit_is_always_free() {
        let allowed = |steps, text: &str| match Class::of(Kind::Measured, steps, text) {
            Class::Tolerant(allowed) => allowed,
            other => panic!("{text} is {other:?}"),
        };
        assert!((allowed(0, "4.0872") - (4.0872e-4 + 1e-4)).abs() < 1e-12);
        assert!((allowed(1000, "2.0260") - (2.026 * 0.0501 + 1e-4)).abs() < 1e-12);
        assert_eq!(allowed(1000, "0.5"), allowed(9000, "0.5"));
        assert!((allowed(0, "2.4e-7") - (1e-4 + 1e-8)).abs() < 1e-12);
        assert_eq!(Class::of(Kind::Measured, 1000, "NaN"), Class::Exact);
    }

    #[test]
    fn an_accuracy_may_be_off_by_what_its_questions_leave_open() {
        let allowed = |questions, text: &str| {
            let kind = Kind::Accuracy { questions };
            let classes = [0, 800].map(|steps| Class::of(kind, steps, text));
            assert_eq!(classes[0], classes[1], "the steps do not matter");
            let Class::Tolerant(allowed) = classes[0] else { panic!("{text} is {classes:?}") };
            allowed
        };
        // √(0.25·0.75/200) is 0.031, and of 10,042 questions 0.0043.
        assert!((0.09..0.10).contains(&allowed(200, "0.2500")), "{}", allowed(200, "0.2500"));
        assert!((0.0129..0.0132).contains(&allowed(10_042, "0.2500")));
        // Four of 200 answers where all are right, so that chance is never taken for it.
        assert!((0.02..0.025).contains(&allowed(200, "1.0000")), "{}", allowed(200, "1.0000"));
    }

    #[test]
    fn names_are_plain_and_those_of_several_trainings_differ() {
        assert_eq!(slug("tok/s"), "tok_per_s");
        assert_eq!(slug("logits, fused against by hand"), "logits_fused_against_by_hand");
        assert_eq!(slug("one head's loss "), "one_heads_loss");
        assert_eq!(slug("less by √(2L).predicted"), "less_by_2l.predicted");
        let line = |run: &str| Line {
            run: slug(run),
            step: 10,
            values: vec![value("val", "1.5", Class::Exact)],
        };
        let mut record = Record::new();
        record.lines.push(line("one head"));
        assert_eq!(record.all_values()[0].name, "val@10");
        record.lines.push(line("four heads"));
        let names: Vec<String> = record.all_values().into_iter().map(|value| value.name).collect();
        assert_eq!(names, ["one_head/val@10", "four_heads/val@10"]);
    }

    #[test]
    fn what_is_said_twice_counts_once_and_a_second_meaning_has_a_number() {
        let mut record = Record::new();
        for text in ["1", "1", "2", "1", "3"] {
            record.values.push(value("merges", text, Class::Exact));
        }
        let json = record.json(&begun()).unwrap();
        let names = json["values"].as_array().unwrap().iter().map(|value| &value["name"]);
        assert_eq!(names.collect::<Vec<_>>(), ["merges", "merges#2", "merges#3"]);
        assert_eq!(json["values"][0]["class"], "exact");
    }
}
