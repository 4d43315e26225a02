//! Frames, and the numbers and texts in them.
use alloc::string::String;
use alloc::vec::Vec;

use thiserror::Error;

use super::sip::CHECKSUM;

/// What every recording begins with. The number is the version of the format.
pub const MAGIC: &[u8; 20] = b"replicator record 1\n";

/// The largest frame, in bytes. What the machine is told at once is smaller by far, unless it is one row
/// that is as large and whose values are not hashed.
pub const FRAME_BYTES_MAX: usize = 32 << 20;

/// The length before a frame and the checksum behind it.
const LEN_BYTES: usize = 4;
const CHECKSUM_BYTES: usize = 4;

/// The bytes are not a recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum RecordError {
    /// It does not begin like one.
    #[error("this is no recording of a run, or one in another format")]
    Magic,
    /// A frame is empty or too long.
    #[error("a frame of {len} bytes; it has from 1 to {FRAME_BYTES_MAX}")]
    FrameLen {
        /// How long it says it is.
        len: usize,
    },
    /// A frame was changed.
    #[error("the checksum of a frame is wrong")]
    Checksum,
    /// A frame ends too early.
    #[error("a frame ends inside of {what}")]
    Short {
        /// Inside of what.
        what: &'static str,
    },
    /// A frame has more than it should.
    #[error("{len} bytes are left at the end of a frame")]
    Long {
        /// How many bytes more.
        len: usize,
    },
    /// Something has a value that it cannot have.
    #[error("{what} has an impossible value")]
    Value {
        /// What.
        what: &'static str,
    },
    /// A frame of this kind cannot come here.
    #[error("{what} at the wrong place")]
    Order {
        /// What it is.
        what: &'static str,
    },
}

/// The next frame of some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split<'a> {
    /// A whole one.
    Frame {
        /// What is in it.
        payload: &'a [u8],
        /// How many of the bytes it took.
        used: usize,
    },
    /// More bytes are needed. If there are none, the recording was cut off here.
    Short,
}

/// Splits off the first frame. `bytes` begin with a frame, not with [`MAGIC`].
///
/// # Errors
///
/// It is no frame, or it was changed.
pub fn split(bytes: &[u8]) -> Result<Split<'_>, RecordError> {
    let Some((len, rest)) = bytes.split_first_chunk::<LEN_BYTES>() else { return Ok(Split::Short) };
    let len = usize::try_from(u32::from_be_bytes(*len)).unwrap_or(usize::MAX);
    if len == 0 || FRAME_BYTES_MAX < len {
        return Err(RecordError::FrameLen { len });
    }
    let Some((payload, rest)) = rest.split_at_checked(len) else { return Ok(Split::Short) };
    let Some((checksum, _)) = rest.split_first_chunk::<CHECKSUM_BYTES>() else {
        return Ok(Split::Short);
    };
    if *checksum != checksum_of(payload) {
        return Err(RecordError::Checksum);
    }
    let used = len.saturating_add(LEN_BYTES).saturating_add(CHECKSUM_BYTES);
    Ok(Split::Frame { payload, used })
}

/// Appends a frame. Returns whether it was small enough; if not, nothing is appended.
pub(super) fn put_frame(out: &mut Vec<u8>, payload: &[u8]) -> bool {
    let Some(len) = u32::try_from(payload.len()).ok().filter(|_| payload.len() <= FRAME_BYTES_MAX)
    else {
        return false;
    };
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(payload);
    out.extend_from_slice(&checksum_of(payload));
    true
}

fn checksum_of(payload: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let [a, b, c, d, ..] = CHECKSUM.of_bytes(payload).to_be_bytes();
    [a, b, c, d]
}

/// Appends a whole number, seven bits to a byte, lowest first.
pub(super) fn put_number(out: &mut Vec<u8>, mut number: u64) {
    while 0x80 <= number {
        let [low, ..] = number.to_le_bytes();
        out.push(low | 0x80);
        number >>= 7;
    }
    let [low, ..] = number.to_le_bytes();
    out.push(low);
}

pub(super) fn put_size(out: &mut Vec<u8>, size: usize) {
    put_number(out, u64::try_from(size).unwrap_or(u64::MAX));
}

pub(super) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_size(out, bytes.len());
    out.extend_from_slice(bytes);
}

/// Appends a value that may be missing.
pub(super) fn put_option<T>(out: &mut Vec<u8>, value: Option<T>, put: impl Fn(&mut Vec<u8>, T)) {
    match value {
        None => out.push(0),
        Some(value) => {
            out.push(1);
            put(out, value);
        }
    }
}

pub(super) fn put_list<T>(out: &mut Vec<u8>, values: &[T], mut put: impl FnMut(&mut Vec<u8>, &T)) {
    put_size(out, values.len());
    for value in values {
        put(out, value);
    }
}

/// What is left of a frame.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rest<'a> {
    bytes: &'a [u8],
    // How many bytes values of one byte over and over may still take.
    pub(super) filled_bytes_max: usize,
}

impl<'a> Rest<'a> {
    pub(super) const fn new(payload: &'a [u8], filled_bytes_max: usize) -> Self {
        Self { bytes: payload, filled_bytes_max }
    }

