//! The check of the binlog decoder and of what puts its events together.
//!
//! The input is items of a length (two bytes, big endian) and as many bytes. Each is an event; its size
//! and its checksum are put right first, or a fuzzer would never get beyond them.
use std::collections::BTreeSet;

use replicator_core::decode::binlog::binlog_encode::{
    EventWriter, body, encode, list_entries, mariadb_format, mysql_57_format, mysql_format, pack,
    seal,
};
use replicator_core::decode::binlog::decoder::{Decoder, UnpackLimits};
use replicator_core::decode::binlog::event::{
    Decoded, Event, GtidEvent, GtidList, MariaGtidEvent, Payload, Rotate, Rows, RowsKind, TableMap,
    XaId,
};
use replicator_core::decode::binlog::event_type::EventType;
use replicator_core::decode::binlog::file::Events;
use replicator_core::decode::binlog::format::{Checksum, Format};
use replicator_core::decode::binlog::query::Query;
use replicator_core::decode::binlog::step::{Step, TransactionLimits};
use replicator_core::decode::binlog::transactions::Transactions;
use replicator_core::decode::binlog::{Altered, TransactionError};
use replicator_core::model::gtid::{AnyGtid, GtidPosition, GtidSet, MariaPosition};

use crate::pgoutput::frame_item;

/// Small, so that inputs of a few thousand bytes reach them.
const LIMITS: TransactionLimits = TransactionLimits {
    unpack: UnpackLimits {
        transaction_bytes_max: 1 << 16,
        event_bytes_max: 1 << 13,
        window_bytes_max: 1 << 20,
    },
    prepared_bytes_max: 1 << 12,
    savepoints_max: 4,
};

/// Reads the input as the events of one stream, of MySQL and of MariaDB; returns how many steps came
/// out before it ended or was refused.
///
/// # Panics
///
/// A decoder broke a promise.
pub(crate) fn binlog(input: &[u8]) -> usize {
    // A file by itself.
    if let Ok(mut events) = Events::new(input) {
        while let Ok(Some(_)) = events.next_event() {}
    }
    let mysql = Stream::new(GtidPosition::MySql(GtidSet::new())).read(input);
    mysql + Stream::new(GtidPosition::Maria(MariaPosition::new())).read(input)
}

struct Stream {
    decoder: Decoder,
    transactions: Transactions,
    story: Story,
}

/// What the steps so far have been.
#[derive(Default)]
struct Story {
    count: usize,
    open: Option<AnyGtid>,
    marks: BTreeSet<usize>,
    // Committed or rolled back by the last event.
    ended: Option<AnyGtid>,
}

impl Stream {
    fn new(position: GtidPosition) -> Self {
        Self {
            decoder: Decoder::new(Checksum::None, LIMITS.unpack),
            transactions: Transactions::new(position, Checksum::None, LIMITS),
            story: Story::default(),
        }
    }

    fn read(mut self, mut input: &[u8]) -> usize {
        while let Some((len, rest)) = input.split_first_chunk::<2>() {
            let len = usize::from(u16::from_be_bytes(*len)).min(rest.len());
            let (item, rest) = rest.split_at(len);
            input = rest;
            let mut item = item.to_vec();
            seal(&mut item, self.decoder.format().map_or(Checksum::None, |format| format.checksum));
            // What a server makes for us may come before the format is known.
            if let Ok(decoded) = self.decoder.decode(&item)
                && let Some(format) = self.decoder.format()
            {
                check_again(format, &decoded);
            }
            let story = &mut self.story;
            story.ended = None;
            let read: Result<(), TransactionError> = self.transactions.event(&item, |step| {
                story.step(&step);
                Ok(())
            });
            if read.is_err() {
                break;
            }
            self.check();
        }
        self.story.count
    }

