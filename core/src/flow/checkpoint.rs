//! Station 8: turn "applied" into "durable", then into "the source may forget it".
use alloc::collections::BTreeMap;
use core::time::Duration;

use crate::model::mutation::ApplyBatch;
use crate::model::position::{OpId, Position, TxSeq};
use crate::model::time::{MonoTime, WallTime};

/// So many changes are not left for the next interval. What a changefeed staged can be retired then while it is still
/// in memory, a little at a time, so that reads do not wait for long; and a run after a crash repeats less.
const UNSAVED_MAX: usize = 50_000;

/// Three marks that only move forward: `saved <= saving <= applied` (I1).
#[derive(Debug)]
pub(crate) struct Checkpoint {
    interval: Duration,
    saved: Option<Position>,
    saving: Option<(OpId, Position)>,
    // Not before this: saving costs a write, and what is applied is known from the target anyway.
    save_from: MonoTime,
    // Changes that were applied since.
    unsaved: usize,
    applied: Option<Position>,
    committed: Option<WallTime>,
    // Applied batches that an older, unfinished one keeps from counting: first -> rest.
    islands: BTreeMap<TxSeq, Island>,
    applied_through: TxSeq,
}

#[derive(Debug)]
struct Island {
    last: TxSeq,
    position: Position,
    committed: Option<WallTime>,
}

impl Checkpoint {
    pub(crate) fn resume(saved: Option<Position>, interval: Duration) -> Self {
        Self {
            interval,
            saved,
            saving: None,
            save_from: MonoTime::START,
            unsaved: 0,
            applied: saved,
            committed: None,
            islands: BTreeMap::new(),
            applied_through: TxSeq::default(),
        }
    }

    pub(crate) fn applied(&mut self, batch: &ApplyBatch) {
        let ApplyBatch { last, position, committed, .. } = *batch;
        self.islands.insert(batch.first, Island { last, position, committed });
        while let Some(island) = self.islands.remove(&self.applied_through.next()) {
            assert!(self.applied < Some(island.position), "applied moves back");
            self.applied_through = island.last;
            self.applied = Some(island.position);
            self.committed = self.committed.max(island.committed);
        }
        self.unsaved = self.unsaved.saturating_add(batch.mutations.len());
    }

    /// From now on nothing waits to be saved: the run is about to end.
    pub(crate) fn hurry(&mut self) {
        self.interval = Duration::ZERO;
        self.save_from = MonoTime::START;
    }

    /// The position to persist next, if it moved, no save is under way, and it is time.
    pub(crate) fn next_save(&self, now: MonoTime) -> Option<Position> {
        (self.due() <= now).then(|| self.to_save()).flatten()
    }

    pub(crate) fn started(&mut self, op: OpId, now: MonoTime, position: Position) {
        assert!(self.saving.is_none(), "one save at a time");
        self.saving = Some((op, position));
        self.save_from = now.after(self.interval);
        self.unsaved = 0;
    }

    /// Returns the position the source may now forget.
    pub(crate) fn saved(&mut self, op: OpId) -> Option<Position> {
        let (_, position) = self.saving.take_if(|(saving, _)| *saving == op)?;
        self.saved = Some(position);
        Some(position)
    }

    pub(crate) fn failed(&mut self, op: OpId) -> bool {
        self.saving.take_if(|(saving, _)| *saving == op).is_some()
    }

    pub(crate) fn deadline(&self) -> Option<MonoTime> {
        self.to_save().map(|_| self.due())
    }

    /// The last position that is known to be durable.
    pub(crate) fn durable(&self) -> Option<Position> {
        self.saved
    }

    /// Up to where everything is in the target, and when that committed at the source.
    pub(crate) fn reached(&self) -> (Option<Position>, Option<WallTime>) {
        (self.applied, self.committed)
    }

    pub(crate) fn check(&self) {
        let saving = self.saving.map(|(_, position)| position);
        assert!(self.saved <= self.applied, "saved more than was applied");
        if saving.is_some() {
            assert!(self.saved <= saving, "checkpoint moves back");
            assert!(saving <= self.applied, "saving more than was applied");
        }
    }

    fn due(&self) -> MonoTime {
        if self.unsaved < UNSAVED_MAX { self.save_from } else { MonoTime::START }
    }

    fn to_save(&self) -> Option<Position> {
        let applied = self.applied?;
        (self.saving.is_none() && self.saved < Some(applied)).then_some(applied)
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;
    use core::time::Duration;

    use super::{Checkpoint, UNSAVED_MAX};
    use crate::model::key::RowKey;
    use crate::model::mutation::{ApplyBatch, Change, Mutation, Piece, TableId};
    use crate::model::position::{Lsn, OpId, Position, TxSeq};
    use crate::model::time::MonoTime;

    /// One transaction of so many changes.
    fn batch(seq: u64, changes: usize) -> ApplyBatch {
        let key = RowKey::from_bytes(&[]);
        let change = Mutation { table: TableId(0), key, change: Change::Truncate };
        ApplyBatch {
            first: TxSeq(seq),
            last: TxSeq(seq),
            after: None,
            position: Position::Lsn(Lsn(seq)),
            committed: None,
            piece: Piece::Whole,
            mutations: alloc::vec![change; changes],
            ends: Vec::new(),
        }
    }

    #[test]
    fn many_changes_are_saved_before_it_is_time() {
        let interval = Duration::from_millis(500);
        let (begun, soon) = (MonoTime::START, MonoTime::START.after(Duration::from_millis(1)));
        let mut checkpoint = Checkpoint::resume(None, interval);
        checkpoint.applied(&batch(1, 1));
        checkpoint.started(OpId(1), begun, Position::Lsn(Lsn(1)));
        assert!(checkpoint.saved(OpId(1)).is_some());
        checkpoint.applied(&batch(2, UNSAVED_MAX - 1));
        assert_eq!(checkpoint.next_save(soon), None);
        assert_eq!(checkpoint.deadline(), Some(begun.after(interval)));
        checkpoint.applied(&batch(3, 1));
        assert_eq!(checkpoint.next_save(soon), Some(Position::Lsn(Lsn(3))));
        assert!(checkpoint.deadline() <= Some(soon));
        checkpoint.started(OpId(2), soon, Position::Lsn(Lsn(3)));
        checkpoint.applied(&batch(4, 1));
        assert!(checkpoint.saved(OpId(2)).is_some());
        assert_eq!(checkpoint.deadline(), Some(soon.after(interval)), "counted anew");
    }
}
