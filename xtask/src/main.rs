//! What cargo itself cannot do for this repository.

mod book;
mod check;
mod compare;
mod doctor;
mod edition;
mod git;
mod gpu_pack;
mod lecture;
mod machine;
mod propagate;
mod readme;
mod record;
mod runs;
mod sections;
mod setup;
mod variations;

// The build scripts' own check, so that setup, doctor and the build always agree.
#[path = "../../tch-ext/libtorch.rs"]
mod libtorch;

use std::{
    env, panic,
    path::{Path, PathBuf},
    process::{self, ExitCode},
};

use anyhow::Result;
use clap::Parser;

#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
/// What cargo itself cannot do for this repository
enum Command {
    Setup(setup::Setup),
    Doctor(doctor::Doctor),
    Lecture(lecture::Lecture),
    Sections(sections::Sections),
    Propagate(propagate::Propagate),
    Edition(edition::Edition),
    Record(record::Record),
    Readme(readme::Readme),
    Check(check::Check),
    Book(book::Book),
    GpuPack(gpu_pack::GpuPack),
}

fn main() -> ExitCode {
    end_quietly_when_nobody_reads();
    match run(Command::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Setup(setup) => setup.run().map(|()| ExitCode::SUCCESS),
        Command::Doctor(doctor) => doctor.run(),
        Command::Lecture(lecture) => lecture.run().map(|()| ExitCode::SUCCESS),
        Command::Sections(sections) => sections.run(),
        Command::Propagate(propagate) => propagate.run().map(|()| ExitCode::SUCCESS),
        Command::Edition(edition) => edition.run().map(|()| ExitCode::SUCCESS),
        Command::Record(record) => record.run().map(|()| ExitCode::SUCCESS),
        Command::Readme(readme) => readme.run().map(|()| ExitCode::SUCCESS),
        Command::Check(check) => check.run(),
        Command::Book(book) => book.run(),
        Command::GpuPack(pack) => pack.run().map(|()| ExitCode::SUCCESS),
    }
}

/// `println!` panics when, say, `head` has read enough. Other programs on Unix end without a word then, by the
/// signal SIGPIPE, and a shell sees 128 and the signal's number.
fn end_quietly_when_nobody_reads() {
    let usual = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        let why = panic.payload().downcast_ref::<String>();
        if why.is_some_and(|why| why.starts_with("failed printing to stdout: Broken pipe")) {
            process::exit(128 + 13);
        }
        usual(panic);
    }));
}

/// The repository's root folder.
fn workspace() -> &'static Path {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().expect("xtask lies in the workspace")
}

/// The libtorch of the user's own, if `LIBTORCH` names one. Within the repository cargo always sets
/// the variable (`.cargo/config.toml`): to the folder that setup fills, unless the user set it.
fn own_libtorch() -> Result<Option<PathBuf>, libtorch::Fault> {
    let setups = workspace().join("libtorch");
    let own = env::var_os("LIBTORCH").filter(|value| Path::new(value) != setups);
    own.map(|value| libtorch::folder(&value)).transpose()
}
