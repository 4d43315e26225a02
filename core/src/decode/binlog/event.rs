//! What events say. Bytes are borrowed from the event, unless they had to be unpacked.
use alloc::borrow::Cow;
use alloc::sync::Arc;
use core::fmt;

use super::event_type::EventType;
use super::format::Format;
use super::query::Query;
use crate::model::gtid::{Gtid, GtidSet, MariaGtid};

/// How long the header of every event is, in bytes.
pub const HEADER_BYTES: usize = 19;

/// What every event begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// When the statement began, in seconds since 1970; 0 in events that the server makes for us.
    pub seconds: u32,
    /// What it is.
    pub kind: EventType,
    /// The server that wrote it first.
    pub server: u32,
    /// Its length with header and checksum, in bytes.
    pub size: u32,
    /// Where it ends in its file. 0 in events that the server makes for us, and inside of
    /// transactions of MariaDB.
    pub end: u32,
    /// See the constants.
    pub flags: u16,
}

impl Header {
    /// The file was not closed. Not counted in the checksum.
    pub const IN_USE: u16 = 0x01;
    /// The server made it for us; it is in no file.
    pub const ARTIFICIAL: u16 = 0x20;
    /// Who does not know it may go on.
    pub const IGNORABLE: u16 = 0x80;

    /// Whether all of `flags` are set.
    #[must_use]
    pub const fn has(&self, flags: u16) -> bool {
        self.flags & flags == flags
    }
}

/// An event with its header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decoded<'a> {
    /// What every event begins with.
    pub header: Header,
    /// What it says.
    pub event: Event<'a>,
}

/// What an event says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// What the events of this file look like (FORMAT_DESCRIPTION_EVENT).
    Format(Arc<Format>),
    /// The next events are in another file (ROTATE_EVENT).
    Rotate(Rotate<'a>),
    /// What MySQL had in earlier files (PREVIOUS_GTIDS_LOG_EVENT).
    PreviousGtids(GtidSet),
    /// A transaction of MySQL follows (GTID_LOG_EVENT, GTID_TAGGED_LOG_EVENT, and
    /// ANONYMOUS_GTID_LOG_EVENT, which names none).
    Gtid(GtidEvent),
    /// A statement (QUERY_EVENT, QUERY_COMPRESSED_EVENT).
    Query(Query<'a>),
    /// The transaction committed (XID_EVENT). The number is the storage engine's.
    Xid(u64),
    /// An XA transaction was prepared (XA_PREPARE_LOG_EVENT).
    XaPrepare {
        /// Its name.
        xid: XaId<'a>,
        /// Whether it is committed by this.
        one_phase: bool,
    },
    /// The server stopped (STOP_EVENT).
    Stop,
    /// Something was not logged (INCIDENT_EVENT).
    Incident {
        /// What kind: 1 is lost events.
        number: u16,
        /// What the server says.
        message: &'a [u8],
    },
    /// The source is alive and has nothing to send (HEARTBEAT_LOG_EVENT and its second version).
    Heartbeat {
        /// The file it is in.
        file: &'a [u8],
        /// Where in it.
        position: u64,
    },
    /// The statement that the next rows come from (ROWS_QUERY_LOG_EVENT, ANNOTATE_ROWS_EVENT).
    RowsQuery(&'a [u8]),
    /// Which table the next rows are of (TABLE_MAP_EVENT).
    TableMap(TableMap<'a>),
    /// Rows.
    Rows(Rows<'a>),
    /// A compressed transaction (TRANSACTION_PAYLOAD_EVENT).
    Payload(Payload<'a>),
    /// A transaction of MariaDB follows (GTID_EVENT).
    MariaGtid(MariaGtidEvent<'a>),
    /// What MariaDB had in earlier files (GTID_LIST_EVENT).
    GtidList(GtidList<'a>),
    /// Which file MariaDB's recovery needs (BINLOG_CHECKPOINT_EVENT).
    Checkpoint(&'a [u8]),
    /// Of group replication, without rows (TRANSACTION_CONTEXT_EVENT, VIEW_CHANGE_EVENT).
    Group(&'a [u8]),
    /// Nothing that we know, and by its flag nothing that matters.
    Ignorable(&'a [u8]),
}

/// The next events are in another file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotate<'a> {
    /// Where the first of them begins.
    pub position: u64,
    /// The name of the file.
    pub file: &'a [u8],
}

/// A transaction of MySQL follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GtidEvent {
    /// Which one; `None` with `gtid_mode=OFF`.
    pub gtid: Option<Gtid>,
    /// Bit 0: it may have statements besides rows.
    pub flags: u8,
    /// The last transaction of this file that must be committed before, in the file's own numbers.
    pub last_committed: i64,
    /// Its own number in the file; `None` before MySQL 5.7.
    pub sequence_number: Option<i64>,
    /// When the server of this file committed it, in microseconds since 1970; `None` before 8.0.
    pub immediate_commit: Option<u64>,
    /// When the first server did, if that is not the same.
    pub original_commit: Option<u64>,
    /// How many bytes it has in the file, this event included.
    pub transaction_bytes: Option<u64>,
    /// The version of the server of this file, such as 90704.
    pub immediate_version: Option<u32>,
    /// The version of the first server, if that is not the same.
    pub original_version: Option<u32>,
    /// Its group commit.
    pub commit_group_ticket: Option<u64>,
}

/// The name of an XA transaction.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct XaId<'a> {
    /// `formatID`.
    pub format: u32,
    /// `gtrid`, at most 64 bytes.
    pub gtrid: &'a [u8],
    /// `bqual`, at most 64 bytes.
    pub bqual: &'a [u8],
}

/// The longest part of the name of an XA transaction, in bytes.
pub const XA_PART_BYTES_MAX: usize = 64;

impl fmt::Display for XaId<'_> {
    /// Prints what the servers write into statements: `X'7831',X'',1`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in [self.gtrid, self.bqual] {
            f.write_str("X'")?;
            part.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
            f.write_str("',")?;
        }
        write!(f, "{}", self.format)
    }
}

impl fmt::Debug for XaId<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Which table the next rows are of. Its body is read by who reads rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableMap<'a> {
    /// What the rows call it.
    pub table: u64,
    /// As they stand there.
    pub flags: u16,
    /// How much of the body comes before the variable part.
    pub post_header_bytes: usize,
    /// All after the header, without the checksum.
    pub body: &'a [u8],
}

/// What happened to rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowsKind {
    /// They were inserted.
    Write,
    /// They were changed.
    Update,
    /// They were deleted.
    Delete,
    /// They were changed, and some documents are told by their differences.
    PartialUpdate,
}

/// Rows. Their images are read by who knows their table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rows<'a> {
    /// What happened to them.
    pub kind: RowsKind,
    /// Whether the head of the body has a length for extra data (version 2).
    pub has_extra: bool,
    /// The table, see [`TableMap::table`].
    pub table: u64,
    /// See the constants.
    pub flags: u16,
    /// How much of the body comes before the variable part.
    pub post_header_bytes: usize,
    /// All after the header, without the checksum, unpacked if it was compressed.
    pub body: Cow<'a, [u8]>,
}

impl Rows<'_> {
    /// The statement has no more rows.
    pub const STATEMENT_END: u16 = 1;
    /// Foreign keys are not checked: the session wants it so, or a foreign key has caused the change.
    pub const NO_FOREIGN_KEY_CHECKS: u16 = 2;
}

