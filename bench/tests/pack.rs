//! That the real programs go through every part of run.sh, beside the real PyTorch. How run.sh treats
//! programs that fail, hang or do not fit is tested without any of that in `xtask/tests/gpu_pack.rs`.
#![cfg(target_os = "linux")]

use std::{
    env, fs,
    io::{self, Write},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::{Value, json};

const LIBTORCH: &str = "2.11.0";

/// A Python that has the PyTorch of our libtorch: `PYTHON`, or the one of `cargo run -p bench -- setup`.
fn python() -> Option<PathBuf> {
    let bench = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = env::var_os("PYTHON").map_or(bench.join(".venv/bin/python"), PathBuf::from);
    let mut ask = Command::new(&python);
    let output = ask.args(["-c", "import torch; print(torch.__version__)"]).output().ok()?;
    String::from_utf8_lossy(&output.stdout).starts_with(LIBTORCH).then_some(python)
}

#[test]
fn every_part_runs_on_a_cpu() {
    let Some(python) = python() else {
        // Past the test harness, which hides what a test that passes prints.
        writeln!(
            io::stderr(),
            "left out: run.sh with the real programs, for want of a Python with torch {LIBTORCH} \
             (`cargo run -p bench -- setup`, or PYTHON=…)"
        )
        .unwrap();
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let bench = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (name, from) in [
        ("bench", PathBuf::from(env!("CARGO_BIN_EXE_bench"))),
        ("all_steps", env!("CARGO_BIN_EXE_all_steps").into()),
        ("train.py", bench.join("train.py")),
        ("tests", bench.with_file_name("tests")),
    ] {
        symlink(from, folder.path().join(name)).unwrap();
    }
    for name in ["run.sh", "run.py"] {
        fs::copy(bench.join("gpu").join(name), folder.path().join(name)).unwrap();
    }
    let about = json!({
        "commit": "none", "changed": true, "date": "now", "libtorch": LIBTORCH, "cuda": false,
    });
    fs::write(folder.path().join("pack.json"), about.to_string()).unwrap();

    let out = folder.path().join("out");
    let mut run = Command::new(folder.path().join("run.sh"));
    run.args(["--cpu", "--quick", "--out"]).arg(&out).env("PYTHON", python);
    let output = run.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));

    let results: Value =
        serde_json::from_slice(&fs::read(out.join("results.json")).unwrap()).unwrap();
    let runs = results["runs"].as_array().unwrap();
    let of = |part: &str| -> Vec<&Value> {
        runs.iter().filter(|run| run["part"] == part && run["state"] == "done").collect()
    };
    // Each step with a choice of sizes that trains has timed its steps.
    let trained = of("ladder").into_iter().filter(|run| run["metrics"] != json!([])).count();
    let timed = of("ladder").into_iter().filter(|run| said_ms(run)).count();
    assert!(trained > 0 && timed == trained, "{said}");
    // Both sides computed the same, and both have times.
    let fast = results["machine"]["fast at bf16"].as_bool().unwrap();
    let parts: &[&str] = if fast { &["compare", "precisions", "batch"] } else { &["precisions"] };
    for part in parts {
        let rows = &of(part)[0]["bench"]["comparisons"][0]["rows"];
        let rows = rows.as_array().unwrap();
        assert!(rows.len() >= 2 && rows.iter().all(|row| row["ms"][0].is_f64()), "{part} {said}");
    }
    assert!(!of("environment").is_empty() && !of("defaults").is_empty(), "{said}");
    let ceilings = &of("ceilings")[0]["bench"]["comparisons"][0]["rows"];
    for row in ceilings.as_array().unwrap() {
        assert_eq!(row["left_out"], row["precision"] == "bf16" && !fast, "{row}");
        assert!(row["left_out"] == true || row["gflops"].as_f64() > Some(0.0), "{row}");
    }
}

fn said_ms(run: &Value) -> bool {
    run["values"].as_object().unwrap().values().any(|values| values["ms"].is_f64())
}
