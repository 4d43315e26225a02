//! The names, types and labels of all metrics: the documented ones, and what we add.
use std::cell::RefCell;
use std::fmt;

use prometheus::core::Collector;
use prometheus::{
    Counter, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec,
    Opts, Registry,
};

/// Adds a metric to `registry` and returns a handle to it.
pub(crate) fn register<C: Collector + Clone + 'static>(
    registry: &Registry,
    metric: prometheus::Result<C>,
) -> C {
    let metric = metric.expect("names, labels and buckets are constants and valid");
    let clone = Box::new(metric.clone());
    registry.register(clone).expect("every name stands once in this module");
    metric
}

/// Adds a counter of fractions, such as seconds.
pub(super) fn register_counter(registry: &Registry, name: &str, help: &str) -> Counter {
    register(registry, Counter::new(name, help))
}

/// Metrics of the whole process, without the label `schema`. Clones are the same ones.
#[derive(Clone, Debug)]
pub(super) struct SharedFamilies {
    /// Of a replication stream; `None` if there is none.
    pub(super) stream: Option<StreamFamilies>,
    pub(super) retry_actions: IntCounter,
    pub(super) retried: IntCounterVec,
    pub(super) aborted: IntCounterVec,
}

/// What a replication stream brings.
#[derive(Clone, Debug)]
pub(super) struct StreamFamilies {
    /// The kind of stream.
    pub(super) name: &'static str,
    pub(super) mutations: IntCounterVec,
    pub(super) accepted: IntCounterVec,
    pub(super) empty_transactions: IntCounter,
    pub(super) dial_success: IntCounter,
    pub(super) dial_failure: IntCounter,
}

/// All metrics of one target schema, which is the label `schema`.
#[derive(Debug)]
pub(super) struct Families {
    pub(super) source: SourceFamilies,
    pub(super) lag: LagFamilies,
    pub(super) work: WorkFamilies,
    pub(super) tables: TableFamilies,
}

/// What comes in.
#[derive(Debug)]
pub(super) struct SourceFamilies {
    pub(super) sent_to_apply: IntCounter,
    pub(super) connected: Gauge,
}

/// How far behind we are. A `GaugeVec` is absent until the first value is known.
#[derive(Debug)]
pub(super) struct LagFamilies {
    pub(super) received_distribution: Histogram,
    pub(super) transaction: Histogram,
    pub(super) commit_to_apply: Histogram,
    pub(super) source: GaugeVec,
    pub(super) target: GaugeVec,
    pub(super) applied_timestamp: GaugeVec,
    pub(super) pending_timestamp: GaugeVec,
}

/// What is held, and applied.
#[derive(Debug)]
pub(super) struct WorkFamilies {
    pub(super) sweep_duration: Histogram,
    pub(super) sweep_applied: IntCounter,
    pub(super) sweep_success_timestamp: Gauge,
    pub(super) parallelism_percent: Gauge,
    pub(super) queue_batches: Gauge,
    pub(super) queue_rows: Gauge,
    pub(super) queue_bytes: Gauge,
    pub(super) queue_percent: Gauge,
    pub(super) errors: IntCounterVec,
}

/// Metrics with the labels `schema` and `table`.
#[derive(Debug)]
pub(super) struct TableFamilies {
    pub(super) upserts: IntCounterVec,
    pub(super) deletes: IntCounterVec,
    pub(super) conflicts: IntCounterVec,
    pub(super) resolves: IntCounterVec,
    pub(super) dead_letters: IntCounterVec,
    pub(super) duration: HistogramVec,
    pub(super) age: HistogramVec,
}

/// Makes metrics of one target schema, and remembers them so that they can be taken away.
pub(super) struct Maker<'a> {
    registry: &'a Registry,
    schema: &'a str,
    // The label `kind` of metrics that have it.
    kind: Option<&'static str>,
    made: RefCell<Vec<Box<dyn Collector>>>,
}

impl<'a> Maker<'a> {
    pub(super) fn new(registry: &'a Registry, schema: &'a str, kind: Option<&'static str>) -> Self {
        Self { registry, schema, kind, made: RefCell::default() }
    }

    /// Everything that was made.
    pub(super) fn finish(self) -> Made {
        Made(self.made.into_inner())
    }

