//! What to say about events that make no transactions.
use alloc::string::String;

use super::error::DecodeError;
use crate::model::gtid::{AnyGtid, TooManyIntervals};

/// The events make no transactions, or none that we may go on with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransactionError {
    /// An event that we cannot read.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// An event at a place where it makes no sense.
    #[error("{event} before position {end} of the binlog comes {state}")]
    Unexpected {
        /// What it is.
        event: &'static str,
        /// Where it ends in its file.
        end: u32,
        /// What came before.
        state: &'static str,
    },
    /// The source itself has lost changes.
    #[error("the source has not logged everything: incident {number}, \"{message}\"")]
    Incident {
        /// What kind.
        number: u16,
        /// What the server says.
        message: String,
    },
    /// A transaction without an identifier.
    #[error("the source has logged a transaction without a GTID before position {end}")]
    Anonymous {
        /// Where its first event ends.
        end: u32,
    },
    /// A transaction that we have, or one of another product.
    #[error("the source sent transaction {gtid}, which it had sent before")]
    Repeated {
        /// Which one.
        gtid: AnyGtid,
    },
    /// A position of MySQL for a stream of MariaDB, or the other way round.
    #[error("transaction {gtid} is of another product than the position")]
    OtherProduct {
        /// The transaction.
        gtid: AnyGtid,
    },
    /// The source has had transactions that it has not sent.
    #[error("the source's files begin after transactions that were not received: {missing}")]
    Gap {
        /// Which ones, or the first of them.
        missing: String,
    },
    /// An XA transaction is committed whose rows we have not seen.
    #[error("XA transaction {xid} is committed, and was prepared before the stream began")]
    XaUnknown {
        /// Its name.
        xid: String,
    },
    /// An XA transaction of a name that another one has.
    #[error("XA transaction {xid} is prepared a second time, and the first has no outcome")]
    XaTwice {
        /// Its name.
        xid: String,
    },
    /// A statement about an XA transaction that we cannot read.
    #[error("cannot read the name of an XA transaction in \"{statement}\"")]
    XaUnreadable {
        /// The beginning of the statement.
        statement: String,
    },
    /// More prepared transactions than we keep.
    #[error("more than {limit} bytes of prepared XA transactions are without an outcome")]
    PreparedTooLarge {
        /// How much we keep.
        limit: usize,
    },
    /// A savepoint that was not set.
    #[error("rolls back to savepoint \"{name}\", which was not set")]
    NoSavepoint {
        /// Its name.
        name: String,
    },
    /// More savepoints than we keep.
    #[error("a transaction has more than {limit} savepoints")]
    SavepointsTooMany {
        /// How many we keep.
        limit: usize,
    },
    /// More runs of transactions than we keep.
    #[error(transparent)]
    Position(#[from] TooManyIntervals),
}

impl TransactionError {
    /// One thing the operator can try.
    #[must_use]
    pub const fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Decode(error) => error.hint(),
            Self::Incident { .. } => Some("compare the tables with the source and begin anew"),
            Self::Anonymous { .. } => Some(
                "set gtid_mode=ON and enforce_gtid_consistency=ON on the source, and begin after the \
                 last transaction without a GTID",
            ),
            Self::Gap { .. } => Some(
                "the source has purged what was not yet read, or was told that it has transactions \
                 which it never ran; copy the data anew and begin at the copy's position",
            ),
            Self::XaUnknown { .. } => Some(
                "begin before its XA PREPARE; take a position to begin at only while XA RECOVER shows \
                 nothing",
            ),
            Self::PreparedTooLarge { .. } => {
                Some("commit or roll back what XA RECOVER shows on the source, or raise the limit")
            }
            Self::OtherProduct { .. } => Some("give the position of this source"),
            Self::Unexpected { .. }
            | Self::Repeated { .. }
            | Self::XaTwice { .. }
            | Self::XaUnreadable { .. }
            | Self::NoSavepoint { .. }
            | Self::SavepointsTooMany { .. }
            | Self::Position(_) => None,
        }
    }
}
