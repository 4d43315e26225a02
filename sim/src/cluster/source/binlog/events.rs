//! The events of transactions, in the forms of either product.
use std::collections::{BTreeMap, BTreeSet};

use replicator_core::decode::binlog::binlog_encode::{EventWriter, encode, list_entries, pack};
use replicator_core::decode::binlog::event::{
    Event, GtidEvent, GtidList, Header, MariaGtidEvent, Payload, Rotate, Rows,
    RowsKind as EventKind, TableMap as Map, XaId,
};
use replicator_core::decode::binlog::event_type::EventType;
use replicator_core::decode::binlog::format::Checksum;
use replicator_core::decode::binlog::rows::{RowsChange, RowsKind};
use replicator_core::decode::binlog::rows_encode::{RowToSend, encode_rows};
use replicator_core::decode::binlog::table_map::{KeyPart, MapColumn, TableMap};
use replicator_core::decode::binlog::table_map_encode::encode_table_map;
use replicator_core::model::gtid::{AnyGtid, BinlogFlavor, GtidPosition, MariaGtid, Tag};
use replicator_core::model::mutation::{Change, Mutation, TableId};
use replicator_core::model::row::{Cell, Row};

use super::super::messages::{is_rest_of_update, order};
use super::Content;
use crate::cluster::source::DATABASE;
use crate::random::Random;
use crate::schema::schema;

/// The servers, one after the other.
const UUIDS: [&str; 2] =
    ["3e11fa47-71ca-11e1-9e33-c80aa9429562", "4c658ae6-e8ad-11ef-8449-0242ac140006"];

/// The type code of LONGLONG (MySQL's source, `field_types.h`).
const LONGLONG: u8 = 8;

/// How much of the body of an event for a table comes before its variable part.
const MAP_HEADER: u8 = 8;

/// What becomes of an XA transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum XaEnd {
    Commit,
    Rollback,
}

/// Who gives names, and the last number of each kind.
#[derive(Debug)]
pub(super) struct Names {
    pub(super) flavor: BinlogFlavor,
    pub(super) server: u32,
    before: u64,
    // By server and tag, or by domain.
    last: BTreeMap<(u32, &'static str), u64>,
}

impl Names {
    pub(super) fn new(flavor: BinlogFlavor, before: u64) -> Self {
        Self { flavor, server: 1, before, last: BTreeMap::new() }
    }

    pub(super) fn begin(&self) -> String {
        match self.flavor {
            BinlogFlavor::MySql => format!("{}:1-{}", UUIDS[0], self.before),
            BinlogFlavor::MariaDb => format!("0-1-{}", self.before),
        }
    }

    pub(super) fn uuid(&self) -> &'static str {
        UUIDS[usize::try_from(self.server - 1).expect("a small number")]
    }

    /// The other server gives names from here on.
    pub(super) fn take_over(&mut self) {
        self.server = 3 - self.server;
    }

    /// The next name, at times of another kind.
    pub(super) fn next(&mut self, random: &mut Random) -> AnyGtid {
        if random.chance(80) { self.next_plain() } else { self.numbered("app") }
    }

    pub(super) fn next_plain(&mut self) -> AnyGtid {
        self.numbered("")
    }

    fn numbered(&mut self, kind: &'static str) -> AnyGtid {
        // A domain goes on whoever gives the name, a server has numbers of its own.
        let by = match self.flavor {
            BinlogFlavor::MySql => self.server,
            BinlogFlavor::MariaDb => 0,
        };
        let first = if kind.is_empty() && by <= 1 { self.before } else { 0 };
        let last = self.last.entry((by, kind)).or_insert(first);
        *last += 1;
        let number = *last;
        match self.flavor {
            BinlogFlavor::MySql => {
                let tag = if kind.is_empty() { String::new() } else { format!("{kind}:") };
                let text = format!("{}:{tag}{number}", self.uuid_of(by));
                AnyGtid::MySql(text.parse().expect("a GTID"))
            }
            BinlogFlavor::MariaDb => {
                let domain = if kind.is_empty() { 0 } else { 5 };
                AnyGtid::Maria(MariaGtid { domain, server: self.server, sequence: number })
            }
        }
    }

    fn uuid_of(&self, server: u32) -> &'static str {
        UUIDS[usize::try_from(server - 1).expect("a small number")]
    }
}

