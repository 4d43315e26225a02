//! Steps → SQL text and parameters; error code → [`Failure`](crate::Failure). Pure.
//!
//! CockroachDB and PostgreSQL share one dialect; what they differ in is one `match` on [`Product`]. That
//! of MySQL and MariaDB has nothing in common with it; see [`mysql`].
//! Here values travel as arrays, one per column, and `unnest` turns them back into rows. So a statement's
//! text depends only on its table and columns, and is prepared once for any number of rows.
//!
//! Text is cast by the server, from the very characters the source printed: no number, date or enum
//! passes through a type of ours. Casts never carry a length, because a cast to `varchar(3)` cuts a
//! value off in silence while an assignment refuses it.
mod array;
mod copy;
mod error;
pub mod mysql;

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::Write;

pub use array::{Array, ArrayError};
pub use error::{Class, classify};

use crate::model::catalog::{Column, Made, Table, Wire};
use crate::model::ident::Quoted;
use crate::model::row::Row;
use crate::plan::{Kind, Step};

/// Whose SQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Product {
    /// PostgreSQL 11 and later.
    Postgres,
    /// CockroachDB 22.1 and later.
    Cockroach,
}

/// Below this a COPY costs more than it saves: it needs a round trip of its own.
const COPY_ROWS_MIN: usize = 100;

/// How to talk to one target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dialect {
    /// Whose SQL.
    pub product: Product,
    /// The target database, to qualify names with. PostgreSQL knows only the one it is connected to.
    pub database: String,
}

/// One statement with its parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// The text. `$1`… are arrays of one length, one per bound column.
    pub sql: String,
    /// The arrays.
    pub params: Vec<Array>,
    /// How many rows it must change, where fewer would mean a row is missing on the target.
    pub rows_min: Option<u64>,
}

impl Dialect {
    /// The statement for a step.
    ///
    /// # Errors
    ///
    /// A value does not fit its column's wire type, or has none the dialect can bind.
    pub fn statement(&self, table: &Table, step: &Step<'_>) -> Result<Statement, ArrayError> {
        let sql = match step.kind {
            Kind::Insert | Kind::Upsert => self.upsert(table, &step.columns),
            Kind::Update => self.update(table, &step.columns),
            Kind::Move => self.move_row(table, &step.columns),
            Kind::Delete => self.delete(table),
            Kind::Truncate => format!("DELETE FROM {}", self.name(table)),
        };
        let rows = step.rows.len();
        let mut params: Vec<Array> = step
            .columns
            .iter()
            .map(|column| Array::new(table.column(*column).wire, rows))
            .collect();
        for row in &step.rows {
            bind(&mut params, &step.columns, row)?;
        }
        if let Some(from) = step.from {
            let mut old: Vec<Array> =
                table.key.iter().map(|column| Array::new(table.column(*column).wire, 1)).collect();
            bind(&mut old, &table.key, from)?;
            params.append(&mut old);
        }
        let rows_min = match step.kind {
            // With all values sent, an upsert follows that inserts what is missing.
            Kind::Move if !step.rows.iter().any(|row| row.has_unchanged()) => None,
            Kind::Update | Kind::Move => u64::try_from(rows).ok(),
            Kind::Insert | Kind::Upsert | Kind::Delete | Kind::Truncate => None,
        };
        Ok(Statement { sql, params, rows_min })
    }

    /// The text and the data of a COPY that does the same as the step, if it is worth it: many rows that
    /// are new at the source, on PostgreSQL. Fails on the server if one of the rows exists.
    #[must_use]
    pub fn copy(&self, table: &Table, step: &Step<'_>) -> Option<(String, Vec<u8>)> {
        let worth = step.kind == Kind::Insert && COPY_ROWS_MIN <= step.rows.len();
        if self.product != Product::Postgres || !worth {
            return None;
        }
        let bytes = step.rows.iter().fold(0, |sum: usize, row| sum.saturating_add(row.len_bytes()));
        let mut data = Vec::with_capacity(bytes);
        for row in &step.rows {
            if !copy::push_row(&mut data, &step.columns, row) {
                return None;
            }
        }
        let mut sql = format!("COPY {} (", self.name(table));
        list(&mut sql, &step.columns, |sql, column| {
            write!(sql, "{}", Quoted(&table.column(column).name))
        });
        sql.push_str(") FROM STDIN");
        Some((sql, data))
    }

    /// A table's name, qualified as far as the product allows.
    #[must_use]
    pub fn name(&self, table: &Table) -> String {
        match self.product {
            Product::Postgres => table.name.to_string(),
            Product::Cockroach => format!("{}.{}", Quoted(&self.database), table.name),
        }
    }

