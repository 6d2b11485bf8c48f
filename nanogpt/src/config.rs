//! What a training run is told: a TOML file, and flags over it, with nanoGPT's names.

use crate::{
    gpt::GptConfig,
    optim::{self, OptimizerKind},
    precision::Precision,
    schedule::{Decay, Schedule},
};
use anyhow::{Context, Result, anyhow, bail, ensure};
use serde::{Deserialize, Serialize};
use std::path::Path;
use toml::{Table, Value};

/// A longer file has no settings in it.
const MOST_BYTES: u64 = 1_000_000;

/// All knobs of a training run. Those above the empty line are nanoGPT's, with its defaults; a missing one has its
/// default.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainConfig {
    /// Where checkpoints, metrics and plots go.
    pub out_dir: String,
    /// Evaluate and save every so many steps.
    pub eval_interval: usize,
    /// Print a line every so many steps.
    pub log_interval: usize,
    /// How many batches of each split an evaluation reads.
    pub eval_iters: usize,
    /// Evaluate once, and stop.
    pub eval_only: bool,
    /// Let the best checkpoint be the newest, whatever its validation loss.
    pub always_save_checkpoint: bool,
    /// `scratch`; `resume`, or `auto`, which resumes where there is something to go on with; `gpt2` and its larger sisters, or the path of a checkpoint.
    pub init_from: String,
    /// Not available: `tensorboard` is.
    pub wandb_log: bool,
    pub wandb_project: String,
    pub wandb_run_name: String,
    /// The name of a folder in `data/`, or the path of one.
    pub dataset: String,
    /// Micro-batches in a step, of all ranks together.
    pub gradient_accumulation_steps: usize,
    /// Windows in a micro-batch.
    pub batch_size: i64,
    /// Tokens in a window.
    pub block_size: i64,
    pub n_layer: i64,
    pub n_head: i64,
    pub n_embd: i64,
    pub dropout: f64,
    pub bias: bool,
    pub learning_rate: f64,
    /// How many steps to take.
    pub max_iters: usize,
    pub weight_decay: f64,
    pub beta1: f64,
    pub beta2: f64,
    /// The norm that gradients are scaled down to; 0 leaves them as they are.
    pub grad_clip: f64,
    /// Whether the learning rate changes.
    pub decay_lr: bool,
    pub warmup_iters: usize,
    pub lr_decay_iters: usize,
    pub min_lr: f64,
    /// What ranks talk with: it follows from the device.
    pub backend: String,
    /// `auto`, `cpu`, `cuda`, `cuda:1`, `mps`.
    pub device: String,
    /// `auto`, `float32`, `tf32`, `bfloat16`, `float16`.
    pub dtype: String,
    /// There is no compiler here; the fused kernels are always used.
    pub compile: bool,

    /// Write the metrics for TensorBoard, too.
    pub tensorboard: bool,
    /// Draw the losses so far at each evaluation, on a terminal.
    pub curve: bool,
    /// Where all randomness starts.
    pub seed: i64,
    /// How many processor cores to use; 0 for all.
    pub threads: i32,
    /// Of the matrices inside the blocks: `adamw` or `muon`.
    pub optimizer: OptimizerKind,
    /// Muon's learning rate, as a multiple of `learning_rate`.
    pub muon_lr_scale: f64,
    pub muon_momentum: f64,
    /// Turn queries and keys by their places, instead of a table of positions.
    pub rope: bool,
    /// Let each token add a row for itself and the one before it; for vocabularies of at most 256 tokens.
    pub bigram: bool,
    /// How the learning rate falls: `cosine` or `linear`.
    pub decay: Decay,
    /// Save every so many steps, in addition to the save before each evaluation; 0 for not.
    pub save_interval: usize,
    /// How many checkpoints to keep beside the best.
    pub keep: usize,
    /// What to do if a checkpoint or a line of the metrics cannot be written: `stop`, or `go_on` until the next one.
    pub on_write_error: OnWriteError,
}

/// What becomes of a run that cannot write, say since the disk is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnWriteError {
    /// It ends, and its last checkpoint is whole.
    #[default]
    Stop,
    /// It says so and goes on, and tries again when the next checkpoint is due. The last one must be written.
    GoOn,
}

