//! The way back: what changefeeds bring, against writing the same rows by hand into the same server.
//!
//! ```text
//! by hand  rows ──────────────────────────────────► target   the floor
//! ingest   rows ──► replicator ──► staging file              nothing is promised, so nothing may go on
//! apply                            staging file ──► target   all is promised
//! both     rows ──► replicator ──► staging file ──► target   promised four times a second, in each mode
//! blocked  rows ──► replicator ──► staging file ─┤  target   somebody has locked the table
//! ```

mod feed;
mod hand;
mod mysql;
mod report;

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use replicator_tests::feeder::{Caller, Where};
use replicator_tests::http::get;
use replicator_tests::mysql::Kind;
use replicator_tests::postgres::Server;
use replicator_tests::product::Replicator;
use replicator_tests::wait_until;
use tokio::time::{Instant, sleep};
use tokio_postgres::Client;

use self::feed::{Entry, Feed, Promises, TABLE_SQL};
use self::hand::{WAYS, Way};
pub(crate) use self::report::Report;
use crate::proc::{Calm, cpu_seconds, memory_peak_kib};
use crate::server::{self, execute, text};
use crate::workload::Scale;

const DATABASE: &str = "bench";
/// The path of the requests.
const PATH: &str = "/bench/public";
/// What replicator may hold of rows, while the target is blocked.
const MEMORY_LIMIT_MIB: u64 = 64;
/// How long the target is blocked, at most: transactions that wait longer are given up.
const BLOCKED_MAX: Duration = Duration::from_secs(20);
/// A step that takes longer than this has hung.
const STEP_MAX: Duration = Duration::from_secs(180);
/// From one question for the last row to the next.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// Rows that are inserted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Workload {
    /// Its name in the report.
    name: &'static str,
    rows: u64,
    /// Rows of one source transaction.
    transaction_rows: u64,
    /// Keys are in no order, as random ones are.
    scattered: bool,
}

/// Modes besides the consistent one, and the flags that ask for them.
const MODES: [(&str, &str); 2] =
    [("best effort", "--bestEffortOnly"), ("immediate", "--immediate")];

/// The names of all workloads. Those of MySQL and MariaDB are the first one, into them.
pub(crate) fn names() -> Vec<&'static str> {
    let here = workloads(Scale::Quick).map(|workload| workload.name);
    here.into_iter().chain(Kind::ALL.map(Kind::name)).collect()
}

fn workloads(scale: Scale) -> [Workload; 3] {
    let rows = if scale == Scale::Full { 1_000_000 } else { 100_000 };
    let one = Workload { name: "single", rows, transaction_rows: 1, scattered: false };
    [
        one,
        Workload { name: "hundreds", transaction_rows: 100, ..one },
        Workload { name: "scattered", transaction_rows: 10, scattered: true, ..one },
    ]
}

/// What a step of ours took.
#[derive(Debug, Clone, Copy)]
struct Step {
    seconds: f64,
    /// CPU seconds of our process.
    cpu: f64,
    /// Its peak memory so far.
    peak_kib: u64,
}

/// One run of one workload.
#[derive(Debug, Clone)]
struct Run {
    hand: Vec<(Way, f64)>,
    ingest: Step,
    apply: Step,
    both: Step,
    /// The same in the order of [`MODES`].
    modes: Vec<Step>,
    /// Until all rows were staged.
    blocked: Step,
    calm: bool,
}

/// The server, and what is measured on it.
struct Stage {
    server: Server,
    client: Client,
    folder: PathBuf,
}

/// Measures all workloads.
pub(crate) async fn bench(
    folder: PathBuf,
    scale: Scale,
    runs: usize,
    wanted: &[String],
    calm: &mut Calm,
) -> Result<Report> {
    let server = server::start()?;
    let client = server.create_database(DATABASE).await?;
    let stage = Stage { server, client, folder };
    let mut report = Report::new(stage.machine().await?);
    let wants = |name: &str| wanted.is_empty() || wanted.iter().any(|wanted| wanted == name);
    for workload in workloads(scale) {
        if !wants(workload.name) {
            continue;
        }
        let feed = Feed::of(&workload);
        let mut done = Vec::new();
        for _ in 0..runs {
            match stage.run(&workload, &feed, calm).await {
                Ok(run) => done.push(run),
                Err(error) => report.failures.push(format!("{}: {error:#}", workload.name)),
            }
        }
        report.push(workload, feed.bytes, &done);
    }
    let [single, ..] = workloads(scale);
    let feed = Feed::of(&single);
    for kind in Kind::ALL.into_iter().filter(|kind| wants(kind.name())) {
        match mysql::bench(&stage.folder, kind, &single, &feed, runs).await {
            Ok(into) => report.into_mysql.push(into),
            Err(error) => report.failures.push(format!("{kind:?}: {error:#}")),
        }
    }
    report.write_json(&stage.folder)?;
    Ok(report)
}

