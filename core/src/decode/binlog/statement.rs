//! What a statement of the binlog does to its transaction.
//!
//! Servers write few of them by themselves, always in one form (`BEGIN`, `XA START X'31',X'',1`); all
//! others are what somebody typed. No more is read than what decides about a transaction.
use alloc::vec::Vec;
use core::fmt;

use super::event::{XA_PART_BYTES_MAX, XaId};

/// The name of an XA transaction, as a key.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct XaName {
    format: u32,
    gtrid: Vec<u8>,
    bqual: Vec<u8>,
}

impl XaName {
    /// The name.
    #[must_use]
    pub fn id(&self) -> XaId<'_> {
        XaId { format: self.format, gtrid: &self.gtrid, bqual: &self.bqual }
    }
}

impl From<XaId<'_>> for XaName {
    fn from(id: XaId<'_>) -> Self {
        Self { format: id.format, gtrid: id.gtrid.to_vec(), bqual: id.bqual.to_vec() }
    }
}

impl fmt::Display for XaName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.id().fmt(f)
    }
}

impl fmt::Debug for XaName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.id().fmt(f)
    }
}

/// What a statement is that has no say about transactions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatementKind {
    /// It defines data: CREATE, ALTER, DROP, RENAME.
    Schema,
    /// It defines data that only its session sees.
    Temporary,
    /// It empties a table, or a part of one.
    Truncate,
    /// It changes rows, which are nowhere: statement-based logging.
    Rows,
    /// Anything else: users, settings, maintenance.
    Other,
}

/// What a statement does to its transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Control {
    Begin,
    Commit,
    Rollback,
    Savepoint(Vec<u8>),
    RollbackTo(Vec<u8>),
    Release(Vec<u8>),
    Xa(XaVerb, XaName),
    /// An XA statement that we cannot read.
    Unreadable,
    Nothing(StatementKind),
}

/// What happens to an XA transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum XaVerb {
    Start,
    End,
    Prepare,
    Commit,
    Rollback,
}

/// Reads as much of a statement as decides.
pub(super) fn control(statement: &[u8]) -> Control {
    let mut text = Text { rest: statement };
    match text.word().as_slice() {
        b"BEGIN" => Control::Begin,
        b"START" if text.word() == b"TRANSACTION" => Control::Begin,
        b"COMMIT" => Control::Commit,
        b"ROLLBACK" => rollback(text),
        b"SAVEPOINT" => Control::Savepoint(text.name()),
        b"RELEASE" if text.word() == b"SAVEPOINT" => Control::Release(text.name()),
        b"XA" => xa(text).unwrap_or(Control::Unreadable),
        b"TRUNCATE" => Control::Nothing(StatementKind::Truncate),
        b"CREATE" => Control::Nothing(schema(text)),
        b"DROP" => Control::Nothing(schema(text)),
        b"ALTER" if empties_part(text.rest) => Control::Nothing(StatementKind::Truncate),
        b"ALTER" | b"RENAME" => Control::Nothing(StatementKind::Schema),
        b"INSERT" | b"UPDATE" | b"DELETE" | b"REPLACE" | b"LOAD" | b"WITH" | b"CALL" | b"DO"
        | b"SELECT" | b"VALUES" | b"EXECUTE" => Control::Nothing(StatementKind::Rows),
        // A query in brackets.
        b"" if text.rest.first() == Some(&b'(') => Control::Nothing(StatementKind::Rows),
        _ => Control::Nothing(StatementKind::Other),
    }
}

/// The table of TRUNCATE, with its database if that is named. `None` if it is another statement.
pub(super) fn emptied(statement: &[u8]) -> Option<(Option<Vec<u8>>, Vec<u8>)> {
    let mut text = Text { rest: statement };
    if text.word() != b"TRUNCATE" {
        return None;
    }
    let ahead = text;
    if text.word() != b"TABLE" {
        text = ahead;
    }
    let first = text.identifier()?;
    if text.sign(b'.') {
        return Some((Some(first), text.identifier()?));
    }
    Some((None, first))
}

