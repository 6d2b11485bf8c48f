//! When two outputs of a program are the same.
//!
//! What a program prints is of three classes:
//! - **exact**: words, marks, integers (counts, shapes, steps, tokens), versions, the learning rate,
//!   stated tolerances;
//! - **measured**: other numbers with a decimal point. They may differ a little: see [`tolerance`];
//! - **masked**: times, speeds, memory, ratios, a gradient's norm, and the text that a model writes.
//!
//! A line's *shape* is the line without its measured and masked parts. Two outputs are the same if
//! their lines have the same shapes and the measured numbers in them are near each other.

use std::{ops::Range, sync::LazyLock};

use diffy::{DiffOptions, HunkRange};
use regex::{Captures, Regex};

/// A line that differs, as recorded and as it is now, with its number, from 1, in the recorded
/// output. Where it is only in one of them, the other is `None`; what is new has the number of the line
/// before which it stands.
#[derive(Debug, PartialEq)]
pub struct Difference {
    pub line: usize,
    pub recorded: Option<String>,
    pub now: Option<String>,
}

/// How far a number measured after so many training steps may be off, as a share of it, or, for
/// numbers below 1, in all.
///
/// Processors sum in another order, and so do other numbers of threads: the last bits differ, and each
/// training step builds on what the one before it has made of them. Of libtorch's kernels for plain
/// x86-64, AVX2 and AVX-512, and with one thread and two, no two gave step03's losses alike: by 0.04 % they
/// differed after 250 steps, by 0.5 % after 500, by 1.5 % after 750 and by 1.8 % after 1,000. Allowed is
/// about three times that. From there on it hardly grows: however far two models have moved apart, both learn
/// the same text, and their losses differ as those of two seeds do (step02: 1.2 % after 3,000).
fn tolerance(steps: f64) -> f64 {
    1e-4 + 0.05 * (steps / 1000.0).min(1.0)
}

/// How much further off numbers may be where one of the two runs, or both, trained in bfloat16.
///
/// It keeps 8 bits of each product, and no two kernels round alike: with those for AMX-BF16 and
/// AVX512-BF16, and with one thread and two, step08's losses were 1 to 15 % away from what is recorded. Without
/// clipping a run may also be thrown back, as that chapter tells: with one seed it ended 27 % higher than
/// in float32. Allowed are 30 % after 150 steps. That is enough to see whether a model learns; what is
/// claimed of bfloat16 more finely, the programs themselves check, and print `ok`; what they predict is held to
/// the finer tolerance.
const IN_BFLOAT16: f64 = 40.0;

/// The lines in which two outputs differ.
pub fn differences(recorded: &str, now: &str) -> Vec<Difference> {
    let looser = match in_bfloat16(recorded) || in_bfloat16(now) {
        true => IN_BFLOAT16,
        false => 1.0,
    };
    let (recorded, now) = (lines(recorded), lines(now));
    let shapes = |lines: &[Line]| -> String {
        lines.iter().map(|line| format!("{}\n", line.shape)).collect()
    };
    let (old, new) = (shapes(&recorded), shapes(&now));
    let patch = DiffOptions::new().set_context_len(0).create_patch(&old, &new);
    let mut differences = Vec::new();
    let (mut old, mut new) = (0, 0);
    for hunk in patch.hunks() {
        let (gone, come) = (lines_of(hunk.old_range()), lines_of(hunk.new_range()));
        differences.extend(far(&recorded[old..gone.start], &now[new..come.start], looser));
        let next = recorded.get(gone.end).or(recorded.last()).map_or(1, |line| line.number);
        (old, new) = (gone.end, come.end);
        differences.extend(changed(&recorded[gone], &now[come], next));
    }
    differences.extend(far(&recorded[old..], &now[new..], looser));
    differences
}

/// The lines of a hunk, counted from 0. Without lines, a hunk names the line above it.
fn lines_of(range: HunkRange) -> Range<usize> {
    let start = range.start() - usize::from(!range.is_empty());
    start..start + range.len()
}

/// The lines of the same shape whose numbers are not near each other.
fn far(recorded: &[Line], now: &[Line], looser: f64) -> Vec<Difference> {
    let pairs = recorded.iter().zip(now).filter(|(recorded, now)| !recorded.is_near(now, looser));
    pairs.map(|(recorded, now)| recorded.against(Some(now))).collect()
}

