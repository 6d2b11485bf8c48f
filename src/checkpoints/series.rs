//! Checkpoints in a folder: which there are, how one is written and read, and which of them stay.

use crate::text::printable;
use anyhow::{Context, Result, bail, ensure};
use safetensors::{SafeTensors, tensor::TensorView};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};
use tch::{Device, Kind, Tensor};

/// A longer JSON file is no checkpoint's, which has a few kB.
const MOST_JSON: u64 = 16_000_000;

/// The checkpoints in a folder, of which the newest are kept.
///
/// ```text
/// step_000400.safetensors
/// step_000400.json         written last: without it there is no checkpoint
/// ```
pub struct Series {
    folder: PathBuf,
    keep: usize,
}

/// A checkpoint that has been read and is as it was written.
pub struct Checkpoint<C> {
    /// The step after which it was saved.
    pub step: usize,
    /// What its JSON says.
    pub content: C,
    tensors: Vec<u8>,
}

/// The file beside the tensors.
#[derive(Deserialize, Serialize)]
struct Saved<C> {
    bytes: u64,
    crc32: u32,
    #[serde(flatten)]
    content: C,
}

impl Series {
    /// Those in `folder`, which need not be there yet. The `keep` newest stay, at least one.
    pub fn new(folder: PathBuf, keep: usize) -> Self {
        Self { folder, keep: keep.max(1) }
    }

    /// Where they are.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Writes a checkpoint, and then removes the oldest.
    ///
    /// # Errors
    /// If it cannot be written, say since the disk is full. The one before is whole then.
    ///
    /// # Panics
    /// If two tensors have one name, or `content` is not written as a JSON object.
    pub fn save(
        &self,
        step: usize,
        content: &impl Serialize,
        tensors: &[(String, Tensor)],
    ) -> Result<()> {
        let bytes = serialized(tensors)?;
        let saved = Saved { bytes: bytes.len() as u64, crc32: crc32fast::hash(&bytes), content };
        let json = serde_json::to_string_pretty(&saved)? + "\n";
        if self.has(step, &json) {
            return self.remove_old(step); // a run that went on came by here again
        }
        // What stands here from an earlier try is no checkpoint while its tensors are replaced.
        remove(&self.json(step))?;
        files::write_atomically(&self.tensors(step), |file| Ok(file.write_all(&bytes)?))?;
        files::write_atomically(&self.json(step), |file| Ok(file.write_all(json.as_bytes())?))
            // On a full disk the next checkpoint needs the room.
            .inspect_err(|_| fs::remove_file(self.tensors(step)).unwrap_or_default())?;
        self.remove_old(step)
    }

    /// Whether this very checkpoint is there, whole.
    fn has(&self, step: usize, json: &str) -> bool {
        let there = fs::read_to_string(self.json(step));
        there.is_ok_and(|there| there == json) && self.read::<serde_json::Value>(step).is_ok()
    }

    fn remove_old(&self, newest: usize) -> Result<()> {
        let steps = self.steps()?.into_iter().filter(|step| *step <= newest);
        let kept: Vec<usize> = steps.take(self.keep).collect();
        // Tensors without JSON too, which a kill between the two has left.
        let old = self.steps_of("safetensors")?.into_iter().filter(|step| *step < newest);
        for step in old.filter(|step| !kept.contains(step)) {
            remove(&self.json(step))?;
            remove(&self.tensors(step))?;
        }
        Ok(())
    }

    /// The newest checkpoint that is whole; `None` if there is none at all. Says on stderr which newer ones are not.
    ///
    /// # Errors
    /// If there are some and none is whole, or the folder cannot be read.
    pub fn newest<C: DeserializeOwned>(&self) -> Result<Option<Checkpoint<C>>> {
        let steps = self.steps()?;
        for step in &steps {
            match self.read(*step) {
                Ok(checkpoint) => return Ok(Some(checkpoint)),
                Err(error) => eprintln!("passed over: {}", printable(&format!("{error:#}"))),
            }
        }
        let folder = self.folder.display();
        ensure!(steps.is_empty(), "none of the checkpoints in {folder} is whole");
        Ok(None)
    }

    /// The checkpoint after a step, if it is as it was written.
    ///
    /// # Errors
    /// Which file cannot be read, or is not as it was written.
    pub fn read<C: DeserializeOwned>(&self, step: usize) -> Result<Checkpoint<C>> {
        let path = self.json(step);
        let json = files::read_at_most(&path, MOST_JSON)
            .with_context(|| format!("cannot read {}", path.display()))?;
        let saved: Saved<C> = serde_json::from_slice(&json)
            .with_context(|| format!("{} is not as it was written", path.display()))?;
        let path = self.tensors(step);
        let length = fs::metadata(&path).map(|file| file.len());
        let length = length.with_context(|| format!("cannot read {}", path.display()))?;
        ensure!(length == saved.bytes, "{} is not as it was written", path.display());
        let tensors = files::read_at_most(&path, length)
            .with_context(|| format!("cannot read {}", path.display()))?;
        ensure!(
            tensors.len() as u64 == saved.bytes && crc32fast::hash(&tensors) == saved.crc32,
            "{} is not as it was written",
            path.display()
        );
        Ok(Checkpoint { step, content: saved.content, tensors })
    }

