//! What a run leaves in the metrics.
use std::sync::Arc;
use std::time::Duration;

use prometheus::TextEncoder;
use replicator_core::model::catalog::{Catalog, Column, Made, Table, Wire};
use replicator_core::model::fk::Place;
use replicator_core::model::ident::TableName;
use replicator_core::model::key::{KeyKind, RowKey};
use replicator_core::model::mutation::{
    ApplyBatch, ApplyOrder, ApplyRequest, Change, Mutation, Piece, SourceTx, TableId, TimedMutation,
};
use replicator_core::model::position::{Lsn, PartitionId, Position, RequestId, TxSeq};
use replicator_core::model::row::{Cell, Layout, Row, RowBuilder};
use replicator_core::model::time::{Hlc, WallTime};
use replicator_core::{Event, Failure, Status};

use super::{Command, Limits, Metrics, SchemaMetrics, ToStage};
use crate::driver::Observer as _;

/// Our clock stands still.
fn now() -> WallTime {
    WallTime { micros: 1_000_000_000 }
}

/// Some seconds before now.
fn ago(seconds: i64) -> WallTime {
    WallTime { micros: 1_000_000_000 - seconds * 1_000_000 }
}

const LIMITS: Limits = Limits { applies_max: 16, buffered_bytes_max: 1_000 };

/// Of a replication stream, with its one schema.
fn stream() -> (Metrics, Arc<SchemaMetrics>) {
    let metrics = Metrics::new(Command::PgLogical, LIMITS, now);
    let schema = metrics.schema("db.public");
    schema.set_tables(&catalog());
    (metrics, schema)
}

/// The tables "a" and "b".
fn catalog() -> Catalog {
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
        untold: false,
    };
    Catalog::new(vec![table("a"), table("b")], &[])
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
    let (metrics, _) = stream();
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
    let (metrics, schema) = stream();
    let changes = || {
        vec![
            mutation(0, Change::Insert(row())),
            mutation(0, Change::Upsert(row())),
            mutation(1, Change::Update(row())),
            mutation(1, Change::Delete(row())),
            mutation(1, Change::Truncate),
        ]
    };
    schema.received(&received(10, ago(5), changes()));
    schema.received(&received(11, ago(5), Vec::new()));
    schema.applied(&request(changes(), Piece::Whole, vec![1]), Duration::from_millis(15));
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
    let (metrics, schema) = stream();
    let took = Duration::from_millis(1);
    let change = || vec![mutation(0, Change::Insert(row()))];
    schema.applied(&request(change(), Piece::First, Vec::new()), took);
    schema.applied(&request(change(), Piece::Middle, Vec::new()), took);
    check(&metrics, &["source_commit_to_apply_lag_seconds_count{schema=\"db.public\"} 0"]);
    schema.applied(&request(change(), Piece::Last, Vec::new()), took);
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
    let (metrics, schema) = stream();
    let detail = "ERROR: restart transaction (SQLSTATE 40001) in table a".to_owned();
    schema.failed(&Failure::Transient { detail });
    schema.failed(&Failure::OutcomeUnknown { detail: "connection reset".to_owned() });
    let detail = "ERROR: value too long (SQLSTATE 22001)".to_owned();
    schema.failed(&Failure::Rejected { detail, at: Some(4..6) });
    schema.failed(&Failure::Fenced);
    schema.staging_failed(&Failure::Fenced);
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
    let (metrics, schema) = stream();
    let text = TextEncoder::new().encode_to_string(&metrics.gather()).unwrap();
    assert!(!text.contains("target_lag_seconds"), "nobody knows the lag yet:\n{text}");
    schema.received(&received(10, ago(9), Vec::new()));
    schema.received(&received(20, ago(5), Vec::new()));
    schema.status(&status(20, 10));
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
    schema.received(&Event::IdleThrough(lsn(30)));
    schema.status(&Status { applies: 0, buffered_rows: 0, ..status(30, 30) });
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
    let (metrics, schema) = stream();
    assert_eq!(metrics.readiness(), Err("starting".to_owned()));
    schema.dialed(false);
    schema.run_ended("could not connect");
    assert_eq!(metrics.readiness(), Err("could not connect".to_owned()));
    schema.dialed(true);
    schema.run_began();
    assert_eq!(metrics.readiness(), Ok(()));
    schema.status(&status(1, 1));
    assert!(schema.last_status().is_some());
    check(
        &metrics,
        &[
            "pglogical_dial_success_total 1",
            "pglogical_dial_failure_total 1",
            "source_connected{schema=\"db.public\"} 1",
        ],
    );
    schema.run_ended("gone");
    assert_eq!(schema.last_status(), None);
    check(&metrics, &["source_connected{schema=\"db.public\"} 0"]);
}

