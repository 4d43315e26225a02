//! The machines that share a schema: one, or in best effort one for related tables and one for independent
//! ones. They share the staging store, too.
//!
//! The checkpoint of the schema is the least of theirs. A lane retires rows as far as its own checkpoint goes,
//! and so the rows that are left tell the next run what there is to do, whatever lanes it has.
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::try_join_all;
use replicator_core::model::catalog::Catalog;
use replicator_core::model::mode::{Lane, Least, Mode};
use replicator_core::model::mutation::{ApplyRequest, TimedMutation};
use replicator_core::model::position::{PartitionId, Position};
use replicator_core::model::time::{Hlc, WallTime};
use replicator_core::{Durable, Event, Failure, Status};
use tokio::sync::watch;

use super::feeds::Laggards;
use super::late::Late;
use super::settings::Consistency;
use super::store::Store;
use crate::driver::Observer;
use crate::net::Dial;
use crate::port::{Fence, StagedPage, Staging};
use crate::source::changefeed::feeds::Feed;

/// How often the mode is thought over.
const LOOK: Duration = Duration::from_secs(1);

/// How long the batches of a run are waited for when another one is to follow.
const GRACE: Duration = Duration::from_secs(10);

/// What a run is to do, as it is known when it begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// One or two.
    pub(super) lanes: Vec<Lane>,
    /// Whether independent tables, or all of them in immediate mode, wait for nothing.
    pub(super) is_immediate: bool,
    /// What the operator wants, or what the lag asks for.
    pub(super) mode: Mode,
    /// Until the schema's checkpoint is here, independent tables have a lane of their own: this far they may
    /// have got without waiting.
    pub(super) settles_at: Option<Hlc>,
}

impl Plan {
    /// `ahead` is how far independent tables may have got in best effort.
    pub(super) fn new(
        consistency: Consistency,
        mode: Mode,
        catalog: &Catalog,
        checkpoint: Option<Position>,
        ahead: Hlc,
    ) -> Self {
        let is_ahead = checkpoint < Some(Position::Hlc(ahead)) && ahead != Hlc::default();
        let whole = vec![Lane::Whole];
        let (lanes, is_immediate, settles_at) = match (consistency, mode) {
            (Consistency::Immediate, _) => (whole, true, None),
            (_, Mode::BestEffort) => {
                let lanes = Lane::of(catalog);
                let is_immediate = lanes != whole;
                (lanes, is_immediate, None)
            }
            (_, Mode::Consistent) if is_ahead => (Lane::of(catalog), false, Some(ahead)),
            (_, Mode::Consistent) => (whole, false, None),
        };
        Self { lanes, is_immediate, mode, settles_at }
    }

    /// A table that had a lane of its own in an earlier run may be related to others by now; its rows may be in the
    /// target as far as that lane got, and forgotten. Then that counts for all of them.
    pub(super) async fn join<D: Dial>(
        &self,
        store: &Store<D>,
        fence: Fence,
        catalog: &Catalog,
        reached: Reached<'_>,
    ) -> Result<Joined, Failure> {
        let Reached { related, independent, late } = reached;
        let before = store.independent().await?.unwrap_or_default();
        let own = self.lanes.iter().find(|lane| matches!(lane, Lane::Independent(_)));
        let compared = own.map(|own| compare(&before, own, catalog));
        if let Some((_, true)) = compared {
            late.join();
        }
        if let Some(times) = late.to_save(self) {
            store.save_late(fence, &times).await?;
        }
        let Some((now, joined)) = compared else { return Ok(Joined { related, moved: None }) };
        let related = if joined && related < independent {
            store.save_horizon(fence, independent).await?;
            independent
        } else {
            related
        };
        Ok(Joined { related, moved: (now != before).then_some(now) })
    }
}

/// What came of tables that are in another lane than in the run before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Joined {
    /// How far rows of related tables may have got.
    pub(super) related: Hlc,
    /// The names of the tables in a lane of their own, if they are others than before. Who knows them must know
    /// how far the others got, and what the target had of the lanes as they were says nothing any more: so they are
    /// saved when both is done.
    pub(super) moved: Option<String>,
}

