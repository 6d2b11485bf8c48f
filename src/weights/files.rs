//! The files that hold a checkpoint's tensors.
//!
//! A safetensors file is the length of its header in 8 bytes, the header, a JSON object that says of
//! each tensor its type, its shape and where it lies, and then the tensors, without a gap
//! (<https://github.com/huggingface/safetensors>). A large checkpoint is cut into several such files,
//! and a `model.safetensors.index.json` says which tensor is in which.

use super::{AGAIN, FETCH, PREFIX, bare, read_json};
use anyhow::{Context, Result, anyhow, bail, ensure};
use safetensors::{
    Dtype,
    tensor::{Metadata, TensorInfo},
};
use serde::Deserialize;
use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom},
    path::{self, Component, Path, PathBuf},
};

/// The longest header that is read. That of the largest GPT-2 has about 60 kB.
const MAX_HEADER: u64 = 10_000_000;

const MODEL: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
const ADAPTER: &str = "adapter_config.json";

const ALL_AGAIN: &str = "get all files of the checkpoint again";

/// The files of a checkpoint, and where in them each tensor lies.
pub struct Files {
    /// The only file, or the index of several.
    pub path: PathBuf,
    /// Where a file stands is shared by all who read, so one at a time.
    files: Vec<(PathBuf, RefCell<File>)>,
    /// By their names without `transformer.`.
    pub tensors: BTreeMap<String, Stored>,
}

/// Where a tensor lies, and as what.
pub struct Stored {
    /// Its place among the files.
    file: usize,
    pub dtype: Dtype,
    pub shape: Vec<i64>,
    start: u64,
    bytes: usize,
}

impl Files {
    /// Reads the headers of what [`find`] has found.
    pub fn open(path: PathBuf) -> Result<Self> {
        let mut opened = Self { path, files: Vec::new(), tensors: BTreeMap::new() };
        if opened.path.extension().is_some_and(|extension| extension == "json") {
            opened.add_all_listed()?;
        } else {
            opened.add(opened.path.clone())?;
        }
        Ok(opened)
    }

    /// The tensor of a name. GPT-2 reads and writes tokens with one matrix, and some files have it under
    /// the second of its two names alone.
    pub fn get(&self, name: &str) -> Option<&Stored> {
        let matrix = || (bare(name) == "wte.weight").then(|| self.tensors.get("lm_head.weight"));
        self.tensors.get(bare(name)).or_else(|| matrix()?)
    }

    /// The file that a tensor is in.
    pub fn of(&self, stored: &Stored) -> path::Display<'_> {
        self.files[stored.file].0.display()
    }

    /// The bytes of a tensor.
    pub fn read(&self, stored: &Stored) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; stored.bytes];
        let mut file = self.files[stored.file].1.borrow_mut();
        file.seek(SeekFrom::Start(stored.start))?;
        file.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    /// Takes in the tensors of a file.
    fn add(&mut self, path: PathBuf) -> Result<()> {
        let number = self.files.len();
        let (file, tensors) =
            read_header(&path, number).with_context(|| path.display().to_string())?;
        for (name, stored) in tensors {
            let shown = name.escape_debug().to_string();
            if let Some(other) = self.tensors.insert(name, stored) {
                let (path, other) = (path.display(), self.of(&other));
                bail!("{path}: the tensor `{shown}` is in {other} too; save the checkpoint again");
            }
        }
        self.files.push((path, RefCell::new(file)));
        Ok(())
    }

    /// Takes in the files that the index lists, and compares what they have with what it says.
    fn add_all_listed(&mut self) -> Result<()> {
        let listed = read_index(&self.path)?;
        for name in listed.values().collect::<BTreeSet<_>>() {
            let path = self.path.with_file_name(name);
            let index = self.path.display();
            ensure!(path.is_file(), "{index}: it lists {name:?}, which is not there; get it too");
            self.add(path)?;
        }
        let index = self.path.display();
        for (tensor, file) in &listed {
            let found = self.tensors.get(tensor);
            let is_there = found.is_some_and(|stored| self.files[stored.file].0.ends_with(file));
            let tensor = tensor.escape_debug();
            ensure!(
                is_there,
                "{index}: by it `{tensor}` is in {file:?}, and there it is not; {ALL_AGAIN}"
            );
        }
        if let Some((name, stored)) =
            self.tensors.iter().find(|(name, _)| !listed.contains_key(*name))
        {
            let (file, name) = (self.of(stored), name.escape_debug());
            bail!("{file}: the tensor `{name}` is not listed in {index}; {ALL_AGAIN}");
        }
        Ok(())
    }
}

