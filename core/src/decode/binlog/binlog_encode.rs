//! Writes what MySQL and MariaDB write: events of all the forms that are read here.
//!
//! For pretend servers, tests and fuzzing; replication itself only reads them. The reverse of
//! [`Decoder::decode`](super::decoder::Decoder::decode): the header says in which form.
use alloc::vec::Vec;

use bytes::BufMut;
use miniz_oxide::deflate::compress_to_vec_zlib;
use ruzstd::encoding::{CompressionLevel, compress_to_vec};

use super::decoder::checksum;
use super::encode_number::{count, put_packed, put_varlen, put_varlen_signed};
use super::event::{Event, GtidEvent, HEADER_BYTES, Header, MariaGtidEvent, Payload, XaId};
use super::event_type::EventType;
use super::format::{Checksum, Format};
use super::query::{Query, Status};
use crate::model::gtid::MariaGtid;

/// Of zlib; speed matters to nobody here.
const ZLIB_LEVEL: u8 = 6;

/// The lengths of post-headers of MySQL 9.7, which has forgotten version 1 of the events for rows.
const MYSQL: [u8; 42] = [
    0, 13, 0, 8, 0, 0, 0, 0, 4, 0, 4, 0, 0, 0, 99, 0, 4, 26, 8, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 10,
    10, 10, 42, 42, 0, 18, 52, 0, 10, 40, 0, 0,
];

/// How many types of events MySQL 5.7 knows.
const MYSQL_57_TYPES: usize = 38;

/// Where version 1 of the events for rows is in the lengths of post-headers.
const ROWS_V1: core::ops::RangeInclusive<usize> = 22..=24;

/// The lengths of post-headers of MariaDB, from type 160.
const MARIADB: [u8; 12] = [0, 4, 19, 4, 0, 13, 8, 8, 8, 10, 10, 10];

/// What a server of MySQL 9 says of its events.
#[must_use]
pub fn mysql_format(checksum: Checksum) -> Format {
    let (server_version, post_headers) = (b"9.7.4".to_vec(), MYSQL.to_vec());
    Format { server_version, started: 0, post_headers, checksum }
}

/// What a server of MySQL 5.7 says of its events.
#[must_use]
pub fn mysql_57_format(checksum: Checksum) -> Format {
    let mut post_headers = with_rows_v1();
    post_headers.truncate(MYSQL_57_TYPES);
    Format { server_version: b"5.7.44-log".to_vec(), started: 0, post_headers, checksum }
}

/// What a server of MariaDB says of its events.
#[must_use]
pub fn mariadb_format(checksum: Checksum) -> Format {
    let mut post_headers = with_rows_v1();
    post_headers.resize(159, 0);
    post_headers.extend_from_slice(&MARIADB);
    Format { server_version: b"11.8.9-MariaDB-log".to_vec(), started: 0, post_headers, checksum }
}

fn with_rows_v1() -> Vec<u8> {
    let mut post_headers = MYSQL.to_vec();
    if let Some(rows) = post_headers.get_mut(ROWS_V1) {
        rows.fill(8);
    }
    post_headers
}

/// Writes events one after the other, as a server does into a file.
#[derive(Clone, Debug)]
pub struct EventWriter {
    /// What they look like.
    pub format: Format,
    /// Of all headers.
    pub server: u32,
    /// Of all headers.
    pub seconds: u32,
    /// Where the next event begins.
    pub position: u32,
}

impl EventWriter {
    /// Writes a file from its beginning; the four bytes that it begins with are not written.
    #[must_use]
    pub const fn new(format: Format, server: u32, seconds: u32) -> Self {
        Self { format, server, seconds, position: 4 }
    }

    /// Writes the description of the format.
    #[must_use]
    pub fn format_event(&mut self) -> Vec<u8> {
        let format = alloc::sync::Arc::new(self.format.clone());
        self.event(EventType::FORMAT_DESCRIPTION_EVENT, &Event::Format(format))
    }

    /// Writes an event in the form of this type.
    ///
    /// # Panics
    ///
    /// See [`encode`].
    #[must_use]
    pub fn event(&mut self, kind: EventType, event: &Event<'_>) -> Vec<u8> {
        let checksum = self.format.checksum;
        let mut header = Header {
            seconds: self.seconds,
            kind,
            server: self.server,
            size: 0,
            end: 0,
            flags: if kind == EventType::ROWS_QUERY_LOG_EVENT { Header::IGNORABLE } else { 0 },
        };
        let len = encode(&header, event, checksum).len();
        self.position = self.position.saturating_add(count(len));
        header.end = self.position;
        encode(&header, event, checksum)
    }

