//! Questions with four endings, as HellaSwag asks them: those of the fables, and those of a file.

use crate::{Question, fables, grouped, printable};
use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use serde::Deserialize;
use serde_json::Value;
use std::{fs::File, io::Read, path::Path};

/// Where `cargo run -p data -- hellaswag` puts HellaSwag.
const HELLASWAG: &str = "data/hellaswag/hellaswag_val.jsonl";

/// How many of the fables' questions are asked where nobody says it: an accuracy near a half has a standard
/// error of 0.035 then.
const OF_THE_FABLES: usize = 200;

/// Larger files are refused before they fill the memory: HellaSwag's largest has 48 MB.
const MOST_BYTES: u64 = 256_000_000;

/// Which questions judge a model.
#[derive(Args, Clone, Debug)]
pub struct QuestionFlags {
    /// What to ask: fables (made on the spot), hellaswag (fetch it with `cargo run -p data -- hellaswag`),
    /// or the path of a file in HellaSwag's format
    #[arg(long, value_name = "NAME", default_value = "fables")]
    questions: String,

    /// Ask the first N questions only [default: 200 of the fables, all of a file]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    num_questions: Option<u32>,
}

impl QuestionFlags {
    /// Why a table's rows about the fables' questions need not hold: others are asked.
    pub fn excuse(&self) -> Option<&'static str> {
        (self.questions != "fables").then_some("other questions")
    }
}

/// The questions that `--questions` names, at most `--num-questions` of them.
///
/// # Errors
/// See [`named`].
pub fn questions(flags: &QuestionFlags) -> Result<Vec<Question>> {
    named(&flags.questions, flags.num_questions.map(|n| n as usize))
        .with_context(|| format!("--questions {}", printable(&flags.questions)))
}

/// The first `n` questions of the fables, of `hellaswag` or of a file; of the fables 200, of a file all, where `n` does
/// not say how many. Those of the fables are about stories that are in neither text of the corpus but for the first,
/// which begins the validation text.
///
/// # Errors
/// See [`load`]; and when a file has fewer than `n`.
pub fn named(name: &str, n: Option<usize>) -> Result<Vec<Question>> {
    let mut questions = match name {
        "fables" => of_the_fables(n.unwrap_or(OF_THE_FABLES)),
        "hellaswag" => load(Path::new(HELLASWAG)).with_context(|| {
            format!(
                "{HELLASWAG}: fetch it with `cargo run -p data -- hellaswag`, and start programs in the \
                 repository's folder"
            )
        })?,
        path => load(Path::new(path))?,
    };
    let n = n.unwrap_or(questions.len());
    let there = questions.len();
    ensure!(n <= there, "--num-questions {n}: there are {}", grouped(there as i64));
    questions.truncate(n);
    Ok(questions)
}

/// Questions about stories, in turn with the endings of other stories and with endings in which one word was
/// exchanged: what a story is about is learned long before who it was about.
pub fn of_the_fables(n: usize) -> Vec<Question> {
    let plots = fables::plots(fables::VALIDATION, n.div_ceil(2));
    let words = fables::questions(fables::VALIDATION, n.div_ceil(2));
    plots.into_iter().zip(words).flat_map(|(plot, word)| [plot, word]).take(n).collect()
}

/// Reads a file in HellaSwag's format: a JSON object a line, of which `ctx`, `endings` and `label` count. A label
/// may be in quotes, as the hub's copies of HellaSwag have it. Empty lines are passed over.
///
/// # Errors
/// When the file cannot be read, is no text or has no questions; or with a line's number, when it is no
/// JSON object, its text is empty, it has not four endings, or its label is missing or none of 0, 1, 2, 3.
pub fn load(path: &Path) -> Result<Vec<Question>> {
    let mut bytes = Vec::new();
    let file = File::open(path).context("cannot read it")?;
    file.take(MOST_BYTES + 1).read_to_end(&mut bytes).context("cannot read it")?;
    ensure!(bytes.len() as u64 <= MOST_BYTES, "it is too long for a file of questions");
    let text = String::from_utf8(bytes).ok().context("it is no UTF-8 text")?;
    let lines = (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty());
    let questions = lines.map(|(i, line)| question(line).with_context(|| format!("line {i}")));
    let questions: Vec<Question> = questions.collect::<Result<_>>()?;
    ensure!(!questions.is_empty(), "the file is empty; name one with questions in it");
    Ok(questions)
}

/// A line of HellaSwag, as far as it counts.
#[derive(Deserialize)]
struct Line {
    ctx: String,
    endings: Vec<String>,
    #[serde(default)]
    label: Value,
}

fn question(line: &str) -> Result<Question> {
    let Line { ctx, endings, label } = match serde_json::from_str(line) {
        Ok(line) => line,
        // serde_json counts lines too, and for it there is only one.
        Err(error) => bail!(
            "this is no question in HellaSwag's format: {}",
            error.to_string().replace(" at line 1 column ", ", at character ")
        ),
    };
    ensure!(!ctx.trim().is_empty(), "its ctx is empty, and the endings need a beginning");
    let endings = <[String; 4]>::try_from(endings)
        .map_err(|endings| anyhow::anyhow!("it has {} endings and needs 4", endings.len()))?;
    Ok(Question { ctx, endings, label: index(&label)? })
}

