//! GPT-2 checkpoints as Hugging Face writes them: `model.safetensors` and, beside it, `config.json`.
//!
//! A safetensors file is the length of its header in 8 bytes, the header, a JSON object that says of
//! each tensor its type, its shape and where it lies, and then the tensors, without a gap
//! (<https://github.com/huggingface/safetensors>).

use anyhow::{Context, Result, anyhow, bail, ensure};
use safetensors::{
    Dtype,
    tensor::{Metadata, TensorInfo},
};
use serde_json::{Map, Value};
use std::{
    cell::RefCell,
    collections::BTreeMap,
    fs::{self, File},
    io::{Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};
use tch::{Kind, Tensor};

/// What the names begin with that Hugging Face writes today; the hub's first `gpt2` lacks it.
const PREFIX: &str = "transformer.";

/// The longest header that is read. That of the largest GPT-2 has about 60 kB.
const MAX_HEADER: u64 = 10_000_000;

const AGAIN: &str = "get the file again";
const GPT2: &str = "take a checkpoint of GPT-2, and of this size";
const FETCH: &str = "`cargo run -p data -- gpt2` fetches GPT-2's weights";

/// A checkpoint's tensors by name, read one by one when they are asked for.
///
/// A name may be given with its leading `transformer.` or without, whichever the file has.
pub struct Weights {
    path: PathBuf,
    /// Where it stands is shared by all who read, so one at a time.
    file: RefCell<File>,
    tensors: BTreeMap<String, Stored>,
    config_path: PathBuf,
    config: Map<String, Value>,
}

/// Where a tensor lies in the file, and as what.
struct Stored {
    dtype: Dtype,
    shape: Vec<i64>,
    start: u64,
    bytes: usize,
}

impl Weights {
    /// Opens a checkpoint: a folder with a `model.safetensors`, or such a file by itself. Reads the
    /// header and the `config.json` beside it, if there is one; no tensor yet.
    ///
    /// # Errors
    /// One sentence that names the file, when it is not there, its header makes no sense, tensors
    /// overlap or leave a gap, the file is not exactly as long as its header says, two names are the
    /// same but for `transformer.`, or `config.json` is no JSON object.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = find(path.as_ref())?;
        let config_path = path.with_file_name("config.json");
        let config = read_config(&config_path)?;
        let (file, tensors) = read_header(&path).with_context(|| path.display().to_string())?;
        Ok(Self { path, file: RefCell::new(file), tensors, config_path, config })
    }

    /// The names of all tensors, `transformer.` taken off, in alphabetical order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// The shape of a tensor, if the file has it.
    pub fn shape(&self, name: &str) -> Option<&[i64]> {
        Some(&self.tensors.get(bare(name))?.shape)
    }

    /// Rows and columns of a matrix.
    ///
    /// # Errors
    /// When the file has no tensor of this name, or one of other than two dimensions.
    pub fn matrix(&self, name: &str) -> Result<(i64, i64)> {
        match *self.found(name)?.shape {
            [rows, columns] => Ok((rows, columns)),
            ref shape => bail!(
                "{}: `{name}` has the shape {shape:?}, and should have two dimensions; {GPT2}",
                self.path.display()
            ),
        }
    }

    /// A whole number from `config.json`: `None` if there is no such file, or no such key in it, or
    /// `null`.
    ///
    /// # Errors
    /// When it is there and something else than a whole number.
    pub fn config(&self, key: &str) -> Result<Option<i64>> {
        match self.config.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => value.as_i64().map(Some).with_context(|| {
                format!("{}: {key} is {value}, no whole number", self.config_path.display())
            }),
        }
    }

    /// Compares what the tensors' shapes say about `key` with what `config.json` says, if it does.
    ///
    /// # Errors
    /// When they contradict each other, or `config.json` has something else than a whole number.
    pub fn agrees(&self, key: &str, measured: i64) -> Result<()> {
        let claimed = self.config(key)?.unwrap_or(measured);
        ensure!(
            claimed == measured,
            "{}: {key} is {claimed}, but by the tensors in {} it is {measured}; take both files from \
             the same checkpoint",
            self.config_path.display(),
            self.path.display()
        );
        Ok(())
    }

    /// Checks that the file has exactly these tensors, each of a type that can be read, before any
    /// is read.
    ///
    /// A file may have more in two cases. The causal masks `attn.bias` and `attn.masked_bias`, which
    /// old files carry along, are no weights. And `lm_head.weight` may be there although the model
    /// ties it to `wte.weight`.
    ///
    /// # Errors
    /// Names the first tensor that is missing, has another shape or type, or is one too many.
    pub fn expect(&self, tensors: &[(String, Vec<i64>)]) -> Result<()> {
        for (name, shape) in tensors {
            self.stored(name, shape)?;
        }
        let asked = |name: &str| tensors.iter().any(|(asked, _)| bare(asked) == name);
        let is_mask = |name: &str| name.ends_with(".attn.bias") || name.ends_with(".masked_bias");
        let extra =
            self.names().find(|name| !asked(name) && !is_mask(name) && *name != "lm_head.weight");
        if let Some(extra) = extra {
            bail!(
                "{}: the tensor `{}` has no place in this model; {GPT2}",
                self.path.display(),
                extra.escape_debug()
            );
        }
        Ok(())
    }

    /// Reads a tensor of exactly this shape: float32 on the CPU, whatever type the file has.
    ///
    /// # Errors
    /// When the file lacks it, or has it in another shape or as something else than F32, F16 or
    /// BF16; or when it cannot be read.
    pub fn tensor(&self, name: &str, shape: &[i64]) -> Result<Tensor> {
        let (stored, kind) = self.stored(name, shape)?;
        let mut bytes = vec![0; stored.bytes];
        let mut file = self.file.borrow_mut();
        file.seek(SeekFrom::Start(stored.start))
            .and_then(|_| file.read_exact(&mut bytes))
            .with_context(|| format!("{}: cannot read `{name}`", self.path.display()))?;
        Ok(Tensor::f_from_data_size(&bytes, shape, kind)?.to_kind(Kind::Float))
    }

    fn found(&self, name: &str) -> Result<&Stored> {
        self.tensors.get(bare(name)).with_context(|| {
            format!("{}: there is no tensor `{name}`; {GPT2}", self.path.display())
        })
    }

    /// The tensor of this name, if it can be read and has this shape, and the type it is stored as.
    fn stored(&self, name: &str, shape: &[i64]) -> Result<(&Stored, Kind)> {
        let path = self.path.display();
        let stored = self.found(name)?;
        ensure!(
            stored.shape == shape,
            "{path}: `{name}` has the shape {:?}, and the model needs {shape:?}; {GPT2}",
            stored.shape
        );
        let kind = match stored.dtype {
            Dtype::F32 => Kind::Float,
            Dtype::F16 => Kind::Half,
            Dtype::BF16 => Kind::BFloat16,
            other => bail!(
                "{path}: `{name}` is stored as {other:?}, and only F32, F16 and BF16 are read; \
                 convert it in Python"
            ),
        };
        Ok((stored, kind))
    }
}

