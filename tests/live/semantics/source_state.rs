//! The source beyond its rows: slots, silence, other clusters, and what the stream costs in memory.
use std::time::Duration;

use anyhow::{Context as _, Result};
use replicator_tests::compare;
use replicator_tests::databases::Databases;
use replicator_tests::pair::{Pair, SLOT};
use replicator_tests::postgres::{self, Options};
use replicator_tests::product::Replicator;
use replicator_tests::wait_until;
use tokio_postgres::Client;

/// The process that serves the slot, if one does.
async fn walsender(client: &Client, slot: &str) -> Result<Option<i32>> {
    let sql = "SELECT active_pid FROM pg_replication_slots WHERE slot_name = $1";
    Ok(client.query_one(sql, &[&slot]).await?.get(0))
}

async fn position(client: &Client, sql: &str) -> Result<i64> {
    // Positions as numbers: PostgreSQL's own subtraction.
    let sql = format!("SELECT (({sql}) - '0/0'::pg_lsn)::int8");
    Ok(client.query_one(&sql, &[]).await?.get(0))
}

#[tokio::test]
async fn w15_an_idle_published_table_beside_a_busy_one_lets_the_slot_advance() -> Result<()> {
    let databases = Databases::create("w15").await?;
    databases.both("CREATE TABLE idle (id int PRIMARY KEY)").await?;
    databases.from.batch_execute("CREATE TABLE busy (id int, v text)").await?;
    databases.publish_as("FOR TABLE idle").await?;
    let mut replicator = databases.replicate(&["--standbyTimeout", "1s"])?;
    databases.confirmed(&mut replicator).await?;
    let confirmed = format!(
        "SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name = '{}'",
        databases.name()
    );
    let held = format!(
        "SELECT restart_lsn FROM pg_replication_slots WHERE slot_name = '{}'",
        databases.name()
    );
    let begin = position(&databases.from, &confirmed).await?;
    let begin_held = position(&databases.from, &held).await?;
    for _ in 0..20 {
        databases
            .from
            .batch_execute(
                "INSERT INTO busy SELECT i, repeat('x', 500) FROM generate_series(1, 1000) i",
            )
            .await?;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    databases.from.batch_execute("CHECKPOINT").await?;
    databases.confirmed(&mut replicator).await?;
    let advanced = position(&databases.from, &confirmed).await? - begin;
    assert!(advanced > 10_000_000, "the slot advanced by {advanced} bytes");
    // The source may remove its log as well, once it has told the decoder of its own transactions.
    wait_until(Duration::from_secs(60), "the source may remove its log", async || {
        replicator.must_run()?;
        databases.from.batch_execute("INSERT INTO busy VALUES (0); CHECKPOINT").await?;
        Ok(position(&databases.from, &held).await? - begin_held > 10_000_000)
    })
    .await?;
    // A second start does not go back.
    let status = replicator.stop(Duration::from_secs(20)).await?;
    assert!(status.success(), "{status}");
    let mut replicator = databases.replicate(&[])?;
    databases.from.batch_execute("INSERT INTO idle VALUES (1)").await?;
    databases.confirmed(&mut replicator).await?;
    assert_eq!(databases.number("SELECT count(*) FROM idle").await?, 1);
    Ok(())
}

/// The server gives up on a reader that says nothing for `wal_sender_timeout`.
#[tokio::test]
async fn w16_the_source_hears_from_us_while_the_target_is_slow() -> Result<()> {
    let options = Options::default().set("wal_sender_timeout", "10s");
    let pair = Pair::start(postgres::major()?, &options).await?;
    let tables = "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (0, 'locked')";
    pair.from.batch_execute(tables).await?;
    pair.to.batch_execute(tables).await?;
    pair.publish().await?;
    let log = postgres::home()?.join("logs").join("w16.log");
    if log.exists() {
        std::fs::remove_file(&log)?;
    }
    // A batch that takes too long would end the run, and with it the connection.
    let mut arguments = pair.arguments(true);
    arguments.extend(["--applyTimeout".to_owned(), "10m".to_owned()]);
    let mut replicator = Replicator::start(&log, arguments)?;
    wait_until(Duration::from_secs(30), "the slot is in use", async || {
        replicator.must_run()?;
        Ok(walsender(&pair.from, SLOT).await?.is_some())
    })
    .await?;
    let sender = walsender(&pair.from, SLOT).await?;

    let other = pair.target.client("shop").await?;
    other.batch_execute("BEGIN; UPDATE t SET v = 'mine' WHERE id = 0").await?;
    // More than the reader may hold, so that it stops reading as well.
    pair.from.batch_execute("UPDATE t SET v = 'blocked'").await?;
    for i in 0..40_i32 {
        let insert =
            "INSERT INTO t SELECT $1 * 10000 + j, (SELECT string_agg(md5(random()::text), '')
                      FROM generate_series(1, 130)) FROM generate_series(1, 1000) j";
        pair.from.execute(insert, &[&(i + 1)]).await?;
    }
    for _ in 0..25 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        replicator.must_run()?;
        let now = walsender(&pair.from, SLOT).await?;
        assert_eq!(now, sender, "the source has cut the connection");
    }
    other.batch_execute("ROLLBACK").await?;
    pair.confirmed(Duration::from_secs(60)).await?;
    let comparison = compare::tables(&pair.from, &pair.to, "public").await?;
    assert!(comparison.is_identical(), "{comparison}");
    Ok(())
}

