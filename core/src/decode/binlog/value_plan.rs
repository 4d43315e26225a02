//! TABLE_MAP → how to read the rows of its table. Made once for each map, used for each row.
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::charset::Charset;
use super::charset_collations::charset;
use super::table_map::{BinlogFlavor, MapColumn, TableMap, code};
use super::value::{Kind, Labels, Slow};
use super::value_error::{ColumnFault, RowsError};
use super::value_known::{KnownColumn, Special};
use super::value_number::Decimal;
use super::value_time::{Fraction, NoDates};

/// How to read the rows of one table.
#[derive(Clone, Debug)]
pub struct RowPlan {
    pub(super) table_id: u64,
    pub(super) table: String,
    pub(super) columns: Vec<Planned>,
    pub(super) no_dates: NoDates,
}

/// How to read the values of one column.
#[derive(Clone, Debug)]
pub(super) struct Planned {
    pub(super) name: String,
    pub(super) kind: Kind,
}

impl RowPlan {
    /// Makes a plan.
    ///
    /// `known` is what the source's catalog says of the columns, one for each, or empty. It fills in what
    /// the map does not say; the map itself is of the time of the rows and goes first. Only the types
    /// that MariaDB sends as BINARY and VARBINARY, and which no map shows, come from `known` alone.
    ///
    /// # Errors
    ///
    /// The number of columns differs, or the map does not say enough of one.
    pub fn new(
        map: &TableMap,
        flavor: BinlogFlavor,
        known: &[KnownColumn],
        no_dates: NoDates,
    ) -> Result<Self, RowsError> {
        let table = format!("{}.{}", map.schema, map.table);
        if !known.is_empty() && known.len() != map.columns.len() {
            let (expected, found) = (map.columns.len(), known.len());
            return Err(RowsError::Columns { table, expected, found });
        }
        let mut columns = Vec::with_capacity(map.columns.len());
        for (index, column) in map.columns.iter().enumerate() {
            let known = known.get(index);
            let name = column.name.clone().or_else(|| known.map(|known| known.name.clone()));
            let name = name.unwrap_or_else(|| format!("#{}", index.saturating_add(1)));
            let source = Source { column, known, flavor };
            match source.kind() {
                Ok(kind) => columns.push(Planned { name, kind }),
                Err(fault) => return Err(RowsError::Column { table, column: name, fault }),
            }
        }
        Ok(Self { table_id: map.table_id, table, columns, no_dates })
    }

    /// The names of the columns. One that neither the map nor the catalog names is `#` and its number.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.columns.iter().map(|column| column.name.as_str())
    }

    /// How many columns the table has.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.columns.len()
    }

    /// Whether the table has no columns, which no table has.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.columns.is_empty()
    }
}

/// All that is known of a column.
struct Source<'a> {
    column: &'a MapColumn,
    known: Option<&'a KnownColumn>,
    flavor: BinlogFlavor,
}

