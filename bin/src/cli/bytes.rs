//! Sizes in bytes with a unit: `100MB` (decimal), `1GiB` (binary), `1048576`.
use thiserror::Error;

/// The text is no size.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum BytesError {
    /// No number, or something that is no unit after it.
    #[error("not a size; write it like 100MB, 1GiB or 1048576")]
    Syntax,
    /// More than 64 bits hold.
    #[error("too large")]
    TooLarge,
}

/// Reads a size: a number, perhaps with a fraction, and a unit in upper or lower case. `k`, `M`, `G`,
/// `T` with or without `B` are decimal, `Ki` and so on binary. No unit means bytes.
pub(crate) fn parse_bytes(text: &str) -> Result<u64, BytesError> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let unit = unit_bytes(unit.trim_start()).ok_or(BytesError::Syntax)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return Err(BytesError::Syntax);
    }
    let whole: u128 = match whole {
        "" => 0,
        whole => whole.parse().map_err(|_| BytesError::TooLarge)?,
    };
    let bytes = whole.checked_mul(unit).ok_or(BytesError::TooLarge)?;
    // Few enough digits that the product fits, and more than a size needs.
    let fraction = fraction.get(..15).unwrap_or(fraction);
    let scale = fraction.bytes().fold(1, |scale, _| scale * 10);
    let part: u128 = match fraction {
        "" => 0,
        fraction => fraction.parse().map_err(|_| BytesError::Syntax)?,
    };
    let bytes = bytes.checked_add(part * unit / scale).ok_or(BytesError::TooLarge)?;
    u64::try_from(bytes).map_err(|_| BytesError::TooLarge)
}

fn unit_bytes(unit: &str) -> Option<u128> {
    let unit = unit.to_ascii_lowercase();
    let (prefix, base) = match unit.strip_suffix('b').unwrap_or(&unit) {
        "" => return Some(1),
        unit => match unit.strip_suffix('i') {
            Some(prefix) => (prefix, 1024_u128),
            None => (unit, 1000_u128),
        },
    };
    let power = ["k", "m", "g", "t"].iter().position(|letter| *letter == prefix)?;
    Some((0..=power).fold(1, |bytes, _| bytes * base))
}

#[cfg(test)]
mod tests {
    use super::{BytesError, parse_bytes};

    #[test]
    fn decimal_and_binary_units_are_told_apart() {
        for (text, bytes) in [
            ("0", 0),
            ("1048576", 1_048_576),
            ("7B", 7),
            ("1k", 1_000),
            ("1kB", 1_000),
            ("1KiB", 1_024),
            ("100MB", 100_000_000),
            ("128MiB", 128 << 20),
            ("128 mib", 128 << 20),
            ("1GiB", 1 << 30),
            ("2T", 2_000_000_000_000),
            ("1.5GiB", 3 << 29),
            (".5KiB", 512),
        ] {
            assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn nonsense_is_no_size() {
        for text in ["", ".", "MB", "1X", "1KK", "1.2.3MB", "-1", "1 2", "iB", "1iB"] {
            assert_eq!(parse_bytes(text), Err(BytesError::Syntax), "{text:?}");
        }
        for text in
            ["99999999999999999999", "99999999999TiB", "9999999999999999999999999999999999999999"]
        {
            assert_eq!(parse_bytes(text), Err(BytesError::TooLarge), "{text:?}");
        }
    }
}
