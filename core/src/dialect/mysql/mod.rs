//! The dialect of MySQL 5.7 and later and of MariaDB.
//!
//! Values travel as literals in the text of a statement, so that a whole transaction, from BEGIN to COMMIT,
//! is one message; see [`literal`].
//!
//! **No row is taken for another.** `ON DUPLICATE KEY UPDATE` updates whichever row is in the way, by any
//! unique index, and a collation may take two keys for one. Where that can happen, the statement compares
//! the keys byte by byte, and where they differ it asks for one value of two: an error that is told as a
//! constraint (1242). Rows to delete, update and move are found by the bytes of their keys as well.
//!
//! **Foreign keys are checked row by row** by InnoDB, not at the end of a statement. Rows of an INSERT come
//! in the order they are written in; those of a DELETE in any order. So in a table that refers to itself, rows
//! that are to go first refer to nothing any more, if that may be, and otherwise each gets a DELETE of its own.
mod error;
mod literal;
mod pack;
mod when;

use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;

pub use error::{classify, describe};
pub use literal::ValueError;

use self::pack::Pack;
use crate::model::catalog::{Column, Made, Table};
use crate::model::ident::TableName;
use crate::model::mysql::MySqlType;
use crate::model::row::{Cell, Row};
use crate::plan::{Kind, Step};

/// Rows of one DELETE. Servers give up using an index where a condition is too long.
const DELETE_ROWS_MAX: usize = 500;

/// Whose SQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Flavor {
    /// MySQL 8.0 and later.
    MySql,
    /// MySQL 5.7.
    MySql57,
    /// MariaDB 10.5 and later.
    MariaDb,
}

/// How to talk to one target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MySql {
    /// Whose SQL.
    pub flavor: Flavor,
    /// Bytes of a statement, above which a step becomes several ones. One row may be larger.
    pub statement_bytes: usize,
    /// Bytes of a statement that the server does not take.
    pub statement_bytes_max: usize,
}

/// One statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// The text, with all values.
    pub sql: String,
    /// How many rows it must find, where fewer would mean a row is missing on the target.
    pub rows_min: Option<u64>,
    /// The mutations it was made from, in source order only.
    pub at: Option<Range<usize>>,
}

/// A row cannot be written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// For its value of this column.
    #[error("column {column}: {why}")]
    Value {
        /// The column's name, quoted.
        column: String,
        /// What is wrong.
        why: ValueError,
        /// The row's mutation, in source order only.
        at: Option<Range<usize>>,
    },
    /// For its size.
    #[error("a row of {bytes} bytes as SQL is more than the server takes (max_allowed_packet)")]
    Large {
        /// Its size.
        bytes: usize,
        /// The row's mutation, in source order only.
        at: Option<Range<usize>>,
    },
}

/// An identifier in backticks, which mean the same in every `sql_mode`.
#[derive(Clone, Copy, Debug)]
pub struct Ticked<'a>(pub &'a str);

impl fmt::Display for Ticked<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("`")?;
        for (index, part) in self.0.split('`').enumerate() {
            if index > 0 {
                f.write_str("``")?;
            }
            f.write_str(part)?;
        }
        f.write_str("`")
    }
}

/// A table's name in SQL.
#[must_use]
pub fn name(table: &TableName) -> String {
    alloc::format!("{}.{}", Ticked(&table.schema), Ticked(&table.table))
}

/// A text as a literal.
#[must_use]
pub fn text(value: &str) -> String {
    let mut sql = String::new();
    literal::push_text(&mut sql, value);
    sql
}

impl MySql {
    /// The statements for a step.
    ///
    /// # Errors
    ///
    /// A value cannot be written to its column without being changed, or a row is too large.
    pub fn statements(&self, table: &Table, step: &Step<'_>) -> Result<Vec<Statement>, Refused> {
        let types = table.columns.iter().map(|column| MySqlType::of(&column.cast)).collect();
        let work = Work { my: self, table, step, types };
        match step.kind {
            Kind::Insert | Kind::Upsert => work.upserts(),
            Kind::Update | Kind::Move => work.updates(),
            Kind::Delete => work.deletes(),
            Kind::Truncate => {
                let sql = alloc::format!("DELETE FROM {}", name(&table.name));
                Ok(alloc::vec![Statement { sql, rows_min: None, at: step.at.clone() }])
            }
        }
    }
}

