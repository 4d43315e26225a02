//! Steady state: how long a committed transaction takes to become visible on the target, and what
//! our process costs while nothing happens.
//!
//! A transaction's time begins with its commit timestamp on the source (`track_commit_timestamp`)
//! and ends when a reader on the target sees its row in `history`. Source, target and reader share
//! one clock. The reader asks again [`READ_PAUSE`] after each answer, in short transactions, so
//! that it never keeps the target from pruning.

use std::collections::BTreeMap;
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, anyhow};
use futures_util::future::try_join_all;
use replicator_tests::postgres;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_postgres::Client;

use crate::catchup::{Stage, databases, fill, wait_sentinel};
use crate::proc::{Calm, cpu_seconds};
use crate::server::{copy_slot, drop_slot, execute, text};
use crate::side::{Route, Side, Subscriber, start};
use crate::workload;

/// Transactions a second.
pub(crate) const RATES: [u64; 2] = [100, 1_000];

/// Sessions that share a rate: enough that none has to wait for the flush of another's commit.
const SESSIONS: u64 = 8;

/// Between an answer and the next question of the reader.
const READ_PAUSE: Duration = Duration::from_micros(300);

/// How long after the last commit its row may become visible.
const VISIBLE_TIME_MAX: Duration = Duration::from_secs(30);

/// What one run at one rate gave, in milliseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Latency {
    /// Who replicated.
    pub(crate) side: Side,
    /// Transactions a second that were asked for.
    pub(crate) rate: u64,
    /// Transactions a second that the source committed.
    pub(crate) reached: f64,
    /// Half of the transactions were visible by then.
    pub(crate) p50: f64,
    /// 99 of 100 transactions were visible by then.
    pub(crate) p99: f64,
    /// The slowest one.
    pub(crate) max: f64,
}

/// Our process at rest.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Idle {
    /// How long was measured.
    pub(crate) seconds: f64,
    /// CPU seconds used in that time.
    pub(crate) cpu_seconds: f64,
}

/// How much to measure.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Extent {
    /// Runs of each side.
    pub(crate) runs: usize,
    /// How long each rate is held.
    pub(crate) rate_time: Duration,
    /// How long our process is watched at rest.
    pub(crate) idle_time: Duration,
}

/// Measures all rates on all sides, by turns.
pub(crate) async fn measure(
    stage: &Stage,
    sides: &[Side],
    extent: Extent,
    calm: &mut Calm,
) -> Result<(Vec<Latency>, Option<Idle>)> {
    let workload = workload::latency();
    let source = databases(stage, &workload).await?;
    for side in sides {
        let target = stage.target.client(&side.database(workload.name)).await?;
        fill(&target, &workload).await?;
    }
    let mut all = Vec::new();
    let mut idle = None;
    for run in 0..extent.runs {
        for &side in sides {
            calm.wait().await?;
            let sentinel = i64::try_from(all.len())?;
            let session = Session::open(stage, &source, side, sentinel).await?;
            if let Some(pid) = session.subscriber.pid()
                && run == 0
            {
                idle = Some(rest(pid, extent.idle_time).await?);
            }
            for rate in RATES {
                all.push(session.hold(stage, &source, side, rate, extent.rate_time).await?);
            }
            session.close(&source).await?;
        }
    }
    drop_slot(&source, "base").await?;
    Ok((all, idle))
}

/// One side that has caught up.
struct Session {
    subscriber: Subscriber,
    target: Client,
}

impl Session {
    /// Starts a side at the present end of the WAL. What the other side replicated in between is
    /// missing in this side's tables, which matters to no transaction: each updates rows that were
    /// there before.
    async fn open(stage: &Stage, source: &Client, side: Side, sentinel: i64) -> Result<Self> {
        let workload = workload::latency();
        let target = stage.target.client(&side.database(workload.name)).await?;
        drop_slot(source, "base").await?;
        execute(source, "SELECT pg_create_logical_replication_slot('base', 'pgoutput')").await?;
        copy_slot(source, "base", "run").await?;
        let route = Route {
            source: &stage.source,
            target: &stage.target,
            workload: workload.name,
            slot: "run",
        };
        let mut subscriber = start(side, route, &target, &stage.folder).await?;
        execute(source, &format!("INSERT INTO sentinel VALUES ({sentinel})")).await?;
        wait_sentinel(&target, sentinel, &mut subscriber, None).await?;
        // Start-up work behind the first row is over by then.
        sleep(Duration::from_secs(2)).await;
        Ok(Self { subscriber, target })
    }

