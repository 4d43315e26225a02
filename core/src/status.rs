//! What an operator may want to know. Plain values; adapters turn them into metrics.
use crate::model::position::Position;
use crate::model::time::{Hlc, WallTime};

/// A snapshot of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// All transactions up to here are in the target, and we will remember that.
    pub checkpoint: Option<Position>,
    /// All transactions up to here are in the target.
    pub applied: Option<Position>,
    /// The last transaction the source sent.
    pub admitted: Option<Position>,
    /// When the newest transaction at or before `applied` committed, by the source's clock.
    pub applied_committed: Option<WallTime>,
    /// Nothing at or before this is still to come. Zero for ordered sources.
    pub frontier: Hlc,
    /// Batches on their way into the target, failed ones that rest included.
    pub applies: usize,
    /// Batches that wait for a row another batch holds.
    pub waiting: usize,
    /// Rows held: in the open batch, waiting, and on their way.
    pub buffered_rows: usize,
    /// Bytes those rows take.
    pub buffered_bytes: usize,
}

impl Status {
    /// That of two machines which share a schema: it is as far as the slower one.
    #[must_use]
    pub fn with(&self, other: &Self) -> Self {
        let sum = usize::saturating_add;
        Self {
            checkpoint: self.checkpoint.min(other.checkpoint),
            applied: self.applied.min(other.applied),
            admitted: self.admitted.max(other.admitted),
            applied_committed: self.applied_committed.min(other.applied_committed),
            frontier: self.frontier.min(other.frontier),
            applies: sum(self.applies, other.applies),
            waiting: sum(self.waiting, other.waiting),
            buffered_rows: sum(self.buffered_rows, other.buffered_rows),
            buffered_bytes: sum(self.buffered_bytes, other.buffered_bytes),
        }
    }
}
