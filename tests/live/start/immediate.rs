//! `--immediate`: rows are applied when they come.
use anyhow::{Context as _, Result, ensure};
use replicator_tests::feeder::{Caller, Where};
use replicator_tests::pair::DATABASE;
use replicator_tests::wait_until;

use super::{LIMIT, OPEN, open};

/// Rows that come twice, late and out of order leave the newest of each, without any promise.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn w44_in_immediate_mode_no_row_goes_back_whoever_is_killed() -> Result<()> {
    let shop = open("immediate").await?;
    let to = shop.to()?;
    let flags = ["--immediate", OPEN[0]];
    let mut replicator = shop.replicator(&flags)?;
    let row = |id: u32, time: u32| {
        format!(
            r#"{{"payload":[{{"after":{{"id":{id},"at":{time}}},"key":[{id}],"topic":"note","updated":"{time}.0"}}]}}"#
        )
    };
    let mut caller = Caller::new(shop.place());
    // The shop has foreign keys, so rows of it are refused, and the log says why.
    let mut said = String::new();
    wait_until(LIMIT, "foreign keys are refused", async || {
        replicator.must_run()?;
        let answer = caller.post(&row(1, 1)).await;
        said = answer.map(|(status, text)| format!("{status} {text}")).unwrap_or_default();
        Ok(said.starts_with("503 replication of this schema has stopped"))
    })
    .await?;
    let incident = said.split("(incident ").nth(1).and_then(|rest| rest.split(')').next());
    let incident = format!("incident={} ", incident.context("no incident")?);
    let log = replicator.log()?;
    let line = log.lines().find(|line| line.contains(&incident)).context("not in the log")?;
    ensure!(line.contains("--immediate is for tables without foreign keys"), "{line}");
    to.batch_execute(
        "CREATE SCHEMA plain CREATE TABLE note (id INT8 PRIMARY KEY, at INT8 NOT NULL)",
    )
    .await?;
    let place = Where { path: format!("/{DATABASE}/plain"), ..shop.place() };
    let mut caller = Caller::new(place.clone());
    let newest = async || -> Result<String> {
        let sql =
            "SELECT COALESCE(string_agg(id || ':' || at, ' ' ORDER BY id), '') FROM plain.note";
        Ok(to.query_one(sql, &[]).await?.get(0))
    };
    for (bodies, wanted) in [
        ([row(1, 1), row(1, 2), row(1, 3)], "1:3"),
        ([row(1, 2), row(1, 4), row(2, 2)], "1:4 2:2"),
        ([row(1, 1), row(1, 3), row(2, 2)], "1:4 2:2"),
        ([row(3, 9), row(3, 8), row(2, 3)], "1:4 2:3 3:9"),
    ] {
        for body in bodies {
            wait_until(LIMIT, "it is taken", async || {
                replicator.must_run()?;
                Ok(matches!(caller.post(&body).await, Ok((200, _))))
            })
            .await?;
        }
        // What was taken is not lost with the one who took it.
        replicator.kill()?;
        replicator = shop.replicator(&flags)?;
        caller = Caller::new(place.clone());
        wait_until(LIMIT, "the newest rows are there", async || {
            replicator.must_run()?;
            Ok(newest().await? == wanted)
        })
        .await?;
    }
    Ok(())
}
