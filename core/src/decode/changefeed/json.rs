//! JSON as it stands in a body: checked, and handed on as the very bytes that were sent.
//!
//! Nothing is turned into a tree and no number into a number, so that a decimal of fifty digits stays
//! one. Nesting is counted in bits and not on the stack. The grammar is that of RFC 8259; that the bytes
//! are UTF-8 is checked once for a whole body, before any of this.
use super::json_string::{Str, after_escape, plain_len};

/// How deep arrays and objects may be nested. PostgreSQL itself gives up somewhat later.
pub const DEPTH_MAX: usize = 1024;

/// Words of 64 bits that hold a bit for each level.
const DEPTH_WORDS: usize = DEPTH_MAX >> 6;

/// What is wrong with a JSON text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JsonFault {
    /// It ends too early.
    #[error("the text ends too early")]
    Short,
    /// A byte where the grammar has no place for it.
    #[error("no JSON has this byte here")]
    Byte,
    /// A number of another grammar, such as `01` or `1.`.
    #[error("not a JSON number")]
    Number,
    /// A character below U+0020 in a string.
    #[error("a control character in a string is not escaped")]
    Control,
    /// An escape that does not exist, or half a surrogate pair.
    #[error("a broken escape in a string")]
    Escape,
    /// Arrays and objects are nested too deep.
    #[error("nested deeper than {DEPTH_MAX}")]
    Deep,
}

/// What a value is, seen by its first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Null,
    Bool,
    Number,
    String,
    Array,
    Object,
}

/// A value as it was sent, without blanks around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Raw<'a> {
    pub(super) kind: Kind,
    pub(super) text: &'a [u8],
    // For a string: whether it has escapes.
    escaped: bool,
}

impl<'a> Raw<'a> {
    /// An object by its text.
    pub(super) const fn object(text: &'a [u8]) -> Self {
        Self { kind: Kind::Object, text, escaped: false }
    }

    /// What stands between the quotes of a string.
    pub(super) fn string(&self) -> Option<Str<'a>> {
        let inner = self.text.get(1..)?.split_last()?.1;
        (self.kind == Kind::String).then_some(Str { raw: inner, escaped: self.escaped })
    }
}

/// Which bracket is open at each level: a set bit is an object.
struct Nest {
    objects: [u64; DEPTH_WORDS],
    depth: usize,
    depth_max: usize,
}

impl Nest {
    fn open(&mut self, object: bool) -> Result<(), JsonFault> {
        let word = self.objects.get_mut(self.depth >> 6);
        let word = word.filter(|_| self.depth < self.depth_max).ok_or(JsonFault::Deep)?;
        let bit = 1_u64 << (self.depth & 63);
        *word = if object { *word | bit } else { *word & !bit };
        self.depth = self.depth.saturating_add(1);
        Ok(())
    }

    fn close(&mut self) {
        self.depth = self.depth.saturating_sub(1);
    }

    /// Whether the innermost bracket is an object's; `None` if all are closed.
    fn innermost(&self) -> Option<bool> {
        let level = self.depth.checked_sub(1)?;
        let word = self.objects.get(level >> 6)?;
        Some(word & (1 << (level & 63)) != 0)
    }
}

