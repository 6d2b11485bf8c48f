//! Downloads over HTTP and HTTPS.

use std::{
    fs::File,
    io::{self, Read, Write},
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, ensure};
use indicatif::{HumanCount, ProgressBar, ProgressFinish, ProgressStyle};
use sha2::{Digest, Sha256};
use ureq::{
    Agent, Body,
    http::{StatusCode, Uri},
    tls::{RootCerts, TlsConfig},
};

use crate::temporary::{Part, Temporary};

/// How often a download tells where it is when there is no terminal for a progress bar.
const PLAIN_LINE_EVERY: Duration = Duration::from_secs(10);

const HOST_NOT_FOUND: &str = "the host is not found (is there a network?)";

const BUFFER_BYTES: usize = 64 * 1024;

/// A file to be downloaded, as a whole or not at all.
#[derive(Clone, Copy, Debug)]
pub struct Download<'a> {
    /// Where it is, `http://` or `https://`; redirections are followed. The proxy named by the
    /// usual environment variables (`HTTPS_PROXY`, `NO_PROXY`, …) is used.
    pub url: &'a str,
    /// The file it becomes. Its folder is made if need be.
    pub to: &'a Path,
    /// The SHA-256 that the content must have, in hexadecimal.
    pub sha256: Option<&'a str>,
    /// How long to wait for a connection. A server that, once connected, sends nothing for three
    /// times as long is given up; a slow one that keeps sending is not.
    pub connect_timeout: Duration,
}

impl Download<'_> {
    /// Downloads the file, showing on stderr a progress bar with size, speed and time left, or
    /// plain lines where stderr is no terminal.
    ///
    /// # Errors
    /// "cannot download URL: REASON", when there is no connection, the server answers with an
    /// error, falls silent or breaks off, the content is not the expected one, or the file cannot
    /// be written. What was at `to` before is then still there, and nothing else.
    pub fn run(&self) -> Result<()> {
        self.fetch().with_context(|| format!("cannot download {}", self.url))
    }

    /// The same for a large file: what has come of it is kept in `NAME.part` if the download is stopped, and the
    /// next one goes on from there, where the server can. Only the whole file gets its name.
    ///
    /// # Errors
    /// As [`run`](Self::run); also if another process is downloading it. A part that is not the beginning of the
    /// expected file is taken away.
    ///
    /// # Panics
    /// If there is no `sha256`, by which alone one can tell that the parts belong together.
    pub fn resume(&self) -> Result<()> {
        self.fetch_rest().with_context(|| format!("cannot download {}", self.url))
    }

    fn fetch(&self) -> Result<()> {
        let response = self.agent()?.get(self.url).call();
        let body = response.map_err(|e| self.explain(e))?.into_body();
        let mut temporary = Temporary::beside(self.to).with_context(|| self.cannot_write())?;
        let actual = self.receive(body, temporary.file(), Received::default())?;
        self.expect(&actual)?;
        temporary.keep().with_context(|| self.cannot_write())
    }

    fn fetch_rest(&self) -> Result<()> {
        assert!(self.sha256.is_some(), "parts need a checksum");
        let mut part = Part::beside(self.to).with_context(|| self.cannot_write())?;
        let mut received = Received::of(part.file()).with_context(|| self.cannot_write())?;
        let mut request = self.agent()?.get(self.url);
        if received.bytes > 0 {
            request = request.header("Range", format!("bytes={}-", received.bytes));
        }
        let body = match request.call() {
            Ok(response) => {
                if response.status() != StatusCode::PARTIAL_CONTENT {
                    received = Received::default(); // all of it comes
                    part.clear().with_context(|| self.cannot_write())?;
                }
                Some(response.into_body())
            }
            // There is nothing behind it: it may have been stopped just before it got its name.
            Err(ureq::Error::StatusCode(416)) if received.bytes > 0 => None,
            Err(error) => return Err(self.explain(error)),
        };
        let actual = match body {
            Some(body) => self.receive(body, part.file(), received)?,
            None => hex(received.hasher),
        };
        if let Err(error) = self.expect(&actual) {
            part.remove().with_context(|| self.cannot_write())?;
            return Err(error);
        }
        part.keep().with_context(|| self.cannot_write())
    }

    fn expect(&self, actual: &str) -> Result<()> {
        if let Some(expected) = self.sha256 {
            ensure!(
                actual.eq_ignore_ascii_case(expected),
                "what came is not the expected file: its SHA-256 is {actual}, not {expected}"
            );
        }
        Ok(())
    }

    /// Writes the body to the end of `file`, after what it has `received` already; returns the SHA-256 of all.
    fn receive(&self, body: Body, file: &mut File, received: Received) -> Result<String> {
        let Received { bytes: mut received, mut hasher } = received;
        let length = body.content_length().map(|length| length + received);
        let mut progress = Progress::start(self, length);
        let mut reader = body.into_reader();
        let mut buffer = vec![0; BUFFER_BYTES];
        let whole = loop {
            let n = match reader.read(&mut buffer) {
                Ok(0) => break length.is_none_or(|length| length == received),
                Ok(n) => n,
                Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => break false,
                Err(e) => return Err(self.explain(e.into())),
            };
            let piece = &buffer[..n];
            file.write_all(piece).with_context(|| self.cannot_write())?;
            hasher.update(piece);
            received += n as u64;
            progress.show(received);
        };
        let amount = of(received, length);
        ensure!(whole, "the connection broke off after {amount}");
        Ok(hex(hasher))
    }

    fn cannot_write(&self) -> String {
        format!("cannot write {}", self.to.display())
    }

    fn agent(&self) -> Result<Agent> {
        let tls = TlsConfig::builder().root_certs(RootCerts::PlatformVerifier);
        let mut config = Agent::config_builder()
            .tls_config(tls.build())
            .timeout_resolve(Some(self.connect_timeout))
            .timeout_connect(Some(self.connect_timeout))
            .timeout_per_read(Some(self.patience()));
        // No proxy can reach what this machine serves to itself.
        let uri: Uri = self.url.parse().context("this is no URL")?;
        if matches!(uri.host(), Some("localhost" | "127.0.0.1" | "[::1]")) {
            config = config.proxy(None);
        }
        Ok(config.build().new_agent())
    }

    /// How long a connected server may be silent.
    fn patience(&self) -> Duration {
        self.connect_timeout * 3
    }

    /// Says in plain words what went wrong between us and the server.
    fn explain(&self, error: ureq::Error) -> anyhow::Error {
        use ureq::{Error, Timeout};
        match error {
            Error::HostNotFound => anyhow!(HOST_NOT_FOUND),
            // The standard library has no kind for this error, only these words.
            Error::Io(e) if e.to_string().contains("lookup address") => anyhow!(HOST_NOT_FOUND),
            Error::Io(e) if e.kind() == io::ErrorKind::ConnectionRefused => {
                anyhow!("the connection is refused")
            }
            Error::Io(e) => e.into(),
            Error::StatusCode(code) => anyhow!("the server answers with HTTP status {code}"),
            Error::Timeout(Timeout::Connect | Timeout::Resolve) => {
                anyhow!("no connection within {:?}", self.connect_timeout)
            }
            Error::Timeout(_) => anyhow!("the server is silent for {:?}", self.patience()),
            e => e.into(),
        }
    }
}