    /// Inserts rows, or replaces the columns given where the key exists.
    fn upsert(&self, table: &Table, columns: &[u16]) -> String {
        let mut sql = format!("INSERT INTO {} (", self.name(table));
        list(&mut sql, columns, |sql, column| {
            write!(sql, "{}", Quoted(&table.column(column).name))
        });
        sql.push(')');
        // PostgreSQL documentation, INSERT: without it a GENERATED ALWAYS identity refuses a value.
        if columns.iter().any(|column| table.column(*column).made == Made::IdentityAlways) {
            sql.push_str(" OVERRIDING SYSTEM VALUE");
        }
        sql.push_str(" SELECT ");
        casts(&mut sql, table, columns);
        from_unnest(&mut sql, table, columns);
        if table.key.is_empty() {
            return sql;
        }
        sql.push_str(" ON CONFLICT (");
        list(&mut sql, &table.key, |sql, column| {
            write!(sql, "{}", Quoted(&table.column(column).name))
        });
        sql.push_str(") DO ");
        let set = settable(table, columns);
        if set.is_empty() {
            sql.push_str("NOTHING");
            return sql;
        }
        sql.push_str("UPDATE SET ");
        list(&mut sql, &set, |sql, column| {
            let name = Quoted(&table.column(column).name);
            write!(sql, "{name} = excluded.{name}")
        });
        sql
    }

    /// Sets the columns given and leaves the others alone.
    fn update(&self, table: &Table, columns: &[u16]) -> String {
        let set = settable(table, columns);
        let cell = |column: u16| {
            let index = columns.iter().position(|bound| *bound == column).unwrap_or_default();
            cast(table.column(column), index)
        };
        let mut sql = format!("UPDATE {} AS t SET ", self.name(table));
        if set.is_empty() {
            // Nothing changed but what was not sent; still finds out whether the row is there.
            sql = format!("SELECT 1 FROM {} AS t, LATERAL (SELECT *", self.name(table));
        }
        list(&mut sql, &set, |sql, column| {
            write!(sql, "{} = {}", Quoted(&table.column(column).name), cell(column))
        });
        from_unnest(&mut sql, table, columns);
        if set.is_empty() {
            sql.push_str(") AS x");
        }
        sql.push_str(" WHERE ");
        for (index, column) in table.key.iter().enumerate() {
            let and = if index == 0 { "" } else { " AND " };
            let name = Quoted(&table.column(*column).name);
            infallible(write!(sql, "{and}t.{name} = {}", cell(*column)));
        }
        sql
    }

    /// Gives a row another key and sets the columns given. Finds the row by its old key, or by the new
    /// one if it was moved before.
    fn move_row(&self, table: &Table, columns: &[u16]) -> String {
        let bound: Vec<u16> = columns.iter().chain(&table.key).copied().collect();
        let written = |column: &&u16| table.column(**column).made == Made::Written;
        let set: Vec<u16> = columns.iter().filter(written).copied().collect();
        let new = |column: u16| columns.iter().position(|bound| *bound == column);
        let mut sql = format!("UPDATE {} AS t SET ", self.name(table));
        list(&mut sql, &set, |sql, column| {
            let value = cast(table.column(column), new(column).unwrap_or_default());
            write!(sql, "{} = {value}", Quoted(&table.column(column).name))
        });
        from_unnest(&mut sql, table, &bound);
        let matches = |of: &dyn Fn(usize, u16) -> usize| {
            let mut text = String::new();
            for (index, column) in table.key.iter().enumerate() {
                let and = if index == 0 { "" } else { " AND " };
                let name = Quoted(&table.column(*column).name);
                let value = cast(table.column(*column), of(index, *column));
                infallible(write!(text, "{and}t.{name} = {value}"));
            }
            text
        };
        let old = matches(&|index, _| columns.len().saturating_add(index));
        let new = matches(&|_, column| new(column).unwrap_or_default());
        infallible(write!(sql, " WHERE ({old}) OR ({new})"));
        sql
    }

    /// Deletes by key.
    fn delete(&self, table: &Table) -> String {
        let mut sql = format!("DELETE FROM {} WHERE ", self.name(table));
        if let [column] = table.key.as_slice()
            && table.column(*column).wire != Wire::Text
        {
            let column = table.column(*column);
            let array = array_type(column.wire);
            infallible(write!(sql, "{} = ANY($1::{array})", Quoted(&column.name)));
            return sql;
        }
        sql.push('(');
        list(&mut sql, &table.key, |sql, column| {
            write!(sql, "{}", Quoted(&table.column(column).name))
        });
        sql.push_str(") IN (SELECT ");
        casts(&mut sql, table, &table.key);
        from_unnest(&mut sql, table, &table.key);
        sql.push(')');
        sql
    }
}

/// Appends the row's cells to the arrays of `columns`.
fn bind(params: &mut [Array], columns: &[u16], row: &Row) -> Result<(), ArrayError> {
    // Both usually ascend together, so the next one is at hand; a delete skips what is no key.
    let mut bound = 0_usize;
    let mut next = 0_usize;
    for (column, cell) in row.columns() {
        let at_hand = columns.get(next) == Some(&column);
        let slot =
            if at_hand { Some(next) } else { columns.iter().position(|wanted| *wanted == column) };
        if let Some(slot) = slot
            && let Some(array) = params.get_mut(slot)
        {
            array.push(cell)?;
            bound = bound.saturating_add(1);
            next = slot.saturating_add(1);
        }
    }
    if bound == columns.len() { Ok(()) } else { Err(ArrayError::Missing) }
}

