use crate::{memory, record, text::printable};
use std::{
    any::Any,
    io::Write,
    panic::{self, AssertUnwindSafe},
    process::ExitCode,
};

/// Runs a program's body so that whatever goes wrong ends in one sentence on stderr and exit code 1.
///
/// tch's operators panic with libtorch's whole message, C++ stack included; a learner needs its
/// first line. `RUST_BACKTRACE=full` shows the rest. Tensors on the CPU may take the memory that is free
/// when the program begins; Linux would kill it where they take more.
pub fn run(body: impl FnOnce() -> anyhow::Result<()>) -> ExitCode {
    if std::env::var_os("RUST_BACKTRACE").is_none_or(|value| value != "full") {
        panic::set_hook(Box::new(|_| {}));
    }
    let sentence = match panic::catch_unwind(AssertUnwindSafe(|| {
        if let Some(bytes) = memory::free() {
            tch_ext::memory::limit(bytes);
        }
        tch_ext::memory::keep_freed()?;
        tch_ext::memory::use_huge_pages()?;
        body()?;
        record::write()
    })) {
        Ok(Ok(())) => return ExitCode::SUCCESS,
        Ok(Err(error)) if error.is::<Said>() => return ExitCode::FAILURE,
        Ok(Err(error)) => format!("{error:#}"),
        Err(panic) => match panic.downcast_ref::<Stop>() {
            Some(Stop(sentence)) => sentence.clone(),
            None => explain(&message_of(&*panic)),
        },
    };
    if sentence.contains(READER_LEFT) {
        return ExitCode::FAILURE;
    }
    // A closed stderr is no reason to panic once more.
    let _ = writeln!(std::io::stderr(), "error: {}", printable(&sentence));
    if sentence.starts_with(LOST) { ExitCode::from(LOST_CODE) } else { ExitCode::FAILURE }
}

/// The error of a program whose error has been said already, by a process that it started.
#[derive(Debug)]
pub(crate) struct Said;

impl std::fmt::Display for Said {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str("a process that this one has started has said why it failed")
    }
}

impl std::error::Error for Said {}

/// How the error of a rank begins which has failed because another did, and the code it exits with.
const LOST: &str = "another rank is gone";
pub(crate) const LOST_CODE: u8 = 2;

/// That another rank is gone, as libtorch has noticed it.
pub(crate) fn lost(noticed: &str) -> String {
    // It begins with a line of libtorch's source in brackets.
    let noticed = noticed.split_once("] ").map_or(noticed, |(_, noticed)| noticed);
    format!("{LOST} ({noticed})")
}

/// Ends the program with a sentence from where no error can be returned, as an exception would in Python.
pub(crate) fn stop(sentence: String) -> ! {
    panic::resume_unwind(Box::new(Stop(sentence)))
}

pub(crate) struct Stop(pub(crate) String);

/// What `println!` panics with, and when, say, `head` has read enough.
const NOT_PRINTED: &str = "failed printing to stdout";
const READER_LEFT: &str = "failed printing to stdout: Broken pipe";

fn message_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| text.to_string());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "the program stopped without saying why".into())
}

/// The sentence inside a panic's message: for one of tch's, libtorch's own first line.
fn explain(message: &str) -> String {
    if message.starts_with(NOT_PRINTED) {
        return message.into(); // such as a full disk
    }
    let Some((_, torch)) = message.split_once("Torch(\"") else {
        return format!("{message} (RUST_BACKTRACE=full shows where)");
    };
    let first_line = torch.split("\\n").next().unwrap_or(torch);
    let first_line = first_line.trim_end_matches("\")").replace("\\\"", "\"");
    if first_line.contains("/gloo/") || first_line.contains("NCCL") {
        return lost(&first_line);
    }
    if first_line.contains("can't allocate memory") || first_line.contains("out of memory") {
        return format!(
            "{first_line}: make the batch, the block or the model smaller, or write fewer samples at once"
        );
    }
    format!("libtorch says: {first_line} (RUST_BACKTRACE=full shows where)")
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Tensor;

    fn panic_message(body: impl FnOnce()) -> String {
        let panic = panic::catch_unwind(AssertUnwindSafe(body)).expect_err("it should panic");
        explain(&message_of(&*panic))
    }

    #[test]
    fn a_tch_panic_becomes_libtorchs_first_line() {
        let float = tch::kind::FLOAT_CPU;
        let sentence = panic_message(|| {
            let _ = Tensor::ones([2, 3], float).matmul(&Tensor::ones([2, 3], float));
        });
        assert!(sentence.contains("mat1 and mat2 shapes cannot be multiplied (2x3 and 2x3)"));
        assert!(!sentence.contains('\n') && !sentence.contains("frame #"), "{sentence}");
    }

    #[test]
    fn too_large_a_tensor_names_the_way_out() {
        let sentence = panic_message(|| {
            let _ = Tensor::ones([1 << 50], tch::kind::FLOAT_CPU);
        });
        assert!(sentence.contains("you tried to allocate") && sentence.contains("smaller"));
    }

    #[test]
    fn other_panics_keep_their_words() {
        assert!(panic_message(|| panic!("no such {}", "head")).starts_with("no such head"));
        let full = "failed printing to stdout: No space left on device (os error 28)";
        assert_eq!(panic_message(|| panic!("{full}")), full);
    }
}
