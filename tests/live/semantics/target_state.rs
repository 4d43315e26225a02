//! A target that is busy with somebody else: locks, deadlocks, killed sessions. And what is never asked
//! of it.
use std::time::Duration;

use anyhow::{Context as _, Result};
use replicator_tests::databases::Databases;
use replicator_tests::wait_until;

/// Sessions of the target that wait for a lock, other than our own.
const WAITING: &str = "SELECT count(*) FROM pg_stat_activity
                       WHERE datname = current_database() AND wait_event_type = 'Lock'";

#[tokio::test]
async fn w18_a_deadlock_at_the_target_is_tried_again() -> Result<()> {
    let databases = Databases::create("w18").await?;
    databases
        .both(
            "CREATE TABLE parent (id int PRIMARY KEY, v int);
             CREATE TABLE child (id int PRIMARY KEY, parent int REFERENCES parent, v int);
             INSERT INTO parent VALUES (1, 0); INSERT INTO child VALUES (1, 1, 0)",
        )
        .await?;
    databases.publish().await?;
    let mut replicator = databases.replicate(&[])?;
    databases.confirmed(&mut replicator).await?;

    // Of the two in a deadlock the one whose patience ends first is refused, and ours has more.
    let other = databases.target().client(databases.name()).await?;
    other.batch_execute("SET deadlock_timeout = '1h'; BEGIN").await?;
    // Which of the two tables the product touches first is its own affair, so we see to both.
    databases.from.batch_execute("UPDATE parent SET v = 1; UPDATE child SET v = 1").await?;
    databases.confirmed(&mut replicator).await?;
    let sides = [("parent", "child"), ("child", "parent")];
    for (first, second) in sides {
        other.batch_execute(&format!("UPDATE {second} SET v = -1")).await?;
        databases
            .from
            .batch_execute("UPDATE parent SET v = v + 1; UPDATE child SET v = v + 1")
            .await?;
        wait_until(Duration::from_secs(20), "the product waits for the lock", async || {
            replicator.must_run()?;
            Ok(databases.number(WAITING).await? > 0)
        })
        .await?;
        // If it holds the first already, this closes the circle; if not, it just takes it.
        other.batch_execute(&format!("UPDATE {first} SET v = -1")).await?;
        other.batch_execute("ROLLBACK; BEGIN").await?;
        databases.arrived(&mut replicator).await?;
    }
    // The statistics come a little later.
    wait_until(Duration::from_secs(20), "the deadlock is counted", async || {
        let sql = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()";
        Ok(databases.number(sql).await? > 0)
    })
    .await?;
    Ok(())
}

#[tokio::test]
async fn w18_killed_sessions_of_the_target_are_replaced() -> Result<()> {
    let databases = Databases::create("w18_killed").await?;
    databases.both("CREATE TABLE t (id int PRIMARY KEY, v int)").await?;
    databases.publish().await?;
    let mut replicator = databases.replicate(&[])?;
    let writer = databases.source().client(databases.name()).await?;
    let writing = tokio::spawn(async move {
        for i in 0..400 {
            writer.execute("INSERT INTO t VALUES ($1, 0)", &[&i]).await?;
            writer.execute("UPDATE t SET v = v + 1 WHERE id > $1 - 5", &[&i]).await?;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        anyhow::Ok(())
    });
    let mut killed = 0;
    while !writing.is_finished() {
        tokio::time::sleep(Duration::from_millis(400)).await;
        let sql = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                   WHERE datname = current_database() AND pid <> pg_backend_pid()";
        killed += databases.number(sql).await?;
    }
    writing.await??;
    databases.arrived(&mut replicator).await?;
    assert!(killed > 3, "{killed} sessions were killed");
    Ok(())
}

#[tokio::test]
async fn w18_a_killed_walsender_is_replaced() -> Result<()> {
    let databases = Databases::create("w18_sender").await?;
    databases.both("CREATE TABLE t (id int PRIMARY KEY, v int)").await?;
    databases.publish().await?;
    let mut replicator = databases.replicate(&[])?;
    for i in 0..5_i32 {
        databases
            .from
            .execute("INSERT INTO t SELECT $1 * 100 + j, 0 FROM generate_series(1, 50) j", &[&i])
            .await?;
        databases.from.batch_execute("UPDATE t SET v = v + 1").await?;
        databases.confirmed(&mut replicator).await?;
        let sql = "SELECT count(pg_terminate_backend(active_pid)) FROM pg_replication_slots
                   WHERE slot_name = $1 AND active";
        let killed: i64 = databases.from.query_one(sql, &[&databases.name()]).await?.get(0);
        assert_eq!(killed, 1);
    }
    databases.from.batch_execute("DELETE FROM t WHERE id % 2 = 0").await?;
    databases.arrived(&mut replicator).await?;
    Ok(())
}

#[tokio::test]
async fn w21_rows_of_the_target_are_not_read_to_be_written() -> Result<()> {
    let databases = Databases::create("w21").await?;
    databases.both("CREATE TABLE w21_rows (id int PRIMARY KEY, a text, large text)").await?;
    // Columns of the target alone, and large values that are not sent.
    databases
        .to
        .batch_execute("ALTER TABLE w21_rows ADD COLUMN own int DEFAULT 1, ADD COLUMN seen timestamptz DEFAULT now()")
        .await?;
    let log_all = format!("ALTER DATABASE {} SET log_statement = 'all'", databases.name());
    databases.to.batch_execute(&log_all).await?;
    databases.publish().await?;
    let mut replicator = databases.replicate(&[])?;
    databases
        .from
        .batch_execute(
            "INSERT INTO w21_rows SELECT i, 'a', (SELECT string_agg(md5(i::text || j::text), '') FROM generate_series(1, 500) j)
             FROM generate_series(1, 20) i; UPDATE w21_rows SET a = 'b'",
        )
        .await?;
    databases.from.batch_execute("UPDATE w21_rows SET a = 'c' WHERE id < 10").await?;
    databases
        .from
        .batch_execute(
            "INSERT INTO w21_rows VALUES (30, 'a'); UPDATE w21_rows SET id = id + 100 WHERE id = 30; DELETE FROM w21_rows WHERE id > 15",
        )
        .await?;
    databases.confirmed(&mut replicator).await?;
    let log = std::fs::read_to_string(databases.target().log()).context("the log of the target")?;
    let ours: Vec<String> = statements(&log).filter(|sql| sql.contains("w21_rows")).collect();
    assert!(ours.iter().any(|sql| sql.contains("insert into")), "{ours:?}");
    let reads = |sql: &&String| {
        let written = sql.replace("delete from", "delete");
        written.contains("from \"public\".\"w21_rows\"")
            || written.contains("from public.w21_rows")
            || written.contains("join \"public\".\"w21_rows\"")
    };
    let reads: Vec<&String> = ours.iter().filter(reads).collect();
    assert!(reads.is_empty(), "the target is read: {reads:?}");
    Ok(())
}

/// The statements of a server's log, in lower case, each on one line.
fn statements(log: &str) -> impl Iterator<Item = String> {
    let entries = log.split(" LOG:  ").map(|entry| entry.to_lowercase().replace(['\n', '\t'], " "));
    entries.filter(|entry| entry.starts_with("statement: ") || entry.starts_with("execute "))
}
