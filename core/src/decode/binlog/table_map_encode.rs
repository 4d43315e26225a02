//! Writes TABLE_MAP events, for pretend servers, tests and fuzzing; replication itself only reads them.
//!
//! The reverse of [`TableMap::parse`]: reading what was written gives the same map again.
use alloc::vec::Vec;

use bytes::BufMut;

use super::encode_number::put_packed;
use super::table_map::{BinlogFlavor, MapColumn, TableMap, bitmap_len, meta_len};
use super::table_map_extra::{Sort, field};

/// Writes the body of a TABLE_MAP event, without header and checksum.
///
/// Of the optional fields those are written of which some column of the sort has a value; character
/// sets always in the form that names each column's.
///
/// # Panics
///
/// The number of the table is larger than the event has room for.
#[must_use]
pub fn encode_table_map(map: &TableMap, post_header_len: u8, flavor: BinlogFlavor) -> Vec<u8> {
    let mut out = Vec::new();
    put_table_id(&mut out, map.table_id, post_header_len);
    out.put_u16_le(map.flags);
    for name in [&map.schema, &map.table] {
        put_packed_bytes(&mut out, name.as_bytes());
        out.put_u8(0);
    }
    put_len(&mut out, map.columns.len());
    out.extend(map.columns.iter().map(|column| column.code));
    let mut meta = Vec::new();
    for column in &map.columns {
        let len = meta_len(column.code).unwrap_or_default();
        meta.extend(column.meta.iter().take(len));
    }
    put_packed_bytes(&mut out, &meta);
    put_bitmap(&mut out, map.columns.iter().map(|column| column.nullable));
    put_extra(&mut out, map, flavor);
    out
}

/// Writes the number of a table.
pub(super) fn put_table_id(out: &mut Vec<u8>, table_id: u64, post_header_len: u8) {
    let len = if post_header_len == 6 { 4 } else { 6 };
    let bytes = table_id.to_le_bytes();
    let (used, unused) = bytes.split_at(len);
    assert!(unused.iter().all(|byte| *byte == 0), "table id {table_id} is too large");
    out.put_slice(used);
}

pub(super) fn put_len(out: &mut Vec<u8>, len: usize) {
    put_packed(out, u64::try_from(len).unwrap_or(u64::MAX));
}

pub(super) fn put_packed_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_len(out, bytes.len());
    out.put_slice(bytes);
}

/// Writes bits, the first one as the lowest.
pub(super) fn put_bitmap(out: &mut Vec<u8>, bits: impl Iterator<Item = bool>) {
    let bits: Vec<bool> = bits.collect();
    let bytes = bits.chunks(8).map(|bits| {
        (0..8).zip(bits).fold(0_u8, |byte, (shift, bit)| byte | (u8::from(*bit) << shift))
    });
    debug_assert_eq!(bytes.len(), bitmap_len(bits.len()));
    out.extend(bytes);
}

fn put_extra(out: &mut Vec<u8>, map: &TableMap, flavor: BinlogFlavor) {
    let put = Put { map, flavor };
    put.bits(out, field::SIGNEDNESS, Sort::Number, |column| column.unsigned);
    put.numbers(out, field::COLUMN_CHARSET, Sort::Text, |column| column.collation);
    put.each(out, field::COLUMN_NAME, Sort::All, |value, column| {
        column.name.as_ref().map(|name| put_packed_bytes(value, name.as_bytes()))
    });
    for (kind, sort) in [(field::SET_STR_VALUE, Sort::Set), (field::ENUM_STR_VALUE, Sort::Enum)] {
        put.each(out, kind, sort, |value, column| {
            let labels = column.labels.as_ref()?;
            put_len(value, labels.len());
            labels.iter().for_each(|label| put_packed_bytes(value, label));
            Some(())
        });
    }
    put.numbers(out, field::GEOMETRY_TYPE, Sort::Shape, |column| column.geometry);
    put_key(out, map);
    put.numbers(out, field::LABEL_COLUMN_CHARSET, Sort::Label, |column| column.collation);
    put.bits(out, field::COLUMN_VISIBILITY, Sort::All, |column| column.visible);
    put.numbers(out, field::VECTOR_DIMENSIONALITY, Sort::Vector, |column| column.dimensions);
}

fn put_key(out: &mut Vec<u8>, map: &TableMap) {
    let prefixed = map.primary_key.iter().any(|part| part.prefix != 0);
    let mut value = Vec::new();
    for part in &map.primary_key {
        put_packed(&mut value, part.column.into());
        if prefixed {
            put_packed(&mut value, part.prefix.into());
        }
    }
    if !value.is_empty() {
        out.put_u8(if prefixed {
            field::PRIMARY_KEY_WITH_PREFIX
        } else {
            field::SIMPLE_PRIMARY_KEY
        });
        put_packed_bytes(out, &value);
    }
}

struct Put<'a> {
    map: &'a TableMap,
    flavor: BinlogFlavor,
}

impl Put<'_> {
    /// Writes a field with an entry for each column of a sort, if they all have one.
    fn each(
        &self,
        out: &mut Vec<u8>,
        kind: u8,
        sort: Sort,
        mut entry: impl FnMut(&mut Vec<u8>, &MapColumn) -> Option<()>,
    ) {
        let mut value = Vec::new();
        let mut columns = self.map.columns.iter().filter(|column| sort.has(column, self.flavor));
        let whole = columns.by_ref().all(|column| entry(&mut value, column).is_some());
        if whole && !value.is_empty() {
            out.put_u8(kind);
            put_packed_bytes(out, &value);
        }
    }

    fn numbers(
        &self,
        out: &mut Vec<u8>,
        kind: u8,
        sort: Sort,
        number: impl Fn(&MapColumn) -> Option<u32>,
    ) {
        self.each(out, kind, sort, |value, column| {
            number(column).map(|number| put_packed(value, number.into()))
        });
    }

    /// The highest bit of a byte is the first one.
    fn bits(
        &self,
        out: &mut Vec<u8>,
        kind: u8,
        sort: Sort,
        bit: impl Fn(&MapColumn) -> Option<bool>,
    ) {
        let columns = self.map.columns.iter().filter(|column| sort.has(column, self.flavor));
        let bits: Option<Vec<bool>> = columns.map(bit).collect();
        if let Some(bits) = bits.filter(|bits| !bits.is_empty()) {
            let mut value = Vec::new();
            put_bitmap(&mut value, bits.into_iter());
            out.put_u8(kind);
            let value: Vec<u8> = value.into_iter().map(u8::reverse_bits).collect();
            put_packed_bytes(out, &value);
        }
    }
}
