//! The metrics of one target schema.
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use prometheus::{GaugeVec, Histogram, IntCounter, Registry};
use replicator_core::model::catalog::Catalog;
use replicator_core::model::mutation::{ApplyRequest, Change, Mutation, SourceTx, TableId};
use replicator_core::model::time::WallTime;
use replicator_core::{Event, Failure, Status};

use super::families::{Families, Made, Maker, SharedFamilies};
use super::feed::{FeedMetrics, ToStage};
use super::marks::Marks;
use super::stream::StreamMetrics;
use super::{Command, Limits, count, float, percent, seconds};
use crate::driver::Observer;

/// See the [module docs](self).
#[derive(Debug)]
pub struct SchemaMetrics {
    label: String,
    limits: Limits,
    wall: fn() -> WallTime,
    families: Families,
    shared: SharedFamilies,
    source: Source,
    errors: IntCounter,
    state: Mutex<State>,
}

/// Where changes come from.
#[derive(Debug)]
enum Source {
    Stream(Box<Stream>),
    Feed(Box<FeedMetrics>),
}

#[derive(Debug)]
struct Stream {
    metrics: StreamMetrics,
    success: IntCounter,
    error: IntCounter,
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
    name: String,
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

impl SchemaMetrics {
    pub(super) fn new(
        registry: &Registry,
        label: &str,
        command: Command,
        limits: Limits,
        wall: fn() -> WallTime,
        shared: SharedFamilies,
    ) -> (Self, Made) {
        let kind = match command {
            Command::PgLogical | Command::MyLogical => None,
            Command::Start => Some("cdc"),
        };
        let make = Maker::new(registry, label, kind);
        let families = Families::new(&make);
        let source = match &shared.stream {
            Some(stream) => Source::Stream(Box::new(Stream {
                metrics: StreamMetrics::new(&make, stream.clone()),
                success: stream.accepted.with_label_values(&["success"]),
                error: stream.accepted.with_label_values(&["error"]),
            })),
            None => Source::Feed(Box::new(FeedMetrics::new(&make))),
        };
        // A refused batch may hold changes of several tables.
        let errors = families.work.errors.with_label_values(&["*"]);
        let (label, state) = (label.to_owned(), Mutex::default());
        let metrics = Self { label, limits, wall, families, shared, source, errors, state };
        (metrics, make.finish())
    }

    /// The label `schema`.
    #[must_use]
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Names the tables. Call it with every catalog before batches refer to it.
    pub fn set_tables(&self, catalog: &Catalog) {
        let tables = catalog.tables().map(|(_, table)| self.table(&table.name.table)).collect();
        self.with_state(|state| state.tables = tables);
    }

    /// The replication stream was started, or could not be.
    pub fn dialed(&self, succeeded: bool) {
        if let Source::Stream(stream) = &self.source {
            stream.metrics.dialed(succeeded);
        }
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
        let applied = match &self.source {
            Source::Stream(_) => self.with_state(|state| state.marks.applied_time()),
            Source::Feed(feed) => feed.reached().applied,
        };
        Some(Duration::from_secs_f64(self.seconds_since(applied?)))
    }

    /// Rows were staged, or not.
    pub(crate) fn staged(&self, rows: &ToStage, took: Duration, succeeded: bool) {
        let Source::Feed(feed) = &self.source else { return };
        let name = |table: TableId| self.with_state(|state| state.name(table));
        match succeeded {
            true => feed.staged(rows, took, name, |time| self.seconds_since(time)),
            false => feed.not_staged(rows, name),
        }
    }

    /// Rows were read back, to be applied.
    pub(crate) fn staged_read(&self, rows: usize) {
        self.families.source.sent_to_apply.inc_by(count(rows));
    }

    /// A checkpoint was saved.
    pub(crate) fn checkpoint_saved(&self, took: Duration) {
        if let Source::Feed(feed) = &self.source {
            feed.checkpoint_saved(took);
        }
    }

    /// A promise was saved.
    pub(crate) fn resolved_saved(&self, took: Duration) {
        if let Source::Feed(feed) = &self.source {
            feed.resolved_saved(took);
        }
    }

