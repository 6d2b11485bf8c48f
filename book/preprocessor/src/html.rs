//! The HTML that directives become. All of it is one line, because to Markdown an empty line ends HTML.

use ladder::change::Sign;

use crate::block::Block;

/// Blocks as one line of elements.
pub fn blocks(blocks: &[Block]) -> String {
    blocks.iter().map(block).collect()
}

fn block(block: &Block) -> String {
    match block {
        Block::Code { title, lines } => code(title, lines),
        Block::Hunk { place, lines } => diff(place, lines),
        Block::Output { command, machine, lines } => output(command, machine, lines),
        Block::Picture { class, drawing, alt } => picture(class, drawing, alt),
        Block::Section { class, title, blocks: parts } => {
            let (title, body) = (caption(title), blocks(parts));
            format!("<section class=\"{class}\"><p class=\"title\">{title}</p>{body}</section>")
        }
        Block::Folded { class, title, blocks: parts } => {
            let (title, body) = (caption(title), blocks(parts));
            format!("<details class=\"{class}\"><summary>{title}</summary>{body}</details>")
        }
        Block::FoldBegins { class, title, blocks: parts } => {
            let (title, body) = (caption(title), blocks(parts));
            format!("<details class=\"{class}\"><summary>{title}</summary>{body}")
        }
        Block::FoldEnds => "</details>".into(),
    }
}

/// The commit of a section: its tag, what there is to see, and what to type to stand in it.
pub fn tag(slug: &str, step: &str, state: &str) -> String {
    let line = format!("git switch --detach {slug} && cargo run --bin {step}");
    format!(
        "<p class=\"section-tag\"><code class=\"nohighlight\">{}</code> <span>{state}</span></p>",
        escape(&line)
    )
}

/// A text that stands for itself in HTML.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// A caption, where `code` in backticks is set as such.
fn caption(text: &str) -> String {
    let parts = text.split('`').enumerate().map(|(i, part)| match i % 2 {
        0 => escape(part),
        _ => format!("<code class=\"nohighlight\">{}</code>", escape(part)),
    });
    parts.collect()
}

fn code(title: &str, lines: &[String]) -> String {
    let body = preformatted("language-rust", &lines.join("\n"));
    format!("<figure class=\"listing\"><figcaption>{}</figcaption>{body}</figure>", caption(title))
}

fn output(command: &str, machine: &str, lines: &[String]) -> String {
    let body = preformatted("nohighlight", &lines.join("\n"));
    let command = format!("<code class=\"nohighlight\">{}</code>", escape(command));
    let machine = format!("<span class=\"machine\">{}</span>", escape(machine));
    format!("<figure class=\"output\"><figcaption>{command} {machine}</figcaption>{body}</figure>")
}

fn picture(class: &str, drawing: &str, alt: &str) -> String {
    let alt = escape(alt);
    format!("<figure class=\"{class}\"><svg role=\"img\" aria-label=\"{alt}\"{drawing}</figure>")
}

fn preformatted(class: &str, text: &str) -> String {
    format!("<pre><code class=\"{class}\">{}</code></pre>", escape(text).replace('\n', "&#10;"))
}

/// Each changed line is code of its own, so that the page highlights it and offers no button that would
/// copy old and new lines together.
fn diff(place: &str, lines: &[(Sign, String)]) -> String {
    let lines = lines.iter().map(|(sign, line)| {
        let sign = match sign {
            Sign::Same => "same",
            Sign::Added => "added",
            Sign::Removed => "removed",
        };
        format!("<code class=\"language-rust {sign}\">{}</code>", escape(line))
    });
    let lines = lines.collect::<Vec<_>>().join("&#10;");
    let caption = caption(place);
    format!(
        "<figure class=\"hunk\"><figcaption>{caption}</figcaption><div class=\"diff\">{lines}</div></figure>"
    )
}
