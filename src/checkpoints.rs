//! What a run needs to go on where it was stopped, on disk: tensors as safetensors, all else as JSON, so that
//! reading a checkpoint runs nobody's code.
//!
//! ```text
//! out/step14_checkpoint/checkpoints/step_000400.safetensors
//! out/step14_checkpoint/checkpoints/step_000400.json         written last: without it there is no checkpoint
//! ```

use crate::{Log, log::Tally, ranks, ranks::differences, text::printable};
use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use safetensors::{SafeTensors, tensor::TensorView};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};
use tch::{Device, Kind, Tensor};

/// The version of the format.
const VERSION: u32 = 1;

/// How a run that was stopped goes on.
#[derive(Args, Clone, Debug)]
pub struct CheckpointFlags {
    /// Go on where the last run with the same flags was stopped
    #[arg(long)]
    resume: bool,

    /// Save every N steps [default: before each evaluation]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    save_interval: Option<u32>,

    /// How many checkpoints to keep, the newest ones
    #[arg(long, value_name = "N", default_value_t = 2)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    keep: u32,
}

/// The checkpoints of a run.
pub struct Checkpoints {
    flags: CheckpointFlags,
    folder: PathBuf,
    settings: String,
}

/// The file beside the tensors.
#[derive(Deserialize, Serialize)]
struct Saved<S> {
    version: u32,
    program: String,
    settings: String,
    bytes: u64,
    crc32: u32,
    /// For the log's next line.
    since_line: Tally,
    state: S,
}

impl Checkpoints {
    /// Those of a run with these settings, in its `--out`. Without `--resume` a new series begins, and that of
    /// the run before is kept beside it until the next time.
    ///
    /// # Errors
    /// If `--resume` finds none, or old ones cannot be moved.
    pub fn new(flags: &CheckpointFlags, log: &Log, settings: &str) -> Result<Self> {
        let folder = log.out().join("checkpoints");
        let checkpoints = Self { flags: flags.clone(), folder, settings: settings.into() };
        interrupted(); // from here on Ctrl-C waits for the next step
        if ranks::speaks() && !flags.resume {
            checkpoints.set_aside()?;
        }
        Ok(checkpoints)
    }

    /// Whether the run is to go on with the newest one.
    pub fn resume(&self) -> bool {
        self.flags.resume
    }

    /// Whether `--save-interval` wants one after this step.
    pub fn is_due(&self, step: usize) -> bool {
        self.flags.save_interval.is_some_and(|interval| step.is_multiple_of(interval as usize))
    }

