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
use super::json::{Kind, Members, Raw};
use super::json_string::Str;
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

impl<'a> Envelope<'a> {
    /// Reads an element.
    pub(super) fn read(element: Raw<'a>) -> Result<Self, RowFault> {
        let mut fields = Fields::read(element)?;
        if let Some(meta) = fields.meta {
            return bare(element, meta, fields.event);
        }
        if let (None, Some(payload)) = (fields.after, fields.payload) {
            // The key and the topic may stand outside of it.
            let outer = fields;
            fields = Fields::read(payload)?;
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
    let fields = Fields::read(meta)?;
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
    fn read(object: Raw<'a>) -> Result<Self, RowFault> {
        if object.kind != Kind::Object {
            return Err(RowFault::NotObject);
        }
        let mut fields = Self::default();
        let mut members = Members::new(object);
        // The element was read to its end before: no member can be broken.
        while let Ok(Some((name, value))) = members.next_member() {
            let Some((field, known)) = fields.named(name) else { continue };
            if field.replace(value).is_some() {
                return Err(RowFault::Repeated(known));
            }
        }
        Ok(fields)
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
    core::str::from_utf8(value.string()?.raw).ok()?.parse().ok()
}
