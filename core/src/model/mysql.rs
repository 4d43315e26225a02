//! Column types of MySQL and MariaDB, by the text that their catalog prints.
//!
//! [`Column::cast`](super::catalog::Column) of such a target is `information_schema.columns.column_type`,
//! with two additions of ours: a column that holds documents is `json`, also on MariaDB, and ` srid N`
//! follows a type of geometry that is bound to a reference system.
use super::key::KeyKind;

/// What matters of a type for those who read values for it and write them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MySqlType<'a> {
    /// Whole numbers of any size, with a sign or without; also BOOL, which is `tinyint(1)`.
    Int,
    /// DECIMAL.
    Decimal,
    /// FLOAT, of single precision.
    Float,
    /// DOUBLE.
    Double,
    /// BIT.
    Bit,
    /// YEAR.
    Year,
    /// DATE.
    Date,
    /// DATETIME and TIMESTAMP.
    DateTime,
    /// TIME.
    Time,
    /// CHAR, with its length in characters.
    Char(usize),
    /// VARCHAR, with its greatest length in characters.
    VarChar(usize),
    /// The TEXT types.
    Text,
    /// ENUM and SET, with the list of labels as printed: `('a','b')`.
    Labels(&'a str),
    /// BINARY, with its length in bytes.
    Binary(usize),
    /// VARBINARY and the BLOB types.
    Blob,
    /// JSON.
    Json,
    /// Shapes, with the number of the reference system, or 0.
    Geometry(u32),
    /// VECTOR.
    Vector,
    /// A value with one text and no parts (INET4, INET6, UUID), or a type that we do not know.
    Other,
}

impl<'a> MySqlType<'a> {
    /// Reads the text of a type. Never fails: the server judges the values.
    #[must_use]
    pub fn of(cast: &'a str) -> Self {
        let name_len = cast.find(['(', ' ']).unwrap_or(cast.len());
        let (name, rest) = cast.split_at_checked(name_len).unwrap_or((cast, ""));
        let length = || {
            let digits = rest.strip_prefix('(').and_then(|rest| rest.split([')', ',']).next());
            digits.and_then(|digits| digits.parse().ok()).unwrap_or(usize::MAX)
        };
        match name {
            "tinyint" | "smallint" | "mediumint" | "int" | "bigint" => Self::Int,
            "decimal" => Self::Decimal,
            "float" => Self::Float,
            "double" => Self::Double,
            "bit" => Self::Bit,
            "year" => Self::Year,
            "date" => Self::Date,
            "datetime" | "timestamp" => Self::DateTime,
            "time" => Self::Time,
            "char" => Self::Char(length()),
            "varchar" => Self::VarChar(length()),
            "tinytext" | "text" | "mediumtext" | "longtext" => Self::Text,
            "enum" | "set" => Self::Labels(rest),
            "binary" => Self::Binary(length()),
            "varbinary" | "tinyblob" | "blob" | "mediumblob" | "longblob" => Self::Blob,
            "json" => Self::Json,
            "geometry" | "point" | "linestring" | "polygon" | "multipoint" | "multilinestring"
            | "multipolygon" | "geomcollection" | "geometrycollection" => {
                let srid = rest.strip_prefix(" srid ").and_then(|srid| srid.parse().ok());
                Self::Geometry(srid.unwrap_or(0))
            }
            "vector" => Self::Vector,
            _ => Self::Other,
        }
    }

    /// How values compare, as the source sees them: a text is equal to itself only. Where the target
    /// takes more texts for equal, statements look at the bytes.
    #[must_use]
    pub const fn key_kind(self) -> KeyKind {
        match self {
            Self::Int | Self::Year => KeyKind::Int,
            Self::Decimal => KeyKind::Numeric,
            Self::Float | Self::Double => KeyKind::Float,
            Self::Char(_) => KeyKind::Padded,
            Self::Json | Self::Geometry(_) | Self::Vector => KeyKind::Loose,
            Self::Bit
            | Self::Date
            | Self::DateTime
            | Self::Time
            | Self::VarChar(_)
            | Self::Text
            | Self::Labels(_)
            | Self::Binary(_)
            | Self::Blob
            | Self::Other => KeyKind::Exact,
        }
    }

    /// Whether the target may take different texts for equal, by the column's collation.
    #[must_use]
    pub const fn collates(self) -> bool {
        matches!(self, Self::Char(_) | Self::VarChar(_) | Self::Text | Self::Labels(_))
    }
}

#[cfg(test)]
mod tests {
    use super::MySqlType;

    #[test]
    fn types_are_read_as_the_catalog_prints_them() {
        for (cast, expected) in [
            ("int(10) unsigned", MySqlType::Int),
            ("int unsigned", MySqlType::Int),
            ("tinyint(1)", MySqlType::Int),
            ("decimal(65,30)", MySqlType::Decimal),
            ("float", MySqlType::Float),
            ("varchar(20)", MySqlType::VarChar(20)),
            ("char(36)", MySqlType::Char(36)),
            ("enum('a','5 b')", MySqlType::Labels("('a','5 b')")),
            ("binary(16)", MySqlType::Binary(16)),
            ("datetime(6)", MySqlType::DateTime),
            ("point srid 4326", MySqlType::Geometry(4326)),
            ("geometry", MySqlType::Geometry(0)),
            ("inet6", MySqlType::Other),
            ("", MySqlType::Other),
        ] {
            assert_eq!(MySqlType::of(cast), expected, "{cast}");
        }
    }
}
