//! What a run leaves in the metrics.
use std::sync::Arc;
use std::time::Duration;

use prometheus::TextEncoder;
use replicator_core::model::catalog::{Catalog, Column, Made, Table, Wire};
use replicator_core::model::fk::Place;
use replicator_core::model::ident::TableName;
use replicator_core::model::key::{KeyKind, RowKey};
use replicator_core::model::mutation::{
    ApplyBatch, ApplyOrder, ApplyRequest, Change, Mutation, Piece, SourceTx, TableId,
};
use replicator_core::model::position::{Lsn, Position, TxSeq};
use replicator_core::model::row::{Cell, Layout, Row, RowBuilder};
use replicator_core::model::time::{Hlc, WallTime};
use replicator_core::{Event, Failure, Status};

use super::{Limits, Metrics};
use crate::driver::Observer as _;

/// Our clock stands still.
fn now() -> WallTime {
    WallTime { micros: 1_000_000_000 }
}

/// Some seconds before now.
fn ago(seconds: i64) -> WallTime {
    WallTime { micros: 1_000_000_000 - seconds * 1_000_000 }
}

fn metrics() -> Metrics {
    let limits = Limits { applies_max: 16, buffered_bytes_max: 1_000 };
    let metrics = Metrics::new("pglogical", "db.public", limits, now);
    let column = Column {
        name: "id".to_owned(),
        cast: "int8".to_owned(),
        kind: KeyKind::Int,
        wire: Wire::Int8,
        nullable: false,
        made: Made::Written,
        has_default: false,
    };
    let table = |name| Table {
        name: TableName::new("public", name),
        columns: vec![column.clone()],
        key: vec![0],
        uniques: Vec::new(),
        foreign_keys: Vec::new(),
        place: Place::default(),
        referenced: false,
    };
    metrics.set_tables(&Catalog::new(vec![table("a"), table("b")], &[]));
    metrics
}

fn row() -> Row {
    let mut builder = RowBuilder::new();
    builder.push(Cell::Text(b"1"));
    builder.finish(Arc::new(Layout { table: TableId(0), columns: vec![Some(0)] })).unwrap()
}

fn mutation(table: u32, change: Change) -> Mutation {
    Mutation { table: TableId(table), key: RowKey::from_bytes(b"1"), change }
}

fn lsn(lsn: u64) -> Position {
    Position::Lsn(Lsn(lsn))
}

fn received(position: u64, committed: WallTime, mutations: Vec<Mutation>) -> Event {
    Event::TransactionReceived(SourceTx { position: lsn(position), committed, mutations })
}

fn request(mutations: Vec<Mutation>, piece: Piece, dead: Vec<usize>) -> ApplyRequest {
    let batch = Arc::new(ApplyBatch {
        first: TxSeq(1),
        last: TxSeq(1),
        after: None,
        position: lsn(10),
        committed: Some(ago(3)),
        piece,
        mutations,
        ends: Vec::new(),
    });
    ApplyRequest { batch, order: ApplyOrder::Netted, dead }
}

fn status(admitted: u64, applied: u64) -> Status {
    Status {
        checkpoint: None,
        applied: Some(lsn(applied)),
        admitted: Some(lsn(admitted)),
        applied_committed: None,
        frontier: Hlc::default(),
        applies: 4,
        waiting: 2,
        buffered_rows: 7,
        buffered_bytes: 250,
    }
}

#[track_caller]
fn check(metrics: &Metrics, lines: &[&str]) {
    let text = TextEncoder::new().encode_to_string(&metrics.gather()).unwrap();
    for line in lines {
        assert!(text.lines().any(|had| had == *line), "{line} is not in:\n{text}");
    }
}

