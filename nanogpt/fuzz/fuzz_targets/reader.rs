// One reader of ../../tests/strangers/readers.rs, by the name of the program.

#![no_main]

#[allow(dead_code)] // `whole` is the tests' alone
#[path = "../../tests/strangers/readers.rs"]
mod readers;

use cap::Cap;
use std::{alloc::System, path::Path, sync::OnceLock};

/// A larger allocation fails, and so ends the program.
#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, 1 << 30);

fn reader() -> readers::Reader {
    static READER: OnceLock<readers::Reader> = OnceLock::new();
    *READER.get_or_init(|| {
        tch_ext::memory::limit(1 << 28);
        tch::set_num_threads(1);
        let program = std::env::args().next().unwrap_or_default();
        let name = Path::new(&program).file_name().unwrap().to_string_lossy();
        let reader = readers::READERS.iter().find(|(known, _)| *known == name);
        reader.unwrap_or_else(|| panic!("there is no reader {name}")).1
    })
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = reader()(bytes);
});
