//! Transactions that are larger than the memory we want to use.
use std::time::Duration;

use anyhow::{Context as _, Result};
use replicator_tests::pair::{DATABASE, Pair};
use replicator_tests::postgres::{self, Options};
use replicator_tests::product::Replicator;
use replicator_tests::{compare, wait_until};
use tokio_postgres::Client;

/// What the program may take with default flags.
const MEMORY_KIB_MAX: u64 = 256 * 1024;
/// Size of a transaction in MB, if `$LARGE_MB` does not say.
const MEGABYTES: u32 = 150;
/// Rows of a megabyte.
const ROWS_PER_MB: u32 = 1_000;

/// The table, publication and slot are there, and the product runs.
async fn begin(name: &str, flags: &[&str]) -> Result<(Pair, Replicator)> {
    let pair = Pair::start(postgres::major()?, &Options::default()).await?;
    let table = "CREATE TABLE t (id int PRIMARY KEY, v text);
                 CREATE TABLE small (id int PRIMARY KEY, rows int)";
    pair.from.batch_execute(table).await?;
    pair.to.batch_execute(table).await?;
    pair.publish().await?;
    let log = postgres::home()?.join("logs").join(format!("{name}.log"));
    if log.exists() {
        std::fs::remove_file(&log)?;
    }
    let replicator = replicate(&pair, name, flags)?;
    Ok((pair, replicator))
}

fn replicate(pair: &Pair, name: &str, flags: &[&str]) -> Result<Replicator> {
    let log = postgres::home()?.join("logs").join(format!("{name}.log"));
    let mut arguments = pair.arguments(true);
    arguments.extend(["--standbyTimeout", "500ms"].map(str::to_owned));
    arguments.extend(flags.iter().map(|&flag| flag.to_owned()));
    Replicator::start(&log, arguments)
}

/// One transaction of this many rows of about 1 kB.
async fn insert(pair: &Pair, rows: u32) -> Result<()> {
    let sql = format!(
        "BEGIN;
         INSERT INTO small VALUES (1, 0);
         INSERT INTO t SELECT i, repeat(md5(i::text), 31) FROM generate_series(1, {rows}) i;
         UPDATE small SET rows = {rows} WHERE id = 1;
         COMMIT"
    );
    pair.from.batch_execute(&sql).await?;
    Ok(())
}

/// Whether the transaction is in the target, wholly. An error if a part of it is.
async fn is_in(client: &Client, rows: u32) -> Result<bool> {
    // Its first row, some in the middle, and the last one.
    let sql = "SELECT (SELECT count(*) FROM t WHERE id = ANY ($1)), (SELECT max(rows) FROM small)";
    let ids = [1, rows / 3, rows / 2, rows / 2 + 1, rows].map(|id| i32::try_from(id).unwrap_or(1));
    let row = client.query_one(sql, &[&ids.as_slice()]).await?;
    let (found, said): (i64, Option<i32>) = (row.get(0), row.get(1));
    match (found, said) {
        (0, None) => Ok(false),
        (5, Some(said)) if u32::try_from(said) == Ok(rows) => Ok(true),
        part => anyhow::bail!("a part of the transaction is visible: {part:?}"),
    }
}

async fn arrives(pair: &Pair, replicator: &mut Replicator, rows: u32) -> Result<()> {
    let limit = Duration::from_secs(60) + Duration::from_millis(u64::from(rows) / 2);
    wait_until(limit, "the transaction arrives", async || {
        replicator.must_run()?;
        is_in(&pair.to, rows).await
    })
    .await?;
    pair.confirmed(limit).await?;
    let comparison = compare::tables(&pair.from, &pair.to, "public").await?;
    assert!(comparison.is_identical(), "{comparison}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_transaction_arrives_as_a_whole_in_little_memory() -> Result<()> {
    let megabytes = match std::env::var("LARGE_MB") {
        Ok(text) => text.parse().with_context(|| format!("LARGE_MB is \"{text}\""))?,
        Err(_) => MEGABYTES,
    };
    let rows = megabytes * ROWS_PER_MB;
    let (pair, mut replicator) = begin("large", &[]).await?;
    insert(&pair, rows).await?;
    pair.from.batch_execute("INSERT INTO small VALUES (2, 0)").await?;
    arrives(&pair, &mut replicator, rows).await?;
    let peak = replicator.memory_peak_kib();
    assert!(peak < MEMORY_KIB_MAX, "inserts took {peak} KiB");

    pair.from
        .batch_execute(
            "BEGIN; UPDATE t SET v = v || 'x' WHERE id % 3 = 0; DELETE FROM t WHERE id % 3 = 1;
             UPDATE t SET id = -id WHERE id % 30 = 0; COMMIT",
        )
        .await?;
    pair.confirmed(Duration::from_secs(60) + Duration::from_millis(u64::from(rows))).await?;
    let comparison = compare::tables(&pair.from, &pair.to, "public").await?;
    assert!(comparison.is_identical(), "{comparison}");
    let peak = replicator.memory_peak_kib();
    assert!(peak < MEMORY_KIB_MAX, "updates and deletes took {peak} KiB");
    let status = replicator.stop(Duration::from_secs(30)).await?;
    assert!(status.success(), "{status}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_transaction_survives_kills_in_its_middle() -> Result<()> {
    let rows = 40 * ROWS_PER_MB;
    let flags = ["--memoryLimit", "8MiB"];
    let (pair, mut replicator) = begin("large_killed", &flags).await?;
    pair.confirmed(Duration::from_secs(30)).await?;
    insert(&pair, rows).await?;
    let watching = pair.target.client(DATABASE).await?;
    for _ in 0..4 {
        // Somebody writes and has not committed.
        wait_until(Duration::from_secs(30), "rows are being written", async || {
            replicator.must_run()?;
            let sql = "SELECT pg_relation_size('t') > 0 AND NOT EXISTS (SELECT FROM t)";
            Ok(is_in(&watching, rows).await? || watching.query_one(sql, &[]).await?.get(0))
        })
        .await?;
        tokio::time::sleep(Duration::from_millis(150)).await;
        replicator.kill()?;
        is_in(&watching, rows).await?;
        replicator = replicate(&pair, "large_killed", &flags)?;
    }
    arrives(&pair, &mut replicator, rows).await
}
