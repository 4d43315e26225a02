//! Station 6½: how many batches go into the target side by side.
//!
//! More of them hide the way to a server that is far away, and keep its processors busy. Beyond that they only
//! get in each other's way: MariaDB on two processors is a third slower with sixteen sessions than with two. What
//! is best depends on the target, so it is tried out: half as many more, then a third fewer, each for a few batches,
//! and what applies more rows in the same time than the other did before and after stays. A trial that fails has
//! cost something, so the next one is later. While no batch waits there is nothing to measure.
use core::time::Duration;

use crate::model::time::MonoTime;

/// What it begins with. Not fewer, so that one batch that waits for a lock does not hold up all others.
const LEAST: usize = 2;
/// Finished batches that are measured together, at least.
const BATCHES_MIN: usize = 6;
/// And for so long, at least.
const EPOCH_MIN: Duration = Duration::from_millis(50);
/// What more batches have to reach, in hundredths of what fewer do: each costs memory, and processors on both sides.
const MORE_MIN: u128 = 108;
/// What fewer batches have to reach, in hundredths of what more do.
const FEWER_MIN: u128 = 97;
/// Measurements from a trial that failed to the next one: at first, and at most.
const REST_MIN: u32 = 4;
const REST_MAX: u32 = 64;
/// Rates are in rows, so many of which would take one nanosecond.
const SCALE: u128 = 1_000_000_000_000;

/// How many batches go side by side.
#[derive(Debug)]
pub(crate) struct Pace {
    max: usize,
    limit: usize,
    trial: Option<Trial>,
    // Whether the next trial is with more.
    up: bool,
    // Measurements until the next trial, and how many there were before the last one.
    rest: u32,
    rest_last: u32,
    epoch: Epoch,
}

/// Another limit is being tried.
#[derive(Clone, Copy, Debug)]
struct Trial {
    // What it was, and what it reached.
    from: usize,
    rate: u128,
    // The other one and what it reached, while the first one is measured once more: it may have become faster by
    // itself, as it does when a run begins.
    won: Option<(usize, u128)>,
}

/// What is being measured.
#[derive(Debug, Default)]
struct Epoch {
    // Batches that began under another limit are not counted.
    skip: usize,
    began: MonoTime,
    batches: usize,
    rows: u128,
}

impl Pace {
    /// `max` is what the operator allows.
    pub(crate) fn new(max: usize) -> Self {
        let limit = max.min(LEAST);
        let epoch = Epoch { skip: limit, ..Epoch::default() };
        Self { max, limit, trial: None, up: true, rest: 0, rest_last: 0, epoch }
    }

    /// So many batches may go at once.
    pub(crate) const fn limit(&self) -> usize {
        self.limit
    }

    /// Nothing waits, so the limit holds nothing back, and there is nothing to measure.
    pub(crate) fn is_idle(&mut self) {
        if let Some(Trial { from, .. }) = self.trial.take() {
            self.limit = from;
        }
        self.begin_epoch();
    }

    /// A batch is in the target.
    pub(crate) fn applied(&mut self, now: MonoTime, rows: usize) {
        if self.max <= LEAST {
            return;
        }
        let epoch = &mut self.epoch;
        if let Some(left) = epoch.skip.checked_sub(1) {
            epoch.skip = left;
            epoch.began = now;
            return;
        }
        epoch.batches = epoch.batches.saturating_add(1);
        epoch.rows = epoch.rows.saturating_add(u128::try_from(rows).unwrap_or(u128::MAX));
        let took = now.since(epoch.began);
        let enough = BATCHES_MIN.max(self.limit) <= epoch.batches;
        if enough && EPOCH_MIN <= took {
            // In which unit does not matter, as long as it is a small one.
            let scaled = epoch.rows.saturating_mul(SCALE);
            let rate = scaled.checked_div(took.as_nanos()).unwrap_or(u128::MAX);
            self.decide(rate);
            self.begin_epoch();
        }
    }

    fn begin_epoch(&mut self) {
        self.epoch = Epoch { skip: self.limit, ..Epoch::default() };
    }

    fn decide(&mut self, rate: u128) {
        if let Some(Trial { from, rate: before, won }) = self.trial.take() {
            let (other, reached) = won.unwrap_or((self.limit, rate));
            let before = if won.is_some() { rate } else { before };
            let needed = if from < other { MORE_MIN } else { FEWER_MIN };
            if reached.saturating_mul(100) < before.saturating_mul(needed) {
                self.limit = from;
                return self.turn();
            }
            if won.is_none() {
                self.limit = from;
                self.trial = Some(Trial { from, rate: before, won: Some((other, reached)) });
                return;
            }
            // Once more the same way, at once.
            self.limit = other;
            self.rest_last = 0;
            return;
        }
        if let Some(left) = self.rest.checked_sub(1) {
            self.rest = left;
            return;
        }
        let mut other = self.other();
        if other == self.limit {
            // There is nothing beyond.
            self.up = !self.up;
            other = self.other();
        }
        self.trial = Some(Trial { from: self.limit, rate, won: None });
        self.limit = other;
    }

