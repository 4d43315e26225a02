//! The events of a binlog file, or of its beginning.
use super::cursor::Cursor;
use super::error::{DecodeError, Fault, Place};
use super::event::HEADER_BYTES;
use super::event_type::EventType;

/// What a file begins with.
pub const MAGIC: [u8; 4] = [0xFE, b'b', b'i', b'n'];

/// What a file of MySQL begins with that is encrypted as a whole (`binlog_encryption`).
const ENCRYPTED_MAGIC: [u8; 4] = [0xFD, b'b', b'i', b'n'];

/// Where the size of an event is in its header.
const SIZE_AT: core::ops::Range<usize> = 9..13;

/// The bytes of the events of a file, one after the other.
#[derive(Clone, Debug)]
pub struct Events<'a> {
    rest: &'a [u8],
    position: usize,
}

impl<'a> Events<'a> {
    /// Reads a file from its beginning.
    ///
    /// # Errors
    ///
    /// It is no binlog file, or an encrypted one.
    pub fn new(file: &'a [u8]) -> Result<Self, DecodeError> {
        if let Some(rest) = file.strip_prefix(&MAGIC) {
            return Ok(Self { rest, position: MAGIC.len() });
        }
        let place = Place { kind: EventType(0), end: 0 };
        let fault = match file.first_chunk::<4>() {
            Some(&ENCRYPTED_MAGIC) => Fault::Encrypted,
            Some(magic) => Fault::Value { found: u64::from(u32::from_le_bytes(*magic)) },
            None => Fault::Short { needed: MAGIC.len(), left: file.len() },
        };
        Err(Cursor::new(place, 0, file).error("beginning of the file", fault))
    }

    /// The next event, whole; `None` at the end of the file.
    ///
    /// # Errors
    ///
    /// The file ends inside of it.
    pub fn next_event(&mut self) -> Result<Option<&'a [u8]>, DecodeError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let size = self.rest.get(SIZE_AT).and_then(<[u8]>::first_chunk::<4>);
        let needed = size.map_or(HEADER_BYTES, |size| {
            usize::try_from(u32::from_le_bytes(*size)).unwrap_or(usize::MAX).max(HEADER_BYTES)
        });
        let Some((event, rest)) = self.rest.split_at_checked(needed) else {
            let kind = EventType(self.rest.get(4).copied().unwrap_or_default());
            let end = u32::try_from(self.position).unwrap_or(u32::MAX);
            let fault = Fault::Short { needed, left: self.rest.len() };
            return Err(Cursor::new(Place { kind, end }, 0, self.rest).error("event", fault));
        };
        self.rest = rest;
        self.position = self.position.saturating_add(needed);
        Ok(Some(event))
    }

    /// Where the next event begins in the file.
    #[must_use]
    pub const fn position(&self) -> usize {
        self.position
    }
}
