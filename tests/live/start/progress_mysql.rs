//! `--targetProgressTable` on MySQL and MariaDB: exactly once.
use std::time::Duration;

use anyhow::{Result, ensure};
use replicator_io::mysql::session::{MySqlOptions, MySqlSession};
use replicator_tests::failback::Kind;
use replicator_tests::feeder::Caller;
use replicator_tests::pair::DATABASE;
use replicator_tests::wait_until;

use super::progress::{resolved, row};
use super::{FIRST_ROWS, LIMIT, OPEN, Shop, check_kills};

/// Notes, and a list of those that were written.
const TABLES: &str = "CREATE TABLE note (id BIGINT PRIMARY KEY, text VARCHAR(20) NOT NULL); \
    CREATE TABLE seen (at BIGINT AUTO_INCREMENT PRIMARY KEY, id BIGINT NOT NULL); \
    CREATE TRIGGER see BEFORE INSERT ON note FOR EACH ROW INSERT INTO seen (id) VALUES (NEW.id)";

const PROGRESS: &str = "CREATE TABLE done (stream VARCHAR(64), fence BIGINT, first_tx BIGINT, \
    after_position VARCHAR(64), through_position VARCHAR(64) NOT NULL, \
    PRIMARY KEY (stream, first_tx, fence))";

const FLAGS: [&str; 3] = ["--targetProgressTable", "done", OPEN[0]];

const OPTIONS: MySqlOptions =
    MySqlOptions { lock_wait: Duration::from_secs(5), idle: Duration::from_secs(600) };

/// A shop whose target has a table of progress.
async fn open(kind: Kind, name: &str, first_rows: u32) -> Result<Shop> {
    let shop = Shop::open(kind, name, first_rows).await?;
    shop.mysql()?.run(&format!("USE {DATABASE}; {PROGRESS}; {TABLES}"))?;
    Ok(shop)
}

fn ask(shop: &Shop, sql: &str) -> Result<String> {
    Ok(shop.mysql()?.run(&format!("USE {DATABASE}; {sql}"))?.trim().to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_busy_shop_goes_back_to_mysql_exactly_once() -> Result<()> {
    check_busy(Kind::MySql, "start_once_mysql").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_busy_shop_goes_back_to_mariadb_exactly_once() -> Result<()> {
    check_busy(Kind::MariaDb, "start_once_mariadb").await
}

async fn check_busy(kind: Kind, name: &str) -> Result<()> {
    let shop = open(kind, name, FIRST_ROWS).await?;
    check_kills(&shop, &FLAGS, 5).await?;
    let runs = "SELECT fence FROM done WHERE stream = 'start' AND first_tx = 0";
    let runs: u64 = ask(&shop, runs)?.parse()?;
    ensure!(6 <= runs, "{runs} runs");
    // What the last checkpoint covers needs no record.
    let records: u64 = ask(&shop, "SELECT COUNT(*) FROM done WHERE first_tx > 0")?.parse()?;
    ensure!(records == 0, "{records} records are left");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_is_applied_once_on_mysql_whoever_is_killed() -> Result<()> {
    check_batch(Kind::MySql, "progress_mysql").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_is_applied_once_on_mariadb_whoever_is_killed() -> Result<()> {
    check_batch(Kind::MariaDb, "progress_mariadb").await
}

/// Who is killed while the target works on a batch does not know what became of it. The next run does.
async fn check_batch(kind: Kind, name: &str) -> Result<()> {
    let shop = open(kind, name, 10).await?;
    let mut replicator = shop.replicator(&FLAGS)?;
    let mut caller = Caller::new(shop.place());
    caller.bring(&mut replicator, &resolved(1), LIMIT).await?;
    let conninfo = shop.mysql()?.conninfo(DATABASE).parse()?;
    let mut blocker = MySqlSession::open(&conninfo, &OPTIONS).await?;
    blocker.query("LOCK TABLES seen READ").await?;
    for body in [row(1, 10), resolved(11), row(2, 12), resolved(13)] {
        caller.bring(&mut replicator, &body, LIMIT).await?;
    }
    let waits = "SELECT COUNT(*) > 0 FROM information_schema.processlist \
                 WHERE state LIKE 'Waiting for table%'";
    wait_until(LIMIT, "a batch is under way", async || Ok(ask(&shop, waits)? == "1")).await?;
    replicator.kill()?;

    let mut replicator = shop.replicator(&FLAGS)?;
    let mut caller = Caller::new(shop.place());
    let send = async {
        caller.bring(&mut replicator, &row(3, 14), LIMIT).await?;
        caller.bring(&mut replicator, &resolved(15), LIMIT).await
    };
    let unblock = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        blocker.query("UNLOCK TABLES").await
    };
    let (sent, unblocked) = tokio::join!(send, unblock);
    sent?;
    unblocked?;
    wait_until(LIMIT, "all rows are there", async || {
        replicator.must_run()?;
        Ok(ask(&shop, "SELECT COUNT(*) FROM note")? == "3")
    })
    .await?;
    // A server that notices in time that the client is gone gives the batch up. Then the next run applies it,
    // and rows that have nothing to do with each other come in any order.
    let seen = ask(&shop, "SELECT GROUP_CONCAT(id ORDER BY id) FROM seen")?;
    ensure!(seen == "1,2,3", "applied: {seen}");
    Ok(())
}
