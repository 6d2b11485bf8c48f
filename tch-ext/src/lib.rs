//! What libtorch can do and `tch` does not bind.
//!
//! One topic is one pair of files, `cpp/topic.cpp` and `src/topic.rs`. No C++ exception leaves the
//! C++ side: each becomes an [`Error`]. This is the only crate here with C++ and with `unsafe`, and
//! none of its public functions is unsafe to call.
//!
//! Threads are tch's: [`tch::set_num_threads`], [`tch::set_num_interop_threads`] and their getters
//! are all that libtorch has.

#![deny(unsafe_op_in_unsafe_fn, clippy::undocumented_unsafe_blocks)]
#![warn(missing_docs)]

mod attention;
mod autocast;
mod device;
pub mod distributed;
mod error;
pub mod memory;
pub mod optim;
pub mod precision;
pub mod random;
mod tensor;

pub use attention::set_flash_attention;
pub use autocast::autocast;
pub use error::Error;

/// The version of the libtorch that this crate is built against.
pub const LIBTORCH_VERSION: &str = env!("LIBTORCH_VERSION");
