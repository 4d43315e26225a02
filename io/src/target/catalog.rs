//! Reads tables, columns, keys and foreign keys of one schema.
//!
//! Three questions for the whole schema, sent together, whatever the number of tables. What the
//! answers mean is decided here in plain code; the texts of the questions are in `sql`.
mod draft;
mod sql;
mod types;

use std::time::Duration;

use replicator_core::dialect::Product;
use replicator_core::model::catalog::Catalog;
use thiserror::Error;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Row};

use self::draft::{ColumnFacts, Drafts, ForeignKeyFacts, IndexFacts, Visibility};
use self::types::TypeFacts;

/// Longest wait for the answers. CockroachDB needs over a second for each while its caches are cold.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);

/// The catalog could not be read.
#[derive(Debug, Error)]
pub enum CatalogError {
    /// The server refused a question.
    #[error("could not read the {what} of schema \"{schema}\"")]
    Query {
        /// What was asked for.
        what: &'static str,
        /// Of which schema.
        schema: String,
        /// Why.
        #[source]
        source: tokio_postgres::Error,
    },
    /// The server did not answer in time.
    #[error("could not read the catalog of schema \"{schema}\" within {} s", limit.as_secs())]
    TimedOut {
        /// Of which schema.
        schema: String,
        /// How long we waited.
        limit: Duration,
    },
    /// The answers do not fit together: somebody changed the schema in between. Try again.
    #[error("table \"{table}\" was changed while it was read")]
    Changed {
        /// Which table.
        table: String,
    },
    /// A table has more columns than we count.
    #[error("table \"{table}\" has more than 65535 columns")]
    TooWide {
        /// Which table.
        table: String,
    },
}

/// Reads the tables of `schema` in the database that `client` is connected to. A schema that does not
/// exist has none.
///
/// Reads only. Dropping the future leaves questions running on the server; the connection can be used
/// once they are through.
///
/// # Errors
///
/// See [`CatalogError`]. Nothing was changed; the same call may work later.
pub async fn load(
    client: &Client,
    product: Product,
    schema: &str,
) -> Result<Catalog, CatalogError> {
    let (columns_sql, indexes_sql) = match product {
        Product::Postgres => (sql::COLUMNS_POSTGRES, sql::INDEXES_POSTGRES),
        Product::Cockroach => (sql::COLUMNS_COCKROACH, sql::INDEXES_COCKROACH),
    };
    let failed =
        |what| move |source| CatalogError::Query { what, schema: schema.to_owned(), source };
    let ask = |sql, what| async move {
        client.query_typed(sql, &[(&schema, Type::TEXT)]).await.map_err(failed(what))
    };
    let answers = async {
        tokio::try_join!(
            ask(columns_sql, "columns"),
            ask(indexes_sql, "indexes"),
            ask(sql::FOREIGN_KEYS, "foreign keys"),
        )
    };
    let late = |_| CatalogError::TimedOut { schema: schema.to_owned(), limit: ANSWER_LIMIT };
    let (columns, indexes, foreign_keys) =
        tokio::time::timeout(ANSWER_LIMIT, answers).await.map_err(late)??;

    let mut drafts = Drafts::new(schema, product);
    for row in &columns {
        let (table, column) = read_column(row).map_err(failed("columns"))?;
        drafts.add_column(&table, column)?;
    }
    for row in &indexes {
        drafts.add_index_column(&read_index(row).map_err(failed("indexes"))?)?;
    }
    for row in &foreign_keys {
        drafts.add_foreign_key_column(&read_foreign_key(row).map_err(failed("foreign keys"))?)?;
    }
    Ok(drafts.finish())
}

/// One row of the question for columns: a table and, unless it has none, one of its columns.
fn read_column(row: &Row) -> Result<(String, Option<ColumnFacts>), tokio_postgres::Error> {
    let table = row.try_get("table_name")?;
    let Some(position) = row.try_get("position")? else {
        return Ok((table, None));
    };
    let element_schema: Option<String> = row.try_get("element_schema")?;
    let element_name: Option<String> = row.try_get("element_name")?;
    let visibility: &str = row.try_get("visibility")?;
    let column = ColumnFacts {
        position,
        name: row.try_get("column_name")?,
        of_type: TypeFacts {
            schema: row.try_get("type_schema")?,
            name: row.try_get("type_name")?,
            kind: row.try_get("type_kind")?,
            element: element_schema.zip(element_name),
            domain: row.try_get("is_domain")?,
            loose_collation: row.try_get("loose_collation")?,
        },
        not_null: row.try_get("not_null")?,
        has_default: row.try_get("has_default")?,
        identity_always: row.try_get("identity_always")?,
        identity: row.try_get("is_identity")?,
        generated: row.try_get("generated")?,
        visibility: match visibility {
            "rowid" => Visibility::RowId,
            "shard" => Visibility::Shard,
            _ => Visibility::Visible,
        },
    };
    Ok((table, Some(column)))
}

fn read_index(row: &Row) -> Result<IndexFacts, tokio_postgres::Error> {
    Ok(IndexFacts {
        table: row.try_get("table_name")?,
        name: row.try_get("index_name")?,
        position: row.try_get("position")?,
        primary: row.try_get("is_primary")?,
        usable: row.try_get("usable")?,
        plain: row.try_get("plain")?,
    })
}

fn read_foreign_key(row: &Row) -> Result<ForeignKeyFacts, tokio_postgres::Error> {
    Ok(ForeignKeyFacts {
        child: row.try_get("child_table")?,
        name: row.try_get("constraint_name")?,
        parent: row.try_get("parent_table")?,
        child_position: row.try_get("child_position")?,
        parent_position: row.try_get("parent_position")?,
        deferrable: row.try_get("is_deferrable")?,
    })
}