impl Default for TrainConfig {
    fn default() -> Self {
        Self {
            out_dir: "out".into(),
            eval_interval: 2000,
            log_interval: 1,
            eval_iters: 200,
            eval_only: false,
            always_save_checkpoint: true,
            init_from: "scratch".into(),
            wandb_log: false,
            wandb_project: "owt".into(),
            wandb_run_name: "gpt2".into(),
            dataset: "openwebtext".into(),
            gradient_accumulation_steps: 40,
            batch_size: 12,
            block_size: 1024,
            n_layer: 12,
            n_head: 12,
            n_embd: 768,
            dropout: 0.0,
            bias: false,
            learning_rate: 6e-4,
            max_iters: 600_000,
            weight_decay: 0.1,
            beta1: 0.9,
            beta2: 0.95,
            grad_clip: 1.0,
            decay_lr: true,
            warmup_iters: 2000,
            lr_decay_iters: 600_000,
            min_lr: 6e-5,
            backend: "auto".into(),
            device: "auto".into(),
            dtype: "auto".into(),
            compile: false,

            tensorboard: true,
            curve: false,
            seed: 1337,
            threads: 0,
            optimizer: OptimizerKind::AdamW,
            muon_lr_scale: 20.0,
            muon_momentum: 0.95,
            rope: false,
            bigram: false,
            decay: Decay::Cosine,
            save_interval: 0,
            keep: 2,
            on_write_error: OnWriteError::Stop,
        }
    }
}

impl TrainConfig {
    /// The knobs by name, in the order in which they stand above, each with its default.
    pub fn defaults() -> Vec<(String, Value)> {
        let table = Table::try_from(Self::default()).expect("all of it is TOML");
        table.into_iter().collect()
    }

    /// Reads a file and puts `(name, value)` pairs of a command line over it.
    ///
    /// # Errors
    /// One sentence: the file cannot be read or is no TOML, a name is unknown (and which one is near), or a value is of
    /// the wrong type or out of its range.
    pub fn load(path: Option<&Path>, overrides: &[(String, String)]) -> Result<Self> {
        let mut table = match path {
            Some(path) => {
                let text = files::read_at_most(path, MOST_BYTES)
                    .with_context(|| format!("cannot read {}", path.display()))?;
                let text = String::from_utf8_lossy(&text);
                let table = text.parse().map_err(|error: toml::de::Error| {
                    let before = error.span().and_then(|span| text.get(..span.start));
                    let line = 1 + before.unwrap_or_default().matches('\n').count();
                    anyhow!("line {line} is no TOML: {}", error.message())
                });
                table.and_then(checked).with_context(|| what_it_is(path))?
            }
            None => Table::new(),
        };
        for (name, text) in overrides {
            let value = read(name, text)?;
            table.insert(name.clone(), value);
        }
        let config: Self = table.try_into()?; // each has been tried by itself
        config.check()?;
        Ok(config)
    }

    /// Refuses what makes no sense.
    ///
    /// # Errors
    /// One sentence that names the setting.
    pub fn check(&self) -> Result<()> {
        let at_least_one = [
            ("eval_interval", self.eval_interval),
            ("log_interval", self.log_interval),
            ("eval_iters", self.eval_iters),
            ("gradient_accumulation_steps", self.gradient_accumulation_steps),
            ("keep", self.keep),
        ];
        for (name, value) in at_least_one {
            ensure!(value > 0, "{name} = 0: choose a number from 1 on");
        }
        // Beside it nothing else limits how many tokens a step has.
        let most = 1 << 24;
        ensure!(
            self.gradient_accumulation_steps <= most,
            "gradient_accumulation_steps = {}: from 1 to {most}",
            self.gradient_accumulation_steps
        );
        let names = [
            ("out_dir", &self.out_dir),
            ("dataset", &self.dataset),
            ("init_from", &self.init_from),
        ];
        for (name, value) in names {
            ensure!(!value.is_empty(), "{name} is empty: leave it out, or name something");
        }
        let not_negative = [
            ("learning_rate", self.learning_rate),
            ("weight_decay", self.weight_decay),
            ("grad_clip", self.grad_clip),
            ("min_lr", self.min_lr),
            ("muon_lr_scale", self.muon_lr_scale),
        ];
        for (name, value) in not_negative {
            ensure!(
                value >= 0.0 && value.is_finite(),
                "{name} = {value}: choose a number from 0 on"
            );
        }
        for (name, value) in
            [("beta1", self.beta1), ("beta2", self.beta2), ("muon_momentum", self.muon_momentum)]
        {
            ensure!((0.0..1.0).contains(&value), "{name} = {value}: from 0 to below 1");
        }
        let most = (1 << 28) / self.block_size.max(1); // tokens at once: what they take fits into 64 bits
        let batch_size = self.batch_size;
        ensure!((1..=most).contains(&batch_size), "batch_size = {batch_size}: from 1 to {most}");
        // Larger ones would draw what smaller ones do.
        let seeds = 0..1 << 23;
        ensure!(seeds.contains(&self.seed), "seed = {}: from 0 to {}", self.seed, seeds.end - 1);
        ensure!((0..=1024).contains(&self.threads), "threads = {}: from 0 to 1024", self.threads);
        Precision::named(&self.dtype).with_context(|| format!("dtype = {}", self.dtype))?;
        ensure!(
            !self.wandb_log,
            "wandb_log = true: there is no Weights & Biases here; metrics.csv in out_dir has all"
        );
        self.gpt(1).check()
    }

