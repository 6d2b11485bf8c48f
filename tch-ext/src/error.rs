use std::ffi::{CStr, c_char};
use std::fmt;

/// Why an operation failed: in our words what was asked wrongly, else in libtorch's.
///
/// `Display` gives the first line, which is the sentence for a person; `Debug` gives all of it.
#[derive(Debug)]
pub struct Error(String);

impl Error {
    pub(crate) fn new(sentence: String) -> Error {
        Error(sentence)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.0.lines().next().unwrap_or("libtorch failed without a message"))
    }
}

impl std::error::Error for Error {}

unsafe extern "C" {
    fn tch_ext_free_message(message: *mut c_char);
}

/// What each C++ function returns: null, or a message that we own. See `cpp/bridge.h`.
#[repr(transparent)]
#[must_use]
pub(crate) struct Outcome(*mut c_char);

impl Outcome {
    /// Every call into C++ passes through here.
    pub(crate) fn into_result(self) -> Result<(), Error> {
        if self.0.is_null() {
            return Ok(());
        }
        // SAFETY: C++ alone makes an Outcome, and `self` is consumed.
        Err(Error(unsafe { owned_text(self.0) }))
    }
}

/// A copy of a text that C++ has made for us, which is given back.
///
/// # Safety
/// It came from `tch_ext::owned`, and is used here for the last time.
pub(crate) unsafe fn owned_text(text: *mut c_char) -> String {
    // SAFETY: as the caller promises, it is a C string.
    let copy = unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned();
    // SAFETY: as the caller promises, C++ made it, and it is given back once.
    unsafe { tch_ext_free_message(text) };
    copy
}

#[cfg(test)]
mod tests {
    use super::*;

    unsafe extern "C" {
        safe fn tch_ext_throw(kind: i32) -> Outcome;
    }

    #[test]
    fn every_kind_of_exception_becomes_an_error() {
        let said = |kind| tch_ext_throw(kind).into_result().unwrap_err().to_string();
        assert_eq!(said(0), "a c10::Error");
        assert_eq!(said(1), "a std::exception");
        assert_eq!(said(2), "libtorch threw an exception without a message");
    }

    #[test]
    fn a_person_reads_the_first_line_and_debug_shows_all() {
        let error = Error("first\nsecond".into());
        assert_eq!(error.to_string(), "first");
        assert!(format!("{error:?}").contains("second"));
    }
}