    fn check(&self) {
        if self.story.open.is_some() {
            assert!(self.transactions.is_open(), "a transaction has ended in silence");
        }
        let executed = self.transactions.executed();
        let resumable = self.transactions.resumable().expect("few runs");
        let (ended, none_waits) = (self.story.ended, self.transactions.prepared_len() == 0);
        match (executed, &resumable) {
            (GtidPosition::MySql(executed), GtidPosition::MySql(resumable)) => {
                assert!(resumable.is_subset(executed), "{resumable} is beyond {executed}");
                if let Some(AnyGtid::MySql(gtid)) = ended {
                    assert!(resumable.contains(gtid), "{gtid} is not in {resumable}");
                }
            }
            (GtidPosition::Maria(_), GtidPosition::Maria(resumable)) => {
                if let Some(AnyGtid::Maria(gtid)) = ended.filter(|_| none_waits) {
                    assert_eq!(resumable.last(gtid.domain), Some(gtid), "in {resumable}");
                }
            }
            (GtidPosition::MySql(_), GtidPosition::Maria(_))
            | (GtidPosition::Maria(_), GtidPosition::MySql(_)) => panic!("another product"),
        }
        assert!(!none_waits || *executed == resumable, "{executed} is not {resumable}");
    }
}

impl Story {
    fn step(&mut self, step: &Step<'_>) {
        self.count += 1;
        match step {
            Step::Begin(begin) => {
                assert_eq!(self.open, None, "a transaction inside of another");
                (self.open, self.marks) = (Some(begin.gtid), BTreeSet::new());
            }
            Step::TableMap(_) | Step::Rows(_) | Step::RowsQuery(_) => {
                assert!(self.open.is_some(), "{step:?} outside of a transaction");
            }
            Step::Statement(query, _) => {
                assert!(self.open.is_some(), "{step:?} outside of a transaction");
                let altered = query.altered("shop");
                let names = matches!(altered, Altered::Tables(tables) if !tables.is_empty());
                assert!(!names || query.may_change("shop"), "{query:?} is of another database");
            }
            Step::Savepoint(number) => {
                assert!(self.open.is_some() && *number < LIMITS.savepoints_max);
                self.marks.insert(*number);
            }
            Step::RollbackTo(number) => assert!(self.marks.contains(number), "no mark {number}"),
            Step::Commit(gtid) | Step::Rollback(gtid) => {
                assert_eq!(self.open.take(), Some(*gtid), "not the one that began");
                assert_eq!(self.ended, None, "two by one event");
                self.ended = Some(*gtid);
            }
            Step::Prepared(_) => assert_eq!(self.open, None, "prepared inside of another"),
            Step::Idle => assert_eq!(self.open, None, "idle inside of a transaction"),
            // It may not have begun yet.
            Step::Abandoned(gtid) => {
                assert!(
                    self.open.take().is_none_or(|open| open == *gtid),
                    "not the one that began"
                );
            }
        }
    }
}

/// What was read survives being written and read, where nothing was left out.
fn check_again(format: &Format, decoded: &Decoded<'_>) {
    let kind = decoded.header.kind;
    let usual = mariadb_format(Checksum::None);
    let as_usual = format.post_header(kind) == usual.post_header(kind);
    // They may have more than 250 columns.
    let packed_rows = (166..=171).contains(&kind.0);
    let longer = if let Event::Gtid(event) = &decoded.event {
        // What is in the post-header behind its fields is not kept.
        event.sequence_number.is_none() || event.flags & 1 == 0
    } else {
        matches!(decoded.event, Event::MariaGtid(_) | Event::RowsQuery(_) | Event::Format(_))
    };
    if !as_usual || packed_rows || longer {
        return;
    }
    let bytes = encode(&decoded.header, &decoded.event, format.checksum);
    let mut decoder = Decoder::new(Checksum::None, LIMITS.unpack);
    let mut writer = EventWriter::new(format.clone(), 1, 1);
    if decoder.decode(&writer.format_event()).is_ok() {
        let again = decoder.decode(&bytes).expect("what was written can be read");
        assert_eq!(again.event, decoded.event, "an event does not survive");
    }
}

const UUID: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";

