//! Several processes that train one model: how many, who starts them, where they meet. The flags and the
//! environment variables are torchrun's, so that it can start our programs too.

mod launch;
mod meeting;
mod world;

use crate::{Flags, flags::share_cores};
use anyhow::{Context, Result, anyhow, ensure};
use clap::Args;
use launch::Launch;
use std::{
    env,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};
use tch::{Cuda, Device};
use tch_ext::distributed::Store;

pub use world::differences;
pub use world::{Reducer, World};

/// How many processes train, and where they meet.
#[derive(Args, Clone, Debug)]
pub struct RankFlags {
    /// How many processes to start on this machine, each with its share of the cores or with a GPU of its
    /// own [default: as many as GPUs; 2 where there is none]
    #[arg(long, value_name = "N")]
    nproc: Option<usize>,

    /// How many machines take part; start the program on each
    #[arg(long, value_name = "N", default_value_t = 1)]
    nnodes: usize,

    /// Which of the machines this is, from 0 on
    #[arg(long, value_name = "N", default_value_t = 0)]
    node_rank: usize,

    /// Where machine 0 can be reached
    #[arg(long, value_name = "HOST", default_value = "127.0.0.1")]
    master_addr: String,

    /// The port of machine 0 where all meet [default: one that is free; 29500 of several machines]
    #[arg(long, value_name = "PORT")]
    master_port: Option<u16>,

    /// Where the others can reach this machine [default: the address by which it reaches machine 0]
    #[arg(long, value_name = "HOST")]
    local_addr: Option<String>,

    /// How many seconds to wait for the others to come
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=86_400))]
    timeout: u64,
}

/// The port that torchrun takes too.
const PORT: u16 = 29_500;

impl RankFlags {
    /// The same with one process where no `--nproc` says otherwise.
    pub fn or_one(self) -> Self {
        Self { nproc: self.nproc.or(Some(1)), ..self }
    }

    /// Starts this machine's ranks, each as a process of its own with the same command line, and waits until
    /// they are done. `false` where there is nothing to start: this process is a rank itself, or the only one.
    ///
    /// # Errors
    /// If the numbers make no sense, the port is taken, or a rank fails; then no rank is left running.
    pub fn launch(&self) -> Result<bool> {
        if env::var_os("RANK").is_some() {
            return Ok(false);
        }
        let nproc = self.nproc()?;
        ensure!(self.nnodes > 0, "--nnodes 0: at least one machine takes part");
        ensure!(
            self.node_rank < self.nnodes,
            "--node-rank {}: of {} machines, the last one is {}",
            self.node_rank,
            self.nnodes,
            self.nnodes - 1
        );
        if nproc * self.nnodes == 1 {
            return Ok(false);
        }
        // Machine 0 keeps the store, as torchrun does.
        let store =
            if self.node_rank == 0 { Some(host("--master-port", self.port())?) } else { None };
        let launch = Launch {
            node_rank: self.node_rank,
            nnodes: self.nnodes,
            nproc,
            master_addr: &self.master_addr,
            master_port: store.as_ref().map_or(self.port(), Store::port),
        };
        launch.run()?;
        Ok(true)
    }

    /// How many processes to start here.
    fn nproc(&self) -> Result<usize> {
        let gpus = Cuda::device_count() as usize;
        let cores = cores();
        let (most, of_what) = if gpus > 0 { (gpus, "GPUs") } else { (cores, "processor cores") };
        let nproc = self.nproc.unwrap_or(if gpus > 0 { gpus } else { cores.min(2) });
        ensure!(
            (1..=most).contains(&nproc),
            "--nproc {nproc}: choose from 1 to {most}, as many as this machine has {of_what}"
        );
        Ok(nproc)
    }

    fn port(&self) -> u16 {
        self.master_port.unwrap_or(if self.nnodes > 1 { PORT } else { 0 })
    }

    /// Meets the other ranks, if there are any. All ranks but 0 print and write nothing from here on.
    ///
    /// # Errors
    /// If the environment names no sensible rank, or the others do not come in time, or one is there twice.
    pub fn join(&self, flags: &Flags) -> Result<World> {
        self.join_on(flags.device, flags.threads)
    }

    /// The same for a program without our flags: ranks compute on `device`, with as many threads each, or their share.
    ///
    /// # Errors
    /// See [`Self::join`].
    pub fn join_on(&self, device: Device, threads: Option<i32>) -> Result<World> {
        let Some(place) = meeting::Place::of_environment()? else {
            return Ok(World::alone(device));
        };
        launch::end_with_launcher();
        if place.rank > 0 {
            say_nothing();
        }
        share_cores(threads, place.local_world_size);
        let timeout = Duration::from_secs(self.timeout);
        let host =
            if place.is_host() { Some(host("MASTER_PORT", place.master_port)?) } else { None };
        let store = place.connect(timeout)?;
        place.wait_for_all(&store, timeout)?;
        let address = match &self.local_addr {
            Some(address) => address.clone(),
            None => meeting::address_towards(&place.master_addr, place.master_port)?,
        };
        World::join(&place, store, host, device, &address)
    }
}

/// Keeps a store at the port that `named` says.
fn host(named: &str, port: u16) -> Result<Store> {
    Store::host(port)
        .map_err(|error| anyhow!("{named} {port} cannot be had, so name another: {error}"))
}

pub(crate) fn cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// Whether this process is a rank from 1 on.
static SILENT: AtomicBool = AtomicBool::new(false);

/// Whether this process prints and writes files: not if it is a rank from 1 on.
pub fn speaks() -> bool {
    !SILENT.load(Ordering::Relaxed)
}

/// From here on nothing that this process prints is seen, but for its error if it has one.
fn say_nothing() {
    SILENT.store(true, Ordering::Relaxed);
    #[cfg(unix)]
    if let Ok(nowhere) = std::fs::OpenOptions::new().write(true).open("/dev/null") {
        // Where this fails, lines are printed twice.
        let _ = rustix::stdio::dup2_stdout(nowhere);
    }
}

/// The number in a variable of the environment, if it is set.
///
/// # Errors
/// If it is no number.
fn number<T: std::str::FromStr>(name: &str) -> Result<Option<T>> {
    let Some(value) = env::var_os(name) else { return Ok(None) };
    let number = value.to_str().and_then(|value| value.parse().ok());
    let number = number.with_context(|| format!("{name} is {value:?}, which is no such number"))?;
    Ok(Some(number))
}

/// The GPU of this process among those of its machine, if its launcher has said which.
pub(crate) fn local_rank() -> Option<usize> {
    number("LOCAL_RANK").ok().flatten()
}
