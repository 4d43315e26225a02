//! The same of `start`, with two schemas that are brought rows for.
use std::net::{Ipv4Addr, TcpListener};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Result, ensure};
use replicator_tests::databases::Databases;
use replicator_tests::feeder::{Caller, Where};
use replicator_tests::product::Replicator;
use replicator_tests::{postgres, wait_until};

use super::{Metrics, get};

const LIMIT: Duration = Duration::from_secs(60);

/// Documented metrics of this command with the label `schema`, and the type of each.
const OF_A_SCHEMA: [(&str, &str); 17] = [
    ("core_source_lag_seconds", "histogram"),
    ("source_commit_to_apply_lag_seconds", "histogram"),
    ("target_apply_transaction_lag_seconds", "histogram"),
    ("target_applied_timestamp_seconds", "gauge"),
    ("target_pending_timestamp_seconds", "gauge"),
    ("target_apply_queue_utilization_percent", "gauge"),
    ("target_apply_queue_size", "gauge"),
    ("checkpoint_committed_age_seconds", "gauge"),
    ("checkpoint_proposed_age_seconds", "gauge"),
    ("checkpoint_commit_duration_seconds", "histogram"),
    ("checkpoint_proposed_going_backwards_errors_total", "counter"),
    ("core_sweep_duration_seconds", "histogram"),
    ("core_sweep_mutations_applied_total", "counter"),
    ("core_sweep_success_timestamp_seconds", "gauge"),
    ("core_parallelism_utilization_percent", "gauge"),
    ("apply_errors_total", "counter"),
    ("acceptor_mutations_total", "counter"),
];

/// Those that have the label `table` as well.
const OF_A_TABLE: [(&str, &str); 9] = [
    ("target_apply_mutation_age_seconds", "histogram"),
    ("stage_commit_lag_seconds", "histogram"),
    ("stage_mutations_total", "counter"),
    ("stage_duration_seconds", "histogram"),
    ("apply_duration_seconds", "histogram"),
    ("apply_upserts_total", "counter"),
    ("apply_deletes_total", "counter"),
    ("apply_conflicts_total", "counter"),
    ("apply_resolves_total", "counter"),
];

/// Those of the whole process.
const OF_THE_PROCESS: [(&str, &str); 4] = [
    ("http_status_codes_total", "counter"),
    ("http_latency_seconds", "histogram"),
    ("http_payload_in_bytes_total", "histogram"),
    ("http_requests_in_flight", "gauge"),
];

/// A running `start` with schemas `public` and `other`, each with a table `t`.
struct Observed {
    databases: Databases,
    replicator: Replicator,
    caller_port: u16,
    port: u16,
    folder: std::path::PathBuf,
}

impl Drop for Observed {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.folder).ok();
    }
}

impl Observed {
    async fn begin(name: &str) -> Result<Self> {
        let databases = Databases::create(name).await?;
        let tables = "CREATE TABLE t (id int PRIMARY KEY, v int); \
                      CREATE SCHEMA other CREATE TABLE t (id int PRIMARY KEY, v int)";
        databases.to.batch_execute(tables).await?;
        // Free a moment ago, which is good enough for a test.
        let free = || {
            Ok::<u16, std::io::Error>(
                TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port(),
            )
        };
        let (caller_port, port) = (free()?, free()?);
        let folder = std::env::temp_dir().join(format!("{name}-{}", std::process::id()));
        let flags = [
            ["--targetConn", &databases.target().conninfo(name)],
            ["--bindAddr", &format!("127.0.0.1:{caller_port}")],
            ["--metricsAddr", &format!("127.0.0.1:{port}")],
            ["--dataDir", &folder.display().to_string()],
            ["--flushPeriod", "50ms"],
        ];
        let flags = flags.as_flattened().iter().copied();
        let arguments = ["start", "--disableAuthentication"].into_iter().chain(flags);
        let log = postgres::home()?.join("logs").join(format!("{name}-start.log"));
        let replicator = Replicator::start(&log, arguments)?;
        Ok(Self { databases, replicator, caller_port, port, folder })
    }

    async fn bring(&mut self, schema: &str, body: &str) -> Result<()> {
        let path = format!("/{}/{schema}", self.databases.name());
        let place = Where { port: self.caller_port, path, token: None, tls: None };
        let mut caller = Caller::new(place);
        let replicator = &mut self.replicator;
        wait_until(LIMIT, "it is taken", async || {
            replicator.must_run()?;
            Ok(matches!(caller.post(body).await, Ok((200, _))))
        })
        .await
    }