fn bare(name: &str) -> &str {
    name.strip_prefix(PREFIX).unwrap_or(name)
}

/// The safetensors file that `path` means.
fn find(path: &Path) -> Result<PathBuf> {
    let shown = path.display();
    let kind = fs::metadata(path)
        .map_err(|error| anyhow!("{shown}: cannot open it: {error}; {FETCH}"))?
        .file_type();
    if !kind.is_dir() {
        ensure!(kind.is_file(), "{shown}: this is neither a file nor a folder; {FETCH}");
        return Ok(path.to_owned());
    }
    let file = path.join("model.safetensors");
    if file.is_file() {
        return Ok(file);
    }
    ensure!(
        !path.join("pytorch_model.bin").is_file(),
        "{shown}: there is a pytorch_model.bin and no model.safetensors; the former is a Python \
         pickle, which is not read here, so convert it in Python: \
         `GPT2LMHeadModel.from_pretrained(folder).save_pretrained(folder)`"
    );
    bail!("{shown}: there is no model.safetensors in this folder; {FETCH}")
}

/// The object in a `config.json`, empty if there is no such file.
fn read_config(path: &Path) -> Result<Map<String, Value>> {
    if !path.is_file() {
        return Ok(Map::new());
    }
    let text = fs::read(path).with_context(|| format!("{}: cannot read it", path.display()))?;
    serde_json::from_slice(&text).with_context(|| {
        format!(
            "{}: this is no JSON object; take it from the same place as the weights",
            path.display()
        )
    })
}

