//! Drawings and plots: SVG files that become a part of the page.

use std::sync::LazyLock;

use anyhow::{Context, Result, ensure};
use regex::Regex;

use crate::html;

/// The drawing. Its ids get `name` in front, so that two drawings on a page cannot mix theirs up.
pub fn inlined(class: &str, name: &str, svg: &str, alt: &str) -> Result<String> {
    ensure!(!alt.trim().is_empty(), "the text for those who do not see the picture is empty");
    let start = svg.find("<svg").with_context(|| format!("{name} holds no <svg>"))?;
    let end = svg.rfind("</svg>").with_context(|| format!("{name} holds no </svg>"))?;
    let svg = own_ids(&without_comments(&svg[start..end]), name);
    let drawing = svg.strip_prefix("<svg").unwrap_or_default();
    Ok(html::picture(class, &format!("{drawing}</svg>"), alt))
}

/// Comments could hold empty lines; lines do not matter in a drawing.
fn without_comments(svg: &str) -> String {
    static COMMENT: LazyLock<Regex> = LazyLock::new(|| pattern(r"(?s)<!--.*?-->"));
    static ROLE: LazyLock<Regex> =
        LazyLock::new(|| pattern(r#"^(<svg[^>]*?)\s(?:role|aria-label)="[^"]*""#));
    let svg = COMMENT.replace_all(svg, "").replace(['\n', '\r'], " ");
    ROLE.replace_all(&ROLE.replace_all(&svg, "$1"), "$1").into_owned()
}

fn own_ids(svg: &str, name: &str) -> String {
    static ID: LazyLock<Regex> =
        LazyLock::new(|| pattern(r##"(\sid="|url\(#|href="#|aria-labelledby=")([^")]+)"##));
    let name = name.replace(|c: char| !c.is_ascii_alphanumeric(), "-");
    ID.replace_all(svg, format!("${{1}}{name}-$2")).into_owned()
}

fn pattern(pattern: &str) -> Regex {
    Regex::new(pattern).expect("it is valid")
}
