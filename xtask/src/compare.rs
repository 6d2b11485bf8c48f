//! When two runs of a program are the same: when the values in their `record.json` are.

use std::fmt;

use anyhow::{Context, Result};
use serde::Deserialize;

/// What `lab` writes of a run into `record.json`, as far as it is compared here.
#[derive(Deserialize)]
pub struct Record {
    values: Vec<Value>,
}

#[derive(Deserialize)]
struct Value {
    name: String,
    text: String,
    #[serde(flatten)]
    class: Class,
}

/// How near the same program comes on another machine.
#[derive(Deserialize)]
#[serde(tag = "class", rename_all = "lowercase")]
enum Class {
    Exact,
    Tolerant { tolerance: f64 },
    Masked,
}

/// A value that is not as recorded, or is only recorded, or is new.
#[derive(Debug, PartialEq)]
pub struct Difference {
    name: String,
    recorded: Option<String>,
    now: Option<String>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let or_none =
            |text: &Option<String>| text.clone().unwrap_or_else(|| "(no such value)".into());
        let (recorded, now) = (or_none(&self.recorded), or_none(&self.now));
        write!(f, "{}\n  recorded: {recorded}\n  now:      {now}", self.name)
    }
}

impl Record {
    pub fn parse(json: &[u8]) -> Result<Self> {
        serde_json::from_slice(json).context("its record.json is none of lab's")
    }

    /// What a program prints that writes no record, word by word: decimal fractions may be off by a hundredth
    /// of themselves (below 1: in all), everything else is exact.
    pub fn of_output(output: &str) -> Self {
        let value = |line: usize, word: usize, text: &str| {
            let text = text.trim_matches(['(', ')', '[', ']', ',', ':', ';']);
            let fraction = text.contains('.').then(|| text.parse::<f64>().ok()).flatten();
            let class = fraction.map_or(Class::Exact, |fraction| Class::Tolerant {
                tolerance: 0.01 * fraction.abs().max(1.0),
            });
            Value {
                name: format!("line {}, word {}", line + 1, word + 1),
                text: text.into(),
                class,
            }
        };
        let lines = output.lines().enumerate();
        let values = lines.flat_map(|(line, text)| {
            let words = text.split_whitespace().enumerate();
            words.map(|(word, text)| value(line, word, text)).collect::<Vec<_>>()
        });
        Self { values: values.collect() }
    }

    pub fn number(&self, name: &str) -> Option<f64> {
        self.get(name)?.number()
    }

    pub fn text(&self, name: &str) -> Option<&str> {
        Some(&self.get(name)?.text)
    }

    fn get(&self, name: &str) -> Option<&Value> {
        self.values.iter().find(|value| value.name == name)
    }

    /// The values in which a run differs from this, the recorded one.
    /// Measured numbers may be off by a share `rounding` of themselves (below 1: in all), if that is more than
    /// their own tolerance.
    pub fn differences(&self, now: &Self, rounding: f64) -> Vec<Difference> {
        let changed = self.values.iter().filter_map(|recorded| {
            let now = now.get(&recorded.name);
            (!recorded.is_matched_by(now, rounding)).then(|| Difference::new(Some(recorded), now))
        });
        let new = now.values.iter().filter(|now| !now.is_masked() && self.get(&now.name).is_none());
        changed.chain(new.map(|now| Difference::new(None, Some(now)))).collect()
    }
}

impl Value {
    /// What is masked may be missing: not all hardware has it.
    fn is_masked(&self) -> bool {
        matches!(self.class, Class::Masked)
    }

    fn is_matched_by(&self, now: Option<&Self>, rounding: f64) -> bool {
        match self.class {
            Class::Masked => true,
            Class::Exact => now.is_some_and(|now| now.text == self.text),
            Class::Tolerant { tolerance } => {
                let (number, now) = (self.number(), now.and_then(Self::number));
                number.zip(now).is_some_and(|(number, now)| {
                    (number - now).abs() <= tolerance.max(rounding * number.abs().max(1.0))
                })
            }
        }
    }

