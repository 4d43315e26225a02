//! Events of a binary log → transactions of the target.
//!
//! ```text
//! GTID  BEGIN  TABLE_MAP  rows…  XID      Told::Transaction
//! GTID  BEGIN  rows of other databases    Told::Transaction without changes: the position goes on
//! GTID  ALTER TABLE …                     the same
//! GTID  BEGIN  many rows…  XID            Told::Piece, …, Told::Transaction with the rest
//! ```
//!
//! A source position is a set of GTIDs, which has no order. So what is told carries the name of its transaction, and
//! who reads the source counts them.
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::mem;
use core::ops::Range;

use bytes::Bytes;

use super::binlog::event::{Rows, RowsKind as EventKind};
use super::binlog::format::Checksum;
use super::binlog::query::Query;
use super::binlog::rows::{Images, RowsChange, RowsEvent, RowsKind};
use super::binlog::step::{Begin, Step, TransactionLimits};
use super::binlog::transactions::Transactions;
use super::binlog::{StatementKind, TransactionError};
pub use super::mysql_assemble_error::MySqlAssembleError;
pub use super::mysql_table::MySqlTables;
use super::mysql_table::{Mapped, Tables};
use super::pg_options::TruncatePolicy;
use super::row_change::{Of, Updated};
use crate::model::gtid::{AnyGtid, GtidPosition};
use crate::model::ident::TableName;
use crate::model::key::RowKey;
use crate::model::mutation::{Change, Mutation};
use crate::model::row::Row;
use crate::model::time::WallTime;

/// Limits and policies.
#[derive(Clone, Copy, Debug)]
pub struct MySqlOptions {
    /// What to do when the source empties a table.
    pub truncate: TruncatePolicy,
    /// A transaction with more bytes of rows than this is told in pieces.
    pub piece_bytes_max: usize,
    /// The largest part of a transaction that must be told at once, in bytes of rows.
    pub transaction_bytes_max: usize,
    /// Of the events.
    pub limits: TransactionLimits,
}

/// What a source has told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// A transaction is over: committed, or without anything for the target.
    Transaction {
        /// Its name.
        gtid: AnyGtid,
        /// When it committed, by the clock of the server that it was first committed on.
        committed: WallTime,
        /// In the order the source applied them. Maybe none.
        mutations: Vec<Mutation>,
    },
    /// Some of a large transaction. Nothing else comes before the rest of it.
    Piece {
        /// Its name.
        gtid: AnyGtid,
        /// In the order the source applied them.
        mutations: Vec<Mutation>,
    },
    /// All that the source has so far was told.
    Idle,
}

/// Puts the events of one stream together to transactions. Dead after an error.
#[derive(Debug)]
pub struct MySqlTransactions {
    transactions: Transactions,
    work: Work,
}

/// The row events of one statement, or those since a piece was cut off.
#[derive(Debug, Default)]
struct Statement {
    // Where the changes of each begin.
    begins: Vec<usize>,
    // Whether foreign keys caused some of them, and the statement others.
    caused: bool,
    asked: bool,
}

/// All but where transactions begin and end.
#[derive(Debug)]
struct Work {
    tables: Tables,
    options: MySqlOptions,
    // What has come of the transaction that is open, since the last piece.
    mutations: Vec<Mutation>,
    held_bytes: usize,
    open: Option<AnyGtid>,
    committed: WallTime,
    // Whether pieces of it were told.
    in_pieces: bool,
    // Transactions that are not cut in pieces.
    whole: BTreeSet<AnyGtid>,
    // The statement that is open.
    statement: Statement,
    // How much had come at each savepoint: changes, and their bytes. `None` if that is in a piece by now.
    savepoints: BTreeMap<usize, Option<(usize, usize)>>,
    told: Vec<Told>,
    cells: Vec<u8>,
}

impl MySqlTransactions {
    /// Begins to read a stream that begins after `position`. `checksum` is what the server adds to events before it
    /// has described them.
    #[must_use]
    pub fn new(
        position: GtidPosition,
        checksum: Checksum,
        tables: MySqlTables,
        options: MySqlOptions,
    ) -> Self {
        let work = Work {
            tables: Tables::new(tables),
            options,
            mutations: Vec::new(),
            held_bytes: 0,
            open: None,
            committed: WallTime { micros: 0 },
            in_pieces: false,
            whole: BTreeSet::new(),
            statement: Statement::default(),
            savepoints: BTreeMap::new(),
            told: Vec::new(),
            cells: Vec::new(),
        };
        Self { transactions: Transactions::new(position, checksum, options.limits), work }
    }

    /// These transactions are told at once, however large they are: something of them is undone, as an earlier
    /// [error](MySqlAssembleError::Undone) said.
    #[must_use]
    pub fn keeping_whole(mut self, whole: BTreeSet<AnyGtid>) -> Self {
        self.work.whole = whole;
        self
    }

