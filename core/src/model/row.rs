//! One row image, kept as the bytes it arrived in.
//!
//! A row is a run of cells in the order of its [`Layout`]. Each cell is one kind byte and, for the
//! kinds that carry data, a big-endian `u32` length and that many bytes:
//!
//! ```text
//! n            SQL NULL
//! u            unchanged: the source did not send it because the change did not touch it (TOAST)
//! t len bytes  the value as text
//! b len bytes  the value in the source's binary form
//! ```
//!
//! That is the TupleData format of pgoutput (PostgreSQL documentation, "Logical Replication Message
//! Formats"), so a PostgreSQL row is a slice of the message it came in and is never copied.
use alloc::sync::Arc;
use alloc::vec::Vec;

use bytes::Bytes;

use super::mutation::TableId;

/// How the cells of a row map to the target table. Shared by all rows of one source schema version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The target table.
    pub table: TableId,
    /// For each cell the index of its target column, or `None` if the cell is not applied (a column
    /// that the target generates itself).
    pub columns: Vec<Option<u16>>,
}

/// One cell of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cell<'a> {
    /// SQL NULL.
    Null,
    /// Not sent, because the change did not touch it.
    Unchanged,
    /// The value as text.
    Text(&'a [u8]),
    /// The value in the source's binary form.
    Binary(&'a [u8]),
}

/// A row image: cells in the order of a layout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    layout: Arc<Layout>,
    cells: Bytes,
}

/// The bytes are not the cells of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RowError {
    /// The bytes end inside a cell.
    #[error("row ends inside cell {cell}")]
    Short {
        /// Which cell, from 0.
        cell: usize,
    },
    /// A kind byte we do not know.
    #[error("cell {cell} has unknown kind {kind}")]
    Kind {
        /// Which cell, from 0.
        cell: usize,
        /// The byte.
        kind: u8,
    },
    /// Bytes are left after the last cell.
    #[error("{extra} bytes after the last cell")]
    Long {
        /// How many.
        extra: usize,
    },
}

impl Row {
    /// Checks the bytes and keeps them.
    ///
    /// # Errors
    ///
    /// The bytes are not exactly as many cells as the layout has.
    pub fn new(layout: Arc<Layout>, cells: Bytes) -> Result<Self, RowError> {
        let mut rest: &[u8] = &cells;
        for cell in 0..layout.columns.len() {
            let (_, after) = split_cell(rest, cell)?;
            rest = after;
        }
        if rest.is_empty() {
            return Ok(Self { layout, cells });
        }
        Err(RowError::Long { extra: rest.len() })
    }

    /// How the cells map to the target.
    #[must_use]
    pub fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    /// The bytes of the cells, one after the other.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.cells
    }

    /// The cells, in the order of the layout.
    #[must_use]
    pub fn cells(&self) -> Cells<'_> {
        Cells { rest: &self.cells }
    }

    /// The cells that are applied, each with the index of its target column.
    pub fn columns(&self) -> impl Iterator<Item = (u16, Cell<'_>)> {
        self.layout
            .columns
            .iter()
            .zip(self.cells())
            .filter_map(|(column, cell)| column.map(|column| (column, cell)))
    }

    /// Memory the row holds, in bytes, give or take its fixed parts.
    #[must_use]
    pub fn len_bytes(&self) -> usize {
        self.cells.len()
    }

    /// Whether some cell was not sent.
    #[must_use]
    pub fn has_unchanged(&self) -> bool {
        self.cells().any(|cell| cell == Cell::Unchanged)
    }

    /// This row with its unchanged cells taken from `older`, an earlier image of the same row.
    ///
    /// Cells are matched by target column, so the two may differ in layout. What `older` does not
    /// have either stays unchanged.
    #[must_use]
    pub fn over(&self, older: &Self) -> Self {
        if !self.has_unchanged() {
            return self.clone();
        }
        let mut cells = RowBuilder::new();
        for (column, cell) in self.layout.columns.iter().zip(self.cells()) {
            let known = match (cell, column) {
                (Cell::Unchanged, Some(column)) => older
                    .columns()
                    .find(|(other, _)| other == column)
                    .map_or(Cell::Unchanged, |(_, cell)| cell),
                (Cell::Unchanged | Cell::Null | Cell::Text(_) | Cell::Binary(_), _) => cell,
            };
            cells.push(known);
        }
        Self { layout: Arc::clone(&self.layout), cells: cells.bytes.into() }
    }
}

/// Iterates over the cells of a row.
#[derive(Clone, Debug)]
pub struct Cells<'a> {
    // Invariant: whole cells; `Row::new` checked them.
    rest: &'a [u8],
}

impl<'a> Iterator for Cells<'a> {
    type Item = Cell<'a>;

    fn next(&mut self) -> Option<Cell<'a>> {
        let (cell, rest) = split_cell(self.rest, 0).ok()?;
        self.rest = rest;
        Some(cell)
    }
}

