//! Messages → transactions of the target.
//!
//! ```text
//! Begin  rows…  Commit                            TransactionReceived
//! Begin  rows…  too many  rows…  Commit           PieceReceived…  TransactionReceived
//! Begin  Commit                                   IdleThrough
//! Stream Start  rows…  Stream Stop  …  Stream Commit   as if they had come at the commit
//! ```
//!
//! Transactions come in the order of their commits, each as a whole; that is how PostgreSQL decodes
//! its log (documentation, chapter "Logical Decoding Concepts").
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::mem;

use bytes::Bytes;

pub use super::pg_assemble_error::AssembleError;
use super::pg_message::{Commit, Message, Streamed, Truncate, Xid};
pub use super::pg_options::{Counters, PgOptions, TruncatePolicy};
use super::pg_relation::Relations;
use super::pg_streams::Streams;
use super::pgoutput::{decode, decode_streamed};
use super::row_change::Updated;
use crate::event::Event;
use crate::model::catalog::Catalog;
use crate::model::mutation::{Mutation, SourceTx};
use crate::model::position::{Lsn, Position};

/// Puts the messages of one replication connection together to transactions. Dead after an error.
#[derive(Debug)]
pub struct PgTransactions {
    relations: Relations,
    streams: Streams,
    truncate: TruncatePolicy,
    piece_bytes_max: usize,
    place: Place,
    // Invariant: nothing at or before it is emitted again.
    last: Option<Lsn>,
    counters: Counters,
}

/// Where in the stream we are.
#[derive(Debug)]
enum Place {
    /// Between transactions.
    Between,
    /// Between Begin and Commit.
    Transaction(Open),
    /// Between Stream Start and Stream Stop.
    Stream(Xid),
}

/// A committed transaction of which not everything has come yet.
#[derive(Debug)]
struct Open {
    /// Where its commit record starts.
    final_lsn: Lsn,
    mutations: Vec<Mutation>,
    /// What `mutations` hold, in bytes.
    held_bytes: usize,
    in_pieces: bool,
}

impl PgTransactions {
    /// Begins to read a replication connection.
    #[must_use]
    pub fn new(catalog: Arc<Catalog>, options: PgOptions) -> Self {
        let PgOptions { truncate, target_schema, piece_bytes_max, streamed_bytes_max } = options;
        Self {
            relations: Relations::new(catalog, target_schema),
            streams: Streams::new(streamed_bytes_max),
            truncate,
            piece_bytes_max,
            place: Place::Between,
            last: None,
            counters: Counters::default(),
        }
    }

    /// Takes the next message of the stream and appends what it completes to `events`.
    ///
    /// # Errors
    ///
    /// See [`AssembleError`]. `self` is dead then; what is in `events` is right and may be used.
    #[inline]
    pub fn message(
        &mut self,
        message: Bytes,
        events: &mut Vec<Event>,
    ) -> Result<(), AssembleError> {
        match mem::replace(&mut self.place, Place::Between) {
            Place::Transaction(open) => self.in_transaction_message(open, message, events),
            Place::Between => self.between(decode(message)?, events),
            Place::Stream(xid) => self.in_stream(xid, message),
        }
    }

    /// Takes the promise of a keepalive: everything that committed at or before `wal_end` has come.
    /// It counts only between transactions: inside one, `wal_end` may be beyond what we have.
    pub fn keepalive(&mut self, wal_end: Lsn, events: &mut Vec<Event>) {
        // An LSN of 0 is none (`InvalidXLogRecPtr` in `src/include/access/xlogdefs.h`). The same one
        // again says that there is still nothing, so that nobody takes an idle source for a late one.
        if !self.in_transaction() && wal_end >= self.last.unwrap_or(Lsn(1)) {
            self.last = Some(wal_end);
            events.push(Event::IdleThrough(Position::Lsn(wal_end)));
        }
    }

