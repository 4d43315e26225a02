//! Messages in one line, for unit tests over the tables of [`fixture::catalog`].
use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::pg_encode::{encode, encode_streamed};
use super::pg_message::{
    Begin, Commit, Message, Old, Relation, RelationColumn, RelationId, ReplicaIdentity, Truncate,
    Tuple, Xid,
};
use super::pg_transaction::{AssembleError, PgOptions, PgTransactions, TruncatePolicy};
use crate::event::Event;
use crate::fixture;
use crate::model::catalog::Catalog;
use crate::model::mutation::{Change, Mutation};
use crate::model::position::Lsn;
use crate::model::row::{Cell, Row};
use crate::model::time::WallTime;

/// Options that no small test runs into.
pub(super) fn options() -> PgOptions {
    PgOptions {
        truncate: TruncatePolicy::Stop,
        target_schema: None,
        piece_bytes_max: 1 << 20,
        streamed_bytes_max: 1 << 20,
    }
}

fn number(table: &str) -> RelationId {
    let tables = ["parent", "child", "mail", "odd", "nokey", "absent"];
    RelationId((100..).zip(tables).find(|(_, name)| *name == table).unwrap().0)
}

/// A table: `public.parent id* name` or `parent id* name`; a star marks the replica identity.
pub(super) fn relation(text: &str) -> Relation {
    let mut words = text.split(' ');
    let full_name = words.next().unwrap();
    let (namespace, name) = full_name.split_once('.').unwrap_or(("public", full_name));
    let columns = words.map(|word| RelationColumn {
        flags: u8::from(word.ends_with('*')),
        name: word.trim_end_matches('*').to_owned(),
        type_oid: 25,
        type_modifier: u32::MAX,
    });
    Relation {
        relation: number(name),
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        identity: ReplicaIdentity::Default,
        columns: columns.collect(),
    }
}

fn tuple(words: &[&str]) -> Tuple {
    let cells: Vec<Cell<'_>> = words
        .iter()
        .map(|word| match *word {
            "NULL" => Cell::Null,
            "?" => Cell::Unchanged,
            text => Cell::Text(text.as_bytes()),
        })
        .collect();
    Tuple::new(&cells)
}

fn old(words: &[&str]) -> Old {
    match words[0] {
        "K" => Old::Key(tuple(&words[1..])),
        "O" => Old::Full(tuple(&words[1..])),
        other => panic!("unknown tag {other}"),
    }
}

/// `+parent 1 a` inserts, `~parent 1 b` updates, `~parent 2 b < K 1 NULL` updates with an old row,
/// `-parent K 1 NULL` deletes, `!parent child` truncates, `:parent id* name` describes.
pub(super) fn message(text: &str) -> Message {
    let (verb, rest) = text.split_at(1);
    if verb == ":" {
        return Message::Relation(relation(rest));
    }
    let words: Vec<&str> = rest.split(' ').collect();
    let relation = number(words[0]);
    match verb {
        "+" => Message::Insert { relation, new: tuple(&words[1..]) },
        "~" => {
            let mut parts = words[1..].split(|word| *word == "<");
            let new = tuple(parts.next().unwrap());
            Message::Update { relation, old: parts.next().map(old), new }
        }
        "-" => Message::Delete { relation, old: old(&words[1..]) },
        "!" => {
            let relations = words.iter().map(|name| number(name)).collect();
            Message::Truncate(Truncate { options: 0, relations })
        }
        other => panic!("unknown verb {other}"),
    }
}

/// A replication connection and what came out of it.
#[derive(Debug)]
pub(super) struct Wire {
    pub(super) catalog: Arc<Catalog>,
    pub(super) transactions: PgTransactions,
    pub(super) events: Vec<Event>,
    pub(super) lsn: u64,
}

impl Wire {
    /// All tables are described, with the replica identity that each should have.
    pub(super) fn new(options: PgOptions) -> Self {
        let catalog = Arc::new(fixture::catalog());
        let transactions = PgTransactions::new(Arc::clone(&catalog), options);
        let mut wire = Self { catalog, transactions, events: Vec::new(), lsn: 16 };
        for text in [
            ":parent id* name",
            ":child id* parent_id note",
            ":mail id* address",
            ":odd key*",
            ":nokey x",
            ":absent id*",
        ] {
            wire.send(&message(text)).unwrap();
        }
        wire
    }

