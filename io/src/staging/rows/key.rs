//! The column `key` of a staged row: the row's key as a changefeed writes it, a JSON array without
//! blanks. So a row that the older tool has staged is known when it is sent again.
use aws_lc_rs::digest::{SHA256, digest};
use replicator_core::model::catalog::{Column, Table};
use replicator_core::model::key::KeyKind;
use replicator_core::model::row::{Cell, Row};
use replicator_core::staged::StagedError;
use serde_json::Value;

use super::names::hex;

/// Longer keys are told apart by a digest: PostgreSQL has no room for them in an index.
const KEY_BYTES_MAX: usize = 1_000;

/// The key of a row. Equal texts are one row; rows whose equality we cannot tell have different ones if
/// the source sent different ones.
pub(super) fn key_text(row: &Row, table: &Table) -> Result<String, StagedError> {
    if table.key.is_empty() {
        // Nothing but the whole row tells it from others.
        return Ok(digest_of(row.as_bytes()));
    }
    let mut text = String::from("[");
    for (number, index) in table.key.iter().enumerate() {
        if 0 < number {
            text.push(',');
        }
        let cell = row.columns().find(|(column, _)| column == index).map(|(_, cell)| cell);
        match cell {
            Some(Cell::Null) => text.push_str("null"),
            Some(Cell::Text(value)) => push_text(&mut text, table.column(*index), value),
            Some(Cell::Binary(value)) => push_hex(&mut text, "binary", value),
            Some(Cell::Unchanged) | None => return Err(StagedError::Key(table.name.clone())),
        }
    }
    text.push(']');
    Ok(if text.len() <= KEY_BYTES_MAX { text } else { digest_of(text.as_bytes()) })
}

fn digest_of(bytes: &[u8]) -> String {
    let mut text = String::new();
    push_hex(&mut text, "sha256", digest(&SHA256, bytes).as_ref());
    text
}

fn push_hex(text: &mut String, what: &str, bytes: &[u8]) {
    text.push_str(&format!("{{\"{what}\":\"{}\"}}", hex(bytes)));
}

/// A number or a truth value stands there as it is.
fn push_text(text: &mut String, column: &Column, value: &[u8]) {
    let Ok(value) = std::str::from_utf8(value) else { return push_hex(text, "text", value) };
    let bare = match column.kind {
        KeyKind::Int | KeyKind::Numeric | KeyKind::Float => is_number(value),
        KeyKind::Exact => {
            ["bool", "boolean"].contains(&column.cast.as_str())
                && ["true", "false"].contains(&value)
        }
        KeyKind::Padded | KeyKind::Loose => false,
    };
    if bare {
        text.push_str(value);
    } else {
        text.push_str(&Value::from(value).to_string());
    }
}

/// Whether a text is a number of JSON, and nothing besides.
fn is_number(value: &str) -> bool {
    let ends = [value.bytes().next(), value.bytes().next_back()];
    let bare = ends.iter().flatten().all(|byte| *byte == b'-' || byte.is_ascii_digit());
    bare && serde_json::from_str::<Value>(value).is_ok_and(|value| value.is_number())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use replicator_core::model::catalog::{Made, Wire};
    use replicator_core::model::fk::Place;
    use replicator_core::model::ident::TableName;
    use replicator_core::model::mutation::TableId;
    use replicator_core::model::row::{Layout, RowBuilder};

    use super::{Cell, Column, KeyKind, StagedError, Table, key_text};

    fn column(cast: &str, kind: KeyKind) -> Column {
        Column {
            name: cast.to_owned(),
            cast: cast.to_owned(),
            kind,
            wire: Wire::Text,
            nullable: false,
            made: Made::Written,
            has_default: false,
        }
    }

    fn key(columns: &[(&str, KeyKind)], cells: &[Cell<'_>]) -> Result<String, StagedError> {
        let count = u16::try_from(columns.len()).unwrap();
        let table = Table {
            name: TableName::new("public", "t"),
            columns: columns.iter().map(|(cast, kind)| column(cast, *kind)).collect(),
            key: (0..count).collect(),
            uniques: Vec::new(),
            foreign_keys: Vec::new(),
            place: Place::default(),
            referenced: false,
            untold: false,
        };
        let mut row = RowBuilder::new();
        cells.iter().for_each(|cell| row.push(*cell));
        let layout = Layout { table: TableId(0), columns: (0..count).map(Some).collect() };
        key_text(&row.finish(Arc::new(layout)).unwrap(), &table)
    }

    #[test]
    fn a_key_is_written_as_a_changefeed_writes_it() {
        let columns = [
            ("numeric", KeyKind::Numeric),
            ("text", KeyKind::Exact),
            ("bool", KeyKind::Exact),
            ("float8", KeyKind::Float),
        ];
        let cells = ["1.50", "é\"q\u{0}", "true", "NaN"].map(|text| Cell::Text(text.as_bytes()));
        let expected = r#"[1.50,"é\"q\u0000",true,"NaN"]"#;
        assert_eq!(key(&columns, &cells).unwrap(), expected);
    }

    #[test]
    fn what_the_source_sent_differently_is_written_differently() {
        let one = |kind, text: &'static str| key(&[("x", kind)], &[Cell::Text(text.as_bytes())]);
        assert_ne!(one(KeyKind::Loose, "a"), one(KeyKind::Loose, "A"));
        assert_ne!(one(KeyKind::Exact, "null"), key(&[("x", KeyKind::Exact)], &[Cell::Null]));
        assert_ne!(one(KeyKind::Int, " 1"), one(KeyKind::Int, "1"));
        assert_eq!(one(KeyKind::Int, "1").unwrap(), "[1]");
    }

    #[test]
    fn a_long_key_is_a_digest() {
        let long = |last: &str| {
            let text = "x".repeat(5_000) + last;
            key(&[("text", KeyKind::Exact)], &[Cell::Text(text.as_bytes())]).unwrap()
        };
        assert_eq!(long("a").len(), r#"{"sha256":""}"#.len() + 64);
        assert_ne!(long("a"), long("b"));
    }

    #[test]
    fn a_row_without_its_key_has_none() {
        let key = key(&[("text", KeyKind::Exact)], &[Cell::Unchanged]);
        assert!(matches!(key, Err(StagedError::Key(_))), "{key:?}");
    }
}
