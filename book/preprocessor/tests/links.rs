//! What the link check finds in a built book.

use std::fs;

use book::links::{self, Report};
use tempfile::TempDir;

fn check(files: &[(&str, &str)]) -> Report {
    let folder = TempDir::new().unwrap();
    for (path, text) in files {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    links::check(folder.path()).unwrap()
}

#[test]
fn good_links_are_good() {
    let report = check(&[
        (
            "a.html",
            r##"<h1 id="é x"><a href="#%C3%A9%20x">a</a></h1><a href="sub/b.html#y">b</a><img src="p.svg">"##,
        ),
        (
            "sub/b.html",
            r#"<p id="y"><a href="../a.html">a</a><a href="https://elsewhere.example/#z">z</a>"#,
        ),
        ("p.svg", ""),
        ("book.css", "a { background: url(data:x) } b { background: url('p.svg') }"),
    ]);
    assert_eq!(report.broken, Vec::<String>::new());
    assert_eq!((report.pages, report.links), (2, 4));
    assert_eq!(report.external.into_iter().collect::<Vec<_>>(), ["https://elsewhere.example/#z"]);
}

#[test]
fn what_is_broken_is_named() {
    for (html, expected) in [
        (r#"<a href="nope.html">x</a>"#, "a.html: nope.html: there is no nope.html"),
        (r##"<a href="#nope">x</a>"##, "a.html: #nope: a.html has no #nope"),
        (r#"<a href="b.html#nope">x</a>"#, "a.html: b.html#nope: b.html has no #nope"),
        (r#"<img src="nope.png">"#, "a.html: nope.png: there is no nope.png"),
        (r#"<script src="nope.js"></script>"#, "a.html: nope.js: there is no nope.js"),
        (r#"<p id="x"></p><p id="x"></p>"#, "a.html: the id x stands twice"),
        (
            r#"<img src="https://elsewhere.example/x.png">"#,
            "the page would load this from elsewhere",
        ),
        (r#"<link href="//elsewhere.example/x.css">"#, "the page would load this from elsewhere"),
    ] {
        let report = check(&[("a.html", html), ("b.html", "")]);
        assert_eq!(report.broken.len(), 1, "{html}: {:?}", report.broken);
        assert!(report.broken[0].contains(expected), "{}", report.broken[0]);
        assert!(report.fail_if_broken().unwrap_err().to_string().contains(expected));
    }
    let report = check(&[("a.html", ""), ("x.css", "@import 'https://elsewhere.example/y.css';")]);
    assert!(
        report.broken[0].contains("x.css: https://elsewhere.example/y.css: the page would load")
    );
}

#[test]
fn a_folder_without_a_book_is_refused() {
    let folder = TempDir::new().unwrap();
    let error = links::check(folder.path()).err().unwrap().to_string();
    assert!(error.contains("run `cargo xtask book`"), "{error}");
}