/// Writes cells one after the other.
#[derive(Clone, Debug, Default)]
pub struct RowBuilder {
    bytes: Vec<u8>,
    // How many cells `bytes` are.
    count: usize,
}

impl RowBuilder {
    /// An empty row.
    #[must_use]
    pub const fn new() -> Self {
        Self { bytes: Vec::new(), count: 0 }
    }

    /// Forgets all cells, and keeps the room they took.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.count = 0;
    }

    /// Appends one cell.
    ///
    /// # Panics
    ///
    /// The value is longer than 4 GiB; no supported source can send one.
    pub fn push(&mut self, cell: Cell<'_>) {
        let (kind, value) = match cell {
            Cell::Null => (b'n', None),
            Cell::Unchanged => (b'u', None),
            Cell::Text(value) => (b't', Some(value)),
            Cell::Binary(value) => (b'b', Some(value)),
        };
        self.count = self.count.saturating_add(1);
        self.bytes.push(kind);
        if let Some(value) = value {
            let Ok(len) = u32::try_from(value.len()) else { panic!("a value of over 4 GiB") };
            self.bytes.extend_from_slice(&len.to_be_bytes());
            self.bytes.extend_from_slice(value);
        }
    }

    /// The finished row.
    ///
    /// # Errors
    ///
    /// There are more or fewer cells than the layout has.
    pub fn finish(self, layout: Arc<Layout>) -> Result<Row, RowError> {
        Row::new(layout, self.bytes.into())
    }

    /// A row of a copy of the cells, so that it takes no more room than it needs.
    ///
    /// # Errors
    ///
    /// There are more or fewer cells than the layout has.
    pub fn copy(&self, layout: Arc<Layout>) -> Result<Row, RowError> {
        let cells = Bytes::copy_from_slice(&self.bytes);
        if self.count == layout.columns.len() {
            return Ok(Row { layout, cells });
        }
        Row::new(layout, cells)
    }

    /// The cells without a layout.
    pub(crate) fn into_bytes(self) -> Bytes {
        self.bytes.into()
    }
}

/// Splits the first cell off; `number` is for the error only.
pub(crate) fn split_cell(bytes: &[u8], number: usize) -> Result<(Cell<'_>, &[u8]), RowError> {
    let short = RowError::Short { cell: number };
    let (kind, rest) = bytes.split_first().ok_or(short)?;
    match kind {
        b'n' => return Ok((Cell::Null, rest)),
        b'u' => return Ok((Cell::Unchanged, rest)),
        b't' | b'b' => (),
        kind => return Err(RowError::Kind { cell: number, kind: *kind }),
    }
    let (len, rest) = rest.split_first_chunk::<4>().ok_or(short)?;
    let len = usize::try_from(u32::from_be_bytes(*len)).map_err(|_| short)?;
    let (value, rest) = rest.split_at_checked(len).ok_or(short)?;
    let cell = if *kind == b't' { Cell::Text(value) } else { Cell::Binary(value) };
    Ok((cell, rest))
}

#[cfg(test)]
mod tests {
    use alloc::sync::Arc;
    use alloc::vec;
    use alloc::vec::Vec;

    use super::{Cell, Layout, Row, RowBuilder, RowError};
    use crate::model::mutation::TableId;

    fn layout(columns: u16) -> Arc<Layout> {
        Arc::new(Layout { table: TableId(0), columns: (0..columns).map(Some).collect() })
    }

    fn row(cells: &[Cell<'_>]) -> Row {
        let mut builder = RowBuilder::new();
        for cell in cells {
            builder.push(*cell);
        }
        builder.finish(layout(u16::try_from(cells.len()).unwrap())).unwrap()
    }

    #[test]
    fn cells_come_back_as_they_were_written() {
        let cells =
            [Cell::Text(b"1"), Cell::Null, Cell::Unchanged, Cell::Text(b""), Cell::Binary(b"\0")];
        assert_eq!(row(&cells).cells().collect::<Vec<_>>(), cells);
    }

    #[test]
    fn broken_rows_are_refused() {
        let new = |bytes: &'static [u8]| Row::new(layout(1), bytes.into()).map(drop);
        assert_eq!(new(b""), Err(RowError::Short { cell: 0 }));
        assert_eq!(new(b"t\0\0\0\x02a"), Err(RowError::Short { cell: 0 }));
        assert_eq!(new(b"x"), Err(RowError::Kind { cell: 0, kind: b'x' }));
        assert_eq!(new(b"nn"), Err(RowError::Long { extra: 1 }));
        assert_eq!(new(b"n"), Ok(()));
    }

    #[test]
    fn unchanged_cells_come_from_the_older_image() {
        let older = row(&[Cell::Text(b"1"), Cell::Text(b"wide"), Cell::Unchanged]);
        let newer = row(&[Cell::Text(b"1"), Cell::Unchanged, Cell::Unchanged]);
        let merged = newer.over(&older);
        let expected = vec![Cell::Text(b"1"), Cell::Text(b"wide"), Cell::Unchanged];
        assert_eq!(merged.cells().collect::<Vec<_>>(), expected);
    }
}
