//! The check of the decoder of row events in binary logs.
//!
//! The input is one byte of settings and then items of a length (two bytes, big endian) and as many bytes:
//! an event's type code and its body. Row events are read by the map before them.
use replicator_core::decode::binlog::rows::{Images, RowsEvent, RowsKind};
use replicator_core::decode::binlog::rows_encode::{RowToSend, encode_rows};
use replicator_core::decode::binlog::table_map::{BinlogFlavor, MapColumn, TableMap};
use replicator_core::decode::binlog::table_map_encode::encode_table_map;
use replicator_core::decode::binlog::{KnownColumn, NoDates, RowPlan};
use replicator_core::model::mutation::TableId;
use replicator_core::model::row::{Cell, Layout, Row};

use crate::pgoutput::{frame_item, split_item};

const TABLE_MAP: u8 = 19;
const WRITE: u8 = 30;
const UPDATE: u8 = 31;
const DELETE: u8 = 32;
const PARTIAL: u8 = 39;
/// Settings of the input.
const MARIADB: u8 = 1;
const KNOWN: u8 = 2;
/// Lengths of the post-headers of a map and of a row event of version 2.
const MAP_HEADER: u8 = 8;
const ROWS_HEADER: u8 = 10;
/// Rows of an event that are looked at. A byte may stand for a long label, so more could take long.
const ROWS_MAX: usize = 256;

/// Reads the input as events and returns how many rows came out before the first one that was refused.
///
/// # Panics
///
/// The decoder broke a promise.
pub(crate) fn binlog_rows(input: &[u8]) -> usize {
    let Some((settings, mut rest)) = input.split_first() else { return 0 };
    let flavor = if settings & MARIADB == 0 { BinlogFlavor::MySql } else { BinlogFlavor::MariaDb };
    let mut map = None;
    let mut count = 0;
    while let Some((item, after)) = split_item(rest) {
        rest = after;
        let Some((code, body)) = item.split_first() else { return count };
        if *code == TABLE_MAP {
            let Ok(read) = TableMap::parse(body, MAP_HEADER, flavor) else { return count };
            let again = encode_table_map(&read, MAP_HEADER, flavor);
            let same = TableMap::parse(&again, MAP_HEADER, flavor);
            assert_eq!(same.as_ref(), Ok(&read), "a map does not survive writing and reading");
            map = Some(read);
            continue;
        }
        let (Some(kind), Some(map)) = (RowsKind::of_code(*code), &map) else { return count };
        let known = if settings & KNOWN == 0 { Vec::new() } else { known(map.columns.len()) };
        let plan = |no_dates| RowPlan::new(map, flavor, &known, no_dates);
        let (Ok(keep), Ok(refuse), Ok(null)) =
            (plan(NoDates::Keep), plan(NoDates::Refuse), plan(NoDates::Null))
        else {
            return count;
        };
        let (rows, ended) = read_rows(&keep, kind, body);
        let (strict, _) = read_rows(&refuse, kind, body);
        let (nulls, _) = read_rows(&null, kind, body);
        assert!(rows.starts_with(&strict), "a refused date changes others");
        assert_eq!(rows.len(), nulls.len(), "a date that is NULL changes how rows are read");
        count += rows.len();
        if !ended {
            return count;
        }
    }
    count
}

/// What a catalog could say of columns that are all alike.
fn known(columns: usize) -> Vec<KnownColumn> {
    let column = KnownColumn::new("c", "enum('a','it''s') unsigned", Some("latin1"));
    vec![column; columns]
}

/// The rows of an event as bytes of cells, and whether it could be read to its end.
fn read_rows(plan: &RowPlan, kind: RowsKind, body: &[u8]) -> (Vec<Vec<u8>>, bool) {
    let header = if kind.extra { ROWS_HEADER } else { MAP_HEADER };
    let Ok(event) = RowsEvent::parse(kind, header, body) else { return (Vec::new(), false) };
    let Ok(mut rows) = plan.rows(&event) else { return (Vec::new(), false) };
    let mut read = Vec::new();
    let mut out = Vec::new();
    loop {
        match rows.read_next(&mut out) {
            Ok(Some(images)) => {
                check_images(plan, &images, &out);
                read.push(std::mem::take(&mut out));
                if read.len() == ROWS_MAX {
                    return (read, true);
                }
            }
            Ok(None) => return (read, true),
            Err(error) => {
                assert!(!error.to_string().is_empty(), "an error without a text");
                return (read, false);
            }
        }
    }
}

/// The images are whole rows of text, one behind the other.
fn check_images(plan: &RowPlan, images: &Images, out: &[u8]) {
    let mut end = 0;
    for image in [&images.before, &images.after].into_iter().flatten() {
        assert_eq!(image.start, end, "images do not touch");
        end = image.end;
        let layout = Layout { table: TableId(0), columns: vec![None; plan.len()] };
        let row = Row::new(layout.into(), out[image.clone()].to_vec().into());
        for cell in row.expect("whole cells").cells() {
            match cell {
                Cell::Null | Cell::Unchanged => (),
                Cell::Text(text) => assert!(std::str::from_utf8(text).is_ok(), "not UTF-8"),
                Cell::Binary(_) => panic!("a binary cell"),
            }
        }
    }
    assert_eq!(end, out.len(), "bytes behind the images");
}

