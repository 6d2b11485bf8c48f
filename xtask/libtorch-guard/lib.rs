//! `zip` 8 under the names of 0.6 that tch and torch-sys use.
pub use zip::*;

pub mod write {
    pub use zip::write::*;

    /// Has a parameter since zip 1.
    pub type FileOptions = zip::write::SimpleFileOptions;
}
