//! The settings of a run on a command line: a file, and each knob as a flag over it, as in nanoGPT.

use anyhow::Result;
use clap::{Arg, ArgAction, ArgMatches, Command, FromArgMatches, parser::ValueSource};
use nanogpt::TrainConfig;
use std::path::PathBuf;

/// What a subcommand says at the end of its help that takes the knobs and does not list them.
pub const NOTE: &str =
    "Each setting of `nanogpt train` is a flag here, too: see `nanogpt train --help`.";

/// A knob that is a flag without a value.
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
        return Arg::new(name).long(name).action(ArgAction::SetTrue).help(help);
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
            let value = match name.as_str() {
                CURVE => "true".into(),
                _ => matches.get_one::<String>(&name).cloned().unwrap_or_default(),
            };
            (name, value)
        };
        Ok(Self {
            file: matches.get_one("config").cloned(),
            overrides: names().filter(given).map(value).collect(),
        })
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
