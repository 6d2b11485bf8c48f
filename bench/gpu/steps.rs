//! All steps in one program, so that libtorch's bindings and the tokenizer's tables travel once and not
//! eleven times: `all_steps step06_training --size gpt2`. Without arguments it lists them.

use std::{env, ffi::OsString, path::Path, process::ExitCode};

/// Steps look for the repository's files where they were built. This program is carried away from there:
/// it looks in the folder that it is started in.
macro_rules! env {
    ("CARGO_MANIFEST_DIR") => {
        "."
    };
    ($name:literal) => {
        ::core::env!($name)
    };
}

/// A step's `main`.
type Door = fn() -> ExitCode;

// One module for each file that `build.rs` has found, and STEPS, their names and doors.
include!(concat!(env!("OUT_DIR"), "/steps.rs"));

fn main() -> ExitCode {
    let mut args = env::args_os();
    let program = args.next().unwrap_or_default();
    let program = Path::new(&program).file_name().unwrap_or_default();
    if let Some((_, enter)) = STEPS.iter().find(|(name, _)| program == *name) {
        return enter();
    }
    match args.next() {
        None => {
            STEPS.iter().for_each(|(name, _)| println!("{name}"));
            ExitCode::SUCCESS
        }
        Some(step) if STEPS.iter().any(|(name, _)| step == *name) => become_step(step, args),
        Some(step) => {
            eprintln!(
                "error: there is no step {step:?}; without arguments this program lists them"
            );
            ExitCode::from(2)
        }
    }
}

/// A step reads the arguments of its process itself. So this process begins anew, under the step's name.
#[cfg(unix)]
fn become_step(step: OsString, args: env::ArgsOs) -> ExitCode {
    use std::{os::unix::process::CommandExt, process::Command};
    let here = env::current_exe().unwrap_or_default();
    let error = Command::new(&here).arg0(step).args(args).exec();
    eprintln!("error: cannot run {}: {error}", here.display());
    ExitCode::FAILURE
}

#[cfg(not(unix))]
fn become_step(step: OsString, _: env::ArgsOs) -> ExitCode {
    eprintln!(
        "error: {step:?} is chosen by the program's name on this system: copy it under that name"
    );
    ExitCode::FAILURE
}
