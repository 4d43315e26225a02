//! From MySQL: our replication into PostgreSQL, against MySQL's own into another MySQL, from one source in one run.
//!
//! ```text
//! source ── binary log from `base` through a sentinel row ──┬─► a native replica
//!                                                           └─► mylogical ──► PostgreSQL
//! ```
//!
//! Both targets write durably: each commit is flushed. The replica has four workers, which is what it comes with, and
//! writes a binary log of its own, which it also comes with. How fast it is without flushing is told, too.
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use replicator_tests::mysql::{Kind, Server};
use replicator_tests::postgres;
use replicator_tests::product::Replicator;
use serde_json::json;
use tokio::time::{Instant, sleep};
use tokio_postgres::Client;

use crate::proc::{Calm, cpu_seconds, memory_peak_kib};
use crate::report::middle;
use crate::server::{self, execute, text};
use crate::workload::Scale;

/// Of both servers of MySQL: memory enough, so that nothing is read from the disk.
const SOURCE: &[&str] = &[
    "--gtid-mode=ON",
    "--enforce-gtid-consistency=ON",
    "--binlog-row-metadata=FULL",
    "--innodb-buffer-pool-size=1G",
    "--innodb-redo-log-capacity=4G",
];
const REPLICA: &[&str] = &[
    "--gtid-mode=ON",
    "--enforce-gtid-consistency=ON",
    "--innodb-buffer-pool-size=1G",
    "--innodb-redo-log-capacity=4G",
    "--skip-replica-start",
];

/// A run that takes longer than this has hung.
const RUN_MAX: Duration = Duration::from_secs(180);
/// From one question for the last row to the next.
const POLL_INTERVAL: Duration = Duration::from_millis(10);
/// How long our process may take to stop.
const STOP_MAX: Duration = Duration::from_secs(30);

/// Who reads the source's log, besides ours.
const USER: &str =
    "CREATE USER reader IDENTIFIED BY 'reader'; GRANT REPLICATION SLAVE ON *.* TO reader";

/// Sessions that write at the same time.
const SESSIONS: u64 = 2;

/// One workload. The names of databases are the names of workloads.
#[derive(Clone, Copy, Debug)]
struct Workload {
    name: &'static str,
    title: &'static str,
    table: Table,
    transactions: u64,
    rows_each: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Table {
    /// Whose rows are updated.
    Item,
    /// Which rows are inserted into.
    Entry,
}

impl Table {
    const fn mysql(self) -> &'static str {
        match self {
            Self::Item => {
                "CREATE TABLE item (id BIGINT PRIMARY KEY, version INT NOT NULL, \
                 note VARCHAR(200) NOT NULL)"
            }
            Self::Entry => {
                "CREATE TABLE entry (id BIGINT PRIMARY KEY, k INT, amount DECIMAL(12, 2), \
                 note VARCHAR(200), at TIMESTAMP(3) NULL)"
            }
        }
    }

    const fn postgres(self) -> &'static str {
        match self {
            Self::Item => {
                "CREATE TABLE item (id bigint PRIMARY KEY, version integer NOT NULL, \
                 note text NOT NULL) WITH (fillfactor = 50)"
            }
            Self::Entry => {
                "CREATE TABLE entry (id bigint PRIMARY KEY, k integer, amount numeric(12, 2), \
                 note text, at timestamptz)"
            }
        }
    }

    /// Fills the table with the rows that are there before the first transaction.
    const fn fill(self, mysql: bool) -> &'static str {
        match (self, mysql) {
            (Self::Entry, _) => "",
            (Self::Item, true) => {
                "SET SESSION cte_max_recursion_depth = 300000; \
                 INSERT INTO item WITH RECURSIVE g (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM g \
                 WHERE n < 200000) SELECT n, 0, REPEAT(LEFT(SHA2(n, 256), 32), 4) FROM g"
            }
            (Self::Item, false) => {
                "INSERT INTO item SELECT g, 0, \
                 repeat(left(encode(sha256(g::text::bytea), 'hex'), 32), 4) \
                 FROM generate_series(1, 200000) g"
            }
        }
    }

    /// What the table holds, in the same words on both products.
    const fn digest(self) -> &'static str {
        match self {
            Self::Item => "SELECT CONCAT(COUNT(*), ' ', SUM(version), ' ', MAX(note)) FROM item",
            Self::Entry => "SELECT CONCAT(COUNT(*), ' ', SUM(k), ' ', SUM(amount)) FROM entry",
        }
    }
}

