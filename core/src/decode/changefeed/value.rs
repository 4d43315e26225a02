//! A JSON value → the text that the target casts to the column's type.
//!
//! What CockroachDB prints is what both products read, so nearly every text goes on as it came
//! (`cast_back_from_text` in the vectors). The exceptions are here: arrays have another notation,
//! documents stay JSON, decimal numbers get one form, and PostgreSQL writes years before the year 1
//! with BC.
use alloc::vec::Vec;

use super::error::ValueFault;
use super::json::{Elements, Kind, Raw};
use super::names::TargetKind;
use crate::model::catalog::Column;
use crate::model::key::KeyKind;
use crate::model::mysql::MySqlType;
use crate::model::row::{Cell, RowBuilder};

/// What a server sends for JSON's own null with `encode_json_value_null_as_object`.
const JSON_NULL: [&[u8]; 2] =
    [br#"{"__crdb_json_null__": true}"#, br#"{"__crdb_json_null__":true}"#];

/// Room to write one row in. What is written is copied out, so that it is asked for only once.
#[derive(Clone, Debug, Default)]
pub(super) struct Room {
    pub(super) cells: RowBuilder,
    text: Vec<u8>,
}

/// How values of a column are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Codec {
    of: Type,
    array: bool,
    nullable: bool,
    /// Whether years before the year 1 are written with BC.
    bc: bool,
}

/// What matters of a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Type {
    /// A value with one text and no parts.
    Plain,
    /// The same, and a whole number.
    Whole,
    /// The same, and a decimal number.
    Decimal,
    Bytes,
    /// A document.
    Json,
    Timestamp,
    /// A type that is not built in, or of geometry: what it looks like in JSON, nobody knows.
    Other,
}

impl Codec {
    /// By the name that values of the column are cast to.
    pub(super) fn of(target: TargetKind, column: &Column) -> Self {
        if target == TargetKind::MySql {
            return Self::of_mysql(column);
        }
        let (element, array) = match column.cast.strip_suffix("[]") {
            Some(element) => (element, true),
            None => (column.cast.as_str(), false),
        };
        let of = match element {
            "json" | "jsonb" => Type::Json,
            "bytea" => Type::Bytes,
            "timestamp" | "timestamptz" => Type::Timestamp,
            _ if !array && column.kind == KeyKind::Int => Type::Whole,
            _ if !array && column.kind == KeyKind::Numeric => Type::Decimal,
            other if other.contains('"') => Type::Other,
            _ => Type::Plain,
        };
        Self { of, array, nullable: column.nullable, bc: target.writes_bc() }
    }

    /// MySQL has no arrays: they are kept as JSON, in columns of documents and of text. What is bytes or a
    /// moment is judged where statements are made, by the type of the column.
    fn of_mysql(column: &Column) -> Self {
        let of = match MySqlType::of(&column.cast) {
            MySqlType::Json => Type::Json,
            MySqlType::Int | MySqlType::Year => Type::Whole,
            MySqlType::Decimal => Type::Decimal,
            MySqlType::VarChar(_)
            | MySqlType::Text
            | MySqlType::Labels(_)
            | MySqlType::Geometry(_)
            | MySqlType::Vector => Type::Other,
            MySqlType::Float
            | MySqlType::Double
            | MySqlType::Bit
            | MySqlType::Date
            | MySqlType::DateTime
            | MySqlType::Time
            | MySqlType::Char(_)
            | MySqlType::Binary(_)
            | MySqlType::Blob
            | MySqlType::Other => Type::Plain,
        };
        Self { of, array: false, nullable: column.nullable, bc: false }
    }

