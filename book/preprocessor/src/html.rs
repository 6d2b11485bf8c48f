//! The HTML that directives become. All of it is one line, because to Markdown an empty line ends HTML.

use crate::hunk::Sign;

/// A text that stands for itself in HTML.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// A caption, where `code` in backticks is set as such.
pub fn caption(text: &str) -> String {
    let parts = text.split('`').enumerate().map(|(i, part)| match i % 2 {
        0 => escape(part),
        _ => format!("<code class=\"nohighlight\">{}</code>", escape(part)),
    });
    parts.collect()
}

/// Rust code under a caption.
pub fn code(title: &str, lines: &[&str]) -> String {
    let lines = dedent(lines).join("\n");
    let body = preformatted("language-rust", &lines);
    format!("<figure class=\"listing\"><figcaption>{}</figcaption>{body}</figure>", caption(title))
}

/// What a program printed, under the command that made it and a word about where.
pub fn output(command: &str, machine: &str, lines: &[&str]) -> String {
    let body = preformatted("nohighlight", &lines.join("\n"));
    let command = format!("<code class=\"nohighlight\">{}</code>", escape(command));
    let machine = format!("<span class=\"machine\">{}</span>", escape(machine));
    format!("<figure class=\"output\"><figcaption>{command} {machine}</figcaption>{body}</figure>")
}

fn preformatted(class: &str, text: &str) -> String {
    format!("<pre><code class=\"{class}\">{}</code></pre>", escape(text).replace('\n', "&#10;"))
}

/// Changed lines under a caption. Each line is code of its own, so that the page highlights it and
/// offers no button that would copy old and new lines together.
pub fn diff(title: &str, lines: &[(Sign, String)]) -> String {
    let texts: Vec<&str> = lines.iter().map(|(_, text)| text.as_str()).collect();
    let signs = lines.iter().map(|(sign, _)| match sign {
        Sign::Same => "same",
        Sign::Added => "added",
        Sign::Removed => "removed",
    });
    let lines = signs.zip(dedent(&texts)).map(|(sign, text)| {
        format!("<code class=\"language-rust {sign}\">{}</code>", escape(text))
    });
    let lines = lines.collect::<Vec<_>>().join("&#10;");
    let caption = caption(title);
    format!(
        "<figure class=\"hunk\"><figcaption>{caption}</figcaption><div class=\"diff\">{lines}</div></figure>"
    )
}

/// What opens with a click, or with a key.
pub fn folded(class: &str, summary: &str, body: &str) -> String {
    format!("<details class=\"{class}\"><summary>{}</summary>{body}</details>", caption(summary))
}

/// The lines without the indentation that they all share.
fn dedent<'a>(lines: &[&'a str]) -> Vec<&'a str> {
    let spaces = |line: &&str| line.len() - line.trim_start().len();
    let shared = lines.iter().filter(|line| !line.trim().is_empty()).map(spaces).min();
    lines.iter().map(|line| line.get(shared.unwrap_or(0)..).unwrap_or_default()).collect()
}
