//! What this machine is.

use std::{env, fs, path::Path, process::Command};

/// The first line that a command prints, if it runs and succeeds.
pub fn first_line(command: &mut Command) -> Option<String> {
    let output = command.output().ok().filter(|output| output.status.success())?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().next().map(str::to_string)
}

/// The version of the compiler.
pub fn rustc() -> Option<String> {
    let rustc = env::var("RUSTC").unwrap_or_else(|_| "rustc".into());
    let version = first_line(Command::new(rustc).arg("--version"))?;
    Some(version.split(' ').nth(1)?.to_string())
}

/// A value from one of Linux's files about the machine; elsewhere we do not know.
pub fn proc(file: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(Path::new("/proc").join(file)).ok()?;
    let value =
        text.lines().find_map(|line| line.strip_prefix(name)?.trim_start().strip_prefix(':'));
    value.map(|value| value.trim().to_string())
}

/// The gigabytes (2³⁰) that Linux calls by this name, `MemTotal` or `MemAvailable`.
pub fn memory(name: &str) -> Option<f64> {
    let kib: f64 = proc("meminfo", name)?.strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib / 1024.0 / 1024.0)
}