/// A compressed transaction: all its events but the one that names it, without checksums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Payload<'a> {
    /// Whether it is Zstandard; else it is not compressed.
    pub zstd: bool,
    /// How large it gets, if it says so.
    pub unpacked_bytes: Option<u64>,
    /// The compressed bytes.
    pub data: &'a [u8],
}

/// A transaction of MariaDB follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MariaGtidEvent<'a> {
    /// Which one.
    pub gtid: MariaGtid,
    /// See the constants.
    pub flags: u8,
    /// Its group commit.
    pub commit_id: Option<u64>,
    /// The XA transaction that is prepared, or whose outcome this is.
    pub xid: Option<XaId<'a>>,
    /// The flags of a second byte, see the constants; 0 if there is none.
    pub extra_flags: u8,
    /// How many more storage engines take part.
    pub extra_engines: Option<u8>,
    /// The number of the transaction that began the ALTER TABLE whose outcome this is.
    pub alter_sequence: Option<u64>,
    /// The connection.
    pub thread: Option<u32>,
}

impl MariaGtidEvent<'_> {
    /// One event follows, and no commit.
    pub const STANDALONE: u8 = 1;
    /// It has a [`commit_id`](Self::commit_id).
    pub const GROUP_COMMIT: u8 = 2;
    /// A statement that defines data.
    pub const DDL: u8 = 32;
    /// An XA transaction is prepared.
    pub const PREPARED_XA: u8 = 64;
    /// An XA transaction is committed or rolled back.
    pub const COMPLETED_XA: u8 = 128;
    /// In `extra_flags`: it has [`extra_engines`](Self::extra_engines).
    pub const EXTRA_ENGINES: u8 = 1;
    /// In `extra_flags`: an ALTER TABLE begins that is told twice.
    pub const START_ALTER: u8 = 2;
    /// In `extra_flags`: it is done.
    pub const COMMIT_ALTER: u8 = 4;
    /// In `extra_flags`: it failed.
    pub const ROLLBACK_ALTER: u8 = 8;
    /// In `extra_flags`: it has a [`thread`](Self::thread).
    pub const EXTRA_THREAD: u8 = 16;
}

/// The last transaction of each domain and server in earlier files; of each domain the very last one
/// comes last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GtidList<'a> {
    /// The upper four bits of the count.
    pub flags: u8,
    // Invariant: a whole number of entries.
    pub(super) entries: &'a [u8],
}

/// Domain, server and number.
pub(super) const LIST_ENTRY_BYTES: usize = 16;

impl<'a> GtidList<'a> {
    /// A list of the bytes of its transactions; `None` if they are no whole number of them.
    #[must_use]
    pub fn new(flags: u8, entries: &'a [u8]) -> Option<Self> {
        entries.len().is_multiple_of(LIST_ENTRY_BYTES).then_some(Self { flags, entries })
    }

    /// Its transactions.
    pub fn iter(&self) -> impl Iterator<Item = MariaGtid> {
        let (entries, _) = self.entries.as_chunks::<LIST_ENTRY_BYTES>();
        entries.iter().map(|entry| {
            let number = |from: usize, to: usize| {
                let bytes = entry.get(from..to).unwrap_or_default();
                bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
            };
            let small = |from: usize, to| u32::try_from(number(from, to)).unwrap_or_default();
            MariaGtid { domain: small(0, 4), server: small(4, 8), sequence: number(8, 16) }
        })
    }
}
