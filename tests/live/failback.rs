//! What changefeeds bring by HTTP goes to real servers, by way of the embedded staging store.
mod mysql;
mod postgres;
mod values;
mod vectors;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use replicator_core::decode::changefeed;
use replicator_core::model::time::{Hlc, WallTime};
use replicator_core::{Config, OnReject, Retry};
use replicator_io::disk::StdDisk;
use replicator_io::http::HttpLimits;
use replicator_io::metrics::{Command, Limits, Metrics};
use replicator_io::net::TcpDial;
use replicator_io::pool::PoolLimits;
use replicator_io::replicate::start::{Consistency, Entrance, StartSettings, StartTarget, start};
use replicator_io::source::changefeed::webhook::{Open, WebhookLimits};
use replicator_io::staging::embedded::{Embedded, EmbeddedSettings, Ledger};
use replicator_tests::feeder::{Caller, Where};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Without a window.
const CONSISTENT: Consistency = Consistency::Consistent { window: Duration::ZERO };

/// The largest body that is taken.
const BODY_BYTES_MAX: usize = 100_000;

/// A folder for a staging file, of this test of this process. Removed when dropped.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        Self(std::env::temp_dir().join(format!("failback-{name}-{}", std::process::id())))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

/// A running `start`.
struct Running {
    place: Where,
    stop: watch::Sender<bool>,
    task: JoinSet<Result<()>>,
}

impl Running {
    /// Starts; rows are brought to `path`, and wait for the rest of their transactions.
    async fn start(target: &str, path: &str, folder: &Path) -> Result<Self> {
        Self::start_in(target, path, folder, CONSISTENT).await
    }

    /// As [`start`](Self::start), but what rows wait for is given.
    async fn start_in(
        target: &str,
        path: &str,
        folder: &Path,
        consistency: Consistency,
    ) -> Result<Self> {
        let ledger = Ledger::open(StdDisk, EmbeddedSettings::new(folder.to_owned()))?;
        let staging = Embedded::on_thread(ledger, Duration::from_secs(10))?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let entrance = Entrance { listener, tls: None, gate: Open, limits: HttpLimits::default() };
        let limits = Limits { applies_max: 4, buffered_bytes_max: 8 << 20 };
        let metrics = Metrics::new(Command::Start, limits, || WallTime { micros: 0 });
        let settings = StartSettings { consistency, ..settings(target.parse()?) };
        let (stop, stopped) = watch::channel(false);
        let mut task = JoinSet::new();
        task.spawn(async move {
            let file = staging.clone();
            start(TcpDial, settings, staging, entrance, stopped, Arc::new(metrics)).await?;
            file.close().await.map_err(|failure| anyhow::anyhow!("{failure}"))
        });
        let place = Where { port, path: path.to_owned(), token: None, tls: None };
        Ok(Self { place, stop, task })
    }

    /// Sends a request. Returns the status and the body of the answer.
    async fn ask(&self, method: &str, path: &str, body: &str) -> Result<(u16, String)> {
        let place = Where { path: path.to_owned(), ..self.place.clone() };
        Caller::new(place).ask(method, body).await
    }

    /// Brings rows, which are taken.
    async fn bring(&self, rows: &[String]) -> Result<()> {
        let body = format!(r#"{{"payload":[{}],"length":{}}}"#, rows.join(","), rows.len());
        self.post(&body).await
    }

    /// Promises that nothing at or before this time is still to come.
    async fn resolved(&self, nanos: u64) -> Result<()> {
        self.promise(Hlc { nanos, logical: 0 }).await
    }

    async fn promise(&self, time: Hlc) -> Result<()> {
        self.post(&format!(r#"{{"resolved":"{time}"}}"#)).await
    }

    async fn post(&self, body: &str) -> Result<()> {
        let (status, text) = Caller::new(self.place.clone()).post(body).await?;
        ensure!(status == 200, "{status}: {text}");
        Ok(())
    }

    async fn stop(mut self) -> Result<()> {
        self.stop.send_replace(true);
        self.task.join_next().await.context("it runs")??
    }
}

fn settings(target: StartTarget) -> StartSettings {
    let seconds = Duration::from_secs;
    StartSettings {
        target,
        core: Config {
            batch_rows_max: 1_000,
            batch_txs_max: 1_000,
            batch_growth_max: 1,
            batch_age_max: Duration::from_millis(100),
            buffered_bytes_max: 8 << 20,
            stages_max: 4,
            applies_max: 4,
            retry: Retry {
                tries_max: 10,
                delay_first: Duration::from_millis(25),
                delay_max: seconds(2),
                factor: 2,
            },
            read_rows_max: 1_000,
            save_interval: Duration::from_millis(100),
            on_reject: OnReject::Stop,
            collapse: true,
            seed: 1,
        },
        consistency: CONSISTENT,
        wall: || WallTime { micros: 0 },
        webhook: WebhookLimits {
            body: changefeed::Limits { body_bytes_max: BODY_BYTES_MAX, ..Default::default() },
            bodies_bytes_max: 8 << 20,
            response_timeout: seconds(20),
        },
        health_timeout: seconds(5),
        discard: None,
        apply_timeout: seconds(10),
        dlq_table: "replicator_dlq".to_owned(),
        progress_table: None,
        forget_feeds: Vec::new(),
        schema_refresh: Some(Duration::from_millis(200)),
        target_pool: PoolLimits {
            sessions_max: 4,
            idle_max: seconds(60),
            age_max: seconds(60),
            statements_max: 16,
            wait_max: seconds(10),
        },
    }
}

/// A row as a changefeed sends it; `after` is JSON.
fn row(table: &str, key: i64, after: &str, time: u32) -> String {
    format!(r#"{{"topic":"{table}","key":[{key}],"after":{after},"updated":"{time}.0000000000"}}"#)
}
