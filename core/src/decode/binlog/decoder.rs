//! Bytes of one event → what it says.
use alloc::borrow::Cow;
use alloc::sync::Arc;

use super::cursor::Cursor;
use super::error::{DecodeError, Fault, Place};
use super::event::{
    Decoded, Event, HEADER_BYTES, Header, Payload, Rotate, Rows, RowsKind, TableMap,
    XA_PART_BYTES_MAX, XaId,
};
use super::event_type::EventType;
use super::format::{Checksum, Format};
use super::{gtid_event, inflate, maria, query};
use crate::model::gtid::GtidSet;

/// Where things are in the header.
const FLAGS_AT: usize = 17;

/// How large things may get when they are unpacked, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnpackLimits {
    /// A compressed transaction, of which one event at a time is held.
    pub transaction_bytes_max: u64,
    /// One event of it, or one compressed event.
    pub event_bytes_max: usize,
    /// What later bytes may repeat of earlier ones (the window of Zstandard). It is held, too.
    pub window_bytes_max: u64,
}

impl Default for UnpackLimits {
    /// What a server can write: events of 1 GiB, windows of its highest level, and transactions of 1 TiB.
    fn default() -> Self {
        Self { transaction_bytes_max: 1 << 40, event_bytes_max: 1 << 30, window_bytes_max: 1 << 27 }
    }
}

/// Reads events of one stream, in their order.
#[derive(Clone, Debug)]
pub struct Decoder {
    limits: UnpackLimits,
    // Of events up to the first description of the format.
    checksum: Checksum,
    format: Option<Arc<Format>>,
}

impl Decoder {
    /// Reads a stream from its beginning: the first event, or those that the server makes for us.
    ///
    /// `checksum` is what the server was asked for with `@source_binlog_checksum`, which should be its own
    /// `@@global.binlog_checksum`; events that come before the description of the format have it.
    #[must_use]
    pub const fn new(checksum: Checksum, limits: UnpackLimits) -> Self {
        Self { limits, checksum, format: None }
    }

    /// How large things may get.
    #[must_use]
    pub const fn limits(&self) -> &UnpackLimits {
        &self.limits
    }

    /// What the events look like, once that is known.
    #[must_use]
    pub const fn format(&self) -> Option<&Arc<Format>> {
        self.format.as_ref()
    }

    /// Reads what was written in another format.
    pub(super) fn set_format(&mut self, format: Option<Arc<Format>>) {
        self.format = format;
    }