/// How far earlier runs may have got in best effort.
#[derive(Debug)]
pub(super) struct Reached<'a> {
    pub(super) related: Hlc,
    pub(super) independent: Hlc,
    pub(super) late: &'a mut Late,
}

/// The names of the tables in a lane of their own, one a line, and whether one that is not was named before.
fn compare(before: &str, own: &Lane, catalog: &Catalog) -> (String, bool) {
    let (mut now, mut joined) = (String::new(), false);
    for (id, table) in catalog.tables() {
        let name = table.name.to_string();
        if own.has(Some(id)) {
            now.extend([&name, "\n"]);
        } else {
            joined |= before.lines().any(|line| line == name);
        }
    }
    (now, joined)
}

impl fmt::Display for Plan {
    /// What is not as usual.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.settles_at, self.mode, self.lanes.len()) {
            (Some(at), _, _) => write!(f, ", consistent from {at} on"),
            (None, Mode::BestEffort, _) if !self.is_immediate => f.write_str(
                " in best effort, but all tables are related: none goes before the others",
            ),
            (None, Mode::BestEffort, _) => f.write_str(" in best effort"),
            (None, Mode::Consistent, _) if self.is_immediate => f.write_str(" in immediate mode"),
            (None, Mode::Consistent, _) => Ok(()),
        }
    }
}

/// What the lanes of a run have in common.
#[derive(Clone, Debug)]
pub(super) struct Common {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug)]
struct Inner {
    least: Least,
    // What of it is durable.
    saved: Option<Position>,
    // One for each lane that has said something.
    statuses: Vec<Option<Status>>,
    // The newest promise of each feed.
    promised: BTreeMap<PartitionId, Hlc>,
}

impl Common {
    pub(super) fn new(lanes: usize, durable: &Durable) -> Self {
        let (saved, statuses) = (durable.checkpoint, vec![None; lanes]);
        let (least, promised) = (Least::resume(lanes, saved), durable.resolved.clone());
        let inner = Inner { least, saved, statuses, promised };
        Self { inner: Arc::new(Mutex::new(inner)) }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the mode of the run is not right any more; returns the right one. Says meanwhile which feeds
    /// keep the others waiting.
    pub(super) async fn look(
        &self,
        plan: &Plan,
        consistency: Consistency,
        wall: fn() -> WallTime,
        mut laggards: Laggards,
    ) -> Mode {
        loop {
            tokio::time::sleep(LOOK).await;
            let reached = {
                let inner = self.inner();
                laggards.look(&inner.promised);
                inner.saved
            };
            let mode = consistency.mode(reached, wall(), Some(plan.mode));
            let is_settled = plan.settles_at.is_some_and(|at| Some(Position::Hlc(at)) <= reached);
            if mode != plan.mode || is_settled {
                return mode;
            }
        }
    }
}

/// How a run ended in good order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// It was asked to.
    Stopped,
    /// To go on in this mode.
    Mode(Mode),
    /// To wait for these feeds, too.
    Feeds(BTreeSet<Feed>),
}

/// Runs the lanes of a run until they were asked to stop, or until `look` says why another run is right. What is
/// on its way then is finished, unless that takes long: the next run finds out.
pub(super) async fn together<S, E>(
    runs: Vec<impl Future<Output = Result<S, E>>>,
    end: watch::Sender<bool>,
    mut stop: watch::Receiver<bool>,
    look: impl Future<Output = Ending>,
) -> Result<Ending, E> {
    let mut all = pin!(try_join_all(runs));
    let stopped = async {
        // An error says that nobody is left who could ask.
        drop(stop.wait_for(|stop| *stop).await);
    };
    let ending = tokio::select! {
        biased;
        ended = &mut all => return ended.map(|_| Ending::Stopped),
        () = stopped => Ending::Stopped,
        ending = look => ending,
    };
    end.send_replace(true);
    if ending == Ending::Stopped {
        return all.await.map(|_| ending);
    }
    let ended = tokio::time::timeout(GRACE, all).await;
    ended.unwrap_or_else(|_| Ok(Vec::new())).map(|_| ending)
}

