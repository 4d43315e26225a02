//! Station 5: put whole, adjacent transactions together into one target transaction.
//!
//! Group commit is adaptive. While the target is idle a transaction goes out at once; while it is busy
//! the batch fills until it is full or too old; while it has more to do than it can, what is full counts
//! for more. So a slow trickle is fast and a flood is efficient.
use alloc::vec::Vec;
use core::time::Duration;

use crate::footprint::Footprint;
use crate::model::catalog::Catalog;
use crate::model::mutation::{ApplyBatch, Mutation, OrderedTx, Piece, TxEnd};
use crate::model::position::{Position, TxSeq};
use crate::model::time::MonoTime;

/// A batch does not grow beyond this many bytes.
const GROWN_BYTES_MAX: usize = 4 << 20;

/// How many batches wait or are on their way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Ahead {
    Nothing,
    Few,
    /// As many as may go side by side, or at least four.
    Many,
}

impl Ahead {
    const MANY: usize = 4;

    /// `held` batches, of which `limit` may go side by side.
    pub(crate) fn of(held: usize, limit: usize) -> Self {
        if held == 0 {
            Self::Nothing
        } else if held < limit.min(Self::MANY) {
            Self::Few
        } else {
            Self::Many
        }
    }
}

/// The open batch.
#[derive(Debug)]
pub(crate) struct Batch {
    limits: Limits,
    // Position of the last transaction that has left this station.
    after: Option<Position>,
    // The first batch reaches as far as this.
    hold: Option<Position>,
    // The rows of the last batch: the next one may have as many.
    rows_likely: usize,
    open: Option<Open>,
}

/// When a batch is full or old.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) rows: usize,
    pub(crate) txs: usize,
    pub(crate) growth: usize,
    pub(crate) age: Duration,
}

#[derive(Debug)]
struct Open {
    opened: MonoTime,
    txs: usize,
    bytes: usize,
    rows: RowSet,
    footprint: Footprint,
    batch: ApplyBatch,
}

/// A finished batch with what it touches and weighs.
#[derive(Debug)]
pub(crate) struct Closed {
    pub(crate) batch: ApplyBatch,
    pub(crate) footprint: Footprint,
    pub(crate) bytes: usize,
}

impl Batch {
    pub(crate) const fn new(limits: Limits, after: Option<Position>) -> Self {
        Self { limits, after, hold: None, rows_likely: 0, open: None }
    }

    /// The first batch shall hold everything up to here, whatever its size.
    pub(crate) fn hold_until(&mut self, position: Position) {
        self.hold = Some(position);
    }

    /// Whether the open batch waits for more, whatever its size.
    pub(crate) fn is_held(&self) -> bool {
        let reached = self.open.as_ref().map(|open| open.batch.position).max(self.after);
        reached < self.hold
    }

    /// Whether the first batch reaches further than this.
    pub(crate) fn is_held_beyond(&self, position: Position) -> bool {
        Some(position) < self.hold
    }

    /// Adds a whole transaction. A transaction is never split over two batches.
    pub(crate) fn push(&mut self, now: MonoTime, catalog: &Catalog, tx: OrderedTx) {
        let Self { after, rows_likely, .. } = *self;
        let open = self.open.get_or_insert_with(|| Open {
            opened: now,
            txs: 0,
            bytes: 0,
            rows: RowSet::default(),
            footprint: Footprint::default(),
            batch: ApplyBatch {
                first: tx.seq,
                last: tx.seq,
                after,
                position: tx.position,
                committed: tx.committed,
                piece: Piece::Whole,
                mutations: Vec::with_capacity(rows_likely),
                ends: Vec::new(),
            },
        });
        let batch = &mut open.batch;
        assert!(tx.seq == batch.first || tx.seq == batch.last.next(), "transactions out of order");
        batch.last = tx.seq;
        batch.position = tx.position;
        batch.committed = batch.committed.max(tx.committed);
        if tx.mutations.is_empty() {
            return;
        }
        for mutation in &tx.mutations {
            open.bytes = open.bytes.saturating_add(mutation.len_bytes());
            open.rows.insert(open.footprint.add(catalog, mutation));
        }
        open.txs = open.txs.saturating_add(1);
        batch.mutations.extend(tx.mutations);
        let before = batch.mutations.len();
        batch.ends.push(TxEnd { seq: tx.seq, position: tx.position, before });
    }

    /// Takes the open batch out if it is full, old enough, or the target has nothing else to do.
    /// With `Ahead::Many` on their way the target has more to do than it can.
    pub(crate) fn take_ready(&mut self, now: MonoTime, ahead: Ahead) -> Option<Closed> {
        if self.is_held() {
            return None;
        }
        let Limits { rows, txs, growth, age } = self.limits;
        self.take_if(|open| {
            let grows = ahead == Ahead::Many && open.bytes < GROWN_BYTES_MAX;
            let times = if grows { growth } else { 1 };
            let rows = rows.saturating_mul(times);
            ahead == Ahead::Nothing
                || rows <= open.rows.len
                || txs.saturating_mul(times) <= open.txs
                // Hot rows fold to nothing; their changes are held all the same.
                || rows.saturating_mul(8) <= open.batch.mutations.len()
                || open.opened.after(age) <= now
        })
    }

