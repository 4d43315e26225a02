//! What the driver needs from a source, a staging store and a target.
use std::future::Future;

use replicator_core::model::mutation::{ApplyRequest, TimedMutation};
use replicator_core::model::position::{PartitionId, Position, RequestId};
use replicator_core::model::time::Hlc;
use replicator_core::{Durable, Event, Failure};

/// Marks everything one run writes. A store refuses writes that carry an older fence than the
/// newest it has handed out, so that a dead run's late packets change nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fence(pub u64);

/// Where changes come from.
pub trait Source: Send {
    /// Why no more changes come.
    type Error: std::error::Error + Send + Sync + 'static;

    /// Waits until the source has said something and appends it to `events`: everything that has
    /// arrived, up to a limit of the adapter's. Cancel safe: dropping the future loses nothing.
    ///
    /// # Errors
    ///
    /// The connection is gone, the source broke its protocol, or it was silent for too long.
    fn next(
        &mut self,
        events: &mut Vec<Event>,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Says how many batches are ahead of what comes next. Where it would only wait, the source may let
    /// it pile up for some milliseconds, which saves both sides a wake-up for each row.
    fn ahead(&mut self, batches: usize);

    /// Remembers to tell the source; sent along in the background.
    fn acknowledge(&mut self, position: Position);

    /// Answers a request that an event of this source carried.
    fn answer(&mut self, request: RequestId);
}

/// Where we keep what must survive us. A store for ordered sources keeps no rows: it has a beginning and a checkpoint,
/// and the rest as it is here.
pub trait Staging: Clone + Send + Sync + 'static {
    /// Begins a run: fences off every earlier one, here and in the target, and loads what survived.
    ///
    /// # Errors
    ///
    /// See [`Failure`]; nothing has begun.
    fn begin(&self) -> impl Future<Output = Result<(Fence, Durable), Failure>> + Send;

    /// Does [`Effect::ReadStaged`](replicator_core::Effect::ReadStaged).
    ///
    /// # Errors
    ///
    /// See [`Failure`].
    fn read(
        &self,
        _after: Hlc,
        _through: Hlc,
        _rows_max: u32,
    ) -> impl Future<Output = Result<StagedPage, Failure>> + Send {
        async { Err(unsupported()) }
    }

    /// Does [`Effect::RetireStaged`](replicator_core::Effect::RetireStaged).
    ///
    /// # Errors
    ///
    /// See [`Failure`].
    fn retire(
        &self,
        _fence: Fence,
        _through: Hlc,
    ) -> impl Future<Output = Result<(), Failure>> + Send {
        async { Err(unsupported()) }
    }

    /// Does [`Effect::SaveCheckpoint`](replicator_core::Effect::SaveCheckpoint). Forward only.
    ///
    /// # Errors
    ///
    /// See [`Failure`].
    fn save_checkpoint(
        &self,
        fence: Fence,
        position: Position,
    ) -> impl Future<Output = Result<(), Failure>> + Send;

    /// Does [`Effect::SaveResolved`](replicator_core::Effect::SaveResolved). Forward only.
    ///
    /// # Errors
    ///
    /// See [`Failure`].
    fn save_resolved(
        &self,
        _fence: Fence,
        _partition: PartitionId,
        _resolved: Hlc,
    ) -> impl Future<Output = Result<(), Failure>> + Send {
        async { Err(unsupported()) }
    }

    /// Does [`Effect::SaveHorizon`](replicator_core::Effect::SaveHorizon). Forward only.
    ///
    /// # Errors
    ///
    /// See [`Failure`].
    fn save_horizon(
        &self,
        _fence: Fence,
        _through: Hlc,
    ) -> impl Future<Output = Result<(), Failure>> + Send {
        async { Err(unsupported()) }
    }

    /// What [`save_horizon`](Self::save_horizon) saved last; zero if nothing.
    ///
    /// # Errors
    ///
    /// See [`Failure`].
    fn horizon(&self) -> impl Future<Output = Result<Hlc, Failure>> + Send {
        async { Err(unsupported()) }
    }

    /// Does [`Effect::Stage`](replicator_core::Effect::Stage). Idempotent on (table, key, time).
    ///
    /// A row whose time is not after `floor` comes late: what was staged through there may have been read.
    /// It is kept only if nothing as new was ever staged of the same row, however long ago, and then as of
    /// the [next](Hlc::next) time after `floor`. So what a source sends again changes nothing, and what it
    /// should have sent before is not lost.
    ///
    /// # Errors
    ///
    /// See [`Failure`].
    fn stage(
        &self,
        _fence: Fence,
        _rows: Vec<TimedMutation>,
        _floor: Hlc,
    ) -> impl Future<Output = Result<(), Failure>> + Send {
        async { Err(unsupported()) }
    }
}

/// An ordered source stages no rows, so a machine of one never asks for it.
fn unsupported() -> Failure {
    let detail = "this store keeps positions of ordered sources, not staged rows".to_owned();
    Failure::Rejected { detail, at: None }
}

/// Staged rows in (time, key) order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StagedPage {
    /// The rows.
    pub rows: Vec<TimedMutation>,
    /// True if the range holds nothing beyond them.
    pub exhausted: bool,
}

/// Where changes go.
pub trait Target: Clone + Send + Sync + 'static {
    /// Does [`Effect::Apply`](replicator_core::Effect::Apply) in one transaction that also checks the
    /// fence. Idempotent: a batch that is in the target already is reported as applied.
    ///
    /// # Errors
    ///
    /// See [`Failure`]. Nothing has happened unless it is `OutcomeUnknown`.
    fn apply(
        &self,
        fence: Fence,
        request: ApplyRequest,
    ) -> impl Future<Output = Result<(), Failure>> + Send;
}
