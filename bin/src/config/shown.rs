//! The configuration as `/_/diag` shows it: what counts, by flag, without secrets.
use std::time::Duration;

use replicator_core::OnReject;
use replicator_io::replicate::PgLogicalSettings;
use serde_json::{Map, Value, json};

use crate::cli::GoDuration;

/// Flags and what became of them. Connection strings are reduced to user, database, host and port.
pub(crate) fn shown(settings: &PgLogicalSettings) -> Map<String, Value> {
    let PgLogicalSettings { core, target_pool, staging_pool, .. } = settings;
    let (on_reject, percent_max) = match core.on_reject {
        OnReject::Stop => ("stop", None),
        OnReject::DeadLetter { percent_max } => ("dlq", Some(percent_max)),
    };
    let text = |time: Duration| GoDuration::from(time).to_string();
    let entries = [
        ("sourceConn", json!(settings.source.to_string())),
        ("targetConn", json!(settings.target.to_string())),
        ("stagingConn", json!(settings.staging.as_ref().map(ToString::to_string))),
        ("targetSchema", json!(settings.schema_label())),
        ("stagingSchema", json!(settings.staging_schema.join("."))),
        ("stagingCreateSchema", json!(settings.staging_create)),
        ("slotName", json!(settings.slot)),
        ("publicationName", json!(settings.publication)),
        ("standbyTimeout", json!(text(settings.standby_timeout))),
        ("applyTimeout", json!(text(settings.apply_timeout))),
        ("parallelism", json!(core.applies_max)),
        ("flushSize", json!(core.batch_rows_max)),
        ("flushPeriod", json!(text(core.batch_age_max))),
        ("timestampLimit", json!(core.batch_txs_max)),
        ("collapseMutations", json!(core.collapse)),
        ("maxRetries", json!(core.retry.tries_max)),
        ("retryInitialBackoff", json!(text(core.retry.delay_first))),
        ("retryMaxBackoff", json!(text(core.retry.delay_max))),
        ("retryMultiplier", json!(core.retry.factor)),
        ("dlqTableName", json!(settings.dlq_table)),
        ("schemaRefresh", json!(settings.schema_refresh.map(text))),
        ("targetMaxPoolSize", json!(target_pool.sessions_max)),
        ("targetIdleTime", json!(text(target_pool.idle_max))),
        ("targetMaxLifetime", json!(text(target_pool.age_max))),
        ("targetStatementCacheSize", json!(target_pool.statements_max)),
        ("stagingMaxPoolSize", json!(staging_pool.sessions_max)),
        ("stagingIdleTime", json!(text(staging_pool.idle_max))),
        ("stagingMaxLifetime", json!(text(staging_pool.age_max))),
        ("memoryLimit", json!(core.buffered_bytes_max)),
        ("truncate", json!(format!("{:?}", settings.truncate).to_lowercase())),
        ("onReject", json!(on_reject)),
        ("dlqMaxPercent", json!(percent_max)),
    ];
    entries.map(|(flag, value)| (flag.to_owned(), value)).into_iter().collect()
}