/// A step on its way to SQL.
struct Work<'a> {
    my: &'a MySql,
    table: &'a Table,
    step: &'a Step<'a>,
    // Of the table's columns.
    types: Vec<MySqlType<'a>>,
}

impl<'a> Work<'a> {
    /// Inserts rows, or replaces the columns given where the key exists.
    fn upserts(&self) -> Result<Vec<Statement>, Refused> {
        let Step { columns, rows, .. } = self.step;
        // Quotes and commas; what must be doubled is rare.
        let around = columns.len().saturating_mul(4).saturating_add(4);
        let likely = rows.iter().map(|row| row.len_bytes().saturating_add(around));
        let likely = likely.fold(0, usize::saturating_add);
        let mut head = alloc::format!("INSERT INTO {} (", name(&self.table.name));
        self.list(&mut head, columns, |sql, column| sql.push_str(&column));
        head.push_str(") VALUES ");
        let tail = self.on_duplicate();
        let mut pack = Pack::new(self, &head, &tail);
        pack.bytes_likely = likely;
        let mut tuple = String::new();
        for (index, row) in rows.iter().enumerate() {
            tuple.clear();
            tuple.push('(');
            self.values(&mut tuple, columns, row, index)?;
            tuple.push(')');
            pack.push(index, &tuple, ", ")?;
        }
        Ok(pack.finish())
    }

    /// What happens to a row that is in the way of a new one.
    fn on_duplicate(&self) -> String {
        let Self { table, .. } = self;
        if table.key.is_empty() {
            return String::new();
        }
        let mut sql = " ON DUPLICATE KEY UPDATE ".to_owned();
        let written = |column: &&u16| table.column(**column).made == Made::Written;
        let key = table.key.iter().find(written);
        let guarded = !table.uniques.is_empty() || table.key.iter().any(|c| self.of(*c).collates());
        let mut set: Vec<u16> = self.step.columns.iter().filter(written).copied().collect();
        set.retain(|column| !table.key.contains(column));
        let mut comma = "";
        if let Some(key) = key
            && (guarded || set.is_empty())
        {
            let key = self.column(*key);
            if guarded {
                let same: Vec<String> = table.key.iter().map(|c| self.same_key(*c)).collect();
                let same = same.join(" AND ");
                sql.push_str(&alloc::format!(
                    "{key} = IF({same}, {key}, (SELECT 1 UNION SELECT 2))"
                ));
            } else {
                sql.push_str(&alloc::format!("{key} = {key}"));
            }
            comma = ", ";
        }
        for column in set {
            let column = self.column(column);
            sql.push_str(&alloc::format!("{comma}{column} = VALUES({column})"));
            comma = ", ";
        }
        sql
    }

    /// Whether the row that is there has the key of the one that was to be inserted.
    fn same_key(&self, column: u16) -> String {
        let name = self.column(column);
        if self.of(column).collates() {
            return alloc::format!("CAST({name} AS BINARY) = CAST(VALUES({name}) AS BINARY)");
        }
        alloc::format!("{name} = VALUES({name})")
    }

