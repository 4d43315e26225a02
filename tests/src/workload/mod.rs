//! A small shop: the schema, the first rows, and writers that change them.
//!
//! The schema has what makes replication hard: foreign keys in a diamond, to a composite key and to the
//! table itself, unique values that wander from row to row, rows whose key changes, values that the
//! stream leaves out because they did not change, a journal whose rows must arrive exactly once, and
//! transactions of many thousand rows.
mod load;
mod shop;
mod writer;

use std::pin::pin;

use anyhow::{Context as _, Result};
use futures_util::{SinkExt as _, StreamExt as _, TryStreamExt as _};
use tokio_postgres::Client;

pub use self::load::{Load, Plan, Written};
pub use self::writer::{Share, Writer};

/// The tables, parents first.
pub const TABLES: [&str; 11] = [
    "region",
    "account",
    "product",
    "orders",
    "order_line",
    "shipment",
    "category",
    "seat",
    "document",
    "ledger",
    "journal",
];

/// The one-row table that carries the load's own counters along.
pub const HEARTBEAT: &str = "heartbeat";

/// Rows of the tables that there is a fixed number of.
pub(crate) const REGIONS: u32 = 20;
pub(crate) const SEATS: u32 = 256;

/// Creates the tables. `major` is the server's version.
///
/// # Errors
///
/// Some of them exist.
pub async fn create_tables(client: &Client, major: u16) -> Result<()> {
    client.batch_execute(&tables(major)).await.context("could not create the tables")
}

/// The statements that create the tables.
#[must_use]
pub fn tables(major: u16) -> String {
    // Stored generated columns came with PostgreSQL 12 (release notes).
    let total = if major < 12 {
        "total numeric"
    } else {
        "total numeric GENERATED ALWAYS AS (quantity * price) STORED"
    };
    include_str!("schema.sql").replace("total numeric", total)
}

/// Fills the tables with about `rows` rows.
///
/// # Errors
///
/// They are not empty.
pub async fn fill(client: &Client, rows: u32) -> Result<()> {
    let sql = include_str!("fill.sql")
        .replace(":regions", &REGIONS.to_string())
        .replace(":seats", &SEATS.to_string())
        .replace(":rows", &rows.to_string());
    client.batch_execute(&sql).await.context("could not fill the tables")
}

/// Lets the target write down each row of the journal that is written more than once.
///
/// # Errors
///
/// The tables are not there, or it watches already.
pub async fn watch_for_repeats(target: &Client) -> Result<()> {
    target.batch_execute(include_str!("watch.sql")).await.context("could not create a trigger")
}

/// How often the watched target has written a row of the journal once more.
///
/// # Errors
///
/// Nobody watches.
pub async fn repeats(target: &Client) -> Result<u64> {
    let row = target.query_one("SELECT count(*) FROM watch.repeat", &[]).await?;
    Ok(u64::try_from(row.get::<_, i64>(0))?)
}

/// Copies all rows from one database to the other, parents first. Returns how many.
///
/// # Errors
///
/// The tables are not there, or the target's are not empty.
pub async fn copy(source: &Client, target: &Client) -> Result<u64> {
    let mut rows = 0;
    for table in TABLES.into_iter().chain([HEARTBEAT]) {
        let copied = copy_table(source, target, table).await;
        rows += copied.with_context(|| format!("could not copy table \"{table}\""))?;
    }
    Ok(rows)
}

async fn copy_table(source: &Client, target: &Client, table: &str) -> Result<u64> {
    // COPY leaves generated columns out, on both sides.
    let from = source.copy_out(&format!("COPY {table} TO STDOUT")).await?;
    let mut to = pin!(target.copy_in(&format!("COPY {table} FROM STDIN")).await?);
    let mut from = pin!(from.map_err(anyhow::Error::from));
    while let Some(bytes) = from.next().await {
        to.send(bytes?).await?;
    }
    Ok(to.finish().await?)
}
