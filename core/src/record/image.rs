//! Images of values: what stands in a recording in place of what was in a row.
//!
//! The machine looks at a value only through its [`KeyKind`], and at its size. So an image must keep
//! three things: values that are one key have images that are one key, others have not, and both the
//! text and its part of the key are as long as before. A hash of fixed length keeps none of them for short
//! values. Images of short values are therefore a *permutation* under a secret key of all texts of that
//! length and kind: nothing collides, nothing grows, and nobody without the key can go back. Long values
//! are hashed with 128 bits and filled up to their length, and so are those of columns that the machine never
//! compares; there a short hash is cut.
//!
//! What an image tells: how long the value is; and in columns that rows are told apart by, or refer to others
//! by, also how many blanks it ends in, the sign of a decimal number and where its point stands, and that
//! such a number, or a floating-point one, is zero.
use alloc::vec::Vec;

use super::sip::Sip;
use crate::model::key::{KeyKind, parse_int};

/// Texts up to this many bytes are permuted: 255 to the power of 16 fits 128 bits.
const BYTES_MAX: usize = 16;
/// Decimal numbers up to this many digits are permuted: 10 to the power of 38 fits 128 bits.
const DIGITS_MAX: usize = 38;
/// Rounds of the permutation. Four make one of a good function; small halves want more.
const ROUNDS: u64 = 10;
/// What long values are filled up with.
const FILL: u8 = b'x';

// Keep the permutations apart.
const TEXTS: u64 = 1 << 32;
const INTS: u64 = 2 << 32;
const DECIMALS: u64 = 3 << 32;

/// Makes images; all that are made under one key fit together.
#[derive(Clone, Copy)]
pub(super) struct Images {
    sip: Sip,
}

impl Images {
    pub(super) const fn new(key: [u8; 16]) -> Self {
        Self { sip: Sip::new(key) }
    }

    /// The image of a value of a column. `kind` is how the machine compares it, or `None` if it does not.
    pub(super) fn of(self, kind: Option<KeyKind>, value: &[u8]) -> Vec<u8> {
        match kind {
            Some(KeyKind::Int) => match parse_int(value) {
                Some(number) => self.int(number, value.len()),
                None => self.text(value, |image| parse_int(image).is_none()),
            },
            Some(KeyKind::Numeric) => match Decimal::split(value) {
                Some(decimal) => self.decimal(value, &decimal),
                None => self.text(value, |image| Decimal::split(image).is_none()),
            },
            // `-0` equals `0`, which is shorter: no other pair of texts does.
            Some(KeyKind::Float) if is_zero(value) => value.to_vec(),
            Some(KeyKind::Float) => self.text(value, |image| !is_zero(image)),
            Some(KeyKind::Padded | KeyKind::Exact | KeyKind::Loose) => self.text(value, |_| true),
            None => self.hash(value),
        }
    }

    /// Only the size counts. Most values are of this kind, and this is the cheapest image there is.
    fn hash(self, value: &[u8]) -> Vec<u8> {
        let mut image = alloc::vec![FILL; value.len()];
        for (slot, byte) in image.iter_mut().zip(self.sip.wide_of_bytes(value)) {
            *slot = byte;
        }
        image
    }

    /// 128 bits in place of a text that the machine only hands on.
    pub(super) fn digest(self, text: &[u8]) -> [u8; 16] {
        self.sip.wide_of_bytes(text)
    }

    /// Blanks at the end stay, because they do not always count; so do bytes that are zero, because they
    /// take twice their room in a key.
    fn text(self, value: &[u8], is_valid: impl Fn(&[u8]) -> bool) -> Vec<u8> {
        let blanks = value.iter().rev().take_while(|byte| **byte == b' ').count();
        let trimmed = value.len().saturating_sub(blanks);
        let kept = |index: usize, byte: u8| byte == 0 || trimmed <= index;
        let fill = |contents: &[u8]| -> Vec<u8> {
            let mut contents = contents.iter();
            let mut next = || contents.next().copied().unwrap_or(FILL);
            let bytes = value.iter().enumerate();
            bytes.map(|(index, byte)| if kept(index, *byte) { *byte } else { next() }).collect()
        };
        let bytes = value.iter().enumerate().filter(|(index, byte)| !kept(*index, **byte));
        let contents: Vec<u8> = bytes.map(|(_, byte)| *byte).collect();
        let len = contents.len();
        if len == 0 {
            return value.to_vec();
        }
        if BYTES_MAX < len {
            let hash = self.sip.wide_of_bytes(value.get(..trimmed).unwrap_or_default());
            return fill(&hash.map(|byte| byte.max(1)));
        }
        let number = contents.iter().fold(0_u128, |number, byte| {
            number.wrapping_mul(255).wrapping_add(u128::from(byte.wrapping_sub(1)))
        });
        let domain = Domain { tag: TEXTS | wide(len), size: power(255, len) };
        let permuted = self.permute(&domain, number, |number| {
            let image = fill(&text_of(number, len));
            let ends_blank = trimmed.checked_sub(1).and_then(|last| image.get(last)) == Some(&b' ');
            !ends_blank && is_valid(&image)
        });
        fill(&text_of(permuted, len))
    }

