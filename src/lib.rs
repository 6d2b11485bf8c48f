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
//! | `expect_finite(&logits)` | the end of the program, in a sentence, if a model writes noise |
//! | `print_sample(&text)` | what a model has written, without the characters that would move the cursor |
//! | `Log::new(&args.lab)` | the progress bar, the aligned lines, `metrics.csv`, the plot |
//! | `Weights::open(path)` | a GPT-2 checkpoint's tensors by name, checked before they are read |
//! | `expect_gpt2_tokens(path, vocab_size)` | the certainty that a checkpoint's tokens are those of GPT-2 |
//! | `Table::new()` | what theory predicts beside what the program measured |

mod corpus;
pub mod fables;
mod finite;
mod flags;
mod log;
mod memory;
pub mod plot;
mod rng;
mod run;
mod table;
mod text;
mod weights;

pub use corpus::Corpus;
pub use finite::expect_finite;
pub use flags::Flags;
pub use log::Log;
pub use rng::{Rng, RngState};
pub use run::run;
pub use table::{Row, Table, grouped};
pub use text::{print_sample, printable};
pub use weights::{Weights, expect_gpt2_tokens};
