//! `replicator start` as its user meets it: changes of a busy shop go back to where it came from.
use std::net::TcpListener;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use replicator_tests::feeder::{FeedOptions, Feeder, Where};
use replicator_tests::pair::{DATABASE, Pair};
use replicator_tests::postgres::{self, Options};
use replicator_tests::product::Replicator;
use replicator_tests::workload::{Load, Plan};
use replicator_tests::{compare, wait_until};

const LIMIT: Duration = Duration::from_secs(120);

const PLAN: Plan = Plan {
    seed: 5,
    writers: 3,
    rows_per_second: 2_000,
    large_rows: 5_000,
    large_every: Duration::from_secs(3),
};

/// A shop, where its changes go back to, and the program between them.
struct Shop {
    pair: Pair,
    port: u16,
    folder: PathBuf,
}

impl Shop {
    async fn open(name: &str) -> Result<Self> {
        let pair = Pair::start(postgres::major()?, &Options::default()).await?;
        pair.open_shop(2_000).await?;
        // A changefeed brings whole rows, whatever of them has changed.
        for table in ["document", "account", "product", "orders", "order_line"] {
            let sql = format!("ALTER TABLE {table} REPLICA IDENTITY FULL");
            pair.from.batch_execute(&sql).await?;
        }
        // Values that change places in one transaction went through a third one, of which a changefeed
        // does not tell.
        pair.to.batch_execute("ALTER TABLE account DROP CONSTRAINT account_email_key").await?;
        let folder = std::env::temp_dir().join(format!("start-{name}-{}", std::process::id()));
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        Ok(Self { pair, port, folder })
    }

    fn replicator(&self) -> Result<Replicator> {
        let (target, port) = (self.pair.target.conninfo(DATABASE), self.port);
        let folder = self.folder.display().to_string();
        let bind = format!("127.0.0.1:{port}");
        let arguments = [
            "start",
            "--targetConn",
            &target,
            "--bindAddr",
            &bind,
            "--dataDir",
            &folder,
            "--disableAuthentication",
            "--flushPeriod",
            "50ms",
        ];
        Replicator::start(&self.folder.join("replicator.log"), arguments)
    }

    fn place(&self) -> Where {
        Where { port: self.port, path: format!("/{DATABASE}/public"), token: None, tls: None }
    }

    async fn feed(&self, seed: u64) -> Result<Feeder> {
        let options = FeedOptions { workers: 4, rows_max: 300, again_percent: 20, seed };
        Feeder::start(&self.pair.source.conninfo(DATABASE), &self.place(), &options).await
    }

    /// Waits until both sides are equal.
    async fn equal(&self, replicator: &mut Replicator) -> Result<()> {
        let mut last = String::new();
        let waited = wait_until(LIMIT, "both sides are equal", async || {
            replicator.must_run()?;
            let comparison = compare::tables(&self.pair.from, &self.pair.to, "public").await?;
            last = comparison.to_string();
            Ok(comparison.is_identical())
        });
        waited.await.with_context(|| last)
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.folder).ok();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_busy_shop_goes_back_whoever_is_killed() -> Result<()> {
    let shop = Shop::open("kills").await?;
    let mut replicator = shop.replicator()?;
    let mut feeder = shop.feed(7).await?;
    let load = Load::start(&shop.pair.source.conninfo(DATABASE), PLAN).await?;
    for kill in 1..=5_u64 {
        wait_until(LIMIT, "some rows are sent", async || {
            replicator.must_run()?;
            Ok(kill * 1_500 < feeder.rows()?)
        })
        .await?;
        replicator.kill()?;
        replicator = shop.replicator()?;
    }
    load.finish(&shop.pair.source.conninfo(DATABASE)).await?;
    feeder.sent(&shop.pair.from, LIMIT).await?;
    shop.equal(&mut replicator).await?;
    let status = replicator.stop(LIMIT).await?;
    ensure!(status.success(), "an orderly stop ends with {status}");
    Ok(())
}