impl Stage {
    async fn machine(&self) -> Result<String> {
        let version = text(&self.client, "SELECT split_part(version(), ' ', 2)").await?;
        let processors = std::thread::available_parallelism()?;
        let flush = crate::proc::flush_time(&self.folder)?.as_secs_f64() * 1_000.0;
        Ok(format!(
            "failback into PostgreSQL {version}, all on one machine, {processors} processors, \
             fdatasync {flush:.1} ms"
        ))
    }

    async fn run(&self, workload: &Workload, feed: &Feed, calm: &mut Calm) -> Result<Run> {
        let calm = calm.wait().await?;
        let (mut hand, mut digest) = (Vec::new(), String::new());
        for way in WAYS {
            self.clear().await?;
            hand.push((way, hand::write(&self.server, workload, way).await?));
            digest = self.digest().await?;
        }

        self.clear().await?;
        let ours = self.start_ours(&[]).await?;
        let (ingest, apply) = ours.one_by_one(workload, feed, self.last(workload)).await?;
        ensure!(self.digest().await? == digest, "the target has other rows than by hand");

        let both = self.both(workload, feed, &[], &digest).await?;
        let mut modes = Vec::new();
        for (name, flag) in MODES {
            modes.push(self.both(workload, feed, &[flag], &digest).await.context(name)?);
        }
        let blocked = self.blocked(workload, feed).await?;
        ensure!(self.digest().await? == digest, "the target has other rows than by hand");
        Ok(Run { hand, ingest, apply, both, modes, blocked, calm })
    }

    async fn start_ours(&self, more: &[&str]) -> Result<Ours> {
        Ours::start(&self.folder, &self.server.conninfo(DATABASE), PATH, more).await
    }

    /// Rows come and go on to the target.
    async fn both(
        &self,
        workload: &Workload,
        feed: &Feed,
        flags: &[&str],
        digest: &str,
    ) -> Result<Step> {
        self.clear().await?;
        let ours = self.start_ours(flags).await?;
        let both = ours.both(workload, feed, self.last(workload)).await?;
        ensure!(self.digest().await? == digest, "the target has other rows than by hand");
        Ok(both)
    }

    /// Rows come while the target takes none.
    async fn blocked(&self, workload: &Workload, feed: &Feed) -> Result<Step> {
        self.clear().await?;
        let limit = format!("{MEMORY_LIMIT_MIB}MiB");
        let ours = self.start_ours(&["--memoryLimit", &limit]).await?;
        let locker = self.server.client(DATABASE).await?;
        execute(&locker, "BEGIN; LOCK TABLE entry IN ACCESS EXCLUSIVE MODE").await?;
        let unlock = async {
            sleep(BLOCKED_MAX).await;
            execute(&locker, "ROLLBACK").await?;
            std::future::pending().await
        };
        let step = tokio::select! {
            step = ours.timed(feed.send(&ours.place, Promises::Regularly)) => step,
            broken = unlock => broken,
        };
        execute(&locker, "ROLLBACK").await?;
        let step = step?;
        ours.applied(workload.rows).await?;
        ours.stop().await?;
        Ok(step)
    }

    /// Makes the table anew.
    async fn clear(&self) -> Result<()> {
        execute(&self.client, &format!("DROP TABLE IF EXISTS entry; {TABLE_SQL}")).await?;
        // A step pays for no pages but its own.
        execute(&self.client, "CHECKPOINT").await
    }

    /// Waits until the last row is visible, which is cheap to look for.
    async fn last(&self, workload: &Workload) -> Result<()> {
        let last = Entry::of(workload, workload.rows - 1).id;
        let began = Instant::now();
        let sql = "SELECT count(*) FROM entry WHERE id = $1";
        let query = self.client.prepare(sql).await?;
        while self.client.query_one(&query, &[&last]).await?.get::<_, i64>(0) == 0 {
            ensure!(began.elapsed() < STEP_MAX, "the last row has not arrived");
            sleep(POLL_INTERVAL).await;
        }
        Ok(())
    }