/// The index that a label is.
fn index(label: &Value) -> Result<usize> {
    let absent = label.is_null() || label == "";
    ensure!(!absent, "it has no label, so nobody knows the right ending: take hellaswag_val.jsonl");
    let index = label.as_u64().or_else(|| label.as_str()?.parse().ok());
    let index = index.filter(|index| *index < 4);
    let index = index.with_context(|| format!("its label is {label} and must be 0, 1, 2 or 3"))?;
    Ok(index as usize)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        questions: QuestionFlags,
    }

    fn asked(args: &[&str]) -> Result<Vec<Question>> {
        questions(&Program::parse_from([&["program"], args].concat()).questions)
    }

    /// What a file with this content gives.
    fn of(content: impl AsRef<[u8]>, more: &[&str]) -> Result<Vec<Question>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mine.jsonl");
        std::fs::write(&path, content).unwrap();
        asked(&[&["--questions", path.to_str().unwrap()], more].concat())
    }

    #[track_caller]
    fn refused(content: impl AsRef<[u8]>, words: &str) {
        let error = format!("{:#}", of(content, &[]).expect_err("accepted"));
        assert!(error.starts_with("--questions ") && error.contains(words), "{error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }

    /// The example in the documentation of build-nanogpt's hellaswag.py, and one without what does not count.
    const LINES: &str = r#"{"ind": 24, "activity_label": "Roof shingle removal", "ctx_a": "A man is sitting on a roof.", "ctx_b": "he", "ctx": "A man is sitting on a roof. he", "split": "val", "split_type": "indomain", "label": 3, "endings": ["is using wrap to wrap a pair of skis.", "is ripping level tiles off.", "is holding a rubik's cube.", "starts pulling up roofing on a roof."], "source_id": "activitynet~v_-JhWjGDPHMY"}

{"endings": ["a", "b", "c", "d"], "label": "0", "ctx": "Ä fox"}
"#;

    #[test]
    fn a_line_of_hellaswag_is_a_question() {
        let questions = of(LINES, &[]).unwrap();
        assert_eq!(questions.len(), 2);
        assert_eq!(questions[0].ctx, "A man is sitting on a roof. he");
        assert_eq!(
            questions[0].endings[questions[0].label],
            "starts pulling up roofing on a roof."
        );
        let endings = ["a", "b", "c", "d"].map(String::from);
        assert_eq!(questions[1], Question { ctx: "Ä fox".into(), endings, label: 0 });
        // Lines that end as Windows ends them.
        assert_eq!(of(LINES.replace('\n', "\r\n"), &[]).unwrap(), questions);
        assert_eq!(of(LINES, &["--num-questions", "1"]).unwrap(), questions[..1]);
    }

    #[test]
    fn the_fables_write_what_this_reads() {
        let fables = fables::questions(5, 30);
        assert_eq!(of(fables::to_jsonl(&fables), &[]).unwrap(), fables);
    }

    #[test]
    fn without_a_name_the_fables_are_asked() {
        let questions = asked(&[]).unwrap();
        assert_eq!(questions.len(), 200);
        assert_eq!(questions[..2], [fables::plots(2, 1), fables::questions(2, 1)].concat()[..]);
        assert_eq!(asked(&["--num-questions", "7"]).unwrap(), questions[..7]);
        let excuse = |name| Program::parse_from(["", "--questions", name]).questions.excuse();
        assert_eq!(excuse("fables"), None);
        assert!(excuse("hellaswag").is_some() && excuse("mine.jsonl").is_some());
    }

    #[test]
    fn a_file_that_is_not_there_is_named_with_the_way_to_it() {
        // Tests start in the repository, whose data folder git ignores, so hide it where it is there.
        if !Path::new(HELLASWAG).exists() {
            let error = format!("{:#}", asked(&["--questions", "hellaswag"]).unwrap_err());
            assert!(error.contains("`cargo run -p data -- hellaswag`"), "{error}");
            assert!(error.contains(HELLASWAG) && error.contains("cannot read it"), "{error}");
        }
        let error = format!("{:#}", asked(&["--questions", "no/such.jsonl"]).unwrap_err());
        assert!(error.starts_with("--questions no/such.jsonl: cannot read it"), "{error}");
    }

    #[test]
    fn what_is_no_question_is_refused_by_its_line() {
        let with = |ctx: &str, endings: &str, label: &str| {
            format!(r#"{LINES}{{"ctx": "{ctx}", "endings": [{endings}], "label": {label}}}"#)
        };
        let four = r#""a", "b", "c", "d""#;
        refused("", "the file is empty");
        refused("\n \n", "the file is empty");
        refused(b"\xff\xfe", "no UTF-8");
        refused("hello", "line 1: this is no question in HellaSwag's format: ");
        refused(format!("{LINES}{{\"ctx\": \"A fox"), "line 4: this is no question");
        refused(r#"{"ctx": "A fox", "label": 0}"#, "missing field `endings`");
        refused(with("A fox", r#""a", "b", "c""#, "0"), "line 4: it has 3 endings and needs 4");
        refused(with("A fox", r#""a", "b", "c", 4"#, "0"), "line 4: this is no question");
        refused(with("A fox", &format!("{four}, {four}"), "0"), "line 4: it has 8 endings");
        refused(with(" ", four, "0"), "line 4: its ctx is empty");
        for label in ["4", "-1", "1.5", "\"two\"", "true", "[0]"] {
            let sentence = format!("line 4: its label is {label} and must be 0, 1, 2 or 3");
            refused(with("A fox", four, label), &sentence);
        }
        // As the test files have it, HellaSwag's own and the hub's.
        refused(with("A fox", four, "\"\""), "line 4: it has no label");
        refused(r#"{"ctx": "A fox", "endings": ["a", "b", "c", "d"]}"#, "line 1: it has no label");
    }

    #[test]
    fn more_than_there_are_cannot_be_asked() {
        let error = format!("{:#}", of(LINES, &["--num-questions", "3"]).unwrap_err());
        assert!(error.ends_with("--num-questions 3: there are 2"), "{error}");
    }
}
