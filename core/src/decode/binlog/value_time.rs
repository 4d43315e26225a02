//! Dates and times → text, as CockroachDB and PostgreSQL read them.
//!
//! Packed forms have the most significant byte first and are shifted so that they sort as numbers
//! (MySQL's source, `my_time.cc`): a time is hours, minutes and seconds in 10, 6 and 6 bits; a moment
//! has in front of them the year times 13 plus the month in 17 bits, and the day in 5. A fraction of
//! a second follows in one byte for each two digits.
use alloc::vec::Vec;

use super::cells::{four, pair, push_short};
use super::cells_read::Input;
use super::value_error::ValueFault;

/// What becomes of a date that no calendar has: `0000-00-00`, a month or day of zero, the year zero,
/// 30 February. Both MySQL and MariaDB may store them; PostgreSQL and CockroachDB refuse them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NoDates {
    /// Reading the row fails; see [`ValueFault::NoDate`].
    #[default]
    Refuse,
    /// The value becomes NULL.
    Null,
    /// The text is as MySQL prints it, for a column of text.
    Keep,
}

/// Digits of a fraction of a second, 0 to 6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fraction(u8);

impl Fraction {
    pub(super) const NONE: Self = Self(0);
    pub(super) const MICROS: Self = Self(6);

    pub(super) const fn new(digits: u8) -> Option<Self> {
        if digits <= 6 { Some(Self(digits)) } else { None }
    }

    /// Bytes that hold it.
    #[inline]
    fn len(self) -> usize {
        usize::from(self.0.div_ceil(2))
    }

    /// Microseconds of what is stored.
    #[inline]
    const fn micros(self, stored: u32) -> u32 {
        match self.0 {
            0 => 0,
            1 | 2 => stored.saturating_mul(10_000),
            3 | 4 => stored.saturating_mul(100),
            _ => stored,
        }
    }
}

/// A date and a time of day.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Moment {
    pub(super) year: u32,
    pub(super) month: u32,
    pub(super) day: u32,
    pub(super) hour: u32,
    pub(super) minute: u32,
    pub(super) second: u32,
    pub(super) micros: u32,
}

/// A length of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) negative: bool,
    pub(super) hours: u32,
    pub(super) minutes: u32,
    pub(super) seconds: u32,
    pub(super) micros: u32,
}

impl Moment {
    /// Reads a date of three bytes: the day in 5 bits, the month in 4, the year.
    #[inline]
    pub(super) fn date(input: &mut Input<'_>) -> Option<Self> {
        let bits = input.u24()?;
        Some(Self { year: bits >> 9, month: (bits >> 5) & 15, day: bits & 31, ..Self::default() })
    }

    /// Reads a DATETIME.
    #[inline]
    pub(super) fn datetime(input: &mut Input<'_>, fraction: Fraction) -> Option<Self> {
        let bits = input.number_big(5)?;
        let micros = fraction.micros(u32::try_from(input.number_big(fraction.len())?).ok()?);
        Some(Self { micros, ..Self::of_bits(bits & 0x7f_ffff_ffff) })
    }

    /// Reads the form that JSON documents have: 40 bits and microseconds in 24, as a number.
    pub(super) fn of_packed(packed: u64) -> Self {
        let micros = u32::try_from(packed & 0xff_ffff).unwrap_or_default();
        Self { micros, ..Self::of_bits((packed >> 24) & 0x7f_ffff_ffff) }
    }

    #[inline]
    fn of_bits(bits: u64) -> Self {
        let months = low(bits >> 22);
        Self {
            year: months.wrapping_div(13),
            month: months.wrapping_rem(13),
            day: low(bits >> 17) & 31,
            hour: low(bits >> 12) & 31,
            minute: low(bits >> 6) & 63,
            second: low(bits) & 63,
            micros: 0,
        }
    }

    /// Reads a DATETIME as servers before 5.6 stored it: its digits as a number.
    pub(super) fn old_datetime(input: &mut Input<'_>) -> Option<Self> {
        let number = input.u64()?;
        let two = |digits: u64| low(digits.wrapping_rem(100));
        Some(Self {
            year: u32::try_from(number.wrapping_div(10_000_000_000)).ok()?,
            month: two(number.wrapping_div(100_000_000)),
            day: two(number.wrapping_div(1_000_000)),
            hour: two(number.wrapping_div(10_000)),
            minute: two(number.wrapping_div(100)),
            second: two(number),
            micros: 0,
        })
    }

