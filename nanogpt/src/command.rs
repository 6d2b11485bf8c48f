//! The subcommands, each with its flags and its `run`.

pub mod eval;
pub mod export;
pub mod import;
pub mod knobs;
pub mod plot;
pub mod prepare;
pub mod sample;
pub mod size;
pub mod train;