    /// Appends a value to a row.
    pub(super) fn push(self, room: &mut Room, value: Raw<'_>) -> Result<(), ValueFault> {
        let Room { cells: out, text: scratch } = room;
        if value.kind == Kind::Null {
            // Both nulls look alike. Where SQL has none, it was JSON's.
            let document = self.of == Type::Json && !self.array && !self.nullable;
            out.push(if document { Cell::Text(b"null") } else { Cell::Null });
            return Ok(());
        }
        if self.array && value.kind == Kind::Array {
            scratch.clear();
            self.append_array(scratch, value)?;
            out.push(Cell::Text(scratch));
            return Ok(());
        }
        if matches!(self.of, Type::Whole | Type::Decimal) && value.kind == Kind::Number {
            scratch.clear();
            let expanded = append_expanded(scratch, value.text);
            let text = if expanded { scratch.as_slice() } else { value.text };
            let whole = self.of == Type::Whole;
            out.push(Cell::Text(if whole { without_zero_fraction(text) } else { text }));
            return Ok(());
        }
        // An array as text is of a column that is text at the source.
        let of = if self.array { Type::Plain } else { self.of };
        match (of, value.kind) {
            (Type::Json, Kind::Object) if JSON_NULL.contains(&value.text) => {
                out.push(Cell::Text(b"null"));
            }
            (Type::Json, _) => out.push(Cell::Text(value.text)),
            (_, Kind::String) => {
                let string = value.string().ok_or(ValueFault::Escape)?;
                if !string.escaped
                    && matches!(of, Type::Plain | Type::Whole | Type::Decimal | Type::Other)
                {
                    out.push(Cell::Text(string.raw));
                    return Ok(());
                }
                scratch.clear();
                string.append_to(scratch).map_err(|_| ValueFault::Escape)?;
                self.finish_text(scratch, of)?;
                out.push(Cell::Text(scratch));
            }
            (
                Type::Plain | Type::Whole | Type::Decimal | Type::Timestamp,
                Kind::Number | Kind::Bool,
            )
            | (Type::Other, Kind::Number | Kind::Bool | Kind::Array | Kind::Object) => {
                out.push(Cell::Text(value.text));
            }
            (Type::Bytes, Kind::Number | Kind::Bool) => return Err(ValueFault::Bytes),
            (_, Kind::Array) => return Err(ValueFault::Kind("an array")),
            (_, Kind::Object) => return Err(ValueFault::Kind("an object")),
            (_, Kind::Null) => out.push(Cell::Null),
        }
        Ok(())
    }

    /// Appends an array as SQL writes it: `{1,NULL,"a \"b\""}` (PostgreSQL documentation, "Array Input
    /// and Output Syntax"). Whatever is a string in JSON is quoted, so that the text NULL is not NULL.
    fn append_array(self, out: &mut Vec<u8>, array: Raw<'_>) -> Result<(), ValueFault> {
        out.push(b'{');
        let mut elements = Elements::new(array);
        let mut first = true;
        // The row was read to its end before: no element can be broken.
        while let Ok(Some(element)) = elements.next_element() {
            if !first {
                out.push(b',');
            }
            first = false;
            self.append_element(out, element)?;
        }
        out.push(b'}');
        Ok(())
    }

    fn append_element(self, out: &mut Vec<u8>, element: Raw<'_>) -> Result<(), ValueFault> {
        match (self.of, element.kind) {
            (_, Kind::Null) => out.extend_from_slice(b"NULL"),
            (Type::Json, _) | (Type::Other, Kind::Object) => append_quoted(out, element.text),
            (Type::Bytes, Kind::Number | Kind::Bool) => return Err(ValueFault::Bytes),
            (_, Kind::Number | Kind::Bool) => out.extend_from_slice(element.text),
            (_, Kind::String) => {
                let string = element.string().ok_or(ValueFault::Escape)?;
                let mut text = Vec::with_capacity(string.raw.len());
                string.append_to(&mut text).map_err(|_| ValueFault::Escape)?;
                self.finish_text(&mut text, self.of)?;
                append_quoted(out, &text);
            }
            (_, Kind::Array) => return Err(ValueFault::Kind("an array of arrays")),
            (_, Kind::Object) => return Err(ValueFault::Kind("an array of objects")),
        }
        Ok(())
    }

    /// Makes a text what the target reads.
    fn finish_text(self, text: &mut Vec<u8>, of: Type) -> Result<(), ValueFault> {
        match of {
            Type::Bytes if !is_hex(text) => Err(ValueFault::Bytes),
            Type::Timestamp if self.bc => {
                move_before_christ(text);
                Ok(())
            }
            Type::Bytes
            | Type::Timestamp
            | Type::Plain
            | Type::Whole
            | Type::Decimal
            | Type::Json
            | Type::Other => Ok(()),
        }
    }
}