/// The safetensors file, or the index of several, that `path` means.
pub fn find(path: &Path) -> Result<PathBuf> {
    let shown = path.display();
    let kind = fs::metadata(path)
        .map_err(|error| anyhow!("{shown}: cannot open it: {error}; {FETCH}"))?
        .file_type();
    let is_folder = kind.is_dir();
    ensure!(is_folder || kind.is_file(), "{shown}: this is neither a file nor a folder; {FETCH}");
    let has =
        |name: &str| if is_folder { path.join(name) } else { path.with_file_name(name) }.is_file();
    ensure!(
        !has(ADAPTER),
        "{shown}: there is an {ADAPTER}: an adapter changes the weights of another checkpoint, and is not \
         read here, so merge the two in Python: `model.merge_and_unload().save_pretrained(folder)`"
    );
    if !is_folder {
        ensure!(
            !is_one_of_several(path) || !has(INDEX),
            "{shown}: this is one of several files of a checkpoint; give their folder, in which {INDEX} is"
        );
        return Ok(path.to_owned());
    }
    if let Some(name) = [MODEL, INDEX].into_iter().find(|name| has(name)) {
        return Ok(path.join(name));
    }
    ensure!(
        !has("pytorch_model.bin") && !has("pytorch_model.bin.index.json"),
        "{shown}: there is a pytorch_model.bin and no {MODEL}; the former is a Python \
         pickle, which is not read here, so convert it in Python: \
         `GPT2LMHeadModel.from_pretrained(folder).save_pretrained(folder)`"
    );
    let mut files =
        fs::read_dir(path).with_context(|| format!("{shown}: cannot read it"))?.flatten();
    ensure!(
        !files.any(|file| is_one_of_several(&file.path())),
        "{shown}: there are some of several files of a checkpoint, and no {INDEX}, which lists them; get it \
         too"
    );
    bail!("{shown}: there is no {MODEL} in this folder; {FETCH}")
}

/// Whether a file is called as in `model-00001-of-00002.safetensors`.
fn is_one_of_several(path: &Path) -> bool {
    let name = path.file_name().map(|name| name.to_string_lossy());
    name.is_some_and(|name| name.contains("-of-") && name.ends_with(".safetensors"))
}

/// An index also has `metadata`, with the size of all tensors together.
#[derive(Deserialize)]
struct Index {
    /// For each tensor, its file.
    weight_map: BTreeMap<String, String>,
}

/// What an index says: for each tensor, by its name without `transformer.`, a file in the same folder.
fn read_index(path: &Path) -> Result<BTreeMap<String, String>> {
    let Index { weight_map } = read_json(path, "index of a checkpoint, which is JSON")?;
    let shown = path.display();
    ensure!(!weight_map.is_empty(), "{shown}: it lists no tensors; {ALL_AGAIN}");
    for name in weight_map.values() {
        let mut parts = Path::new(name).components();
        ensure!(
            matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None)),
            "{shown}: it lists {name:?}, which is no file in its folder; {ALL_AGAIN}"
        );
    }
    Ok(weight_map.into_iter().map(|(tensor, file)| (bare(&tensor).to_owned(), file)).collect())
}

/// Reads the header of the file of this `number` and checks it against the file's length.
fn read_header(path: &Path, number: usize) -> Result<(File, BTreeMap<String, Stored>)> {
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
    let (tensors, end) = lay_out(&metadata, number, 8 + header)?;
    ensure!(
        end == length,
        "it is {length} bytes long, and by its header it should be {end}: it is not whole, or not \
         alone; {AGAIN}"
    );
    Ok((file, tensors))
}

/// Where each tensor lies in the file of this `number`, if the first lies at `start` and each of the
/// others begins where another ends; and where the last ends.
fn lay_out(
    metadata: &Metadata,
    number: usize,
    start: u64,
) -> Result<(BTreeMap<String, Stored>, u64)> {
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
        let stored = Stored { file: number, dtype: info.dtype, shape, start: end, bytes };
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
