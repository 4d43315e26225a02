//! What the viewer sees: lines, and on a terminal one that changes in place.
use std::io::{IsTerminal as _, Stdout, Write as _, stdout};
use std::time::Duration;

use anyhow::Result;
use tokio::time::Instant;

/// Without a terminal a progress line is printed this often.
const PLAIN_PERIOD: Duration = Duration::from_secs(5);

/// Standard output.
#[derive(Debug)]
pub(crate) struct Screen {
    out: Stdout,
    live: bool,
    // Whether the cursor stands behind a progress line.
    open: bool,
    plain_due: Instant,
}

/// One look at how far replication is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Progress {
    /// Since the load began.
    pub(crate) elapsed: Duration,
    /// Rows that the source has committed.
    pub(crate) written: u64,
    /// Of these, rows known to be in the target.
    pub(crate) arrived: u64,
    /// Rows that arrived per second, lately.
    pub(crate) rate: f64,
    /// Age of the newest heartbeat in the target.
    pub(crate) lag: Duration,
    /// Kills so far.
    pub(crate) kills: u32,
}

/// What arrived in the target, and how fast.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrivals {
    /// The last beat seen, and when it was first seen.
    seen: (i64, Instant),
    /// What the last look showed: when, and how many rows.
    looked: (Instant, u64),
    rate: f64,
}

impl Arrivals {
    pub(crate) fn new() -> Self {
        let now = Instant::now();
        Self { seen: (0, now), looked: (now, 0), rate: 0.0 }
    }

    /// The target has this beat, and so many rows. Returns for how long it has had no newer beat.
    pub(crate) fn saw(&mut self, beat: i64, arrived: u64) -> Duration {
        let now = Instant::now();
        if self.seen.0 != beat {
            self.seen = (beat, now);
        }
        let (then, before) = self.looked;
        #[expect(clippy::cast_precision_loss, reason = "only shown")]
        let latest = arrived.saturating_sub(before) as f64 / (now - then).as_secs_f64();
        // Beats and looks are about as far apart, so a single difference says little.
        self.rate += 0.2 * (latest - self.rate);
        self.looked = (now, arrived);
        now - self.seen.1
    }

    /// What there is to show.
    pub(crate) const fn progress(
        &self,
        elapsed: Duration,
        written: u64,
        lag: Duration,
        kills: u32,
    ) -> Progress {
        Progress { elapsed, written, arrived: self.looked.1, rate: self.rate, lag, kills }
    }
}

impl Screen {
    pub(crate) fn new() -> Self {
        let out = stdout();
        let live = out.is_terminal();
        Self { out, live, open: false, plain_due: Instant::now() }
    }

    /// Prints a line that stays.
    pub(crate) fn say(&mut self, line: &str) -> Result<()> {
        if self.open {
            self.open = false;
            writeln!(self.out)?;
        }
        writeln!(self.out, "{line}")?;
        Ok(self.out.flush()?)
    }

    /// Shows progress: in place on a terminal, else as a line every few seconds.
    pub(crate) fn show(&mut self, progress: &Progress) -> Result<()> {
        let line = format!(
            // Below 80 columns: a longer line would wrap, and its first part could not be erased.
            "{:3.0} s {:>11} of {:>11} rows {:>8} rows/s  lag {:4.1} s  kills {}",
            progress.elapsed.as_secs_f64(),
            grouped(progress.arrived),
            grouped(progress.written),
            grouped(rounded(progress.rate)),
            progress.lag.as_secs_f64(),
            progress.kills
        );
        if self.live {
            // ECMA-48: to the first column, then erase the line.
            write!(self.out, "\r\x1b[2K{line}")?;
            self.open = true;
        } else if self.plain_due <= Instant::now() {
            self.plain_due = Instant::now() + PLAIN_PERIOD;
            writeln!(self.out, "{line}")?;
        }
        Ok(self.out.flush()?)
    }
}

/// A number with commas.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A rate as a whole number.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "rates are small and not negative, and are only shown"
)]
pub(crate) fn rounded(rate: f64) -> u64 {
    rate.round().max(0.0) as u64
}
