//! Character sets of MySQL and MariaDB → UTF-8.
//!
//! The tables are what a MySQL server converts (`charset/make.sh`), so that a text becomes here what it
//! would become there; its latin1, for one, is Windows' 1252 with the five holes filled.
use alloc::vec::Vec;
use core::fmt;

use super::charset_many::{self as many, Many};

/// A character set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "they have no other names than these")]
pub enum Charset {
    Armscii8,
    Ascii,
    Big5,
    Binary,
    Cp1250,
    Cp1251,
    Cp1256,
    Cp1257,
    Cp850,
    Cp852,
    Cp866,
    Cp932,
    Dec8,
    Eucjpms,
    Euckr,
    Gb18030,
    Gb2312,
    Gbk,
    Geostd8,
    Greek,
    Hebrew,
    Hp8,
    Keybcs2,
    Koi8r,
    Koi8u,
    Latin1,
    Latin2,
    Latin5,
    Latin7,
    Macce,
    Macroman,
    Sjis,
    Swe7,
    Tis620,
    Ucs2,
    Ujis,
    Utf16,
    Utf16le,
    Utf32,
    /// utf8mb3 and utf8mb4.
    Utf8,
}

/// The names in `information_schema`.
const NAMES: [(&str, Charset); 43] = [
    ("armscii8", Charset::Armscii8),
    ("ascii", Charset::Ascii),
    ("big5", Charset::Big5),
    ("binary", Charset::Binary),
    ("cp1250", Charset::Cp1250),
    ("cp1251", Charset::Cp1251),
    ("cp1256", Charset::Cp1256),
    ("cp1257", Charset::Cp1257),
    ("cp850", Charset::Cp850),
    ("cp852", Charset::Cp852),
    ("cp866", Charset::Cp866),
    ("cp932", Charset::Cp932),
    ("dec8", Charset::Dec8),
    ("eucjpms", Charset::Eucjpms),
    ("euckr", Charset::Euckr),
    ("gb18030", Charset::Gb18030),
    ("gb2312", Charset::Gb2312),
    ("gbk", Charset::Gbk),
    ("geostd8", Charset::Geostd8),
    ("greek", Charset::Greek),
    ("hebrew", Charset::Hebrew),
    ("hp8", Charset::Hp8),
    ("keybcs2", Charset::Keybcs2),
    ("koi8r", Charset::Koi8r),
    ("koi8u", Charset::Koi8u),
    ("latin1", Charset::Latin1),
    ("latin2", Charset::Latin2),
    ("latin5", Charset::Latin5),
    ("latin7", Charset::Latin7),
    ("macce", Charset::Macce),
    ("macroman", Charset::Macroman),
    ("sjis", Charset::Sjis),
    ("swe7", Charset::Swe7),
    ("tis620", Charset::Tis620),
    ("ucs2", Charset::Ucs2),
    ("ujis", Charset::Ujis),
    ("utf16", Charset::Utf16),
    ("utf16le", Charset::Utf16le),
    ("utf32", Charset::Utf32),
    // The first of these is how it is shown.
    ("utf8", Charset::Utf8),
    ("utf8mb3", Charset::Utf8),
    ("utf8mb4", Charset::Utf8),
    ("UTF-8", Charset::Utf8),
];

/// The bytes from 80 to FF of the character sets of one byte, in the order of the names.
static SINGLE: &[u8] = include_bytes!("charset/single.bin");

/// The character sets of one byte that have a table.
const SINGLES: [Charset; 23] = [
    Charset::Armscii8,
    Charset::Cp1250,
    Charset::Cp1251,
    Charset::Cp1256,
    Charset::Cp1257,
    Charset::Cp850,
    Charset::Cp852,
    Charset::Cp866,
    Charset::Dec8,
    Charset::Geostd8,
    Charset::Greek,
    Charset::Hebrew,
    Charset::Hp8,
    Charset::Keybcs2,
    Charset::Koi8r,
    Charset::Koi8u,
    Charset::Latin1,
    Charset::Latin2,
    Charset::Latin5,
    Charset::Latin7,
    Charset::Macce,
    Charset::Macroman,
    Charset::Tis620,
];

