//! Are two schemas equal? Every table, every row, every column, by its text.
//!
//! Both sides send their rows in the order of their keys, and the two streams are merged, so memory
//! stays the same however many rows there are. The order is that of the keys' bytes, which does not
//! depend on a server's collation. A table without a primary key is ordered by all its columns, and
//! so compared as a multiset: a row that is there twice must be there twice on both sides.
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;
use std::pin::Pin;

use anyhow::{Context as _, Result};
use futures_util::TryStreamExt as _;
use tokio_postgres::{Client, RowStream};

/// How many differences are described; the others are only counted.
const EXAMPLES_MAX: usize = 5;

/// The result for a schema.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    /// Per table, in the order of their names.
    pub tables: Vec<TableComparison>,
}

/// The result for one table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableComparison {
    /// Its name.
    pub table: String,
    /// Rows of the source.
    pub source_rows: u64,
    /// Rows of the target.
    pub target_rows: u64,
    /// Rows that are the same on both sides.
    pub identical: u64,
    /// Everything else: rows on one side only, rows with other values, tables of another shape.
    pub differences: u64,
    /// The first differences, in words. They hold key values: for test data only.
    pub examples: Vec<String>,
}

impl Comparison {
    /// Whether both sides are equal.
    #[must_use]
    pub fn is_identical(&self) -> bool {
        self.tables.iter().all(|table| table.differences == 0)
    }

    /// Rows that are the same on both sides, of all tables.
    #[must_use]
    pub fn identical(&self) -> u64 {
        self.tables.iter().map(|table| table.identical).sum()
    }
}

impl fmt::Display for Comparison {
    /// The tables that differ, or one line that says that none does.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_identical() {
            return write!(f, "{} tables, {} rows identical", self.tables.len(), self.identical());
        }
        for table in self.tables.iter().filter(|table| table.differences > 0) {
            writeln!(
                f,
                "table \"{}\": {} rows in the source, {} in the target, {} identical, {} differences",
                table.table,
                table.source_rows,
                table.target_rows,
                table.identical,
                table.differences
            )?;
            for example in &table.examples {
                writeln!(f, "  {example}")?;
            }
        }
        Ok(())
    }
}

impl TableComparison {
    pub(crate) fn note(&mut self, example: impl FnOnce() -> String) {
        self.differences += 1;
        if self.examples.len() < EXAMPLES_MAX {
            self.examples.push(example());
        }
    }
}

/// Compares all tables of `schema` in both databases. Nothing should be writing meanwhile: each side
/// is read in one snapshot, but the two snapshots are not taken together.
///
/// # Errors
///
/// A query failed. Differences are not errors.
pub async fn tables(source: &Client, target: &Client, schema: &str) -> Result<Comparison> {
    begin(source).await.context("source")?;
    begin(target).await.context("target")?;
    let comparison = in_snapshots(source, target, schema).await;
    source.batch_execute("ROLLBACK").await.context("source")?;
    target.batch_execute("ROLLBACK").await.context("target")?;
    comparison
}

/// One snapshot, and settings under which equal values have equal text.
async fn begin(client: &Client) -> Result<()> {
    client
        .batch_execute(
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;
             SET LOCAL TimeZone = 'UTC';
             SET LOCAL DateStyle = 'ISO, YMD';
             SET LOCAL IntervalStyle = 'postgres';
             SET LOCAL bytea_output = 'hex';
             SET LOCAL extra_float_digits = 3;
             SET LOCAL statement_timeout = '10min'",
        )
        .await?;
    Ok(())
}

async fn in_snapshots(source: &Client, target: &Client, schema: &str) -> Result<Comparison> {
    let here = shapes(source, schema).await.context("source")?;
    let mut there = shapes(target, schema).await.context("target")?;
    let mut comparison = Comparison::default();
    for (name, shape) in here {
        let mut result = TableComparison { table: name, ..TableComparison::default() };
        match there.remove(&result.table) {
            Some(other) if other == shape => {
                rows(source, target, schema, &shape, &mut result).await?;
            }
            Some(_) => result.note(|| "its columns or its key differ".to_owned()),
            None => result.note(|| "the target does not have it".to_owned()),
        }
        comparison.tables.push(result);
    }
    for table in there.into_keys() {
        let mut result = TableComparison { table, ..TableComparison::default() };
        result.note(|| "the source does not have it".to_owned());
        comparison.tables.push(result);
    }
    Ok(comparison)
}

/// The columns of a table: those of its primary key first, then the others, each by name.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Shape {
    table: String,
    columns: Vec<String>,
    /// How many leading columns identify a row; all of them if there is no primary key.
    key: usize,
}

