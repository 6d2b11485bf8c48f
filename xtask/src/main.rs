//! What cargo itself cannot do for this repository.

mod cargo;
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
    /// Say what this machine has, what is wrong with it, and what to do about it
    ///
    /// Ends with a first matrix product, for which tch is built: some minutes the first time.
    /// Exit code 1 if something is missing without which nothing runs.
    Doctor,
    /// Write the branch `lecture`: a commit with the lab, then one for each section of the book, with its tag
    ///
    /// It is made from HEAD, not from files that you have not committed, and is the same each time:
    /// the same tree gives the same hashes. Only the branch `lecture` and the tags with the steps'
    /// and the sections' names are set, and only where they are missing or of this program's making.
    Lecture,
    Sections(sections::Sections),
    Propagate(propagate::Propagate),
    /// Merge the branch `lecture` into the branch that you are on, without a change to its files
    ///
    /// Each clone then holds the lecture's commits, and `cargo xtask lecture` in it only has to set the
    /// branch and the tags. Later steps can come in a later edition.
    Edition,
    Record(record::Record),
    /// Fill the figures in README's tables of the steps from what is recorded
    Readme,
    Check(check::Check),
    /// Build the book into book/book and check its links
    ///
    /// Fails if a chapter asks for code, an output or a page that is not there, and names the line.
    Book,
    GpuPack(gpu_pack::GpuPack),
}

fn main() -> ExitCode {
    end_quietly_when_nobody_reads();
    let done = match Command::parse() {
        Command::Setup(setup) => setup.run(),
        Command::Doctor => doctor::run(),
        Command::Lecture => lecture::run(),
        Command::Sections(sections) => sections.run(),
        Command::Propagate(propagate) => propagate.run(),
        Command::Edition => edition::run(),
        Command::Record(record) => record.run(),
        Command::Readme => readme::run(),
        Command::Check(check) => check.run(),
        Command::Book => book(),
        Command::GpuPack(pack) => pack.run(),
    };
    if let Err(error) = &done {
        eprintln!("error: {error:#}");
    }
    if done.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
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

/// The work is done by the crate in `book/preprocessor`, whose libraries `cargo xtask` need not wait for.
fn book() -> Result<()> {
    let book = ["run", "--profile", "xtask", "--package", "book", "--", "build"];
    cargo::run(cargo::command().args(book))
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
