//! Strings of bytes that are no text: BINARY, shapes, vectors, addresses.
use alloc::string::ToString;
use alloc::vec::Vec;
use core::net::{Ipv4Addr, Ipv6Addr};

use super::cells::{close, open, push_short, push_text, put_hex};
use super::cells_read::Input;
use super::value_error::ValueFault;
use super::value_number::put_float;

/// The bit of a shape's type that says that its reference system follows (PostGIS, "EWKB").
const WITH_SRID: u32 = 0x2000_0000;

/// Appends a cell of bytes: `\x` and hexadecimal digits.
pub(super) fn push_bytes(out: &mut Vec<u8>, bytes: &[u8]) -> Result<(), ValueFault> {
    let start = open(out);
    out.extend_from_slice(b"\\x");
    put_hex(out, bytes);
    close(out, start)
}

/// Appends a cell of a BINARY. Its zeros at the end are not sent.
pub(super) fn push_padded(out: &mut Vec<u8>, bytes: &[u8], len: usize) -> Result<(), ValueFault> {
    let zeros = len.checked_sub(bytes.len()).ok_or(ValueFault::Length)?;
    let start = open(out);
    out.extend_from_slice(b"\\x");
    put_hex(out, bytes);
    out.resize(out.len().saturating_add(zeros.saturating_mul(2)), b'0');
    close(out, start)
}

/// Appends a cell of a shape, as the hexadecimal digits of its extended binary form.
///
/// Servers keep the number of the reference system in 4 bytes and the well-known binary form, in which
/// the longitude comes first whatever the system says. Without a system the form stays as it is.
pub(super) fn push_shape(out: &mut Vec<u8>, bytes: &[u8]) -> Result<(), ValueFault> {
    let mut input = Input::new(bytes);
    let srid = input.u32().ok_or(ValueFault::Shape)?;
    let whole = input;
    // Servers write little endian only.
    let Some(1) = input.u8() else { return Err(ValueFault::Shape) };
    let kind = input.u32().ok_or(ValueFault::Shape)?;
    let start = open(out);
    if srid == 0 {
        put_hex(out, whole.rest());
    } else {
        put_hex(out, &[1]);
        put_hex(out, &(kind | WITH_SRID).to_le_bytes());
        put_hex(out, &srid.to_le_bytes());
        put_hex(out, input.rest());
    }
    close(out, start)
}

/// Appends a cell of a vector: `[1,2.5]`.
pub(super) fn push_vector(out: &mut Vec<u8>, bytes: &[u8]) -> Result<(), ValueFault> {
    let (numbers, rest) = bytes.as_chunks::<4>();
    if !rest.is_empty() {
        return Err(ValueFault::Vector);
    }
    let start = open(out);
    out.push(b'[');
    for (index, number) in numbers.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        put_float(out, f32::from_le_bytes(*number));
    }
    out.push(b']');
    close(out, start)
}

/// Appends a cell of MariaDB's UUID, which is sent in the order of its text.
pub(super) fn push_uuid(out: &mut Vec<u8>, bytes: &[u8]) -> Result<(), ValueFault> {
    let uuid = filled::<16>(bytes)?;
    let start = open(out);
    for (index, byte) in uuid.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            out.push(b'-');
        }
        put_hex(out, &[*byte]);
    }
    close(out, start)
}

/// Appends a cell of MariaDB's INET4.
pub(super) fn push_inet4(out: &mut Vec<u8>, bytes: &[u8]) -> Result<(), ValueFault> {
    let address = Ipv4Addr::from(filled::<4>(bytes)?);
    push_short(out, address.to_string().as_bytes());
    Ok(())
}

/// Appends a cell of MariaDB's INET6.
pub(super) fn push_inet6(out: &mut Vec<u8>, bytes: &[u8]) -> Result<(), ValueFault> {
    let address = Ipv6Addr::from(filled::<16>(bytes)?);
    push_text(out, address.to_string().as_bytes())
}

/// Bytes whose zeros at the end were not sent.
fn filled<const N: usize>(bytes: &[u8]) -> Result<[u8; N], ValueFault> {
    let mut room = [0; N];
    room.get_mut(..bytes.len()).ok_or(ValueFault::Length)?.copy_from_slice(bytes);
    Ok(room)
}

#[cfg(test)]
mod tests {
    use alloc::string::String;
    use alloc::vec::Vec;

    use super::{push_inet4, push_inet6, push_padded, push_shape, push_uuid, push_vector};
    use crate::decode::binlog::value_error::ValueFault;

    type Push = fn(&mut Vec<u8>, &[u8]) -> Result<(), ValueFault>;

    fn text(push: Push, bytes: &[u8]) -> Result<String, ValueFault> {
        let mut out = Vec::new();
        push(&mut out, bytes)?;
        Ok(String::from_utf8(out.split_off(5)).unwrap())
    }

    #[test]
    fn zeros_that_were_not_sent_come_back() {
        let push: Push = |out, bytes| push_padded(out, bytes, 4);
        assert_eq!(text(push, b"\x01").unwrap(), "\\x01000000");
        assert_eq!(text(push, b"").unwrap(), "\\x00000000");
        assert_eq!(text(push, b"12345"), Err(ValueFault::Length));
        assert_eq!(text(push_inet4, b"\x0a").unwrap(), "10.0.0.0");
        assert_eq!(text(push_inet6, b"\x20\x01\x0d\xb8").unwrap(), "2001:db8::");
    }

    #[test]
    fn shapes_carry_their_reference_system() {
        let point = b"\x01\x01\0\0\0\0\0\0\0\0\0\xf0\x3f\0\0\0\0\0\0\0\x40";
        let plain = text(push_shape, &[&b"\0\0\0\0"[..], point].concat()).unwrap();
        assert_eq!(plain, "0101000000000000000000f03f0000000000000040");
        let earth = text(push_shape, &[&b"\xe6\x10\0\0"[..], point].concat()).unwrap();
        assert_eq!(earth, "0101000020e6100000000000000000f03f0000000000000040");
        assert_eq!(text(push_shape, b"\0\0\0\0\0"), Err(ValueFault::Shape));
    }

    #[test]
    fn vectors_are_lists_of_numbers() {
        assert_eq!(text(push_vector, b"\0\0\x80\x3f\0\0\x20\xc0").unwrap(), "[1,-2.5]");
        assert_eq!(text(push_vector, b"\0\0\x80"), Err(ValueFault::Vector));
    }

    #[test]
    fn uuids_are_in_the_order_of_their_text() {
        let uuid = b"\x12\x34\x56\x78\xc0\xde\x4a\xbc\x80\x01\x02\x03\x04\x05\x06\x07";
        assert_eq!(text(push_uuid, uuid).unwrap(), "12345678-c0de-4abc-8001-020304050607");
        assert_eq!(text(push_uuid, b"").unwrap(), "00000000-0000-0000-0000-000000000000");
    }
}