    /// Takes the next event, whole, and appends what it completes to `told`.
    ///
    /// # Errors
    ///
    /// See [`MySqlAssembleError`]. `self` is dead then; what is in `told` is right and may be used.
    pub fn event(&mut self, event: &[u8], told: &mut Vec<Told>) -> Result<(), MySqlAssembleError> {
        let Self { transactions, work } = self;
        let taken = transactions.event(event, |step| work.step(&step));
        told.append(&mut work.told);
        taken
    }

    /// Where transactions begin and end, and what the position is.
    #[must_use]
    pub const fn transactions(&self) -> &Transactions {
        &self.transactions
    }
}

impl Work {
    fn step(&mut self, step: &Step<'_>) -> Result<(), MySqlAssembleError> {
        match *step {
            Step::Begin(Begin { gtid, committed, .. }) => {
                self.forget();
                (self.open, self.committed) = (Some(gtid), committed);
            }
            Step::TableMap(map) => self.tables.describe(map)?,
            Step::Rows(rows) => {
                self.statement.begins.push(self.mutations.len());
                let caused = rows.flags & Rows::NO_FOREIGN_KEY_CHECKS != 0;
                self.statement.caused |= caused;
                self.statement.asked |= !caused;
                self.rows(rows)?;
                if rows.flags & Rows::STATEMENT_END != 0 {
                    self.end_statement();
                }
                return self.cut();
            }
            Step::RowsQuery(_) => (),
            Step::Statement(query, kind) => self.statement(query, kind)?,
            Step::Savepoint(number) => {
                self.savepoints.insert(number, Some((self.mutations.len(), self.held_bytes)));
            }
            Step::RollbackTo(number) => {
                let had = self.savepoints.get(&number).copied();
                let unset = || TransactionError::NoSavepoint { name: format!("number {number}") };
                let Some((length, bytes)) = had.ok_or_else(unset)? else {
                    return Err(self.undone());
                };
                self.mutations.truncate(length);
                self.held_bytes = bytes;
            }
            Step::Commit(gtid) => {
                let mutations = mem::take(&mut self.mutations);
                self.tell(gtid, mutations);
            }
            Step::Rollback(_) | Step::Abandoned(_) if self.in_pieces => return Err(self.undone()),
            // Its rows come again where its outcome is told.
            Step::Rollback(gtid) | Step::Prepared(gtid) => self.tell(gtid, Vec::new()),
            Step::Idle => self.told.push(Told::Idle),
            Step::Abandoned(_) => self.forget(),
        }
        Ok(())
    }

    fn tell(&mut self, gtid: AnyGtid, mutations: Vec<Mutation>) {
        self.told.push(Told::Transaction { gtid, committed: self.committed, mutations });
        self.forget();
    }

    /// What has been told in pieces cannot be taken back.
    fn undone(&self) -> MySqlAssembleError {
        match self.open {
            Some(gtid) => MySqlAssembleError::Undone { gtid },
            None => TransactionError::NoSavepoint { name: "of no transaction".into() }.into(),
        }
    }

    /// Tells what there is if that is enough for a piece. What foreign keys caused in a statement is put in its
    /// order when the statement ends, so before that nothing of it may be told.
    fn cut(&mut self) -> Result<(), MySqlAssembleError> {
        let MySqlOptions { piece_bytes_max, transaction_bytes_max: limit, .. } = self.options;
        let gtid = self.open.filter(|gtid| !self.whole.contains(gtid));
        if let Some(gtid) =
            gtid.filter(|_| piece_bytes_max < self.held_bytes && !self.statement.caused)
        {
            let mutations = mem::take(&mut self.mutations);
            self.told.push(Told::Piece { gtid, mutations });
            (self.held_bytes, self.in_pieces) = (0, true);
            self.statement = Statement::default();
            self.savepoints.values_mut().for_each(|place| *place = None);
        }
        if limit < self.held_bytes { Err(MySqlAssembleError::TooLarge { limit }) } else { Ok(()) }
    }

    fn forget(&mut self) {
        self.mutations.clear();
        self.held_bytes = 0;
        (self.open, self.in_pieces) = (None, false);
        self.savepoints.clear();
        self.statement = Statement::default();
        self.tables.forget();
    }

    /// MySQL since 9.6 logs what foreign keys change before what causes it: children before their parent. That is
    /// the order for deletes. What a row refers to must be there first, so other changes go the other way round.
    fn end_statement(&mut self) {
        let Statement { begins, caused, asked } = mem::take(&mut self.statement);
        let Some(first) = begins.first().copied().filter(|_| caused && asked) else { return };
        let changes = self.mutations.split_off(first.min(self.mutations.len()));
        let mut rows = BTreeSet::new();
        if !changes.iter().all(|change| rows.insert((change.table, change.key.clone()))) {
            // A row that changes twice has an order of its own.
            self.mutations.extend(changes);
            return;
        }
        let mut changes: Vec<(usize, Mutation)> = (first..).zip(changes).collect();
        changes.sort_by_key(|(at, change)| {
            let event = begins.partition_point(|begin| begin <= at);
            let deletes = matches!(change.change, Change::Delete(_));
            // Each event as a whole, the last one first; then deletes, as they came.
            (deletes, if deletes { 0 } else { usize::MAX.saturating_sub(event) })
        });
        self.mutations.extend(changes.into_iter().map(|(_, change)| change));
    }