async fn shapes(client: &Client, schema: &str) -> Result<BTreeMap<String, Shape>> {
    // $1 = schema. Partitions are read through their parent.
    let found = client
        .query(
            "SELECT c.relname::text,
                    array(SELECT a.attname::text
                          FROM pg_index i
                          JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = ANY (i.indkey)
                          WHERE i.indrelid = c.oid AND i.indisprimary ORDER BY 1),
                    array(SELECT a.attname::text
                          FROM pg_attribute a
                          WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY 1)
             FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
             WHERE n.nspname = $1 AND c.relkind IN ('r', 'p') AND NOT c.relispartition",
            &[&schema],
        )
        .await?;
    let shape = |row: &tokio_postgres::Row| {
        let (table, mut columns, all): (String, Vec<String>, Vec<String>) =
            (row.get(0), row.get(1), row.get(2));
        let key = if columns.is_empty() { all.len() } else { columns.len() };
        for column in all {
            if !columns.contains(&column) {
                columns.push(column);
            }
        }
        (table.clone(), Shape { table, columns, key })
    };
    Ok(found.iter().map(shape).collect())
}

/// Merges the rows of one table.
async fn rows(
    source: &Client,
    target: &Client,
    schema: &str,
    shape: &Shape,
    result: &mut TableComparison,
) -> Result<()> {
    let mut here = Rows::open(source, schema, shape).await.context("source")?;
    let mut there = Rows::open(target, schema, shape).await.context("target")?;
    let (mut left, mut right) = (here.next().await?, there.next().await?);
    loop {
        let order = match (&left, &right) {
            (None, None) => break,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(left), Some(right)) => left[..shape.key].cmp(&right[..shape.key]),
        };
        match (order, &left, &right) {
            (Ordering::Equal, Some(left), Some(right)) if left == right => result.identical += 1,
            (Ordering::Equal, Some(left), Some(right)) => {
                result.note(|| describe_change(shape, left, right));
            }
            (Ordering::Less, Some(row), _) => {
                result.note(|| format!("{} is missing in the target", key(shape, row)));
            }
            (_, _, Some(row)) => {
                result.note(|| format!("{} is in the target only", key(shape, row)));
            }
            (_, _, None) => (),
        }
        if order.is_le() {
            result.source_rows += 1;
            left = here.next().await?;
        }
        if order.is_ge() {
            result.target_rows += 1;
            right = there.next().await?;
        }
    }
    Ok(())
}

/// One row: each column's text, in the order of the shape.
type Texts = Vec<Option<String>>;

/// The rows of one side, in the order of their keys.
struct Rows {
    stream: Pin<Box<RowStream>>,
    columns: usize,
}

impl Rows {
    async fn open(client: &Client, schema: &str, shape: &Shape) -> Result<Self> {
        let text = |column: &String| format!("{}::text", quote(column));
        let columns: Vec<String> = shape.columns.iter().map(text).collect();
        let order: Vec<String> = columns[..shape.key]
            .iter()
            .map(|column| format!("{column} COLLATE \"C\" NULLS FIRST"))
            .collect();
        let sql = format!(
            "SELECT {} FROM {}.{} ORDER BY {}",
            columns.join(", "),
            quote(schema),
            quote(&shape.table),
            order.join(", ")
        );
        // The server is read only as fast as rows are taken out: nothing piles up.
        let stream = client.query_raw(&sql, Vec::<String>::new()).await?;
        Ok(Self { stream: Box::pin(stream), columns: columns.len() })
    }

    async fn next(&mut self) -> Result<Option<Texts>> {
        let row = self.stream.try_next().await?;
        Ok(row.map(|row| (0..self.columns).map(|column| row.get(column)).collect()))
    }
}

fn describe_change(shape: &Shape, left: &Texts, right: &Texts) -> String {
    let both = left.iter().zip(right);
    let changed: Vec<&str> = shape
        .columns
        .iter()
        .zip(both)
        .filter(|(_, (left, right))| left != right)
        .map(|(column, _)| column.as_str())
        .collect();
    format!("{} differs in {}", key(shape, left), changed.join(", "))
}

fn key(shape: &Shape, row: &Texts) -> String {
    let parts: Vec<String> = shape.columns[..shape.key]
        .iter()
        .zip(row)
        .map(|(column, value)| format!("{column}={}", value.as_deref().unwrap_or("NULL")))
        .collect();
    format!("row ({})", parts.join(", "))
}

fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
