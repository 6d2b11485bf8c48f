//! What a command says when it refuses to go on.

use std::process::Output;

/// Expects exit code 1 and, as the last line on stderr, an error that says all these words. Returns what is on stderr.
#[track_caller]
pub fn expect_refusal(output: Output, words: &[&str]) -> String {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = String::from_utf8(output.stderr).unwrap();
    let sentence = said.lines().last().unwrap();
    assert!(sentence.starts_with("error: "), "{said}");
    for word in words {
        assert!(sentence.contains(word), "{sentence:?} does not say {word:?}");
    }
    said
}