    fn with_state<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        // The state is plain numbers, so one that a panic left behind is as good as any.
        work(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn table(&self, table: &str) -> Table {
        let families = &self.families.tables;
        let labels = [table];
        // Nothing here compares and sets; the two are there so that a sum over them is 0, not absent.
        families.conflicts.with_label_values(&labels).inc_by(0);
        families.resolves.with_label_values(&labels).inc_by(0);
        Table {
            name: table.to_owned(),
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
    pub(super) fn refresh(&self) {
        let Families { source, lag, work, .. } = &self.families;
        let set = |gauge: &GaugeVec, value| gauge.with_label_values::<&str>(&[]).set(value);
        let (received, applied) = match &self.source {
            Source::Stream(_) => {
                self.with_state(|State { marks, .. }| (marks.received_time(), marks.applied_time()))
            }
            Source::Feed(feed) => {
                let reached = feed.reached();
                feed.refresh(&reached, |time| self.seconds_since(time));
                (reached.proposed, reached.applied)
            }
        };
        if let Some(time) = received {
            set(&lag.source, self.seconds_since(time));
            set(&lag.pending_timestamp, seconds(time));
        }
        if let Some(time) = applied {
            set(&lag.target, self.seconds_since(time));
            set(&lag.applied_timestamp, seconds(time));
        }
        let running = self.readiness().is_ok();
        source.connected.set(if running { 1.0 } else { 0.0 });
        let status = self.last_status();
        let status = status.as_ref();
        if let Source::Stream(stream) = &self.source {
            stream.metrics.refresh(status);
        }
        let applies = status.map_or(0, |status| status.applies);
        let rows = status.map_or(0, |status| status.buffered_rows);
        let bytes = status.map_or(0, |status| status.buffered_bytes);
        work.parallelism_percent.set(percent(applies, self.limits.applies_max));
        work.queue_batches.set(float(status.map_or(0, |status| status.waiting)));
        work.queue_rows.set(float(rows));
        work.queue_bytes.set(float(bytes));
        work.queue_percent.set(percent(bytes, self.limits.buffered_bytes_max));
        // With nothing to do, the work is done.
        if running && applies == 0 && rows == 0 {
            work.sweep_success_timestamp.set(seconds((self.wall)()));
        }
    }

    fn stream_received(&self, stream: &StreamMetrics, event: &Event) {
        let mutations = stream.received(event);
        self.families.source.sent_to_apply.inc_by(mutations);
        match event {
            Event::TransactionReceived(SourceTx { position, committed, .. }) => {
                self.families.lag.received_distribution.observe(self.seconds_since(*committed));
                self.with_state(|state| state.marks.push(*position, *committed));
            }
            Event::IdleThrough(position) => {
                // The source has nothing older, so it is as of now.
                let now = (self.wall)();
                self.with_state(|state| state.marks.push(*position, now));
            }
            Event::PieceReceived { .. }
            | Event::RowsReceived { .. }
            | Event::ResolvedReceived { .. }
            | Event::Done(_)
            | Event::StagedRead { .. }
            | Event::Failed { .. }
            | Event::DeadlineReached
            | Event::StopRequested => (),
        }
    }

    fn feed_received(&self, feed: &FeedMetrics, event: &Event) {
        match event {
            Event::RowsReceived { rows, .. } => feed.rows_received(rows.len()),
            Event::ResolvedReceived { resolved, .. } => {
                let promised = feed.resolved_received(*resolved);
                self.families.lag.received_distribution.observe(self.seconds_since(promised));
            }
            Event::TransactionReceived(_)
            | Event::PieceReceived { .. }
            | Event::IdleThrough(_)
            | Event::Done(_)
            | Event::StagedRead { .. }
            | Event::Failed { .. }
            | Event::DeadlineReached
            | Event::StopRequested => (),
        }
    }
}

impl State {
    /// The name of a table, as a label.
    fn name(&self, table: TableId) -> String {
        let table = usize::try_from(table.0).ok().and_then(|number| self.tables.get(number));
        table.map_or_else(|| "*".to_owned(), |table| table.name.clone())
    }
}

impl Observer for SchemaMetrics {
    fn received(&self, event: &Event) {
        match &self.source {
            Source::Stream(stream) => self.stream_received(&stream.metrics, event),
            Source::Feed(feed) => self.feed_received(feed, event),
        }
    }

    fn status(&self, status: &Status) {
        if let Source::Feed(feed) = &self.source {
            feed.status(status);
        }
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
        if let Source::Stream(stream) = &self.source {
            stream.success.inc_by(count(rows.saturating_sub(dead.len())));
        }
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
            self.shared.retry_actions.inc();
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
        self.errors.inc();
        let (detail, kind, again) = match failure {
            Failure::Transient { detail } => (detail.as_str(), "transient", true),
            Failure::OutcomeUnknown { detail } => (detail.as_str(), "outcome_unknown", true),
            Failure::Constraint { detail, .. } => (detail.as_str(), "constraint", true),
            Failure::Rejected { detail, .. } => (detail.as_str(), "rejected", false),
            Failure::Fenced => ("", "fenced", false),
        };
        if let (Failure::Rejected { at, .. }, Source::Stream(stream)) = (failure, &self.source) {
            stream.error.inc_by(at.as_ref().map_or(1, |at| count(at.len())));
        }
        let by_code = if again { &self.shared.retried } else { &self.shared.aborted };
        by_code.with_label_values(&[sqlstate(detail).unwrap_or(kind)]).inc();
    }

    // Whoever asked staging counts what it did not do.
    fn staging_failed(&self, _: &Failure) {}
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

/// The five characters after `SQLSTATE` in a database's words.
fn sqlstate(detail: &str) -> Option<&str> {
    let (_, after) = detail.split_once("SQLSTATE ")?;
    let code = after.get(..5)?;
    code.bytes().all(|byte| byte.is_ascii_alphanumeric()).then_some(code)
}
