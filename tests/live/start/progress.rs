//! `--targetProgressTable`: exactly once.
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use replicator_tests::feeder::Caller;
use replicator_tests::pair::DATABASE;
use replicator_tests::product::Replicator;
use replicator_tests::wait_until;

use super::{LIMIT, OPEN, Shop, open};

/// Notes, and a list of those that were written.
const TABLES: &str = "CREATE TABLE note (id INT8 PRIMARY KEY, text TEXT NOT NULL); \
    CREATE TABLE seen (at SERIAL PRIMARY KEY, id INT8 NOT NULL); \
    CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS \
      $$ BEGIN INSERT INTO seen (id) VALUES (NEW.id); RETURN NULL; END $$; \
    CREATE TRIGGER see AFTER INSERT OR UPDATE ON note FOR EACH ROW EXECUTE PROCEDURE see()";

const FLAGS: [&str; 3] = ["--targetProgressTable", "progress", OPEN[0]];

pub(super) fn row(id: u32, time: u32) -> String {
    format!(
        r#"{{"payload":[{{"after":{{"id":{id},"text":"x"}},"key":[{id}],"topic":"note","updated":"{time}.0"}}]}}"#
    )
}

pub(super) fn resolved(time: u32) -> String {
    format!(r#"{{"resolved":"{time}.0"}}"#)
}

/// Starts the program without its table, which the log says how to make.
async fn make_table(shop: &Shop) -> Result<Replicator> {
    let mut replicator = shop.replicator(&FLAGS)?;
    let mut caller = Caller::new(shop.place());
    wait_until(LIMIT, "the table is asked for", async || {
        caller.post(&resolved(1)).await.ok();
        replicator.must_run()?;
        Ok(replicator.log()?.contains("create it: CREATE TABLE"))
    })
    .await?;
    let log = replicator.log()?;
    let fix = log.split("create it: ").nth(1).and_then(|rest| rest.split(';').next());
    shop.to()?.batch_execute(&fix.context("no SQL")?.replace("\\\"", "\"")).await?;
    Ok(replicator)
}

/// Who is killed while the target works on a batch does not know what became of it. The next run does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a01_a_batch_is_applied_once_whoever_is_killed() -> Result<()> {
    let shop = open("progress").await?;
    let to = shop.to()?;
    to.batch_execute(TABLES).await?;
    let mut replicator = make_table(&shop).await?;
    let mut blocker = shop.target()?.client(DATABASE).await?;
    let blocked = blocker.transaction().await?;
    blocked.batch_execute("LOCK TABLE seen IN SHARE MODE").await?;
    let mut caller = Caller::new(shop.place());
    for body in [row(1, 10), resolved(11), row(2, 12), resolved(13)] {
        caller.bring(&mut replicator, &body, LIMIT).await?;
    }
    let waits = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
    wait_until(LIMIT, "a batch is under way", async || Ok(!to.query(waits, &[]).await?.is_empty()))
        .await?;
    replicator.kill()?;

    // What is sent now waits for the run before, which nobody can stop any more.
    let mut replicator = shop.replicator(&FLAGS)?;
    let mut caller = Caller::new(shop.place());
    let send = async {
        caller.bring(&mut replicator, &row(3, 14), LIMIT).await?;
        caller.bring(&mut replicator, &resolved(15), LIMIT).await
    };
    let unblock = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        blocked.rollback().await
    };
    let (sent, unblocked) = tokio::join!(send, unblock);
    sent?;
    unblocked?;
    wait_until(LIMIT, "all rows are there", async || {
        replicator.must_run()?;
        Ok(to.query_one("SELECT count(*) FROM note", &[]).await?.get::<_, i64>(0) == 3)
    })
    .await?;
    let seen = to.query("SELECT id FROM seen ORDER BY at", &[]).await?;
    let seen: Vec<i64> = seen.iter().map(|row| row.get(0)).collect();
    ensure!(seen == [1, 2, 3], "applied in this order: {seen:?}");
    let runs = "SELECT fence FROM progress WHERE first_tx = 0 AND stream = 'start'";
    let runs: i64 = to.query_one(runs, &[]).await?.get(0);
    ensure!(2 <= runs, "{runs} runs");
    Ok(())
}
