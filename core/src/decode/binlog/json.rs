//! MySQL's binary form of JSON documents → text, as the server prints it.
//!
//! A value is a type byte and what follows (MySQL's source, `json_binary.h`). Objects and arrays have a
//! count, their size, and for each member where its key is and its type, and where its value is or,
//! if that is small, the value itself. Places count from the container's start.
use alloc::vec::Vec;

use super::cells::{put_args, put_digits, put_int, put_uint};
use super::cells_read::Input;
use super::table_map::code;
use super::value_error::ValueFault;
use super::value_number::{Decimal, put_double};
use super::value_time::{Fraction, Moment, Span};

/// Levels of a document that the server makes.
pub(super) const DEPTH_MAX: usize = 100;

/// Type bytes.
mod kind {
    pub(super) const SMALL_OBJECT: u8 = 0x00;
    pub(super) const LARGE_OBJECT: u8 = 0x01;
    pub(super) const SMALL_ARRAY: u8 = 0x02;
    pub(super) const LARGE_ARRAY: u8 = 0x03;
    pub(super) const LITERAL: u8 = 0x04;
    pub(super) const INT16: u8 = 0x05;
    pub(super) const UINT16: u8 = 0x06;
    pub(super) const INT32: u8 = 0x07;
    pub(super) const UINT32: u8 = 0x08;
    pub(super) const INT64: u8 = 0x09;
    pub(super) const UINT64: u8 = 0x0a;
    pub(super) const DOUBLE: u8 = 0x0b;
    pub(super) const STRING: u8 = 0x0c;
    pub(super) const OPAQUE: u8 = 0x0f;
}

/// One value of a document.
#[derive(Clone, Copy, Debug)]
pub(super) enum Value<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    String(&'a [u8]),
    /// A value of a type of MySQL that JSON does not have, with the type's code.
    Opaque(u8, &'a [u8]),
    Container(Container<'a>),
}

/// An object or an array.
#[derive(Clone, Copy, Debug)]
pub(super) struct Container<'a> {
    // From its count to its end.
    bytes: &'a [u8],
    pub(super) object: bool,
    large: bool,
    pub(super) count: usize,
}

/// Bytes of a document that may still be read. No sound document has two values in one place, so
/// there are never more to read than it has, and a made-up one cannot grow without end.
#[derive(Debug)]
pub(super) struct Budget(usize);

impl Budget {
    pub(super) const fn new(document: &[u8]) -> Self {
        Self(document.len())
    }

    pub(super) fn spend(&mut self, bytes: usize) -> Result<(), ValueFault> {
        self.0 = self.0.checked_sub(bytes).ok_or(ValueFault::Json)?;
        Ok(())
    }
}

/// Reads a document. An empty one is what IGNORE makes of a missing value, and stands for null.
pub(super) fn document(bytes: &[u8]) -> Result<Value<'_>, ValueFault> {
    match bytes.split_first() {
        None => Ok(Value::Null),
        Some((kind, rest)) => value(*kind, rest).ok_or(ValueFault::Json),
    }
}

/// Appends a document as text, without a cell around it.
pub(super) fn put(out: &mut Vec<u8>, bytes: &[u8]) -> Result<(), ValueFault> {
    put_value(out, document(bytes)?, &mut Budget::new(bytes), DEPTH_MAX)
}

fn put_value(
    out: &mut Vec<u8>,
    value: Value<'_>,
    budget: &mut Budget,
    depth: usize,
) -> Result<(), ValueFault> {
    let Value::Container(container) = value else {
        return put_scalar(out, value, budget);
    };
    let depth = depth.checked_sub(1).ok_or(ValueFault::JsonDepth)?;
    out.push(if container.object { b'{' } else { b'[' });
    for index in 0..container.count {
        if index > 0 {
            out.extend_from_slice(b", ");
        }
        budget.spend(container.entry_len())?;
        if container.object {
            let key = container.key(index).ok_or(ValueFault::Json)?;
            budget.spend(key.len())?;
            put_string(out, key)?;
            out.extend_from_slice(b": ");
        }
        put_value(out, container.value(index).ok_or(ValueFault::Json)?, budget, depth)?;
    }
    out.push(if container.object { b'}' } else { b']' });
    Ok(())
}

/// Appends what is no container.
pub(super) fn put_scalar(
    out: &mut Vec<u8>,
    value: Value<'_>,
    budget: &mut Budget,
) -> Result<(), ValueFault> {
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(true) => out.extend_from_slice(b"true"),
        Value::Bool(false) => out.extend_from_slice(b"false"),
        Value::Int(number) => put_int(out, number),
        Value::Uint(number) => put_uint(out, number),
        Value::Double(number) if number.is_finite() => {
            let start = out.len();
            put_double(out, number);
            let text = out.get(start..).unwrap_or_default();
            // A number that would be read as a whole one keeps the mark of one that is not.
            if !text.iter().any(|byte| matches!(byte, b'.' | b'e')) {
                out.extend_from_slice(b".0");
            }
        }
        Value::String(text) => {
            budget.spend(text.len())?;
            put_string(out, text)?;
        }
        Value::Opaque(code, bytes) => {
            budget.spend(bytes.len())?;
            put_opaque(out, code, bytes)?;
        }
        Value::Double(_) | Value::Container(_) => return Err(ValueFault::Json),
    }
    Ok(())
}