impl Charset {
    /// The character set of this name in `information_schema`, if it is known.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        NAMES.iter().find(|(known, _)| *known == name).map(|(_, charset)| *charset)
    }

    /// Appends a text in UTF-8. What stands in `out` is of no use if there is no such text.
    #[inline]
    pub(super) fn put(self, out: &mut Vec<u8>, text: &[u8]) -> Option<()> {
        if self == Self::Utf8 {
            core::str::from_utf8(text).ok()?;
            out.extend_from_slice(text);
            return Some(());
        }
        if self.extends_ascii() && text.is_ascii() {
            out.extend_from_slice(text);
            return Some(());
        }
        self.put_other(out, text)
    }

    /// Whether bytes below 80 are ASCII.
    const fn extends_ascii(self) -> bool {
        !matches!(self, Self::Swe7 | Self::Ucs2 | Self::Utf16 | Self::Utf16le | Self::Utf32)
    }

    fn put_other(self, out: &mut Vec<u8>, text: &[u8]) -> Option<()> {
        match self {
            Self::Utf8 | Self::Binary | Self::Ascii => None,
            Self::Swe7 => text.iter().try_for_each(|byte| swe7(*byte).map(|c| put_char(out, c))),
            Self::Ucs2 | Self::Utf16 => put_utf16(out, text, u16::from_be_bytes),
            Self::Utf16le => put_utf16(out, text, u16::from_le_bytes),
            Self::Utf32 => put_utf32(out, text),
            Self::Big5 => many::put(Many::Big5, out, text),
            Self::Cp932 => many::put(Many::Cp932, out, text),
            Self::Eucjpms => many::put(Many::Eucjpms, out, text),
            Self::Euckr => many::put(Many::Euckr, out, text),
            Self::Gb18030 => many::put(Many::Gb18030, out, text),
            Self::Gb2312 => many::put(Many::Gb2312, out, text),
            Self::Gbk => many::put(Many::Gbk, out, text),
            Self::Sjis => many::put(Many::Sjis, out, text),
            Self::Ujis => many::put(Many::Ujis, out, text),
            Self::Armscii8
            | Self::Cp1250
            | Self::Cp1251
            | Self::Cp1256
            | Self::Cp1257
            | Self::Cp850
            | Self::Cp852
            | Self::Cp866
            | Self::Dec8
            | Self::Geostd8
            | Self::Greek
            | Self::Hebrew
            | Self::Hp8
            | Self::Keybcs2
            | Self::Koi8r
            | Self::Koi8u
            | Self::Latin1
            | Self::Latin2
            | Self::Latin5
            | Self::Latin7
            | Self::Macce
            | Self::Macroman
            | Self::Tis620 => put_single(self, out, text),
        }
    }
}

impl fmt::Display for Charset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = NAMES.iter().find(|(_, charset)| charset == self);
        f.write_str(name.map_or("unknown", |(name, _)| name))
    }
}

/// Appends a character.
#[inline]
pub(super) fn put_char(out: &mut Vec<u8>, c: char) {
    out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
}

/// The character at a place of a table; 0 is none.
#[inline]
pub(super) fn at(table: &[u8], index: usize) -> Option<char> {
    let pair = table.get(index.checked_mul(2)?..)?.first_chunk::<2>()?;
    match u16::from_le_bytes(*pair) {
        0 => None,
        unit => char::from_u32(u32::from(unit)),
    }
}

fn put_single(charset: Charset, out: &mut Vec<u8>, text: &[u8]) -> Option<()> {
    let place = SINGLES.iter().position(|single| *single == charset)?;
    let table = SINGLE.get(place.checked_mul(256)?..)?;
    for byte in text {
        match byte.checked_sub(0x80) {
            None => out.push(*byte),
            Some(high) => put_char(out, at(table, usize::from(high))?),
        }
    }
    Some(())
}