/// A place in a JSON text.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub(super) const fn new(text: &'a [u8]) -> Self {
        Self { rest: text }
    }

    /// All bytes from `earlier`, a place before this one in the same text, to here.
    pub(super) fn since(&self, earlier: Self) -> &'a [u8] {
        let len = earlier.left().saturating_sub(self.left());
        earlier.rest.get(..len).unwrap_or_default()
    }

    /// How many bytes are left.
    pub(super) const fn left(&self) -> usize {
        self.rest.len()
    }

    /// Goes over blanks.
    #[inline]
    pub(super) fn blanks(&mut self) {
        while let Some((b' ' | b'\n' | b'\r' | b'\t', rest)) = self.rest.split_first() {
            self.rest = rest;
        }
    }

    /// Goes over the end of a line; returns whether there was one. So is the end of the text.
    pub(super) fn ends_line(&mut self) -> bool {
        while let Some((b' ' | b'\r' | b'\t', rest)) = self.rest.split_first() {
            self.rest = rest;
        }
        self.rest.is_empty() || self.eat(b'\n')
    }

    /// Goes over this byte, if it is next.
    #[inline]
    pub(super) fn eat(&mut self, byte: u8) -> bool {
        match self.rest.split_first() {
            Some((next, rest)) if *next == byte => {
                self.rest = rest;
                true
            }
            Some(_) | None => false,
        }
    }

    /// Goes over this byte, which must be next.
    pub(super) fn expect(&mut self, byte: u8) -> Result<(), JsonFault> {
        if self.eat(byte) { Ok(()) } else { Err(self.unexpected()) }
    }

    fn unexpected(&self) -> JsonFault {
        if self.rest.is_empty() { JsonFault::Short } else { JsonFault::Byte }
    }

    /// Reads one value, and the blanks before it.
    #[inline]
    pub(super) fn value(&mut self) -> Result<Raw<'a>, JsonFault> {
        self.value_below(0)
    }

    /// Reads one value that is so many levels deep already.
    #[inline]
    pub(super) fn value_below(&mut self, levels: usize) -> Result<Raw<'a>, JsonFault> {
        self.blanks();
        let before = self.rest;
        let mut escaped = false;
        let kind = match before.first() {
            Some(b'"') => {
                escaped = self.string()?.escaped;
                Kind::String
            }
            Some(b'{') => {
                self.nested(levels)?;
                Kind::Object
            }
            Some(b'[') => {
                self.nested(levels)?;
                Kind::Array
            }
            Some(_) | None => self.literal()?,
        };
        let len = before.len().saturating_sub(self.rest.len());
        Ok(Raw { kind, text: before.get(..len).unwrap_or_default(), escaped })
    }

    /// Goes over a value that is no string and has no parts.
    fn literal(&mut self) -> Result<Kind, JsonFault> {
        let (word, kind): (&[u8], Kind) = match self.rest.first() {
            Some(b'n') => (b"null", Kind::Null),
            Some(b't') => (b"true", Kind::Bool),
            Some(b'f') => (b"false", Kind::Bool),
            Some(_) | None => return self.number().map(|()| Kind::Number),
        };
        let Some(rest) = self.rest.strip_prefix(word) else {
            let cut_short = word.starts_with(self.rest);
            return Err(if cut_short { JsonFault::Short } else { JsonFault::Byte });
        };
        self.rest = rest;
        Ok(kind)
    }

    /// Goes over a number.
    fn number(&mut self) -> Result<(), JsonFault> {
        let signed = self.eat(b'-');
        if !self.eat(b'0') && !self.digits() {
            return Err(if signed { JsonFault::Number } else { self.unexpected() });
        }
        if self.eat(b'.') && !self.digits() {
            return Err(JsonFault::Number);
        }
        if self.eat(b'e') || self.eat(b'E') {
            let _signed = self.eat(b'+') || self.eat(b'-');
            if !self.digits() {
                return Err(JsonFault::Number);
            }
        }
        match self.rest.first() {
            Some(b'0'..=b'9') => Err(JsonFault::Number),
            Some(_) | None => Ok(()),
        }
    }

    /// Goes over digits; returns whether there were any.
    #[inline]
    fn digits(&mut self) -> bool {
        let before = self.rest.len();
        while let Some((b'0'..=b'9', rest)) = self.rest.split_first() {
            self.rest = rest;
        }
        self.rest.len() < before
    }

    /// Reads a string with its quotes.
    #[inline]
    pub(super) fn string(&mut self) -> Result<Str<'a>, JsonFault> {
        self.expect(b'"')?;
        let before = self.rest;
        if let Some((raw, end)) = before.split_at_checked(plain_len(before))
            && let Some((b'"', rest)) = end.split_first()
        {
            self.rest = rest;
            return Ok(Str { raw, escaped: false });
        }
        self.escaped_string()
    }

    /// Reads a string after its first quote.
    #[cold]
    fn escaped_string(&mut self) -> Result<Str<'a>, JsonFault> {
        let before = self.rest;
        loop {
            self.rest = self.rest.get(plain_len(self.rest)..).unwrap_or_default();
            match self.rest.split_first() {
                Some((b'"', rest)) => {
                    let len = before.len().saturating_sub(self.rest.len());
                    self.rest = rest;
                    let raw = before.get(..len).unwrap_or_default();
                    return Ok(Str { raw, escaped: true });
                }
                Some((b'\\', rest)) => self.rest = after_escape(rest)?,
                Some(_) => return Err(JsonFault::Control),
                None => return Err(JsonFault::Short),
            }
        }
    }

    /// Reads the name of a member, and what stands between it and the value.
    #[inline]
    fn name(&mut self) -> Result<Str<'a>, JsonFault> {
        self.blanks();
        let name = self.string()?;
        self.blanks();
        self.expect(b':')?;
        Ok(name)
    }

    /// Goes over an array or an object.
    fn nested(&mut self, levels: usize) -> Result<(), JsonFault> {
        let depth_max = DEPTH_MAX.saturating_sub(levels);
        let mut nest = Nest { objects: [0; DEPTH_WORDS], depth: 0, depth_max };
        loop {
            self.blanks();
            let opened = self.begin(&mut nest)?;
            if opened {
                continue;
            }
            // A value has ended, and perhaps some of those that hold it.
            loop {
                let Some(object) = nest.innermost() else { return Ok(()) };
                self.blanks();
                if self.eat(b',') {
                    if object {
                        self.name()?;
                    }
                    break;
                }
                self.expect(if object { b'}' } else { b']' })?;
                nest.close();
            }
        }
    }

    /// Goes over the beginning of a value; returns whether it stands before a value inside of it.
    fn begin(&mut self, nest: &mut Nest) -> Result<bool, JsonFault> {
        match self.rest.first() {
            Some(b'{') => {
                self.expect(b'{')?;
                nest.open(true)?;
                self.blanks();
                if self.rest.first() != Some(&b'}') {
                    self.name()?;
                    return Ok(true);
                }
            }
            Some(b'[') => {
                self.expect(b'[')?;
                nest.open(false)?;
                self.blanks();
                if self.rest.first() != Some(&b']') {
                    return Ok(true);
                }
            }
            Some(b'"') => return self.string().map(|_| false),
            Some(_) | None => return self.literal().map(|_| false),
        }
        // Empty.
        self.rest = self.rest.get(1..).unwrap_or_default();
        nest.close();
        Ok(false)
    }
}

