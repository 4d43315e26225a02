//! The optional part of TABLE_MAP: fields of a type byte, a packed length and as many bytes.
//!
//! Lists have an entry for each column of a sort, in the order of the table: for each number, for each
//! column of text, and so on. Unknown fields are stepped over.
use alloc::borrow::ToOwned;
use alloc::vec::Vec;

use super::cells_read::{FieldError, FieldFault, Fields, Input};
use super::table_map::{BinlogFlavor, KeyPart, MapColumn, TableMap, code};

/// Types of fields, `Optional_metadata_field_type` of the servers.
pub(super) mod field {
    pub(in super::super) const SIGNEDNESS: u8 = 1;
    pub(in super::super) const DEFAULT_CHARSET: u8 = 2;
    pub(in super::super) const COLUMN_CHARSET: u8 = 3;
    pub(in super::super) const COLUMN_NAME: u8 = 4;
    pub(in super::super) const SET_STR_VALUE: u8 = 5;
    pub(in super::super) const ENUM_STR_VALUE: u8 = 6;
    pub(in super::super) const GEOMETRY_TYPE: u8 = 7;
    pub(in super::super) const SIMPLE_PRIMARY_KEY: u8 = 8;
    pub(in super::super) const PRIMARY_KEY_WITH_PREFIX: u8 = 9;
    pub(in super::super) const LABEL_DEFAULT_CHARSET: u8 = 10;
    pub(in super::super) const LABEL_COLUMN_CHARSET: u8 = 11;
    pub(in super::super) const COLUMN_VISIBILITY: u8 = 12;
    pub(in super::super) const VECTOR_DIMENSIONALITY: u8 = 13;
}

/// Columns that fields have entries for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sort {
    All,
    Number,
    Text,
    Enum,
    Set,
    /// ENUM and SET.
    Label,
    Shape,
    Vector,
}

impl Sort {
    pub(super) const fn has(self, column: &MapColumn, flavor: BinlogFlavor) -> bool {
        let real = column.real_code();
        match self {
            Self::All => true,
            Self::Number => matches!(
                real,
                code::TINY
                    | code::SHORT
                    | code::INT24
                    | code::LONG
                    | code::LONGLONG
                    | code::NEWDECIMAL
                    | code::FLOAT
                    | code::DOUBLE
                    // Seen on MySQL 9.7 and MariaDB 11.8.
                    | code::YEAR
            ),
            Self::Text => match real {
                code::STRING | code::VARCHAR | code::BLOB => true,
                // Seen on 11.8.
                code::GEOMETRY | code::VARCHAR_COMPRESSED | code::BLOB_COMPRESSED => {
                    matches!(flavor, BinlogFlavor::MariaDb)
                }
                _ => false,
            },
            Self::Enum => real == code::ENUM,
            Self::Set => real == code::SET,
            Self::Label => real == code::ENUM || real == code::SET,
            Self::Shape => real == code::GEOMETRY,
            Self::Vector => real == code::VECTOR,
        }
    }
}

/// Reads all fields that are left.
pub(super) fn read(
    fields: &mut Fields<'_>,
    map: &mut TableMap,
    flavor: BinlogFlavor,
) -> Result<(), FieldError> {
    while !fields.is_empty() {
        let kind = fields.read("metadata field", Input::u8)?;
        let value = fields.read("metadata field", Input::packed_bytes)?;
        let part = Part { value: fields.within(value), columns: &mut map.columns, flavor };
        match kind {
            field::SIGNEDNESS => part.bits("signedness", Sort::Number, |column, bit| {
                column.unsigned = Some(bit);
            })?,
            field::DEFAULT_CHARSET => part.default_charset("default charset", Sort::Text)?,
            field::COLUMN_CHARSET => part.charsets("column charset", Sort::Text)?,
            field::COLUMN_NAME => part.names()?,
            field::SET_STR_VALUE => part.labels("set labels", Sort::Set)?,
            field::ENUM_STR_VALUE => part.labels("enum labels", Sort::Enum)?,
            field::GEOMETRY_TYPE => {
                part.numbers("geometry type", Sort::Shape, |column, number| {
                    column.geometry = Some(number);
                })?;
            }
            field::SIMPLE_PRIMARY_KEY => map.primary_key = part.key(false)?,
            field::PRIMARY_KEY_WITH_PREFIX => map.primary_key = part.key(true)?,
            field::LABEL_DEFAULT_CHARSET => part.default_charset("label charset", Sort::Label)?,
            field::LABEL_COLUMN_CHARSET => part.charsets("label charset", Sort::Label)?,
            field::COLUMN_VISIBILITY => part.bits("visibility", Sort::All, |column, bit| {
                column.visible = Some(bit);
            })?,
            field::VECTOR_DIMENSIONALITY => {
                part.numbers("vector dimensions", Sort::Vector, |column, number| {
                    column.dimensions = Some(number);
                })?;
            }
            _ => (),
        }
    }
    Ok(())
}

