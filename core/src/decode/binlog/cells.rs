//! Writes cells in the form of [`model::row`](crate::model::row), at the end of a buffer.
//!
//! Nothing is allocated for a cell: what a value is printed with stands in the buffer or on the stack.
use alloc::vec::Vec;
use core::fmt;

use super::value_error::ValueFault;

/// Bytes in front of a cell's text: its kind and its length.
const HEAD: usize = 5;

/// Appends NULL.
#[inline]
pub(super) fn push_null(out: &mut Vec<u8>) {
    out.push(b'n');
}

/// Appends a value that was not sent.
#[inline]
pub(super) fn push_unchanged(out: &mut Vec<u8>) {
    out.push(b'u');
}

/// Begins a cell whose length is not known yet. `close` takes what this returns.
#[inline]
pub(super) fn open(out: &mut Vec<u8>) -> usize {
    let start = out.len();
    out.extend_from_slice(&[b't', 0, 0, 0, 0]);
    start
}

/// Ends a cell.
#[inline]
pub(super) fn close(out: &mut [u8], start: usize) -> Result<(), ValueFault> {
    let len = out.len().saturating_sub(start).saturating_sub(HEAD);
    let len = u32::try_from(len).map_err(|_| ValueFault::Long)?;
    if let Some([_, a, b, c, d]) = out.get_mut(start..).and_then(|cell| cell.get_mut(..HEAD)) {
        [*a, *b, *c, *d] = len.to_be_bytes();
    }
    Ok(())
}

/// Appends a cell of a known text.
#[inline]
pub(super) fn push_text(out: &mut Vec<u8>, text: &[u8]) -> Result<(), ValueFault> {
    let len = u32::try_from(text.len()).map_err(|_| ValueFault::Long)?;
    let [a, b, c, d] = len.to_be_bytes();
    out.reserve(text.len().saturating_add(HEAD));
    out.extend_from_slice(&[b't', a, b, c, d]);
    out.extend_from_slice(text);
    Ok(())
}

/// Appends a cell of a text shorter than 256 bytes that stands on the stack.
#[inline]
pub(super) fn push_short(out: &mut Vec<u8>, text: &[u8]) {
    out.extend_from_slice(&[b't', 0, 0, 0, low(text.len())]);
    out.extend_from_slice(text);
}

/// The lowest byte of a number.
#[inline]
const fn low(number: usize) -> u8 {
    let [low, ..] = number.to_le_bytes();
    low
}

/// Appends a cell of a number.
#[inline]
pub(super) fn push_int(out: &mut Vec<u8>, number: i64) {
    push_number(out, number.unsigned_abs(), number < 0);
}

/// Appends a cell of a number without a sign.
#[inline]
pub(super) fn push_uint(out: &mut Vec<u8>, number: u64) {
    push_number(out, number, false);
}

#[inline]
fn push_number(out: &mut Vec<u8>, number: u64, negative: bool) {
    let mut digits = Digits::of(number);
    if negative {
        digits.push_front(b'-');
    }
    push_short(out, digits.as_bytes());
}

/// Appends a number as digits, without a cell around them.
pub(super) fn put_uint(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(Digits::of(number).as_bytes());
}

/// Appends a number as digits, with a sign if it is negative, without a cell around them.
pub(super) fn put_int(out: &mut Vec<u8>, number: i64) {
    if number < 0 {
        out.push(b'-');
    }
    put_uint(out, number.unsigned_abs());
}

/// Appends the last `count` digits of a number; zeros stand in front of a shorter one.
#[inline]
pub(super) fn put_digits(out: &mut Vec<u8>, number: u32, count: usize) {
    let mut digits = [b'0'; 10];
    let mut rest = number;
    for digit in digits.iter_mut().rev().take(count) {
        *digit = digit_of(rest.wrapping_rem(10));
        rest = rest.wrapping_div(10);
    }
    let first = digits.len().saturating_sub(count);
    out.extend_from_slice(digits.get(first..).unwrap_or_default());
}

/// The digits of a number, at the end of their room.
struct Digits {
    room: [u8; 21],
    first: usize,
}

