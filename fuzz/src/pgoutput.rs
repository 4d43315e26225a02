//! The check of the pgoutput decoder and of what puts its messages together.
//!
//! The input is a replication connection: items of a length (two bytes, big endian) and as many
//! bytes. An item is a message, or a whole frame if it starts like one (`w`, `k`).
use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use replicator_core::Event;
use replicator_core::decode::pg_encode::{encode, encode_frame, encode_streamed};
use replicator_core::decode::pg_frames::Frame;
use replicator_core::decode::pg_message::Streamed;
use replicator_core::decode::pg_transaction::{PgOptions, PgTransactions, TruncatePolicy};
use replicator_core::decode::pgoutput::{decode, decode_streamed};
use replicator_core::model::catalog::{Catalog, Column, Made, Table, Wire};
use replicator_core::model::fk::Place;
use replicator_core::model::ident::TableName;
use replicator_core::model::key::KeyKind;
use replicator_core::model::mutation::{Change, Mutation};
use replicator_core::model::position::Position;
use replicator_core::model::row::{Cell, Row};

/// Small, so that inputs of a few hundred bytes reach it.
const PIECE_BYTES_MAX: usize = 512;
/// Small, so that inputs of a few thousand bytes reach it.
const STREAMED_BYTES_MAX: usize = 16 * 1024;

/// Reads the input as the messages of one replication connection and returns how many events came
/// out before it ended or was refused.
///
/// # Panics
///
/// A decoder broke a promise.
pub fn pgoutput(input: &[u8]) -> usize {
    let as_named = Connection::new(TruncatePolicy::Apply, None).read(input);
    let in_one_schema = Connection::new(TruncatePolicy::Ignore, Some("public".to_owned()));
    as_named + in_one_schema.read(input)
}

/// Puts the length in front of an item of the input.
///
/// # Panics
///
/// The item is longer than two bytes can say.
#[must_use]
pub(crate) fn frame_item(item: &[u8]) -> Vec<u8> {
    let len = u16::try_from(item.len()).expect("items are shorter than 64 KiB");
    [&len.to_be_bytes(), item].concat()
}

/// Splits the first item off; the last one may be cut short.
pub(crate) fn split_item(input: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = input.split_first_chunk::<2>()?;
    let len = usize::from(u16::from_be_bytes(*len)).min(rest.len());
    Some(rest.split_at(len))
}

struct Connection {
    catalog: Arc<Catalog>,
    transactions: PgTransactions,
    // The last position that came out.
    last: Option<Position>,
    // Where the transaction whose pieces are coming out commits.
    piece: Option<Position>,
}

impl Connection {
    fn new(truncate: TruncatePolicy, target_schema: Option<String>) -> Self {
        let catalog = Arc::clone(&CATALOG);
        let options = PgOptions {
            truncate,
            target_schema,
            piece_bytes_max: PIECE_BYTES_MAX,
            streamed_bytes_max: STREAMED_BYTES_MAX,
        };
        let transactions = PgTransactions::new(Arc::clone(&catalog), options);
        Self { catalog, transactions, last: None, piece: None }
    }

    fn read(mut self, mut input: &[u8]) -> usize {
        let mut count = 0;
        while let Some((item, rest)) = split_item(input) {
            input = rest;
            let mut events = Vec::new();
            let alive = self.item(Bytes::copy_from_slice(item), &mut events);
            for event in &events {
                self.check_event(event);
            }
            count += events.len();
            if !alive {
                break;
            }
            assert!(self.transactions.streamed_bytes() <= STREAMED_BYTES_MAX);
        }
        count
    }

    /// Returns whether the connection can be read on.
    fn item(&mut self, item: Bytes, events: &mut Vec<Event>) -> bool {
        if !matches!(item.first(), Some(b'w' | b'k')) {
            return self.message(item, events);
        }
        let Ok(frame) = Frame::parse(item.clone()) else { return false };
        assert_eq!(encode_frame(&frame), item, "a frame does not survive reading and writing");
        match frame {
            Frame::XLogData { message, .. } => self.message(message, events),
            Frame::Keepalive { wal_end, .. } => {
                self.transactions.keepalive(wal_end, events);
                true
            }
        }
    }

