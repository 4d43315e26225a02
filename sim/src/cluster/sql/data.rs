//! What a server holds, and what one transaction wants to change of it.
use replicator_core::dialect::Product;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use replicator_core::model::ident::TableName;

use super::CommitRecord;
use super::advisory::Advisory;
use super::error::{Halt, SqlError};
use super::lock::{Lock, Locks, Mode};
use super::table::TableDef;
use super::value::Value;
use super::{RowChange, check::Touch};

/// The values of a row.
pub type Row = Vec<Value>;
/// The values by which a table finds a row: its primary key, or else a number of its own.
pub type Key = Vec<Value>;
type Rows = BTreeMap<Key, Row>;
/// Where a row is: its table and its key.
type Place = (usize, Key);
/// A row that was written, or `None` if it was deleted.
type Written = Option<Row>;

/// Everything that is committed, and the locks.
#[derive(Debug)]
pub(super) struct Data {
    pub(super) tables: Vec<Arc<TableDef>>,
    pub(super) rows: Vec<Rows>,
    pub(super) schemas: BTreeSet<String>,
    pub(super) locks: Locks,
    pub(super) advisory: Advisory,
    pub(super) commits: Vec<CommitRecord>,
    /// Whether the tables of the simulated schema refuse negative numbers.
    pub(super) strict: bool,
    /// Whose manners the server has.
    pub(super) product: Product,
    /// Numbers for rows without a key, for UUIDs and for times.
    pub(super) counter: i64,
}

impl Data {
    /// Without tables.
    pub(super) fn new(product: Product, counter: i64) -> Self {
        Self {
            tables: Vec::new(),
            rows: Vec::new(),
            schemas: ["public".to_owned()].into(),
            locks: Locks::default(),
            advisory: Advisory::default(),
            commits: Vec::new(),
            strict: false,
            product,
            counter,
        }
    }

    pub(super) fn create(&mut self, mut table: TableDef) {
        if self.product == Product::Cockroach {
            // It has no constraints that wait (CockroachDB documentation, "Foreign Key Constraint").
            table.foreign_keys.iter_mut().for_each(|fk| fk.deferrable = false);
        }
        if !self.tables.iter().any(|had| had.name == table.name) {
            self.tables.push(Arc::new(table));
            self.rows.push(Rows::new());
        }
    }

    pub(super) fn find(&self, name: &TableName) -> Result<usize, SqlError> {
        self.tables.iter().position(|table| table.name == *name).ok_or_else(|| {
            SqlError::new("42P01", format!("relation \"{}\" does not exist", name.table))
        })
    }

    pub(super) fn count(&mut self) -> i64 {
        self.counter += 1;
        self.counter
    }

    /// Makes what a transaction wrote visible to all, at once.
    pub(super) fn commit(&mut self, tx: Tx) {
        let mut changes = Vec::new();
        let writes = tx.writes.into_iter();
        for (table, (key, new)) in
            writes.flat_map(|(table, rows)| rows.into_iter().map(move |row| (table, row)))
        {
            let rows = &mut self.rows[table];
            let old = match &new {
                Some(row) => rows.insert(key.clone(), row.clone()),
                None => rows.remove(&key),
            };
            if old != new {
                changes.push(RowChange { table: self.tables[table].name.clone(), key, old, new });
            }
        }
        if !changes.is_empty() {
            self.commits.push(CommitRecord { session: tx.session, changes });
        }
        self.locks.release(tx.session);
    }
}

/// A transaction that is open.
#[derive(Debug)]
pub(super) struct Tx {
    /// Whose it is.
    pub(super) session: u64,
    /// What it wrote: rows, and `None` for those that it deleted.
    writes: BTreeMap<usize, BTreeMap<Key, Written>>,
    /// What was in `writes` before each write.
    undo: Vec<(Place, Option<Written>)>,
    /// Whether deferrable constraints wait for the commit.
    pub(super) defer: bool,
    /// Rows whose deferred constraints are still to be checked.
    pub(super) deferred: Vec<Touch>,
    savepoints: Vec<(String, Mark)>,
}

