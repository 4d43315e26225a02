//! TABLE_MAP: what the columns of a table are, sent before the rows of a statement.
//!
//! ```text
//! table id      6 bytes, or 4 if the event's post-header has 6
//! flags         2 bytes
//! schema, table length, name and a zero byte
//! columns       packed count, and a type code for each
//! metadata      packed length, and 0 to 2 bytes for each column, by its type
//! nullable      a bit for each column
//! the rest      optional: table_map_extra
//! ```
//!
//! (MySQL's source, `Table_map_event` in `libbinlogevents`.) What a value looks like follows from the
//! type code and the metadata; what it means follows from the optional part: its sign, its character
//! set, its labels.
use alloc::string::String;
use alloc::vec::Vec;

use super::cells_read::{FieldError, FieldFault, Fields, Input};
use super::table_map_extra as extra;
pub use crate::model::gtid::BinlogFlavor;

/// Type codes, as in `enum_field_types` of the servers.
pub(super) mod code {
    pub(in super::super) const DECIMAL: u8 = 0;
    pub(in super::super) const TINY: u8 = 1;
    pub(in super::super) const SHORT: u8 = 2;
    pub(in super::super) const LONG: u8 = 3;
    pub(in super::super) const FLOAT: u8 = 4;
    pub(in super::super) const DOUBLE: u8 = 5;
    pub(in super::super) const NULL: u8 = 6;
    pub(in super::super) const TIMESTAMP: u8 = 7;
    pub(in super::super) const LONGLONG: u8 = 8;
    pub(in super::super) const INT24: u8 = 9;
    pub(in super::super) const DATE: u8 = 10;
    pub(in super::super) const TIME: u8 = 11;
    pub(in super::super) const DATETIME: u8 = 12;
    pub(in super::super) const YEAR: u8 = 13;
    pub(in super::super) const NEWDATE: u8 = 14;
    pub(in super::super) const VARCHAR: u8 = 15;
    pub(in super::super) const BIT: u8 = 16;
    pub(in super::super) const TIMESTAMP2: u8 = 17;
    pub(in super::super) const DATETIME2: u8 = 18;
    pub(in super::super) const TIME2: u8 = 19;
    /// MariaDB's BLOB with the attribute COMPRESSED.
    pub(in super::super) const BLOB_COMPRESSED: u8 = 140;
    /// MariaDB's VARCHAR with the attribute COMPRESSED.
    pub(in super::super) const VARCHAR_COMPRESSED: u8 = 141;
    pub(in super::super) const VECTOR: u8 = 242;
    pub(in super::super) const JSON: u8 = 245;
    pub(in super::super) const NEWDECIMAL: u8 = 246;
    pub(in super::super) const ENUM: u8 = 247;
    pub(in super::super) const SET: u8 = 248;
    pub(in super::super) const TINY_BLOB: u8 = 249;
    pub(in super::super) const MEDIUM_BLOB: u8 = 250;
    pub(in super::super) const LONG_BLOB: u8 = 251;
    pub(in super::super) const BLOB: u8 = 252;
    pub(in super::super) const STRING: u8 = 254;
    pub(in super::super) const GEOMETRY: u8 = 255;
}

/// What one TABLE_MAP event says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableMap {
    /// The number by which row events refer to this map.
    pub table_id: u64,
    /// Flags of the event; none matters to us.
    pub flags: u16,
    /// The source's database.
    pub schema: String,
    /// The table.
    pub table: String,
    /// The columns, in the order of the table.
    pub columns: Vec<MapColumn>,
    /// The columns of the primary key, in its order. Empty if there is none, or if it was not sent.
    pub primary_key: Vec<KeyPart>,
}

/// One column.
///
/// What is `None` was not sent: by MySQL 5.7 and MariaDB with `binlog_row_metadata=NO_LOG` nothing is,
/// with `MINIMAL` only signs and character sets of text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MapColumn {
    /// The type code.
    pub code: u8,
    /// The metadata as sent; bytes that a type does not have are 0.
    pub meta: [u8; 2],
    /// Whether the column may be NULL.
    pub nullable: bool,
    /// Its name.
    pub name: Option<String>,
    /// Whether a number has no sign.
    pub unsigned: Option<bool>,
    /// The collation's number, which says the character set; for text, ENUM and SET.
    pub collation: Option<u32>,
    /// The labels of an ENUM or a SET, in the column's character set.
    pub labels: Option<Vec<Vec<u8>>>,
    /// Which shapes a geometry column takes.
    pub geometry: Option<u32>,
    /// Dimensions of a VECTOR.
    pub dimensions: Option<u32>,
    /// Whether `SELECT *` shows the column.
    pub visible: Option<bool>,
}

/// A column of the primary key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyPart {
    /// Which column of the table, from 0.
    pub column: u16,
    /// How many characters of it count; 0 for all.
    pub prefix: u32,
}

