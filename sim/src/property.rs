//! The promises I1 to I10 of ARCHITECTURE.md as functions over a world. Each panics with the promise that
//! is broken.
//!
//! I4, I9 and I10 are checked where they can break: see [`Ledger::commit`], `World::replay`, and the
//! pretend target, whose constraints refuse any other order.
use std::collections::{BTreeMap, BTreeSet};

use replicator_core::model::key::RowKey;
use replicator_core::model::mutation::{ApplyBatch, Change, Mutation, TableId};
use replicator_core::model::position::Position;
use replicator_core::model::time::Hlc;
use replicator_core::{Config, Status};

use crate::database::{Database, Rows};
use crate::model::{ChangeId, History};
use crate::schema::schema;
use crate::source::{Message, partition_of};
use crate::store::{Fence, Store};
use crate::target::Contents;

/// What the target has committed so far.
#[derive(Debug, Default)]
pub struct Ledger {
    committed: BTreeSet<usize>,
    /// Changes that were not applied but kept for a human.
    pub dead: BTreeSet<ChangeId>,
    // The last transaction that changed a row.
    newest: BTreeMap<(TableId, RowKey), usize>,
    /// How many target transactions have committed.
    pub commits: usize,
    // All source transactions before this number are known to be committed.
    whole: usize,
    // All before this number may come again.
    again: usize,
}

impl Ledger {
    /// A target transaction has committed. Checks that it holds whole source transactions (I4), none of
    /// them for the second time, none before an older change of one of its rows (I3), and that its
    /// record claims no more than is there.
    ///
    /// Returns how many source transactions it holds.
    pub fn commit(&mut self, history: &History, batch: &ApplyBatch, contents: &Contents) -> usize {
        self.commits += 1;
        let mut from = 0;
        let mut count = 0;
        for end in &batch.ends {
            // The last piece counts its own changes only.
            let before = if batch.piece.begins() { end.before } else { contents.mutations.len() };
            let found = history.find(end.position);
            let tx = found.unwrap_or_else(|| panic!("I4: nothing ends at {}", end.position));
            i4_a_transaction_is_whole(history, tx, &contents.mutations[from..before]);
            let fresh = self.committed.insert(tx);
            assert!(fresh || tx < self.again, "exactly once: transaction {tx} is applied again");
            for mutation in &contents.mutations[from..before] {
                self.i3_a_row_moves_forward(tx, mutation);
            }
            for index in contents.dead.iter().filter(|index| (from..before).contains(index)) {
                self.dead
                    .insert((tx, place(history, tx, index - from, &contents.mutations[*index])));
            }
            from = before;
            count += 1;
        }
        assert!(from == contents.mutations.len(), "I4: changes of no transaction");
        let claimed =
            history.count_through(batch.after)..history.count_through(Some(batch.position));
        for tx in claimed {
            assert!(self.committed.contains(&tx), "transaction {tx} is recorded but not there");
        }
        count
    }

    /// The next target transaction may hold what was applied already, through this time: it writes the last
    /// values only.
    /// Returns before which transaction.
    pub fn replay(&mut self, history: &History, horizon: Option<Hlc>) -> usize {
        let count = |horizon| history.count_through(Some(Position::Hlc(horizon)));
        self.again = horizon.map_or(0, count);
        self.again
    }

    fn i3_a_row_moves_forward(&mut self, tx: usize, mutation: &Mutation) {
        if mutation.change == Change::Truncate {
            for ((table, _), newest) in &mut self.newest {
                if *table == mutation.table {
                    assert!(*newest <= tx, "I3: an older truncate follows a change of {newest}");
                    *newest = tx;
                }
            }
            return;
        }
        let mut keys = vec![mutation.key.clone()];
        if let Change::Move { from: _, to } = &mutation.change {
            let table = schema().catalog.table(mutation.table);
            keys.push(table.key_of(to).expect("the key is always sent"));
        }
        for key in keys {
            if let Some(newest) = self.newest.insert((mutation.table, key), tx) {
                let right = newest <= tx || newest < self.again;
                assert!(right, "I3: a change of transaction {tx} follows one of {newest}");
            }
        }
    }

    /// Whether some transaction at or after this number is in the target.
    #[must_use]
    pub fn reaches(&self, tx: usize) -> bool {
        self.committed.range(tx..).next().is_some()
    }

    /// The first of the transactions before this number that is not in the target.
    pub fn first_missing(&mut self, before: usize) -> Option<usize> {
        while self.whole < before {
            if !self.committed.contains(&self.whole) {
                return Some(self.whole);
            }
            self.whole += 1;
        }
        None
    }
}

/// Where a change is in its transaction, as the source made it.
fn place(history: &History, tx: usize, index: usize, mutation: &Mutation) -> usize {
    let commit = &history.commits()[tx];
    match commit.position {
        Position::Lsn(_) | Position::Ordinal(_) => index,
        Position::Hlc(_) => {
            let found = commit.mutations.iter().position(|other| other == mutation);
            found.expect("the transaction is whole")
        }
    }
}