async fn stopped(replicator: Replicator) -> Result<()> {
    let status = replicator.stop(Duration::from_secs(20)).await?;
    assert!(status.success(), "{status}");
    Ok(())
}

#[tokio::test]
async fn w17_a_position_of_another_cluster_is_refused_with_the_way_out() -> Result<()> {
    let databases = Databases::create("w17").await?;
    let table = "CREATE TABLE t (id int PRIMARY KEY, v text)";
    databases.both(table).await?;
    databases.publish().await?;
    databases.from.batch_execute("INSERT INTO t VALUES (1, 'first source')").await?;
    let mut replicator = databases.replicate(&[])?;
    databases.arrived(&mut replicator).await?;
    stopped(replicator).await?;

    // The target's server plays the source that took the place of the first one.
    let other = databases.target().create_database("w17_other").await?;
    other.batch_execute(table).await?;
    other.batch_execute("CREATE PUBLICATION w17 FOR ALL TABLES").await?;
    other.batch_execute("SELECT pg_create_logical_replication_slot('w17', 'pgoutput')").await?;
    other.batch_execute("INSERT INTO t VALUES (1, 'other source')").await?;
    let conninfo = databases.target().conninfo("w17_other");
    let mut replicator = databases.replicate(&["--sourceConn", &conninfo])?;
    let log = databases.refused(&mut replicator).await?;
    assert!(log.contains("another source"), "{log}");
    assert!(!log.contains("secret"), "{log}");
    assert_eq!(databases.number("SELECT count(*) FROM t WHERE v = 'first source'").await?, 1);

    // The way out works as it is written.
    let sql = log.lines().find_map(|line| line.split_once("DELETE FROM ")).context("no way out")?;
    let sql = format!("DELETE FROM {}", sql.1.trim_end_matches(['"', '.']));
    databases.to.batch_execute(&sql.replace("\\\"", "\"")).await?;
    let mut replicator = databases.replicate(&["--sourceConn", &conninfo])?;
    wait_until(Duration::from_secs(20), "the other source's row arrives", async || {
        replicator.must_run()?;
        Ok(databases.number("SELECT count(*) FROM t WHERE v = 'other source'").await? == 1)
    })
    .await
}

#[tokio::test]
async fn w17_a_slot_that_was_made_again_is_refused_if_changes_may_be_lost() -> Result<()> {
    let databases = Databases::create("w17_slot").await?;
    databases.both("CREATE TABLE t (id int PRIMARY KEY, v text)").await?;
    databases.publish().await?;
    databases.from.batch_execute("INSERT INTO t VALUES (1, 'a')").await?;
    let mut replicator = databases.replicate(&[])?;
    databases.arrived(&mut replicator).await?;
    stopped(replicator).await?;

    let drop_slot = format!("SELECT pg_drop_replication_slot('{}')", databases.name());
    databases.from.batch_execute(&drop_slot).await?;
    databases.from.batch_execute("INSERT INTO t VALUES (2, 'lost')").await?;
    let mut replicator = databases.replicate(&[])?;
    let log = databases.refused(&mut replicator).await?;
    assert!(log.contains("slot") && log.contains("does not exist"), "{log}");

    databases.create_slot().await?;
    databases.from.batch_execute("INSERT INTO t VALUES (3, 'found')").await?;
    let mut replicator = databases.replicate(&[])?;
    let log = databases.refused(&mut replicator).await?;
    let said = log.rsplit("does not exist").next().unwrap_or_default();
    assert!(said.contains("slot"), "{log}");
    assert_eq!(databases.number("SELECT count(*) FROM t").await?, 1);
    Ok(())
}

/// The memory a process has at this moment, in KiB.
fn memory_kib(pid: u32) -> Result<u64> {
    // "VmRSS:    12345 kB", proc(5).
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|text| text.split_whitespace().next()).context("no VmRSS")?;
    Ok(number.parse()?)
}

#[tokio::test]
async fn w36_documents_with_ever_new_names_do_not_fill_the_memory() -> Result<()> {
    let databases = Databases::create("w36").await?;
    databases.both("CREATE TABLE t (id int PRIMARY KEY, v jsonb)").await?;
    databases.publish().await?;
    let mut replicator = databases.replicate(&[])?;
    // 2000 rows with 20 names each that never come again.
    let write = async |round: i32, replicator: &mut Replicator| {
        let sql = "INSERT INTO t SELECT $1 * 10000 + i, (SELECT jsonb_object_agg(md5(format('%s %s %s', $1, i, j)), j)
                   FROM generate_series(1, 20) j) FROM generate_series(1, 2000) i";
        databases.from.execute(sql, &[&round]).await?;
        databases.confirmed(replicator).await
    };
    for round in 0..8 {
        write(round, &mut replicator).await?;
    }
    let before = memory_kib(replicator.pid())?;
    for round in 8..40 {
        write(round, &mut replicator).await?;
    }
    let after = memory_kib(replicator.pid())?;
    // 32 rounds bring 1.3 million names, 40 MB of their letters alone.
    let growth = after.saturating_sub(before);
    assert!(growth < 12 * 1024, "from {before} to {after} KiB");
    databases.identical().await?;
    Ok(())
}
