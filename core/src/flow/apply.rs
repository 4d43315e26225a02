//! Station 7: what is on its way into the target.
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::model::mutation::{ApplyBatch, ApplyRequest};
use crate::model::position::{OpId, Ticket};
use crate::model::time::MonoTime;

/// A batch on its way, with what we know of its fate so far.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) ticket: Ticket,
    pub(crate) request: ApplyRequest,
    /// What is left of the batch when this part of it is in.
    pub(crate) rest: Vec<Arc<ApplyBatch>>,
    /// Tries so far.
    pub(crate) tries: u32,
    /// Bytes of the whole batch.
    pub(crate) bytes: usize,
    /// Rows of the whole batch.
    pub(crate) rows: usize,
}

/// Batches under way and batches that wait for another try.
#[derive(Debug, Default)]
pub(crate) struct Apply {
    running: BTreeMap<OpId, Job>,
    // Keyed by when to try again; ties are broken by order. A resting batch keeps its ticket, so no
    // younger change to its rows can overtake (I3).
    resting: BTreeMap<(MonoTime, Ticket), Job>,
}

impl Apply {
    pub(crate) fn start(&mut self, op: OpId, job: Job) {
        let previous = self.running.insert(op, job);
        assert!(previous.is_none(), "op {op:?} used twice");
    }

    pub(crate) fn finish(&mut self, op: OpId) -> Option<Job> {
        self.running.remove(&op)
    }

    /// Keeps the job until `at`.
    pub(crate) fn rest(&mut self, at: MonoTime, job: Job) {
        self.resting.insert((at, job.ticket), job);
    }

    pub(crate) fn take_rested(&mut self, now: MonoTime) -> Option<Job> {
        let entry = self.resting.first_entry()?;
        (entry.key().0 <= now).then(|| entry.remove())
    }

    pub(crate) fn deadline(&self) -> Option<MonoTime> {
        self.resting.first_key_value().map(|((at, _), _)| *at)
    }

    pub(crate) fn len(&self) -> usize {
        self.running.len().saturating_add(self.resting.len())
    }
}