    /// Reads a TIMESTAMP: seconds since 1970, and a fraction. No seconds are `0000-00-00`.
    #[inline]
    pub(super) fn timestamp(input: &mut Input<'_>, fraction: Fraction) -> Option<Self> {
        let seconds = u32::try_from(input.number_big(4)?).ok()?;
        let micros = fraction.micros(u32::try_from(input.number_big(fraction.len())?).ok()?);
        Some(Self { micros, ..Self::of_seconds(seconds) })
    }

    /// Reads a TIMESTAMP as servers before 5.6 stored it.
    pub(super) fn old_timestamp(input: &mut Input<'_>) -> Option<Self> {
        input.u32().map(Self::of_seconds)
    }

    #[inline]
    fn of_seconds(seconds: u32) -> Self {
        if seconds == 0 {
            return Self::default();
        }
        let (days, rest) = (seconds.wrapping_div(86_400), seconds.wrapping_rem(86_400));
        // Days since 1 March of the year 0, in which a leap day is the last one of its year.
        let days = days.saturating_add(719_468);
        let (era, day) = (days.wrapping_div(146_097), days.wrapping_rem(146_097));
        let leaps = day
            .wrapping_sub(day.wrapping_div(1_460))
            .wrapping_add(day.wrapping_div(36_524))
            .wrapping_sub(day.wrapping_div(146_096));
        let years = leaps.wrapping_div(365);
        let before = years
            .wrapping_mul(365)
            .wrapping_add(years.wrapping_div(4))
            .wrapping_sub(years.wrapping_div(100));
        let day = day.wrapping_sub(before);
        let march = day.wrapping_mul(5).wrapping_add(2).wrapping_div(153);
        let first = march.wrapping_mul(153).wrapping_add(2).wrapping_div(5);
        let month = if march < 10 { march.wrapping_add(3) } else { march.wrapping_sub(9) };
        let year = era.wrapping_mul(400).wrapping_add(years);
        Self {
            year: if month < 3 { year.wrapping_add(1) } else { year },
            month,
            day: day.wrapping_sub(first).wrapping_add(1),
            hour: rest.wrapping_div(3_600),
            minute: rest.wrapping_div(60).wrapping_rem(60),
            second: rest.wrapping_rem(60),
            micros: 0,
        }
    }

    /// Whether the calendar has the day.
    #[inline]
    const fn is_day(self) -> bool {
        if self.year == 0 || self.month == 0 || 12 < self.month || self.day == 0 {
            return false;
        }
        self.day <= 28 || self.day <= self.month_len()
    }

    const fn month_len(self) -> u32 {
        let leap = self.year.is_multiple_of(4)
            && (!self.year.is_multiple_of(100) || self.year.is_multiple_of(400));
        match self.month {
            2 if leap => 29,
            2 => 28,
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        }
    }

    /// Whether the text has as many digits as it must have.
    #[inline]
    pub(super) const fn is_printable(self) -> bool {
        self.year <= 9_999
            && self.month <= 99
            && self.hour <= 23
            && self.minute <= 59
            && self.second <= 59
            && self.micros <= 999_999
    }

    #[inline]
    pub(super) fn date_text(self) -> [u8; 10] {
        let [a, b, c, d] = four(self.year);
        let ([e, f], [g, h]) = (pair(self.month), pair(self.day));
        [a, b, c, d, b'-', e, f, b'-', g, h]
    }

    #[inline]
    pub(super) fn time_text(self) -> [u8; 8] {
        let ([a, b], [c, d], [e, f]) = (pair(self.hour), pair(self.minute), pair(self.second));
        [a, b, b':', c, d, b':', e, f]
    }
}

/// Appends a cell of a date, or of what stands for one that no calendar has.
#[inline]
pub(super) fn push_date(
    out: &mut Vec<u8>,
    moment: Moment,
    no_dates: NoDates,
) -> Result<(), ValueFault> {
    push_checked(out, moment, no_dates, |out| push_short(out, &moment.date_text()))
}

/// Appends a cell of a moment. `zone` is what its text ends with.
#[inline]
pub(super) fn push_moment(
    out: &mut Vec<u8>,
    moment: Moment,
    fraction: Fraction,
    zone: &'static [u8],
    no_dates: NoDates,
) -> Result<(), ValueFault> {
    push_checked(out, moment, no_dates, |out| {
        let mut text = Short::new();
        text.put(&moment.date_text());
        text.put(b" ");
        text.put(&moment.time_text());
        text.put_fraction(moment.micros, fraction);
        text.put(zone);
        push_short(out, text.as_bytes());
    })
}

