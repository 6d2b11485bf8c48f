use crate::{printable, ranks, record};
use anyhow::{Context, Result, bail, ensure};
use clap::{Arg, Args};
use std::{
    fs,
    path::{Path, PathBuf},
};
use tch::{Cuda, Device};

/// The flags that every step has. A step adds its own beside them.
#[derive(Args, Clone, Debug)]
// A step's own flags stand before these in its `Args`, so they get this too.
#[command(next_help_heading = "Options of every step", mut_args = minus_begins_a_value)]
pub struct Flags {
    /// How many training steps to take, instead of the step's own number
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    steps: Option<u32>,

    /// Where all randomness starts: the same seed on the same machine gives the same run
    #[arg(long, value_name = "N", default_value_t = 1337)]
    pub seed: u32,

    /// Where tensors live: cpu, cuda, cuda:1, mps, or auto (a GPU if there is one)
    #[arg(long, default_value = "auto", value_parser = device)]
    pub device: Device,

    /// How many processor cores to use [default: all; of several ranks each its share]. Where other programs keep the cores busy, 1 can
    /// be many times faster
    #[arg(long, value_name = "N", value_parser = threads)]
    pub(crate) threads: Option<i32>,

    /// What to read: fables (made on the spot), shakespeare (fetch it with `cargo run -p data --
    /// shakespeare`), or the path of a text file of your own
    #[arg(long, default_value = "fables")]
    pub corpus: String,

    /// Where record.json, metrics.csv and the plots go [default: out/<the step's name>]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,

    /// Take a twentieth of the steps: seconds, to see that it works
    #[arg(long)]
    quick: bool,

    /// Draw no plot
    #[arg(long)]
    pub no_plot: bool,
}

impl Flags {
    /// How many steps to train: `--steps` if given, else `default`, or a twentieth of it with `--quick`.
    pub fn steps(&self, default: usize) -> usize {
        match self.steps {
            Some(steps) => steps as usize,
            None if self.quick => default.div_ceil(20),
            None => default,
        }
    }

    /// The reason why this run may not reach what the step's own reaches: it is `--quick`, or reads another
    /// text than that for which its tables are made. A number of `--steps` is the user's own, and no reason.
    pub fn excuse(&self) -> Option<&'static str> {
        let quick = (self.quick && self.steps.is_none()).then_some("too few steps");
        quick.or(self.other_text())
    }

    /// The reason why a mean over the text may be off: it is not the fables. In another there may be a few
    /// characters only, or always the same.
    pub fn other_text(&self) -> Option<&'static str> {
        (self.corpus != "fables").then_some("another text")
    }

    /// The folder for what the program writes, by default `out/<name of the program>`. Makes it, so
    /// that a folder which cannot be written is known before the training and not after it.
    pub fn out(&self) -> Result<PathBuf> {
        let out = self.out.clone().unwrap_or_else(|| {
            let program = std::env::current_exe().unwrap_or_default();
            start_folder().join("out").join(program.file_stem().unwrap_or_default())
        });
        if ranks::speaks() {
            fs::create_dir_all(&out).with_context(|| {
                format!("cannot make the folder {}; choose another with --out", out.display())
            })?;
            record::begin(out.clone(), self);
        }
        Ok(out)
    }
}

/// Where paths of ours begin: the repository, if the program is started in one of its folders, else where
/// it is started.
pub(crate) fn start_folder() -> &'static Path {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
    let below = |here: PathBuf| here != repository && here.starts_with(repository);
    if std::env::current_dir().is_ok_and(below) { repository } else { Path::new("") }
}

/// What follows a flag belongs to it though it begins with a `-`: a text, as a dialogue may begin, or a number
/// below 0, so that the error can name its flag.
fn minus_begins_a_value(arg: Arg) -> Arg {
    let is_text = arg.get_value_names().is_some_and(|names| names[0] == "TEXT");
    let has_value = arg.get_action().takes_values();
    arg.allow_hyphen_values(is_text).allow_negative_numbers(has_value)
}

/// Gives a rank its share of the cores, if there are `ranks` on this machine and nobody has said otherwise.
pub(crate) fn share_cores(threads: Option<i32>, ranks: usize) {
    if threads.is_none() && std::env::var_os("OMP_NUM_THREADS").is_none() {
        tch::set_num_threads((ranks::cores() / ranks).max(1) as i32);
    }
}

/// Tells libtorch at once, so that no program can forget it.
fn threads(text: &str) -> Result<i32> {
    let threads = text.parse().ok().filter(|threads| (1..=1024).contains(threads));
    let threads = threads.context("choose a whole number from 1 to 1024")?;
    tch::set_num_threads(threads);
    Ok(threads)
}

/// The device of this name: `cpu`, `cuda`, `cuda:1`, `mps`, or `auto`, a GPU if there is one. Without a number it is
/// a rank's own GPU.
///
/// # Errors
/// If this machine or this libtorch does not have it, or there is no device of this name.
pub fn device(name: &str) -> Result<Device> {
    let gpus = Cuda::device_count() as usize;
    let own = ranks::local_rank().unwrap_or(0);
    match name {
        "auto" if gpus == 0 => Ok(Device::Cpu),
        "auto" => device("cuda"),
        "cpu" => Ok(Device::Cpu),
        "mps" if tch::utils::has_mps() => Ok(Device::Mps),
        "mps" => bail!("this libtorch has no MPS; use --device cpu"),
        _ => {
            let number = match name.strip_prefix("cuda") {
                Some("") => Some(own),
                Some(number) => number.strip_prefix(':').and_then(|number| number.parse().ok()),
                None => None,
            };
            let number: usize = number.with_context(|| {
                format!("--device {}: choose auto, cpu, cuda, cuda:N or mps", printable(name))
            })?;
            ensure!(
                number < gpus,
                "libtorch sees {gpus} CUDA devices here; use --device cpu, or ask `cargo xtask doctor` why"
            );
            Ok(Device::Cuda(number))
        }
    }
}

#[cfg(test)]
impl Flags {
    /// The flags that a program's command line gives.
    pub(crate) fn parsed(args: &[&str]) -> Self {
        let command = Self::augment_args(clap::Command::new("program").no_binary_name(true));
        clap::FromArgMatches::from_arg_matches(&command.get_matches_from(args)).unwrap()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_quick_run_and_another_text_are_reasons() {
        let reasons = |args: &[&str]| {
            let flags = Flags::parsed(args);
            (flags.excuse(), flags.other_text())
        };
        let (few, other) = (Some("too few steps"), Some("another text"));
        assert_eq!(reasons(&[]), (None, None));
        assert_eq!(reasons(&["--steps", "3"]), (None, None));
        assert_eq!(reasons(&["--quick"]), (few, None));
        assert_eq!(reasons(&["--quick", "--steps", "3"]), (None, None));
        assert_eq!(reasons(&["--corpus", "shakespeare"]), (other, other));
        assert_eq!(reasons(&["--corpus", "mine.txt", "--quick"]), (few, other));
    }
}