    fn register<C: Collector + Clone + 'static>(&self, metric: prometheus::Result<C>) -> C {
        let metric = register(self.registry, metric);
        self.made.borrow_mut().push(Box::new(metric.clone()));
        metric
    }

    fn opts(&self, name: &str, help: &str) -> Opts {
        Opts::new(name, help).const_label("schema", self.schema)
    }

    /// Of the metrics that tell the kind of source as well: the schema is their target.
    fn opts_of_target(&self, name: &str, help: &str) -> Opts {
        let opts = self.opts(name, help);
        match self.kind {
            Some(kind) => opts.const_label("kind", kind).const_label("target", self.schema),
            None => opts,
        }
    }

    pub(super) fn gauge(&self, name: &str, help: &str) -> Gauge {
        self.register(Gauge::with_opts(self.opts(name, help)))
    }

    /// A gauge that is absent until it is set, because 0 would be a lie.
    pub(super) fn late_gauge(&self, name: &str, help: &str) -> GaugeVec {
        self.register(GaugeVec::new(self.opts(name, help), &[]))
    }

    fn late_gauge_of_target(&self, name: &str, help: &str) -> GaugeVec {
        self.register(GaugeVec::new(self.opts_of_target(name, help), &[]))
    }

    pub(super) fn counter(&self, name: &str, help: &str) -> IntCounter {
        self.register(IntCounter::with_opts(self.opts(name, help)))
    }

    pub(super) fn counters_of_target(&self, name: &str, label: &str, help: &str) -> IntCounterVec {
        self.register(IntCounterVec::new(self.opts_of_target(name, help), &[label]))
    }

    /// A counter for each table.
    pub(super) fn counters(&self, name: &str, help: &str) -> IntCounterVec {
        self.register(IntCounterVec::new(self.opts(name, help), &["table"]))
    }

    pub(super) fn histogram(&self, name: &str, help: &str, buckets: Vec<f64>) -> Histogram {
        let opts = HistogramOpts::from(self.opts(name, help)).buckets(buckets);
        self.register(Histogram::with_opts(opts))
    }

    /// A histogram for each table.
    pub(super) fn histograms(&self, name: &str, help: &str, buckets: Vec<f64>) -> HistogramVec {
        let opts = HistogramOpts::from(self.opts(name, help)).buckets(buckets);
        self.register(HistogramVec::new(opts, &["table"]))
    }
}

/// Metrics that were made together.
pub(super) struct Made(Vec<Box<dyn Collector>>);

impl Made {
    /// Takes them away.
    pub(super) fn unregister(self, registry: &Registry) {
        for metric in self.0 {
            registry.unregister(metric).expect("it was registered");
        }
    }
}

impl fmt::Debug for Made {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} metrics", self.0.len())
    }
}

impl SharedFamilies {
    /// Makes them and adds them to `registry`; those of a replication stream if there is one, by its name.
    pub(super) fn new(registry: &Registry, stream: Option<&'static str>) -> Self {
        let counters =
            |name, help| register(registry, IntCounterVec::new(Opts::new(name, help), &["code"]));
        Self {
            stream: stream.map(|name| StreamFamilies::new(registry, name)),
            retry_actions: register(
                registry,
                IntCounter::new(
                    "retry_actions_total",
                    "Target transactions that were tried until they were through.",
                ),
            ),
            retried: counters(
                "retry_retried_total",
                "Failures after which something is tried again, by the database's code.",
            ),
            aborted: counters(
                "retry_aborted_total",
                "Failures after which nothing is tried again, by the database's code.",
            ),
        }
    }
}

impl StreamFamilies {
    fn new(registry: &Registry, name: &'static str) -> Self {
        let counter =
            |of: &str, help| register(registry, IntCounter::new(format!("{name}_{of}"), help));
        let counters = |name, labels, help| {
            register(registry, IntCounterVec::new(Opts::new(name, help), labels))
        };
        Self {
            name,
            mutations: counters(
                "mutation_total",
                &["source", "type"],
                "Row changes read from the source.",
            ),
            accepted: counters("acceptor_mutations_total", &["type"], ACCEPTED),
            empty_transactions: counter(
                "empty_transactions",
                "Source transactions without a change for the target.",
            ),
            dial_success: counter(
                "dial_success_total",
                "Successful starts of the replication stream.",
            ),
            dial_failure: counter("dial_failure_total", "Failed starts of the replication stream."),
        }
    }
}

/// What the counter of accepted changes says of itself.
pub(super) const ACCEPTED: &str =
    "Row changes: received, taken with success, or refused with an error.";

impl Families {
    /// Makes all metrics.
    pub(super) fn new(make: &Maker<'_>) -> Self {
        Self {
            source: SourceFamilies::new(make),
            lag: LagFamilies::new(make),
            work: WorkFamilies::new(make),
            tables: TableFamilies::new(make),
        }
    }
}

impl SourceFamilies {
    fn new(make: &Maker<'_>) -> Self {
        Self {
            sent_to_apply: make.counter(
                "target_mutations_sent_to_apply_queue",
                "Row changes handed on to be applied.",
            ),
            connected: make.gauge("source_connected", "1 while the source is read, otherwise 0."),
        }
    }
}