#[test]
fn the_system_tells_about_this_process() {
    let metrics = stream().0.with_process();
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

/// What clocks on the wall show as `second`.
fn hlc(second: u64) -> Hlc {
    Hlc { nanos: second * 1_000_000_000, logical: 3 }
}

fn promised(second: u64) -> Event {
    let (request, partition) = (RequestId(1), PartitionId(0));
    Event::ResolvedReceived { request, partition, resolved: hlc(second) }
}

/// Of changefeeds, with two schemas.
fn feeds() -> (Metrics, [Arc<SchemaMetrics>; 2]) {
    let metrics = Metrics::new(Command::Start, LIMITS, now);
    let schemas = ["db.one", "db.two"].map(|label| {
        let schema = metrics.schema(label);
        schema.set_tables(&catalog());
        schema
    });
    (metrics, schemas)
}

fn rows(seconds: &[(u64, u32)]) -> Vec<TimedMutation> {
    let row = |&(second, table): &(u64, u32)| {
        let mutation = mutation(table, Change::Upsert(row()));
        TimedMutation { time: hlc(second), mutation }
    };
    seconds.iter().map(row).collect()
}

/// Acceptance item 13: every metric that is documented for `start` and not for one table alone.
#[test]
fn a13_each_schema_of_a_changefeed_has_the_documented_metrics() {
    let (metrics, _) = feeds();
    let text = TextEncoder::new().encode_to_string(&metrics.gather()).unwrap();
    for (name, labels) in [
        ("core_source_lag_seconds_count", "schema"),
        ("source_commit_to_apply_lag_seconds_count", "schema"),
        ("target_apply_transaction_lag_seconds_count", "schema"),
        ("target_apply_queue_utilization_percent", "schema"),
        ("target_apply_queue_size", "schema"),
        ("checkpoint_commit_duration_seconds_count", "schema"),
        ("checkpoint_advance_duration_seconds_count", "schema"),
        ("checkpoint_proposed_going_backwards_errors_total", "schema"),
        ("core_sweep_duration_seconds_count", "schema"),
        ("core_sweep_mutations_applied_total", "schema"),
        ("core_sweep_success_timestamp_seconds", "schema"),
        ("core_parallelism_utilization_percent", "schema"),
        ("apply_errors_total", "schema,table"),
        ("apply_upserts_total", "schema,table"),
        ("apply_deletes_total", "schema,table"),
        ("apply_conflicts_total", "schema,table"),
        ("apply_resolves_total", "schema,table"),
        ("apply_duration_seconds_count", "schema,table"),
        ("target_apply_mutation_age_seconds_count", "schema,table"),
        ("acceptor_mutations_total", "kind,schema,target,type"),
        ("target_mutations_sent_to_apply_queue", "schema"),
    ] {
        for schema in ["db.one", "db.two"] {
            let of_schema = format!("schema=\"{schema}\"");
            let sample = text.lines().find(|line| {
                line.strip_prefix(name).is_some_and(|rest| rest.starts_with('{'))
                    && line.contains(&of_schema)
            });
            let sample = sample.unwrap_or_else(|| panic!("no {name} of {schema} in:\n{text}"));
            let had = sample.split('{').nth(1).unwrap().split('}').next().unwrap();
            let had: Vec<&str> =
                had.split(',').map(|pair| pair.split('=').next().unwrap()).collect();
            assert_eq!(had.join(","), labels, "{sample}");
        }
    }
    for absent in ["pglogical_", "mutation_total", "source_transactions_total"] {
        assert!(!text.lines().any(|line| line.starts_with(absent)), "{absent} in:\n{text}");
    }
}

#[test]
fn a13_gauges_of_a_changefeed_move_on_while_nobody_calls() {
    let (metrics, [one, _]) = feeds();
    let text = TextEncoder::new().encode_to_string(&metrics.gather()).unwrap();
    assert!(!text.contains("target_lag_seconds"), "nobody knows the lag yet:\n{text}");
    // What a run finds when it begins is known without a call.
    let position = |second| Some(Position::Hlc(hlc(second)));
    one.status(&Status {
        checkpoint: position(970),
        applied: position(980),
        frontier: hlc(990),
        ..status(0, 0)
    });
    check(
        &metrics,
        &[
            "source_lag_seconds{kind=\"cdc\",schema=\"db.one\",target=\"db.one\"} 10",
            "target_lag_seconds{kind=\"cdc\",schema=\"db.one\",target=\"db.one\"} 20",
            "target_pending_timestamp_seconds{kind=\"cdc\",schema=\"db.one\",target=\"db.one\"} 990",
            "target_applied_timestamp_seconds{kind=\"cdc\",schema=\"db.one\",target=\"db.one\"} 980",
            "checkpoint_committed_age_seconds{schema=\"db.one\"} 30",
            "checkpoint_proposed_age_seconds{schema=\"db.one\"} 10",
            "checkpoint_committed_time_seconds{schema=\"db.one\"} 970",
            "checkpoint_proposed_time_seconds{schema=\"db.one\"} 990",
            "source_connected{schema=\"db.one\"} 1",
            "source_connected{schema=\"db.two\"} 0",
        ],
    );
    assert_eq!(metrics.lag(), Some(Duration::from_secs(20)));
    // Between runs, too.
    one.run_ended("gone");
    one.received(&promised(995));
    check(&metrics, &["source_lag_seconds{kind=\"cdc\",schema=\"db.one\",target=\"db.one\"} 5"]);
    let text = TextEncoder::new().encode_to_string(&metrics.gather()).unwrap();
    assert!(!text.contains("target_lag_seconds{kind=\"cdc\",schema=\"db.two\""), "{text}");
}

#[test]
fn rows_of_a_changefeed_are_counted_where_they_are_staged() {
    let (metrics, [one, two]) = feeds();
    let brought = rows(&[(990, 0), (996, 0), (998, 1)]);
    let to_stage = ToStage::of(&brought);
    one.received(&Event::RowsReceived { request: RequestId(1), rows: brought });
    one.staged(&to_stage, Duration::from_millis(3), false);
    one.staged(&to_stage, Duration::from_millis(5), true);
    one.staged_read(2);
    two.received(&Event::RowsReceived { request: RequestId(1), rows: rows(&[(1, 1)]) });
    let counted = |kind: &str, count: u32| {
        let labels = format!("kind=\"cdc\",schema=\"db.one\",target=\"db.one\",type=\"{kind}\"");
        check(&metrics, &[&format!("acceptor_mutations_total{{{labels}}} {count}")]);
    };
    counted("received", 3);
    counted("success", 3);
    counted("error", 3);
    check(
        &metrics,
        &[
            "stage_mutations_total{schema=\"db.one\",table=\"a\"} 2",
            "stage_mutations_total{schema=\"db.one\",table=\"b\"} 1",
            "stage_errors_total{schema=\"db.one\",table=\"a\"} 2",
            "stage_duration_seconds_sum{schema=\"db.one\",table=\"a\"} 0.005",
            "stage_commit_lag_seconds_sum{schema=\"db.one\",table=\"a\"} 10",
            "stage_commit_lag_seconds_sum{schema=\"db.one\",table=\"b\"} 2",
            "target_mutations_sent_to_apply_queue{schema=\"db.one\"} 2",
            "target_mutations_sent_to_apply_queue{schema=\"db.two\"} 0",
        ],
    );
}

#[test]
fn promises_are_counted_when_they_come_and_when_they_are_saved() {
    let (metrics, [one, _]) = feeds();
    for second in [990, 995, 995] {
        one.received(&promised(second));
    }
    one.resolved_saved(Duration::from_millis(5));
    one.checkpoint_saved(Duration::from_millis(7));
    let backwards = "checkpoint_proposed_going_backwards_errors_total{schema=\"db.one\"}";
    check(
        &metrics,
        &[
            "core_source_lag_seconds_sum{schema=\"db.one\"} 20",
            "checkpoint_advance_duration_seconds_sum{schema=\"db.one\"} 0.005",
            "checkpoint_commit_duration_seconds_sum{schema=\"db.one\"} 0.007",
            &format!("{backwards} 0"),
        ],
    );
    one.received(&promised(994));
    check(&metrics, &[&format!("{backwards} 1")]);
}

#[test]
fn readiness_says_which_schema_is_not_well() {
    let metrics = Metrics::new(Command::Start, LIMITS, now);
    assert_eq!(metrics.readiness(), Err("starting".to_owned()));
    metrics.opened();
    assert_eq!(metrics.readiness(), Ok(()));
    let [one, two] = ["db.one", "db.two"].map(|label| metrics.schema(label));
    one.run_began();
    two.run_ended("the target is gone");
    assert_eq!(metrics.readiness(), Err("schema db.two: the target is gone".to_owned()));
    metrics.forget("db.two");
    assert_eq!(metrics.readiness(), Ok(()));
    let text = TextEncoder::new().encode_to_string(&metrics.gather()).unwrap();
    assert!(text.contains("db.one") && !text.contains("db.two"), "{text}");
    // It may come again.
    drop(metrics.schema("db.two"));
}