    /// Writes a statement as a server of today does.
    #[must_use]
    pub fn statement(&mut self, database: &[u8], statement: &[u8]) -> Vec<u8> {
        let query = Query {
            thread: 7,
            seconds: 0,
            error_code: 0,
            status: Status::default(),
            database,
            statement: statement.into(),
        };
        self.event(EventType::QUERY_EVENT, &Event::Query(query))
    }
}

/// Writes one whole event. The header's size is not looked at.
///
/// # Panics
///
/// The event cannot be written in the form of the header's type, or is larger than its own lengths can
/// say.
#[must_use]
pub fn encode(header: &Header, event: &Event<'_>, footer: Checksum) -> Vec<u8> {
    let mut body = Vec::new();
    put_body(&mut body, header, event);
    let format = header.kind == EventType::FORMAT_DESCRIPTION_EVENT;
    let footer = if format { Checksum::Crc32 } else { footer };
    let size = HEADER_BYTES.saturating_add(body.len()).saturating_add(footer.bytes());
    let mut out = Vec::with_capacity(size);
    out.put_u32_le(header.seconds);
    out.put_u8(header.kind.0);
    out.put_u32_le(header.server);
    out.put_u32_le(count(size));
    out.put_u32_le(header.end);
    out.put_u16_le(header.flags);
    out.put_slice(&body);
    if footer == Checksum::Crc32 {
        let sum = checksum(header.kind, &out);
        out.put_u32_le(sum);
    }
    out
}

/// Writes the size and the checksum of an event anew, after something in it was changed. What is too
/// short to be an event stays as it is.
pub fn seal(event: &mut [u8], footer: Checksum) {
    let Some(size) = event.get(..HEADER_BYTES).map(|_| count::<u32>(event.len())) else { return };
    if let Some(place) = event.get_mut(9..13) {
        place.copy_from_slice(&size.to_le_bytes());
    }
    let kind = EventType(event.get(4).copied().unwrap_or_default());
    let footer = if kind == EventType::FORMAT_DESCRIPTION_EVENT { Checksum::Crc32 } else { footer };
    if footer == Checksum::Crc32
        && let Some((bytes, sum)) = event.split_last_chunk_mut::<4>()
    {
        *sum = checksum(kind, bytes).to_le_bytes();
    }
}

fn put_body(out: &mut Vec<u8>, header: &Header, event: &Event<'_>) {
    let v2 = header.kind == EventType::HEARTBEAT_LOG_EVENT_V2;
    match event {
        Event::Format(format) => put_format(out, format),
        Event::Rotate(rotate) => {
            out.put_u64_le(rotate.position);
            out.put_slice(rotate.file);
        }
        Event::PreviousGtids(set) => out.put_slice(&set.to_bytes()),
        Event::Gtid(gtid) if header.kind == EventType::GTID_TAGGED_LOG_EVENT => {
            put_tagged(out, gtid);
        }
        Event::Gtid(gtid) => put_gtid(out, gtid),
        Event::Query(query) => {
            put_query(out, query, header.kind == EventType::QUERY_COMPRESSED_EVENT);
        }
        Event::Xid(number) => out.put_u64_le(*number),
        Event::XaPrepare { xid, one_phase } => {
            out.put_u8(u8::from(*one_phase));
            out.put_u32_le(xid.format);
            out.put_u32_le(count(xid.gtrid.len()));
            out.put_u32_le(count(xid.bqual.len()));
            put_xa(out, xid);
        }
        Event::Stop => (),
        Event::Incident { number, message } => {
            out.put_u16_le(*number);
            out.put_u8(count(message.len()));
            out.put_slice(message);
        }
        Event::Heartbeat { file, position } if v2 => put_heartbeat_v2(out, file, *position),
        Event::Heartbeat { file, .. } => out.put_slice(file),
        Event::RowsQuery(text) => {
            if header.kind == EventType::ROWS_QUERY_LOG_EVENT {
                let [low, ..] = text.len().to_le_bytes();
                out.put_u8(low);
            }
            out.put_slice(text);
        }
        Event::TableMap(table) => out.put_slice(table.body),
        Event::Rows(rows) => put_rows(out, header.kind, &rows.body),
        Event::Payload(payload) => put_payload(out, payload),
        Event::MariaGtid(gtid) => put_maria_gtid(out, gtid),
        Event::GtidList(list) => {
            let number: u32 = count(list.iter().count());
            out.put_u32_le(u32::from(list.flags) << 28 | number);
            out.put_slice(&list_entries(list.iter()));
        }
        Event::Checkpoint(file) => {
            out.put_u32_le(count(file.len()));
            out.put_slice(file);
        }
        Event::Group(body) | Event::Ignorable(body) => out.put_slice(body),
    }
}

