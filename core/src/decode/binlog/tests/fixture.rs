//! A small server, and what its events become.
use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::super::TransactionError;
use super::super::binlog_encode::{EventWriter, body, encode, mariadb_format, mysql_format, pack};
use super::super::event::{
    Event, GtidEvent, Header, MariaGtidEvent, Payload, Rows, RowsKind, TableMap, XaId,
};
use super::super::event_type::EventType;
use super::super::format::{Checksum, Format};
use super::super::step::{Step, TransactionLimits};
use super::super::transactions::Transactions;
use crate::model::gtid::{AnyGtid, Gtid, GtidPosition, MariaGtid};

/// The UUID that small tests use.
pub(super) const UUID: &str = "11111111-1111-1111-1111-111111111111";

pub(super) fn gtid(number: u64) -> Gtid {
    format!("{UUID}:{number}").parse().unwrap()
}

/// An event that names a transaction, with all its fields.
pub(super) fn gtid_event(gtid: Option<Gtid>) -> GtidEvent {
    GtidEvent {
        gtid,
        flags: 1,
        last_committed: 3,
        sequence_number: Some(4),
        immediate_commit: Some(1_700_000_000_000_001),
        original_commit: Some(1_700_000_000_000_000),
        transaction_bytes: Some(300),
        immediate_version: Some(90_704),
        original_version: Some(80_044),
        commit_group_ticket: Some(9),
    }
}

pub(super) fn maria_event(gtid: MariaGtid, flags: u8) -> MariaGtidEvent<'static> {
    MariaGtidEvent {
        gtid,
        flags,
        commit_id: None,
        xid: None,
        extra_flags: 0,
        extra_engines: None,
        alter_sequence: None,
        thread: None,
    }
}

pub(super) fn rows(kind: RowsKind, has_extra: bool, body: &[u8]) -> Rows<'_> {
    let post_header_bytes = if has_extra { 10 } else { 8 };
    Rows { kind, has_extra, table: 5, flags: 1, post_header_bytes, body: body.into() }
}

/// A server with one connection to us.
pub(super) struct Server {
    pub(super) writer: EventWriter,
    pub(super) transactions: Transactions,
    pub(super) sent: Vec<Vec<u8>>,
}

impl Server {
    pub(super) fn mysql(position: &str) -> Self {
        let position = GtidPosition::MySql(position.parse().unwrap());
        Self::new(mysql_format(Checksum::Crc32), position, TransactionLimits::default())
    }

    pub(super) fn maria(position: &str) -> Self {
        let position = GtidPosition::Maria(position.parse().unwrap());
        Self::new(mariadb_format(Checksum::None), position, TransactionLimits::default())
    }

    pub(super) fn new(format: Format, position: GtidPosition, limits: TransactionLimits) -> Self {
        let transactions = Transactions::new(position, format.checksum, limits);
        let mut writer = EventWriter::new(format, 1, 1_700_000_000);
        let sent = alloc::vec![writer.format_event()];
        Self { writer, transactions, sent }
    }

    pub(super) fn push(&mut self, kind: EventType, event: &Event<'_>) -> &mut Self {
        let bytes = self.writer.event(kind, event);
        self.sent.push(bytes);
        self
    }

    pub(super) fn gtid(&mut self, number: u64) -> &mut Self {
        let event = Event::Gtid(gtid_event(Some(gtid(number))));
        self.push(EventType::GTID_LOG_EVENT, &event)
    }

    /// `0-1-5` with flags.
    pub(super) fn maria_gtid(&mut self, text: &str, flags: u8) -> &mut Self {
        let event = maria_event(text.parse().unwrap(), flags);
        self.writer.server = event.gtid.server;
        self.push(EventType::GTID_EVENT, &Event::MariaGtid(event))
    }

    pub(super) fn query(&mut self, text: &str) -> &mut Self {
        let bytes = self.writer.statement(b"d", text.as_bytes());
        self.sent.push(bytes);
        self
    }

    /// A table and a row whose bytes are the text.
    pub(super) fn row(&mut self, text: &str) -> &mut Self {
        let map = body(5, 0, None, b"map");
        let map = TableMap { table: 5, flags: 0, post_header_bytes: 8, body: &map };
        self.push(EventType::TABLE_MAP_EVENT, &Event::TableMap(map));
        let body = body(5, 1, Some(&[]), text.as_bytes());
        let rows = rows(RowsKind::Write, true, &body);
        self.push(EventType::WRITE_ROWS_EVENT, &Event::Rows(rows))
    }

