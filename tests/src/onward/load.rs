//! Writers of the shop in MySQL: transactions of the same kinds as in [`workload`](crate::workload).
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::writer::{Connection, Writer};
use crate::random::Random;
use crate::workload::{Plan, REGIONS, SEATS, Written};

/// How often the heartbeat's row is written.
const BEAT: Duration = Duration::from_millis(250);
/// The longest that the last transactions may take.
const FINISH_MAX: Duration = Duration::from_secs(60);

/// The numbers from 1 through `rows`, at most 100,000, as a query with the column `i`.
fn numbers(rows: u32) -> String {
    let digit = "(SELECT 0 d UNION ALL SELECT 1 UNION ALL SELECT 2 UNION ALL SELECT 3 UNION ALL SELECT 4 UNION ALL \
                  SELECT 5 UNION ALL SELECT 6 UNION ALL SELECT 7 UNION ALL SELECT 8 UNION ALL SELECT 9)";
    format!(
        "(SELECT * FROM (SELECT 1 + a.d + 10 * b.d + 100 * c.d + 1000 * e.d + 10000 * f.d AS i \
            FROM {digit} a, {digit} b, {digit} c, {digit} e, {digit} f) t WHERE i <= {rows}) n"
    )
}

/// The statements that fill the tables with about `rows` rows.
pub(super) fn first_rows(rows: u32) -> String {
    let of = |part: u32| numbers((rows / part).max(1));
    let products = (rows / 8).max(1);
    format!(
        "INSERT INTO region SELECT i, CONCAT('R', i), CONCAT('Region ', i) FROM {regions}; \
         INSERT INTO account SELECT i, 1 + i % {REGIONS}, CONCAT('account', i, '@example.org'), i * 1.25, \
           JSON_ARRAY(CONCAT('tag', i % 7), 'with \"quotes\", commas'), JSON_OBJECT('number', i, 'nothing', NULL), \
           '2020-02-29 12:00:00' + INTERVAL i HOUR FROM {accounts}; \
         INSERT INTO product SELECT i, 1 + i % {REGIONS}, CONCAT('sku-', i), i * 0.99, JSON_ARRAY(i, NULL, 0.5), \
           UNHEX(CONCAT(SHA2(i, 256), '00ff')) FROM {goods}; \
         INSERT INTO orders SELECT i, i, IF(i % 3 = 0, 1 + i % {products}, NULL), 'placed', \
           '2024-01-01' + INTERVAL i SECOND, NULL FROM {goods}; \
         INSERT INTO order_line (order_id, line_no, product_id, quantity, price) \
           SELECT n.i, l.i, 1 + (n.i + l.i) % {products}, l.i, n.i * 0.99 FROM {goods}, (SELECT 1 i UNION SELECT 2 \
           UNION SELECT 3) l; \
         INSERT INTO category VALUES (1, NULL, 'everything'); \
         INSERT INTO seat SELECT i, CONCAT('holder', i), 0 FROM {seats}; \
         INSERT INTO document SELECT i, i, CONCAT('Document ', i), 1, REPEAT(SHA2(i, 256), 150) FROM {documents}; \
         INSERT INTO journal SELECT -1, i, '2024-01-01', 'opened' FROM {entries}; \
         INSERT INTO heartbeat VALUES (1, 0, 0, UTC_TIMESTAMP(6))",
        regions = numbers(REGIONS),
        seats = numbers(SEATS),
        accounts = of(4),
        goods = of(8),
        documents = of(80),
        entries = of(20),
    )
}

/// A load that runs.
#[derive(Debug)]
pub struct Load {
    tasks: JoinSet<Result<()>>,
    shared: Arc<Shared>,
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
    /// The tables are not there, or are empty.
    pub async fn start(conninfo: &str, plan: Plan) -> Result<Self> {
        let shared = Arc::new(Shared::default());
        let mut tasks = JoinSet::new();
        let mut random = Random::new(plan.seed);
        for number in 0..plan.writers {
            let writer = Writer::connect(conninfo, number, plan.writers, random.split()).await?;
            let rate = f64::from(plan.rows_per_second) / f64::from(plan.writers);
            tasks.spawn(write(writer, rate, Arc::clone(&shared)));
        }
        tasks.spawn(beat(Connection::open(conninfo).await?, Arc::clone(&shared)));
        tasks.spawn(write_large(Connection::open(conninfo).await?, plan, Arc::clone(&shared)));
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
        let mut connection = Connection::open(conninfo).await?;
        write_beat(&mut connection, &self.shared).await?;
        let beat = connection.number("SELECT beat FROM heartbeat").await?;
        let transactions = self.shared.transactions.load(Ordering::Relaxed);
        Ok(Written { rows: self.rows(), transactions, beat: beat.try_into()? })
    }
}

async fn write(mut writer: Writer, rows_per_second: f64, shared: Arc<Shared>) -> Result<()> {
    let begun = Instant::now();
    let mut rows = 0_u64;
    while !shared.stopping() {
        let changed = writer.transaction().await.context("a writer failed")?;
        shared.commit(changed);
        rows += changed;
        #[expect(clippy::cast_precision_loss, reason = "a pause need not be exact")]
        let due = Duration::from_secs_f64(rows as f64 / rows_per_second);
        sleep_until(begun + due).await;
    }
    Ok(())
}

async fn beat(mut connection: Connection, shared: Arc<Shared>) -> Result<()> {
    while !shared.stopping() {
        write_beat(&mut connection, &shared).await?;
        sleep(BEAT).await;
    }
    Ok(())
}

/// One beat, which carries the number of rows that were committed before it.
async fn write_beat(connection: &mut Connection, shared: &Shared) -> Result<()> {
    let rows = shared.rows.load(Ordering::Relaxed);
    let sql = format!(
        "UPDATE heartbeat SET beat = beat + 1, `rows` = {rows}, beaten_at = UTC_TIMESTAMP(6) WHERE id = 1"
    );
    connection.run(&sql).await?;
    shared.commit(1);
    Ok(())
}

/// Fills a batch of the ledger, changes the one before and clears the one before that, each in one transaction.
async fn write_large(mut connection: Connection, plan: Plan, shared: Arc<Shared>) -> Result<()> {
    let last = connection.number("SELECT COALESCE(MAX(batch), 0) FROM ledger").await?;
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
        let (rows, numbers) = (u64::from(plan.large_rows), numbers(plan.large_rows));
        for (sql, count) in [
            (
                format!(
                    "INSERT INTO ledger SELECT {batch}, i, i * 0.001, CONCAT('entry ', i) FROM {numbers}"
                ),
                rows,
            ),
            (
                format!(
                    "UPDATE ledger SET amount = amount + 1, memo = NULL WHERE batch = {batch} - 1"
                ),
                if batch > 1 { rows } else { 0 },
            ),
            (
                format!("DELETE FROM ledger WHERE batch = {batch} - 2"),
                if batch > 2 { rows } else { 0 },
            ),
        ] {
            connection.run(&sql).await?;
            shared.commit(count);
        }
    }
    Ok(())
}
