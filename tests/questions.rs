//! The questions with which step13 is compared with a reference (see `fixtures/make_hellaswag.py`): they are
//! those of the fables, and OpenAI's tokenizer and ours make the same tokens of them.

use lab::{Question, Tokenizer, fables, questions};
use serde_json::{Value, json};
use std::{fs, path::Path};

/// How many of the fixture's questions are fables; the others follow.
const FABLES: usize = 23;

fn fixture(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/hellaswag").join(name)
}

fn asked() -> Vec<Question> {
    questions::load(&fixture("questions.jsonl")).unwrap()
}

#[test]
fn the_fixture_asks_what_the_fables_ask() {
    let told = fables::questions(3, FABLES + 1);
    for question in &asked()[..FABLES] {
        let is_end_of = |whole: &&Question| whole.ctx.ends_with(&question.ctx);
        let whole = told.iter().find(is_end_of).expect("a fable, if the grammar is the same");
        assert_eq!((&question.endings, question.label), (&whole.endings, whole.label));
    }
}

#[test]
fn its_tokens_are_those_of_openais_tokenizer() {
    let expected = fs::read_to_string(fixture("expected.json")).unwrap();
    let expected: Value = serde_json::from_str(&expected).unwrap();
    let expected = expected["questions"].as_array().unwrap();
    let (questions, tokenizer) = (asked(), Tokenizer::load("gpt2").unwrap());
    assert_eq!(questions.len(), expected.len());
    for (question, expected) in questions.iter().zip(expected) {
        let Question { ctx, endings, label } = question;
        let endings = endings.each_ref().map(|ending| tokenizer.encode(&format!(" {ending}")));
        assert_eq!(expected["ctx_tokens"], json!(tokenizer.encode(ctx)), "{ctx:?}");
        assert_eq!(expected["ending_tokens"], json!(endings), "{ctx:?}");
        assert_eq!(expected["label"], *label, "{ctx:?}");
    }
}
