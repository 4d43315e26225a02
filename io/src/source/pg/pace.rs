//! When to let bytes pile up before reading them.
//!
//! The server sends each row on its own. A reader that is always ready is woken for each, and waking
//! costs more than the row: on two cores it halves the throughput of the server. So while we are behind,
//! and while what comes would have to wait anyway, we pause between small reads. Otherwise we read at
//! once, because then the pause would be the latency.
use std::time::Duration;

use replicator_core::model::time::WallTime;

/// How long to pause. Timers tick in milliseconds.
const PAUSE: Duration = Duration::from_millis(1);

/// How long to pause while we are behind, or the target has this many batches to go on with. What the
/// server cannot send meanwhile it puts together into large packets, which costs it half as much.
const LONG_PAUSE: Duration = Duration::from_millis(4);
const PLENTY: usize = 4;

/// A read of this many bytes was worth its while.
const READ_BYTES_ENOUGH: usize = 32 * 1024;

/// Older than this when it was sent, and a change is late anyway, in microseconds.
const LATE_MICROS: i64 = 10_000;

/// See the [module docs](self).
#[derive(Clone, Copy, Debug, Default)]
pub struct Pace {
    behind: bool,
    ahead: usize,
    read_bytes: usize,
}

impl Pace {
    /// A read returned this many bytes.
    pub const fn read(&mut self, bytes: usize) {
        self.read_bytes = bytes;
    }

    /// A transaction that committed at `committed` was sent at `sent`, both by the source's clock.
    pub const fn sent(&mut self, committed: WallTime, sent: WallTime) {
        self.behind = LATE_MICROS <= sent.micros.saturating_sub(committed.micros);
    }

    /// The source has nothing more for us.
    pub const fn caught_up(&mut self) {
        self.behind = false;
    }

    /// So many batches are ahead of what comes.
    pub const fn ahead(&mut self, batches: usize) {
        self.ahead = batches;
    }

    /// Whether a pause is of any use.
    #[must_use]
    pub const fn may_pause(&self) -> bool {
        self.behind || 0 < self.ahead
    }

    /// How long to wait before the next read.
    #[must_use]
    pub const fn pause(&self) -> Option<Duration> {
        if !self.may_pause() || READ_BYTES_ENOUGH <= self.read_bytes {
            return None;
        }
        Some(if self.behind || PLENTY <= self.ahead { LONG_PAUSE } else { PAUSE })
    }
}

#[cfg(test)]
mod tests {
    use replicator_core::model::time::WallTime;

    use super::{LONG_PAUSE, PAUSE, PLENTY, Pace};

    fn at(millis: i64) -> WallTime {
        WallTime { micros: millis * 1000 }
    }

    #[test]
    fn a_reader_that_has_caught_up_never_pauses() {
        let mut pace = Pace::default();
        assert_eq!(pace.pause(), None);
        pace.read(100);
        pace.sent(at(1000), at(1002));
        assert_eq!(pace.pause(), None);
        pace.sent(at(1000), at(1500));
        assert_eq!(pace.pause(), Some(LONG_PAUSE));
        pace.caught_up();
        assert_eq!(pace.pause(), None);
    }

    #[test]
    fn a_late_reader_pauses_after_small_reads_only() {
        let mut pace = Pace::default();
        pace.sent(at(1000), at(61_000));
        pace.read(100);
        assert_eq!(pace.pause(), Some(LONG_PAUSE));
        pace.read(100_000);
        assert_eq!(pace.pause(), None);
        pace.read(2_000);
        assert_eq!(pace.pause(), Some(LONG_PAUSE));
        pace.sent(at(60_999), at(61_000));
        assert_eq!(pace.pause(), None);
    }

    #[test]
    fn a_reader_that_has_caught_up_pauses_while_what_comes_would_wait() {
        let mut pace = Pace::default();
        pace.read(100);
        pace.ahead(1);
        assert_eq!(pace.pause(), Some(PAUSE));
        pace.ahead(PLENTY);
        assert_eq!(pace.pause(), Some(LONG_PAUSE));
        pace.ahead(0);
        assert_eq!(pace.pause(), None);
    }

    #[test]
    fn a_clock_that_was_set_back_is_not_late() {
        let mut pace = Pace::default();
        pace.sent(at(2000), at(1000));
        pace.read(1);
        assert_eq!(pace.pause(), None);
    }
}
