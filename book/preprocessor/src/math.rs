//! Formulas: LaTeX becomes MathML when the book is built.

use math_core::{LatexToMathML, MathCoreConfig, MathDisplay};

/// MathML that Markdown passes on as it is.
pub fn mathml(latex: &str, display: bool) -> Result<String, String> {
    // The library knows no negative space; without it a formula is merely a little wider.
    let config = MathCoreConfig { macros: vec![("!".into(), String::new())], ..Default::default() };
    let converter = LatexToMathML::new(config).map_err(|(why, ..)| why.to_string())?;
    let mode = if display { MathDisplay::Block } else { MathDisplay::Inline };
    let mathml =
        converter.convert_with_local_counter(latex.trim(), mode).map_err(|why| why.to_string())?;
    let mathml = hidden_from_markdown(&mathml);
    // A wide formula scrolls in a box of its own. A span, because it may stand within a paragraph.
    Ok(if display { format!("<span class=\"formula\">{mathml}</span>") } else { mathml })
}

/// Writes as a number each character between tags that Markdown would take for its own.
fn hidden_from_markdown(mathml: &str) -> String {
    let mut result = String::new();
    let mut in_tag = false;
    for c in mathml.chars() {
        in_tag = c == '<' || in_tag && c != '>';
        match c {
            '\n' => result.push(' '),
            c if !in_tag && r#"*_|[]`~\'"-.!$"#.contains(c) => {
                result.push_str(&format!("&#{};", c as u32));
            }
            c => result.push(c),
        }
    }
    result
}
