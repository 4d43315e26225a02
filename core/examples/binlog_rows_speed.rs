//! How many rows of ten columns are read from row events in a second, on one core.
//!
//! ```text
//! cargo run --release -p replicator-core --example binlog_rows_speed
//! ```
use std::io::{self, Write};

use replicator_core::decode::binlog::rows::{RowsEvent, RowsKind};
use replicator_core::decode::binlog::rows_encode::{RowToSend, encode_rows};
use replicator_core::decode::binlog::table_map::{BinlogFlavor, MapColumn, TableMap};
use replicator_core::decode::binlog::{NoDates, RowPlan};
use replicator_core::model::row::Cell;

/// Rows of an event; 8 KiB is what servers put into one.
const ROWS: usize = 64;
const EVENTS: u32 = 60_000;

/// Columns: type code, metadata, collation, value.
const COLUMNS: [(u8, [u8; 2], Option<u32>, &str); 10] = [
    (8, [0, 0], None, "1234567890123"),
    (3, [0, 0], None, "-42"),
    (15, [80, 0], Some(255), "somebody@somewhere"),
    (15, [0, 4], Some(255), "a text of some forty letters, as they are"),
    (246, [12, 2], None, "12345.67"),
    (18, [6, 0], None, "2024-02-29 12:34:56.123456"),
    (17, [0, 0], None, "2024-02-29 12:34:56+00"),
    (1, [0, 0], None, "1"),
    (5, [8, 0], None, "0.125"),
    (254, [247, 1], Some(255), "open"),
];

fn main() -> io::Result<()> {
    let column = |(code, meta, collation, _): &(u8, [u8; 2], Option<u32>, &str)| MapColumn {
        code: *code,
        meta: *meta,
        unsigned: matches!(code, 1 | 3 | 5 | 8 | 246).then_some(false),
        collation: *collation,
        labels: (*meta == [247, 1]).then(|| vec![b"new".to_vec(), b"open".to_vec()]),
        ..MapColumn::default()
    };
    let map = TableMap {
        table_id: 1,
        flags: 0,
        schema: "shop".to_owned(),
        table: "orders".to_owned(),
        columns: COLUMNS.iter().map(column).collect(),
        primary_key: Vec::new(),
    };
    let after = COLUMNS.iter().map(|(_, _, _, text)| Cell::Text(text.as_bytes())).collect();
    let row = RowToSend { before: Vec::new(), after };
    let kind = RowsKind::of_code(30).expect("writes, version 2");
    let body = encode_rows(&map, kind, 10, 0, &vec![row; ROWS]);
    let plan = RowPlan::new(&map, BinlogFlavor::MySql, &[], NoDates::Refuse).expect("a plan");
    let (rows, seconds) = read(&plan, kind, &body);
    let rate = f64::from(rows) / seconds / 1e6;
    let bytes = body.len().checked_div(ROWS).unwrap_or_default();
    writeln!(io::stdout(), "{rate:.1} million rows/s ({bytes} bytes each, {seconds:.2} s)")
}

/// Reads the event again and again. Returns how many rows, and how long it took.
#[expect(clippy::disallowed_types, reason = "a measurement asks the clock")]
fn read(plan: &RowPlan, kind: RowsKind, body: &[u8]) -> (u32, f64) {
    let started = std::time::Instant::now();
    let mut count = 0_u32;
    let mut out = Vec::new();
    for _ in 0..EVENTS {
        out.clear();
        let event = RowsEvent::parse(kind, 10, body).expect("an event");
        let mut rows = plan.rows(&event).expect("rows");
        while rows.read_next(&mut out).expect("a row").is_some() {
            count += 1;
        }
    }
    (count, started.elapsed().as_secs_f64())
}
