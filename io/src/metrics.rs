//! What an operator can see of a run: metrics, readiness, and the machine's last status.
//!
//! ```text
//! driver ──► Observer ──► counters, histograms          ─┐
//! machine ─► Status   ──► gauges, set when somebody asks ─┴─► gather ──► exposition text
//! ```
//!
//! Every instance has its own registry. Gauges of time, such as lag, are computed when they are asked
//! for, so they move on while nothing else does.
mod families;
mod marks;
mod process;
pub mod snapshots;

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use prometheus::proto::MetricFamily;
use prometheus::{GaugeVec, Histogram, IntCounter, Registry};
use replicator_core::model::catalog::Catalog;
use replicator_core::model::mutation::{ApplyRequest, Change, Mutation, SourceTx};
use replicator_core::model::position::{Lsn, Position};
use replicator_core::model::time::WallTime;
use replicator_core::{Event, Failure, Status};

use self::families::Families;
use self::marks::Marks;
use self::process::Process;
use crate::driver::Observer;

/// What shares of something are shares of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Batches on their way into the target at the same time, at least 1.
    pub applies_max: usize,
    /// Bytes of rows held, at least 1.
    pub buffered_bytes_max: usize,
}

/// See the [module docs](self).
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    schema: String,
    limits: Limits,
    wall: fn() -> WallTime,
    families: Families,
    process: Option<Process>,
    counts: Counts,
    state: Mutex<State>,
}

/// Counters that are looked up once, because every row counts on them.
#[derive(Debug)]
struct Counts {
    inserts: IntCounter,
    updates: IntCounter,
    deletes: IntCounter,
    truncates: IntCounter,
    received: IntCounter,
    success: IntCounter,
    error: IntCounter,
    errors: IntCounter,
}

#[derive(Debug, Default)]
struct State {
    /// By table number.
    tables: Vec<Table>,
    marks: Marks,
    status: Option<Status>,
    stage: Stage,
}

/// Whether the source is read.
#[derive(Debug, Default)]
enum Stage {
    #[default]
    Starting,
    Running,
    Down {
        reason: String,
    },
}

/// The metrics of one table.
#[derive(Debug)]
struct Table {
    upserts: IntCounter,
    deletes: IntCounter,
    dead_letters: IntCounter,
    duration: Histogram,
    age: Histogram,
}

/// What a batch did to one table.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    upserts: u64,
    deletes: u64,
    dead: u64,
}

impl Metrics {
    /// Makes all metrics for the target schema that the label `schema` names. `source` is the command,
    /// such as `pglogical`; `wall` tells the time by our clock.
    #[must_use]
    pub fn new(source: &str, schema: &str, limits: Limits, wall: fn() -> WallTime) -> Self {
        let registry = Registry::new();
        let families = Families::new(&registry, schema);
        let mutations = |kind| families.source.mutations.with_label_values(&[source, kind]);
        let accepted = |kind| families.source.accepted.with_label_values(&[kind]);
        let counts = Counts {
            inserts: mutations("insert"),
            updates: mutations("update"),
            deletes: mutations("delete"),
            truncates: mutations("truncate"),
            received: accepted("received"),
            success: accepted("success"),
            error: accepted("error"),
            // A refused batch may hold changes of several tables.
            errors: families.work.errors.with_label_values(&[schema, "*"]),
        };
        let state = Mutex::default();
        let schema = schema.to_owned();
        Self { registry, schema, limits, wall, families, process: None, counts, state }
    }

    /// Adds what the operating system says about this process.
    #[must_use]
    pub fn with_process(mut self) -> Self {
        self.process = Some(Process::new(&self.registry));
        self
    }

    /// Where other metrics of this process can be added.
    #[must_use]
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Names the tables. Call it with every catalog before batches refer to it.
    pub fn set_tables(&self, catalog: &Catalog) {
        let tables = catalog.tables().map(|(_, table)| self.table(&table.name.table)).collect();
        self.with_state(|state| state.tables = tables);
    }

    /// The replication stream was started.
    pub fn dial_success(&self) {
        self.families.source.dial_success.inc();
    }

    /// The replication stream could not be started.
    pub fn dial_failure(&self) {
        self.families.source.dial_failure.inc();
    }

    /// The source is read from here on.
    pub fn run_began(&self) {
        self.with_state(|state| state.stage = Stage::Running);
    }

    /// The run is over; the next one may begin soon. `reason` holds no secret and no row value.
    pub fn run_ended(&self, reason: &str) {
        self.with_state(|state| {
            state.stage = Stage::Down { reason: reason.to_owned() };
            state.status = None;
        });
    }

    /// Whether the source is read, or why not.
    ///
    /// # Errors
    ///
    /// No run has begun, or the last one is over.
    pub fn readiness(&self) -> Result<(), String> {
        self.with_state(|state| match &state.stage {
            Stage::Starting => Err("starting".to_owned()),
            Stage::Running => Ok(()),
            Stage::Down { reason } => Err(reason.clone()),
        })
    }

