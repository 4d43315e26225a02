//! Watches a run for its operator: counts, and says in the log what the documents tell people to look
//! for.
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::driver::Observer;
use crate::metrics::SchemaMetrics;
use crate::ordinals::Ordinals;
use crate::source::pg::progress::Progress;
use replicator_core::model::catalog::Catalog;
use replicator_core::model::mutation::{ApplyRequest, Change, TableId};
use replicator_core::model::position::Position;
use replicator_core::{Event, Failure, Status};
use tracing::{debug, enabled, warn};

/// See the [module docs](self).
#[derive(Debug)]
pub(super) struct Onlooker {
    pub(super) metrics: Arc<SchemaMetrics>,
    pub(super) catalog: Arc<Catalog>,
    /// How positions are told.
    pub(super) standing: Standing,
    /// The name of the table of dead letters.
    pub(super) dead_letters: String,
}

/// How positions of a source are told.
#[derive(Debug)]
pub(super) enum Standing {
    /// They are times, which nobody is told.
    Times,
    /// To the source, which shows its operators what is applied.
    Slot(Progress),
    /// By what the numbers stand for.
    Numbers(Ordinals),
}

impl Observer for Onlooker {
    fn received(&self, event: &Event) {
        self.metrics.received(event);
    }

    fn status(&self, status: &Status) {
        Observer::status(&*self.metrics, status);
        if let (Some(Position::Lsn(applied)), Standing::Slot(progress)) =
            (status.applied, &self.standing)
        {
            progress.applied(applied);
        }
    }

    fn applied(&self, request: &ApplyRequest, took: Duration) {
        self.metrics.applied(request, took);
        self.log_dead_letters(request);
        if enabled!(tracing::Level::DEBUG) {
            self.log_applied(request, took);
        }
    }

    fn failed(&self, failure: &Failure) {
        self.metrics.failed(failure);
        match failure {
            // Another order is tried at once; nobody needs to look.
            Failure::Constraint { .. } => debug!("warning during tryCommit: {failure}"),
            Failure::Transient { .. }
            | Failure::OutcomeUnknown { .. }
            | Failure::Rejected { .. }
            | Failure::Fenced => warn!("warning during tryCommit: {failure}"),
        }
    }

    fn staging_failed(&self, failure: &Failure) {
        self.metrics.staging_failed(failure);
        warn!("staging did not do what it was asked: {failure}");
    }
}

impl Onlooker {
    fn log_dead_letters(&self, request: &ApplyRequest) {
        let mut counts: BTreeMap<TableId, u64> = BTreeMap::new();
        let dead = request.dead.iter().filter_map(|index| request.batch.mutations.get(*index));
        for mutation in dead {
            *counts.entry(mutation.table).or_default() += 1;
        }
        for (table, rows) in counts {
            let table = &self.catalog.table(table).name;
            warn!(rows, %table, "rejected rows were kept in table {}", self.dead_letters);
        }
    }

    fn log_applied(&self, request: &ApplyRequest, took: Duration) {
        let batch = &request.batch;
        let mut counts: BTreeMap<TableId, (u64, u64)> = BTreeMap::new();
        for mutation in &batch.mutations {
            let (upserts, deletes) = counts.entry(mutation.table).or_default();
            match &mutation.change {
                Change::Insert(_) | Change::Upsert(_) | Change::Update(_) | Change::Move { .. } => {
                    *upserts += 1;
                }
                Change::Delete(_) | Change::Truncate => *deletes += 1,
            }
        }
        let duration = format!("{took:?}");
        for (table, (upserted, deleted)) in counts {
            let target = &self.catalog.table(table).name;
            let proposed = upserted;
            if upserted > 0 {
                debug!(conflicts = 0, %duration, proposed, %target, upserted, "upserted rows");
            }
            if deleted > 0 {
                debug!(%duration, deleted, %target, "deleted rows");
            }
        }
        if batch.piece.commits() {
            self.log_position(batch.position);
        }
    }
    fn log_position(&self, position: Position) {
        match &self.standing {
            Standing::Times | Standing::Slot(_) => debug!("progressed to LSN: {position}"),
            Standing::Numbers(ordinals) => {
                if let Ok(place) = ordinals.place(position) {
                    let executed = place.executed.to_string().replace('\n', "");
                    debug!("progressed to consistent point: {executed}");
                }
            }
        }
    }
}