/// Appends a text in quotes.
pub(super) fn put_string(out: &mut Vec<u8>, text: &[u8]) -> Result<(), ValueFault> {
    core::str::from_utf8(text).map_err(|_| ValueFault::Json)?;
    out.push(b'"');
    for byte in text {
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            0x08 => out.extend_from_slice(b"\\b"),
            0x0c => out.extend_from_slice(b"\\f"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            control if *control < 0x20 => put_args(out, format_args!("\\u{control:04x}")),
            other => out.push(*other),
        }
    }
    out.push(b'"');
    Ok(())
}

/// Appends a value of another type, as the server prints it.
fn put_opaque(out: &mut Vec<u8>, code: u8, bytes: &[u8]) -> Result<(), ValueFault> {
    match code {
        code::NEWDECIMAL => {
            let ([precision, scale], digits) =
                bytes.split_first_chunk::<2>().ok_or(ValueFault::Json)?;
            let decimal = Decimal::new(*precision, *scale).ok_or(ValueFault::Json)?;
            if decimal.len() != digits.len() {
                return Err(ValueFault::Json);
            }
            decimal.put(out, digits)
        }
        code::DATE | code::DATETIME | code::TIMESTAMP | code::TIME => {
            put_time(out, code, bytes.try_into().map_err(|_| ValueFault::Json)?)
        }
        _ => {
            put_args(out, format_args!("\"base64:type{code}:"));
            put_base64(out, bytes);
            out.push(b'"');
            Ok(())
        }
    }
}

fn put_time(out: &mut Vec<u8>, code: u8, packed: [u8; 8]) -> Result<(), ValueFault> {
    out.push(b'"');
    if code == code::TIME {
        let span = Span::of_packed(i64::from_le_bytes(packed));
        out.extend_from_slice(span.text(Fraction::MICROS)?.as_bytes());
    } else {
        let moment = Moment::of_packed(u64::from_le_bytes(packed));
        if !moment.is_printable() {
            return Err(ValueFault::Time);
        }
        out.extend_from_slice(&moment.date_text());
        if code != code::DATE {
            out.push(b' ');
            out.extend_from_slice(&moment.time_text());
            out.push(b'.');
            put_digits(out, moment.micros, 6);
        }
    }
    out.push(b'"');
    Ok(())
}

fn put_base64(out: &mut Vec<u8>, bytes: &[u8]) {
    for chunk in bytes.chunks(3) {
        let mut room = [0; 3];
        for (slot, byte) in room.iter_mut().zip(chunk) {
            *slot = *byte;
        }
        let [a, b, c] = room;
        let bits = u32::from_be_bytes([0, a, b, c]);
        for (index, shift) in [18, 12, 6, 0].into_iter().enumerate() {
            let used = index <= chunk.len();
            out.push(if used { base64((bits >> shift) & 63) } else { b'=' });
        }
    }
}

fn base64(digit: u32) -> u8 {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digit = usize::try_from(digit).ok().and_then(|digit| DIGITS.get(digit));
    digit.copied().unwrap_or_default()
}

/// A value that starts with these bytes.
fn value(kind: u8, bytes: &[u8]) -> Option<Value<'_>> {
    let mut input = Input::new(bytes);
    Some(match kind {
        kind::SMALL_OBJECT => Value::Container(Container::new(bytes, true, false)?),
        kind::LARGE_OBJECT => Value::Container(Container::new(bytes, true, true)?),
        kind::SMALL_ARRAY => Value::Container(Container::new(bytes, false, false)?),
        kind::LARGE_ARRAY => Value::Container(Container::new(bytes, false, true)?),
        kind::LITERAL => match input.u8()? {
            0 => Value::Null,
            1 => Value::Bool(true),
            2 => Value::Bool(false),
            _ => return None,
        },
        kind::INT16 => Value::Int(i16::from_le_bytes(input.array()?).into()),
        kind::UINT16 => Value::Uint(input.u16()?.into()),
        kind::INT32 => Value::Int(i32::from_le_bytes(input.array()?).into()),
        kind::UINT32 => Value::Uint(input.u32()?.into()),
        kind::INT64 => Value::Int(i64::from_le_bytes(input.array()?)),
        kind::UINT64 => Value::Uint(input.u64()?),
        kind::DOUBLE => Value::Double(f64::from_le_bytes(input.array()?)),
        kind::STRING => {
            let len = varying(&mut input)?;
            Value::String(input.bytes(len)?)
        }
        kind::OPAQUE => {
            let code = input.u8()?;
            let len = varying(&mut input)?;
            Value::Opaque(code, input.bytes(len)?)
        }
        _ => return None,
    })
}

