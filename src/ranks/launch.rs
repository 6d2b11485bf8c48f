//! `--nproc`: this machine's ranks as processes of ours.

use super::meeting::{AGENT_STORE, ATTEMPT};
use crate::run::{LOST_CODE, Said};
use anyhow::{Context, Result, bail};
use std::{
    env,
    io::Read,
    process::{self, Child, ChildStderr, Command, ExitStatus, Stdio},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// How long the others may stay after a rank has failed, to say what they have to say.
const GRACE: Duration = Duration::from_millis(1_500);

/// The process number of the launcher, for a rank that one has started.
const LAUNCHER: &str = "NANOGPT_LAUNCHER";

/// What is to be started here.
pub(super) struct Launch<'a> {
    pub node_rank: usize,
    pub nnodes: usize,
    pub nproc: usize,
    pub master_addr: &'a str,
    pub master_port: u16,
}

impl Launch<'_> {
    /// Starts the ranks, and waits until all are done or one has failed; then it stops the others.
    pub fn run(&self) -> Result<()> {
        crate::interrupted(); // Ctrl-C reaches the ranks too, and what they make of it is up to them
        let mut started = Started { ranks: Vec::new() };
        for local_rank in 0..self.nproc {
            started.ranks.push(self.start(local_rank)?);
        }
        started.wait()?;
        started.stop();
        started.verdict()
    }

    fn start(&self, local_rank: usize) -> Result<Rank> {
        let number = self.node_rank * self.nproc + local_rank;
        let program = env::current_exe().context("cannot find this program to start it again")?;
        let mut command = Command::new(program);
        let mut args = env::args_os();
        let name = args.next();
        // A program that holds several, as bench/gpu's does, knows by its name which one it is.
        #[cfg(unix)]
        name.map(|name| std::os::unix::process::CommandExt::arg0(&mut command, name));
        #[cfg(not(unix))]
        drop(name);
        command.args(args);
        command.env(LAUNCHER, process::id().to_string());
        for (name, value) in [
            ("RANK", number),
            ("LOCAL_RANK", local_rank),
            ("WORLD_SIZE", self.nproc * self.nnodes),
            ("LOCAL_WORLD_SIZE", self.nproc),
            ("MASTER_PORT", self.master_port.into()),
            (ATTEMPT, 0),
        ] {
            command.env(name, value.to_string());
        }
        command.env("MASTER_ADDR", self.master_addr).env(AGENT_STORE, "True");
        if number > 0 {
            // What it says is of interest only if it fails.
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        }
        let mut child = command.spawn().context("cannot start this program again as a rank")?;
        let listener = child.stderr.take().map(|stderr| thread::spawn(|| all_of(stderr)));
        Ok(Rank { number, child, ended: None, listener, said: String::new() })
    }
}

fn all_of(mut stderr: ChildStderr) -> String {
    let mut bytes = Vec::new();
    // A pipe that breaks has said what it had to say.
    let _ = stderr.read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Ends this process when its launcher ends, however that comes. Only Linux can promise it.
pub(super) fn end_with_launcher() {
    #[cfg(target_os = "linux")]
    if let Some(launcher) = env::var_os(LAUNCHER) {
        use rustix::process::{Signal, set_parent_process_death_signal};
        use std::os::unix::process::parent_id;
        // Where it fails, a rank ends when it next needs another.
        let _ = set_parent_process_death_signal(Some(Signal::KILL));
        // It may have ended before we asked. Then we have another parent by now.
        if launcher != *parent_id().to_string() {
            process::exit(LOST_CODE.into());
        }
    }
}

struct Started {
    ranks: Vec<Rank>,
}

struct Rank {
    number: usize,
    child: Child,
    ended: Option<ExitStatus>,
    /// Reads what it writes to stderr. Rank 0 writes to ours.
    listener: Option<JoinHandle<String>>,
    said: String,
}

impl Started {
    fn wait(&mut self) -> Result<()> {
        let mut failed: Option<Instant> = None;
        let mut told = false;
        loop {
            for rank in &mut self.ranks {
                rank.ended = rank.child.try_wait().context("cannot wait for a rank")?;
            }
            let ended: Vec<ExitStatus> = self.ranks.iter().filter_map(|rank| rank.ended).collect();
            if ended.len() == self.ranks.len() || failed.is_some_and(|at| at.elapsed() > GRACE) {
                return Ok(());
            }
            if crate::interrupted() && !told {
                self.tell();
                told = true;
            }
            if failed.is_none() && ended.iter().any(|status| !status.success()) {
                failed = Some(Instant::now());
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Passes on that somebody wants this program to end. (Ctrl-C has told the ranks too; a `kill` has not.)
    fn tell(&self) {
        #[cfg(unix)]
        for rank in self.ranks.iter().filter(|rank| rank.ended.is_none()) {
            if let Some(pid) = rustix::process::Pid::from_raw(rank.child.id() as i32) {
                // It may have ended meanwhile.
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
            }
        }
    }

    /// Ends those that still run, and hears what all have said.
    fn stop(&mut self) {
        for rank in &mut self.ranks {
            if rank.ended.is_none() {
                // It may have ended by itself meanwhile.
                let _ = rank.child.kill();
                let _ = rank.child.wait();
            }
            if let Some(listener) = rank.listener.take() {
                rank.said = listener.join().unwrap_or_default();
            }
        }
    }

    /// The error of the rank that failed for a reason of its own, as far as one can tell.
    fn verdict(&self) -> Result<()> {
        let has_failed = |rank: &&Rank| rank.ended.is_some_and(|status| !status.success());
        let failed: Vec<&Rank> = self.ranks.iter().filter(has_failed).collect();
        let killed = failed.iter().find(|rank| rank.signal().is_some());
        let of_its_own = failed.iter().find(|rank| !rank.has_lost_another());
        let Some(rank) = killed.or(of_its_own).or(failed.first()) else { return Ok(()) };
        match rank.signal() {
            Some(signal) => bail!(
                "rank {} was ended by signal {signal}, and the other ranks have been stopped",
                rank.number
            ),
            None if rank.number > 0 => bail!("rank {}: {}", rank.number, rank.error()),
            None => Err(Said.into()), // rank 0 has said it on our stderr
        }
    }
}

impl Drop for Started {
    /// Where not all could be started, none is left.
    fn drop(&mut self) {
        self.stop();
    }
}

impl Rank {
    #[cfg(unix)]
    fn signal(&self) -> Option<i32> {
        std::os::unix::process::ExitStatusExt::signal(&self.ended?)
    }

    #[cfg(not(unix))]
    fn signal(&self) -> Option<i32> {
        None
    }

    fn has_lost_another(&self) -> bool {
        self.ended.and_then(|status| status.code()) == Some(LOST_CODE.into())
    }

    /// Its error, a sentence.
    fn error(&self) -> &str {
        let error = self.said.lines().find_map(|line| line.strip_prefix("error: "));
        error.or(self.said.lines().last()).unwrap_or("it failed without a word")
    }
}
