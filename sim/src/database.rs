//! A relational database in memory: keys, unique indexes, foreign keys, statements.
//!
//! It stands in for the source, which refuses what its constraints do not accept, and for the target,
//! which runs the steps that the product planned. The rules are PostgreSQL's: unique indexes are
//! checked row by row, foreign keys at the end of a statement or, if deferrable, of the transaction
//! (PostgreSQL documentation, "CREATE TABLE", section "Non-Deferred Uniqueness Constraints" and
//! "SET CONSTRAINTS").
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use replicator_core::model::catalog::{ForeignKey, Table};
use replicator_core::model::mutation::TableId;
use replicator_core::model::row::{Cell, Row};
use replicator_core::plan::{Kind, Step};

use crate::schema::{Tuple, Value, index, schema};

/// The rows of one table by key.
pub type Rows = BTreeMap<Tuple, Tuple>;

/// Why a statement or a commit was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// A unique index or a foreign key.
    Constraint(String),
    /// The row can never be stored.
    Rejected(String),
}

/// The tables. A clone costs little until it is written to.
#[derive(Clone, Debug)]
pub struct Database {
    tables: Vec<Arc<Rows>>,
    // Whether negative values are refused: a limit that the target has and the source has not.
    strict: bool,
}

impl Database {
    /// Empty tables.
    #[must_use]
    pub fn new(strict: bool) -> Self {
        let tables = schema().catalog.tables().map(|_| Arc::default()).collect();
        Self { tables, strict }
    }

    /// Tables with these rows, without limits.
    #[must_use]
    pub fn holding(tables: Vec<Rows>) -> Self {
        assert!(tables.len() == schema().catalog.tables().count(), "the rows of each table");
        Self { tables: tables.into_iter().map(Arc::new).collect(), strict: false }
    }

    /// Takes the limit away.
    pub fn relent(&mut self) {
        self.strict = false;
    }

    /// The rows of a table.
    #[must_use]
    pub fn rows(&self, table: TableId) -> &Rows {
        &self.tables[index(table)]
    }

    /// The key of a row of a table.
    #[must_use]
    pub fn key_of(table: &Table, row: &[Value]) -> Tuple {
        table.key.iter().map(|column| row[usize::from(*column)]).collect()
    }

    /// Runs one step of a plan as one statement.
    ///
    /// # Errors
    ///
    /// See [`Refusal`]; the statement may be half done, so forget this copy of the database.
    pub fn run(&mut self, step: &Step<'_>) -> Result<(), Refusal> {
        let id = step.table;
        let table = schema().catalog.table(id);
        match step.kind {
            // A target may copy rows that are new at the source, which fails if they are not.
            Kind::Insert => self.write(id, table, step, 1 < step.rows.len())?,
            Kind::Upsert => self.write(id, table, step, false)?,
            Kind::Update => self.update(id, table, step)?,
            Kind::Move => self.move_row(id, table, step)?,
            Kind::Delete => {
                for row in &step.rows {
                    let cells = cells(row, &table.key);
                    let key = table.key.iter().map(|column| cells[column]).collect::<Tuple>();
                    self.write_to(id).remove(&key);
                }
            }
            Kind::Truncate => self.write_to(id).clear(),
        }
        self.end_statement(id)
    }

    /// Inserts rows with one statement, as a client of the source does.
    ///
    /// # Errors
    ///
    /// See [`Refusal`] and [`run`](Self::run).
    pub fn insert(&mut self, id: TableId, rows: &[Tuple]) -> Result<(), Refusal> {
        let table = schema().catalog.table(id);
        for row in rows {
            let key = Self::key_of(table, row);
            if self.rows(id).contains_key(&key) {
                return Err(Refusal::Constraint(format!("duplicate key in {}", table.name)));
            }
            self.put(id, table, key, row.clone())?;
        }
        self.end_statement(id)
    }