fn workloads(scale: Scale) -> [Workload; 4] {
    let pick = |full: u64, quick: u64| if scale == Scale::Full { full } else { quick };
    let of = |name, title, table, transactions, rows_each| Workload {
        name,
        title,
        table,
        transactions,
        rows_each,
    };
    [
        of("update1", "updates, 1 row a transaction", Table::Item, pick(100_000, 30_000), 1),
        of("update10", "updates, 10 rows a transaction", Table::Item, pick(20_000, 5_000), 10),
        of("bulk1k", "inserts, 1,000 rows a transaction", Table::Entry, pick(400, 150), 1_000),
        of("bulk20k", "inserts, 20,000 rows a transaction", Table::Entry, pick(20, 8), 20_000),
    ]
}

/// The names of all workloads.
pub(crate) fn names() -> [&'static str; 4] {
    workloads(Scale::Quick).map(|workload| workload.name)
}

/// Who moves the rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Ours,
    /// MySQL's own replication, and whether each of its commits is flushed.
    Native {
        durable: bool,
    },
}

/// In the order of columns.
const SIDES: [Side; 3] =
    [Side::Ours, Side::Native { durable: true }, Side::Native { durable: false }];

/// One run of one side.
#[derive(Clone, Copy, Debug)]
struct Run {
    seconds: f64,
    calm: bool,
    /// CPU seconds and peak memory of our process.
    ours: Option<(f64, u64)>,
}

struct Stage {
    source: Arc<Server>,
    replica: Server,
    target: postgres::Server,
    folder: PathBuf,
}

/// What was measured.
#[derive(Debug)]
pub(crate) struct Report {
    lines: Vec<String>,
    /// What went wrong.
    pub(crate) failures: Vec<String>,
}

impl Report {
    /// A table for people.
    pub(crate) fn text(&self) -> String {
        let failed = self.failures.iter().map(|failure| format!("FAILED {failure}"));
        self.lines.iter().cloned().chain(failed).collect::<Vec<String>>().join("\n")
    }
}

/// Measures all workloads.
pub(crate) async fn bench(
    folder: PathBuf,
    scale: Scale,
    runs: usize,
    wanted: &[String],
    calm: &mut Calm,
) -> Result<Report> {
    let source = Arc::new(Server::start_with(Kind::MySql, SOURCE)?);
    let (replica, target) = (Server::start_with(Kind::MySql, REPLICA)?, server::start()?);
    source.run(USER)?;
    let stage = Stage { source, replica, target, folder };
    let mut report = Report { lines: vec![stage.machine().await?], failures: Vec::new() };
    report.lines.push(format!(
        "\n{:<36} {:>12} {:>12} {:>7} {:>12} {:>10} {:>9}",
        "rows/s", "ours", "MySQL's own", "ratio", "not durable", "CPU us/row", "peak MiB"
    ));
    let mut outcomes = Vec::new();
    for workload in workloads(scale) {
        if !wanted.is_empty() && !wanted.iter().any(|name| name == workload.name) {
            continue;
        }
        let written = stage.write(workload).await?;
        let mut done = [const { Vec::new() }; 3];
        for _ in 0..runs {
            for (side, runs) in SIDES.into_iter().zip(&mut done) {
                let run = match side {
                    Side::Ours => written.ours(calm).await,
                    Side::Native { durable } => written.native(durable, calm).await,
                };
                match run {
                    Ok(run) => runs.push(run),
                    Err(error) => {
                        report.failures.push(format!("{}, {side:?}: {error:#}", workload.name));
                    }
                }
            }
        }
        let Some(outcome) = outcome(&workload, &done) else { continue };
        report.lines.push(outcome.0);
        outcomes.push(outcome.1);
    }
    let path = stage.folder.join("mysql.json");
    let text = serde_json::to_string_pretty(&outcomes)?;
    std::fs::write(&path, text).with_context(|| format!("could not write {}", path.display()))?;
    Ok(report)
}

/// A line for people and an object for programs; `None` without a successful run of each side.
fn outcome(
    workload: &Workload,
    [ours, native, careless]: &[Vec<Run>; 3],
) -> Option<(String, serde_json::Value)> {
    let rows = (workload.transactions * workload.rows_each) as f64;
    let rate = |runs: &[Run]| middle(runs.iter().map(|run| rows / run.seconds).collect());
    let (native_rate, ours_rate, careless_rate) = (rate(native)?, rate(ours)?, rate(careless)?);
    let ratio = ours_rate / native_rate;
    let cpu = middle(ours.iter().filter_map(|run| Some(run.ours?.0 * 1e6 / rows)).collect())?;
    let peak = ours.iter().filter_map(|run| Some(run.ours?.1 / 1_024)).max()?;
    let calm = native.iter().chain(ours).filter(|run| run.calm).count();
    let line = format!(
        "{:<36} {ours_rate:>12.0} {native_rate:>12.0} {ratio:>7.2} {careless_rate:>12.0} {cpu:>10.1} \
         {peak:>9}",
        workload.title
    );
    let json = json!({
        "name": workload.name,
        "title": workload.title,
        "rows": rows,
        "ours_rows_per_s": ours_rate.round(),
        "native_rows_per_s": native_rate.round(),
        "native_not_durable_rows_per_s": careless_rate.round(),
        "ratio": (ratio * 100.0).round() / 100.0,
        "ours_cpu_us_per_row": (cpu * 10.0).round() / 10.0,
        "ours_memory_peak_mib": peak,
        "calm_runs": [calm, native.len() + ours.len()],
    });
    Some((line, json))
}