    /// What is tried next.
    fn other(&self) -> usize {
        let other = if self.up {
            self.limit.saturating_mul(3).saturating_add(1).div_euclid(2)
        } else {
            self.limit.saturating_mul(2).div_euclid(3)
        };
        other.max(LEAST).min(self.max)
    }

    /// The next trial is the other way, and later each time.
    fn turn(&mut self) {
        self.up = !self.up;
        self.rest_last = self.rest_last.saturating_mul(2).clamp(REST_MIN, REST_MAX);
        self.rest = self.rest_last;
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;
    use core::time::Duration;

    use super::{LEAST, Pace};
    use crate::model::time::MonoTime;

    /// Rows of each batch.
    const ROWS: usize = 1_000;

    /// A target that is always busy: how long a batch takes while so many go at once.
    struct Target {
        pace: Pace,
        now: MonoTime,
    }

    impl Target {
        fn new(max: usize) -> Self {
            Self { pace: Pace::new(max), now: MonoTime::START }
        }

        /// Applies so many batches. Returns all limits on the way.
        fn apply(&mut self, batches: usize, takes: impl Fn(usize) -> Duration) -> Vec<usize> {
            let mut limits = Vec::new();
            for _ in 0..batches {
                let limit = self.pace.limit();
                let share = takes(limit).checked_div(u32::try_from(limit).unwrap()).unwrap();
                self.now = self.now.after(share);
                self.pace.applied(self.now, ROWS);
                limits.push(limit);
            }
            limits
        }
    }

    /// Far away, or of many processors: each batch takes as long as alone.
    const fn far(_: usize) -> Duration {
        Duration::from_millis(40)
    }

    /// Of two processors, on which batches get in each other's way.
    const fn small(limit: usize) -> Duration {
        Duration::from_millis(match limit {
            0..3 => 40,
            3..5 => 90,
            5..9 => 200,
            9.. => 500,
        })
    }

    fn mean(limits: &[usize]) -> usize {
        limits.iter().sum::<usize>().checked_div(limits.len()).unwrap()
    }

    #[test]
    fn a_target_that_takes_more_gets_more() {
        let mut target = Target::new(16);
        let limits = target.apply(200, far);
        assert_eq!(limits[0], 2);
        assert!(
            limits.iter().position(|limit| *limit == 16).is_some_and(|at| at < 200),
            "{limits:?}"
        );
        assert!(13 < mean(&target.apply(2_000, far)));
    }

    #[test]
    fn a_target_that_more_make_slower_gets_fewer() {
        let mut target = Target::new(16);
        target.apply(200, small);
        assert_eq!(mean(&target.apply(2_000, small)), 2);
        // Another one has taken its place.
        target.apply(600, far);
        assert!(13 < mean(&target.apply(2_000, far)));
    }

    #[test]
    fn what_becomes_faster_by_itself_is_no_reason_for_more() {
        let mut target = Target::new(16);
        // It begins slowly.
        let mut limits = target.apply(6, |limit| small(limit).saturating_mul(4));
        limits.extend(target.apply(6, |limit| small(limit).saturating_mul(2)));
        limits.extend(target.apply(200, small));
        assert!(limits.iter().all(|limit| *limit <= 4), "{limits:?}");
        assert_eq!(mean(&limits), 2);
    }

    #[test]
    fn nothing_is_tried_while_nothing_waits() {
        let mut target = Target::new(16);
        for _ in 0..200 {
            assert_eq!(target.apply(6, far), [2; 6]);
            target.pace.is_idle();
        }
        // A trial is given up.
        let limits = target.apply(10, far);
        assert_eq!(limits.last(), Some(&3), "{limits:?}");
        target.pace.is_idle();
        assert_eq!(target.pace.limit(), 2);
    }

    #[test]
    fn no_limit_is_above_the_operators_or_below_the_least() {
        for max in 1..20 {
            for takes in [far, small] {
                let limits = Target::new(max).apply(1_000, takes);
                let within = |limit: &usize| (LEAST.min(max)..=max).contains(limit);
                assert!(limits.iter().all(within), "{max}: {limits:?}");
            }
        }
    }
}