    /// Whether more messages must come before anything can be said about the position.
    #[must_use]
    pub const fn in_transaction(&self) -> bool {
        match self.place {
            Place::Between => false,
            Place::Transaction(_) | Place::Stream(_) => true,
        }
    }

    /// What streamed transactions in progress hold, in bytes.
    #[must_use]
    pub const fn streamed_bytes(&self) -> usize {
        self.streams.held_bytes()
    }

    /// What was counted since the beginning.
    #[must_use]
    pub const fn counters(&self) -> Counters {
        self.counters
    }

    fn between(&mut self, message: Message, events: &mut Vec<Event>) -> Result<(), AssembleError> {
        match message {
            Message::Begin(begin) => {
                self.place = Place::Transaction(self.open(begin.final_lsn)?);
            }
            Message::StreamStart { xid, first } => {
                self.streams.start(xid, first)?;
                self.place = Place::Stream(xid);
            }
            Message::StreamCommit { xid, commit } => self.replay(xid, commit, events)?,
            Message::StreamAbort { xid, subxid } => self.streams.abort(xid, subxid),
            Message::Relation(relation) => self.relations.describe(&relation),
            // Who made a change, how types are called and what programs tell each other changes no row.
            Message::Origin(_) | Message::Type(_) | Message::Logical(_) => (),
            Message::Commit(_)
            | Message::StreamStop
            | Message::Insert { .. }
            | Message::Update { .. }
            | Message::Delete { .. }
            | Message::Truncate(_) => return Err(out_of_place(&message, "outside a transaction")),
        }
        Ok(())
    }

    #[inline]
    fn in_transaction_message(
        &mut self,
        mut open: Open,
        message: Bytes,
        events: &mut Vec<Event>,
    ) -> Result<(), AssembleError> {
        let message = decode(message)?;
        if let Message::Commit(commit) = message {
            return self.finish(open, commit, events);
        }
        self.row(&mut open, message, events)?;
        self.place = Place::Transaction(open);
        Ok(())
    }

    /// Keeps the messages of a stream block until their transaction has committed.
    fn in_stream(&mut self, top: Xid, message: Bytes) -> Result<(), AssembleError> {
        let Streamed { xid, message: decoded } = decode_streamed(message.clone())?;
        match decoded {
            Message::StreamStop => return Ok(()),
            // The server counts a description as sent with the top-level transaction, also if the
            // sub-transaction it came with is rolled back (`get_schema_sent_in_streamed_txn` in
            // `src/backend/replication/pgoutput/pgoutput.c`).
            Message::Relation(_) => self.streams.hold(top, top, message)?,
            Message::Insert { .. }
            | Message::Update { .. }
            | Message::Delete { .. }
            | Message::Truncate(_) => self.streams.hold(top, xid.unwrap_or(top), message)?,
            Message::Origin(_) | Message::Type(_) | Message::Logical(_) => (),
            Message::Begin(_)
            | Message::Commit(_)
            | Message::StreamStart { .. }
            | Message::StreamCommit { .. }
            | Message::StreamAbort { .. } => {
                return Err(out_of_place(&decoded, "inside a stream block"));
            }
        }
        self.place = Place::Stream(top);
        Ok(())
    }

    /// A streamed transaction has committed: reads what was kept of it.
    fn replay(
        &mut self,
        xid: Xid,
        commit: Commit,
        events: &mut Vec<Event>,
    ) -> Result<(), AssembleError> {
        let mut open = self.open(commit.commit_lsn)?;
        for (_, message) in self.streams.commit(xid)? {
            self.row(&mut open, decode_streamed(message)?.message, events)?;
        }
        self.finish(open, commit, events)
    }

    fn open(&self, final_lsn: Lsn) -> Result<Open, AssembleError> {
        if let Some(had) = self.last
            && final_lsn < had
        {
            return Err(AssembleError::WentBack { had, got: final_lsn });
        }
        Ok(Open { final_lsn, mutations: Vec::new(), held_bytes: 0, in_pieces: false })
    }

