//! Files from strangers: whatever is in them, they are read or refused. None ends the program, and none makes it take
//! more memory than a file of its size may.

#[path = "strangers/readers.rs"]
mod readers;

use cap::Cap;
use proptest::{prelude::*, sample::Index, test_runner::TestRunner};
use readers::{READERS, Reader, whole};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use std::{
    alloc::System,
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Once,
};

/// Fails where more is asked for than it may give, which ends the test.
#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, usize::MAX);

/// The files here have less than 60 kB.
const MOST_BYTES: usize = 100_000_000;

/// From now on no more than [`MOST_BYTES`] beside what is taken, here and in libtorch.
fn limit_memory() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        for (name, read) in READERS {
            let _ = read(&whole(name)); // what is made once, such as tables of regular expressions
        }
        ALLOCATOR.set_limit(ALLOCATOR.allocated() + MOST_BYTES).unwrap();
        tch_ext::memory::limit(tch_ext::memory::now(tch::Device::Cpu).unwrap() + MOST_BYTES as u64);
    });
}

/// Damage to a file.
#[derive(Clone, Debug)]
enum Damage {
    Byte(Index, u8),
    /// Over what is there.
    Bytes(Index, Vec<u8>),
    Insert(Index, Vec<u8>),
    /// A number in digits becomes another.
    Number(Index, String),
    CutOff(Index),
    Remove(Index, usize),
    Repeat(Index, usize),
}

/// Numbers at which something may end.
fn number() -> impl Strategy<Value = u64> {
    let edges = [0, 1, 127, 128, 255, 1 << 15, 1 << 16, 1 << 24, 1 << 31, (1 << 32) - 1, 1 << 40];
    let edges = [&edges[..], &[1 << 62, (1 << 63) - 1, 1 << 63, u64::MAX - 7, u64::MAX]].concat();
    prop_oneof![prop::sample::select(edges), any::<u64>()]
}

fn damage() -> impl Strategy<Value = Damage> {
    let at = any::<Index>;
    let bytes = prop_oneof![
        number().prop_map(|n| n.to_le_bytes().to_vec()),
        number().prop_map(|n| (n as u32).to_le_bytes().to_vec()),
        prop::collection::vec(any::<u8>(), 0..20),
        Just(b"\x00".to_vec()),
        Just(b"\"}]".to_vec()),
        Just(b"[[[[[[[[{\"a\":".to_vec()),
        Just("\u{1b}[31m狐".into()),
    ];
    let digits = prop_oneof![
        number().prop_map(|n| n.to_string()),
        number().prop_map(|n| format!("-{n}")),
        Just("1e999".to_string()),
        Just("0.5".to_string()),
        Just("null".to_string()),
        Just("nan".to_string()),
    ];
    prop_oneof![
        3 => (at(), any::<u8>()).prop_map(|(at, byte)| Damage::Byte(at, byte)),
        2 => (at(), bytes.clone()).prop_map(|(at, bytes)| Damage::Bytes(at, bytes)),
        2 => (at(), bytes).prop_map(|(at, bytes)| Damage::Insert(at, bytes)),
        3 => (at(), digits).prop_map(|(at, digits)| Damage::Number(at, digits)),
        1 => at().prop_map(Damage::CutOff),
        1 => (at(), 1..100usize).prop_map(|(at, n)| Damage::Remove(at, n)),
        1 => (at(), 1..100usize).prop_map(|(at, n)| Damage::Repeat(at, n)),
    ]
}

