//! How far a preparation has come.

use std::time::{Duration, Instant};

use indicatif::{HumanDuration, ProgressBar, ProgressFinish, ProgressStyle};
use lab::grouped;

/// How often it is told when there is no terminal for a bar.
const PLAIN_LINE_EVERY: Duration = Duration::from_secs(10);

/// A bar where there is a terminal, a line now and then where there is none, both on stderr.
pub struct Progress {
    bar: ProgressBar,
    whole: u64,
    begun: Instant,
    last_line: Instant,
    /// Where it was when this run began, and how many tokens there were.
    from: Option<(u64, u64)>,
}

impl Progress {
    /// `whole` is what [`show`](Self::show) counts up to.
    pub fn new(whole: u64) -> Self {
        let style =
            ProgressStyle::with_template("{wide_bar} {percent} %, {msg}").expect("a good template");
        let bar = ProgressBar::new(whole).with_style(style).with_finish(ProgressFinish::AndClear);
        let now = Instant::now();
        Self { bar, whole, begun: now, last_line: now, from: None }
    }

    /// Takes the bar away while something else is shown.
    pub fn suspend<T>(&self, show: impl FnOnce() -> T) -> T {
        self.bar.suspend(show)
    }

    /// So much of the whole has been read.
    pub fn show_reading(&mut self, done: u64) {
        let left = self.left(done, 0).map_or_else(String::new, |left| format!(", {left} left"));
        self.tell(done, format!("reading the text for its vocabulary{left}"));
    }

    /// So much of the whole is done, and became so many tokens.
    pub fn show(&mut self, done: u64, tokens: u64) {
        let mut line = format!("{} tokens", grouped(tokens as i64));
        if let Some(left) = self.left(done, tokens) {
            let (_, tokens_before) = self.from.unwrap_or_default();
            let speed = (tokens - tokens_before) as f64 / self.begun.elapsed().as_secs_f64();
            line += &format!(", {} tok/s, {left} left", grouped(speed as i64));
        }
        self.tell(done, line);
    }

    /// How long the rest will take, once that can be told.
    fn left(&mut self, done: u64, tokens: u64) -> Option<HumanDuration> {
        let (done_before, _) = *self.from.get_or_insert((done, tokens));
        let seconds = self.begun.elapsed().as_secs_f64();
        let left = self.whole.saturating_sub(done) as f64 / (done - done_before) as f64 * seconds;
        let is_known = done > done_before && left.is_finite();
        is_known.then(|| HumanDuration(Duration::from_secs_f64(left)))
    }

    fn tell(&mut self, done: u64, line: String) {
        if self.bar.is_hidden() && self.last_line.elapsed() >= PLAIN_LINE_EVERY {
            self.last_line = Instant::now();
            eprintln!("  {} %, {line}", 100 * done / self.whole.max(1));
        }
        self.bar.set_message(line);
        self.bar.set_position(done);
    }
}
