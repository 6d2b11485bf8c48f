//! GPT-2 checkpoints as Hugging Face writes them: `model.safetensors`, or several such files and an
//! index of them, and, beside them, `config.json` and the tokenizer's files.

mod config;
pub(crate) mod files;
mod gpt2;
mod vocabulary;
mod write;

use crate::finite::is_finite;
use anyhow::{Context, Result, bail, ensure};
use config::Config;
use files::{Files, Stored};
use safetensors::Dtype;
use std::path::Path;
use tch::{Kind, Tensor};

pub use gpt2::{Gpt2Sizes, is_transposed};
pub use vocabulary::{byte_spelling, expect_gpt2_tokens};
pub(crate) use write::dtype;
pub use write::write_safetensors;

/// What the names begin with that Hugging Face writes today; the hub's first `gpt2` lacks it.
const PREFIX: &str = "transformer.";

const AGAIN: &str = "get the file again";
const GPT2: &str = "take a checkpoint of GPT-2, and of this size";
const FETCH: &str = "`cargo run -p data -- gpt2` fetches GPT-2's weights";

/// A checkpoint's tensors by name, read one by one when they are asked for.
///
/// A name may be given with its leading `transformer.` or without, whichever the file has.
pub struct Weights {
    files: Files,
    config: Config,
}