    /// A number whose shortest text is as long; zeros in front make up for what the text had beyond that.
    fn int(self, number: i64, len: usize) -> Vec<u8> {
        let shortest = decimal_text(u128::from(number.unsigned_abs())).len();
        let shortest = shortest.saturating_add(usize::from(number < 0));
        let ints = Ints::of_len(shortest);
        let domain = Domain { tag: INTS | wide(shortest), size: ints.count() };
        let image = ints.number(self.permute(&domain, ints.index(number), |_| true));
        let digits = decimal_text(u128::from(image.unsigned_abs()));
        let sign: &[u8] = if image < 0 { b"-" } else { b"" };
        let zeros = len.saturating_sub(sign.len()).saturating_sub(digits.len());
        let mut text = sign.to_vec();
        text.resize(sign.len().saturating_add(zeros), b'0');
        text.extend_from_slice(&digits);
        text
    }

    /// A number with as many significant digits on both sides of the point.
    fn decimal(self, value: &[u8], decimal: &Decimal) -> Vec<u8> {
        let digits: Vec<u8> = value
            .get(decimal.from..decimal.before)
            .into_iter()
            .flatten()
            .filter(|byte| byte.is_ascii_digit())
            .map(|byte| byte.wrapping_sub(b'0'))
            .collect();
        let len = digits.len();
        if len == 0 {
            return value.to_vec();
        }
        let image = if DIGITS_MAX < len {
            let hash = u128::from_le_bytes(self.sip.wide_of_bytes(&digits));
            let mut image: Vec<u8> = digits_of(hash, 9, DIGITS_MAX);
            image.iter_mut().for_each(|digit| *digit = digit.wrapping_add(1));
            image.resize(len, 1);
            image
        } else {
            let number = digits.iter().fold(0_u128, |number, digit| {
                number.wrapping_mul(10).wrapping_add(u128::from(*digit))
            });
            let domain = Domain { tag: DECIMALS | wide(len), size: power(10, len) };
            let permuted = self.permute(&domain, number, |number| {
                let image = digits_of(number, 10, len);
                let leads = decimal.has_whole && image.first() == Some(&0);
                let trails = decimal.ends_in_fraction && image.last() == Some(&0);
                !leads && !trails
            });
            digits_of(permuted, 10, len)
        };
        let mut image = image.into_iter();
        let mut text = value.to_vec();
        for byte in text.get_mut(decimal.from..decimal.before).into_iter().flatten() {
            if byte.is_ascii_digit() {
                *byte = b'0'.wrapping_add(image.next().unwrap_or(1));
            }
        }
        text
    }

    /// Where a number of a domain goes: `is_valid` says which ones stay among themselves. `number` is one
    /// of them, so the walk ends there at the latest. A Feistel network, walked until it is back in the domain (Black and
    /// Rogaway, "Ciphers with Arbitrary Finite Domains").
    fn permute(self, domain: &Domain, number: u128, is_valid: impl Fn(u128) -> bool) -> u128 {
        let bits = u128::BITS.saturating_sub(domain.size.saturating_sub(1).leading_zeros());
        let half = bits.div_ceil(2).max(1);
        let mask = u64::MAX.wrapping_shr(u64::BITS.saturating_sub(half));
        let mut walked = number;
        loop {
            let mut left = low(walked.wrapping_shr(half)) & mask;
            let mut right = low(walked) & mask;
            for round in 0..ROUNDS {
                let mixed = self.sip.of_words([domain.tag | (round << 48), right]);
                (left, right) = (right, left ^ (mixed & mask));
            }
            walked = u128::from(left).wrapping_shl(half) | u128::from(right);
            if walked == number || (walked < domain.size && is_valid(walked)) {
                return walked;
            }
        }
    }
}

/// The numbers below `size`, permuted in a way of their own.
struct Domain {
    tag: u64,
    size: u128,
}

/// All whole numbers of 64 bits whose shortest text has one length: some without a sign, some with one.
struct Ints {
    // Inclusive bounds of their absolute values; empty if the second is less than the first.
    plain: (u128, u128),
    negative: (u128, u128),
}

