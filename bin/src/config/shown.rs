//! The configuration as `/_/diag` shows it: what counts, by flag, without secrets.
use std::time::Duration;

use replicator_core::decode::binlog::NoDates;
use replicator_core::{Config, OnReject};
use replicator_io::pool::PoolLimits;
use replicator_io::replicate::start::Consistency;
use replicator_io::replicate::{ForwardSettings, MyLogicalSettings, PgLogicalSettings};
use serde_json::{Map, Value, json};

use super::{Certificate, Staged, StartConfig};
use crate::cli::GoDuration;

type Entry = (&'static str, Value);

/// Flags of `pglogical` and what became of them. Connection strings are reduced to user, database, host and
/// port.
pub(crate) fn pglogical_shown(settings: &PgLogicalSettings) -> Map<String, Value> {
    let entries = [
        ("sourceConn", json!(settings.source.to_string())),
        ("slotName", json!(settings.slot)),
        ("publicationName", json!(settings.publication)),
        ("standbyTimeout", text(settings.standby_timeout)),
    ];
    map(entries.into_iter().chain(forward(&settings.forward)))
}

/// The same of `mylogical`.
pub(crate) fn mylogical_shown(settings: &MyLogicalSettings) -> Map<String, Value> {
    let zero_dates = match settings.zero_dates {
        NoDates::Refuse => "stop",
        NoDates::Null => "null",
        NoDates::Keep => "keep",
    };
    let entries = [
        ("sourceConn", json!(settings.source.to_string())),
        ("defaultGTIDSet", json!(settings.default_gtids)),
        ("fetchMetadata", json!(settings.fetch_metadata)),
        ("replicationProcessID", json!(settings.server_id)),
        ("zeroDates", json!(zero_dates)),
    ];
    map(entries.into_iter().chain(forward(&settings.forward)))
}

/// Of all commands that read an ordered source.
fn forward(settings: &ForwardSettings) -> impl Iterator<Item = Entry> {
    let ForwardSettings { core, target_pool, staging_pool, .. } = settings;
    let entries = [
        ("targetConn", json!(settings.target.to_string())),
        ("stagingConn", json!(settings.staging.as_ref().map(ToString::to_string))),
        ("targetSchema", json!(settings.schema_label())),
        ("stagingSchema", json!(settings.staging_schema.join("."))),
        ("stagingCreateSchema", json!(settings.staging_create)),
        ("applyTimeout", text(settings.apply_timeout)),
        ("dlqTableName", json!(settings.dlq_table)),
        ("schemaRefresh", json!(settings.schema_refresh.map(text))),
        ("stagingMaxPoolSize", json!(staging_pool.sessions_max)),
        ("stagingIdleTime", text(staging_pool.idle_max)),
        ("stagingMaxLifetime", text(staging_pool.age_max)),
        ("truncate", json!(format!("{:?}", settings.truncate).to_lowercase())),
    ];
    entries.into_iter().chain(applying(core)).chain(target(target_pool))
}

/// The same of `start`.
pub(crate) fn start_shown(config: &StartConfig) -> Map<String, Value> {
    let settings = &config.settings;
    let certificate = match &config.certificate {
        None => json!(null),
        Some(Certificate::SelfSigned) => json!("self-signed"),
        Some(Certificate::Files { chain, .. }) => json!(chain),
    };
    let staged: Vec<Entry> = match &config.staging {
        Staged::File(file) => vec![("dataDir", json!(file.folder))],
        Staged::Database(database) => vec![
            ("stagingConn", json!(database.conninfo.to_string())),
            ("stagingSchema", json!(database.schema.join("."))),
            ("stagingCreateSchema", json!(database.create)),
            ("stageDisableCreateTableReaderIndex", json!(!database.reader_index)),
            ("stagingMaxPoolSize", json!(database.pool.sessions_max)),
            ("stagingIdleTime", text(database.pool.idle_max)),
            ("stagingMaxLifetime", text(database.pool.age_max)),
        ],
    };
    let entries = [
        ("targetConn", json!(settings.target.to_string())),
        ("bindAddr", json!(config.bind.to_string())),
        ("tlsCertificate", certificate),
        ("disableAuthentication", json!(!config.authenticate)),
        ("httpResponseTimeout", text(settings.webhook.response_timeout)),
        ("healthCheckTimeout", text(settings.health_timeout)),
        ("ndjsonBufferSize", json!(settings.webhook.body.line_bytes_max)),
        ("immediate", json!(settings.consistency == Consistency::Immediate)),
        ("bestEffortOnly", json!(settings.consistency == Consistency::BestEffort)),
        ("bestEffortWindow", json!(window(settings.consistency).map(text))),
        ("targetProgressTable", json!(settings.progress_table)),
        ("forgetFeeds", json!(settings.forget_feeds)),
        ("discard", json!(settings.discard.is_some())),
        ("scanSize", json!(settings.core.read_rows_max)),
        ("applyTimeout", text(settings.apply_timeout)),
        ("dlqTableName", json!(settings.dlq_table)),
        ("schemaRefresh", json!(settings.schema_refresh.map(text))),
    ];
    let rest = applying(&settings.core).into_iter().chain(target(&settings.target_pool));
    map(entries.into_iter().chain(staged).chain(rest))
}

fn window(consistency: Consistency) -> Option<Duration> {
    match consistency {
        Consistency::Consistent { window } => Some(window).filter(|window| !window.is_zero()),
        Consistency::BestEffort | Consistency::Immediate => None,
    }
}

fn applying(core: &Config) -> [Entry; 12] {
    let (on_reject, percent_max) = match core.on_reject {
        OnReject::Stop => ("stop", None),
        OnReject::DeadLetter { percent_max } => ("dlq", Some(percent_max)),
    };
    [
        ("parallelism", json!(core.applies_max)),
        ("flushSize", json!(core.batch_rows_max)),
        ("flushPeriod", text(core.batch_age_max)),
        ("timestampLimit", json!(core.batch_txs_max)),
        ("collapseMutations", json!(core.collapse)),
        ("maxRetries", json!(core.retry.tries_max)),
        ("retryInitialBackoff", text(core.retry.delay_first)),
        ("retryMaxBackoff", text(core.retry.delay_max)),
        ("retryMultiplier", json!(core.retry.factor)),
        ("memoryLimit", json!(core.buffered_bytes_max)),
        ("onReject", json!(on_reject)),
        ("dlqMaxPercent", json!(percent_max)),
    ]
}

fn target(pool: &PoolLimits) -> [Entry; 4] {
    [
        ("targetMaxPoolSize", json!(pool.sessions_max)),
        ("targetIdleTime", text(pool.idle_max)),
        ("targetMaxLifetime", text(pool.age_max)),
        ("targetStatementCacheSize", json!(pool.statements_max)),
    ]
}

fn text(time: Duration) -> Value {
    json!(GoDuration::from(time).to_string())
}

fn map(entries: impl Iterator<Item = Entry>) -> Map<String, Value> {
    entries.map(|(flag, value)| (flag.to_owned(), value)).collect()
}
