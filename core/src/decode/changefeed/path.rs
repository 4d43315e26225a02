//! The path of a request's URL: where its rows belong, and what its body is.
//!
//! A path is split at its slashes first, and only then each part is decoded, once. So nothing that is
//! encoded can split or join parts: `%2F` is a letter of a name, `%252F` are three.
use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;

use super::error::ErrorKind;
use super::file;
use super::names::TargetKind;
use crate::model::ident::{SchemaName, parse_parts};
use crate::model::time::Hlc;

/// Longer paths are nobody's.
const PATH_BYTES_MAX: usize = 4096;
/// More segments have no meaning.
const SEGMENTS_MAX: usize = 7;
/// The first segment of pages that are not for changefeeds.
const RESERVED: &str = "_";

/// Where the rows of a request belong, and what its body is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The target schema, spelled as in the path. For targets whose schemas have one part, that part.
    pub schema: SchemaName,
    /// Whose rows.
    pub scope: Scope,
    /// What the body is.
    pub body: BodyKind,
}

/// Whose rows a request has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Each row says it by its topic.
    Topics,
    /// All are of this topic, which the name of the file has.
    Topic(String),
    /// All are results of a query, made for this target table. A promise of such a feed is for it alone.
    Query(String),
}

/// What the body of a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyKind {
    /// A JSON object with rows or a promise.
    Webhook,
    /// A JSON object with a row on each line.
    Lines,
    /// Nothing: the path itself is the promise that no row at or before this time is still to come.
    Resolved(Hlc),
}

/// The path is not one of ours. Segments are counted from 1 and never shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// It does not begin with a slash, or goes on with a query.
    #[error("the path is not absolute, or not only a path")]
    NotPath,
    /// It is longer than any name needs.
    #[error("the path has over {PATH_BYTES_MAX} bytes")]
    Long,
    /// It has more segments than any form.
    #[error("the path has over {SEGMENTS_MAX} segments")]
    Segments,
    /// A `%` without two hexadecimal digits.
    #[error("segment {0} of the path has a broken escape")]
    Escape(usize),
    /// Escapes that are no UTF-8; also longer forms of shorter characters.
    #[error("segment {0} of the path is not UTF-8")]
    NotUtf8(usize),
    /// A control character. No name has one.
    #[error("segment {0} of the path has a control character")]
    Control(usize),
    /// `.` or `..`, which are no names but steps.
    #[error("segment {0} of the path is a step")]
    Step(usize),
    /// Quotes that are not closed, not at both ends, or around nothing.
    #[error("segment {0} of the path is not a name")]
    Name(usize),
    /// It begins like the pages for operators.
    #[error("the path is reserved")]
    Reserved,
    /// There are too few segments to name the schema, or those after it have no known form.
    #[error("the path has none of the known forms")]
    Form,
}

impl PathError {
    /// What the refusal is to the sender.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        ErrorKind::NotFound
    }

    /// A short text for the sender.
    #[must_use]
    pub const fn public(&self) -> &'static str {
        "not found"
    }
}

impl Endpoint {
    /// Reads the path of a URL, without its query.
    ///
    /// Names are taken as they are spelled; in double quotes they may hold anything but control
    /// characters, a quote inside them is doubled. Empty segments are ignored.
    ///
    /// | after the schema | means |
    /// |---|---|
    /// | nothing | webhook |
    /// | `table` | webhook of a query |
    /// | `2024-05-22/….ndjson` | file of a table |
    /// | `table/2024-05-22/….ndjson` | file of a query |
    /// | `2024-05-22/….RESOLVED`, `table/2024-05-22/….RESOLVED` | promise of such files |
    ///
    /// # Errors
    ///
    /// See [`PathError`]. All of them are one to the sender: there is nothing at this path.
    pub fn parse(target: TargetKind, path: &str) -> Result<Self, PathError> {
        if path.len() > PATH_BYTES_MAX {
            return Err(PathError::Long);
        }
        if !path.starts_with('/') || path.contains(['?', '#']) {
            return Err(PathError::NotPath);
        }
        let mut segments: Vec<String> = Vec::new();
        for segment in path.split('/').filter(|segment| !segment.is_empty()) {
            if segments.len() == SEGMENTS_MAX {
                return Err(PathError::Segments);
            }
            let number = segments.len().saturating_add(1);
            segments.push(decode(segment, number)?);
        }
        if segments.first().is_some_and(|first| first == RESERVED) {
            return Err(PathError::Reserved);
        }
        let (schema, rest) = match (target.schema_parts(), segments.as_slice()) {
            (1, [schema, rest @ ..]) => {
                (SchemaName { database: None, schema: name(schema, 1)? }, rest)
            }
            (2, [database, schema, rest @ ..]) => {
                let database = Some(name(database, 1)?);
                (SchemaName { database, schema: name(schema, 2)? }, rest)
            }
            (_, _) => return Err(PathError::Form),
        };
        let number = target.schema_parts().saturating_add(1);
        let (scope, body) = match rest {
            [] => (Scope::Topics, BodyKind::Webhook),
            [table] => (Scope::Query(name(table, number)?), BodyKind::Webhook),
            [date, file] => match file::parse(date, file).ok_or(PathError::Form)? {
                file::File::Rows { topic } => (Scope::Topic(topic.to_owned()), BodyKind::Lines),
                file::File::Resolved(time) => (Scope::Topics, BodyKind::Resolved(time)),
            },
            [table, date, file] => {
                let scope = Scope::Query(name(table, number)?);
                match file::parse(date, file).ok_or(PathError::Form)? {
                    file::File::Rows { topic: _ } => (scope, BodyKind::Lines),
                    file::File::Resolved(time) => (scope, BodyKind::Resolved(time)),
                }
            }
            [_, ..] => return Err(PathError::Form),
        };
        Ok(Self { schema, scope, body })
    }
}

