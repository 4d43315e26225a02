//! The shop in MySQL and MariaDB, and whether it is the one of the source.
use std::cmp::Ordering;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tokio_postgres::Client;

use super::Beat;
use crate::compare::{Comparison, TableComparison};
use crate::mysql::Server;
use crate::pair::DATABASE;
use crate::workload::{self, HEARTBEAT};

/// The statements that create the shop's tables.
pub(crate) const TABLES: &str = include_str!("mysql.sql");

/// Makes the database with empty tables.
pub(super) fn create(server: &Server) -> Result<()> {
    let sql = format!("CREATE DATABASE {DATABASE}; USE {DATABASE}; {TABLES}");
    server.run(&sql).map(drop)
}

/// What the heartbeat says.
pub(super) fn beat(server: &Server) -> Result<Beat> {
    let sql = format!(
        "SELECT beat, `rows`, TIMESTAMPDIFF(MICROSECOND, beaten_at, UTC_TIMESTAMP(6)) FROM {DATABASE}.{HEARTBEAT}"
    );
    let line = server.run(&sql)?;
    let mut fields = line.split_whitespace();
    // Before the first rows are there.
    let Some(beat) = fields.next() else { return Ok(Beat::default()) };
    let mut number = || fields.next().context("a field is missing");
    let (rows, micros): (u64, i64) = (number()?.parse()?, number()?.parse()?);
    #[expect(clippy::cast_precision_loss, reason = "only shown")]
    let lag = micros.max(0) as f64 / 1e6;
    Ok(Beat { beat: beat.parse()?, rows, lag })
}

/// Compares all tables, row by row, as the text of their values.
pub(super) async fn compare_to(
    source: &Client,
    target: &Server,
    database: &str,
) -> Result<Comparison> {
    compare(source, target, database, |postgres, mysql| (postgres, mysql)).await
}

/// The same the other way round.
pub(crate) async fn compare_from(
    source: &Server,
    database: &str,
    target: &Client,
) -> Result<Comparison> {
    compare(target, source, database, |postgres, mysql| (mysql, postgres)).await
}

/// `order` says which side is the source.
async fn compare(
    postgres: &Client,
    mysql: &Server,
    database: &str,
    order: impl Fn(Vec<Values>, Vec<Values>) -> (Vec<Values>, Vec<Values>),
) -> Result<Comparison> {
    let mut comparison = Comparison::default();
    for table in workload::TABLES.into_iter().chain([HEARTBEAT]) {
        let columns = columns(postgres, table).await?;
        let rows = postgres_rows(postgres, table, &columns).await?;
        let (source, target) = order(rows, mysql_rows(mysql, database, table, &columns)?);
        comparison.tables.push(merge(table, &source, &target));
    }
    Ok(comparison)
}

/// A column and how its values are made comparable.
struct Column {
    name: String,
    form: Form,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// Both servers print it alike.
    Text,
    Bytes,
    Boolean,
    Time,
    /// MySQL prints it in its own way and MariaDB as it came, so it is parsed.
    Json,
}

async fn columns(source: &Client, table: &str) -> Result<Vec<Column>> {
    // $1 = the table.
    let sql = "SELECT attname::text, format_type(atttypid, NULL) FROM pg_attribute
               WHERE attrelid = $1::text::regclass AND 0 < attnum AND NOT attisdropped ORDER BY attnum";
    let rows = source.query(sql, &[&table]).await?;
    let form = |kind: &str| match kind {
        "bytea" => Form::Bytes,
        "boolean" => Form::Boolean,
        "timestamp with time zone" => Form::Time,
        "jsonb" => Form::Json,
        kind if kind.ends_with("[]") => Form::Json,
        _ => Form::Text,
    };
    Ok(rows.iter().map(|row| Column { name: row.get(0), form: form(row.get(1)) }).collect())
}

/// One row: each value as text, or nothing.
type Values = Vec<Option<String>>;

