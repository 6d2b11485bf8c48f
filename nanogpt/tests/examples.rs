//! The examples in the library's documentation, which the build script has made tests of.

include!(concat!(env!("OUT_DIR"), "/examples.rs"));
