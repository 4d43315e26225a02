//! Durations as Go writes them, because the documented commands do: `1m30s`, `1.5h`, `25ms`, `0`.
//!
//! Go wants a unit on everything but zero. The documents also use a bare `-1` for "off", so that is
//! taken too.
use std::fmt;
use std::time::Duration;

use thiserror::Error;

/// A duration with a sign, in nanoseconds: at most 292 years either way, like Go's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct GoDuration {
    nanos: i64,
}

impl GoDuration {
    /// Whether it is zero or less, which some flags read as "off".
    pub(crate) fn is_off(self) -> bool {
        self.nanos <= 0
    }

    /// The duration, unless it is negative.
    pub(crate) fn unsigned(self) -> Option<Duration> {
        Some(Duration::from_nanos(u64::try_from(self.nanos).ok()?))
    }
}

impl From<Duration> for GoDuration {
    /// Capped at the longest that Go can say.
    fn from(duration: Duration) -> Self {
        Self { nanos: i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX) }
    }
}

impl fmt::Display for GoDuration {
    /// As Go prints it: `1m0s`, `25ms`, `0s`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SECOND: u64 = 1_000_000_000;
        if self.nanos < 0 {
            f.write_str("-")?;
        }
        let nanos = self.nanos.unsigned_abs();
        for (unit, size) in [("ns", 1), ("µs", 1_000), ("ms", 1_000_000)] {
            if nanos > 0 && nanos < SECOND && nanos / size < 1_000 {
                return write!(f, "{}{unit}", Fraction { value: nanos, of: size });
            }
        }
        let (minutes, rest) = (nanos / (60 * SECOND), nanos % (60 * SECOND));
        if minutes >= 60 {
            write!(f, "{}h", minutes / 60)?;
        }
        if minutes > 0 {
            write!(f, "{}m", minutes % 60)?;
        }
        write!(f, "{}s", Fraction { value: rest, of: SECOND })
    }
}

/// `value / of`, where `of` is a power of ten, without trailing zeros.
struct Fraction {
    value: u64,
    of: u64,
}

impl fmt::Display for Fraction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.value / self.of)?;
        let mut rest = self.value % self.of;
        if rest > 0 {
            f.write_str(".")?;
        }
        let mut place = self.of;
        while rest > 0 {
            place /= 10;
            write!(f, "{}", rest / place)?;
            rest %= place;
        }
        Ok(())
    }
}

/// The text is no duration.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum DurationError {
    /// Not digits and units.
    #[error("not a duration; write it like 250ms, 30s or 1h30m")]
    Syntax,
    /// Digits without a unit.
    #[error("a unit is missing; write it like 250ms, 30s or 1h30m")]
    UnitMissing,
    /// Digits with something else.
    #[error("unknown unit \"{unit}\"; the units are ns, us, ms, s, m and h")]
    UnitUnknown {
        /// What came after the digits.
        unit: String,
    },
    /// More than 292 years.
    #[error("too long")]
    TooLong,
}

/// Reads a duration: a sign, then numbers with units (`ns`, `us` or `µs`, `ms`, `s`, `m`, `h`), each of
/// which may have a fraction. `0` and `-1` need no unit.
pub(crate) fn parse_duration(text: &str) -> Result<GoDuration, DurationError> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok(GoDuration { nanos: 0 });
    }
    if text == "-1" {
        return Ok(GoDuration { nanos: -1 });
    }
    if rest.is_empty() {
        return Err(DurationError::Syntax);
    }
    let mut nanos: i128 = 0;
    while !rest.is_empty() {
        let (part, after) = parse_part(rest)?;
        nanos += part;
        rest = after;
    }
    let nanos = if negative { -nanos } else { nanos };
    Ok(GoDuration { nanos: i64::try_from(nanos).map_err(|_| DurationError::TooLong)? })
}

