//! What `cargo xtask propagate` promises.

mod repository;

use repository::Repository;

const CHAIN: [&str; 3] = ["steps/step00_one.rs", "steps/step01_two.rs", "steps/step02_three.rs"];
const MORE: &str = "steps/patches/step01-more.patch";
const LESS: &str = "steps/patches/step02-less.patch";

#[test]
fn a_fix_reaches_every_later_step_down_to_a_fresh_file() {
    let repository = Repository::new();
    repository.edit(CHAIN[0], "\"counting\"", "\"I count\"");
    let said = repository.done(&["propagate", "step00"]);
    for path in CHAIN {
        assert!(repository.read(path).contains("lab::say(\"I count\");"), "{path}");
    }
    assert!(said.contains("step03_fresh: starts a fresh file"), "{said}");
    assert_eq!(changed(&repository), [CHAIN[0], CHAIN[1], CHAIN[2]].map(String::from));
    // Nothing else has changed in them.
    assert_eq!(
        repository.git(&["diff", "--numstat", "--", CHAIN[2]]),
        format!("1\t1\t{}", CHAIN[2])
    );
}

#[test]
fn in_the_middle_of_a_chain_only_later_steps_get_it_and_the_number_is_enough() {
    for name in ["step01", "step01_two", "1", "01"] {
        let repository = Repository::new();
        repository.edit(CHAIN[1], "\"counting\"", "\"I count\"");
        let before = repository.read(CHAIN[0]);
        repository.done(&["propagate", name]);
        assert!(repository.read(CHAIN[2]).contains("\"I count\""));
        assert_eq!(repository.read(CHAIN[0]), before);
    }
}

#[test]
fn a_header_and_a_proof_are_the_steps_own() {
    let repository = Repository::new();
    repository.edit(CHAIN[0], "counting to one", "how to count");
    repository.edit("steps/proofs/step00.rs", "proof 00", "the proof");
    let said = repository.done(&["propagate", "step00"]);
    assert!(said.contains("nothing to carry"), "{said}");
    assert_eq!(changed(&repository), ["steps/proofs/step00.rs", CHAIN[0]].map(String::from));

    // Nor are they in the way of what is carried.
    repository.edit(CHAIN[0], "\"counting\"", "\"I count\"");
    repository.done(&["propagate", "step00"]);
    let step01 = repository.read(CHAIN[1]);
    assert!(step01.starts_with("// step01_two: counting to two\n") && step01.contains("I count"));
}

/// An item that step01 changes anew has to be shown in its chapter.
fn show_fn_one(repository: &Repository) {
    let shown = "Nor this.\n\n{{#hunk step01 fn one}}\n";
    repository.edit("book/src/step01_two.md", "Nor this.\n", shown);
}

#[test]
fn twice_is_once() {
    let repository = Repository::new();
    repository.edit(CHAIN[1], "    1\n}", "    1 // not 0\n}");
    show_fn_one(&repository);
    repository.edit(CHAIN[1], "\"counting\"", "\"I count\"");
    repository.done(&["propagate", "step01"]);
    let once = repository.git(&["diff"]);
    let said = repository.done(&["propagate", "step01"]);
    assert!(said.contains("has it already"), "{said}");
    assert_eq!(repository.git(&["diff"]), once);
}

#[test]
fn without_an_edit_there_is_nothing_to_do_and_a_revision_can_be_named() {
    let repository = Repository::new();
    assert!(repository.done(&["propagate", "step00"]).contains("as in HEAD, nothing to carry"));
    repository.edit(CHAIN[0], "\"counting\"", "\"I count\"");
    repository.commit("An edit, not carried on");
    assert!(repository.done(&["propagate", "step00"]).contains("as in HEAD, nothing to carry"));
    repository.done(&["propagate", "step00", "--base", "HEAD~"]);
    assert!(repository.read(CHAIN[2]).contains("\"I count\""));
}

#[test]
fn a_conflict_stops_with_markers_and_says_how_to_go_on() {
    let repository = Repository::new();
    let before = repository.read(CHAIN[2]);
    repository.edit(
        CHAIN[0],
        "    println!(\"{}\", one());\n",
        "    println!(\"{}!\", one());\n    println!();\n",
    );
    repository.edit(CHAIN[1], "    println!(\"{}\", one());\n", "    println!(\"{}?\", one());\n");
    repository.refused(
        &["propagate", "step00"],
        &[CHAIN[1], "conflicts with the edit of step00_one", "`cargo xtask propagate step01`"],
    );
    let text = repository.read(CHAIN[1]);
    for line in [
        "<<<<<<< step01_two",
        "||||||| step00_one in HEAD",
        ">>>>>>> step00_one as edited",
        "    println!(\"{}?\", one());",
        "    println!(\"{}!\", one());",
    ] {
        assert!(text.lines().any(|there| there == line), "{line}: {text}");
    }
    assert_eq!(repository.read(CHAIN[2]), before);
    // Going on too early is no way out.
    repository.refused(&["propagate", "step01"], &[CHAIN[1], "mend it first"]);

    let (start, rest) = text.split_once("<<<<<<<").unwrap();
    let (_, end) = rest.split_once(">>>>>>> step00_one as edited\n").unwrap();
    let mended = "    println!(\"{}?!\", one());\n    println!(\"{}\", two());\n";
    repository.write(CHAIN[1], &format!("{start}{mended}{end}"));
    repository.done(&["propagate", "step01"]);
    assert!(repository.read(CHAIN[2]).contains("println!(\"{}?!\", one());"));
}