    /// Sets columns of rows that exist, a row at a time. One that is moved is found by its old key, or by
    /// the new one if it was moved before.
    fn updates(&self) -> Result<Vec<Statement>, Refused> {
        let Self { my, table, step, .. } = self;
        let moved = step.from.is_some();
        let set = |column: &&u16| {
            table.column(**column).made == Made::Written && (moved || !table.key.contains(*column))
        };
        let mut set: Vec<u16> = step.columns.iter().filter(set).copied().collect();
        if set.is_empty() {
            // Nothing changed but what was not sent; still finds out whether the row is there.
            set = table.key.clone();
        }
        let mut statements = Vec::with_capacity(step.rows.len());
        for (index, row) in step.rows.iter().enumerate() {
            let mut sql = alloc::format!("UPDATE {} SET ", name(&table.name));
            let cells = cells(&set, row);
            for (position, (column, cell)) in set.iter().zip(cells).enumerate() {
                let comma = if position == 0 { "" } else { ", " };
                sql.push_str(&alloc::format!("{comma}{} = ", self.column(*column)));
                self.value(&mut sql, *column, cell, index)?;
            }
            sql.push_str(" WHERE ");
            if let Some(from) = step.from {
                sql.push('(');
                self.matches(&mut sql, from, index)?;
                sql.push_str(") OR (");
                self.matches(&mut sql, row, index)?;
                sql.push(')');
            } else {
                self.matches(&mut sql, row, index)?;
            }
            let at = self.at(index..index.saturating_add(1));
            if my.statement_bytes_max < sql.len() {
                return Err(Refused::Large { bytes: sql.len(), at });
            }
            statements.push(Statement { sql, rows_min: Some(1), at });
        }
        Ok(statements)
    }

    /// Deletes by key.
    fn deletes(&self) -> Result<Vec<Statement>, Refused> {
        let Self { table, step, .. } = self;
        let shown = name(&table.name);
        let head = alloc::format!("DELETE FROM {shown} WHERE ");
        if !table.foreign_keys.iter().any(|fk| fk.parent == step.table) {
            return self.by_key(&head, DELETE_ROWS_MAX, false);
        }
        // Where an image tells only the key, nobody knows whom a row refers to.
        let netted = step.at.is_none();
        let Some(ties) = self.ties().filter(|_| netted && 1 < step.rows.len()) else {
            // In no order but that of their keys. A row is mostly younger than the one it refers to.
            return self.by_key(&head, 1, netted);
        };
        let mut untie = alloc::format!("UPDATE {shown} SET ");
        self.list(&mut untie, &ties, |sql, column| {
            sql.push_str(&alloc::format!("{column} = NULL"));
        });
        untie.push_str(" WHERE ");
        let mut statements = self.by_key(&untie, DELETE_ROWS_MAX, false)?;
        statements.extend(self.by_key(&head, DELETE_ROWS_MAX, false)?);
        Ok(statements)
    }

    /// Columns without whose values a row refers to no other one of its table; none if it always does.
    fn ties(&self) -> Option<Vec<u16>> {
        let Self { table, step, .. } = self;
        let loose = |column: &&u16| {
            let Column { nullable, made, .. } = table.column(**column);
            *nullable && *made == Made::Written && !table.key.contains(*column)
        };
        let itself = table.foreign_keys.iter().filter(|fk| fk.parent == step.table);
        let ties = itself.map(|fk| fk.columns.iter().find(loose).copied());
        let mut ties: Vec<u16> = ties.collect::<Option<_>>()?;
        ties.sort_unstable();
        ties.dedup();
        Some(ties)
    }

    /// A statement for the rows with the keys of the step's, in this order or the other way round.
    fn by_key(
        &self,
        head: &str,
        rows_max: usize,
        reversed: bool,
    ) -> Result<Vec<Statement>, Refused> {
        let Self { table, step, .. } = self;
        let single = match table.key.as_slice() {
            [column] if !self.of(*column).collates() => Some(*column),
            _ => None,
        };
        let (head, between, tail) = match single {
            Some(column) => (alloc::format!("{head}{} IN (", self.column(column)), ", ", ")"),
            None => (head.to_owned(), " OR ", ""),
        };
        let mut pack = Pack::new(self, &head, tail);
        pack.rows_max = rows_max;
        let mut rows: Vec<(usize, &Row)> =
            step.rows.iter().map(AsRef::as_ref).enumerate().collect();
        if reversed {
            rows.reverse();
        }
        for (index, row) in rows {
            let mut item = String::new();
            if single.is_some() {
                self.values(&mut item, &table.key, row, index)?;
            } else {
                item.push('(');
                self.matches(&mut item, row, index)?;
                item.push(')');
            }
            pack.push(index, &item, between)?;
        }
        Ok(pack.finish())
    }

