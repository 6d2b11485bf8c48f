//! Which branches and tags `cargo xtask lecture` sets, and that it leaves all others, and files, alone.

mod repository;

use std::fs;

use repository::Repository;

#[test]
fn nothing_of_the_users_is_touched() {
    let repository = Repository::new();
    repository.git(&["branch", "theirs"]);
    repository.git(&["tag", "v1"]);
    repository.edit("steps/step00_one.rs", "counting", "counting aloud");
    repository.write("steps/new.rs", "// not committed\n");
    repository.edit("README.md", "How", "Why");
    repository.git(&["add", "README.md"]);
    let before = (repository.refs(), repository.git(&["status", "--porcelain"]));
    let output = repository.xtask(&["lecture"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("uncommitted"), "{output:?}");
    assert!(repository.refs().contains(&before.0.lines().next().unwrap().to_string()));
    for line in before.0.lines() {
        assert!(repository.refs().contains(line), "{line}");
    }
    assert_eq!(repository.git(&["status", "--porcelain"]), before.1);
    assert_eq!(repository.git(&["symbolic-ref", "HEAD"]), "refs/heads/main");
}

#[test]
fn a_branch_or_a_tag_of_the_users_is_not_overwritten() {
    let new_branch: &[&str] = &["branch", "lecture"];
    let new_tag: &[&str] = &["tag", "step01_two"];
    let annotated: &[&str] = &["tag", "--annotate", "--message", "mine", "step01_two"];
    for (command, words) in [
        (new_branch, ["branch lecture", "git branch -m"]),
        (new_tag, ["tag step01_two", "git tag -d"]),
        (annotated, ["tag step01_two", "git tag -d"]),
    ] {
        let repository = Repository::new();
        repository.git(command);
        let before = repository.refs();
        repository.refused(&["lecture"], &words);
        assert_eq!(repository.refs(), before); // not even what would have been free
    }
}

#[test]
fn neither_are_commits_on_top_of_the_lecture_or_amended_ones() {
    for amend in [None, Some("--amend")] {
        let repository = Repository::new();
        repository.done(&["lecture"]);
        repository.git(&["switch", "--quiet", "lecture"]);
        repository.edit("steps/lesson.rs", "FRESH", "STALE");
        let mut args = vec!["commit", "--quiet", "--all", "--no-edit"];
        args.extend(amend.map_or(vec!["--message", "mine"], |amend| vec![amend]));
        repository.git(&args);
        repository.git(&["switch", "--quiet", "main"]);
        let before = repository.refs();
        repository.refused(&["lecture"], &["branch lecture", "git branch -m"]);
        assert_eq!(repository.refs(), before);
    }
}

#[test]
fn a_lecture_that_somebody_stands_on_is_not_moved() {
    let repository = Repository::new();
    repository.done(&["lecture"]);
    repository.edit("steps/step03_fresh.rs", "words", "fresh words");
    repository.commit("An edit");
    repository.git(&["worktree", "add", "--quiet", "other", "lecture"]);
    repository.refused(&["lecture"], &["checked out in", "other"]);
    repository.git(&["-C", "other", "switch", "--quiet", "--detach"]);
    repository.done(&["lecture"]);
}

#[test]
fn a_step_that_is_gone_takes_its_tag_along() {
    let repository = Repository::new();
    repository.done(&["lecture"]);
    repository.git(&["tag", "step99_mine"]);
    fs::remove_file(repository.path("steps/step03_fresh.rs")).unwrap();
    repository.commit("One less");
    repository.done(&["lecture"]);
    assert_eq!(
        repository.git(&["tag", "--list"]),
        "step00_one\nstep01-begin\nstep01-say\nstep01-two\nstep01_two\nstep02_three\nstep99_mine"
    );
}
