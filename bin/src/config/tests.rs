//! From the words of a command line to checked values.
use std::ffi::OsString;
use std::time::Duration;

use replicator_core::decode::pg_transaction::TruncatePolicy;
use replicator_core::model::ident::SchemaName;
use replicator_core::{Config, OnReject, Retry};
use replicator_io::pool::PoolLimits;
use replicator_io::replicate::PgLogicalSettings;

use super::{
    Compression, ListenAddress, ObservingConfig, ProcessConfig, UsageError, pglogical,
    pglogical_shown, recording,
};
use crate::cli::{Cli, Command, PgLogicalFlags, parse};

const CONNECTIONS: &str = "--sourceConn postgresql://u:geheim@source:5432/db \
                           --targetConn postgresql://root:geheim@target:26257/defaultdb";

fn parsed(line: &str) -> Cli {
    let words = ["replicator", "pglogical"].into_iter().chain(line.split_whitespace());
    match parse(words.map(OsString::from)) {
        Ok(cli) => cli,
        Err(refusal) => panic!("{line}: {}", refusal.text),
    }
}

fn flags(line: &str) -> Box<PgLogicalFlags> {
    match parsed(line).command {
        Command::PgLogical(flags) => flags,
        Command::MakeJwt(_) | Command::MyLogical(_) | Command::Start(_) | Command::Version => {
            panic!("another command")
        }
    }
}

/// With connection strings.
fn config(line: &str) -> Result<(PgLogicalSettings, Vec<String>), UsageError> {
    pglogical(&flags(&format!("{CONNECTIONS} {line}")), 7)
}

fn good(line: &str) -> PgLogicalSettings {
    match config(line) {
        Ok((config, _)) => config,
        Err(error) => panic!("{line}: {error}"),
    }
}

#[test]
fn the_defaults_are_the_documented_ones() {
    let (config, warnings) = config("").unwrap();
    let seconds = Duration::from_secs;
    assert_eq!(
        config.forward.core,
        Config {
            batch_rows_max: 1_000,
            batch_txs_max: 1_000,
            batch_growth_max: 1,
            batch_age_max: seconds(1),
            buffered_bytes_max: 128 << 20,
            stages_max: 16,
            applies_max: 16,
            retry: Retry {
                tries_max: 10,
                delay_first: Duration::from_millis(25),
                delay_max: seconds(2),
                factor: 2,
            },
            read_rows_max: 10_000,
            save_interval: Duration::from_millis(500),
            on_reject: OnReject::Stop,
            collapse: true,
            seed: 7,
        }
    );
    let pool = PoolLimits {
        sessions_max: 128,
        idle_max: seconds(60),
        age_max: seconds(300),
        statements_max: 128,
        wait_max: seconds(30),
    };
    assert_eq!(config.forward.target_pool, pool);
    assert_eq!(config.forward.staging_pool, PoolLimits { statements_max: 16, ..pool });
    assert_eq!((config.slot.as_str(), config.publication), ("replicator", None));
    assert_eq!((config.standby_timeout, config.forward.apply_timeout), (seconds(5), seconds(30)));
    assert_eq!(
        (config.forward.schema_refresh, config.forward.truncate),
        (Some(seconds(60)), TruncatePolicy::Stop)
    );
    assert_eq!(config.forward.dlq_table, "replicator_dlq");
    assert_eq!((config.forward.target_schema, config.forward.staging), (None, None));
    assert_eq!(config.forward.staging_schema, ["_replicator", "public"]);
    assert!(!config.forward.staging_create);
    assert_eq!(warnings, [""; 0]);
}

#[test]
fn zero_stands_for_the_default_where_documented() {
    let zeros = "--flushSize 0 --flushPeriod 0 --timestampLimit 0 --parallelism 0 --maxRetries 0 \
                 --retryInitialBackoff 0 --retryMaxBackoff 0 --retryMultiplier 0 --applyTimeout 0 \
                 --standbyTimeout 0 --targetMaxPoolSize 0 --targetIdleTime 0 --targetMaxLifetime 0 \
                 --targetStatementCacheSize 0 --memoryLimit 0";
    let (zeros, defaults) = (good(zeros), good(""));
    assert_eq!(zeros.forward.core, defaults.forward.core);
    assert_eq!(zeros.forward.target_pool, defaults.forward.target_pool);
    assert_eq!(zeros.forward.apply_timeout, defaults.forward.apply_timeout);
    assert_eq!(zeros.standby_timeout, defaults.standby_timeout);
    for off in ["0", "-1", "-1s"] {
        assert_eq!(good(&format!("--schemaRefresh {off}")).forward.schema_refresh, None);
    }
}

