//! Station 8: turn "applied" into "durable", then into "the source may forget it".
use alloc::collections::BTreeMap;
use core::time::Duration;

use crate::model::mutation::ApplyBatch;
use crate::model::position::{OpId, Position, TxSeq};
use crate::model::time::{MonoTime, WallTime};

/// Three marks that only move forward: `saved <= saving <= applied` (I1).
#[derive(Debug)]
pub(crate) struct Checkpoint {
    interval: Duration,
    saved: Option<Position>,
    saving: Option<(OpId, Position)>,
    // Not before this: saving costs a write, and what is applied is known from the target anyway.
    save_from: MonoTime,
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
    }

    /// From now on nothing waits to be saved: the run is about to end.
    pub(crate) fn hurry(&mut self) {
        self.interval = Duration::ZERO;
        self.save_from = MonoTime::START;
    }

    /// The position to persist next, if it moved, no save is under way, and it is time.
    pub(crate) fn next_save(&self, now: MonoTime) -> Option<Position> {
        (self.save_from <= now).then(|| self.to_save()).flatten()
    }

    pub(crate) fn started(&mut self, op: OpId, now: MonoTime, position: Position) {
        assert!(self.saving.is_none(), "one save at a time");
        self.saving = Some((op, position));
        self.save_from = now.after(self.interval);
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
        self.to_save().map(|_| self.save_from)
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

    fn to_save(&self) -> Option<Position> {
        let applied = self.applied?;
        (self.saving.is_none() && self.saved < Some(applied)).then_some(applied)
    }
}
