//! The loop: nanoGPT's train.py, with ranks, and with checkpoints from which a run goes on exactly.

use crate::{
    checkpoint::{Run, Saved, sizes_of},
    config::{OnWriteError, TrainConfig},
    data::{Batches, Dataset},
    gpt::{Gpt, GptConfig},
    metrics::{Metrics, Row, said},
    optim::Optimizer,
    precision::{GradScaler, Precision},
    source,
};
use anyhow::{Context, Result, bail, ensure};
use lab::{Reducer, World, grouped, printable};
use std::{
    env, fs,
    io::{self, ErrorKind, Write},
    path::Path,
    time::Instant,
};
use tch::{Device, Tensor};
use tch_ext::random;

/// How a training ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Report {
    /// Steps taken, those before a resume included.
    pub step: usize,
    /// Of the last evaluation, in nats a token.
    pub train_loss: f64,
    pub val_loss: f64,
    /// The lowest of all evaluations.
    pub best_val_loss: f64,
}

/// Trains a model as `config` says, on all ranks of `world`, and leaves what [`crate::checkpoint`] shows in `out_dir`.
///
/// # Errors
/// One sentence: settings that do not fit each other, the data or the checkpoint; a loss that is no longer a number;
/// a full disk, unless the settings say to go on; Ctrl-C. Checkpoints that were written before are whole.
pub fn train(config: &TrainConfig, world: &World, device: Device) -> Result<Report> {
    Trainer::new(config, world, device)?.run()
}

struct Trainer<'a> {
    config: &'a TrainConfig,
    world: &'a World,
    device: Device,
    run: Run,
    model: Gpt,
    optimizer: Optimizer,
    reducer: Reducer,
    scaler: GradScaler,
    train: Batches,
    /// What an evaluation reads of each split.
    exams: [Batches; 2],
    metrics: Option<Metrics>,
    step: usize,
    best_val_loss: Option<f64>,
}

impl<'a> Trainer<'a> {
    fn new(config: &'a TrainConfig, world: &'a World, device: Device) -> Result<Self> {
        ensure!(
            config.gradient_accumulation_steps as i64 % world.size == 0,
            "gradient_accumulation_steps = {}: {} ranks cannot share that out evenly; choose a multiple of {1}",
            config.gradient_accumulation_steps,
            world.size
        );
        world.agree(&format!("{config:?}"))?;
        let out = Path::new(&config.out_dir);
        let dataset = Dataset::open(&config.dataset)?;
        let run = Run::new(out, config.keep);
        tch::manual_seed(config.seed + world.rank); // each rank drops out other numbers
        let sizes = world.share(|| sizes_to_begin_with(config, &run, &dataset))?;
        let model = first_model(config, &sizes, &dataset, device)?;
        let named = model.named_parameters();
        let parameters: Vec<Tensor> = named.iter().map(|(_, p)| p.shallow_clone()).collect();
        let (b, t, seed) = (config.batch_size, config.block_size, config.seed as u64);
        let batches = |shards: &lab::Shards, seed| Batches::new(shards.clone(), seed, b, t, device);
        let mut trainer = Self {
            config,
            world,
            device,
            optimizer: Optimizer::new(&named, &config.hyper(), model.precision),
            reducer: world.reducer(&parameters)?,
            scaler: GradScaler::new(model.precision),
            train: batches(&dataset.train, seed)?,
            exams: [batches(&dataset.train, seed + 1)?, batches(&dataset.val, seed + 2)?],
            metrics: None,
            step: 0,
            best_val_loss: None,
            run,
            model,
        };
        world.broadcast(&parameters)?; // all begin with rank 0's
        if world.share(|| goes_on(config, &trainer.run))? {
            trainer.resume()?;
        }
        trainer.open_folder(out, &dataset)?;
        trainer.say_what_begins(&dataset)?;
        Ok(trainer)
    }

