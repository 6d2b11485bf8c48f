//! nanoGPT's own checkpoint, `ckpt.pt`: a zip file with a pickle and, each in a file of its own, the numbers.

use crate::{
    TrainConfig,
    checkpoint::{Run, Saved, expect_finite},
    data::padded,
    gpt::GptConfig,
    pickle::{Pickle, StoredTensor, Value},
};
use anyhow::{Context, Result, bail, ensure};
use lab::{Tokenizer, grouped};
use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{BufReader, Read},
    path::{Path, PathBuf},
};
use tch::{Kind, Tensor};
use zip::{CompressionMethod, ZipArchive};

/// A longer pickle is none of nanoGPT's: the one of GPT-2 XL with its optimizer has 300 kB.
const MOST_PICKLE: u64 = 2_000_000;

/// What torch.compile writes before each name.
const COMPILED: &str = "_orig_mod.";

/// Settings of nanoGPT's that are about a machine, or a service, and not about a model.
const OF_THE_MACHINE: [&str; 8] =
    ["out_dir", "init_from", "device", "dtype", "compile", "backend", "wandb_log", "eval_only"];

/// A `ckpt.pt`, opened: its pickle is read, its numbers are not.
pub struct TorchCheckpoint {
    /// The sizes of the model.
    pub model: GptConfig,
    /// Steps taken.
    pub step: usize,
    /// The lowest validation loss so far, in nats a token, where there was an evaluation.
    pub best_val_loss: Option<f64>,
    /// The names and values of nanoGPT's settings.
    settings: Vec<(String, String)>,
    /// By our names.
    tensors: BTreeMap<String, StoredTensor>,
    archive: Archive,
}

impl TorchCheckpoint {
    /// Opens a file that nanoGPT's `train.py` has saved. Nothing in it is executed: see [`crate::pickle`].
    ///
    /// # Errors
    /// One sentence: it cannot be read, is no such file, asks for something that could be executed, or its tensors are not
    /// those of its sizes. That is seen before any takes memory.
    pub fn open(path: &Path) -> Result<Self> {
        let open = || {
            let mut archive = Archive::open(path)?;
            let pickle = archive.read("data.pkl", MOST_PICKLE)?;
            Self::of(&Pickle::read(&pickle)?, archive)
        };
        open().with_context(|| path.display().to_string())
    }

    fn of(pickle: &Pickle, mut archive: Archive) -> Result<Self> {
        let part = |name| {
            let found = pickle.get(&pickle.root, name);
            found.with_context(|| format!("it has no {name}, as nanoGPT's checkpoints have"))
        };
        let model = sizes(pickle, part("model_args")?)?;
        let tensors = tensors_of(pickle, part("model")?)?;
        let step = match part("iter_num")? {
            Value::Int(step) => usize::try_from(*step).context("its iter_num is below 0")?,
            _ => bail!("its iter_num is no whole number"),
        };
        let best_val_loss = match pickle.get(&pickle.root, "best_val_loss") {
            Some(Value::Float(loss)) => Some(*loss),
            // A tensor of one number.
            Some(value) => match pickle.tensor(value).filter(|tensor| tensor.shape.is_empty()) {
                Some(tensor) => Some(archive.tensor(tensor)?.double_value(&[])),
                None => None,
            },
            None => None,
        };
        // 1e9 is what nanoGPT has before the first evaluation.
        let best_val_loss = best_val_loss.filter(|loss| loss.is_finite() && *loss < 1e9);
        let config = pickle.get(&pickle.root, "config");
        let settings = config.map_or(Vec::new(), |config| settings(pickle, config));
        let mut opened = Self { model, step, best_val_loss, settings, tensors, archive };
        opened.check()?;
        Ok(opened)
    }

