//! Writes MySQL's binary form of JSON documents, for pretend servers, tests and fuzzing.
//!
//! Everything is written in the small form if it fits, as a server does. Whole numbers become the
//! smallest type that has them, and members of objects are put in the server's order.
use alloc::string::String;
use alloc::vec::Vec;

use bytes::BufMut;

use super::json_path::escaped;

/// A parsed document.
enum Node {
    Literal(u8),
    Int(i64),
    Uint(u64),
    Double(f64),
    String(String),
    Array(Vec<Self>),
    Object(Vec<(String, Self)>),
}

/// The binary form of a document; `None` if the text is none.
pub(super) fn document(text: &str) -> Option<Vec<u8>> {
    let mut parser = Parser { rest: text, depth: super::json::DEPTH_MAX };
    let node = parser.value()?;
    parser.skip();
    if !parser.rest.is_empty() {
        return None;
    }
    let (kind, bytes) = encode(&node)?;
    Some([&[kind][..], &bytes].concat())
}

/// The type byte of a value, and its bytes.
fn encode(node: &Node) -> Option<(u8, Vec<u8>)> {
    let mut out = Vec::new();
    let kind = match node {
        Node::Literal(literal) => {
            out.put_u8(*literal);
            4
        }
        Node::Int(number) => {
            if let Ok(number) = i16::try_from(*number) {
                out.put_i16_le(number);
                5
            } else if let Ok(number) = i32::try_from(*number) {
                out.put_i32_le(number);
                7
            } else {
                out.put_i64_le(*number);
                9
            }
        }
        Node::Uint(number) => {
            out.put_u64_le(*number);
            10
        }
        Node::Double(number) => {
            out.put_f64_le(*number);
            11
        }
        Node::String(text) => {
            put_varying(&mut out, text.len());
            out.put_slice(text.as_bytes());
            12
        }
        Node::Array(elements) => {
            let values: Option<Vec<_>> = elements.iter().map(encode).collect();
            return container(&[], &values?, false);
        }
        Node::Object(members) => {
            let keys: Vec<&str> = members.iter().map(|(key, _)| key.as_str()).collect();
            let values: Option<Vec<_>> = members.iter().map(|(_, value)| encode(value)).collect();
            return container(&keys, &values?, true);
        }
    };
    Some((kind, out))
}

fn container(keys: &[&str], values: &[(u8, Vec<u8>)], object: bool) -> Option<(u8, Vec<u8>)> {
    let kind = if object { 0 } else { 2 };
    if let Some(bytes) = of_width(keys, values, 2) {
        return Some((kind, bytes));
    }
    Some((kind | 1, of_width(keys, values, 4)?))
}

/// A container whose places have so many bytes; `None` if they are too few.
fn of_width(keys: &[&str], values: &[(u8, Vec<u8>)], width: usize) -> Option<Vec<u8>> {
    let inlined = |kind: u8| matches!(kind, 4..=6) || width == 4 && matches!(kind, 7 | 8);
    let key_entries = width.checked_add(2)?.checked_mul(keys.len())?;
    let entries = width.checked_add(1)?.checked_mul(values.len())?.checked_add(key_entries)?;
    let mut place = width.checked_mul(2)?.checked_add(entries)?;
    let mut out = Vec::new();
    for key in keys {
        out.put_uint_le(u64::try_from(place).ok()?, width);
        out.put_u16_le(u16::try_from(key.len()).ok()?);
        place = place.checked_add(key.len())?;
    }
    for (kind, bytes) in values {
        out.put_u8(*kind);
        if inlined(*kind) {
            let mut bytes = bytes.clone();
            bytes.resize(width, 0);
            out.put_slice(&bytes);
        } else {
            out.put_uint_le(u64::try_from(place).ok()?, width);
            place = place.checked_add(bytes.len())?;
        }
    }
    if width == 2 && usize::from(u16::MAX) < place {
        return None;
    }
    let mut front = Vec::new();
    front.put_uint_le(u64::try_from(values.len()).ok()?, width);
    front.put_uint_le(u64::try_from(place).ok()?, width);
    let keys = keys.iter().flat_map(|key| key.bytes());
    let values = values.iter().filter(|(kind, _)| !inlined(*kind)).flat_map(|(_, bytes)| bytes);
    Some(front.into_iter().chain(out).chain(keys).chain(values.copied()).collect())
}

fn put_varying(out: &mut Vec<u8>, len: usize) {
    let mut rest = len;
    loop {
        let [low, ..] = rest.to_le_bytes();
        rest >>= 7;
        if rest == 0 {
            out.put_u8(low & 0x7f);
            return;
        }
        out.put_u8(low | 0x80);
    }
}

/// Reads the text of a document.
struct Parser<'a> {
    rest: &'a str,
    depth: usize,
}

impl Parser<'_> {
    fn skip(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\n', '\r']);
    }

    /// Whether this comes next, after blanks; if so, it is read.
    fn eat(&mut self, token: &str) -> bool {
        self.skip();
        let after = self.rest.strip_prefix(token);
        self.rest = after.unwrap_or(self.rest);
        after.is_some()
    }

    fn value(&mut self) -> Option<Node> {
        for (literal, token) in [(0, "null"), (1, "true"), (2, "false")] {
            if self.eat(token) {
                return Some(Node::Literal(literal));
            }
        }
        if self.eat("\"") {
            return self.string().map(Node::String);
        }
        self.depth = self.depth.checked_sub(1)?;
        let node = if self.eat("[") {
            let mut elements = Vec::new();
            self.list("]", |parser| {
                elements.push(parser.value()?);
                Some(())
            })?;
            Node::Array(elements)
        } else if self.eat("{") {
            let mut members: Vec<(String, Node)> = Vec::new();
            self.list("}", |parser| {
                let key = if parser.eat("\"") { parser.string()? } else { return None };
                let value = if parser.eat(":") { parser.value()? } else { return None };
                members.retain(|(other, _)| *other != key);
                members.push((key, value));
                Some(())
            })?;
            members.sort_by(|(a, _), (b, _)| (a.len(), a).cmp(&(b.len(), b)));
            Node::Object(members)
        } else {
            self.number()?
        };
        self.depth = self.depth.saturating_add(1);
        Some(node)
    }

    fn list(&mut self, end: &str, mut item: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        if self.eat(end) {
            return Some(());
        }
        loop {
            item(self)?;
            if self.eat(end) {
                return Some(());
            }
            if !self.eat(",") {
                return None;
            }
        }
    }

    fn number(&mut self) -> Option<Node> {
        let other = |c: char| !matches!(c, '0'..='9' | '+' | '-' | '.' | 'e' | 'E');
        let end = self.rest.find(other).unwrap_or(self.rest.len());
        let (number, rest) = self.rest.split_at_checked(end)?;
        self.rest = rest;
        if let Ok(number) = number.parse() {
            return Some(Node::Int(number));
        }
        if let Ok(number) = number.parse() {
            return Some(Node::Uint(number));
        }
        number.parse().ok().filter(|number: &f64| number.is_finite()).map(Node::Double)
    }

    /// A text whose opening quote is read.
    fn string(&mut self) -> Option<String> {
        let mut text = String::new();
        let mut chars = self.rest.chars();
        loop {
            match chars.next()? {
                '"' => break,
                '\\' => text.push(escaped(&mut chars)?),
                other => text.push(other),
            }
        }
        self.rest = chars.as_str();
        Some(text)
    }
}