    fn open_folder(&mut self, out: &Path, dataset: &Dataset) -> Result<()> {
        lab::interrupted(); // from here on Ctrl-C waits for the end of a step
        if self.config.eval_only || !lab::speaks() {
            return Ok(());
        }
        fs::create_dir_all(out)
            .with_context(|| format!("cannot make the folder {}", out.display()))?;
        if self.step == 0 {
            for series in [&self.run.newest, &self.run.best] {
                ensure!(
                    series.steps()?.is_empty(),
                    "{} has the checkpoints of another run: go on with it by --init_from resume, or choose \
                     another folder with --out_dir",
                    out.display()
                );
            }
        }
        let toml = toml::to_string(self.config)?;
        files::write_atomically(&out.join("config.toml"), |file| {
            Ok(file.write_all(toml.as_bytes())?)
        })?;
        self.run.keep_vocabulary(&dataset.tokenizer)?;
        let tokens = self.tokens_per_step();
        self.metrics = Some(Metrics::new(out, self.step, tokens, self.config.tensorboard)?);
        Ok(())
    }

    fn say_what_begins(&self, dataset: &Dataset) -> Result<()> {
        let config = &self.config;
        let tokens = self.tokens_per_step();
        self.say(&format!("{:?}", self.model.config))?;
        self.say(&format!(
            "{} parameters, {:?}, {:?}, {} ranks",
            grouped(self.model.config.n_params(false)),
            self.device,
            self.model.precision,
            self.world.size
        ))?;
        self.say(&format!(
            "{}: {} tokens to train on, {} a step, {:.2} epochs in {} steps",
            config.dataset,
            grouped(dataset.train.total()),
            grouped(tokens),
            tokens as f64 * config.max_iters as f64 / dataset.train.total() as f64,
            grouped(config.max_iters as i64)
        ))
    }

    /// Of all ranks together.
    fn tokens_per_step(&self) -> i64 {
        let config = &self.config;
        config.gradient_accumulation_steps as i64 * config.batch_size * config.block_size
    }

    fn run(mut self) -> Result<Report> {
        let config = self.config;
        let start = Instant::now();
        let first = self.step;
        let mut report = None;
        loop {
            let is_last = self.step >= config.max_iters || config.eval_only;
            if is_last || self.step.is_multiple_of(config.eval_interval) {
                if self.step > first {
                    let saved = self.save(); // before an evaluation, which may run out of memory
                    if is_last { saved? } else { self.bear(saved)? }
                }
                report = Some(self.evaluate(is_last)?);
            }
            if let (true, Some(report)) = (is_last, report) {
                return Ok(report);
            }
            self.take_step(start, first)?;
            let is_interrupted = self.world.any(lab::interrupted())?;
            if is_interrupted {
                self.save()?;
                bail!(
                    "stopped after step {}; the same command with --init_from resume goes on",
                    self.step
                );
            }
            if self.is_saving_due() {
                let saved = self.save();
                self.bear(saved)?;
            }
        }
    }

    /// Says what could not be written, where the settings let the run go on without it. A reader that has left is told
    /// no more.
    fn bear(&self, written: Result<()>) -> Result<()> {
        let Err(error) = written else { return Ok(()) };
        let cause = error.downcast_ref::<io::Error>().map(io::Error::kind);
        if self.config.on_write_error == OnWriteError::Stop || cause == Some(ErrorKind::BrokenPipe)
        {
            return Err(error);
        }
        // Where that cannot be written either, nobody hears of it.
        let said = printable(&format!("{error:#}"));
        let _ = writeln!(io::stderr(), "{said}; the run goes on");
        Ok(())
    }

    fn say(&self, line: &str) -> Result<()> {
        self.bear(writeln!(io::stdout(), "{line}").context("failed printing to stdout"))
    }