    /// Gives a row other values, perhaps another key, with one statement.
    ///
    /// # Errors
    ///
    /// See [`Refusal`] and [`run`](Self::run).
    pub fn replace(&mut self, id: TableId, key: &Tuple, row: Tuple) -> Result<(), Refusal> {
        let table = schema().catalog.table(id);
        self.write_to(id).remove(key);
        let key = Self::key_of(table, &row);
        if self.rows(id).contains_key(&key) {
            return Err(Refusal::Constraint(format!("duplicate key in {}", table.name)));
        }
        self.put(id, table, key, row)?;
        self.end_statement(id)
    }

    /// Deletes rows with one statement.
    ///
    /// # Errors
    ///
    /// See [`Refusal`] and [`run`](Self::run).
    pub fn delete(&mut self, id: TableId, keys: &[Tuple]) -> Result<(), Refusal> {
        for key in keys {
            self.write_to(id).remove(key);
        }
        self.end_statement(id)
    }

    /// Deletes all rows of a table.
    ///
    /// # Errors
    ///
    /// See [`Refusal`] and [`run`](Self::run).
    pub fn truncate(&mut self, id: TableId) -> Result<(), Refusal> {
        self.write_to(id).clear();
        self.end_statement(id)
    }

    /// Checks what may be put off to the end of a transaction.
    ///
    /// # Errors
    ///
    /// A reference has no parent.
    pub fn end_transaction(&self) -> Result<(), Refusal> {
        for (id, table) in schema().catalog.tables() {
            for fk in table.foreign_keys.iter().filter(|fk| fk.deferrable) {
                self.check_reference(id, fk)?;
            }
        }
        Ok(())
    }

    fn write_to(&mut self, id: TableId) -> &mut Rows {
        Arc::make_mut(&mut self.tables[index(id)])
    }

    /// INSERT … ON CONFLICT DO UPDATE, or COPY.
    fn write(
        &mut self,
        id: TableId,
        table: &Table,
        step: &Step<'_>,
        all_new: bool,
    ) -> Result<(), Refusal> {
        let mut seen = BTreeSet::new();
        for row in &step.rows {
            let cells = cells(row, &step.columns);
            let key = key_among(table, &cells)?;
            if !seen.insert(key.clone()) {
                return Err(Refusal::Constraint("a statement touches a row twice".to_owned()));
            }
            let mut values = vec![None; table.columns.len()];
            // PostgreSQL looks for NULLs before it looks for the row to update (`ExecInsert` in
            // src/backend/executor/nodeModifyTable.c).
            for (index, column) in (0_u16..).zip(&table.columns) {
                if !column.nullable && cells.get(&index).copied().flatten().is_none() {
                    return Err(Refusal::Rejected(format!("NULL in {}", table.name)));
                }
            }
            if let Some(had) = self.rows(id).get(&key) {
                if all_new {
                    return Err(Refusal::Constraint(format!("duplicate key in {}", table.name)));
                }
                values.clone_from(had);
            }
            for (column, value) in cells {
                values[usize::from(column)] = value;
            }
            self.put(id, table, key, values)?;
        }
        Ok(())
    }

    /// UPDATE … FROM: the rows come in an order of the server's choice, here the worst.
    fn update(&mut self, id: TableId, table: &Table, step: &Step<'_>) -> Result<(), Refusal> {
        let mut missing = 0;
        for row in step.rows.iter().rev() {
            let cells = cells(row, &step.columns);
            let key = key_among(table, &cells)?;
            let Some(had) = self.rows(id).get(&key) else {
                missing += 1;
                continue;
            };
            let mut values = had.clone();
            for (column, value) in cells {
                values[usize::from(column)] = value;
            }
            self.put(id, table, key, values)?;
        }
        if missing > 0 {
            return Err(Refusal::Rejected(format!("{missing} rows are missing in {}", table.name)));
        }
        Ok(())
    }