    /// The machine's last status in this run, if it has had one.
    #[must_use]
    pub fn last_status(&self) -> Option<Status> {
        self.with_state(|state| state.status)
    }

    /// How old the target is compared with the source, or `None` as long as nobody knows.
    #[must_use]
    pub fn lag(&self) -> Option<Duration> {
        let applied = self.with_state(|state| state.marks.applied_time())?;
        Some(Duration::from_secs_f64(self.seconds_since(applied)))
    }

    /// All metrics, with gauges as of this moment.
    #[must_use]
    pub fn gather(&self) -> Vec<MetricFamily> {
        self.refresh();
        self.registry.gather()
    }

    fn with_state<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        // The state is plain numbers, so one that a panic left behind is as good as any.
        work(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn table(&self, table: &str) -> Table {
        let families = &self.families.tables;
        let labels = [self.schema.as_str(), table];
        // Nothing here compares and sets; the two are there so that a sum over them is 0, not absent.
        families.conflicts.with_label_values(&labels).inc_by(0);
        families.resolves.with_label_values(&labels).inc_by(0);
        Table {
            upserts: families.upserts.with_label_values(&labels),
            deletes: families.deletes.with_label_values(&labels),
            dead_letters: families.dead_letters.with_label_values(&labels),
            duration: families.duration.with_label_values(&labels),
            age: families.age.with_label_values(&labels),
        }
    }

    /// Not negative: clocks of two machines never agree quite.
    fn seconds_since(&self, time: WallTime) -> f64 {
        let micros = (self.wall)().micros.saturating_sub(time.micros);
        seconds(WallTime { micros: micros.max(0) })
    }

    /// Sets the gauges.
    fn refresh(&self) {
        if let Some(process) = &self.process {
            process.refresh();
        }
        let families = &self.families;
        let set = |gauge: &GaugeVec, value| gauge.with_label_values(&[&self.schema]).set(value);
        self.with_state(|state| {
            let running = matches!(state.stage, Stage::Running);
            families.source.connected.set(if running { 1.0 } else { 0.0 });
            if let Some(time) = state.marks.received_time() {
                set(&families.lag.source, self.seconds_since(time));
                set(&families.lag.pending_timestamp, seconds(time));
            }
            if let Some(time) = state.marks.applied_time() {
                set(&families.lag.target, self.seconds_since(time));
                set(&families.lag.applied_timestamp, seconds(time));
            }
            let status = state.status.as_ref();
            let applies = status.map_or(0, |status| status.applies);
            let rows = status.map_or(0, |status| status.buffered_rows);
            let bytes = status.map_or(0, |status| status.buffered_bytes);
            families.work.parallelism_percent.set(percent(applies, self.limits.applies_max));
            families.work.queue_batches.set(float(status.map_or(0, |status| status.waiting)));
            families.work.queue_rows.set(float(rows));
            families.work.queue_bytes.set(float(bytes));
            families.work.queue_percent.set(percent(bytes, self.limits.buffered_bytes_max));
            families.lag.target_bytes.set(status.map_or(0.0, bytes_behind));
            // With nothing to do, the work is done.
            if running && applies == 0 && rows == 0 {
                families.work.sweep_success_timestamp.set(seconds((self.wall)()));
            }
        });
    }

    fn transaction_received(&self, tx: &SourceTx) {
        self.families.source.transactions.inc();
        if tx.mutations.is_empty() {
            self.families.source.empty_transactions.inc();
        }
        self.mutations_received(&tx.mutations);
        self.families.lag.received_distribution.observe(self.seconds_since(tx.committed));
        self.with_state(|state| state.marks.push(tx.position, tx.committed));
    }

    fn mutations_received(&self, mutations: &[Mutation]) {
        let [mut inserts, mut updates, mut deletes, mut truncates] = [0; 4];
        for mutation in mutations {
            match &mutation.change {
                Change::Insert(_) => inserts += 1,
                Change::Upsert(_) | Change::Update(_) | Change::Move { .. } => updates += 1,
                Change::Delete(_) => deletes += 1,
                Change::Truncate => truncates += 1,
            }
        }
        self.counts.inserts.inc_by(inserts);
        self.counts.updates.inc_by(updates);
        self.counts.deletes.inc_by(deletes);
        self.counts.truncates.inc_by(truncates);
        self.counts.received.inc_by(inserts + updates + deletes + truncates);
        self.families.source.sent_to_apply.inc_by(inserts + updates + deletes + truncates);
    }
}

impl Observer for Metrics {
    fn received(&self, event: &Event) {
        match event {
            Event::TransactionReceived(tx) => self.transaction_received(tx),
            Event::PieceReceived { before: _, mutations } => self.mutations_received(mutations),
            Event::IdleThrough(position) => {
                // The source has nothing older, so it is as of now.
                let now = (self.wall)();
                self.with_state(|state| state.marks.push(*position, now));
            }
            Event::RowsReceived { .. }
            | Event::ResolvedReceived { .. }
            | Event::Done(_)
            | Event::StagedRead { .. }
            | Event::Failed { .. }
            | Event::DeadlineReached => (),
        }
    }