    /// Whether `save_interval` wants a checkpoint now, and no evaluation will write one.
    fn is_saving_due(&self) -> bool {
        let config = self.config;
        let is_due = config.save_interval > 0 && self.step.is_multiple_of(config.save_interval);
        is_due && !self.step.is_multiple_of(config.eval_interval) && self.step < config.max_iters
    }

    fn take_step(&mut self, start: Instant, first: usize) -> Result<()> {
        let config = self.config;
        let begun = Instant::now();
        let lr = config.schedule().lr(self.step);
        let loss = self.accumulate_grads()?;
        self.scaler.unscale(self.optimizer.parameters());
        let grad_norm = self.optimizer.clip_grad_norm(config.grad_clip);
        match self.scaler.accepts(grad_norm, self.model.precision) {
            true => self.optimizer.step(lr)?,
            false => self.optimizer.clear_grads()?,
        }
        self.step += 1;
        let loss = self.world.mean(loss)?;
        ensure!(
            loss.is_finite(),
            "step {}: the loss is {loss}, so the run ends here. The usual causes: a learning rate that is too high, \
             no clipping of the gradient, or weights that were not finite to begin with",
            self.step
        );
        if !self.step.is_multiple_of(config.log_interval) {
            return Ok(());
        }
        let seconds = begun.elapsed().as_secs_f64();
        let tokens_per_second = self.tokens_per_step() as f64 / seconds;
        let taken = (self.step - first) as f64;
        let left = start.elapsed().mul_f64((config.max_iters - self.step) as f64 / taken);
        self.say(&format!(
            "step {:>6} | loss {loss:.4} | lr {lr:.2e} | norm {grad_norm:.3} | {:.1} ms | {} tok/s | {} left",
            self.step,
            seconds * 1e3,
            grouped(tokens_per_second as i64),
            said(left)
        ))?;
        self.push(&Row {
            step: self.step,
            loss: Some(loss),
            lr: Some(lr),
            grad_norm: Some(grad_norm),
            ms: Some(seconds * 1e3),
            tokens_per_second: Some(tokens_per_second),
            ..Row::default()
        })
    }

    /// Leaves the gradient of the mean loss over all ranks' micro-batches in the parameters. Returns this rank's loss.
    fn accumulate_grads(&mut self) -> Result<f64> {
        let (rank, ranks) = (self.world.rank as u64, self.world.size as u64);
        let all = self.config.gradient_accumulation_steps as u64;
        let mine = all / ranks;
        let first = self.step as u64 * all + rank; // so that n ranks read what one would
        let mut losses = Vec::new();
        for i in 0..mine {
            let number = first + i * ranks;
            let next = if i + 1 < mine { number + ranks } else { first + all };
            let (x, y) = self.train.get(number, next)?;
            let loss = self.model.loss(&x, &y, true) / mine as f64;
            if i + 1 == mine {
                self.reducer.average_next_backward();
            }
            self.scaler.scaled(&loss).backward();
            losses.push(loss.detach());
        }
        Ok(Tensor::stack(&losses, 0).sum(tch::Kind::Float).double_value(&[]))
    }

