//! How many rows of ten columns are read from row events in a second, on one core: by our decoder, and by the one of
//! the `mysql_common` crate. Both read the same events; ours also prints each value as the target's text.
use std::error::Error;
use std::io::{self, Write as _};
use std::time::Instant;

use mysql_common::binlog::EventStreamReader;
use mysql_common::binlog::consts::BinlogVersion;
use mysql_common::binlog::events::{EventData, TableMapEvent};
use replicator_core::decode::binlog::binlog_encode::{EventWriter, mysql_format};
use replicator_core::decode::binlog::event::{Event, Rows, RowsKind as EventKind, TableMap as Map};
use replicator_core::decode::binlog::event_type::EventType;
use replicator_core::decode::binlog::format::Checksum;
use replicator_core::decode::binlog::rows::{RowsEvent, RowsKind};
use replicator_core::decode::binlog::rows_encode::{RowToSend, encode_rows};
use replicator_core::decode::binlog::table_map::{BinlogFlavor, MapColumn, TableMap};
use replicator_core::decode::binlog::table_map_encode::encode_table_map;
use replicator_core::decode::binlog::{NoDates, RowPlan};
use replicator_core::model::row::Cell;

/// Rows of an event; 8 KiB is what servers put into one.
const ROWS: usize = 64;
/// Events that are read by each in one turn.
const EVENTS: u32 = 10_000;
const TURNS: usize = 5;

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

fn main() -> Result<(), Box<dyn Error>> {
    let map = map();
    let after = COLUMNS.iter().map(|(_, _, _, text)| Cell::Text(text.as_bytes())).collect();
    let row = RowToSend { before: Vec::new(), after };
    let kind = RowsKind::of_code(EventType::WRITE_ROWS_EVENT.0).ok_or("a kind")?;
    let body = encode_rows(&map, kind, 10, Rows::STATEMENT_END, &vec![row; ROWS]);
    let plan = RowPlan::new(&map, BinlogFlavor::MySql, &[], NoDates::Refuse)?;
    let events = events(&map, &body);
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..TURNS {
        ours.push(read(&plan, kind, &body)?);
        theirs.push(read_by_crate(&events)?);
    }
    let (ours, theirs) = (best(&ours), best(&theirs));
    writeln!(
        io::stdout(),
        "rows of 10 columns read in a second on one core: {:.2} million, by mysql_common {:.2} million, ratio \
         {:.1}",
        ours / 1e6,
        theirs / 1e6,
        ours / theirs
    )?;
    Ok(())
}

fn best(rates: &[f64]) -> f64 {
    rates.iter().copied().fold(0.0, f64::max)
}

fn map() -> TableMap {
    let column = |(code, meta, collation, _): &(u8, [u8; 2], Option<u32>, &str)| MapColumn {
        code: *code,
        meta: *meta,
        unsigned: matches!(code, 1 | 3 | 5 | 8 | 246).then_some(false),
        collation: *collation,
        labels: (*meta == [247, 1]).then(|| vec![b"new".to_vec(), b"open".to_vec()]),
        ..MapColumn::default()
    };
    TableMap {
        table_id: 1,
        flags: 0,
        schema: "shop".to_owned(),
        table: "orders".to_owned(),
        columns: COLUMNS.iter().map(column).collect(),
        primary_key: Vec::new(),
    }
}

/// A format, a table and rows, as a server sends them.
fn events(map: &TableMap, body: &[u8]) -> [Vec<u8>; 3] {
    let mut writer = EventWriter::new(mysql_format(Checksum::Crc32), 1, 1_700_000_000);
    let format = writer.format_event();
    let table = encode_table_map(map, 8, BinlogFlavor::MySql);
    let described = Map { table: 1, flags: 0, post_header_bytes: 8, body: &table };
    let described = writer.event(EventType::TABLE_MAP_EVENT, &Event::TableMap(described));
    let rows = Rows {
        kind: EventKind::Write,
        has_extra: true,
        table: 1,
        flags: Rows::STATEMENT_END,
        post_header_bytes: 10,
        body: body.into(),
    };
    let rows = writer.event(EventType::WRITE_ROWS_EVENT, &Event::Rows(rows));
    [format, described, rows]
}

/// Reads the event again and again. Returns how many rows in a second.
fn read(plan: &RowPlan, kind: RowsKind, body: &[u8]) -> Result<f64, Box<dyn Error>> {
    let started = Instant::now();
    let mut count = 0_u32;
    let mut out = Vec::new();
    for _ in 0..EVENTS {
        out.clear();
        let event = RowsEvent::parse(kind, 10, body)?;
        let mut rows = plan.rows(&event)?;
        while rows.read_next(&mut out)?.is_some() {
            count += 1;
        }
    }
    Ok(f64::from(count) / started.elapsed().as_secs_f64())
}

/// The same by `mysql_common`, which makes a value of its own of each cell.
fn read_by_crate([format, table, rows]: &[Vec<u8>; 3]) -> Result<f64, Box<dyn Error>> {
    let mut reader = EventStreamReader::new(BinlogVersion::Version4);
    reader.read(&format[..])?;
    let table = reader.read(&table[..])?.ok_or("a table")?;
    let table: TableMapEvent<'_> = table.read_event()?;
    let event = reader.read(&rows[..])?.ok_or("rows")?;
    let started = Instant::now();
    let mut count = 0_u32;
    for _ in 0..EVENTS {
        let Some(EventData::RowsEvent(rows)) = event.read_data()? else { return Err("rows".into()) };
        for row in rows.rows(&table) {
            row?;
            count += 1;
        }
    }
    Ok(f64::from(count) / started.elapsed().as_secs_f64())
}
