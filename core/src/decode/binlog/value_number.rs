//! Numbers: floating point, DECIMAL, BIT.
use alloc::vec::Vec;

use super::cells::{close, open, put_args, put_digits, put_uint};
use super::cells_read::{Input, big};
use super::value_error::ValueFault;

/// Digits of a DECIMAL.
const DECIMAL_DIGITS_MAX: u8 = 65;
/// Digits of a DECIMAL behind the point. MariaDB has more than MySQL.
const DECIMAL_SCALE_MAX: u8 = 38;
/// Bytes of a DECIMAL: seven groups of digits of 4 bytes, and two parts of groups.
const DECIMAL_BYTES_MAX: usize = 40;
/// Decimal digits of a whole group.
const GROUP: usize = 9;

/// Appends a number of double precision: the shortest text that is read as this number.
pub(super) fn put_double(out: &mut Vec<u8>, number: f64) {
    let size = number.abs();
    if number.is_nan() {
        out.extend_from_slice(b"NaN");
    } else if number.is_infinite() {
        out.extend_from_slice(if number > 0.0 { &b"Infinity"[..] } else { b"-Infinity" });
    } else if size != 0.0 && !(1e-5..1e16).contains(&size) {
        put_args(out, format_args!("{number:e}"));
    } else {
        put_args(out, format_args!("{number}"));
    }
}

/// Appends a number of single precision: the shortest text that is read as this number.
pub(super) fn put_float(out: &mut Vec<u8>, number: f32) {
    let size = number.abs();
    if !number.is_finite() || size == 0.0 {
        put_double(out, number.into());
    } else if (1e-5..1e16).contains(&size) {
        put_args(out, format_args!("{number}"));
    } else {
        put_args(out, format_args!("{number:e}"));
    }
}

/// How a DECIMAL is stored: groups of nine digits in 4 bytes, the incomplete ones outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Decimal {
    whole: usize,
    fraction: usize,
}

impl Decimal {
    /// The form of `DECIMAL(precision, scale)`.
    pub(super) fn new(precision: u8, scale: u8) -> Option<Self> {
        let possible = (1..=DECIMAL_DIGITS_MAX).contains(&precision);
        if !possible || DECIMAL_SCALE_MAX < scale {
            return None;
        }
        let whole = usize::from(precision.checked_sub(scale)?);
        Some(Self { whole, fraction: usize::from(scale) })
    }

    /// Bytes of a number.
    pub(super) fn len(self) -> usize {
        part_len(self.whole).saturating_add(part_len(self.fraction))
    }

    /// Appends a number. Its fraction has all digits of the column.
    pub(super) fn put(self, out: &mut Vec<u8>, bytes: &[u8]) -> Result<(), ValueFault> {
        let mut room = [0; DECIMAL_BYTES_MAX];
        let room = room.get_mut(..bytes.len()).ok_or(ValueFault::Decimal)?;
        room.copy_from_slice(bytes);
        let first = room.first_mut().ok_or(ValueFault::Decimal)?;
        // The sign is the highest bit, upside down, and a negative number has all bits upside down.
        *first ^= 0x80;
        if *first & 0x80 != 0 {
            room.iter_mut().for_each(|byte| *byte = !*byte);
            out.push(b'-');
        }
        let mut input = Input::new(room);
        let before = out.len();
        let partial = self.whole.wrapping_rem(GROUP);
        put_group(out, &mut input, partial, before)?;
        for _ in 0..self.whole.wrapping_div(GROUP) {
            put_group(out, &mut input, GROUP, before)?;
        }
        if out.len() == before {
            out.push(b'0');
        }
        if self.fraction > 0 {
            out.push(b'.');
            for _ in 0..self.fraction.wrapping_div(GROUP) {
                put_group(out, &mut input, GROUP, 0)?;
            }
            put_group(out, &mut input, self.fraction.wrapping_rem(GROUP), 0)?;
        }
        Ok(())
    }
}

/// Bytes of an incomplete group of so many digits.
const fn group_len(digits: usize) -> usize {
    digits.div_ceil(2)
}