/// The members of an object, one after the other.
#[derive(Clone, Debug)]
pub(super) struct Members<'a> {
    cursor: Cursor<'a>,
    begun: bool,
}

impl<'a> Members<'a> {
    /// Stands before the first member of an object.
    pub(super) fn new(object: Raw<'a>) -> Self {
        let mut cursor = Cursor::new(object.text);
        let begun = !cursor.eat(b'{');
        Self { cursor, begun }
    }

    /// Stands where the cursor is, after the opening brace.
    pub(super) const fn after_brace(cursor: Cursor<'a>) -> Self {
        Self { cursor, begun: false }
    }

    /// Stands after the value of a member.
    pub(super) const fn after_value(cursor: Cursor<'a>) -> Self {
        Self { cursor, begun: true }
    }

    /// Reads the next name, so that its value is next; `None` at the closing brace.
    #[inline]
    pub(super) fn next_name(&mut self) -> Result<Option<Str<'a>>, JsonFault> {
        let cursor = &mut self.cursor;
        cursor.blanks();
        if cursor.eat(b'}') {
            return Ok(None);
        }
        if self.begun {
            cursor.expect(b',')?;
        }
        self.begun = true;
        cursor.name().map(Some)
    }

    /// Goes over the next name if it is the one that `quoted` is, with its quotes and its colon;
    /// returns whether it was. If not, it stands where it stood.
    #[inline]
    pub(super) fn skip_name(&mut self, quoted: &[u8]) -> bool {
        let mut cursor = self.cursor;
        cursor.blanks();
        if self.begun && !cursor.eat(b',') {
            return false;
        }
        cursor.blanks();
        let Some(rest) = cursor.rest.strip_prefix(quoted) else { return false };
        self.cursor.rest = rest;
        self.begun = true;
        true
    }

    /// Reads the next member; `None` at the closing brace.
    #[inline]
    pub(super) fn next_member(&mut self) -> Result<Option<(Str<'a>, Raw<'a>)>, JsonFault> {
        let Some(name) = self.next_name()? else { return Ok(None) };
        Ok(Some((name, self.cursor.value()?)))
    }

    /// Where it stands, in bytes from the start of a body of this length.
    pub(super) const fn at(&self, body_len: usize) -> usize {
        body_len.saturating_sub(self.cursor.left())
    }

    /// Where it stands.
    pub(super) const fn cursor(&mut self) -> &mut Cursor<'a> {
        &mut self.cursor
    }
}