impl Ints {
    fn of_len(len: usize) -> Self {
        let plain_max = u128::from(i64::MAX.unsigned_abs());
        let bounds = |digits: usize, max: u128| {
            let least = power(10, digits.saturating_sub(1));
            (least, power(10, digits).saturating_sub(1).min(max))
        };
        let plain = if len == 1 { (0, 9) } else { bounds(len, plain_max) };
        let negative = if len < 2 {
            (1, 0)
        } else {
            bounds(len.saturating_sub(1), plain_max.saturating_add(1))
        };
        Self { plain, negative }
    }

    fn count(&self) -> u128 {
        count(self.plain).saturating_add(count(self.negative))
    }

    fn index(&self, number: i64) -> u128 {
        let size = u128::from(number.unsigned_abs());
        if number < 0 {
            count(self.plain).saturating_add(size.saturating_sub(self.negative.0))
        } else {
            size.saturating_sub(self.plain.0)
        }
    }

    fn number(&self, index: u128) -> i64 {
        match index.checked_sub(count(self.plain)) {
            None => i64::try_from(self.plain.0.saturating_add(index)).unwrap_or(i64::MAX),
            Some(index) => {
                let size = low(self.negative.0.saturating_add(index));
                0_i64.checked_sub_unsigned(size).unwrap_or(i64::MIN)
            }
        }
    }
}

fn count((least, most): (u128, u128)) -> u128 {
    most.saturating_add(1).saturating_sub(least)
}

/// Where the significant digits of a decimal number are, as [`KeyBuilder`](crate::model::key::KeyBuilder)
/// reads it.
struct Decimal {
    from: usize,
    before: usize,
    // Whether the first of them stands before the point.
    has_whole: bool,
    // Whether the last of them stands behind it.
    ends_in_fraction: bool,
}

impl Decimal {
    /// Returns `None` for a text that is no decimal number, such as `NaN`.
    fn split(value: &[u8]) -> Option<Self> {
        let sign = usize::from(matches!(value.first(), Some(b'-' | b'+')));
        let digits = value.get(sign..)?;
        if digits.iter().any(|byte| !byte.is_ascii_digit() && *byte != b'.') {
            return None;
        }
        let point = digits.iter().position(|byte| *byte == b'.').unwrap_or(digits.len());
        let zeros = digits.iter().take(point).take_while(|byte| **byte == b'0').count();
        let fraction = digits.get(point.saturating_add(1)..).unwrap_or_default();
        let trailing = fraction.iter().rev().take_while(|byte| **byte == b'0').count();
        let significant = fraction.len().saturating_sub(trailing);
        let before = match significant {
            0 => point,
            significant => point.saturating_add(1).saturating_add(significant),
        };
        let last = significant.checked_sub(1).and_then(|last| fraction.get(last));
        Some(Self {
            from: sign.saturating_add(zeros),
            before: sign.saturating_add(before),
            has_whole: zeros < point,
            ends_in_fraction: last.is_some_and(u8::is_ascii_digit),
        })
    }
}

fn is_zero(value: &[u8]) -> bool {
    value == b"0" || value == b"-0"
}

/// A number in base 255, each digit a byte that is not zero.
fn text_of(number: u128, len: usize) -> Vec<u8> {
    let mut text = digits_of(number, 255, len);
    text.iter_mut().for_each(|byte| *byte = byte.wrapping_add(1));
    text
}

/// The last `len` digits of a number, highest first.
fn digits_of(mut number: u128, base: u128, len: usize) -> Vec<u8> {
    let mut digits = alloc::vec![0; len];
    for digit in digits.iter_mut().rev() {
        let rest = number.checked_rem(base).unwrap_or_default();
        *digit = u8::try_from(rest).unwrap_or_default();
        number = number.checked_div(base).unwrap_or_default();
    }
    digits
}

fn decimal_text(number: u128) -> Vec<u8> {
    use alloc::string::ToString as _;
    number.to_string().into_bytes()
}

fn power(base: u128, exponent: usize) -> u128 {
    base.saturating_pow(u32::try_from(exponent).unwrap_or(u32::MAX))
}

fn wide(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}

