//! Which interesting states a world with sockets has reached.
use std::collections::BTreeMap;
use std::fmt;

use super::fault::Kind;

/// A state worth reaching.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reached {
    /// A fault of this kind happened.
    Fault(Kind),
    /// Several source transactions shared a target transaction.
    GroupCommit,
    /// A batch was in the target before an older one.
    OutOfOrder,
    /// A run began with a saved position.
    Resumed,
    /// The outcome of a commit was not known.
    OutcomeUnknown,
    /// A run noticed that another one had begun.
    Fenced,
    /// The slot was in use.
    SlotBusy,
    /// A batch failed too often.
    RetriesExhausted,
    /// The source fell silent.
    Silent,
    /// The program gave up and was started again.
    GaveUp,
    /// The program stopped in good order.
    Stopped,
    /// A transaction came again that was applied before.
    Resent,
}

/// What shows in a trace that a state was reached.
const MARKS: [(&str, Reached); 9] = [
    ("replication resumes", Reached::Resumed),
    ("outcome is unknown", Reached::OutcomeUnknown),
    ("another run has begun", Reached::Fenced),
    ("is active for PID", Reached::SlotBusy),
    ("failed too often", Reached::RetriesExhausted),
    ("heard nothing from the source", Reached::Silent),
    ("gives up", Reached::GaveUp),
    ("stops in good order", Reached::Stopped),
    ("replication timeout", Reached::Resent),
];

/// How often each state was reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    counts: BTreeMap<Reached, usize>,
}

impl Reach {
    /// It was reached that many times more.
    pub fn add(&mut self, reached: Reached, count: usize) {
        if count > 0 {
            *self.counts.entry(reached).or_default() += count;
        }
    }

    /// Counts what the lines of a trace show.
    pub fn read(&mut self, trace: &[String]) {
        for (mark, reached) in MARKS {
            self.add(reached, trace.iter().filter(|line| line.contains(mark)).count());
        }
    }

    /// Adds what another world reached.
    pub fn merge(&mut self, other: &Self) {
        other.counts.iter().for_each(|(reached, count)| self.add(*reached, *count));
    }

    /// How many kinds of faults have happened.
    #[must_use]
    pub fn faults(&self) -> usize {
        self.counts.keys().filter(|reached| matches!(reached, Reached::Fault(_))).count()
    }

    /// How often it was reached.
    #[must_use]
    pub fn count(&self, reached: Reached) -> usize {
        self.counts.get(&reached).copied().unwrap_or_default()
    }
}

impl fmt::Display for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (reached, count) in &self.counts {
            writeln!(f, "{count:>8} {reached:?}")?;
        }
        Ok(())
    }
}
