//! One element of a payload or one line of a file: its members, before anybody knows the table.
//!
//! | envelope | looks like |
//! |---|---|
//! | `wrapped` | `{"after": {…}, "before": {…}, "key": […], "topic": "t", "updated": "…"}` |
//! | `enriched` | the same with `op` and `source`, and perhaps all of it inside of `"payload"` |
//! | `bare` | `{"__crdb__": {"key": […], "topic": "t", "updated": "…"}, …columns…}` |
//!
//! Members that are not listed here are ignored: newer servers have more of them (W-30).
use alloc::borrow::Cow;

use super::error::RowFault;
use super::json::{Cursor, JsonFault, Kind, Members, Raw};
use super::json_string::Str;
use super::shape::Plan;
use super::value::Room;
use crate::model::time::Hlc;

/// What a member of a bare row holds that is about the row and no column of it.
pub(super) const META: &[u8] = b"__crdb__";
/// The column in which a query with the envelope `bare` says what happened: `event_op() AS __event__`.
pub(super) const EVENT: &[u8] = b"__event__";

/// What became of a row, as it was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate<'a> {
    /// It looks like this object.
    Is(Raw<'a>),
    /// It is gone.
    Gone,
}

/// A row, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Envelope<'a> {
    pub(super) fate: Fate<'a>,
    /// What it looked like before; `Some(None)` is null: the source says that there was none.
    pub(super) before: Option<Option<Raw<'a>>>,
    /// An array, or with the envelope `enriched` an object.
    pub(super) key: Option<Raw<'a>>,
    pub(super) topic: Option<Str<'a>>,
    pub(super) time: Hlc,
}

/// An element as it was sent.
#[derive(Clone, Debug)]
pub(super) struct Element<'a> {
    /// All of it.
    pub(super) text: &'a [u8],
    /// Its members.
    fields: Result<Fields<'a>, RowFault>,
    /// The object of which cells were made, by the guess.
    pub(super) guessed: Option<&'a [u8]>,
}

/// How `after` is read at once, on the assumption that the row belongs to the same table as the last
/// one and looks like it. Its topic, which comes later, shows whether that was right.
#[derive(Debug)]
pub(super) struct Guess<'g> {
    pub(super) plan: &'g Plan,
    pub(super) room: &'g mut Room,
}

impl<'a> Element<'a> {
    /// Reads the element that is next.
    #[inline]
    pub(super) fn read(
        cursor: &mut Cursor<'a>,
        guess: Option<Guess<'_>>,
    ) -> Result<Self, JsonFault> {
        cursor.blanks();
        let before = *cursor;
        let mut guessed = None;
        let fields = if cursor.eat(b'{') {
            let mut members = Members::after_brace(*cursor);
            let mut fields = Fields::default();
            if let Some(guess) = guess {
                fields.after = after_by_guess(&mut members, guess);
                guessed = fields.after.map(|after| after.text);
            }
            let fields = fields.read(&mut members);
            // Also where it broke: the error tells the place.
            *cursor = *members.cursor();
            fields?
        } else {
            cursor.value()?;
            Err(RowFault::NotObject)
        };
        Ok(Self { text: cursor.since(before), fields, guessed })
    }
}

/// Reads `after`, if it is the first member.
fn after_by_guess<'a>(
    members: &mut Members<'a>,
    Guess { plan, room }: Guess<'_>,
) -> Option<Raw<'a>> {
    let mut trial = members.clone();
    if !trial.skip_name(b"\"after\":") {
        return None;
    }
    trial.cursor().blanks();
    let before = *trial.cursor();
    let after = plan.guess(before, room)?;
    *members = Members::after_value(after);
    Some(Raw::object(after.since(before)))
}

