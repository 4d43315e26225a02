//! Random kills, under load.
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use replicator_tests::mysql::Kind;
use replicator_tests::onward::{Load, Onward};
use replicator_tests::product::Replicator;
use replicator_tests::random::Random;
use replicator_tests::workload::Plan;

/// How often the program is killed.
const KILLS: u32 = 20;
const ARRIVAL_MAX: Duration = Duration::from_secs(120);

async fn kill(shop: &Onward, replicator: &mut Replicator) -> Result<()> {
    replicator.must_run()?;
    replicator.signal("KILL")?;
    replicator.wait(Duration::from_secs(10)).await?;
    *replicator = shop.moving.replicate(&[])?;
    Ok(())
}

async fn survive(kind: Kind, seed: u64) -> Result<()> {
    let shop = Onward::open(kind, "kills").await?;
    let mut replicator = shop.moving.replicate(&[])?;
    shop.fill(2_000)?;
    let every = Duration::from_secs(4);
    let plan =
        Plan { seed, writers: 3, rows_per_second: 1_500, large_rows: 3_000, large_every: every };
    let conninfo = shop.conninfo();
    let mut load = Load::start(&conninfo, plan).await?;
    let mut random = Random::new(seed);
    for number in 1..=KILLS {
        tokio::time::sleep(Duration::from_millis(random.between(200, 1_500))).await;
        load.must_run()?;
        let killed = kill(&shop, &mut replicator).await;
        killed.with_context(|| format!("kill {number} of seed {seed}"))?;
    }
    let written = load.finish(&conninfo).await?;
    shop.confirmed(ARRIVAL_MAX).await?;
    replicator.must_run()?;
    let comparison = shop.identical().await.with_context(|| format!("seed {seed}"))?;
    ensure!(written.rows > 5_000 && comparison.identical() > 2_000, "{written:?}, {comparison}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_lose_nothing_and_repeat_nothing() -> Result<()> {
    for kind in Kind::ALL {
        survive(kind, 1).await.with_context(|| format!("{kind:?}"))?;
    }
    Ok(())
}