/// The columns that an existing row takes on: not its key, not what the server insists to make.
fn settable(table: &Table, columns: &[u16]) -> Vec<u16> {
    let written =
        |column: &&u16| !table.key.contains(column) && table.column(**column).made == Made::Written;
    columns.iter().filter(written).copied().collect()
}

fn casts(sql: &mut String, table: &Table, columns: &[u16]) {
    for (index, column) in columns.iter().enumerate() {
        let comma = if index == 0 { "" } else { ", " };
        infallible(write!(sql, "{comma}{}", cast(table.column(*column), index)));
    }
}

fn cast(column: &Column, index: usize) -> String {
    match column.wire {
        Wire::Text => format!("x.c{index}::{}", column.cast),
        Wire::Int2 | Wire::Int4 | Wire::Int8 => format!("x.c{index}"),
    }
}

fn from_unnest(sql: &mut String, table: &Table, columns: &[u16]) {
    sql.push_str(" FROM unnest(");
    for (index, column) in columns.iter().enumerate() {
        let comma = if index == 0 { "" } else { ", " };
        let number = index.saturating_add(1);
        let array = array_type(table.column(*column).wire);
        infallible(write!(sql, "{comma}${number}::{array}"));
    }
    sql.push_str(") AS x(");
    for index in 0..columns.len() {
        let comma = if index == 0 { "" } else { ", " };
        infallible(write!(sql, "{comma}c{index}"));
    }
    sql.push(')');
}

const fn array_type(wire: Wire) -> &'static str {
    match wire {
        Wire::Text => "TEXT[]",
        Wire::Int2 => "INT2[]",
        Wire::Int4 => "INT4[]",
        Wire::Int8 => "INT8[]",
    }
}

fn list(
    sql: &mut String,
    columns: &[u16],
    mut item: impl FnMut(&mut String, u16) -> core::fmt::Result,
) {
    for (index, column) in columns.iter().enumerate() {
        if index > 0 {
            sql.push_str(", ");
        }
        infallible(item(sql, *column));
    }
}

/// Writing to a `String` cannot fail.
fn infallible(result: core::fmt::Result) {
    assert!(result.is_ok(), "writing to a string failed");
}

#[cfg(test)]
mod tests {
    use alloc::borrow::ToOwned;
    use alloc::string::String;
    use alloc::vec::Vec;

    use super::{Dialect, Product};
    use crate::fixture::{catalog, mutations};
    use crate::model::catalog::{Catalog, Made, Table};
    use crate::model::mutation::ApplyOrder;
    use crate::plan::plan;

    fn sql(product: Product, catalog: &Catalog, texts: &[&str]) -> String {
        let dialect = Dialect { product, database: "app".to_owned() };
        let mutations = mutations(catalog, texts);
        let steps = plan(catalog, &mutations, &ApplyOrder::Source, &[]);
        let statements: Vec<String> = steps
            .iter()
            .map(|step| dialect.statement(catalog.table(step.table), step).unwrap().sql)
            .collect();
        statements.join("\n")
    }

    const TEXTS: [&str; 6] =
        ["+child 1 10 hi", "~child 1 ? ho", "-child 1", "-odd a", "!child", "+nokey x"];

    #[test]
    fn postgresql_statements() {
        insta::assert_snapshot!(sql(Product::Postgres, &catalog(), &TEXTS));
    }

    #[test]
    fn cockroachdb_statements() {
        insta::assert_snapshot!(sql(Product::Cockroach, &catalog(), &TEXTS));
    }

    #[test]
    fn w28_an_identity_column_is_inserted_as_the_source_has_it_and_never_updated() {
        let tables: Vec<Table> = catalog()
            .tables()
            .map(|(_, table)| {
                let mut table = table.clone();
                if table.name.table == "parent" {
                    table.columns[1].made = Made::IdentityAlways;
                }
                table
            })
            .collect();
        let catalog = Catalog::new(tables, &[]);
        insta::assert_snapshot!(sql(Product::Postgres, &catalog, &["+parent 1 2"]));
    }

    #[test]
    fn an_update_of_nothing_that_was_sent_looks_whether_the_row_is_there() {
        insta::assert_snapshot!(sql(Product::Postgres, &catalog(), &["~parent 1 ?"]));
    }

    #[test]
    fn a_row_is_moved_in_place_and_keeps_what_was_not_sent() {
        insta::assert_snapshot!(sql(Product::Postgres, &catalog(), &[">child 1 2 10 ?"]));
    }

    #[test]
    fn names_are_quoted() {
        let mut tables: Vec<Table> = catalog().tables().map(|(_, table)| table.clone()).collect();
        for table in &mut tables {
            if table.name.table == "parent" {
                table.name.table = "odd".to_owned() + " \"name\".x";
            }
        }
        let catalog = Catalog::new(tables, &[]);
        let id = catalog.tables().find(|(_, table)| table.name.table.contains(' ')).unwrap().0;
        let dialect = Dialect { product: Product::Postgres, database: "app".to_owned() };
        assert_eq!(dialect.name(catalog.table(id)), r#""public"."odd ""name"".x""#);
    }
}
