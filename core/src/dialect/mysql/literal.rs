//! A value's text → a literal that means exactly this value, or a refusal.
//!
//! MySQL is strict only to a point. Even with every strict mode it rounds `1.5` to a whole number, takes
//! the label `2` for the second one, the year 70 for 1970, and drops the time of a date. What it would
//! change in silence is refused here; what it refuses is left to it.
//!
//! Literals mean the same in every `sql_mode`: what holds a backslash goes as hexadecimal digits.
use alloc::string::String;
use core::fmt::Write;

use super::Flavor;
use super::when;
use crate::dialect::infallible;
use crate::model::mysql::MySqlType;
use crate::model::row::Cell;

/// Digits of a DECIMAL.
const DECIMAL_DIGITS_MAX: usize = 65;
/// Bits of a BIT.
const BITS_MAX: usize = 64;

/// A value cannot be written. Never shows the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// The text is not what a column of this type takes.
    #[error("a value is no {0}")]
    Form(&'static str),
    /// NaN or infinity, which MySQL does not have.
    #[error("a value is NaN or infinity, which MySQL does not have")]
    NotFinite,
    /// More than the column takes, of something that the server would cut off in silence.
    #[error("a value is longer than the column")]
    Long,
    /// A date or time that MySQL does not have.
    #[error("a date or time is outside of what MySQL has")]
    Time,
    /// A date for which MySQL has a column of whole days only.
    #[error("a value has a time of day, for which a DATE has no room")]
    TimeOfDay,
    /// The text of a column of text is not UTF-8.
    #[error("a value is not UTF-8")]
    Utf8,
    /// The source sent a binary value.
    #[error("a value came in binary form")]
    Binary,
    /// The source did not send the value.
    #[error("a value is missing")]
    Missing,
}

/// Appends a literal.
pub(super) fn push(
    sql: &mut String,
    flavor: Flavor,
    of: MySqlType<'_>,
    cell: Cell<'_>,
) -> Result<(), ValueError> {
    let text = match cell {
        Cell::Null => {
            sql.push_str("NULL");
            return Ok(());
        }
        Cell::Unchanged => return Err(ValueError::Missing),
        Cell::Binary(_) => return Err(ValueError::Binary),
        Cell::Text(text) => core::str::from_utf8(text).map_err(|_| ValueError::Utf8)?,
    };
    match of {
        MySqlType::Int => push_int(sql, text)?,
        MySqlType::Decimal => push_decimal(sql, text)?,
        MySqlType::Float => push_float(sql, text)?,
        MySqlType::Double => push_double(sql, text)?,
        MySqlType::Bit => push_bits(sql, text)?,
        MySqlType::Year => push_year(sql, text)?,
        MySqlType::Date => when::push_date(sql, text)?,
        MySqlType::DateTime => when::push_moment(sql, text)?,
        MySqlType::Time => when::push_time(sql, text)?,
        // Blanks at the end are no part of such a value.
        MySqlType::Char(_) => push_text(sql, text.trim_end_matches(' ')),
        MySqlType::VarChar(chars) => {
            // Blanks beyond the length are cut off in silence.
            if chars < text.len() && chars < text.chars().count() {
                return Err(ValueError::Long);
            }
            push_text(sql, text);
        }
        MySqlType::Labels(labels) => push_label(sql, labels, text)?,
        MySqlType::Binary(len) => push_bytes(sql, text, Some(len))?,
        MySqlType::Blob => push_bytes(sql, text, None)?,
        MySqlType::Geometry(srid) => push_shape(sql, flavor, srid, text)?,
        MySqlType::Vector => {
            sql.push_str(match flavor {
                Flavor::MySql | Flavor::MySql57 => "STRING_TO_VECTOR(",
                Flavor::MariaDb => "VEC_FromText(",
            });
            push_text(sql, text);
            sql.push(')');
        }
        MySqlType::Text | MySqlType::Json | MySqlType::Other => push_text(sql, text),
    }
    Ok(())
}

