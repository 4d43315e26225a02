//! `--bestEffortOnly` and `--bestEffortWindow`: rows that depend on no other row do not wait.
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use replicator_tests::feeder::{Caller, Where};
use replicator_tests::pair::DATABASE;
use replicator_tests::product::Replicator;
use replicator_tests::wait_until;
use replicator_tests::workload::Load;

use super::progress::resolved;
use super::{FIRST_ROWS, LIMIT, OPEN, PLAN, PROGRESS, open};

const BEST: &[&str] = &["--bestEffortOnly", OPEN[0]];

/// Longer than a row stays that is applied and covered by its lane's checkpoint.
const FORGOTTEN: Duration = Duration::from_secs(3);

/// A child and its parent wait for a promise, a note does not. Whoever is killed, and whatever the next one is
/// told to wait for, no note goes back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn w03_rows_that_depend_on_others_wait_and_the_others_do_not() -> Result<()> {
    let shop = open("best_effort").await?;
    let to = shop.to()?;
    to.batch_execute(
        "CREATE SCHEMA mixed \
         CREATE TABLE note (id INT8 PRIMARY KEY, at INT8 NOT NULL) \
         CREATE TABLE parent (id INT8 PRIMARY KEY, at INT8 NOT NULL) \
         CREATE TABLE child (id INT8 PRIMARY KEY REFERENCES parent, at INT8 NOT NULL)",
    )
    .await?;
    let place = Where { path: format!("/{DATABASE}/mixed"), ..shop.place() };
    let row = |table: &str, id: u32, time: u32| {
        format!(
            r#"{{"payload":[{{"after":{{"id":{id},"at":{time}}},"key":[{id}],"topic":"{table}","updated":"{time}.0"}}]}}"#
        )
    };
    let shown = async || -> Result<String> {
        let sql = "SELECT COALESCE(string_agg(t || id || ':' || at, ' ' ORDER BY t, id), '') FROM \
                   (SELECT 'c' AS t, * FROM mixed.child UNION ALL SELECT 'n', * FROM mixed.note \
                    UNION ALL SELECT 'p', * FROM mixed.parent) AS x";
        Ok(to.query_one(sql, &[]).await?.get(0))
    };
    let promise = r#"{"resolved":"20.0"}"#.to_owned();
    for (flags, bodies, wanted) in [
        (BEST, vec![row("child", 1, 5), row("note", 1, 9), row("parent", 1, 5)], "n1:9"),
        // Nobody says any more that notes need not wait; but they have not, and that is heeded.
        (OPEN, vec![row("note", 1, 8), row("note", 2, 7)], "n1:9"),
        (BEST, vec![row("note", 1, 10), row("note", 1, 7)], "n1:10 n2:7"),
        (
            OPEN,
            vec![row("child", 2, 20), row("parent", 2, 20), promise],
            "c1:5 c2:20 n1:10 n2:7 p1:5 p2:20",
        ),
        (
            OPEN,
            vec![row("note", 1, 9), row("note", 2, 30), row("note", 3, 20)],
            "c1:5 c2:20 n1:10 n2:7 p1:5 p2:20",
        ),
        (BEST, vec![], "c1:5 c2:20 n1:10 n2:30 n3:20 p1:5 p2:20"),
    ] {
        let mut replicator = shop.replicator(flags)?;
        let mut caller = Caller::new(place.clone());
        for body in bodies {
            caller.bring(&mut replicator, &body, LIMIT).await?;
        }
        wait_until(LIMIT, &format!("it is {wanted}"), async || {
            replicator.must_run()?;
            Ok(shown().await? == wanted)
        })
        .await?;
        replicator.kill()?;
    }
    Ok(())
}

/// A note did not wait, and then notes become related to others. What a feed brings again of it is no news, though
/// the note is forgotten.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a04_a_table_that_is_related_from_now_on_shows_nothing_older() -> Result<()> {
    let shop = open("joins").await?;
    let (staging, _client) = shop.staging().await?;
    let staged = ["--stagingConn", &staging, "--stagingCreateSchema"];
    for (schema, staged) in [("in_file", &[][..]), ("in_database", &staged)] {
        let to = shop.to()?;
        to.batch_execute(&format!(
            "CREATE SCHEMA {schema} CREATE TABLE note (id INT8 PRIMARY KEY, at INT8 NOT NULL) \
             CREATE TABLE alone (id INT8 PRIMARY KEY) \
             CREATE TABLE parent (id INT8 PRIMARY KEY) \
             CREATE TABLE child (id INT8 PRIMARY KEY REFERENCES parent)"
        ))
        .await?;
        let flags = [BEST, staged].concat();
        let place = Where { path: format!("/{DATABASE}/{schema}"), ..shop.place() };
        let bring = async |replicator: &mut Replicator, body: &str| {
            Caller::new(place.clone()).bring(replicator, body, LIMIT).await
        };
        let shows = async |id: i64, at: i64| {
            let sql = format!("SELECT 1 FROM {schema}.note WHERE id = $1 AND at = $2");
            Ok(to.query_opt(&sql, &[&id, &at]).await?.is_some())
        };
        let mut replicator = shop.replicator(&flags)?;
        bring(&mut replicator, &note(1, 9)).await?;
        wait_until(LIMIT, "it is there", async || shows(1, 9).await).await?;
        // It is forgotten when a checkpoint is saved.
        tokio::time::sleep(FORGOTTEN).await;
        replicator.kill()?;
        to.batch_execute(&format!("ALTER TABLE {schema}.note ADD UNIQUE (at)")).await?;

        let mut replicator = shop.replicator(&flags)?;
        for body in [&note(1, 5), &note(2, 21), r#"{"resolved":"22.0"}"#] {
            bring(&mut replicator, body).await?;
        }
        wait_until(LIMIT, "the second one is there", async || shows(2, 21).await).await?;
        ensure!(shows(1, 9).await?, "{schema}: an older value of the first one is shown");
        replicator.kill()?;
    }
    Ok(())
}

