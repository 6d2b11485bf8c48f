//! What a lesson needs and does not teach: corpora, flags, devices, progress, tables, plots, files.
//!
//! A step imports from here what `train_gpt2.py` would import from a package; whatever Karpathy's
//! lectures write on screen stands in the step itself. The library knows no lesson.
//!
//! | a step writes | it gets |
//! |---|---|
//! | `lab::run(train)` | errors and panics as one sentence, exit code 1 |
//! | `#[command(flatten)] lab: Flags` | `--steps --seed --device --threads --corpus --out --quick --no-plot` |
//! | `Corpus::load(&args.lab, BLOCK_SIZE)` | a training and a validation text, and the floor of the latter |
//! | `Rng::new(args.lab.seed)` | the numbers that batches and samples are drawn with |
//! | `expect_batch(n, b, t)` | a sentence, if a text is too short for a batch |
//! | `is_finite(&tensor)` | whether a tensor holds numbers alone |
//! | `expect_finite(&logits)` | the end of the program, in a sentence, if a model writes noise |
//! | `lab::questions(&args.questions)` | what `--questions` names: fables or HellaSwag, with four endings each |
//! | `Log::new(&args.lab)` | the progress bar, the aligned lines, `metrics.csv`, the plot |
//! | `args.ranks.launch()`, `.join(&args.lab)` | several processes, and the `World` in which they sum and gather |
//! | `Checkpoints::new(…)`, `.save(…)`, `.restore(…)` | tensors and JSON on disk, whole or not there |
//! | `interrupted()` | whether somebody has pressed Ctrl-C |
//! | `Weights::open(path)` | a GPT-2 checkpoint's tensors by name, checked before they are read |
//! | `expect_gpt2_tokens(path, vocab_size)` | the certainty that a checkpoint's tokens are those of GPT-2 |
//! | `Prefetch::new()` | what a thread reads while the model computes |
//! | `args.data.shards("train", …)` | tokens on disk, checked before they are read |
//! | `Table::new()` | what theory predicts beside what the program measured |
//! | `record::measured(name, text)` | the text, and its value under that name in `record.json` |

mod checkpoints;
mod corpus;
mod finite;
mod flags;
mod log;
mod memory;
mod model;
pub mod plot;
mod precision;
mod prefetch;
pub mod questions;
mod ranks;
pub mod record;
mod rng;
mod run;
mod shards;
mod table;
mod text;
mod tokenizer;
mod weights;

pub use checkpoints::{Checkpoint, CheckpointFlags, Checkpoints, Series, interrupted};
pub use corpus::{Corpus, expect_batch};
pub use fables::{self, Question};
pub use finite::{expect_finite, is_finite};
pub use flags::{Flags, device};
pub use log::Log;
pub use memory::free as free_memory;
pub use model::{BatchFlags, ModelFlags, Sampling, Size, print_samples};
pub use precision::Precision;
pub use prefetch::Prefetch;
pub use questions::{QuestionFlags, questions};
pub use ranks::{RankFlags, Reducer, World, differences, speaks};
pub use rng::{Rng, RngState};
pub use run::run;
pub use shards::{DataFlags, ShardState, ShardWriter, Shards};
pub use table::{Row, Table, grouped};
pub use text::{print_sample, printable};
pub use tokenizer::{END_OF_TEXT, Tokenizer};
pub use weights::{
    Gpt2Sizes, Weights, byte_spelling, expect_gpt2_tokens, is_transposed, write_safetensors,
};