#[test]
fn values_arrive_where_they_belong() {
    let config = good(
        "--flushSize 5 --flushPeriod 2s --timestampLimit 6 --maxRetries 3 --retryInitialBackoff 1ns \
         --retryMaxBackoff 1ns --retryMultiplier 1 --collapseMutations=false --memoryLimit 64MiB \
         --truncate apply --onReject dlq --dlqMaxPercent 5 --dlqTableName Dead \
         --publicationName molt_fetch --stagingConn postgresql://root@staging:1/x --stagingCreateSchema",
    );
    assert_eq!((config.forward.core.batch_rows_max, config.forward.core.batch_txs_max), (5, 6));
    assert_eq!(config.forward.core.batch_age_max, Duration::from_secs(2));
    let nano = Duration::from_nanos(1);
    let retry = Retry { tries_max: 3, delay_first: nano, delay_max: nano, factor: 1 };
    assert_eq!(config.forward.core.retry, retry);
    assert_eq!(
        (config.forward.core.collapse, config.forward.core.buffered_bytes_max),
        (false, 64 << 20)
    );
    assert_eq!(config.forward.truncate, TruncatePolicy::Apply);
    assert_eq!(config.forward.core.on_reject, OnReject::DeadLetter { percent_max: 5 });
    assert_eq!(config.forward.dlq_table, "dead");
    assert_eq!(config.publication.as_deref(), Some("molt_fetch"));
    assert_eq!(config.forward.staging.unwrap().hosts[0].name, "staging");
    assert!(config.forward.staging_create);
}

#[test]
fn an_empty_text_is_as_good_as_none() {
    let config =
        good("--publicationName= --targetSchema= --stagingConn= --userscript= --metricsAddr=");
    assert_eq!((config.publication, config.forward.target_schema), (None, None));
    assert_eq!(config.forward.staging, None);
}

#[test]
fn parallelism_is_held_to_four_fifths_of_the_pool() {
    for (line, applies, warning) in [
        ("--parallelism 102", 102, None),
        ("--parallelism 103", 102, Some("--parallelism 103 is held to 102")),
        ("--targetMaxPoolSize 10", 8, Some("--parallelism 16 is held to 8")),
        ("--targetMaxPoolSize 1", 1, Some("--parallelism 16 is held to 1")),
    ] {
        let (config, warnings) = config(line).unwrap();
        assert_eq!(config.forward.core.applies_max, applies, "{line}");
        assert_eq!(warnings.len(), usize::from(warning.is_some()), "{line}");
        assert!(warnings.iter().all(|had| had.starts_with(warning.unwrap())), "{warnings:?}");
    }
}

#[test]
fn schemas_have_one_or_two_parts() {
    let schema = |database: Option<&str>, schema: &str| {
        Some(SchemaName { database: database.map(str::to_owned), schema: schema.to_owned() })
    };
    for (text, expected, label) in [
        (
            "defaultdb.migration_schema",
            schema(Some("defaultdb"), "migration_schema"),
            "defaultdb.migration_schema",
        ),
        ("App", schema(None, "app"), "defaultdb.app"),
        ("\"My.App\"", schema(None, "My.App"), "defaultdb.My.App"),
    ] {
        let config = good(&format!("--targetSchema {text}"));
        assert_eq!(config.forward.target_schema, expected);
        assert_eq!(config.forward.schema_label(), label);
    }
    assert_eq!(good("").forward.schema_label(), "defaultdb.public");
    for (text, parts) in [
        ("_replicator", &["_replicator"][..]),
        ("defaultdb._replicator", &["defaultdb", "_replicator"]),
    ] {
        assert_eq!(good(&format!("--stagingSchema {text}")).forward.staging_schema, parts);
    }
}

#[test]
fn what_cannot_be_used_is_said_with_the_flag_and_the_way_out() {
    for (line, text) in [
        ("--targetSchema a.b.c", "--targetSchema must be schema or database.schema"),
        ("--stagingSchema a..b", "--stagingSchema is no name"),
        ("--dlqTableName a.b", "--dlqTableName must be the name of a table alone"),
        ("--parallelism -1", "--parallelism must not be negative"),
        ("--flushSize 5000000000", "--flushSize must be at most"),
        ("--applyTimeout -1s", "--applyTimeout must not be negative"),
        ("--memoryLimit 1KiB", "--memoryLimit must be at least 8MiB"),
        ("--memoryLimit lots", "--memoryLimit is not a size"),
        ("--slotName=", "--slotName must not be empty"),
        ("--userscript x.ts", "--userscript is not built yet in this version"),
        ("--stagingConn mysql://u:geheim@h/db", "--stagingConn cannot be used: unknown scheme"),
    ] {
        let error = config(line).unwrap_err().to_string();
        assert!(error.starts_with(text), "{line}: {error}");
        assert!(!error.contains("geheim"), "{error}");
    }
    for (line, text) in [
        ("--targetConn postgresql://u@h/db", "--sourceConn must be set: "),
        ("--sourceConn postgresql://u@h/db", "--targetConn must be set: "),
        ("--sourceConn= --targetConn postgresql://u@h/db", "--sourceConn must be set: "),
    ] {
        let error = pglogical(&flags(line), 7).unwrap_err().to_string();
        assert!(error.starts_with(text), "{line}: {error}");
    }
}

