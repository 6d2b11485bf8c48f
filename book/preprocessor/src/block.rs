//! What directives show that stands on its own, before it becomes HTML.

use ladder::change::Sign;

/// Something with lines of its own. In titles, what stands in backticks is code.
pub enum Block {
    /// Rust.
    Code { title: String, lines: Vec<String> },
    /// Changed lines, and where they go.
    Hunk { place: String, lines: Vec<(Sign, String)> },
    /// What a program printed, the command that made it, and a word about where.
    Output { command: String, machine: String, lines: Vec<String> },
    /// An SVG file without the beginning `<svg`, and the words for those who do not see it.
    Picture { class: &'static str, drawing: String, alt: String },
    /// Other blocks under a title.
    Section { class: &'static str, title: String, blocks: Vec<Block> },
    /// Other blocks under a title that a click opens, where there are clicks.
    Folded { class: &'static str, title: String, blocks: Vec<Block> },
    /// The beginning of such a fold: what the chapter says next belongs to it.
    FoldBegins { class: &'static str, title: String, blocks: Vec<Block> },
    /// And its end.
    FoldEnds,
}

impl Block {
    /// Code, without the indentation that all its lines share.
    pub fn code(title: String, lines: &[&str]) -> Block {
        let indentation = indentation(lines.iter().copied());
        let lines = lines.iter().map(|line| without(indentation, line)).collect();
        Block::Code { title, lines }
    }

    /// Changed lines, without the indentation that they all share.
    pub fn hunk(place: String, lines: &[(Sign, String)]) -> Block {
        let indentation = indentation(lines.iter().map(|(_, line)| line.as_str()));
        let lines = lines.iter().map(|(sign, line)| (*sign, without(indentation, line)));
        Block::Hunk { place, lines: lines.collect() }
    }
}

/// How many bytes of space all lines begin with. Those with nothing else do not count.
fn indentation<'a>(lines: impl Iterator<Item = &'a str>) -> usize {
    let spaces = |line: &str| line.len() - line.trim_start().len();
    lines.filter(|line| !line.trim().is_empty()).map(spaces).min().unwrap_or(0)
}

fn without(indentation: usize, line: &str) -> String {
    line.get(indentation..).unwrap_or_default().to_string()
}
