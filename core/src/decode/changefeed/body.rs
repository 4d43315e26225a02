//! Bodies, as far as they are about no single row.
use super::envelope::{Element, Guess, META, parse_time};
use super::error::{BodyFault, FeedError, Part};
use super::json::{Cursor, Elements, JsonFault, Members, Raw};
use crate::model::time::Hlc;

/// What the body of a webhook turned out to be.
#[derive(Debug)]
pub(super) enum Webhook<'a> {
    Rows(Payload<'a>),
    Resolved(Hlc),
}

/// The rows of a webhook's body. The object around them is read to its end after the last one.
#[derive(Debug)]
pub(super) struct Payload<'a> {
    elements: Elements<'a>,
    body_len: usize,
}

impl<'a> Webhook<'a> {
    /// Reads a body up to its first row, or all of it if it is a promise.
    pub(super) fn read(body: &'a [u8]) -> Result<Self, FeedError> {
        let mut cursor = Cursor::new(body);
        cursor.blanks();
        if !cursor.eat(b'{') {
            let at = body.len().saturating_sub(cursor.left());
            // Other JSON than an object, or none.
            cursor.value().map_err(|fault| json(at, fault))?;
            return Err(FeedError::Body(BodyFault::NotObject));
        }
        let mut members = Members::after_brace(cursor);
        let mut resolved = None;
        loop {
            let name = members.next_name();
            let Some(name) = name.map_err(|fault| json(members.at(body.len()), fault))? else {
                break;
            };
            let cursor = members.cursor();
            match name.raw {
                b"payload" if resolved.is_none() => {
                    cursor.blanks();
                    if cursor.eat(b'[') {
                        let elements = Elements::after_bracket(*cursor);
                        return Ok(Self::Rows(Payload { elements, body_len: body.len() }));
                    }
                    read_value(&mut members, body.len())?;
                    return Err(FeedError::Body(BodyFault::Payload));
                }
                b"payload" => return Err(FeedError::Body(BodyFault::Both)),
                b"resolved" => {
                    let value = read_value(&mut members, body.len())?;
                    let wrong = FeedError::Body(BodyFault::Resolved);
                    if resolved.replace(parse_time(value).ok_or(wrong)?).is_some() {
                        return Err(FeedError::Body(BodyFault::Repeated("resolved")));
                    }
                }
                META if resolved.is_none() => {
                    let meta = read_value(&mut members, body.len())?;
                    resolved = Some(resolved_of(meta)?);
                }
                _ => drop(read_value(&mut members, body.len())?),
            }
        }
        expect_end(*members.cursor())?;
        resolved.map(Self::Resolved).ok_or(FeedError::Body(BodyFault::Nothing))
    }
}

/// The promise in `{"__crdb__": {"resolved": "…"}}`, as envelopes without a place for it have it.
fn resolved_of(meta: Raw<'_>) -> Result<Hlc, FeedError> {
    let mut members = Members::new(meta);
    // It was read to its end before.
    while let Ok(Some((name, value))) = members.next_member() {
        if name.raw == b"resolved" {
            return parse_time(value).ok_or(FeedError::Body(BodyFault::Resolved));
        }
    }
    Err(FeedError::Body(BodyFault::Bare))
}

impl<'a> Payload<'a> {
    /// Reads the next row; `None` after the end of the body.
    pub(super) fn next_element(
        &mut self,
        guess: Option<Guess<'_>>,
    ) -> Result<Option<Element<'a>>, FeedError> {
        let more = self.elements.next_place();
        if more.map_err(|fault| self.fault(fault))? {
            let element = Element::read(self.elements.cursor(), guess);
            return element.map(Some).map_err(|fault| self.fault(fault));
        }
        self.finish()?;
        Ok(None)
    }

    const fn fault(&mut self, fault: JsonFault) -> FeedError {
        json(self.body_len.saturating_sub(self.elements.cursor().left()), fault)
    }

    /// Reads what follows the rows. A promise among it would be about rows that are not durable yet.
    fn finish(&mut self) -> Result<(), FeedError> {
        let mut members = Members::after_value(*self.elements.cursor());
        loop {
            let name = members.next_name();
            let Some(name) = name.map_err(|fault| json(members.at(self.body_len), fault))? else {
                return expect_end(*members.cursor());
            };
            match name.raw {
                b"payload" => return Err(FeedError::Body(BodyFault::Repeated("payload"))),
                b"resolved" => return Err(FeedError::Body(BodyFault::Both)),
                _ => drop(read_value(&mut members, self.body_len)?),
            }
        }
    }
}

/// The rows of a file, one on each line.
#[derive(Debug)]
pub(super) struct Lines<'a> {
    cursor: Cursor<'a>,
    body_len: usize,
    line_bytes_max: usize,
}

impl<'a> Lines<'a> {
    pub(super) const fn new(body: &'a [u8], line_bytes_max: usize) -> Self {
        Self { cursor: Cursor::new(body), body_len: body.len(), line_bytes_max }
    }

    /// Reads the next row; `None` after the last one. Empty lines are ignored.
    pub(super) fn next_element(
        &mut self,
        guess: Option<Guess<'_>>,
    ) -> Result<Option<Element<'a>>, FeedError> {
        self.cursor.blanks();
        if self.cursor.left() == 0 {
            return Ok(None);
        }
        let element = Element::read(&mut self.cursor, guess);
        let element = element.map_err(|fault| self.fault(fault))?;
        if self.line_bytes_max < element.text.len() {
            return Err(FeedError::TooLarge { what: Part::Line, limit: self.line_bytes_max });
        }
        if !self.cursor.ends_line() {
            return Err(self.fault(JsonFault::Byte));
        }
        Ok(Some(element))
    }

    const fn fault(&self, fault: JsonFault) -> FeedError {
        json(self.body_len.saturating_sub(self.cursor.left()), fault)
    }
}

fn read_value<'a>(members: &mut Members<'a>, body_len: usize) -> Result<Raw<'a>, FeedError> {
    let value = members.cursor().value();
    value.map_err(|fault| json(members.at(body_len), fault))
}

fn expect_end(mut cursor: Cursor<'_>) -> Result<(), FeedError> {
    cursor.blanks();
    if cursor.left() == 0 { Ok(()) } else { Err(FeedError::Body(BodyFault::Extra)) }
}

const fn json(offset: usize, fault: JsonFault) -> FeedError {
    FeedError::Json { offset, fault }
}