/// The bytes of the transactions of a list, for [`GtidList::new`](super::event::GtidList::new).
pub fn list_entries(gtids: impl IntoIterator<Item = MariaGtid>) -> Vec<u8> {
    let mut out = Vec::new();
    for gtid in gtids {
        out.put_u32_le(gtid.domain);
        out.put_u32_le(gtid.server);
        out.put_u64_le(gtid.sequence);
    }
    out
}

/// The body of an event for rows, or for a table with `extra` of `None`: a head with the number of the
/// table, and what is behind it.
///
/// # Panics
///
/// The extra data is longer than its length can say.
#[must_use]
pub fn body(table: u64, flags: u16, extra: Option<&[u8]>, rest: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    out.put_uint_le(table & 0xFFFF_FFFF_FFFF, 6);
    out.put_u16_le(flags);
    if let Some(extra) = extra {
        out.put_u16_le(count(extra.len().saturating_add(2)));
        out.put_slice(extra);
    }
    out.put_slice(rest);
    out
}

/// Packs whole events, which have no checksums, for [`Payload::data`].
#[must_use]
pub fn pack(events: &[Vec<u8>]) -> Vec<u8> {
    compress_to_vec(events.concat().as_slice(), CompressionLevel::Fastest)
}

fn put_format(out: &mut Vec<u8>, format: &Format) {
    out.put_u16_le(4);
    let mut version = format.server_version.clone();
    version.resize(50, 0);
    out.put_slice(&version);
    out.put_u32_le(format.started);
    out.put_u8(count(HEADER_BYTES));
    out.put_slice(&format.post_headers);
    out.put_u8(match format.checksum {
        Checksum::None => 0,
        Checksum::Crc32 => 1,
    });
}

fn put_gtid(out: &mut Vec<u8>, event: &GtidEvent) {
    out.put_u8(event.flags);
    out.put_slice(&event.gtid.map_or([0; 16], |gtid| gtid.tsid.uuid.0));
    out.put_u64_le(event.gtid.map_or(0, |gtid| gtid.gno));
    let Some(sequence_number) = event.sequence_number else { return };
    out.put_u8(2);
    out.put_u64_le(event.last_committed.cast_unsigned());
    out.put_u64_le(sequence_number.cast_unsigned());
    let Some(immediate) = event.immediate_commit else { return };
    let has_original = u64::from(event.original_commit.is_some()) << 55;
    out.put_uint_le(immediate | has_original, 7);
    if let Some(original) = event.original_commit {
        out.put_uint_le(original, 7);
    }
    let Some(bytes) = event.transaction_bytes else { return };
    put_packed(out, bytes);
    let Some(version) = event.immediate_version else { return };
    out.put_u32_le(version | u32::from(event.original_version.is_some()) << 31);
    if let Some(version) = event.original_version {
        out.put_u32_le(version);
    }
    if let Some(ticket) = event.commit_group_ticket {
        out.put_u64_le(ticket);
    }
}

fn put_tagged(out: &mut Vec<u8>, event: &GtidEvent) {
    let Some(gtid) = event.gtid else { panic!("a tagged event without a GTID") };
    let mut fields = Vec::new();
    put_varlen(&mut fields, 0);
    put_varlen(&mut fields, 0);
    put_varlen(&mut fields, u64::from(event.flags));
    put_varlen(&mut fields, 1);
    gtid.tsid.uuid.0.iter().for_each(|byte| put_varlen(&mut fields, u64::from(*byte)));
    put_varlen(&mut fields, 2);
    put_varlen_signed(&mut fields, gtid.gno.cast_signed());
    put_varlen(&mut fields, 3);
    let tag = gtid.tsid.tag;
    put_varlen(&mut fields, count(tag.as_str().len()));
    fields.put_slice(tag.as_str().as_bytes());
    put_varlen(&mut fields, 4);
    put_varlen_signed(&mut fields, event.last_committed);
    if let Some(number) = event.sequence_number {
        put_varlen(&mut fields, 5);
        put_varlen_signed(&mut fields, number);
    }
    let later = [
        (6, event.immediate_commit),
        (7, event.original_commit),
        (8, event.transaction_bytes),
        (9, event.immediate_version.map(u64::from)),
        (10, event.original_version.map(u64::from)),
        (11, event.commit_group_ticket),
    ];
    for (number, value) in later {
        if let Some(value) = value {
            put_varlen(&mut fields, number);
            put_varlen(&mut fields, value);
        }
    }
    // The length counts itself.
    let bare = fields.len().saturating_add(1);
    let mut length = Vec::new();
    for width in 1..=9_usize {
        length.clear();
        put_varlen(&mut length, count(bare.saturating_add(width)));
        if length.len() == width {
            break;
        }
    }
    put_varlen(out, 1);
    out.put_slice(&length);
    out.put_slice(&fields);
}

