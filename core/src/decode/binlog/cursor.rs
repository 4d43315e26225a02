//! The fields of one event, one after the other. Whole numbers are little endian.
use super::error::{DecodeError, Fault, Place};

/// Reads the fields of one event.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor<'a> {
    place: Place,
    rest: &'a [u8],
    // Where `rest` ends, in bytes from the start of the event.
    end: usize,
}

impl<'a> Cursor<'a> {
    /// Stands at the first byte of `bytes`, which begin `skipped` bytes into the event.
    pub(super) const fn new(place: Place, skipped: usize, bytes: &'a [u8]) -> Self {
        Self { place, rest: bytes, end: skipped.saturating_add(bytes.len()) }
    }

    /// An error about a field that starts here.
    pub(super) const fn error(&self, field: &'static str, fault: Fault) -> DecodeError {
        let offset = self.end.saturating_sub(self.rest.len());
        DecodeError { place: self.place, field, offset, fault }
    }

    pub(super) const fn left(&self) -> usize {
        self.rest.len()
    }

    pub(super) fn chunk<const N: usize>(
        &mut self,
        field: &'static str,
    ) -> Result<[u8; N], DecodeError> {
        let Some((chunk, rest)) = self.rest.split_first_chunk::<N>() else {
            return Err(self.error(field, Fault::Short { needed: N, left: self.rest.len() }));
        };
        self.rest = rest;
        Ok(*chunk)
    }

    pub(super) fn u8(&mut self, field: &'static str) -> Result<u8, DecodeError> {
        self.chunk::<1>(field).map(u8::from_le_bytes)
    }

    pub(super) fn u16(&mut self, field: &'static str) -> Result<u16, DecodeError> {
        self.chunk(field).map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self, field: &'static str) -> Result<u32, DecodeError> {
        self.chunk(field).map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self, field: &'static str) -> Result<u64, DecodeError> {
        self.chunk(field).map(u64::from_le_bytes)
    }

    /// A whole number of `N` bytes, at most eight.
    pub(super) fn wide<const N: usize>(&mut self, field: &'static str) -> Result<u64, DecodeError> {
        let bytes = self.chunk::<N>(field)?;
        Ok(bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    /// A whole number of one to nine bytes (`net_field_length`).
    pub(super) fn packed(&mut self, field: &'static str) -> Result<u64, DecodeError> {
        let at = *self;
        match self.u8(field)? {
            small @ 0..=250 => Ok(u64::from(small)),
            252 => self.wide::<2>(field),
            253 => self.wide::<3>(field),
            254 => self.u64(field),
            other => Err(at.error(field, Fault::Value { found: u64::from(other) })),
        }
    }

    /// A whole number of the serialisation of MySQL 8.3: as many ones at the low end of its first byte
    /// as bytes follow.
    pub(super) fn varlen(&mut self, field: &'static str) -> Result<u64, DecodeError> {
        let first = self.u8(field)?;
        let more = first.trailing_ones();
        let mut high = 0;
        for shift in 0..more {
            high |= u64::from(self.u8(field)?) << shift.saturating_mul(8);
        }
        // What the first byte has left lies below; with eight and seven ones it has nothing left.
        let low = u64::from(first).checked_shr(more.saturating_add(1)).unwrap_or_default();
        let width = 7_u32.saturating_sub(more);
        Ok(high << width | low)
    }

    /// The same with a sign, which is the lowest bit. A negative number is what is missing to zero,
    /// less one.
    pub(super) fn varlen_signed(&mut self, field: &'static str) -> Result<i64, DecodeError> {
        let zigzag = self.varlen(field)?;
        let half = (zigzag >> 1).cast_signed();
        Ok(if zigzag & 1 == 1 { !half } else { half })
    }

    /// A run of bytes of this length.
    pub(super) fn bytes(
        &mut self,
        field: &'static str,
        len: usize,
    ) -> Result<&'a [u8], DecodeError> {
        let Some((bytes, rest)) = self.rest.split_at_checked(len) else {
            return Err(self.error(field, Fault::Short { needed: len, left: self.rest.len() }));
        };
        self.rest = rest;
        Ok(bytes)
    }

    /// A run of bytes whose length was read as a wide number.
    pub(super) fn bytes_wide(
        &mut self,
        field: &'static str,
        len: u64,
    ) -> Result<&'a [u8], DecodeError> {
        self.bytes(field, usize::try_from(len).unwrap_or(usize::MAX))
    }

    /// A string with a zero byte at its end.
    pub(super) fn terminated(&mut self, field: &'static str) -> Result<&'a [u8], DecodeError> {
        let zero = self.rest.iter().position(|byte| *byte == 0);
        let Some(zero) = zero else { return Err(self.error(field, Fault::Unterminated)) };
        let text = self.bytes(field, zero)?;
        self.bytes(field, 1)?;
        Ok(text)
    }

    /// All that is left.
    pub(super) const fn rest(&mut self) -> &'a [u8] {
        let (bytes, rest) = self.rest.split_at(self.rest.len());
        self.rest = rest;
        bytes
    }

    /// A part of this length, to be read on its own.
    pub(super) fn part(&mut self, field: &'static str, len: usize) -> Result<Self, DecodeError> {
        let begin = self.end.saturating_sub(self.rest.len());
        let bytes = self.bytes(field, len)?;
        Ok(Self::new(self.place, begin, bytes))
    }

    /// Makes sure that the event ends here.
    pub(super) const fn end(&self) -> Result<(), DecodeError> {
        if self.rest.is_empty() {
            return Ok(());
        }
        Err(self.error("end", Fault::Extra { extra: self.rest.len() }))
    }
}