impl<'a> Envelope<'a> {
    /// Understands an element.
    pub(super) fn new(element: Element<'a>) -> Result<Self, RowFault> {
        let mut fields = element.fields?;
        if let Some(meta) = fields.meta {
            return bare(Raw::object(element.text), meta, fields.event);
        }
        if let (None, Some(payload)) = (fields.after, fields.payload) {
            // The key and the topic may stand outside of it.
            let outer = fields;
            fields = Fields::of(payload)?;
            fields.key = fields.key.or(outer.key);
            fields.topic = fields.topic.or(outer.topic);
            fields.updated = fields.updated.or(outer.updated);
        }
        let after = fields.after.ok_or(RowFault::NoAfter)?;
        let (topic, time) = (fields.topic()?, fields.time()?);
        let deleted = fields.deleted()?;
        let fate = match (object_or_null("after", after)?, deleted) {
            (None, None | Some(true)) => Fate::Gone,
            (Some(row), None | Some(false)) => Fate::Is(row),
            (None, Some(false)) | (Some(_), Some(true)) => return Err(RowFault::Event("op")),
        };
        let before = match fields.before {
            Some(before) => Some(object_or_null("before", before)?),
            None => None,
        };
        Ok(Self { fate, before, key: fields.key, topic, time })
    }
}

/// A row in the envelope `bare`: the element is the row.
fn bare<'a>(
    element: Raw<'a>,
    meta: Raw<'a>,
    event: Option<Raw<'a>>,
) -> Result<Envelope<'a>, RowFault> {
    if meta.kind != Kind::Object {
        return Err(RowFault::Member { member: "__crdb__", wanted: "an object" });
    }
    let fields = Fields::of(meta)?;
    let event = event.ok_or(RowFault::BareWithoutEvent)?;
    let word = event.string().map(|event| event.raw);
    let (fate, before) = match word {
        Some(b"insert" | b"update" | b"upsert") => (Fate::Is(element), None),
        // The columns of the key still have their values.
        Some(b"delete") => (Fate::Gone, Some(Some(element))),
        Some(_) | None => return Err(RowFault::Event("__event__")),
    };
    Ok(Envelope { fate, before, key: fields.key, topic: fields.topic()?, time: fields.time()? })
}

/// Members by name, none of them looked into.
#[derive(Clone, Copy, Debug, Default)]
struct Fields<'a> {
    after: Option<Raw<'a>>,
    before: Option<Raw<'a>>,
    key: Option<Raw<'a>>,
    topic: Option<Raw<'a>>,
    updated: Option<Raw<'a>>,
    mvcc: Option<Raw<'a>>,
    op: Option<Raw<'a>>,
    source: Option<Raw<'a>>,
    payload: Option<Raw<'a>>,
    meta: Option<Raw<'a>>,
    event: Option<Raw<'a>>,
}

impl<'a> Fields<'a> {
    /// Reads the members of an object that was read to its end before.
    fn of(object: Raw<'a>) -> Result<Self, RowFault> {
        if object.kind != Kind::Object {
            return Err(RowFault::NotObject);
        }
        Self::default().read(&mut Members::new(object)).unwrap_or(Err(RowFault::NotObject))
    }

    /// Reads members to their end, even if the row is refused before.
    #[inline]
    fn read(mut self, members: &mut Members<'a>) -> Result<Result<Self, RowFault>, JsonFault> {
        // In this order they come nearly always.
        for (name, field) in [
            (&b"\"before\":"[..], &mut self.before),
            (b"\"key\":", &mut self.key),
            (b"\"topic\":", &mut self.topic),
            (b"\"updated\":", &mut self.updated),
        ] {
            if members.skip_name(name) {
                *field = Some(members.cursor().value()?);
            }
        }
        let mut repeated = None;
        while let Some((name, value)) = members.next_member()? {
            let Some((field, known)) = self.named(name) else { continue };
            if field.replace(value).is_some() {
                repeated = Some(known);
            }
        }
        Ok(repeated.map_or(Ok(self), |known| Err(RowFault::Repeated(known))))
    }