/// A point of a transaction to go back to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark {
    undo: usize,
    deferred: usize,
}

impl Tx {
    pub(super) fn new(session: u64) -> Self {
        Self {
            session,
            writes: BTreeMap::new(),
            undo: Vec::new(),
            defer: false,
            deferred: Vec::new(),
            savepoints: Vec::new(),
        }
    }

    pub(super) fn mark(&self) -> Mark {
        Mark { undo: self.undo.len(), deferred: self.deferred.len() }
    }

    pub(super) fn undo_to(&mut self, mark: Mark) {
        while mark.undo < self.undo.len() {
            let ((table, key), had) = self.undo.pop().expect("just counted");
            let rows = self.writes.entry(table).or_default();
            match had {
                Some(had) => rows.insert(key, had),
                None => rows.remove(&key),
            };
        }
        self.deferred.truncate(mark.deferred);
    }

    pub(super) fn has_savepoint(&self) -> bool {
        !self.savepoints.is_empty()
    }

    pub(super) fn set_savepoint(&mut self, name: String) {
        self.savepoints.push((name, self.mark()));
    }

    /// Forgets a savepoint and those after it, or goes back to it and keeps it.
    pub(super) fn end_savepoint(&mut self, name: &str, keep: bool) -> Result<(), SqlError> {
        let missing = || SqlError::new("3B001", format!("savepoint \"{name}\" does not exist"));
        let at = self.savepoints.iter().rposition(|(had, _)| had == name).ok_or_else(missing)?;
        if keep {
            let mark = self.savepoints[at].1;
            self.undo_to(mark);
        }
        self.savepoints.truncate(at + usize::from(keep));
        Ok(())
    }
}

/// One statement at work: a transaction sees what is committed, under what it wrote itself.
pub(super) struct Work<'a> {
    pub(super) data: &'a mut Data,
    pub(super) tx: &'a mut Tx,
    /// The rows that the statement changed.
    pub(super) touched: Vec<Touch>,
    /// What goes before the statement, by its name: the names of its columns, and its rows.
    pub(super) with: BTreeMap<String, (Vec<String>, Vec<Row>)>,
}

impl Work<'_> {
    pub(super) fn get(&self, table: usize, key: &[Value]) -> Option<&Row> {
        match self.tx.writes.get(&table).and_then(|rows| rows.get(key)) {
            Some(written) => written.as_ref(),
            None => self.data.rows[table].get(key),
        }
    }

    /// All rows of a table, those of this transaction last.
    pub(super) fn rows(&self, table: usize) -> impl Iterator<Item = (&Key, &Row)> {
        let own = self.tx.writes.get(&table);
        let committed = self.data.rows[table].iter();
        let committed =
            committed.filter(move |(key, _)| own.is_none_or(|own| !own.contains_key(*key)));
        let own = own.into_iter().flatten();
        committed.chain(own.filter_map(|(key, row)| Some((key, row.as_ref()?))))
    }

    pub(super) fn set(&mut self, table: usize, key: Key, row: Option<Row>) {
        let had = self.tx.writes.entry(table).or_default().insert(key.clone(), row);
        self.tx.undo.push(((table, key), had));
    }

    pub(super) fn lock(&mut self, lock: Lock, mode: Mode) -> Result<(), Halt> {
        self.data.locks.take(self.tx.session, lock, mode)
    }

    /// The key of the row that has these values in these columns.
    pub(super) fn find(&self, table: usize, columns: &[usize], values: &[Value]) -> Option<Key> {
        if self.data.tables[table].key() == columns {
            return self.get(table, values).map(|_| values.to_vec());
        }
        let same =
            |row: &Row| columns.iter().zip(values).all(|(column, value)| row[*column] == *value);
        self.rows(table).find(|(_, row)| same(row)).map(|(key, _)| key.clone())
    }
}