    /// The model of a vocabulary.
    pub fn gpt(&self, vocab_size: i64) -> GptConfig {
        let Self { block_size, n_layer, n_head, n_embd, dropout, bias, rope, bigram, .. } = *self;
        GptConfig { block_size, vocab_size, n_layer, n_head, n_embd, dropout, bias, rope, bigram }
    }

    /// The precision that `dtype` names; `None` where the device decides.
    pub fn precision(&self) -> Option<Precision> {
        Precision::named(&self.dtype).ok().flatten()
    }

    /// How the learning rate changes.
    pub fn schedule(&self) -> Schedule {
        let Self { learning_rate, decay_lr, warmup_iters, lr_decay_iters, min_lr, decay, .. } =
            *self;
        Schedule { learning_rate, decay_lr, warmup_iters, lr_decay_iters, min_lr, decay }
    }

    /// What the optimizer is told.
    pub fn hyper(&self) -> optim::Hyper {
        optim::Hyper {
            kind: self.optimizer,
            betas: (self.beta1, self.beta2),
            weight_decay: self.weight_decay,
            muon_lr_scale: self.muon_lr_scale,
            muon_momentum: self.muon_momentum,
        }
    }
}

/// A file in an error; one that may be a text to train on, which is no file of settings.
fn what_it_is(path: &Path) -> String {
    let shown = path.display();
    match path.extension().is_some_and(|extension| extension == "toml") {
        true => shown.to_string(),
        false => format!(
            "{shown} should hold settings (from a text, `nanogpt prepare {shown}` makes a data set)"
        ),
    }
}

/// A table whose names are known and whose values have the right types.
fn checked(table: Table) -> Result<Table> {
    let checked = table.into_iter().map(|(name, value)| {
        let fitted = fitted(&name, value)?;
        Ok((name, fitted))
    });
    checked.collect()
}

/// The value in a command line's text.
fn read(name: &str, text: &str) -> Result<Value> {
    let expected = default_of(name)?;
    if expected.is_str() {
        return fitted(name, Value::String(text.into()));
    }
    // nanoGPT's are Python's.
    let text = match text {
        "True" => "true",
        "False" => "false",
        text => text,
    };
    // .99 is no number in TOML, and 1e-3 one in both.
    let number = || text.parse().ok().filter(|_| expected.is_float()).map(Value::Float);
    let value = text.parse::<Value>().ok().or_else(number);
    let value = value.with_context(|| wrong(name, &expected, text))?;
    fitted(name, value)
}

/// The value of a knob, if it is of its type; a whole number may stand for any number.
fn fitted(name: &str, value: Value) -> Result<Value> {
    let expected = default_of(name)?;
    let value = match (&expected, value) {
        (Value::Float(_), Value::Integer(whole)) => Value::Float(whole as f64),
        // 6e5 is a whole number that TOML does not know as one.
        (Value::Integer(_), Value::Float(x)) if x.fract() == 0.0 && x.abs() < 9e15 => {
            Value::Integer(x as i64)
        }
        (_, value) if expected.same_type(&value) => value,
        (_, value) => bail!(wrong(name, &expected, &value.to_string())),
    };
    let alone = Table::from_iter([(name.to_string(), value.clone())]);
    match alone.try_into::<TrainConfig>() {
        Ok(_) => Ok(value),
        Err(_) if value.as_integer().is_some_and(|n| n < 0) => {
            bail!("{name} = {value}: choose a number from 0 on")
        }
        // Its second line names the setting once more.
        Err(error) => {
            bail!("{name} = {value}: {}", error.message().lines().next().unwrap_or_default())
        }
    }
}

fn wrong(name: &str, expected: &Value, text: &str) -> String {
    let kind = match expected {
        Value::Boolean(_) => "true or false",
        Value::Integer(_) => "a whole number",
        Value::Float(_) => "a number",
        _ => "a text in quotes",
    };
    format!("{name} = {text}: it takes {kind}, such as {expected}")
}

fn default_of(name: &str) -> Result<Value> {
    let defaults = TrainConfig::defaults();
    if let Some((_, value)) = defaults.iter().find(|(known, _)| known == name) {
        return Ok(value.clone());
    }
    match nearest(name, defaults.into_iter().map(|(known, _)| known)) {
        Some(near) => bail!("there is no {name}; did you mean {near}?"),
        None => bail!("there is no {name}; `nanogpt train --help` lists what there is"),
    }
}