    /// Mean losses of `eval_iters` batches of each split, always the same ones, shared out among the ranks. A model that
    /// is the best so far is saved; the run's last must be.
    fn evaluate(&mut self, is_last: bool) -> Result<Report> {
        let _guard = tch::no_grad_guard();
        let (rank, ranks) = (self.world.rank as u64, self.world.size as u64);
        let mut means = [0.0; 2];
        for (mean, batches) in means.iter_mut().zip(&mut self.exams) {
            let mut losses = Vec::new();
            for number in (rank..self.config.eval_iters as u64).step_by(ranks as usize) {
                let (x, y) = batches.get(number, number + ranks)?;
                losses.push(self.model.loss(&x, &y, false).double_value(&[]));
            }
            let losses = self.world.gather(&losses)?;
            *mean = losses.iter().sum::<f64>() / losses.len() as f64;
        }
        let [train_loss, val_loss] = means;
        self.say(&format!("step {:>6} | train {train_loss:.4} | val {val_loss:.4}", self.step))?;
        ensure!(val_loss.is_finite(), "step {}: the validation loss is {val_loss}", self.step);
        let row = Row { step: self.step, ..Row::default() };
        self.push(&Row { train_loss: Some(train_loss), val_loss: Some(val_loss), ..row })?;
        if let (true, Some(metrics)) = (self.config.curve, &self.metrics) {
            metrics.draw();
        }
        let is_best = self.best_val_loss.is_none_or(|best| val_loss < best);
        if is_best {
            self.best_val_loss = Some(val_loss);
        }
        if self.step > 0
            && !self.config.eval_only
            && (is_best || self.config.always_save_checkpoint)
        {
            let saved = self.save_best();
            if is_last { saved? } else { self.bear(saved)? }
        }
        let best_val_loss = self.best_val_loss.unwrap_or(val_loss);
        Ok(Report { step: self.step, train_loss, val_loss, best_val_loss })
    }

    fn push(&mut self, row: &Row) -> Result<()> {
        let pushed = self.metrics.as_mut().map_or(Ok(()), |metrics| metrics.push(row));
        self.bear(pushed)
    }

    fn saved(&self) -> Saved {
        let saved = Saved::new(&self.model.config, self.step, self.best_val_loss);
        let (optimizer_steps, scaler) = (self.optimizer.steps(), Some(self.scaler));
        Saved { optimizer_steps, scaler, launch: launch(), ..saved }
    }

    /// Everything that the next step depends on, by name. Only the random numbers' state, (ranks, bytes), is a copy.
    fn tensors(&self) -> Result<Vec<(String, Tensor)>> {
        let mut tensors = self.model.named_parameters();
        tensors.extend(self.optimizer.state());
        let random = self.world.all_gather(&random::state(self.device)?)?;
        tensors.push(("random".into(), random));
        Ok(tensors)
    }

    fn save(&self) -> Result<()> {
        let tensors = self.tensors()?; // all ranks have a part in it
        if !lab::speaks() {
            return Ok(());
        }
        let saved = self.run.newest.save(self.step, &self.saved(), &tensors);
        saved.with_context(|| format!("step {} could not be saved; {}", self.step, self.way_out()))
    }

    fn way_out(&self) -> String {
        match self.run.newest.steps().unwrap_or_default().first() {
            Some(step) => format!(
                "the checkpoint after step {step} is whole, and --init_from resume goes on there"
            ),
            None => "there is no checkpoint yet".into(),
        }
    }

    fn save_best(&self) -> Result<()> {
        if !lab::speaks() {
            return Ok(());
        }
        let parameters = self.model.named_parameters();
        self.run
            .best
            .save(self.step, &self.saved(), &parameters)
            .context("the best model could not be saved")
    }

    /// Puts back what the newest checkpoint holds, on all ranks what rank 0 reads.
    fn resume(&mut self) -> Result<()> {
        let tensors = self.tensors()?;
        let saved = self.world.share(|| {
            let checkpoint = newest(&self.run, self.config)?;
            let (there, here) = (&checkpoint.content.model, &self.model.config);
            ensure!(
                there == here,
                "the run in {} has another model, with {}: go on with its settings, or choose another folder with \
                 --out_dir",
                self.config.out_dir,
                lab::differences(&format!("{here:?}"), &format!("{there:?}"))
            );
            checkpoint.copy_into(&tensors).with_context(|| {
                format!(
                    "{} (a run goes on with the optimizer and the number of ranks that it had)",
                    self.run.newest.tensors(checkpoint.step).display()
                )
            })?;
            Ok(checkpoint.content)
        })?;
        let tensors: Vec<Tensor> = tensors.into_iter().map(|(_, tensor)| tensor).collect();
        self.world.broadcast(&tensors)?;
        let random = tensors.last().expect("the random numbers' state").get(self.world.rank);
        random::set_state(self.device, &random)?;
        self.optimizer.set_steps(saved.optimizer_steps);
        self.scaler = saved.scaler.unwrap_or(self.scaler);
        (self.step, self.best_val_loss) = (saved.step, saved.best_val_loss);
        self.say(&format!("goes on after step {}", self.step))
    }
}