/// Line against line as far as they go, then what one of them has more, before the line `next`.
fn changed(recorded: &[Line], now: &[Line], next: usize) -> Vec<Difference> {
    let pair = |i: usize| match (recorded.get(i), now.get(i)) {
        (Some(recorded), now) => recorded.against(now),
        (None, now) => {
            Difference { line: next, recorded: None, now: now.map(|now| now.text.clone()) }
        }
    };
    (0..recorded.len().max(now.len())).map(pair).collect()
}

fn in_bfloat16(output: &str) -> bool {
    output.lines().any(|line| line.starts_with("precision: Bfloat16"))
}

struct Line {
    number: usize,
    text: String,
    shape: String,
    measured: Vec<Measured>,
    /// Training steps behind the numbers.
    steps: f64,
}

struct Measured {
    value: f64,
    /// What one more in the last digit printed is worth.
    unit: f64,
    /// Stands before the last number in a row of a table: theory says it, or a run in float32.
    predicted: bool,
}

impl Line {
    fn new(number: usize, text: &str, steps: f64) -> Self {
        let mut measured = Vec::new();
        let shape = PARTS.replace_all(text, |part: &Captures| {
            if part.name("masked").is_some() {
                return "…".to_string();
            }
            match part.name("measured") {
                Some(number) => {
                    measured.push(Measured::parse(number.as_str()));
                    "#".to_string()
                }
                None => part[0].to_string(),
            }
        });
        if ROW.is_match(text)
            && let Some((_, predicted)) = measured.split_last_mut()
        {
            predicted.iter_mut().for_each(|number| number.predicted = true);
        }
        if text.starts_with("peak ") {
            // The last number is the measured memory, which a kernel takes according to processor and threads.
            measured.pop();
        }
        // Columns are as wide as their widest number, so the spaces between them do not count.
        let shape = shape.split_whitespace().collect::<Vec<_>>().join(" ");
        Self { number, text: text.into(), shape, measured, steps }
    }

    /// Whether the measured numbers of a line of the same shape are near this one's.
    fn is_near(&self, other: &Self, looser: f64) -> bool {
        self.measured.iter().zip(&other.measured).all(|(one, other)| {
            let looser = if one.predicted { 1.0 } else { looser };
            let allowed = looser * tolerance(self.steps) * one.value.abs().max(1.0) + one.unit;
            (one.value - other.value).abs() <= allowed
        })
    }

    fn against(&self, now: Option<&Self>) -> Difference {
        Difference {
            line: self.number,
            recorded: Some(self.text.clone()),
            now: now.map(|now| now.text.clone()),
        }
    }
}

impl Measured {
    fn parse(number: &str) -> Self {
        let number = number.replace(',', "");
        let (digits, exponent) = number.split_once('e').unwrap_or((&number, "0"));
        let decimals = digits.split_once('.').map_or(0, |(_, decimals)| decimals.len());
        let exponent: i32 = exponent.parse().expect("the pattern takes digits only");
        Self {
            value: number.parse().expect("the pattern takes numbers only"),
            unit: 10f64.powi(exponent - decimals as i32),
            predicted: false,
        }
    }
}

/// The parts of a line that are not plain words and integers. The first alternative that fits counts.
static PARTS: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"(?x)
        (?<masked> [\d,.]+ \x20 (ms|tok/s|MB)\b | [\d.]+ × | \b norm \x20 [\d.]+ | ^ precision: .* )
        | (?<exact> \d+\.\d+\.[\d.]+ | ± \x20 [\d.e-]+ | \b lr \x20 [\d.e-]+ )
        | (?<measured> -? \d [\d,]* (\.\d+ (e-?\d+)? | e-?\d+) )",
    )
});

/// `step   500 | loss …`
static LOG_LINE: LazyLock<Regex> = LazyLock::new(|| pattern(r"^step +(\d+) \|"));

/// A row of a table, predicted beside measured, with its mark.
static ROW: LazyLock<Regex> = LazyLock::new(|| pattern(r" (ok|NO)( \(.*\))?$"));

/// What follows a sample: another run, the table, the names of the files or a line for this purpose.
static AFTER_SAMPLE: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"^(\S.*: [\d,]+ steps$|\s+predicted\s+measured$|metrics: |---$)"));

fn pattern(pattern: &str) -> Regex {
    Regex::new(pattern).expect("the pattern is a constant")
}

