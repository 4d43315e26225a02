//! The bytes of staged rows: a store that was damaged is noticed, and what is accepted is what was written.
use std::sync::Arc;

use replicator_core::model::catalog::{Column, Made, Table, Wire};
use replicator_core::model::fk::Place;
use replicator_core::model::ident::TableName;
use replicator_core::model::key::KeyKind;
use replicator_core::model::mutation::TableId;
use replicator_core::model::row::Layout;
use replicator_core::staged::{
    LayoutNames, decode_key, decode_table, decode_value, encode_table, encode_value, layout_of,
};

/// Columns of the value that the input may be.
const COLUMNS: [&str; 3] = ["id", "a", "b"];

/// Reads the input as a value, as a layout and as the name of a table. Returns how many of them it is.
pub(crate) fn staged(input: &[u8]) -> usize {
    // Any bytes that are long enough are a key, so that says nothing.
    drop(decode_key(input));
    value(input) + layout(input) + name(input)
}

fn value(input: &[u8]) -> usize {
    let columns = vec![Some(0), None, Some(2)];
    let layout = Arc::new(Layout { table: TableId(0), columns });
    let Ok(change) = decode_value(input, layout) else { return 0 };
    let stored = layout_of(input).expect("a value has a layout");
    let mut bytes = Vec::new();
    encode_value(&change, stored, &table(), &mut bytes).expect("it is of one row");
    assert!(bytes == input, "a value is written in another way than it was read");
    1
}

fn layout(input: &[u8]) -> usize {
    let Ok(names) = LayoutNames::decode(input) else { return 0 };
    assert!(names.encode() == input, "a layout is written in another way than it was read");
    if let Ok(layout) = names.resolve(TableId(0), &table()) {
        assert!(LayoutNames::of(&layout, names.table, &table()) == names, "names are confused");
    }
    1
}

fn name(input: &[u8]) -> usize {
    let Ok(name) = decode_table(input) else { return 0 };
    assert!(encode_table(&name) == input, "a name is written in another way than it was read");
    1
}

fn table() -> Table {
    let column = |name: &&str| Column {
        name: (*name).to_owned(),
        cast: "text".to_owned(),
        kind: KeyKind::Exact,
        wire: Wire::Text,
        nullable: true,
        made: Made::Written,
        has_default: false,
    };
    Table {
        name: TableName::new("public", "t"),
        columns: COLUMNS.iter().map(column).collect(),
        key: vec![0],
        uniques: Vec::new(),
        foreign_keys: Vec::new(),
        place: Place::default(),
        referenced: false,
        untold: false,
    }
}

/// Hand-made inputs.
pub(crate) fn staged_corpus() -> Vec<(&'static str, Vec<u8>)> {
    let value = b"\x01s\0\0\0\x02t\0\0\0\x011nu".to_vec();
    let layout = b"\x01\0\0\0\x05\x01\0\0\0\x02id\0\x01\0\0\0\x01b".to_vec();
    let mut largest = b"\x01i\0\0\0\0b\0\0\x10\0".to_vec();
    largest.extend_from_slice(&[0xFF; 4_096]);
    largest.extend_from_slice(b"nn");
    vec![
        ("empty", Vec::new()),
        ("cut-short", value[..value.len() - 1].to_vec()),
        ("value", value),
        ("layout", layout),
        ("table", b"\x01\0\0\0\x06public\0\0\0\x01t".to_vec()),
        ("largest", largest),
        ("refused-version", b"\x02s\0\0\0\x02nnn".to_vec()),
        ("refused-kind", b"\x01x\0\0\0\x02nnn".to_vec()),
    ]
}
