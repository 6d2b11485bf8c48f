//! The subcommands, each with its flags and its `run`.

pub mod bench;
pub mod completions;
pub mod eval;
pub mod export;
pub mod import;
pub mod knobs;
pub mod plot;
pub mod prepare;
pub mod sample;
pub mod scaling;
pub mod size;
pub mod train;
