//! Rows that the target refuses for good, kept in a table of the target schema.
use replicator_core::dialect::mysql::{Ticked, name, text};
use replicator_core::model::catalog::{Catalog, Table};
use replicator_core::model::ident::TableName;
use replicator_core::model::mutation::ApplyRequest;

use super::super::dead_letter::{COLUMNS, DeadLetterError, images, look_up};

/// Looks the table up and checks its columns.
///
/// # Errors
///
/// See [`DeadLetterError`].
pub fn find<'a>(catalog: &'a Catalog, letters: &TableName) -> Result<&'a Table, DeadLetterError> {
    look_up(catalog, letters, || {
        format!(
            "CREATE TABLE {} (event BIGINT AUTO_INCREMENT PRIMARY KEY, dlq_name TEXT NOT NULL, \
             source_nanos BIGINT NOT NULL, source_logical BIGINT NOT NULL, \
             data_after JSON NOT NULL, data_before JSON NOT NULL);",
            name(letters)
        )
    })
}

/// The statement that keeps the dead letters of a request.
pub(super) fn statement(
    catalog: &Catalog,
    letters: &TableName,
    request: &ApplyRequest,
) -> Result<String, DeadLetterError> {
    find(catalog, letters)?;
    let nanos = request.batch.committed.map_or(0, |time| time.micros.saturating_mul(1000));
    let rows = request.dead.iter().filter_map(|index| {
        let mutation = request.batch.mutations.get(*index)?;
        let table = catalog.table(mutation.table);
        let (after, before) = images(table, mutation);
        let (table, after, before) = (text(&name(&table.name)), text(&after), text(&before));
        Some(format!("({table}, {nanos}, {index}, {after}, {before})"))
    });
    let columns: Vec<String> = COLUMNS.iter().map(|name| Ticked(name).to_string()).collect();
    let (columns, rows) = (columns.join(", "), rows.collect::<Vec<_>>().join(", "));
    Ok(format!("INSERT INTO {} ({columns}) VALUES {rows}", name(letters)))
}
