//! When two runs of a program are the same: when the values in their `record.json` are.

use ladder::record::{Class, Record, Value};

/// What a program prints that writes no record, word by word: decimal fractions may be off by a hundredth
/// of themselves (below 1: in all), everything else is exact.
pub fn words(output: &str) -> Record {
    let value = |line: usize, word: usize, text: &str| {
        let text = text.trim_matches(['(', ')', '[', ']', ',', ':', ';']);
        let fraction = text.contains('.').then(|| text.parse::<f64>().ok()).flatten();
        let class =
            fraction.map(|fraction| Class::Tolerant { tolerance: 0.01 * fraction.abs().max(1.0) });
        Value { name: format!("line {}, word {}", line + 1, word + 1), text: text.into(), class }
    };
    let lines = output.lines().enumerate();
    let values = lines.flat_map(|(line, text)| {
        let words = text.split_whitespace().enumerate();
        words.map(|(word, text)| value(line, word, text)).collect::<Vec<_>>()
    });
    Record { values: values.collect() }
}

/// The values that are not as recorded, or are only recorded, or are new: each with its name in a line, and what
/// was and what is. Measured numbers may be off by a share `rounding` of themselves (below 1: in all), if that
/// is more than their own tolerance.
pub fn differences(recorded: &Record, now: &Record, rounding: f64) -> Vec<String> {
    let changed = recorded.values.iter().filter_map(|recorded| {
        let now = now.get(&recorded.name);
        (!is_matched(recorded, now, rounding)).then(|| difference(Some(recorded), now))
    });
    // What is masked may be missing: not all hardware has it.
    let is_new = |now: &&Value| {
        !matches!(now.class, Some(Class::Masked)) && recorded.get(&now.name).is_none()
    };
    let new = now.values.iter().filter(is_new);
    changed.chain(new.map(|now| difference(None, Some(now)))).collect()
}

fn is_matched(recorded: &Value, now: Option<&Value>, rounding: f64) -> bool {
    match recorded.class {
        Some(Class::Masked) => true,
        Some(Class::Exact) | None => now.is_some_and(|now| now.text == recorded.text),
        Some(Class::Tolerant { tolerance }) => {
            let (number, now) = (recorded.number(), now.and_then(Value::number));
            number.zip(now).is_some_and(|(number, now)| {
                (number - now).abs() <= tolerance.max(rounding * number.abs().max(1.0))
            })
        }
    }
}

fn difference(recorded: Option<&Value>, now: Option<&Value>) -> String {
    let name = recorded.or(now).map_or("", |value| &value.name);
    let [recorded, now] =
        [recorded, now].map(|value| value.map_or("(no such value)", |value| &value.text));
    format!("{name}\n  recorded: {recorded}\n  now:      {now}")
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
        let now = Record::parse(&RECORDED.replace(from, to)).unwrap();
        names(differences(&Record::parse(RECORDED).unwrap(), &now, 0.0))
    }

    fn names(differences: Vec<String>) -> Vec<String> {
        differences.iter().map(|said| said.lines().next().unwrap().into()).collect()
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
        let recorded = words("logits [8, 128]\nloss 6.955, say");
        let differ = |now: &str| names(differences(&recorded, &words(now), 0.0));
        assert!(differ("logits [8, 128]\nloss 6.985, say").is_empty());
        assert_eq!(differ("logits [8, 128]\nloss 7.155, say"), ["line 2, word 2"]);
        assert_eq!(differ("logits [9, 128]\nloss 6.955, say"), ["line 1, word 2"]);
        assert_eq!(differ("logits [8, 128]\nloss 6.955, say so"), ["line 2, word 4"]);
    }

    #[test]
    fn a_difference_says_what_was_and_what_is() {
        let now = RECORDED.replace("3,481", "3,482").replace("loss.verdict", "loss.mark");
        let now = Record::parse(&now).unwrap();
        let said = differences(&Record::parse(RECORDED).unwrap(), &now, 0.0);
        assert_eq!(said[0], "parameters\n  recorded: 3,481\n  now:      3,482");
        assert_eq!(said[1], "loss.verdict\n  recorded: ok\n  now:      (no such value)");
        assert_eq!(said[2], "loss.mark\n  recorded: (no such value)\n  now:      ok");
    }
}
