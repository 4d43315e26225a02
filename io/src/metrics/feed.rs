//! Metrics of a changefeed: its promises, and rows on their way into staging.
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus::{GaugeVec, Histogram, HistogramVec, IntCounter, IntCounterVec};
use replicator_core::Status;
use replicator_core::model::mutation::{TableId, TimedMutation};
use replicator_core::model::position::Position;
use replicator_core::model::time::{Hlc, WallTime};

use super::families::{ACCEPTED, Maker, lags, latencies};
use super::seconds;

/// Rows that are about to be staged, by table.
#[derive(Clone, Debug, Default)]
pub(crate) struct ToStage(BTreeMap<TableId, Rows>);

/// Rows of one table.
#[derive(Clone, Copy, Debug)]
struct Rows {
    count: u64,
    oldest: Hlc,
}

impl ToStage {
    /// What is known of rows before they are handed on.
    pub(crate) fn of(rows: &[TimedMutation]) -> Self {
        let mut tables: BTreeMap<TableId, Rows> = BTreeMap::new();
        for TimedMutation { time, mutation } in rows {
            let rows = tables.entry(mutation.table).or_insert(Rows { count: 0, oldest: *time });
            rows.count += 1;
            rows.oldest = rows.oldest.min(*time);
        }
        Self(tables)
    }

    fn count(&self) -> u64 {
        self.0.values().map(|rows| rows.count).sum()
    }
}

/// See the [module docs](self).
#[derive(Debug)]
pub(super) struct FeedMetrics {
    received: IntCounter,
    success: IntCounter,
    error: IntCounter,
    staged: IntCounterVec,
    stage_errors: IntCounterVec,
    stage_duration: HistogramVec,
    stage_lag: HistogramVec,
    committed_age: GaugeVec,
    proposed_age: GaugeVec,
    committed_time: GaugeVec,
    proposed_time: GaugeVec,
    commit_duration: Histogram,
    advance_duration: Histogram,
    backwards: IntCounter,
    times: Mutex<Times>,
}

/// What is known of time, also between runs. Zero is not known.
#[derive(Clone, Copy, Debug, Default)]
struct Times {
    /// Promised.
    proposed: Hlc,
    /// In the target.
    applied: Hlc,
    /// In the target, and saved.
    committed: Hlc,
}

/// A feed's times as gauges show them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reached {
    pub(super) proposed: Option<WallTime>,
    pub(super) applied: Option<WallTime>,
    committed: Option<WallTime>,
}

impl FeedMetrics {
    pub(super) fn new(make: &Maker<'_>) -> Self {
        let accepted = make.counters_of_target("acceptor_mutations_total", "type", ACCEPTED);
        Self {
            received: accepted.with_label_values(&["received"]),
            success: accepted.with_label_values(&["success"]),
            error: accepted.with_label_values(&["error"]),
            staged: make.counters("stage_mutations_total", "Row changes staged."),
            stage_errors: make.counters("stage_errors_total", "Row changes not staged."),
            stage_duration: make.histograms(
                "stage_duration_seconds",
                "Time to stage the row changes of one request.",
                latencies(),
            ),
            stage_lag: make.histograms(
                "stage_commit_lag_seconds",
                "Source write until the write to staging, for the oldest row change of each request.",
                lags(),
            ),
            committed_age: make.late_gauge(
                "checkpoint_committed_age_seconds",
                "Age of the checkpoint. Grows while none is saved.",
            ),
            proposed_age: make.late_gauge(
                "checkpoint_proposed_age_seconds",
                "Age of the newest resolved timestamp. Grows while none comes.",
            ),
            committed_time: make
                .late_gauge("checkpoint_committed_time_seconds", "Unix time of the checkpoint."),
            proposed_time: make.late_gauge(
                "checkpoint_proposed_time_seconds",
                "Unix time of the newest resolved timestamp.",
            ),
            commit_duration: make.histogram(
                "checkpoint_commit_duration_seconds",
                "Time to save the checkpoint.",
                latencies(),
            ),
            advance_duration: make.histogram(
                "checkpoint_advance_duration_seconds",
                "Time to save a resolved timestamp.",
                latencies(),
            ),
            backwards: make.counter(
                "checkpoint_proposed_going_backwards_errors_total",
                "Resolved timestamps before one that had come already.",
            ),
            times: Mutex::default(),
        }
    }

    pub(super) fn rows_received(&self, rows: usize) {
        self.received.inc_by(super::count(rows));
    }

    /// Returns the time of the promise.
    pub(super) fn resolved_received(&self, resolved: Hlc) -> WallTime {
        let mut times = self.lock();
        if resolved < times.proposed {
            self.backwards.inc();
        }
        times.proposed = times.proposed.max(resolved);
        wall(resolved)
    }

    pub(super) fn staged(
        &self,
        rows: &ToStage,
        took: Duration,
        table: impl Fn(TableId) -> String,
        age: impl Fn(WallTime) -> f64,
    ) {
        self.success.inc_by(rows.count());
        for (number, Rows { count, oldest }) in &rows.0 {
            let table = table(*number);
            let label = [table.as_str()];
            self.staged.with_label_values(&label).inc_by(*count);
            self.stage_duration.with_label_values(&label).observe(took.as_secs_f64());
            self.stage_lag.with_label_values(&label).observe(age(wall(*oldest)));
        }
    }

    pub(super) fn not_staged(&self, rows: &ToStage, table: impl Fn(TableId) -> String) {
        self.error.inc_by(rows.count());
        for (number, Rows { count, .. }) in &rows.0 {
            self.stage_errors.with_label_values(&[&table(*number)]).inc_by(*count);
        }
    }

    pub(super) fn checkpoint_saved(&self, took: Duration) {
        self.commit_duration.observe(took.as_secs_f64());
    }

    pub(super) fn resolved_saved(&self, took: Duration) {
        self.advance_duration.observe(took.as_secs_f64());
    }

    pub(super) fn status(&self, status: &Status) {
        let time = |position: Option<Position>| match position {
            Some(Position::Hlc(time)) => time,
            Some(Position::Lsn(_) | Position::Ordinal(_)) | None => Hlc::default(),
        };
        let mut times = self.lock();
        times.proposed = times.proposed.max(status.frontier);
        times.applied = times.applied.max(time(status.applied));
        times.committed = times.committed.max(time(status.checkpoint));
    }

    pub(super) fn reached(&self) -> Reached {
        let known = |time: Hlc| (time != Hlc::default()).then(|| wall(time));
        let Times { proposed, applied, committed } = *self.lock();
        Reached { proposed: known(proposed), applied: known(applied), committed: known(committed) }
    }

    pub(super) fn refresh(&self, reached: &Reached, age: impl Fn(WallTime) -> f64) {
        for (known, ages, times) in [
            (reached.committed, &self.committed_age, &self.committed_time),
            (reached.proposed, &self.proposed_age, &self.proposed_time),
        ] {
            if let Some(time) = known {
                ages.with_label_values::<&str>(&[]).set(age(time));
                times.with_label_values::<&str>(&[]).set(seconds(time));
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Times> {
        // Plain numbers: what a panic left behind is as good as any.
        self.times.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The part of a time that clocks on the wall have.
fn wall(time: Hlc) -> WallTime {
    WallTime { micros: i64::try_from(time.nanos / 1_000).unwrap_or(i64::MAX) }
}