/// A server that writes a stream.
struct Server {
    writer: EventWriter,
    items: Vec<u8>,
}

impl Server {
    fn new(format: Format) -> Self {
        let mut writer = EventWriter::new(format, 1, 1_700_000_000);
        let items = frame_item(&writer.format_event());
        Self { writer, items }
    }

    fn push(mut self, kind: EventType, event: &Event<'_>) -> Self {
        self.items.extend(frame_item(&self.writer.event(kind, event)));
        self
    }

    /// `7` or `tag:7`.
    fn gtid(self, text: &str) -> Self {
        let event = Event::Gtid(GtidEvent {
            gtid: format!("{UUID}:{text}").parse().ok(),
            flags: 1,
            last_committed: 1,
            sequence_number: Some(2),
            immediate_commit: Some(1_700_000_000_000_000),
            original_commit: None,
            transaction_bytes: Some(200),
            immediate_version: Some(90_704),
            original_version: None,
            commit_group_ticket: None,
        });
        let tagged = text.contains(':');
        let (plain, tag) = (EventType::GTID_LOG_EVENT, EventType::GTID_TAGGED_LOG_EVENT);
        self.push(if tagged { tag } else { plain }, &event)
    }

    fn maria_gtid(mut self, text: &str, flags: u8, xid: Option<XaId<'_>>) -> Self {
        let event = MariaGtidEvent {
            gtid: text.parse().expect("a GTID"),
            flags,
            commit_id: None,
            xid,
            extra_flags: 0,
            extra_engines: None,
            alter_sequence: None,
            thread: None,
        };
        self.writer.server = event.gtid.server;
        self.push(EventType::GTID_EVENT, &Event::MariaGtid(event))
    }

    fn query(mut self, text: &str) -> Self {
        self.items.extend(frame_item(&self.writer.statement(b"d", text.as_bytes())));
        self
    }

    fn rows(self, kind: EventType, change: RowsKind, v2: bool) -> Self {
        let map = body(5, 0, None, b"map");
        let map = TableMap { table: 5, flags: 0, post_header_bytes: 8, body: &map };
        let server = self.push(EventType::TABLE_MAP_EVENT, &Event::TableMap(map));
        let body = body(5, Rows::STATEMENT_END, v2.then_some(&[]), &[3, 7, 7, 0, 1, 2, 3]);
        let post_header_bytes = if v2 { 10 } else { 8 };
        let rows = Rows {
            kind: change,
            has_extra: v2,
            table: 5,
            flags: Rows::STATEMENT_END,
            post_header_bytes,
            body: body.into(),
        };
        server.push(kind, &Event::Rows(rows))
    }

    fn write(self) -> Self {
        self.rows(EventType::WRITE_ROWS_EVENT, RowsKind::Write, true)
    }

    fn xid(self) -> Self {
        self.push(EventType::XID_EVENT, &Event::Xid(9))
    }

    fn xa_prepare(self, one_phase: bool) -> Self {
        let xid = XaId { format: 1, gtrid: b"a", bqual: b"" };
        self.push(EventType::XA_PREPARE_LOG_EVENT, &Event::XaPrepare { xid, one_phase })
    }
}

/// A stream of MySQL without checksums.
fn mysql() -> Server {
    Server::new(mysql_format(Checksum::None))
}

/// A stream of MariaDB with checksums.
fn maria() -> Server {
    Server::new(mariadb_format(Checksum::Crc32))
}

