//! Which interesting states a world with sockets has reached.
use std::collections::BTreeMap;
use std::fmt;

use super::Scenario;
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
    /// A run ended because the outcome of a commit was not known.
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
    /// The source sent a transaction that it had sent before.
    Resent,
    /// A change became a dead letter.
    DeadLetter,
    /// A run ended at a row that the target refuses.
    Rejected,
    /// A transaction was applied in pieces.
    Pieces,
    /// The source described a table again in the middle of a stream.
    Altered,
    /// The target was a CockroachDB.
    Cockroach,
    /// Rows came after a promise about them.
    LateRows,
    /// Rows were brought that had been brought before.
    BroughtAgain,
    /// A promise was made for the second time, or an older one.
    PromisedAgain,
    /// A promise was made while rows that are not of it were on their way.
    PromiseAmongRows,
    /// The program died before it answered rows.
    DiedUnanswered,
    /// The target was given what it had already.
    AppliedAgain,
    /// Constraints were at work.
    Constraints,
    /// Staged rows were read in several pages.
    Paged,
    /// Staged rows were forgotten.
    Retired,
    /// Something could not be staged, and the run ended.
    StagingFailed,
    /// The staging file was opened again after an error.
    Reopened,
    /// Those who brought rows were sent away.
    SentAway,
    /// A run began in best effort.
    BestEffort,
    /// Rows waited for nothing.
    Immediate,
    /// A run began in which independent tables waited for promises again, apart from the others.
    Settling,
    /// A run ended for another mode.
    ModeChanged,
    /// A row was applied before anybody had promised its time.
    AheadOfPromise,
    /// A feed called that nobody had waited for.
    FeedJoined,
    /// Another replicator was waited for.
    Waited,
    /// The source was another server than before.
    OtherServer,
    /// A position was saved that an XA transaction without an outcome held back.
    HeldBack,
    /// The source was a MariaDB.
    MariaDb,
    /// A transaction was undone of which pieces were applied.
    Undone,
    /// The source's catalog was asked again because a table had changed.
    AskedAgain,
    /// Rows from before a change of their columns could not be read.
    ColumnsUnknown,
}

/// What shows in a trace that a state was reached. The words are the program's own, so a sweep that never
/// finds one of them may only mean that they have changed.
const MARKS: [(&str, Reached); 25] = [
    ("replication resumes", Reached::Resumed),
    ("it is not known whether a target transaction has committed", Reached::OutcomeUnknown),
    ("another replicator has taken over", Reached::Fenced),
    ("is active for PID", Reached::SlotBusy),
    ("maximum number of retries", Reached::RetriesExhausted),
    ("heard nothing from the source", Reached::Silent),
    ("gives up", Reached::GaveUp),
    ("stops in good order", Reached::Stopped),
    ("the target rejected a row", Reached::Rejected),
    ("event=piece ", Reached::Pieces),
    (" exhausted=false", Reached::Paged),
    ("effect=retire-staged ", Reached::Retired),
    ("staging failed for", Reached::StagingFailed),
    ("the staging file is opened again", Reached::Reopened),
    ("request sent away", Reached::SentAway),
    (" in best effort", Reached::BestEffort),
    (", consistent from ", Reached::Settling),
    ("conveyor goes on in another mode", Reached::ModeChanged),
    ("rows wait for the promises of the feeds of", Reached::FeedJoined),
    ("another replicator works on the ", Reached::Waited),
    ("the source is another server than before", Reached::OtherServer),
    ("while held back", Reached::HeldBack),
    ("the source undid a part of a large transaction", Reached::Undone),
    ("its catalog is asked again", Reached::AskedAgain),
    ("names columns from here on", Reached::ColumnsUnknown),
];

/// What can be reached in worlds of PostgreSQL to PostgreSQL, besides the faults.
const FORWARD: [Reached; 16] = [
    Reached::GroupCommit,
    Reached::OutOfOrder,
    Reached::Resumed,
    Reached::OutcomeUnknown,
    Reached::Fenced,
    Reached::SlotBusy,
    Reached::RetriesExhausted,
    Reached::Silent,
    Reached::GaveUp,
    Reached::Stopped,
    Reached::Resent,
    Reached::DeadLetter,
    Reached::Rejected,
    Reached::Pieces,
    Reached::Altered,
    Reached::Cockroach,
];

/// The same in worlds of MySQL and MariaDB.
const MY_FORWARD: [Reached; 22] = [
    Reached::GroupCommit,
    Reached::OutOfOrder,
    Reached::Resumed,
    Reached::OutcomeUnknown,
    Reached::Fenced,
    Reached::RetriesExhausted,
    Reached::Silent,
    Reached::GaveUp,
    Reached::Stopped,
    Reached::Resent,
    Reached::DeadLetter,
    Reached::Rejected,
    Reached::Altered,
    Reached::Cockroach,
    Reached::Waited,
    Reached::OtherServer,
    Reached::HeldBack,
    Reached::MariaDb,
    Reached::Pieces,
    Reached::Undone,
    Reached::AskedAgain,
    Reached::ColumnsUnknown,
];

/// The same in worlds of changefeeds.
const FAILBACK: [Reached; 26] = [
    Reached::GroupCommit,
    Reached::OutOfOrder,
    Reached::OutcomeUnknown,
    Reached::RetriesExhausted,
    Reached::GaveUp,
    Reached::Stopped,
    Reached::Cockroach,
    Reached::LateRows,
    Reached::BroughtAgain,
    Reached::PromisedAgain,
    Reached::PromiseAmongRows,
    Reached::DiedUnanswered,
    Reached::Constraints,
    Reached::Paged,
    Reached::Retired,
    Reached::StagingFailed,
    Reached::Reopened,
    Reached::BestEffort,
    Reached::Settling,
    Reached::Immediate,
    Reached::DeadLetter,
    Reached::ModeChanged,
    Reached::AheadOfPromise,
    Reached::FeedJoined,
    Reached::Waited,
    Reached::Fenced,
];

/// How often each state was reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    /// How many faults were about to happen, those that were left out included.
    pub begun: usize,
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
        self.begun += other.begun;
        other.counts.iter().for_each(|(reached, count)| self.add(*reached, *count));
    }

    /// What was never reached, although it can be in such worlds.
    #[must_use]
    pub fn missed(&self, scenario: Scenario) -> Vec<Reached> {
        let states: &[Reached] = match scenario {
            Scenario::PgForward => &FORWARD,
            Scenario::MyForward => &MY_FORWARD,
            Scenario::Failback => &FAILBACK,
        };
        let all = Kind::of(scenario).iter().copied().map(Reached::Fault);
        let all = all.chain(states.iter().copied());
        all.filter(|reached| self.count(*reached) == 0).collect()
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
