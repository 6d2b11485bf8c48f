//! The loop: nanoGPT's train.py, with ranks, and with checkpoints from which a run goes on exactly.

use crate::{
    begin::{expect_own_vocabulary, first_model, goes_on, launch, newest, sizes_to_begin_with},
    checkpoint::{Run, Saved, expect_finite},
    config::{OnWriteError, TrainConfig},
    data::{Batches, Dataset},
    gpt::Gpt,
    metrics::{Metrics, Row, said},
    optim::Optimizer,
    precision::{GradScaler, Precision},
};
use anyhow::{Context, Error, Result, anyhow, bail, ensure};
use lab::{Reducer, World, grouped, printable};
use std::{
    fs::{self, File, TryLockError},
    io::{self, ErrorKind, Write},
    path::Path,
    thread,
    time::{Duration, Instant},
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
    eval_batches: [Batches; 2],
    metrics: Option<Metrics>,
    /// Keeps other runs out of `out_dir` for as long as this one is there.
    lock: Option<File>,
    step: usize,
    /// How many micro-batches all ranks together have trained on.
    micro_batches: u64,
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
        world.share(|| Dataset::open(&config.dataset).map(drop))?; // one tells the fables
        let dataset = Dataset::open(&config.dataset)?;
        let run = Run::new(out, config.keep);
        tch::manual_seed(config.seed + world.rank); // each rank drops out other numbers
        world.share(|| expect_own_vocabulary(config, &run, &dataset))?;
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
            eval_batches: [batches(&dataset.train, seed + 1)?, batches(&dataset.val, seed + 2)?],
            metrics: None,
            lock: None,
            step: 0,
            micro_batches: 0,
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
        self.lock = lock(out)?;
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
        if self.step == 0 {
            self.run.keep_vocabulary(&dataset.tokenizer)?;
        }
        self.metrics = Some(Metrics::new(out, self.step, self.config.tensorboard)?);
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
                    self.save(is_last)?; // before an evaluation, which may run out of memory
                }
                report = Some(self.evaluate(is_last)?);
            }
            if let (true, Some(report)) = (is_last, report) {
                return Ok(report);
            }
            self.take_step(start, first)?;
            let is_interrupted = self.world.any(lab::interrupted())?;
            if is_interrupted || self.is_saving_due() {
                self.save(is_interrupted)?;
            }
            if is_interrupted {
                return Err(self.stopped());
            }
        }
    }

    fn stopped(&self) -> Error {
        match self.config.eval_only || self.step == 0 {
            true => anyhow!("stopped before anything was done"),
            false => anyhow!(
                "stopped after step {}; the same command with --init_from resume goes on",
                self.step
            ),
        }
    }

    /// Says what could not be written, where the settings let the run go on without it. A reader that has left is told
    /// no more.
    fn or_go_on(&self, written: Result<()>) -> Result<()> {
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
        self.or_go_on(writeln!(io::stdout(), "{line}").context("failed printing to stdout"))
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
        let loss = self.world.mean(loss)?;
        self.scaler.unscale(self.optimizer.parameters());
        let grad_norm = self.optimizer.clip_grad_norm(config.grad_clip);
        let is_accepted = self.scaler.accepts(grad_norm, self.model.precision);
        // Where float16 has made a gradient too large, the step is left out.
        let norm = if is_accepted { grad_norm } else { 0.0 };
        for (what, number) in [("loss", loss), ("norm of the gradient", norm)] {
            ensure!(
                number.is_finite(),
                "step {}: the {what} is {number}, so the run ends here. The usual causes: a learning rate that is too \
                 high, no clipping of the gradient, or weights that were not finite to begin with",
                self.step + 1
            );
        }
        match is_accepted {
            true => self.optimizer.step(lr)?,
            false => self.optimizer.clear_grads()?,
        }
        self.step += 1;
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
            loss: Some(loss),
            lr: Some(lr),
            grad_norm: Some(grad_norm),
            ms: Some(seconds * 1e3),
            tokens_per_second: Some(tokens_per_second),
            ..self.row()
        })
    }

    /// Leaves the gradient of the mean loss over all ranks' micro-batches in the parameters. Returns this rank's loss.
    fn accumulate_grads(&mut self) -> Result<f64> {
        let (rank, ranks) = (self.world.rank as u64, self.world.size as u64);
        let all = self.config.gradient_accumulation_steps as u64;
        let mine = all / ranks;
        let first = self.micro_batches + rank; // so that n ranks read what one would
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
        self.micro_batches += all;
        Ok(Tensor::stack(&losses, 0).sum(tch::Kind::Float).double_value(&[]))
    }

    /// Mean losses of `eval_iters` batches of each split, always the same ones, shared out among the ranks. A model that
    /// is the best so far is saved; the run's last must be.
    fn evaluate(&mut self, is_last: bool) -> Result<Report> {
        let _guard = tch::no_grad_guard();
        let (rank, ranks) = (self.world.rank as u64, self.world.size as u64);
        let mut means = [0.0; 2];
        for (mean, batches) in means.iter_mut().zip(&mut self.eval_batches) {
            let mut losses = Vec::new();
            for number in (rank..self.config.eval_iters as u64).step_by(ranks as usize) {
                if lab::interrupted() {
                    break; // the others come to their ends
                }
                let (x, y) = batches.get(number, number + ranks)?;
                losses.push(self.model.loss(&x, &y, false).double_value(&[]));
            }
            if self.world.any(lab::interrupted())? {
                return Err(self.stopped());
            }
            let losses = self.world.gather(&losses)?;
            *mean = losses.iter().sum::<f64>() / losses.len() as f64;
        }
        let [train_loss, val_loss] = means;
        self.say(&format!("step {:>6} | train {train_loss:.4} | val {val_loss:.4}", self.step))?;
        ensure!(
            val_loss.is_finite(),
            "step {}: the validation loss is {val_loss}, so these weights are of no use; to go on from an earlier \
             checkpoint, if there is one, remove {}",
            self.step,
            self.run.newest.tensors(self.step).display()
        );
        let (train, val) = (Some(train_loss), Some(val_loss));
        self.push(&Row { train_loss: train, val_loss: val, ..self.row() })?;
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
            self.or_go_on_unless(is_last, self.save_best())?;
        }
        let best_val_loss = self.best_val_loss.unwrap_or(val_loss);
        Ok(Report { step: self.step, train_loss, val_loss, best_val_loss })
    }

    /// How far the run has come.
    fn row(&self) -> Row {
        let tokens = self.micro_batches as i64 * self.config.batch_size * self.config.block_size;
        Row { step: self.step, tokens: Some(tokens as f64), ..Row::default() }
    }

    fn push(&mut self, row: &Row) -> Result<()> {
        let pushed = self.metrics.as_mut().map_or(Ok(()), |metrics| metrics.push(row));
        self.or_go_on(pushed)
    }

    fn saved(&self) -> Saved {
        let is_scaled = self.model.precision == Precision::Float16;
        Saved {
            optimizer_steps: self.optimizer.steps(),
            micro_batches: Some(self.micro_batches),
            scaler: is_scaled.then_some(self.scaler),
            launch: launch(),
            ..Saved::new(&self.model.config, self.step, self.best_val_loss)
        }
    }

    /// Everything that the next step depends on, by name. Only the random numbers' state, (ranks, bytes), is a copy.
    fn tensors(&self) -> Result<Vec<(String, Tensor)>> {
        let mut tensors = self.model.named_parameters();
        tensors.extend(self.optimizer.state());
        let random = self.world.all_gather(&random::state(self.device)?)?;
        tensors.push(("random".into(), random));
        Ok(tensors)
    }

    /// Where it must be, it is an error if there is no room, whatever the settings say.
    fn save(&self, must_be: bool) -> Result<()> {
        let tensors = self.tensors()?; // all ranks have a part in it
        if !lab::speaks() {
            return Ok(());
        }
        let context = || format!("step {} could not be saved; {}", self.step, self.way_out());
        expect_finite(&self.model.named_parameters()).with_context(context)?;
        let saved = self.run.newest.save(self.step, &self.saved(), &tensors);
        self.or_go_on_unless(must_be, saved.with_context(context))
    }

    fn or_go_on_unless(&self, must_be: bool, written: Result<()>) -> Result<()> {
        if must_be { written } else { self.or_go_on(written) }
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
        let mut tensors = self.tensors()?;
        let (saved, goes_on_exactly) = self.world.share(|| {
            let checkpoint = newest(&self.run, self.config)?;
            // With another number of ranks, or on another device, there are other random numbers to go on with.
            let random = tensors.last().expect("the random numbers' state").1.size();
            let goes_on_exactly = checkpoint.shape("random") == Some(&random);
            let tensors = &tensors[..tensors.len() - usize::from(!goes_on_exactly)];
            let (there, here) = (&checkpoint.content.model, &self.model.config);
            ensure!(
                there == here,
                "the run in {} has another model, with {}: go on with its settings, or choose another folder with \
                 --out_dir",
                self.config.out_dir,
                lab::differences(&format!("{here:?}"), &format!("{there:?}"))
            );
            let path = self.run.newest.tensors(checkpoint.step);
            checkpoint.copy_into(tensors).with_context(|| {
                format!("{} (a run goes on with the optimizer that it had)", path.display())
            })?;
            expect_finite(tensors).with_context(|| path.display().to_string())?;
            Ok((checkpoint.content, goes_on_exactly))
        })?;
        let (_, random) = tensors.pop().expect("the random numbers' state");
        let mut tensors: Vec<Tensor> = tensors.into_iter().map(|(_, tensor)| tensor).collect();
        if goes_on_exactly {
            tensors.push(random.shallow_clone());
        }
        self.world.broadcast(&tensors)?;
        match goes_on_exactly {
            true => random::set_state(self.device, &random.get(self.world.rank))?,
            false => tch::manual_seed(self.config.seed + self.world.rank + saved.step as i64),
        }
        self.optimizer.set_steps(saved.optimizer_steps);
        if self.model.precision == Precision::Float16 {
            self.scaler = saved.scaler.unwrap_or(self.scaler);
        }
        let before = self.config.gradient_accumulation_steps * saved.step;
        self.micro_batches = saved.micro_batches.unwrap_or(before as u64);
        (self.step, self.best_val_loss) = (saved.step, saved.best_val_loss);
        let otherwise = match goes_on_exactly {
            true => "",
            false => ", on other ranks or another device than before: its last bits will differ",
        };
        self.say(&format!("goes on after step {}{otherwise}", self.step))
    }
}

/// Locks a run's folder, where the system can lock a folder. A run that was killed a moment ago may not be gone yet.
///
/// # Errors
/// If another run has it.
fn lock(out: &Path) -> Result<Option<File>> {
    let Ok(folder) = File::open(out) else { return Ok(None) };
    for _ in 0..20 {
        match folder.try_lock() {
            Err(TryLockError::WouldBlock) => thread::sleep(Duration::from_millis(100)),
            _ => return Ok(Some(folder)),
        }
    }
    bail!("another run writes into {}: wait for it, or choose another folder", out.display())
}