/// The elements of an array, one after the other.
#[derive(Clone, Debug)]
pub(super) struct Elements<'a> {
    cursor: Cursor<'a>,
    begun: bool,
}

impl<'a> Elements<'a> {
    /// Stands before the first element of an array.
    pub(super) fn new(array: Raw<'a>) -> Self {
        let mut cursor = Cursor::new(array.text);
        let begun = !cursor.eat(b'[');
        Self { cursor, begun }
    }

    /// Stands where the cursor is, after the opening bracket.
    pub(super) const fn after_bracket(cursor: Cursor<'a>) -> Self {
        Self { cursor, begun: false }
    }

    /// Goes to the next element, so that it is next; returns whether there is one, or the closing
    /// bracket was met.
    #[inline]
    pub(super) fn next_place(&mut self) -> Result<bool, JsonFault> {
        let cursor = &mut self.cursor;
        cursor.blanks();
        if cursor.eat(b']') {
            return Ok(false);
        }
        if self.begun {
            cursor.expect(b',')?;
        }
        self.begun = true;
        Ok(true)
    }

    /// Reads the next element; `None` at the closing bracket.
    pub(super) fn next_element(&mut self) -> Result<Option<Raw<'a>>, JsonFault> {
        if self.next_place()? { self.cursor.value().map(Some) } else { Ok(None) }
    }

    /// Where it stands.
    pub(super) const fn cursor(&mut self) -> &mut Cursor<'a> {
        &mut self.cursor
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::String;
    use alloc::vec;
    use alloc::vec::Vec;

    use proptest::prelude::{Just, Strategy, any, prop, prop_oneof, proptest};

    use super::{Cursor, Elements, JsonFault, Kind, Members};

    /// Reads one value and nothing after it; returns how much was left where it failed.
    fn read(text: &[u8]) -> Result<Kind, (usize, JsonFault)> {
        let mut cursor = Cursor::new(text);
        match cursor.value() {
            Ok(raw) => {
                cursor.blanks();
                assert_eq!(raw.text, text.trim_ascii(), "all of it");
                Ok(raw.kind)
            }
            Err(fault) => Err((cursor.left(), fault)),
        }
    }

    // Outside of the tests, where braces in texts are not taken for those of the tests.
    const VALUES: &[(&str, Kind)] = &[
        ("null", Kind::Null),
        (" true ", Kind::Bool),
        ("false", Kind::Bool),
        ("0", Kind::Number),
        ("-0.0e+1", Kind::Number),
        ("12345678901234567890.5E-400", Kind::Number),
        ("\"\"", Kind::String),
        ("\"long enough for two words, and \\u0000\\n\"", Kind::String),
        ("[]", Kind::Array),
        ("[ 1 , [ ] , { } , \"]\" ]", Kind::Array),
        ("{}", Kind::Object),
        ("{ \"a\" : { \"b\" : [ { \"}\" : null } ] } , \"\" : 0 }", Kind::Object),
    ];
    const BROKEN: &[(&str, usize, JsonFault)] = &[
        ("", 0, JsonFault::Short),
        ("nul", 3, JsonFault::Short),
        ("nulx", 4, JsonFault::Byte),
        ("-", 0, JsonFault::Number),
        ("01", 1, JsonFault::Number),
        ("1.", 0, JsonFault::Number),
        (".5", 2, JsonFault::Byte),
        ("1e", 0, JsonFault::Number),
        ("+1", 2, JsonFault::Byte),
        ("NaN", 3, JsonFault::Byte),
        ("\"", 0, JsonFault::Short),
        ("\"\\", 1, JsonFault::Short),
        ("\"\\u12\"", 4, JsonFault::Escape),
        ("\"\n\"", 2, JsonFault::Control),
        ("[1,]", 1, JsonFault::Byte),
        ("[1 2]", 2, JsonFault::Byte),
        ("[1}", 1, JsonFault::Byte),
        ("{\"a\"}", 1, JsonFault::Byte),
        ("{\"a\":1,}", 1, JsonFault::Byte),
        ("{1:1}", 4, JsonFault::Byte),
        ("{\"a\":[", 0, JsonFault::Short),
    ];

    #[test]
    fn values_are_told_by_their_kind() {
        for (text, kind) in VALUES {
            assert_eq!(read(text.as_bytes()), Ok(*kind), "{text}");
        }
    }

    #[test]
    fn broken_values_are_refused_where_they_break() {
        for (text, left, fault) in BROKEN {
            let error = read(text.as_bytes()).unwrap_err();
            // Inside of a broken escape, the place is that of its backslash or later.
            if *fault == JsonFault::Escape {
                assert_eq!(error.1, *fault, "{text}");
            } else {
                assert_eq!(error, (*left, *fault), "{text}");
            }
        }
    }

    #[test]
    fn members_and_elements_come_one_by_one() {
        let mut cursor = Cursor::new(b"{\"a\": [1, \"x\"], \"\\u0062\" : {}}");
        let object = cursor.value().unwrap();
        let mut members = Members::new(object);
        let (name, array) = members.next_member().unwrap().unwrap();
        assert_eq!((name.raw, array.text), (&b"a"[..], &b"[1, \"x\"]"[..]));
        let mut elements = Elements::new(array);
        assert_eq!(elements.next_element().unwrap().unwrap().text, b"1");
        assert_eq!(elements.next_element().unwrap().unwrap().string().unwrap().raw, b"x");
        assert_eq!(elements.next_element(), Ok(None));
        let (name, _) = members.next_member().unwrap().unwrap();
        assert_eq!(&*name.text().unwrap(), b"b");
        assert_eq!(members.next_member().map(|member| member.is_none()), Ok(true));
    }

    #[test]
    fn a_string_ends_at_its_quote_wherever_that_is() {
        for len in 0..40 {
            let plain = "x".repeat(len);
            for (end, ok) in [("\"", true), ("\\\"\"", true), ("\u{1f}\"", false), ("", false)] {
                let text = alloc::format!("\"{plain}{end}");
                assert_eq!(read(text.as_bytes()).is_ok(), ok, "{text}");
            }
        }
    }

    /// Pieces of JSON in any order, so that some of it is JSON.
    fn pieces() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            Just("{"),
            Just("}"),
            Just("["),
            Just("]"),
            Just(","),
            Just(":"),
            Just(" "),
            Just("1"),
            Just("-2.5e3"),
            Just("0"),
            Just("null"),
            Just("true"),
            Just("\"a\""),
            Just("\"\\n\\u00e9\""),
            Just("\""),
            Just("\\"),
            Just("\n"),
            Just("é"),
        ];
        prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn what_is_json_is_what_another_reader_says(text in pieces()) {
            let theirs = serde_json::from_str::<serde_json::Value>(&text);
            let mut cursor = Cursor::new(text.as_bytes());
            let ours = cursor.value();
            cursor.blanks();
            let ours = ours.is_ok() && cursor.left() == 0;
            assert_eq!(ours, theirs.is_ok(), "{text}: {theirs:?}");
        }

        #[test]
        fn a_string_survives_being_written_by_another(text in any::<String>()) {
            let json = serde_json::to_string(&text).unwrap();
            let read = Cursor::new(json.as_bytes()).string().unwrap();
            let ours = read.text().unwrap();
            assert_eq!(&*ours, text.as_bytes());
            let mut appended = Vec::new();
            read.append_to(&mut appended).unwrap();
            assert_eq!(appended, text.as_bytes());
        }
    }
}