/// A length: seven bits a byte, the highest one says that another byte follows.
fn varying(input: &mut Input<'_>) -> Option<usize> {
    let mut len = 0_u64;
    for shift in [0, 7, 14, 21, 28] {
        let byte = input.u8()?;
        len |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return usize::try_from(len).ok();
        }
    }
    None
}

impl<'a> Container<'a> {
    fn new(bytes: &'a [u8], object: bool, large: bool) -> Option<Self> {
        let mut input = Input::new(bytes);
        let width = if large { 4 } else { 2 };
        let count = usize::try_from(input.number(width)?).ok()?;
        let size = usize::try_from(input.number(width)?).ok()?;
        let container = Self { bytes: bytes.get(..size)?, object, large, count };
        // All entries are there.
        container.bytes.get(..container.entry_place(count, count)?)?;
        Some(container)
    }

    const fn width(&self) -> usize {
        if self.large { 4 } else { 2 }
    }

    /// Bytes of a key's entry: its place and its length.
    const fn key_entry(&self) -> usize {
        if self.object { self.width().saturating_add(2) } else { 0 }
    }

    /// Bytes of a member's entries.
    pub(super) const fn entry_len(&self) -> usize {
        self.key_entry().saturating_add(self.width()).saturating_add(1)
    }

    /// Where an entry starts, if so many entries of keys and of values stand before it.
    fn entry_place(&self, keys: usize, values: usize) -> Option<usize> {
        let head = self.width().checked_mul(2)?;
        let keys = self.key_entry().checked_mul(keys)?;
        let values = self.width().checked_add(1)?.checked_mul(values)?;
        head.checked_add(keys)?.checked_add(values)
    }

    fn from(&self, place: usize) -> Option<Input<'a>> {
        self.bytes.get(place..).map(Input::new)
    }

    /// The key of a member of an object.
    pub(super) fn key(&self, index: usize) -> Option<&'a [u8]> {
        let mut entry = self.from(self.entry_place(index, 0)?)?;
        let place = usize::try_from(entry.number(self.width())?).ok()?;
        let len = usize::from(entry.u16()?);
        self.from(place)?.bytes(len)
    }

    /// The value of a member or an element.
    pub(super) fn value(&self, index: usize) -> Option<Value<'a>> {
        let mut entry = self.from(self.entry_place(self.count, index)?)?;
        let kind = entry.u8()?;
        let inlined = match kind {
            kind::LITERAL | kind::INT16 | kind::UINT16 => true,
            kind::INT32 | kind::UINT32 => self.large,
            _ => false,
        };
        if inlined {
            return value(kind, entry.bytes(self.width())?);
        }
        let place = usize::try_from(entry.number(self.width())?).ok()?;
        // A container that stands in itself would never end; `Budget` would stop it, but late.
        if place == 0 {
            return None;
        }
        value(kind, self.bytes.get(place..)?)
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;
    use alloc::vec::Vec;

    use super::{ValueFault, kind, put};

    fn text(bytes: &[u8]) -> Result<Vec<u8>, ValueFault> {
        let mut out = Vec::new();
        put(&mut out, bytes).map(|()| out)
    }

    /// Arrays in arrays.
    fn nested(levels: usize) -> Vec<u8> {
        let mut bytes = vec![0, 0, 4, 0];
        for _ in 1..levels {
            let [low, high, ..] = bytes.len().saturating_add(7).to_le_bytes();
            bytes = [&[1, 0, low, high, kind::SMALL_ARRAY, 7, 0][..], &bytes].concat();
        }
        [&[kind::SMALL_ARRAY][..], &bytes].concat()
    }

    #[test]
    fn documents_have_as_many_levels_as_the_server_makes() {
        assert_eq!(text(&nested(3)).unwrap(), b"[[[]]]");
        assert_eq!(text(&nested(100)).unwrap().len(), 200);
        assert_eq!(text(&nested(101)), Err(ValueFault::JsonDepth));
    }

    #[test]
    fn a_document_cannot_grow_by_values_in_one_place() {
        let entries = [kind::STRING, 10, 0, kind::STRING, 10, 0];
        let front = [&[kind::SMALL_ARRAY, 2, 0, 212, 0][..], &entries].concat();
        let twice = [&front[..], &[0xc8, 1], &[b'x'; 200]].concat();
        assert_eq!(text(&twice), Err(ValueFault::Json));
    }

    #[test]
    fn a_document_that_is_none_is_refused() {
        assert_eq!(text(b"").unwrap(), b"null");
        for bytes in
            [&b"\x04\x03"[..], b"\x02\x01\0\x04\0", b"\x0e", b"\x0c\x05abc", b"\x0c\x01\xff"]
        {
            assert_eq!(text(bytes), Err(ValueFault::Json), "{bytes:x?}");
        }
    }
}
