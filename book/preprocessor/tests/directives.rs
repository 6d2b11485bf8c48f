//! What each directive becomes, and that what is missing is named with its file and line.

mod repository;

use std::path::Path;

use book::Steps;
use mdbook_preprocessor::{
    Preprocessor, PreprocessorContext,
    book::{Book, BookItem, Chapter},
    config::Config,
};
use repository::Repository;

/// Fills a chapter's text, as the file `book/src/step02_two.md`, beside a glossary.
fn fill(repository: &Repository, text: &str) -> Result<String, String> {
    let chapter = |name: &str, text: &str, path: &str| {
        BookItem::Chapter(Chapter::new(name, text.into(), Path::new(path), Vec::new()))
    };
    let book = Book::new_with_items(vec![
        chapter("step02: two", text, "step02_two.md"),
        chapter("Glossary", repository::GLOSSARY, "glossary.md"),
    ]);
    let root = repository.path("book");
    let context = PreprocessorContext::new(root, Config::default(), "html".into());
    let book = Steps.run(&context, book).map_err(|error| format!("{error:#}"))?;
    match book.items.into_iter().next() {
        Some(BookItem::Chapter(chapter)) => Ok(chapter.content),
        _ => panic!("the chapter is gone"),
    }
}

fn filled(text: &str) -> String {
    fill(&Repository::new(), text).unwrap()
}

/// The text that a reader sees of some HTML.
fn seen(html: &str) -> String {
    let fragment = scraper::Html::parse_fragment(html);
    fragment.root_element().text().collect()
}

#[track_caller]
fn assert_fails(text: &str, expected: &str) {
    let error = fill(&Repository::new(), text).unwrap_err();
    assert!(error.contains(expected), "{error}\n  does not contain\n{expected}");
}

#[test]
fn code_is_found_by_name() {
    for (item, text) in [
        ("fn batch", "// Draws from the data,\n// at random.\nfn batch("),
        ("struct Model", "struct Model {\n    table: i64,\n}"),
        ("impl Model", "impl Model {\n    /// What comes next."),
        ("const BATCH", "const BATCH: i64 = 4; // B"),
        ("consts", "const BATCH: i64 = 4; // B\nconst STEPS: i64 = 10;"),
        ("use", "use std::fs;\nuse std::io;"),
        ("header", "// step01_one: the first\n//\n// Run: cargo run"),
    ] {
        let html = filled(&format!("{{{{#code step01 {item}}}}}"));
        assert!(seen(&html).contains(text), "{item}: {html}");
    }
}

#[test]
fn a_method_comes_with_its_comment_and_without_its_indentation() {
    let html = filled("{{#code step01 Model::forward}}");
    let text = seen(&html);
    assert!(text.contains("/// What comes next.\nfn forward(&self, idx: i64) -> i64 {\n    let x"));
    assert!(text.starts_with("Model::forward in steps/step01_one.rs"), "{text}");
    assert!(!text.contains("impl Model"));
}

#[test]
fn code_comes_from_proofs_and_from_the_lab() {
    assert!(seen(&filled("{{#code step02/proof fn print}}")).contains("println!(\"proof\");"));
    assert!(seen(&filled("{{#code src/rng.rs struct Rng}}")).contains("pub struct Rng;"));
}

#[test]
fn an_excerpt_goes_from_one_text_to_another() {
    let html = filled("{{#code step01 fn batch from \"let first\" to \"\\\"<&>\\\"\"}}");
    assert!(seen(&html).ends_with("let first = data[0];\nfirst + \"<&>\".len() as i64"), "{html}");
    let one = filled("{{#code step01 fn batch from \"let first\" to \"let first\"}}");
    assert!(seen(&one).ends_with("let first = data[0];"), "{one}");
}

#[test]
fn a_hunk_says_where_it_goes() {
    for (item, caption) in [
        ("Model::forward", "in impl Model, in fn forward, after let x"),
        ("impl Model", "in impl Model, in fn forward, after let x"),
        ("struct Model", "in struct Model, after table"),
        ("struct Head", "new, after fn batch"),
        ("consts", "among the constants"),
    ] {
        let html = filled(&format!("{{{{#hunk step02 {item}}}}}"));
        let text = seen(&html);
        assert!(text.starts_with(caption), "{item}: {text}");
    }
    // A file that starts afresh has grown from nothing.
    let text = seen(&filled("{{#hunk step01 fn batch}}"));
    assert!(text.starts_with("new, after const STEPS"), "{text}");
}

