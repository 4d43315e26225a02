//! The fields of one PostgreSQL message, and what to say when they are not there.
//!
//! Whole numbers are big endian, strings end with a zero byte (PostgreSQL documentation, chapter
//! "Message Data Types").
use alloc::borrow::ToOwned;
use alloc::string::String;

use bytes::Bytes;

use crate::model::position::Lsn;
use crate::model::row::{RowError, split_cell};
use crate::model::time::WallTime;

/// Microseconds from 1970-01-01 to 2000-01-01, where PostgreSQL's clock starts.
const EPOCH_2000_MICROS: i64 = 946_684_800_000_000;

/// The bytes are not a message we can read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot decode a PostgreSQL {kind} message: field \"{field}\" at byte {offset} {fault}")]
pub struct DecodeError {
    /// The message's name in PostgreSQL's documentation.
    pub kind: &'static str,
    /// The field that could not be read.
    pub field: &'static str,
    /// Where that field starts, in bytes from the start of the message.
    pub offset: usize,
    /// What is wrong with it.
    pub fault: Fault,
}

impl DecodeError {
    /// One thing the operator can try.
    #[must_use]
    pub const fn hint(&self) -> Option<&'static str> {
        match self.fault {
            Fault::TwoPhase { .. } => {
                Some("create the replication slot without two_phase and leave the option off")
            }
            Fault::Short { .. }
            | Fault::Unterminated
            | Fault::NotUtf8
            | Fault::Value { .. }
            | Fault::Cell(_)
            | Fault::Extra { .. }
            | Fault::UnknownKind { .. } => None,
        }
    }
}

/// What is wrong with a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The message ends inside the field.
    #[error("needs {needed} bytes, {left} are left")]
    Short {
        /// Length of the field.
        needed: usize,
        /// Bytes from the start of the field to the end of the message.
        left: usize,
    },
    /// A string without the zero byte that ends it.
    #[error("is not terminated")]
    Unterminated,
    /// A string in another encoding.
    #[error("is not UTF-8")]
    NotUtf8,
    /// A value outside of those the protocol defines.
    #[error("has unknown value {found}")]
    Value {
        /// The value.
        found: u8,
    },
    /// The cells of a row are broken.
    #[error("is broken: {0}")]
    Cell(RowError),
    /// The message goes on after its last field.
    #[error("should be the end of the message, {extra} bytes are left")]
    Extra {
        /// How many.
        extra: usize,
    },
    /// A kind of message that no supported protocol version has.
    #[error("has unknown value {found}")]
    UnknownKind {
        /// The byte that names the kind.
        found: u8,
    },
    /// A message of the two-phase commit protocol, which nobody asked for.
    #[error("belongs to two-phase commit ({found}), which is not supported")]
    TwoPhase {
        /// The character that names the kind.
        found: char,
    },
}

/// Reads the fields of one message, one after the other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor<'a> {
    kind: &'static str,
    rest: &'a [u8],
    len: usize,
}

impl<'a> Cursor<'a> {
    /// Stands after the first `skip` bytes of a message that has at least those.
    #[inline]
    pub(super) fn after(skip: usize, kind: &'static str, message: &'a [u8]) -> Self {
        let rest = message.get(skip..).unwrap_or_default();
        Self { kind, rest, len: message.len() }
    }

    /// Bytes from the start of the message.
    pub(super) const fn offset(&self) -> usize {
        self.len.saturating_sub(self.rest.len())
    }

    /// An error about a field that starts here.
    pub(super) const fn error(&self, field: &'static str, fault: Fault) -> DecodeError {
        DecodeError { kind: self.kind, field, offset: self.offset(), fault }
    }

