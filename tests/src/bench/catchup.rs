//! Catch-up: how long each side takes for the same stretch of WAL.
//!
//! ```text
//! slot S ── transactions ── sentinel row            written once
//!   └ copy of S, tables as they were at S,
//!     start of a side … sentinel visible            for each run
//! ```

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use futures_util::future::try_join_all;
use replicator_tests::postgres::Server;
use tokio::time::{Instant, sleep};
use tokio_postgres::Client;

use crate::proc::{Calm, Cpu, Meter, memory_peak_kib};
use crate::server::{copy_slot, drop_slot, execute, postmaster, text};
use crate::side::{Route, Side, Subscriber, start};
use crate::workload::Workload;

/// A run that takes longer than this has hung.
const RUN_TIME_MAX: Duration = Duration::from_secs(120);

/// How often the target is asked for the sentinel. Each question is one short transaction: a long
/// snapshot would keep the target from pruning row versions and slow every update down.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// How often CPU times are taken, and our process is looked after.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(250);

/// The two servers and where our logs go.
#[derive(Debug)]
pub(crate) struct Stage {
    /// The source server.
    pub(crate) source: Server,
    /// The target server.
    pub(crate) target: Server,
    /// The folder for logs and results.
    pub(crate) folder: PathBuf,
}

/// What one run gave.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Run {
    /// From the start of the side until the sentinel and all rows before it were visible.
    pub(crate) seconds: f64,
    /// CPU seconds of all processes.
    pub(crate) cpu: Cpu,
    /// Peak memory of our process.
    pub(crate) memory_peak_kib: Option<u64>,
    /// Whether the machine was calm at the start.
    pub(crate) calm: bool,
}

/// A workload whose transactions are in the WAL of the source.
#[derive(Debug)]
pub(crate) struct Written<'a> {
    stage: &'a Stage,
    workload: &'a Workload,
    source: Client,
    /// What the target must hold at the end.
    digest: String,
    /// Bytes of WAL between the slot and the sentinel.
    pub(crate) wal_bytes: i64,
}

/// Makes the three databases of a workload, the publication and the slot "base". The targets'
/// tables are empty.
pub(crate) async fn databases(stage: &Stage, workload: &Workload) -> Result<Client> {
    let name = workload.name;
    let native = Side::NativeText.database(name);
    let ours = Side::Ours.database(name);
    let all = [(&stage.source, name), (&stage.target, &native), (&stage.target, &ours)];
    for (server, database) in all {
        let client = server.create_database(database).await?;
        execute(&client, &workload.create_sql()).await?;
    }
    let source = stage.source.client(name).await?;
    fill(&source, workload).await?;
    let tables = workload.table_list();
    execute(&source, &format!("CREATE PUBLICATION bench FOR TABLE {tables}")).await?;
    execute(&source, "SELECT pg_create_logical_replication_slot('base', 'pgoutput')").await?;
    Ok(source)
}

/// Brings the tables of a database to the first rows.
pub(crate) async fn fill(client: &Client, workload: &Workload) -> Result<()> {
    let tables = workload.table_list();
    execute(client, &format!("TRUNCATE {tables}")).await?;
    // Pages made after a checkpoint need no full image in the WAL when they change, and after the
    // TRUNCATE it has no old pages to write.
    execute(client, "CHECKPOINT").await?;
    if workload.fill_sql.is_empty() {
        // A table known to be empty is scanned as a whole by every foreign key check that was planned
        // at that time, and no autovacuum here tells otherwise.
        return Ok(());
    }
    execute(client, workload.fill_sql).await?;
    execute(client, &format!("VACUUM (ANALYZE) {}", workload.tables.join(", "))).await
}

/// Makes the databases and commits the transactions on the source.
pub(crate) async fn write<'a>(stage: &'a Stage, workload: &'a Workload) -> Result<Written<'a>> {
    let source = databases(stage, workload).await?;
    let from = text(&source, "SELECT pg_current_wal_insert_lsn()::text").await?;
    let sessions = workload.transactions_sql.iter().map(|sql| async move {
        let session = stage.source.client(workload.name).await?;
        execute(&session, "SET synchronous_commit = off").await?;
        execute(&session, sql).await
    });
    try_join_all(sessions).await?;
    // The commit of the sentinel waits for the flush, and all WAL before it is flushed with it:
    // decoding sees only flushed commits.
    execute(&source, "CHECKPOINT").await?;
    execute(&source, "INSERT INTO sentinel VALUES (1)").await?;
    let wal = format!("SELECT pg_wal_lsn_diff(pg_current_wal_flush_lsn(), '{from}')::bigint::text");
    let wal_bytes = text(&source, &wal).await?.parse().context("the WAL size is no number")?;
    let digest = text(&source, &workload.digest_sql()).await?;
    Ok(Written { stage, workload, source, digest, wal_bytes })
}

