use crate::Cli;
use anyhow::{Context, Result};
use clap::CommandFactory;
use clap_complete::{Shell, generate};
use std::io::{self, Write};

/// Print a script by which a shell completes this command
#[derive(clap::Args)]
#[command(
    after_help = "bash: nanogpt completions bash > ~/.local/share/bash-completion/completions/nanogpt\n\
                        zsh: nanogpt completions zsh > \"${fpath[1]}/_nanogpt\"\n\
                        fish: nanogpt completions fish > ~/.config/fish/completions/nanogpt.fish"
)]
pub struct Args {
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

pub fn run(args: &Args) -> Result<()> {
    let mut script = Vec::new(); // `generate` panics where it cannot write
    generate(args.shell, &mut Cli::command(), "nanogpt", &mut script);
    io::stdout().write_all(&script).context("failed printing to stdout") // as `println!` says it
}