#[test]
fn nothing_that_is_shown_holds_a_password() {
    let config = good("--stagingConn postgresql://u:geheim@h/db");
    let text = serde_json::Value::Object(pglogical_shown(&config)).to_string();
    assert!(text.contains("host=target") && text.contains("\"flushSize\":1000"), "{text}");
    assert!(!text.contains("geheim"), "{text}");
    assert!(!format!("{config:?}").contains("geheim"));
}

#[test]
fn metrics_addresses_are_host_and_port() {
    for (text, host, port) in [
        (":30005", None, 30_005),
        ("0.0.0.0:30005", Some("0.0.0.0"), 30_005),
        ("localhost:0", Some("localhost"), 0),
        ("[::1]:80", Some("::1"), 80),
    ] {
        let observing = flags(&format!("--metricsAddr {text}")).observing;
        let address = ObservingConfig::new(&observing).unwrap().metrics.unwrap();
        assert_eq!(address, ListenAddress { host: host.map(str::to_owned), port });
        assert_eq!(address.to_string(), text);
    }
    for text in ["30005", "localhost", ":", ":x", ":70000", "::1:80", "[::1:80"] {
        let observing = flags(&format!("--metricsAddr {text}")).observing;
        let error = ObservingConfig::new(&observing).unwrap_err().to_string();
        assert!(error.starts_with("--metricsAddr must be host:port"), "{text}: {error}");
    }
}

#[test]
fn snapshots_need_a_listener_a_period_and_a_retention() {
    let observing = |line: &str| ObservingConfig::new(&flags(line).observing);
    let line = "--metricsAddr :1 --metricsSnapshotPeriod 15s --dataDir d";
    let snapshots = observing(line).unwrap().snapshots.unwrap();
    assert_eq!(snapshots.folder, std::path::Path::new("d/metrics-snapshots"));
    assert_eq!(snapshots.compression, Compression::Gzip);
    assert_eq!(snapshots.age_max, Some(Duration::from_secs(168 * 3_600)));
    assert_eq!(snapshots.bytes_max, None);
    assert_eq!(observing("--metricsAddr :1").unwrap().snapshots, None);
    let sized = format!(
        "{line} --metricsSnapshotRetentionTime 0 --metricsSnapshotRetentionSize 100MB \
         --metricsSnapshotCompression none"
    );
    let snapshots = observing(&sized).unwrap().snapshots.unwrap();
    assert_eq!((snapshots.age_max, snapshots.bytes_max), (None, Some(100_000_000)));
    for (line, text) in [
        ("--metricsSnapshotPeriod 15s", "--metricsSnapshotPeriod needs --metricsAddr"),
        ("--metricsAddr :1 --metricsSnapshotPeriod 14s", "--metricsSnapshotPeriod must be 0"),
        (
            "--metricsAddr :1 --metricsSnapshotPeriod 15s --metricsSnapshotRetentionTime 0",
            "--metricsSnapshotRetentionTime and --metricsSnapshotRetentionSize are both off",
        ),
        ("--metricsSnapshotRetentionSize x", "--metricsSnapshotRetentionSize is not a size"),
    ] {
        let error = observing(line).unwrap_err().to_string();
        assert!(error.starts_with(text), "{line}: {error}");
    }
}

#[test]
fn a_recording_needs_a_file_and_hashes_values() {
    let recording = |line: &str| recording(&flags(line).recording);
    assert_eq!(recording("").unwrap(), None);
    let settings = recording("--recordTrace out").unwrap().unwrap();
    assert_eq!(settings.file, std::path::Path::new("out"));
    assert_eq!((settings.plain_values, settings.bytes_max), (false, 1 << 30));
    let line = "--recordTrace out --recordTraceValues --recordTraceMax 5MB";
    let settings = recording(line).unwrap().unwrap();
    assert_eq!((settings.plain_values, settings.bytes_max), (true, 5_000_000));
    for (line, text) in [
        ("--recordTraceValues", "--recordTraceValues needs --recordTrace FILE"),
        ("--recordTrace out --recordTraceMax x", "--recordTraceMax is not a size"),
        ("--recordTrace out --recordTraceMax 0", "--recordTraceMax must be more than 0"),
    ] {
        let error = recording(line).unwrap_err().to_string();
        assert!(error.starts_with(text), "{line}: {error}");
    }
}

#[test]
fn the_process_has_its_own_settings() {
    let process = |line: &str| ProcessConfig::new(&parsed(line).process);
    let config = process("-vv --logDestination out.log --gracePeriod 0").unwrap();
    assert_eq!((config.grace_period, config.log.verbosity), (Duration::ZERO, 2));
    assert_eq!(config.log.destination, Some("out.log".into()));
    assert_eq!(process("").unwrap().grace_period, Duration::from_secs(30));
    assert_eq!(process("--logDestination=").unwrap().log.destination, None);
    assert!(process("--gracePeriod -1s").is_err());
}