fn part_len(digits: usize) -> usize {
    let groups = digits.wrapping_div(GROUP).saturating_mul(4);
    groups.saturating_add(group_len(digits.wrapping_rem(GROUP)))
}

/// Appends the digits of a group, without zeros if nothing stands behind `before`.
fn put_group(
    out: &mut Vec<u8>,
    input: &mut Input<'_>,
    digits: usize,
    before: usize,
) -> Result<(), ValueFault> {
    let len = if digits == GROUP { 4 } else { group_len(digits) };
    let number = big(input.bytes(len).ok_or(ValueFault::Decimal)?);
    let number = u32::try_from(number).map_err(|_| ValueFault::Decimal)?;
    let limit = u32::try_from(digits).ok().and_then(|digits| 10_u32.checked_pow(digits));
    if limit.is_none_or(|limit| limit <= number) {
        return Err(ValueFault::Decimal);
    }
    if out.len() > before {
        put_digits(out, number, digits);
    } else if number > 0 {
        put_uint(out, number.into());
    }
    Ok(())
}

/// Appends a cell with the digits of a BIT, as many as the column has.
pub(super) fn push_bits(out: &mut Vec<u8>, bytes: &[u8], bits: usize) -> Result<(), ValueFault> {
    let number = big(bytes);
    let start = open(out);
    out.extend((0..bits).rev().map(|shift| if (number >> shift) & 1 == 1 { b'1' } else { b'0' }));
    close(out, start)
}

#[cfg(test)]
mod tests {
    use alloc::string::String;
    use alloc::vec::Vec;

    use super::{Decimal, put_double, put_float};

    fn decimal(precision: u8, scale: u8, bytes: &[u8]) -> String {
        let form = Decimal::new(precision, scale).unwrap();
        assert_eq!(form.len(), bytes.len());
        let mut out = Vec::new();
        form.put(&mut out, bytes).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn decimals_have_all_their_digits() {
        // The example of MySQL's source, strings/decimal.cc.
        assert_eq!(decimal(14, 4, b"\x81\x0d\xfb\x38\xd2\x04\xd2"), "1234567890.1234");
        assert_eq!(decimal(14, 4, b"\x7e\xf2\x04\xc7\x2d\xfb\x2d"), "-1234567890.1234");
        assert_eq!(decimal(3, 2, b"\x80\x05"), "0.05");
        assert_eq!(decimal(1, 0, b"\x80"), "0");
        assert_eq!(decimal(2, 2, b"\x85"), "0.05");
    }

    #[test]
    fn groups_have_the_bytes_that_the_server_gives_them() {
        let lens: Vec<usize> = (0..=9).map(super::part_len).collect();
        assert_eq!(lens, [0, 1, 1, 2, 2, 3, 3, 4, 4, 4]);
        assert_eq!(Decimal::new(65, 30).unwrap().len(), 30);
        assert_eq!(Decimal::new(66, 0), None);
        assert_eq!(Decimal::new(3, 4), None);
        assert_eq!(Decimal::new(0, 0), None);
    }

    #[test]
    fn a_group_of_too_many_digits_is_refused() {
        let form = Decimal::new(2, 0).unwrap();
        assert!(form.put(&mut Vec::new(), &[0x80 | 100]).is_err());
    }

    #[test]
    fn floating_point_numbers_are_as_short_as_they_can_be() {
        let double = |number: f64| {
            let mut out = Vec::new();
            put_double(&mut out, number);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(double(0.1), "0.1");
        assert_eq!(double(-0.0), "-0");
        assert_eq!(double(1e15), "1000000000000000");
        assert_eq!(double(1e16), "1e16");
        assert_eq!(double(5e-324), "5e-324");
        assert_eq!(double(f64::MAX), "1.7976931348623157e308");
        let mut out = Vec::new();
        put_float(&mut out, 16_777_216.0);
        out.push(b' ');
        put_float(&mut out, 0.1);
        out.push(b' ');
        put_float(&mut out, f32::MAX);
        assert_eq!(out, b"16777216 0.1 3.4028235e38");
    }
}
