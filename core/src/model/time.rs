//! Three notions of time: ours ([`MonoTime`]) and the source's ([`WallTime`], [`Hlc`]).
use core::fmt;
use core::str::FromStr;
use core::time::Duration;

/// Nanoseconds since the process started, as told to the machine by its driver.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct MonoTime(u64);

impl MonoTime {
    /// The moment the process started.
    pub const START: Self = Self(0);

    /// Builds a time from whole milliseconds.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis.saturating_mul(1_000_000))
    }

    /// Nanoseconds since the process started.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// This time plus `delay`, capped at the end of time.
    #[must_use]
    pub fn after(self, delay: Duration) -> Self {
        let nanos = u64::try_from(delay.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(nanos))
    }

    /// How long before this moment an `earlier` one was; nothing if it was not.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// A wall-clock time the source told us: microseconds since the Unix epoch. For lag only; nothing is
/// decided by it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WallTime {
    /// Microseconds since 1970-01-01 00:00 UTC; negative before.
    pub micros: i64,
}

/// A hybrid logical clock timestamp, as printed by CockroachDB: `nanos.logical`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hlc {
    /// Wall time in nanoseconds since the Unix epoch.
    pub nanos: u64,
    /// Orders events within one nanosecond.
    pub logical: u32,
}

impl fmt::Display for Hlc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:010}", self.nanos, self.logical)
    }
}

/// The text is not a time of a hybrid logical clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an HLC time; expected nanoseconds, a dot and ten digits")]
pub struct ParseHlcError;

/// The largest logical part there is; it stands just before a schema change.
const LOGICAL_MAX: u32 = i32::MAX.cast_unsigned();

impl FromStr for Hlc {
    type Err = ParseHlcError;

    /// Parses what CockroachDB prints: nanoseconds as a plain decimal number that fits 63 bits, a dot,
    /// and ten digits. A logical part of zero may have fewer. Nothing else is taken: no sign, no blank,
    /// no leading zero.
    fn from_str(text: &str) -> Result<Self, ParseHlcError> {
        Self::from_ascii(text.as_bytes())
    }
}

impl Hlc {
    /// The least time after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        if self.logical < LOGICAL_MAX {
            Self { nanos: self.nanos, logical: self.logical.saturating_add(1) }
        } else {
            Self { nanos: self.nanos.saturating_add(1), logical: 0 }
        }
    }

    /// Parses what [`from_str`](Self::from_str) does.
    pub(crate) fn from_ascii(bytes: &[u8]) -> Result<Self, ParseHlcError> {
        let dot = bytes.iter().position(|byte| *byte == b'.').ok_or(ParseHlcError)?;
        let (nanos, logical) = bytes.split_at_checked(dot).ok_or(ParseHlcError)?;
        let logical = logical.get(1..).unwrap_or_default();
        let padded = nanos.len() > 1 && nanos.starts_with(b"0");
        let count = logical.len();
        let (nanos, logical) = (decimal(nanos)?, decimal(logical)?);
        if padded || i64::MAX.cast_unsigned() < nanos {
            return Err(ParseHlcError);
        }
        let logical = u32::try_from(logical).map_err(|_| ParseHlcError)?;
        if LOGICAL_MAX < logical || count > 10 || count < 10 && logical != 0 {
            return Err(ParseHlcError);
        }
        Ok(Self { nanos, logical })
    }
}

/// Digits as a number: at least one, and no more than fit it whatever they are.
fn decimal(digits: &[u8]) -> Result<u64, ParseHlcError> {
    const DIGITS_MAX: usize = 19;
    let mut number = 0_u64;
    let mut all_digits = !digits.is_empty() && digits.len() <= DIGITS_MAX;
    for byte in digits {
        let digit = byte.wrapping_sub(b'0');
        all_digits &= digit < 10;
        number = number.wrapping_mul(10).wrapping_add(digit.into());
    }
    if all_digits { Ok(number) } else { Err(ParseHlcError) }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::{Hlc, ParseHlcError};

    #[test]
    fn an_hlc_survives_printing_and_parsing() {
        for (nanos, logical) in [(0, 0), (1, 7), (1_795_327_800_944_896_520, 2_147_483_647)] {
            let hlc = Hlc { nanos, logical };
            assert_eq!(hlc.to_string().parse(), Ok(hlc));
        }
    }

    #[test]
    fn a_logical_part_of_zero_may_be_short() {
        for text in ["1.0", "1.0000000000"] {
            assert_eq!(text.parse(), Ok(Hlc { nanos: 1, logical: 0 }));
        }
    }

    #[test]
    fn nonsense_is_not_an_hlc() {
        for text in [
            "",
            ".",
            "1",
            "1.",
            ".0",
            "1.5",
            "1.00000000005",
            "+1.0",
            "-1.0",
            "01.0",
            "0x1.0",
            " 1.0",
            "1.0 ",
            "1.0.0",
            "1.-000000001",
            "1.2147483648",
            "9223372036854775808.0",
            "18446744073709551617.0",
            "00000000000000000000.0",
            "1.00000000000000000000",
            "1e9.0",
            "\u{661}.0",
        ] {
            assert_eq!(text.parse::<Hlc>(), Err(ParseHlcError), "{text}");
        }
    }
}
