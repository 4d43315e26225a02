//! What changefeeds bring by HTTP goes back to a real MySQL and a real MariaDB.
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
use replicator_tests::mysql::{Kind, Server};
use replicator_tests::wait_until;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

const TABLES: &str = "
    CREATE TABLE parent (id BIGINT PRIMARY KEY, name VARCHAR(20) NOT NULL UNIQUE);
    CREATE TABLE child (id BIGINT PRIMARY KEY, parent_id BIGINT NOT NULL, doc JSON, at DATETIME(6),
        FOREIGN KEY (parent_id) REFERENCES parent (id));
    CREATE TABLE tree (id BIGINT PRIMARY KEY, up BIGINT, FOREIGN KEY (up) REFERENCES tree (id))";

/// A target, and a running `start`.
struct Bench {
    server: Arc<Server>,
    database: &'static str,
    folder: PathBuf,
    address: SocketAddr,
    stop: watch::Sender<bool>,
    task: JoinSet<Result<()>>,
}

impl Bench {
    async fn new(kind: Kind, database: &'static str) -> Result<Self> {
        let server = Server::shared(kind)?;
        server.run(&format!("CREATE DATABASE {database}; USE {database}; {TABLES}"))?;
        let folder = format!("failback-{database}-{kind:?}-{}", std::process::id());
        let folder = std::env::temp_dir().join(folder);
        let seconds = Duration::from_secs;
        let settings = settings(server.conninfo(database).parse()?);
        let ledger = Ledger::open(StdDisk, EmbeddedSettings::new(folder.clone()))?;
        let staging = Embedded::on_thread(ledger, seconds(10))?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let entrance = Entrance { listener, tls: None, gate: Open, limits: HttpLimits::default() };
        let limits = Limits { applies_max: 4, buffered_bytes_max: 8 << 20 };
        let metrics = Metrics::new("start", database, limits, || WallTime { micros: 0 });
        let (stop, stopped) = watch::channel(false);
        let mut task = JoinSet::new();
        task.spawn(async move {
            let file = staging.clone();
            start(TcpDial, settings, staging, entrance, stopped, Arc::new(metrics)).await?;
            file.close().await.map_err(|failure| anyhow::anyhow!("{failure}"))
        });
        Ok(Self { server, database, folder, address, stop, task })
    }