fn apply(file: &mut Vec<u8>, damage: Damage) {
    let len = file.len();
    let place = |at: Index| at.index(len + 1);
    match damage {
        Damage::Byte(at, byte) if len > 0 => file[at.index(len)] = byte,
        Damage::Byte(..) => file.clear(),
        Damage::Bytes(at, bytes) => {
            let from = place(at);
            file.splice(from..(from + bytes.len()).min(len), bytes);
        }
        Damage::Insert(at, bytes) => {
            let from = place(at);
            file.splice(from..from, bytes);
        }
        Damage::Number(at, digits) => {
            let is_digit = |at: &usize| file[*at].is_ascii_digit();
            let starts = (0..len).filter(|at| is_digit(at) && (*at == 0 || !is_digit(&(at - 1))));
            let starts: Vec<usize> = starts.collect();
            if !starts.is_empty() {
                let from = *at.get(&starts);
                let end = (from..len).find(|at| !is_digit(at)).unwrap_or(len);
                file.splice(from..end, digits.into_bytes());
            }
        }
        Damage::CutOff(at) => file.truncate(place(at)),
        Damage::Remove(at, n) => {
            let from = place(at);
            file.drain(from..(from + n).min(len));
        }
        Damage::Repeat(at, n) => {
            let from = place(at);
            let part = file[from..(from + n).min(len)].to_vec();
            file.splice(from..from, part);
        }
    }
}

fn survives(name: &str, read: Reader) {
    limit_memory();
    let file = whole(name);
    let damages = prop::collection::vec(damage(), 1..6);
    let mut runner =
        TestRunner::new(ProptestConfig { failure_persistence: None, ..Default::default() });
    let outcome = runner.run(&damages, |damages| {
        let mut file = file.clone();
        damages.into_iter().for_each(|damage| apply(&mut file, damage));
        let _ = read(&file);
        Ok(())
    });
    outcome.unwrap_or_else(|error| panic!("{name}: {error}"));
}

#[test]
fn whole_files_are_read() {
    for (name, read) in READERS {
        let read = read(&whole(name));
        assert!(read.is_ok() != (name == "index"), "{name}: {read:?}"); // whose files are not there
    }
}

#[test]
fn damaged_files_of_ours_are_read_or_refused() {
    for (name, read) in &READERS[..3] {
        survives(name, *read);
    }
}

#[test]
fn damaged_texts_are_read_or_refused() {
    for (name, read) in &READERS[3..8] {
        survives(name, *read);
    }
}

#[test]
fn damaged_checkpoints_of_nanogpts_are_read_or_refused() {
    for (name, read) in &READERS[8..] {
        survives(name, *read);
    }
}

/// What the fuzzer has kept of a reader's files: a line of JSON each, a text whose characters are the bytes. See
/// nanogpt/fuzz/README.md.
fn kept(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/strangers/corpus/{name}.jsonl"))
}

#[test]
fn the_fuzzers_finds_are_read_or_refused() {
    limit_memory();
    for (name, read) in READERS {
        for file in kept_files(name) {
            let _ = read(&file);
        }
    }
}

fn kept_files(name: &str) -> Vec<Vec<u8>> {
    let lines = fs::read_to_string(kept(name)).unwrap();
    let file = |line| -> Vec<u8> {
        let text: String = serde_json::from_str(line).unwrap();
        text.chars().map(|c| u8::try_from(c).unwrap()).collect()
    };
    lines.lines().map(file).collect()
}

fn fuzz_folder(kind: &str, name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz").join(kind).join(name)
}

/// Whole files for the fuzzer to begin with, and what it has found before.
#[test]
#[ignore = "writes into fuzz/corpus"]
fn seeds() {
    for (name, _) in READERS {
        let folder = fuzz_folder("corpus", name);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("whole"), whole(name)).unwrap();
        for (i, file) in kept_files(name).into_iter().enumerate() {
            fs::write(folder.join(format!("kept{i}")), file).unwrap();
        }
    }
}

