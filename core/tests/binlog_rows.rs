//! Binary logs of real servers, read cell by cell and compared with what the servers print.
//!
//! `fixtures/binlog_rows/make.sh` makes them. A line of what is expected begins with `+` and a table for a
//! new row, with `-` for one that is gone, and with `<` and `>` for one before and after a change.
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use replicator_core::decode::binlog::rows::{RowsChange, RowsEvent, RowsKind};
use replicator_core::decode::binlog::table_map::{BinlogFlavor, TableMap};
use replicator_core::decode::binlog::{KnownColumn, NoDates, RowPlan};
use replicator_core::model::row::{Cell, Layout, Row};

/// Bytes in front of the first event of a log file, and of an event's header.
const MAGIC: usize = 4;
const HEADER: usize = 19;
/// The type of TABLE_MAP, and the length of its post-header and that of row events.
const TABLE_MAP: u8 = 19;
const POST_HEADER: u8 = 8;

fn fixture(name: &str) -> Vec<u8> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/binlog_rows");
    let path = std::env::var_os("BINLOG_ROWS").map_or(folder, PathBuf::from).join(name);
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The events of a log file without checksums, each as its type and its body.
fn events(file: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    let mut rest = &file[MAGIC..];
    std::iter::from_fn(move || {
        let header = rest.get(..HEADER)?;
        let len = u32::from_le_bytes(header[9..13].try_into().expect("four bytes"));
        let (event, after) = rest.split_at(usize::try_from(len).expect("a length"));
        rest = after;
        Some((event[4], &event[HEADER..]))
    })
}

/// All rows of a log file, one line for each image.
fn lines(
    file: &[u8],
    flavor: BinlogFlavor,
    known: &dyn Fn(&str) -> Vec<KnownColumn>,
) -> Vec<String> {
    let mut lines = Vec::new();
    let mut plan: Option<(String, RowPlan)> = None;
    for (code, body) in events(file) {
        if code == TABLE_MAP {
            let map = TableMap::parse(body, POST_HEADER, flavor).expect("a map");
            let known = known(&map.table);
            let new = RowPlan::new(&map, flavor, &known, NoDates::Keep).expect("a plan");
            plan = Some((map.table, new));
        }
        let Some(kind) = RowsKind::of_code(code) else { continue };
        // MariaDB keeps to version 1, MySQL to version 2.
        let event = RowsEvent::parse(kind, if kind.extra { 10 } else { POST_HEADER }, body)
            .expect("a row event");
        let (table, plan) = plan.as_ref().expect("a map before its rows");
        let mut rows = plan.rows(&event).expect("rows of the map");
        let mut out = Vec::new();
        while let Some(images) = rows.read_next(&mut out).expect("a row") {
            let (old, new) = match kind.change {
                RowsChange::Write => ("", "+"),
                RowsChange::Update => ("<", ">"),
                RowsChange::Delete => ("-", ""),
            };
            for (mark, image) in [(old, images.before), (new, images.after)] {
                if let Some(image) = image {
                    lines.push(line(&format!("{mark}{table}"), plan.len(), &out[image]));
                }
            }
        }
    }
    lines
}

/// Prints a row as the servers' clients do.
fn line(start: &str, columns: usize, cells: &[u8]) -> String {
    let layout = Layout {
        table: replicator_core::model::mutation::TableId(0),
        columns: vec![None; columns],
    };
    let row = Row::new(layout.into(), cells.to_vec().into()).expect("cells");
    let mut line = start.to_owned();
    for cell in row.cells() {
        line.push('\t');
        match cell {
            Cell::Null => line.push_str("NULL"),
            Cell::Unchanged => line.push('?'),
            Cell::Text(text) => push_escaped(&mut line, text),
            Cell::Binary(_) => panic!("a binary cell"),
        }
    }
    line
}

fn push_escaped(line: &mut String, text: &[u8]) {
    for c in std::str::from_utf8(text).expect("UTF-8").chars() {
        match c {
            '\\' => line.push_str("\\\\"),
            '\t' => line.push_str("\\t"),
            '\n' => line.push_str("\\n"),
            '\0' => line.push_str("\\0"),
            other => line.push(other),
        }
    }
}

/// Whether a cell is what is expected.
fn is_same(expected: &str, found: &str) -> bool {
    if let Some(number) = expected.strip_prefix("~4 ") {
        let expected: f64 = number.parse().expect("a number");
        return found.parse::<f32>().is_ok_and(|found| f64::from(found) == expected);
    }
    if let Some(number) = expected.strip_prefix("~8 ") {
        let expected: f64 = number.parse().expect("a number");
        return found.parse().is_ok_and(|found: f64| found.to_bits() == expected.to_bits());
    }
    expected == found
}

fn check(name: &str, flavor: BinlogFlavor, known: &dyn Fn(&str) -> Vec<KnownColumn>) {
    let found = lines(&fixture(&format!("{name}.binlog")), flavor, known);
    let expected = String::from_utf8(fixture(&format!("{name}.expected"))).expect("UTF-8");
    let expected: Vec<&str> = expected.lines().collect();
    let mut differing = String::new();
    for (expected, found) in expected.iter().zip(&found) {
        let (expected, found): (Vec<_>, Vec<_>) =
            (expected.split('\t').collect(), found.split('\t').collect());
        let same = expected.len() == found.len();
        if !same || !expected.iter().zip(&found).all(|(expected, found)| is_same(expected, found)) {
            writeln!(differing, "expected {expected:?}\nfound    {found:?}").expect("room");
        }
    }
    assert!(
        differing.is_empty() && found.len() == expected.len(),
        "{name}\n{differing}{}",
        found.join("\n")
    );
    assert_eq!(found.len(), expected.len(), "{name}");
}

fn nothing(_: &str) -> Vec<KnownColumn> {
    Vec::new()
}

/// What `information_schema` says of the tables whose maps do not say it.
fn known(table: &str) -> Vec<KnownColumn> {
    let columns: &[(&str, &str, Option<&str>)] = match table {
        "told" => &[
            ("a", "bigint(20) unsigned", None),
            ("b", "enum('x','it''s')", Some("utf8mb4")),
            ("c", "set('p','q')", Some("utf8mb4")),
            ("d", "varchar(9)", Some("latin1")),
            ("e", "binary(2)", None),
            ("f", "text", Some("utf8mb4")),
            ("g", "int(11)", None),
            ("h", "inet4", None),
        ],
        "special" => &[
            ("a", "uuid", None),
            ("b", "inet6", None),
            ("c", "inet4", None),
            ("d", "vector(3)", None),
            ("e", "binary(16)", None),
        ],
        _ => &[],
    };
    columns.iter().map(|(name, kind, charset)| KnownColumn::new(name, kind, *charset)).collect()
}

#[test]
fn every_type_of_mysql_is_what_the_server_prints() {
    let known = |table: &str| known(table).into_iter().take(6).collect();
    check("mysql-types", BinlogFlavor::MySql, &known);
}

#[test]
fn every_type_of_mariadb_is_what_the_server_prints() {
    check("mariadb-types", BinlogFlavor::MariaDb, &known);
}

#[test]
fn images_show_what_was_sent_and_documents_are_whole() {
    check("mysql-images", BinlogFlavor::MySql, &nothing);
}

#[test]
fn every_character_set_is_what_the_server_makes_of_it() {
    check("mysql-charsets", BinlogFlavor::MySql, &nothing);
}
