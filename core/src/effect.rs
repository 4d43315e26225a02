//! Everything the machine can ask the outside world to do.
use alloc::vec::{Drain, Vec};
use core::fmt;

use crate::model::mutation::{ApplyRequest, TimedMutation};
use crate::model::position::{OpId, PartitionId, Position, RequestId};
use crate::model::time::Hlc;

/// An output of [`Machine::step`](crate::Machine::step).
///
/// Effects may run concurrently and finish in any order. One that must wait for another is not
/// emitted until the other's completion has come back as an [`Event`](crate::Event).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Tell an ordered source that everything up to here is durable. No completion.
    Acknowledge(Position),
    /// Apply a batch to the target in one transaction, or continue the one its first piece began.
    Apply {
        /// Completes as [`Event::Done`](crate::Event::Done).
        op: OpId,
        /// What to apply and how.
        request: ApplyRequest,
    },
    /// Answer a waiting source request with success. No completion.
    Answer(RequestId),
    /// Read staged rows in (time, key) order.
    ReadStaged {
        /// Completes as [`Event::StagedRead`](crate::Event::StagedRead).
        op: OpId,
        /// Exclusive lower bound on time.
        after: Hlc,
        /// Inclusive upper bound on time.
        through: Hlc,
        /// Upper bound on rows; the reader finishes the last time it starts.
        rows_max: u32,
    },
    /// Forget staged rows that are in the target.
    RetireStaged {
        /// Completes as [`Event::Done`](crate::Event::Done).
        op: OpId,
        /// Inclusive upper bound on time.
        through: Hlc,
    },
    /// Persist the checkpoint, and forget the applied records it covers.
    SaveCheckpoint {
        /// Completes as [`Event::Done`](crate::Event::Done).
        op: OpId,
        /// All transactions up to here are in the target.
        position: Position,
    },
    /// Persist how far rows may get into a target that does not tell what it has.
    SaveHorizon {
        /// Completes as [`Event::Done`](crate::Event::Done).
        op: OpId,
        /// Inclusive upper bound on time.
        through: Hlc,
    },
    /// Persist a partition's resolved timestamp.
    SaveResolved {
        /// Completes as [`Event::Done`](crate::Event::Done).
        op: OpId,
        /// Who promised.
        partition: PartitionId,
        /// The promise, inclusive.
        resolved: Hlc,
    },
    /// Persist rows so that the source may forget them.
    Stage {
        /// Completes as [`Event::Done`](crate::Event::Done).
        op: OpId,
        /// Idempotent on (table, key, time).
        rows: Vec<TimedMutation>,
        /// What was promised or read before they came, inclusive. Rows of this time and older ones come late: they
        /// were here before, or somebody broke a promise. See the store's contract.
        floor: Hlc,
    },
}

impl fmt::Display for Effect {
    /// One line without row values, as the driver logs it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Acknowledge(position) => write!(f, "acknowledge {position}"),
            Self::Apply { op, request } => {
                let ApplyRequest { batch, order, dead } = request;
                let (first, last, rows) = (batch.first, batch.last, batch.mutations.len());
                write!(
                    f,
                    "apply {op} {first}..={last} rows={rows} order={order} dead={}",
                    dead.len()
                )
            }
            Self::Answer(request) => write!(f, "answer {request}"),
            Self::ReadStaged { op, after, through, rows_max } => {
                write!(f, "read-staged {op} after={after} through={through} max={rows_max}")
            }
            Self::RetireStaged { op, through } => write!(f, "retire-staged {op} {through}"),
            Self::SaveCheckpoint { op, position } => write!(f, "save-checkpoint {op} {position}"),
            Self::SaveHorizon { op, through } => write!(f, "save-horizon {op} {through}"),
            Self::SaveResolved { op, partition, resolved } => {
                write!(f, "save-resolved {op} {partition} {resolved}")
            }
            Self::Stage { op, rows, floor } => {
                write!(f, "stage {op} rows={} floor={floor}", rows.len())
            }
        }
    }
}

/// The effects of one step, in the order they were decided.
#[derive(Debug, Default)]
pub struct Effects {
    list: Vec<Effect>,
}

impl Effects {
    /// Adds one effect.
    pub fn push(&mut self, effect: Effect) {
        self.list.push(effect);
    }

    /// All effects.
    #[must_use]
    pub fn as_slice(&self) -> &[Effect] {
        &self.list
    }

    /// Takes all effects out, keeping the buffer.
    pub fn drain(&mut self) -> Drain<'_, Effect> {
        self.list.drain(..)
    }
}
