//! What an operator's tools see: metrics, health, diagnosis, logs, and that none of them tells a secret.
#[path = "endpoints/start.rs"]
mod start;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, TcpListener};
use std::time::Duration;

use anyhow::{Context as _, Result};
use replicator_tests::databases::Databases;
use replicator_tests::http::get;
use replicator_tests::product::Replicator;
use replicator_tests::{postgres, wait_until};

/// Documented metrics of this command that are there from the start, and the type of each.
const METRICS: [(&str, &str); 14] = [
    ("core_source_lag_seconds", "histogram"),
    ("source_commit_to_apply_lag_seconds", "histogram"),
    ("target_apply_transaction_lag_seconds", "histogram"),
    ("target_apply_queue_utilization_percent", "gauge"),
    ("target_apply_queue_size", "gauge"),
    ("pglogical_dial_success_total", "counter"),
    ("pglogical_dial_failure_total", "counter"),
    ("mutation_total", "counter"),
    ("core_sweep_duration_seconds", "histogram"),
    ("core_sweep_mutations_applied_total", "counter"),
    ("core_sweep_success_timestamp_seconds", "gauge"),
    ("core_parallelism_utilization_percent", "gauge"),
    ("apply_errors_total", "counter"),
    ("acceptor_mutations_total", "counter"),
];

/// Those that have a label for the table, and so appear with its first row.
const METRICS_OF_A_TABLE: [(&str, &str); 4] = [
    ("target_apply_mutation_age_seconds", "histogram"),
    ("apply_duration_seconds", "histogram"),
    ("apply_upserts_total", "counter"),
    ("apply_deletes_total", "counter"),
];

struct Observed {
    databases: Databases,
    replicator: Replicator,
    port: u16,
}

impl Observed {
    async fn begin(name: &str, flags: &[&str]) -> Result<Self> {
        let databases = Databases::create(name).await?;
        databases.both("CREATE TABLE t (id int PRIMARY KEY, v int)").await?;
        databases.publish().await?;
        // Free a moment ago, which is good enough for a test.
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let address = format!("127.0.0.1:{port}");
        let mut all = vec!["--metricsAddr", &address];
        all.extend(flags);
        let replicator = databases.replicate(&all)?;
        Ok(Self { databases, replicator, port })
    }

    async fn ready(&mut self) -> Result<()> {
        let (port, replicator) = (self.port, &mut self.replicator);
        wait_until(Duration::from_secs(20), "it is ready", async || {
            replicator.must_run()?;
            Ok(get(port, "/_/readyz").await.is_ok_and(|answer| answer.code == 200))
        })
        .await
    }

    async fn metrics(&self) -> Result<Metrics> {
        let answer = get(self.port, "/_/varz").await?;
        assert_eq!(answer.code, 200);
        assert!(answer.head.contains("text/plain; version=0.0.4"), "{}", answer.head);
        Metrics::parse(&answer.body)
    }
}

/// Metrics in Prometheus' text format.
#[derive(Debug, Default)]
struct Metrics {
    kinds: BTreeMap<String, String>,
    /// By name with labels, as in `rows_total{table="t"}`.
    samples: BTreeMap<String, f64>,
}

impl Metrics {
    fn parse(text: &str) -> Result<Self> {
        let mut metrics = Self::default();
        for line in text.lines() {
            if let Some(kind) = line.strip_prefix("# TYPE ") {
                let (name, kind) = kind.split_once(' ').context("a type without a name")?;
                metrics.kinds.insert(name.to_owned(), kind.to_owned());
            } else if !line.starts_with('#') {
                let (name, value) = line.rsplit_once(' ').context("a sample without a value")?;
                let value = value.parse().with_context(|| line.to_owned())?;
                metrics.samples.insert(name.to_owned(), value);
            }
        }
        Ok(metrics)
    }

    /// The sum of the samples whose name begins like this and that have all of these labels.
    fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let wanted = |sample: &str| {
            let rest = sample.strip_prefix(name);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('{'))
                && labels.iter().all(|(key, value)| sample.contains(&format!("{key}=\"{value}\"")))
        };
        self.samples.iter().filter(|(sample, _)| wanted(sample)).map(|(_, value)| value).sum()
    }
}