/// A workload whose transactions are in the log of the source.
struct Written<'a> {
    stage: &'a Stage,
    workload: Workload,
    target: Client,
    /// What the source had executed before, and after.
    base: String,
    end: String,
    digest: String,
}

impl Stage {
    async fn machine(&self) -> Result<String> {
        let client = self.target.client("postgres").await?;
        let postgres = text(&client, "SELECT split_part(version(), ' ', 2)").await?;
        let mysql = self.source.run("SELECT VERSION()")?;
        let processors = thread::available_parallelism()?;
        let flush = crate::proc::flush_time(&self.folder)?.as_secs_f64() * 1_000.0;
        Ok(format!(
            "from MySQL {} into PostgreSQL {postgres}, all on one machine, {processors} processors, \
             fdatasync {flush:.1} ms",
            mysql.trim()
        ))
    }

    /// Makes the tables and commits the transactions on the source.
    async fn write(&self, workload: Workload) -> Result<Written<'_>> {
        let Workload { name, table, .. } = workload;
        self.source.run(&format!("CREATE DATABASE {name}; USE {name}; {}", tables(table)))?;
        self.source.run(&format!("USE {name}; {}", table.fill(true)))?;
        let client = self.target.create_database(name).await?;
        execute(&client, table.postgres()).await?;
        execute(&client, "CREATE TABLE sentinel (id bigint PRIMARY KEY)").await?;
        self.source.run(&procedure(&workload))?;
        let base = executed(&self.source)?;
        let sessions: Vec<_> = (0..SESSIONS)
            .map(|session| {
                let source = Arc::clone(&self.source);
                thread::spawn(move || source.run(&format!("USE {name}; CALL work({session})")))
            })
            .collect();
        for session in sessions {
            session.join().ok().context("a session died")??;
        }
        self.source.run(&format!("INSERT INTO {name}.sentinel VALUES (1)"))?;
        let end = executed(&self.source)?;
        let digest = self.source.run(&format!("USE {name}; {}", table.digest()))?;
        let digest = digest.trim().to_owned();
        Ok(Written { stage: self, workload, target: client, base, end, digest })
    }
}

fn tables(table: Table) -> String {
    format!("{}; CREATE TABLE sentinel (id BIGINT PRIMARY KEY)", table.mysql())
}

/// A procedure that commits a session's part of the transactions. Each session has rows of its own.
fn procedure(workload: &Workload) -> String {
    let Workload { name, table, transactions, rows_each, .. } = *workload;
    let each = transactions / SESSIONS;
    let work = match table {
        Table::Item => format!(
            "SET done = 0; WHILE done < {rows_each} DO
                 SET one = 1 + session * 100000 + FLOOR(RAND() * 100000);
                 UPDATE item SET version = version + 1,
                     note = REPEAT(LEFT(SHA2(RAND(), 256), 32), 4) WHERE id = one;
                 SET done = done + 1;
             END WHILE;"
        ),
        Table::Entry => format!(
            "SET one = (session * {each} + t) * {rows_each};
             INSERT INTO entry WITH RECURSIVE g (n) AS (SELECT one + 1 UNION ALL SELECT n + 1 FROM g
                 WHERE n < one + {rows_each})
             SELECT n, n % 1000, (n % 100000) / 100, CONCAT('entry ', LEFT(SHA2(n, 256), 32)),
                 TIMESTAMPADD(MICROSECOND, n * 1000, '2026-01-01 00:00:00') FROM g;"
        ),
    };
    format!(
        "USE {name};\nDELIMITER //\nCREATE PROCEDURE work(session INT) BEGIN
             DECLARE t INT DEFAULT 0; DECLARE done INT; DECLARE one BIGINT;
             SET SESSION cte_max_recursion_depth = 1000000;
             WHILE t < {each} DO
                 START TRANSACTION; {work} COMMIT; SET t = t + 1;
             END WHILE;
         END //\n"
    )
}