/// Whether what follows ALTER takes rows away with a partition.
fn empties_part(rest: &[u8]) -> bool {
    let blank = |byte: &u8| byte.is_ascii_whitespace() || *byte == b',';
    let mut words = rest.split(blank).filter(|word| !word.is_empty()).peekable();
    while let Some(word) = words.next() {
        let verbs: [&[u8]; 5] = [b"TRUNCATE", b"DROP", b"EXCHANGE", b"DISCARD", b"IMPORT"];
        let takes = verbs.iter().any(|verb| word.eq_ignore_ascii_case(verb));
        let next = words.peek();
        if takes && next.is_some_and(|next| next.eq_ignore_ascii_case(b"PARTITION")) {
            return true;
        }
    }
    false
}

fn rollback(mut text: Text<'_>) -> Control {
    let mut word = text.word();
    if word == b"WORK" {
        word = text.word();
    }
    if word != b"TO" {
        return Control::Rollback;
    }
    let ahead = text;
    if text.word() != b"SAVEPOINT" {
        text = ahead;
    }
    Control::RollbackTo(text.name())
}

fn schema(mut text: Text<'_>) -> StatementKind {
    let mut word = text.word();
    if word == b"OR" && text.word() == b"REPLACE" {
        word = text.word();
    }
    if word == b"TEMPORARY" { StatementKind::Temporary } else { StatementKind::Schema }
}

fn xa(mut text: Text<'_>) -> Option<Control> {
    let verb = match text.word().as_slice() {
        b"START" | b"BEGIN" => XaVerb::Start,
        b"END" => XaVerb::End,
        b"PREPARE" => XaVerb::Prepare,
        b"COMMIT" => XaVerb::Commit,
        b"ROLLBACK" => XaVerb::Rollback,
        _ => return None,
    };
    let gtrid = text.string()?;
    let mut name = XaName { format: 1, gtrid, bqual: Vec::new() };
    if text.sign(b',') {
        name.bqual = text.string()?;
        if text.sign(b',') {
            name.format = text.number()?;
        }
    }
    Some(Control::Xa(verb, name))
}

/// What is left of a statement.
#[derive(Clone, Copy, Debug)]
pub(super) struct Text<'a> {
    rest: &'a [u8],
}

impl<'a> Text<'a> {
    pub(super) const fn new(statement: &'a [u8]) -> Self {
        Self { rest: statement }
    }

    /// Whether quotes are what they look like: in some character sets a letter has a byte like theirs, and what a
    /// backslash does depends on the session.
    pub(super) fn is_plain(&self) -> bool {
        self.rest.is_ascii() && !self.rest.contains(&b'\\')
    }

    /// The next word in large letters, which stays.
    pub(super) fn peek(mut self) -> Vec<u8> {
        self.word()
    }

    /// Whether this word, in large letters, is anywhere, perhaps as a part of something else.
    pub(super) fn has_word(&self, word: &[u8]) -> bool {
        self.rest.windows(word.len()).any(|part| part.eq_ignore_ascii_case(word))
    }

    /// What is between commas that are in no brackets and no quotes. `None` if something is not closed.
    pub(super) fn parts(&self) -> Option<Vec<Self>> {
        let mut parts = Vec::new();
        let (mut begin, mut depth, mut quote) = (0, 0_usize, None);
        for (at, byte) in self.rest.iter().copied().enumerate() {
            match (quote, byte) {
                (Some(open), _) if open == byte => quote = None,
                (Some(_), _) => (),
                (None, b'\'' | b'"' | b'`') => quote = Some(byte),
                (None, b'(') => depth = depth.saturating_add(1),
                (None, b')') => depth = depth.checked_sub(1)?,
                (None, b',') if depth == 0 => {
                    parts.push(Self { rest: self.rest.get(begin..at)? });
                    begin = at.saturating_add(1);
                }
                (None, _) => (),
            }
        }
        parts.push(Self { rest: self.rest.get(begin..)? });
        (depth == 0 && quote.is_none()).then_some(parts)
    }

    /// Steps over blanks and comments. What a server of some version would run is no comment.
    fn skip(&mut self) {
        loop {
            self.rest = self.rest.trim_ascii_start();
            let line = self.rest.starts_with(b"#") || self.rest.starts_with(b"--");
            let end = if line {
                self.after(b"\n")
            } else if self.rest.starts_with(b"/*!") || self.rest.starts_with(b"/*M!") {
                let code = |byte: &u8| !byte.is_ascii_digit() && !b"/*M!".contains(byte);
                self.rest.iter().position(code)
            } else if self.rest.starts_with(b"*/") {
                Some(2)
            } else if self.rest.starts_with(b"/*") {
                self.after(b"*/")
            } else {
                return;
            };
            self.rest = end.and_then(|end| self.rest.get(end..)).unwrap_or_default();
        }
    }

