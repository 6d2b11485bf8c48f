//! The book as plain Markdown: each directive, whole pages, and the real book.

mod repository;

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use pulldown_cmark::{Event, Options, Parser};
use repository::Repository;
use tempfile::TempDir;

/// What the chapter `step02_two.md` becomes.
fn written(repository: &Repository) -> String {
    let into = TempDir::new().unwrap();
    book::plain::write(&repository.path("book"), into.path()).unwrap();
    fs::read_to_string(into.path().join("step02_two.md")).unwrap()
}

#[track_caller]
fn assert_becomes(text: &str, expected: &str) {
    assert_eq!(written(&Repository::with_chapter(text)), format!("{expected}\n"));
}

#[test]
fn code_stands_under_its_name() {
    assert_becomes(
        "{{#code step01 Model::forward}}",
        "\
`Model::forward` in `steps/step01_one.rs`:

```rust
/// What comes next.
fn forward(&self, idx: i64) -> i64 {
    let x = self.table + idx;
    x
}
```",
    );
    let consts =
        "The constants of `steps/step01_one.rs`:\n\n```rust\nconst BATCH: i64 = 4; // B\n```";
    assert_becomes("{{#code step01 consts to \"BATCH\"}}", consts);
}

#[test]
fn a_hunk_stands_under_its_place() {
    assert_becomes(
        "{{#hunk step02 struct Model}}",
        "\
In `struct Model`, after `table`:

```diff
 struct Model {
     table: i64,
+    head: Head,
 }
```",
    );
    let repository = Repository::with_chapter("{{#hunk step02 struct Model}}");
    repository.write("steps/step02_two.rs", "fn main() {}\n");
    let gone = written(&repository);
    assert!(gone.starts_with("`struct Model` is gone:\n\n```diff\n-struct Model {\n"), "{gone}");
}

#[test]
fn several_hunks_stand_one_below_the_other() {
    let page = written(&Repository::with_chapter("{{#diff step02}}"));
    let title = "**All that changes from step01 to step02: 8 lines added, 0 removed**\n\n";
    assert!(page.starts_with(&format!("{title}New, after `const BATCH`:\n\n```diff\n")), "{page}");
    assert!(page.contains("\n```\n\nNew, after `fn batch`:\n\n```diff\n"), "{page}");
    assert_eq!(page.lines().filter(|line| line.starts_with('+')).count(), 8, "{page}");
}

#[test]
fn an_output_stands_under_its_command() {
    assert_becomes(
        "{{#output step02 to \"step 0\"}}",
        "\
`cargo run --bin step02_two` (A CPU, 2 cores, 1.2 s):

```text
corpus: fables

step 0 | val 4.25 | 3 < 4
```",
    );
}

#[test]
fn a_picture_is_its_text() {
    assert_becomes("{{#picture head.svg \"a head of 2 * 3\"}}", "*(Picture: a head of 2 \\* 3)*");
    assert_becomes("{{#plot step02 loss.svg \"it falls\"}}", "*(Plot: it falls)*");
}

#[test]
fn a_variation_has_a_title_and_a_solution_its_output() {
    let patch = written(&Repository::with_chapter("{{#patch step02-no_key}}"));
    assert!(patch.starts_with("**Without the `key`**\n\nIn `impl Model`"), "{patch}");
    assert!(patch.contains("\n-        let x = x * self.head.key;\n"), "{patch}");
    assert!(patch.contains("\n+    println!(\"no proof\");\n"), "{patch}");
    let solution = written(&Repository::with_chapter(
        "{{#solution step02-no_key}}\n\nIt is *worse*.\n\n{{#end}}\n",
    ));
    assert_eq!(
        solution.trim_end(),
        format!(
            "{}\n\n`cargo run --bin step02_two` (with steps/patches/step02-no_key.patch; \
             A CPU, 2 cores, 1.2 s):\n\n```text\nloss 9\n```\n\nIt is *worse*.",
            patch.trim_end().replace("**Without", "**Solution: Without")
        )
    );
}

