//! The messages of pgoutput, protocol versions 1 and 2.
//!
//! Field for field what chapter "Logical Replication Message Formats" of the PostgreSQL documentation
//! lists, so that a message can be written back byte for byte.
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use bytes::Bytes;

use crate::model::position::Lsn;
use crate::model::time::WallTime;

/// A transaction's number at the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Xid(pub u32);

impl fmt::Display for Xid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "xid{}", self.0)
    }
}

/// A table's number (OID) at the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RelationId(pub u32);

/// One message of the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// A committed transaction begins.
    Begin(Begin),
    /// It is complete.
    Commit(Commit),
    /// The transaction came to the source by replication from elsewhere.
    Origin(Origin),
    /// What a table looks like. Sent before its first row and again after it changed.
    Relation(Relation),
    /// What a data type is called.
    Type(TypeName),
    /// A row was inserted.
    Insert {
        /// Into which table.
        relation: RelationId,
        /// The row.
        new: Tuple,
    },
    /// A row was updated.
    Update {
        /// In which table.
        relation: RelationId,
        /// What it was, if the key changed or the table's replica identity is FULL.
        old: Option<Old>,
        /// What it is.
        new: Tuple,
    },
    /// A row was deleted.
    Delete {
        /// From which table.
        relation: RelationId,
        /// What it was.
        old: Old,
    },
    /// Tables were emptied.
    Truncate(Truncate),
    /// Somebody called `pg_logical_emit_message`.
    Logical(Logical),
    /// Changes of a transaction in progress follow, up to the next [`StreamStop`](Self::StreamStop).
    StreamStart {
        /// The top-level transaction.
        xid: Xid,
        /// Whether these are its first.
        first: bool,
    },
    /// The changes of this transaction pause.
    StreamStop,
    /// A streamed transaction committed.
    StreamCommit {
        /// The top-level transaction.
        xid: Xid,
        /// Where and when.
        commit: Commit,
    },
    /// A streamed transaction, or a part of it, was rolled back.
    StreamAbort {
        /// The top-level transaction.
        xid: Xid,
        /// What was rolled back: the same, or one of its sub-transactions.
        subxid: Xid,
    },
}

impl Message {
    /// The message's name in PostgreSQL's documentation.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Begin(_) => "Begin",
            Self::Commit(_) => "Commit",
            Self::Origin(_) => "Origin",
            Self::Relation(_) => "Relation",
            Self::Type(_) => "Type",
            Self::Insert { .. } => "Insert",
            Self::Update { .. } => "Update",
            Self::Delete { .. } => "Delete",
            Self::Truncate(_) => "Truncate",
            Self::Logical(_) => "Message",
            Self::StreamStart { .. } => "Stream Start",
            Self::StreamStop => "Stream Stop",
            Self::StreamCommit { .. } => "Stream Commit",
            Self::StreamAbort { .. } => "Stream Abort",
        }
    }
}

/// A message from inside a stream block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Streamed {
    /// The transaction or sub-transaction it belongs to; `None` for kinds that do not say.
    pub xid: Option<Xid>,
    /// The message.
    pub message: Message,
}

/// A committed transaction begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Begin {
    /// Where its commit record starts.
    pub final_lsn: Lsn,
    /// When it committed.
    pub committed: WallTime,
    /// Its number.
    pub xid: Xid,
}

/// Where and when a transaction committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Commit {
    /// Where its commit record starts.
    pub commit_lsn: Lsn,
    /// Where its commit record ends: the position to go on from.
    pub end_lsn: Lsn,
    /// When.
    pub committed: WallTime,
}

/// Where a replicated transaction came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Where it committed there.
    pub commit_lsn: Lsn,
    /// The name of the origin.
    pub name: String,
}

/// What a table looks like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relation {
    /// Its number.
    pub relation: RelationId,
    /// Its schema; empty for `pg_catalog`.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// What its updates and deletes tell about the old row.
    pub identity: ReplicaIdentity,
    /// The published columns, in the order of the cells of its rows.
    pub columns: Vec<RelationColumn>,
}

/// What updates and deletes tell about the old row (`pg_class.relreplident`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplicaIdentity {
    /// The primary key.
    Default,
    /// Nothing: such a table cannot be updated while it is published.
    Nothing,
    /// All columns.
    Full,
    /// The columns of some unique index.
    Index,
}

impl ReplicaIdentity {
    /// The character that stands for it.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Default => b'd',
            Self::Nothing => b'n',
            Self::Full => b'f',
            Self::Index => b'i',
        }
    }
}

/// One published column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelationColumn {
    /// Bit 0: see [`is_identity`](Self::is_identity). Other bits are not in use.
    pub flags: u8,
    /// Its name.
    pub name: String,
    /// The number of its type.
    pub type_oid: u32,
    /// Length or precision of its type (`pg_attribute.atttypmod`), as the bits of an `int4`.
    pub type_modifier: u32,
}

impl RelationColumn {
    /// Whether it is part of the table's replica identity.
    #[must_use]
    pub const fn is_identity(&self) -> bool {
        self.flags & 1 == 1
    }
}

/// What a data type is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TypeName {
    /// Its number.
    pub oid: u32,
    /// Its schema; empty for `pg_catalog`.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// The old row of an update or a delete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Old {
    /// Only the columns of the replica identity have values. The others are NULL without meaning it.
    Key(Tuple),
    /// All columns.
    Full(Tuple),
}

impl Old {
    /// The row.
    #[must_use]
    pub const fn tuple(&self) -> &Tuple {
        match self {
            Self::Key(tuple) | Self::Full(tuple) => tuple,
        }
    }
}

/// The cells of a row, checked, in the format of [`Row`](crate::model::row::Row).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tuple {
    // Invariant: `cells` is exactly `columns` whole cells, `unchanged` of them unchanged.
    pub(super) columns: u16,
    pub(super) unchanged: u16,
    pub(super) cells: Bytes,
}

impl Tuple {
    /// How many cells there are.
    #[must_use]
    pub const fn columns(&self) -> u16 {
        self.columns
    }

    /// Whether some cell was not sent because the update did not touch it.
    #[must_use]
    pub const fn has_unchanged(&self) -> bool {
        self.unchanged > 0
    }

    /// The bytes of the cells.
    #[must_use]
    pub const fn cells(&self) -> &Bytes {
        &self.cells
    }
}

/// Tables were emptied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Truncate {
    /// Bit 0: CASCADE, bit 1: RESTART IDENTITY.
    pub options: u8,
    /// Which tables, those that CASCADE reached included.
    pub relations: Vec<RelationId>,
}

/// What somebody gave to `pg_logical_emit_message`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logical {
    /// Whether it is part of the transaction.
    pub transactional: bool,
    /// Where it is in the log.
    pub lsn: Lsn,
    /// Who it is for.
    pub prefix: String,
    /// What it says.
    pub content: Bytes,
}