    pub(super) fn byte(&mut self, what: &'static str) -> Result<u8, RecordError> {
        let (byte, rest) = self.bytes.split_first().ok_or(RecordError::Short { what })?;
        self.bytes = rest;
        Ok(*byte)
    }

    pub(super) fn number(&mut self, what: &'static str) -> Result<u64, RecordError> {
        let mut number = 0_u64;
        for shift in (0..u64::BITS).step_by(7) {
            let byte = self.byte(what)?;
            let part = u64::from(byte & 0x7F);
            let shifted = part.wrapping_shl(shift);
            if shifted.wrapping_shr(shift) != part {
                return Err(RecordError::Value { what });
            }
            number |= shifted;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(RecordError::Value { what })
    }

    /// A number of a smaller type.
    pub(super) fn small<T: TryFrom<u64>>(&mut self, what: &'static str) -> Result<T, RecordError> {
        T::try_from(self.number(what)?).map_err(|_| RecordError::Value { what })
    }

    pub(super) fn bool(&mut self, what: &'static str) -> Result<bool, RecordError> {
        match self.byte(what)? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(RecordError::Value { what }),
        }
    }

    pub(super) fn take(&mut self, len: usize, what: &'static str) -> Result<&'a [u8], RecordError> {
        let (bytes, rest) = self.bytes.split_at_checked(len).ok_or(RecordError::Short { what })?;
        self.bytes = rest;
        Ok(bytes)
    }

    pub(super) fn bytes(&mut self, what: &'static str) -> Result<&'a [u8], RecordError> {
        let len = self.small(what)?;
        self.take(len, what)
    }

    pub(super) fn text(&mut self, what: &'static str) -> Result<String, RecordError> {
        let text = core::str::from_utf8(self.bytes(what)?);
        Ok(text.map_err(|_| RecordError::Value { what })?.into())
    }

    pub(super) fn array<const N: usize>(
        &mut self,
        what: &'static str,
    ) -> Result<[u8; N], RecordError> {
        let (array, rest) = self.bytes.split_first_chunk().ok_or(RecordError::Short { what })?;
        self.bytes = rest;
        Ok(*array)
    }

    pub(super) fn option<T>(
        &mut self,
        what: &'static str,
        read: impl FnOnce(&mut Self) -> Result<T, RecordError>,
    ) -> Result<Option<T>, RecordError> {
        Ok(if self.bool(what)? { Some(read(self)?) } else { None })
    }

    /// A list. Nothing is set aside for it: its elements take at least a byte each, so a list that claims
    /// to be longer than it is ends soon.
    pub(super) fn list<T>(
        &mut self,
        what: &'static str,
        mut read: impl FnMut(&mut Self) -> Result<T, RecordError>,
    ) -> Result<Vec<T>, RecordError> {
        let len: usize = self.small(what)?;
        if self.bytes.len() < len {
            return Err(RecordError::Short { what });
        }
        let mut list = Vec::new();
        for _ in 0..len {
            list.push(read(self)?);
        }
        Ok(list)
    }

    /// Nothing may be left.
    pub(super) const fn end(self) -> Result<(), RecordError> {
        if self.bytes.is_empty() {
            Ok(())
        } else {
            Err(RecordError::Long { len: self.bytes.len() })
        }
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::{FRAME_BYTES_MAX, RecordError, Rest, Split, put_frame, put_number, split};

    #[test]
    fn numbers_come_back() {
        for number in [0, 1, 0x7F, 0x80, 0x3FFF, 0x4000, u64::from(u32::MAX), u64::MAX] {
            let mut out = Vec::new();
            put_number(&mut out, number);
            let mut rest = Rest::new(&out, 0);
            assert_eq!(rest.number("n"), Ok(number));
            assert_eq!(rest.end(), Ok(()));
        }
        let too_large = [0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x02];
        let wrong = Err(RecordError::Value { what: "n" });
        assert_eq!(Rest::new(&too_large, 0).number("n"), wrong);
    }

    #[test]
    fn a_frame_is_whole_or_cut_off_or_changed() {
        let mut out = Vec::new();
        assert!(put_frame(&mut out, b"abc"));
        assert_eq!(split(&out), Ok(Split::Frame { payload: b"abc", used: out.len() }));
        for len in 0..out.len() {
            assert_eq!(split(&out[..len]), Ok(Split::Short), "{len} bytes");
        }
        out[5] ^= 1;
        assert_eq!(split(&out), Err(RecordError::Checksum));
    }

    #[test]
    fn a_frame_has_a_size() {
        assert_eq!(split(&[0; 4]), Err(RecordError::FrameLen { len: 0 }));
        let len = FRAME_BYTES_MAX + 1;
        let bytes = u32::try_from(len).unwrap().to_be_bytes();
        assert_eq!(split(&bytes), Err(RecordError::FrameLen { len }));
    }

    #[test]
    fn a_list_that_claims_too_much_is_refused() {
        let mut out = Vec::new();
        put_number(&mut out, 1 << 40);
        let list = Rest::new(&out, 0).list("list", |rest| rest.byte("byte"));
        assert_eq!(list, Err(RecordError::Short { what: "list" }));
    }
}