/// One field, and the columns it is about.
struct Part<'a, 'm> {
    value: Fields<'a>,
    columns: &'m mut [MapColumn],
    flavor: BinlogFlavor,
}

impl Part<'_, '_> {
    fn of(columns: &mut [MapColumn], sort: Sort, flavor: BinlogFlavor) -> Vec<&mut MapColumn> {
        columns.iter_mut().filter(|column| sort.has(column, flavor)).collect()
    }

    /// A bit for each column, the highest one of a byte first.
    fn bits(
        mut self,
        name: &'static str,
        sort: Sort,
        set: impl Fn(&mut MapColumn, bool),
    ) -> Result<(), FieldError> {
        for some in Self::of(self.columns, sort, self.flavor).chunks_mut(8) {
            let byte = self.value.read(name, Input::u8)?;
            for (shift, column) in (0..8).rev().zip(some) {
                set(column, (byte >> shift) & 1 == 1);
            }
        }
        Ok(())
    }

    /// A packed number for each column.
    fn numbers(
        mut self,
        name: &'static str,
        sort: Sort,
        set: impl Fn(&mut MapColumn, u32),
    ) -> Result<(), FieldError> {
        for column in Self::of(self.columns, sort, self.flavor) {
            set(column, number(&mut self.value, name)?);
        }
        Ok(())
    }

    fn charsets(self, name: &'static str, sort: Sort) -> Result<(), FieldError> {
        self.numbers(name, sort, |column, number| column.collation = Some(number))
    }

    /// A number for all columns, then pairs of a column among them and its own number.
    fn default_charset(mut self, name: &'static str, sort: Sort) -> Result<(), FieldError> {
        let default = number(&mut self.value, name)?;
        let mut columns = Self::of(self.columns, sort, self.flavor);
        for column in &mut columns {
            column.collation = Some(default);
        }
        while !self.value.is_empty() {
            let at = self.value;
            let index = self.value.read(name, Input::packed)?;
            let collation = number(&mut self.value, name)?;
            let column = usize::try_from(index).ok().and_then(|index| columns.get_mut(index));
            let Some(column) = column else {
                return Err(at.error(name, FieldFault::Value { found: index }));
            };
            column.collation = Some(collation);
        }
        Ok(())
    }

    fn names(mut self) -> Result<(), FieldError> {
        for column in self.columns {
            column.name = Some(self.value.name("column name")?);
        }
        Ok(())
    }

    fn labels(mut self, name: &'static str, sort: Sort) -> Result<(), FieldError> {
        for column in Self::of(self.columns, sort, self.flavor) {
            let count = self.value.read(name, Input::packed)?;
            // No room for them ahead: the count may be a lie.
            let mut labels = Vec::new();
            for _ in 0..count {
                labels.push(self.value.read(name, Input::packed_bytes)?.to_owned());
            }
            column.labels = Some(labels);
        }
        Ok(())
    }

    /// Columns by their index, perhaps each with how much of it counts.
    fn key(mut self, prefixed: bool) -> Result<Vec<KeyPart>, FieldError> {
        const NAME: &str = "primary key";
        let mut key = Vec::new();
        while !self.value.is_empty() {
            let at = self.value;
            let found = self.value.read(NAME, Input::packed)?;
            let prefix = if prefixed { number(&mut self.value, NAME)? } else { 0 };
            let column = u16::try_from(found).ok();
            let known = column.filter(|column| usize::from(*column) < self.columns.len());
            let Some(column) = known else {
                return Err(at.error(NAME, FieldFault::Value { found }));
            };
            key.push(KeyPart { column, prefix });
        }
        Ok(key)
    }
}

fn number(fields: &mut Fields<'_>, name: &'static str) -> Result<u32, FieldError> {
    let at = *fields;
    let found = fields.read(name, Input::packed)?;
    u32::try_from(found).map_err(|_| at.error(name, FieldFault::Value { found }))
}
