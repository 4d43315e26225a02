//! Events written and read again.
use alloc::string::ToString;
use alloc::vec;
use alloc::vec::Vec;

use super::super::binlog_encode::{
    EventWriter, body, encode, list_entries, mariadb_format, mysql_57_format, mysql_format,
};
use super::super::decoder::{Decoder, UnpackLimits};
use super::super::event::{
    Decoded, Event, GtidEvent, GtidList, HEADER_BYTES, Header, MariaGtidEvent, Payload, Rotate,
    RowsKind, TableMap, XaId,
};
use super::super::event_type::EventType;
use super::super::format::{Checksum, Format};
use super::super::query::{Query, Status};
use super::super::{DecodeError, Fault};
use super::fixture::{gtid, gtid_event, maria_event, rows};
use crate::model::gtid::{GNO_MAX, Gtid, GtidSet, MariaGtid};

/// A decoder that has read the description of the format.
pub(super) fn decoder(format: &Format) -> Decoder {
    let mut decoder = Decoder::new(Checksum::None, UnpackLimits::default());
    let bytes = EventWriter::new(format.clone(), 1, 1).format_event();
    let read = decoder.decode(&bytes).unwrap();
    assert_eq!(read.event, Event::Format(format.clone().into()));
    decoder
}

pub(super) fn header(kind: EventType) -> Header {
    Header { seconds: 5, kind, server: 6, size: 0, end: 700, flags: 0 }
}

/// Writes and reads again.
pub(super) fn check(format: &Format, kind: EventType, event: &Event<'_>) {
    let mut header = header(kind);
    let bytes = encode(&header, event, format.checksum);
    header.size = u32::try_from(bytes.len()).unwrap();
    let mut decoder = decoder(format);
    let read = decoder.decode(&bytes).unwrap_or_else(|error| panic!("{error}: {event:?}"));
    assert_eq!(read, Decoded { header, event: event.clone() });
}

fn status() -> Vec<u8> {
    [
        &[0, 1, 2, 3, 4][..],
        &[1, 8, 7, 6, 5, 4, 3, 2, 1],
        &[6, 3, b's', b't', b'd', 3, 1, 0, 1, 0],
        &[4, 45, 0, 46, 0, 255, 0],
        &[5, 6, b'S', b'Y', b'S', b'T', b'E', b'M'],
        &[7, 9, 0, 8, 33, 0, 9, 1, 2, 3, 4, 5, 6, 7, 8, 10, 1, 2, 3, 4],
        &[11, 1, b'u', 2, b'h', b'h', 12, 254, 12, 2, b'a', 0, b'b', 0],
        &[13, 1, 2, 0, 16, 1, 17, 9, 0, 0, 0, 0, 0, 0, 0, 18, 255, 0, 19, 1, 20, 0],
        &[130, 2, 130, 4, 1, 2, 3, 4, 5, 6, 7, 8, 131, 1, 1, 2, 3, 4],
    ]
    .concat()
}