/// One number with its unit, in nanoseconds, and the text after it.
fn parse_part(text: &str) -> Result<(i128, &str), DurationError> {
    let (whole, rest) = split_digits(text);
    let (fraction, rest) = match rest.strip_prefix('.') {
        Some(rest) => split_digits(rest),
        None => ("", rest),
    };
    if whole.is_empty() && fraction.is_empty() {
        return Err(DurationError::Syntax);
    }
    let end = rest.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(rest.len());
    let (unit, rest) = rest.split_at(end);
    let unit = unit_nanos(unit)?;
    // Far more digits than any duration has, and few enough that the products below fit.
    if whole.len() > 20 {
        return Err(DurationError::TooLong);
    }
    // Digits after the 18th are less than a nanosecond, and dropped as Go drops them.
    let fraction = fraction.get(..18).unwrap_or(fraction);
    let scale = fraction.bytes().fold(1, |scale, _| scale * 10);
    let nanos = number(whole) * unit + number(fraction) * unit / scale;
    Ok((nanos, rest))
}

fn split_digits(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

fn number(digits: &str) -> i128 {
    digits.bytes().fold(0, |number, digit| number * 10 + i128::from(digit - b'0'))
}

fn unit_nanos(unit: &str) -> Result<i128, DurationError> {
    Ok(match unit {
        "" => return Err(DurationError::UnitMissing),
        "ns" => 1,
        // The micro sign and the Greek letter look alike; Go takes both.
        "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        unit => return Err(DurationError::UnitUnknown { unit: unit.to_owned() }),
    })
}

#[cfg(test)]
mod tests {
    use super::{DurationError, GoDuration, parse_duration};

    const SECOND: i64 = 1_000_000_000;

    #[test]
    fn durations_are_read_as_go_reads_them() {
        for (text, nanos) in [
            ("0", 0),
            ("-0", 0),
            ("0s", 0),
            ("-1", -1),
            ("-1s", -SECOND),
            ("1ns", 1),
            ("+5us", 5_000),
            ("5µs", 5_000),
            ("5μs", 5_000),
            ("25ms", 25_000_000),
            ("1s", SECOND),
            ("1m0s", 60 * SECOND),
            ("1m30s", 90 * SECOND),
            ("24h0m0s", 24 * 3_600 * SECOND),
            ("168h", 168 * 3_600 * SECOND),
            ("1.5h", 5_400 * SECOND),
            (".5s", SECOND / 2),
            ("1.s", SECOND),
            ("0.000000001s", 1),
            ("0.1234567899s", 123_456_789),
            ("0.33333333333333333333h", 1_200 * SECOND - 1),
            ("2562047h47m16.854775807s", i64::MAX),
            ("-2562047h47m16.854775808s", i64::MIN),
        ] {
            assert_eq!(parse_duration(text), Ok(GoDuration { nanos }), "{text}");
        }
    }

    #[test]
    fn what_go_refuses_is_refused() {
        use DurationError::{Syntax, TooLong, UnitMissing};
        let unknown = |unit: &str| DurationError::UnitUnknown { unit: unit.to_owned() };
        for (text, error) in [
            ("", Syntax),
            ("-", Syntax),
            ("s", Syntax),
            (".s", Syntax),
            ("30", UnitMissing),
            ("-2", UnitMissing),
            ("1m30", UnitMissing),
            ("1 m", unknown(" m")),
            ("1d", unknown("d")),
            ("1S", unknown("S")),
            ("2562047h47m16.854775808s", TooLong),
            ("99999999999999999999999h", TooLong),
            ("99999999999999999999h", TooLong),
        ] {
            assert_eq!(parse_duration(text), Err(error), "{text:?}");
        }
    }

    #[test]
    fn durations_are_printed_as_go_prints_them() {
        for text in
            ["0s", "1ns", "1.5µs", "25ms", "1s", "1m0s", "1m30.5s", "1h0m0s", "168h0m0s", "-1s"]
        {
            assert_eq!(parse_duration(text).unwrap().to_string(), text);
        }
    }
}
