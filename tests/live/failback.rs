//! What changefeeds bring by HTTP goes to a real PostgreSQL, by way of the embedded staging store.
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use replicator_core::decode::changefeed;
use replicator_core::model::time::WallTime;
use replicator_core::{Config, OnReject, Retry};
use replicator_io::disk::StdDisk;
use replicator_io::http::HttpLimits;
use replicator_io::metrics::{Limits, Metrics};
use replicator_io::net::TcpDial;
use replicator_io::pg::pool::PoolLimits;
use replicator_io::replicate::start::{Entrance, StartSettings, start};
use replicator_io::source::changefeed::webhook::{Open, WebhookLimits};
use replicator_io::staging::embedded::{Embedded, EmbeddedSettings, Ledger};
use replicator_tests::postgres::{self, Options, Server};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_postgres::Client;

const TABLES: &str = "
    CREATE TABLE parent (id int8 PRIMARY KEY, name text NOT NULL);
    CREATE TABLE child (id int8 PRIMARY KEY, parent_id int8 NOT NULL REFERENCES parent, note text)";

/// A target, and where staging is kept.
struct Bench {
    server: Server,
    client: Client,
    folder: PathBuf,
}

/// A running `start`.
struct Failback {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    task: JoinSet<Result<()>>,
}

impl Bench {
    async fn new(name: &str) -> Result<Self> {
        let server = Server::start(postgres::major()?, &Options::default())?;
        let client = server.create_database("app").await?;
        client.batch_execute(TABLES).await?;
        let folder = std::env::temp_dir().join(format!("failback-{name}-{}", std::process::id()));
        Ok(Self { server, client, folder })
    }

    async fn start(&self) -> Result<Failback> {
        let seconds = Duration::from_secs;
        let core = Config {
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
        };
        let settings = StartSettings {
            target: self.server.conninfo("app").parse()?,
            core,
            immediate: false,
            webhook: WebhookLimits {
                body: changefeed::Limits { body_bytes_max: 100_000, ..Default::default() },
                bodies_bytes_max: 1 << 20,
                response_timeout: seconds(20),
            },
            health_timeout: seconds(5),
            discard: None,
            apply_timeout: seconds(10),
            dlq_table: "replicator_dlq".to_owned(),
            progress_table: None,
            schema_refresh: None,
            target_pool: PoolLimits {
                sessions_max: 4,
                idle_max: seconds(60),
                age_max: seconds(60),
                statements_max: 16,
                wait_max: seconds(10),
            },
        };
        let ledger = Ledger::open(StdDisk, EmbeddedSettings::new(self.folder.clone()))?;
        let staging = Embedded::on_thread(ledger, seconds(10))?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let entrance = Entrance { listener, tls: None, gate: Open, limits: HttpLimits::default() };
        let limits = Limits { applies_max: 4, buffered_bytes_max: 8 << 20 };
        let metrics = Metrics::new("start", "app", limits, || WallTime { micros: 0 });
        let (stop, stopped) = watch::channel(false);
        let mut task = JoinSet::new();
        task.spawn(async move {
            let file = staging.clone();
            start(TcpDial, settings, staging, entrance, stopped, Arc::new(metrics)).await?;
            file.close().await.map_err(|failure| anyhow::anyhow!("{failure}"))
        });
        Ok(Failback { address, stop, task })
    }

    /// Waits until a question has this answer.
    async fn until(&self, sql: &str, wanted: &str) -> Result<()> {
        let mut last = String::new();
        for _ in 0..200 {
            last = self.client.query_one(sql, &[]).await?.try_get(0)?;
            if last == wanted {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        anyhow::bail!("{sql}: {last:?} is not {wanted:?}")
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.folder).ok();
    }
}

impl Failback {
    /// Sends a request. Returns the status and the body of the answer.
    async fn ask(&self, method: &str, path: &str, body: &str) -> Result<(u16, String)> {
        let mut stream = TcpStream::connect(self.address).await?;
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await?;
        // A server that refuses early does not read the rest.
        stream.write_all(body.as_bytes()).await.ok();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.ok();
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let (head, body) = answer.split_once("\r\n\r\n").context("no head in the answer")?;
        let status = head.split(' ').nth(1).context("no status in the answer")?.parse()?;
        Ok((status, body.to_owned()))
    }

    async fn bring(&self, body: &str) -> Result<()> {
        let (status, text) = self.ask("POST", "/app/public", body).await?;
        anyhow::ensure!(status == 200, "{status}: {text}");
        Ok(())
    }

