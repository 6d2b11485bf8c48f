//! How ranks find each other: by the environment in which a launcher has started them, and a store.

use super::{number, world::lost};
use anyhow::{Context, Result, anyhow, ensure};
use std::{
    env, io,
    net::UdpSocket,
    thread,
    time::{Duration, Instant},
};
use tch_ext::distributed::Store;

/// Says that the launcher keeps the store, as torchrun does, and not rank 0.
pub(super) const AGENT_STORE: &str = "TORCHELASTIC_USE_AGENT_STORE";

/// How often a launcher has started all ranks again; a part of the keys in its store.
pub(super) const ATTEMPT: &str = "TORCHELASTIC_RESTART_COUNT";

/// A rank's place among the others, as its environment says.
pub(super) struct Place {
    pub rank: usize,
    pub world_size: usize,
    pub local_world_size: usize,
    pub master_addr: String,
    pub master_port: u16,
    prefix: String,
}

impl Place {
    /// `None` without a RANK: then this process is alone.
    pub fn of_environment() -> Result<Option<Self>> {
        let Some(rank) = number("RANK")? else { return Ok(None) };
        let missing = |name| {
            format!("RANK is set and {name} is not: set all of torchrun's variables, or unset RANK")
        };
        let world_size = number("WORLD_SIZE")?.with_context(|| missing("WORLD_SIZE"))?;
        ensure!(
            rank < world_size,
            "RANK is {rank}, and WORLD_SIZE {world_size}: ranks are counted from 0"
        );
        let agent = env::var(AGENT_STORE).is_ok_and(|value| value == "True");
        let attempt: usize = number(ATTEMPT)?.unwrap_or(0);
        Ok(Some(Self {
            rank,
            world_size,
            local_world_size: number("LOCAL_WORLD_SIZE")?.unwrap_or(1),
            master_addr: env::var("MASTER_ADDR").ok().with_context(|| missing("MASTER_ADDR"))?,
            master_port: number("MASTER_PORT")?.with_context(|| missing("MASTER_PORT"))?,
            prefix: if agent { format!("/worker/attempt_{attempt}") } else { String::new() },
        }))
    }

    /// Whether this rank is to keep the store, since no launcher does.
    pub fn is_host(&self) -> bool {
        self.rank == 0 && self.prefix.is_empty()
    }

    pub fn connect(&self, timeout: Duration) -> Result<Store> {
        let Self { rank, master_addr, master_port, prefix, .. } = self;
        Store::connect(master_addr, *master_port, prefix, timeout).map_err(|error| {
            anyhow!(
                "rank {rank} finds nobody at {master_addr}:{master_port}, where all are to meet; is rank 0 there, \
                 and is this its address? ({error})"
            )
        })
    }

    /// Says in the store that this rank is there, and waits for the others.
    ///
    /// # Errors
    /// Who is missing, when the time is over or the store's keeper, who waits too, gives up first. Or that
    /// this rank is there twice.
    pub fn wait_for_all(&self, store: &Store, timeout: Duration) -> Result<()> {
        ensure!(
            store.add(&key(self.rank), 1).map_err(lost)? == 1,
            "rank {} is there twice: give each process a rank of its own",
            self.rank
        );
        let start = Instant::now();
        let mut missing = self.missing(store).map_err(lost)?;
        while !missing.is_empty() {
            let late = format!(
                "of {} ranks, these did not come within {:.0} s: {}; start all, or wait longer with --timeout",
                self.world_size,
                start.elapsed().as_secs_f64(),
                missing.join(", ")
            );
            ensure!(start.elapsed() < timeout, late);
            thread::sleep(Duration::from_millis(20));
            missing = self.missing(store).map_err(|_| anyhow!(late))?;
        }
        Ok(())
    }

    /// The ranks that have not said that they are there.
    fn missing(&self, store: &Store) -> Result<Vec<String>, tch_ext::Error> {
        let mut missing = Vec::new();
        for rank in 0..self.world_size {
            if !store.has(&key(rank))? {
                missing.push(rank.to_string());
            }
        }
        Ok(missing)
    }
}

/// Where a rank says in the store that it is there.
fn key(rank: usize) -> String {
    format!("nanogpt/rank/{rank}")
}

/// The address of this machine from which packets to `host` would leave. Nothing is sent.
pub(super) fn address_towards(host: &str, port: u16) -> Result<String> {
    let address = || -> io::Result<_> {
        let any = if host.contains(':') { "[::]:0" } else { "0.0.0.0:0" };
        let socket = UdpSocket::bind(any)?;
        socket.connect((host, port))?;
        Ok(socket.local_addr()?.ip().to_string())
    };
    address().with_context(|| {
        format!("no way leads to {host}; name this machine's address with --local-addr")
    })
}
