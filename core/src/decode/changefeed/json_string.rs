//! Strings of JSON: where they end, and the characters that are meant.
use alloc::borrow::Cow;
use alloc::vec::Vec;

use super::json::JsonFault;

/// A string as it was sent, without its quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Str<'a> {
    pub(super) raw: &'a [u8],
    pub(super) escaped: bool,
}

impl<'a> Str<'a> {
    /// The characters that are meant.
    pub(super) fn text(&self) -> Result<Cow<'a, [u8]>, JsonFault> {
        if !self.escaped {
            return Ok(Cow::Borrowed(self.raw));
        }
        let mut text = Vec::with_capacity(self.raw.len());
        self.append_to(&mut text)?;
        Ok(Cow::Owned(text))
    }

    /// Appends the characters that are meant.
    pub(super) fn append_to(&self, out: &mut Vec<u8>) -> Result<(), JsonFault> {
        let mut rest = self.raw;
        while let Some(at) = rest.iter().position(|byte| *byte == b'\\') {
            let (plain, escape) = rest.split_at_checked(at).ok_or(JsonFault::Escape)?;
            out.extend_from_slice(plain);
            rest = unescape(escape.get(1..).unwrap_or_default(), out)?;
        }
        out.extend_from_slice(rest);
        Ok(())
    }
}

/// Appends what the escape means that starts after a backslash; returns what follows it.
fn unescape<'a>(escape: &'a [u8], out: &mut Vec<u8>) -> Result<&'a [u8], JsonFault> {
    let (letter, rest) = escape.split_first().ok_or(JsonFault::Escape)?;
    let byte = match letter {
        b'"' | b'\\' | b'/' => *letter,
        b'b' => 0x08,
        b'f' => 0x0C,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'u' => return unescape_unit(rest, out),
        _ => return Err(JsonFault::Escape),
    };
    out.push(byte);
    Ok(rest)
}

/// The same after `\u`: one unit of UTF-16, or two that belong together.
fn unescape_unit<'a>(digits: &'a [u8], out: &mut Vec<u8>) -> Result<&'a [u8], JsonFault> {
    let (first, rest) = unit(digits).ok_or(JsonFault::Escape)?;
    let mut rest = rest;
    let second = match first {
        0xD800..=0xDBFF => {
            let (second, after) =
                rest.strip_prefix(b"\\u").and_then(unit).ok_or(JsonFault::Escape)?;
            rest = after;
            Some(second)
        }
        _ => None,
    };
    for letter in char::decode_utf16([first].into_iter().chain(second)) {
        let letter = letter.map_err(|_| JsonFault::Escape)?;
        out.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
    }
    Ok(rest)
}

/// Four hexadecimal digits.
fn unit(bytes: &[u8]) -> Option<(u16, &[u8])> {
    let (digits, rest) = bytes.split_first_chunk::<4>()?;
    let mut unit = 0_u16;
    for digit in digits {
        let digit = char::from(*digit).to_digit(16)?;
        unit = unit << 4 | u16::try_from(digit).ok()?;
    }
    Some((unit, rest))
}

/// What follows an escape, whose letter is next.
pub(super) fn after_escape(escape: &[u8]) -> Result<&[u8], JsonFault> {
    match escape.split_first() {
        Some((b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', rest)) => Ok(rest),
        Some((b'u', rest)) => unit(rest).map(|(_, rest)| rest).ok_or(JsonFault::Escape),
        Some(_) => Err(JsonFault::Escape),
        None => Err(JsonFault::Short),
    }
}

/// How many bytes from the start stand for themselves in a string. Looks at eight at a time.
#[inline]
pub(super) fn plain_len(bytes: &[u8]) -> usize {
    let mut rest = bytes;
    while let Some((chunk, after)) = rest.split_first_chunk::<8>() {
        let special = special(u64::from_le_bytes(*chunk));
        if special != 0 {
            let plain = usize::try_from(special.trailing_zeros() >> 3).unwrap_or_default();
            return bytes.len().saturating_sub(rest.len()).saturating_add(plain);
        }
        rest = after;
    }
    let ends = |byte: &u8| *byte < 0x20 || matches!(byte, b'"' | b'\\');
    let plain = rest.iter().position(ends).unwrap_or(rest.len());
    bytes.len().saturating_sub(rest.len()).saturating_add(plain)
}

/// Sets the high bit of each byte that is a quote, a backslash or below U+0020. Above the lowest such
/// byte others may be marked, too: a subtraction that borrows goes on upwards only.
const fn special(word: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const fn zero(word: u64) -> u64 {
        word.wrapping_sub(ONES) & !word
    }
    let quote = zero(word ^ 0x2222_2222_2222_2222);
    let backslash = zero(word ^ 0x5C5C_5C5C_5C5C_5C5C);
    let control = word.wrapping_sub(0x2020_2020_2020_2020) & !word;
    (quote | backslash | control) & 0x8080_8080_8080_8080
}
