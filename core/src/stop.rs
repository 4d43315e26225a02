//! Why a machine cannot go on.
use alloc::string::String;

use thiserror::Error;

use crate::model::ident::TableName;
use crate::model::mutation::TableId;
use crate::model::position::{OpId, PartitionId, Position, TxSeq};

/// The end of one machine. Its driver drops it and resumes a new one from
/// [`Durable`](crate::Durable), at once or after an operator has looked.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Stop {
    /// The source sent a transaction at or before one it had sent already.
    #[error("source went back from {had} to {got}")]
    PositionWentBack {
        /// The last position it had sent.
        had: Position,
        /// What it sent now.
        got: Position,
    },
    /// The target will never take this row.
    #[error("target rejected a change to table number {} in transactions {first}..={last} through {position}: {detail}", table.map_or(u32::MAX, |t| t.0))]
    Rejected {
        /// First transaction it may be in.
        first: TxSeq,
        /// Last transaction it may be in.
        last: TxSeq,
        /// Source position of `last`.
        position: Position,
        /// The table, if one statement was refused.
        table: Option<TableId>,
        /// Index of the change in its batch, if known.
        index: Option<usize>,
        /// The target's own words.
        detail: String,
    },
    /// So many rows are refused that something else must be wrong. Nothing of this batch was applied.
    #[error(
        "{refused} of the last {seen} rows were rejected by the target, the last one because: {detail}"
    )]
    TooManyRefused {
        /// Rows that were refused.
        refused: u64,
        /// All rows that were tried.
        seen: u64,
        /// The table of the last one.
        table: Option<TableId>,
        /// The target's own words about the last one.
        detail: String,
    },
    /// A batch failed too often. The next run tries again from the checkpoint.
    #[error("maximum number of retries ({retries}) exceeded: {detail}")]
    RetriesExhausted {
        /// How often it was tried again.
        retries: u32,
        /// What the last try met.
        detail: String,
    },
    /// Nobody knows whether a target transaction has committed. The next run looks it up.
    #[error("it is not known whether a target transaction has committed: {detail}")]
    OutcomeUnknown {
        /// What happened to it.
        detail: String,
    },
    /// A transaction that is applied in pieces lost its target transaction.
    #[error("the target transaction of a large source transaction was lost: {detail}")]
    PieceLost {
        /// What happened to it.
        detail: String,
    },
    /// Rows or a promise could not be made durable.
    #[error("staging failed for {op}")]
    StagingFailed {
        /// The effect that failed.
        op: OpId,
    },
    /// What is staged cannot be read, and will not be until somebody has acted.
    #[error("{detail}")]
    Unreadable {
        /// What stands in the way, with the way out.
        detail: String,
    },
    /// A promise from a partition we were not told about.
    #[error("unknown {partition}")]
    UnknownPartition {
        /// Who.
        partition: PartitionId,
    },
    /// Another run has begun on the same target schema.
    #[error("another replicator has taken over")]
    Fenced,
}

/// The source and the target do not agree on what a table looks like.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SchemaDrift {
    /// The target has no such table.
    #[error("schema drift detected in {table}: the table does not exist on the target")]
    NoTable {
        /// Which, as it would be named on the target.
        table: TableName,
    },
    /// The source has columns that the target has not.
    #[error("schema drift detected in {table}: unexpected columns: {columns}")]
    UnexpectedColumns {
        /// The target table.
        table: TableName,
        /// Their names, separated by commas.
        columns: String,
    },
    /// The source does not send columns that the target cannot do without.
    #[error("schema drift detected in {table}: missing columns: {columns}")]
    MissingColumns {
        /// The target table.
        table: TableName,
        /// Their names, separated by commas.
        columns: String,
    },
    /// The source does not say which row changed.
    #[error("schema drift detected in {table}: no usable key: {reason}")]
    NoKey {
        /// The target table.
        table: TableName,
        /// Why.
        reason: String,
    },
}
