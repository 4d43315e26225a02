//! The values of one column → cells. What kind of values they are is found out once, by
//! [`value_plan`](super::value_plan).
use alloc::boxed::Box;
use alloc::vec::Vec;

use super::cells::{close, open, push_int, push_null, push_short, push_text, push_uint};
use super::cells_read::Input;
use super::charset::Charset;
use super::json;
use super::value_error::ValueFault;
use super::value_number::{Decimal, push_bits, put_double, put_float};
use super::value_string as string;
use super::value_time::{Fraction, Moment, NoDates, Span, push_date, push_moment};

/// What the values of a column are, and how they are stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Int8,
    Int16,
    Int24,
    Int32,
    Int64,
    Uint8,
    Uint16,
    Uint24,
    Uint32,
    Uint64,
    Year,
    Date,
    DateTime(Fraction),
    Timestamp(Fraction),
    /// Bytes of its length.
    Text(u8, Charset),
    /// What is seldom, or takes longer anyway.
    Slow(Slow),
}

/// The other kinds of values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Slow {
    Float,
    Double,
    Decimal(Decimal),
    /// So many bits.
    Bit(u8),
    Time(Fraction),
    OldTime,
    OldDateTime,
    OldTimestamp,
    /// Bytes of the number of a label, and the labels in UTF-8.
    Enum(u8, Labels),
    /// Bytes of the bits, and the labels in UTF-8.
    Set(u8, Labels),
    /// Bytes of its length.
    Bytes(u8),
    /// Bytes of its length, and its own length.
    Padded(u8, u16),
    /// MariaDB's attribute COMPRESSED: bytes of the length, and the character set of a text.
    Compressed(u8, Charset),
    Json(u8),
    Shape(u8),
    Vector(u8),
    Uuid(u8),
    Inet4(u8),
    Inet6(u8),
    /// Only ever NULL.
    Null,
}

/// Labels of an ENUM or SET.
pub(super) type Labels = Box<[Box<[u8]>]>;

impl Kind {
    /// Bytes of the length of a JSON document, if it is one.
    pub(super) const fn document(&self) -> Option<u8> {
        if let Self::Slow(Slow::Json(len)) = self { Some(*len) } else { None }
    }

    /// Reads a value and appends its cell.
    #[inline]
    pub(super) fn read(
        &self,
        input: &mut Input<'_>,
        no_dates: NoDates,
        out: &mut Vec<u8>,
    ) -> Result<(), ValueFault> {
        match self.read_known(input, no_dates, out) {
            Some(result) => result,
            None => Err(ValueFault::Short),
        }
    }

    /// `None` if the value is cut off.
    #[inline]
    fn read_known(
        &self,
        input: &mut Input<'_>,
        no_dates: NoDates,
        out: &mut Vec<u8>,
    ) -> Option<Result<(), ValueFault>> {
        match self {
            Self::Int8 => push_int(out, i8::from_le_bytes(input.array()?).into()),
            Self::Int16 => push_int(out, i16::from_le_bytes(input.array()?).into()),
            Self::Int24 => push_int(out, signed_24(input.u24()?)),
            Self::Int32 => push_int(out, i32::from_le_bytes(input.array()?).into()),
            Self::Int64 => push_int(out, i64::from_le_bytes(input.array()?)),
            Self::Uint8 => push_uint(out, input.u8()?.into()),
            Self::Uint16 => push_uint(out, input.u16()?.into()),
            Self::Uint24 => push_uint(out, input.u24()?.into()),
            Self::Uint32 => push_uint(out, input.u32()?.into()),
            Self::Uint64 => push_uint(out, input.u64()?),
            Self::Year => push_uint(out, year(input.u8()?)),
            Self::Date => return Some(push_date(out, Moment::date(input)?, no_dates)),
            Self::DateTime(fraction) => {
                let moment = Moment::datetime(input, *fraction)?;
                return Some(push_moment(out, moment, *fraction, b"", no_dates));
            }
            Self::Timestamp(fraction) => {
                let moment = Moment::timestamp(input, *fraction)?;
                return Some(push_moment(out, moment, *fraction, b"+00", no_dates));
            }
            Self::Text(len, charset) => {
                return Some(push_charset(out, input.counted(*len)?, *charset));
            }
            Self::Slow(slow) => return slow.read(input, no_dates, out),
        }
        Some(Ok(()))
    }
}

