//! The settings of a run on a command line: a file, and each knob as a flag over it, as in nanoGPT.

use anyhow::Result;
use clap::{Arg, ArgAction, ArgMatches, Command, FromArgMatches, parser::ValueSource};
use nanogpt::TrainConfig;
use std::{mem, path::PathBuf};

/// What a subcommand says at the end of its help that takes the knobs and does not list them.
pub const NOTE: &str =
    "Each setting of `nanogpt train` is a flag here, too: see `nanogpt train --help`.";

/// A knob that is also a flag without a value.
const CURVE: &str = "curve";

/// `CONFIG.toml --name value …`
#[derive(Clone, Debug)]
pub struct Knobs {
    file: Option<PathBuf>,
    /// Knobs that were given, and their values.
    overrides: Vec<(String, String)>,
}

impl Knobs {
    /// The settings that they give.
    pub fn load(&self) -> Result<TrainConfig> {
        TrainConfig::load(self.file.as_deref(), &self.overrides)
    }
}

fn names() -> impl Iterator<Item = String> {
    TrainConfig::defaults().into_iter().map(|(name, _)| name)
}

fn flag(name: String) -> Arg {
    let name: &'static str = name.leak(); // a few hundred bytes, once
    if name == CURVE {
        let help = "Draw the losses so far at each evaluation, on a terminal";
        let arg = Arg::new(name).long(name).value_name("true or false").help(help);
        return arg.num_args(0..=1).default_missing_value("true");
    }
    let hyphens: &'static str = name.replace('_', "-").leak();
    let arg = Arg::new(name).long(name).value_name("VALUE").hide(true);
    let arg = arg.action(ArgAction::Set);
    if hyphens == name { arg } else { arg.alias(hyphens) }
}

impl clap::Args for Knobs {
    fn augment_args(command: Command) -> Command {
        let file = Arg::new("config").value_name("CONFIG.toml");
        let file = file.help("The settings of the run; `configs/` has nanoGPT's");
        let command = command.arg(file.value_parser(clap::value_parser!(PathBuf)));
        command.args(names().map(flag))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Knobs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let given = |name: &String| matches.value_source(name) == Some(ValueSource::CommandLine);
        let value = |name: String| {
            let value = matches.get_one::<String>(&name).cloned().unwrap_or_default();
            (name, value)
        };
        let mut file = matches.get_one::<PathBuf>("config").cloned();
        let mut overrides: Vec<(String, String)> = names().filter(given).map(value).collect();
        // `--curve CONFIG.toml` is a curve and a file.
        let curve = overrides.iter_mut().find(|(name, _)| name == CURVE);
        if let (None, Some((_, word))) = (&file, curve)
            && !["true", "false", "True", "False"].contains(&word.as_str())
        {
            file = Some(mem::replace(word, "true".into()).into());
        }
        Ok(Self { file, overrides })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// The knobs and their defaults, several to a line.
pub fn list() -> String {
    let mut text =
        String::from("Settings, as `--name value` or as `name = value` in CONFIG.toml:\n ");
    let mut width = 1;
    for (name, default) in TrainConfig::defaults() {
        let knob = format!(" {name} = {default} ·");
        if width + knob.chars().count() > 98 {
            text += "\n ";
            width = 1;
        }
        width += knob.chars().count();
        text += &knob;
    }
    text.trim_end_matches(" ·").into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Args;
    use std::fs;

    fn loaded(line: &str) -> Result<TrainConfig> {
        let command = Knobs::augment_args(Command::new("nanogpt").no_binary_name(true));
        let matches = command.try_get_matches_from(line.split_whitespace())?;
        Knobs::from_arg_matches(&matches)?.load()
    }

    #[test]
    fn a_curve_is_drawn_by_a_flag_with_or_without_a_value() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("run.toml");
        fs::write(&file, "n_layer = 3\ncurve = true").unwrap();
        let file = file.display();
        let loaded_so = |line: &str| {
            let config = loaded(line).unwrap();
            (config.n_layer, config.curve)
        };
        assert_eq!(loaded_so("--n_layer 2"), (2, false));
        for line in ["--curve --n_layer 2", "--n_layer 2 --curve", "--curve true --n_layer 2"] {
            assert_eq!(loaded_so(line), (2, true), "{line}");
        }
        assert_eq!(loaded_so(&format!("{file}")), (3, true));
        for off in ["--curve false", "--curve=false", "--curve=False"] {
            assert_eq!(loaded_so(&format!("{file} {off}")), (3, false), "{off}");
            assert_eq!(loaded_so(&format!("{off} {file}")), (3, false), "{off}");
        }
        for on in [format!("{file} --curve"), format!("--curve {file}")] {
            assert_eq!(loaded_so(&on), (3, true), "{on}");
        }
        let refused = loaded(&format!("{file} --curve yes")).unwrap_err().to_string();
        assert!(refused.contains("curve = yes: it takes true or false"), "{refused}");
    }
}
