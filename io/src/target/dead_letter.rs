//! Rows that the target refuses for good, kept for a human in a table of the target schema.
//!
//! They are written in the transaction that the row would have been in, so a row is either applied or
//! kept, whatever happens. The table is made by the operator; we create nothing in his schema.
use replicator_core::dialect::{Array, Dialect};
use replicator_core::model::catalog::{Catalog, Table, Wire};
use replicator_core::model::ident::{Quoted, TableName};
use replicator_core::model::mutation::{ApplyRequest, Change, Mutation};
use replicator_core::model::row::{Cell, Row};
use serde_json::{Map, Value};

/// The columns that the table must have.
pub(super) const COLUMNS: [&str; 5] =
    ["dlq_name", "source_nanos", "source_logical", "data_after", "data_before"];

/// The dead-letter table cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeadLetterError {
    /// It is not there.
    #[error("dead-letter table {table} does not exist; create it: {fix}")]
    Missing {
        /// Its name.
        table: TableName,
        /// The SQL that makes it.
        fix: String,
    },
    /// It lacks columns.
    #[error("dead-letter table {table} lacks columns: {columns}")]
    Columns {
        /// Its name.
        table: TableName,
        /// The names, separated by commas.
        columns: String,
    },
}

/// Looks the table up and checks its columns.
///
/// # Errors
///
/// See [`DeadLetterError`].
pub fn find<'a>(catalog: &'a Catalog, name: &TableName) -> Result<&'a Table, DeadLetterError> {
    look_up(catalog, name, || {
        format!(
            "CREATE TABLE {name} (event UUID DEFAULT gen_random_uuid() PRIMARY KEY, \
             dlq_name TEXT NOT NULL, source_nanos INT8 NOT NULL, source_logical INT8 NOT NULL, \
             data_after JSONB NOT NULL, data_before JSONB NOT NULL);"
        )
    })
}

/// Looks the table up and checks its columns; `fix` is the SQL that makes it.
pub(super) fn look_up<'a>(
    catalog: &'a Catalog,
    name: &TableName,
    fix: impl Fn() -> String,
) -> Result<&'a Table, DeadLetterError> {
    let Some(id) = catalog.find(name) else {
        return Err(DeadLetterError::Missing { table: name.clone(), fix: fix() });
    };
    let table = catalog.table(id);
    let missing: Vec<&str> =
        COLUMNS.into_iter().filter(|column| table.find_column(column).is_none()).collect();
    if missing.is_empty() {
        return Ok(table);
    }
    Err(DeadLetterError::Columns { table: name.clone(), columns: missing.join(", ") })
}

/// The statement that keeps the dead letters of a request: its text and its parameters, one array of
/// text per column.
pub(super) fn statement(
    dialect: &Dialect,
    catalog: &Catalog,
    letters: &Table,
    request: &ApplyRequest,
) -> (String, Vec<Array>) {
    let mut params: Vec<Array> =
        COLUMNS.iter().map(|_| Array::new(Wire::Text, request.dead.len())).collect();
    let nanos = request.batch.committed.map_or(0, |time| time.micros.saturating_mul(1000));
    for index in &request.dead {
        let Some(mutation) = request.batch.mutations.get(*index) else { continue };
        let table = catalog.table(mutation.table);
        let (after, before) = images(table, mutation);
        let values = [table.name.to_string(), nanos.to_string(), index.to_string(), after, before];
        for (array, value) in params.iter_mut().zip(values) {
            let pushed = array.push(Cell::Text(value.as_bytes()));
            assert!(pushed.is_ok(), "text fits a text array");
        }
    }
    let names: Vec<String> = COLUMNS.iter().map(|name| Quoted(name).to_string()).collect();
    let casts: Vec<String> = COLUMNS
        .iter()
        .enumerate()
        .map(|(index, name)| {
            let column = letters.find_column(name).map(|column| letters.column(column));
            format!("x.c{index}::{}", column.map_or("text", |column| column.cast.as_str()))
        })
        .collect();
    let sql = format!(
        "INSERT INTO {} ({}) SELECT {} \
         FROM unnest($1::TEXT[], $2::TEXT[], $3::TEXT[], $4::TEXT[], $5::TEXT[]) \
         AS x(c0, c1, c2, c3, c4)",
        dialect.name(letters),
        names.join(", "),
        casts.join(", "),
    );
    (sql, params)
}

/// The row after and before the change, as JSON. What is not known is `null`.
pub(super) fn images(table: &Table, mutation: &Mutation) -> (String, String) {
    let null = || "null".to_owned();
    match &mutation.change {
        Change::Delete(row) => (null(), json(table, row, true)),
        Change::Insert(row) | Change::Upsert(row) | Change::Update(row) => {
            (json(table, row, false), null())
        }
        Change::Move { from, to } => (json(table, to, false), json(table, from, true)),
        Change::Truncate => (null(), null()),
    }
}

/// Every value is a string with the source's own text, so no number loses a digit.
fn json(table: &Table, row: &Row, key_only: bool) -> String {
    let mut object = Map::new();
    for (column, cell) in row.columns() {
        if key_only && !table.key.contains(&column) {
            continue;
        }
        let value = match cell {
            Cell::Null => Value::Null,
            Cell::Unchanged => continue,
            Cell::Text(text) | Cell::Binary(text) => {
                Value::String(String::from_utf8_lossy(text).into_owned())
            }
        };
        object.insert(table.column(column).name.clone(), value);
    }
    Value::Object(object).to_string()
}
