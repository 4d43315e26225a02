//! Staging rows, and deleting them.
//!
//! Statements are of one size for any number of rows: values travel as arrays. Rows of one table go in the
//! order of their keys, and tables in the order of their numbers, so that no two requests wait for each
//! other.
use std::collections::BTreeMap;
use std::sync::Arc;

use replicator_core::Failure;
use replicator_core::dialect::Product;
use replicator_core::model::mode::Lane;
use replicator_core::model::mutation::{Change, TimedMutation};
use replicator_core::model::row::Layout;
use replicator_core::model::time::Hlc;
use replicator_core::staged::{LayoutNames, StoredTable, encode_value, image};
use tokio_postgres::types::Type;

use super::key::key_text;
use super::tables::RowTable;
use super::{Inner, Unread, columns_of, number, time_of};
use crate::net::Dial;
use crate::pg::sessions::{Ask, Param, transaction};
use crate::port::Fence;

/// Rows and bytes of one statement, give or take a row.
const ROWS_MAX: usize = 5_000;
const BYTES_MAX: usize = 4 << 20;
/// So many rows are deleted by one transaction at most.
const RETIRED_MAX: i64 = 10_000;

/// A row on its way.
#[derive(Debug)]
struct Encoded {
    key: String,
    sent: Hlc,
    value: Vec<u8>,
    gone: bool,
}

/// Rows of one table for one statement, in the order of their keys and times.
#[derive(Debug)]
struct Part {
    table: Arc<RowTable>,
    /// Whether they come late; if so, of each row only the newest image.
    late: bool,
    rows: Vec<Encoded>,
}

/// The columns of a part.
#[derive(Debug, Default)]
struct Arrays<'a> {
    nanos: Vec<i64>,
    logicals: Vec<i64>,
    keys: Vec<&'a str>,
    values: Vec<&'a [u8]>,
    gone: Vec<bool>,
    /// The newest time of each row.
    newest_keys: Vec<&'a str>,
    newest_nanos: Vec<i64>,
    newest_logicals: Vec<i64>,
    table: i64,
}

impl Part {
    fn arrays(&self, floor: Hlc) -> Arrays<'_> {
        let mut arrays = Arrays { table: i64::from(self.table.number.0), ..Arrays::default() };
        let mut rows = self.rows.iter().peekable();
        while let Some(row) = rows.next() {
            let (nanos, logical) = columns_of(if self.late { floor.next() } else { row.sent });
            arrays.nanos.push(nanos);
            arrays.logicals.push(logical);
            arrays.keys.push(&row.key);
            arrays.values.push(&row.value);
            arrays.gone.push(row.gone);
            if rows.peek().is_none_or(|next| next.key != row.key) {
                let (nanos, logical) = columns_of(row.sent);
                arrays.newest_keys.push(&row.key);
                arrays.newest_nanos.push(nanos);
                arrays.newest_logicals.push(logical);
            }
        }
        arrays
    }
}

impl<D: Dial> Inner<D> {
    pub(super) async fn stage(
        &self,
        fence: Fence,
        rows: &[TimedMutation],
        floor: Hlc,
    ) -> Result<(), Failure> {
        let tables = self.tables_of(rows).await?;
        let parts = self.parts(tables, rows, floor)?;
        let fence = number(fence);
        let arrays: Vec<Arrays<'_>> = parts.iter().map(|part| part.arrays(floor)).collect();
        let mut asks = vec![self.check(&fence)];
        for (part, arrays) in parts.iter().zip(&arrays) {
            let times = arrays.nanos.iter().zip(&arrays.logicals);
            let times = || times.clone().map(|(nanos, logical)| time_of(*nanos, *logical));
            if let (Some(oldest), Some(newest)) = (times().min(), times().max()) {
                part.table.will_stage(oldest, newest);
            }
            if part.late {
                asks.push(self.stage_late(part, arrays));
            } else {
                asks.push(self.remember(arrays));
                asks.push(stage_on_time(part, arrays));
            }
        }
        self.sessions.ask_again(async |client| transaction(client, &asks).await.map(drop)).await
    }

    /// The staging tables of rows, with the numbers of all their layouts.
    async fn tables_of(
        &self,
        rows: &[TimedMutation],
    ) -> Result<BTreeMap<StoredTable, (Arc<RowTable>, Vec<usize>)>, Failure> {
        let mut by_id = BTreeMap::new();
        for (index, row) in rows.iter().enumerate() {
            by_id.entry(row.mutation.table).or_insert_with(Vec::new).push(index);
        }
        let mut tables = BTreeMap::new();
        for (id, indexes) in by_id {
            let table = self.table(id).await?;
            for index in &indexes {
                let change = &rows[*index].mutation.change;
                let layout = image(change, self.options.catalog.table(id))
                    .map_err(|error| Unread::from(error).failure(&table.sql, &table.target))?
                    .layout();
                self.number_layout(&table, layout).await?;
            }
            tables.insert(table.number, (table, indexes));
        }
        Ok(tables)
    }