#[inline]
fn push_checked(
    out: &mut Vec<u8>,
    moment: Moment,
    no_dates: NoDates,
    push: impl FnOnce(&mut Vec<u8>),
) -> Result<(), ValueFault> {
    if !moment.is_printable() {
        return Err(ValueFault::Time);
    }
    match no_dates {
        _ if moment.is_day() => push(out),
        NoDates::Refuse => return Err(ValueFault::NoDate),
        NoDates::Null => super::cells::push_null(out),
        NoDates::Keep => push(out),
    }
    Ok(())
}

impl Span {
    /// Reads a TIME.
    #[inline]
    pub(super) fn time(input: &mut Input<'_>, fraction: Fraction) -> Option<Self> {
        let fraction_len = fraction.len();
        let stored = i64::try_from(input.number_big(fraction_len.wrapping_add(3))?).ok()?;
        let bits = u32::try_from(fraction_len.wrapping_mul(8)).ok()?;
        // Zero stands in the middle.
        let number = stored.wrapping_sub(0x80_0000_i64 << bits);
        let size = number.unsigned_abs();
        let micros = fraction.micros(low(size & !(u64::MAX << bits)));
        Some(Self { negative: number < 0, micros, ..Self::of_bits(size >> bits) })
    }

    /// Reads the form that JSON documents have: the time and microseconds in 24 bits, as a number.
    pub(super) fn of_packed(packed: i64) -> Self {
        let size = packed.unsigned_abs();
        let micros = low(size & 0xff_ffff);
        Self { negative: packed < 0, micros, ..Self::of_bits(size >> 24) }
    }

    #[inline]
    fn of_bits(bits: u64) -> Self {
        Self {
            negative: false,
            hours: low(bits >> 12) & 0x3ff,
            minutes: low(bits >> 6) & 63,
            seconds: low(bits) & 63,
            micros: 0,
        }
    }

    /// Reads a TIME as servers before 5.6 stored it: its digits as a number.
    pub(super) fn old_time(input: &mut Input<'_>) -> Option<Self> {
        let stored = input.u24()?;
        // The sign is bit 23.
        let negative = stored & 0x80_0000 != 0;
        let size = if negative { 0x100_0000_u32.wrapping_sub(stored) } else { stored };
        Some(Self {
            negative,
            hours: size.wrapping_div(10_000),
            minutes: size.wrapping_div(100).wrapping_rem(100),
            seconds: size.wrapping_rem(100),
            micros: 0,
        })
    }

    /// The text, if it is a time.
    #[inline]
    pub(super) fn text(self, fraction: Fraction) -> Result<Short, ValueFault> {
        let fits = self.hours <= 999 && self.minutes <= 59 && self.seconds <= 59;
        if !fits || 999_999 < self.micros {
            return Err(ValueFault::Time);
        }
        let mut text = Short::new();
        if self.negative {
            text.put(b"-");
        }
        let [_, hundreds, tens, ones] = four(self.hours);
        if hundreds != b'0' {
            text.put(&[hundreds]);
        }
        let ([a, b], [c, d]) = (pair(self.minutes), pair(self.seconds));
        text.put(&[tens, ones, b':', a, b, b':', c, d]);
        text.put_fraction(self.micros, fraction);
        Ok(text)
    }
}

/// A text on the stack.
#[derive(Clone, Copy, Debug)]
pub(super) struct Short {
    room: [u8; 32],
    len: usize,
}

impl Short {
    const fn new() -> Self {
        Self { room: [0; 32], len: 0 }
    }

    /// Adds what fits; the longest text there is, a moment with zone, has 29 bytes.
    #[inline]
    fn put(&mut self, text: &[u8]) {
        let end = self.len.wrapping_add(text.len());
        if let Some(room) = self.room.get_mut(self.len..end) {
            room.copy_from_slice(text);
            self.len = end;
        }
    }

    #[inline]
    fn put_fraction(&mut self, micros: u32, fraction: Fraction) {
        if fraction == Fraction::NONE {
            return;
        }
        let [a, b] = pair(micros.wrapping_div(10_000));
        let [c, d, e, f] = four(micros.wrapping_rem(10_000));
        let text = [b'.', a, b, c, d, e, f];
        self.put(text.get(..=usize::from(fraction.0)).unwrap_or_default());
    }

