//! What `cargo xtask` and the book's program both know: the steps, their patches and records, how directives are
//! written, what stands where in a program, and how the headings of a chapter cut the way from one step to the
//! next into sections.

pub mod change;
pub mod chapter;
pub mod directive;
mod imports;
pub mod patch;
pub mod record;
pub mod steps;
pub mod syntax;
