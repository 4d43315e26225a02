//! Writes values as a server stores them, for pretend servers, tests and fuzzing.
use alloc::vec::Vec;

use bytes::BufMut;

use super::json_encode::document;
use super::table_map::{MapColumn, code};

/// The collation of bytes.
const BINARY: u32 = 63;

/// Writes a value that is given as the text that reading it gives. Text is written as it is, whatever
/// the column's character set; so are labels compared. Shapes have no reference system.
///
/// `None` if it is no such text, or of a type that only servers before 5.6 write.
pub(super) fn put_value(out: &mut Vec<u8>, column: &MapColumn, text: &[u8]) -> Option<()> {
    let text = core::str::from_utf8(text).ok()?;
    let [first, second] = column.meta;
    match column.real_code() {
        code::TINY => put_int(out, text, 1)?,
        code::SHORT => put_int(out, text, 2)?,
        code::INT24 => put_int(out, text, 3)?,
        code::LONG => put_int(out, text, 4)?,
        code::LONGLONG => put_int(out, text, 8)?,
        code::FLOAT => out.put_f32_le(text.parse().ok()?),
        code::DOUBLE => out.put_f64_le(text.parse().ok()?),
        code::NEWDECIMAL => put_decimal(out, text, first, second)?,
        code::BIT => {
            let bits = usize::from(second).checked_mul(8)?.checked_add(usize::from(first))?;
            out.put_uint(u64::from_str_radix(text, 2).ok()?, bits.div_ceil(8));
        }
        code::YEAR => {
            let year = text.parse::<u16>().ok()?.saturating_sub(1900);
            out.put_u8(u8::try_from(year).ok()?);
        }
        code::DATE | code::NEWDATE => put_date(out, text)?,
        code::DATETIME2 => put_datetime(out, text, first)?,
        code::TIMESTAMP2 => put_timestamp(out, text.strip_suffix("+00")?, first)?,
        code::TIME2 => put_time(out, text, first)?,
        _ => put_other(out, column, text)?,
    }
    Some(())
}

fn put_other(out: &mut Vec<u8>, column: &MapColumn, text: &str) -> Option<()> {
    let [first, second] = column.meta;
    match column.real_code() {
        code::ENUM => out.put_uint_le(label(column, text)?, usize::from(second)),
        code::SET => {
            let labels = text.split(',').filter(|label| !label.is_empty());
            let mut bits = labels.map(|text| {
                let shift = u32::try_from(label(column, text)?.checked_sub(1)?).ok()?;
                1_u64.checked_shl(shift)
            });
            let bits = bits.try_fold(0, |bits, bit| bit.map(|bit| bits | bit))?;
            out.put_uint_le(bits, usize::from(second));
        }
        code::STRING => {
            put_string(out, column, text, if column.string_len() > 255 { 2 } else { 1 })?;
        }
        code::VARCHAR => {
            let long = u16::from_le_bytes(column.meta) > 255;
            put_string(out, column, text, if long { 2 } else { 1 })?;
        }
        code::BLOB => put_string(out, column, text, first.into())?,
        code::JSON => put_counted(out, &document(text)?, first.into())?,
        code::GEOMETRY => {
            let shape = [&[0; 4][..], &unhex(text)?].concat();
            put_counted(out, &shape, first.into())?;
        }
        code::VECTOR => {
            let mut numbers = Vec::new();
            for number in text.strip_prefix('[')?.strip_suffix(']')?.split(',') {
                numbers.put_f32_le(number.parse().ok()?);
            }
            put_counted(out, &numbers, first.into())?;
        }
        _ => return None,
    }
    Some(())
}

fn put_int(out: &mut Vec<u8>, text: &str, len: usize) -> Option<()> {
    let bytes = text.parse::<i128>().ok()?.to_le_bytes();
    out.put_slice(bytes.get(..len)?);
    Some(())
}

fn put_counted(out: &mut Vec<u8>, bytes: &[u8], len: usize) -> Option<()> {
    out.put_uint_le(u64::try_from(bytes.len()).ok()?, len);
    out.put_slice(bytes);
    Some(())
}

fn put_string(out: &mut Vec<u8>, column: &MapColumn, text: &str, len: usize) -> Option<()> {
    if column.collation != Some(BINARY) {
        return put_counted(out, text.as_bytes(), len);
    }
    let bytes = unhex(text.strip_prefix("\\x")?)?;
    let zeros = match column.code {
        code::STRING => bytes.iter().rev().take_while(|byte| **byte == 0).count(),
        _ => 0,
    };
    put_counted(out, bytes.get(..bytes.len().saturating_sub(zeros))?, len)
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    let digits = pairs.iter().map(|pair| core::str::from_utf8(pair).ok());
    digits.map(|pair| u8::from_str_radix(pair?, 16).ok()).collect()
}

/// The number of a label, from 1; 0 of the empty text that is none.
fn label(column: &MapColumn, text: &str) -> Option<u64> {
    let labels = column.labels.as_ref()?;
    match labels.iter().position(|label| label == text.as_bytes()) {
        Some(index) => u64::try_from(index).ok()?.checked_add(1),
        None if text.is_empty() => Some(0),
        None => None,
    }
}

