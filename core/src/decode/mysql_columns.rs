//! What the columns of a source are called, where its log does not say it and its catalog must be asked.
//!
//! A log has rows of long ago, the catalog what there is now. So the catalog is read together with the position that
//! the source has at that moment, and all statements from the stream's position to there are read first:
//!
//! ```text
//! position ── rows of t ── ALTER TABLE t ── rows of t ── looked ── rows of t ── ALTER TABLE t
//!             refused      ahead            read                   read         look again
//! ```
use alloc::borrow::ToOwned as _;
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use super::binlog::format::Checksum;
use super::binlog::query::Query;
use super::binlog::step::{Alter, Begin, Step, TransactionLimits};
use super::binlog::transactions::Transactions;
use super::binlog::{Altered, KnownColumn, StatementKind, TransactionError};
use super::mysql_assemble_error::MySqlAssembleError;
use crate::model::gtid::{AnyGtid, GtidPosition};
use crate::model::ident::TableName;

/// Tables of which it is remembered which statement changed them last. With more of them the last statement counts for
/// all tables.
const TABLES_MAX: usize = 100_000;

/// So much of a statement is shown, in bytes.
const SHOWN_BYTES_MAX: usize = 200;

/// What the catalog of a source says of columns, and of which rows that is true.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MySqlColumns {
    tables: BTreeMap<String, Vec<KnownColumn>>,
    ahead: Ahead,
}

/// Statements that a stream has not passed yet, and whose outcome the catalog showed.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Ahead {
    looked: GtidPosition,
    // In small letters: by the server's settings names may differ in case only.
    tables: BTreeMap<String, Change>,
    all: Option<Change>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Change {
    gtid: AnyGtid,
    statement: String,
}

impl MySqlColumns {
    /// What the catalog says of the columns of a table. Empty for a table that it does not have.
    ///
    /// # Errors
    ///
    /// [`MySqlAssembleError::ColumnsChanged`]: what it says is of rows that are still to come.
    pub(super) fn of(&self, table: &TableName) -> Result<&[KnownColumn], MySqlAssembleError> {
        match self.ahead.tables.get(&table.table.to_lowercase()).or(self.ahead.all.as_ref()) {
            None => Ok(self.tables.get(&table.table).map(Vec::as_slice).unwrap_or_default()),
            Some(Change { gtid, statement }) => Err(MySqlAssembleError::ColumnsChanged {
                table: Box::new(table.clone()),
                gtid: *gtid,
                statement: statement.clone(),
            }),
        }
    }

    /// The stream has come to a statement that defines data of this database, of whose tables some are wanted.
    ///
    /// # Errors
    ///
    /// [`MySqlAssembleError::ColumnsOutdated`]: the catalog was read before that.
    pub(super) fn pass(
        &mut self,
        gtid: AnyGtid,
        query: &Query<'_>,
        database: &str,
        is_wanted: impl Fn(&str) -> bool,
    ) -> Result<(), MySqlAssembleError> {
        if self.ahead.looked.contains(gtid) {
            self.ahead.tables.retain(|_, change| change.gtid != gtid);
            self.ahead.all.take_if(|change| change.gtid == gtid);
            return Ok(());
        }
        let is_outdated = match query.altered(database) {
            Altered::Tables(tables) => tables.iter().any(|table| is_wanted(table)),
            Altered::All => true,
        };
        if !is_outdated {
            return Ok(());
        }
        Err(MySqlAssembleError::ColumnsOutdated { statement: shown(&query.statement) })
    }
}

/// Looks through the statements that a catalog shows the outcome of, and which a stream has not passed yet.
#[derive(Debug)]
pub struct MySqlStatements {
    transactions: Transactions,
    database: String,
    ahead: Ahead,
    open: Option<AnyGtid>,
    idle: bool,
}

