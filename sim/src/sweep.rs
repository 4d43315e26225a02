//! As many worlds as fit into some time, on all cores.
use std::fmt;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::coverage::{Coverage, Seen};
use crate::fault::Kind;
use crate::play::{Outcome, Played, Script};

/// What a sweep found.
#[derive(Debug, Default)]
pub struct Report {
    /// Seeds that were played, each with one world of each kind of source.
    pub seeds: u64,
    /// Worlds that were played.
    pub worlds: u64,
    /// Threads that played them.
    pub threads: usize,
    /// How long it took.
    pub took: Duration,
    /// What the worlds with an ordered source reached.
    pub ordered: Coverage,
    /// What the worlds with a changefeed reached.
    pub changefeed: Coverage,
    /// The first world that did not end well.
    pub failed: Option<(Script, Outcome)>,
}

/// Plays seeds from `first` on until the time is over or a world fails, on `threads` threads.
#[must_use]
pub fn sweep(first: u64, time: Duration, threads: usize) -> Report {
    let play = |mine: &mut Report, seed| {
        mine.play(seed);
        mine.failed.is_none()
    };
    let (mut total, took) = each_seed(first..u64::MAX, time, threads, play, Report::add);
    total.threads = threads;
    total.took = took;
    total
}

/// Has `play` play seeds in their order, on `threads` threads, until the time is over or it says no. Each
/// thread keeps what it found; `add` puts it together.
pub(crate) fn each_seed<T: Default + Send>(
    seeds: Range<u64>,
    time: Duration,
    threads: usize,
    play: impl Fn(&mut T, u64) -> bool + Sync,
    add: impl Fn(&mut T, T) + Sync,
) -> (T, Duration) {
    let started = Instant::now();
    let (next, stop) = (AtomicU64::new(seeds.start), AtomicBool::new(false));
    let total = Mutex::new(T::default());
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let mut mine = T::default();
                while started.elapsed() < time && !stop.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seeds.end <= seed || !play(&mut mine, seed) {
                        stop.store(true, Ordering::Relaxed);
                    }
                }
                add(&mut total.lock().expect("no thread panics here"), mine);
            });
        }
    });
    (total.into_inner().expect("no thread panics here"), started.elapsed())
}

impl Report {
    fn play(&mut self, seed: u64) {
        self.seeds += 1;
        for kind in [Kind::Ordered, Kind::Changefeed] {
            let script = Script::draw(kind, seed);
            let Played { outcome, coverage, trace: _ } = script.play(false);
            self.worlds += 1;
            self.coverage_of(kind).add(&coverage);
            if outcome != Outcome::Arrived {
                self.failed = Some((script, outcome));
                return;
            }
        }
    }

    fn coverage_of(&mut self, kind: Kind) -> &mut Coverage {
        match kind {
            Kind::Ordered => &mut self.ordered,
            Kind::Changefeed => &mut self.changefeed,
        }
    }

    fn add(&mut self, other: Self) {
        self.seeds += other.seeds;
        self.worlds += other.worlds;
        self.ordered.add(&other.ordered);
        self.changefeed.add(&other.changefeed);
        self.failed = self.failed.take().or(other.failed);
    }

    /// The interesting states that no world reached.
    #[must_use]
    pub fn missed(&self) -> Vec<(Kind, Seen)> {
        let kinds = [(Kind::Ordered, &self.ordered), (Kind::Changefeed, &self.changefeed)];
        let missed = |(kind, coverage): (Kind, &Coverage)| {
            coverage.missed(kind).into_iter().map(move |seen| (kind, seen)).collect::<Vec<_>>()
        };
        kinds.into_iter().flat_map(missed).collect()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seeds, worlds, threads, took, ordered, changefeed, failed: _ } = self;
        let per_second = |count: u64| {
            let millis = u64::try_from(took.as_millis()).unwrap_or(u64::MAX).max(1);
            count.saturating_mul(1_000) / millis
        };
        let per_core = per_second(*worlds) / u64::try_from(*threads).unwrap_or(1).max(1);
        writeln!(f, "ordered:\n{ordered}changefeed:\n{changefeed}")?;
        write!(
            f,
            "{seeds} seeds, {worlds} worlds in {} s on {threads} threads: {} seeds/s, {} worlds/s, \
             {per_core} worlds/s per thread",
            took.as_secs(),
            per_second(*seeds),
            per_second(*worlds),
        )
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::sweep;

    #[test]
    fn a_sweep_without_time_has_reached_nothing() {
        let report = sweep(1, Duration::ZERO, 2);
        assert_eq!((report.seeds, report.worlds), (0, 0));
        assert!(report.failed.is_none());
        assert!(20 < report.missed().len(), "every interesting state is missed");
    }

    #[test]
    fn a_short_sweep_counts_two_worlds_for_each_seed() {
        let report = sweep(1, Duration::from_millis(100), 2);
        assert!(0 < report.seeds);
        assert_eq!(report.worlds, 2 * report.seeds);
        assert!(report.failed.is_none(), "{:?}", report.failed);
    }
}