#[test]
fn every_documented_metric_is_there_from_the_start() {
    let metrics = metrics();
    let names: Vec<String> =
        metrics.gather().iter().map(|family| family.name().to_owned()).collect();
    for name in [
        "core_source_lag_seconds",
        "target_apply_mutation_age_seconds",
        "source_commit_to_apply_lag_seconds",
        "target_apply_transaction_lag_seconds",
        "target_apply_queue_utilization_percent",
        "pglogical_dial_success_total",
        "pglogical_dial_failure_total",
        "mutation_total",
        "core_sweep_duration_seconds",
        "core_sweep_mutations_applied_total",
        "core_sweep_success_timestamp_seconds",
        "core_parallelism_utilization_percent",
        "target_apply_queue_size",
        "apply_duration_seconds",
        "apply_upserts_total",
        "apply_deletes_total",
        "apply_errors_total",
        "apply_conflicts_total",
        "apply_resolves_total",
        "acceptor_mutations_total",
        "target_mutations_sent_to_apply_queue",
    ] {
        assert!(names.iter().any(|had| had == name), "{name} is not in {names:?}");
    }
}

#[test]
fn row_changes_are_counted_on_both_sides() {
    let metrics = metrics();
    let changes = || {
        vec![
            mutation(0, Change::Insert(row())),
            mutation(0, Change::Upsert(row())),
            mutation(1, Change::Update(row())),
            mutation(1, Change::Delete(row())),
            mutation(1, Change::Truncate),
        ]
    };
    metrics.received(&received(10, ago(5), changes()));
    metrics.received(&received(11, ago(5), Vec::new()));
    metrics.applied(&request(changes(), Piece::Whole, vec![1]), Duration::from_millis(15));
    check(
        &metrics,
        &[
            "mutation_total{source=\"pglogical\",type=\"insert\"} 1",
            "mutation_total{source=\"pglogical\",type=\"update\"} 2",
            "mutation_total{source=\"pglogical\",type=\"delete\"} 1",
            "mutation_total{source=\"pglogical\",type=\"truncate\"} 1",
            "acceptor_mutations_total{type=\"received\"} 5",
            "acceptor_mutations_total{type=\"success\"} 4",
            "pglogical_empty_transactions 1",
            "source_transactions_total{schema=\"db.public\"} 2",
            "core_source_lag_seconds_sum{schema=\"db.public\"} 10",
            "core_sweep_mutations_applied_total{schema=\"db.public\"} 5",
            "apply_upserts_total{schema=\"db.public\",table=\"a\"} 1",
            "apply_upserts_total{schema=\"db.public\",table=\"b\"} 1",
            "apply_deletes_total{schema=\"db.public\",table=\"a\"} 0",
            "apply_deletes_total{schema=\"db.public\",table=\"b\"} 1",
            "dead_letters_total{schema=\"db.public\",table=\"a\"} 1",
            "apply_duration_seconds_sum{schema=\"db.public\",table=\"a\"} 0.015",
            "target_apply_transaction_lag_seconds_sum{schema=\"db.public\"} 3",
            "target_apply_mutation_age_seconds_sum{schema=\"db.public\",table=\"b\"} 3",
            "apply_conflicts_total{schema=\"db.public\",table=\"a\"} 0",
        ],
    );
}

#[test]
fn a_piece_of_a_transaction_has_no_lag_until_it_commits() {
    let metrics = metrics();
    let took = Duration::from_millis(1);
    let change = || vec![mutation(0, Change::Insert(row()))];
    metrics.applied(&request(change(), Piece::First, Vec::new()), took);
    metrics.applied(&request(change(), Piece::Middle, Vec::new()), took);
    check(&metrics, &["source_commit_to_apply_lag_seconds_count{schema=\"db.public\"} 0"]);
    metrics.applied(&request(change(), Piece::Last, Vec::new()), took);
    check(
        &metrics,
        &[
            "source_commit_to_apply_lag_seconds_count{schema=\"db.public\"} 1",
            "apply_upserts_total{schema=\"db.public\",table=\"a\"} 3",
            "retry_actions_total 1",
        ],
    );
}