fn executed(server: &Server) -> Result<String> {
    let text = server.run("SELECT @@GLOBAL.gtid_executed")?;
    Ok(text.trim().replace("\\n", ""))
}

impl Written<'_> {
    /// A replica that has all until `base` catches up.
    async fn native(&self, durable: bool, calm: &mut Calm) -> Result<Run> {
        let Self { stage, workload, base, end, digest, .. } = self;
        let (replica, name, table) = (&stage.replica, workload.name, workload.table);
        let (log, engine) = if durable { (1, 1) } else { (0, 2) };
        replica.run(&format!(
            "STOP REPLICA; RESET REPLICA ALL; SET GLOBAL sync_binlog = {log}; \
             SET GLOBAL innodb_flush_log_at_trx_commit = {engine}"
        ))?;
        replica.run(&format!(
            "DROP DATABASE IF EXISTS {name}; CREATE DATABASE {name}; USE {name}; {}; {}",
            tables(table),
            table.fill(true)
        ))?;
        replica.run(&format!(
            "RESET BINARY LOGS AND GTIDS; SET GLOBAL gtid_purged = '{base}'; \
             CHANGE REPLICATION SOURCE TO SOURCE_HOST = '127.0.0.1', SOURCE_PORT = {}, \
             SOURCE_USER = 'reader', SOURCE_PASSWORD = 'reader', SOURCE_AUTO_POSITION = 1, \
             GET_SOURCE_PUBLIC_KEY = 1",
            stage.source.port()
        ))?;
        let calm = calm.wait().await?;
        let began = Instant::now();
        let wait = format!(
            "START REPLICA; SELECT WAIT_FOR_EXECUTED_GTID_SET('{end}', {})",
            RUN_MAX.as_secs()
        );
        let said = replica.run(&wait)?;
        let seconds = began.elapsed().as_secs_f64();
        if said.trim() != "0" {
            let why = "SELECT last_error_message FROM performance_schema.\
                       replication_applier_status_by_worker WHERE last_error_number <> 0";
            bail!("it did not catch up: {}", replica.run(why)?);
        }
        let has = replica.run(&format!("USE {name}; {}", table.digest()))?;
        ensure!(has.trim() == digest, "the replica differs: {has}, not {digest}");
        Ok(Run { seconds, calm, ours: None })
    }

    /// Ours does.
    async fn ours(&self, calm: &mut Calm) -> Result<Run> {
        let Self { stage, workload, target, base, .. } = self;
        let (name, table) = (workload.name, workload.table);
        let tables = match table {
            Table::Item => "item, sentinel",
            Table::Entry => "entry, sentinel",
        };
        execute(target, &format!("TRUNCATE {tables}")).await?;
        execute(target, "DROP SCHEMA IF EXISTS _replicator CASCADE").await?;
        execute(target, "CHECKPOINT").await?;
        if !table.fill(false).is_empty() {
            execute(target, table.fill(false)).await?;
            execute(target, &format!("VACUUM (ANALYZE) {tables}")).await?;
        }
        let (from, to) = (stage.source.conninfo(name), stage.target.conninfo(name));
        let arguments = [
            ["mylogical", "--stagingCreateSchema"],
            ["--stagingSchema", "_replicator"],
            ["--sourceConn", &from],
            ["--targetConn", &to],
            ["--targetSchema", "public"],
            ["--defaultGTIDSet", base],
        ];
        let log = stage.folder.join(format!("mysql-{name}.log"));
        let calm = calm.wait().await?;
        let began = Instant::now();
        let mut replicator = Replicator::start(&log, arguments.as_flattened())?;
        let complete = self.complete(&mut replicator, began).await;
        let measured = (cpu_seconds(replicator.pid()), memory_peak_kib(replicator.pid()));
        let seconds = complete.with_context(|| format!("see {}", log.display()))?;
        let status = replicator.stop(STOP_MAX).await?;
        ensure!(status.success(), "our process stopped with {status}");
        let (cpu, peak) = measured;
        Ok(Run { seconds, calm, ours: Some((cpu?, peak.context("our process has no memory")?)) })
    }

    /// Waits until the sentinel is there, and all that came before it.
    async fn complete(&self, replicator: &mut Replicator, began: Instant) -> Result<f64> {
        let there = "SELECT count(*)::text FROM sentinel";
        loop {
            let asked = began.elapsed();
            if text(&self.target, there).await? == "1" {
                let digest = text(&self.target, self.workload.table.digest()).await?;
                if digest == self.digest {
                    return Ok(asked.as_secs_f64());
                }
            }
            replicator.must_run()?;
            ensure!(asked < RUN_MAX, "no end after {RUN_MAX:?}");
            sleep(POLL_INTERVAL).await;
        }
    }
}
