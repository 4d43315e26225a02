//! Several writers at a given speed, large transactions now and then, and a heartbeat.
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use super::writer::{Share, Writer};
use crate::postgres;
use crate::random::Random;

/// How often the heartbeat's row is written.
const BEAT: Duration = Duration::from_millis(250);
/// The longest that the last transactions may take.
const FINISH_MAX: Duration = Duration::from_secs(60);

/// What to write.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// The same seed makes the same choices; how the writers interleave is up to the server.
    pub seed: u64,
    /// Connections that write side by side.
    pub writers: u32,
    /// Rows per second of all writers together, large transactions aside.
    pub rows_per_second: u32,
    /// Rows of one large transaction.
    pub large_rows: u32,
    /// From one large transaction to the next.
    pub large_every: Duration,
}

/// A load that runs.
#[derive(Debug)]
pub struct Load {
    tasks: JoinSet<Result<()>>,
    shared: Arc<Shared>,
}

/// What a load wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// Rows changed, cascades included.
    pub rows: u64,
    /// Transactions committed.
    pub transactions: u64,
    /// The last beat of the heartbeat, written after everything else.
    pub beat: i64,
}

#[derive(Debug, Default)]
struct Shared {
    rows: AtomicU64,
    transactions: AtomicU64,
    stopping: AtomicBool,
}

impl Shared {
    fn commit(&self, rows: u64) {
        self.rows.fetch_add(rows, Ordering::Relaxed);
        self.transactions.fetch_add(1, Ordering::Relaxed);
    }

    fn stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }
}

impl Load {
    /// Connects the writers and lets them go.
    ///
    /// # Errors
    ///
    /// The tables are not there.
    pub async fn start(conninfo: &str, plan: Plan) -> Result<Self> {
        let shared = Arc::new(Shared::default());
        let mut tasks = JoinSet::new();
        let mut random = Random::new(plan.seed);
        let rate = f64::from(plan.rows_per_second) / f64::from(plan.writers);
        for number in 0..plan.writers {
            let share = Share { number, of: plan.writers };
            let writer = Writer::connect(conninfo, share, random.split()).await?;
            tasks.spawn(write(writer, rate, Arc::clone(&shared)));
        }
        tasks.spawn(beat(postgres::connect(conninfo).await?, Arc::clone(&shared)));
        tasks.spawn(write_large(postgres::connect(conninfo).await?, plan, Arc::clone(&shared)));
        Ok(Self { tasks, shared })
    }

    /// Rows committed so far.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.shared.rows.load(Ordering::Relaxed)
    }

    /// Fails if some writer has failed.
    ///
    /// # Errors
    ///
    /// The writer's.
    pub fn must_run(&mut self) -> Result<()> {
        match self.tasks.try_join_next() {
            Some(ended) => ended?.and_then(|()| anyhow::bail!("a writer ended by itself")),
            None => Ok(()),
        }
    }

    /// Lets every writer finish its transaction, then writes the last beat.
    ///
    /// # Errors
    ///
    /// Some writer failed, or did not finish within a minute.
    pub async fn finish(mut self, conninfo: &str) -> Result<Written> {
        self.shared.stopping.store(true, Ordering::Relaxed);
        let all = async {
            while let Some(ended) = self.tasks.join_next().await {
                ended??;
            }
            anyhow::Ok(())
        };
        timeout(FINISH_MAX, all).await.context("the writers do not finish")??;
        let client = postgres::connect(conninfo).await?;
        let beat = write_beat(&client, &self.shared).await?;
        Ok(Written {
            rows: self.rows(),
            transactions: self.shared.transactions.load(Ordering::Relaxed),
            beat,
        })
    }
}

async fn write(mut writer: Writer, rows_per_second: f64, shared: Arc<Shared>) -> Result<()> {
    let begun = Instant::now();
    let mut rows = 0_u64;
    while !shared.stopping() {
        let changed = writer.transaction().await.context("a writer failed")?;
        shared.commit(changed);
        rows += changed;
        // The next one is due when as many rows are at this speed. Who is late does not wait.
        #[expect(clippy::cast_precision_loss, reason = "a pause need not be exact")]
        let due = Duration::from_secs_f64(rows as f64 / rows_per_second);
        sleep_until(begun + due).await;
    }
    Ok(())
}

async fn beat(client: tokio_postgres::Client, shared: Arc<Shared>) -> Result<()> {
    while !shared.stopping() {
        write_beat(&client, &shared).await?;
        tokio::time::sleep(BEAT).await;
    }
    Ok(())
}

/// One beat, which carries the number of rows that were committed before it.
async fn write_beat(client: &tokio_postgres::Client, shared: &Shared) -> Result<i64> {
    let rows = i64::try_from(shared.rows.load(Ordering::Relaxed))?;
    let sql = "UPDATE heartbeat SET beat = beat + 1, rows = $1, beaten_at = clock_timestamp()
               WHERE id = 1 RETURNING beat";
    let row = client.query_one(sql, &[&rows]).await.context("the heartbeat failed")?;
    shared.commit(1);
    Ok(row.get(0))
}

/// Fills a batch of the ledger, changes the one before and clears the one before that, each in one
/// transaction.
async fn write_large(
    client: tokio_postgres::Client,
    plan: Plan,
    shared: Arc<Shared>,
) -> Result<()> {
    let rows = i32::try_from(plan.large_rows)?;
    let last = client.query_one("SELECT coalesce(max(batch), 0) FROM ledger", &[]).await?;
    let last: i32 = last.get(0);
    let mut pause = plan.large_every / 2;
    for batch in last + 1.. {
        let due = Instant::now() + pause;
        while Instant::now() < due && !shared.stopping() {
            sleep_until(due.min(Instant::now() + BEAT)).await;
        }
        if shared.stopping() {
            break;
        }
        pause = plan.large_every;
        let fill = "INSERT INTO ledger SELECT $1, i, i * 0.001, 'entry ' || i FROM generate_series(1, $2) i";
        let change = "UPDATE ledger SET amount = amount + 1, memo = NULL WHERE batch = $1 - 1";
        let clear = "DELETE FROM ledger WHERE batch = $1 - 2";
        shared.commit(client.execute(fill, &[&batch, &rows]).await?);
        shared.commit(client.execute(change, &[&batch]).await?);
        shared.commit(client.execute(clear, &[&batch]).await?);
    }
    Ok(())
}