impl LagFamilies {
    fn new(make: &Maker<'_>) -> Self {
        Self {
            received_distribution: make.histogram(
                "core_source_lag_seconds",
                "Source commit until the commit was received.",
                lags(),
            ),
            transaction: make.histogram(
                "target_apply_transaction_lag_seconds",
                "Source commit until the commit in the target, for the newest transaction of each \
                 batch.",
                lags(),
            ),
            commit_to_apply: make.histogram(
                "source_commit_to_apply_lag_seconds",
                "Source write until the write to the target, for the newest transaction of each \
                 batch.",
                lags(),
            ),
            source: make.late_gauge_of_target(
                "source_lag_seconds",
                "Age of the newest word of the source. Grows while the source is silent.",
            ),
            target: make.late_gauge_of_target(
                "target_lag_seconds",
                "How old the target is, compared with the source. Grows while nothing is applied.",
            ),
            applied_timestamp: make.late_gauge_of_target(
                "target_applied_timestamp_seconds",
                "Unix time of the source that the target has reached.",
            ),
            pending_timestamp: make.late_gauge_of_target(
                "target_pending_timestamp_seconds",
                "Unix time of the source that was received.",
            ),
        }
    }
}

impl WorkFamilies {
    fn new(make: &Maker<'_>) -> Self {
        Self {
            sweep_duration: make.histogram(
                "core_sweep_duration_seconds",
                "Time to apply one batch.",
                latencies(),
            ),
            sweep_applied: make.counter(
                "core_sweep_mutations_applied_total",
                "Row changes that are in the target.",
            ),
            sweep_success_timestamp: make.gauge(
                "core_sweep_success_timestamp_seconds",
                "Unix time when last a batch was applied, or there was none to apply.",
            ),
            parallelism_percent: make
                .gauge("core_parallelism_utilization_percent", "Share of --parallelism in use."),
            queue_batches: make.gauge(
                "target_apply_queue_size",
                "Target transactions that wait for rows which others hold.",
            ),
            queue_rows: make.gauge("target_apply_queue_rows", "Rows held in memory."),
            queue_bytes: make.gauge("target_apply_queue_bytes", "Bytes of the rows in memory."),
            queue_percent: make.gauge(
                "target_apply_queue_utilization_percent",
                "Share of --memoryLimit in use. Above 90 the source has to wait.",
            ),
            errors: make.counters("apply_errors_total", "Batches that the target refused."),
        }
    }
}

impl TableFamilies {
    fn new(make: &Maker<'_>) -> Self {
        let counters = |name, help| make.counters(name, help);
        Self {
            upserts: counters("apply_upserts_total", "Rows upserted."),
            deletes: counters("apply_deletes_total", "Rows deleted."),
            conflicts: counters("apply_conflicts_total", "Compare-and-set conflicts."),
            resolves: counters("apply_resolves_total", "Conflicts that were resolved."),
            dead_letters: counters("dead_letters_total", "Rows in the dead-letter table."),
            duration: make.histograms(
                "apply_duration_seconds",
                "Time of a target transaction that changed the table.",
                vec![
                    0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 60.0,
                ],
            ),
            age: make.histograms(
                "target_apply_mutation_age_seconds",
                "Age of the table's newest change when it was applied.",
                vec![
                    0.01, 0.05, 0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3_600.0,
                    14_400.0, 86_400.0,
                ],
            ),
        }
    }
}

/// 1 to 9 milliseconds, tens, hundreds, seconds, and tens of seconds up to 60, as documented.
pub(crate) fn latencies() -> Vec<f64> {
    let decades = [1_u32, 10, 100, 1_000, 10_000];
    let millis = decades.iter().flat_map(|decade| (1..=9).map(move |digit| digit * decade));
    millis.filter(|millis| *millis <= 60_000).map(|millis| f64::from(millis) / 1_000.0).collect()
}

/// Like latencies, and on to a day.
pub(super) fn lags() -> Vec<f64> {
    let mut buckets = latencies();
    buckets.extend([300.0, 900.0, 3_600.0, 14_400.0, 86_400.0]);
    buckets
}

#[cfg(test)]
mod tests {
    use super::latencies;

    #[test]
    fn latency_buckets_are_the_documented_ones() {
        let buckets = latencies();
        assert_eq!(buckets.len(), 42);
        assert_eq!(&buckets[..3], [0.001, 0.002, 0.003]);
        assert_eq!(buckets[9], 0.01);
        assert_eq!(buckets[41], 60.0);
    }
}
