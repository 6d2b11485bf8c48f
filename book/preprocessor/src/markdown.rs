//! Markdown as mdBook reads it, plus formulas.

use std::ops::Range;

use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};

/// The events of a text, each with the bytes that it came from.
pub fn events(text: &str) -> impl Iterator<Item = (Event<'_>, Range<usize>)> {
    let options = Options::ENABLE_TABLES
        | Options::ENABLE_FOOTNOTES
        | Options::ENABLE_STRIKETHROUGH
        | Options::ENABLE_TASKLISTS
        | Options::ENABLE_HEADING_ATTRIBUTES
        | Options::ENABLE_DEFINITION_LIST
        | Options::ENABLE_GFM
        | Options::ENABLE_MATH;
    Parser::new_ext(text, options).into_offset_iter()
}

/// What a link can point to within a page: a heading's anchor, or a defined word's, and its text.
pub fn anchors(text: &str) -> Vec<(String, String)> {
    let mut anchors = Vec::new();
    let mut open: Option<(Option<String>, String)> = None;
    for (event, _) in events(text) {
        match event {
            Event::Start(Tag::Heading { id, .. }) => {
                open = Some((id.map(|id| id.to_string()), String::new()));
            }
            Event::Start(Tag::DefinitionListTitle) => open = Some((None, String::new())),
            Event::Text(text) | Event::Code(text) => {
                if let Some((_, title)) = &mut open {
                    title.push_str(&text);
                }
            }
            Event::End(TagEnd::Heading(_) | TagEnd::DefinitionListTitle) => {
                if let Some((id, title)) = open.take() {
                    anchors.push((id.unwrap_or_else(|| anchor(&title)), title));
                }
            }
            _ => {}
        }
    }
    anchors
}

/// The anchor that mdBook makes of a heading's text.
fn anchor(title: &str) -> String {
    let lower = title.trim().to_lowercase();
    let kept = lower.chars().filter_map(|c| match c {
        c if c.is_alphanumeric() || c == '_' || c == '-' => Some(c),
        c if c.is_whitespace() => Some('-'),
        _ => None,
    });
    kept.collect()
}
