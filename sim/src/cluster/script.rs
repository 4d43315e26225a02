//! Everything that decides what happens in a world with sockets.
use std::collections::BTreeSet;
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::str::FromStr;

use super::fault::Kind;
use super::scenario::{self, Drawn, Verdict};
use super::{Outcome, Reach, Report, Scenario, failback, trace};
use crate::os::with_seed;
use crate::quiet::quietly;
use crate::shrink::leave_out;

/// A seed, and what is left out of what follows from it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Script {
    /// The world.
    pub scenario: Scenario,
    /// Everything follows from this number.
    pub seed: u64,
    /// The only kinds of faults that exist, if not those that the seed draws.
    pub faults: Option<Vec<Kind>>,
    /// Faults that do not happen, by their number in the trace.
    pub omit_faults: Numbers,
    /// Transactions that the source does not commit, by their number in the trace.
    pub omit_commits: Numbers,
}

/// A part of a world that can be left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Fault(usize),
    Commit(usize),
}

impl Script {
    /// The world of a seed.
    #[must_use]
    pub fn new(scenario: Scenario, seed: u64) -> Self {
        Self { scenario, seed, ..Self::default() }
    }

    /// Runs it.
    #[must_use]
    pub fn play(&self) -> Report {
        let script = self.clone();
        let only = self.faults.clone();
        with_seed(self.seed, move || match script.scenario {
            Scenario::PgForward | Scenario::MyForward => {
                let drawn = Drawn::of(script.scenario, script.seed, only.as_deref());
                let commits = drawn.commits;
                played(&drawn, commits, |reach| scenario::run(&drawn, &script, reach))
            }
            Scenario::Failback => {
                let drawn = failback::Drawn::new(script.seed, only.as_deref());
                let commits = drawn.commits;
                played(&drawn, commits, |reach| failback::run(&drawn, &script, reach))
            }
        })
    }

    /// Leaves faults and transactions out while it still fails in the same way. One that does not fail
    /// stays as it is.
    #[must_use]
    pub fn shrink(&self) -> Self {
        let Report { outcome: wanted, commits, reach, .. } = self.play();
        if wanted == Outcome::Arrived {
            return self.clone();
        }
        let parts = (0..reach.begun)
            .map(Part::Fault)
            .chain((0..commits).map(Part::Commit))
            .collect::<Vec<_>>();
        let without = |left: &[Part]| {
            let omitted = |part: &Part| !left.contains(part);
            let mut script = self.clone();
            for part in parts.iter().filter(|part| omitted(part)) {
                match part {
                    Part::Fault(number) => script.omit_faults.0.insert(*number),
                    Part::Commit(number) => script.omit_commits.0.insert(*number),
                };
            }
            script
        };
        let left = leave_out(parts.clone(), |left| without(left).play().outcome.is_like(&wanted));
        without(&left)
    }

    /// What to type to play it again.
    #[must_use]
    pub fn command(&self) -> String {
        let Self { scenario, seed, faults, omit_faults, omit_commits } = self;
        let name = scenario.name();
        let mut text = format!("cargo run --profile sim -p sim -- {seed} --scenario {name}");
        if let Some(faults) = faults {
            let names: Vec<&str> = faults.iter().map(|kind| kind.name()).collect();
            text.push_str(&format!(" --faults {}", names.join(",")));
        }
        for (flag, numbers) in [("--omit-faults", omit_faults), ("--omit-commits", omit_commits)] {
            if !numbers.0.is_empty() {
                text.push_str(&format!(" {flag} {numbers}"));
            }
        }
        text
    }
}

/// Runs a world in this thread and reports on it.
pub(super) fn played(
    drawn: &impl fmt::Debug,
    commits: usize,
    run: impl FnOnce(&mut Reach) -> Verdict,
) -> Report {
    let mut reach = Reach::default();
    let (ended, trace) = trace::keep(|| {
        let ended = quietly(AssertUnwindSafe(|| run(&mut reach)));
        (ended, trace::take())
    });
    let outcome = match ended {
        Ok(Verdict::Arrived) => Outcome::Arrived,
        Ok(Verdict::NotLive(what)) => Outcome::NotLive(what),
        Err(promise) => Outcome::Broken(promise),
    };
    reach.read(&trace);
    Report { drawn: format!("{drawn:#?}"), commits, outcome, trace, reach }
}

/// Numbers, written as `3,7-12`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Numbers(pub BTreeSet<usize>);

/// So many numbers can be given.
const NUMBERS_MAX: usize = 100_000;

impl FromStr for Numbers {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut numbers = BTreeSet::new();
        for part in text.split(',') {
            let number = |text: &str| {
                text.parse::<usize>().map_err(|_| format!("{part:?} is no number, nor like 7-12"))
            };
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (number(first)?, number(last)?);
            if NUMBERS_MAX < last.saturating_sub(first) {
                return Err(format!("{part:?} are more than {NUMBERS_MAX} numbers"));
            }
            numbers.extend(first..=last);
        }
        Ok(Self(numbers))
    }
}

impl fmt::Display for Numbers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut ranges: Vec<(usize, usize)> = Vec::new();
        for number in &self.0 {
            match ranges.last_mut() {
                Some((_, last)) if *last + 1 == *number => *last = *number,
                Some(_) | None => ranges.push((*number, *number)),
            }
        }
        let text = ranges.into_iter().map(|(first, last)| match last {
            last if last == first => first.to_string(),
            last => format!("{first}-{last}"),
        });
        f.write_str(&text.collect::<Vec<_>>().join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::{Numbers, Script};
    use crate::cluster::Scenario;
    use crate::cluster::fault::Kind;

    #[test]
    fn numbers_are_written_as_they_are_read() {
        for text in ["3", "0-2,5", "1,3,5-9"] {
            assert_eq!(text.parse::<Numbers>().unwrap().to_string(), text);
        }
        assert_eq!("1,2,3,2".parse::<Numbers>().unwrap().to_string(), "1-3");
        for text in ["", "1,", "a", "1-x", "0-18446744073709551615"] {
            assert!(text.parse::<Numbers>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_command_plays_the_same_world() {
        let script = Script::new(Scenario::Failback, 7);
        assert!(script.command().ends_with("-- 7 --scenario failback"));
        let script = Script { scenario: Scenario::PgForward, ..script };
        assert!(script.command().ends_with("-- 7 --scenario pg_forward"));
        let faults = Some(vec![Kind::KillSource, Kind::Hold]);
        let omit_faults = "0-3,5".parse().unwrap();
        let script = Script { faults, omit_faults, ..script };
        let text = script.command();
        assert!(text.ends_with("--faults kill-source,hold --omit-faults 0-3,5"), "{text}");
    }
}