    async fn stop(mut self) -> Result<()> {
        self.stop.send_replace(true);
        self.task.join_next().await.context("it runs")??
    }
}

fn row(table: &str, key: i64, after: &str, time: u32) -> String {
    format!(r#"{{"topic":"{table}","key":[{key}],"after":{after},"updated":"{time}.0000000000"}}"#)
}

fn rows(of: &[String]) -> String {
    format!(r#"{{"payload":[{}],"length":{}}}"#, of.join(","), of.len())
}

fn resolved(time: u32) -> String {
    format!(r#"{{"resolved":"{time}.0000000000"}}"#)
}

const CHILDREN: &str = "SELECT COALESCE(string_agg(c.id || ':' || p.name || ':' || c.note, ' ' ORDER BY c.id), '') \
                        FROM child c JOIN parent p ON p.id = c.parent_id";
const PARENTS: &str = "SELECT COALESCE(string_agg(name, ' ' ORDER BY id), '') FROM parent";

#[tokio::test]
async fn rows_arrive_when_they_are_resolved_whatever_their_order() -> Result<()> {
    let bench = Bench::new("order").await?;
    let failback = bench.start().await?;
    // A child before its parent, an older image after a newer one, and each of them twice.
    let child = row("child", 1, r#"{"id":1,"parent_id":7,"note":"a"}"#, 100);
    let parent = row("parent", 7, r#"{"id":7,"name":"new"}"#, 100);
    let older = row("parent", 7, r#"{"id":7,"name":"old"}"#, 90);
    let later = row("parent", 8, r#"{"id":8,"name":"later"}"#, 200);
    failback.bring(&rows(&[child.clone(), later])).await?;
    failback.bring(&rows(&[parent.clone(), older.clone()])).await?;
    failback.bring(&rows(&[older.clone(), child, parent])).await?;
    assert_eq!(bench.client.query(CHILDREN, &[]).await?[0].get::<_, &str>(0), "");
    failback.bring(&resolved(150)).await?;
    bench.until(CHILDREN, "1:new:a").await?;
    bench.until(PARENTS, "new").await?;
    // An older promise and an older image change nothing any more.
    failback.bring(&resolved(120)).await?;
    failback.bring(&rows(&[older])).await?;
    failback.bring(&resolved(250)).await?;
    bench.until(PARENTS, "new later").await?;
    failback.stop().await
}

#[tokio::test]
async fn what_was_answered_survives_the_process() -> Result<()> {
    let bench = Bench::new("survives").await?;
    let failback = bench.start().await?;
    failback.bring(&rows(&[row("parent", 1, r#"{"id":1,"name":"kept"}"#, 100)])).await?;
    // Dropped in the middle of its work.
    drop(failback);
    let failback = loop {
        // The thread of the file is through in a moment.
        match bench.start().await {
            Ok(failback) => break failback,
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    };
    failback.bring(&resolved(100)).await?;
    bench.until(PARENTS, "kept").await?;
    failback.bring(&rows(&[row("parent", 1, "null", 110)])).await?;
    failback.bring(&resolved(110)).await?;
    bench.until(PARENTS, "").await?;
    failback.stop().await
}

#[tokio::test]
async fn what_cannot_be_taken_is_refused_with_its_status() -> Result<()> {
    let bench = Bench::new("refused").await?;
    let failback = bench.start().await?;
    let drift = rows(&[row("parent", 1, r#"{"id":1,"name":"x","extra":1}"#, 100)]);
    let large = "x".repeat(200_000);
    for (method, path, body, status) in [
        ("POST", "/", "{}", 404),
        ("POST", "/app", "{}", 404),
        ("POST", "/_/app", "{}", 404),
        ("POST", "/app/nowhere", "{}", 400),
        ("POST", "/other/public", "{}", 400),
        ("GET", "/app/public", "", 405),
        ("POST", "/app/public", "{", 400),
        ("POST", "/app/public", r#"{"payload":[{"topic":"parent"}]}"#, 400),
        ("POST", "/app/public", &drift, 409),
        ("POST", "/app/public", &large, 413),
        ("POST", "/app/public/parent", "{}", 501),
        ("POST", "/app/public", "", 200),
    ] {
        let (got, text) = failback.ask(method, path, body).await?;
        assert_eq!(got, status, "{method} {path}: {text}");
        assert!(status == 200 || text.contains("incident"), "{text}");
    }
    // None of that was staged.
    failback.bring(&resolved(1_000)).await?;
    failback.bring(&rows(&[row("parent", 1, r#"{"id":1,"name":"good"}"#, 1_100)])).await?;
    failback.bring(&resolved(1_200)).await?;
    bench.until(PARENTS, "good").await?;
    failback.stop().await
}
