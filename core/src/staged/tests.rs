//! What is written comes back, by names, and what was damaged is refused.
use alloc::borrow::ToOwned;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use proptest::prelude::*;

use super::{
    Cell, Change, Hlc, Layout, LayoutNames, Made, Row, RowBuilder, StagedError, StoredLayout,
    StoredTable, Table, TableId, TableName, decode_key, decode_table, decode_value, encode_key,
    encode_table, encode_value, layout_of,
};
use crate::fixture;

const TIME: Hlc = Hlc { nanos: 7, logical: 3 };

fn row(columns: &[Option<u16>], cells: &[Cell<'_>]) -> Row {
    let mut builder = RowBuilder::new();
    cells.iter().for_each(|cell| builder.push(*cell));
    builder.finish(Arc::new(Layout { table: TableId(0), columns: columns.to_vec() })).unwrap()
}

fn child() -> Table {
    fixture::table("child", &[("id", "int8"), ("parent_id", "int8"), ("note", "text")], 1)
}

fn key(row: &Row, table: &Table) -> Result<Vec<u8>, StagedError> {
    let mut bytes = Vec::new();
    encode_key(TIME, StoredTable(5), row, table, &mut bytes).map(|()| bytes)
}

fn there_and_back(change: &Change, row: &Row) -> Change {
    let mut bytes = Vec::new();
    encode_value(change, StoredLayout(9), &child(), &mut bytes).unwrap();
    assert_eq!(layout_of(&bytes), Ok(StoredLayout(9)));
    decode_value(&bytes, Arc::clone(row.layout())).unwrap()
}

#[test]
fn null_unchanged_and_absent_stay_apart() {
    let cells = [Cell::Text(b"1"), Cell::Null, Cell::Unchanged, Cell::Binary(b"\0")];
    let row = row(&[Some(0), Some(1), Some(2), None], &cells);
    let changes = [Change::Delete, Change::Insert, Change::Upsert, Change::Update];
    for change in changes.map(|change| change(row.clone())) {
        assert_eq!(there_and_back(&change, &row), change);
    }
}

#[test]
fn keys_sort_by_time_and_hold_what_the_source_sent() {
    let table = child();
    let of = |text: &'static [u8]| row(&[Some(1), Some(0)], &[Cell::Null, Cell::Text(text)]);
    let one = key(&of(b"1"), &table).unwrap();
    assert_ne!(one, key(&of(b"01"), &table).unwrap(), "sent differently");
    assert_eq!(decode_key(&one), Ok((TIME, StoredTable(5))));
    let mut later = Vec::new();
    let time = Hlc { nanos: 7, logical: 4 };
    encode_key(time, StoredTable(0), &of(b"0"), &table, &mut later).unwrap();
    assert!(one < later);
}

#[test]
fn a_row_without_its_key_is_refused() {
    let table = child();
    let missing = StagedError::Key(table.name.clone());
    for row in [row(&[Some(1)], &[Cell::Null]), row(&[Some(0)], &[Cell::Unchanged])] {
        assert_eq!(key(&row, &table), Err(missing.clone()));
    }
    let keyless = fixture::table("nokey", &[("x", "text")], 0);
    let of = |text: &'static [u8]| key(&row(&[Some(0)], &[Cell::Text(text)]), &keyless).unwrap();
    assert_ne!(of(b"a"), of(b"b"), "rows without a key are told apart by all of it");
}

#[test]
fn a_layout_is_found_by_names_in_another_catalog() {
    let layout = Layout { table: TableId(0), columns: vec![Some(2), None, Some(0)] };
    let names = LayoutNames::of(&layout, StoredTable(5), &child());
    assert_eq!(LayoutNames::decode(&names.encode()), Ok(names.clone()));
    let mut other =
        fixture::table("child", &[("new", "text"), ("note", "text"), ("id", "int8")], 1);
    let found = names.resolve(TableId(8), &other).unwrap();
    assert_eq!(found, Layout { table: TableId(8), columns: vec![Some(1), None, Some(2)] });
    other.columns[1].made = Made::Generated;
    assert_eq!(names.resolve(TableId(8), &other).unwrap().columns, [None, None, Some(2)]);
    let less = fixture::table("child", &[("id", "int8")], 1);
    let gone = StagedError::Column { table: less.name.clone(), column: "note".to_owned() };
    assert_eq!(names.resolve(TableId(0), &less), Err(gone));
}

#[test]
fn names_of_tables_come_back() {
    let name = TableName::new("My \"Schema\"", "été");
    assert_eq!(decode_table(&encode_table(&name)), Ok(name));
    let mut long = encode_table(&TableName::new("a", "b"));
    long.push(0);
    assert_eq!(decode_table(&long), Err(StagedError::Long(1)));
}

#[test]
fn what_is_no_change_of_one_row_is_refused() {
    let mut bytes = Vec::new();
    let refused = encode_value(&Change::Truncate, StoredLayout(0), &child(), &mut bytes);
    assert_eq!(refused, Err(StagedError::NoRow(child().name)));
    assert!(bytes.is_empty());
}

#[test]
fn other_versions_and_kinds_are_refused() {
    let layout = || Arc::new(Layout { table: TableId(0), columns: Vec::new() });
    let decode = |bytes: &[u8]| decode_value(bytes, layout());
    assert_eq!(decode(&[2, b'd', 0, 0, 0, 0]), Err(StagedError::Version(2)));
    assert_eq!(decode(&[1, b'x', 0, 0, 0, 0]), Err(StagedError::Kind(b'x')));
    assert_eq!(decode(&[1, b'd', 0]), Err(StagedError::Short));
    assert_eq!(layout_of(&[2, b'd', 0, 0, 0, 0]), Err(StagedError::Version(2)));
}

/// Reads the bytes as everything, and says how often that made sense.
fn read_as_everything(bytes: &[u8]) -> usize {
    let layout = Arc::new(Layout { table: TableId(0), columns: vec![Some(0), None] });
    [
        decode_key(bytes).is_ok(),
        layout_of(bytes).is_ok(),
        decode_value(bytes, layout).is_ok(),
        decode_table(bytes).is_ok(),
        LayoutNames::decode(bytes).is_ok(),
    ]
    .into_iter()
    .filter(|makes_sense| *makes_sense)
    .count()
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        prop_assert!(read_as_everything(&bytes) <= 5);
        // Most bytes are of another version, so these are not.
        if let Some(first) = bytes.first_mut() {
            *first = 1;
        }
        prop_assert!(read_as_everything(&bytes) <= 5);
    }
}