/// Swedish letters instead of some brackets (`swe7` of the servers).
fn swe7(byte: u8) -> Option<char> {
    Some(match byte {
        b'@' => 'É',
        b'[' => 'Ä',
        b'\\' => 'Ö',
        b']' => 'Å',
        b'^' => 'Ü',
        b'`' => 'é',
        b'{' => 'ä',
        b'|' => 'ö',
        b'}' => 'å',
        b'~' => 'ü',
        0x7f.. => return None,
        other => char::from(other),
    })
}

fn put_utf16(out: &mut Vec<u8>, text: &[u8], unit: fn([u8; 2]) -> u16) -> Option<()> {
    let (units, rest) = text.as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    char::decode_utf16(units.iter().map(|bytes| unit(*bytes)))
        .try_for_each(|c| c.ok().map(|c| put_char(out, c)))
}

fn put_utf32(out: &mut Vec<u8>, text: &[u8]) -> Option<()> {
    let (units, rest) = text.as_chunks::<4>();
    if !rest.is_empty() {
        return None;
    }
    units
        .iter()
        .try_for_each(|bytes| char::from_u32(u32::from_be_bytes(*bytes)).map(|c| put_char(out, c)))
}

#[cfg(test)]
mod tests {
    use alloc::string::String;
    use alloc::vec::Vec;

    use super::{Charset, NAMES, SINGLE, SINGLES};

    fn text(charset: Charset, bytes: &[u8]) -> Option<String> {
        let mut out = Vec::new();
        charset.put(&mut out, bytes)?;
        Some(String::from_utf8(out).unwrap())
    }

    #[test]
    fn texts_are_what_the_server_takes_them_for() {
        for (charset, bytes, expected) in [
            (Charset::Latin1, &b"a\x80\x81\xff"[..], Some("a\u{20ac}\u{81}\u{ff}")),
            (Charset::Ascii, b"a\x80", None),
            (Charset::Utf8, b"\xed\xa0\x80", None),
            (Charset::Swe7, b"[@a", Some("ÄÉa")),
            (Charset::Utf16, b"\xd8\x34\xdd\x1e", Some("𝄞")),
            (Charset::Utf16, b"\xd8\x34", None),
            (Charset::Utf16le, b"a\0\0", None),
            (Charset::Utf32, b"\0\x01\xd1\x1e", Some("𝄞")),
            (Charset::Sjis, b"a\x83\x5c\xb1", Some("aソｱ")),
            (Charset::Sjis, b"\x81", None),
            (Charset::Cp932, b"\x87\x40", Some("①")),
            (Charset::Ujis, b"\x8e\xb1\x8f\xb0\xa1", Some("ｱ丂")),
            (Charset::Big5, b"\xa4\xa4", Some("中")),
            (Charset::Euckr, b"\xb0\xa1", Some("가")),
            (Charset::Gbk, b"\x81\x40", Some("丂")),
            (Charset::Gb2312, b"\x81\x40", None),
            (Charset::Gb18030, b"\x81\x30\x81\x30\x94\x39\xda\x33", Some("\u{80}💩")),
            (Charset::Gb18030, b"\xff\x30\x81\x30", None),
        ] {
            assert_eq!(text(charset, bytes).as_deref(), expected, "{charset} {bytes:x?}");
        }
    }

    #[test]
    fn every_character_set_of_one_byte_has_its_table() {
        assert_eq!(SINGLE.len(), SINGLES.len().saturating_mul(256));
        for charset in SINGLES {
            assert!((0x80..=0xff).any(|byte| text(charset, &[byte]).is_some()), "{charset}");
        }
        assert!(NAMES.iter().all(|(name, charset)| Charset::of_name(name) == Some(*charset)));
    }
}
