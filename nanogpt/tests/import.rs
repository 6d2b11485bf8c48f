//! nanoGPT's own checkpoints: the same logits, and no pickle that could do anything. The fixtures are made by
//! fixtures/make_ckpt.py.

use lab::Tokenizer;
use nanogpt::{
    TrainConfig,
    checkpoint::Run,
    import::{TorchCheckpoint, vocabulary},
    pickle::{Pickle, Value},
    source,
};
use std::{
    fs,
    io::{Cursor, Read, Write},
    path::{Path, PathBuf},
};
use tch::{Device, Tensor};
use zip::{CompressionMethod, ZipArchive, ZipWriter, write::SimpleFileOptions};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn tokenizer(n: usize) -> Tokenizer {
    Tokenizer::of_characters("characters", ('a'..).take(n)).unwrap()
}

#[test]
fn the_logits_are_those_of_pytorch() {
    let expected = Tensor::read_safetensors(fixture("ckpt.safetensors")).unwrap();
    let expected = |name| &expected.iter().find(|(found, _)| found == name).unwrap().1;
    for (file, logits, bias) in
        [("ckpt.pt", "logits", false), ("ckpt_compiled.pt", "logits_compiled", true)]
    {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("out");
        let checkpoint = TorchCheckpoint::open(&fixture(file)).unwrap();
        assert_eq!((checkpoint.step, checkpoint.model.bias), (1250, bias));
        // nanoGPT has 1e9 there before the first evaluation.
        let loss = checkpoint.best_val_loss;
        assert_eq!(loss.map(|loss| (loss * 1e4).round()), (!bias).then_some(14_697.0));
        checkpoint.write_run(&tokenizer(17), &out).unwrap();
        let (model, its) = source::open(out.to_str().unwrap(), Device::Cpu).unwrap();
        assert_eq!(its.n_vocab(), 17);
        let ours = tch::no_grad(|| model.forward(expected("ids"), false));
        let far = (&ours - expected(logits)).norm() / expected(logits).norm();
        assert!(far.double_value(&[]) < 1e-6, "{file}: {far}");
        let saved = Run::new(&out, 1).for_use().unwrap().content;
        assert_eq!((saved.step, saved.best_val_loss), (1250, loss));
    }
}

/// Settings that mean the same here stay; nanoGPT's float16, compiler and backend do not.
#[test]
fn the_settings_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let checkpoint = TorchCheckpoint::open(&fixture("ckpt.pt")).unwrap();
    checkpoint.write_run(&tokenizer(17), &out).unwrap();
    let config = TrainConfig::load(Some(&out.join("config.toml")), &[]).unwrap();
    let defaults = TrainConfig::default();
    let sizes = (config.block_size, config.n_layer, config.n_head, config.n_embd, config.dropout);
    assert_eq!(sizes, (8, 2, 2, 8, 0.2));
    assert_eq!((config.dataset.as_str(), config.max_iters), ("shakespeare_char", 5000));
    assert_eq!((config.beta2, config.learning_rate), (0.99, 1e-3));
    assert_eq!((&config.dtype, &config.backend), (&defaults.dtype, &defaults.backend));
    assert_eq!(config.out_dir, out.display().to_string());
    // A second import does not write over the first.
    let again = TorchCheckpoint::open(&fixture("ckpt.pt")).unwrap();
    let error = again.write_run(&tokenizer(17), &out).unwrap_err().to_string();
    assert!(error.contains("has a run in it already"), "{error}");
}

#[test]
fn another_vocabulary_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    for n in [16, 18] {
        let checkpoint = TorchCheckpoint::open(&fixture("ckpt.pt")).unwrap();
        let error = checkpoint.write_run(&tokenizer(n), &folder.path().join("out")).unwrap_err();
        assert!(error.to_string().starts_with("the model has 17 tokens"), "{error}");
    }
    assert!(!folder.path().join("out").exists());
    fs::write(folder.path().join("meta.pkl"), "").unwrap();
    for name in [folder.path().to_path_buf(), folder.path().join("meta.pkl")] {
        let error = vocabulary(name.to_str().unwrap()).err().unwrap().to_string();
        assert!(
            error.contains("meta.pkl is a pickle") && error.contains("nanogpt prepare"),
            "{error}"
        );
    }
    assert_eq!(vocabulary("gpt2").unwrap().n_vocab(), 50_257);
}

/// The fixture with one of its files changed.
fn changed(name: &str, change: impl Fn(Vec<u8>) -> Vec<u8>) -> String {
    changed_zip(CompressionMethod::Stored, name, change)
}

