//! The HTML that directives become. All of it is one line, because to Markdown an empty line ends HTML.
//! In titles, what stands in backticks is code.

use ladder::change::Sign;

/// The end of what [`fold_begins`] begins.
pub const FOLD_ENDS: &str = "</details>";

/// The commit of a section: its tag, what there is to see, and what to type to stand in it.
pub fn tag(slug: &str, step: &str, state: &str) -> String {
    let line = code(&format!("git switch --detach {slug} && cargo run --bin {step}"));
    format!("<p class=\"section-tag\">{line} <span>{state}</span></p>")
}

/// Rust, without the indentation that all its lines share.
pub fn listing(title: &str, lines: &[&str]) -> String {
    let indentation = indentation(lines.iter().copied());
    let lines: Vec<&str> = lines.iter().map(|line| without(indentation, line)).collect();
    let body = preformatted("language-rust", &lines.join("\n"));
    figure("listing", &caption(title), &body)
}

/// Changed lines, without the indentation that they all share, and where they go. Each is code of its own,
/// so that the page highlights it and offers no button that would copy old and new lines together.
pub fn hunk(place: &str, lines: &[(Sign, &str)]) -> String {
    let indentation = indentation(lines.iter().map(|(_, line)| *line));
    let lines = lines.iter().map(|(sign, line)| {
        let sign = match sign {
            Sign::Same => "same",
            Sign::Added => "added",
            Sign::Removed => "removed",
        };
        let line = escape(without(indentation, line));
        format!("<code class=\"language-rust {sign}\">{line}</code>")
    });
    let lines = lines.collect::<Vec<_>>().join("&#10;");
    figure("hunk", &caption(place), &format!("<div class=\"diff\">{lines}</div>"))
}

/// What a program printed, the command that made it, and a word about where.
pub fn output(command: &str, machine: &str, lines: &[&str]) -> String {
    let (command, machine) = (code(command), escape(machine));
    let caption = format!("{command} <span class=\"machine\">{machine}</span>");
    figure("output", &caption, &preformatted("nohighlight", &lines.join("\n")))
}

fn figure(class: &str, caption: &str, body: &str) -> String {
    format!("<figure class=\"{class}\"><figcaption>{caption}</figcaption>{body}</figure>")
}

/// An SVG file without the beginning `<svg`, and the words for those who do not see it.
pub fn picture(class: &str, drawing: &str, alt: &str) -> String {
    let alt = escape(alt);
    format!("<figure class=\"{class}\"><svg role=\"img\" aria-label=\"{alt}\"{drawing}</figure>")
}

/// Other HTML under a title.
pub fn section(class: &str, title: &str, body: &str) -> String {
    let title = caption(title);
    format!("<section class=\"{class}\"><p class=\"title\">{title}</p>{body}</section>")
}

/// Other HTML under a title that a click opens.
pub fn folded(class: &str, title: &str, body: &str) -> String {
    fold_begins(class, title, body) + FOLD_ENDS
}

/// The beginning of such a fold: what the chapter says next belongs to it.
pub fn fold_begins(class: &str, title: &str, body: &str) -> String {
    format!("<details class=\"{class}\"><summary>{}</summary>{body}", caption(title))
}

/// How many bytes of space all lines begin with. Those with nothing else do not count.
fn indentation<'a>(lines: impl Iterator<Item = &'a str>) -> usize {
    let spaces = |line: &str| line.len() - line.trim_start().len();
    lines.filter(|line| !line.trim().is_empty()).map(spaces).min().unwrap_or(0)
}

fn without(indentation: usize, line: &str) -> &str {
    line.get(indentation..).unwrap_or_default()
}

/// A text that stands for itself in HTML.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// A few words of code within a line.
fn code(text: &str) -> String {
    format!("<code class=\"nohighlight\">{}</code>", escape(text))
}

fn caption(text: &str) -> String {
    let parts = text.split('`').enumerate();
    parts.map(|(i, part)| if i % 2 == 0 { escape(part) } else { code(part) }).collect()
}

fn preformatted(class: &str, text: &str) -> String {
    format!("<pre><code class=\"{class}\">{}</code></pre>", escape(text).replace('\n', "&#10;"))
}
