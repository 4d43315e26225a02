//! The bytes of staged rows, for stores that keep bytes.
//!
//! ```text
//! key    time: nanos u64, logical u32 | table u32 | the cells of the key, as the source sent them
//! value  version 1 | d, i, s or u | layout u32 | the cells of the row
//! ```
//!
//! Numbers are big-endian, so keys sort by time. Cells are those of [`Row`]: NULL, unchanged and a value
//! differ in their kind, and a column that is absent is not in the layout.
//!
//! Numbers of tables and columns belong to one run's catalog. What is stored has numbers of its own, and the
//! store keeps the names behind them: a table's once ([`encode_table`]), a layout's once
//! ([`LayoutNames`]). Reading maps names to the catalog of that time.
use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use bytes::Bytes;

use crate::model::catalog::{Made, Table};
use crate::model::ident::TableName;
use crate::model::mutation::{Change, TableId};
use crate::model::row::{Cell, Layout, Row, RowBuilder, RowError};
use crate::model::time::Hlc;

/// A table's number in a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StoredTable(pub u32);

/// A layout's number in a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StoredLayout(pub u32);

/// Bytes that are not what this module writes, or a change that cannot be staged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StagedError {
    /// The bytes end too early.
    #[error("the bytes end too early")]
    Short,
    /// Bytes are left at the end.
    #[error("{0} bytes are left at the end")]
    Long(usize),
    /// Another version of the format.
    #[error("format version {0} is not known")]
    Version(u8),
    /// A kind of change that is not known.
    #[error("change of unknown kind {0}")]
    Kind(u8),
    /// A name is not UTF-8.
    #[error("a name is not UTF-8")]
    Name,
    /// The cells are broken.
    #[error(transparent)]
    Row(#[from] RowError),
    /// The target has no such column any more.
    #[error("table {table} has no column \"{column}\"")]
    Column {
        /// The table.
        table: TableName,
        /// The column that staged rows have.
        column: String,
    },
    /// The source did not send the key of a row.
    #[error("a row of table {0} came without its key")]
    Key(TableName),
    /// Only changes of one row can be staged.
    #[error("only changes of single rows can be staged, not a change of table {0}")]
    NoRow(TableName),
}

const VERSION: u8 = 1;

/// The row image that a change of one row carries.
///
/// # Errors
///
/// The change moves a row or truncates its table.
pub fn image<'a>(change: &'a Change, table: &Table) -> Result<&'a Row, StagedError> {
    match change {
        Change::Delete(row) | Change::Insert(row) | Change::Upsert(row) | Change::Update(row) => {
            Ok(row)
        }
        Change::Move { .. } | Change::Truncate => Err(StagedError::NoRow(table.name.clone())),
    }
}

/// Appends the key of a staged row. Equal keys are one row at one time; rows whose equality we cannot
/// tell have different keys if the source sent different ones.
///
/// # Errors
///
/// The row does not hold its key.
pub fn encode_key(
    time: Hlc,
    number: StoredTable,
    row: &Row,
    table: &Table,
    bytes: &mut Vec<u8>,
) -> Result<(), StagedError> {
    bytes.extend_from_slice(&time.nanos.to_be_bytes());
    bytes.extend_from_slice(&time.logical.to_be_bytes());
    bytes.extend_from_slice(&number.0.to_be_bytes());
    if table.key.is_empty() {
        // Nothing but the whole row tells it from others.
        bytes.extend_from_slice(row.as_bytes());
        return Ok(());
    }
    let mut cells = RowBuilder::new();
    for column in &table.key {
        let cell = row.columns().find(|(index, _)| index == column);
        match cell {
            Some((_, cell @ (Cell::Null | Cell::Text(_) | Cell::Binary(_)))) => cells.push(cell),
            Some((_, Cell::Unchanged)) | None => {
                return Err(StagedError::Key(table.name.clone()));
            }
        }
    }
    bytes.extend_from_slice(&cells.into_bytes());
    Ok(())
}

/// The time and the table of a key.
///
/// # Errors
///
/// The bytes end too early.
pub fn decode_key(bytes: &[u8]) -> Result<(Hlc, StoredTable), StagedError> {
    let mut reader = Reader(bytes);
    let nanos = u64::from_be_bytes(reader.array()?);
    let logical = reader.u32()?;
    Ok((Hlc { nanos, logical }, StoredTable(reader.u32()?)))
}

/// Appends the value of a staged row.
///
/// # Errors
///
/// See [`image`].
pub fn encode_value(
    change: &Change,
    layout: StoredLayout,
    table: &Table,
    bytes: &mut Vec<u8>,
) -> Result<(), StagedError> {
    let row = image(change, table)?;
    let kind = match change {
        Change::Delete(_) => b'd',
        Change::Insert(_) => b'i',
        Change::Upsert(_) => b's',
        Change::Update(_) | Change::Move { .. } | Change::Truncate => b'u',
    };
    bytes.extend_from_slice(&[VERSION, kind]);
    bytes.extend_from_slice(&layout.0.to_be_bytes());
    bytes.extend_from_slice(row.as_bytes());
    Ok(())
}

/// The layout of a value.
///
/// # Errors
///
/// The bytes are no value.
pub fn layout_of(value: &[u8]) -> Result<StoredLayout, StagedError> {
    let mut reader = Reader(value);
    let [version, _] = reader.array()?;
    if version != VERSION {
        return Err(StagedError::Version(version));
    }
    Ok(StoredLayout(reader.u32()?))
}

