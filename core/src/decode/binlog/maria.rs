//! The events that only MariaDB has (`Log_event_type` from 160 in its `sql/log_event.h`).
use alloc::borrow::Cow;

use super::cursor::Cursor;
use super::decoder::{unknown, xa_id};
use super::error::{DecodeError, Fault};
use super::event::{Event, GtidList, Header, LIST_ENTRY_BYTES, MariaGtidEvent};
use super::event_type::EventType;
use super::format::Format;
use super::{inflate, query};
use crate::model::gtid::MariaGtid;

/// Its types begin here.
pub(super) const FIRST: u8 = 160;

/// MariaDB fills an empty list up with so many zeros.
const LIST_PADDING: usize = 2;

/// The upper bits of the count of a list are flags.
const LIST_COUNT: u32 = 0x0FFF_FFFF;

pub(super) fn read<'a>(
    header: &Header,
    format: &Format,
    mut body: Cursor<'a>,
    bytes_max: usize,
) -> Result<Event<'a>, DecodeError> {
    let at = body;
    let post = |needed: usize| {
        let said = format.post_header(header.kind).unwrap_or_default();
        let short = at.error("post-header", Fault::PostHeader { said, needed });
        if said < needed { Err(short) } else { Ok(said) }
    };
    match header.kind {
        EventType::ANNOTATE_ROWS_EVENT => {
            body.part("post-header", post(0)?)?;
            Ok(Event::RowsQuery(body.rest()))
        }
        EventType::BINLOG_CHECKPOINT_EVENT => {
            let len = body.part("post-header", post(4)?)?.u32("length of the file")?;
            body.bytes_wide("file", u64::from(len)).map(Event::Checkpoint)
        }
        // Its post-header is as long as the shortest of them.
        EventType::GTID_EVENT => {
            post(13)?;
            gtid(header, body).map(Event::MariaGtid)
        }
        EventType::GTID_LIST_EVENT => {
            post(4)?;
            gtid_list(body).map(Event::GtidList)
        }
        EventType::START_ENCRYPTION_EVENT => Err(body.error("kind", Fault::Encrypted)),
        EventType::QUERY_COMPRESSED_EVENT => {
            let (mut query, text) = query::read_head(post(13)?, &mut body)?;
            query.statement = Cow::Owned(inflate::text(text, bytes_max)?);
            Ok(Event::Query(query))
        }
        kind => unknown(kind, header, body),
    }
}

fn gtid<'a>(header: &Header, mut body: Cursor<'a>) -> Result<MariaGtidEvent<'a>, DecodeError> {
    let sequence = body.u64("sequence")?;
    let domain = body.u32("domain")?;
    let flags = body.u8("flags")?;
    let mut event = MariaGtidEvent {
        gtid: MariaGtid { domain, server: header.server, sequence },
        flags,
        commit_id: None,
        xid: None,
        extra_flags: 0,
        extra_engines: None,
        alter_sequence: None,
        thread: None,
    };
    if flags & MariaGtidEvent::GROUP_COMMIT != 0 {
        event.commit_id = Some(body.u64("commit id")?);
    }
    if flags & (MariaGtidEvent::PREPARED_XA | MariaGtidEvent::COMPLETED_XA) != 0 {
        let format = body.u32("format of the xid")?;
        let at = body;
        let lengths = [body.u8("length of gtrid")?, body.u8("length of bqual")?];
        event.xid = Some(xa_id(at, &mut body, format, lengths.map(u32::from))?);
    }
    // Short ones are filled up with zeros, which are flags that say nothing.
    if body.left() == 0 {
        return Ok(event);
    }
    let extra = body.u8("extra flags")?;
    event.extra_flags = extra;
    if extra & MariaGtidEvent::EXTRA_ENGINES != 0 {
        event.extra_engines = Some(body.u8("extra engines")?);
    }
    if extra & (MariaGtidEvent::COMMIT_ALTER | MariaGtidEvent::ROLLBACK_ALTER) != 0 {
        event.alter_sequence = Some(body.u64("sequence of the ALTER")?);
    }
    if extra & MariaGtidEvent::EXTRA_THREAD != 0 {
        event.thread = Some(body.u32("thread")?);
    }
    Ok(event)
}

fn gtid_list(mut body: Cursor<'_>) -> Result<GtidList<'_>, DecodeError> {
    let head = body.u32("count")?;
    let count = usize::try_from(head & LIST_COUNT).unwrap_or(usize::MAX);
    let entries = body.bytes("list", count.saturating_mul(LIST_ENTRY_BYTES))?;
    // An empty list is filled up to six bytes.
    if count > 0 || body.left() != LIST_PADDING {
        body.end()?;
    }
    let flags = u8::try_from(head >> 28).unwrap_or_default();
    Ok(GtidList { flags, entries })
}