    async fn digest(&self) -> Result<String> {
        let sql =
            "SELECT count(*) || ' ' || sum(hashtextextended(entry::text, 0)::numeric) FROM entry";
        text(&self.client, sql).await
    }
}

/// Our process.
struct Ours {
    replicator: Replicator,
    place: Where,
    metrics: u16,
}

impl Ours {
    /// Starts with nothing staged. Returns when requests are answered.
    async fn start(folder: &Path, target: &str, path: &str, more: &[&str]) -> Result<Self> {
        let data = folder.join("failback-data");
        if data.exists() {
            std::fs::remove_dir_all(&data)?;
        }
        let free = [TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("127.0.0.1:0")?];
        let [port, metrics] = [free[0].local_addr()?.port(), free[1].local_addr()?.port()];
        drop(free);
        let [bind, metrics_bind] = [port, metrics].map(|port| format!("127.0.0.1:{port}"));
        let data = data.display().to_string();
        let flags = [
            ["start", "--disableAuthentication"],
            ["--targetConn", target],
            ["--bindAddr", &bind],
            ["--metricsAddr", &metrics_bind],
            ["--dataDir", &data],
        ];
        let log = folder.join("failback.log");
        let mut replicator = Replicator::start(&log, flags.as_flattened().iter().chain(more))?;
        let place = Where { port, path: path.to_owned(), token: None, tls: None };
        wait_until(STEP_MAX, "replicator answers", async || {
            replicator.must_run()?;
            Ok(answers(&place).await.is_ok())
        })
        .await?;
        Ok(Self { replicator, place, metrics })
    }

    /// All rows are staged, then all are applied; `last` returns when the last one is. Then our process stops.
    async fn one_by_one(
        self,
        workload: &Workload,
        feed: &Feed,
        last: impl Future<Output = Result<()>>,
    ) -> Result<(Step, Step)> {
        let ingest = self.timed(feed.send(&self.place, Promises::Never)).await?;
        let promised = async {
            feed.promise_all(&self.place).await?;
            last.await?;
            self.applied(workload.rows).await
        };
        let apply = self.timed(promised).await?;
        self.stop().await?;
        Ok((ingest, apply))
    }

    /// Rows are applied while others come.
    async fn both(
        self,
        workload: &Workload,
        feed: &Feed,
        last: impl Future<Output = Result<()>>,
    ) -> Result<Step> {
        let sent = async {
            feed.send(&self.place, Promises::Regularly).await?;
            last.await?;
            self.applied(workload.rows).await
        };
        let both = self.timed(sent).await?;
        self.stop().await?;
        Ok(both)
    }

    /// Waits until the target has said of so many rows that it has them: others may be on their way besides the
    /// last one. To let the target count them would take a twentieth of what it took to write them.
    async fn applied(&self, rows: u64) -> Result<()> {
        let began = Instant::now();
        loop {
            let metrics = get(self.metrics, "/_/varz").await?.body;
            let samples = metrics.lines().filter(|line| line.starts_with("apply_upserts_total{"));
            let mut applied = 0.0;
            for sample in samples {
                let (_, value) = sample.rsplit_once(' ').context("a sample without a value")?;
                applied += value.parse::<f64>()?;
            }
            if rows as f64 <= applied {
                return Ok(());
            }
            ensure!(began.elapsed() < STEP_MAX, "only {applied} rows have arrived");
            sleep(POLL_INTERVAL).await;
        }
    }

    /// Measures what our process does meanwhile.
    async fn timed(&self, work: impl Future<Output = Result<()>>) -> Result<Step> {
        let pid = self.replicator.pid();
        let (began, cpu) = (Instant::now(), cpu_seconds(pid)?);
        tokio::time::timeout(STEP_MAX, work).await.context("the step takes too long")??;
        let seconds = began.elapsed().as_secs_f64();
        let peak_kib = memory_peak_kib(pid)?;
        Ok(Step { seconds, cpu: cpu_seconds(pid)? - cpu, peak_kib })
    }

    async fn stop(self) -> Result<()> {
        let status = self.replicator.stop(STEP_MAX).await?;
        ensure!(status.success(), "our process stopped with {status}");
        Ok(())
    }
}

/// Asks for what needs no rows and is answered when rows would be: a promise about nothing.
async fn answers(place: &Where) -> Result<()> {
    let (status, text) = Caller::new(place.clone()).post("{\"resolved\":\"1.0000000000\"}").await?;
    ensure!(status == 200, "{status}: {text}");
    Ok(())
}