/// Decodes one segment. `+` is a blank, as in the query of a URL.
fn decode(segment: &str, number: usize) -> Result<String, PathError> {
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => {
                let (digits, after) =
                    rest.split_first_chunk::<2>().ok_or(PathError::Escape(number))?;
                let [high, low] = digits.map(|digit| char::from(digit).to_digit(16));
                let (Some(high), Some(low)) = (high, low) else {
                    return Err(PathError::Escape(number));
                };
                let byte = u8::try_from(high << 4 | low).map_err(|_| PathError::Escape(number))?;
                bytes.push(byte);
                rest = after;
            }
            other => bytes.push(*other),
        }
    }
    let text = String::from_utf8(bytes).map_err(|_| PathError::NotUtf8(number))?;
    if text.chars().any(char::is_control) {
        return Err(PathError::Control(number));
    }
    if matches!(text.as_str(), "." | "..") {
        return Err(PathError::Step(number));
    }
    Ok(text)
}

/// A segment as a name.
fn name(segment: &str, number: usize) -> Result<String, PathError> {
    if !segment.contains('"') {
        return Ok(segment.to_owned());
    }
    if !segment.starts_with('"') {
        return Err(PathError::Name(number));
    }
    let mut parts = parse_parts(segment).map_err(|_| PathError::Name(number))?;
    let name = parts.pop().filter(|_| parts.is_empty());
    name.ok_or(PathError::Name(number))
}

#[cfg(test)]
mod tests {
    use alloc::format;
    use alloc::string::String;

    use super::{BodyKind, Endpoint, PathError, Scope, TargetKind};

    const DATE: &str = "2024-05-22";
    const FILE: &str = "202405221234567890123450000000000-fd2c-1-2-00000003";

    /// What a path means, in one line.
    fn read(target: TargetKind, path: &str) -> Result<String, PathError> {
        let endpoint = Endpoint::parse(target, path)?;
        let scope = match endpoint.scope {
            Scope::Topics => String::new(),
            Scope::Topic(topic) => format!(" topic {topic}"),
            Scope::Query(table) => format!(" query {table}"),
        };
        let body = match endpoint.body {
            BodyKind::Webhook => "webhook".into(),
            BodyKind::Lines => "lines".into(),
            BodyKind::Resolved(time) => format!("{time}"),
        };
        Ok(format!("{}{scope}: {body}", endpoint.schema))
    }

    fn check(path: &str) -> Result<String, PathError> {
        read(TargetKind::Postgres, path)
    }

    #[test]
    fn every_form_is_known() {
        let own = r#""d"."s""#;
        for (rest, means) in [
            ("", ": webhook"),
            ("/t", " query t: webhook"),
            (&format!("/{DATE}/{FILE}-t-1.ndjson"), " topic t: lines"),
            (&format!("/{DATE}/{FILE}-a-b.c-1f.ndjson"), " topic a-b.c: lines"),
            (&format!("/t/{DATE}/{FILE}-x-1.ndjson"), " query t: lines"),
            (
                &format!("/{DATE}/202405221234567890123450000000007.RESOLVED"),
                ": 1716381296789012345.0000000007",
            ),
            (
                &format!("/t/{DATE}/202405221234567890123450000000007.RESOLVED"),
                " query t: 1716381296789012345.0000000007",
            ),
        ] {
            assert_eq!(check(&format!("/d/s{rest}")), Ok(format!("{own}{means}")), "{rest}");
            for target in [TargetKind::MySql, TargetKind::Oracle] {
                let expected = format!("\"S\"{means}");
                assert_eq!(read(target, &format!("/S{rest}")), Ok(expected), "{rest}");
            }
        }
    }

