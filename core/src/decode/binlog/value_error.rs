//! What can be wrong with a row event, and what helps. No error shows a value.
use alloc::string::String;

use super::cells_read::FieldError;
use super::charset::Charset;

/// Row events of a table cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RowsError {
    /// The event's own fields are broken.
    #[error(transparent)]
    Field(#[from] FieldError),
    /// Nobody here knows what values of a column mean.
    #[error("column \"{column}\" of table {table}: {fault}")]
    Column {
        /// The table, with its database.
        table: String,
        /// The column's name, or its number if the name is not known.
        column: String,
        /// What is not known.
        fault: ColumnFault,
    },
    /// A value cannot be read.
    #[error("a value of column \"{column}\" of table {table} {fault}")]
    Value {
        /// The table, with its database.
        table: String,
        /// The column's name, or its number if the name is not known.
        column: String,
        /// What is wrong with it.
        fault: ValueFault,
    },
    /// A row event ends inside a row's list of NULLs.
    #[error("an event about table {table} ends inside a row")]
    Short {
        /// The table, with its database.
        table: String,
    },
    /// Rows without a single byte, of which nobody can say how many there are.
    #[error("an event about table {table} has rows without columns")]
    Empty {
        /// The table, with its database.
        table: String,
    },
    /// A row event of another table than that of the plan.
    #[error("an event about table id {found} was read as one about {table}, table id {expected}")]
    OtherTable {
        /// The table, with its database.
        table: String,
        /// Its number.
        expected: u64,
        /// The number in the event.
        found: u64,
    },
    /// A row event, or what the caller knows of a table, has another number of columns than its map.
    #[error("table {table} has {expected} columns, not {found}")]
    Columns {
        /// The table, with its database.
        table: String,
        /// Columns of the map.
        expected: usize,
        /// The other number.
        found: usize,
    },
}

impl RowsError {
    /// One thing the operator can try.
    #[must_use]
    pub const fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Column { fault, .. } => fault.hint(),
            Self::Value { fault, .. } => fault.hint(),
            Self::Field(_)
            | Self::Short { .. }
            | Self::Empty { .. }
            | Self::OtherTable { .. }
            | Self::Columns { .. } => None,
        }
    }
}

/// Why the values of a column cannot be understood, whatever they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ColumnFault {
    /// A type that we do not know, of this column or of one before it.
    #[error("type code {0} is not known")]
    Type(u8),
    /// Metadata that the type cannot have.
    #[error("impossible metadata for type code {0}")]
    Metadata(u8),
    /// Nobody says whether the numbers have a sign.
    #[error("whether numbers have a sign is not known")]
    NoSign,
    /// Nobody says the character set.
    #[error("the character set is not known")]
    NoCharset,
    /// A collation that is not in our list.
    #[error("collation {0} is not known")]
    Collation(u32),
    /// A character set that is not in our list.
    #[error("the character set is none that we know")]
    Charset,
    /// Nobody says the labels of an ENUM or SET.
    #[error("the labels are not known")]
    NoLabels,
    /// A label that is no text of its character set.
    #[error("a label is no {0} text")]
    Label(Charset),
}

impl ColumnFault {
    /// One thing the operator can try.
    #[must_use]
    pub const fn hint(self) -> Option<&'static str> {
        match self {
            Self::NoSign | Self::NoCharset | Self::NoLabels => {
                Some("set binlog_row_metadata=FULL on the source, or use --fetchMetadata")
            }
            Self::Collation(_) | Self::Charset => {
                Some("ALTER TABLE … CONVERT TO CHARACTER SET utf8mb4")
            }
            Self::Type(_) | Self::Metadata(_) | Self::Label(_) => None,
        }
    }
}

/// What is wrong with one value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValueFault {
    /// The event ends inside it.
    #[error("is cut off")]
    Short,
    /// Its text does not fit a cell, 4 GiB.
    #[error("is longer than 4 GiB")]
    Long,
    /// Not a DECIMAL.
    #[error("is no DECIMAL")]
    Decimal,
    /// A date without a year, month or day, or with one that the calendar does not have.
    #[error(
        "is a date that no calendar has, such as 0000-00-00; say with --zeroDates what becomes of such dates"
    )]
    NoDate,
    /// Not a time, with or without a date.
    #[error("is no time")]
    Time,
    /// The number of a label that the column does not have.
    #[error("has label number {0}, which the column does not have")]
    Label(u64),
    /// Bytes that are no text in the column's character set.
    #[error("is no {0} text")]
    Text(Charset),
    /// Not MySQL's binary form of a JSON document.
    #[error("is no JSON document")]
    Json,
    /// A JSON document is deeper than any server makes one.
    #[error("is a JSON document of more than 100 levels")]
    JsonDepth,
    /// Changes of a JSON document came without the document.
    #[error("came as changes of a JSON document without the document")]
    JsonBase,
    /// Changes of a JSON document do not fit the document.
    #[error("came as changes of a JSON document that do not fit it")]
    JsonChange,
    /// Not a shape.
    #[error("is no shape")]
    Shape,
    /// Not a vector.
    #[error("is no vector")]
    Vector,
    /// More bytes than the column has.
    #[error("is longer than the column")]
    Length,
    /// Compressed by MariaDB's attribute COMPRESSED of the column.
    #[error("is compressed, which is not supported")]
    Compressed,
}

impl ValueFault {
    /// One thing the operator can try.
    #[must_use]
    pub const fn hint(self) -> Option<&'static str> {
        match self {
            Self::NoDate => {
                Some("correct the value on the source, or choose what becomes of such dates")
            }
            Self::JsonBase => Some(
                "SET GLOBAL binlog_row_value_options='' or binlog_row_image=FULL on the source",
            ),
            Self::Compressed => Some("ALTER TABLE … MODIFY the column without COMPRESSED"),
            Self::Short
            | Self::Long
            | Self::Decimal
            | Self::Time
            | Self::Label(_)
            | Self::Text(_)
            | Self::Json
            | Self::JsonDepth
            | Self::JsonChange
            | Self::Shape
            | Self::Vector
            | Self::Length => None,
        }
    }
}