impl Written<'_> {
    /// Measures one side once.
    pub(crate) async fn run(&self, side: Side, calm: &mut Calm) -> Result<Run> {
        let stage = self.stage;
        let target = stage.target.client(&side.database(self.workload.name)).await?;
        fill(&target, self.workload).await?;
        copy_slot(&self.source, "base", "run").await?;
        let calm = calm.wait().await?;

        let run = self.timed(side, &target, calm).await;
        if run.is_err() {
            self.clear(&target).await?;
        }
        run
    }

    /// Starts the side, waits for the last row, stops it.
    async fn timed(&self, side: Side, target: &Client, calm: bool) -> Result<Run> {
        let stage = self.stage;
        let mut meter = self.meter(target).await?;
        let route = Route {
            source: &stage.source,
            target: &stage.target,
            workload: self.workload.name,
            slot: "run",
        };
        let began = Instant::now();
        let mut subscriber = start(side, route, target, &stage.folder).await?;
        if let Some(pid) = subscriber.pid() {
            meter.include(pid);
        }
        let visible = wait_sentinel(target, 1, &mut subscriber, Some(&mut meter)).await?;
        meter.sample();
        let memory_peak_kib = subscriber.pid().map(memory_peak_kib).transpose()?;
        let complete = self.wait_complete(target, visible, &mut subscriber).await?;

        subscriber.stop(target).await?;
        drop_slot(&self.source, "run").await?;
        let seconds = (complete - began).as_secs_f64();
        Ok(Run { seconds, cpu: meter.cpu(), memory_peak_kib, calm })
    }

    /// Removes what a failed run left, so that the next one can begin. Our process has been killed.
    async fn clear(&self, target: &Client) -> Result<()> {
        let sql = "SELECT 1 FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid \
                   WHERE d.datname = current_database()";
        if target.query_opt(sql, &[]).await?.is_some() {
            Subscriber::Native.stop(target).await?;
        }
        execute(target, "DROP SCHEMA IF EXISTS _replicator CASCADE").await?;
        drop_slot(&self.source, "run").await
    }

    async fn meter(&self, target: &Client) -> Result<Meter> {
        let mut ours = BTreeSet::new();
        for session in [&self.source, target] {
            let pid = text(session, "SELECT pg_backend_pid()::text").await?;
            ours.insert(pid.parse().context("the backend has no pid")?);
        }
        Ok(Meter::start(postmaster(&self.stage.source)?, postmaster(&self.stage.target)?, ours))
    }

    /// Compares the target with the source. Side by side commits may show the sentinel before the
    /// last rows; then the run lasts until our process has nothing more to do there.
    async fn wait_complete(
        &self,
        target: &Client,
        visible: Instant,
        subscriber: &mut Subscriber,
    ) -> Result<Instant> {
        let mut asked = visible;
        let busy = "SELECT count(*)::text FROM pg_stat_activity WHERE state <> 'idle' \
                    AND datname = current_database() AND application_name = 'replicator'";
        loop {
            while text(target, busy).await? != "0" {
                sleep(POLL_INTERVAL).await;
                asked = Instant::now();
            }
            let digest = text(target, &self.workload.digest_sql()).await?;
            if digest == self.digest {
                return Ok(asked);
            }
            subscriber.check()?;
            ensure!(
                asked - visible < RUN_TIME_MAX,
                "the target differs from the source: {digest}, expected {}",
                self.digest
            );
            asked = Instant::now();
        }
    }

    /// Lets the source forget the WAL of this workload.
    pub(crate) async fn finish(self) -> Result<()> {
        drop_slot(&self.source, "base").await
    }
}

/// Waits until the sentinel row `id` is visible on the target.
pub(crate) async fn wait_sentinel(
    target: &Client,
    id: i64,
    subscriber: &mut Subscriber,
    mut meter: Option<&mut Meter>,
) -> Result<Instant> {
    let query = target.prepare("SELECT 1 FROM sentinel WHERE id = $1").await?;
    let began = Instant::now();
    let mut sampled = began;
    loop {
        let row = target.query_opt(&query, &[&id]).await.context("could not ask the target")?;
        let now = Instant::now();
        if row.is_some() {
            return Ok(now);
        }
        if RUN_TIME_MAX < now - began {
            bail!("no sentinel after {RUN_TIME_MAX:?}");
        }
        if SAMPLE_INTERVAL <= now - sampled {
            subscriber.check()?;
            if let Some(meter) = meter.as_deref_mut() {
                meter.sample();
            }
            sampled = now;
        }
        sleep(POLL_INTERVAL).await;
    }
}

/// Puts the folder where results go in place, without the logs of an earlier benchmark.
pub(crate) fn folder(root: &Path) -> Result<PathBuf> {
    let folder = root.join("target/bench");
    let make = || -> std::io::Result<()> {
        fs::create_dir_all(&folder)?;
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "log") {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    };
    make().with_context(|| format!("could not prepare {}", folder.display()))?;
    Ok(folder)
}
