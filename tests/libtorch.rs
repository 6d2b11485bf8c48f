//! Our programs run with the libtorch that they were built against, whatever the shell says.
#![cfg(target_os = "linux")]

use std::process::Command;

/// Users of tch have a libtorch in this variable. Here it is one without a single function.
#[test]
fn another_libtorch_in_the_library_path_does_no_harm() {
    let foreign = tempfile::tempdir().unwrap();
    for name in ["libtorch.so", "libtorch_cpu.so", "libc10.so"] {
        let mut cc = Command::new("cc");
        cc.args(["-shared", "-x", "c", "/dev/null", "-o"]).arg(foreign.path().join(name));
        assert!(cc.arg(format!("-Wl,-soname,{name}")).status().unwrap().success());
    }
    let mut step = Command::new(env!("CARGO_BIN_EXE_step00_tensors"));
    step.current_dir(foreign.path()).env("LD_LIBRARY_PATH", foreign.path());
    let output = step.output().unwrap();
    assert!(output.status.success(), "{output:?}");
}