#[test]
fn a_hunk_of_a_section_goes_where_the_reader_has_come_to() {
    let repository = Repository::new();
    let imports = "use std::fs;\nuse std::io;\n\n"; // which nothing needs
    repository.write("steps/step01_one.rs", &repository::STEP01.replace(imports, ""));
    // In the finished file the tail stands between `Head` and `Model`.
    let step02 = repository::STEP02.replace("struct Model {", "struct Tail;\n\nstruct Model {");
    repository.write("steps/step02_two.rs", &step02.replace(imports, ""));
    let text = "# step02: two\n\n## A tail {#step02-tail}\n\n{{#hunk step02 struct Tail}}\n\n\
                ## A head {#step02-head}\n\n{{#hunk step02 consts}}\n\n{{#hunk step02 struct Head}}\n\n\
                {{#hunk step02 struct Model}}\n\n{{#hunk step02 Model::forward}}\n";
    let seen = seen(&fill(&repository, text).unwrap());
    assert!(seen.contains("new, after fn batchstruct Tail;"), "{seen}");
    assert!(seen.contains("new, after fn batch/// Looks back."), "{seen}");
    assert!(seen.contains("in struct Model, after table"), "{seen}");
}

#[test]
fn a_hunk_shows_what_is_added_removed_and_the_same() {
    let repository = Repository::new();
    repository
        .write("steps/step02_two.rs", &repository::STEP02.replace("x * self", "2 * x * self"));
    repository.write("steps/step01_one.rs", &repository::STEP02.replace("step02", "step01"));
    let html = fill(&repository, "{{#hunk step02 Model::forward}}").unwrap();
    for (sign, line) in [
        ("same", "    let x = self.table + idx;"),
        ("removed", "    let x = x * self.head.key;"),
        ("added", "    let x = 2 * x * self.head.key;"),
    ] {
        assert!(
            html.contains(&format!("<code class=\"language-rust {sign}\">{line}</code>")),
            "{html}"
        );
    }
}

#[test]
fn a_hunk_shows_an_item_that_is_gone() {
    let repository = Repository::new();
    repository.write("steps/step02_two.rs", "// New since step01: nothing.\n\nfn main() {}\n");
    let html = fill(&repository, "{{#hunk step02 struct Model}}").unwrap();
    assert!(seen(&html).starts_with("struct Model is gone"), "{html}");
    assert!(html.contains("removed\">struct Model {"));

    // Where only some of its lines go, it is still there.
    repository.write(
        "steps/step02_two.rs",
        &repository::STEP02.replace("    let first = data[0];\n", ""),
    );
    let html = fill(&repository, "{{#hunk step02 fn batch from \"let\" to \"let\"}}").unwrap();
    assert!(seen(&html).starts_with("in fn batch, at the top"), "{html}");
}

#[test]
fn the_whole_diff_is_folded_and_leaves_the_header_out() {
    let html = filled("{{#diff step02}}");
    assert!(html.starts_with("<details class=\"whole\"><summary>All that changes from step01 to step02: 8 lines added, 0 removed</summary>"), "{html}");
    assert!(html.contains("struct Head") && !html.contains("New since"), "{html}");
    assert_eq!(filled("{{#lines step02}} lines"), "8 lines");
}

#[test]
fn an_output_names_its_command_and_machine() {
    let text = seen(&filled("{{#output step02}}"));
    assert!(text.starts_with("cargo run --bin step02_two A CPU, 2 cores, 1.2 s"), "{text}");
    assert!(text.contains("corpus: fables\n\nstep 0 | val 4.25 | 3 < 4\nstep 9"), "{text}");
    let excerpt = seen(&filled("{{#output step02 from \"step 0\" to \"step 9\"}}"));
    assert!(!excerpt.contains("corpus") && !excerpt.contains("end"), "{excerpt}");
    let variation = seen(&filled("{{#output step02-no_key}}"));
    assert!(variation.contains("with steps/patches/step02-no_key.patch; A CPU"), "{variation}");
}

#[test]
fn a_number_is_a_value_of_the_record_as_it_was_printed() {
    let text = "from {{#number step02 val@0}} to `{{#number step02 val@9}}` with {{#number step02 parameters}}.";
    assert_eq!(filled(text), "from 4.25 to `1.50` with 3,481.");
}

