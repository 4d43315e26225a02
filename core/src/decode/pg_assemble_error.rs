//! Why messages could not be put together to transactions of the target.
use alloc::boxed::Box;
use alloc::string::String;

use super::pg_message::{RelationId, Xid};
use super::pg_wire::DecodeError;
use crate::model::ident::TableName;
use crate::model::position::Lsn;
use crate::stop::SchemaDrift;

/// The stream cannot be read on. Drop the assembler and begin again from the checkpoint, at once or
/// after an operator has looked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AssembleError {
    /// A message could not be decoded.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The source and the target do not agree on a table.
    #[error(transparent)]
    Drift(#[from] SchemaDrift),
    /// A message where the protocol has no place for it.
    #[error("source broke the replication protocol: {kind} message {place}")]
    OutOfPlace {
        /// The message's name in PostgreSQL's documentation.
        kind: &'static str,
        /// Where it came.
        place: &'static str,
    },
    /// A row of a table that was never described.
    #[error("source broke the replication protocol: table number {} was not described before its first row", relation.0)]
    UnknownRelation {
        /// The table's number at the source.
        relation: RelationId,
    },
    /// A row with more or fewer columns than its table.
    #[error(
        "source broke the replication protocol: a row of {table} has {got} columns, not {expected}"
    )]
    ColumnCount {
        /// The source table.
        table: TableName,
        /// Columns of the table.
        expected: usize,
        /// Columns of the row.
        got: usize,
    },
    /// A table with two columns of one name.
    #[error("source broke the replication protocol: {table} has column \"{column}\" twice")]
    ColumnTwice {
        /// The source table.
        table: TableName,
        /// The column.
        column: String,
    },
    /// An inserted row lacks values.
    #[error("source broke the replication protocol: a row inserted into {table} lacks a value")]
    InsertIncomplete {
        /// The source table.
        table: TableName,
    },
    /// A transaction does not end where it said it would.
    #[error(
        "source broke the replication protocol: the transaction that commits at {begun} ended at {committed}"
    )]
    OtherCommit {
        /// The commit record's start, by the Begin message.
        begun: Lsn,
        /// The commit record's start, by the Commit message.
        committed: Lsn,
    },
    /// A transaction at or before one that came already.
    #[error("source went back from {had} to {got}")]
    WentBack {
        /// The furthest position it had sent.
        had: Lsn,
        /// What it sent then.
        got: Lsn,
    },
    /// The first changes of a streamed transaction came twice.
    #[error("source broke the replication protocol: the stream of {xid} began twice")]
    StreamBegunTwice {
        /// The top-level transaction.
        xid: Xid,
    },
    /// More changes, or the commit, of a streamed transaction whose beginning we have not seen.
    #[error("source broke the replication protocol: the stream of {xid} did not begin")]
    StreamNotBegun {
        /// The top-level transaction.
        xid: Xid,
    },
    /// Transactions in progress are larger than we may hold.
    #[error(
        "{open} streamed transactions in progress hold {held_bytes} bytes, the limit is {bytes_max}"
    )]
    StreamedTooLarge {
        /// How many are in progress.
        open: usize,
        /// What they hold, in bytes.
        held_bytes: usize,
        /// The limit, in bytes.
        bytes_max: usize,
    },
    /// Two source tables would be written into one target table.
    #[error("{first} and {second} at the source are one table {target} on the target")]
    SameTarget {
        /// The target table.
        target: Box<TableName>,
        /// The source table whose rows came first.
        first: TableName,
        /// The other one.
        second: TableName,
    },
    /// Tables were emptied, and nobody said what to do about it.
    #[error(
        "the source truncated {tables}; the flag --truncate says what to do: apply, ignore, or stop"
    )]
    Truncated {
        /// The source tables, separated by commas.
        tables: String,
    },
}

impl AssembleError {
    /// One thing the operator can try.
    #[must_use]
    pub const fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Decode(error) => error.hint(),
            Self::StreamedTooLarge { .. } => Some(
                "raise the limit, or turn streaming of transactions in progress off so that the \
                 source keeps them on its own disk until they commit",
            ),
            Self::SameTarget { .. } => {
                Some("publish one of them, or run one replicator per source schema")
            }
            // Not "by hand": rows that were written before the truncate may still be on their way.
            Self::Truncated { .. } => Some(
                "start again with --truncate=apply to empty the target's tables too, or with \
                 --truncate=ignore to keep their rows",
            ),
            Self::Drift(_)
            | Self::OutOfPlace { .. }
            | Self::UnknownRelation { .. }
            | Self::ColumnCount { .. }
            | Self::ColumnTwice { .. }
            | Self::InsertIncomplete { .. }
            | Self::OtherCommit { .. }
            | Self::WentBack { .. }
            | Self::StreamBegunTwice { .. }
            | Self::StreamNotBegun { .. } => None,
        }
    }
}
