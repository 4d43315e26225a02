//! The check of rows on their way into statements: as arrays and in the text format of COPY.
//!
//! The input is a row as a source sends it. What the target would read must be what the row holds.
use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use replicator_core::dialect::{Dialect, Product, Statement};
use replicator_core::model::catalog::{Column, Made, Table, Wire};
use replicator_core::model::fk::Place;
use replicator_core::model::ident::TableName;
use replicator_core::model::key::KeyKind;
use replicator_core::model::mutation::TableId;
use replicator_core::model::row::{Cell, Layout, Row, RowBuilder};
use replicator_core::plan::{Kind, Step};

/// Fewer are not worth a COPY.
const ROWS: usize = 100;
const WIRES: [Wire; 5] = [Wire::Int2, Wire::Int4, Wire::Int8, Wire::Text, Wire::Text];

/// Binds and copies a row; returns in how many ways that was possible.
///
/// # Panics
///
/// The target would read something else.
pub(crate) fn values(input: &[u8]) -> usize {
    let columns: Vec<u16> = (0..5).collect();
    let layout = Layout { table: TableId(0), columns: columns.iter().copied().map(Some).collect() };
    let Ok(row) = Row::new(Arc::new(layout), Bytes::copy_from_slice(input)) else { return 0 };
    assert_eq!(row.len_bytes(), input.len(), "a row is the bytes it came in");
    let rows = vec![Cow::Borrowed(&row); ROWS];
    let (table, dialect) = (table(), Dialect { product: Product::Postgres, database: "d".into() });
    let step = Step { table: TableId(0), kind: Kind::Insert, columns, rows, from: None, at: None };
    let mut ways = 0;
    if let Ok(Statement { params, .. }) = dialect.statement(&table, &step) {
        for (param, cell) in params.iter().zip(row.cells()) {
            let elements = read_array(param.as_bytes());
            assert_eq!(elements.len(), ROWS, "one element for each row");
            for element in elements {
                assert!(says(param.wire(), element, cell), "{cell:?} is bound as {element:?}");
            }
        }
        ways += 1;
    }
    if let Some((_, data)) = dialect.copy(&table, &step) {
        let lines: Vec<Vec<Option<Vec<u8>>>> = read_copy(&data);
        assert_eq!(lines.len(), ROWS, "one line for each row");
        for line in lines {
            let is = |(value, cell): (&Option<Vec<u8>>, Cell<'_>)| match (value, cell) {
                (None, Cell::Null) => true,
                (Some(value), Cell::Text(text)) => value == text,
                (_, _) => false,
            };
            assert_eq!(line.len(), WIRES.len(), "one value for each column");
            assert!(line.iter().zip(row.cells()).all(is), "{line:?} is copied");
        }
        ways += 1;
    }
    ways
}

/// Hand-made rows.
pub(crate) fn values_corpus() -> Vec<(&'static str, Vec<u8>)> {
    let row = |cells: &[Cell<'_>]| {
        let mut row = RowBuilder::new();
        cells.iter().for_each(|cell| row.push(*cell));
        let columns = vec![None; cells.len()];
        let layout = Arc::new(Layout { table: TableId(0), columns });
        let row = row.finish(layout).expect("a cell for each column");
        row.cells().flat_map(bytes_of).collect::<Vec<u8>>()
    };
    let text = |text: &'static str| Cell::Text(text.as_bytes());
    let usual = [text("1"), text("2"), text("3"), text("a"), Cell::Null];
    let mut cut_short = row(&usual);
    cut_short.truncate(cut_short.len() - 4);
    let wide = "\\".repeat(20_000);
    let numbers = [text("-32768"), text("-2147483648"), text("-9223372036854775808")];
    let binary = [Cell::Binary(b"\0\x01"), Cell::Binary(b"\0\0\0\x01"), Cell::Binary(&[0; 8])];
    let odd = [text("\\N"), text("a\tb\nc\\\r")];
    vec![
        ("empty", Vec::new()),
        ("cut-short", cut_short),
        (
            "largest",
            row(&[numbers[0], numbers[1], numbers[2], Cell::Text(wide.as_bytes()), text("")]),
        ),
        ("usual", row(&usual)),
        ("odd", row(&[text("1"), text("2"), text("3"), odd[0], odd[1]])),
        ("binary", row(&[binary[0], binary[1], binary[2], Cell::Null, Cell::Null])),
        ("unchanged", row(&[text("1"), text("2"), text("3"), Cell::Unchanged, Cell::Null])),
        ("too-large-number", row(&[text("40000"), text("2"), text("3"), Cell::Null, Cell::Null])),
    ]
}