/// A string in quotes, or as hexadecimal digits where a backslash could mean something.
pub(super) fn push_text(sql: &mut String, text: &str) {
    // Seldom; looked for in one pass that reads many bytes at once.
    let odd = text.bytes().fold(false, |odd, byte| odd | (byte == b'\\') | (byte == b'\''));
    if odd && text.contains('\\') {
        sql.push_str("_utf8mb4 X'");
        push_hex(sql, text.as_bytes());
        sql.push('\'');
        return;
    }
    sql.push('\'');
    if !odd {
        sql.push_str(text);
        sql.push('\'');
        return;
    }
    for (index, part) in text.split('\'').enumerate() {
        if index > 0 {
            sql.push_str("''");
        }
        sql.push_str(part);
    }
    sql.push('\'');
}

fn push_hex(sql: &mut String, bytes: &[u8]) {
    sql.reserve(bytes.len().saturating_mul(2));
    let digit = |digit: u8| char::from_digit(u32::from(digit), 16).unwrap_or('0');
    for byte in bytes {
        sql.push(digit(byte >> 4));
        sql.push(digit(byte & 15));
    }
}

/// The truth value that a text stands for.
fn truth(text: &str) -> Option<&'static str> {
    match text {
        "true" | "t" => Some("1"),
        "false" | "f" => Some("0"),
        _ => None,
    }
}

fn push_int(sql: &mut String, text: &str) -> Result<(), ValueError> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    if let Some(truth) = truth(text) {
        sql.push_str(truth);
    } else if all_digits(digits.as_bytes()) && digits.len() <= DECIMAL_DIGITS_MAX {
        sql.push_str(text);
    } else {
        return Err(ValueError::Form("whole number"));
    }
    Ok(())
}

fn push_decimal(sql: &mut String, text: &str) -> Result<(), ValueError> {
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    let mut parts = unsigned.as_bytes().splitn(2, |byte| *byte == b'.');
    let (whole, fraction) = (parts.next().unwrap_or_default(), parts.next().unwrap_or(b"0"));
    if !all_digits(whole) || !all_digits(fraction) {
        finite(text)?;
        return Err(ValueError::Form("decimal number of up to 256 digits"));
    }
    if whole.len().saturating_add(fraction.len()) <= DECIMAL_DIGITS_MAX {
        sql.push_str(text);
    } else {
        // More digits than a number in a statement may have. As text, the column rounds or refuses it.
        push_text(sql, text);
    }
    Ok(())
}

/// The exact value of the nearest number of single precision: in its shortest text the largest one would
/// be out of range, because the server reads it in double precision.
fn push_float(sql: &mut String, text: &str) -> Result<(), ValueError> {
    finite(text)?;
    let form = ValueError::Form("floating-point number");
    let value: f32 = text.parse().map_err(|_| form)?;
    if !value.is_finite() {
        return Err(ValueError::Long);
    }
    infallible(write!(sql, "{:e}", f64::from(value)));
    Ok(())
}

fn push_double(sql: &mut String, text: &str) -> Result<(), ValueError> {
    finite(text)?;
    let number = |c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.' | 'e' | 'E');
    let value = text.parse::<f64>().ok().filter(|_| text.chars().all(number));
    match value {
        None => return Err(ValueError::Form("floating-point number")),
        Some(value) if !value.is_finite() => return Err(ValueError::Long),
        Some(_) => sql.push_str(text),
    }
    if !text.contains(['e', 'E']) {
        // Without it the server would read a decimal number.
        sql.push_str("e0");
    }
    Ok(())
}

fn finite(text: &str) -> Result<(), ValueError> {
    let unsigned = text.trim_start_matches(['-', '+']);
    let not = ["NaN", "Infinity", "inf"].iter().any(|name| unsigned.eq_ignore_ascii_case(name));
    if not { Err(ValueError::NotFinite) } else { Ok(()) }
}

fn push_bits(sql: &mut String, text: &str) -> Result<(), ValueError> {
    let form = ValueError::Form("string of up to 64 bits");
    if let Some(truth) = truth(text) {
        sql.push_str(truth);
        return Ok(());
    }
    if text.is_empty() || BITS_MAX < text.len() || !text.bytes().all(|b| matches!(b, b'0' | b'1')) {
        return Err(form);
    }
    let bits = u64::from_str_radix(text, 2).map_err(|_| form)?;
    infallible(write!(sql, "{bits}"));
    Ok(())
}

