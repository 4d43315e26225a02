//! The fields of a binlog event, one after the other, and what to say when they are not there.
//!
//! Whole numbers are little endian unless a type says otherwise. A packed number is one byte up to
//! 250, or 252, 253, 254 and 2, 3, 8 more bytes (MySQL internals, "Protocol::LengthEncodedInteger").
use alloc::borrow::ToOwned;
use alloc::string::String;

/// A field of an event cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot decode a {event} event: field \"{field}\" at byte {offset} {fault}")]
pub struct FieldError {
    /// The event's name in MySQL's documentation.
    pub event: &'static str,
    /// The field that could not be read.
    pub field: &'static str,
    /// Where that field starts, in bytes from the end of the event's header.
    pub offset: usize,
    /// What is wrong with it.
    pub fault: FieldFault,
}

/// What is wrong with a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FieldFault {
    /// The event ends inside the field.
    #[error("is cut off, {left} bytes are left")]
    Short {
        /// Bytes from the start of the field to the end of the event.
        left: usize,
    },
    /// A name in another encoding.
    #[error("is not UTF-8")]
    NotUtf8,
    /// A value that cannot be.
    #[error("has unknown value {found}")]
    Value {
        /// The value.
        found: u64,
    },
}

/// Reads fields.
#[derive(Clone, Copy, Debug)]
pub(super) struct Input<'a> {
    rest: &'a [u8],
}

impl<'a> Input<'a> {
    #[inline]
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    #[inline]
    pub(super) const fn left(&self) -> usize {
        self.rest.len()
    }

    #[inline]
    pub(super) const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    #[inline]
    pub(super) fn bytes(&mut self, len: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(bytes)
    }

    #[inline]
    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (bytes, rest) = self.rest.split_first_chunk::<N>()?;
        self.rest = rest;
        Some(*bytes)
    }

    #[inline]
    pub(super) fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_le_bytes)
    }

    #[inline]
    pub(super) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    #[inline]
    pub(super) fn u24(&mut self) -> Option<u32> {
        let [a, b, c] = self.array()?;
        Some(u32::from_le_bytes([a, b, c, 0]))
    }

    #[inline]
    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    #[inline]
    pub(super) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// A number of up to 8 bytes.
    #[inline]
    pub(super) fn number(&mut self, len: usize) -> Option<u64> {
        Some(little(self.bytes(len)?))
    }

    /// A number of up to 8 bytes whose most significant byte comes first.
    #[inline]
    pub(super) fn number_big(&mut self, len: usize) -> Option<u64> {
        Some(big(self.bytes(len)?))
    }

    /// Bytes with their count in front, as a number of `len` bytes.
    #[inline]
    pub(super) fn counted(&mut self, len: u8) -> Option<&'a [u8]> {
        let count = match len {
            1 => usize::from(self.u8()?),
            2 => usize::from(self.u16()?),
            len => usize::try_from(self.number(usize::from(len))?).ok()?,
        };
        self.bytes(count)
    }

    /// A packed number.
    #[inline]
    pub(super) fn packed(&mut self) -> Option<u64> {
        match self.u8()? {
            252 => self.u16().map(u64::from),
            253 => self.u24().map(u64::from),
            254 => self.u64(),
            251 | 255 => None,
            small => Some(u64::from(small)),
        }
    }

    /// A packed number that counts something in memory.
    #[inline]
    pub(super) fn packed_len(&mut self) -> Option<usize> {
        self.packed().and_then(|len| usize::try_from(len).ok())
    }

    /// Bytes with their count in front, as a packed number.
    #[inline]
    pub(super) fn packed_bytes(&mut self) -> Option<&'a [u8]> {
        let len = self.packed_len()?;
        self.bytes(len)
    }
}

/// The number that up to 8 bytes are, the least significant one first.
#[inline]
pub(super) fn little(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, byte| (number << 8) | u64::from(*byte))
}

/// The number that up to 8 bytes are, the most significant one first.
#[inline]
pub(super) fn big(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |number, byte| (number << 8) | u64::from(*byte))
}

/// Reads the fields of an event that are named when they are broken.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fields<'a> {
    event: &'static str,
    len: usize,
    input: Input<'a>,
}

impl<'a> Fields<'a> {
    pub(super) const fn new(event: &'static str, body: &'a [u8]) -> Self {
        Self { event, len: body.len(), input: Input::new(body) }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.input.left() == 0
    }

    pub(super) const fn rest(&self) -> &'a [u8] {
        self.input.rest()
    }

    /// The same event, from here on only these bytes.
    pub(super) const fn within(&self, bytes: &'a [u8]) -> Self {
        let len = self.len.saturating_sub(self.input.left());
        Self { event: self.event, len, input: Input::new(bytes) }
    }

    /// An error about a field that starts here.
    pub(super) const fn error(&self, field: &'static str, fault: FieldFault) -> FieldError {
        let offset = self.len.saturating_sub(self.input.left());
        FieldError { event: self.event, field, offset, fault }
    }

    /// Reads one field.
    pub(super) fn read<T>(
        &mut self,
        field: &'static str,
        read: impl FnOnce(&mut Input<'a>) -> Option<T>,
    ) -> Result<T, FieldError> {
        let mut input = self.input;
        let Some(value) = read(&mut input) else {
            return Err(self.error(field, FieldFault::Short { left: self.input.left() }));
        };
        self.input = input;
        Ok(value)
    }

    /// Reads a name: its length as a packed number, and as many bytes.
    pub(super) fn name(&mut self, field: &'static str) -> Result<String, FieldError> {
        let at = *self;
        let bytes = self.read(field, Input::packed_bytes)?;
        let name = core::str::from_utf8(bytes);
        name.map(ToOwned::to_owned).map_err(|_| at.error(field, FieldFault::NotUtf8))
    }
}

#[cfg(test)]
mod tests {
    use super::Input;

    #[test]
    fn packed_numbers_say_their_own_length() {
        for (bytes, expected) in [
            (&b"\0"[..], Some(0)),
            (b"\xfa", Some(250)),
            (b"\xfb", None),
            (b"\xfc\xfb\0", Some(251)),
            (b"\xfd\0\0\x01", Some(65_536)),
            (b"\xfe\0\0\0\0\0\0\0\x80", Some(1 << 63)),
            (b"\xff", None),
            (b"\xfc\xfb", None),
            (b"", None),
        ] {
            assert_eq!(Input::new(bytes).packed(), expected, "{bytes:x?}");
        }
    }
}