    async fn number_layout(&self, table: &RowTable, layout: &Arc<Layout>) -> Result<(), Failure> {
        if table.number_of(layout).is_some() {
            return Ok(());
        }
        let target = self.options.catalog.table(layout.table);
        let names = LayoutNames::of(layout, table.number, target).encode();
        self.sessions
            .ask_again(async |client| {
                table.find_layout(client, &self.registers, layout, &names).await
            })
            .await
    }

    /// Rows in the order in which they are written, cut into statements.
    fn parts(
        &self,
        tables: BTreeMap<StoredTable, (Arc<RowTable>, Vec<usize>)>,
        rows: &[TimedMutation],
        floor: Hlc,
    ) -> Result<Vec<Part>, Failure> {
        let mut parts = Vec::new();
        for (table, indexes) in tables.into_values() {
            let (mut late, mut on_time) = (Vec::new(), Vec::new());
            for index in indexes {
                let encoded = self.encode(&table, &rows[index]);
                let encoded = encoded.map_err(|e| e.failure(&table.sql, &table.target))?;
                if encoded.sent <= floor { late.push(encoded) } else { on_time.push(encoded) }
            }
            // Stable. Of late rows the newest image counts, and of those of one time the first; the others
            // would not be news after that. On time the last one of a time takes the place of the others.
            late.sort_by(|one, other| (&one.key, other.sent).cmp(&(&other.key, one.sent)));
            late.dedup_by(|next, kept| next.key == kept.key);
            on_time.sort_by(|one, other| (&one.key, one.sent).cmp(&(&other.key, other.sent)));
            on_time.reverse();
            on_time.dedup_by(|next, kept| (&next.key, next.sent) == (&kept.key, kept.sent));
            on_time.reverse();
            cut(&table, true, late, &mut parts);
            cut(&table, false, on_time, &mut parts);
        }
        Ok(parts)
    }

    fn encode(&self, table: &RowTable, row: &TimedMutation) -> Result<Encoded, Unread> {
        let TimedMutation { time, mutation } = row;
        let target = self.options.catalog.table(mutation.table);
        let image = image(&mutation.change, target)?;
        let layout = table.number_of(image.layout()).ok_or(Unread::NoLayout)?;
        let key = key_text(image, target)?;
        let mut value = Vec::with_capacity(8 + image.as_bytes().len());
        encode_value(&mutation.change, layout, target, &mut value)?;
        let gone = match mutation.change {
            Change::Delete(_) | Change::Truncate => true,
            Change::Insert(_) | Change::Upsert(_) | Change::Update(_) | Change::Move { .. } => {
                false
            }
        };
        Ok(Encoded { key, sent: *time, value, gone })
    }

    /// Keeps the newest time of each row.
    fn remember<'a>(&self, arrays: &'a Arrays<'_>) -> Ask<'a> {
        let Arrays { newest_keys, newest_nanos, newest_logicals, table, .. } = arrays;
        // `$1` = keys, `$2`, `$3` = times, `$4` = staging table.
        let sql = format!("{} {NEWER}", self.insert_newest());
        let params: Vec<Param<'_>> = vec![
            (newest_keys, Type::TEXT_ARRAY),
            (newest_nanos, Type::INT8_ARRAY),
            (newest_logicals, Type::INT8_ARRAY),
            (table, Type::INT8),
        ];
        Ask { sql, params }
    }

    fn insert_newest(&self) -> String {
        format!(
            "INSERT INTO {} AS n (staging_table, key, nanos, logical) SELECT $4, x.k, x.n, x.l \
               FROM unnest($1::TEXT[], $2::INT8[], $3::INT8[]) AS x (k, n, l)",
            self.registers.newest
        )
    }

    /// Keeps the newest time of each row, and stages those of which it is news.
    fn stage_late<'a>(&self, part: &Part, arrays: &'a Arrays<'_>) -> Ask<'a> {
        let mut ask = self.remember(arrays);
        // `$5`, `$6` = times to stage at, `$7` = values, `$8` = whether the rows are gone.
        ask.sql = format!(
            "WITH news AS ({} RETURNING n.key) \
             INSERT INTO {} AS s (nanos, logical, key, mut, deletion) \
             SELECT x.n, x.l, x.k, x.v, x.d \
               FROM unnest($5::INT8[], $6::INT8[], $1::TEXT[], $7::BYTEA[], $8::BOOL[]) \
                    AS x (n, l, k, v, d) \
              WHERE x.k IN (SELECT key FROM news) {REPLACE}",
            ask.sql, part.table.sql
        );
        let Arrays { nanos, logicals, values, gone, .. } = arrays;
        let more: [Param<'_>; 4] = [
            (nanos, Type::INT8_ARRAY),
            (logicals, Type::INT8_ARRAY),
            (values, Type::BYTEA_ARRAY),
            (gone, Type::BOOL_ARRAY),
        ];
        ask.params.extend(more);
        ask
    }

    pub(super) async fn retire(
        &self,
        lane: &Lane,
        fence: Fence,
        through: Hlc,
    ) -> Result<(), Failure> {
        let fence = number(fence);
        let check = [self.check(&fence)];
        // What is left to do may be nothing, and yet this run may have no say any more.
        self.sessions.ask_again(async |client| transaction(client, &check).await).await?;
        let tables = self.tables().await?;
        for table in tables.iter().filter(|table| lane.has(table.id)) {
            let marks = table.marks();
            if marks.newest.is_some_and(|newest| marks.retired < newest && marks.retired < through)
            {
                self.retire_from(table, fence, marks.retired, through).await?;
            }
            table.retired(through);
        }
        Ok(())
    }

    async fn retire_from(
        &self,
        table: &RowTable,
        fence: i64,
        from: Hlc,
        through: Hlc,
    ) -> Result<(), Failure> {
        let sql = delete_oldest(self.product, &table.sql);
        let (mut from, through) = (columns_of(from), columns_of(through));
        loop {
            let params: Vec<Param<'_>> = vec![
                (&from.0, Type::INT8),
                (&from.1, Type::INT8),
                (&through.0, Type::INT8),
                (&through.1, Type::INT8),
                (&RETIRED_MAX, Type::INT8),
            ];
            let asks = [self.check(&fence), Ask { sql: sql.clone(), params }];
            let answers =
                self.sessions.ask_again(async |client| transaction(client, &asks).await).await?;
            let last = answers.last().and_then(|rows| rows.first());
            let Some(last) = last else { return Ok(()) };
            if last.get::<_, i64>(2) < RETIRED_MAX {
                return Ok(());
            }
            from = (last.get(0), last.get(1));
        }
    }
}