    /// Reads one whole event: header, body, checksum.
    ///
    /// # Errors
    ///
    /// It is no event that we can read; the error says which field of which event is wrong. Nothing is
    /// skipped: what we do not know is an error, unless the server marked it as ignorable.
    pub fn decode<'a>(&mut self, bytes: &'a [u8]) -> Result<Decoded<'a>, DecodeError> {
        let (header, place) = read_header(bytes)?;
        if header.kind == EventType::FORMAT_DESCRIPTION_EVENT {
            let format = Arc::new(Format::read(body_of(place, bytes, 0)?)?);
            // It always has room for a checksum. Where the others have none, MariaDB changes it on its way
            // to us and leaves the old one.
            if format.checksum == Checksum::Crc32 {
                verify(place, bytes)?;
            }
            self.format = Some(Arc::clone(&format));
            return Ok(Decoded { header, event: Event::Format(format) });
        }
        let checksum = self.format.as_ref().map_or(self.checksum, |format| format.checksum);
        let body = body_of(place, bytes, checksum.bytes())?;
        if checksum == Checksum::Crc32 {
            verify(place, bytes)?;
        }
        let event = self.event(header, body)?;
        Ok(Decoded { header, event })
    }

    /// Reads one event from inside of a compressed transaction, which has no checksum.
    ///
    /// # Errors
    ///
    /// See [`decode`](Self::decode); or it is one that has no place there.
    pub fn decode_inner<'a>(&self, bytes: &'a [u8]) -> Result<Decoded<'a>, DecodeError> {
        let (header, place) = read_header(bytes)?;
        let body = body_of(place, bytes, 0)?;
        let known = matches!(
            header.kind,
            EventType::FORMAT_DESCRIPTION_EVENT
                | EventType::ROTATE_EVENT
                | EventType::TRANSACTION_PAYLOAD_EVENT
                | EventType::GTID_LOG_EVENT
                | EventType::GTID_TAGGED_LOG_EVENT
                | EventType::ANONYMOUS_GTID_LOG_EVENT
                | EventType::GTID_EVENT
        );
        if known {
            return Err(body.error("kind", Fault::Nested));
        }
        let event = self.event(header, body)?;
        Ok(Decoded { header, event })
    }

    fn event<'a>(&self, header: Header, body: Cursor<'a>) -> Result<Event<'a>, DecodeError> {
        let Some(format) = &self.format else {
            // Only these are made for us before the file begins.
            return match header.kind {
                EventType::ROTATE_EVENT => rotate(8, body),
                EventType::HEARTBEAT_LOG_EVENT => Ok(heartbeat(&header, body)),
                EventType::HEARTBEAT_LOG_EVENT_V2 => heartbeat_v2(body),
                _ => Err(body.error("kind", Fault::NoFormat)),
            };
        };
        // As a number of bytes, 0 for what the server does not know.
        let post = |needed: usize| {
            let said = format.post_header(header.kind).unwrap_or_default();
            let short = body.error("post-header", Fault::PostHeader { said, needed });
            if said < needed { Err(short) } else { Ok(said) }
        };
        match header.kind {
            EventType::QUERY_EVENT => query::read(post(13)?, body).map(Event::Query),
            EventType::STOP_EVENT => body.end().map(|()| Event::Stop),
            EventType::ROTATE_EVENT => rotate(post(8)?, body),
            EventType::XID_EVENT => xid(post(0)?, body),
            EventType::TABLE_MAP_EVENT => table_map(post(6)?, body),
            EventType::INCIDENT_EVENT => incident(post(2)?, body),
            EventType::HEARTBEAT_LOG_EVENT => Ok(heartbeat(&header, body)),
            EventType::HEARTBEAT_LOG_EVENT_V2 => heartbeat_v2(body),
            EventType::ROWS_QUERY_LOG_EVENT => rows_query(post(0)?, body),
            EventType::PREVIOUS_GTIDS_LOG_EVENT => previous_gtids(post(0)?, body),
            EventType::GTID_LOG_EVENT => gtid_event::read(post(25)?, body, true).map(Event::Gtid),
            EventType::ANONYMOUS_GTID_LOG_EVENT => {
                gtid_event::read(post(25)?, body, false).map(Event::Gtid)
            }
            EventType::GTID_TAGGED_LOG_EVENT => {
                gtid_event::read_tagged(post(0)?, body).map(Event::Gtid)
            }
            EventType::XA_PREPARE_LOG_EVENT => xa_prepare(post(0)?, body),
            EventType::TRANSACTION_PAYLOAD_EVENT => payload(body),
            EventType::TRANSACTION_CONTEXT_EVENT | EventType::VIEW_CHANGE_EVENT => {
                let mut body = body;
                Ok(Event::Group(body.rest()))
            }
            kind if rows_kind(kind).is_some() => self.rows(kind, post(6)?, body),
            kind if kind.0 >= maria::FIRST => {
                maria::read(&header, format, body, self.limits.event_bytes_max)
            }
            kind => unknown(kind, &header, body),
        }
    }

    fn rows<'a>(
        &self,
        kind: EventType,
        post_header_bytes: usize,
        body: Cursor<'a>,
    ) -> Result<Event<'a>, DecodeError> {
        let Some((change, has_extra, compressed)) = rows_kind(kind) else {
            return Err(body.error("kind", Fault::UnknownEvent));
        };
        let mut whole = body;
        let mut head = body;
        let mut head = head.part("post-header", post_header_bytes)?;
        let table = table_id(&mut head, if has_extra { 10 } else { 8 })?;
        let flags = head.u16("flags")?;
        let body = if compressed {
            let update = change == RowsKind::Update;
            let limit = self.limits.event_bytes_max;
            Cow::Owned(inflate::rows(whole, post_header_bytes, has_extra, update, limit)?)
        } else {
            Cow::Borrowed(whole.rest())
        };
        Ok(Event::Rows(Rows { kind: change, has_extra, table, flags, post_header_bytes, body }))
    }
}