impl MapColumn {
    /// The type code behind STRING, which is sent for CHAR, BINARY, ENUM and SET.
    #[must_use]
    pub(super) const fn real_code(&self) -> u8 {
        let [first, _] = self.meta;
        if self.code != code::STRING || first == 0 {
            return self.code;
        }
        // The two bits are those of a long CHAR's length, upside down; see `string_len`.
        first | 0x30
    }

    /// The greatest length of a CHAR or BINARY in bytes, or how many bytes an ENUM or SET has.
    #[must_use]
    pub(super) fn string_len(&self) -> u16 {
        let [first, second] = self.meta;
        let high = u16::from(first & 0x30) ^ 0x30;
        (high << 4) | u16::from(second)
    }
}

impl TableMap {
    /// Reads the body of a TABLE_MAP event, without header and checksum. `post_header_len` is what the
    /// FORMAT_DESCRIPTION event says of this type.
    ///
    /// A column of a type that nobody here knows is kept with its code: of that and of the columns
    /// behind it, the metadata cannot be told. Only a plan of this table will refuse it, since the
    /// log has every table of the server.
    ///
    /// # Errors
    ///
    /// The event is cut off, or a name is not UTF-8.
    pub fn parse(
        body: &[u8],
        post_header_len: u8,
        flavor: BinlogFlavor,
    ) -> Result<Self, FieldError> {
        let mut fields = Fields::new("TABLE_MAP", body);
        let table_id = table_id(&mut fields, post_header_len)?;
        let flags = fields.read("flags", Input::u16)?;
        let schema = terminated_name(&mut fields, "schema")?;
        let table = terminated_name(&mut fields, "table")?;
        let count = fields.read("column count", Input::packed_len)?;
        let codes = fields.read("column types", |input| input.bytes(count))?;
        let meta = fields.read("metadata", Input::packed_bytes)?;
        let mut columns: Vec<MapColumn> =
            codes.iter().map(|code| MapColumn { code: *code, ..MapColumn::default() }).collect();
        read_meta(fields.within(meta), &mut columns)?;
        let nullable = fields.read("nullable columns", |input| input.bytes(bitmap_len(count)))?;
        for (index, column) in columns.iter_mut().enumerate() {
            column.nullable = bit(nullable, index);
        }
        let mut map = Self { table_id, flags, schema, table, columns, primary_key: Vec::new() };
        extra::read(&mut fields, &mut map, flavor)?;
        Ok(map)
    }
}

/// Reads the number of a table, as maps and row events have it.
pub(super) fn table_id(fields: &mut Fields<'_>, post_header_len: u8) -> Result<u64, FieldError> {
    let len = if post_header_len == 6 { 4 } else { 6 };
    fields.read("table id", |input| input.number(len))
}

/// Bytes of a bitmap.
pub(super) const fn bitmap_len(bits: usize) -> usize {
    bits.div_ceil(8)
}

/// One bit of a bitmap whose lowest bit is the first one.
#[inline]
pub(super) fn bit(bitmap: &[u8], index: usize) -> bool {
    bitmap.get(index >> 3).is_some_and(|byte| (byte >> (index & 7)) & 1 == 1)
}

fn terminated_name(fields: &mut Fields<'_>, field: &'static str) -> Result<String, FieldError> {
    let name = fields.name(field)?;
    let at = *fields;
    match fields.read(field, Input::u8)? {
        0 => Ok(name),
        found => Err(at.error(field, FieldFault::Value { found: found.into() })),
    }
}

/// How many bytes of metadata a type has, if it is known.
pub(super) const fn meta_len(code: u8) -> Option<usize> {
    match code {
        code::FLOAT
        | code::DOUBLE
        | code::TIMESTAMP2
        | code::DATETIME2
        | code::TIME2
        | code::TINY_BLOB
        | code::MEDIUM_BLOB
        | code::LONG_BLOB
        | code::BLOB
        | code::BLOB_COMPRESSED
        | code::JSON
        | code::GEOMETRY
        | code::VECTOR => Some(1),
        code::VARCHAR
        | code::VARCHAR_COMPRESSED
        | code::BIT
        | code::NEWDECIMAL
        | code::ENUM
        | code::SET
        | code::STRING => Some(2),
        code::DECIMAL
        | code::TINY
        | code::SHORT
        | code::LONG
        | code::NULL
        | code::TIMESTAMP
        | code::LONGLONG
        | code::INT24
        | code::DATE
        | code::TIME
        | code::DATETIME
        | code::YEAR
        | code::NEWDATE => Some(0),
        _ => None,
    }
}

fn read_meta(mut fields: Fields<'_>, columns: &mut [MapColumn]) -> Result<(), FieldError> {
    for column in columns {
        column.meta = match meta_len(column.code) {
            Some(0) => [0, 0],
            Some(1) => [fields.read("metadata", Input::u8)?, 0],
            Some(_) => fields.read("metadata", Input::array)?,
            None => return Ok(()),
        };
    }
    Ok(())
}