async fn postgres_rows(server: &Client, table: &str, columns: &[Column]) -> Result<Vec<Values>> {
    let printed = |Column { name, form }: &Column| {
        let text = match form {
            Form::Text => format!("\"{name}\"::text"),
            Form::Bytes => return format!("upper(encode(\"{name}\", 'hex'))"),
            Form::Boolean => format!("\"{name}\"::int::text"),
            Form::Time => {
                format!("to_char(\"{name}\" AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US')")
            }
            Form::Json => format!("to_jsonb(\"{name}\")::text"),
        };
        format!("upper(encode(convert_to({text}, 'UTF8'), 'hex'))")
    };
    let list: Vec<String> = columns.iter().map(printed).collect();
    let sql = format!("SELECT {} FROM \"{table}\"", list.join(", "));
    let mut rows = Vec::new();
    for row in server.query(&sql, &[]).await? {
        let values = (0..columns.len()).map(|index| row.get(index)).collect();
        rows.push(decode(columns, values)?);
    }
    rows.sort();
    Ok(rows)
}

fn mysql_rows(
    server: &Server,
    database: &str,
    table: &str,
    columns: &[Column],
) -> Result<Vec<Values>> {
    let printed = |Column { name, form }: &Column| match form {
        Form::Bytes => format!("HEX(`{name}`)"),
        Form::Text | Form::Boolean | Form::Time | Form::Json => {
            format!("HEX(CAST(`{name}` AS CHAR CHARACTER SET utf8mb4))")
        }
    };
    let list: Vec<String> = columns.iter().map(printed).collect();
    let printed = server.run(&format!("SELECT {} FROM {database}.`{table}`", list.join(", ")))?;
    let mut rows = Vec::new();
    for line in printed.lines() {
        let values = line.split('\t').map(|text| (text != "NULL").then(|| text.to_owned()));
        rows.push(decode(columns, values.collect())?);
    }
    rows.sort();
    Ok(rows)
}

/// Reads hexadecimal digits; those of bytes stay what they are.
fn decode(columns: &[Column], values: Vec<Option<String>>) -> Result<Values> {
    ensure!(values.len() == columns.len(), "a row has {} values", values.len());
    let decode = |(column, value): (&Column, Option<String>)| {
        let Some(value) = value else { return Ok(None) };
        Ok(Some(match column.form {
            Form::Bytes => value,
            Form::Text | Form::Boolean | Form::Time => text_of(&value)?,
            Form::Json => serde_json::from_str::<Value>(&text_of(&value)?)?.to_string(),
        }))
    };
    columns.iter().zip(values).map(decode).collect()
}

fn text_of(digits: &str) -> Result<String> {
    let byte = |at: usize| {
        let pair = digits.get(at..at + 2).context("half a byte")?;
        Ok(u8::from_str_radix(pair, 16)?)
    };
    let bytes: Result<Vec<u8>> = (0..digits.len()).step_by(2).map(byte).collect();
    Ok(String::from_utf8(bytes?)?)
}

/// Both sides are in order.
fn merge(table: &str, left: &[Values], right: &[Values]) -> TableComparison {
    let mut result = TableComparison { table: table.to_owned(), ..TableComparison::default() };
    let (mut left, mut right) = (left.iter().peekable(), right.iter().peekable());
    loop {
        let order = match (left.peek(), right.peek()) {
            (None, None) => return result,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(one), Some(other)) => one.cmp(other),
        };
        if order.is_eq() {
            result.identical += 1;
        }
        if order.is_le() {
            result.source_rows += 1;
            let row = left.next();
            if order.is_lt() {
                result.note(|| format!("only in the source, or as such: {}", start_of(row)));
            }
        }
        if order.is_ge() {
            result.target_rows += 1;
            let row = right.next();
            if order.is_gt() {
                result.note(|| format!("only in the target, or as such: {}", start_of(row)));
            }
        }
    }
}

/// Enough of a row to find it by, and to see what is wrong with it.
fn start_of(row: Option<&Values>) -> String {
    let values = row.into_iter().flatten();
    let texts = values.map(|value| value.as_deref().unwrap_or("NULL").chars().take(40).collect());
    texts.collect::<Vec<String>>().join(", ")
}