/// A transaction as it is written mostly, or compressed where the product can.
pub(super) fn transaction(
    writer: &mut EventWriter,
    gtid: AnyGtid,
    content: Content<'_>,
    compressed: bool,
) -> Vec<Vec<u8>> {
    let mut events = vec![named(writer, gtid, content.micros, 0, None)];
    if compressed && let AnyGtid::MySql(_) = gtid {
        let mut inner = writer.clone();
        inner.format.checksum = Checksum::None;
        let mut packed = vec![inner.statement(DATABASE.as_bytes(), b"BEGIN")];
        packed.extend(rows(&mut inner, gtid, content));
        packed.push(inner.event(EventType::XID_EVENT, &Event::Xid(7)));
        let unpacked_bytes = u64::try_from(packed.concat().len()).ok();
        let payload = Payload { zstd: true, unpacked_bytes, data: &pack(&packed) };
        let kind = EventType::TRANSACTION_PAYLOAD_EVENT;
        events.push(writer.event(kind, &Event::Payload(payload)));
        return events;
    }
    if let AnyGtid::MySql(_) = gtid {
        events.push(statement(writer, "BEGIN"));
    }
    events.extend(rows(writer, gtid, content));
    events.push(writer.event(EventType::XID_EVENT, &Event::Xid(7)));
    events
}

/// One that comes to nothing. A server writes it if it also changed tables that know no transactions.
pub(super) fn rolled_back(
    writer: &mut EventWriter,
    gtid: AnyGtid,
    content: Content<'_>,
) -> Vec<Vec<u8>> {
    let mut events = transaction(writer, gtid, content, false);
    events.pop();
    events.push(statement(writer, "ROLLBACK"));
    events
}

/// Rows that wait for an outcome.
pub(super) fn prepared(
    writer: &mut EventWriter,
    gtid: AnyGtid,
    content: Content<'_>,
    number: u64,
) -> Vec<Vec<u8>> {
    let name = number.to_string();
    let xid = XaId { format: 1, gtrid: name.as_bytes(), bqual: b"" };
    let mut events =
        vec![named(writer, gtid, content.micros, MariaGtidEvent::PREPARED_XA, Some(xid))];
    if let AnyGtid::MySql(_) = gtid {
        events.push(statement(writer, &format!("XA START '{name}','',1")));
    }
    events.extend(rows(writer, gtid, content));
    events.push(statement(writer, &format!("XA END '{name}','',1")));
    let prepare = Event::XaPrepare { xid, one_phase: false };
    events.push(writer.event(EventType::XA_PREPARE_LOG_EVENT, &prepare));
    events
}

/// What becomes of them.
pub(super) fn outcome(
    writer: &mut EventWriter,
    gtid: AnyGtid,
    number: u64,
    end: XaEnd,
) -> Vec<Vec<u8>> {
    let name = number.to_string();
    let xid = XaId { format: 1, gtrid: name.as_bytes(), bqual: b"" };
    let verb = if end == XaEnd::Rollback { "ROLLBACK" } else { "COMMIT" };
    vec![
        named(writer, gtid, 0, MariaGtidEvent::COMPLETED_XA, Some(xid)),
        statement(writer, &format!("XA {verb} '{name}','',1")),
    ]
}

/// A table is laid out in another way.
pub(super) fn alter(writer: &mut EventWriter, gtid: AnyGtid, table: &str) -> Vec<Vec<u8>> {
    let alone = MariaGtidEvent::STANDALONE | MariaGtidEvent::DDL;
    vec![
        named(writer, gtid, 0, alone, None),
        statement(writer, &format!("ALTER TABLE `{table}` MODIFY COLUMN a BIGINT FIRST")),
    ]
}

/// Rows of another database, a statement there, or nothing.
pub(super) fn other(
    writer: &mut EventWriter,
    gtid: AnyGtid,
    number: usize,
    micros: u64,
) -> Vec<Vec<u8>> {
    if number.is_multiple_of(3) {
        let alone = MariaGtidEvent::STANDALONE | MariaGtidEvent::DDL;
        let text = format!("CREATE TABLE t{number} (id BIGINT PRIMARY KEY)");
        return vec![
            named(writer, gtid, micros, alone, None),
            writer.statement(b"elsewhere", text.as_bytes()),
        ];
    }
    let mut events = vec![named(writer, gtid, micros, 0, None)];
    if let AnyGtid::MySql(_) = gtid {
        events.push(writer.statement(b"elsewhere", b"BEGIN"));
    }
    if number % 3 == 1 {
        let mut map = table_map(TableId(0), 0, true);
        map.schema = "elsewhere".to_owned();
        let after = vec![Cell::Text(b"1"); map.columns.len()];
        let row = RowToSend { before: Vec::new(), after };
        events.extend(row_events(writer, gtid, &map, RowsChange::Write, &row));
    }
    events.push(writer.statement(b"elsewhere", b"COMMIT"));
    events
}

