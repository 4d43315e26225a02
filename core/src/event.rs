//! Everything the outside world can tell the machine.
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;

use crate::model::mutation::{Mutation, SourceTx, TimedMutation};
use crate::model::position::{OpId, PartitionId, Position, RequestId};
use crate::model::time::Hlc;

/// An input of [`Machine::step`](crate::Machine::step).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// An ordered source (PostgreSQL, MySQL, Oracle) committed a transaction.
    TransactionReceived(SourceTx),
    /// An ordered source sent a piece of a committed transaction that is too large to hold. More
    /// pieces follow without anything in between; the last one comes as `TransactionReceived`.
    PieceReceived {
        /// Where the transaction's commit record starts: at or after the end of every earlier
        /// transaction, before the end of this one.
        before: Position,
        /// In source order.
        mutations: Vec<Mutation>,
    },
    /// An ordered source is idle and promised: nothing at or before this is still to come.
    IdleThrough(Position),
    /// A changefeed delivered row changes, in no order across keys and perhaps again.
    RowsReceived {
        /// Answer this once the rows are durable.
        request: RequestId,
        /// The rows, each with its commit time.
        rows: Vec<TimedMutation>,
    },
    /// A changefeed promised: nothing at or before `resolved` is still to come on `partition`.
    ResolvedReceived {
        /// Answer this once the promise is durable.
        request: RequestId,
        /// Who promises.
        partition: PartitionId,
        /// The promise, inclusive.
        resolved: Hlc,
    },
    /// An [`Effect`](crate::Effect) finished.
    Done(OpId),
    /// An [`Effect::ReadStaged`](crate::Effect::ReadStaged) finished with rows, in (time, key) order.
    StagedRead {
        /// The effect that finished.
        op: OpId,
        /// At most as many rows as asked for.
        rows: Vec<TimedMutation>,
        /// True if the range holds nothing beyond `rows`.
        exhausted: bool,
    },
    /// An effect failed.
    Failed {
        /// The effect that failed.
        op: OpId,
        /// How.
        failure: Failure,
    },
    /// The moment named by [`Machine::next_deadline`](crate::Machine::next_deadline) has come.
    DeadlineReached,
    /// The run shall end in good order: nothing more is read, what was read goes into the target, and its
    /// position is saved at once. [`Machine::is_finished`](crate::Machine::is_finished) tells when.
    StopRequested,
}

impl fmt::Display for Event {
    /// One line without row values, as the driver logs it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TransactionReceived(tx) => {
                write!(f, "transaction {} rows={}", tx.position, tx.mutations.len())
            }
            Self::PieceReceived { before, mutations } => {
                write!(f, "piece {before} rows={}", mutations.len())
            }
            Self::IdleThrough(position) => write!(f, "idle {position}"),
            Self::RowsReceived { request, rows } => write!(f, "rows {request} {}", rows.len()),
            Self::ResolvedReceived { request, partition, resolved } => {
                write!(f, "resolved {request} {partition} {resolved}")
            }
            Self::Done(op) => write!(f, "done {op}"),
            Self::StagedRead { op, rows, exhausted } => {
                write!(f, "staged-read {op} rows={} exhausted={exhausted}", rows.len())
            }
            Self::Failed { op, failure } => write!(f, "failed {op} {failure}"),
            Self::DeadlineReached => f.write_str("deadline"),
            Self::StopRequested => f.write_str("stop"),
        }
    }
}

/// How an effect failed, as far as the machine cares. Adapters translate driver errors into these.
///
/// `detail` is the database's own message and code, never a row value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Nothing happened; the same effect may work later (serialization failure, lost connection).
    Transient {
        /// What the database or the network said.
        detail: String,
    },
    /// The commit may or may not have happened. Safe to repeat because applying is idempotent.
    OutcomeUnknown {
        /// What the network said.
        detail: String,
    },
    /// A foreign key or unique index refused the order of rows; another order may work, or other
    /// batches first.
    Constraint {
        /// The target's own words.
        detail: String,
        /// Which mutations were in the refused statement, if one statement was.
        at: Option<Range<usize>>,
    },
    /// The target will never accept it.
    Rejected {
        /// The target's own words.
        detail: String,
        /// Which mutations were in the refused statement, if one statement was.
        at: Option<Range<usize>>,
    },
    /// A later run has begun; this one has no say any more.
    Fenced,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Transient { detail } => write!(f, "transient: {detail}"),
            Self::OutcomeUnknown { detail } => write!(f, "outcome unknown: {detail}"),
            Self::Constraint { detail, .. } => write!(f, "constraint: {detail}"),
            Self::Rejected { detail, .. } => write!(f, "rejected: {detail}"),
            Self::Fenced => f.write_str("another replicator has taken over"),
        }
    }
}
