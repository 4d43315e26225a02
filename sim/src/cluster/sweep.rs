//! As many worlds with sockets as fit into some time, on all cores.
use std::fmt;
use std::ops::Range;
use std::time::Duration;

use super::command::first_difference;
use super::reach::Reached;
use super::{Outcome, Reach, Scenario, Script};
use crate::sweep::each_seed;

/// One seed in this many is played twice, and the two stories are compared.
const COMPARED: u64 = 16;

/// What a sweep found.
#[derive(Debug, Default)]
pub struct Report {
    /// The worlds.
    pub scenario: Scenario,
    /// Seeds that were played.
    pub seeds: u64,
    /// Threads that played them.
    pub threads: usize,
    /// How long it took.
    pub took: Duration,
    /// What they reached.
    pub reach: Reach,
    /// The first world that did not end well.
    pub failed: Option<(Script, Failed)>,
}

/// How a world failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failed {
    /// It did not end well.
    Ended(Outcome),
    /// Played twice, it is two stories, which differ here first.
    NotDeterministic(String),
}

/// Plays seeds in their order until the time is over or a world fails, on `threads` threads.
#[must_use]
pub fn sweep(scenario: Scenario, seeds: Range<u64>, time: Duration, threads: usize) -> Report {
    let play = |mine: &mut Report, seed| {
        mine.play(scenario, seed);
        mine.failed.is_none()
    };
    let (mut total, took) = each_seed(seeds, time, threads, play, Report::add);
    total.scenario = scenario;
    total.threads = threads;
    total.took = took;
    total
}

impl Report {
    fn play(&mut self, scenario: Scenario, seed: u64) {
        let script = Script::new(scenario, seed);
        let report = script.play();
        self.seeds += 1;
        self.reach.merge(&report.reach);
        if report.outcome != Outcome::Arrived {
            self.failed = Some((script, Failed::Ended(report.outcome)));
        } else if seed.is_multiple_of(COMPARED)
            && let Some(line) = first_difference(&report.trace, &script.play().trace)
        {
            self.failed = Some((script, Failed::NotDeterministic(line)));
        }
    }

    fn add(&mut self, other: Self) {
        self.seeds += other.seeds;
        self.reach.merge(&other.reach);
        self.failed = self.failed.take().or(other.failed);
    }

    /// The interesting states that no world reached.
    #[must_use]
    pub fn missed(&self) -> Vec<Reached> {
        self.reach.missed(self.scenario)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { scenario, seeds, threads, took, reach, failed: _ } = self;
        let name = scenario.name();
        let millis = u64::try_from(took.as_millis()).unwrap_or(u64::MAX).max(1);
        let tenths = seeds.saturating_mul(10_000) / millis;
        let per_core = tenths / u64::try_from(*threads).unwrap_or(1).max(1);
        write!(
            f,
            "{name}:\n{reach}{seeds} seeds in {} s on {threads} threads: {}.{} seeds/s, {}.{} \
             seeds/s per thread",
            took.as_secs(),
            tenths / 10,
            tenths % 10,
            per_core / 10,
            per_core % 10,
        )
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::sweep;
    use crate::cluster::Scenario;

    #[test]
    fn a_sweep_without_time_has_reached_nothing() {
        for scenario in Scenario::ALL {
            let report = sweep(scenario, 1..2, Duration::ZERO, 2);
            assert!(report.seeds == 0 && report.failed.is_none());
            assert!(20 < report.missed().len(), "every interesting state is missed");
        }
    }

    #[test]
    fn a_short_sweep_says_what_it_reached() {
        for scenario in Scenario::ALL {
            let report = sweep(scenario, 1..5, Duration::from_secs(60), 2);
            assert_eq!(report.seeds, 4);
            assert!(report.failed.is_none(), "{:?}", report.failed);
            assert!(report.to_string().contains("seeds/s per thread"));
        }
    }
}