    fn set_aside(&self) -> Result<()> {
        if self.steps()?.is_empty() {
            return Ok(());
        }
        let before = self.folder.with_extension("before");
        let moved = match fs::remove_dir_all(&before) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => fs::rename(&self.folder, &before),
        };
        moved.with_context(|| format!("cannot move {} out of the way", self.folder.display()))?;
        println!("the checkpoints of the run before are in {}", before.display());
        Ok(())
    }

    /// Writes a checkpoint, and then removes the oldest. Only rank 0 does.
    ///
    /// # Errors
    /// If it cannot be written, say since the disk is full. The one before is whole then.
    pub fn save(
        &self,
        step: usize,
        state: &impl Serialize,
        tensors: &[(String, Tensor)],
        log: &Log,
    ) -> Result<()> {
        if !ranks::speaks() {
            return Ok(());
        }
        let bytes = serialized(tensors)?;
        let saved = Saved {
            version: VERSION,
            program: program(),
            settings: self.settings.clone(),
            bytes: bytes.len() as u64,
            crc32: crc32fast::hash(&bytes),
            since_line: log.since_line(),
            state,
        };
        let json = serde_json::to_string_pretty(&saved)?;
        let write = || {
            // What stands here from an earlier try is no checkpoint while its tensors are replaced.
            remove(&self.json(step))?;
            files::write_atomically(&self.tensors(step), |file| Ok(file.write_all(&bytes)?))?;
            files::write_atomically(&self.json(step), |file| Ok(writeln!(file, "{json}")?))
        };
        write().with_context(|| self.way_out())?;
        self.remove_old(step)
    }

    fn way_out(&self) -> String {
        match self.steps() {
            Ok(steps) if !steps.is_empty() => format!(
                "the checkpoint after step {} is whole, and the same command with --resume goes on there",
                steps[0]
            ),
            _ => "there is no checkpoint yet".into(),
        }
    }

    fn remove_old(&self, newest: usize) -> Result<()> {
        let steps = self.steps()?.into_iter().filter(|step| *step <= newest);
        let kept: Vec<usize> = steps.take(self.flags.keep as usize).collect();
        // Tensors without JSON too, which a kill between the two has left.
        let old = self.steps_of("safetensors")?.into_iter().filter(|step| *step < newest);
        for step in old.filter(|step| !kept.contains(step)) {
            remove(&self.json(step))?;
            remove(&self.tensors(step))?;
        }
        Ok(())
    }

    /// Puts the newest checkpoint that is whole into `tensors`, lets `log` go on after its step, and returns its
    /// state. Says on stderr which newer ones are not whole.
    ///
    /// # Errors
    /// If there is none, if it is of another program or of other settings, or has other tensors.
    pub fn restore<S: DeserializeOwned>(
        &self,
        tensors: &[(String, Tensor)],
        log: &mut Log,
    ) -> Result<S> {
        let steps = self.steps()?;
        for step in &steps {
            match self.read(*step) {
                Ok((saved, bytes)) => {
                    self.expect_same(&saved)?;
                    copy_into(tensors, &bytes)
                        .with_context(|| self.json(*step).display().to_string())?;
                    println!("goes on after step {step}, from {}", self.tensors(*step).display());
                    log.resume(*step, saved.since_line)?;
                    return Ok(saved.state);
                }
                Err(error) => eprintln!("passed over: {}", printable(&format!("{error:#}"))),
            }
        }
        let folder = self.folder.display();
        ensure!(
            steps.is_empty(),
            "none of the checkpoints in {folder} is whole: start without --resume"
        );
        bail!(
            "there is no checkpoint in {folder}: start without --resume, or name the run's folder with --out"
        )
    }

    /// A checkpoint, if it is as it was written.
    fn read<S: DeserializeOwned>(&self, step: usize) -> Result<(Saved<S>, Vec<u8>)> {
        let path = self.json(step);
        let json = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let saved: Saved<S> = serde_json::from_slice(&json)
            .with_context(|| format!("{} is not as it was written", path.display()))?;
        let path = self.tensors(step);
        let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        ensure!(
            bytes.len() as u64 == saved.bytes && crc32fast::hash(&bytes) == saved.crc32,
            "{} is not as it was written",
            path.display()
        );
        Ok((saved, bytes))
    }

    fn expect_same<S>(&self, saved: &Saved<S>) -> Result<()> {
        let folder = self.folder.display();
        ensure!(
            (saved.version, &saved.program) == (VERSION, &program()),
            "the checkpoints in {folder} are of {} (format {}), and this is {} ({VERSION})",
            printable(&saved.program),
            saved.version,
            program()
        );
        let differences = differences(&saved.settings, &self.settings);
        ensure!(
            differences.is_empty(),
            "the run in {folder} cannot go on with {}; give the flags that it was started with",
            printable(&differences)
        );
        Ok(())
    }

    /// After which steps there are checkpoints, the newest first.
    fn steps(&self) -> Result<Vec<usize>> {
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

    fn tensors(&self, step: usize) -> PathBuf {
        self.folder.join(format!("step_{step:06}.safetensors"))
    }
}

/// The name of this program.
fn program() -> String {
    let path = std::env::current_exe().unwrap_or_default();
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
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

/// Writes a safetensors file's tensors into those of the same names, all or none.
fn copy_into(tensors: &[(String, Tensor)], bytes: &[u8]) -> Result<()> {
    let saved = SafeTensors::deserialize(bytes)?;
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

/// Whether somebody wants this program to end, by Ctrl-C or `kill`. From the first call on, that no longer
/// ends it at once; a second Ctrl-C does.
pub fn interrupted() -> bool {
    static ASKED: std::sync::OnceLock<Arc<AtomicBool>> = std::sync::OnceLock::new();
    let asked = ASKED.get_or_init(|| {
        use signal_hook::{consts, flag};
        let (asked, by_key) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        // Where one of these cannot be had, the program ends at once, as it would without it.
        let _ = flag::register_conditional_shutdown(consts::SIGINT, 130, by_key.clone());
        let _ = flag::register(consts::SIGINT, by_key);
        for signal in [consts::SIGINT, consts::SIGTERM] {
            let _ = flag::register(signal, asked.clone());
        }
        asked
    });
    asked.load(Ordering::Relaxed)
}