/// Years from 1 to 99 would be taken for ones of the last and this century.
fn push_year(sql: &mut String, text: &str) -> Result<(), ValueError> {
    match text.parse::<u16>() {
        Ok(1..=99) => Err(ValueError::Time),
        Ok(year) => {
            infallible(write!(sql, "{year}"));
            Ok(())
        }
        Err(_) => Err(ValueError::Form("year")),
    }
}

/// A label made of digits is taken for the number of one if it is none itself.
fn push_label(sql: &mut String, labels: &str, text: &str) -> Result<(), ValueError> {
    let known = |label: &str| {
        let first = labels.strip_prefix("('").and_then(|rest| rest.strip_prefix(label));
        let other = alloc::format!(",'{label}'");
        first.is_some_and(|rest| rest.starts_with('\'')) || labels.contains(&other)
    };
    // The server skips blanks before a number, and a sign.
    let number = text.trim_start().trim_start_matches(['+', '-']);
    if number.starts_with(|c: char| c.is_ascii_digit()) && !text.split(',').all(known) {
        return Err(ValueError::Form("label of the column"));
    }
    push_text(sql, text);
    Ok(())
}

/// `\x` and hexadecimal digits, or a UUID for a column of 16 bytes. A column of fixed length is filled up
/// with zeros, and compares with them.
fn push_bytes(sql: &mut String, text: &str, len: Option<usize>) -> Result<(), ValueError> {
    let is_hex = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let start = sql.len();
    sql.push_str("X'");
    match text.strip_prefix("\\x") {
        Some(digits) if is_hex(digits) && digits.len().is_multiple_of(2) => sql.push_str(digits),
        Some(_) | None => {
            let mut groups = text.split('-');
            let uuid = [8, 4, 4, 4, 12]
                .iter()
                .all(|len| groups.next().is_some_and(|group| group.len() == *len && is_hex(group)))
                && groups.next().is_none();
            if !uuid || len != Some(16) {
                sql.truncate(start);
                return Err(ValueError::Form("string of bytes"));
            }
            text.split('-').for_each(|group| sql.push_str(group));
        }
    }
    if let Some(len) = len {
        let filled = start.saturating_add(2).saturating_add(len.saturating_mul(2));
        // BINARY has at most 255 bytes.
        while sql.len() < filled.min(start.saturating_add(512)) {
            sql.push('0');
        }
    }
    sql.push('\'');
    Ok(())
}

/// GeoJSON, as a changefeed prints shapes, or WKT. Neither tells the reference system in a way to rely on;
/// it is the column's, or 0, in which a shape has no place on earth.
fn push_shape(sql: &mut String, flavor: Flavor, srid: u32, text: &str) -> Result<(), ValueError> {
    let json = text.starts_with('{');
    let (_, wkt) = text.strip_prefix("SRID=").and_then(|t| t.split_once(';')).unwrap_or(("", text));
    if !json && !wkt.contains('(') {
        return Err(ValueError::Form("shape in a known notation"));
    }
    // MariaDB makes a point of whatever is in its memory (seen on 10.11), and MySQL has no empty ones.
    if json && text.contains("[]") {
        return Err(ValueError::Form("shape with coordinates"));
    }
    match (json, flavor) {
        (true, Flavor::MySql | Flavor::MySql57) => {
            // 1: a third dimension is an error.
            sql.push_str("ST_GeomFromGeoJSON(");
            push_text(sql, text);
            infallible(write!(sql, ", 1, {srid})"));
        }
        (true, Flavor::MariaDb) => {
            sql.push_str("ST_GeomFromGeoJSON(");
            push_text(sql, text);
            sql.push_str(", 1)");
        }
        (false, _) => {
            sql.push_str("ST_GeomFromText(");
            push_text(sql, wkt);
            infallible(write!(sql, ", {srid}"));
            // MySQL 8 otherwise takes the first number for a latitude.
            if flavor == Flavor::MySql && srid != 0 {
                sql.push_str(", 'axis-order=long-lat'");
            }
            sql.push(')');
        }
    }
    Ok(())
}

fn all_digits(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(u8::is_ascii_digit)
}

#[cfg(test)]
mod tests {
    use alloc::string::String;

    use super::{Cell, Flavor, MySqlType, ValueError, push};