/// Only a newer time takes the place of what is there.
const NEWER: &str = "ON CONFLICT (staging_table, key) DO UPDATE \
    SET nanos = excluded.nanos, logical = excluded.logical \
    WHERE (n.nanos, n.logical) < (excluded.nanos, excluded.logical)";

/// What was sent last takes the place of what is there, unless the older tool has applied that.
const REPLACE: &str = "ON CONFLICT (nanos, logical, key) DO UPDATE \
    SET mut = excluded.mut, before = NULL, deletion = excluded.deletion WHERE NOT s.applied";

fn stage_on_time<'a>(part: &Part, arrays: &'a Arrays<'_>) -> Ask<'a> {
    // `$1`, `$2` = times, `$3` = keys, `$4` = values, `$5` = whether the rows are gone.
    let sql = format!(
        "INSERT INTO {} AS s (nanos, logical, key, mut, deletion) SELECT x.n, x.l, x.k, x.v, x.d \
           FROM unnest($1::INT8[], $2::INT8[], $3::TEXT[], $4::BYTEA[], $5::BOOL[]) \
                AS x (n, l, k, v, d) {REPLACE}",
        part.table.sql
    );
    let Arrays { nanos, logicals, keys, values, gone, .. } = arrays;
    let params: Vec<Param<'_>> = vec![
        (nanos, Type::INT8_ARRAY),
        (logicals, Type::INT8_ARRAY),
        (keys, Type::TEXT_ARRAY),
        (values, Type::BYTEA_ARRAY),
        (gone, Type::BOOL_ARRAY),
    ];
    Ask { sql, params }
}

/// Deletes the oldest rows of a range of times, and tells the last time and how many there were.
/// `$1`, `$2` = from, `$3`, `$4` = through, `$5` = how many at most.
fn delete_oldest(product: Product, table: &str) -> String {
    let range = "(nanos, logical) >= ($1, $2) AND (nanos, logical) <= ($3, $4) \
                 ORDER BY nanos, logical, key LIMIT $5";
    let rows = match product {
        Product::Postgres => format!("ctid = ANY (ARRAY(SELECT ctid FROM {table} WHERE {range}))"),
        Product::Cockroach => range.to_owned(),
    };
    format!(
        "WITH gone AS (DELETE FROM {table} WHERE {rows} RETURNING nanos, logical) \
         SELECT nanos, logical, count(*) OVER () FROM gone \
          ORDER BY nanos DESC, logical DESC LIMIT 1"
    )
}

/// Cuts rows into statements.
fn cut(table: &Arc<RowTable>, late: bool, rows: Vec<Encoded>, parts: &mut Vec<Part>) {
    let part = || Part { table: Arc::clone(table), late, rows: Vec::new() };
    let (mut next, mut bytes) = (part(), 0);
    for row in rows {
        if ROWS_MAX <= next.rows.len() || BYTES_MAX <= bytes {
            parts.push(std::mem::replace(&mut next, part()));
            bytes = 0;
        }
        bytes += row.key.len() + row.value.len();
        next.rows.push(row);
    }
    if !next.rows.is_empty() {
        parts.push(next);
    }
}
