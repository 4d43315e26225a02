//! The identity of a row, as bytes that compare like the key.
//!
//! Two texts can be one key: `1.0` and `1.00` as numeric, `a` and `a ` as character(n). They must get
//! the same bytes, or two changes of one row would pass for changes of two rows. Key types whose
//! equality we cannot express in bytes ([`KeyKind::Loose`]) switch netting off for their table.
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;

use super::row::Cell;

/// The primary key of a row, encoded so that byte order is a key order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RowKey(Box<[u8]>);

impl RowKey {
    /// Takes bytes that are already a key; for tests and decoders with keys of their own.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }

    /// The encoded key.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Length of the encoded key in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether the key has no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// How values of a type are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyKind {
    /// Whole numbers that fit 64 bits.
    Int,
    /// Decimal numbers; `1.0` equals `1.00`.
    Numeric,
    /// Floating point; `-0` equals `0`.
    Float,
    /// Padded strings; trailing blanks do not count.
    Padded,
    /// Equal exactly if the text is.
    Exact,
    /// Equality that the text does not show (`citext`, `interval`, `jsonb`, …).
    Loose,
}

/// Writes the cells of one key, one after the other.
#[derive(Clone, Debug, Default)]
pub struct KeyBuilder {
    bytes: Vec<u8>,
}

// Tags keep values of different shape apart.
const NULL: u8 = 1;
const NEGATIVE: u8 = 2;
const POSITIVE: u8 = 3;
const BYTES: u8 = 4;

/// The cell of a key column was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a key column has no value in the message")]
pub struct KeyUnknown;

impl KeyBuilder {
    /// An empty key.
    #[must_use]
    pub fn new() -> Self {
        Self { bytes: Vec::with_capacity(16) }
    }

    /// Appends one cell.
    ///
    /// # Errors
    ///
    /// The cell is [`Cell::Unchanged`], so nobody knows its value.
    pub fn push(&mut self, kind: KeyKind, cell: Cell<'_>) -> Result<(), KeyUnknown> {
        let value = match cell {
            Cell::Null => {
                self.bytes.push(NULL);
                return Ok(());
            }
            Cell::Unchanged => return Err(KeyUnknown),
            Cell::Text(value) | Cell::Binary(value) => value,
        };
        match kind {
            KeyKind::Int => match parse_int(value) {
                Some(number) => self.push_int(number),
                None => self.push_bytes(value),
            },
            KeyKind::Numeric => self.push_numeric(value),
            KeyKind::Float => self.push_bytes(if value == b"-0" { b"0" } else { value }),
            KeyKind::Padded => self.push_bytes(value.trim_ascii_end_spaces()),
            KeyKind::Exact => self.push_bytes(value),
            // One key for all: everything in the table counts as one row.
            KeyKind::Loose => self.push_bytes(b""),
        }
        Ok(())
    }

    /// The finished key.
    #[must_use]
    pub fn finish(self) -> RowKey {
        RowKey(self.bytes.into())
    }

    fn push_int(&mut self, number: i64) {
        self.bytes.push(if number < 0 { NEGATIVE } else { POSITIVE });
        self.bytes.extend_from_slice(&number.to_be_bytes());
    }

    /// `0` is escaped and two `0` end the value, so that no key is the beginning of another.
    fn push_bytes(&mut self, value: &[u8]) {
        self.bytes.push(BYTES);
        if value.contains(&0) {
            for byte in value {
                self.bytes.push(*byte);
                if *byte == 0 {
                    self.bytes.push(0xFF);
                }
            }
        } else {
            self.bytes.extend_from_slice(value);
        }
        self.bytes.extend_from_slice(&[0, 0]);
    }