impl Weights {
    /// Opens a checkpoint: a folder with a `model.safetensors` or, where there is none, a
    /// `model.safetensors.index.json`; or such a file by itself. Reads the headers and the
    /// `config.json` beside them, if there is one; no tensor yet.
    ///
    /// Where a file has the matrix that GPT-2 reads and writes tokens with as `lm_head.weight` alone,
    /// it is found as `wte.weight` too.
    ///
    /// # Errors
    /// One sentence that names the file, when it is not there, its header makes no sense, tensors
    /// overlap or leave a gap, the file is not exactly as long as its header says, two names are the
    /// same but for `transformer.`, the index and the files that it lists contradict each other,
    /// `config.json` is no JSON object, or an adapter lies beside it.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = files::find(path.as_ref())?;
        let config = Config::read(path.with_file_name("config.json"))?;
        let files = Files::open(path)?;
        Ok(Self { files, config })
    }

    /// The names of all tensors, `transformer.` taken off, in alphabetical order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.files.tensors.keys().map(String::as_str)
    }

    /// The shape of a tensor, if the file has it.
    pub fn shape(&self, name: &str) -> Option<&[i64]> {
        Some(&self.files.get(name)?.shape)
    }

    /// Rows and columns of a matrix.
    ///
    /// # Errors
    /// When the file has no tensor of this name, or one of other than two dimensions.
    pub fn matrix(&self, name: &str) -> Result<(i64, i64)> {
        let stored = self.found(name)?;
        match *stored.shape {
            [rows, columns] => Ok((rows, columns)),
            ref shape => bail!(
                "{}: `{name}` has the shape {shape:?}, and should have two dimensions; {GPT2}",
                self.files.of(stored)
            ),
        }
    }

    /// A whole number from `config.json`: `None` if there is no such file, or no such key in it, or
    /// `null`. `n_head`, which no tensor's shape shows, has transformers' default of 12 where the file
    /// lacks it. A key may stand there under the other name that transformers has for it, such as
    /// `hidden_size` for `n_embd`.
    ///
    /// # Errors
    /// When it is there and something else than a whole number, or twice and not the same.
    pub fn config(&self, key: &str) -> Result<Option<i64>> {
        self.config.whole(key)
    }

    /// Compares what the tensors' shapes say about `key` with what `config.json` says, if it does.
    ///
    /// # Errors
    /// When they contradict each other, or `config.json` has something else than a whole number.
    pub fn agrees(&self, key: &str, measured: i64) -> Result<()> {
        let claimed = self.config(key)?.unwrap_or(measured);
        ensure!(
            claimed == measured,
            "{}: {} is {claimed}, but by the tensors in {} it is {measured}; take both files from \
             the same checkpoint",
            self.config.path.display(),
            self.config.name_of(key),
            self.files.path.display()
        );
        Ok(())
    }

    /// Checks that `config.json`, if there is one, asks for nothing but the plain GPT-2: its
    /// activation function, its scaling of the attention's scores, and so on. Keys that change nothing
    /// in what is computed may have any value.
    ///
    /// # Errors
    /// Names the first key that asks for something else, or whose value is of another type, and the
    /// value.
    pub fn expect_plain_gpt2(&self) -> Result<()> {
        let (_, n_embd) = self.matrix("wte.weight")?;
        self.config.expect_plain_gpt2(n_embd)
    }

    /// Checks that the file has exactly these tensors, each of a type that can be read, before any
    /// is read.
    ///
    /// A file may have more in two cases. The causal masks `attn.bias` and `attn.masked_bias`, which
    /// old files carry along, are no weights. And `lm_head.weight` may be there although the model
    /// ties it to `wte.weight`: see [`Self::expect_tied`].
    ///
    /// # Errors
    /// Names the first tensor that is missing, has another shape or type, or is one too many.
    pub fn expect(&self, tensors: &[(String, Vec<i64>)]) -> Result<()> {
        for (name, shape) in tensors {
            self.stored(name, shape)?;
        }
        self.expect_nothing_but(&tensors.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>())
    }

    /// Checks that the file has no tensors but these, and perhaps the two kinds that [`Self::expect`] lets
    /// pass.
    ///
    /// # Errors
    /// Names the first tensor that is one too many.
    pub fn expect_nothing_but(&self, names: &[&str]) -> Result<()> {
        let asked = |name: &str| names.iter().any(|asked| bare(asked) == name);
        let is_mask = |name: &str| name.ends_with(".attn.bias") || name.ends_with(".masked_bias");
        for (name, stored) in &self.files.tensors {
            ensure!(
                asked(name) || is_mask(name) || name == "lm_head.weight",
                "{}: the tensor `{}` has no place in this model; {GPT2}",
                self.files.of(stored),
                name.escape_debug()
            );
        }
        Ok(())
    }

    /// Checks that the file has one matrix for reading and for writing tokens: no `lm_head.weight`, or
    /// one that is the same as `wte.weight`. It may have more rows, if these are all 0: padding.
    ///
    /// # Errors
    /// When it is another matrix, or one of the two cannot be read.
    pub fn expect_tied(&self) -> Result<()> {
        const ONE: &str = "and GPT-2 reads and writes tokens with one matrix";
        let (rows, columns) = self.matrix("wte.weight")?;
        let untied = self.config.is_false("tie_word_embeddings");
        let tensors = &self.files.tensors;
        let (Some(stored), true) =
            (tensors.get("lm_head.weight"), tensors.contains_key("wte.weight"))
        else {
            ensure!(
                !untied,
                "{}: tie_word_embeddings is false, but {} has only one of `wte.weight` and \
                 `lm_head.weight`, {ONE}; {GPT2}",
                self.config.path.display(),
                self.files.path.display()
            );
            return Ok(());
        };
        let path = self.files.of(stored);
        let shape = &stored.shape;
        // Padding is a few rows; whoever claims more must not get the memory for them.
        let fits = matches!(**shape, [r, c] if c == columns && r >= rows && r / 2 <= rows);
        ensure!(
            fits,
            "{path}: `lm_head.weight` has the shape {shape:?} and `wte.weight` [{rows}, {columns}], {ONE}; \
             {GPT2}"
        );
        let head = self.tensor("lm_head.weight", shape)?;
        let same = head.narrow(0, 0, rows) == self.tensor("wte.weight", &[rows, columns])?;
        let why = if untied { " (tie_word_embeddings is false)" } else { "" };
        ensure!(same, "{path}: `lm_head.weight` is not `wte.weight`{why}, {ONE}; {GPT2}");
        let more = shape[0] - rows;
        let padding = head.narrow(0, rows, more);
        ensure!(
            padding.count_nonzero(None).int64_value(&[]) == 0,
            "{path}: `lm_head.weight` has {} rows, {more} more than `wte.weight`, and these are not 0, as \
             padding would be; cut them off in Python",
            shape[0]
        );
        Ok(())
    }

    /// Reads a tensor of exactly this shape: float32 on the CPU, whatever type the file has.
    ///
    /// # Errors
    /// When the file lacks it, or has it in another shape or as something else than F32, F16 or
    /// BF16; when it cannot be read; or when a number in it is NaN or infinite.
    pub fn tensor(&self, name: &str, shape: &[i64]) -> Result<Tensor> {
        let (stored, kind) = self.stored(name, shape)?;
        let path = self.files.of(stored);
        let bytes =
            self.files.read(stored).with_context(|| format!("{path}: cannot read `{name}`"))?;
        let tensor = Tensor::f_from_data_size(&bytes, shape, kind)?.to_kind(Kind::Float);
        if !is_finite(&tensor) {
            let count = |which: Tensor| which.sum(Kind::Int64).int64_value(&[]);
            bail!(
                "{path}: of the {} numbers in `{name}`, {} are NaN and {} are infinite: the training that \
                 wrote them had failed, or the file is damaged; take an earlier checkpoint, or {AGAIN}",
                tensor.numel(),
                count(tensor.isnan()),
                count(tensor.isinf())
            );
        }
        Ok(tensor)
    }

    fn found(&self, name: &str) -> Result<&Stored> {
        self.files.get(name).with_context(|| {
            format!("{}: there is no tensor `{name}`; {GPT2}", self.files.path.display())
        })
    }

    /// The tensor of this name, if it can be read and has this shape, and the type it is stored as.
    fn stored(&self, name: &str, shape: &[i64]) -> Result<(&Stored, Kind)> {
        let stored = self.found(name)?;
        let path = self.files.of(stored);
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

/// The text of a file beside the weights. The longest in use, the vocabularies, have 35 MB.
fn read(path: &Path) -> Result<Vec<u8>> {
    ::files::read_at_most(path, 100_000_000)
        .with_context(|| format!("{}: cannot read it", path.display()))
}

/// What the JSON in a file says, if it is of the form `T`; if not, the error calls it no `what`.
fn read_json<T: serde::de::DeserializeOwned>(path: &Path, what: &str) -> Result<T> {
    let text = read(path)?;
    serde_json::from_slice(&text).with_context(|| {
        format!("{}: this is no {what}; take it from the same place as the weights", path.display())
    })
}