#[test]
fn patches_are_made_anew_for_every_step_that_changes() {
    let repository = Repository::new();
    // Within what the hunks of both show: as they are, the patches would not apply any more.
    repository.edit(CHAIN[1], "// Two is done.", "// That was two.");
    repository.edit(CHAIN[1], "    1\n}", "    1 // not 0\n}");
    show_fn_one(&repository);
    repository.done(&["propagate", "step01"]);
    let patched = |path: &str, patch: &str| {
        repository.git(&["apply", patch]);
        let text = repository.read(path);
        repository.git(&["apply", "--reverse", patch]);
        text
    };
    let step01 = patched(CHAIN[1], MORE);
    assert!(
        step01.contains("fn two() -> i32 {\n    one() + one() + one()\n}\n// That was"),
        "{step01}"
    );
    let patch = repository.read(MORE);
    assert!(
        patch.starts_with(
            "Title: Two is more\nKind: break\nShows: ^3$\n\ndiff --git a/steps/step01"
        )
    );
    // The patch of step02 changes a proof too.
    assert!(patched(CHAIN[2], LESS).contains("fn three() -> i32 {\n    two()\n}"));
    assert!(patched("steps/proofs/step02.rs", LESS).contains("less"));
    assert!(repository.read(LESS).starts_with("Title: Three is less\nKind: solution\n"));
}

#[test]
fn a_patch_that_conflicts_can_be_mended_as_a_file() {
    let repository = Repository::new();
    repository.edit(CHAIN[1], "one() + one()", "2 * one()");
    let conflict = "steps/patches/step01-more.conflict/steps/step01_two.rs";
    let words = [MORE, conflict, "`cargo xtask propagate step01`"];
    repository.refused(&["propagate", "step01"], &words);
    let text = repository.read(conflict);
    assert!(text.contains("<<<<<<< step01_two with the patch"), "{text}");
    repository.refused(&["propagate", "step01"], &words); // not mended yet, and not lost
    assert_eq!(repository.read(conflict), text);

    let (start, rest) = text.split_once("<<<<<<<").unwrap();
    let (_, end) = rest.split_once(">>>>>>> step01_two as edited\n").unwrap();
    repository.write(conflict, &format!("{start}    3 * one()\n{end}"));
    repository.done(&["propagate", "step01"]);
    let patch = repository.read(MORE);
    assert!(patch.contains("\n-    2 * one()\n+    3 * one()\n"), "{patch}");
    assert!(!repository.path("steps/patches/step01-more.conflict").exists());
    assert!(repository.read(CHAIN[2]).contains("2 * one()"));
    repository.done(&["propagate", "step01"]);
    assert_eq!(repository.read(MORE), patch);
}

#[test]
fn a_patch_that_no_longer_fits_or_does_nothing_is_named() {
    let repository = Repository::new();
    repository.edit(CHAIN[1], "one() + one()", "one() + one() + one()");
    repository.refused(&["propagate", "step01"], &[MORE, "changes nothing any more", "remove it"]);

    let repository = Repository::new();
    repository.edit(MORE, "-    one() + one()", "-    something else");
    repository.edit(CHAIN[1], "The end", "This is the end");
    repository.refused(&["propagate", "step01"], &[MORE, "neither before the edit nor after it"]);
}

#[test]
fn says_what_is_wrong_with_what_was_typed() {
    let repository = Repository::new();
    for step in ["step07", "seven", ""] {
        repository
            .refused(&["propagate", step], &["there is no step", "step00, step01, step02, step03"]);
    }
    repository.refused(&["propagate", "step00", "--base", "nowhere"], &["no commit nowhere"]);
    repository.write("steps/step04_new.rs", "// step04_new: new\n");
    repository.refused(&["propagate", "step04"], &["HEAD has no step04", "commit it first"]);
}

/// The paths of what is not as in HEAD.
fn changed(repository: &Repository) -> Vec<String> {
    repository.git(&["diff", "--name-only"]).lines().map(String::from).collect()
}