    /// The place for a member of this name.
    fn named(&mut self, name: Str<'a>) -> Option<(&mut Option<Raw<'a>>, &'static str)> {
        let name = if name.escaped { name.text().ok()? } else { Cow::Borrowed(name.raw) };
        Some(match &*name {
            b"after" => (&mut self.after, "after"),
            b"before" => (&mut self.before, "before"),
            b"key" => (&mut self.key, "key"),
            b"topic" => (&mut self.topic, "topic"),
            b"updated" => (&mut self.updated, "updated"),
            b"mvcc_timestamp" => (&mut self.mvcc, "mvcc_timestamp"),
            b"op" => (&mut self.op, "op"),
            b"source" => (&mut self.source, "source"),
            b"payload" => (&mut self.payload, "payload"),
            META => (&mut self.meta, "__crdb__"),
            EVENT => (&mut self.event, "__event__"),
            _ => return None,
        })
    }

    /// When it was committed. `updated` wins: in an initial scan all rows have that of the scan, and
    /// only so are they one transaction.
    fn time(&self) -> Result<Hlc, RowFault> {
        if let Some(updated) = self.updated {
            return time("updated", updated);
        }
        if let Some(mvcc) = self.mvcc {
            return time("mvcc_timestamp", mvcc);
        }
        // The envelope `enriched` has it in here. Its own `ts_ns` is when it was sent.
        let mut of_scan = None;
        let mut of_row = None;
        if let Some(source) = self.source {
            let mut members = Members::new(source);
            while let Ok(Some((name, value))) = members.next_member() {
                match name.raw {
                    b"ts_hlc" if value.kind != Kind::Null => of_scan = Some(value),
                    b"mvcc_timestamp" if value.kind != Kind::Null => of_row = Some(value),
                    _ => (),
                }
            }
        }
        match (of_scan, of_row) {
            (Some(of_scan), _) => time("ts_hlc", of_scan),
            (None, Some(of_row)) => time("mvcc_timestamp", of_row),
            (None, None) => Err(RowFault::NoTime),
        }
    }

    /// To which topic it belongs. The envelope `enriched` may have it as the name of a table.
    fn topic(&self) -> Result<Option<Str<'a>>, RowFault> {
        let wrong = RowFault::Member { member: "topic", wanted: "a string" };
        if let Some(topic) = self.topic {
            return topic.string().map(Some).ok_or(wrong);
        }
        let Some(source) = self.source else { return Ok(None) };
        let mut members = Members::new(source);
        while let Ok(Some((name, value))) = members.next_member() {
            if name.raw == b"table_name" && value.kind != Kind::Null {
                return value.string().map(Some).ok_or(wrong);
            }
        }
        Ok(None)
    }

    /// Whether the row is gone, if the envelope says it apart from `after`.
    fn deleted(&self) -> Result<Option<bool>, RowFault> {
        let Some(op) = self.op else { return Ok(None) };
        match op.string().map(|op| op.raw) {
            Some(b"c" | b"u" | b"r") => Ok(Some(false)),
            Some(b"d") => Ok(Some(true)),
            Some(_) | None => Err(RowFault::Event("op")),
        }
    }
}

fn object_or_null<'a>(member: &'static str, value: Raw<'a>) -> Result<Option<Raw<'a>>, RowFault> {
    match value.kind {
        Kind::Object => Ok(Some(value)),
        Kind::Null => Ok(None),
        Kind::Bool | Kind::Number | Kind::String | Kind::Array => {
            Err(RowFault::Member { member, wanted: "an object or null" })
        }
    }
}

/// Reads a time. The beginning of time is none: no row was committed then.
fn time(member: &'static str, value: Raw<'_>) -> Result<Hlc, RowFault> {
    parse_time(value).filter(|time| *time > Hlc::default()).ok_or(RowFault::Time(member))
}

/// Reads a string that is a time.
pub(super) fn parse_time(value: Raw<'_>) -> Option<Hlc> {
    Hlc::from_ascii(value.string()?.raw).ok()
}