    #[inline]
    pub(super) fn as_bytes(&self) -> &[u8] {
        self.room.get(..self.len).unwrap_or_default()
    }
}

/// The lower half of a number.
#[inline]
const fn low(number: u64) -> u32 {
    let [a, b, c, d, ..] = number.to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

#[cfg(test)]
mod tests {
    use alloc::string::String;
    use alloc::vec::Vec;

    use super::{Fraction, Input, Moment, NoDates, Span, push_date, push_moment};
    use crate::decode::binlog::value_error::ValueFault;

    fn moment(moment: Moment, no_dates: NoDates) -> Result<String, ValueFault> {
        let mut out = Vec::new();
        push_moment(&mut out, moment, Fraction::NONE, b"", no_dates)?;
        Ok(String::from_utf8(out.split_off(5)).unwrap())
    }

    #[test]
    fn timestamps_are_days_of_the_calendar() {
        for (seconds, text) in [
            (1_u32, "1970-01-01 00:00:01"),
            (951_782_399, "2000-02-28 23:59:59"),
            (951_782_400, "2000-02-29 00:00:00"),
            (951_868_800, "2000-03-01 00:00:00"),
            (2_147_483_647, "2038-01-19 03:14:07"),
            (4_107_542_400, "2100-03-01 00:00:00"),
            (u32::MAX, "2106-02-07 06:28:15"),
        ] {
            let bytes = seconds.to_be_bytes();
            let read = Moment::timestamp(&mut Input::new(&bytes), Fraction::NONE).unwrap();
            assert_eq!(moment(read, NoDates::Refuse).unwrap(), *text);
        }
    }

    #[test]
    fn what_becomes_of_a_date_without_a_day_is_for_the_caller_to_say() {
        let none = [(0, 0, 0), (2024, 0, 1), (2024, 1, 0), (0, 1, 1), (2023, 2, 29), (2024, 4, 31)];
        for (year, month, day) in none {
            let date = Moment { year, month, day, ..Moment::default() };
            assert_eq!(moment(date, NoDates::Refuse), Err(ValueFault::NoDate));
            let mut out = Vec::new();
            push_date(&mut out, date, NoDates::Null).unwrap();
            assert_eq!(out, b"n");
            let kept = moment(date, NoDates::Keep).unwrap();
            assert_eq!(kept, alloc::format!("{year:04}-{month:02}-{day:02} 00:00:00"));
        }
        let leap = Moment { year: 2024, month: 2, day: 29, ..Moment::default() };
        assert_eq!(moment(leap, NoDates::Refuse).unwrap(), "2024-02-29 00:00:00");
    }

    #[test]
    fn times_may_be_negative_and_longer_than_a_day() {
        let text = |bytes: &[u8], digits: u8| {
            let fraction = Fraction::new(digits).unwrap();
            let span = Span::time(&mut Input::new(bytes), fraction).unwrap();
            String::from_utf8(span.text(fraction).unwrap().as_bytes().to_vec()).unwrap()
        };
        assert_eq!(text(b"\x80\0\0", 0), "00:00:00");
        assert_eq!(text(b"\xb4\x6e\xfb", 0), "838:59:59");
        assert_eq!(text(b"\x4b\x91\x05", 0), "-838:59:59");
        // The examples of MySQL's source, my_time.cc.
        assert_eq!(text(b"\x7f\xff\xff\xff", 2), "-00:00:00.01");
        assert_eq!(text(b"\x7f\xff\xff\x9d", 2), "-00:00:00.99");
        assert_eq!(text(b"\x7f\xff\xff\0", 2), "-00:00:01.00");
        assert_eq!(text(b"\x7f\xff\xfe\xf6", 2), "-00:00:01.10");
        assert_eq!(text(b"\x80\0\0\x0f\x42\x3f", 6), "00:00:00.999999");
        let old = |bytes: &[u8]| {
            let span = Span::old_time(&mut Input::new(bytes)).unwrap();
            String::from_utf8(span.text(Fraction::NONE).unwrap().as_bytes().to_vec()).unwrap()
        };
        assert_eq!(old(&8_385_959_u32.to_le_bytes()), "838:59:59");
        assert_eq!(old(&(-8_385_959_i32).to_le_bytes()), "-838:59:59");
    }
}