    /// Where the first `mark` ends.
    fn after(&self, mark: &[u8]) -> Option<usize> {
        let at = self.rest.windows(mark.len()).position(|part| part == mark);
        at.map(|at| at.saturating_add(mark.len()))
    }

    /// The next word in large letters; empty if something else is next.
    pub(super) fn word(&mut self) -> Vec<u8> {
        self.skip();
        let word = |byte: &u8| !byte.is_ascii_alphanumeric() && *byte != b'_';
        let len = self.rest.iter().position(word).unwrap_or(self.rest.len());
        let Some((word, rest)) = self.rest.split_at_checked(len) else { return Vec::new() };
        self.rest = rest;
        word.to_ascii_uppercase()
    }

    /// A name of a savepoint, quoted or not, in small letters: they are the same in either.
    fn name(&mut self) -> Vec<u8> {
        self.skip();
        if let Some(name) = self.quoted() {
            return name.to_ascii_lowercase();
        }
        let end = |byte: &u8| byte.is_ascii_whitespace() || *byte == b';';
        let len = self.rest.iter().position(end).unwrap_or(self.rest.len());
        self.rest.get(..len).unwrap_or_default().to_ascii_lowercase()
    }

    /// A name of a database or a table, quoted or not. `None` if something else is next.
    pub(super) fn identifier(&mut self) -> Option<Vec<u8>> {
        self.skip();
        if let Some(name) = self.quoted() {
            return Some(name);
        }
        let part =
            |byte: &u8| byte.is_ascii_alphanumeric() || b"_$".contains(byte) || !byte.is_ascii();
        let len = self.rest.iter().position(|byte| !part(byte)).unwrap_or(self.rest.len());
        let (name, rest) = self.rest.split_at_checked(len).filter(|(name, _)| !name.is_empty())?;
        self.rest = rest;
        Some(name.to_vec())
    }

    /// A name in quotes, if one is next.
    fn quoted(&mut self) -> Option<Vec<u8>> {
        let (quote @ (b'`' | b'"'), mut rest) = self.rest.split_first()? else { return None };
        let mut name = Vec::new();
        while let Some((byte, after)) = rest.split_first() {
            rest = after;
            if byte == quote {
                if after.first() != Some(quote) {
                    break;
                }
                rest = after.get(1..).unwrap_or_default();
            }
            name.push(*byte);
        }
        self.rest = rest;
        Some(name)
    }

    pub(super) fn sign(&mut self, sign: u8) -> bool {
        self.skip();
        match self.rest.split_first() {
            Some((first, rest)) if *first == sign => {
                self.rest = rest;
                true
            }
            Some(_) | None => false,
        }
    }

    fn number(&mut self) -> Option<u32> {
        let word = self.word();
        core::str::from_utf8(&word).ok()?.parse().ok()
    }

    /// A part of the name of an XA transaction: `X'31'`, `0x31` or `'1'`.
    fn string(&mut self) -> Option<Vec<u8>> {
        self.skip();
        let (digits, quoted) = match self.rest {
            [b'X' | b'x', b'\'', rest @ ..] => (rest, true),
            [b'0', b'x', rest @ ..] => (rest, false),
            [b'\'', rest @ ..] => {
                let end = rest.iter().position(|byte| matches!(byte, b'\'' | b'\\'))?;
                let (text, rest) = rest.split_at_checked(end)?;
                self.rest = rest.strip_prefix(b"'")?;
                return Some(text.to_vec()).filter(|text| text.len() <= XA_PART_BYTES_MAX);
            }
            _ => return None,
        };
        let other = |byte: &u8| !byte.is_ascii_hexdigit();
        let len = digits.iter().position(other).unwrap_or(digits.len());
        let (digits, rest) = digits.split_at_checked(len)?;
        self.rest = if quoted { rest.strip_prefix(b"'")? } else { rest };
        let (pairs, odd) = digits.as_chunks::<2>();
        if !odd.is_empty() || XA_PART_BYTES_MAX < pairs.len() {
            return None;
        }
        pairs.iter().map(|pair| hex(*pair)).collect()
    }
}