impl Slow {
    /// `None` if the value is cut off.
    fn read(
        &self,
        input: &mut Input<'_>,
        no_dates: NoDates,
        out: &mut Vec<u8>,
    ) -> Option<Result<(), ValueFault>> {
        Some(match self {
            Self::Float => {
                let number = f32::from_le_bytes(input.array()?);
                push_written(out, |out| put_float(out, number))
            }
            Self::Double => {
                let number = f64::from_le_bytes(input.array()?);
                push_written(out, |out| put_double(out, number))
            }
            Self::Decimal(decimal) => {
                let bytes = input.bytes(decimal.len())?;
                let start = open(out);
                decimal.put(out, bytes).and_then(|()| close(out, start))
            }
            Self::Bit(bits) => {
                let bytes = input.bytes(usize::from(bits.div_ceil(8)))?;
                push_bits(out, bytes, usize::from(*bits))
            }
            Self::Time(fraction) => push_time(out, Span::time(input, *fraction)?, *fraction),
            Self::OldTime => push_time(out, Span::old_time(input)?, Fraction::NONE),
            Self::OldDateTime => {
                let moment = Moment::old_datetime(input)?;
                push_moment(out, moment, Fraction::NONE, b"", no_dates)
            }
            Self::OldTimestamp => {
                let moment = Moment::old_timestamp(input)?;
                push_moment(out, moment, Fraction::NONE, b"+00", no_dates)
            }
            Self::Enum(len, labels) => push_label(out, input.number(usize::from(*len))?, labels),
            Self::Set(len, labels) => push_set(out, input.number(usize::from(*len))?, labels),
            Self::Bytes(len) => string::push_bytes(out, input.counted(*len)?),
            Self::Padded(prefix, len) => {
                string::push_padded(out, input.counted(*prefix)?, usize::from(*len))
            }
            Self::Compressed(len, charset) => push_unpacked(out, input.counted(*len)?, *charset),
            Self::Json(len) => {
                let bytes = input.counted(*len)?;
                let start = open(out);
                json::put(out, bytes).and_then(|()| close(out, start))
            }
            Self::Shape(len) => string::push_shape(out, input.counted(*len)?),
            Self::Vector(len) => string::push_vector(out, input.counted(*len)?),
            Self::Uuid(len) => string::push_uuid(out, input.counted(*len)?),
            Self::Inet4(len) => string::push_inet4(out, input.counted(*len)?),
            Self::Inet6(len) => string::push_inet6(out, input.counted(*len)?),
            Self::Null => {
                push_null(out);
                Ok(())
            }
        })
    }
}

#[inline]
fn signed_24(bits: u32) -> i64 {
    let number = i64::from(bits);
    if bits & 0x80_0000 == 0 { number } else { number.wrapping_sub(0x100_0000) }
}

/// Years count from 1900; 0 is the year 0.
#[inline]
fn year(stored: u8) -> u64 {
    if stored == 0 { 0 } else { u64::from(stored).saturating_add(1900) }
}

fn push_written(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) -> Result<(), ValueFault> {
    let start = open(out);
    write(out);
    close(out, start)
}

fn push_time(out: &mut Vec<u8>, span: Span, fraction: Fraction) -> Result<(), ValueFault> {
    push_short(out, span.text(fraction)?.as_bytes());
    Ok(())
}

#[inline]
fn push_charset(out: &mut Vec<u8>, text: &[u8], charset: Charset) -> Result<(), ValueFault> {
    let start = open(out);
    charset.put(out, text).ok_or(ValueFault::Text(charset))?;
    close(out, start)
}

/// A value that was not worth compressing has a zero byte in front; an empty one has nothing.
fn push_unpacked(out: &mut Vec<u8>, bytes: &[u8], charset: Charset) -> Result<(), ValueFault> {
    let plain = match bytes {
        [] => bytes,
        [0, plain @ ..] => plain,
        _ => return Err(ValueFault::Compressed),
    };
    if charset == Charset::Binary {
        return string::push_bytes(out, plain);
    }
    push_charset(out, plain, charset)
}

/// Labels count from 1; 0 is the empty text that a server stores for what is no label.
fn push_label(out: &mut Vec<u8>, number: u64, labels: &Labels) -> Result<(), ValueFault> {
    let Some(index) = number.checked_sub(1) else {
        return push_text(out, b"");
    };
    let label = usize::try_from(index).ok().and_then(|index| labels.get(index));
    push_text(out, label.ok_or(ValueFault::Label(number))?)
}

fn push_set(out: &mut Vec<u8>, bits: u64, labels: &Labels) -> Result<(), ValueFault> {
    let start = open(out);
    let mut rest = bits;
    for label in labels {
        if rest & 1 == 1 {
            if out.len() > start.saturating_add(5) {
                out.push(b',');
            }
            out.extend_from_slice(label);
        }
        rest >>= 1;
    }
    if rest != 0 {
        return Err(ValueFault::Label(bits));
    }
    close(out, start)
}
