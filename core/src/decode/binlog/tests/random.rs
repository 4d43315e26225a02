//! Random events written and read again, and random bytes read.
use alloc::vec;

use proptest::collection::vec as many;
use proptest::option;
use proptest::prelude::*;

use super::super::binlog_encode::{body, encode, mariadb_format, mysql_57_format, mysql_format};
use super::super::event::{Event, GtidEvent, RowsKind};
use super::super::event_type::EventType;
use super::super::format::Checksum;
use super::super::query::{Query, Status};
use super::events::{check, decoder, header};
use super::fixture::rows;
use crate::model::gtid::{GNO_MAX, Gtid, GtidSet, Tag, Tsid, Uuid};

fn gtids() -> impl Strategy<Value = GtidEvent> {
    let name = (any::<[u8; 16]>(), "[a-z_]{0,32}", 1..=GNO_MAX);
    let times = (0..1_u64 << 55, option::of(0..1_u64 << 55));
    let versions = (0..1_u32 << 31, option::of(any::<u32>()));
    let numbers = (any::<i64>(), any::<i64>(), any::<u64>(), option::of(any::<u64>()));
    (name, any::<u8>(), times, versions, numbers).prop_map(
        |((uuid, tag, gno), flags, times, versions, numbers)| GtidEvent {
            gtid: Some(Gtid {
                tsid: Tsid { uuid: Uuid(uuid), tag: Tag::new(tag.as_bytes()).unwrap() },
                gno,
            }),
            flags,
            last_committed: numbers.0,
            sequence_number: Some(numbers.1),
            immediate_commit: Some(times.0),
            original_commit: times.1,
            transaction_bytes: Some(numbers.2),
            immediate_version: Some(versions.0),
            original_version: versions.1,
            commit_group_ticket: numbers.3,
        },
    )
}

proptest! {
    #[test]
    fn a_gtid_survives_both_forms(event in gtids()) {
        let format = mysql_format(Checksum::Crc32);
        check(&format, EventType::GTID_TAGGED_LOG_EVENT, &Event::Gtid(event));
        let gtid = event.gtid.map(|gtid| Gtid { tsid: Tsid { tag: Tag::NONE, ..gtid.tsid }, ..gtid });
        check(&format, EventType::GTID_LOG_EVENT, &Event::Gtid(GtidEvent { gtid, ..event }));
    }

    #[test]
    fn rows_survive_packing(
        columns in 0..250_u8, rows_of in many(any::<u8>(), 64..400), v2 in any::<bool>(),
    ) {
        let mut rest = vec![columns];
        rest.extend_from_slice(&rows_of);
        let body = body(5, 1, v2.then_some(&[]), &rest);
        let v1 = [
            (RowsKind::Write, EventType::WRITE_ROWS_COMPRESSED_EVENT_V1),
            (RowsKind::Update, EventType::UPDATE_ROWS_COMPRESSED_EVENT_V1),
        ];
        for (kind, EventType(packed)) in v1 {
            let packed = EventType(packed.saturating_add(if v2 { 3 } else { 0 }));
            check(&mariadb_format(Checksum::None), packed, &Event::Rows(rows(kind, v2, &body)));
        }
    }

    #[test]
    fn texts_survive(text in many(any::<u8>(), 0..600), database in "[a-z]{0,60}") {
        let query = Query {
            thread: 1,
            seconds: 2,
            error_code: 3,
            status: Status::default(),
            database: database.as_bytes(),
            statement: text.into(),
        };
        let event = Event::Query(query);
        check(&mariadb_format(Checksum::Crc32), EventType::QUERY_COMPRESSED_EVENT, &event);
        check(&mysql_57_format(Checksum::Crc32), EventType::QUERY_EVENT, &event);
    }

    #[test]
    fn no_bytes_make_it_panic(kind in any::<u8>(), body in many(any::<u8>(), 0..120)) {
        for format in [mysql_format(Checksum::None), mariadb_format(Checksum::None)] {
            let header = header(EventType(kind));
            let bytes = encode(&header, &Event::Ignorable(&body), Checksum::None);
            if let Ok(read) = decoder(&format).decode(&bytes) {
                prop_assert_eq!(read.header.kind, EventType(kind));
            }
        }
    }

    #[test]
    fn a_set_survives(numbers in many((0..3_u8, 1..99_u64), 0..20)) {
        let mut set = GtidSet::new();
        for (source, gno) in numbers {
            let tsid = Tsid { uuid: Uuid([source; 16]), tag: Tag::NONE };
            set.insert(Gtid { tsid, gno }).unwrap();
        }
        let event = Event::PreviousGtids(set);
        check(&mysql_format(Checksum::Crc32), EventType::PREVIOUS_GTIDS_LOG_EVENT, &event);
    }
}