    fn number(&self) -> Option<f64> {
        self.text.replace(',', "").parse().ok()
    }
}

impl Difference {
    fn new(recorded: Option<&Value>, now: Option<&Value>) -> Self {
        let name = recorded.or(now).map(|value| value.name.clone()).unwrap_or_default();
        let text = |value: Option<&Value>| value.map(|value| value.text.clone());
        Self { name, recorded: text(recorded), now: text(now) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORDED: &str = r#"{
        "program": "step01_bigram",
        "values": [
            { "name": "parameters", "text": "3,481", "value": 3481, "class": "exact" },
            { "name": "loss.verdict", "text": "ok", "value": "ok", "class": "exact" },
            { "name": "val@5000", "text": "2.2982", "value": 2.2982, "class": "tolerant", "tolerance": 0.115 },
            { "name": "ms@5000", "text": "0.13", "value": 0.13, "class": "masked" }
        ],
        "samples": ["The fox said 3.14 hellos."]
    }"#;

    /// The names of the values that differ where the record is changed.
    fn changed(from: &str, to: &str) -> Vec<String> {
        assert!(RECORDED.contains(from), "{from}");
        let record = |json: &str| Record::parse(json.as_bytes()).unwrap();
        let now = record(&RECORDED.replace(from, to));
        let differences = record(RECORDED).differences(&now, 0.0);
        differences.into_iter().map(|difference| difference.name).collect()
    }

    #[test]
    fn counts_and_verdicts_are_exact() {
        assert_eq!(changed("3,481", "3,482"), ["parameters"]);
        assert_eq!(changed("\"ok\"", "\"NO\""), ["loss.verdict"]);
    }

    #[test]
    fn a_measured_number_may_be_off_by_its_tolerance() {
        assert!(changed("2.2982", "2.3982").is_empty());
        assert!(changed("2.2982", "2.1982").is_empty());
        assert_eq!(changed("2.2982", "2.4982"), ["val@5000"]);
        assert_eq!(changed("2.2982", "-2.2982"), ["val@5000"]);
        assert_eq!(changed("\"2.2982\"", "\"NaN\""), ["val@5000"]);
    }

    #[test]
    fn times_and_samples_are_not_compared() {
        assert!(changed("0.13", "99").is_empty());
        assert!(changed("ms@5000", "seconds@5000").is_empty());
        assert!(changed("3.14 hellos", "nothing").is_empty());
    }

    #[test]
    fn a_value_that_is_gone_or_new_is_named() {
        assert_eq!(changed("parameters", "numbers"), ["parameters", "numbers"]);
    }

    #[test]
    fn of_what_a_try_out_prints_only_fractions_may_be_off() {
        let differ = |now: &str| {
            let recorded = Record::of_output("logits [8, 128]\nloss 6.955, say");
            let differences = recorded.differences(&Record::of_output(now), 0.0);
            differences.into_iter().map(|difference| difference.name).collect::<Vec<_>>()
        };
        assert!(differ("logits [8, 128]\nloss 6.985, say").is_empty());
        assert_eq!(differ("logits [8, 128]\nloss 7.155, say"), ["line 2, word 2"]);
        assert_eq!(differ("logits [9, 128]\nloss 6.955, say"), ["line 1, word 2"]);
        assert_eq!(differ("logits [8, 128]\nloss 6.955, say so"), ["line 2, word 4"]);
    }

    #[test]
    fn a_difference_says_what_was_and_what_is() {
        let record = |json: &str| Record::parse(json.as_bytes()).unwrap();
        let now = record(&RECORDED.replace("3,481", "3,482").replace("loss.verdict", "loss.mark"));
        let said: Vec<String> =
            record(RECORDED).differences(&now, 0.0).iter().map(Difference::to_string).collect();
        assert_eq!(said[0], "parameters\n  recorded: 3,481\n  now:      3,482");
        assert_eq!(said[1], "loss.verdict\n  recorded: ok\n  now:      (no such value)");
        assert_eq!(said[2], "loss.mark\n  recorded: (no such value)\n  now:      ok");
    }
}