#[test]
fn failures_are_counted_by_the_code_of_the_database() {
    let metrics = metrics();
    let detail = "ERROR: restart transaction (SQLSTATE 40001) in table a".to_owned();
    metrics.failed(&Failure::Transient { detail });
    metrics.failed(&Failure::OutcomeUnknown { detail: "connection reset".to_owned() });
    let detail = "ERROR: value too long (SQLSTATE 22001)".to_owned();
    metrics.failed(&Failure::Rejected { detail, at: Some(4..6) });
    metrics.failed(&Failure::Fenced);
    check(
        &metrics,
        &[
            "apply_errors_total{schema=\"db.public\",table=\"*\"} 4",
            "retry_retried_total{code=\"40001\"} 1",
            "retry_retried_total{code=\"outcome_unknown\"} 1",
            "retry_aborted_total{code=\"22001\"} 1",
            "retry_aborted_total{code=\"fenced\"} 1",
            "acceptor_mutations_total{type=\"error\"} 2",
        ],
    );
}

#[test]
fn gauges_follow_the_status_and_the_clock() {
    let metrics = metrics();
    let text = TextEncoder::new().encode_to_string(&metrics.gather()).unwrap();
    assert!(!text.contains("target_lag_seconds"), "nobody knows the lag yet:\n{text}");
    metrics.received(&received(10, ago(9), Vec::new()));
    metrics.received(&received(20, ago(5), Vec::new()));
    metrics.status(&status(20, 10));
    assert_eq!(metrics.lag(), Some(Duration::from_secs(9)));
    check(
        &metrics,
        &[
            "source_lag_seconds{schema=\"db.public\"} 5",
            "target_lag_seconds{schema=\"db.public\"} 9",
            "target_lag_bytes{schema=\"db.public\"} 10",
            "target_applied_timestamp_seconds{schema=\"db.public\"} 991",
            "target_pending_timestamp_seconds{schema=\"db.public\"} 995",
            "core_parallelism_utilization_percent{schema=\"db.public\"} 25",
            "target_apply_queue_size{schema=\"db.public\"} 2",
            "target_apply_queue_rows{schema=\"db.public\"} 7",
            "target_apply_queue_utilization_percent{schema=\"db.public\"} 25",
        ],
    );
    // A source that is idle is as of now, and so is the target once it has caught up.
    metrics.received(&Event::IdleThrough(lsn(30)));
    metrics.status(&Status { applies: 0, buffered_rows: 0, ..status(30, 30) });
    check(
        &metrics,
        &[
            "source_lag_seconds{schema=\"db.public\"} 0",
            "target_lag_seconds{schema=\"db.public\"} 0",
            "core_sweep_success_timestamp_seconds{schema=\"db.public\"} 1000",
        ],
    );
}

#[test]
fn readiness_follows_the_runs() {
    let metrics = metrics();
    assert_eq!(metrics.readiness(), Err("starting".to_owned()));
    metrics.dial_failure();
    metrics.run_ended("could not connect");
    assert_eq!(metrics.readiness(), Err("could not connect".to_owned()));
    metrics.dial_success();
    metrics.run_began();
    assert_eq!(metrics.readiness(), Ok(()));
    metrics.status(&status(1, 1));
    assert!(metrics.last_status().is_some());
    check(
        &metrics,
        &[
            "pglogical_dial_success_total 1",
            "pglogical_dial_failure_total 1",
            "source_connected{schema=\"db.public\"} 1",
        ],
    );
    metrics.run_ended("gone");
    assert_eq!(metrics.last_status(), None);
    check(&metrics, &["source_connected{schema=\"db.public\"} 0"]);
}

#[test]
fn the_system_tells_about_this_process() {
    let metrics = metrics().with_process();
    let families = metrics.gather();
    let value = |name: &str| {
        let family = families.iter().find(|family| family.name() == name).unwrap();
        family.get_metric()[0].get_gauge().get_value()
    };
    assert!(value("process_resident_memory_bytes") > 100_000.0);
    assert!(value("process_threads") >= 1.0);
    assert!(value("process_open_fds") >= 3.0);
    assert!(value("process_start_time_seconds") > 1e9);
}