#[test]
fn pictures_are_inlined_with_their_text_and_ids_of_their_own() {
    for directive in
        ["{{#plot step02 loss.svg \"it \\\"falls\\\"\"}}", "{{#picture head.svg \"a head\"}}"]
    {
        let html = filled(directive);
        assert!(html.contains("<svg role=\"img\" aria-label=\""), "{html}");
        assert!(!html.contains("role=\"none\"") && !html.trim_end().contains('\n'), "{html}");
        let id = html.split(" id=\"").nth(1).unwrap().split('"').next().unwrap();
        assert!(id.len() > 1 && html.contains(&format!("url(#{id})")), "{html}");
    }
}

#[test]
fn a_patch_shows_its_title_and_hunks() {
    let html = filled("{{#patch step02-no_key}}");
    let text = seen(&html);
    assert!(text.starts_with("Without the key"), "{text}");
    assert!(text.contains("in impl Model, in fn forward, after let x"), "{text}");
    assert!(html.contains("removed\">        let x = x * self.head.key;"), "{html}");
    assert!(text.contains("println!(\"no proof\");"), "{text}");
}

#[test]
fn a_solution_is_folded_with_what_it_prints() {
    let html = filled("{{#solution step02-no_key}}\n\nIt is *worse*.\n\n{{#end}}\n\nmore");
    assert!(
        html.starts_with("<details class=\"solution\"><summary>Solution: Without the <code"),
        "{html}"
    );
    assert!(seen(&html).contains("loss 9"), "{html}");
    assert!(html.ends_with("\n\nIt is *worse*.\n\n</details>\n\nmore"), "{html}");
}

#[test]
fn an_answer_is_folded() {
    let html = filled("{{#answer}}\nIt is 4.\n{{#end}}");
    assert_eq!(
        html,
        "<details class=\"solution\"><summary>Answer</summary>\n\nIt is 4.\n\n</details>"
    );
}

#[test]
fn each_fold_has_one_end() {
    let no_end = "after what belongs to it an {{#end}} is missing";
    assert_fails("a\n\n{{#answer}}\n", &format!("step02_two.md:3: {{{{#answer}}}}: {no_end}"));
    let twice = "{{#solution step02-no_key}}\n\n{{#answer}}\n\n{{#end}}\n";
    assert_fails(twice, &format!("step02_two.md:1: {{{{#solution step02-no_key}}}}: {no_end}"));
    assert_fails(
        "{{#answer}}\n\n{{#end}}\n\n{{#end}}",
        "step02_two.md:5: {{#end}}: it ends nothing",
    );
}

#[test]
fn a_reference_carries_the_title() {
    assert_eq!(filled("see {{#ref step02}}"), "see [step02: two](step02_two.md)");
    assert_eq!(filled("{{#ref glossary#key--query}}"), "[Key & query](glossary.md#key--query)");
    assert_eq!(filled("{{#ref glossary#logits}}"), "[Logits](glossary.md#logits)");
}

#[test]
fn formulas_become_mathml() {
    let inline = filled("the $\\frac{a_1}{b} * c$, here");
    assert!(inline.starts_with("the <span class=\"unbroken\"><math><mfrac>"), "{inline}");
    assert!(
        inline.ends_with("</math>,</span> here"),
        "a line may not break before the comma: {inline}"
    );
    assert!(!inline.contains('*') && !inline.contains('$'), "{inline}");
    let display = filled("$$\n\\sum_i x_i\n$$\n");
    assert!(display.starts_with("<span class=\"formula\"><math display=\"block\">"), "{display}");
}

#[test]
fn a_dollar_in_code_or_behind_a_backslash_is_left_alone() {
    for text in
        ["`$HOME` and `$x$`", "```console\necho $a $b\n```", "it costs \\$5 or \\$6", "5$ and 6 $"]
    {
        assert_eq!(filled(text), text);
    }
}

#[test]
fn a_backslash_keeps_a_directive_as_it_is() {
    assert_eq!(filled("write `\\{{#code step01 fn x}}`"), "write `{{#code step01 fn x}}`");
}

#[test]
fn typed_rust_is_refused_unless_it_is_a_sketch() {
    assert_fails(
        "one\n\n```rust\nlet x = 1;\n```",
        "book/src/step02_two.md:3: ```rust: Rust typed into a chapter goes stale",
    );
    assert_fails("> ```rust,ignore\n> x\n> ```", "book/src/step02_two.md:1: ```rust");
    let sketch = "```rust,sketch\nlet x = 1;\n```\n\n```console\n```\n";
    assert_eq!(filled(sketch), sketch);
}