    /// Commits at one rate and watches the target meanwhile.
    async fn hold(
        &self,
        stage: &Stage,
        source: &Client,
        side: Side,
        rate: u64,
        time: Duration,
    ) -> Result<Latency> {
        let name = workload::latency().name;
        let last = text(source, "SELECT coalesce(max(hid), 0)::text FROM history").await?;
        let after: i64 = last.parse().context("the key is no number")?;
        let count = rate * time.as_secs();
        let reader = Reader::start(stage.target.conninfo(&side.database(name)), after, count, time);
        let mut payers = Vec::new();
        for _ in 0..SESSIONS {
            payers.push(stage.source.client(name).await?);
        }
        let began = Instant::now();
        let all = (0..SESSIONS).zip(&payers);
        try_join_all(
            all.map(|(first, payer)| pay(payer, Pace { began, first, after, count, rate })),
        )
        .await?;
        let reached = count as f64 / began.elapsed().as_secs_f64();
        let seen = reader.finish().await?;
        let mut times = Vec::with_capacity(seen.len());
        for (payment, committed) in commit_times(source, after).await? {
            let seen = seen.get(&payment).with_context(|| {
                format!("{}: {} of {count} transactions became visible", side.name(), seen.len())
            })?;
            times.push((seen - committed) as f64 / 1_000.0);
        }
        times.sort_by(f64::total_cmp);
        let (p50, p99) = (quantile(&times, 0.50), quantile(&times, 0.99));
        Ok(Latency { side, rate, reached, p50, p99, max: quantile(&times, 1.0) })
    }

    async fn close(self, source: &Client) -> Result<()> {
        self.subscriber.stop(&self.target).await?;
        drop_slot(source, "run").await
    }
}

/// When the transactions of one session are due: number `first`, and then every [`SESSIONS`]th.
#[derive(Debug, Clone, Copy)]
struct Pace {
    began: Instant,
    first: u64,
    /// Keys begin after this one.
    after: i64,
    /// Transactions of all sessions.
    count: u64,
    /// Transactions of all sessions in a second.
    rate: u64,
}

/// Commits one session's transactions, each when it is due or as soon as the one before is through.
async fn pay(payer: &Client, pace: Pace) -> Result<()> {
    let statement = payer.prepare("SELECT pay($1)").await?;
    let mut number = pace.first;
    while number < pace.count {
        let due = Duration::from_secs_f64(number as f64 / pace.rate as f64);
        sleep_until(pace.began + due).await;
        let payment = pace.after + 1 + i64::try_from(number)?;
        payer.execute(&statement, &[&payment]).await.context("could not commit on the source")?;
        number += SESSIONS;
    }
    Ok(())
}

/// When each payment was committed on the source, in microseconds since 1970.
async fn commit_times(source: &Client, after: i64) -> Result<Vec<(i64, i64)>> {
    let sql = "SELECT hid, (extract(epoch FROM pg_xact_commit_timestamp(xmin)) * 1000000)::bigint \
               FROM history WHERE hid > $1";
    let rows = source.query(sql, &[&after]).await.context("could not read the commit times")?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// Looks at the target from a thread of its own, whose pauses are shorter than tokio's timer can
/// count.
struct Reader {
    thread: JoinHandle<Result<BTreeMap<i64, i64>>>,
}

impl Reader {
    /// Looks for `count` payments after the key `after`, which are committed during `time`.
    fn start(url: String, after: i64, count: u64, time: Duration) -> Self {
        Self { thread: thread::spawn(move || watch(&url, after, count, time + VISIBLE_TIME_MAX)) }
    }

    /// When each payment was seen, in microseconds since 1970. Those that were not are missing.
    async fn finish(self) -> Result<BTreeMap<i64, i64>> {
        let joined = tokio::task::spawn_blocking(move || self.thread.join()).await?;
        joined.map_err(|_| anyhow!("the reader panicked"))?
    }
}

fn watch(url: &str, after: i64, count: u64, time_max: Duration) -> Result<BTreeMap<i64, i64>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let client = runtime.block_on(postgres::connect(url))?;
    let query = runtime.block_on(client.prepare("SELECT hid FROM history WHERE hid > $1"))?;
    let began = Instant::now();
    let mut seen = BTreeMap::new();
    // All payments up to here have been seen; those behind it may come in any order.
    let mut through = after;
    while (seen.len() as u64) < count && began.elapsed() < time_max {
        let rows = runtime.block_on(client.query(&query, &[&through]))?;
        let at = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_micros())?;
        for row in rows {
            seen.entry(row.get(0)).or_insert(at);
        }
        while seen.contains_key(&(through + 1)) {
            through += 1;
        }
        thread::sleep(READ_PAUSE);
    }
    Ok(seen)
}

/// The value that `part` of the sorted values do not exceed.
fn quantile(sorted: &[f64], part: f64) -> f64 {
    let rank = (part * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.max(1) - 1).copied().unwrap_or(f64::NAN)
}

/// Watches our process while nothing is committed.
async fn rest(pid: u32, time: Duration) -> Result<Idle> {
    let before = cpu_seconds(pid)?;
    let began = Instant::now();
    sleep(time).await;
    let seconds = began.elapsed().as_secs_f64();
    Ok(Idle { seconds, cpu_seconds: cpu_seconds(pid)? - before })
}
