//! The plain Markdown that directives become: captions, fences, and no HTML.

use crate::block::{Block, Sign};

/// Blocks as paragraphs and fenced code, with an empty line between any two.
pub fn blocks(blocks: &[Block]) -> String {
    blocks.iter().map(block).collect::<Vec<_>>().join("\n\n")
}

fn block(block: &Block) -> String {
    match block {
        Block::Code { title, lines } => captioned(&caption(title), "rust", lines),
        Block::Hunk { place, lines } => {
            let lines: Vec<String> = lines.iter().map(|(sign, line)| signed(*sign, line)).collect();
            captioned(&caption(place), "diff", &lines)
        }
        Block::Output { command, machine, lines } => {
            captioned(&format!("`{command}` ({})", escape(machine)), "text", lines)
        }
        Block::Picture { class, alt, .. } => format!("*({}: {})*", capitalised(class), escape(alt)),
        Block::Section { title, blocks: parts, .. }
        | Block::Folded { title, blocks: parts, .. }
        | Block::FoldBegins { title, blocks: parts, .. } => {
            format!("**{}**\n\n{}", caption(title), blocks(parts))
        }
        Block::FoldEnds => String::new(),
    }
}

/// Words that are somebody's title.
pub fn emphasised(title: &str) -> String {
    format!("*{}*", escape(title))
}

fn captioned(caption: &str, language: &str, lines: &[String]) -> String {
    let lines = lines.join("\n");
    let fence = fence(&lines);
    format!("{caption}:\n\n{fence}{language}\n{lines}\n{fence}")
}

/// A fence that no line of the text can close.
fn fence(text: &str) -> String {
    let mut fence = "```".to_string();
    while text.contains(&fence) {
        fence.push('`');
    }
    fence
}

fn signed(sign: Sign, line: &str) -> String {
    let sign = match sign {
        Sign::Same => ' ',
        Sign::Added => '+',
        Sign::Removed => '-',
    };
    format!("{sign}{line}").trim_end().to_string()
}

/// A title as a sentence begins, with its code left as it is.
fn caption(title: &str) -> String {
    let parts = title.split('`').enumerate().map(|(i, part)| match i % 2 {
        0 => escape(part),
        _ => format!("`{part}`"),
    });
    capitalised(&parts.collect::<String>())
}

fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or(String::new(), |first| first.to_uppercase().chain(letters).collect())
}

/// A text that Markdown takes for nothing but text. An underscore within a word is no emphasis.
fn escape(text: &str) -> String {
    let mut escaped = String::new();
    for c in text.chars() {
        if matches!(c, '\\' | '*' | '`' | '<' | '[') {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}
