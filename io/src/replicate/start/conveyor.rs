//! One run after the other for each target schema that somebody brings rows for.
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use replicator_core::Failure;
use replicator_core::decode::changefeed::TargetKind;
use replicator_core::model::ident::SchemaName;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::{debug, info, warn};

use super::attempt::Attempt;
use super::settings::StartSettings;
use super::stores::Stores;
use super::target::Found;
use crate::clock::Clock;
use crate::http::stopped;
use crate::metrics::Metrics;
use crate::net::Dial;
use crate::source::changefeed::webhook::{Absent, Live, Runs};
use crate::supervisor::{Backoff, GaveUp, supervise};

/// Schemas at the same time. Each has connections and memory of its own.
const SCHEMAS_MAX: usize = 256;

/// So long a conveyor that has given up stands in the way of the next one.
const GAVE_UP_PAUSE: Duration = Duration::from_secs(1);

/// What the conveyors share.
pub(super) struct Shared<D: Dial> {
    pub(super) dial: D,
    pub(super) settings: StartSettings,
    pub(super) found: Found,
    pub(super) staging: Stores<D>,
    pub(super) stop: watch::Receiver<bool>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) clock: Clock,
    // Why conveyors gave up last. Those of a schema that a feed brings rows for do so again and again.
    reasons: Mutex<BTreeMap<SchemaName, String>>,
}

impl<D: Dial> Shared<D> {
    /// The same trouble again is said once at `warn`, as by the supervisor.
    fn gave_up(&self, schema: &SchemaName, GaveUp { reason }: &GaveUp) {
        let mut reasons = self.reasons.lock().unwrap_or_else(PoisonError::into_inner);
        if reasons.get(schema) == Some(reason) {
            return debug!(%schema, "conveyor ended for the same reason");
        }
        warn!(%schema, "conveyor ended: {reason}");
        if SCHEMAS_MAX <= reasons.len() {
            reasons.clear();
        }
        reasons.insert(schema.clone(), reason.clone());
    }
}

/// Whether rows can be brought for a schema.
#[derive(Clone, Debug)]
pub(super) enum State {
    /// Not yet, or not at the moment.
    Starting,
    /// Not to us: another replicator works on the schema.
    Elsewhere,
    /// To this run.
    Live(Arc<Live>),
    /// The target has no such schema. The conveyor is about to go.
    Unknown,
    /// It has given up, for this reason, and is about to go.
    GaveUp(Arc<str>),
}

/// All conveyors. Clones are the same ones.
pub(super) struct Conveyors<D: Dial> {
    shared: Arc<Shared<D>>,
    belts: Arc<Mutex<Belts>>,
}

#[derive(Debug, Default)]
struct Belts {
    states: BTreeMap<SchemaName, watch::Receiver<State>>,
    tasks: JoinSet<SchemaName>,
}

impl<D: Dial> Clone for Conveyors<D> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), belts: Arc::clone(&self.belts) }
    }
}

impl<D: Dial> fmt::Debug for Conveyors<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Conveyors").field("belts", &self.belts).finish_non_exhaustive()
    }
}

impl<D: Dial> Conveyors<D> {
    pub(super) fn new(
        dial: D,
        settings: StartSettings,
        found: Found,
        staging: Stores<D>,
        stop: watch::Receiver<bool>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let clock = Clock::start();
        let reasons = Mutex::default();
        let shared = Shared { dial, settings, found, staging, stop, metrics, clock, reasons };
        Self { shared: Arc::new(shared), belts: Arc::default() }
    }

    /// What kind of target it is.
    pub(super) fn target_kind(&self) -> TargetKind {
        self.shared.found.kind()
    }

    /// Begins those whose rows may wait in staging, so that they are applied although nobody brings more.
    pub(super) async fn begin_known(&self) -> Result<(), Failure> {
        let Shared { staging, found, .. } = &*self.shared;
        for [database, schema] in staging.schemas().await? {
            if database == found.named() {
                let schema = found.whole(&SchemaName { database: None, schema });
                self.state(&schema);
            }
        }
        Ok(())
    }

    /// Waits until all have finished what was brought to them.
    pub(super) async fn finish(&self) {
        let mut tasks = std::mem::take(&mut self.lock().tasks);
        while tasks.join_next().await.is_some() {}
    }

    /// The state of a schema's conveyor, which is begun if there is none. `None` if there are too many.
    fn state(&self, schema: &SchemaName) -> Option<watch::Receiver<State>> {
        let mut belts = self.lock();
        while let Some(ended) = belts.tasks.try_join_next() {
            match ended {
                Ok(schema) => drop(belts.states.remove(&schema)),
                Err(died) => {
                    warn!("a conveyor died: {died}");
                    // Which one, only its end of the channel tells.
                    belts.states.retain(|_, state| state.has_changed().is_ok());
                }
            }
        }
        if let Some(state) = belts.states.get(schema) {
            return Some(state.clone());
        }
        if SCHEMAS_MAX <= belts.states.len() {
            return None;
        }
        let (sender, state) = watch::channel(State::Starting);
        belts.states.insert(schema.clone(), state.clone());
        belts.tasks.spawn(run(Arc::clone(&self.shared), schema.clone(), sender));
        Some(state)
    }

    fn lock(&self) -> MutexGuard<'_, Belts> {
        self.belts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<D: Dial> Runs for Conveyors<D> {
    async fn live(&self, schema: &SchemaName) -> Result<Arc<Live>, Absent> {
        if !self.shared.found.reaches(schema.database.as_deref()) {
            return Err(Absent::Unknown);
        }
        let schema = self.shared.found.whole(schema);
        let mut state = self.state(&schema).ok_or(Absent::NotYet)?;
        let settled = state.wait_for(|state| match state {
            State::Starting => false,
            State::Live(live) => !live.has_ended(),
            State::Elsewhere | State::Unknown | State::GaveUp(_) => true,
        });
        match settled.await.as_deref() {
            Ok(State::Live(live)) => Ok(Arc::clone(live)),
            Ok(State::Elsewhere) => Err(Absent::Elsewhere),
            Ok(State::Unknown) => Err(Absent::Unknown),
            Ok(State::GaveUp(reason)) => Err(Absent::GaveUp(Arc::clone(reason))),
            Ok(State::Starting) | Err(_) => Err(Absent::NotYet),
        }
    }
}

/// Runs the conveyor of a schema until told to stop. Returns the schema.
async fn run<D: Dial>(
    shared: Arc<Shared<D>>,
    schema: SchemaName,
    state: watch::Sender<State>,
) -> SchemaName {
    let memory = Arc::default();
    let ended = supervise(shared.clock, Backoff::default(), shared.stop.clone(), || {
        let (shared, schema) = (Arc::clone(&shared), schema.clone());
        let attempt = Attempt { shared, schema, state: state.clone(), memory: Arc::clone(&memory) };
        Box::pin(attempt.run())
    });
    match ended.await {
        Ok(()) => info!(%schema, "conveyor ended"),
        Err(gave_up) => {
            shared.gave_up(&schema, &gave_up);
            state.send_modify(|state| {
                if !matches!(state, State::Unknown) {
                    *state = State::GaveUp(gave_up.reason.into());
                }
            });
            // Whoever asks meanwhile is told at once, and the next one looks whether somebody has acted.
            let mut stop = shared.stop.clone();
            drop(timeout(GAVE_UP_PAUSE, stopped(&mut stop)).await);
        }
    }
    schema
}