/// Whether a run is one that was stopped, by the checkpoints that this rank sees.
fn goes_on(config: &TrainConfig, run: &Run) -> Result<bool> {
    match config.init_from.as_str() {
        "resume" => Ok(true),
        "auto" => Ok(!run.newest.steps()?.is_empty()),
        _ => is_restarted(run),
    }
}

/// Whether torchrun has started its ranks anew, as it does with the same flags when one has died, and the checkpoints are
/// those of its launch: what it was refused to begin the first time it is not to go on with the second.
fn is_restarted(run: &Run) -> Result<bool> {
    let restarts: usize = variable("TORCHELASTIC_RESTART_COUNT").parse().unwrap_or(0);
    let (true, Some(launch)) = (restarts > 0, launch()) else { return Ok(false) };
    let newest = run.newest.newest::<Saved>()?;
    Ok(newest.is_some_and(|newest| newest.content.launch == Some(launch)))
}

/// What torchrun calls its launch; `None` without torchrun. Its folder of logs is one launch's alone, the name that the
/// user gives with `--rdzv-id` need not be.
fn launch() -> Option<String> {
    let log = variable("TORCHELASTIC_ERROR_FILE");
    let folder = log.split_once("/attempt_").map(|(folder, _)| folder.to_string());
    folder.or(Some(variable("TORCHELASTIC_RUN_ID"))).filter(|launch| !launch.is_empty())
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_default()
}

/// The checkpoint with which a run goes on.
fn newest(run: &Run, config: &TrainConfig) -> Result<lab::Checkpoint<Saved>> {
    run.newest.newest()?.with_context(|| {
        format!(
            "init_from = resume: there is no checkpoint in {}; begin with --init_from scratch",
            config.out_dir
        )
    })
}

/// The sizes that the settings say; of a run that goes on with the settings of its beginning, those of its checkpoint:
/// one that began with somebody's model has that model's, which its settings need not name.
fn sizes_to_begin_with(config: &TrainConfig, run: &Run, dataset: &Dataset) -> Result<GptConfig> {
    let said = config.gpt(dataset.vocab_size());
    let settings = Path::new(&config.out_dir).join("config.toml");
    if !["resume", "auto"].contains(&config.init_from.as_str()) || !settings.is_file() {
        return Ok(said);
    }
    let first = TrainConfig::load(Some(&settings), &[])?;
    let newest = run.newest.newest::<Saved>()?;
    Ok(match newest.filter(|_| first.gpt(dataset.vocab_size()) == said) {
        Some(checkpoint) => sizes_of(&checkpoint)?.clone(),
        None => said,
    })
}

/// The model to begin with. One that goes on gets its weights later.
fn first_model(
    config: &TrainConfig,
    sizes: &GptConfig,
    dataset: &Dataset,
    device: Device,
) -> Result<Gpt> {
    let mut model = match config.init_from.as_str() {
        "scratch" | "resume" | "auto" => Gpt::new(sizes, device)?,
        from => {
            let (mut model, tokenizer) = source::open(from, device)?;
            source::expect_same(from, &tokenizer, dataset)?;
            model.set_dropout(config.dropout);
            match config.block_size < model.config.block_size {
                true => model.crop_block_size(config.block_size)?,
                false => model,
            }
        }
    };
    ensure!(
        config.block_size <= model.config.block_size,
        "block_size = {}: {} sees {} tokens",
        config.block_size,
        config.init_from,
        model.config.block_size
    );
    model.precision = Precision::choose(config.precision(), model.config.n_embd, device)?;
    Ok(model)
}