    #[test]
    fn other_forms_are_refused() {
        for path in [
            "/",
            "/d",
            "/d/s/t/u",
            "/d/s/t/u/v/w/x",
            &format!("/d/s/{DATE}"),
            &format!("/d/s/{DATE}/t.ndjson"),
            &format!("/d/s/{DATE}/{FILE}-t.ndjson"),
            &format!("/d/s/{DATE}/{FILE}-t-1.ndjson.gz"),
            &format!("/d/s/{DATE}/{FILE}-t-1.json"),
            &format!("/d/s/t/u/{DATE}/{FILE}-t-1.ndjson"),
            "/d/s/2024-13-01/202405221234567890123450000000007.RESOLVED",
            "/d/s/2024-5-22/202405221234567890123450000000007.RESOLVED",
        ] {
            // One that could be a file names a table, which no catalog has.
            let read = check(path);
            assert!(
                read == Err(PathError::Form) || read.as_ref().is_ok_and(|r| r.contains("query 20")),
                "{path}: {read:?}"
            );
        }
        assert_eq!(check("/d/s/1/2/3/4/5/6"), Err(PathError::Segments));
        assert_eq!(check(""), Err(PathError::NotPath));
        assert_eq!(check("d/s"), Err(PathError::NotPath));
        assert_eq!(check("/d/s?access_token=x"), Err(PathError::NotPath));
        assert_eq!(check("/_/diag"), Err(PathError::Reserved));
        assert_eq!(check("/%5f/diag"), Err(PathError::Reserved));
        assert_eq!(check(&"/d/s".repeat(2_000)), Err(PathError::Long));
        assert_eq!(PathError::Form.kind().status(), 404);
    }

    #[test]
    fn empty_segments_are_ignored() {
        assert_eq!(check("//d///s//"), check("/d/s"));
    }

    #[test]
    fn a11_escapes_are_decoded_once_and_never_split_a_segment() {
        for (path, means) in [
            ("/d/s/a%2Fb", "a/b"),
            ("/d/s/a%2fb", "a/b"),
            ("/d/s/a%252Fb", "a%2Fb"),
            ("/d/s/a+b%20c%2B", "a b c+"),
            ("/d/s/%C3%A4", "ä"),
            ("/d/s/%22A%22%22.b%22", "A\".b"),
            ("/d/s/Mixed", "Mixed"),
            ("/d/s/...", "..."),
            ("/d/s/%2E%2E%2Fx", "../x"),
        ] {
            let expected = format!("\"d\".\"s\" query {means}: webhook");
            assert_eq!(check(path), Ok(expected), "{path}");
        }
    }

    #[test]
    fn segments_that_are_no_names_are_refused() {
        for (segment, error) in [
            ("%", PathError::Escape(3)),
            ("%4", PathError::Escape(3)),
            ("%4g", PathError::Escape(3)),
            ("%+4", PathError::Escape(3)),
            ("%\u{e4}", PathError::Escape(3)),
            ("%ff", PathError::NotUtf8(3)),
            ("%C0%AF", PathError::NotUtf8(3)),
            ("%E0%80%AF", PathError::NotUtf8(3)),
            ("%ED%A0%80", PathError::NotUtf8(3)),
            ("%00", PathError::Control(3)),
            ("a%0Ab", PathError::Control(3)),
            ("%C2%85", PathError::Control(3)),
            (".", PathError::Step(3)),
            ("..", PathError::Step(3)),
            ("%2e%2E", PathError::Step(3)),
            ("%22%22", PathError::Name(3)),
            ("%22a", PathError::Name(3)),
            ("a%22b%22", PathError::Name(3)),
            ("%22a%22.%22b%22", PathError::Name(3)),
            ("%22a%22b", PathError::Name(3)),
        ] {
            assert_eq!(check(&format!("/d/s/{segment}")), Err(error), "{segment}");
        }
        assert_eq!(check("/%22%22/s"), Err(PathError::Name(1)));
        assert_eq!(check("/d/../s"), Err(PathError::Step(2)));
    }
}