/// Hand-made streams.
pub(crate) fn binlog_corpus() -> Vec<(&'static str, Vec<u8>)> {
    let usual = mysql().gtid("1").query("BEGIN").write().xid();
    let mut cut = usual.items.clone();
    cut.truncate(cut.len() - 20);
    let mut all = vec![
        ("empty", Vec::new()),
        ("cut-short", cut),
        ("usual", usual.items),
        ("tagged", mysql().gtid("tag:1").query("BEGIN").write().query("COMMIT").items),
        ("statement", mysql().gtid("1").query("DROP TABLE `t` /* generated by server */").items),
        ("rollback", mysql().gtid("1").query("BEGIN").write().query("ROLLBACK").gtid("2").items),
        ("refused-unknown", mysql().push(EventType(99), &Event::Ignorable(b"?")).items),
        ("refused-outside", mysql().query("BEGIN").items),
        ("others", others()),
        ("before-the-format", before_the_format()),
        ("compressed", compressed()),
        ("largest", largest()),
    ];
    all.extend(xa());
    all.extend(of_mariadb());
    for (name, file) in [
        (
            "real-mysql-9.7",
            &include_bytes!("../../core/tests/fixtures/binlog/mysql-9.7-begin.binlog")[..],
        ),
        (
            "real-mysql-9.7-packed",
            include_bytes!("../../core/tests/fixtures/binlog/mysql-9.7-packed.binlog"),
        ),
        (
            "real-mariadb-11.8",
            include_bytes!("../../core/tests/fixtures/binlog/mariadb-11.8-begin.binlog"),
        ),
        (
            "real-mariadb-11.8-packed",
            include_bytes!("../../core/tests/fixtures/binlog/mariadb-11.8-packed.binlog"),
        ),
    ] {
        all.push((name, real(file)));
    }
    all
}

/// The events of a file, but what says which transactions were before it: the check begins with none.
fn real(file: &[u8]) -> Vec<u8> {
    let mut events = Events::new(file).expect("a binlog");
    let mut items = Vec::new();
    while let Some(event) = events.next_event().expect("a whole event") {
        let before = [EventType::PREVIOUS_GTIDS_LOG_EVENT, EventType::GTID_LIST_EVENT];
        if !before.contains(&EventType(event[4])) {
            items.extend(frame_item(event));
        }
    }
    items
}

fn others() -> Vec<u8> {
    let file = &b"binlog.000002"[..];
    let old = Server::new(mysql_57_format(Checksum::Crc32));
    let server = old
        .push(EventType::PREVIOUS_GTIDS_LOG_EVENT, &Event::PreviousGtids(GtidSet::new()))
        .gtid("1")
        .query("BEGIN")
        .push(EventType::ROWS_QUERY_LOG_EVENT, &Event::RowsQuery(b"UPDATE t"))
        .rows(EventType::UPDATE_ROWS_EVENT_V1, RowsKind::Update, false)
        .query("SAVEPOINT `a`")
        .rows(EventType::DELETE_ROWS_EVENT_V1, RowsKind::Delete, false)
        .query("ROLLBACK TO `a`")
        .xid()
        .push(EventType::HEARTBEAT_LOG_EVENT, &Event::Heartbeat { file, position: 0 })
        .push(EventType::VIEW_CHANGE_EVENT, &Event::Group(&[0; 52]))
        .push(EventType::ROTATE_EVENT, &Event::Rotate(Rotate { position: 4, file }));
    let beat = Event::Heartbeat { file, position: 1 << 33 };
    let next = mysql().push(EventType::HEARTBEAT_LOG_EVENT_V2, &beat);
    let next = next.push(EventType::STOP_EVENT, &Event::Stop);
    [server.items, next.items].concat()
}

/// What a server sends first: the file that follows.
fn before_the_format() -> Vec<u8> {
    let mut server = mysql();
    let file = Event::Rotate(Rotate { position: 4, file: b"binlog.000001" });
    let mut first = EventWriter::new(mysql_format(Checksum::None), 1, 0);
    let mut rotate = first.event(EventType::ROTATE_EVENT, &file);
    // The flags of the header.
    rotate[17] = 0x20;
    let rest = std::mem::replace(&mut server.items, frame_item(&rotate));
    server.items.extend(rest);
    server.gtid("1").query("BEGIN").write().xid().items
}

