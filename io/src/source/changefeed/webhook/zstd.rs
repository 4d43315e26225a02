//! Unpacks Zstandard (RFC 8878) as it arrives: whole blocks as soon as they are there.
//!
//! The library reads from what blocks while it waits, so it is handed one block at a time, of which all
//! is known to be there.
use std::mem;

use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};
use tokio::sync::OwnedSemaphorePermit;

use super::Refusal;
use super::unpack::Collected;

/// Of a frame, and of a frame to be skipped (RFC 8878, sections 3.1.1 and 3.1.2).
const MAGIC: u32 = 0xFD2F_B528;
const SKIPPED: std::ops::RangeInclusive<u32> = 0x184D_2A50..=0x184D_2A5F;

/// The longest header of a frame.
const HEADER_BYTES_MAX: usize = 18;
const BLOCK_HEADER_BYTES: usize = 3;
const CHECKSUM_BYTES: usize = 4;

/// A block with its header is not larger, so no more than this and one piece is kept.
const BLOCK_BYTES_MAX: usize = 128 << 10;

/// Why it stops.
#[derive(Debug)]
pub(super) enum ZstdError {
    /// There is no room.
    Refused(Refusal),
    /// It is not Zstandard, or not whole.
    Broken(String),
}

/// What comes next.
#[derive(Clone, Copy, Debug)]
enum Next {
    /// A frame, or the end.
    Frame,
    /// A block of a frame that has a checksum at its end, or none.
    Block { checksum: bool },
    /// So many bytes that mean nothing.
    Skip(usize),
}

/// Takes a body as it arrives.
pub(super) struct Zstd {
    collected: Collected,
    decoder: FrameDecoder,
    next: Next,
    // Arrived, and not yet unpacked.
    waiting: Vec<u8>,
    // For what the frame has behind it, which later blocks may repeat.
    window: Option<OwnedSemaphorePermit>,
}

/// The next part of a stream, if all of it is there.
enum Part {
    Missing,
    Frame { bytes: usize, window_bytes: u64, checksum: bool },
    Block { bytes: usize },
    Skip { header_bytes: usize, bytes: usize },
}

impl Zstd {
    pub(super) fn new(collected: Collected) -> Self {
        let mut decoder = FrameDecoder::new();
        decoder.set_max_window_size(u64::try_from(collected.bytes_max()).unwrap_or(u64::MAX));
        Self { collected, decoder, next: Next::Frame, waiting: Vec::new(), window: None }
    }

    /// Takes the next piece.
    pub(super) fn push(&mut self, piece: &[u8]) -> Result<(), ZstdError> {
        let mut waiting = mem::take(&mut self.waiting);
        waiting.extend_from_slice(piece);
        let mut rest = waiting.as_slice();
        while let Some(after) = self.step(rest)? {
            rest = after;
        }
        let done = waiting.len() - rest.len();
        waiting.drain(..done);
        self.waiting = waiting;
        Ok(())
    }

    /// The body, if it ended where a frame did.
    pub(super) fn finish(self) -> Result<Collected, ZstdError> {
        match self.next {
            Next::Frame if self.waiting.is_empty() => Ok(self.collected),
            Next::Frame | Next::Block { .. } | Next::Skip(_) => Err(broken("it ended too early")),
        }
    }