/// The lower half.
fn low(number: u128) -> u64 {
    u64::try_from(number & u128::from(u64::MAX)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::string::{String, ToString as _};
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::Images;
    use crate::model::key::{KeyBuilder, KeyKind, RowKey};
    use crate::model::row::Cell;

    const KINDS: [KeyKind; 6] = [
        KeyKind::Int,
        KeyKind::Numeric,
        KeyKind::Float,
        KeyKind::Padded,
        KeyKind::Exact,
        KeyKind::Loose,
    ];

    fn images() -> Images {
        Images::new(*b"a key of 16 byte")
    }

    fn key(kind: KeyKind, value: &[u8]) -> RowKey {
        let mut builder = KeyBuilder::new();
        builder.push(kind, Cell::Text(value)).unwrap();
        builder.finish()
    }

    /// Values of one kind keep whether they are equal, and their sizes.
    fn check(kind: KeyKind, values: &[Vec<u8>]) {
        let image = |value: &Vec<u8>| images().of(Some(kind), value);
        let pairs: Vec<(&Vec<u8>, Vec<u8>)> = values.iter().map(|v| (v, image(v))).collect();
        for (value, image) in &pairs {
            let text = String::from_utf8_lossy(value);
            assert_eq!(value.len(), image.len(), "{kind:?} {text}");
            assert_eq!(key(kind, value).len(), key(kind, image).len(), "{kind:?} {text}");
            for (other, other_image) in &pairs {
                let (real, hidden) = (key(kind, value) == key(kind, other), {
                    key(kind, image) == key(kind, other_image)
                });
                let other = String::from_utf8_lossy(other);
                assert_eq!(real, hidden, "{kind:?} {text:?} and {other:?}");
            }
        }
    }

    fn texts(values: &[&str]) -> Vec<Vec<u8>> {
        values.iter().map(|value| value.as_bytes().to_vec()).collect()
    }

    #[test]
    fn equal_values_have_equal_images_and_others_have_not() {
        let odd = [
            "",
            "0",
            "-0",
            "+0",
            "00",
            "5",
            "05",
            "+5",
            "-5",
            "-05",
            "10",
            "010",
            "-10",
            "9223372036854775807",
            "-9223372036854775808",
            "9223372036854775808",
            "1.0",
            "1.00",
            "1.",
            ".5",
            "0.5",
            "0.50",
            "-0.5",
            "-0.000",
            ".",
            "-.",
            "+",
            "-",
            "100",
            "100.0",
            "NaN",
            "Infinity",
            "-Infinity",
            "1e+20",
            "1.2.3",
            "1.2.",
            "1..2",
            "a",
            "a ",
            "a  ",
            " a",
            "  ",
            "A",
            "a\0b",
            "a\0\0b",
            "\0",
            "12345678901234567890123456789012345678901.25",
            "12345678901234567890123456789012345678901.250",
            "12345678901234567890123456789012345678902",
            "a text of more than sixteen bytes",
            "a text of more than sixteen bytes ",
            "another text of more than sixteen",
            "sixteen bytes ok",
            "t",
            "f",
        ];
        for kind in KINDS {
            check(kind, &texts(&odd));
        }
    }

    #[test]
    fn images_of_short_values_are_a_permutation() {
        let all = |kind: Option<KeyKind>, values: Vec<Vec<u8>>| {
            let images: BTreeSet<Vec<u8>> = values.iter().map(|v| images().of(kind, v)).collect();
            let values: BTreeSet<Vec<u8>> = values.into_iter().collect();
            assert_eq!(images, values, "{kind:?}");
        };
        let ints = |from: i64, through: i64| -> Vec<Vec<u8>> {
            (from..=through).map(|number| number.to_string().into_bytes()).collect()
        };
        all(Some(KeyKind::Int), ints(0, 9));
        all(Some(KeyKind::Int), [ints(-99, -10), ints(100, 999)].concat());
        all(Some(KeyKind::Numeric), ints(10, 99));
        let bytes = (1..=u8::MAX).filter(|byte| *byte != b' ').map(|byte| [byte].to_vec());
        all(Some(KeyKind::Exact), bytes.clone().collect());
        all(Some(KeyKind::Padded), bytes.collect());
    }

    #[test]
    fn an_image_depends_on_the_key() {
        let other = Images::new(*b"another 16 bytes");
        for value in ["10042", "a longer text than sixteen", "name"] {
            for kind in KINDS {
                let (one, two) = (
                    images().of(Some(kind), value.as_bytes()),
                    other.of(Some(kind), value.as_bytes()),
                );
                assert_ne!(one, two, "{kind:?} {value}");
                assert_ne!(one, value.as_bytes(), "{kind:?} {value}");
            }
        }
    }

    /// Patterns of values.
    const DECIMALS: &str = "[-+]?0{0,2}[0-9]{0,6}(\\.[0-9]{0,4}0{0,2})?";
    const TEXTS: &str = "[ -~]{0,20} {0,2}";

    proptest! {
        #[test]
        fn whatever_the_values_are(
            ints in proptest::collection::vec(any::<i64>().prop_map(|n| n.to_string()), 0..4),
            decimals in proptest::collection::vec(DECIMALS, 0..4),
            some in proptest::collection::vec(TEXTS, 0..4),
            mut values in proptest::collection::vec(
                proptest::collection::vec(prop_oneof![3 => any::<u8>(), 1 => Just(0)], 0..20), 0..4),
        ) {
            values.extend(ints.into_iter().chain(decimals).chain(some).map(String::into_bytes));
            for kind in KINDS {
                check(kind, &values);
            }
        }
    }
}