    pub(super) fn xid(&mut self) -> &mut Self {
        self.push(EventType::XID_EVENT, &Event::Xid(77))
    }

    pub(super) fn xa_prepare(&mut self, gtrid: &str, one_phase: bool) -> &mut Self {
        let xid = XaId { format: 1, gtrid: gtrid.as_bytes(), bqual: &[] };
        let event = Event::XaPrepare { xid, one_phase };
        self.push(EventType::XA_PREPARE_LOG_EVENT, &event)
    }

    /// Puts what `inside` writes into one compressed event.
    pub(super) fn packed(&mut self, inside: impl FnOnce(&mut Self)) -> &mut Self {
        let before = core::mem::take(&mut self.sent);
        self.writer.format.checksum = Checksum::None;
        inside(self);
        self.writer.format.checksum = Checksum::Crc32;
        let events = core::mem::replace(&mut self.sent, before);
        let data = pack(&events);
        let unpacked_bytes = Some(u64::try_from(events.concat().len()).unwrap());
        let payload = Payload { zstd: true, unpacked_bytes, data: &data };
        self.push(EventType::TRANSACTION_PAYLOAD_EVENT, &Event::Payload(payload))
    }

    /// An event that the server makes for us.
    pub(super) fn artificial(&mut self, kind: EventType, event: &Event<'_>) -> &mut Self {
        let flags = Header::ARTIFICIAL;
        let header = Header { seconds: 0, kind, server: 1, size: 0, end: 0, flags };
        self.sent.push(encode(&header, event, self.writer.format.checksum));
        self
    }

    /// Reads all that was sent; a word for each step.
    pub(super) fn read(&mut self) -> Result<String, TransactionError> {
        let mut out: Vec<String> = Vec::new();
        for bytes in core::mem::take(&mut self.sent) {
            self.transactions.event(&bytes, |step| -> Result<(), TransactionError> {
                out.extend(word(&step));
                Ok(())
            })?;
        }
        Ok(out.join(" "))
    }

    /// What all that was sent is refused with.
    pub(super) fn refused(&mut self) -> String {
        self.read().unwrap_err().to_string_with_hint()
    }

    pub(super) fn resumable(&self) -> String {
        format!("{}", self.transactions.resumable().unwrap()).replace(UUID, "U")
    }

    pub(super) fn executed(&self) -> String {
        format!("{}", self.transactions.executed()).replace(UUID, "U")
    }
}

trait WithHint {
    fn to_string_with_hint(&self) -> String;
}

impl WithHint for TransactionError {
    /// The text, and a star if there is something to try.
    fn to_string_with_hint(&self) -> String {
        format!("{self}{}", if self.hint().is_some() { "*" } else { "" })
    }
}

fn name(gtid: AnyGtid) -> String {
    format!("{gtid}").replace(UUID, "U")
}

fn word(step: &Step<'_>) -> Option<String> {
    Some(match step {
        Step::Begin(begin) => {
            let alter = begin.alter.map_or_else(String::new, |alter| format!("{alter:?}"));
            format!("begin({}){alter}", name(begin.gtid))
        }
        Step::TableMap(_) => return None,
        Step::Rows(rows) => {
            let bytes = rows.body.get(rows.post_header_bytes..).unwrap();
            core::str::from_utf8(bytes).unwrap().to_owned()
        }
        Step::RowsQuery(_) => "#".to_owned(),
        Step::Statement(query, kind) => {
            format!("{kind:?}({})", core::str::from_utf8(&query.statement).unwrap())
        }
        Step::Savepoint(number) => format!("mark{number}"),
        Step::RollbackTo(number) => format!("undo{number}"),
        Step::Commit(gtid) => format!("commit({})", name(*gtid)),
        Step::Rollback(gtid) => format!("rollback({})", name(*gtid)),
        Step::Prepared(gtid) => format!("prepared({})", name(*gtid)),
        Step::Idle => "idle".to_owned(),
        Step::Abandoned(gtid) => format!("abandoned({})", name(*gtid)),
    })
}