/// Whether the text is `\x` and pairs of hexadecimal digits. Anything else would be taken for bytes in
/// another notation, in which backslashes mean something.
fn is_hex(text: &[u8]) -> bool {
    text.strip_prefix(b"\\x").is_some_and(|digits| {
        digits.len().is_multiple_of(2) && digits.iter().all(u8::is_ascii_hexdigit)
    })
}

/// `-0043-03-15T12:00:00` → `0044-03-15T12:00:00 BC`. CockroachDB counts years as astronomers do, with
/// a year 0; PostgreSQL refuses such texts.
fn move_before_christ(text: &mut Vec<u8>) {
    let astronomical = match text.strip_prefix(b"-") {
        Some(rest) => rest,
        None if text.starts_with(b"0000-") => text.as_slice(),
        None => return,
    };
    let Some(len) = astronomical.iter().position(|byte| *byte == b'-') else { return };
    let Some((digits, rest)) = astronomical.split_at_checked(len) else { return };
    let year = core::str::from_utf8(digits).ok().and_then(|digits| digits.parse::<u32>().ok());
    let Some(year) = year.and_then(|year| year.checked_add(1)) else { return };
    let mut moved = alloc::format!("{year:04}").into_bytes();
    moved.extend_from_slice(rest);
    moved.extend_from_slice(b" BC");
    *text = moved;
}

/// Appends a number with an exponent as one without: `1.5E+3` as `1500`. Returns whether it could;
/// nothing was appended if not.
///
/// The key of one row may come as `1E+3` and as `1000`, and no server takes the first for an integer.
fn append_expanded(out: &mut Vec<u8>, text: &[u8]) -> bool {
    // More would be a way to make much of little. A key of so many digits nobody has.
    const DIGITS_MAX: usize = 256;
    let Some(at) = text.iter().position(|byte| matches!(byte, b'e' | b'E')) else { return false };
    let mantissa = text.get(..at).unwrap_or_default();
    let exponent = text.get(at.saturating_add(1)..).unwrap_or_default();
    let exponent = core::str::from_utf8(exponent).ok().and_then(|text| text.parse::<isize>().ok());
    let (sign, mantissa): (&[u8], &[u8]) = match mantissa.strip_prefix(b"-") {
        Some(mantissa) => (b"-", mantissa),
        None => (b"", mantissa),
    };
    let whole = mantissa.iter().position(|byte| *byte == b'.').unwrap_or(mantissa.len());
    let digits: Vec<u8> = mantissa.iter().copied().filter(u8::is_ascii_digit).collect();
    if digits.iter().all(|digit| *digit == b'0') {
        out.push(b'0');
        return true;
    }
    // Where the point stands, in digits from the first one.
    let point = isize::try_from(whole).ok().zip(exponent);
    let Some(point) = point.and_then(|(whole, exponent)| whole.checked_add(exponent)) else {
        return false;
    };
    if DIGITS_MAX < digits.len() || DIGITS_MAX < point.unsigned_abs() {
        return false;
    }
    out.extend_from_slice(sign);
    let before = usize::try_from(point).unwrap_or_default();
    match digits.split_at_checked(before) {
        // All digits are in front of the point, perhaps with zeros after them.
        None | Some((_, [])) => {
            out.extend_from_slice(&digits);
            out.extend((digits.len()..before).map(|_| b'0'));
        }
        // The first one is behind it, perhaps with zeros before it.
        Some(([], fraction)) => {
            out.extend_from_slice(b"0.");
            out.extend((0..point.unsigned_abs()).map(|_| b'0'));
            out.extend_from_slice(fraction);
        }
        Some((whole, fraction)) => {
            out.extend_from_slice(whole);
            out.push(b'.');
            out.extend_from_slice(fraction);
        }
    }
    true
}

/// `2` for `2.000`: a column of whole numbers that is DECIMAL at the source.
fn without_zero_fraction(text: &[u8]) -> &[u8] {
    let point = text.iter().position(|byte| *byte == b'.');
    match point.and_then(|point| text.split_at_checked(point)) {
        Some((whole, [_, zeros @ ..])) if zeros.iter().all(|digit| *digit == b'0') => whole,
        Some(_) | None => text,
    }
}