/// The name that a misspelt one may have meant, as clap finds it; `None` where none is near.
pub fn nearest(name: &str, known: impl IntoIterator<Item = String>) -> Option<String> {
    let near = known.into_iter().map(|known| (strsim::jaro(&known, name), known));
    let (_, nearest) =
        near.filter(|(nearness, _)| *nearness > 0.7).max_by(|a, b| a.0.total_cmp(&b.0))?;
    Some(nearest)
}

/// A word of a command as a shell takes it.
pub fn quoted(word: &str) -> String {
    match word.chars().all(|c| c.is_alphanumeric() || "_-./:=,@%+".contains(c)) {
        true => word.into(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn loaded(text: &str, overrides: &[(&str, &str)]) -> Result<TrainConfig> {
        let mut file = tempfile::NamedTempFile::new()?;
        file.write_all(text.as_bytes())?;
        let overrides: Vec<(String, String)> =
            overrides.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        TrainConfig::load(Some(file.path()), &overrides)
    }

    fn refused(text: &str, overrides: &[(&str, &str)]) -> String {
        format!("{:#}", loaded(text, overrides).unwrap_err())
    }

    #[test]
    fn flags_go_over_the_file_and_the_file_over_the_defaults() {
        let config = loaded(
            "n_layer = 4\ndropout = 0\nmax_iters = 6e2\noptimizer = 'muon'",
            &[("n_layer", "2"), ("learning_rate", "1e-3"), ("bias", "True"), ("out_dir", "7")],
        );
        let expected = TrainConfig {
            n_layer: 2,
            dropout: 0.0,
            max_iters: 600,
            optimizer: OptimizerKind::Muon,
            learning_rate: 1e-3,
            bias: true,
            out_dir: "7".into(),
            ..TrainConfig::default()
        };
        assert_eq!(config.unwrap(), expected);
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert!(refused("batchsize = 3", &[]).contains("did you mean batch_size?"));
        assert!(!refused("", &[("optimizer", "sgd")]).contains('\n'));
        assert!(refused("", &[("dataset", "")]).contains("dataset is empty"));
        assert!(refused("gradient_accumulation_steps = 9e14", &[]).contains("from 1 to 16777216"));
        assert_eq!(loaded("", &[("beta2", ".99")]).unwrap().beta2, 0.99);
        assert!(refused("qqq = 3", &[]).contains("there is no qqq; `nanogpt train --help`"));
        assert!(refused("", &[("n-layer", "3")]).contains("did you mean n_layer?"));
        assert!(refused("n_layer = 'four'", &[]).contains("a whole number"));
        assert!(refused("", &[("bias", "yes")]).contains("true or false"));
        assert!(refused("", &[("n_layer", "1.5")]).contains("a whole number"));
        assert!(refused("", &[("max_iters", "-1")]).contains("max_iters = -1: choose a number"));
        assert!(refused("n_head = 5", &[]).contains("n_head = 5"));
        assert!(
            refused("optimizer = 'sgd'", &[]).contains("sgd\": unknown variant `sgd`, expected")
        );
        assert!(refused("beta2 = 1.0", &[]).contains("beta2"));
        assert!(refused("learning_rate = nan", &[]).contains("learning_rate"));
        assert!(refused("n_layer = 2\ndropout = 0,1\n", &[]).contains("line 2 is no TOML"));
        assert!(refused("a = [", &[]).contains("line 1 is no TOML"));
    }

    #[test]
    fn the_knobs_stand_in_their_order() {
        let names: Vec<String> =
            TrainConfig::defaults().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names[..3], ["out_dir", "eval_interval", "log_interval"]);
        let at = |name: &str| names.iter().position(|known| known == name).unwrap();
        assert_eq!(at("tensorboard"), at("compile") + 1); // nanoGPT's, then ours
        assert_eq!(names.last().unwrap(), "on_write_error");
    }

    #[test]
    fn a_shell_takes_a_word_as_one() {
        assert_eq!(quoted("data/Füchse_1.txt"), "data/Füchse_1.txt");
        assert_eq!(quoted("it's all"), r"'it'\''s all'");
    }

    #[test]
    fn the_defaults_are_nanogpts() {
        // Read off nanoGPT's train.py (which says 123.59M), but for device, dtype, backend and compile, which this machine decides.
        let config = TrainConfig::default();
        assert_eq!((config.eval_interval, config.eval_iters, config.batch_size), (2000, 200, 12));
        assert_eq!((config.warmup_iters, config.lr_decay_iters), (2000, 600_000));
        assert_eq!(config.gpt(50_304).n_params(true), 123_587_328);
    }
}