#[tokio::test]
async fn metrics_have_the_documented_names_types_and_labels() -> Result<()> {
    let mut observed = Observed::begin("metrics", &[]).await?;
    observed.ready().await?;
    let metrics = observed.metrics().await?;
    for (name, kind) in METRICS {
        assert_eq!(metrics.kinds.get(name).map(String::as_str), Some(kind), "{name}");
    }
    observed.databases.from.batch_execute("INSERT INTO t SELECT generate_series(1, 30)").await?;
    observed.databases.confirmed(&mut observed.replicator).await?;
    observed.databases.from.batch_execute("DELETE FROM t WHERE id > 20").await?;
    observed.databases.from.batch_execute("UPDATE t SET v = 1").await?;
    observed.databases.confirmed(&mut observed.replicator).await?;

    let metrics = observed.metrics().await?;
    for (name, kind) in METRICS_OF_A_TABLE {
        assert_eq!(metrics.kinds.get(name).map(String::as_str), Some(kind), "{name}");
    }
    let schema = format!("{}.public", observed.databases.name());
    let of_table = [("schema", schema.as_str()), ("table", "t")];
    assert!((metrics.sum("apply_upserts_total", &of_table) - 50.0).abs() < 0.1, "{metrics:?}");
    assert!((metrics.sum("apply_deletes_total", &of_table) - 10.0).abs() < 0.1, "{metrics:?}");
    assert!(metrics.sum("apply_duration_seconds_count", &of_table) >= 2.0, "{metrics:?}");
    assert!((metrics.sum("pglogical_dial_success_total", &[]) - 1.0).abs() < 0.1, "{metrics:?}");
    assert!(metrics.sum("mutation_total", &[]) > 59.0, "{metrics:?}");
    let lag = metrics.sum("source_commit_to_apply_lag_seconds_count", &[("schema", &schema)]);
    assert!(lag >= 3.0, "{metrics:?}");
    Ok(())
}

#[tokio::test]
async fn lag_grows_while_the_target_is_blocked_and_stays_small_while_nothing_happens() -> Result<()>
{
    let mut observed = Observed::begin("lag", &[]).await?;
    observed.databases.from.batch_execute("INSERT INTO t VALUES (1)").await?;
    observed.ready().await?;
    observed.databases.confirmed(&mut observed.replicator).await?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let idle = observed.metrics().await?;
    for gauge in ["source_lag_seconds", "target_lag_seconds"] {
        assert_eq!(idle.kinds.get(gauge).map(String::as_str), Some("gauge"));
        assert!(idle.sum(gauge, &[]) < 2.0, "{gauge}: {idle:?}");
    }

    let other = observed.databases.target().client(observed.databases.name()).await?;
    other.batch_execute("BEGIN; LOCK TABLE t").await?;
    observed.databases.from.batch_execute("UPDATE t SET v = 2").await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let early = observed.metrics().await?.sum("target_lag_seconds", &[]);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let late = observed.metrics().await?.sum("target_lag_seconds", &[]);
    assert!(early > 1.0 && late > early + 1.0, "{early} s, then {late} s");
    other.batch_execute("ROLLBACK").await?;
    observed.databases.arrived(&mut observed.replicator).await?;
    // The source says now and then that it is idle, and that this is all.
    wait_until(Duration::from_secs(20), "the lag is small again", async || {
        Ok(observed.metrics().await?.sum("target_lag_seconds", &[]) < 2.0)
    })
    .await
}

