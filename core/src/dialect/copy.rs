//! Rows in the text format of COPY (PostgreSQL documentation, COPY, "File Formats").
//!
//! For runs of new rows this costs the server half of what an INSERT does. PostgreSQL only:
//! CockroachDB takes no COPY through the extended protocol. A row that exists already is an error;
//! then the batch is done again as upserts.
use alloc::vec::Vec;

use crate::model::row::{Cell, Row};

/// Appends one row: the cells of `columns`, which the row must have in this order.
///
/// Returns whether it could; a row with a binary or an unchanged cell cannot be copied.
pub(super) fn push_row(out: &mut Vec<u8>, columns: &[u16], row: &Row) -> bool {
    let mut wanted = columns.iter().peekable();
    for (column, cell) in row.columns() {
        if wanted.next_if_eq(&&column).is_none() {
            continue;
        }
        match cell {
            Cell::Null => out.extend_from_slice(b"\\N"),
            Cell::Text(text) => push_escaped(out, text),
            Cell::Unchanged | Cell::Binary(_) => return false,
        }
        out.push(if wanted.peek().is_some() { b'\t' } else { b'\n' });
    }
    wanted.peek().is_none()
}

fn push_escaped(out: &mut Vec<u8>, text: &[u8]) {
    let special = |byte: &u8| matches!(byte, b'\\' | b'\t' | b'\n' | b'\r');
    if !text.iter().any(special) {
        return out.extend_from_slice(text);
    }
    for byte in text {
        match byte {
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\t' => out.extend_from_slice(b"\\t"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            other => out.push(*other),
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::push_row;
    use crate::fixture::row;
    use crate::model::mutation::TableId;

    #[test]
    fn a_value_that_looks_like_the_format_stays_a_value() {
        let mut out = Vec::new();
        let cells = row(TableId(0), &[Some("\\N"), None, Some("a\tb\nc\\\r"), Some("")]);
        assert!(push_row(&mut out, &[0, 1, 2, 3], &cells));
        assert_eq!(out, b"\\\\N\t\\N\ta\\tb\\nc\\\\\\r\t\n");
    }

    #[test]
    fn an_unchanged_cell_cannot_be_copied() {
        let mut out = Vec::new();
        assert!(!push_row(&mut out, &[0], &row(TableId(0), &[Some("?")])));
    }
}
