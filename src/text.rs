//! Text that somebody else wrote, where it may be shown.

use crate::record;

/// The text as a terminal may have it: its control characters, which could move the cursor or change
/// colours, are written out (`\u{1b}`). New lines and tabs stay.
pub fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\t' => shown.push(c),
            c if c.is_control() => shown.extend(c.escape_default()),
            c => shown.push(c),
        }
    }
    shown
}

/// Prints what a model has written, between two empty lines. The model may know control characters from its corpus.
pub fn print_sample(text: &str) {
    let text = printable(text);
    record::sample(&text);
    println!("\n{text}\n");
}

/// The text as an XML file may have it: a control character becomes its picture (`␌`), and what no XML
/// may hold becomes `�`. The plotting library itself writes `<`, `>`, `&` and quotes as XML wants them.
pub fn drawable(text: &str) -> String {
    let draw = |c: char| match c {
        '\0'..='\u{1f}' => char::from_u32(0x2400 + c as u32).unwrap_or('\u{fffd}'),
        '\u{7f}' => '\u{2421}',
        '\u{80}'..='\u{9f}' | '\u{fffe}' | '\u{ffff}' => '\u{fffd}',
        c => c,
    };
    text.chars().map(draw).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_gets_no_control_characters() {
        assert_eq!(printable("a\tb\n\x1b[31mred\x07 é狐"), "a\tb\n\\u{1b}[31mred\\u{7} é狐");
    }

    #[test]
    fn a_picture_gets_what_xml_may_hold() {
        assert_eq!(drawable("a\x0cb\0\x7f\u{85}\u{ffff} é"), "a␌b␀␡�� é");
    }
}
