//! The reference model: what the target must look like, computed the slow and obvious way.
//!
//! It knows the source's history and which changes became dead letters. It knows no batches, no staging
//! and no positions of ours.
use std::collections::BTreeSet;

use replicator_core::model::mutation::{Mutation, TableId};
use replicator_core::model::position::Position;

use crate::database::Rows;
use crate::schema::{Tuple, Value, index, schema};

/// One row change as the source made it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowChange {
    /// The table.
    pub table: TableId,
    /// The key of the row; empty for a truncate.
    pub key: Tuple,
    /// What happened to it.
    pub does: Does,
}

/// What happens to a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Does {
    /// It gets these values, whether or not it was there.
    Put(Tuple),
    /// It gets these values in these columns and keeps the others.
    Set(Vec<(u16, Value)>),
    /// It gets another key and these values in these columns, and keeps the others.
    Move(Tuple, Vec<(u16, Value)>),
    /// It goes away.
    Delete,
    /// All rows of the table go away.
    Truncate,
}

/// A transaction of the source.
#[derive(Clone, Debug)]
pub struct Commit {
    /// Where its commit record starts.
    pub before: Position,
    /// Where it ends.
    pub position: Position,
    /// What the source sends.
    pub mutations: Vec<Mutation>,
    /// What each of them means.
    pub changes: Vec<RowChange>,
    /// Whether every change was a statement of its own, so that it may be cut anywhere.
    pub divisible: bool,
}

/// A change of the history: the number of its transaction and its place in it.
pub type ChangeId = (usize, usize);

/// Everything the source ever committed, in order.
#[derive(Debug, Default)]
pub struct History {
    commits: Vec<Commit>,
}

impl History {
    /// Appends a transaction.
    pub fn push(&mut self, commit: Commit) {
        if let Some(last) = self.commits.last() {
            assert!(last.position <= commit.before, "history out of order");
        }
        assert!(commit.before < commit.position, "a transaction ends before it commits");
        assert!(commit.mutations.len() == commit.changes.len(), "a change without meaning");
        self.commits.push(commit);
    }

    /// All transactions.
    #[must_use]
    pub fn commits(&self) -> &[Commit] {
        &self.commits
    }

    /// The number of the transaction that ends at `position`.
    #[must_use]
    pub fn find(&self, position: Position) -> Option<usize> {
        self.commits.binary_search_by(|commit| commit.position.cmp(&position)).ok()
    }

    /// How many transactions end at or before `through`.
    #[must_use]
    pub fn count_through(&self, through: Option<Position>) -> usize {
        self.commits.partition_point(|commit| Some(commit.position) <= through)
    }

    /// The position of the last transaction.
    #[must_use]
    pub fn end(&self) -> Option<Position> {
        self.commits.last().map(|commit| commit.position)
    }
}

/// The tables after some transactions.
#[derive(Debug)]
pub struct Model {
    // How many transactions are in `tables`.
    count: usize,
    tables: Vec<Rows>,
}

impl Model {
    /// Before the first transaction.
    #[must_use]
    pub fn new() -> Self {
        Self { count: 0, tables: schema().catalog.tables().map(|_| Rows::new()).collect() }
    }

    /// The tables after the first `count` transactions, without the changes that are `dead`.
    pub fn after(&mut self, history: &History, count: usize, dead: &BTreeSet<ChangeId>) -> &[Rows] {
        if count < self.count {
            *self = Self::new();
        }
        (self.count..count).for_each(|tx| self.add(history, tx, dead));
        self.count = count;
        &self.tables
    }

    /// The tables after these transactions, in the order of the history, and no others, without the changes
    /// that are `dead`.
    #[must_use]
    pub fn of(history: &History, txs: &BTreeSet<usize>, dead: &BTreeSet<ChangeId>) -> Vec<Rows> {
        let mut model = Self::new();
        txs.iter().for_each(|tx| model.add(history, *tx, dead));
        model.tables
    }

    fn add(&mut self, history: &History, tx: usize, dead: &BTreeSet<ChangeId>) {
        for (place, change) in history.commits()[tx].changes.iter().enumerate() {
            if !dead.contains(&(tx, place)) {
                self.apply(change);
            }
        }
    }

    fn apply(&mut self, change: &RowChange) {
        let rows = &mut self.tables[index(change.table)];
        match &change.does {
            Does::Put(row) => {
                rows.insert(change.key.clone(), row.clone());
            }
            Does::Set(cells) => {
                let row = rows.get_mut(&change.key).expect("the row to change is there");
                for (column, value) in cells {
                    row[usize::from(*column)] = *value;
                }
            }
            Does::Move(key, cells) => {
                let mut row = rows.remove(&change.key).expect("the row to move is there");
                for (column, value) in cells {
                    row[usize::from(*column)] = *value;
                }
                rows.insert(key.clone(), row);
            }
            Does::Delete => {
                rows.remove(&change.key);
            }
            Does::Truncate => rows.clear(),
        }
    }
}

impl Default for Model {
    fn default() -> Self {
        Self::new()
    }
}