/// The last event of a file.
pub(super) fn rotate(writer: &mut EventWriter, next: &str) -> Vec<u8> {
    let rotate = Rotate { position: 4, file: next.as_bytes() };
    writer.event(EventType::ROTATE_EVENT, &Event::Rotate(rotate))
}

/// What a file says of those before it.
pub(super) fn before(writer: &mut EventWriter, executed: &GtidPosition) -> Vec<u8> {
    match executed {
        GtidPosition::MySql(set) => {
            let kind = EventType::PREVIOUS_GTIDS_LOG_EVENT;
            writer.event(kind, &Event::PreviousGtids(set.clone()))
        }
        GtidPosition::Maria(position) => {
            let entries = list_entries(position.iter());
            let list = GtidList::new(0, &entries).expect("whole entries");
            writer.event(EventType::GTID_LIST_EVENT, &Event::GtidList(list))
        }
    }
}

/// A server names the file whose events follow.
pub(super) fn leading(writer: &EventWriter, file: &str) -> Vec<u8> {
    let rotate = Rotate { position: 4, file: file.as_bytes() };
    made_up(writer, EventType::ROTATE_EVENT, &Event::Rotate(rotate))
}

/// A server has nothing to say.
pub(super) fn heartbeat(writer: &EventWriter, file: &str) -> Vec<u8> {
    let position = u64::from(writer.position);
    let beat = Event::Heartbeat { file: file.as_bytes(), position };
    made_up(writer, EventType::HEARTBEAT_LOG_EVENT, &beat)
}

/// An event that is in no file.
fn made_up(writer: &EventWriter, kind: EventType, event: &Event<'_>) -> Vec<u8> {
    let end = if kind == EventType::HEARTBEAT_LOG_EVENT { writer.position } else { 0 };
    let flags = Header::ARTIFICIAL;
    let header = Header { seconds: 0, kind, server: writer.server, size: 0, end, flags };
    encode(&header, event, writer.format.checksum)
}

fn statement(writer: &mut EventWriter, text: &str) -> Vec<u8> {
    writer.statement(DATABASE.as_bytes(), text.as_bytes())
}

/// The event that names a transaction. The flags are MariaDB's.
fn named(
    writer: &mut EventWriter,
    gtid: AnyGtid,
    micros: u64,
    flags: u8,
    xid: Option<XaId<'_>>,
) -> Vec<u8> {
    match gtid {
        AnyGtid::MySql(gtid) => {
            let event = GtidEvent {
                gtid: Some(gtid),
                flags: 1,
                last_committed: 0,
                sequence_number: Some(1),
                immediate_commit: Some(micros),
                original_commit: None,
                transaction_bytes: Some(200),
                immediate_version: Some(90_704),
                original_version: None,
                commit_group_ticket: None,
            };
            let plain = gtid.tsid.tag == Tag::default();
            let (untagged, tagged) = (EventType::GTID_LOG_EVENT, EventType::GTID_TAGGED_LOG_EVENT);
            writer.event(if plain { untagged } else { tagged }, &Event::Gtid(event))
        }
        AnyGtid::Maria(gtid) => {
            let event = MariaGtidEvent {
                gtid,
                flags,
                commit_id: None,
                xid,
                extra_flags: 0,
                extra_engines: None,
                alter_sequence: None,
                thread: None,
            };
            writer.event(EventType::GTID_EVENT, &Event::MariaGtid(event))
        }
    }
}

/// The rows of a transaction, each in an event of its own behind the description of its table.
fn rows(writer: &mut EventWriter, gtid: AnyGtid, content: Content<'_>) -> Vec<Vec<u8>> {
    let Content { mutations, changes, had, layout, is_named, .. } = content;
    let (mut events, mut touched) = (Vec::new(), BTreeSet::new());
    let mut mutations = mutations.iter().zip(changes).peekable();
    while let Some((mutation, does)) = mutations.next() {
        touched.insert((does.table, &does.key));
        // A row gets a new key only if no other has it.
        let next = mutations.next_if(|(next, does)| {
            let is_free = !had.rows(does.table).contains_key(&does.key)
                && !touched.contains(&(does.table, &does.key));
            is_free && is_rest_of_update(mutation, next)
        });
        let next = next.map(|(next, does)| {
            touched.insert((does.table, &does.key));
            next
        });
        let map = table_map(mutation.table, layout, is_named);
        let order = order(mutation.table, schema().catalog.table(mutation.table), layout);
        let (change, row) = change(mutation, next, &order);
        events.extend(row_events(writer, gtid, &map, change, &row));
    }
    events
}