    async fn metrics(&self) -> Result<Metrics> {
        Metrics::parse(&get(self.port, "/_/varz").await?.body)
    }
}

fn nanos() -> Result<u128> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos())
}

/// Acceptance item 13, over the scraped text.
#[tokio::test]
async fn a13_each_schema_has_the_documented_metrics_and_its_lag_moves_on_while_idle() -> Result<()>
{
    let mut observed = Observed::begin("metrics_start").await?;
    let name = observed.databases.name().to_owned();
    let (one, two) = (format!("{name}.public"), format!("{name}.other"));
    for (schema, rows) in [("public", 2), ("other", 1)] {
        for id in 1..=rows {
            let time = nanos()?;
            let row = format!(
                r#"{{"payload":[{{"after":{{"id":{id},"v":1}},"key":[{id}],"topic":"t","updated":"{time}.0"}}]}}"#
            );
            observed.bring(schema, &row).await?;
        }
        observed.bring(schema, &format!(r#"{{"resolved":"{}.0"}}"#, nanos()?)).await?;
    }
    wait_until(LIMIT, "all rows are applied and all checkpoints saved", async || {
        let metrics = observed.metrics().await?;
        let saved = |schema: &str| {
            metrics.sum("checkpoint_commit_duration_seconds_count", &[("schema", schema)]) >= 1.0
        };
        let upserts = metrics.sum("apply_upserts_total", &[]);
        Ok(saved(&one) && saved(&two) && (upserts - 3.0).abs() < 0.1)
    })
    .await?;

    let metrics = observed.metrics().await?;
    for (metric, kind) in OF_A_SCHEMA.iter().chain(&OF_A_TABLE) {
        assert_eq!(metrics.kinds.get(*metric).map(String::as_str), Some(*kind), "{metric}");
        let sample =
            if *kind == "histogram" { format!("{metric}_count") } else { (*metric).to_owned() };
        for schema in [&one, &two] {
            let begin = format!("{sample}{{");
            let label = format!("schema=\"{schema}\"");
            let there = |had: &&String| had.starts_with(&begin) && had.contains(&label);
            assert!(metrics.samples.keys().any(|had| there(&had)), "no {metric} of {schema}");
        }
    }
    for (metric, kind) in OF_THE_PROCESS {
        assert_eq!(metrics.kinds.get(metric).map(String::as_str), Some(kind), "{metric}");
    }
    for (schema, rows) in [(&one, 2.0), (&two, 1.0)] {
        let of_table = [("schema", schema.as_str()), ("table", "t")];
        for metric in
            ["apply_upserts_total", "stage_mutations_total", "stage_duration_seconds_count"]
        {
            let had = metrics.sum(metric, &of_table);
            assert!((had - rows).abs() < 0.1, "{metric} of {schema}: {had}");
        }
        let of_target = [("kind", "cdc"), ("target", schema.as_str()), ("type", "success")];
        let had = metrics.sum("acceptor_mutations_total", &of_target);
        assert!((had - rows).abs() < 0.1, "{schema}: {had}");
    }
    assert!(metrics.sum("http_status_codes_total", &[("code", "200")]) >= 5.0, "{metrics:?}");

    // Nobody calls, and the gauges move on; each schema has a promise of its own.
    observed.bring("public", &format!(r#"{{"resolved":"{}.0"}}"#, nanos()?)).await?;
    let early = observed.metrics().await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let late = observed.metrics().await?;
    for gauge in ["source_lag_seconds", "target_lag_seconds", "checkpoint_proposed_age_seconds"] {
        for schema in [&one, &two] {
            let of_schema = [("schema", schema.as_str())];
            let grown = late.sum(gauge, &of_schema) - early.sum(gauge, &of_schema);
            assert!(1.5 < grown && grown < 10.0, "{gauge} of {schema} has grown by {grown} s");
        }
    }
    let pending =
        |schema: &str| late.sum("target_pending_timestamp_seconds", &[("schema", schema)]);
    ensure!(pending(&two) < pending(&one), "{late:?}");
    assert_eq!(get(observed.port, "/_/readyz").await?.code, 200);
    let diag: serde_json::Value = serde_json::from_str(&get(observed.port, "/_/diag").await?.body)?;
    assert!(diag["schemas"][&two]["lag_ms"].is_u64(), "{diag}");
    Ok(())
}