    fn of(cast: &str, text: &str) -> Result<String, ValueError> {
        let mut sql = String::new();
        let cell = Cell::Text(text.as_bytes());
        push(&mut sql, Flavor::MySql, MySqlType::of(cast), cell).map(|()| sql)
    }

    fn check(cast: &str, text: &str, literal: &str) {
        assert_eq!(of(cast, text).as_deref(), Ok(literal), "{text} as {cast}");
    }

    fn refused(cast: &str, text: &str) {
        assert!(of(cast, text).is_err(), "{text} as {cast}");
    }

    #[test]
    fn numbers_keep_every_digit() {
        check("bigint unsigned", "18446744073709551615", "18446744073709551615");
        check("decimal(65,30)", "-0.10", "-0.10");
        check("double", "1.5", "1.5e0");
        check("double", "5E-324", "5E-324");
        check("float", "1.1", "1.100000023841858e0");
        check("float", "3.4028235E+38", "3.4028234663852886e38");
        check("tinyint(1)", "true", "1");
        check("bit(1)", "f", "0");
        check("bit(8)", "00000101", "5");
        let long = "1".repeat(66);
        check("decimal(65,0)", &long, &alloc::format!("'{long}'"));
    }

    #[test]
    fn what_the_server_would_change_in_silence_is_refused() {
        for (cast, text) in [
            ("int", "1.5"),
            ("int", ""),
            ("int", "1 "),
            ("decimal(10,2)", "1e400"),
            ("double", "1e400"),
            ("float", "1e39"),
            ("year", "70"),
            ("date", "2024-02-29T01:00:00"),
            ("varchar(2)", "ab "),
            ("enum('a','b')", "2"),
            ("enum('a','b')", " 2"),
            ("set('a','b')", "3"),
            ("bit(8)", "2"),
            ("blob", "text"),
            ("binary(4)", "00000000-0000-0000-0000-000000000000"),
            ("geometry", "0101000000"),
            ("geometry", "POINT EMPTY"),
            ("geometry", r#"{"coordinates": [], "type": "Point"}"#),
        ] {
            refused(cast, text);
        }
        for text in ["NaN", "Infinity", "-Infinity"] {
            for cast in ["double", "float", "decimal(10,2)"] {
                assert_eq!(of(cast, text), Err(ValueError::NotFinite), "{text} as {cast}");
            }
        }
    }

    #[test]
    fn texts_stay_what_they_are_in_every_sql_mode() {
        check("text", "it's", "'it''s'");
        check("text", "", "''");
        check("varchar(3)", "漢字x", "'漢字x'");
        check("char(5)", "ab  ", "'ab'");
        check("text", "a\\'", "_utf8mb4 X'615c27'");
        check("json", r#"{"a": "b"}"#, r#"'{"a": "b"}'"#);
        check("enum('5','b''s')", "5", "'5'");
        check("enum('a','5')", "5", "'5'");
        check("set('1','2')", "1,2", "'1,2'");
    }

    #[test]
    fn bytes_and_shapes_are_told_by_their_form() {
        check("blob", "\\x", "X''");
        check("varbinary(9)", "\\x00fF", "X'00fF'");
        check("binary(4)", "\\x01", "X'01000000'");
        let uuid = "01234567-89ab-cdef-0123-456789abcdef";
        check("binary(16)", uuid, "X'0123456789abcdef0123456789abcdef'");
        check("char(36)", uuid, "'01234567-89ab-cdef-0123-456789abcdef'");
        let point = r#"{"coordinates": [1.5, -2], "type": "Point"}"#;
        check("point srid 4326", point, &alloc::format!("ST_GeomFromGeoJSON('{point}', 1, 4326)"));
        check("geometry", "SRID=7;POINT (1 2)", "ST_GeomFromText('POINT (1 2)', 0)");
    }

    #[test]
    fn null_is_null_and_what_was_not_sent_is_an_error() {
        let mut sql = String::new();
        let push = |sql: &mut String, cell| push(sql, Flavor::MySql, MySqlType::Int, cell);
        assert_eq!(push(&mut sql, Cell::Null), Ok(()));
        assert_eq!(sql, "NULL");
        assert_eq!(push(&mut sql, Cell::Unchanged), Err(ValueError::Missing));
        assert_eq!(push(&mut sql, Cell::Binary(b"1")), Err(ValueError::Binary));
    }
}