/// What has come of a file.
#[derive(Default)]
struct Received {
    bytes: u64,
    hasher: Sha256,
}

impl Received {
    /// Reads what a file has.
    fn of(file: &mut File) -> io::Result<Self> {
        let mut all = Self::default();
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            match file.read(&mut buffer)? {
                0 => return Ok(all),
                n => {
                    all.hasher.update(&buffer[..n]);
                    all.bytes += n as u64;
                }
            }
        }
    }
}

/// A bar where there is a terminal, a line now and then where there is none.
struct Progress {
    bar: ProgressBar,
    length: Option<u64>,
    start: Instant,
    last_line: Instant,
}

impl Progress {
    fn start(download: &Download, length: Option<u64>) -> Self {
        let (bar, template) = match length {
            Some(length) => (
                ProgressBar::new(length),
                "{msg} {wide_bar} {binary_bytes} of {binary_total_bytes}, {binary_bytes_per_sec}, {eta} left",
            ),
            None => {
                (ProgressBar::no_length(), "{msg} {spinner} {binary_bytes}, {binary_bytes_per_sec}")
            }
        };
        let style = ProgressStyle::with_template(template).expect("the template is well-formed");
        // Stays on the screen when it ends, well or badly, to show how far it came.
        let bar = bar.with_style(style).with_finish(ProgressFinish::Abandon);
        let name = download.to.file_name().unwrap_or_default();
        bar.set_message(name.to_string_lossy().into_owned());
        if bar.is_hidden() {
            eprintln!("downloading {}", download.url);
        }
        let start = Instant::now();
        Self { bar, length, start, last_line: start }
    }

    fn show(&mut self, received: u64) {
        self.bar.set_position(received);
        if self.bar.is_hidden() && self.last_line.elapsed() >= PLAIN_LINE_EVERY {
            self.last_line = Instant::now();
            let seconds = self.start.elapsed().as_secs();
            eprintln!("  {} after {seconds} s", of(received, self.length));
        }
    }
}

/// "1,000 of 2,000 bytes", or "1,000 bytes" where nobody said how many there will be.
fn of(received: u64, length: Option<u64>) -> String {
    let received = HumanCount(received);
    match length {
        Some(length) => format!("{received} of {} bytes", HumanCount(length)),
        None => format!("{received} bytes"),
    }
}

/// The SHA-256 of a file's content, in lower-case hexadecimal.
///
/// # Errors
/// "cannot read PATH: REASON".
pub fn sha256_of(path: &Path) -> Result<String> {
    let hash = || io::Result::Ok(hex(Received::of(&mut File::open(path)?)?.hasher));
    hash().with_context(|| format!("cannot read {}", path.display()))
}

fn hex(hasher: Sha256) -> String {
    let digest = hasher.finalize();
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
