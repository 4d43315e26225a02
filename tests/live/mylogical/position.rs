//! Where a run goes on, and when it must not.
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use replicator_tests::moving::Moving;
use replicator_tests::mysql::{Kind, Server};
use replicator_tests::wait_until;
use std::sync::Arc;

use super::{ALL_PAIRS, PAIRS, on_both, with_pairs};

const STOP_MAX: Duration = Duration::from_secs(40);

#[tokio::test]
async fn the_next_run_goes_on_where_the_last_one_was_and_repeats_nothing() -> Result<()> {
    on_both(async |kind| {
        let mut moving = Moving::create(kind, "resume").await?;
        let target = "CREATE TABLE pairs (id INT PRIMARY KEY, v VARCHAR(20)); \
                      CREATE TABLE writes (id INT); \
                      CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS \
                        'BEGIN INSERT INTO writes VALUES (NEW.id); RETURN NEW; END'; \
                      CREATE TRIGGER note AFTER INSERT OR UPDATE ON pairs FOR EACH ROW EXECUTE FUNCTION note()";
        moving.tables(PAIRS, target).await?;
        for round in 0..4 {
            let replicator = moving.replicate(&[])?;
            for id in 0..10 {
                moving.run(&format!("INSERT INTO pairs VALUES ({}, 'x')", round * 10 + id))?;
            }
            // Killed at once: what is in the target is mostly beyond the saved position.
            replicator.kill()?;
        }
        let mut replicator = moving.replicate(&["--defaultGTIDSet", "wrong, but a saved position wins"])?;
        moving.confirmed(&mut replicator).await?;
        moving.same(ALL_PAIRS).await?;
        let twice = "SELECT id FROM writes GROUP BY id HAVING count(*) > 1";
        let twice = moving.target_rows(twice).await?;
        ensure!(twice.is_empty(), "written more than once: {twice:?}");
        let status = replicator.stop(STOP_MAX).await?;
        ensure!(status.success(), "{status}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_run_without_any_position_says_how_to_give_one() -> Result<()> {
    on_both(async |kind| {
        let moving = with_pairs(kind, "no_position").await?;
        let mut replicator = moving.replicate(&["--defaultGTIDSet", ""])?;
        let log = moving.databases.refused(&mut replicator).await?;
        ensure!(log.contains("say with --defaultGTIDSet which transactions"), "{log}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_position_that_is_forgotten_begins_again_at_a_new_default() -> Result<()> {
    on_both(async |kind| {
        let moving = with_pairs(kind, "forgotten").await?;
        let begin = moving.executed()?;
        moving.run("INSERT INTO pairs VALUES (1, 'a'); INSERT INTO pairs VALUES (2, 'b')")?;
        let mut replicator = moving.replicate(&[])?;
        moving.arrived(&mut replicator, ALL_PAIRS).await?;
        replicator.kill()?;
        // The operator starts all over: what was applied before is applied again.
        moving
            .to()
            .batch_execute("DELETE FROM _replicator.memo WHERE true; TRUNCATE pairs")
            .await?;
        let mut replicator = moving.replicate(&["--defaultGTIDSet", &begin])?;
        let rows = moving.arrived(&mut replicator, ALL_PAIRS).await?;
        ensure!(rows == ["1\ta", "2\tb"], "{rows:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_position_of_the_older_tool_is_taken_over() -> Result<()> {
    on_both(async |kind| {
        let moving = with_pairs(kind, "taken_over").await?;
        moving.run("INSERT INTO pairs VALUES (1, 'before')")?;
        let old = moving.executed()?;
        moving.run("INSERT INTO pairs VALUES (2, 'after')")?;
        let memo = "CREATE SCHEMA _replicator; \
                    CREATE TABLE _replicator.memo (key TEXT PRIMARY KEY, value BYTEA NOT NULL)";
        moving.to().batch_execute(memo).await?;
        // $1 = the key, $2 = the position.
        let sql = "INSERT INTO _replicator.memo VALUES ($1, convert_to($2, 'UTF8'))";
        let key = format!("mysql-wal-offset-{}.public", moving.name());
        moving.to().execute(sql, &[&key, &old]).await?;
        let mut replicator = moving.replicate(&[])?;
        moving.confirmed(&mut replicator).await?;
        let rows = moving.target_rows(ALL_PAIRS).await?;
        ensure!(rows == ["2\tafter"], "{rows:?}");
        ensure!(replicator.log()?.contains("taking over a saved position"), "it does not say so");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn w15_an_idle_and_a_busy_but_filtered_source_move_the_position() -> Result<()> {
    on_both(async |kind| {
        let moving = with_pairs(kind, "w15").await?;
        let mut replicator = moving.replicate(&[])?;
        let other = format!("{}_busy", moving.name());
        moving.run(&format!("CREATE DATABASE {other}; CREATE TABLE {other}.t (id INT)"))?;
        for id in 0..20 {
            moving.run(&format!("INSERT INTO {other}.t VALUES ({id})"))?;
        }
        // All of it is saved as the position, although nothing of it is for the target.
        moving.confirmed(&mut replicator).await?;
        let rows = moving.target_rows("SELECT count(*) FROM pairs").await?;
        ensure!(rows == ["0"], "{rows:?}");
        Ok(())
    })
    .await
}

/// Ends all files of the binary log but the newest.
async fn purge(source: &Server) -> Result<()> {
    source.run("FLUSH BINARY LOGS")?;
    // MariaDB keeps a file until its storage engines have everything in it on disk.
    wait_until(STOP_MAX, "old files are purged", async || {
        let files = source.run("SHOW BINARY LOGS")?;
        let newest = files.lines().last().and_then(|line| line.split_whitespace().next());
        source.run(&format!("PURGE BINARY LOGS TO '{}'", newest.context("no binary log")?))?;
        Ok(source.run("SHOW BINARY LOGS")?.lines().count() == 1)
    })
    .await
}

#[tokio::test]
async fn w17_a_position_that_was_purged_is_refused_with_the_way_out() -> Result<()> {
    on_both(async |kind| {
        let source = Arc::new(Server::start_source(kind)?);
        let mut moving = Moving::create_on(source, "w17_purged").await?;
        moving.tables(PAIRS, PAIRS).await?;
        moving.run("INSERT INTO pairs VALUES (1, 'gone')")?;
        purge(&moving.source).await?;
        moving.run("INSERT INTO pairs VALUES (2, 'there')")?;
        let mut replicator = moving.replicate(&[])?;
        let log = moving.databases.refused(&mut replicator).await?;
        let wanted = match kind {
            Kind::MySql => "the source has purged transactions that the target lacks",
            Kind::MariaDb => "(error 1236)",
        };
        ensure!(log.contains(wanted), "{log}");
        let rows = moving.target_rows(ALL_PAIRS).await?;
        ensure!(rows.is_empty(), "{rows:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a09_a_log_that_is_purged_while_nothing_happens_stops_nobody() -> Result<()> {
    on_both(async |kind| {
        let source = Arc::new(Server::start_source(kind)?);
        let mut moving = Moving::create_on(source, "a09_purge").await?;
        moving.tables(PAIRS, PAIRS).await?;
        let mut replicator = moving.replicate(&[])?;
        moving.run(
            "CREATE DATABASE busy; CREATE TABLE busy.t (id INT); INSERT INTO busy.t VALUES (1)",
        )?;
        moving.confirmed(&mut replicator).await?;
        replicator.kill()?;
        purge(&moving.source).await?;
        let mut replicator = moving.replicate(&[])?;
        moving.run("INSERT INTO pairs VALUES (1, 'a')")?;
        let rows = moving.arrived(&mut replicator, ALL_PAIRS).await?;
        ensure!(rows == ["1\ta"], "{rows:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn w17_a_position_of_another_server_is_refused() -> Result<()> {
    on_both(async |kind| {
        let moving = with_pairs(kind, "w17_other").await?;
        let other = match kind {
            Kind::MySql => "4c658ae6-e8ad-11ef-8449-0242ac140006:1-29",
            Kind::MariaDb => "0-1-99999999",
        };
        let mut replicator = moving.replicate(&["--defaultGTIDSet", other])?;
        let log = moving.databases.refused(&mut replicator).await?;
        ensure!(log.contains("which the position has: it is another server"), "{log}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a09_domains_of_mariadb_and_tags_of_mysql_are_kept_apart() -> Result<()> {
    on_both(async |kind| {
        let moving = with_pairs(kind, "a09_names").await?;
        let mut replicator = moving.replicate(&[])?;
        let others = match kind {
            Kind::MySql => "SET SESSION gtid_next = 'AUTOMATIC:blue'",
            Kind::MariaDb => "SET SESSION gtid_domain_id = 77",
        };
        for id in 0..5 {
            moving.run(&format!("INSERT INTO pairs VALUES ({id}, 'plain')"))?;
            moving.run(&format!("{others}; INSERT INTO pairs VALUES ({}, 'other')", id + 100))?;
        }
        moving.arrived(&mut replicator, ALL_PAIRS).await?;
        replicator.kill()?;
        moving.run(&format!("{others}; DELETE FROM pairs WHERE id = 103"))?;
        let mut replicator = moving.replicate(&[])?;
        moving.arrived(&mut replicator, ALL_PAIRS).await?;
        let saved = moving.saved().await?.context("nothing is saved")?.to_string();
        let wanted = if kind == Kind::MySql { ":blue:" } else { "77-" };
        ensure!(saved.contains(wanted), "{saved}");
        Ok(())
    })
    .await
}
