//! What an operator can see of a run: metrics, readiness, and the machine's last status.
//!
//! ```text
//! driver ──► Observer ──► counters, histograms          ─┐
//! machine ─► Status   ──► gauges, set when somebody asks ─┴─► gather ──► exposition text
//! ```
//!
//! Every instance has its own registry, and in it the metrics of each target schema, which come and go with
//! it. Gauges of time, such as lag, are computed when they are asked for, so they move on while nothing else
//! does.
pub(crate) mod families;
mod feed;
mod marks;
mod process;
mod schema;
pub mod snapshots;
mod stream;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus::Registry;
use prometheus::proto::MetricFamily;
use replicator_core::model::time::WallTime;

use self::families::{Made, SharedFamilies};
pub(crate) use self::feed::ToStage;
use self::process::Process;
pub use self::schema::SchemaMetrics;

/// The command whose metrics they are: not all of them have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// `pglogical`, which reads one replication stream.
    PgLogical,
    /// `mylogical`, which reads one binary log.
    MyLogical,
    /// `start`, which changefeeds call.
    Start,
}

impl Command {
    /// How metrics call the stream that it reads, if it reads one.
    const fn stream(self) -> Option<&'static str> {
        match self {
            Self::PgLogical => Some("pglogical"),
            Self::MyLogical => Some("mylogical"),
            Self::Start => None,
        }
    }
}

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
    command: Command,
    limits: Limits,
    wall: fn() -> WallTime,
    shared: SharedFamilies,
    process: Option<Process>,
    open: AtomicBool,
    schemas: Mutex<BTreeMap<String, (Arc<SchemaMetrics>, Made)>>,
}

impl Metrics {
    /// Makes the metrics of a command; `wall` tells the time by our clock.
    #[must_use]
    pub fn new(command: Command, limits: Limits, wall: fn() -> WallTime) -> Self {
        let registry = Registry::new();
        let shared = SharedFamilies::new(&registry, command.stream());
        let (open, schemas) = (AtomicBool::new(false), Mutex::default());
        Self { registry, command, limits, wall, shared, process: None, open, schemas }
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

    /// The metrics of the target schema that the label `schema` names, made if there are none.
    #[must_use]
    pub fn schema(&self, label: &str) -> Arc<SchemaMetrics> {
        let mut schemas = self.lock();
        if let Some((metrics, _)) = schemas.get(label) {
            return Arc::clone(metrics);
        }
        let Self { registry, command, limits, wall, shared, .. } = self;
        let (metrics, made) =
            SchemaMetrics::new(registry, label, *command, *limits, *wall, shared.clone());
        let metrics = Arc::new(metrics);
        schemas.insert(label.to_owned(), (Arc::clone(&metrics), made));
        metrics
    }

    /// Takes the metrics of a target schema away: there is no such schema any more.
    pub fn forget(&self, label: &str) {
        if let Some((_, made)) = self.lock().remove(label) {
            made.unregister(&self.registry);
        }
    }

    /// From here on whoever calls us is answered, whether somebody does or not.
    pub fn opened(&self) {
        self.open.store(true, Ordering::Relaxed);
    }

    /// Whether all is well, or why not: what is read of each schema, or, as long as there is none, whether
    /// anybody could bring something.
    ///
    /// # Errors
    ///
    /// Nothing has begun, or some run is over.
    pub fn readiness(&self) -> Result<(), String> {
        let reasons: Vec<String> = self
            .schemas()
            .iter()
            .filter_map(|schema| {
                let reason = schema.readiness().err()?;
                Some(match self.command {
                    Command::PgLogical | Command::MyLogical => reason,
                    Command::Start => format!("schema {}: {reason}", schema.label()),
                })
            })
            .collect();
        if !reasons.is_empty() {
            return Err(reasons.join("; "));
        }
        let begun = self.open.load(Ordering::Relaxed) || !self.lock().is_empty();
        if begun { Ok(()) } else { Err("starting".to_owned()) }
    }

    /// How old the oldest target schema is compared with the source, or `None` as long as nobody knows.
    #[must_use]
    pub fn lag(&self) -> Option<Duration> {
        self.schemas().iter().filter_map(|schema| schema.lag()).max()
    }

    /// The metrics of all target schemas, by their labels.
    #[must_use]
    pub fn schemas(&self) -> Vec<Arc<SchemaMetrics>> {
        self.lock().values().map(|(metrics, _)| Arc::clone(metrics)).collect()
    }

    /// All metrics, with gauges as of this moment.
    #[must_use]
    pub fn gather(&self) -> Vec<MetricFamily> {
        if let Some(process) = &self.process {
            process.refresh();
        }
        for schema in self.schemas() {
            schema.refresh();
        }
        self.registry.gather()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, (Arc<SchemaMetrics>, Made)>> {
        // A panic leaves the map as it was before or after a change.
        self.schemas.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