/// Reads the header and checks it against the file's length.
fn read_header(path: &Path) -> Result<(File, BTreeMap<String, Stored>)> {
    let mut file = File::open(path).context("cannot open it")?;
    let length = file.metadata()?.len();
    let mut prefix = [0; 8];
    ensure!(length >= 8, "it ends after {length} bytes, within its first field; {AGAIN}");
    file.read_exact(&mut prefix)?;
    let header = u64::from_le_bytes(prefix);
    ensure!(
        header <= MAX_HEADER && header <= length - 8,
        "its header cannot be {header} bytes long in a file of {length}: this is no safetensors file, \
         or a part of one; {AGAIN}"
    );
    let mut text = vec![0; header as usize];
    file.read_exact(&mut text)?;
    let metadata: Metadata =
        serde_json::from_slice(&text).with_context(|| format!("its header is damaged; {AGAIN}"))?;
    let (tensors, end) = lay_out(&metadata, 8 + header)?;
    ensure!(
        end == length,
        "it is {length} bytes long, and by its header it should be {end}: it is not whole, or not \
         alone; {AGAIN}"
    );
    Ok((file, tensors))
}

/// Where each tensor lies in the file, if the first lies at `start` and each of the others begins
/// where another ends; and where the last ends.
fn lay_out(metadata: &Metadata, start: u64) -> Result<(BTreeMap<String, Stored>, u64)> {
    let tensors = metadata.tensors();
    let mut in_order: Vec<_> = tensors.iter().collect();
    in_order.sort_by_key(|(name, info)| (info.data_offsets, *name));
    let mut by_name = BTreeMap::new();
    let mut end = start;
    let mut expected = 0;
    for (name, info) in in_order {
        let (from, to) = info.data_offsets;
        let shown = name.escape_debug(); // a damaged name may hold anything
        let where_from = if from < expected { "overlaps another tensor" } else { "follows a gap" };
        ensure!(from == expected, "the tensor `{shown}` {where_from}; {AGAIN}");
        expected = to;
        let (shape, bytes) = size_of(&info.shape, info.dtype)
            .filter(|(_, bytes)| from.checked_add(*bytes) == Some(to))
            .with_context(|| {
                let TensorInfo { shape, dtype, .. } = info;
                format!("the tensor `{shown}`, {shape:?} of {dtype:?}, has another size in the file; {AGAIN}")
            })?;
        let stored = Stored { dtype: info.dtype, shape, start: end, bytes };
        end = end
            .checked_add(bytes as u64)
            .with_context(|| format!("its tensors have no end; {AGAIN}"))?;
        ensure!(
            by_name.insert(bare(name).to_owned(), stored).is_none(),
            "there are two tensors `{shown}`, with and without `{PREFIX}`; save the checkpoint again"
        );
    }
    Ok((by_name, end))
}

/// The shape as libtorch has it, and how many bytes such a tensor takes.
fn size_of(shape: &[usize], dtype: Dtype) -> Option<(Vec<i64>, usize)> {
    let sizes = shape.iter().map(|&size| i64::try_from(size).ok()).collect::<Option<_>>()?;
    let elements = shape.iter().try_fold(1usize, |product, &size| product.checked_mul(size))?;
    Some((sizes, elements.checked_mul(dtype.size())?))
}
