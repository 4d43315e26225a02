//! What survives a crash of the replicator: staging, with the fence that makes a dead run's writes void.
use std::collections::BTreeMap;

use replicator_core::Durable;
use replicator_core::model::mutation::{ApplyBatch, Change, Mutation, TableId, TimedMutation};
use replicator_core::model::position::{Applied, PartitionId, Position, TxSeq};
use replicator_core::model::time::Hlc;

use crate::database::cells;
use crate::schema::{Tuple, schema};

/// Marks everything one run writes.
pub type Fence = u64;

/// The staging tables.
#[derive(Clone, Debug, Default)]
pub struct Store {
    fence: Fence,
    checkpoint: Option<Position>,
    resolved: BTreeMap<PartitionId, Hlc>,
    horizon: Hlc,
    // Whether the target tells what it has.
    tells: bool,
    has_horizon: bool,
    // By time and key. The key is what the source sent: two rows of a table whose keys we cannot compare
    // have the same `RowKey`.
    staged: BTreeMap<(Hlc, TableId, Tuple), Mutation>,
    // The newest time that was ever staged of each row.
    latest: BTreeMap<(TableId, Tuple), Hlc>,
    // What each target transaction holds, written by the transaction itself.
    applied: BTreeMap<(Fence, TxSeq), Applied>,
}

/// What a target transaction finds where it records what it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recorded {
    /// Nothing: it is the first.
    Fresh,
    /// Another one has committed the same batch.
    Known,
    /// A later run has begun.
    Fenced,
}

impl Store {
    /// A store for a source with these partitions.
    #[must_use]
    pub fn new(partitions: u32) -> Self {
        let resolved = (0..partitions).map(|id| (PartitionId(id), Hlc::default())).collect();
        Self { resolved, tells: true, ..Self::default() }
    }

    /// Whether the target tells what it has.
    #[must_use]
    pub const fn tells(&self) -> bool {
        self.tells
    }

    /// From here on it is saved how far rows may get into the target.
    pub fn keep_horizon(&mut self) {
        self.has_horizon = true;
    }

    /// Whether that is saved.
    #[must_use]
    pub const fn has_horizon(&self) -> bool {
        self.has_horizon
    }

    /// From here on the target keeps no records of what it has.
    pub fn keep_no_records(&mut self) {
        self.tells = false;
        self.has_horizon = true;
    }

    /// From here on the target keeps records of what it has, and nothing else tells of it.
    pub fn keep_records(&mut self) {
        self.tells = true;
        self.has_horizon = false;
    }

    /// How far rows may have got into the target.
    #[must_use]
    pub const fn horizon(&self) -> Hlc {
        self.horizon
    }

    /// Saves how far rows may get, forward only.
    pub fn save_horizon(&mut self, through: Hlc) {
        self.horizon = self.horizon.max(through);
    }

    /// Begins a run.
    pub fn begin(&mut self) -> (Fence, Durable) {
        self.fence += 1;
        let applied = self.applied.values().copied().collect();
        let resolved = self.resolved.clone();
        (self.fence, Durable { checkpoint: self.checkpoint, applied, resolved })
    }

    /// Whether `fence` is of the newest run.
    #[must_use]
    pub fn admits(&self, fence: Fence) -> bool {
        fence == self.fence
    }

    /// The saved checkpoint.
    #[must_use]
    pub fn checkpoint(&self) -> Option<Position> {
        self.checkpoint
    }

    /// The saved promise of a partition.
    #[must_use]
    pub fn resolved(&self, partition: PartitionId) -> Hlc {
        self.resolved[&partition]
    }

    /// Whether a change of this time is staged.
    #[must_use]
    pub fn holds(&self, time: Hlc, mutation: &Mutation) -> bool {
        self.staged.contains_key(&(time, mutation.table, sent_key(mutation)))
    }

    /// How many rows are staged.
    #[must_use]
    pub fn staged_len(&self) -> usize {
        self.staged.len()
    }

    /// What a target transaction finds when it is about to record that it holds `batch`. Nothing tells
    /// of a batch at or before the checkpoint: its record is gone, and the target does not look there.
    #[must_use]
    pub fn look_up(&self, fence: Fence, batch: &ApplyBatch) -> Recorded {
        if !self.admits(fence) {
            Recorded::Fenced
        } else if self.applied.contains_key(&(fence, batch.first)) {
            Recorded::Known
        } else {
            Recorded::Fresh
        }
    }

    /// Records that a target transaction holds `batch`.
    pub fn record(&mut self, fence: Fence, batch: &ApplyBatch) {
        if !self.tells {
            return;
        }
        let run = Applied { after: batch.after, through: batch.position };
        self.applied.insert((fence, batch.first), run);
    }

    /// Saves a checkpoint, forward only, and forgets the records that it covers.
    pub fn save_checkpoint(&mut self, position: Position) {
        self.checkpoint = self.checkpoint.max(Some(position));
        let checkpoint = self.checkpoint;
        self.applied.retain(|_, run| checkpoint < Some(run.through));
    }

    /// Saves a promise, forward only.
    pub fn save_resolved(&mut self, partition: PartitionId, to: Hlc) {
        let saved = self.resolved.get_mut(&partition).expect("a partition of this source");
        *saved = to.max(*saved);
    }

    /// Stages rows. Those at or before `floor` come late; see [`Staging::stage`].
    ///
    /// [`Staging::stage`]: replicator_io::port::Staging::stage
    pub fn stage(&mut self, rows: &[TimedMutation], floor: Hlc) {
        let mut sorted: Vec<&TimedMutation> = rows.iter().collect();
        sorted.sort_by_key(|row| row.time);
        for TimedMutation { time, mutation } in sorted {
            let row = (mutation.table, sent_key(mutation));
            let newest = self.latest.get(&row).copied();
            let late = *time <= floor;
            if late && newest.is_some_and(|newest| *time <= newest) {
                continue;
            }
            let when = if late { floor.next() } else { *time };
            self.staged.insert((when, row.0, row.1.clone()), mutation.clone());
            self.latest.insert(row, newest.unwrap_or_default().max(*time));
        }
    }

    /// Forgets staged rows.
    pub fn retire(&mut self, through: Hlc) {
        self.staged.retain(|(time, _, _), _| through < *time);
    }

    /// Reads staged rows in (time, key) order, and the last time whole. The flag says whether the range
    /// holds nothing beyond them.
    #[must_use]
    pub fn read(&self, after: Hlc, through: Hlc, rows_max: u32) -> (Vec<TimedMutation>, bool) {
        let rows_max = usize::try_from(rows_max).expect("fits");
        let mut rows: Vec<TimedMutation> = Vec::new();
        for ((time, _, _), mutation) in &self.staged {
            if *time <= after || through < *time {
                continue;
            }
            if rows_max <= rows.len() && rows.last().is_some_and(|last| last.time < *time) {
                return (rows, false);
            }
            rows.push(TimedMutation { time: *time, mutation: mutation.clone() });
        }
        (rows, true)
    }
}

/// The key of a row as the source sent it.
fn sent_key(mutation: &Mutation) -> Tuple {
    let row = match &mutation.change {
        Change::Delete(row) | Change::Insert(row) | Change::Upsert(row) | Change::Update(row) => {
            row
        }
        Change::Move { .. } | Change::Truncate => {
            unreachable!("a changefeed tells of rows, one by one")
        }
    };
    let columns = &schema().catalog.table(mutation.table).key;
    cells(row, columns).into_values().collect()
}