fn append_quoted(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'"');
    for byte in text {
        if matches!(byte, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(*byte);
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use alloc::string::String;

    use super::super::json::Cursor;
    use super::{Codec, Room};
    use crate::decode::changefeed::TargetKind;
    use crate::decode::changefeed::error::ValueFault;
    use crate::fixture::column;
    use crate::model::mutation::TableId;
    use crate::model::row::{Cell, Layout};

    /// What a value becomes in a column of this type; `None` is NULL.
    fn of(target: TargetKind, cast: &str, json: &str) -> Result<Option<String>, ValueFault> {
        let mut room = Room::default();
        let value = Cursor::new(json.as_bytes()).value().unwrap();
        let mut column = column("c", cast);
        column.nullable = true;
        Codec::of(target, &column).push(&mut room, value)?;
        let layout = Layout { table: TableId(0), columns: alloc::vec![Some(0)] };
        let row = room.cells.copy(layout.into()).unwrap();
        Ok(match row.cells().next().unwrap() {
            Cell::Text(text) => Some(String::from_utf8(text.to_vec()).unwrap()),
            Cell::Null => None,
            cell @ (Cell::Unchanged | Cell::Binary(_)) => panic!("{cell:?}"),
        })
    }

    fn check(cast: &str, json: &str, text: &str) {
        let read = of(TargetKind::Postgres, cast, json);
        assert_eq!(read, Ok(Some(text.into())), "{json} as {cast}");
    }

    #[test]
    fn numbers_keep_every_digit() {
        for number in ["-9223372036854775808", "0.10", "1E+400", "-0", "3.14159265358979323846264"]
        {
            for cast in ["numeric", "float8", "text", "\"s\".\"domain\"", "jsonb"] {
                check(cast, number, number);
            }
        }
    }

    #[test]
    fn whole_numbers_are_written_as_such() {
        for (json, text) in [
            ("-9223372036854775808", "-9223372036854775808"),
            ("1E+3", "1000"),
            ("-12.50e1", "-125"),
            ("2.000", "2"),
            ("0.00", "0"),
            ("0E+2", "0"),
            ("15E-1", "1.5"),
            // The target says better what is wrong with these.
            ("1.5", "1.5"),
            ("1E-400", "1E-400"),
            ("1E+400", "1E+400"),
            ("1E+99999999999999999999", "1E+99999999999999999999"),
            ("\"1E+3\"", "1E+3"),
            ("true", "true"),
        ] {
            check("int8", json, text);
        }
        check("int8[]", "[1, 1E+3]", "{1,1E+3}");
    }

    #[test]
    fn decimal_numbers_come_without_exponents() {
        for (json, text) in [
            ("1E+3", "1000"),
            ("-1.50E+3", "-1500"),
            ("-1.50E+1", "-15.0"),
            ("1.50E+2", "150"),
            ("1.50E+0", "1.50"),
            ("1.50e-1", "0.150"),
            ("1.50E-3", "0.00150"),
            ("0.00E-7", "0"),
            ("-0E+400", "0"),
            ("1.50", "1.50"),
            ("1000", "1000"),
            ("-0", "-0"),
            ("\"NaN\"", "NaN"),
        ] {
            check("numeric", json, text);
        }
        let zeros = |count: usize| alloc::format!("1{}", "0".repeat(count));
        check("numeric", "1E+255", &zeros(255));
        check("numeric", "1E+256", "1E+256");
        check("numeric", "1E-256", &alloc::format!("0.{}1", "0".repeat(255)));
        check("numeric", "1E-258", "1E-258");
        check("numeric", "1E+9223372036854775807", "1E+9223372036854775807");
        // Where the text is what counts, it stays.
        check("text", "1E+3", "1E+3");
        check("float8", "1E+3", "1E+3");
    }

    #[test]
    fn postgresql_writes_years_before_the_year_1_with_bc() {
        for (json, text) in [
            ("\"-0043-03-15T12:00:00\"", "0044-03-15T12:00:00 BC"),
            ("\"-4713-11-24T00:00:00Z\"", "4714-11-24T00:00:00Z BC"),
            ("\"0000-12-31T23:59:59\"", "0001-12-31T23:59:59 BC"),
            ("\"0001-01-01T00:00:00\"", "0001-01-01T00:00:00"),
            ("\"infinity\"", "infinity"),
            ("\"-infinity\"", "-infinity"),
        ] {
            check("timestamp", json, text);
            check("timestamptz", json, text);
            check("timestamptz[]", &alloc::format!("[{json}]"), &alloc::format!("{{\"{text}\"}}"));
            let raw = json.trim_matches('"');
            check("text", json, raw);
            let other = of(TargetKind::Cockroach, "timestamp", json);
            assert_eq!(other, Ok(Some(raw.into())));
        }
    }

    #[test]
    fn arrays_are_written_as_sql_does() {
        check("text[]", "[ ]", "{}");
        check(
            "text[]",
            r#"["NULL", null, "a\"b", "\\", "{,}", ""]"#,
            r#"{"NULL",NULL,"a\"b","\\","{,}",""}"#,
        );
        check("int8[]", "[1,-2, null]", "{1,-2,NULL}");
        check("bool[]", "[true, false]", "{true,false}");
        check("bytea[]", r#"["\\x00ff"]"#, r#"{"\\x00ff"}"#);
        check(
            "jsonb[]",
            r#"[{"a": "b"}, "s", [1], null]"#,
            r#"{"{\"a\": \"b\"}","\"s\"","[1]",NULL}"#,
        );
        check(
            "\"public\".\"geometry\"[]",
            r#"[{"type": "Point"}]"#,
            r#"{"{\"type\": \"Point\"}"}"#,
        );
        check("text[]", "\"{already}\"", "{already}");
        for (cast, json) in [("int8[]", "[[1]]"), ("text[]", "[{}]"), ("text[]", "{}")] {
            let error = of(TargetKind::Postgres, cast, json).unwrap_err();
            assert!(matches!(error, ValueFault::Kind(_)), "{error}");
        }
        assert_eq!(of(TargetKind::Postgres, "bytea[]", "[\"ff\"]"), Err(ValueFault::Bytes));
    }

    #[test]
    fn mysql_gets_arrays_as_json_and_judges_bytes_and_times_later() {
        let point = r#"{"coordinates": [1.5, -2], "type": "Point"}"#;
        for (cast, json, text) in [
            ("json", r#"["a", null]"#, r#"["a", null]"#),
            ("json", r#""s""#, r#""s""#),
            ("longtext", "[1, 2]", "[1, 2]"),
            ("varchar(20)", r#""a\"b""#, "a\"b"),
            ("varchar(20)", "1E+3", "1E+3"),
            ("int unsigned", "1E+3", "1000"),
            ("decimal(65,30)", "1.50E+1", "15.0"),
            ("double", "5E-324", "5E-324"),
            ("blob", r#""\\x00ff""#, "\\x00ff"),
            ("datetime(6)", r#""-0043-03-15T12:00:00""#, "-0043-03-15T12:00:00"),
            ("tinyint(1)", "true", "true"),
            ("point", point, point),
        ] {
            let read = of(TargetKind::MySql, cast, json);
            assert_eq!(read, Ok(Some(text.into())), "{json} as {cast}");
        }
        assert!(of(TargetKind::MySql, "datetime", "[1]").is_err());
    }

    #[test]
    fn documents_and_shapes_stay_json() {
        for json in [r#"{"a": [1, "\u003c"]}"#, r#""text""#, "1.50", "[null]", "true"] {
            check("json", json, json);
            check("jsonb", json, json);
        }
        let point = r#"{"coordinates": [1.5, -2], "type": "Point"}"#;
        check("\"geometry\"", point, point);
        check("\"ext\".\"vector\"", "[1, 2.5]", "[1, 2.5]");
        assert_eq!(of(TargetKind::Postgres, "jsonb", "null"), Ok(None));
        assert!(of(TargetKind::Postgres, "uuid", point).is_err());
    }
}
