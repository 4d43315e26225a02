//! One-dimensional arrays in the binary form that both products take as a parameter.
//!
//! The form (PostgreSQL source, `array_recv` in `arrayfuncs.c`): number of dimensions, a flag for NULLs,
//! the element type's OID, then per dimension its length and lower bound, then each element as a length
//! (-1 for NULL) and its bytes. All big-endian 32-bit integers.
use alloc::vec::Vec;

use crate::model::catalog::Wire;
use crate::model::row::Cell;

const NULLS_AT: usize = 4;
const COUNT_AT: usize = 12;

/// A value cannot be bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ArrayError {
    /// The text is not a whole number of the column's size.
    #[error("a value does not fit its integer column")]
    Integer,
    /// The source sent a binary value for a column that is bound as text.
    #[error("a binary value came for a column that is bound as text")]
    Binary,
    /// The source did not send the value of a bound column.
    #[error("a bound column has no value")]
    Missing,
    /// The value or the array is too long for the protocol.
    #[error("an array is too long for the protocol")]
    TooLong,
}

/// An array under construction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Array {
    wire: Wire,
    count: i32,
    bytes: Vec<u8>,
}

impl Array {
    /// An empty array that expects `len` elements.
    #[must_use]
    pub fn new(wire: Wire, len: usize) -> Self {
        let per_element: usize = match wire {
            Wire::Int2 => 6,
            Wire::Int4 => 8,
            Wire::Int8 => 12,
            Wire::Text => 16,
        };
        let mut bytes = Vec::with_capacity(len.saturating_mul(per_element).saturating_add(20));
        let header = [1_i32, 0, element_oid(wire), 0, 1];
        for word in header {
            bytes.extend_from_slice(&word.to_be_bytes());
        }
        Self { wire, count: 0, bytes }
    }

    /// What the elements are.
    #[must_use]
    pub const fn wire(&self) -> Wire {
        self.wire
    }

    /// The finished bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Appends one element.
    ///
    /// # Errors
    ///
    /// See [`ArrayError`]. The array is useless then.
    pub fn push(&mut self, cell: Cell<'_>) -> Result<(), ArrayError> {
        match (cell, self.wire) {
            (Cell::Unchanged, _) => return Err(ArrayError::Missing),
            (Cell::Null, _) => {
                self.bytes.extend_from_slice(&(-1_i32).to_be_bytes());
                self.set(NULLS_AT, 1);
            }
            (Cell::Text(text), Wire::Text) => self.element(text)?,
            (Cell::Text(text), Wire::Int2) => self.element(&int::<i16>(text)?.to_be_bytes())?,
            (Cell::Text(text), Wire::Int4) => self.element(&int::<i32>(text)?.to_be_bytes())?,
            (Cell::Text(text), Wire::Int8) => self.element(&int::<i64>(text)?.to_be_bytes())?,
            (Cell::Binary(bytes), Wire::Int2) if bytes.len() == 2 => self.element(bytes)?,
            (Cell::Binary(bytes), Wire::Int4) if bytes.len() == 4 => self.element(bytes)?,
            (Cell::Binary(bytes), Wire::Int8) if bytes.len() == 8 => self.element(bytes)?,
            (Cell::Binary(_), _) => return Err(ArrayError::Binary),
        }
        self.count = self.count.checked_add(1).ok_or(ArrayError::TooLong)?;
        self.set(COUNT_AT, self.count);
        Ok(())
    }

    fn element(&mut self, value: &[u8]) -> Result<(), ArrayError> {
        let len = i32::try_from(value.len()).map_err(|_| ArrayError::TooLong)?;
        self.bytes.extend_from_slice(&len.to_be_bytes());
        self.bytes.extend_from_slice(value);
        Ok(())
    }

    fn set(&mut self, at: usize, word: i32) {
        let slot = self.bytes.get_mut(at..).and_then(|rest| rest.first_chunk_mut::<4>());
        let Some(slot) = slot else { panic!("an array has a header") };
        *slot = word.to_be_bytes();
    }
}

/// OIDs from PostgreSQL's `pg_type.dat`; CockroachDB uses the same.
const fn element_oid(wire: Wire) -> i32 {
    match wire {
        Wire::Int8 => 20,
        Wire::Int2 => 21,
        Wire::Int4 => 23,
        Wire::Text => 25,
    }
}

fn int<T: core::str::FromStr>(text: &[u8]) -> Result<T, ArrayError> {
    let text = core::str::from_utf8(text).map_err(|_| ArrayError::Integer)?;
    text.parse().map_err(|_| ArrayError::Integer)
}

#[cfg(test)]
mod tests {
    use super::{Array, ArrayError, Cell, Wire};

    #[test]
    fn an_array_is_what_the_server_expects() {
        let mut array = Array::new(Wire::Int4, 2);
        array.push(Cell::Text(b"-2")).unwrap();
        array.push(Cell::Null).unwrap();
        let expected: &[u8] = &[
            0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 23, 0, 0, 0, 2, 0, 0, 0, 1, // header
            0, 0, 0, 4, 0xFF, 0xFF, 0xFF, 0xFE, 0xFF, 0xFF, 0xFF, 0xFF,
        ];
        assert_eq!(array.as_bytes(), expected);
    }

    #[test]
    fn numbers_that_do_not_fit_are_refused() {
        let push = |wire, text: &str| Array::new(wire, 1).push(Cell::Text(text.as_bytes()));
        assert_eq!(push(Wire::Int2, "32767"), Ok(()));
        assert_eq!(push(Wire::Int2, "32768"), Err(ArrayError::Integer));
        assert_eq!(push(Wire::Int8, "1.5"), Err(ArrayError::Integer));
        assert_eq!(push(Wire::Text, ""), Ok(()));
    }
}