impl Digits {
    #[inline]
    fn of(number: u64) -> Self {
        let mut room = [b'0'; 21];
        let mut first = room.len();
        let mut slots = room.iter_mut().rev();
        // Most numbers are small, and small ones are divided faster.
        let mut rest = number;
        while rest > u64::from(u32::MAX) {
            let Some(slot) = slots.next() else { break };
            *slot = digit_of(rest.wrapping_rem(10));
            rest = rest.wrapping_div(10);
            first = first.saturating_sub(1);
        }
        let mut rest = u32::try_from(rest).unwrap_or_default();
        for slot in slots {
            *slot = digit_of(rest.wrapping_rem(10));
            rest = rest.wrapping_div(10);
            first = first.saturating_sub(1);
            if rest == 0 {
                break;
            }
        }
        Self { room, first }
    }

    #[inline]
    fn push_front(&mut self, byte: u8) {
        self.first = self.first.saturating_sub(1);
        if let Some(slot) = self.room.get_mut(self.first) {
            *slot = byte;
        }
    }

    #[inline]
    fn as_bytes(&self) -> &[u8] {
        self.room.get(self.first..).unwrap_or_default()
    }
}

/// A digit of a number below 10.
#[inline]
fn digit_of<N: TryInto<u8>>(number: N) -> u8 {
    number.try_into().unwrap_or_default().wrapping_add(b'0')
}

/// The two digits of a number below 100.
#[inline]
pub(super) fn pair(number: u32) -> [u8; 2] {
    [digit_of(number.wrapping_div(10)), digit_of(number.wrapping_rem(10))]
}

/// The four digits of a number below 10,000.
#[inline]
pub(super) fn four(number: u32) -> [u8; 4] {
    let ([a, b], [c, d]) = (pair(number.wrapping_div(100)), pair(number.wrapping_rem(100)));
    [a, b, c, d]
}

/// Appends bytes as hexadecimal digits.
pub(super) fn put_hex(out: &mut Vec<u8>, bytes: &[u8]) {
    out.reserve(bytes.len().saturating_mul(2));
    for byte in bytes {
        out.extend_from_slice(&[hex(byte >> 4), hex(byte & 15)]);
    }
}

#[inline]
const fn hex(digit: u8) -> u8 {
    digit.wrapping_add(if digit < 10 { b'0' } else { b'a' - 10 })
}

/// Appends what is formatted, without a cell around it.
pub(super) fn put_args(out: &mut Vec<u8>, args: fmt::Arguments<'_>) {
    let written = fmt::write(&mut Format(out), args);
    assert!(written.is_ok(), "writing to a buffer failed");
}

struct Format<'a>(&'a mut Vec<u8>);

impl fmt::Write for Format<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use alloc::format;
    use alloc::string::{String, ToString};
    use alloc::vec::Vec;

    use proptest::prelude::any;
    use proptest::{prop_assert_eq, proptest};

    use super::{close, open, push_int, push_uint, put_digits};
    use crate::model::row::{Cell, split_cell};

    fn text(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        let Ok((Cell::Text(text), [])) = split_cell(&out, 0) else { panic!("{out:x?}") };
        String::from_utf8(text.to_vec()).unwrap()
    }

    proptest! {
        #[test]
        fn numbers_are_printed_with_all_their_digits(number in any::<u64>(), shift in 0..64_u32) {
            let number = number >> shift;
            prop_assert_eq!(text(|out| push_uint(out, number)), number.to_string());
            let signed = i64::from_le_bytes(number.to_le_bytes());
            prop_assert_eq!(text(|out| push_int(out, signed)), signed.to_string());
            let group = u32::try_from(number % 1_000_000_000).unwrap();
            let group_text = text(|out| {
                let start = open(out);
                put_digits(out, group, 9);
                close(out, start).unwrap();
            });
            prop_assert_eq!(group_text, format!("{group:09}"));
        }
    }

    #[test]
    fn the_largest_numbers_fit() {
        assert_eq!(text(|out| push_uint(out, u64::MAX)), u64::MAX.to_string());
        assert_eq!(text(|out| push_int(out, i64::MIN)), i64::MIN.to_string());
        assert_eq!(text(|out| push_int(out, 0)), "0");
    }
}