/// What rows events of this type say, whether they are of version 2, and whether they are compressed.
const fn rows_kind(kind: EventType) -> Option<(RowsKind, bool, bool)> {
    Some(match kind {
        EventType::WRITE_ROWS_EVENT_V1 => (RowsKind::Write, false, false),
        EventType::UPDATE_ROWS_EVENT_V1 => (RowsKind::Update, false, false),
        EventType::DELETE_ROWS_EVENT_V1 => (RowsKind::Delete, false, false),
        EventType::WRITE_ROWS_EVENT => (RowsKind::Write, true, false),
        EventType::UPDATE_ROWS_EVENT => (RowsKind::Update, true, false),
        EventType::DELETE_ROWS_EVENT => (RowsKind::Delete, true, false),
        EventType::PARTIAL_UPDATE_ROWS_EVENT => (RowsKind::PartialUpdate, true, false),
        EventType::WRITE_ROWS_COMPRESSED_EVENT_V1 => (RowsKind::Write, false, true),
        EventType::UPDATE_ROWS_COMPRESSED_EVENT_V1 => (RowsKind::Update, false, true),
        EventType::DELETE_ROWS_COMPRESSED_EVENT_V1 => (RowsKind::Delete, false, true),
        EventType::WRITE_ROWS_COMPRESSED_EVENT => (RowsKind::Write, true, true),
        EventType::UPDATE_ROWS_COMPRESSED_EVENT => (RowsKind::Update, true, true),
        EventType::DELETE_ROWS_COMPRESSED_EVENT => (RowsKind::Delete, true, true),
        _ => return None,
    })
}

/// The place of an event whose header cannot be read.
const NOWHERE: Place = Place { kind: EventType(0), end: 0 };

fn read_header(bytes: &[u8]) -> Result<(Header, Place), DecodeError> {
    let mut cursor = Cursor::new(NOWHERE, 0, bytes);
    let mut head = cursor.part("header", HEADER_BYTES)?;
    let header = Header {
        seconds: head.u32("time")?,
        kind: EventType(head.u8("kind")?),
        server: head.u32("server")?,
        size: head.u32("size")?,
        end: head.u32("end")?,
        flags: head.u16("flags")?,
    };
    let place = Place { kind: header.kind, end: header.end };
    let said = usize::try_from(header.size).unwrap_or(usize::MAX);
    if said != bytes.len() {
        let fault = Fault::Size { said, found: bytes.len() };
        return Err(DecodeError { place, field: "size", offset: 9, fault });
    }
    Ok((header, place))
}

/// What is between the header and a footer.
fn body_of(place: Place, bytes: &[u8], footer: usize) -> Result<Cursor<'_>, DecodeError> {
    let body = bytes.get(HEADER_BYTES..).unwrap_or_default();
    let len = body.len().checked_sub(footer);
    let Some(body) = len.and_then(|len| body.get(..len)) else {
        let cursor = Cursor::new(place, HEADER_BYTES, body);
        let left = body.len();
        return Err(cursor.error("checksum", Fault::Short { needed: footer, left }));
    };
    Ok(Cursor::new(place, HEADER_BYTES, body))
}

/// Compares the checksum at the end with that of the bytes.
fn verify(place: Place, bytes: &[u8]) -> Result<(), DecodeError> {
    let Some((body, said)) = bytes.split_last_chunk::<4>() else {
        let short = Fault::Short { needed: 4, left: bytes.len() };
        return Err(DecodeError { place, field: "checksum", offset: 0, fault: short });
    };
    let said = u32::from_le_bytes(*said);
    let found = checksum(place.kind, body);
    if said == found {
        return Ok(());
    }
    let fault = Fault::Checksum { said, found };
    Err(DecodeError { place, field: "checksum", offset: body.len(), fault })
}