/// Keeps all that was a find, all that was kept before, and of what else the fuzzer has in its corpus some thirty short
/// files.
#[test]
#[ignore = "writes what the fuzzer has into tests/strangers/corpus"]
fn keep() {
    for (name, _) in READERS {
        let files = |kind| -> Vec<Vec<u8>> {
            let entries = fs::read_dir(fuzz_folder(kind, name)).into_iter().flatten();
            let mut files: Vec<_> = entries.map(|e| fs::read(e.unwrap().path()).unwrap()).collect();
            files.sort_by_key(|file| (file.len(), file.clone()));
            files
        };
        let mut chosen = files("artifacts");
        chosen.extend(kept_files(name));
        let mut corpus = files("corpus");
        corpus.retain(|file| file.len() < 1000 && !chosen.contains(file));
        let apart = corpus.len().div_ceil(30).max(1);
        chosen.extend(corpus.into_iter().step_by(apart));
        let line = |file: Vec<u8>| {
            let text: String = file.into_iter().map(char::from).collect();
            serde_json::to_string(&text).unwrap() + "\n"
        };
        files::write_atomically(&kept(name), |out| {
            chosen.into_iter().map(line).try_for_each(|line| Ok(out.write_all(line.as_bytes())?))
        })
        .unwrap();
    }
}

/// A model that is said to be larger than its file is refused before it takes memory.
#[test]
fn sizes_that_the_file_does_not_have_are_refused() {
    limit_memory();
    let changed = |name: &str, from: &str, to: &str| {
        let file = whole(name);
        let end = file.iter().position(|&byte| byte == 0).unwrap();
        let json = String::from_utf8(file[..end].to_vec()).unwrap();
        assert!(json.contains(from), "{json}");
        let file = [json.replace(from, to).as_bytes(), &file[end..]].concat();
        let read = READERS.iter().find(|(other, _)| *other == name).unwrap().1;
        format!("{:#}", read(&file).expect_err("accepted"))
    };
    for (key, huge) in [
        ("block_size\": 4", 16_777_216),
        ("n_layer\": 1", 1_000_000),
        ("vocab_size\": 5", 9_999_999),
    ] {
        let to = format!("{} {huge}", key.rsplit_once(' ').unwrap().0);
        let error = changed("checkpoint", key, &to);
        assert!(error.contains("its tensor") || error.contains("no tensor"), "{error}");
    }
    let error = changed("checkpoint", "n_embd\": 4", "n_embd\": 16777216");
    assert!(error.contains("its tensor"), "{error}");
    let error = changed("hugging_face", "n_positions\": 4", "n_positions\": 4000000000");
    assert!(error.contains("n_positions"), "{error}");
}

/// Rows without columns take no bytes in a file, and a table of that many rows would take gigabytes.
#[test]
fn tensors_without_numbers_are_no_sizes() {
    limit_memory();
    let whole = whole("hugging_face");
    let end = whole.iter().position(|&byte| byte == 0).unwrap() + 1;
    let config = String::from_utf8(whole[..end].to_vec()).unwrap();
    let config = config.replace("n_positions\": 4", "n_positions\": 16777216");
    let mut weights = safetensors(&whole[end..]);
    weights.insert("transformer.wpe.weight".into(), (vec![16_777_216, 0], Vec::new()));
    let file = [config.as_bytes(), &written(&weights)].concat();
    let error = format!("{:#}", READERS[1].1(&file).expect_err("accepted"));
    assert!(error.contains("wpe.weight"), "{error}");
}

/// Each tensor's shape and bytes, by its name.
type Tensors = BTreeMap<String, (Vec<usize>, Vec<u8>)>;

fn safetensors(bytes: &[u8]) -> Tensors {
    let file = SafeTensors::deserialize(bytes).unwrap();
    let parts = file
        .tensors()
        .into_iter()
        .map(|(name, view)| (name, (view.shape().into(), view.data().into())));
    parts.collect()
}

fn written(tensors: &Tensors) -> Vec<u8> {
    let views = tensors.iter().map(|(name, (shape, bytes))| {
        (name, TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap())
    });
    safetensors::serialize(views, &None).unwrap()
}

/// What regular expressions may be slow at, or give up on.
#[test]
fn long_texts_of_one_kind_become_tokens() {
    let text = READERS.iter().find(|(name, _)| *name == "text").unwrap().1;
    for sign in [" ", "\n", "a", "1", "!", "狐", "'s", " \n", "<|endoftext|>", "\u{a0}", "aA"] {
        text((sign.repeat(1_000_000 / sign.len()) + "x").as_bytes()).unwrap();
    }
}