    /// Sends a request. Returns the status and the body of the answer.
    async fn ask(&self, path: &str, body: &str) -> Result<(u16, String)> {
        let mut stream = TcpStream::connect(self.address).await?;
        let length = body.len();
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(body.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let (head, body) = answer.split_once("\r\n\r\n").context("no head in the answer")?;
        let status = head.split(' ').nth(1).context("no status in the answer")?.parse()?;
        Ok((status, body.to_owned()))
    }

    async fn bring(&self, rows: &[String]) -> Result<()> {
        let body = format!(r#"{{"payload":[{}],"length":{}}}"#, rows.join(","), rows.len());
        self.post(&body).await
    }

    async fn resolved(&self, time: u32) -> Result<()> {
        self.post(&format!(r#"{{"resolved":"{time}.0000000000"}}"#)).await
    }

    async fn post(&self, body: &str) -> Result<()> {
        // A schema of MySQL is one segment of the path.
        let (status, text) = self.ask(&format!("/{}", self.database), body).await?;
        anyhow::ensure!(status == 200, "{status}: {text}");
        Ok(())
    }

    /// Waits until a question has this answer.
    async fn until(&self, sql: &str, wanted: &str) -> Result<()> {
        let sql = format!("USE {}; {sql}", self.database);
        wait_until(Duration::from_secs(20), wanted, async || {
            Ok(self.server.run(&sql)?.trim() == wanted)
        })
        .await
    }

    async fn stop(mut self) -> Result<()> {
        self.stop.send_replace(true);
        self.task.join_next().await.context("it runs")??
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.folder).ok();
    }
}

fn settings(target: replicator_io::replicate::start::StartTarget) -> StartSettings {
    let seconds = Duration::from_secs;
    let retry = Retry {
        tries_max: 10,
        delay_first: Duration::from_millis(25),
        delay_max: seconds(2),
        factor: 2,
    };
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
            retry,
            read_rows_max: 1_000,
            save_interval: Duration::from_millis(100),
            on_reject: OnReject::Stop,
            collapse: true,
            seed: 1,
        },
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
    }
}

fn row(table: &str, key: i64, after: &str, time: u32) -> String {
    format!(r#"{{"topic":"{table}","key":[{key}],"after":{after},"updated":"{time}.0000000000"}}"#)
}

const CHILDREN: &str = "SELECT COALESCE(GROUP_CONCAT(c.id, ':', p.name, ':', c.at ORDER BY c.id), '') \
                        FROM child c JOIN parent p ON p.id = c.parent_id";
const PARENTS: &str = "SELECT COALESCE(GROUP_CONCAT(name ORDER BY id), '') FROM parent";
const TREE: &str =
    "SELECT COALESCE(GROUP_CONCAT(id, ':', COALESCE(up, 0) ORDER BY id), '') FROM tree";

#[tokio::test]
async fn rows_go_back_to_mysql_in_the_order_of_their_commits() -> Result<()> {
    for kind in Kind::ALL {
        let bench = Bench::new(kind, "failback_order").await?;
        // A child before its parent, an older image after a newer one, and each of them twice.
        let child = r#"{"id":1,"parent_id":7,"doc":{"a":"\"b\\"},"at":"2024-02-29T01:02:03.5"}"#;
        let child = row("child", 1, child, 100);
        let parent = row("parent", 7, r#"{"id":7,"name":"new"}"#, 100);
        let older = row("parent", 7, r#"{"id":7,"name":"old"}"#, 90);
        let later = row("parent", 8, r#"{"id":8,"name":"later"}"#, 200);
        bench.bring(&[child.clone(), later]).await?;
        bench.bring(&[parent.clone(), older.clone()]).await?;
        bench.bring(&[older.clone(), child, parent]).await?;
        bench.resolved(150).await?;
        bench.until(CHILDREN, "1:new:2024-02-29 01:02:03.500000").await?;
        bench.until(PARENTS, "new").await?;
        bench.resolved(250).await?;
        bench.until(PARENTS, "new,later").await?;
        // A unique value is handed from one row to another, in two transactions.
        let freed = row("parent", 8, r#"{"id":8,"name":"other"}"#, 300);
        let taken = row("parent", 9, r#"{"id":9,"name":"later"}"#, 310);
        bench.bring(&[taken, freed]).await?;
        bench.resolved(320).await?;
        bench.until(PARENTS, "new,other,later").await?;
        // The child goes, and its parent with it.
        bench.bring(&[row("parent", 7, "null", 400), row("child", 1, "null", 400)]).await?;
        bench.resolved(400).await?;
        bench.until(PARENTS, "other,later").await?;
        bench.until(CHILDREN, "").await?;
        bench.stop().await?;
    }
    Ok(())
}

#[tokio::test]
async fn rows_that_refer_to_each_other_go_back_to_mysql() -> Result<()> {
    for kind in Kind::ALL {
        let bench = Bench::new(kind, "failback_tree").await?;
        // One transaction; by their keys these rows would come before those they refer to.
        bench
            .bring(&[
                row("tree", 1, r#"{"id":1,"up":2}"#, 100),
                row("tree", 2, r#"{"id":2,"up":3}"#, 100),
                row("tree", 3, r#"{"id":3,"up":null}"#, 100),
            ])
            .await?;
        bench.resolved(100).await?;
        bench.until(TREE, "1:2,2:3,3:0").await?;
        // Transactions of their own: MySQL looks at each row by itself, and a delete does not tell whom the
        // row referred to, so within one nobody knows the order.
        let gone = [(3, 203), (2, 202), (1, 201)].map(|(id, time)| row("tree", id, "null", time));
        bench.bring(&gone).await?;
        bench.resolved(300).await?;
        bench.until(TREE, "").await?;
        let (status, text) = bench.ask("/no_such_schema", "{}").await?;
        assert_eq!(status, 400, "{text}");
        bench.stop().await?;
    }
    Ok(())
}