/// The hand-made inputs.
pub(crate) fn binlog_rows_corpus() -> Vec<(&'static str, Vec<u8>)> {
    let map = zoo();
    let usual: Vec<Cell<'_>> = ZOO.iter().map(|(_, _, text)| Cell::Text(text.as_bytes())).collect();
    let nothing = vec![Cell::Null; ZOO.len()];
    let mut few: Vec<Cell<'static>> = vec![Cell::Unchanged; ZOO.len()];
    few[0] = Cell::Text(b"-1");
    let rows = |pairs: &[(&[Cell<'static>], &[Cell<'static>])]| -> Vec<RowToSend<'static>> {
        let row = |(before, after): &(&[Cell<'static>], &[Cell<'static>])| RowToSend {
            before: before.to_vec(),
            after: after.to_vec(),
        };
        pairs.iter().map(row).collect()
    };
    let event = |code: u8, rows: &[RowToSend<'static>]| {
        let kind = RowsKind::of_code(code).expect("a row event");
        (code, encode_rows(&map, kind, ROWS_HEADER, 1, rows))
    };
    let described = (TABLE_MAP, encode_table_map(&map, MAP_HEADER, BinlogFlavor::MySql));
    let one = rows(&[(&usual, &nothing)]);
    let two = rows(&[(&nothing, &usual), (&nothing, &nothing)]);
    let whole = input(0, &[described.clone(), event(WRITE, &two)]);
    let mut partial = event(PARTIAL, &one);
    let mut other = event(WRITE, &one);
    other.1[0] = 9;
    let mut broken = event(DELETE, &one);
    broken.1.truncate(broken.1.len() - 1);
    let many = vec![two[0].clone(); 100];
    let mut all = vec![
        ("empty", Vec::new()),
        ("cut-short", whole[..whole.len() - 3].to_vec()),
        ("largest", input(0, &[described.clone(), event(WRITE, &many)])),
        ("write", whole),
        ("update", input(0, &[described.clone(), event(UPDATE, &one)])),
        ("delete", input(0, &[described.clone(), event(DELETE, &one)])),
        ("minimal", input(0, &[described.clone(), event(UPDATE, &rows(&[(&few, &few)]))])),
        ("partial", input(0, &[described.clone(), partial.clone()])),
        ("refused-no-map", input(0, &[event(WRITE, &two)])),
        ("refused-other-table", input(0, &[described.clone(), other])),
        ("refused-row-cut-short", input(0, &[described.clone(), broken])),
    ];
    // An option that nobody knows stands where the changes of documents should.
    partial.1.truncate(20);
    all.push(("refused-partial-cut-short", input(0, &[described, partial])));
    all
}

fn input(settings: u8, events: &[(u8, Vec<u8>)]) -> Vec<u8> {
    let items = events.iter().flat_map(|(code, body)| frame_item(&[&[*code][..], body].concat()));
    [settings].into_iter().chain(items).collect()
}

/// Columns of a table, each by its type code and metadata, with a value.
const ZOO: &[(u8, [u8; 2], &str)] = &[
    (3, [0, 0], "-2147483648"),
    (8, [0, 0], "9223372036854775807"),
    (9, [0, 0], "-1"),
    (4, [4, 0], "0.5"),
    (5, [8, 0], "-1e300"),
    (246, [14, 4], "-1234567890.1234"),
    (16, [1, 1], "100000001"),
    (13, [0, 0], "2024"),
    (10, [0, 0], "2024-02-29"),
    (19, [3, 0], "-838:59:59.001"),
    (18, [6, 0], "9999-12-31 23:59:59.999999"),
    (17, [1, 0], "2038-01-19 03:14:07.9+00"),
    (15, [44, 1], "ein Text, 漢字"),
    (252, [2, 0], "long text"),
    (254, [254, 8], "\\x0102000000000000"),
    (254, [247, 1], "two"),
    (254, [248, 1], "one,two"),
    (245, [4, 0], r#"{"a": [1, null, {"b": -70000.5}], "key": "text"}"#),
    (255, [4, 0], "0101000000000000000000f03f0000000000000040"),
    (242, [4, 0], "[1,-2.5]"),
];

fn zoo() -> TableMap {
    let column = |(index, (code, meta, _)): (usize, &(u8, [u8; 2], &str))| MapColumn {
        code: *code,
        meta: *meta,
        nullable: index > 0,
        name: Some(format!("c{index}")),
        unsigned: matches!(code, 3 | 4 | 5 | 8 | 9 | 13 | 246).then_some(false),
        collation: match (code, meta) {
            (254, [254, _]) => Some(63),
            (15 | 252 | 254, _) => Some(255),
            _ => None,
        },
        labels: matches!(meta, [247 | 248, 1]).then(|| vec![b"one".to_vec(), b"two".to_vec()]),
        geometry: (*code == 255).then_some(0),
        dimensions: (*code == 242).then_some(2),
        visible: Some(true),
    };
    TableMap {
        table_id: 7,
        flags: 1,
        schema: "zoo".to_owned(),
        table: "all".to_owned(),
        columns: ZOO.iter().enumerate().map(column).collect(),
        primary_key: Vec::new(),
    }
}