/// A changefeed's rows of one time come in the order of their keys, or in one that suits the target.
fn i4_a_transaction_is_whole(history: &History, tx: usize, got: &[Mutation]) {
    let commit = &history.commits()[tx];
    let whole = match commit.position {
        Position::Lsn(_) | Position::Ordinal(_) => commit.mutations == got,
        Position::Hlc(_) => {
            let rest = got.iter().filter(|mutation| commit.mutations.contains(mutation));
            got.len() == commit.mutations.len() && rest.count() == got.len()
        }
    };
    assert!(whole, "I4: transaction {tx} is not whole: {got:?}");
}

/// I1 and I2: acknowledged ≤ saved ≤ applied ≤ admitted, and what is saved is in the target.
pub fn i1_marks_are_in_order(
    history: &History,
    ledger: &mut Ledger,
    store: &Store,
    acknowledged: Option<Position>,
    status: &Status,
) {
    let saved = store.checkpoint();
    assert!(acknowledged <= saved, "I1: {acknowledged:?} is acknowledged, {saved:?} is saved");
    assert!(status.checkpoint <= saved, "I1: the machine thinks that more is saved than is");
    assert!(status.checkpoint <= status.applied, "I1: saved {saved:?} before it was applied");
    assert!(status.applied <= status.admitted, "I1: applied before it was admitted");
    let missing = ledger.first_missing(history.count_through(saved.max(status.applied)));
    assert!(missing.is_none(), "I1: {saved:?} is saved, but {missing:?} is not in the target");
}

/// I2: what a changefeed may forget is staged, or applied and covered by the checkpoint.
pub fn i2_answered_rows_are_durable(
    history: &History,
    store: &Store,
    partition: usize,
    of: &Message,
) {
    match of {
        Message::Rows(tx, rows) => {
            for row in rows {
                assert!(is_durable(history, store, *tx, *row), "I2: a row of {tx} is answered");
            }
        }
        Message::Resolved(time) => {
            i5_a_promise_comes_after_its_rows(history, store, partition, *time);
        }
        Message::Transaction(..) | Message::Piece(..) | Message::Idle(_) => {
            panic!("I2: an ordered source waits for no answer")
        }
    }
}

/// I5: a promise counts only once every row before it is durable.
pub fn i5_a_promise_comes_after_its_rows(
    history: &History,
    store: &Store,
    partition: usize,
    promised: Hlc,
) {
    for tx in 0..history.count_through(Some(Position::Hlc(promised))) {
        for (row, mutation) in history.commits()[tx].mutations.iter().enumerate() {
            let durable =
                partition_of(mutation) != partition || is_durable(history, store, tx, row);
            assert!(
                durable,
                "I5: {promised} is saved, but a row of transaction {tx} is not staged"
            );
        }
    }
}

fn is_durable(history: &History, store: &Store, tx: usize, row: usize) -> bool {
    let commit = &history.commits()[tx];
    let Position::Hlc(time) = commit.position else { unreachable!("a changefeed has times") };
    Some(commit.position) <= store.checkpoint() || store.holds(time, &commit.mutations[row])
}

/// I6: nothing above the checkpoint is retired.
pub fn i6_only_what_is_saved_is_retired(store: &Store, through: Hlc) {
    let saved = store.checkpoint();
    assert!(Some(Position::Hlc(through)) <= saved, "I6: retired {through}, saved {saved:?}");
}

/// I7: a dead run's write changes nothing.
pub fn i7_the_fence_holds(newest: Fence, fence: Fence) {
    assert!(fence == newest, "I7: a write of run {fence} takes effect after {newest} has begun");
}

/// I8: everything is bounded. `event_bytes` is the largest thing that came in at once; `None` while the rows
/// are held that an earlier run may have applied. Those were bounded by what that one held and had not saved.
pub fn i8_queues_are_bounded(
    config: &Config,
    status: &Status,
    staging: usize,
    event_bytes: Option<usize>,
) {
    assert!(status.applies <= config.applies_max, "I8: {} batches on their way", status.applies);
    // One event may close the open batch and add a piece, and the timer may close another.
    assert!(status.waiting <= config.applies_max + 2, "I8: {} batches wait", status.waiting);
    assert!(staging <= config.stages_max, "I8: {staging} writes to staging");
    let Some(event_bytes) = event_bytes else { return };
    let bytes_max = config.buffered_bytes_max + event_bytes;
    assert!(status.buffered_bytes <= bytes_max, "I8: {} bytes held", status.buffered_bytes);
}

/// While nothing is in flight the target is a prefix of the source's commits.
pub fn the_target_is_a_prefix(target: &Database, model: &[Rows]) {
    for ((id, table), expected) in schema().catalog.tables().zip(model) {
        let got = target.rows(id);
        assert!(got == expected, "{} holds\n{got:?}\nbut should hold\n{expected:?}", table.name);
    }
}

/// Exactly once, as the target's readers see it: no row shows an older value than it has shown.
#[derive(Debug, Default)]
pub struct Readers {
    seen: BTreeMap<(TableId, crate::schema::Tuple), i64>,
}

impl Readers {
    /// Looks at all rows after a commit.
    pub fn look(&mut self, target: &Database) {
        for (id, _) in schema().catalog.tables() {
            for (key, row) in target.rows(id) {
                let version = row.last().copied().flatten().expect("every row has a version");
                let seen = self.seen.entry((id, key.clone())).or_default();
                assert!(
                    *seen <= version,
                    "a row of {} went back to an older value",
                    schema().name(id)
                );
                *seen = version;
            }
        }
    }
}
