//! Whole numbers as they are written into events.
use alloc::vec::Vec;

use bytes::BufMut;

/// A whole number of one to nine bytes (`net_store_length`).
pub(super) fn put_packed(out: &mut Vec<u8>, number: u64) {
    match number {
        0..=250 => out.put_u8(count(usize::try_from(number).unwrap_or_default())),
        251..=0xFFFF => {
            out.put_u8(252);
            out.put_uint_le(number, 2);
        }
        0x1_0000..=0xFF_FFFF => {
            out.put_u8(253);
            out.put_uint_le(number, 3);
        }
        _ => {
            out.put_u8(254);
            out.put_u64_le(number);
        }
    }
}

/// A whole number of the serialisation of MySQL 8.3, in as few bytes as it can be.
pub(super) fn put_varlen(out: &mut Vec<u8>, number: u64) {
    for more in 0..8_u32 {
        let width = more.saturating_add(1).saturating_mul(7);
        if number.checked_shr(width) == Some(0) {
            let ones = 1_u64.checked_shl(more).unwrap_or_default().saturating_sub(1);
            let shifted = number.checked_shl(more.saturating_add(1)).unwrap_or_default();
            let bytes = usize::try_from(more.saturating_add(1)).unwrap_or_default();
            out.put_uint_le(shifted | ones, bytes);
            return;
        }
    }
    out.put_u8(0xFF);
    out.put_u64_le(number);
}

pub(super) fn put_varlen_signed(out: &mut Vec<u8>, number: i64) {
    let sign = u64::from(number.is_negative());
    let half = if number.is_negative() { !number } else { number };
    put_varlen(out, half.cast_unsigned() << 1 | sign);
}

/// A length as the width that the event has for it.
pub(super) fn count<N: TryFrom<usize>>(len: usize) -> N {
    let Ok(count) = N::try_from(len) else { panic!("{len} does not fit its field") };
    count
}