/// A note is on its way, in a lane of its own, and what is newer is in the target in the other one. Then notes become
/// related, or what is in the target does not need to wait any more. What the target has of the one lane says nothing
/// of the other one's rows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a04_a_table_that_is_in_another_lane_from_now_on_loses_nothing() -> Result<()> {
    let shop = open("changes_lane").await?;
    let to = shop.to()?;
    let mut blocker = shop.target()?.client(DATABASE).await?;
    for (schema, first, second, change) in [
        ("joins", "note", "parent", "ALTER TABLE joins.note ADD UNIQUE (at)"),
        ("leaves", "child", "alone", "ALTER TABLE leaves.child DROP CONSTRAINT child_id_fkey"),
    ] {
        to.batch_execute(&format!(
            "CREATE SCHEMA {schema} CREATE TABLE note (id INT8 PRIMARY KEY, at INT8) \
             CREATE TABLE alone (id INT8 PRIMARY KEY, at INT8) \
             CREATE TABLE parent (id INT8 PRIMARY KEY, at INT8 UNIQUE) \
             CREATE TABLE child (id INT8 PRIMARY KEY REFERENCES parent, at INT8); \
             SET search_path = {schema}; {PROGRESS}; SET search_path = public; \
             INSERT INTO {schema}.parent VALUES (1, 1)"
        ))
        .await?;
        let flags = [BEST, &["--targetProgressTable", "done"]].concat();
        let place = Where { path: format!("/{DATABASE}/{schema}"), ..shop.place() };
        let row = |table: &str, time: u32| {
            format!(
                r#"{{"payload":[{{"after":{{"id":1,"at":{time}}},"key":[1],"topic":"{table}","updated":"{time}.0"}}]}}"#
            )
        };
        let has = async |table: &str, at: i64| {
            let sql = format!("SELECT 1 FROM {schema}.{table} WHERE at = $1");
            Ok(to.query_opt(&sql, &[&at]).await?.is_some())
        };
        let blocked = blocker.transaction().await?;
        blocked.batch_execute(&format!("LOCK TABLE {schema}.{first} IN SHARE MODE")).await?;
        let mut replicator = shop.replicator(&flags)?;
        let mut caller = Caller::new(place.clone());
        for body in [resolved(5), row(first, 10), row(second, 20), resolved(21)] {
            caller.bring(&mut replicator, &body, LIMIT).await?;
        }
        let waits = "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
        wait_until(LIMIT, "it waits", async || Ok(!to.query(waits, &[]).await?.is_empty())).await?;
        wait_until(LIMIT, "the newer one is there", async || has(second, 20).await).await?;
        replicator.kill()?;
        to.query(&format!("SELECT pg_terminate_backend(pid) FROM ({waits}) AS x"), &[]).await?;
        blocked.rollback().await?;
        ensure!(!has(first, 10).await?, "{schema}: it did not wait");
        to.batch_execute(change).await?;

        let mut replicator = shop.replicator(&flags)?;
        let mut caller = Caller::new(place);
        caller.bring(&mut replicator, &resolved(30), LIMIT).await?;
        let all = wait_until(Duration::from_secs(30), "both are there", async || {
            replicator.must_run()?;
            Ok(has(first, 10).await? && has(second, 20).await?)
        });
        all.await.with_context(|| schema.to_owned())?;
        replicator.kill()?;
    }
    Ok(())
}

fn note(id: u32, time: u32) -> String {
    format!(
        r#"{{"payload":[{{"after":{{"id":{id},"at":{time}}},"key":[{id}],"topic":"note","updated":"{time}.0"}}]}}"#
    )
}

/// A busy shop, staged in a database, under one program after the other that each wait for something else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_busy_shop_goes_back_whatever_its_rows_wait_for() -> Result<()> {
    let shop = open("modes").await?;
    let (staging, _client) = shop.staging().await?;
    let to = shop.to()?;
    to.batch_execute(PROGRESS).await?;
    let flags = |number: usize| {
        let mode: &[&str] = match number % 3 {
            0 => &["--bestEffortOnly"],
            1 => &["--bestEffortWindow", "1s"],
            _ => &[],
        };
        let staged = ["--stagingConn", &staging, "--stagingCreateSchema", OPEN[0]];
        let progress: &[&str] =
            if number.is_multiple_of(2) { &["--targetProgressTable", "done"] } else { &[] };
        [staged.as_slice(), mode, progress].concat()
    };
    let mut replicator = shop.replicator(&flags(0))?;
    let mut feeder = shop.feed(&shop.place(), 7).await?;
    let load = Load::start(&shop.source.conninfo(DATABASE), PLAN).await?;
    for kill in 1..=6 {
        wait_until(LIMIT, "some rows are sent", async || {
            replicator.must_run()?;
            Ok(u64::try_from(kill * 3_000)? < feeder.rows()?)
        })
        .await?;
        replicator.kill()?;
        replicator = shop.replicator(&flags(kill))?;
    }
    load.finish(&shop.source.conninfo(DATABASE)).await?;
    feeder.sent(&shop.from, LIMIT).await?;
    shop.equal(&mut replicator, LIMIT).await?;
    let status = replicator.stop(LIMIT).await?;
    ensure!(status.success(), "an orderly stop ends with {status}");
    ensure!(FIRST_ROWS < u32::try_from(feeder.rows()?)?, "the feed brought too little");
    Ok(())
}