    /// UPDATE of the key: finds the row by its old key, or by its new one.
    fn move_row(&mut self, id: TableId, table: &Table, step: &Step<'_>) -> Result<(), Refusal> {
        let (Some(from), Some(to)) = (step.from, step.rows.first()) else {
            panic!("a move without its two images")
        };
        let cells = cells(to, &step.columns);
        let new_key = key_among(table, &cells)?;
        let old_key = key_among(table, &self::cells(from, &table.key))?;
        let rows = self.write_to(id);
        let Some(mut values) = rows.remove(&old_key).or_else(|| rows.remove(&new_key)) else {
            return Err(Refusal::Rejected(format!("a row is missing in {}", table.name)));
        };
        for (column, value) in cells {
            values[usize::from(column)] = value;
        }
        self.put(id, table, new_key, values)
    }

    /// Stores one row and checks everything that is checked row by row.
    fn put(&mut self, id: TableId, table: &Table, key: Tuple, row: Tuple) -> Result<(), Refusal> {
        for (column, value) in table.columns.iter().zip(&row) {
            if value.is_none() && !column.nullable {
                return Err(Refusal::Rejected(format!("NULL in {}.{}", table.name, column.name)));
            }
            if self.strict && value.is_some_and(|number| number < 0) {
                return Err(Refusal::Rejected(format!("{}.{} is < 0", table.name, column.name)));
            }
        }
        for unique in &table.uniques {
            let columns = unique.columns.as_ref().expect("every unique index has columns");
            let values = values_of(columns, &row);
            let taken = values.iter().all(Option::is_some)
                && self
                    .rows(id)
                    .iter()
                    .any(|(other, had)| *other != key && values_of(columns, had) == values);
            if taken {
                return Err(Refusal::Constraint(format!("duplicate value in {}", table.name)));
            }
        }
        self.write_to(id).insert(key, row);
        Ok(())
    }

    fn end_statement(&self, changed: TableId) -> Result<(), Refusal> {
        for (id, table) in schema().catalog.tables() {
            for fk in table.foreign_keys.iter().filter(|fk| !fk.deferrable) {
                if id == changed || fk.parent == changed {
                    self.check_reference(id, fk)?;
                }
            }
        }
        Ok(())
    }

    fn check_reference(&self, child: TableId, fk: &ForeignKey) -> Result<(), Refusal> {
        for row in self.rows(child).values() {
            let values = values_of(&fk.columns, row);
            let refers = values.iter().all(Option::is_some);
            let by_key = schema().catalog.table(fk.parent).key == fk.parent_columns;
            let parents = self.rows(fk.parent);
            let found = if by_key {
                parents.contains_key(&values)
            } else {
                parents.values().any(|parent| values_of(&fk.parent_columns, parent) == values)
            };
            if refers && !found {
                return Err(Refusal::Constraint(format!("no parent for {}", fk.name)));
            }
        }
        Ok(())
    }
}

/// The values that a row has for these columns.
pub(crate) fn cells(row: &Row, columns: &[u16]) -> BTreeMap<u16, Value> {
    let mut found = BTreeMap::new();
    for (column, cell) in row.columns().filter(|(column, _)| columns.contains(column)) {
        let value = match cell {
            Cell::Null => None,
            Cell::Text(text) => Some(number(text)),
            Cell::Unchanged | Cell::Binary(_) => panic!("a step binds a value that nobody sent"),
        };
        found.insert(column, value);
    }
    assert!(found.len() == columns.len(), "a step binds a column that the row has not");
    found
}

fn number(text: &[u8]) -> i64 {
    std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).expect("a whole number")
}

fn key_among(table: &Table, cells: &BTreeMap<u16, Value>) -> Result<Tuple, Refusal> {
    let missing = || Refusal::Rejected(format!("a row of {} without its key", table.name));
    table.key.iter().map(|column| cells.get(column).copied().ok_or_else(missing)).collect()
}

fn values_of(columns: &[u16], row: &[Value]) -> Tuple {
    columns.iter().map(|column| row[usize::from(*column)]).collect()
}