/// An update that changed everything has a whole image behind it; of the row before, and of one that is gone, only
/// the key is sent (`binlog_row_image` MINIMAL).
fn change<'a>(
    mutation: &'a Mutation,
    next: Option<&'a Mutation>,
    order: &[u16],
) -> (RowsChange, RowToSend<'a>) {
    let key = &schema().catalog.table(mutation.table).key;
    let all = |row: &'a Row| image(row, order, None);
    let keys = |row: &'a Row| image(row, order, Some(key));
    match (&mutation.change, next.map(|next| &next.change)) {
        (Change::Delete(from), Some(Change::Upsert(to))) | (Change::Move { from, to }, _) => {
            (RowsChange::Update, RowToSend { before: keys(from), after: all(to) })
        }
        (Change::Insert(row), _) => {
            (RowsChange::Write, RowToSend { before: Vec::new(), after: all(row) })
        }
        (Change::Upsert(row) | Change::Update(row), _) => {
            (RowsChange::Update, RowToSend { before: keys(row), after: all(row) })
        }
        (Change::Delete(row), _) => {
            (RowsChange::Delete, RowToSend { before: keys(row), after: Vec::new() })
        }
        (Change::Truncate, _) => panic!("a truncate is a statement of its own"),
    }
}

/// The cells of a row in the source's order; those that are not in `only` are not sent.
fn image<'a>(row: &'a Row, order: &[u16], only: Option<&Vec<u16>>) -> Vec<Cell<'a>> {
    let cells: BTreeMap<u16, Cell<'a>> = row.columns().collect();
    let cell = |column: &u16| match only {
        Some(only) if !only.contains(column) => Cell::Unchanged,
        Some(_) | None => cells[column],
    };
    order.iter().map(cell).collect()
}

fn table_map(id: TableId, layout: usize, is_named: bool) -> TableMap {
    let table = schema().catalog.table(id);
    let order = order(id, table, layout);
    let column = |number: &u16| {
        let column = table.column(*number);
        MapColumn {
            code: LONGLONG,
            nullable: column.nullable,
            name: is_named.then(|| column.name.clone()),
            unsigned: Some(false),
            ..MapColumn::default()
        }
    };
    let part = |key: &u16| {
        let place = order.iter().position(|column| column == key).expect("a column of the table");
        KeyPart { column: u16::try_from(place).expect("few columns"), prefix: 0 }
    };
    TableMap {
        // A table that was altered has another number.
        table_id: u64::from(id.0) + 100 + 50 * u64::try_from(layout).expect("few layouts"),
        flags: 0,
        schema: DATABASE.to_owned(),
        table: table.name.table.clone(),
        columns: order.iter().map(column).collect(),
        primary_key: table.key.iter().map(part).collect(),
    }
}

fn row_events(
    writer: &mut EventWriter,
    gtid: AnyGtid,
    map: &TableMap,
    change: RowsChange,
    row: &RowToSend<'_>,
) -> [Vec<u8>; 2] {
    let (flavor, extra, header) = match gtid {
        AnyGtid::MySql(_) => (BinlogFlavor::MySql, true, 10),
        AnyGtid::Maria(_) => (BinlogFlavor::MariaDb, false, 8),
    };
    let body = encode_table_map(map, MAP_HEADER, flavor);
    let post_header_bytes = usize::from(MAP_HEADER);
    let described = Map { table: map.table_id, flags: 0, post_header_bytes, body: &body };
    let described = writer.event(EventType::TABLE_MAP_EVENT, &Event::TableMap(described));
    let flags = Rows::STATEMENT_END;
    let kind = RowsKind { change, extra, partial: false };
    let body = encode_rows(map, kind, header, flags, std::slice::from_ref(row));
    let (kind, code) = match (change, extra) {
        (RowsChange::Write, true) => (EventKind::Write, EventType::WRITE_ROWS_EVENT),
        (RowsChange::Update, true) => (EventKind::Update, EventType::UPDATE_ROWS_EVENT),
        (RowsChange::Delete, true) => (EventKind::Delete, EventType::DELETE_ROWS_EVENT),
        (RowsChange::Write, false) => (EventKind::Write, EventType::WRITE_ROWS_EVENT_V1),
        (RowsChange::Update, false) => (EventKind::Update, EventType::UPDATE_ROWS_EVENT_V1),
        (RowsChange::Delete, false) => (EventKind::Delete, EventType::DELETE_ROWS_EVENT_V1),
    };
    let rows = Rows {
        kind,
        has_extra: extra,
        table: map.table_id,
        flags,
        post_header_bytes: usize::from(header),
        body: body.into(),
    };
    [described, writer.event(code, &Event::Rows(rows))]
}
