//! Trains, samples, evaluates and resumes GPTs: what the lessons add up to, as a library and as the command `nanogpt`.
//!
//! | module | what it has |
//! |---|---|
//! | [`gpt`] | the model, with dropout, with or without biases, and a cache for generation |
//! | [`optim`] | AdamW in decay groups, Muon for the matrices inside the blocks |
//! | [`precision`] | bfloat16 and float16, and the scaler that the latter needs |
//! | [`schedule`] | the learning rate of each step |
//! | [`data`] | a folder of shards, its vocabulary, random windows |
//! | [`prepare`] | from text to such a folder: vocabularies, and what is made of them |
//! | [`train`](mod@train) | the loop: accumulation, ranks, evaluation, checkpoints, exact resume |
//! | [`generate`] | text, token by token |
//! | [`eval`] | the loss on a whole split, and questions with four endings |
//! | [`export`](mod@export) | a model as a folder of Hugging Face's |
//! | [`import`], [`pickle`] | nanoGPT's own checkpoints, without executing anything in them |
//! | [`source`] | a model by the name or folder it has |
//! | [`checkpoint`] | what a run leaves on disk |
//! | [`config`] | the settings of a run, by nanoGPT's names |
//! | [`metrics`], [`tensorboard`], [`curve`] | the numbers of a run: on disk, for TensorBoard, on a terminal |
//! | [`size`] | parameters, operations, bytes, before anything is trained |
//! | [`mod@bench`] | how fast this machine trains, and how fast it could |
//! | [`scaling`] | what more parameters, or more tokens, would bring |

mod begin;
pub mod bench;
pub mod checkpoint;
pub mod config;
pub mod curve;
pub mod data;
pub mod eval;
pub mod export;
pub mod generate;
pub mod gpt;
pub mod import;
pub mod metrics;
pub mod optim;
pub mod pickle;
pub mod precision;
pub mod prepare;
pub mod scaling;
pub mod schedule;
pub mod size;
pub mod source;
pub mod tensorboard;
pub mod train;

pub use config::TrainConfig;
pub use data::Dataset;
pub use generate::{Generator, Sampling};
pub use gpt::{Gpt, GptConfig};
/// What stands in signatures here, so that this crate is all that a program needs beside tch.
pub use lab::{Checkpoint, Question, Rng, Series, Shards, Tokenizer, World};
pub use optim::Optimizer;
pub use train::train;