    /// The condition that a row has the key of an image.
    fn matches(&self, sql: &mut String, row: &Row, index: usize) -> Result<(), Refused> {
        let key = &self.table.key;
        for (position, (column, cell)) in key.iter().zip(cells(key, row)).enumerate() {
            let and = if position == 0 { "" } else { " AND " };
            let name = self.column(*column);
            sql.push_str(&alloc::format!("{and}{name} = "));
            self.value(sql, *column, cell, index)?;
            if self.of(*column).collates() {
                // The first condition finds it by an index, this one looks whether it is the very one.
                let bytes = alloc::format!("CAST(CONVERT({name} USING utf8mb4) AS BINARY)");
                sql.push_str(&alloc::format!(" AND {bytes} = "));
                self.value(sql, *column, cell, index)?;
            }
        }
        Ok(())
    }

    /// The literals of columns, in their order.
    fn values(
        &self,
        sql: &mut String,
        columns: &[u16],
        row: &Row,
        index: usize,
    ) -> Result<(), Refused> {
        // Mostly the row has these columns, in this order.
        let (mut at_hand, mut found) = (row.columns(), Vec::new());
        for (position, column) in columns.iter().enumerate() {
            let cell = match at_hand.next() {
                Some((next, cell)) if next == *column && found.is_empty() => cell,
                Some(_) | None => {
                    if found.is_empty() {
                        found = cells(columns, row);
                    }
                    found.get(position).copied().unwrap_or(Cell::Unchanged)
                }
            };
            if position > 0 {
                sql.push_str(", ");
            }
            self.value(sql, *column, cell, index)?;
        }
        Ok(())
    }

    fn value(
        &self,
        sql: &mut String,
        column: u16,
        cell: Cell<'_>,
        index: usize,
    ) -> Result<(), Refused> {
        literal::push(sql, self.my.flavor, self.of(column), cell).map_err(|why| Refused::Value {
            column: self.column(column),
            why,
            at: self.at(index..index.saturating_add(1)),
        })
    }

    fn of(&self, column: u16) -> MySqlType<'a> {
        let known = self.types.get(usize::from(column)).copied();
        known.unwrap_or_else(|| MySqlType::of(&self.table.column(column).cast))
    }

    fn column(&self, column: u16) -> String {
        alloc::format!("{}", Ticked(&self.table.column(column).name))
    }

    fn list(&self, sql: &mut String, columns: &[u16], item: impl Fn(&mut String, String)) {
        for (index, column) in columns.iter().enumerate() {
            if index > 0 {
                sql.push_str(", ");
            }
            item(sql, self.column(*column));
        }
    }

    /// The mutations of some rows of the step.
    fn at(&self, rows: Range<usize>) -> Option<Range<usize>> {
        let at = self.step.at.clone()?;
        if at.len() != self.step.rows.len() {
            // Dead letters lie between them.
            return Some(at);
        }
        let (start, end) = (at.start.saturating_add(rows.start), at.start.saturating_add(rows.end));
        Some(start..end)
    }
}

/// The cells of some columns of a row, in the order of the columns. What the row does not have counts as
/// not sent.
fn cells<'r>(columns: &[u16], row: &'r Row) -> Vec<Cell<'r>> {
    let mut found = alloc::vec![Cell::Unchanged; columns.len()];
    // Both usually ascend together, so the next one is at hand; a delete skips what is no key.
    let mut next = 0_usize;
    for (column, cell) in row.columns() {
        let at_hand = columns.get(next) == Some(&column);
        let slot =
            if at_hand { Some(next) } else { columns.iter().position(|wanted| *wanted == column) };
        if let Some(slot) = slot
            && let Some(place) = found.get_mut(slot)
        {
            *place = cell;
            next = slot.saturating_add(1);
        }
    }
    found
}

#[cfg(test)]
mod tests;
