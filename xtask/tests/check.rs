//! The records in the book are still true. This runs every step and every variation, which takes some
//! minutes; the lines that `cargo xtask check` prints are its progress.

use std::process::Command;

#[test]
fn what_is_recorded_is_still_so() {
    let status = Command::new(env!("CARGO_BIN_EXE_xtask")).arg("check").status().unwrap();
    assert!(status.success(), "read what `cargo xtask check` says above");
}
