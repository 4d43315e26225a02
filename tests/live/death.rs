//! Whoever dies, nothing is lost and nothing arrives twice.
//!
//! The target's journal has a trigger that shows transactions that are applied twice.
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};
use replicator_tests::pair::{DATABASE, Pair};
use replicator_tests::postgres::{self, Options};
use replicator_tests::product::Replicator;
use replicator_tests::workload::{self, Load, Plan};
use replicator_tests::{compare, wait_until};

/// The longest that anything may take on a busy machine.
const LONG: Duration = Duration::from_secs(120);

const PLAN: Plan = Plan {
    seed: 11,
    writers: 3,
    rows_per_second: 4_000,
    large_rows: 10_000,
    large_every: Duration::from_secs(2),
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_replicator_loses_and_repeats_nothing() -> Result<()> {
    let pair = shop().await?;
    let log = log(&pair);
    let mut replicator = Replicator::start(&log, pair.arguments(true))?;
    let load = Load::start(&pair.source.conninfo(DATABASE), PLAN).await?;
    for kill in 1..=4_u64 {
        arrived(&pair, &load, &mut replicator, kill * 6_000).await?;
        replicator.kill()?;
        replicator = Replicator::start(&log, pair.arguments(false))?;
    }
    settled(&pair, load, replicator).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_crashes_loses_nothing() -> Result<()> {
    let mut pair = shop().await?;
    let mut replicator = Replicator::start(&log(&pair), pair.arguments(true))?;
    let load = Load::start(&pair.source.conninfo(DATABASE), PLAN).await?;
    for crash in 1..=2_u64 {
        arrived(&pair, &load, &mut replicator, crash * 8_000).await?;
        pair.target.crash()?;
        pair.target.start_again()?;
        pair.to = pair.target.client(DATABASE).await?;
    }
    settled(&pair, load, replicator).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_that_crashes_loses_nothing() -> Result<()> {
    let mut pair = shop().await?;
    let mut replicator = Replicator::start(&log(&pair), pair.arguments(true))?;
    let conninfo = pair.source.conninfo(DATABASE);
    for _ in 0..2 {
        let load = Load::start(&conninfo, Plan { rows_per_second: 50_000, ..PLAN }).await?;
        arrived(&pair, &load, &mut replicator, 8_000).await?;
        // Everything is committed, but the target need not have all of it yet.
        load.finish(&conninfo).await?;
        pair.source.crash()?;
        pair.source.start_again()?;
        pair.from = pair.source.client(DATABASE).await?;
    }
    let load = Load::start(&conninfo, PLAN).await?;
    settled(&pair, load, replicator).await
}

async fn shop() -> Result<Pair> {
    let pair = Pair::start(postgres::major()?, &Options::default()).await?;
    pair.open_shop(4_000).await?;
    Ok(pair)
}

/// A file of its own for each source, so that tests can run side by side.
fn log(pair: &Pair) -> PathBuf {
    let name = format!("../target/live/replicator-{}.log", pair.source.port());
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// Waits until the load has written `rows` rows and the target has heard of at least half of them.
async fn arrived(pair: &Pair, load: &Load, replicator: &mut Replicator, rows: u64) -> Result<()> {
    wait_until(LONG, "rows arrive", async || {
        replicator.must_run()?;
        let row = pair.to.query_one("SELECT rows FROM heartbeat", &[]).await?;
        let arrived = u64::try_from(row.get::<_, i64>(0))?;
        Ok(rows <= load.rows() && rows / 2 <= arrived)
    })
    .await
}

/// Ends the load, waits for the rest, stops replicator and compares both sides.
async fn settled(pair: &Pair, load: Load, replicator: Replicator) -> Result<()> {
    load.finish(&pair.source.conninfo(DATABASE)).await?;
    pair.confirmed(LONG).await?;
    let status = replicator.stop(LONG).await?;
    ensure!(status.success(), "asked to stop, replicator ended with {status}");
    let comparison = compare::tables(&pair.from, &pair.to, "public").await?;
    ensure!(comparison.is_identical(), "the two sides differ\n{comparison}");
    ensure!(comparison.identical() > 4_000, "{comparison}");
    ensure!(workload::repeats(&pair.to).await? == 0, "rows of the journal arrived twice");
    Ok(())
}
