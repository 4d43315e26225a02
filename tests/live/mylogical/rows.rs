//! What a change means, and in which order changes arrive.
use anyhow::{Result, ensure};
use replicator_tests::moving::Moving;
use replicator_tests::mysql::Server;
use std::sync::Arc;
use std::time::Duration;

use super::{ALL_PAIRS, PAIRS, on_both, with_pairs};

/// Makes tables on both sides, runs transactions, once as a backlog and once one after another, and compares.
async fn check(
    name: &str,
    tables: [&str; 2],
    transactions: &[&str],
    compare: &[&str],
) -> Result<()> {
    on_both(async |kind| {
        let [source, target] = tables;
        let mut together = Moving::create(kind, &format!("{name}_together")).await?;
        together.tables(source, target).await?;
        together.run(&transactions.join("; "))?;
        let mut replicator = together.replicate(&[])?;
        for sql in compare {
            together.arrived(&mut replicator, sql).await?;
        }
        let mut alone = Moving::create(kind, &format!("{name}_alone")).await?;
        alone.tables(source, target).await?;
        let mut replicator = alone.replicate(&[])?;
        for transaction in transactions {
            alone.run(transaction)?;
            for sql in compare {
                let arrived = alone.arrived(&mut replicator, sql).await;
                arrived.map_err(|error| error.context(format!("after {transaction}")))?;
            }
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a02_changes_of_one_row_in_one_transaction_end_as_at_the_source() -> Result<()> {
    let table = "CREATE TABLE t (id INT PRIMARY KEY, v INT)";
    let digit = "(SELECT 0 d UNION ALL SELECT 1 UNION ALL SELECT 2 UNION ALL SELECT 3 UNION ALL SELECT 4 \
                  UNION ALL SELECT 5 UNION ALL SELECT 6 UNION ALL SELECT 7 UNION ALL SELECT 8 UNION ALL SELECT 9)";
    let numbers = format!(
        "SELECT a.d + 10 * b.d + 100 * c.d + 1000 * e.d + 1 AS id FROM {digit} a, {digit} b, {digit} c, {digit} e \
          WHERE e.d < 5"
    );
    let many = format!(
        "BEGIN; INSERT INTO t SELECT id, id FROM ({numbers}) n; UPDATE t SET v = v + 1; \
         DELETE FROM t WHERE id % 3 = 0; INSERT INTO t SELECT id + 10000, v FROM t WHERE id % 3 = 1; \
         DELETE FROM t WHERE id BETWEEN 1 AND 5000; COMMIT"
    );
    let again = "BEGIN; UPDATE t SET v = v - 1; DELETE FROM t WHERE id % 2 = 0; UPDATE t SET id = -id; COMMIT";
    check(
        "a02",
        [table, table],
        &[
            "BEGIN; INSERT INTO t VALUES (-1, 1); DELETE FROM t WHERE id = -1; COMMIT",
            "BEGIN; INSERT INTO t VALUES (-2, 1); UPDATE t SET v = 2 WHERE id = -2; COMMIT",
            "BEGIN; DELETE FROM t WHERE id = -2; INSERT INTO t VALUES (-2, 3); COMMIT",
            "BEGIN; UPDATE t SET v = 4 WHERE id = -2; UPDATE t SET v = 5 WHERE id = -2; \
             DELETE FROM t WHERE id = -2; COMMIT",
            "BEGIN; INSERT INTO t VALUES (-3, 1), (-4, 2); UPDATE t SET v = 9 WHERE id < 0; \
             DELETE FROM t WHERE id = -4; INSERT INTO t VALUES (-4, 8); COMMIT",
            &many,
            again,
        ],
        &["SELECT id, v FROM t ORDER BY id"],
    )
    .await
}

#[tokio::test]
async fn a03_w12_keys_move_and_values_go_from_row_to_row() -> Result<()> {
    let tables = "CREATE TABLE parents (id INT PRIMARY KEY, name VARCHAR(10) UNIQUE); \
                  CREATE TABLE children (id INT PRIMARY KEY, parent INT, next INT, \
                    FOREIGN KEY (parent) REFERENCES parents (id), \
                    FOREIGN KEY (next) REFERENCES children (id))";
    check(
        "a03",
        [tables, tables],
        &[
            "INSERT INTO parents VALUES (1, 'a'), (2, 'b')",
            "INSERT INTO children VALUES (1, 1, NULL), (2, 2, 1)",
            // A key changes, and the old row must not stay.
            "UPDATE parents SET id = 20 WHERE name = 'a' AND id NOT IN (1, 2)",
            "BEGIN; INSERT INTO parents VALUES (3, 'c'); UPDATE children SET parent = 3 WHERE id = 1; \
             DELETE FROM parents WHERE id = 1; COMMIT",
            "UPDATE children SET id = 7 WHERE id = 2",
            // Two rows exchange what is unique.
            "BEGIN; UPDATE parents SET name = 'x' WHERE id = 2; UPDATE parents SET name = 'b' WHERE id = 3; \
             UPDATE parents SET name = 'c' WHERE id = 2; COMMIT",
            // Child first, and a loop.
            "BEGIN; SET foreign_key_checks = 0; INSERT INTO children VALUES (30, 2, 31), (31, 2, 30); \
             SET foreign_key_checks = 1; COMMIT; BEGIN; UPDATE children SET next = NULL WHERE id = 31; \
             DELETE FROM children WHERE id = 30; DELETE FROM children WHERE id = 31; COMMIT",
        ],
        &[
            "SELECT id, name FROM parents ORDER BY id",
            "SELECT id, parent, next FROM children ORDER BY id",
        ],
    )
    .await
}

#[tokio::test]
async fn w13_rows_of_other_databases_and_tables_of_other_names_stay_away() -> Result<()> {
    on_both(async |kind| {
        let moving = with_pairs(kind, "w13_others").await?;
        let other = format!("{}_other", moving.name());
        moving.run(&format!("CREATE DATABASE {other}; CREATE TABLE {other}.pairs LIKE pairs"))?;
        moving.run(&format!("INSERT INTO {other}.pairs VALUES (1, 'away')"))?;
        moving.run(&format!(
            "BEGIN; INSERT INTO pairs VALUES (2, 'here'); INSERT INTO {other}.pairs VALUES (3, 'away'); COMMIT"
        ))?;
        let mut replicator = moving.replicate(&[])?;
        let rows = moving.arrived(&mut replicator, ALL_PAIRS).await?;
        ensure!(rows == ["2\there"], "{rows:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn w11_equal_rows_of_a_table_without_a_key_all_arrive() -> Result<()> {
    on_both(async |kind| {
        let mut moving = Moving::create(kind, "w11").await?;
        let table = "CREATE TABLE bare (v INT)";
        moving.tables(table, table).await?;
        moving.run("INSERT INTO bare VALUES (1), (1), (NULL), (2); INSERT INTO bare VALUES (1)")?;
        let mut replicator = moving.replicate(&[])?;
        let rows =
            moving.arrived(&mut replicator, "SELECT v FROM bare ORDER BY v IS NULL, v").await?;
        ensure!(rows == ["1", "1", "1", "2", "NULL"], "{rows:?}");
        // Which of them is meant nobody can say.
        moving.run("DELETE FROM bare WHERE v = 2")?;
        let wanted = "has no primary key";
        replicator_tests::wait_until(Duration::from_secs(30), wanted, async || {
            Ok(replicator.log()?.contains(wanted))
        })
        .await
    })
    .await
}

#[tokio::test]
async fn w13_savepoints_and_tables_without_transactions_count() -> Result<()> {
    on_both(async |kind| {
        let mut moving = Moving::create(kind, "w13_engines").await?;
        let mixed = "CREATE TABLE pairs (id INT PRIMARY KEY, v VARCHAR(20)) ENGINE=InnoDB; \
                     CREATE TABLE plain (id INT PRIMARY KEY, v VARCHAR(20)) ENGINE=MyISAM";
        let tables = "CREATE TABLE pairs (id INT PRIMARY KEY, v VARCHAR(20)); \
                      CREATE TABLE plain (id INT PRIMARY KEY, v VARCHAR(20))";
        moving.tables(mixed, tables).await?;
        let mut replicator = moving.replicate(&[])?;
        moving.run("INSERT INTO plain VALUES (1, 'a'), (2, 'b'); UPDATE plain SET v = 'c' WHERE id = 2")?;
        moving.run("DELETE FROM plain WHERE id = 1; INSERT INTO pairs VALUES (1, 'x')")?;
        moving.run(
            "BEGIN; INSERT INTO pairs VALUES (2, 'kept'); SAVEPOINT s; INSERT INTO pairs VALUES (3, 'undone'); \
             ROLLBACK TO s; INSERT INTO pairs VALUES (4, 'kept'); COMMIT",
        )?;
        moving.run("BEGIN; INSERT INTO pairs VALUES (5, 'never'); ROLLBACK")?;
        let pairs = moving.arrived(&mut replicator, ALL_PAIRS).await?;
        ensure!(pairs == ["1\tx", "2\tkept", "4\tkept"], "{pairs:?}");
        let plain = moving.same("SELECT id, v FROM plain ORDER BY id").await?;
        ensure!(plain == ["2\tc"], "{plain:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn w13_xa_transactions_count_when_their_outcome_is_known() -> Result<()> {
    on_both(async |kind| {
        // Of its own: XA transactions that others prepared would be in their way.
        let source = Arc::new(Server::start_source(kind)?);
        let mut moving = Moving::create_on(source, "w13_xa").await?;
        moving.tables(PAIRS, PAIRS).await?;
        let name = moving.name().to_owned();
        let begin = |id: u32| {
            format!(
                "XA START '{name}{id}'; INSERT INTO pairs VALUES ({id}, 'xa'); XA END '{name}{id}'; \
                 XA PREPARE '{name}{id}'"
            )
        };
        let mut replicator = moving.replicate(&[])?;
        moving.run(&format!("{}; XA COMMIT '{name}1'", begin(1)))?;
        moving.run(&begin(2))?;
        moving.run(&begin(3))?;
        moving.run("INSERT INTO pairs VALUES (10, 'later')")?;
        // Until there is an outcome the position stays before it, so all of it comes again to the next run.
        let arrives = async |ids: &str| {
            let wanted: Vec<String> = ids.split(' ').map(str::to_owned).collect();
            replicator_tests::wait_until(Duration::from_secs(60), ids, async || {
                Ok(moving.target_rows("SELECT id FROM pairs ORDER BY id").await? == wanted)
            })
            .await
        };
        arrives("1 10").await?;
        replicator.signal("KILL")?;
        replicator.wait(Duration::from_secs(10)).await?;
        moving.run(&format!("XA COMMIT '{name}2'; INSERT INTO pairs VALUES (11, 'after')"))?;
        let mut replicator = moving.replicate(&[])?;
        arrives("1 2 10 11").await?;
        moving.run(&format!("XA ROLLBACK '{name}3'; INSERT INTO pairs VALUES (12, 'last')"))?;
        let rows = moving.arrived(&mut replicator, ALL_PAIRS).await?;
        ensure!(rows.len() == 5, "{rows:?}");
        Ok(())
    })
    .await
}

/// MySQL 9.7 logs what foreign keys change, MariaDB leaves it to whoever applies the log.
#[tokio::test]
async fn what_foreign_keys_change_by_themselves_changes_in_the_target_too() -> Result<()> {
    let tables = "CREATE TABLE parents (id INT PRIMARY KEY, name VARCHAR(10)); \
                  CREATE TABLE children (id INT PRIMARY KEY, parent INT, \
                    FOREIGN KEY (parent) REFERENCES parents (id) ON DELETE CASCADE ON UPDATE CASCADE); \
                  CREATE TABLE orphans (id INT PRIMARY KEY, parent INT, \
                    FOREIGN KEY (parent) REFERENCES parents (id) ON DELETE SET NULL ON UPDATE SET NULL)";
    check(
        "cascades",
        [tables, tables],
        &[
            "INSERT INTO parents VALUES (1, 'a'), (2, 'b'), (3, 'c'), (4, 'd'), (5, 'e')",
            "INSERT INTO children VALUES (10, 1), (11, 1), (20, 2), (30, 3), (40, 4)",
            "INSERT INTO orphans VALUES (10, 1), (20, 2), (30, 3), (50, 5)",
            "UPDATE parents SET id = 100 WHERE id = 1",
            // The parent is there again, the children are not.
            "BEGIN; DELETE FROM parents WHERE id = 2; INSERT INTO parents VALUES (2, 'again'); COMMIT",
            "BEGIN; INSERT INTO children VALUES (31, 3); UPDATE parents SET id = 300 WHERE id = 3; \
             UPDATE children SET id = 32 WHERE id = 31; COMMIT",
            "UPDATE parents SET id = id + 1000 WHERE id IN (4, 5)",
            "DELETE FROM parents WHERE id = 1004",
        ],
        &[
            "SELECT id, name FROM parents ORDER BY id",
            "SELECT id, parent FROM children ORDER BY id",
            "SELECT id, parent FROM orphans ORDER BY id",
        ],
    )
    .await
}

/// A copy may be newer than the position that it is said to be of.
#[tokio::test]
async fn a_new_key_that_the_target_has_already_does_no_harm() -> Result<()> {
    let tables = "CREATE TABLE parents (id INT PRIMARY KEY, name VARCHAR(10)); \
                  CREATE TABLE children (id INT PRIMARY KEY, parent INT, \
                    FOREIGN KEY (parent) REFERENCES parents (id) ON DELETE CASCADE ON UPDATE CASCADE)";
    on_both(async |kind| {
        let mut moving = Moving::create(kind, "moved").await?;
        moving.tables(tables, tables).await?;
        moving.run("INSERT INTO parents VALUES (1, 'a'); INSERT INTO children VALUES (10, 1)")?;
        let begin = moving.executed()?;
        moving.run("UPDATE parents SET id = 100 WHERE id = 1")?;
        let copy = "INSERT INTO parents VALUES (100, 'a'); INSERT INTO children VALUES (10, 100)";
        moving.to().batch_execute(copy).await?;
        let mut replicator = moving.replicate(&["--defaultGTIDSet", &begin])?;
        let rows = moving.arrived(&mut replicator, "SELECT id, name FROM parents").await?;
        ensure!(rows == ["100\ta"], "{rows:?}");
        let rows = moving.same("SELECT id, parent FROM children").await?;
        ensure!(rows == ["10\t100"], "{rows:?}");
        Ok(())
    })
    .await
}

/// A transaction of 32 MiB goes to the target in pieces and is committed there as a whole, in little memory, and also
/// if the program dies in the midst of it.
#[tokio::test]
async fn a_transaction_larger_than_memory_arrives_whole() -> Result<()> {
    on_both(async |kind| {
        let mut moving = Moving::create(kind, "large_tx").await?;
        let table = "CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(300))";
        moving.tables(table, table).await?;
        let limits = ["--memoryLimit", "16MiB"];
        let mut replicator = moving.replicate(&limits)?;
        // Each statement doubles the rows.
        let doubled: String = (0..17)
            .map(|power| {
                let many = 1_u32 << power;
                format!("INSERT INTO t SELECT id + {many}, v FROM t; ")
            })
            .collect();
        moving.run(&format!(
            "BEGIN; INSERT INTO t VALUES (0, REPEAT('x', 240)); {doubled} UPDATE t SET v = 'y' WHERE id < 1000; COMMIT"
        ))?;
        let mut seen = Vec::new();
        for _ in 0..3 {
            tokio::time::sleep(Duration::from_millis(700)).await;
            seen.extend(moving.target_rows("SELECT count(*) FROM t").await?);
            replicator.must_run()?;
            replicator.kill()?;
            replicator = moving.replicate(&limits)?;
        }
        moving.confirmed(&mut replicator).await?;
        ensure!(seen.iter().all(|count| count == "0" || count == "131072"), "{seen:?}");
        moving.same("SELECT count(*), sum(id), min(v) FROM t").await?;
        let peak = replicator.memory_peak_kib();
        ensure!(peak < 160 << 10, "{peak} KiB of memory");
        Ok(())
    })
    .await
}