    /// Drops zeros that do not change the value. Exponents are left alone: neither product prints them,
    /// and those of a changefeed are written out by its decoder.
    fn push_numeric(&mut self, value: &[u8]) {
        let (sign, digits): (&[u8], &[u8]) = match value.split_first() {
            Some((b'-', rest)) => (b"-", rest),
            Some((b'+', rest)) => (b"", rest),
            Some(_) | None => (b"", value),
        };
        if digits.iter().any(|byte| !byte.is_ascii_digit() && *byte != b'.') {
            return self.push_bytes(value);
        }
        let mut parts = digits.splitn(2, |byte| *byte == b'.');
        let mut whole = parts.next().unwrap_or_default();
        let mut fraction = parts.next().unwrap_or_default();
        while let Some((b'0', rest)) = whole.split_first() {
            whole = rest;
        }
        while let Some((b'0', rest)) = fraction.split_last() {
            fraction = rest;
        }
        let zero = whole.is_empty() && fraction.is_empty();
        self.bytes.push(BYTES);
        if !zero {
            self.bytes.extend_from_slice(sign);
        }
        self.bytes.extend_from_slice(whole);
        self.bytes.push(b'.');
        self.bytes.extend_from_slice(fraction);
        self.bytes.extend_from_slice(&[0, 0]);
    }
}

trait TrimSpaces {
    fn trim_ascii_end_spaces(&self) -> &Self;
}

impl TrimSpaces for [u8] {
    fn trim_ascii_end_spaces(&self) -> &Self {
        let mut rest = self;
        while let Some((b' ', shorter)) = rest.split_last() {
            rest = shorter;
        }
        rest
    }
}

/// A whole number of 64 bits, as a key reads it.
pub(crate) fn parse_int(value: &[u8]) -> Option<i64> {
    core::str::from_utf8(value).ok()?.parse().ok()
}

impl fmt::Display for RowKey {
    /// Prints the length only: keys are row values and must not reach a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "key of {} bytes", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::{Cell, KeyBuilder, KeyKind, KeyUnknown, RowKey};

    fn key(kind: KeyKind, values: &[&str]) -> RowKey {
        let mut builder = KeyBuilder::new();
        for value in values {
            builder.push(kind, Cell::Text(value.as_bytes())).unwrap();
        }
        builder.finish()
    }

    #[test]
    fn equal_values_are_equal_keys() {
        for (kind, left, right) in [
            (KeyKind::Numeric, "1.0", "1.00"),
            (KeyKind::Numeric, "0", "-0.000"),
            (KeyKind::Numeric, "100", "100.0"),
            (KeyKind::Float, "-0", "0"),
            (KeyKind::Padded, "a", "a  "),
            (KeyKind::Loose, "a", "A"),
        ] {
            assert_eq!(key(kind, &[left]), key(kind, &[right]), "{left} {right}");
        }
    }

    #[test]
    fn different_values_are_different_keys() {
        for (kind, left, right) in [
            (KeyKind::Numeric, "1", "10"),
            (KeyKind::Numeric, "0.1", "0.01"),
            (KeyKind::Numeric, "-1", "1"),
            (KeyKind::Numeric, "NaN", "Infinity"),
            (KeyKind::Exact, "a", "A"),
            (KeyKind::Exact, "a", "a "),
        ] {
            assert_ne!(key(kind, &[left]), key(kind, &[right]), "{left} {right}");
        }
        assert_ne!(key(KeyKind::Exact, &["a", "b"]), key(KeyKind::Exact, &["ab", ""]));
        assert_ne!(key(KeyKind::Exact, &["a\0\0b"]), key(KeyKind::Exact, &["a", "b"]));
    }

    #[test]
    fn whole_numbers_sort_as_numbers() {
        let numbers = ["-9223372036854775808", "-10", "-9", "0", "2", "10", "9223372036854775807"];
        let keys = numbers.map(|number| key(KeyKind::Int, &[number]));
        assert!(keys.is_sorted());
    }

    #[test]
    fn an_unchanged_key_cell_is_an_error() {
        assert_eq!(KeyBuilder::new().push(KeyKind::Exact, Cell::Unchanged), Err(KeyUnknown));
    }
}