impl MySqlStatements {
    /// Begins with a stream that begins after `position`. `looked` is what the source had executed when its catalog
    /// was read, with no statement about one of its tables under way. For `checksum` see
    /// [`MySqlTransactions`](super::mysql_transaction::MySqlTransactions::new).
    #[must_use]
    pub fn new(
        position: GtidPosition,
        looked: GtidPosition,
        database: &str,
        checksum: Checksum,
        limits: TransactionLimits,
    ) -> Self {
        Self {
            transactions: Transactions::new(position, checksum, limits),
            database: database.to_owned(),
            ahead: Ahead { looked, tables: BTreeMap::new(), all: None },
            open: None,
            idle: false,
        }
    }

    /// Whether nothing more has to be read. A heartbeat does not say so: MySQL sends some for transactions that it
    /// leaves out, before the first one that it does not.
    #[must_use]
    pub fn is_over(&self) -> bool {
        let Self { transactions, ahead, .. } = self;
        !transactions.is_open() && ahead.looked.is_subset(transactions.executed())
    }

    /// Whether the last event was a heartbeat.
    #[must_use]
    pub const fn is_idle(&self) -> bool {
        self.idle
    }

    /// Takes the next event, whole.
    ///
    /// # Errors
    ///
    /// See [`TransactionError`].
    pub fn event(&mut self, event: &[u8]) -> Result<(), TransactionError> {
        let Self { transactions, database, ahead, open, idle } = self;
        *idle = false;
        transactions.event(event, |step| {
            match step {
                // An ALTER TABLE that is told twice changes nothing when it begins, nor when it fails.
                Step::Begin(Begin { alter: Some(Alter::Start | Alter::Rollback(_)), .. }) => {
                    *open = None;
                }
                Step::Begin(begin) => *open = Some(begin.gtid),
                Step::Statement(query, StatementKind::Schema) => {
                    if let Some(gtid) = open.filter(|gtid| ahead.looked.contains(*gtid)) {
                        ahead.note(gtid, query, database);
                    }
                }
                Step::Idle => *idle = true,
                Step::TableMap(_)
                | Step::Rows(_)
                | Step::RowsQuery(_)
                | Step::Statement(..)
                | Step::Savepoint(_)
                | Step::RollbackTo(_)
                | Step::Commit(_)
                | Step::Rollback(_)
                | Step::Prepared(_)
                | Step::Abandoned(_) => (),
            }
            Ok(())
        })
    }

    /// What the catalog says of `tables`, and of which rows.
    #[must_use]
    pub fn columns(self, tables: BTreeMap<String, Vec<KnownColumn>>) -> MySqlColumns {
        MySqlColumns { tables, ahead: self.ahead }
    }
}

impl Ahead {
    fn note(&mut self, gtid: AnyGtid, query: &Query<'_>, database: &str) {
        let altered = query.altered(database);
        let change = Change { gtid, statement: shown(&query.statement) };
        match altered {
            Altered::Tables(tables)
                if self.tables.len().saturating_add(tables.len()) <= TABLES_MAX =>
            {
                for table in tables {
                    self.tables.insert(table.to_lowercase(), change.clone());
                }
            }
            Altered::Tables(_) | Altered::All => self.all = Some(change),
        }
    }
}

/// The beginning of a statement. Not from its first text on: that may be a value, or a password of another server.
fn shown(statement: &[u8]) -> String {
    let text = statement.iter().position(|byte| b"'\"".contains(byte));
    let end = text.unwrap_or(statement.len()).min(SHOWN_BYTES_MAX);
    let mut shown = String::from_utf8_lossy(statement.get(..end).unwrap_or(statement)).into_owned();
    if end < statement.len() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::{SHOWN_BYTES_MAX, shown};

    #[test]
    fn no_text_of_a_statement_is_shown() {
        assert_eq!(shown(b"ALTER TABLE t DROP a"), "ALTER TABLE t DROP a");
        let remote = b"CREATE TABLE t (a INT) CONNECTION='mysql://u:secret@h/d/t'";
        assert_eq!(shown(remote), "CREATE TABLE t (a INT) CONNECTION=…");
        assert_eq!(shown(&[b'x'; 1_000]).len(), SHOWN_BYTES_MAX + "…".len());
    }
}