/// The lines of an output. What a model writes, between an empty line after the log and what follows a
/// sample, becomes one line: it has to be there, but all of it is masked.
fn lines(output: &str) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    let mut most_steps: f64 = 0.0;
    let mut rest = output.lines().zip(1..).peekable();
    while let Some((text, number)) = rest.next() {
        let step = LOG_LINE.captures(text).and_then(|captures| captures[1].parse().ok());
        most_steps = most_steps.max(step.unwrap_or(0.0));
        lines.push(Line::new(number, text, step.unwrap_or(most_steps)));
        let after_log = step.is_some() && rest.peek().is_some_and(|(text, _)| text.is_empty());
        if after_log || text.starts_with("--- sample ") {
            let mut is_sample = false;
            let mut first = number + 1;
            while let Some((text, number)) = rest.next_if(|(text, _)| !AFTER_SAMPLE.is_match(text))
            {
                if !is_sample && !text.trim().is_empty() {
                    (is_sample, first) = (true, number);
                }
            }
            if is_sample {
                lines.push(Line::new(first, "(a sample)", most_steps));
            }
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "\
libtorch 2.11.0
x is a tensor of shape [100], of Float, on Cpu

heads: 1: 1,000 steps
step     0 | val 4.0872
step  1000 | loss 2.0317 | val 2.0260 | lr 6.0e-4 |   5.12 ms | 199,999 tok/s

The fox said 3.14 hellos.

 step 7 of it

                         predicted   measured
parameters: V²               3,481      3,481   ok
averages agree           < 1.0e-5     2.4e-7   ok
loss: counting pairs         2.2956     2.2982   ok (± 0.03)

metrics: out/step01_bigram/metrics.csv
";

    const NOWHERE: [usize; 0] = [];

    /// The lines at which a changed output differs.
    fn changed(from: &str, to: &str) -> Vec<usize> {
        assert!(OUTPUT.contains(from), "{from}");
        let now = OUTPUT.replace(from, to);
        differences(OUTPUT, &now).iter().map(|difference| difference.line).collect()
    }

    #[test]
    fn words_counts_marks_and_versions_are_exact() {
        assert_eq!(changed("[100]", "[101]"), [2]);
        assert_eq!(changed("Float", "Double"), [2]);
        assert_eq!(changed("2.11.0", "2.11.1"), [1]);
        assert_eq!(changed("step  1000", "step   999"), [6]);
        assert_eq!(changed("lr 6.0e-4", "lr 6.1e-4"), [6]);
        assert_eq!(changed("     3,481   ok", "     3,482   ok"), [13]);
        assert_eq!(changed("2.4e-7   ok", "2.4e-7   NO"), [14]);
        assert_eq!(changed("± 0.03", "± 0.04"), [15]);
        assert_eq!(changed("val 4.0872", "val NaN"), [5]);
    }

    #[test]
    fn losses_are_near_and_the_nearer_the_earlier() {
        assert_eq!(changed("val 4.0872", "val 4.0874"), NOWHERE);
        assert_eq!(changed("val 4.0872", "val 4.0972"), [5]);
        assert_eq!(changed("val 2.0260", "val 2.0660"), NOWHERE);
        assert_eq!(changed("val 2.0260", "val 2.1460"), [6]);
        assert_eq!(changed("val 2.0260", "val -2.0260"), [6]);
        assert_eq!(changed("2.4e-7", "0.0000"), NOWHERE);
        assert_eq!(changed("2.2982", "2.2970"), NOWHERE);
    }

    #[test]
    fn times_speeds_and_samples_are_masked() {
        assert_eq!(changed("  5.12 ms | 199,999 tok/s", "123.4 ms | 1,999 tok/s"), NOWHERE);
        assert_eq!(changed("The fox said 3.14 hellos.\n", "A hen.\n\n\n\"No 2.7!\"\n"), NOWHERE);
        assert_eq!(changed("The fox said 3.14 hellos.\n\n step 7 of it\n\n", ""), [8]);
    }

    #[test]
    fn losses_in_bfloat16_may_be_further_off() {
        let said = |precision: &str, val: f64| {
            format!(
                "precision: {precision}; fast at bfloat16 here: true\nstep   150 | val {val:.4}\n"
            )
        };
        let recorded = said("Bfloat16", 3.6329);
        assert_eq!(differences(&recorded, &said("Bfloat16", 4.3915)), []);
        assert_eq!(differences(&recorded, &said("Float32", 3.4527)), []);
        assert_eq!(differences(&recorded, &said("Bfloat16", 4.8)).len(), 1);
        assert_eq!(differences(&recorded, &said("Bfloat16", 2.5)).len(), 1);
        let recorded = said("Float32", 3.6246);
        assert_eq!(differences(&recorded, &said("Float32", 3.6600)).len(), 1);
    }

    #[test]
    fn a_prediction_may_not_even_in_bfloat16() {
        let said = |row: &str| format!("precision: Bfloat16\nstep   150 | val 3.6329\n{row}\n");
        let recorded = said("bfloat16 as float32, σ = 0.02      9.2043     9.2042   ok (± 0.02)");
        let far = |from: &str, to: &str| differences(&recorded, &recorded.replace(from, to)).len();
        assert_eq!(far("9.2042", "9.1"), 0);
        assert_eq!(far("9.2043", "9.2"), 0);
        assert_eq!(far("9.2043", "9.1"), 1);
        assert_eq!(far("σ = 0.02", "σ = 0.04"), 1);
    }

    #[test]
    fn of_a_peak_only_the_prediction_and_the_mark_count() {
        let said = |peak: &str| format!("peak fused, in tensors of T²   < {peak}\n");
        let recorded = said("0.5000     0.1672   ok");
        assert_eq!(differences(&recorded, &said("0.5000     0.3000   ok")), []);
        assert_eq!(differences(&recorded, &said("0.7000     0.1672   ok")).len(), 1);
        assert_eq!(differences(&recorded, &said("0.5000     0.6000   NO")).len(), 1);
    }

    #[test]
    fn a_sample_ends_where_a_line_says_so() {
        let said = |sample: &str, after: &str| {
            format!("10 parameters\n\n--- sample 1\n{sample}\n---\n\nstd 0.0396 {after}\n")
        };
        let recorded = said("Once 1.0\n\nmore", "x");
        assert_eq!(differences(&recorded, &said("Twice", "x")), []);
        assert_eq!(differences(&recorded, &said("Once 1.0\n\nmore", "y")).len(), 1);
    }

    #[test]
    fn columns_may_be_wider() {
        assert_eq!(changed("               predicted", "                 predicted"), NOWHERE);
    }

    #[test]
    fn lines_that_are_new_or_gone_are_shown_alone() {
        assert_eq!(changed("heads: 1: 1,000 steps\n", ""), [4]);
        let now = OUTPUT.replace("averages agree", "one more   1\naverages agree");
        let one_more = Difference { line: 14, recorded: None, now: Some("one more   1".into()) };
        assert_eq!(differences(OUTPUT, &now), [one_more]);
        assert_eq!(changed("metrics: out/step01_bigram/metrics.csv\n", ""), [17]);
    }

    #[test]
    fn all_that_differs_is_shown_in_order() {
        let now = OUTPUT.replace("heads: 1: 1,000 steps\n", "").replace("val 2.0260", "val 2.1460");
        let now = now.replace("averages agree", "one more   1\naverages agree") + "the end\n";
        let lines: Vec<usize> = differences(OUTPUT, &now).iter().map(|found| found.line).collect();
        assert_eq!(lines, [4, 6, 14, 17]);
    }

    /// What a terminal of 80 columns wraps is hard to read. Not held to it are what a model writes, the lines
    /// of a training's log (step09's are 91 wide), and step04's lists of the tokens of a sentence.
    #[test]
    fn what_is_recorded_is_not_too_wide() {
        let is_list = |line: &str| line.starts_with("ours: [") || line.starts_with("  \"");
        let (mut seen, mut wide) = (0, Vec::new());
        for run in std::fs::read_dir(crate::workspace().join(crate::record::RECORDED)).unwrap() {
            let path = run.unwrap().path().join("output.txt");
            for line in lines(&std::fs::read_to_string(&path).unwrap()) {
                seen += 1;
                let is_exempt = LOG_LINE.is_match(&line.text) || is_list(&line.text);
                if line.text.chars().count() > 80 && !is_exempt {
                    wide.push(format!("{}:{}: {}", path.display(), line.number, line.text));
                }
            }
        }
        assert!(seen > 500, "{seen}");
        assert!(wide.is_empty(), "{}", wide.join("\n"));
    }
}