    /// That the tensors are those of the sizes, and that the file is as large as they are together.
    fn check(&mut self) -> Result<()> {
        let mut bytes = 0u64;
        let mut names = 0;
        for (name, shape) in self.model.shapes() {
            let tensor = self.tensors.get(&name);
            let tensor = tensor.with_context(|| format!("it has no tensor transformer.{name}"))?;
            ensure!(
                tensor.shape == shape,
                "its tensor {name} is {:?}, and its model_args say {shape:?}",
                tensor.shape
            );
            let numel = shape.iter().product::<i64>() as u64; // of sizes that are checked
            bytes = bytes.saturating_add(numel * tensor.storage.kind.elt_size_in_bytes() as u64);
            names += 1;
        }
        ensure!(
            bytes <= self.archive.length,
            "a model of its sizes has {} bytes, and the file {}",
            grouped(bytes as i64),
            grouped(self.archive.length as i64)
        );
        if let (Some(head), Some(wte)) =
            (self.tensors.remove("lm_head.weight"), self.tensors.get("wte.weight"))
        {
            // nanoGPT ties the two: they are one storage.
            let is_tied = head == *wte
                || head.shape == wte.shape
                    && self.archive.tensor(&head)? == self.archive.tensor(wte)?;
            ensure!(is_tied, "its lm_head.weight is not its wte.weight, and here they are one");
        }
        if self.tensors.len() > names {
            let known: Vec<String> = self.model.shapes().map(|(name, _)| name).collect();
            let other = self.tensors.keys().find(|name| !known.contains(name));
            bail!(
                "its tensor {other:?} has no place in a GPT of its model_args",
                other = other.map_or("", |x| x)
            );
        }
        Ok(())
    }

    /// Writes the model and its vocabulary as the folder of a run, whose best checkpoint it is.
    ///
    /// `nanogpt sample`, `eval` and `export` take it, and `train --init_from DIR`. The optimizer's state is left out, so
    /// that the run itself cannot be resumed. Settings that are about nanoGPT's machine are left out too; where the others
    /// make no sense here, all but the sizes.
    ///
    /// # Errors
    /// If the vocabulary has other tokens than the model has rows; if the folder has a run in it already, or cannot be
    /// written; if numbers cannot be read, or are not finite.
    pub fn write_run(mut self, tokenizer: &Tokenizer, folder: &Path) -> Result<()> {
        let (rows, n_vocab) = (self.model.vocab_size, tokenizer.n_vocab());
        ensure!(
            [n_vocab, padded(n_vocab)].contains(&rows),
            "the model has {} tokens, and the vocabulary {} {}: it is another one",
            grouped(rows),
            tokenizer.name(),
            grouped(n_vocab)
        );
        ensure!(
            !crate::source::is_run(folder),
            "{} has a run in it already: choose another folder",
            folder.display()
        );
        let mut tensors = Vec::new();
        for (name, _) in self.model.shapes() {
            let tensor = self.archive.tensor(&self.tensors[&name]);
            let tensor = tensor.with_context(|| format!("its tensor {name}"))?;
            tensors.push((name, tensor));
        }
        expect_finite(&tensors)?;
        let toml = toml::to_string(&self.config(folder)?)?;
        files::write_atomically(&folder.join("config.toml"), |file| {
            Ok(file.write_all(toml.as_bytes())?)
        })?;
        let run = Run::new(folder, 1);
        run.keep_vocabulary(tokenizer)?;
        let saved = Saved::new(&self.model, self.step, self.best_val_loss);
        run.best.save(self.step, &saved, &tensors).inspect_err(|_| {
            let _ = fs::remove_dir(run.best.folder()); // empty, it would look like a run
        })
    }

    /// The settings of the run, as far as they can be kept.
    fn config(&self, folder: &Path) -> Result<TrainConfig> {
        let GptConfig { block_size, n_layer, n_head, n_embd, dropout, bias, .. } = self.model;
        let sizes = [
            ("block_size", block_size.to_string()),
            ("n_layer", n_layer.to_string()),
            ("n_head", n_head.to_string()),
            ("n_embd", n_embd.to_string()),
            ("dropout", dropout.to_string()),
            ("bias", bias.to_string()),
            ("out_dir", folder.display().to_string()),
        ];
        let sizes: Vec<_> = sizes.map(|(name, value)| (name.to_string(), value)).into();
        let all = [&self.settings[..], &sizes].concat();
        TrainConfig::load(None, &all).or_else(|_| TrainConfig::load(None, &sizes))
    }
}

