//! What `cargo xtask edition` promises.

mod repository;

use repository::Repository;

#[test]
fn an_edition_holds_the_lecture_and_changes_no_file() {
    let repository = Repository::new();
    repository.done(&["lecture"]);
    repository.edit("README.md", "How", "Why"); // not committed, and to stay so
    let before = repository.git(&["rev-parse", "HEAD", "lecture"]);
    let (tree, status) = (tree(&repository), repository.git(&["status", "--porcelain"]));
    repository.done(&["edition"]);
    assert_eq!(repository.git(&["rev-parse", "HEAD^1", "HEAD^2"]), before);
    assert_eq!(self::tree(&repository), tree);
    assert_eq!(repository.git(&["status", "--porcelain"]), status);
    assert_eq!(repository.git(&["symbolic-ref", "HEAD"]), "refs/heads/main");
    let message = repository.git(&["log", "-1", "--format=%B"]);
    let step02 = repository.git(&["rev-parse", "--short=12", "step02_three"]);
    assert!(message.starts_with("Edition 1 of the lecture\n\n- "), "{message}");
    assert!(
        message.contains(&format!("\n- {step02} step02_three: counting to three\n")),
        "{message}"
    );
}

#[test]
fn a_clone_has_the_commits_and_only_sets_the_branch_and_the_tags() {
    let repository = Repository::new();
    repository.done(&["lecture"]);
    repository.done(&["edition"]);
    let clone = repository.clone();
    for tag in clone.git(&["tag", "--list"]).lines() {
        clone.git(&["tag", "--delete", tag]); // it came along
    }
    let commits = clone.git(&["count-objects"]);
    let said = clone.done(&["lecture"]);
    assert!(said.contains("the very commits of edition 1"), "{said}");
    assert_eq!(clone.git(&["rev-parse", "lecture"]), repository.git(&["rev-parse", "lecture"]));
    assert_eq!(clone.git(&["count-objects"]), commits); // nothing had to be written
}

#[test]
fn editions_are_counted() {
    let repository = Repository::new();
    repository.done(&["lecture"]);
    repository.done(&["edition"]);
    let once = repository.git(&["rev-parse", "HEAD"]);
    assert!(repository.done(&["edition"]).contains("already"));
    assert_eq!(repository.git(&["rev-parse", "HEAD"]), once);

    repository.edit("steps/step03_fresh.rs", "words", "fresh words");
    repository.commit("An edit");
    repository.refused(&["edition"], &["`cargo xtask lecture` first"]);
    let said = repository.done(&["lecture"]);
    assert!(said.contains("the commits of no edition"), "{said}");
    repository.done(&["edition"]);
    assert!(repository.done(&["lecture"]).contains("the very commits of edition 2"));
    let subject = repository.git(&["log", "-1", "--format=%s"]);
    assert_eq!(subject, "Edition 2 of the lecture");
}

#[test]
fn refuses_where_there_is_no_lecture_or_no_branch() {
    let repository = Repository::new();
    repository.refused(&["edition"], &["`cargo xtask lecture` first"]);
    repository.done(&["lecture"]);
    repository.git(&["switch", "--quiet", "--detach"]);
    repository.refused(&["edition"], &["no branch"]);
    repository.git(&["switch", "--quiet", "lecture"]);
    repository.refused(&["edition"], &["branch lecture"]);
}

fn tree(repository: &Repository) -> String {
    repository.git(&["rev-parse", "HEAD^{tree}"])
}
