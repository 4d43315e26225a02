//! Reading staged rows back, in the order of their times.
use std::sync::{Arc, PoisonError};

use replicator_core::Failure;
use replicator_core::dialect::Product;
use replicator_core::model::mode::Lane;
use replicator_core::model::mutation::{Mutation, TimedMutation};
use replicator_core::model::time::Hlc;
use replicator_core::staged::{StagedError, decode_value, image, layout_of};
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::older::OlderRow;
use super::tables::RowTable;
use super::{Inner, Unread, columns_of, time_of};
use crate::net::Dial;
use crate::pg::sessions::{Ask, Param, all};
use crate::port::StagedPage;

/// The first byte of a value that [`replicator_core::staged`] wrote.
const OURS: u8 = 1;

/// Which rows are to be read.
#[derive(Clone, Copy, Debug)]
struct Span {
    /// Exclusive.
    after: (i64, i64),
    /// Inclusive.
    through: (i64, i64),
}

impl<D: Dial> Inner<D> {
    pub(super) async fn read(
        &self,
        lane: &Lane,
        after: Hlc,
        through: Hlc,
        rows_max: u32,
    ) -> Result<StagedPage, Failure> {
        let mut page = StagedPage { rows: Vec::new(), exhausted: true };
        let mut tables = self.tables().await?;
        tables.retain(|table| lane.has(table.id) && Some(after) < table.marks().newest);
        if through <= after || tables.is_empty() {
            return Ok(page);
        }
        let span = Span { after: columns_of(after), through: columns_of(through) };
        // One more, to know whether the last time ends there.
        let limit = i64::from(rows_max.max(1)) + 1;
        let sql = page_sql(self.product, &tables);
        let params: [Param<'_>; 5] = [
            (&span.after.0, Type::INT8),
            (&span.after.1, Type::INT8),
            (&span.through.0, Type::INT8),
            (&span.through.1, Type::INT8),
            (&limit, Type::INT8),
        ];
        let mut rows =
            self.sessions.ask_again(async |client| client.query_typed(&sql, &params).await).await?;
        if i64::try_from(rows.len()).is_ok_and(|count| count == limit) {
            let beyond = rows.pop();
            let times = [beyond.as_ref(), rows.last()].map(|row| row.map(time_in));
            if let [Some(beyond_time), Some(last)] = times {
                page.exhausted = false;
                if beyond_time == last {
                    page.exhausted = self.finish_time(&tables, span, last, &mut rows).await?;
                }
            }
        }
        self.load_layouts(&tables, &rows).await?;
        page.rows.reserve(rows.len());
        for row in &rows {
            let table = usize::try_from(row.get::<_, i64>(0)).ok().and_then(|at| tables.get(at));
            let table = table.expect("the statement numbers the tables");
            let read = self.decode(table, row);
            page.rows.push(read.map_err(|unread| unread.failure(&table.sql, &table.target))?);
        }
        Ok(page)
    }

    /// Reads all rows of the last time, in place of those of them that are there. Returns whether the range
    /// ends with it.
    async fn finish_time(
        &self,
        tables: &[Arc<RowTable>],
        span: Span,
        last: Hlc,
        rows: &mut Vec<Row>,
    ) -> Result<bool, Failure> {
        rows.truncate(rows.partition_point(|row| time_in(row) < last));
        let time = columns_of(last);
        // `$1`, `$2` = time.
        let whole = |(number, table): (i64, &Arc<RowTable>)| Ask {
            sql: format!(
                "SELECT {number}::INT8, {COLUMNS} FROM {} WHERE NOT applied \
                 AND nanos = $1 AND logical = $2 ORDER BY key",
                table.sql
            ),
            params: vec![(&time.0, Type::INT8), (&time.1, Type::INT8)],
        };
        // `$1`, `$2` = time, `$3`, `$4` = through.
        let more = |table: &Arc<RowTable>| Ask {
            sql: format!(
                "SELECT 1 FROM {} WHERE NOT applied AND (nanos, logical) > ($1, $2) \
                 AND (nanos, logical) <= ($3, $4) ORDER BY nanos, logical LIMIT 1",
                table.sql
            ),
            params: vec![
                (&time.0, Type::INT8),
                (&time.1, Type::INT8),
                (&span.through.0, Type::INT8),
                (&span.through.1, Type::INT8),
            ],
        };
        let whole = (0..).zip(tables).map(whole);
        let asks: Vec<Ask<'_>> = whole.chain(tables.iter().map(more)).collect();
        let mut answers = self.sessions.ask_again(async |client| all(client, &asks).await).await?;
        let beyond = answers.split_off(tables.len());
        rows.extend(answers.into_iter().flatten());
        Ok(beyond.iter().all(Vec::is_empty))
    }

    /// Looks up the names of layouts that rows have and that are not known.
    async fn load_layouts(&self, tables: &[Arc<RowTable>], rows: &[Row]) -> Result<(), Failure> {
        for (number, table) in (0_i64..).zip(tables) {
            let unknown = rows.iter().filter(|row| row.get::<_, i64>(0) == number).any(|row| {
                let layout = layout_of(row.get(4));
                layout.is_ok_and(|layout| !table.knows(layout))
            });
            if unknown {
                self.sessions
                    .ask_again(async |client| table.load_layouts(client, &self.registers).await)
                    .await?;
            }
        }
        Ok(())
    }

    fn decode(&self, table: &RowTable, row: &Row) -> Result<TimedMutation, Unread> {
        let (time, value): (Hlc, &[u8]) = (time_in(row), row.get(4));
        let id = table.id.ok_or(Unread::NoTable)?;
        let target = self.options.catalog.table(id);
        if value.first() != Some(&OURS) {
            let deletion: Option<bool> = row.get(6);
            let older = OlderRow {
                time,
                key: row.get(3),
                value,
                before: row.get(5),
                gone: deletion == Some(true),
            };
            let mut feed = self.older.lock().unwrap_or_else(PoisonError::into_inner);
            return older.read(&mut feed, &target.name.table).map_err(Unread::Older);
        }
        let layout = table.layout(layout_of(value)?, id, target)?;
        let change = decode_value(value, layout)?;
        let key = target.key_of(image(&change, target)?);
        let key = key.map_err(|_| StagedError::Key(target.name.clone()))?;
        Ok(TimedMutation { time, mutation: Mutation { table: id, key, change } })
    }
}

/// What is read of a row, behind the number of its table.
const COLUMNS: &str = "nanos, logical, key, mut, before, deletion";

/// `$1`, `$2` = after, `$3`, `$4` = through, `$5` = how many at most.
fn page_sql(product: Product, tables: &[Arc<RowTable>]) -> String {
    // PostgreSQL merges the tables along their indexes, as far as it must; with the number of the table in
    // the outer order it would sort them all. Where that is not sure, each gives a page at most.
    let limit = match product {
        Product::Postgres => "",
        Product::Cockroach => " LIMIT $5",
    };
    let table = |(number, table): (usize, &Arc<RowTable>)| {
        format!(
            "(SELECT {number}::INT8 AS t, {COLUMNS} FROM {} WHERE NOT applied \
             AND (nanos, logical) > ($1, $2) AND (nanos, logical) <= ($3, $4) \
             ORDER BY nanos, logical, key{limit})",
            table.sql
        )
    };
    let all: Vec<String> = tables.iter().enumerate().map(table).collect();
    format!(
        "SELECT t, {COLUMNS} FROM ({}) AS x ORDER BY nanos, logical, key LIMIT $5",
        all.join(" UNION ALL ")
    )
}

fn time_in(row: &Row) -> Hlc {
    time_of(row.get(1), row.get(2))
}