/// The checksum of an event's bytes. That a file is in use is written later, and not counted.
pub(super) fn checksum(kind: EventType, bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    if kind == EventType::FORMAT_DESCRIPTION_EVENT
        && let Some((head, rest)) = bytes.split_at_checked(FLAGS_AT)
        && let Some((flags, rest)) = rest.split_first()
    {
        let [in_use, _] = Header::IN_USE.to_le_bytes();
        hasher.update(head);
        hasher.update(&[flags & !in_use]);
        hasher.update(rest);
    } else {
        hasher.update(bytes);
    }
    hasher.finalize()
}

/// Six bytes, or four where the head is that short.
fn table_id(head: &mut Cursor<'_>, usual: usize) -> Result<u64, DecodeError> {
    if head.left() < usual { head.wide::<4>("table") } else { head.wide::<6>("table") }
}

fn rotate(post: usize, mut body: Cursor<'_>) -> Result<Event<'_>, DecodeError> {
    let mut head = body.part("post-header", post)?;
    let position = head.u64("position")?;
    Ok(Event::Rotate(Rotate { position, file: body.rest() }))
}

fn xid(post: usize, mut body: Cursor<'_>) -> Result<Event<'_>, DecodeError> {
    body.part("post-header", post)?;
    let number = body.u64("number")?;
    body.end()?;
    Ok(Event::Xid(number))
}

fn table_map(post: usize, mut body: Cursor<'_>) -> Result<Event<'_>, DecodeError> {
    let mut whole = body;
    let mut head = body.part("post-header", post)?;
    let table = table_id(&mut head, 8)?;
    let flags = head.u16("flags")?;
    let body = whole.rest();
    Ok(Event::TableMap(TableMap { table, flags, post_header_bytes: post, body }))
}

fn incident(post: usize, mut body: Cursor<'_>) -> Result<Event<'_>, DecodeError> {
    let number = body.part("post-header", post)?.u16("number")?;
    let len = body.u8("length of the message")?;
    let message = body.bytes("message", usize::from(len))?;
    Ok(Event::Incident { number, message })
}

fn heartbeat<'a>(header: &Header, mut body: Cursor<'a>) -> Event<'a> {
    Event::Heartbeat { file: body.rest(), position: u64::from(header.end) }
}

/// Fields with their number and length in front (`mysql::binlog::event::Heartbeat_event_v2`).
fn heartbeat_v2(mut body: Cursor<'_>) -> Result<Event<'_>, DecodeError> {
    const FILE: u64 = 1;
    const POSITION: u64 = 2;
    let (mut file, mut position) = (None, None);
    while body.left() > 0 {
        let at = body;
        let field = body.packed("field")?;
        if field == 0 {
            break;
        }
        let len = body.packed("length of a field")?;
        let mut value = body.part("value", usize::try_from(len).unwrap_or(usize::MAX))?;
        match field {
            FILE => file = Some(value.rest()),
            POSITION => position = Some(value.packed("position")?),
            found => return Err(at.error("field", Fault::Value { found })),
        }
    }
    let missing = |field| body.error(field, Fault::Short { needed: 1, left: 0 });
    let file = file.ok_or_else(|| missing("file"))?;
    let position = position.ok_or_else(|| missing("position"))?;
    Ok(Event::Heartbeat { file, position })
}

/// The length in front has one byte and is wrong for longer statements; servers do not read it.
fn rows_query(post: usize, mut body: Cursor<'_>) -> Result<Event<'_>, DecodeError> {
    body.part("post-header", post)?;
    body.u8("length of the statement")?;
    Ok(Event::RowsQuery(body.rest()))
}

fn previous_gtids(post: usize, mut body: Cursor<'_>) -> Result<Event<'_>, DecodeError> {
    body.part("post-header", post)?;
    let at = body;
    let set = GtidSet::from_bytes(body.rest());
    set.map(Event::PreviousGtids).map_err(|error| at.error("set", Fault::Set(error)))
}

fn xa_prepare(post: usize, mut body: Cursor<'_>) -> Result<Event<'_>, DecodeError> {
    body.part("post-header", post)?;
    let at = body;
    let one_phase = match body.u8("one phase")? {
        0 => false,
        1 => true,
        other => return Err(at.error("one phase", Fault::Value { found: u64::from(other) })),
    };
    let format = body.u32("format")?;
    let at = body;
    let (gtrid, bqual) = (body.u32("length of gtrid")?, body.u32("length of bqual")?);
    let xid = xa_id(at, &mut body, format, [gtrid, bqual])?;
    body.end()?;
    Ok(Event::XaPrepare { xid, one_phase })
}

/// Reads the two parts of a name, whose lengths were read at `at`.
pub(super) fn xa_id<'a>(
    at: Cursor<'_>,
    body: &mut Cursor<'a>,
    format: u32,
    lengths: [u32; 2],
) -> Result<XaId<'a>, DecodeError> {
    let [gtrid, bqual] = lengths.map(|len| usize::try_from(len).unwrap_or(usize::MAX));
    let longest = gtrid.max(bqual);
    if XA_PART_BYTES_MAX < longest {
        let found = u64::try_from(longest).unwrap_or(u64::MAX);
        return Err(at.error("length of gtrid and bqual", Fault::Value { found }));
    }
    let gtrid = body.bytes("gtrid", gtrid)?;
    Ok(XaId { format, gtrid, bqual: body.bytes("bqual", bqual)? })
}

/// Fields with their number and length in front, up to a zero; then the bytes
/// (`mysql::binlog::event::codecs::binary::Transaction_payload`). The description of the format gives
/// it a post-header of 40 bytes, which no server writes.
fn payload(mut body: Cursor<'_>) -> Result<Event<'_>, DecodeError> {
    const SIZE: u64 = 1;
    const COMPRESSION: u64 = 2;
    const UNPACKED: u64 = 3;
    let (mut size, mut zstd, mut unpacked_bytes) = (None, None, None);
    loop {
        let at = body;
        let field = body.packed("field")?;
        if field == 0 {
            break;
        }
        let len = body.packed("length of a field")?;
        let mut value = body.part("value", usize::try_from(len).unwrap_or(usize::MAX))?;
        let value_at = value;
        match field {
            SIZE => size = Some(value.packed("size")?),
            COMPRESSION => {
                zstd = Some(match value.packed("compression")? {
                    0 => true,
                    255 => false,
                    found => {
                        return Err(value_at.error("compression", Fault::Value { found }));
                    }
                });
            }
            UNPACKED => unpacked_bytes = Some(value.packed("unpacked size")?),
            found => return Err(at.error("field", Fault::Value { found })),
        }
    }
    let missing = |field| body.error(field, Fault::Short { needed: 1, left: 0 });
    let size = size.ok_or_else(|| missing("size"))?;
    let zstd = zstd.ok_or_else(|| missing("compression"))?;
    let data = body.bytes_wide("data", size)?;
    body.end()?;
    Ok(Event::Payload(Payload { zstd, unpacked_bytes, data }))
}

/// An event that we have no use for, or none that we know.
pub(super) fn unknown<'a>(
    kind: EventType,
    header: &Header,
    mut body: Cursor<'a>,
) -> Result<Event<'a>, DecodeError> {
    let fault = match kind {
        EventType::INTVAR_EVENT
        | EventType::RAND_EVENT
        | EventType::USER_VAR_EVENT
        | EventType::LOAD_EVENT
        | EventType::NEW_LOAD_EVENT
        | EventType::CREATE_FILE_EVENT
        | EventType::APPEND_BLOCK_EVENT
        | EventType::EXEC_LOAD_EVENT
        | EventType::DELETE_FILE_EVENT
        | EventType::BEGIN_LOAD_QUERY_EVENT
        | EventType::EXECUTE_LOAD_QUERY_EVENT => Fault::Statement,
        _ if header.has(Header::IGNORABLE) || kind == EventType::IGNORABLE_LOG_EVENT => {
            return Ok(Event::Ignorable(body.rest()));
        }
        _ => Fault::UnknownEvent,
    };
    Err(body.error("kind", fault))
}