/// The change that a value holds. `layout` is what the names behind [`layout_of`] resolve to.
///
/// # Errors
///
/// The bytes are no value of that layout.
pub fn decode_value(value: &[u8], layout: Arc<Layout>) -> Result<Change, StagedError> {
    let mut reader = Reader(value);
    let [version, kind] = reader.array()?;
    if version != VERSION {
        return Err(StagedError::Version(version));
    }
    reader.u32()?;
    let row = Row::new(layout, Bytes::copy_from_slice(reader.0))?;
    match kind {
        b'd' => Ok(Change::Delete(row)),
        b'i' => Ok(Change::Insert(row)),
        b's' => Ok(Change::Upsert(row)),
        b'u' => Ok(Change::Update(row)),
        kind => Err(StagedError::Kind(kind)),
    }
}

/// The bytes of a table's name.
#[must_use]
pub fn encode_table(name: &TableName) -> Vec<u8> {
    let mut bytes = alloc::vec![VERSION];
    push_name(&name.schema, &mut bytes);
    push_name(&name.table, &mut bytes);
    bytes
}

/// Reads what [`encode_table`] wrote.
///
/// # Errors
///
/// The bytes are something else.
pub fn decode_table(bytes: &[u8]) -> Result<TableName, StagedError> {
    let mut reader = Reader::of_version(bytes)?;
    let name = TableName { schema: reader.name()?, table: reader.name()? };
    reader.end()?;
    Ok(name)
}

/// A layout by names: what it means in every run.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LayoutNames {
    /// The table.
    pub table: StoredTable,
    /// For each cell its target column, or `None` if the cell is not applied.
    pub columns: Vec<Option<String>>,
}

impl LayoutNames {
    /// The names of a layout's columns.
    ///
    /// # Panics
    ///
    /// The layout is of another table.
    #[must_use]
    pub fn of(layout: &Layout, number: StoredTable, table: &Table) -> Self {
        let name = |column: &u16| table.column(*column).name.clone();
        let columns = layout.columns.iter().map(|column| column.as_ref().map(name)).collect();
        Self { table: number, columns }
    }

    /// The layout in a catalog in which the table is `id`. A column that the target makes itself is not
    /// applied.
    ///
    /// # Errors
    ///
    /// The table has no column of some name.
    pub fn resolve(&self, id: TableId, table: &Table) -> Result<Layout, StagedError> {
        let index = |name: &String| {
            let missing =
                || StagedError::Column { table: table.name.clone(), column: name.to_owned() };
            let index = table.find_column(name).ok_or_else(missing)?;
            Ok(match table.column(index).made {
                Made::Generated => None,
                Made::Written | Made::IdentityAlways => Some(index),
            })
        };
        let column = |column: &Option<String>| match column {
            Some(name) => index(name),
            None => Ok(None),
        };
        let columns = self.columns.iter().map(column).collect::<Result<Vec<_>, StagedError>>()?;
        Ok(Layout { table: id, columns })
    }

    /// The bytes of the layout.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = alloc::vec![VERSION];
        bytes.extend_from_slice(&self.table.0.to_be_bytes());
        for column in &self.columns {
            match column {
                None => bytes.push(0),
                Some(name) => {
                    bytes.push(1);
                    push_name(name, &mut bytes);
                }
            }
        }
        bytes
    }

    /// Reads what [`encode`](Self::encode) wrote.
    ///
    /// # Errors
    ///
    /// The bytes are something else.
    pub fn decode(bytes: &[u8]) -> Result<Self, StagedError> {
        let mut reader = Reader::of_version(bytes)?;
        let table = StoredTable(reader.u32()?);
        let mut columns = Vec::new();
        while !reader.0.is_empty() {
            columns.push(match reader.array()? {
                [0] => None,
                [1] => Some(reader.name()?),
                [kind] => return Err(StagedError::Kind(kind)),
            });
        }
        Ok(Self { table, columns })
    }
}

/// Names are shorter than 4 GiB; if one were not, it would not be read back as another.
fn push_name(name: &str, bytes: &mut Vec<u8>) {
    let len = u32::try_from(name.len()).unwrap_or(u32::MAX);
    bytes.extend_from_slice(&len.to_be_bytes());
    bytes.extend_from_slice(name.as_bytes());
}

/// What is left to read.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn of_version(bytes: &'a [u8]) -> Result<Self, StagedError> {
        let mut reader = Self(bytes);
        match reader.array()? {
            [VERSION] => Ok(reader),
            [version] => Err(StagedError::Version(version)),
        }
    }

    fn array<const LEN: usize>(&mut self) -> Result<[u8; LEN], StagedError> {
        let (array, rest) = self.0.split_first_chunk::<LEN>().ok_or(StagedError::Short)?;
        self.0 = rest;
        Ok(*array)
    }

    fn u32(&mut self) -> Result<u32, StagedError> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    fn name(&mut self) -> Result<String, StagedError> {
        let len = usize::try_from(self.u32()?).map_err(|_| StagedError::Short)?;
        let (name, rest) = self.0.split_at_checked(len).ok_or(StagedError::Short)?;
        self.0 = rest;
        core::str::from_utf8(name).map(ToOwned::to_owned).map_err(|_| StagedError::Name)
    }

    fn end(&self) -> Result<(), StagedError> {
        if self.0.is_empty() { Ok(()) } else { Err(StagedError::Long(self.0.len())) }
    }
}

#[cfg(test)]
mod tests;
