//! Which interesting states were reached. A generator that never gets there passes everything.
use std::collections::BTreeMap;
use std::fmt;

use crate::fault::Kind;

/// A state worth reaching.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Seen {
    /// Two batches were on their way at once.
    TwoBatches,
    /// A younger batch was in the target before an older one.
    OutOfOrder,
    /// Several source transactions shared a target transaction.
    GroupCommit,
    /// A batch waited for another one.
    BatchWaits,
    /// The machine told its source to pause.
    Pause,
    /// The checkpoint moved to a position without a transaction.
    IdleSaved,
    /// The process ended in good order with rows that were not in the target when it was asked to.
    StoppedBusy,
    /// The process died while a batch rested.
    RetryAtCrash,
    /// The process died while a transaction in pieces was open in the target.
    PiecesAtCrash,
    /// A transaction in pieces was committed.
    PiecesCommitted,
    /// The target refused an effect of a dead run.
    LateRefused,
    /// A run noticed that another one had begun.
    Fenced,
    /// A batch was tried in source order.
    SourceOrder,
    /// A batch was tried row by row.
    RowWise,
    /// A batch was halved.
    Halved,
    /// A change became a dead letter.
    DeadLetter,
    /// A unique value went from one row to another.
    HandOver,
    /// A row was given another key without its unchanged columns.
    Moved,
    /// A transaction had a thousand rows or more.
    Large,
    /// A batch held rows of one table that the source laid out in two ways.
    Altered,
    /// A transaction came again that the checkpoint covers.
    ResentSkipped,
    /// A transaction came again that the target has although no checkpoint covers it.
    AppliedSkipped,
    /// A run ended because nobody knew whether a batch was in the target.
    OutcomeUnknown,
    /// A batch failed too often.
    RetriesExhausted,
    /// A transaction in pieces was lost.
    PieceLost,
    /// A promise waited for the rows before it.
    PromiseWaits,
    /// A write to staging was lost.
    StagingLost,
    /// A range of staged rows was read in more than one page.
    Paged,
    /// A partition promised less than it had promised before.
    OlderPromise,
    /// A row was staged again that was retired already.
    StagedAgain,
    /// What a target that tells nothing might have had was applied again.
    Replayed,
    /// And its rows had to be put into another order.
    Settled,
}

impl Seen {
    /// What worlds with this kind of source must reach, if there are enough of them.
    #[must_use]
    pub const fn all_of(kind: Kind) -> &'static [Self] {
        match kind {
            Kind::Ordered => &Self::ORDERED,
            Kind::Changefeed => &Self::CHANGEFEED,
        }
    }

    const ORDERED: [Self; 25] = [
        Self::TwoBatches,
        Self::OutOfOrder,
        Self::GroupCommit,
        Self::BatchWaits,
        Self::Pause,
        Self::IdleSaved,
        Self::StoppedBusy,
        Self::RetryAtCrash,
        Self::PiecesAtCrash,
        Self::PiecesCommitted,
        Self::LateRefused,
        Self::Fenced,
        Self::SourceOrder,
        Self::RowWise,
        Self::Halved,
        Self::DeadLetter,
        Self::HandOver,
        Self::Moved,
        Self::Large,
        Self::Altered,
        Self::ResentSkipped,
        Self::AppliedSkipped,
        Self::OutcomeUnknown,
        Self::RetriesExhausted,
        Self::PieceLost,
    ];

    const CHANGEFEED: [Self; 24] = [
        Self::TwoBatches,
        Self::OutOfOrder,
        Self::GroupCommit,
        Self::BatchWaits,
        Self::Pause,
        Self::IdleSaved,
        Self::StoppedBusy,
        Self::RetryAtCrash,
        Self::LateRefused,
        Self::Fenced,
        Self::SourceOrder,
        Self::RowWise,
        Self::DeadLetter,
        Self::HandOver,
        Self::Altered,
        Self::AppliedSkipped,
        Self::OutcomeUnknown,
        Self::PromiseWaits,
        Self::StagingLost,
        Self::Paged,
        Self::OlderPromise,
        Self::StagedAgain,
        Self::Replayed,
        Self::Settled,
    ];
}

/// How often each state was reached.
#[derive(Clone, Debug, Default)]
pub struct Coverage {
    counts: BTreeMap<Seen, u64>,
}

impl Coverage {
    /// It was reached.
    pub fn mark(&mut self, seen: Seen) {
        *self.counts.entry(seen).or_default() += 1;
    }

    /// It was reached, if so.
    pub fn mark_if(&mut self, reached: bool, seen: Seen) {
        if reached {
            self.mark(seen);
        }
    }

    /// Adds what another world reached.
    pub fn add(&mut self, other: &Self) {
        for (seen, count) in &other.counts {
            *self.counts.entry(*seen).or_default() += count;
        }
    }

    /// How often it was reached.
    #[must_use]
    pub fn count(&self, seen: Seen) -> u64 {
        self.counts.get(&seen).copied().unwrap_or_default()
    }
}

impl Coverage {
    /// What was never reached, although worlds with this kind of source should.
    #[must_use]
    pub fn missed(&self, kind: Kind) -> Vec<Seen> {
        Seen::all_of(kind).iter().copied().filter(|seen| self.count(*seen) == 0).collect()
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (seen, count) in &self.counts {
            writeln!(f, "{count:>8} {seen:?}")?;
        }
        Ok(())
    }
}
