//! Unpacks what `log_bin_compress` of MariaDB packs (`binlog_buf_uncompress` in its
//! `sql/log_event.cc`): a byte with the method and the width of a length, the length, and zlib.
use alloc::vec::Vec;

use miniz_oxide::inflate::decompress_to_vec_zlib_with_limit;

use super::cursor::Cursor;
use super::error::{DecodeError, Fault};

/// In the first byte: which method, 0 being zlib, and how many bytes the length has.
const METHOD: u8 = 0x70;
const WIDTH: u8 = 0x07;
const WIDTH_MAX: u8 = 4;

/// Unpacks all that is left.
pub(super) fn text(mut packed: Cursor<'_>, bytes_max: usize) -> Result<Vec<u8>, DecodeError> {
    let at = packed;
    let first = packed.u8("compression")?;
    let width = first & WIDTH;
    if first & METHOD != 0 || !(1..=WIDTH_MAX).contains(&width) {
        return Err(at.error("compression", Fault::Value { found: u64::from(first) }));
    }
    let size = packed.bytes("unpacked size", usize::from(width))?;
    let size = size.iter().fold(0_usize, |size, byte| size << 8 | usize::from(*byte));
    if bytes_max < size {
        let limit = u64::try_from(bytes_max).unwrap_or(u64::MAX);
        return Err(at.error("unpacked size", Fault::TooLarge { limit }));
    }
    let at = packed;
    let out = decompress_to_vec_zlib_with_limit(packed.rest(), size);
    out.ok().filter(|out| out.len() == size).ok_or_else(|| at.error("data", Fault::Packed))
}

/// Unpacks the body of rows: its head, the number of columns and which of them there are stay as
/// they are, the rows behind them are packed.
pub(super) fn rows(
    body: Cursor<'_>,
    post_header_bytes: usize,
    has_extra: bool,
    update: bool,
    bytes_max: usize,
) -> Result<Vec<u8>, DecodeError> {
    let mut rest = body;
    let mut head = rest.part("post-header", post_header_bytes)?;
    if has_extra {
        // The last two bytes are a length that counts itself.
        head.bytes("post-header", post_header_bytes.saturating_sub(2))?;
        let at = head;
        let len = usize::from(head.u16("length of extra data")?);
        let Some(len) = len.checked_sub(2) else {
            let found = u64::try_from(len).unwrap_or(u64::MAX);
            return Err(at.error("length of extra data", Fault::Value { found }));
        };
        rest.bytes("extra data", len)?;
    }
    let columns = rest.packed("columns")?;
    let bitmap = usize::try_from(columns.div_ceil(8)).unwrap_or(usize::MAX);
    rest.bytes("columns there are", bitmap)?;
    if update {
        rest.bytes("columns there are after", bitmap)?;
    }
    let packed = text(rest, bytes_max)?;
    let mut whole = body;
    let plain = whole.left().saturating_sub(rest.left());
    let mut out = Vec::with_capacity(plain.saturating_add(packed.len()));
    out.extend_from_slice(whole.bytes("head", plain)?);
    out.extend_from_slice(&packed);
    Ok(out)
}