/// Groups of nine digits in 4 bytes, the incomplete ones outside; a negative number has all bits upside
/// down.
fn put_decimal(out: &mut Vec<u8>, text: &str, precision: u8, scale: u8) -> Option<()> {
    let digits = text.trim_start_matches('-');
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let whole_len = usize::from(precision.checked_sub(scale)?);
    let whole = whole.trim_start_matches('0');
    let mut padded = Vec::new();
    padded.resize(whole_len.checked_sub(whole.len())?, b'0');
    padded.extend_from_slice(whole.as_bytes());
    if fraction.len() != usize::from(scale) {
        return None;
    }
    let start = out.len();
    let partial = whole_len.wrapping_rem(9);
    let (front, groups) = padded.split_at_checked(partial)?;
    put_group(out, front)?;
    groups.chunks(9).try_for_each(|group| put_group(out, group))?;
    fraction.as_bytes().chunks(9).try_for_each(|group| put_group(out, group))?;
    let number = out.get_mut(start..)?;
    if text.starts_with('-') {
        number.iter_mut().for_each(|byte| *byte = !*byte);
    }
    *number.first_mut()? ^= 0x80;
    Some(())
}

fn put_group(out: &mut Vec<u8>, digits: &[u8]) -> Option<()> {
    if !digits.is_empty() {
        let number = core::str::from_utf8(digits).ok()?.parse().ok()?;
        let len = if digits.len() == 9 { 4 } else { digits.len().div_ceil(2) };
        out.put_uint(number, len);
    }
    Some(())
}

/// The numbers of a text like `2024-02-29`.
fn numbers<const N: usize>(text: &str, between: char) -> Option<[u64; N]> {
    let numbers: Option<Vec<u64>> = text.split(between).map(|part| part.parse().ok()).collect();
    numbers?.try_into().ok()
}

fn put_date(out: &mut Vec<u8>, text: &str) -> Option<()> {
    let [year, month, day] = numbers(text, '-')?;
    out.put_uint_le((year << 9) | (month << 5) | day, 3);
    Some(())
}

/// Hours, minutes and seconds, and what a fraction is stored as.
fn clock(text: &str, digits: u8) -> Option<(u64, u64)> {
    let (time, fraction) = text.split_once('.').unwrap_or((text, ""));
    if fraction.len() != usize::from(digits) {
        return None;
    }
    let [hour, minute, second] = numbers(time, ':')?;
    let stored: u64 = if fraction.is_empty() { 0 } else { fraction.parse().ok()? };
    // Bytes hold two digits each.
    let stored = if digits & 1 == 1 { stored.checked_mul(10)? } else { stored };
    Some(((hour << 12) | (minute << 6) | second, stored))
}

fn fraction_len(digits: u8) -> usize {
    usize::from(digits.div_ceil(2))
}

fn put_datetime(out: &mut Vec<u8>, text: &str, digits: u8) -> Option<()> {
    let (date, time) = text.split_once(' ')?;
    let [year, month, day] = numbers(date, '-')?;
    let (time, fraction) = clock(time, digits)?;
    let months = year.checked_mul(13)?.checked_add(month)?;
    out.put_uint((1 << 39) | (months << 22) | (day << 17) | time, 5);
    out.put_uint(fraction, fraction_len(digits));
    Some(())
}

fn put_timestamp(out: &mut Vec<u8>, text: &str, digits: u8) -> Option<()> {
    let (date, time) = text.split_once(' ')?;
    let [year, month, day] = numbers(date, '-')?;
    let (clock, fraction) = clock(time, digits)?;
    let seconds = if month == 0 { 0 } else { seconds(days(year, month, day)?, clock)? };
    out.put_uint(seconds, 4);
    out.put_uint(fraction, fraction_len(digits));
    Some(())
}

fn seconds(days: u64, clock: u64) -> Option<u64> {
    let (hours, minutes) =
        ((clock >> 12).checked_mul(3_600)?, ((clock >> 6) & 63).checked_mul(60)?);
    let of_day = hours.checked_add(minutes)?.checked_add(clock & 63)?;
    days.checked_mul(86_400)?.checked_add(of_day)
}

/// Days since 1970, counted year by year: slow, and nothing to be wrong about.
fn days(year: u64, month: u64, day: u64) -> Option<u64> {
    let leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    let years = (1970..year).map(|year| if leap(year) { 366 } else { 365 });
    let months = (1..month).map(|month| match month {
        2 if leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    });
    let before: u64 = years.chain(months).sum();
    before.checked_add(day)?.checked_sub(1)
}

fn put_time(out: &mut Vec<u8>, text: &str, digits: u8) -> Option<()> {
    let (time, fraction) = clock(text.trim_start_matches('-'), digits)?;
    let bits = fraction_len(digits).checked_mul(8)?;
    let size = (time << bits) | fraction;
    let zero = 0x80_0000_u64 << bits;
    let stored =
        if text.starts_with('-') { zero.checked_sub(size)? } else { zero.checked_add(size)? };
    out.put_uint(stored, fraction_len(digits).checked_add(3)?);
    Some(())
}