impl Source<'_> {
    /// The kinds that are read first.
    fn kind(&self) -> Result<Kind, ColumnFault> {
        let code = self.column.real_code();
        let [first, _] = self.column.meta;
        let impossible = ColumnFault::Metadata(code);
        Ok(match code {
            code::TINY => self.signed(Kind::Int8, Kind::Uint8)?,
            code::SHORT => self.signed(Kind::Int16, Kind::Uint16)?,
            code::INT24 => self.signed(Kind::Int24, Kind::Uint24)?,
            code::LONG => self.signed(Kind::Int32, Kind::Uint32)?,
            code::LONGLONG => self.signed(Kind::Int64, Kind::Uint64)?,
            code::YEAR => Kind::Year,
            code::DATE | code::NEWDATE => Kind::Date,
            code::DATETIME2 => Kind::DateTime(Fraction::new(first).ok_or(impossible)?),
            code::TIMESTAMP2 => Kind::Timestamp(Fraction::new(first).ok_or(impossible)?),
            code::STRING => self.fixed(self.column.string_len())?,
            code::VARCHAR => self.string(prefix(u16::from_le_bytes(self.column.meta)))?,
            code::BLOB | code::TINY_BLOB | code::MEDIUM_BLOB | code::LONG_BLOB => {
                self.string(blob_prefix(first).ok_or(impossible)?)?
            }
            _ => Kind::Slow(self.slow()?),
        })
    }

    fn slow(&self) -> Result<Slow, ColumnFault> {
        let code = self.column.real_code();
        let [first, second] = self.column.meta;
        let impossible = ColumnFault::Metadata(code);
        Ok(match code {
            code::FLOAT => Slow::Float,
            code::DOUBLE => Slow::Double,
            code::NEWDECIMAL => Slow::Decimal(Decimal::new(first, second).ok_or(impossible)?),
            code::BIT => Slow::Bit(bits(first, second).ok_or(impossible)?),
            code::TIME => Slow::OldTime,
            code::DATETIME => Slow::OldDateTime,
            code::TIMESTAMP => Slow::OldTimestamp,
            code::TIME2 => Slow::Time(Fraction::new(first).ok_or(impossible)?),
            code::ENUM if matches!(second, 1 | 2) => Slow::Enum(second, self.labels()?),
            code::SET if matches!(second, 1..=4 | 8) => Slow::Set(second, self.labels()?),
            code::VARCHAR_COMPRESSED => {
                Slow::Compressed(prefix(u16::from_le_bytes(self.column.meta)), self.charset()?)
            }
            code::BLOB_COMPRESSED => {
                Slow::Compressed(blob_prefix(first).ok_or(impossible)?, self.charset()?)
            }
            code::JSON => Slow::Json(blob_prefix(first).ok_or(impossible)?),
            code::GEOMETRY => Slow::Shape(blob_prefix(first).ok_or(impossible)?),
            code::VECTOR => Slow::Vector(blob_prefix(first).ok_or(impossible)?),
            code::NULL => Slow::Null,
            code::ENUM | code::SET => return Err(impossible),
            unknown => return Err(ColumnFault::Type(unknown)),
        })
    }

    fn signed(&self, signed: Kind, unsigned: Kind) -> Result<Kind, ColumnFault> {
        let known = self.known.map(|known| known.unsigned);
        match self.column.unsigned.or(known).ok_or(ColumnFault::NoSign)? {
            true => Ok(unsigned),
            false => Ok(signed),
        }
    }

    fn charset(&self) -> Result<Charset, ColumnFault> {
        if let Some(collation) = self.column.collation {
            return charset(collation, self.flavor).ok_or(ColumnFault::Collation(collation));
        }
        let known = self.known.ok_or(ColumnFault::NoCharset)?;
        Charset::of_name(&known.charset).ok_or(ColumnFault::Charset)
    }

    /// VARCHAR, TEXT and their bytes.
    fn string(&self, prefix: u8) -> Result<Kind, ColumnFault> {
        let special = self.known.and_then(|known| known.special);
        let charset = self.charset()?;
        if charset != Charset::Binary {
            return Ok(Kind::Text(prefix, charset));
        }
        let vector = special == Some(Special::Vector);
        Ok(Kind::Slow(if vector { Slow::Vector(prefix) } else { Slow::Bytes(prefix) }))
    }

    /// CHAR and BINARY.
    fn fixed(&self, len: u16) -> Result<Kind, ColumnFault> {
        let prefix = prefix(len);
        let charset = match self.known.and_then(|known| known.special) {
            Some(Special::Uuid) if len == 16 => return Ok(Kind::Slow(Slow::Uuid(prefix))),
            Some(Special::Inet6) if len == 16 => return Ok(Kind::Slow(Slow::Inet6(prefix))),
            Some(Special::Inet4) if len == 4 => return Ok(Kind::Slow(Slow::Inet4(prefix))),
            Some(Special::Uuid | Special::Inet4 | Special::Inet6 | Special::Vector) | None => {
                self.charset()?
            }
        };
        if charset == Charset::Binary {
            return Ok(Kind::Slow(Slow::Padded(prefix, len)));
        }
        Ok(Kind::Text(prefix, charset))
    }

    fn labels(&self) -> Result<Labels, ColumnFault> {
        if let Some(labels) = &self.column.labels {
            let charset = self.charset()?;
            let fault = ColumnFault::Label(charset);
            let labels = labels.iter().map(|label| {
                let mut text = Vec::new();
                charset.put(&mut text, label).map(|()| text.into_boxed_slice()).ok_or(fault)
            });
            return labels.collect();
        }
        let known = self.known.filter(|known| !known.labels.is_empty());
        let labels = &known.ok_or(ColumnFault::NoLabels)?.labels;
        Ok(labels.iter().map(|label| Box::from(label.as_bytes())).collect())
    }
}

/// Bits of a BIT: those of an incomplete byte, and whole bytes.
fn bits(incomplete: u8, bytes: u8) -> Option<u8> {
    let bits = bytes.checked_mul(8)?.checked_add(incomplete)?;
    if incomplete < 8 && (1..=64).contains(&bits) { Some(bits) } else { None }
}

/// Bytes of the length of a value that has at most so many.
const fn prefix(len_max: u16) -> u8 {
    if len_max > 255 { 2 } else { 1 }
}

const fn blob_prefix(bytes: u8) -> Option<u8> {
    if matches!(bytes, 1..=4) { Some(bytes) } else { None }
}
