//! Checkpoints in a folder: which there are, how one is written and read, and which of them stay.

use crate::{
    text::printable,
    weights::{
        dtype,
        files::{Files, Stored},
        write_safetensors,
    },
};
use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};
use tch::Tensor;

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

/// A checkpoint that is as it was written. Its tensors are still on disk, so that they take memory one at a time.
pub struct Checkpoint<C> {
    /// The step after which it was saved.
    pub step: usize,
    /// What its JSON says.
    pub content: C,
    tensors: Files,
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
    /// If `content` is not written as a JSON object.
    pub fn save(
        &self,
        step: usize,
        content: &impl Serialize,
        tensors: &[(String, Tensor)],
    ) -> Result<()> {
        if self.has(step, content, tensors)? {
            return self.remove_old(step); // a run that went on came by here again
        }
        // What stands here from an earlier try is no checkpoint while its tensors are replaced.
        remove(&self.json(step))?;
        let mut json = String::new();
        files::write_atomically(&self.tensors(step), |file| {
            let mut file = Summed::new(file);
            write_safetensors(&mut file, tensors)?;
            json = file.json(content)?;
            Ok(())
        })?;
        files::write_atomically(&self.json(step), |file| Ok(file.write_all(json.as_bytes())?))
            // On a full disk the next checkpoint needs the room.
            .inspect_err(|_| fs::remove_file(self.tensors(step)).unwrap_or_default())?;
        self.remove_old(step)
    }

    /// Whether this very checkpoint is there, whole.
    fn has(
        &self,
        step: usize,
        content: &impl Serialize,
        tensors: &[(String, Tensor)],
    ) -> Result<bool> {
        let Ok(there) = fs::read_to_string(self.json(step)) else { return Ok(false) };
        let mut nowhere = Summed::new(io::sink());
        write_safetensors(&mut nowhere, tensors)?;
        Ok(there == nowhere.json(content)? && self.read::<serde_json::Value>(step).is_ok())
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
        let damaged = || format!("{} is not as it was written", path.display());
        ensure!(length == saved.bytes, damaged());
        // Opened before it is summed up, so that another run cannot replace it in between.
        let tensors = Files::open(path.clone()).with_context(damaged)?;
        let mut nowhere = Summed::new(io::sink());
        let summed = File::open(&path).and_then(|mut file| io::copy(&mut file, &mut nowhere));
        summed.with_context(|| format!("cannot read {}", path.display()))?;
        ensure!((nowhere.bytes, nowhere.crc32()) == (saved.bytes, saved.crc32), damaged());
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
    /// Reads the saved tensors into those of the same names, if all fit. Others that were saved are left alone.
    ///
    /// # Errors
    /// Which tensor is missing, or has another shape or dtype: none has been touched then. Or the file cannot be read.
    pub fn copy_into(&self, tensors: &[(String, Tensor)]) -> Result<()> {
        for (name, tensor) in tensors {
            let stored = self.stored(name)?;
            let (dtype, shape) = (dtype(tensor.kind())?, tensor.size());
            ensure!(
                stored.shape == shape && stored.dtype == dtype,
                "its tensor {name} is {:?} {:?}, and this run's {dtype:?} {shape:?}",
                stored.dtype,
                stored.shape
            );
        }
        let _guard = tch::no_grad_guard();
        for (name, tensor) in tensors {
            let stored = self.stored(name)?;
            let bytes = self.tensors.read(stored);
            let bytes =
                bytes.with_context(|| format!("cannot read {}", self.tensors.of(stored)))?;
            let read = Tensor::from_data_size(&bytes, &stored.shape, tensor.kind());
            tensor.shallow_clone().copy_(&read);
        }
        Ok(())
    }

    fn stored(&self, name: &str) -> Result<&Stored> {
        self.tensors.get(name).with_context(|| format!("it has no tensor {name}"))
    }

    /// The shape of a saved tensor, if there is one of this name. It takes no memory yet.
    pub fn shape(&self, name: &str) -> Option<&[i64]> {
        Some(&self.tensors.get(name)?.shape)
    }
}

/// What is written, summed up.
struct Summed<W> {
    out: W,
    bytes: u64,
    crc: crc32fast::Hasher,
}

impl<W: Write> Summed<W> {
    fn new(out: W) -> Self {
        Self { out, bytes: 0, crc: crc32fast::Hasher::new() }
    }

    fn crc32(&self) -> u32 {
        self.crc.clone().finalize()
    }

    /// The file that goes beside what was written.
    fn json(&self, content: &impl Serialize) -> Result<String> {
        let saved = Saved { bytes: self.bytes, crc32: self.crc32(), content };
        Ok(serde_json::to_string_pretty(&saved)? + "\n")
    }
}

impl<W: Write> Write for Summed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.out.write(bytes)?;
        self.bytes += n as u64;
        self.crc.update(&bytes[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;
    use std::collections::BTreeMap;

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