/// The sizes in nanoGPT's `model_args`.
fn sizes(pickle: &Pickle, args: &Value) -> Result<GptConfig> {
    let whole = |name: &str| match pickle.get(args, name) {
        Some(Value::Int(size)) => Ok(*size),
        _ => bail!("its model_args say no {name}"),
    };
    let model = GptConfig {
        block_size: whole("block_size")?,
        vocab_size: whole("vocab_size")?,
        n_layer: whole("n_layer")?,
        n_head: whole("n_head")?,
        n_embd: whole("n_embd")?,
        dropout: match pickle.get(args, "dropout") {
            Some(Value::Float(dropout)) => *dropout,
            _ => 0.0,
        },
        // Checkpoints from before nanoGPT knew the option have biases.
        bias: !matches!(pickle.get(args, "bias"), Some(Value::Bool(false))),
        ..GptConfig::default()
    };
    model.check().context("its model_args")?;
    Ok(model)
}

/// The tensors of a state dict by our names.
fn tensors_of(pickle: &Pickle, state: &Value) -> Result<BTreeMap<String, StoredTensor>> {
    let entries = pickle.entries(state).context("its model is no dict of tensors")?;
    let mut tensors = BTreeMap::new();
    for (name, value) in entries {
        let Value::Text(name) = name else { bail!("its model has a tensor without a name") };
        let name = name.strip_prefix(COMPILED).unwrap_or(name);
        let name = name.strip_prefix("transformer.").unwrap_or(name);
        let tensor = pickle.tensor(value);
        let tensor = tensor.with_context(|| format!("its {name:?} is no tensor"))?;
        // The causal mask, which nanoGPT saves where it has no flash attention.
        let is_mask = name.ends_with(".attn.bias") && tensor.shape.len() == 4;
        if !is_mask && tensors.insert(name.to_string(), tensor.clone()).is_some() {
            bail!("it has two tensors {name:?}");
        }
    }
    Ok(tensors)
}

/// The settings that are known here too, as a command line would have them.
fn settings(pickle: &Pickle, config: &Value) -> Vec<(String, String)> {
    let known = TrainConfig::defaults();
    let is_kept = |name: &str| {
        known.iter().any(|(known, _)| known == name) && !OF_THE_MACHINE.contains(&name)
    };
    let setting = |(name, value): &(Value, Value)| {
        let Value::Text(name) = name else { return None };
        let text = match value {
            Value::Bool(value) => value.to_string(),
            Value::Int(value) => value.to_string(),
            Value::Float(value) => value.to_string(),
            Value::Text(value) => value.to_string(),
            _ => return None,
        };
        is_kept(name).then(|| (name.to_string(), text))
    };
    pickle.entries(config).unwrap_or_default().iter().filter_map(setting).collect()
}

/// The zip file.
struct Archive {
    zip: ZipArchive<BufReader<File>>,
    /// The folder in it that everything is in, with a slash.
    folder: String,
    /// Of the zip file, in bytes.
    length: u64,
}

