//! What to say about bytes that are no event we can read.
use core::fmt;

use super::event_type::EventType;
use crate::model::gtid::GtidBinaryError;

/// The bytes are not an event we can read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot decode {place}: field \"{field}\" at byte {offset} {fault}")]
pub struct DecodeError {
    /// Which event.
    pub place: Place,
    /// The field that could not be read.
    pub field: &'static str,
    /// Where that field starts, in bytes from the start of the event.
    pub offset: usize,
    /// What is wrong with it.
    pub fault: Fault,
}

/// Which event of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// What it is.
    pub kind: EventType,
    /// Where it ends in its file, as far as it says; 0 inside of transactions of MariaDB.
    pub end: u32,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a binlog event of type {} that ends at position {}", self.kind, self.end)
    }
}

impl DecodeError {
    /// One thing the operator can try.
    #[must_use]
    pub const fn hint(&self) -> Option<&'static str> {
        match self.fault {
            Fault::Encrypted => Some(
                "read through a connection instead of from the file: the server sends events in the \
                 clear; or set encrypt_binlog=OFF and begin at a new file",
            ),
            Fault::Statement => Some("set binlog_format=ROW on the source"),
            Fault::TooLarge { .. } => Some(
                "raise the limit, or let the source write smaller transactions or set \
                 binlog_transaction_compression=OFF",
            ),
            Fault::ServerVersion => Some("sources are MySQL 5.7, MariaDB 10.5 and later"),
            Fault::UnknownEvent => Some("the source is newer than this program; upgrade it"),
            Fault::Checksum { .. } => Some(
                "the event was damaged on its way or on the source's disk; reconnect, and if it stays \
                 check the source's file with mysqlbinlog --verify-binlog-checksum",
            ),
            Fault::Short { .. }
            | Fault::Unterminated
            | Fault::Value { .. }
            | Fault::Extra { .. }
            | Fault::Size { .. }
            | Fault::NoFormat
            | Fault::PostHeader { .. }
            | Fault::Packed
            | Fault::Set(_)
            | Fault::Nested => None,
        }
    }
}

/// What is wrong with a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The event ends inside the field.
    #[error("needs {needed} bytes, {left} are left")]
    Short {
        /// Length of the field.
        needed: usize,
        /// Bytes from the start of the field to the end of the event.
        left: usize,
    },
    /// A string without the zero byte that ends it.
    #[error("is not terminated")]
    Unterminated,
    /// A value outside of those that are defined.
    #[error("has unknown value {found}")]
    Value {
        /// The value.
        found: u64,
    },
    /// The event goes on after its last field.
    #[error("should be the end of the event, {extra} bytes are left")]
    Extra {
        /// How many.
        extra: usize,
    },
    /// Its length is not the length of what is there.
    #[error("says {said} bytes, there are {found}")]
    Size {
        /// In its header.
        said: usize,
        /// Given.
        found: usize,
    },
    /// Its bytes are not those that were written.
    #[error("is {said:08x}, the bytes have {found:08x}")]
    Checksum {
        /// At its end.
        said: u32,
        /// Of its bytes.
        found: u32,
    },
    /// Nothing has said yet what events look like.
    #[error("comes before the description of the format")]
    NoFormat,
    /// The description of the format does not know it, or gives it less than it has.
    #[error("has {said} bytes by the description of the format, {needed} are needed")]
    PostHeader {
        /// By the description; 0 if it does not know the type.
        said: usize,
        /// For what is known of it.
        needed: usize,
    },
    /// No event that we know, and one that must not be ignored.
    #[error("is not known and must not be ignored")]
    UnknownEvent,
    /// A part of a statement; the rows it changed are nowhere.
    #[error("belongs to statement-based logging, rows are not in the binlog")]
    Statement,
    /// The rest of the file is encrypted.
    #[error("begins the encrypted part of a file")]
    Encrypted,
    /// A server whose events have another form.
    #[error("is of a server that is too old")]
    ServerVersion,
    /// Compressed bytes that are damaged.
    #[error("cannot be unpacked")]
    Packed,
    /// Larger than we take.
    #[error("unpacks to more than {limit} bytes")]
    TooLarge {
        /// How much we take.
        limit: u64,
    },
    /// A set of transactions that is none.
    #[error("is broken: {0}")]
    Set(GtidBinaryError),
    /// An event that cannot be inside of a compressed transaction.
    #[error("cannot be inside of a compressed transaction")]
    Nested,
}
