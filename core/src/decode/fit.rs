//! Whether columns that a source sends are enough for a table of the target.
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use crate::model::catalog::{Made, Table};
use crate::stop::SchemaDrift;

/// Makes sure that a row can be inserted with the columns that are sent.
pub(super) fn check_missing(
    table: &Table,
    missing: impl Fn(u16) -> bool,
) -> Result<(), SchemaDrift> {
    let needed = (0_u16..).zip(&table.columns).filter(|(index, column)| {
        let made_by_us = column.made == Made::Written;
        made_by_us && !column.nullable && !column.has_default && missing(*index)
    });
    let names: Vec<&str> = needed.map(|(_, column)| column.name.as_str()).collect();
    if names.is_empty() {
        return Ok(());
    }
    Err(SchemaDrift::MissingColumns { table: table.name.clone(), columns: names.join(", ") })
}

/// Makes sure that the columns that identify a row of the target are sent.
pub(super) fn check_key(
    table: &Table,
    source: &dyn fmt::Display,
    missing: impl Fn(u16) -> bool,
) -> Result<(), SchemaDrift> {
    let unknown = |index: u16| missing(index) || table.column(index).made == Made::Generated;
    let names = key_columns(table, unknown);
    if names.is_empty() {
        return Ok(());
    }
    let reason = format!("{source} does not send {names}, part of the target's key");
    Err(SchemaDrift::NoKey { table: table.name.clone(), reason })
}

/// The names of some columns of the key.
pub(super) fn key_columns(table: &Table, wanted: impl Fn(u16) -> bool) -> String {
    let wanted = table.key.iter().filter(|index| wanted(**index));
    let names: Vec<&str> = wanted.map(|index| table.column(*index).name.as_str()).collect();
    names.join(", ")
}

/// Why no row of the table can be told from another, if so.
pub(super) const KEYLESS: &str =
    "the target table has no primary key and no unique index without nullable columns";