    #[inline]
    fn row(
        &mut self,
        open: &mut Open,
        message: Message,
        events: &mut Vec<Event>,
    ) -> Result<(), AssembleError> {
        match message {
            Message::Insert { relation, new } => {
                let (mapped, table) = self.relations.usable(relation)?;
                open.push(mapped.insert(table, new)?);
            }
            Message::Update { relation, old, new } => {
                let (mapped, table) = self.relations.usable(relation)?;
                let Updated { old, new, unchanged } = mapped.update(table, old, new)?;
                self.counters.unchanged_cells =
                    self.counters.unchanged_cells.saturating_add(unchanged);
                if let Some(old) = old {
                    open.push(old);
                }
                open.push(new);
            }
            Message::Delete { relation, old } => {
                let (mapped, table) = self.relations.usable(relation)?;
                open.push(mapped.delete(table, old)?);
            }
            Message::Truncate(truncate) => self.truncate(open, &truncate)?,
            Message::Relation(relation) => self.relations.describe(&relation),
            Message::Origin(_) | Message::Type(_) | Message::Logical(_) => (),
            Message::Begin(_)
            | Message::Commit(_)
            | Message::StreamStart { .. }
            | Message::StreamStop
            | Message::StreamCommit { .. }
            | Message::StreamAbort { .. } => {
                return Err(out_of_place(&message, "inside a transaction"));
            }
        }
        if open.held_bytes > self.piece_bytes_max {
            events.push(open.take_piece());
        }
        Ok(())
    }

    /// Children come before their parents, so that each table can be emptied by itself.
    fn truncate(&mut self, open: &mut Open, truncate: &Truncate) -> Result<(), AssembleError> {
        match self.truncate {
            TruncatePolicy::Stop => {
                let names = truncate.relations.iter().map(|id| self.relations.name(*id));
                let tables = names.collect::<Vec<String>>().join(", ");
                return Err(AssembleError::Truncated { tables });
            }
            TruncatePolicy::Apply => {
                let mut emptied = Vec::new();
                for relation in &truncate.relations {
                    emptied.push(self.relations.usable(*relation)?.0.truncate());
                }
                emptied.sort_by_key(|mutation| core::cmp::Reverse(mutation.table));
                for mutation in emptied {
                    open.push(mutation);
                }
            }
            TruncatePolicy::Ignore => {
                let ignored = u64::try_from(truncate.relations.len()).unwrap_or(u64::MAX);
                self.counters.truncates_ignored =
                    self.counters.truncates_ignored.saturating_add(ignored);
            }
        }
        Ok(())
    }

    fn finish(
        &mut self,
        open: Open,
        commit: Commit,
        events: &mut Vec<Event>,
    ) -> Result<(), AssembleError> {
        let Open { final_lsn, mutations, held_bytes: _, in_pieces } = open;
        let Commit { commit_lsn, end_lsn, committed } = commit;
        if commit_lsn != final_lsn {
            return Err(AssembleError::OtherCommit { begun: final_lsn, committed: commit_lsn });
        }
        let had = self.last.unwrap_or(final_lsn).max(final_lsn);
        if end_lsn <= had {
            return Err(AssembleError::WentBack { had, got: end_lsn });
        }
        self.last = Some(end_lsn);
        let position = Position::Lsn(end_lsn);
        if mutations.is_empty() && !in_pieces {
            self.counters.transactions_empty = self.counters.transactions_empty.saturating_add(1);
            events.push(Event::IdleThrough(position));
        } else {
            events.push(Event::TransactionReceived(SourceTx { position, committed, mutations }));
        }
        Ok(())
    }
}

impl Open {
    #[inline]
    fn push(&mut self, mutation: Mutation) {
        self.held_bytes = self.held_bytes.saturating_add(mutation.len_bytes());
        self.mutations.push(mutation);
    }

