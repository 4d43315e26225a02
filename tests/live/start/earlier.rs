//! What a killed run has sent is over before the next one sends anything.
use anyhow::Result;
use replicator_tests::feeder::Caller;
use replicator_tests::pair::DATABASE;
use replicator_tests::product::Replicator;
use replicator_tests::wait_until;
use tokio_postgres::Client;

use super::{LIMIT, OPEN, Shop, open};

/// A writer of ours that waits for a row which somebody else has locked.
const WAITS: &str = "SELECT pid FROM pg_stat_activity \
    WHERE application_name LIKE 'replicator%' AND wait_event_type = 'Lock'";

/// A server goes on with what it was sent though nobody is there any more. Here it waits for a lock; the next run
/// does not wait as long as that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i7_what_a_killed_run_had_sent_is_ended_before_the_next_one_sends() -> Result<()> {
    let shop = open("earlier").await?;
    let (to, other) = (shop.to()?, shop.target()?.client(DATABASE).await?);
    to.batch_execute("CREATE TABLE note (id INT8 PRIMARY KEY, n INT8 NOT NULL)").await?;
    let mut replicator = shop.replicator(OPEN)?;
    bring(&shop, &mut replicator, 1).await?;
    wait_until(LIMIT, "the row is there", async || shows(to, 1).await).await?;

    other.batch_execute("BEGIN; SELECT 1 FROM note WHERE id = 1 FOR UPDATE").await?;
    bring(&shop, &mut replicator, 2).await?;
    let mut old: Option<i32> = None;
    wait_until(LIMIT, "a writer waits for the lock", async || {
        old = to.query_opt(WAITS, &[]).await?.map(|row| row.get(0));
        Ok(old.is_some())
    })
    .await?;
    replicator.kill()?;

    let mut replicator = shop.replicator(OPEN)?;
    bring(&shop, &mut replicator, 3).await?;
    wait_until(LIMIT, "the old writer is ended", async || {
        replicator.must_run()?;
        let old = to.query_opt("SELECT 1 FROM pg_stat_activity WHERE pid = $1", &[&old]).await?;
        Ok(old.is_none())
    })
    .await?;
    other.batch_execute("COMMIT").await?;
    wait_until(LIMIT, "the newest value is there", async || shows(to, 3).await).await?;
    replicator.stop(LIMIT).await?;
    Ok(())
}

async fn shows(to: &Client, n: i64) -> Result<bool> {
    Ok(to.query_opt("SELECT 1 FROM note WHERE id = 1 AND n = $1", &[&n]).await?.is_some())
}

/// A row, and the promise that lets it through.
async fn bring(shop: &Shop, replicator: &mut Replicator, n: u32) -> Result<()> {
    let mut caller = Caller::new(shop.place());
    let row = format!(
        r#"{{"payload":[{{"after":{{"id":1,"n":{n}}},"key":[1],"topic":"note","updated":"{n}.0"}}]}}"#
    );
    for body in [row, format!(r#"{{"resolved":"{n}.0"}}"#)] {
        caller.bring(replicator, &body, LIMIT).await?;
    }
    Ok(())
}