#[tokio::test]
async fn health_readiness_and_diagnosis_answer_and_show_no_secret() -> Result<()> {
    let mut observed = Observed::begin("diag", &["-v"]).await?;
    observed.ready().await?;
    let health = get(observed.port, "/_/healthz").await?;
    assert_eq!((health.code, health.body.trim_end()), (200, "OK"));
    observed.databases.from.batch_execute("INSERT INTO t VALUES (471100471)").await?;
    observed.databases.confirmed(&mut observed.replicator).await?;
    let mut shown = String::new();
    for path in ["/_/diag", "/_/varz", "/_/readyz", "/"] {
        shown.push_str(&get(observed.port, path).await?.body);
    }
    let diag: serde_json::Value = serde_json::from_str(&get(observed.port, "/_/diag").await?.body)?;
    assert_eq!(diag["command"], "pglogical", "{diag}");
    assert_eq!(diag["ready"], true, "{diag}");
    assert!(diag.to_string().contains(observed.databases.name()), "{diag}");
    // The superuser's password; and rows of users are nobody's business.
    shown.push_str(&observed.replicator.log()?);
    for secret in ["secret", "471100471"] {
        assert!(!shown.contains(secret), "{secret} is in: {shown}");
    }

    // Whoever cannot reach the target is alive and not ready.
    let drop_sessions = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                         WHERE datname = 'diag' AND pid <> pg_backend_pid()";
    let other = observed.databases.target().client("postgres").await?;
    other.batch_execute("ALTER DATABASE diag ALLOW_CONNECTIONS false").await?;
    other.batch_execute(drop_sessions).await?;
    observed.databases.from.batch_execute("INSERT INTO t VALUES (2)").await?;
    let (port, replicator) = (observed.port, &mut observed.replicator);
    wait_until(Duration::from_secs(20), "it says that it is not ready", async || {
        replicator.must_run()?;
        assert_eq!(get(port, "/_/healthz").await?.code, 200);
        Ok(get(port, "/_/readyz").await?.code == 503)
    })
    .await?;
    other.batch_execute("ALTER DATABASE diag ALLOW_CONNECTIONS true").await?;
    observed.ready().await
}

/// Whether a line has the documented layout: level in 7 columns, time with offset, message.
fn has_layout(line: &str) -> bool {
    let Some((level, rest)) = line.split_at_checked(7) else { return false };
    let Some((time, message)) = rest.strip_prefix('[').and_then(|rest| rest.split_once("] "))
    else {
        return false;
    };
    // 2025-08-25T14:40:02-05:00
    let shape = time.chars().map(|c| if c.is_ascii_digit() { '0' } else { c });
    let shape: String = shape.collect();
    ["ERROR", "WARNING", "INFO", "DEBUG", "TRACE"].contains(&level.trim_end())
        && ["0000-00-00T00:00:00+00:00", "0000-00-00T00:00:00-00:00"].contains(&shape.as_str())
        && !message.is_empty()
}

#[tokio::test]
async fn log_lines_have_the_documented_layout() -> Result<()> {
    let mut observed = Observed::begin("log_text", &["-vv"]).await?;
    observed.databases.from.batch_execute("INSERT INTO t VALUES (1)").await?;
    observed.databases.confirmed(&mut observed.replicator).await?;
    observed.replicator.signal("INT")?;
    observed.replicator.wait(Duration::from_secs(20)).await?;
    let log = observed.replicator.log()?;
    for line in log.lines() {
        assert!(has_layout(line), "{line}");
    }
    let mut rest = log.as_str();
    for message in ["] Replicator starting", "] Interrupted", "] Server shutdown complete"] {
        rest = rest.split_once(message).with_context(|| format!("no {message} in {log}"))?.1;
    }
    Ok(())
}

#[tokio::test]
async fn log_lines_for_collectors_are_json_and_go_to_the_file_that_was_named() -> Result<()> {
    let name = format!("log_fluent_destination-{}.log", std::process::id());
    let file = postgres::home()?.join("logs").join(name);
    if file.exists() {
        std::fs::remove_file(&file)?;
    }
    let name = file.display().to_string();
    let flags = ["--logFormat", "fluent", "--logDestination", &name];
    let mut observed = Observed::begin("log_fluent", &flags).await?;
    observed.databases.confirmed(&mut observed.replicator).await?;
    observed.replicator.signal("TERM")?;
    observed.replicator.wait(Duration::from_secs(20)).await?;
    let log = std::fs::read_to_string(&file)?;
    assert!(log.contains("Replicator starting"), "{log}");
    for line in log.lines() {
        let line: serde_json::Value =
            serde_json::from_str(line).with_context(|| line.to_owned())?;
        assert!(line["message"].is_string() && line["severity"].is_string(), "{line}");
    }
    assert_eq!(observed.replicator.log()?, "");
    Ok(())
}