fn put_query(out: &mut Vec<u8>, query: &Query<'_>, packed: bool) {
    out.put_u32_le(query.thread);
    out.put_u32_le(query.seconds);
    out.put_u8(count(query.database.len()));
    out.put_u16_le(query.error_code);
    out.put_u16_le(count(query.status.raw.len()));
    out.put_slice(query.status.raw);
    out.put_slice(query.database);
    out.put_u8(0);
    if packed {
        put_zlib(out, &query.statement);
    } else {
        out.put_slice(&query.statement);
    }
}

fn put_xa(out: &mut Vec<u8>, xid: &XaId<'_>) {
    out.put_slice(xid.gtrid);
    out.put_slice(xid.bqual);
}

fn put_heartbeat_v2(out: &mut Vec<u8>, file: &[u8], position: u64) {
    put_packed(out, 1);
    put_packed(out, count(file.len()));
    out.put_slice(file);
    let mut value = Vec::new();
    put_packed(&mut value, position);
    put_packed(out, 2);
    put_packed(out, count(value.len()));
    out.put_slice(&value);
    put_packed(out, 0);
}

/// Rows of a compressed type are packed from where the rows begin.
fn put_rows(out: &mut Vec<u8>, kind: EventType, body: &[u8]) {
    let (v2, update) = match kind {
        EventType::WRITE_ROWS_COMPRESSED_EVENT_V1 | EventType::DELETE_ROWS_COMPRESSED_EVENT_V1 => {
            (false, false)
        }
        EventType::UPDATE_ROWS_COMPRESSED_EVENT_V1 => (false, true),
        EventType::WRITE_ROWS_COMPRESSED_EVENT | EventType::DELETE_ROWS_COMPRESSED_EVENT => {
            (true, false)
        }
        EventType::UPDATE_ROWS_COMPRESSED_EVENT => (true, true),
        _ => {
            out.put_slice(body);
            return;
        }
    };
    // The length of extra data counts itself.
    let extra = body.get(8..10).and_then(<[u8]>::first_chunk::<2>).filter(|_| v2);
    let extra = extra.map_or(0, |len| usize::from(u16::from_le_bytes(*len)));
    let head = extra.saturating_add(8);
    let columns = body.get(head).copied().map_or(0, usize::from);
    assert!(columns < 251, "a table of {columns} columns, whose number has more than one byte");
    let bitmaps = columns.div_ceil(8).saturating_mul(if update { 2 } else { 1 });
    let plain = bitmaps.saturating_add(head).saturating_add(1);
    let Some((plain, rows)) = body.split_at_checked(plain) else { panic!("rows without a head") };
    out.put_slice(plain);
    put_zlib(out, rows);
}

/// A byte with the width of the length, the length, and the packed bytes.
fn put_zlib(out: &mut Vec<u8>, bytes: &[u8]) {
    out.put_u8(0x84);
    out.put_u32(count(bytes.len()));
    out.put_slice(&compress_to_vec_zlib(bytes, ZLIB_LEVEL));
}

fn put_payload(out: &mut Vec<u8>, payload: &Payload<'_>) {
    let mut field = |number: u64, value: u64| {
        let mut bytes = Vec::new();
        put_packed(&mut bytes, value);
        put_packed(out, number);
        put_packed(out, count(bytes.len()));
        out.put_slice(&bytes);
    };
    field(2, if payload.zstd { 0 } else { 255 });
    if let Some(unpacked) = payload.unpacked_bytes {
        field(3, unpacked);
    }
    field(1, count(payload.data.len()));
    put_packed(out, 0);
    out.put_slice(payload.data);
}

/// At least as long as its post-header says, as MariaDB does.
fn put_maria_gtid(out: &mut Vec<u8>, event: &MariaGtidEvent<'_>) {
    out.put_u64_le(event.gtid.sequence);
    out.put_u32_le(event.gtid.domain);
    out.put_u8(event.flags);
    if let Some(commit_id) = event.commit_id {
        out.put_u64_le(commit_id);
    }
    if let Some(xid) = &event.xid {
        out.put_u32_le(xid.format);
        out.put_u8(count(xid.gtrid.len()));
        out.put_u8(count(xid.bqual.len()));
        put_xa(out, xid);
    }
    out.put_u8(event.extra_flags);
    if let Some(engines) = event.extra_engines {
        out.put_u8(engines);
    }
    if let Some(sequence) = event.alter_sequence {
        out.put_u64_le(sequence);
    }
    if let Some(thread) = event.thread {
        out.put_u32_le(thread);
    }
    out.resize(out.len().max(19), 0);
}