    fn take_piece(&mut self) -> Event {
        self.held_bytes = 0;
        self.in_pieces = true;
        let mutations = mem::take(&mut self.mutations);
        Event::PieceReceived { before: Position::Lsn(self.final_lsn), mutations }
    }
}

const fn out_of_place(message: &Message, place: &'static str) -> AssembleError {
    AssembleError::OutOfPlace { kind: message.name(), place }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::{AssembleError, PgOptions, TruncatePolicy};
    use crate::decode::pg_fixture::{Wire, message, options};
    use crate::decode::pg_message::{Commit, Logical, Message, Origin, TypeName};
    use crate::event::Event;
    use crate::model::ident::TableName;
    use crate::model::position::Lsn;
    use crate::model::row::Cell;
    use crate::model::time::WallTime;
    use crate::stop::SchemaDrift;

    fn wire() -> Wire {
        Wire::new(options())
    }

    /// Messages that change no row.
    fn asides() -> Vec<Message> {
        let origin = Origin { commit_lsn: Lsn(1), name: "elsewhere".into() };
        let name = TypeName { oid: 1, namespace: "public".into(), name: "mood".into() };
        let logical = |transactional| Logical {
            transactional,
            lsn: Lsn(1),
            prefix: "note".into(),
            content: b"x".as_slice().into(),
        };
        [
            Message::Origin(origin),
            Message::Type(name),
            Message::Logical(logical(true)),
            Message::Logical(logical(false)),
        ]
        .into()
    }

    #[test]
    fn a_transaction_ends_at_the_end_of_its_commit_record() {
        let mut wire = wire();
        let lines = wire.tx(&["+parent 1 a"]).unwrap();
        assert_eq!(lines, ["transaction 0/20 rows=1", "+parent 1 a"]);
    }

    #[test]
    fn w10_changes_keep_the_order_of_the_source() {
        let changes = ["+parent 2 b", "~child 7 2 x", "-parent K 1 NULL"];
        let lines = wire().tx(&changes).unwrap();
        assert_eq!(lines[1..], ["+parent 2 b", "=child 7 2 x", "-parent 1"]);
    }

    #[test]
    fn an_empty_transaction_still_moves_the_position() {
        let mut wire = wire();
        assert_eq!(wire.tx(&[]).unwrap(), ["idle 0/20"]);
        assert_eq!(wire.transactions.counters().transactions_empty, 1);
    }

    #[test]
    fn w42_what_changes_no_row_does_not_stop_replication() {
        let mut wire = wire();
        wire.begin();
        for aside in asides() {
            wire.send(&aside).unwrap();
        }
        wire.commit();
        for aside in asides() {
            wire.send(&aside).unwrap();
        }
        assert_eq!(wire.take(), ["idle 0/20"]);
    }

    #[test]
    fn a_table_that_the_target_lacks_stops_at_its_first_row() {
        let mut wire = wire();
        assert_eq!(wire.tx(&["+parent 1 a"]).unwrap().len(), 2);
        let drift = SchemaDrift::NoTable { table: TableName::new("public", "absent") };
        assert_eq!(wire.tx(&["+absent 1"]), Err(drift.into()));
    }

    #[test]
    fn columns_may_change_their_places_in_mid_stream() {
        let mut wire = wire();
        wire.tx(&["+parent 1 a", ":parent name id*"]).unwrap();
        wire.begin();
        wire.send(&message("+parent c 3")).unwrap();
        wire.commit();
        let [Event::TransactionReceived(tx)] = &wire.events[..] else { panic!("{wire:?}") };
        let row = tx.mutations[0].change.row().unwrap();
        let columns: Vec<_> = row.columns().collect();
        assert_eq!(columns, [(1, Cell::Text(b"c")), (0, Cell::Text(b"3"))]);
    }

    #[test]
    fn a_large_transaction_comes_in_pieces() {
        let mut wire = Wire::new(PgOptions { piece_bytes_max: 200, ..options() });
        let lines = wire.tx(&["+parent 1 a", "+parent 2 b", "+parent 3 c"]).unwrap();
        let pieces = ["piece 0/10 rows=2", "+parent 1 a", "+parent 2 b"];
        assert_eq!(lines[..3], pieces);
        assert_eq!(lines[3..], ["transaction 0/20 rows=1", "+parent 3 c"]);
        let lines = wire.tx(&["+parent 4 d", "+parent 5 e"]).unwrap();
        assert_eq!(lines[0], "piece 0/20 rows=2");
        assert_eq!(lines[3..], ["transaction 0/30 rows=0"]);
    }

    #[test]
    fn a_keepalive_counts_between_transactions_if_it_does_not_go_back() {
        let mut wire = wire();
        wire.begin();
        assert!(wire.transactions.in_transaction());
        wire.transactions.keepalive(Lsn(0x500), &mut wire.events);
        wire.commit();
        assert!(!wire.transactions.in_transaction());
        for wal_end in [0, 0x20, 0x28, 0x28, 0x24] {
            wire.transactions.keepalive(Lsn(wal_end), &mut wire.events);
        }
        // The first one is the transaction, which was empty.
        assert_eq!(wire.take(), ["idle 0/20", "idle 0/20", "idle 0/28", "idle 0/28"]);
    }

    #[test]
    fn a_source_that_goes_back_is_refused() {
        let mut wire = wire();
        wire.tx(&[]).unwrap();
        let (commit_lsn, committed) = (Lsn(0x20), WallTime { micros: 5 });
        wire.begin();
        let commit = Commit { commit_lsn, end_lsn: Lsn(0x20), committed };
        let error = AssembleError::WentBack { had: Lsn(0x20), got: Lsn(0x20) };
        assert_eq!(wire.send(&Message::Commit(commit)), Err(error));
    }

    #[test]
    fn a_commit_of_another_transaction_is_refused() {
        let mut wire = wire();
        wire.begin();
        let commit_lsn = Lsn(0x18);
        let commit = Commit { commit_lsn, end_lsn: Lsn(0x20), committed: WallTime { micros: 5 } };
        let error = AssembleError::OtherCommit { begun: Lsn(0x10), committed: Lsn(0x18) };
        assert_eq!(wire.send(&Message::Commit(commit)), Err(error));
    }

    #[test]
    fn messages_out_of_place_are_refused() {
        let error = wire().send(&message("+parent 1 a")).unwrap_err();
        let place = "outside a transaction";
        assert_eq!(error, AssembleError::OutOfPlace { kind: "Insert", place });
        let mut wire = wire();
        wire.begin();
        let error = wire.send(&Message::StreamStop).unwrap_err();
        let place = "inside a transaction";
        assert_eq!(error, AssembleError::OutOfPlace { kind: "Stream Stop", place });
    }

    #[test]
    fn a_truncate_stops_by_default_and_names_the_tables_and_the_flag() {
        let error = wire().tx(&["!parent child"]).unwrap_err();
        let text = "the source truncated \"public\".\"parent\", \"public\".\"child\"; the flag \
                    --truncate says what to do: apply, ignore, or stop";
        assert_eq!(alloc::format!("{error}"), text);
    }

    #[test]
    fn w42_a_truncate_can_be_applied_children_first_or_ignored() {
        let mut wire = Wire::new(PgOptions { truncate: TruncatePolicy::Apply, ..options() });
        let lines = wire.tx(&["+parent 1 a", "!parent child"]).unwrap();
        assert_eq!(lines[1..], ["+parent 1 a", "!child", "!parent"]);
        let mut wire = Wire::new(PgOptions { truncate: TruncatePolicy::Ignore, ..options() });
        assert_eq!(wire.tx(&["!parent absent"]).unwrap(), ["idle 0/20"]);
        assert_eq!(wire.transactions.counters().truncates_ignored, 2);
    }
}