fn bytes_of(cell: Cell<'_>) -> Vec<u8> {
    let with = |kind: u8, value: &[u8]| {
        let len = u32::try_from(value.len()).expect("a short value").to_be_bytes();
        [&[kind][..], &len, value].concat()
    };
    match cell {
        Cell::Null => b"n".to_vec(),
        Cell::Unchanged => b"u".to_vec(),
        Cell::Text(value) => with(b't', value),
        Cell::Binary(value) => with(b'b', value),
    }
}

/// As `array_recv` does (PostgreSQL source, arrayfuncs.c).
fn read_array(bytes: &[u8]) -> Vec<Option<&[u8]>> {
    let word = |bytes: &[u8]| {
        i32::from_be_bytes(*bytes.first_chunk::<4>().expect("an array ends with an element"))
    };
    let (header, mut rest) = bytes.split_at(20);
    assert_eq!(word(header), 1, "one dimension");
    let count = usize::try_from(word(&header[12..])).expect("a count");
    let mut elements = Vec::new();
    for _ in 0..count {
        let len = word(rest);
        rest = &rest[4..];
        let Ok(len) = usize::try_from(len) else {
            assert_eq!(len, -1, "an impossible length");
            elements.push(None);
            continue;
        };
        let (element, after) = rest.split_at(len);
        elements.push(Some(element));
        rest = after;
    }
    assert!(rest.is_empty(), "bytes after the last element");
    let nulls = elements.iter().any(Option::is_none);
    assert_eq!(word(&header[4..]) == 1, nulls, "the flag for NULLs");
    elements
}

/// Whether an element of an array is what the cell says.
fn says(wire: Wire, element: Option<&[u8]>, cell: Cell<'_>) -> bool {
    let number = |bytes: &[u8]| {
        let fill = if bytes.first().is_some_and(|byte| 0x80 <= *byte) { 0xFF } else { 0 };
        let mut wide = [fill; 8];
        wide[8 - bytes.len()..].copy_from_slice(bytes);
        i64::from_be_bytes(wide)
    };
    match (element, cell) {
        (None, Cell::Null) => true,
        (Some(element), Cell::Binary(value)) => element == value,
        (Some(element), Cell::Text(text)) if wire == Wire::Text => element == text,
        (Some(element), Cell::Text(text)) => {
            let text = std::str::from_utf8(text).expect("a number is text");
            text.parse() == Ok(number(element))
        }
        (_, _) => false,
    }
}

/// As COPY reads its text format (PostgreSQL documentation, COPY, "File Formats").
fn read_copy(data: &[u8]) -> Vec<Vec<Option<Vec<u8>>>> {
    let Some(data) = data.strip_suffix(b"\n") else { panic!("the last line has no end") };
    let value = |field: &[u8]| {
        if field == b"\\N" {
            return None;
        }
        let mut value = Vec::with_capacity(field.len());
        let mut bytes = field.iter();
        while let Some(byte) = bytes.next() {
            value.push(match byte {
                b'\\' => match bytes.next() {
                    Some(b't') => b'\t',
                    Some(b'n') => b'\n',
                    Some(b'r') => b'\r',
                    Some(b'\\') => b'\\',
                    other => panic!("an escape that means something else: {other:?}"),
                },
                b'\r' => panic!("a bare carriage return ends a line, too"),
                other => *other,
            });
        }
        Some(value)
    };
    let line = |line: &[u8]| line.split(|byte| *byte == b'\t').map(value).collect();
    data.split(|byte| *byte == b'\n').map(line).collect()
}

fn table() -> Table {
    let column = |(number, wire): (usize, &Wire)| Column {
        name: format!("c{number}"),
        cast: "text".to_owned(),
        kind: KeyKind::Exact,
        wire: *wire,
        nullable: true,
        made: Made::Written,
        has_default: false,
    };
    Table {
        name: TableName::new("public", "t"),
        columns: WIRES.iter().enumerate().map(column).collect(),
        key: vec![0],
        uniques: Vec::new(),
        foreign_keys: Vec::new(),
        place: Place::default(),
        referenced: false,
        untold: false,
    }
}
