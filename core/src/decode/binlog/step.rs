//! What transactions are made of, and limits on that.
use super::decoder::UnpackLimits;
use super::event::{Rows, TableMap};
use super::query::Query;
use super::statement::StatementKind;
use crate::model::gtid::AnyGtid;
use crate::model::time::WallTime;

/// What transactions are made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// A transaction begins.
    Begin(Begin),
    /// Which table the next rows are of.
    TableMap(&'a TableMap<'a>),
    /// Rows.
    Rows(&'a Rows<'a>),
    /// The text of the statement that the next rows come from.
    RowsQuery(&'a [u8]),
    /// A statement that is no part of the control of transactions.
    Statement(&'a Query<'a>, StatementKind),
    /// Remember this place under this number, instead of what it stood for before.
    Savepoint(usize),
    /// All since the savepoint of this number is undone.
    RollbackTo(usize),
    /// It is committed. What came since it began is to be applied.
    Commit(AnyGtid),
    /// It is rolled back. What came since it began is to be forgotten; the position goes on.
    Rollback(AnyGtid),
    /// An XA transaction was prepared: it begins again, with all its rows, when its outcome is known.
    Prepared(AnyGtid),
    /// The source has nothing to say (a heartbeat).
    Idle,
    /// The source died in the middle of it, perhaps before it began here, and nothing of it counts, its
    /// name neither.
    Abandoned(AnyGtid),
}

/// A transaction begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Begin {
    /// Which one.
    pub gtid: AnyGtid,
    /// When the first server committed it, or began to with MariaDB and before MySQL 8.0.
    pub committed: WallTime,
    /// What part of an ALTER TABLE of MariaDB it is that is told twice.
    pub alter: Option<Alter>,
}

/// Part of an ALTER TABLE of MariaDB that is told twice (`binlog_alter_two_phase`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alter {
    /// It begins; nothing has changed yet.
    Start,
    /// The one that began with this number is done.
    Commit(u64),
    /// The one that began with this number failed.
    Rollback(u64),
}

/// Limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransactionLimits {
    /// How large things may get when they are unpacked.
    pub unpack: UnpackLimits,
    /// Prepared XA transactions without an outcome, all together.
    pub prepared_bytes_max: usize,
    /// Savepoints of one transaction.
    pub savepoints_max: usize,
}

impl Default for TransactionLimits {
    fn default() -> Self {
        Self {
            unpack: UnpackLimits::default(),
            prepared_bytes_max: 64 << 20,
            savepoints_max: 1 << 16,
        }
    }
}
