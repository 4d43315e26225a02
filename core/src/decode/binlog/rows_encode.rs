//! Writes row events, for pretend servers, tests and fuzzing; replication itself only reads them.
//!
//! The reverse of [`rows`](super::rows): values are given as the text that reading them gives.
use alloc::vec::Vec;

use bytes::BufMut;

use super::encode_number::put_packed;
use super::rows::{RowsChange, RowsKind};
use super::table_map::{MapColumn, TableMap};
use super::table_map_encode::{put_bitmap, put_len, put_table_id};
use super::value_encode::put_value;
use crate::model::row::Cell;

/// One row of an event: its cells before and after, in the order of the table's columns. Cells that are
/// unchanged are not sent. Of a write only `after` counts, of a delete only `before`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RowToSend<'a> {
    /// Before the change.
    pub before: Vec<Cell<'a>>,
    /// After the change.
    pub after: Vec<Cell<'a>>,
}

/// Writes the body of a row event, without header and checksum. Of a partial update, documents come
/// whole.
///
/// # Panics
///
/// Rows of one event do not all send the same columns, or a cell is no value of its column that can be
/// written: text in UTF-8, no shape with a reference system, no type of servers before 5.6.
#[must_use]
pub fn encode_rows(
    map: &TableMap,
    kind: RowsKind,
    post_header_len: u8,
    flags: u16,
    rows: &[RowToSend<'_>],
) -> Vec<u8> {
    let mut out = Vec::new();
    put_table_id(&mut out, map.table_id, post_header_len);
    out.put_u16_le(flags);
    if kind.extra {
        // No more than the length itself.
        out.put_u16_le(2);
    }
    put_len(&mut out, map.columns.len());
    let sides = match kind.change {
        RowsChange::Write => &[Side::After][..],
        RowsChange::Update => &[Side::Before, Side::After],
        RowsChange::Delete => &[Side::Before],
    };
    for side in sides {
        let first = rows.first().map(|row| side.of(row)).unwrap_or_default();
        let present = (0..map.columns.len())
            .map(|index| first.get(index).is_some_and(|cell| *cell != Cell::Unchanged));
        put_bitmap(&mut out, present);
    }
    for row in rows {
        for side in sides {
            if kind.partial && *side == Side::After {
                put_packed(&mut out, 0);
            }
            put_image(&mut out, &map.columns, side.of(row), rows.first().map(|row| side.of(row)));
        }
    }
    out
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Before,
    After,
}

impl Side {
    fn of<'r, 'a>(self, row: &'r RowToSend<'a>) -> &'r [Cell<'a>] {
        match self {
            Self::Before => &row.before,
            Self::After => &row.after,
        }
    }
}

fn put_image(
    out: &mut Vec<u8>,
    columns: &[MapColumn],
    cells: &[Cell<'_>],
    first: Option<&[Cell<'_>]>,
) {
    let absent = |cells: &[Cell<'_>]| -> Vec<bool> {
        cells.iter().map(|cell| *cell == Cell::Unchanged).collect()
    };
    assert_eq!(cells.len(), columns.len(), "a row of another table");
    assert_eq!(first.map(absent), Some(absent(cells)), "rows send different columns");
    let sent = cells.iter().filter(|cell| **cell != Cell::Unchanged);
    put_bitmap(out, sent.map(|cell| *cell == Cell::Null));
    for (column, cell) in columns.iter().zip(cells) {
        if let Cell::Text(text) = cell {
            let written = put_value(out, column, text);
            assert!(written.is_some(), "no value of a column of type code {}", column.code);
        }
    }
}