    /// Takes the open batch out as it is, to make room for a piece.
    pub(crate) fn take_open(&mut self) -> Option<Closed> {
        self.take_if(|_| true)
    }

    /// Wraps a piece of a huge transaction; `take_open` must have emptied the station before.
    pub(crate) fn piece(
        &mut self,
        seq: TxSeq,
        piece: Piece,
        position: Position,
        tx: OrderedPiece,
    ) -> Closed {
        assert!(self.open.is_none(), "a piece overtakes the open batch");
        let OrderedPiece { committed, mutations } = tx;
        let bytes = mutations.iter().fold(0, |sum: usize, m| sum.saturating_add(m.len_bytes()));
        let ends = alloc::vec![TxEnd { seq, position, before: mutations.len() }];
        let (first, last, after) = (seq, seq, self.after);
        if piece.commits() {
            self.after = Some(position);
        }
        let batch = ApplyBatch { first, last, after, position, committed, piece, mutations, ends };
        Closed { batch, footprint: Footprint::everything(), bytes }
    }

    /// When the open batch is old enough. Nothing is due for one without changes: it waits for the
    /// target to be idle.
    pub(crate) fn deadline(&self) -> Option<MonoTime> {
        if self.is_held() {
            return None;
        }
        self.open.as_ref().map(|open| open.opened.after(self.limits.age))
    }

    /// Rows and bytes in the open batch.
    pub(crate) fn held(&self) -> (usize, usize) {
        self.open.as_ref().map_or((0, 0), |open| (open.batch.mutations.len(), open.bytes))
    }

    fn take_if(&mut self, ready: impl FnOnce(&Open) -> bool) -> Option<Closed> {
        let Open { mut footprint, batch, bytes, .. } = self.open.take_if(|open| ready(open))?;
        footprint.close();
        self.after = Some(batch.position);
        let rows_max = self.limits.rows.saturating_mul(self.limits.growth);
        self.rows_likely = batch.mutations.len().min(rows_max);
        Some(Closed { batch, footprint, bytes })
    }
}

/// Rows, each counted once however often it changes: their hashes, which are spread already, in a table with open
/// addressing. A tree costs several times as much for each change.
#[derive(Debug, Default)]
struct RowSet {
    // A power of two of them, at most half of which are taken. Zero is free.
    slots: Vec<u64>,
    len: usize,
}

impl RowSet {
    fn insert(&mut self, row: u64) {
        if self.slots.len() <= self.len.saturating_mul(2) {
            let room = self.slots.len().saturating_mul(2).max(64);
            let had = core::mem::replace(&mut self.slots, alloc::vec![0; room]);
            for row in had.into_iter().filter(|row| *row != 0) {
                self.place(row);
            }
        }
        if self.place(row.max(1)) {
            self.len = self.len.saturating_add(1);
        }
    }

    /// Puts a row into its place. Returns whether it was not there.
    fn place(&mut self, row: u64) -> bool {
        let mask = self.slots.len().saturating_sub(1);
        let first = usize::try_from(row & u64::try_from(mask).unwrap_or(u64::MAX)).unwrap_or(0);
        for step in 0..self.slots.len() {
            match self.slots.get_mut(first.wrapping_add(step) & mask) {
                Some(slot) if *slot == 0 => {
                    *slot = row;
                    return true;
                }
                Some(slot) if *slot == row => return false,
                Some(_) | None => (),
            }
        }
        unreachable!("half of the slots are free")
    }
}

/// The contents of a piece.
#[derive(Debug)]
pub(crate) struct OrderedPiece {
    pub(crate) committed: Option<crate::model::time::WallTime>,
    pub(crate) mutations: Vec<Mutation>,
}

#[cfg(test)]
mod tests {
    use alloc::collections::BTreeSet;

    use super::{Ahead, RowSet};

    #[test]
    fn a_target_that_takes_two_batches_at_once_is_busy_with_two() {
        for limit in [1, 2, 3, 4, 16] {
            assert_eq!(Ahead::of(0, limit), Ahead::Nothing);
            assert_eq!(Ahead::of(limit, limit), Ahead::Many);
        }
        assert_eq!(Ahead::of(1, 2), Ahead::Few);
        assert_eq!((Ahead::of(3, 16), Ahead::of(4, 16)), (Ahead::Few, Ahead::Many));
    }

    #[test]
    fn each_row_counts_once() {
        let (mut rows, mut model) = (RowSet::default(), BTreeSet::new());
        let mut row = 0_u64;
        for time in 0..20_000_u64 {
            // Every third one came before; many share their place.
            if !time.is_multiple_of(3) {
                row = row.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(time << 7);
            }
            rows.insert(row);
            model.insert(row.max(1));
            assert_eq!(rows.len, model.len(), "{time}");
        }
    }
}