    pub(super) fn send(&mut self, message: &Message) -> Result<(), AssembleError> {
        self.transactions.message(encode(message), &mut self.events)
    }

    pub(super) fn begin(&mut self) {
        let (final_lsn, committed) = (Lsn(self.lsn), WallTime { micros: 5 });
        self.send(&Message::Begin(Begin { final_lsn, committed, xid: Xid(1) })).unwrap();
    }

    /// The commit record at the place where the log is.
    pub(super) fn record(&mut self) -> Commit {
        let commit_lsn = Lsn(self.lsn);
        self.lsn = self.lsn.saturating_add(16);
        Commit { commit_lsn, end_lsn: Lsn(self.lsn), committed: WallTime { micros: 5 } }
    }

    pub(super) fn commit(&mut self) {
        let commit = self.record();
        self.send(&Message::Commit(commit)).unwrap();
    }

    /// A whole transaction; returns what it became.
    pub(super) fn tx(&mut self, texts: &[&str]) -> Result<Vec<String>, AssembleError> {
        self.begin();
        for text in texts {
            self.send(&message(text))?;
        }
        self.commit();
        Ok(self.take())
    }

    /// One block of a streamed transaction; `3 +parent 1 a` is of sub-transaction 3.
    pub(super) fn block(
        &mut self,
        xid: u32,
        first: bool,
        texts: &[&str],
    ) -> Result<(), AssembleError> {
        self.send(&Message::StreamStart { xid: Xid(xid), first })?;
        for text in texts {
            let (subxid, text) = text.split_once(' ').unwrap();
            let bytes = encode_streamed(Xid(subxid.parse().unwrap()), &message(text));
            self.transactions.message(bytes, &mut self.events)?;
        }
        self.send(&Message::StreamStop)
    }

    pub(super) fn stream_commit(&mut self, xid: u32) -> Result<Vec<String>, AssembleError> {
        let (xid, commit) = (Xid(xid), self.record());
        self.send(&Message::StreamCommit { xid, commit })?;
        Ok(self.take())
    }

    /// What came out since the last time.
    pub(super) fn take(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        for event in self.events.drain(..) {
            lines.push(event.to_string());
            let mutations = match event {
                Event::TransactionReceived(tx) => tx.mutations,
                Event::PieceReceived { before: _, mutations } => mutations,
                Event::IdleThrough(_) => Vec::new(),
                event @ (Event::RowsReceived { .. }
                | Event::ResolvedReceived { .. }
                | Event::Done(_)
                | Event::StagedRead { .. }
                | Event::Failed { .. }
                | Event::DeadlineReached
                | Event::StopRequested) => panic!("not of an ordered source: {event}"),
            };
            lines.extend(mutations.iter().map(|mutation| show(&self.catalog, mutation)));
        }
        lines
    }
}

/// The notation of [`fixture::mutation`]; cells that are not applied are left out.
pub(super) fn show(catalog: &Catalog, mutation: &Mutation) -> String {
    let name = &catalog.table(mutation.table).name.table;
    let row = |verb: &str, row: &Row| {
        let mut text = format!("{verb}{name}");
        for (_, cell) in row.columns() {
            text.push(' ');
            match cell {
                Cell::Null => text.push_str("NULL"),
                Cell::Unchanged => text.push('?'),
                Cell::Text(value) | Cell::Binary(value) => {
                    text.push_str(&String::from_utf8_lossy(value));
                }
            }
        }
        text
    };
    match &mutation.change {
        Change::Insert(image) => row("+", image),
        Change::Upsert(image) => row("=", image),
        Change::Update(image) => row("~", image),
        Change::Delete(image) => row("-", image),
        Change::Move { from, to } => {
            format!("{} to{}", row(">", from), row("", to).trim_start_matches(name.as_str()))
        }
        Change::Truncate => format!("!{name}"),
    }
}