    fn status(&self, status: &Status) {
        self.with_state(|state| {
            if let Some(applied) = status.applied {
                state.marks.applied(applied);
            }
            state.status = Some(*status);
            state.stage = Stage::Running;
        });
    }

    fn applied(&self, request: &ApplyRequest, took: Duration) {
        let ApplyRequest { batch, order: _, dead } = request;
        let took = took.as_secs_f64();
        let rows = batch.mutations.len();
        self.counts.success.inc_by(count(rows.saturating_sub(dead.len())));
        self.families.work.sweep_applied.inc_by(count(rows));
        self.families.work.sweep_duration.observe(took);
        self.families.work.sweep_success_timestamp.set(seconds((self.wall)()));
        let age = match batch.committed {
            Some(committed) if batch.piece.commits() => Some(self.seconds_since(committed)),
            Some(_) | None => None,
        };
        if let Some(age) = age {
            self.families.lag.transaction.observe(age);
            self.families.lag.commit_to_apply.observe(age);
        }
        if batch.piece.begins() {
            self.families.work.retry_actions.inc();
        }
        let tallies = tally(&batch.mutations, dead);
        self.with_state(|state| {
            for (table, tally) in state.tables.iter().zip(tallies) {
                let Tally { upserts, deletes, dead } = tally;
                table.dead_letters.inc_by(dead);
                if upserts + deletes > 0 {
                    table.upserts.inc_by(upserts);
                    table.deletes.inc_by(deletes);
                    table.duration.observe(took);
                    if let Some(age) = age {
                        table.age.observe(age);
                    }
                }
            }
        });
    }

    fn failed(&self, failure: &Failure) {
        self.counts.errors.inc();
        let (detail, kind, again) = match failure {
            Failure::Transient { detail } => (detail.as_str(), "transient", true),
            Failure::OutcomeUnknown { detail } => (detail.as_str(), "outcome_unknown", true),
            Failure::Constraint { detail, .. } => (detail.as_str(), "constraint", true),
            Failure::Rejected { detail, .. } => (detail.as_str(), "rejected", false),
            Failure::Fenced => ("", "fenced", false),
        };
        if let Failure::Rejected { at, .. } = failure {
            self.counts.error.inc_by(at.as_ref().map_or(1, |at| count(at.len())));
        }
        let by_code = if again { &self.families.work.retried } else { &self.families.work.aborted };
        by_code.with_label_values(&[sqlstate(detail).unwrap_or(kind)]).inc();
    }
}

/// By table number.
fn tally(mutations: &[Mutation], dead: &[usize]) -> Vec<Tally> {
    let mut tallies: Vec<Tally> = Vec::new();
    for (index, mutation) in mutations.iter().enumerate() {
        let table = usize::try_from(mutation.table.0).unwrap_or(usize::MAX);
        if tallies.len() <= table {
            tallies.resize(table.saturating_add(1), Tally::default());
        }
        let Some(tally) = tallies.get_mut(table) else { continue };
        match &mutation.change {
            _ if dead.contains(&index) => tally.dead += 1,
            Change::Insert(_) | Change::Upsert(_) | Change::Update(_) | Change::Move { .. } => {
                tally.upserts += 1;
            }
            Change::Delete(_) => tally.deletes += 1,
            Change::Truncate => (),
        }
    }
    tallies
}

/// How much of the source's log lies between what was received and what is applied.
fn bytes_behind(status: &Status) -> f64 {
    match (status.admitted, status.applied) {
        (Some(Position::Lsn(Lsn(admitted))), Some(Position::Lsn(Lsn(applied)))) => {
            wide(admitted.saturating_sub(applied))
        }
        (Some(_) | None, Some(_) | None) => 0.0,
    }
}

/// The five characters after `SQLSTATE` in a database's words.
fn sqlstate(detail: &str) -> Option<&str> {
    let (_, after) = detail.split_once("SQLSTATE ")?;
    let code = after.get(..5)?;
    code.bytes().all(|byte| byte.is_ascii_alphanumeric()).then_some(code)
}

fn percent(part: usize, whole: usize) -> f64 {
    (float(part) * 100.0 / float(whole.max(1))).min(100.0)
}

fn seconds(time: WallTime) -> f64 {
    let size = wide(time.micros.unsigned_abs()) / 1e6;
    if time.micros < 0 { -size } else { size }
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

fn float(number: usize) -> f64 {
    wide(count(number))
}

/// Exact up to 2^53, which is enough for a gauge.
fn wide(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests;
