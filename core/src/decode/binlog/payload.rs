//! Unpacks compressed transactions event by event, so that however large they are, one event and what
//! Zstandard looks back at are held.
use alloc::vec::Vec;
use core::fmt;

use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

use super::cursor::Cursor;
use super::decoder::UnpackLimits;
use super::error::{DecodeError, Fault, Place};
use super::event::{HEADER_BYTES, Payload};
use super::event_type::EventType;

/// Where the size of an event is in its header.
const SIZE_AT: core::ops::Range<usize> = 9..13;

/// What unpacking needs. Kept from one transaction to the next, for it is large.
pub struct Unpacker {
    decoder: FrameDecoder,
    // Unpacked; the first `read` bytes are done with.
    held: Vec<u8>,
    read: usize,
}

impl fmt::Debug for Unpacker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unpacker").field("held", &self.held.len()).finish_non_exhaustive()
    }
}

impl Default for Unpacker {
    fn default() -> Self {
        Self::new()
    }
}

impl Unpacker {
    /// Nothing is unpacked yet.
    #[must_use]
    pub fn new() -> Self {
        Self { decoder: FrameDecoder::new(), held: Vec::new(), read: 0 }
    }

    /// Begins with a transaction. `end` is where its event ends in the file, for errors.
    ///
    /// # Errors
    ///
    /// It says that it is larger than the limits, or cannot be unpacked.
    pub fn open<'u, 'a>(
        &'u mut self,
        payload: &Payload<'a>,
        limits: UnpackLimits,
        end: u32,
    ) -> Result<Events<'u, 'a>, DecodeError> {
        self.held.clear();
        self.read = 0;
        let place = Place { kind: EventType::TRANSACTION_PAYLOAD_EVENT, end };
        let mut events = Events {
            unpacker: self,
            place,
            limits,
            packed: payload.data,
            plain: !payload.zstd,
            state: State::BetweenFrames,
            unpacked: 0,
            said: payload.unpacked_bytes,
        };
        if limits.transaction_bytes_max < payload.unpacked_bytes.unwrap_or_default() {
            return Err(events.too_large("unpacked size", limits.transaction_bytes_max));
        }
        events.unpacker.decoder.set_max_window_size(limits.window_bytes_max);
        if events.plain {
            events.take_plain();
        }
        Ok(events)
    }
}

/// Where the compressed bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    BetweenFrames,
    InFrame,
}

/// The events of a compressed transaction.
#[derive(Debug)]
pub struct Events<'u, 'a> {
    unpacker: &'u mut Unpacker,
    place: Place,
    limits: UnpackLimits,
    packed: &'a [u8],
    plain: bool,
    state: State,
    unpacked: u64,
    said: Option<u64>,
}

impl Events<'_, '_> {
    /// The next event, whole, for [`decode_inner`](super::decoder::Decoder::decode_inner). `None` once
    /// all are out.
    ///
    /// # Errors
    ///
    /// It cannot be unpacked, or not to whole events, or is larger than the limits, or is not as large
    /// as it said.
    pub fn next_event(&mut self) -> Result<Option<&[u8]>, DecodeError> {
        if !self.fill(HEADER_BYTES)? {
            return match (self.left().len(), self.said) {
                (0, Some(said)) if said != self.unpacked => Err(self.broken("unpacked size")),
                (0, _) => Ok(None),
                _ => Err(self.broken("event")),
            };
        }
        let size = self.left().get(SIZE_AT).and_then(<[u8]>::first_chunk::<4>);
        let size = size.map_or(0, |size| u32::from_le_bytes(*size));
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        if size < HEADER_BYTES {
            return Err(self.broken("event"));
        }
        if self.limits.event_bytes_max < size {
            let limit = u64::try_from(self.limits.event_bytes_max).unwrap_or(u64::MAX);
            return Err(self.too_large("event", limit));
        }
        if !self.fill(size)? {
            return Err(self.broken("event"));
        }
        let begin = self.unpacker.read;
        self.unpacker.read = begin.saturating_add(size);
        Ok(self.unpacker.held.get(begin..self.unpacker.read))
    }

    /// How many bytes have been unpacked so far.
    #[must_use]
    pub const fn unpacked(&self) -> u64 {
        self.unpacked
    }

    fn left(&self) -> &[u8] {
        self.unpacker.held.get(self.unpacker.read..).unwrap_or_default()
    }

    /// Unpacks until so many bytes are there. Returns whether they are.
    fn fill(&mut self, bytes: usize) -> Result<bool, DecodeError> {
        while self.left().len() < bytes {
            if self.packed.is_empty() && self.state == State::BetweenFrames {
                return Ok(false);
            }
            self.unpack()?;
        }
        Ok(true)
    }

    /// Unpacks one block.
    fn unpack(&mut self) -> Result<(), DecodeError> {
        if self.state == State::BetweenFrames {
            let began = self.unpacker.decoder.init(&mut self.packed);
            began.map_err(|_| self.broken("data"))?;
            self.state = State::InFrame;
        }
        let one = BlockDecodingStrategy::UptoBlocks(1);
        let ended = self.unpacker.decoder.decode_blocks(&mut self.packed, one);
        let ended = ended.map_err(|_| self.broken("data"))?;
        let block = self.unpacker.decoder.collect().unwrap_or_default();
        let len = u64::try_from(block.len()).unwrap_or(u64::MAX);
        self.unpacked = self.unpacked.saturating_add(len);
        if self.limits.transaction_bytes_max < self.unpacked {
            return Err(self.too_large("data", self.limits.transaction_bytes_max));
        }
        self.forget_read();
        self.unpacker.held.extend_from_slice(&block);
        if ended {
            self.state = State::BetweenFrames;
            let said = self.unpacker.decoder.get_checksum_from_data();
            if said.is_some() && said != self.unpacker.decoder.get_calculated_checksum() {
                return Err(self.broken("checksum of the data"));
            }
        }
        Ok(())
    }

    fn take_plain(&mut self) {
        self.unpacker.held.extend_from_slice(self.packed);
        self.unpacked = u64::try_from(self.packed.len()).unwrap_or(u64::MAX);
        self.packed = &[];
    }

    fn forget_read(&mut self) {
        let read = core::mem::take(&mut self.unpacker.read);
        self.unpacker.held.drain(..read.min(self.unpacker.held.len()));
    }

    const fn broken(&self, field: &'static str) -> DecodeError {
        Cursor::new(self.place, HEADER_BYTES, self.packed).error(field, Fault::Packed)
    }

    const fn too_large(&self, field: &'static str, limit: u64) -> DecodeError {
        Cursor::new(self.place, HEADER_BYTES, self.packed).error(field, Fault::TooLarge { limit })
    }
}