    #[inline]
    fn chunk<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], DecodeError> {
        let Some((chunk, rest)) = self.rest.split_first_chunk::<N>() else {
            return Err(self.error(field, Fault::Short { needed: N, left: self.rest.len() }));
        };
        self.rest = rest;
        Ok(*chunk)
    }

    #[inline]
    pub(super) fn u8(&mut self, field: &'static str) -> Result<u8, DecodeError> {
        self.chunk::<1>(field).map(u8::from_be_bytes)
    }

    #[inline]
    pub(super) fn u16(&mut self, field: &'static str) -> Result<u16, DecodeError> {
        self.chunk(field).map(u16::from_be_bytes)
    }

    #[inline]
    pub(super) fn u32(&mut self, field: &'static str) -> Result<u32, DecodeError> {
        self.chunk(field).map(u32::from_be_bytes)
    }

    pub(super) fn lsn(&mut self, field: &'static str) -> Result<Lsn, DecodeError> {
        self.chunk(field).map(u64::from_be_bytes).map(Lsn)
    }

    pub(super) fn time(&mut self, field: &'static str) -> Result<WallTime, DecodeError> {
        self.chunk(field).map(i64::from_be_bytes).map(wall_time)
    }

    /// A byte that can only be one of a few.
    #[inline]
    pub(super) fn one_of(&mut self, field: &'static str, known: &[u8]) -> Result<u8, DecodeError> {
        let at = *self;
        let found = self.u8(field)?;
        if known.contains(&found) {
            return Ok(found);
        }
        Err(at.error(field, Fault::Value { found }))
    }

    /// A byte that is 0 or 1.
    pub(super) fn flag(&mut self, field: &'static str) -> Result<bool, DecodeError> {
        self.one_of(field, &[0, 1]).map(|byte| byte == 1)
    }

    pub(super) fn string(&mut self, field: &'static str) -> Result<String, DecodeError> {
        let zero = self.rest.iter().position(|byte| *byte == 0);
        let split = zero.and_then(|zero| self.rest.split_at_checked(zero));
        let Some((text, rest)) = split else {
            return Err(self.error(field, Fault::Unterminated));
        };
        let Ok(text) = core::str::from_utf8(text) else {
            return Err(self.error(field, Fault::NotUtf8));
        };
        self.rest = rest.get(1..).unwrap_or_default();
        Ok(text.to_owned())
    }

    /// A run of bytes with its length in front.
    pub(super) fn bytes(&mut self, field: &'static str) -> Result<&'a [u8], DecodeError> {
        let len = self.u32(field)?;
        let split = usize::try_from(len).ok().and_then(|len| self.rest.split_at_checked(len));
        let Some((bytes, rest)) = split else {
            let needed = usize::try_from(len).unwrap_or(usize::MAX);
            return Err(self.error(field, Fault::Short { needed, left: self.rest.len() }));
        };
        self.rest = rest;
        Ok(bytes)
    }

    /// Steps over the cells of a row and returns how many of them are unchanged.
    #[inline]
    pub(super) fn cells(&mut self, field: &'static str, cells: u16) -> Result<u16, DecodeError> {
        let mut rest = self.rest;
        let mut unchanged = 0_u16;
        for number in 0..cells {
            rest = match rest {
                [b'n', after @ ..] => after,
                [b'u', after @ ..] => {
                    // Cannot saturate: there are at most `cells` of them.
                    unchanged = unchanged.saturating_add(1);
                    after
                }
                _ => match split_cell(rest, usize::from(number)) {
                    Ok((_, after)) => after,
                    Err(error) => return Err(self.error(field, Fault::Cell(error))),
                },
            };
        }
        self.rest = rest;
        Ok(unchanged)
    }

    /// Makes sure that the message ends here.
    #[inline]
    pub(super) fn end(&self) -> Result<(), DecodeError> {
        if self.rest.is_empty() {
            return Ok(());
        }
        Err(self.error("end", Fault::Extra { extra: self.rest.len() }))
    }
}

/// Converts a time of the wire. Wraps around, so that nonsense comes back as the same nonsense.
pub(super) const fn wall_time(micros_since_2000: i64) -> WallTime {
    WallTime { micros: micros_since_2000.wrapping_add(EPOCH_2000_MICROS) }
}

/// Converts a time to what the wire carries: microseconds since 2000-01-01.
pub(super) const fn micros_since_2000(time: WallTime) -> i64 {
    time.micros.wrapping_sub(EPOCH_2000_MICROS)
}

/// Looks at the byte that names the message's kind.
pub(super) fn kind_of(message: &Bytes) -> Result<u8, DecodeError> {
    let short = Fault::Short { needed: 1, left: 0 };
    message.first().copied().ok_or_else(|| unknown(short))
}

/// An error about a message whose very kind is the problem.
pub(super) const fn unknown(fault: Fault) -> DecodeError {
    DecodeError { kind: "unknown", field: "kind", offset: 0, fault }
}