    fn message(&mut self, message: Bytes, events: &mut Vec<Event>) -> bool {
        if let Ok(read) = decode(message.clone()) {
            assert_eq!(encode(&read), message, "a message does not survive reading and writing");
        }
        if let Ok(Streamed { xid, message: read }) = decode_streamed(message.clone()) {
            let again = xid.map_or_else(|| encode(&read), |xid| encode_streamed(xid, &read));
            assert_eq!(again, message, "a message does not survive reading and writing");
        }
        self.transactions.message(message, events).is_ok()
    }

    fn check_event(&mut self, event: &Event) {
        match event {
            Event::TransactionReceived(tx) => {
                assert!(self.last < Some(tx.position), "a transaction went back: {event}");
                assert!(self.piece < Some(tx.position), "a transaction ends before its commit");
                self.last = Some(tx.position);
                self.piece = None;
                self.check_mutations(&tx.mutations);
            }
            Event::PieceReceived { before, mutations } => {
                assert!(self.last <= Some(*before), "a piece went back: {event}");
                if let Some(piece) = self.piece {
                    assert_eq!(piece, *before, "pieces of two transactions are mixed");
                }
                self.piece = Some(*before);
                assert!(!mutations.is_empty(), "a piece without rows");
                self.check_mutations(mutations);
            }
            Event::IdleThrough(position) => {
                // The same one again says that there is still nothing.
                assert!(self.last <= Some(*position), "a promise went back: {event}");
                assert!(self.piece.is_none(), "idle inside a transaction");
                self.last = Some(*position);
            }
            Event::RowsReceived { .. }
            | Event::ResolvedReceived { .. }
            | Event::Done(_)
            | Event::StagedRead { .. }
            | Event::Failed { .. }
            | Event::DeadlineReached
            | Event::StopRequested => panic!("an ordered source does not say {event}"),
        }
    }

    fn check_mutations(&self, mutations: &[Mutation]) {
        for mutation in mutations {
            let table = self.catalog.table(mutation.table);
            let (row, may_lack) = match &mutation.change {
                Change::Insert(row) | Change::Upsert(row) => (row, false),
                Change::Delete(row) | Change::Update(row) => (row, true),
                Change::Move { from, to } => {
                    assert!(lacks_cells(to), "a whole row is moved");
                    (from, true)
                }
                Change::Truncate => {
                    assert!(mutation.key.is_empty(), "a truncate of one row");
                    continue;
                }
            };
            assert_eq!(row.layout().table, mutation.table, "a row of another table");
            assert_eq!(row.cells().count(), row.layout().columns.len(), "cells are lost");
            assert_eq!(table.key_of(row).as_ref(), Ok(&mutation.key), "not the row's own key");
            assert!(may_lack || !lacks_cells(row), "a whole row lacks cells");
            for (column, _) in row.columns() {
                assert!(table.column(column).made != Made::Generated, "writes a generated column");
            }
        }
    }
}

fn lacks_cells(row: &Row) -> bool {
    row.columns().any(|(_, cell)| cell == Cell::Unchanged)
}

// Building it takes longer than most inputs.
static CATALOG: LazyLock<Arc<Catalog>> = LazyLock::new(|| Arc::new(catalog()));

/// The target: what the corpus is about, with one column of each sort that matters.
fn catalog() -> Catalog {
    let tables = vec![
        table("parent", &["id", "name", "extra"]),
        table("child", &["id", "parent_id", "note"]),
        table("wide", &["id", "a", "b", "m"]),
        table("full_id", &["id", "a", "b"]),
        table("textkey", &["k", "v"]),
        table("odd", &["loose", "generated"]),
        Table { key: Vec::new(), ..table("nokey", &["x"]) },
    ];
    Catalog::new(tables, &[])
}

/// A table keyed by its first column.
fn table(name: &str, columns: &[&str]) -> Table {
    Table {
        name: TableName::new("public", name),
        columns: columns.iter().map(|name| column(name)).collect(),
        key: vec![0],
        uniques: Vec::new(),
        foreign_keys: Vec::new(),
        place: Place::default(),
        referenced: false,
        untold: false,
    }
}

fn column(name: &str) -> Column {
    let kind = match name {
        "id" | "parent_id" => KeyKind::Int,
        "loose" => KeyKind::Loose,
        _ => KeyKind::Exact,
    };
    Column {
        name: name.to_owned(),
        cast: "text".to_owned(),
        kind,
        wire: Wire::Text,
        nullable: true,
        made: if name == "generated" { Made::Generated } else { Made::Written },
        has_default: false,
    }
}
