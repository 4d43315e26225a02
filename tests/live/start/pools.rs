//! Few connections: nobody keeps one that others wait for.
use anyhow::{Result, ensure};
use replicator_tests::feeder::Caller;
use replicator_tests::wait_until;

use super::{LIMIT, OPEN, open};

const TABLES: &str = "CREATE TABLE note (id INT8 PRIMARY KEY, at INT8 NOT NULL)";

/// One session of staging does for two lanes, their promises, checkpoints and retirements. Another one renews the
/// lease, which must not wait for those.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn w39_one_connection_to_staging_does_for_all_rows() -> Result<()> {
    let shop = open("pools").await?;
    let (staging, client) = shop.staging().await?;
    let to = shop.to()?;
    to.batch_execute(TABLES).await?;
    let mut replicator = shop.replicator(&[
        "--stagingConn",
        &staging,
        "--stagingCreateSchema",
        "--stagingMaxPoolSize",
        "1",
        "--targetMaxPoolSize",
        "2",
        "--bestEffortOnly",
        OPEN[0],
    ])?;
    let mut caller = Caller::new(shop.place());
    let others = "SELECT count(*) FROM pg_stat_activity WHERE datname = 'staging' AND pid <> pg_backend_pid()";
    for time in 1..=30 {
        let row = format!(
            r#"{{"payload":[{{"after":{{"id":{time},"at":{time}}},"key":[{time}],"topic":"note","updated":"{time}.0"}}]}}"#
        );
        for body in [row, format!(r#"{{"resolved":"{time}.0"}}"#)] {
            caller.bring(&mut replicator, &body, LIMIT).await?;
        }
        let sessions: i64 = client.query_one(others, &[]).await?.get(0);
        ensure!(sessions <= 2, "{sessions} sessions of staging");
    }
    wait_until(LIMIT, "all is applied and forgotten", async || {
        replicator.must_run()?;
        let there: i64 = to.query_one("SELECT count(*) FROM note", &[]).await?.get(0);
        let left = "SELECT count(*) FROM _replicator.shop_public_note";
        let left: i64 = client.query_one(left, &[]).await?.get(0);
        Ok((there, left) == (30, 0))
    })
    .await?;
    let status = replicator.stop(LIMIT).await?;
    ensure!(status.success(), "an orderly stop ends with {status}");
    Ok(())
}