fn hex([high, low]: [u8; 2]) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    u8::try_from(digit(high)? << 4 | digit(low)?).ok()
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::emptied;
    use super::{Control, StatementKind, XaVerb, control};

    #[test]
    fn statements_that_decide_about_transactions_are_known() {
        for (text, wanted) in [
            ("BEGIN", Control::Begin),
            (" begin ;", Control::Begin),
            ("/* who */ START TRANSACTION", Control::Begin),
            ("COMMIT", Control::Commit),
            ("rollback /* added */", Control::Rollback),
            ("ROLLBACK WORK", Control::Rollback),
            ("ROLLBACK TO `S``1`", Control::RollbackTo(b"s`1".to_vec())),
            ("ROLLBACK TO SAVEPOINT a;", Control::RollbackTo(b"a".to_vec())),
            ("SAVEPOINT `savepoint`", Control::Savepoint(b"savepoint".to_vec())),
            ("RELEASE SAVEPOINT `a`", Control::Release(b"a".to_vec())),
            ("XA RECOVER", Control::Unreadable),
            ("XA COMMIT X'3'", Control::Unreadable),
        ] {
            assert_eq!(control(text.as_bytes()), wanted, "{text}");
        }
    }

    #[test]
    fn names_of_xa_transactions_are_read_in_all_their_forms() {
        for (text, verb, name) in [
            ("XA START X'7831',X'',1", XaVerb::Start, "X'7831',X'',1"),
            ("XA BEGIN 'x1'", XaVerb::Start, "X'7831',X'',1"),
            ("XA END 0x7831, 'b' , 7", XaVerb::End, "X'7831',X'62',7"),
            ("XA PREPARE X'00ff',X'01',4294967295", XaVerb::Prepare, "X'00ff',X'01',4294967295"),
            ("XA COMMIT X'7831',X'',1 ONE PHASE", XaVerb::Commit, "X'7831',X'',1"),
            ("xa rollback x'7831',x'62',7", XaVerb::Rollback, "X'7831',X'62',7"),
        ] {
            let Control::Xa(read, id) = control(text.as_bytes()) else { panic!("{text}") };
            assert_eq!((read, id.to_string().as_str()), (verb, name), "{text}");
        }
    }

    #[test]
    fn the_table_that_is_emptied_is_read_in_all_its_forms() {
        for (text, database, table) in [
            ("TRUNCATE t", None, "t"),
            ("truncate /* all */ table T1;", None, "T1"),
            ("TRUNCATE TABLE `my db` . `a``b`", Some("my db"), "a`b"),
            ("TRUNCATE \"app\".größe", Some("app"), "größe"),
        ] {
            let bytes = |text: &str| text.as_bytes().to_vec();
            assert_eq!(
                emptied(text.as_bytes()),
                Some((database.map(bytes), bytes(table))),
                "{text}"
            );
        }
        for text in
            ["TRUNCATE", "TRUNCATE TABLE ;", "TRUNCATE a.", "ALTER TABLE t TRUNCATE PARTITION p"]
        {
            assert_eq!(emptied(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn other_statements_are_told_apart_by_what_they_change() {
        for (text, kind) in [
            ("create table t (a int) START TRANSACTION", StatementKind::Schema),
            ("CREATE OR REPLACE TEMPORARY TABLE t (a int)", StatementKind::Temporary),
            ("DROP /*!40005 TEMPORARY */ TABLE IF EXISTS t", StatementKind::Temporary),
            ("DROP TABLE `temporary`", StatementKind::Schema),
            ("TRUNCATE t", StatementKind::Truncate),
            ("alter table t truncate partition p0", StatementKind::Truncate),
            ("ALTER TABLE t ADD COLUMN a INT, DROP  PARTITION p0, p1", StatementKind::Truncate),
            ("ALTER TABLE t DROP COLUMN partitions", StatementKind::Schema),
            ("-- note\n# note\ninsert into t values (1)", StatementKind::Rows),
            ("/*!50003 UPDATE t SET a = 1 */", StatementKind::Rows),
            ("(SELECT f())", StatementKind::Rows),
            ("GRANT ALL ON t TO u", StatementKind::Other),
            ("", StatementKind::Other),
            ("/* open", StatementKind::Other),
        ] {
            assert_eq!(control(text.as_bytes()), Control::Nothing(kind), "{text}");
        }
    }
}