fn changed_zip(
    method: CompressionMethod,
    name: &str,
    change: impl Fn(Vec<u8>) -> Vec<u8>,
) -> String {
    let mut zip = ZipArchive::new(Cursor::new(fs::read(fixture("ckpt.pt")).unwrap())).unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut out = ZipWriter::new(file.reopen().unwrap());
    for i in 0..zip.len() {
        let mut entry = zip.by_index(i).unwrap();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        let bytes = if entry.name().ends_with(name) { change(bytes) } else { bytes };
        let options = SimpleFileOptions::default().compression_method(method);
        out.start_file(entry.name(), options).unwrap();
        out.write_all(&bytes).unwrap();
    }
    out.finish().unwrap();
    match TorchCheckpoint::open(file.path()) {
        Ok(checkpoint) => {
            let folder = tempfile::tempdir().unwrap();
            let written = checkpoint.write_run(&tokenizer(17), &folder.path().join("out"));
            written.map_or_else(|error| format!("{error:#}"), |()| "accepted".into())
        }
        Err(error) => format!("{error:#}"),
    }
}

/// The pickle with the number behind a key exchanged. (Between the two stands where the key is set aside.)
fn with_number(pickle: &[u8], key: &str, from: u8, to: &[u8]) -> Vec<u8> {
    let at = pickle.windows(key.len()).rposition(|window| window == key.as_bytes()).unwrap();
    let number = pickle[at..].windows(2).position(|pair| pair == [b'K', from]).unwrap() + at;
    [&pickle[..number], to, &pickle[number + 2..]].concat()
}

#[test]
fn what_could_be_executed_is_refused_by_its_name() {
    let call = b"\x80\x02cos\nsystem\nX\x02\x00\x00\x00id\x85R.";
    let error = changed("data.pkl", |_| call.to_vec());
    assert!(error.contains("\"os.system\"") && error.contains("nothing was executed"), "{error}");
    let refused = |bytes: &[u8]| format!("{:#}", Pickle::read(bytes).unwrap_err());
    for (module, name) in
        [("builtins", "eval"), ("torch", "load"), ("collections", "OrderedDict.x")]
    {
        let error = refused(format!("c{module}\n{name}\n.").as_bytes());
        assert!(error.contains(&format!("\"{module}.{name}\"")), "{error}");
    }
    // Whatever makes objects or imports in other ways: STACK_GLOBAL, INST, OBJ, NEWOBJ, EXT1.
    for instruction in [0x93, b'i', b'o', 0x81, 0x82] {
        assert!(refused(&[b'N', instruction]).contains("none that torch.save writes"));
    }
    assert!(refused(b"\x80\x04N.").contains("protocol 4"));
    // A tensor is no function, and an OrderedDict takes nothing.
    assert!(refused(b"ccollections\nOrderedDict\nN\x85R.").contains("damaged"));
    assert!(refused(b"X\x02\x00\x00\x00id)R.").contains("damaged"));
    assert!(refused(b"X\xff\xff\xff\xff").contains("cut off"));
    assert!(refused(b"0").contains("none that torch.save writes"));
    assert!(refused(b"").contains("cut off"));
}

#[test]
fn a_pickle_of_odd_shape_is_no_danger() {
    // A list in itself, and tuples a million deep.
    let list = Pickle::read(b"]q\x00h\x00a.").unwrap();
    assert_eq!(list.root, Value::Object(0));
    let deep = [&b")"[..], &[0x85; 1_000_000], b"."].concat();
    Pickle::read(&deep).unwrap();
    let numbers = Pickle::read(b"}X\x01\x00\x00\x00n\x8a\x02\x00\x80s.").unwrap();
    assert_eq!(numbers.get(&numbers.root, "n"), Some(&Value::Int(-32_768)));
}

#[test]
fn what_does_not_fit_together_is_refused() {
    assert_eq!(changed("data.pkl", |pickle| pickle), "accepted");
    let with = |key: &'static str, from, to: &'static [u8]| {
        changed("data.pkl", |pickle| with_number(&pickle, key, from, to))
    };
    assert!(with("vocab_size", 17, b"K\x12").contains("its model_args say [18, 8]"));
    assert!(with("vocab_size", 17, b"N").contains("say no vocab_size"));
    assert!(with("n_layer", 2, b"J\xff\xff\xff\x7f").contains("n_layer"));
    let error = changed("data/0", |bytes| bytes[4..].to_vec());
    assert!(error.contains("wte.weight") && error.contains("cut off"), "{error}");
    let error = changed("data/0", |bytes| [&f32::NAN.to_le_bytes(), &bytes[4..]].concat());
    assert!(error.contains("not finite"), "{error}");
    assert!(changed("byteorder", |_| b"big".to_vec()).contains("big-endian"));
    let error = changed_zip(CompressionMethod::Deflated, "", |bytes| bytes);
    assert!(error.contains("compressed"), "{error}");
    let error = changed("data.pkl", |_| b"\x80\x02}.".to_vec());
    assert!(error.contains("it has no model_args"), "{error}");
    let error = TorchCheckpoint::open(&fixture("make_ckpt.py")).err().unwrap();
    assert!(format!("{error:#}").contains("no zip file"), "{error:#}");
    let error = TorchCheckpoint::open(Path::new("no/such.pt")).err().unwrap();
    assert!(format!("{error:#}").starts_with("no/such.pt: cannot open it"), "{error:#}");
}