    /// After which steps there are checkpoints, the newest first.
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub fn steps(&self) -> Result<Vec<usize>> {
        self.steps_of("json")
    }

    /// The steps of the files with this ending, the newest first.
    fn steps_of(&self, ending: &str) -> Result<Vec<usize>> {
        let entries = match fs::read_dir(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.with_context(|| format!("cannot read {}", self.folder.display()))?,
        };
        let step = |name: &str| {
            let (step, found) = name.strip_prefix("step_")?.split_once('.')?;
            step.parse().ok().filter(|_| found == ending)
        };
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let mut steps: Vec<usize> = names.filter_map(|name| step(&name)).collect();
        steps.sort_unstable_by(|a, b| b.cmp(a));
        Ok(steps)
    }

    fn json(&self, step: usize) -> PathBuf {
        self.folder.join(format!("step_{step:06}.json"))
    }

    /// Where the tensors of the checkpoint after a step are.
    pub fn tensors(&self, step: usize) -> PathBuf {
        self.folder.join(format!("step_{step:06}.safetensors"))
    }
}

impl<C> Checkpoint<C> {
    /// Writes the saved tensors into those of the same names, all or none. Others that were saved are left alone.
    ///
    /// # Errors
    /// Which tensor is missing, or has another shape or dtype.
    pub fn copy_into(&self, tensors: &[(String, Tensor)]) -> Result<()> {
        let saved = SafeTensors::deserialize(&self.tensors)?;
        let mut read = Vec::new();
        for (name, tensor) in tensors {
            let view = saved.tensor(name).with_context(|| format!("it has no tensor {name}"))?;
            let shape: Vec<i64> = view.shape().iter().map(|&n| n as i64).collect();
            ensure!(
                shape == tensor.size() && view.dtype() == dtype(tensor.kind())?,
                "its tensor {name} is {:?} {shape:?}, and this run's {:?} {:?}",
                view.dtype(),
                tensor.kind(),
                tensor.size()
            );
            read.push(Tensor::from_data_size(view.data(), &shape, tensor.kind()));
        }
        let _guard = tch::no_grad_guard();
        for ((_, tensor), read) in tensors.iter().zip(read) {
            tensor.shallow_clone().copy_(&read);
        }
        Ok(())
    }

    /// The shapes of the saved tensors, by name. They take no memory yet beside the file's bytes.
    ///
    /// # Errors
    /// If the file is no safetensors file.
    pub fn shapes(&self) -> Result<BTreeMap<String, Vec<i64>>> {
        let saved = SafeTensors::deserialize(&self.tensors)?;
        let shape = |shape: &[usize]| shape.iter().map(|&n| n as i64).collect();
        Ok(saved.tensors().into_iter().map(|(name, view)| (name, shape(view.shape()))).collect())
    }
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

fn dtype(kind: Kind) -> Result<safetensors::Dtype> {
    Ok(match kind {
        Kind::Float => safetensors::Dtype::F32,
        Kind::BFloat16 => safetensors::Dtype::BF16,
        Kind::Uint8 => safetensors::Dtype::U8,
        Kind::Int64 => safetensors::Dtype::I64,
        other => bail!("a tensor of {other:?} cannot be saved"),
    })
}

/// Tensors as a safetensors file.
fn serialized(tensors: &[(String, Tensor)]) -> Result<Vec<u8>> {
    let mut parts = BTreeMap::new();
    for (name, tensor) in tensors {
        let tensor = tensor.detach().to(Device::Cpu).contiguous();
        let mut bytes = vec![0; tensor.numel() * tensor.kind().elt_size_in_bytes()];
        tensor.copy_data_u8(&mut bytes, tensor.numel());
        let shape = tensor.size().iter().map(|&n| n as usize).collect();
        let is_new = parts.insert(name, (dtype(tensor.kind())?, shape, bytes)).is_none();
        assert!(is_new, "there are two tensors {name}");
    }
    let views = parts.iter().map(|(name, (dtype, shape, bytes))| {
        let shape: &Vec<usize> = shape;
        Ok((name, TensorView::new(*dtype, shape.clone(), bytes)?))
    });
    let views = views.collect::<Result<Vec<_>>>()?;
    Ok(safetensors::serialize(views, &None)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;

    #[test]
    fn numbers_come_back_bit_by_bit() {
        let folder = tempfile::tempdir().unwrap();
        let series = Series::new(folder.path().into(), 1);
        let mut rng = Rng::new(1);
        let losses: Vec<f64> = (0..10_000).map(|_| 200.0 * rng.uniform()).collect();
        series.save(1, &BTreeMap::from([("losses", &losses)]), &[]).unwrap();
        let checkpoint = series.read::<BTreeMap<String, Vec<f64>>>(1).unwrap();
        assert_eq!(checkpoint.content["losses"], losses);
    }
}
