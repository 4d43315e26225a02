//! Paths into JSON documents, as the server writes them: `$.name[0]."other name"[last-1]`.
use alloc::vec::Vec;
use core::str::Chars;

use super::charset::put_char;

/// One step of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Leg {
    Member(Vec<u8>),
    Element(Place),
}

/// An element of an array.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Counted from the first one, which is 0.
    First(usize),
    /// Counted back from the last one, which is 0.
    Last(usize),
}

impl Place {
    /// Its index in an array of so many elements. It may be behind the last one, not before the first.
    pub(super) const fn index(self, len: usize) -> Option<usize> {
        match self {
            Self::First(index) => Some(index),
            Self::Last(back) => match len.checked_sub(1) {
                Some(last) => last.checked_sub(back),
                None => None,
            },
        }
    }

    /// Where an element is inserted, in an array of so many.
    pub(super) fn insert_index(self, len: usize) -> usize {
        self.index(len).unwrap_or_default()
    }
}

/// The steps of a path; `None` if it is none, or one that leads to several places.
pub(super) fn legs(path: &[u8]) -> Option<Vec<Leg>> {
    let mut rest = core::str::from_utf8(path).ok()?.strip_prefix('$')?;
    let mut legs = Vec::new();
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix('[') {
            let (place, after) = after.split_once(']')?;
            legs.push(Leg::Element(place_of(place)?));
            rest = after;
        } else {
            let after = rest.strip_prefix('.')?;
            let (name, after) = match after.strip_prefix('"') {
                Some(quoted) => unquote(quoted)?,
                None => plain(after)?,
            };
            legs.push(Leg::Member(name));
            rest = after;
        }
    }
    Some(legs)
}

fn place_of(text: &str) -> Option<Place> {
    match text.strip_prefix("last") {
        Some("") => Some(Place::Last(0)),
        Some(back) => Some(Place::Last(back.trim_start().strip_prefix('-')?.trim().parse().ok()?)),
        None => text.parse().ok().map(Place::First),
    }
}

/// A name that needs no quotes, and what follows.
fn plain(text: &str) -> Option<(Vec<u8>, &str)> {
    let end = text.find(['.', '[']).unwrap_or(text.len());
    let (name, rest) = text.split_at_checked(end)?;
    if name.is_empty() || name.contains('*') {
        return None;
    }
    Some((name.as_bytes().to_vec(), rest))
}

/// A text in quotes of which the first one is gone, and what follows.
fn unquote(text: &str) -> Option<(Vec<u8>, &str)> {
    let mut name = Vec::new();
    let mut chars = text.chars();
    loop {
        match chars.next()? {
            '"' => return Some((name, chars.as_str())),
            '\\' => put_char(&mut name, escaped(&mut chars)?),
            other => put_char(&mut name, other),
        }
    }
}

/// What stands behind a backslash.
pub(super) fn escaped(chars: &mut Chars<'_>) -> Option<char> {
    Some(match chars.next()? {
        'b' => '\u{8}',
        'f' => '\u{c}',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'u' => {
            let (digits, rest) = chars.as_str().split_at_checked(4)?;
            *chars = rest.chars();
            char::from_u32(u32::from_str_radix(digits, 16).ok()?)?
        }
        other @ ('"' | '\\' | '/') => other,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::{Leg, Place, legs};

    #[test]
    fn paths_are_read_as_the_server_writes_them() {
        let member = |name: &str| Leg::Member(name.as_bytes().to_vec());
        let element = |index| Leg::Element(Place::First(index));
        assert_eq!(legs(b"$").unwrap(), []);
        assert_eq!(legs(b"$.a[2].b").unwrap(), [member("a"), element(2), member("b")]);
        assert_eq!(legs(b"$.\"a.b\"[0]").unwrap(), [member("a.b"), element(0)]);
        assert_eq!(legs(br#"$."q\"\u00e9\n""#).unwrap(), [member("q\"\u{e9}\n")]);
        assert_eq!(legs(b"$[last-1]").unwrap(), [Leg::Element(Place::Last(1))]);
        for refused in ["", "a", "$a", "$.", "$.*", "$[*]", "$[", "$.\"a", "$**.a", "$[-1]"] {
            assert_eq!(legs(refused.as_bytes()), None, "{refused}");
        }
    }
}
