//! Metrics of a replication stream: its transactions, and how much of its log is not applied.
use prometheus::{GaugeVec, IntCounter};
use replicator_core::model::mutation::{Change, Mutation, SourceTx};
use replicator_core::model::position::{Lsn, Position};
use replicator_core::{Event, Status};

use super::families::{Maker, StreamFamilies};
use super::wide;

/// See the [module docs](self).
#[derive(Debug)]
pub(super) struct StreamMetrics {
    families: StreamFamilies,
    transactions: IntCounter,
    // Transactions of a binary log have numbers here, which say nothing of bytes.
    target_bytes: GaugeVec,
    inserts: IntCounter,
    updates: IntCounter,
    deletes: IntCounter,
    truncates: IntCounter,
    received: IntCounter,
}

impl StreamMetrics {
    pub(super) fn new(make: &Maker<'_>, families: StreamFamilies) -> Self {
        // Looked up once, because every row counts on them.
        let mutations = |kind| families.mutations.with_label_values(&[families.name, kind]);
        Self {
            transactions: make
                .counter("source_transactions_total", "Source transactions received."),
            target_bytes: make.late_gauge(
                "target_lag_bytes",
                "Bytes of the source's log that were received and are not applied.",
            ),
            inserts: mutations("insert"),
            updates: mutations("update"),
            deletes: mutations("delete"),
            truncates: mutations("truncate"),
            received: families.accepted.with_label_values(&["received"]),
            families,
        }
    }

    pub(super) fn dialed(&self, succeeded: bool) {
        let StreamFamilies { dial_success, dial_failure, .. } = &self.families;
        if succeeded { dial_success.inc() } else { dial_failure.inc() }
    }

    /// Counts what the source sent. Returns how many row changes that were.
    pub(super) fn received(&self, event: &Event) -> u64 {
        match event {
            Event::TransactionReceived(SourceTx { mutations, .. }) => {
                self.transactions.inc();
                if mutations.is_empty() {
                    self.families.empty_transactions.inc();
                }
                self.mutations(mutations)
            }
            Event::PieceReceived { before: _, mutations } => self.mutations(mutations),
            Event::IdleThrough(_)
            | Event::RowsReceived { .. }
            | Event::ResolvedReceived { .. }
            | Event::Done(_)
            | Event::StagedRead { .. }
            | Event::Failed { .. }
            | Event::DeadlineReached
            | Event::StopRequested => 0,
        }
    }

    fn mutations(&self, mutations: &[Mutation]) -> u64 {
        let [mut inserts, mut updates, mut deletes, mut truncates] = [0; 4];
        for mutation in mutations {
            match &mutation.change {
                Change::Insert(_) => inserts += 1,
                Change::Upsert(_) | Change::Update(_) | Change::Move { .. } => updates += 1,
                Change::Delete(_) => deletes += 1,
                Change::Truncate => truncates += 1,
            }
        }
        self.inserts.inc_by(inserts);
        self.updates.inc_by(updates);
        self.deletes.inc_by(deletes);
        self.truncates.inc_by(truncates);
        let all = inserts + updates + deletes + truncates;
        self.received.inc_by(all);
        all
    }

    pub(super) fn refresh(&self, status: Option<&Status>) {
        if let Some(bytes) = status.and_then(bytes_behind) {
            self.target_bytes.with_label_values::<&str>(&[]).set(bytes);
        }
    }
}

/// How much of the source's log lies between what was received and what is applied.
fn bytes_behind(status: &Status) -> Option<f64> {
    match (status.admitted, status.applied) {
        (Some(Position::Lsn(Lsn(admitted))), Some(Position::Lsn(Lsn(applied)))) => {
            Some(wide(admitted.saturating_sub(applied)))
        }
        (Some(_) | None, Some(_) | None) => None,
    }
}

#[cfg(test)]
mod tests {
    use prometheus::TextEncoder;
    use replicator_core::model::time::WallTime;

    use crate::metrics::{Command, Limits, Metrics};

    #[test]
    fn a13_metrics_of_a_binary_log_have_its_name() {
        let limits = Limits { applies_max: 16, buffered_bytes_max: 1_000 };
        let metrics = Metrics::new(Command::MyLogical, limits, || WallTime { micros: 0 });
        metrics.schema("db.public").dialed(true);
        let text = TextEncoder::new().encode_to_string(&metrics.registry().gather()).unwrap();
        for line in [
            "mylogical_dial_success_total 1",
            "mylogical_dial_failure_total 0",
            "mutation_total{source=\"mylogical\",type=\"insert\"} 0",
        ] {
            assert!(text.lines().any(|told| told == line), "{line}: {text}");
        }
        assert!(
            !text.contains("target_lag_bytes"),
            "a number of transactions has no bytes: {text}"
        );
    }
}