#[test]
fn what_is_missing_is_named_with_file_and_line() {
    for (directive, why) in [
        ("{{#code step01 fn nope}}", "there is no `fn nope`; there are `header`, `use`"),
        ("{{#code step07 fn batch}}", "there is no steps/step07_*.rs"),
        ("{{#code src/nope.rs fn batch}}", "there is no src/nope.rs"),
        ("{{#code ../secret.rs fn batch}}", "../secret.rs leads out of the repository"),
        ("{{#code nope fn batch}}", "nope is neither a step (step01, step01/proof) nor a path"),
        ("{{#code step01}}", "an item's name is missing"),
        ("{{#code step01 fn batch from \"nope\"}}", "no line contains \"nope\""),
        ("{{#code step01 fn batch to \"nope\"}}", "no line from there on contains \"nope\""),
        ("{{#hunk step02 fn batch}}", "nothing changed in `fn batch`"),
        ("{{#hunk step02 fn nope}}", "there is no `fn nope`"),
        ("{{#diff step00}}", "no step comes before step00"),
        ("{{#lines src/rng.rs}}", "src/rng.rs is not a step"),
        (
            "{{#output step01}}",
            "there is no book/recorded/step01/output.txt; run `cargo xtask record`",
        ),
        ("{{#output step02 from \"nope\"}}", "no line contains \"nope\""),
        ("{{#number step02 nope}}", "step02 has no value nope"),
        ("{{#number step02 val@3}}", "step02 has no value val@3; it has val@0, val@9"),
        ("{{#number step02-no_key val@0}}", "there is no book/recorded/step02-no_key/record.json"),
        ("{{#number step02}}", "a value's name, such as loss@100 is missing"),
        ("{{#plot step02 nope.svg \"x\"}}", "there is no book/recorded/step02/nope.svg"),
        (
            "{{#plot step02 loss.svg}}",
            "a text for those who do not see the picture, in quotes, is missing",
        ),
        ("{{#picture head.svg \" \"}}", "the picture is empty"),
        ("{{#picture nope.svg \"x\"}}", "there is no book/src/pictures/nope.svg"),
        ("{{#patch step02-nope}}", "there is no steps/patches/step02-nope.patch"),
        ("{{#solution step02-nope}}", "there is no steps/patches/step02-nope.patch"),
        ("{{#ref step09}}", "no chapter in SUMMARY.md answers to step09"),
        ("{{#ref glossary#nope}}", "glossary.md has no heading #nope"),
        ("{{#ref glossary more}}", "more is one word too many"),
        ("{{#nope step01}}", "there is no such directive"),
    ] {
        let text = format!("one\n\n{directive}\n");
        assert_fails(&text, &format!("book/src/step02_two.md:3: {directive}: "));
        assert_fails(&text, why);
    }
    assert_fails(
        "a\nb {{#code \"x}} c",
        "book/src/step02_two.md:2: {{#: this does not read as a directive",
    );
    assert_fails(
        "a {{#diff step02}}",
        "step02_two.md:1: {{#diff step02}}: it has to stand alone on its line",
    );
    assert_fails(
        "`{{#ref step02}}`",
        "step02_two.md:1: {{#ref step02}}: it cannot stand inside code",
    );
    assert_fails("$x + {{#lines step02}}$", "{{#lines step02}}: it stands inside a formula");
    assert_fails("\n$\\nope$", "step02_two.md:2: $\\nope$: ");
}

#[test]
fn all_failures_are_told_at_once_in_order() {
    let error =
        fill(&Repository::new(), "$\\nope$\n{{#ref a}}\n\n```rust\n```\n{{#ref b}}").unwrap_err();
    let lines: Vec<&str> =
        error.lines().skip(1).map(|line| line.split(": ").next().unwrap()).collect();
    assert_eq!(lines, [1, 2, 4, 6].map(|line| format!("book/src/step02_two.md:{line}")));
}

#[test]
fn a_patch_that_no_longer_applies_is_refused() {
    let repository = Repository::new();
    repository
        .write("steps/step02_two.rs", &repository::STEP02.replace("x * self", "3 * x * self"));
    let error = fill(&repository, "{{#patch step02-no_key}}").unwrap_err();
    assert!(error.contains("step02_two.md:1: {{#patch step02-no_key}}: "), "{error}");
    assert!(
        error.contains("does not apply to steps/step02_two.rs; run `cargo xtask propagate`"),
        "{error}"
    );
}
