//! What can be wrong with identifiers of transactions.
use alloc::borrow::ToOwned;
use alloc::string::String;

use super::INTERVALS_MAX;

/// How much of a wrong part is shown.
const PART_CHARS_MAX: usize = 80;

/// A set would get more runs of numbers than we keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a GTID set has more than {INTERVALS_MAX} intervals")]
pub struct TooManyIntervals;

/// The text is not an identifier, a set of them or a position.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{part}\" {fault}")]
pub struct ParseGtidError {
    /// The part of the text that is wrong, or its beginning.
    pub part: String,
    /// What is wrong with it.
    pub fault: GtidFault,
}

impl ParseGtidError {
    pub(super) fn new(part: &str, fault: GtidFault) -> Self {
        let end = part.char_indices().nth(PART_CHARS_MAX).map_or(part.len(), |(at, _)| at);
        Self { part: part.get(..end).unwrap_or_default().to_owned(), fault }
    }
}

/// What is wrong with a part of an identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GtidFault {
    /// No UUID.
    #[error("is not the UUID of a server; expected 32 hexadecimal digits and four dashes")]
    Uuid,
    /// Neither numbers nor a tag.
    #[error("is neither a number, nor two as in 1-5, nor a tag")]
    Interval,
    /// A number that no transaction has.
    #[error("is out of the range of numbers, 1 to 9223372036854775806")]
    Number,
    /// The end is before the beginning.
    #[error("ends before it begins")]
    Backwards,
    /// No numbers follow.
    #[error("has no numbers behind it")]
    NoNumbers,
    /// Not one transaction.
    #[error("is not one transaction; expected a UUID, a colon and a number")]
    NotOne,
    /// Not three numbers.
    #[error("is not a GTID of MariaDB; expected three numbers as in 0-1-5")]
    Maria,
    /// A second one of its domain.
    #[error("is the second of its domain")]
    DomainTwice,
    /// See [`TooManyIntervals`].
    #[error("goes beyond {INTERVALS_MAX} intervals")]
    TooMany,
}

/// The bytes are not a set of identifiers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("in a binary GTID set, field \"{field}\" at byte {offset} {fault}")]
pub struct GtidBinaryError {
    /// The field that could not be read.
    pub field: &'static str,
    /// Where it starts, in bytes from the start of the set.
    pub offset: usize,
    /// What is wrong with it.
    pub fault: BinaryFault,
}

/// What is wrong with a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BinaryFault {
    /// The bytes end inside of it.
    #[error("is cut short")]
    Short,
    /// A format of a later version.
    #[error("has unknown value {0}")]
    Value(u64),
    /// No tag.
    #[error("is not a tag")]
    Tag,
    /// Out of order, empty, or beyond the largest number.
    #[error("is not a run of numbers above those before it")]
    Interval,
    /// Bytes after the end.
    #[error("should be the end, {0} bytes are left")]
    Extra(usize),
    /// See [`TooManyIntervals`].
    #[error("goes beyond {INTERVALS_MAX} intervals")]
    TooMany,
}