fn compressed() -> Vec<u8> {
    let mut writer = EventWriter::new(mysql_format(Checksum::None), 1, 1);
    let events = [
        writer.statement(b"d", b"BEGIN"),
        writer.event(EventType::ROWS_QUERY_LOG_EVENT, &Event::RowsQuery(&[b'x'; 300])),
        writer.event(EventType::XID_EVENT, &Event::Xid(1)),
    ];
    let unpacked_bytes = u64::try_from(events.concat().len()).ok();
    let payload = Payload { zstd: true, unpacked_bytes, data: &pack(&events) };
    let kind = EventType::TRANSACTION_PAYLOAD_EVENT;
    mysql().gtid("1").push(kind, &Event::Payload(payload)).items
}

fn xa() -> Vec<(&'static str, Vec<u8>)> {
    let held = |server: Server, gtid| {
        server.gtid(gtid).query("XA START X'61',X'',1").write().query("XA END X'61',X'',1")
    };
    let prepared = || held(mysql(), "1").xa_prepare(false);
    vec![
        ("xa-commit", prepared().gtid("2").query("XA COMMIT X'61',X'',1").items),
        ("xa-rollback", prepared().gtid("2").query("XA ROLLBACK X'61',X'',1").items),
        ("xa-one-phase", held(mysql(), "1").xa_prepare(true).items),
        ("xa-waits", prepared().gtid("2").query("BEGIN").write().xid().items),
        ("refused-xa-unknown", mysql().gtid("1").query("XA COMMIT X'62',X'',1").items),
    ]
}

fn of_mariadb() -> Vec<(&'static str, Vec<u8>)> {
    let xid = XaId { format: 1, gtrid: b"a", bqual: b"" };
    let entries = list_entries(["0-1-5", "0-2-6"].map(|text| text.parse().expect("a GTID")));
    let list = GtidList::new(0, &entries).expect("whole entries");
    let statement = Event::Query(Query {
        thread: 1,
        seconds: 0,
        error_code: 0,
        status: Default::default(),
        database: b"d",
        statement: b"DROP TABLE t"[..].into(),
    });
    let packed = maria()
        .maria_gtid("0-1-1", MariaGtidEvent::STANDALONE, None)
        .push(EventType::QUERY_COMPRESSED_EVENT, &statement)
        .maria_gtid("0-1-2", 0, None)
        .rows(EventType::UPDATE_ROWS_COMPRESSED_EVENT_V1, RowsKind::Update, false)
        .rows(EventType::WRITE_ROWS_COMPRESSED_EVENT, RowsKind::Write, true)
        .xid();
    let xa = maria()
        .maria_gtid("0-1-1", MariaGtidEvent::PREPARED_XA, Some(xid))
        .rows(EventType::WRITE_ROWS_EVENT_V1, RowsKind::Write, false)
        .query("XA END X'61',X'',1")
        .xa_prepare(false)
        .maria_gtid("0-1-2", MariaGtidEvent::COMPLETED_XA, Some(xid))
        .query("XA COMMIT X'61',X'',1");
    let usual = maria()
        .push(EventType::GTID_LIST_EVENT, &Event::GtidList(list))
        .push(EventType::BINLOG_CHECKPOINT_EVENT, &Event::Checkpoint(b"binlog.000001"))
        .maria_gtid("0-1-7", 0, None)
        .push(EventType::ANNOTATE_ROWS_EVENT, &Event::RowsQuery(b"INSERT"))
        .rows(EventType::WRITE_ROWS_EVENT_V1, RowsKind::Write, false)
        .xid();
    vec![
        ("mariadb", usual.items),
        ("mariadb-packed", packed.items),
        ("mariadb-xa", xa.items),
        ("refused-encrypted", maria().push(EventType(164), &Event::Ignorable(&[1; 17])).items),
    ]
}

/// Many savepoints and rows.
fn largest() -> Vec<u8> {
    let mut server = mysql();
    for number in 1..20 {
        server = server.gtid(&number.to_string()).query("BEGIN");
        for _ in 0..4 {
            server = server.query("SAVEPOINT a").write().query("ROLLBACK TO a");
        }
        server = server.xid();
    }
    server.items
}