    fn statement(
        &mut self,
        query: &Query<'_>,
        kind: StatementKind,
    ) -> Result<(), MySqlAssembleError> {
        match kind {
            StatementKind::Rows if query.may_change(self.tables.database()) => {
                Err(MySqlAssembleError::StatementFormat)
            }
            StatementKind::Truncate => self.truncate(query),
            StatementKind::Schema => match self.open {
                Some(gtid) => self.tables.pass(gtid, query),
                None => Ok(()),
            },
            StatementKind::Rows | StatementKind::Temporary | StatementKind::Other => Ok(()),
        }
    }

    fn truncate(&mut self, query: &Query<'_>) -> Result<(), MySqlAssembleError> {
        let database = self.tables.database();
        let emptied = query.emptied();
        let is_ours = match &emptied {
            Some((of, _)) => of == database,
            None => query.may_change(database),
        };
        if !is_ours || self.options.truncate == TruncatePolicy::Ignore {
            return Ok(());
        }
        let Some((database, table)) = emptied else {
            return Err(MySqlAssembleError::PartTruncated);
        };
        if self.options.truncate == TruncatePolicy::Stop {
            let table = TableName::new(&database, &table);
            return Err(MySqlAssembleError::Truncated { table });
        }
        let table = self.tables.target(&table)?;
        let key = RowKey::from_bytes(b"");
        self.push(Mutation { table, key, change: Change::Truncate });
        Ok(())
    }

    fn rows(&mut self, rows: &Rows<'_>) -> Result<(), MySqlAssembleError> {
        let known = self.tables.usable(rows.table)?;
        let Some(mapped) = &*known else { return Ok(()) };
        let mapped = mapped.as_ref().map_err(Clone::clone)?;
        let kind = row_kind(rows);
        let post_header = u8::try_from(rows.post_header_bytes).unwrap_or(u8::MAX);
        let event = RowsEvent::parse(kind, post_header, &rows.body)?;
        if kind.change != RowsChange::Write {
            mapped.check_identified(self.tables.catalog().table(mapped.table))?;
        }
        // All images of the event share one buffer.
        let (mut cells, mut found) = (mem::take(&mut self.cells), Vec::new());
        cells.clear();
        let mut read = mapped.plan.rows(&event)?;
        while let Some(images) = read.read_next(&mut cells)? {
            found.push(images);
        }
        let bytes = Bytes::copy_from_slice(&cells);
        self.cells = cells;
        found.into_iter().try_for_each(|images| self.change(mapped, &bytes, images))
    }

    fn change(
        &mut self,
        mapped: &Mapped,
        bytes: &Bytes,
        images: Images,
    ) -> Result<(), MySqlAssembleError> {
        let catalog = Arc::clone(self.tables.catalog());
        let of =
            Of { id: mapped.table, table: catalog.table(mapped.table), source: &mapped.source };
        let row = |range: Range<usize>| {
            let row = Row::new(Arc::clone(&mapped.layout), bytes.slice(range));
            row.map_err(|_| MySqlAssembleError::Cells { table: mapped.source.clone() })
        };
        let (before, after) = (images.before.map(row), images.after.map(row));
        match (before.transpose()?, after.transpose()?) {
            // What the source fills in it alone knows.
            (None, Some(new)) if new.has_unchanged() => {
                let table = mapped.source.clone();
                return Err(MySqlAssembleError::InsertIncomplete { table });
            }
            (None, Some(new)) => self.push(of.insert(new)?),
            (Some(old), Some(new)) => {
                let incomplete = new.has_unchanged();
                let Updated { old, new, unchanged: _ } = of.update(Some(old), new, incomplete)?;
                if let Some(old) = old {
                    self.push(old);
                }
                self.push(new);
            }
            (Some(old), None) => self.push(of.delete(old)?),
            (None, None) => (),
        }
        Ok(())
    }

    fn push(&mut self, mutation: Mutation) {
        self.held_bytes = self.held_bytes.saturating_add(mutation.len_bytes());
        self.mutations.push(mutation);
    }
}

/// What a row event looks like.
const fn row_kind(rows: &Rows<'_>) -> RowsKind {
    let (change, partial) = match rows.kind {
        EventKind::Write => (RowsChange::Write, false),
        EventKind::Update => (RowsChange::Update, false),
        EventKind::Delete => (RowsChange::Delete, false),
        EventKind::PartialUpdate => (RowsChange::Update, true),
    };
    RowsKind { change, extra: rows.has_extra, partial }
}

#[cfg(test)]
mod tests;