impl Archive {
    fn open(path: &Path) -> Result<Self> {
        let is_file = fs::metadata(path).context("cannot open it")?.is_file();
        ensure!(is_file, "it is no file");
        let file = File::open(path).context("cannot open it")?;
        let length = file.metadata()?.len();
        let zip = ZipArchive::new(BufReader::new(file));
        let zip = zip.ok().context(
            "it is no zip file, as torch.save has written since 2020, or not whole: load it in Python and save it again",
        )?;
        let mut folders = zip.file_names().filter_map(|name| name.strip_suffix("data.pkl"));
        let folder = match (folders.next(), folders.next()) {
            (Some(folder), None) => folder.to_string(),
            _ => bail!("torch.save has not written it: there is not one data.pkl in it"),
        };
        drop(folders);
        let mut archive = Self { zip, folder, length };
        if archive.zip.index_for_name(&format!("{}byteorder", archive.folder)).is_some() {
            let order = archive.read("byteorder", 16)?;
            ensure!(
                order == b"little",
                "its numbers are big-endian: save it again on another machine"
            );
        }
        Ok(archive)
    }

    /// The content of a file, of at most so many bytes.
    fn read(&mut self, name: &str, most: u64) -> Result<Vec<u8>> {
        let whole = format!("{}{name}", self.folder);
        let entry = self.zip.by_name(&whole);
        let mut entry = entry.ok().with_context(|| format!("there is no {name} in it"))?;
        ensure!(
            entry.compression() == CompressionMethod::Stored && entry.size() <= most,
            "{name} in it is compressed, or larger than it should be"
        );
        let mut bytes = Vec::new();
        let read = (&mut entry).take(most + 1).read_to_end(&mut bytes);
        read.with_context(|| format!("{name} in it is damaged"))?;
        ensure!(bytes.len() as u64 <= most, "{name} in it is larger than it should be");
        Ok(bytes)
    }

    /// The numbers of a tensor, as float32 on the CPU.
    fn tensor(&mut self, stored: &StoredTensor) -> Result<Tensor> {
        let StoredTensor { storage, offset, shape, stride } = stored;
        let place = || {
            let size = storage.kind.elt_size_in_bytes() as i64;
            let numel = shape.iter().try_fold(1i64, |n, &size| n.checked_mul(size))?;
            let is_whole = shape.iter().all(|&size| size > 0) && storage.numel > 0 && *offset >= 0;
            let end = offset.checked_add(numel).filter(|&end| is_whole && end <= storage.numel)?;
            let bytes = storage.numel.checked_mul(size)? as u64;
            let range = (offset * size) as usize..(end * size) as usize;
            (bytes <= self.length).then_some((bytes, range))
        };
        let (bytes, range) = place().context("it does not lie in its storage")?;
        ensure!(*stride == rows_of(shape), "its numbers do not lie one after the other");
        let content = self.read(&format!("data/{}", storage.key), bytes)?;
        ensure!(content.len() as u64 == bytes, "data/{} in it is cut off", storage.key);
        let tensor = Tensor::f_from_data_size(&content[range], shape, storage.kind)?;
        Ok(tensor.to_kind(Kind::Float))
    }
}

/// The strides of a tensor whose numbers lie one after the other.
fn rows_of(shape: &[i64]) -> Vec<i64> {
    let mut strides = vec![1i64; shape.len()];
    for i in (1..shape.len()).rev() {
        strides[i - 1] = strides[i].saturating_mul(shape[i]);
    }
    strides
}

/// The vocabulary that `name` means: `gpt2`, `fables`, the folder of a data set, or a file.
///
/// # Errors
/// If there is none, or only one in a pickle.
pub fn vocabulary(name: &str) -> Result<Tokenizer> {
    let folder = match Path::new(name).is_dir() {
        true => PathBuf::from(name),
        false => Path::new("data").join(name),
    };
    let has = |file: &str| folder.join(file).exists();
    let is_ours = has(crate::data::VOCABULARY) || has(lab::ShardWriter::DATASET);
    ensure!(
        !name.ends_with(".pkl") && (is_ours || !has("meta.pkl")),
        "{name}: nanoGPT's meta.pkl is a pickle and is not read; prepare the same text with `nanogpt prepare`, which numbers \
         its characters in the same order, and name that folder"
    );
    match folder.is_dir() {
        true => crate::data::tokenizer_of(&folder),
        false => Tokenizer::load(name),
    }
}