    /// Unpacks one part and returns what is behind it. `None` if it is not all there.
    fn step<'a>(&mut self, bytes: &'a [u8]) -> Result<Option<&'a [u8]>, ZstdError> {
        let part = match self.next {
            Next::Frame => frame(bytes)?,
            Next::Block { checksum } => block(bytes, checksum)?,
            Next::Skip(0) => {
                self.next = Next::Frame;
                return Ok(Some(bytes));
            }
            Next::Skip(_) if bytes.is_empty() => Part::Missing,
            Next::Skip(left) => {
                let skipped = left.min(bytes.len());
                self.next = Next::Skip(left - skipped);
                return Ok(bytes.get(skipped..));
            }
        };
        match part {
            Part::Missing => Ok(None),
            Part::Skip { header_bytes, bytes: left } => {
                self.next = Next::Skip(left);
                Ok(bytes.get(header_bytes..))
            }
            Part::Frame { bytes: length, window_bytes, checksum } => {
                self.begin(bytes.get(..length).unwrap_or_default(), window_bytes)?;
                self.next = Next::Block { checksum };
                Ok(bytes.get(length..))
            }
            Part::Block { bytes: length } => {
                self.unpack(bytes.get(..length).unwrap_or_default())?;
                Ok(bytes.get(length..))
            }
        }
    }

    fn begin(&mut self, header: &[u8], window_bytes: u64) -> Result<(), ZstdError> {
        let window_bytes = usize::try_from(window_bytes).unwrap_or(usize::MAX);
        // The library has a limit of its own and says so; what it takes is counted by us.
        if window_bytes <= self.collected.bytes_max() {
            self.window = None;
            let window = self.collected.beside(window_bytes).map_err(ZstdError::Refused)?;
            self.window = Some(window);
        }
        self.decoder.init(header).map_err(|error| broken(&error.to_string()))
    }

    fn unpack(&mut self, block: &[u8]) -> Result<(), ZstdError> {
        let one = BlockDecodingStrategy::UptoBlocks(1);
        let ended = self.decoder.decode_blocks(block, one);
        let ended = ended.map_err(|error| broken(&error.to_string()))?;
        let unpacked = self.decoder.collect().unwrap_or_default();
        self.collected.push(&unpacked).map_err(ZstdError::Refused)?;
        if !ended {
            return Ok(());
        }
        let said = self.decoder.get_checksum_from_data();
        if said.is_some() && said != self.decoder.get_calculated_checksum() {
            return Err(broken("its checksum is wrong"));
        }
        self.window = None;
        self.next = Next::Frame;
        Ok(())
    }
}

/// The header of a frame (RFC 8878, section 3.1.1.1).
fn frame(bytes: &[u8]) -> Result<Part, ZstdError> {
    let Some((magic, rest)) = bytes.split_first_chunk::<4>() else { return Ok(Part::Missing) };
    let magic = u32::from_le_bytes(*magic);
    if SKIPPED.contains(&magic) {
        let Some((length, _)) = rest.split_first_chunk::<4>() else { return Ok(Part::Missing) };
        let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
        return Ok(Part::Skip { header_bytes: 8, bytes: length });
    }
    if magic != MAGIC {
        return Err(broken("it is not Zstandard"));
    }
    let Some((descriptor, rest)) = rest.split_first() else { return Ok(Part::Missing) };
    let single = descriptor & 0x20 != 0;
    let window = usize::from(!single);
    let dictionary = [0, 1, 2, 4][usize::from(descriptor & 3)];
    let content = match descriptor >> 6 {
        0 => usize::from(single),
        1 => 2,
        2 => 4,
        _ => 8,
    };
    let length = 5 + window + dictionary + content;
    debug_assert!(length <= HEADER_BYTES_MAX, "a header of {length} bytes");
    let Some(fields) = rest.get(..length - 5) else { return Ok(Part::Missing) };
    let window_bytes = if single {
        let size = fields.get(dictionary..).unwrap_or_default();
        let size = size.iter().rev().fold(0, |size, byte| size << 8 | u64::from(*byte));
        if content == 2 { size + 256 } else { size }
    } else {
        let field = fields.first().copied().unwrap_or_default();
        let base = 1_u64 << (10 + (field >> 3));
        base + base / 8 * u64::from(field & 7)
    };
    let checksum = descriptor & 4 != 0;
    Ok(Part::Frame { bytes: length, window_bytes, checksum })
}

/// A block with its header (RFC 8878, section 3.1.1.2), and the checksum behind the last one.
fn block(bytes: &[u8], checksum: bool) -> Result<Part, ZstdError> {
    let Some(header) = bytes.first_chunk::<BLOCK_HEADER_BYTES>() else { return Ok(Part::Missing) };
    let [low, middle, high] = header.map(usize::from);
    let header = low | middle << 8 | high << 16;
    let size = match header >> 1 & 3 {
        // One byte, repeated.
        1 => 1,
        _ => header >> 3,
    };
    if BLOCK_BYTES_MAX < size {
        return Err(broken("a block is too large"));
    }
    let behind = if header & 1 == 1 && checksum { CHECKSUM_BYTES } else { 0 };
    let length = BLOCK_HEADER_BYTES + size + behind;
    Ok(if bytes.len() < length { Part::Missing } else { Part::Block { bytes: length } })
}

fn broken(detail: &str) -> ZstdError {
    ZstdError::Broken(detail.to_owned())
}