/// One event of each form, by the format that it is of.
fn each(check: impl Fn(&Format, EventType, &Event<'_>)) {
    each_of_mysql(&mysql_format(Checksum::Crc32), &check);
    let old = mysql_57_format(Checksum::None);
    let old_gtid = GtidEvent { immediate_commit: None, ..gtid_event(Some(gtid(7))) };
    let old_gtid = GtidEvent { original_commit: None, transaction_bytes: None, ..old_gtid };
    let old_gtid = GtidEvent { immediate_version: None, original_version: None, ..old_gtid };
    let old_gtid = GtidEvent { commit_group_ticket: None, ..old_gtid };
    check(&old, EventType::GTID_LOG_EVENT, &Event::Gtid(old_gtid));
    let v1 = body(5, 1, None, &[3, 7, 7, 1, 2, 3]);
    let maria = mariadb_format(Checksum::Crc32);
    for (kind, plain, packed) in [
        (
            RowsKind::Write,
            EventType::WRITE_ROWS_EVENT_V1,
            EventType::WRITE_ROWS_COMPRESSED_EVENT_V1,
        ),
        (
            RowsKind::Update,
            EventType::UPDATE_ROWS_EVENT_V1,
            EventType::UPDATE_ROWS_COMPRESSED_EVENT_V1,
        ),
        (
            RowsKind::Delete,
            EventType::DELETE_ROWS_EVENT_V1,
            EventType::DELETE_ROWS_COMPRESSED_EVENT_V1,
        ),
    ] {
        check(&old, plain, &Event::Rows(rows(kind, false, &v1)));
        check(&maria, plain, &Event::Rows(rows(kind, false, &v1)));
        check(&maria, packed, &Event::Rows(rows(kind, false, &v1)));
    }
    each_of_mariadb(&maria, &check);
}

fn each_of_mysql(format: &Format, check: &impl Fn(&Format, EventType, &Event<'_>)) {
    let status = status();
    let query = Query {
        thread: 1,
        seconds: 2,
        error_code: 3,
        status: Status {
            raw: &status,
            sql_mode: Some(0x0102_0304_0506_0708),
            charset: Some([45, 46, 255]),
            database_collation: Some(33),
            utf8mb4_collation: Some(255),
            time_zone: Some(b"SYSTEM"),
            microseconds: Some(0x201),
            xid: Some(9),
            updated: Some(b"a\0b\0"),
            unread: None,
        },
        database: b"d",
        statement: b"DROP TABLE t"[..].into(),
    };
    let tagged: Gtid = alloc::format!("{}:t:9", super::fixture::UUID).parse().unwrap();
    let set = GtidSet::from_bytes(&[0; 8]).unwrap();
    let xid = XaId { format: u32::MAX, gtrid: b"g", bqual: &[7; 64] };
    let (file, position) = (&b"binlog.000002"[..], 4);
    let map = body(5, 0, None, b"map");
    let map = TableMap { table: 5, flags: 0, post_header_bytes: 8, body: &map };
    let v2 = body(5, 1, Some(b"extra"), &[1, 1, 1, 9]);
    let payload = Payload { zstd: true, unpacked_bytes: Some(70_000), data: &[1, 2, 3] };
    for (kind, event) in [
        (EventType::QUERY_EVENT, Event::Query(query)),
        (EventType::STOP_EVENT, Event::Stop),
        (EventType::ROTATE_EVENT, Event::Rotate(Rotate { position, file })),
        (EventType::XID_EVENT, Event::Xid(u64::MAX)),
        (EventType::TABLE_MAP_EVENT, Event::TableMap(map)),
        (EventType::INCIDENT_EVENT, Event::Incident { number: 1, message: b"lost" }),
        (EventType::HEARTBEAT_LOG_EVENT, Event::Heartbeat { file, position: 700 }),
        (EventType::HEARTBEAT_LOG_EVENT_V2, Event::Heartbeat { file, position: 1 << 40 }),
        (EventType::ROWS_QUERY_LOG_EVENT, Event::RowsQuery(&[b'q'; 300])),
        (EventType::WRITE_ROWS_EVENT, Event::Rows(rows(RowsKind::Write, true, &v2))),
        (EventType::UPDATE_ROWS_EVENT, Event::Rows(rows(RowsKind::Update, true, &v2))),
        (EventType::DELETE_ROWS_EVENT, Event::Rows(rows(RowsKind::Delete, true, &v2))),
        (
            EventType::PARTIAL_UPDATE_ROWS_EVENT,
            Event::Rows(rows(RowsKind::PartialUpdate, true, &v2)),
        ),
        (EventType::GTID_LOG_EVENT, Event::Gtid(gtid_event(Some(gtid(GNO_MAX))))),
        (EventType::GTID_TAGGED_LOG_EVENT, Event::Gtid(gtid_event(Some(tagged)))),
        (EventType::ANONYMOUS_GTID_LOG_EVENT, Event::Gtid(gtid_event(None))),
        (EventType::PREVIOUS_GTIDS_LOG_EVENT, Event::PreviousGtids(set)),
        (EventType::TRANSACTION_CONTEXT_EVENT, Event::Group(&[1; 18])),
        (EventType::VIEW_CHANGE_EVENT, Event::Group(&[1; 52])),
        (EventType::XA_PREPARE_LOG_EVENT, Event::XaPrepare { xid, one_phase: false }),
        (EventType::TRANSACTION_PAYLOAD_EVENT, Event::Payload(payload)),
        (EventType::IGNORABLE_LOG_EVENT, Event::Ignorable(b"?")),
    ] {
        check(format, kind, &event);
    }
}

fn each_of_mariadb(format: &Format, check: &impl Fn(&Format, EventType, &Event<'_>)) {
    let gtid = MariaGtid { domain: 1, server: 6, sequence: 3 };
    let mut whole = maria_event(gtid, 0xFF);
    whole.commit_id = Some(8);
    whole.xid = Some(XaId { format: 1, gtrid: b"g", bqual: b"" });
    whole.extra_flags = 0x15;
    (whole.extra_engines, whole.alter_sequence, whole.thread) = (Some(1), Some(2), Some(3));
    let entries = list_entries([gtid, MariaGtid { server: 9, ..gtid }]);
    let query = Query {
        thread: 1,
        seconds: 2,
        error_code: 3,
        status: Status::default(),
        database: b"",
        statement: [b'x'; 1_000][..].into(),
    };
    for (kind, event) in [
        (EventType::ANNOTATE_ROWS_EVENT, Event::RowsQuery(b"INSERT")),
        (EventType::BINLOG_CHECKPOINT_EVENT, Event::Checkpoint(b"binlog.000001")),
        (EventType::GTID_EVENT, Event::MariaGtid(maria_event(gtid, 1))),
        (EventType::GTID_EVENT, Event::MariaGtid(whole)),
        (EventType::GTID_LIST_EVENT, Event::GtidList(GtidList::new(1, &entries).unwrap())),
        (EventType::GTID_LIST_EVENT, Event::GtidList(GtidList::new(0, &[]).unwrap())),
        (EventType::QUERY_COMPRESSED_EVENT, Event::Query(query)),
    ] {
        check(format, kind, &event);
    }
    let v2 = body(5, 1, Some(b""), &[3, 7, 7, 1, 2, 3]);
    for (packed, kind) in [
        (EventType::WRITE_ROWS_COMPRESSED_EVENT, RowsKind::Write),
        (EventType::UPDATE_ROWS_COMPRESSED_EVENT, RowsKind::Update),
        (EventType::DELETE_ROWS_COMPRESSED_EVENT, RowsKind::Delete),
    ] {
        check(format, packed, &Event::Rows(rows(kind, true, &v2)));
    }
}

#[test]
fn every_form_of_event_is_read_as_it_was_written() {
    each(check);
}

#[test]
fn an_event_that_is_cut_short_is_an_error() {
    each(|format, kind, event| {
        let bytes = encode(&header(kind), event, format.checksum);
        let mut decoder = decoder(format);
        for len in 0..bytes.len() {
            let error = decoder.decode(&bytes[..len]).unwrap_err();
            assert!(matches!(error.fault, Fault::Size { .. } | Fault::Short { .. }), "{error}");
        }
    });
}

#[test]
fn an_event_that_says_it_is_shorter_is_refused_or_is_shorter() {
    each(|format, kind, event| {
        let format = Format { checksum: Checksum::None, ..format.clone() };
        let bytes = encode(&header(kind), event, Checksum::None);
        let mut decoder = decoder(&format);
        // Their last field goes to the end of the event, and may be empty.
        let open = matches!(
            event,
            Event::Rotate(_)
                | Event::Query(_)
                | Event::Heartbeat { .. }
                | Event::RowsQuery(_)
                | Event::TableMap(_)
                | Event::Rows(_)
                | Event::Gtid(_)
                | Event::MariaGtid(_)
                | Event::Group(_)
                | Event::Ignorable(_)
        );
        for len in HEADER_BYTES..bytes.len() {
            let mut short = bytes[..len].to_vec();
            short[9..13].copy_from_slice(&u32::try_from(len).unwrap().to_le_bytes());
            match decoder.decode(&short) {
                // Zeros at the end say nothing.
                Ok(read) if kind == EventType::GTID_EVENT && read.event == *event => {
                    assert!(bytes[len..].iter().all(|byte| *byte == 0));
                }
                // The end of the fields of a heartbeat may be left out.
                Ok(read) if kind == EventType::HEARTBEAT_LOG_EVENT_V2 => {
                    assert_eq!((read.event, len + 1), (event.clone(), bytes.len()));
                }
                Ok(read) => assert!(open && read.event != *event, "{kind} of {len} bytes"),
                Err(error) => assert!(error.offset <= len, "{error}"),
            }
        }
    });
}

#[test]
fn one_wrong_bit_is_noticed() {
    let format = mysql_format(Checksum::Crc32);
    let mut writer = EventWriter::new(format.clone(), 1, 2);
    let mut bytes = writer.event(EventType::XID_EVENT, &Event::Xid(3));
    bytes[20] ^= 1;
    let error = decoder(&format).decode(&bytes).unwrap_err();
    assert!(matches!(error.fault, Fault::Checksum { .. }), "{error}");
    assert!(error.hint().is_some());
    assert!(error.to_string().starts_with(
        "cannot decode a binlog event of type 16 (XID_EVENT) that ends at position 35: field \
         \"checksum\" at byte 27 is "
    ));
    // Whether a file is in use is written after the checksum.
    let mut bytes = writer.format_event();
    bytes[17] |= 1;
    assert!(decoder(&format).decode(&bytes).is_ok());
    bytes[18] |= 1;
    assert!(decoder(&format).decode(&bytes).is_err());
    // Without checksums MariaDB sends a description with the checksum of another.
    let mut bytes = EventWriter::new(mariadb_format(Checksum::None), 1, 2).format_event();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    assert!(decoder(&format).decode(&bytes).is_ok());
}

fn refused(format: &Format, kind: u8, body: &[u8]) -> DecodeError {
    let header = header(EventType(kind));
    let bytes = encode(&header, &Event::Ignorable(body), format.checksum);
    decoder(format).decode(&bytes).unwrap_err()
}

#[test]
fn what_we_do_not_know_is_an_error_or_marked_as_ignorable() {
    let format = mysql_format(Checksum::None);
    let error = refused(&format, 99, b"x");
    assert_eq!(error.fault, Fault::UnknownEvent);
    assert!(error.hint().is_some());
    assert_eq!(
        error.to_string(),
        "cannot decode a binlog event of type 99 (unknown) that ends at position 700: field \
         \"kind\" at byte 19 is not known and must not be ignored"
    );
    for kind in [99, 5, 200] {
        let header = Header { flags: Header::IGNORABLE, ..header(EventType(kind)) };
        let bytes = encode(&header, &Event::Ignorable(b"x"), Checksum::None);
        let read = decoder(&format).decode(&bytes);
        match kind {
            // A part of a statement matters whatever it says.
            5 => assert_eq!(read.unwrap_err().fault, Fault::Statement),
            _ => assert_eq!(read.unwrap().event, Event::Ignorable(b"x")),
        }
    }
    for kind in [1, 7, 20, 21, 22, 0, 160 + 12] {
        assert_eq!(refused(&format, kind, b"").fault, Fault::UnknownEvent, "{kind}");
    }
    for kind in [5, 6, 8, 9, 10, 11, 12, 13, 14, 17, 18] {
        assert_eq!(refused(&format, kind, b"").fault, Fault::Statement, "{kind}");
    }
    let maria = mariadb_format(Checksum::None);
    let error = refused(&maria, 164, &[1; 17]);
    assert_eq!(error.fault, Fault::Encrypted);
    assert!(error.hint().is_some());
    // The server does not know what it sends.
    let old = mysql_57_format(Checksum::None);
    assert_eq!(refused(&old, 39, &[0; 20]).fault, Fault::PostHeader { said: 0, needed: 6 });
}

#[test]
fn a_description_of_another_format_is_refused() {
    let read = |format: &Format, at: usize, bytes: &[u8]| {
        let mut event = EventWriter::new(format.clone(), 1, 2).format_event();
        event[at..at + bytes.len()].copy_from_slice(bytes);
        Decoder::new(Checksum::None, UnpackLimits::default()).decode(&event).unwrap_err()
    };
    let format = mysql_format(Checksum::Crc32);
    assert_eq!(read(&format, 19, &[3]).field, "binlog version");
    assert_eq!(read(&format, 21, b"5.6.0\0").fault, Fault::ServerVersion);
    assert_eq!(read(&format, 75, &[20]).field, "length of headers");
    assert_eq!(read(&format, 76 + 42, &[2]).field, "kind of checksums");
    assert!(matches!(read(&format, 30, &[1]).fault, Fault::Checksum { .. }));
    let mut first = Decoder::new(Checksum::None, UnpackLimits::default());
    let mut writer = EventWriter::new(mysql_format(Checksum::None), 1, 2);
    let xid = writer.event(EventType::XID_EVENT, &Event::Xid(3));
    assert_eq!(first.decode(&xid).unwrap_err().fault, Fault::NoFormat);
}

#[test]
fn what_comes_before_the_format_ends_with_what_was_asked_for() {
    let file = Event::Rotate(Rotate { position: 4, file: b"binlog.000001" });
    let beat = Event::Heartbeat { file: b"binlog.000001", position: 9 };
    for checksum in [Checksum::None, Checksum::Crc32] {
        let mut decoder = Decoder::new(checksum, UnpackLimits::default());
        for (kind, event) in
            [(EventType::ROTATE_EVENT, &file), (EventType::HEARTBEAT_LOG_EVENT_V2, &beat)]
        {
            let header = Header { flags: Header::ARTIFICIAL, ..header(kind) };
            let bytes = encode(&header, event, checksum);
            assert_eq!(&decoder.decode(&bytes).unwrap().event, event);
        }
        // The description says what the rest ends with.
        let format = mysql_format(Checksum::None);
        decoder.decode(&EventWriter::new(format, 1, 1).format_event()).unwrap();
        let bytes = encode(&header(EventType::ROTATE_EVENT), &file, Checksum::None);
        assert_eq!(decoder.decode(&bytes).unwrap().event, file);
    }
}

#[test]
fn lengths_of_post_headers_are_those_that_the_file_says() {
    let mut format = mysql_57_format(Checksum::None);
    // Four bytes for a table, as with servers from before 5.1.4, and one byte more for a commit.
    format.post_headers[18] = 6;
    format.post_headers[15] = 1;
    let mut decoder = decoder(&format);
    let old = [9, 0, 0, 0, 1, 0, b'm'];
    let map = TableMap { table: 9, flags: 1, post_header_bytes: 6, body: &old };
    let bytes = encode(&header(EventType::TABLE_MAP_EVENT), &Event::TableMap(map), Checksum::None);
    assert_eq!(decoder.decode(&bytes).unwrap().event, Event::TableMap(map));
    let body = [7, 5, 0, 0, 0, 0, 0, 0, 0];
    let bytes = encode(&header(EventType::XID_EVENT), &Event::Ignorable(&body), Checksum::None);
    assert_eq!(decoder.decode(&bytes).unwrap().event, Event::Xid(5));
}

#[test]
fn a_status_that_is_newer_than_we_are_is_read_as_far_as_it_goes() {
    let format = mysql_format(Checksum::None);
    let mut body = vec![0; 13];
    (body[8], body[11]) = (1, 4);
    body.extend_from_slice(&[18, 255, 0, 77, b'd', 0, b'q']);
    let bytes = encode(&header(EventType::QUERY_EVENT), &Event::Ignorable(&body), Checksum::None);
    let mut decoder = decoder(&format);
    let Event::Query(query) = decoder.decode(&bytes).unwrap().event else { panic!("no query") };
    assert_eq!((query.status.utf8mb4_collation, query.status.unread), (Some(255), Some(77)));
    assert_eq!((query.database, &*query.statement), (&b"d"[..], &b"q"[..]));
}

#[test]
fn a_field_of_a_tagged_gtid_that_must_be_known_is_an_error() {
    let format = mysql_format(Checksum::None);
    let event = Event::Gtid(gtid_event(Some(gtid(7))));
    let kind = EventType::GTID_TAGGED_LOG_EVENT;
    let mut bytes = encode(&header(kind), &event, Checksum::None);
    bytes.extend_from_slice(&[12 << 1, 5 << 1]);
    let (size, message) = (bytes.len(), bytes.len() - HEADER_BYTES);
    bytes[9] = u8::try_from(size).unwrap();
    // The length of the message has two bytes from 128 on; this one is shorter.
    bytes[20] = u8::try_from(message).unwrap() << 1;
    let mut decoder = decoder(&format);
    assert_eq!(decoder.decode(&bytes).unwrap().event, event);
    bytes[21] = 12 << 1;
    let error = decoder.decode(&bytes).unwrap_err();
    assert_eq!((error.field, error.fault), ("field", Fault::Value { found: 12 }));
}

#[test]
fn what_is_packed_is_unpacked_within_bounds() {
    let format = mariadb_format(Checksum::None);
    let kind = EventType::QUERY_COMPRESSED_EVENT;
    let query = Query {
        thread: 1,
        seconds: 2,
        error_code: 0,
        status: Status::default(),
        database: b"",
        statement: vec![b'x'; 1_000].into(),
    };
    let bytes = encode(&header(kind), &Event::Query(query), Checksum::None);
    let limits = UnpackLimits { event_bytes_max: 999, ..UnpackLimits::default() };
    let mut small = Decoder::new(Checksum::None, limits);
    small.decode(&EventWriter::new(format.clone(), 1, 1).format_event()).unwrap();
    let error = small.decode(&bytes).unwrap_err();
    assert_eq!(error.fault, Fault::TooLarge { limit: 999 });
    let mut decoder = decoder(&format);
    for (at, byte) in [(33, 0x94), (33, 0x80), (33, 0x85), (37, 0xE7), (40, 0xFF)] {
        let mut broken = bytes.clone();
        broken[at] = byte;
        let error = decoder.decode(&broken).unwrap_err();
        assert!(matches!(error.fault, Fault::Packed | Fault::Value { .. }), "{at}: {error}");
    }
}

#[test]
fn an_empty_sequence_of_extra_flags_is_no_flags() {
    let gtid = MariaGtid { domain: 1, server: 6, sequence: 3 };
    let event = MariaGtidEvent { commit_id: Some(8), ..maria_event(gtid, 2) };
    let bytes = encode(&header(EventType::GTID_EVENT), &Event::MariaGtid(event), Checksum::None);
    let mut bytes = bytes[..bytes.len() - 1].to_vec();
    while bytes.len() > HEADER_BYTES + 21 {
        bytes.pop();
    }
    bytes[9] = u8::try_from(bytes.len()).unwrap();
    let mut decoder = decoder(&mariadb_format(Checksum::None));
    assert_eq!(decoder.decode(&bytes).unwrap().event, Event::MariaGtid(event));
}