/// The store of one lane. Clones are the same store.
#[derive(Debug)]
pub(super) struct LaneStore<D: Dial> {
    store: Store<D>,
    common: Common,
    lane: usize,
    /// One lane does for the promises of all: the first, whose transactions must stay whole.
    promises: bool,
}

impl<D: Dial> LaneStore<D> {
    /// The store of the lane with this number; `store` is of its tables.
    pub(super) fn new(store: Store<D>, common: Common, lane: usize) -> Self {
        Self { store, common, lane, promises: lane == 0 }
    }
}

impl<D: Dial> Clone for LaneStore<D> {
    fn clone(&self) -> Self {
        let (store, common) = (self.store.clone(), self.common.clone());
        Self { store, common, lane: self.lane, promises: self.promises }
    }
}

impl<D: Dial> Staging for LaneStore<D> {
    async fn begin(&self) -> Result<(Fence, Durable), Failure> {
        self.store.begin().await
    }

    async fn read(&self, after: Hlc, through: Hlc, rows_max: u32) -> Result<StagedPage, Failure> {
        self.store.read(after, through, rows_max).await
    }

    /// Only when the rows are gone does nobody need to know any more that they are in the target.
    async fn retire(&self, fence: Fence, through: Hlc) -> Result<(), Failure> {
        self.store.retire(fence, through).await?;
        self.store.forget(Position::Hlc(through)).await;
        Ok(())
    }

    /// Saves the schema's checkpoint, if it moved. It is not before the lane's own that the lane retires what
    /// it has applied, and after that it is not read again.
    async fn save_checkpoint(&self, fence: Fence, position: Position) -> Result<(), Failure> {
        let (saved, reached) = {
            let mut inner = self.common.inner();
            (inner.saved, inner.least.advance(self.lane, position))
        };
        if let Some(reached) = reached.filter(|reached| saved < Some(*reached)) {
            self.store.save_checkpoint(fence, reached).await?;
            let mut inner = self.common.inner();
            inner.saved = inner.saved.max(Some(reached));
        }
        let saved = self.common.inner().saved;
        if let Some(saved) = saved {
            self.store.forget(saved.min(position)).await;
        }
        Ok(())
    }

    async fn save_resolved(
        &self,
        fence: Fence,
        partition: PartitionId,
        resolved: Hlc,
    ) -> Result<(), Failure> {
        if !self.promises {
            return Ok(());
        }
        self.store.save_resolved(fence, partition, resolved).await
    }

    async fn save_horizon(&self, fence: Fence, through: Hlc) -> Result<(), Failure> {
        self.store.save_horizon(fence, through).await
    }

    async fn horizon(&self) -> Result<Hlc, Failure> {
        self.store.horizon().await
    }

    async fn stage(
        &self,
        fence: Fence,
        rows: Vec<TimedMutation>,
        floor: Hlc,
    ) -> Result<(), Failure> {
        self.store.stage(fence, rows, floor).await
    }
}

/// Watches one lane, for whoever watches the schema.
#[derive(Debug)]
pub(super) struct LaneObserver<O> {
    pub(super) observer: Arc<O>,
    pub(super) common: Common,
    pub(super) lane: usize,
}

impl<O: Observer> Observer for LaneObserver<O> {
    fn received(&self, event: &Event) {
        if let Event::ResolvedReceived { partition, resolved, .. } = event {
            let mut inner = self.common.inner();
            let newest = inner.promised.entry(*partition).or_default();
            *newest = resolved.max(newest).to_owned();
        }
        self.observer.received(event);
    }

    fn status(&self, status: &Status) {
        let merged = {
            let mut inner = self.common.inner();
            if let Some(place) = inner.statuses.get_mut(self.lane) {
                *place = Some(*status);
            }
            inner.statuses.iter().flatten().copied().reduce(|one, other| one.with(&other))
        };
        self.observer.status(&merged.unwrap_or(*status));
    }

    fn applied(&self, request: &ApplyRequest, took: Duration) {
        self.observer.applied(request, took);
    }

    fn failed(&self, failure: &Failure) {
        self.observer.failed(failure);
    }

    fn staging_failed(&self, failure: &Failure) {
        self.observer.staging_failed(failure);
    }
}
