//! The whole way, with the book's own settings: from chapters to checked pages, and as a preprocessor.

mod repository;

use std::{
    fs,
    io::Write,
    process::{Command, Stdio},
};

use repository::Repository;

fn page(repository: &Repository) -> String {
    fs::read_to_string(repository.path("book/book/step02_two.html")).unwrap()
}

#[test]
fn a_book_is_built_and_its_links_hold() {
    let repository = Repository::with_chapter(
        "# Two\n\nSee {{#ref glossary#logits}}, $a_{ij} * b_{ij}$.\n\n{{#code step02 fn batch}}\n\
         {{#hunk step02 impl Model}}\n{{#output step02}}\nText\n{{#picture head.svg \"a head\"}}\n\n\
         {{#picture head.svg \"again\"}}\n\n```rust,sketch\nlet x = 1;\n```\n",
    );
    let why = book::build::build(&repository.path("book")).unwrap_err().to_string();
    assert!(why.contains("step02_two.html: the id head-svg-g stands twice"), "{why}");

    let chapter = repository.path("book/src/step02_two.md");
    let text = fs::read_to_string(&chapter).unwrap().replace("{{#picture head.svg \"again\"}}", "");
    fs::write(&chapter, text).unwrap();
    book::build::build(&repository.path("book")).unwrap();
    let page = page(&repository);
    assert!(page.contains("<a href=\"glossary.html#logits\">Logits</a>"));
    assert!(page.contains("<msub><mi>a</mi>") && page.contains("viewbox=\"0 0 9 9\""));
    assert!(page.contains("corpus: fables\n\nstep 0 | val 4.25"), "an empty line ends no output");
    assert!(page.contains("<p>Text</p>"), "a directive ends before the next line");
    assert!(
        !page.contains("playground\""),
        "code with a button would ask another server to run it"
    );
}

#[test]
fn a_broken_link_or_anchor_fails_the_build() {
    for (link, expected) in [
        ("[x](nope.md)", "step02_two.html: nope.html: there is no nope.html"),
        ("[x](glossary.md#nope)", "glossary.html has no #nope"),
    ] {
        let repository = Repository::with_chapter(&format!("# Two\n\n{link}\n"));
        let why = book::build::build(&repository.path("book")).unwrap_err().to_string();
        assert!(why.contains(expected), "{why}");
    }
}

#[test]
fn what_cannot_be_filled_fails_the_build_and_leaves_the_pages_alone() {
    let repository = Repository::with_chapter("# Two\n\nGood.\n");
    book::build::build(&repository.path("book")).unwrap();
    repository.write("book/src/step02_two.md", "# Two\n\n{{#ref nope}}\n");
    let why = format!("{:#}", book::build::build(&repository.path("book")).unwrap_err());
    assert!(why.contains("book/src/step02_two.md:3: {{#ref nope}}: no chapter"), "{why}");
    assert!(page(&repository).contains("Good."));
}

/// What mdbook does with a preprocessor: ask, then hand the book over as JSON.
#[test]
fn the_program_is_a_preprocessor() {
    let program = env!("CARGO_BIN_EXE_book");
    assert!(Command::new(program).args(["supports", "html"]).status().unwrap().success());

    let repository = Repository::new();
    for (text, fails) in [("{{#lines step02}} lines", false), ("{{#lines step09}}", true)] {
        let input = serde_json::json!([
            { "root": repository.path("book"), "config": {}, "renderer": "html", "mdbook_version": "0.5.4" },
            { "items": [{ "Chapter": {
                "name": "Two", "content": text, "number": null, "sub_items": [],
                "path": "step02_two.md", "source_path": "step02_two.md", "parent_names": []
            } }] }
        ]);
        let mut child = Command::new(program)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input.to_string().as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(if fails { &output.stderr } else { &output.stdout })
            .into_owned();
        assert_eq!(output.status.success(), !fails, "{said}");
        let expected =
            if fails { "book/src/step02_two.md:1: {{#lines step09}}: " } else { "8 lines" };
        assert!(said.contains(expected), "{said}");
    }
}