#[test]
fn what_stands_within_a_line_stays_there() {
    assert_becomes(
        "From {{#number step02 val@9}}, {{#lines step02}} lines: see {{#ref glossary#key--query}}.",
        "From 1.50, 8 lines: see *Key & query*.",
    );
}

#[test]
fn all_else_is_left_as_it_is() {
    let text = "# Two\n\n$a_1 * b$ and\n\n$$\n\\sum_i x_i\n$$\n\n| a |\n|---|\n\n- [x](https://x.example/)\n\n```sh\nls\n```";
    assert_becomes(text, text);
    // Even what would be no formula on a page.
    assert_becomes("$\\nope$", "$\\nope$");
}

#[test]
fn a_block_is_a_paragraph_of_its_own_wherever_it_stands() {
    assert_becomes(
        "Text\n{{#picture head.svg \"a\"}}\n{{#picture head.svg \"b\"}}\nmore text\n\n{{#picture head.svg \"c\"}}\n\nend",
        "Text\n\n*(Picture: a)*\n\n\n*(Picture: b)*\n\nmore text\n\n*(Picture: c)*\n\nend",
    );
    assert_becomes(
        "1. a list\n\n   {{#code step01 consts}}",
        "1. a list\n\n   The constants of `steps/step01_one.rs`:\n\n   ```rust\n   \
         const BATCH: i64 = 4; // B\n   const STEPS: i64 = 10;\n   ```",
    );
}

#[test]
fn no_line_of_a_program_ends_its_fence() {
    let repository = Repository::with_chapter("{{#output step02}}");
    repository.write("book/recorded/step02/output.txt", "````\nfour\n");
    assert!(written(&repository).ends_with("\n\n`````text\n````\nfour\n`````\n"));
}

#[test]
fn the_program_writes_all_pages_or_names_what_is_missing() {
    let repository = Repository::with_chapter("# Two\n\n{{#lines step02}} lines\n");
    let plain = |into: &str| -> Output {
        let mut program = Command::new(env!("CARGO_BIN_EXE_book"));
        program.arg("plain").arg("--book").arg(repository.path("book"));
        program.arg("--into").arg(repository.path(into)).output().unwrap()
    };
    assert!(plain("text").status.success());
    let read = |page: &str| fs::read_to_string(repository.path(page)).unwrap();
    assert_eq!(read("text/step02_two.md"), "# Two\n\n8 lines\n");
    assert_eq!(read("text/glossary.md"), repository::GLOSSARY);

    let said = |output: Output| String::from_utf8(output.stderr).unwrap();
    let refused = plain("book/src");
    assert_eq!(refused.status.code(), Some(1));
    assert!(said(refused).contains("book/src holds the chapters themselves"));
    assert!(read("book/src/step02_two.md").contains("{{#lines"));

    repository.write("book/src/step02_two.md", "{{#output step01}}\n");
    let failed = plain("other");
    assert_eq!(failed.status.code(), Some(1));
    assert!(said(failed).contains("book/src/step02_two.md:1: {{#output step01}}: there is no"));
    assert!(!repository.path("other").exists(), "half a book is written");
}

/// The real book, as it is in the working tree.
#[test]
fn no_directive_and_no_html_is_left_in_the_book() {
    let book = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let into = TempDir::new().unwrap();
    book::plain::write(book, into.path()).unwrap();
    let pages: Vec<_> =
        fs::read_dir(into.path()).unwrap().map(|page| page.unwrap().path()).collect();
    assert!(pages.len() >= 9, "{pages:?}");
    for page in pages {
        let text = fs::read_to_string(&page).unwrap();
        assert!(!text.contains("{{#"), "{}", page.display());
        for event in Parser::new_ext(&text, Options::ENABLE_TABLES | Options::ENABLE_MATH) {
            if let Event::Html(html) | Event::InlineHtml(html) = event {
                panic!("{}: {html}", page.display());
            }
        }
    }
}
