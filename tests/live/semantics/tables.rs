//! Tables without a key, in several schemas, in partitions, truncated; transactions out of the ordinary.
use std::time::Duration;

use anyhow::Result;
use replicator_tests::databases::Databases;
use replicator_tests::product::Replicator;
use replicator_tests::wait_until;

use super::check;

#[tokio::test]
async fn w11_a_table_without_a_key_is_refused_with_the_way_out() -> Result<()> {
    let databases = Databases::create("w11").await?;
    databases
        .both(
            "CREATE TABLE keyless (a int NOT NULL, b text);
             CREATE TABLE keyed (id int PRIMARY KEY, b text)",
        )
        .await?;
    databases.publish().await?;
    databases.from.batch_execute("INSERT INTO keyless VALUES (1, 'x'), (1, 'x')").await?;
    let mut replicator = databases.replicate(&[])?;
    let log = databases.refused(&mut replicator).await?;
    assert!(log.contains("keyless") && log.contains("no usable key"), "{log}");
    assert!(!log.contains("\"keyed\""), "{log}");
    assert_eq!(databases.number("SELECT count(*) FROM keyless").await?, 0);
    Ok(())
}

#[tokio::test]
async fn w11_rows_without_a_key_at_the_source_arrive_by_the_key_of_the_target() -> Result<()> {
    let databases = Databases::create("w11_target").await?;
    databases.from.batch_execute("CREATE TABLE t (id int NOT NULL, v text)").await?;
    databases.to.batch_execute("CREATE TABLE t (id int PRIMARY KEY, v text)").await?;
    databases.from.batch_execute("ALTER TABLE t REPLICA IDENTITY FULL").await?;
    databases.publish().await?;
    let mut replicator = databases.replicate(&[])?;
    databases
        .from
        .batch_execute(
            "INSERT INTO t SELECT i, 'x' FROM generate_series(1, 100) i; UPDATE t SET v = 'y' WHERE id < 50;
             UPDATE t SET id = id + 1000 WHERE id > 90; DELETE FROM t WHERE id = 1",
        )
        .await?;
    databases.confirmed(&mut replicator).await?;
    let sum = "SELECT sum(id * (CASE v WHEN 'y' THEN 2 ELSE 1 END)) FROM t";
    let source: i64 = databases.from.query_one(sum, &[]).await?.get(0);
    assert_eq!(databases.number(sum).await?, source);
    Ok(())
}

#[tokio::test]
async fn w42_tables_of_the_same_name_in_two_schemas_are_refused() -> Result<()> {
    let databases = Databases::create("w42_schemas").await?;
    databases.both("CREATE TABLE t (id int PRIMARY KEY, v text)").await?;
    databases
        .from
        .batch_execute("CREATE SCHEMA other; CREATE TABLE other.t (id int PRIMARY KEY, v text)")
        .await?;
    databases.publish_as("FOR TABLE public.t, other.t").await?;
    let mut replicator = databases.replicate(&[])?;
    let log = databases.refused(&mut replicator).await?;
    assert!(log.contains("\"public\".\"t\"") && log.contains("\"other\".\"t\""), "{log}");

    // One of them alone goes to the target schema, whatever its own is called.
    let alter = |table: &str| format!("ALTER PUBLICATION {} SET TABLE {table}", databases.name());
    databases.from.batch_execute(&alter("other.t")).await?;
    let mut replicator = databases.replicate(&[])?;
    let insert = "INSERT INTO t VALUES (1, 'public'); INSERT INTO other.t VALUES (2, 'other')";
    databases.from.batch_execute(insert).await?;
    databases.confirmed(&mut replicator).await?;
    assert_eq!(databases.number("SELECT count(*) FROM t WHERE id = 2 AND v = 'other'").await?, 1);
    assert_eq!(databases.number("SELECT count(*) FROM t").await?, 1);

    // If the second one comes while it runs, it does not mix the two.
    databases.from.batch_execute(&alter("other.t, public.t")).await?;
    databases.from.batch_execute("UPDATE t SET v = 'mixed', id = 2").await?;
    databases.from.batch_execute("UPDATE other.t SET v = 'later'").await?;
    let log = databases.refused(&mut replicator).await?;
    assert!(log.contains("\"public\".\"t\"") && log.contains("\"other\".\"t\""), "{log}");
    assert_eq!(databases.number("SELECT count(*) FROM t WHERE v = 'other'").await?, 1);
    Ok(())
}

const PARTITIONED: &str = "
    CREATE TABLE p (id int, day date, v text, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
    CREATE TABLE p_1 PARTITION OF p FOR VALUES FROM ('2024-01-01') TO ('2024-02-01');
    CREATE TABLE p_2 PARTITION OF p FOR VALUES FROM ('2024-02-01') TO ('2024-03-01');
    CREATE TABLE p_x PARTITION OF p DEFAULT;";

const PARTITION_CHANGES: &str = "
    INSERT INTO p SELECT i, date '2024-01-01' + i, 'v' || i FROM generate_series(0, 80) i;
    UPDATE p SET v = v || '!' WHERE id % 3 = 0;
    DELETE FROM p WHERE id % 5 = 0;
    UPDATE p SET day = day + 31 WHERE id % 7 = 0";

#[tokio::test]
async fn w42_partitions_are_followed_one_by_one() -> Result<()> {
    let databases = Databases::create("w42_partitions").await?;
    databases.both(PARTITIONED).await?;
    databases.publish().await?;
    let mut replicator = databases.replicate(&[])?;
    databases.from.batch_execute(PARTITION_CHANGES).await?;
    let comparison = databases.arrived(&mut replicator).await?;
    assert_eq!(comparison.identical(), 64);
    Ok(())
}

#[tokio::test]
async fn w42_a_partitioned_table_is_followed_through_its_root() -> Result<()> {
    let databases = Databases::create("w42_root").await?;
    databases.from.batch_execute(PARTITIONED).await?;
    databases
        .to
        .batch_execute("CREATE TABLE p (id int, day date, v text, PRIMARY KEY (id, day))")
        .await?;
    let through_root = databases.major() >= 13;
    let clauses = if through_root {
        "FOR TABLE p WITH (publish_via_partition_root = true)"
    } else {
        "FOR TABLE p_1, p_2, p_x"
    };
    databases.publish_as(clauses).await?;
    let mut replicator = databases.replicate(&[])?;
    databases.from.batch_execute(PARTITION_CHANGES).await?;
    if through_root {
        let comparison = databases.arrived(&mut replicator).await?;
        assert_eq!(comparison.identical(), 64);
    } else {
        // This version sends partitions only, and the target has none of them.
        let log = databases.refused(&mut replicator).await?;
        assert!(log.contains("\"p_1\" does not exist on the target"), "{log}");
    }
    Ok(())
}

const TRUNCATED: &str = "
    CREATE TABLE parent (id int PRIMARY KEY, v text);
    CREATE TABLE child (id int PRIMARY KEY, parent int REFERENCES parent);
    CREATE TABLE other (id int PRIMARY KEY);
    INSERT INTO parent SELECT i FROM generate_series(1, 10) i;
    INSERT INTO child SELECT i, i FROM generate_series(1, 10) i;
    INSERT INTO other SELECT generate_series(1, 10);";

async fn truncated(name: &str, policy: &[&str]) -> Result<(Databases, Replicator)> {
    let databases = Databases::create(name).await?;
    databases.both(TRUNCATED).await?;
    databases.publish().await?;
    let replicator = databases.replicate(policy)?;
    databases.from.batch_execute("INSERT INTO other VALUES (11)").await?;
    databases
        .from
        .batch_execute("DELETE FROM other WHERE id = 1; TRUNCATE parent CASCADE; INSERT INTO parent VALUES (5)")
        .await?;
    Ok((databases, replicator))
}

#[tokio::test]
async fn w42_truncate_stops_unless_told_otherwise_and_can_be_applied_after_that() -> Result<()> {
    let (databases, mut replicator) = truncated("truncate_stop", &[]).await?;
    let log = databases.refused(&mut replicator).await?;
    assert!(log.to_lowercase().contains("truncate") && log.contains("--truncate"), "{log}");
    assert!(log.contains("\"parent\"") || log.contains("\"child\""), "{log}");
    // Of that transaction nothing was done.
    let sql = "SELECT (SELECT count(*) FROM parent) * 10000 + (SELECT count(*) FROM child) * 100
                      + (SELECT count(*) FROM other WHERE id < 11)";
    assert_eq!(databases.number(sql).await?, 10 * 10_000 + 10 * 100 + 10);

    let mut replicator = databases.replicate(&["--truncate", "apply"])?;
    databases.arrived(&mut replicator).await?;
    assert_eq!(databases.number(sql).await?, 10_000 + 9);
    Ok(())
}

#[tokio::test]
async fn truncate_is_applied_in_its_place_among_the_other_changes() -> Result<()> {
    let (databases, mut replicator) = truncated("truncate_apply", &["--truncate", "apply"]).await?;
    databases.arrived(&mut replicator).await?;
    let changes = [
        "INSERT INTO parent VALUES (1), (2); INSERT INTO child VALUES (1, 1)",
        "UPDATE parent SET v = 'x'; TRUNCATE child; DELETE FROM parent WHERE id = 1; INSERT INTO child VALUES (1, 2)",
        "TRUNCATE parent, child, other RESTART IDENTITY",
        "INSERT INTO other VALUES (1), (2); TRUNCATE other; INSERT INTO other VALUES (2), (3); TRUNCATE other;
         INSERT INTO other VALUES (3)",
        "INSERT INTO parent VALUES (1), (2), (3); INSERT INTO child VALUES (1, 3)",
        "TRUNCATE parent CASCADE",
    ];
    // All of them in a row, so that some share a target transaction.
    for change in changes {
        databases.from.batch_execute(change).await?;
    }
    let comparison = databases.arrived(&mut replicator).await?;
    assert_eq!(comparison.identical(), 1);
    Ok(())
}

#[tokio::test]
async fn truncate_is_ignored_on_demand_and_the_rest_of_its_transaction_is_not() -> Result<()> {
    let (databases, mut replicator) =
        truncated("truncate_ignore", &["--truncate", "ignore"]).await?;
    databases.confirmed(&mut replicator).await?;
    assert_eq!(databases.number("SELECT count(*) FROM parent").await?, 10);
    assert_eq!(databases.number("SELECT count(*) FROM child").await?, 10);
    assert_eq!(databases.number("SELECT count(*) FROM other").await?, 10);
    Ok(())
}

#[tokio::test]
async fn w42_transactions_with_origins_savepoints_messages_and_prepares_arrive() -> Result<()> {
    let tables =
        "CREATE TABLE t (id int PRIMARY KEY, v text); CREATE TABLE marker (id int PRIMARY KEY)";
    let databases = Databases::create("w42_kinds").await?;
    databases.both(tables).await?;
    databases.publish().await?;
    let mut replicator = databases.replicate(&[])?;
    databases.confirmed(&mut replicator).await?;
    let transactions = [
        // A change that came to the source from elsewhere.
        "SELECT pg_replication_origin_create('elsewhere')",
        "SELECT pg_replication_origin_session_setup('elsewhere')",
        "BEGIN; SELECT pg_replication_origin_xact_setup('0/1234', now()); INSERT INTO t VALUES (1, 'o'); COMMIT",
        "SELECT pg_replication_origin_session_reset()",
        "BEGIN; INSERT INTO t VALUES (2, 'a'); SAVEPOINT s; INSERT INTO t VALUES (3, 'b'); ROLLBACK TO s;
         SAVEPOINT r; INSERT INTO t VALUES (4, 'c'); RELEASE r; COMMIT",
        "SELECT pg_logical_emit_message(true, 'x', 'y'), pg_logical_emit_message(false, 'x', 'y')",
        "BEGIN; INSERT INTO t VALUES (5, 'p'); PREPARE TRANSACTION 'w42_p'",
        "BEGIN; INSERT INTO t VALUES (6, 'q'); PREPARE TRANSACTION 'w42_q'",
        "INSERT INTO t VALUES (7, 'between')",
        "COMMIT PREPARED 'w42_p'",
        "ROLLBACK PREPARED 'w42_q'",
        // Transactions of nothing, or of nothing that is published.
        "BEGIN; COMMIT; BEGIN; CREATE TEMP TABLE x AS SELECT 1; COMMIT; BEGIN; DELETE FROM t WHERE false; COMMIT",
        "BEGIN; INSERT INTO t VALUES (8, 'no'); ROLLBACK",
        "INSERT INTO t SELECT i, 'ctas' FROM generate_series(100, 110) i; COPY t TO '/dev/null'; VACUUM FULL t",
        "UPDATE t SET v = upper(v)",
    ];
    for transaction in transactions {
        for statement in transaction.split("; COPY t TO '/dev/null'; ") {
            databases.from.batch_execute(statement).await?;
        }
    }
    let comparison = databases.arrived(&mut replicator).await?;
    assert_eq!(comparison.identical(), 5 + 11);
    Ok(())
}

#[tokio::test]
async fn tables_and_columns_that_come_while_it_runs_are_followed() -> Result<()> {
    let databases = Databases::create("drift").await?;
    databases.both("CREATE TABLE t (id int PRIMARY KEY, v text)").await?;
    databases.publish().await?;
    let mut replicator = databases.replicate(&[])?;
    databases.from.batch_execute("INSERT INTO t VALUES (1, 'a')").await?;
    databases.arrived(&mut replicator).await?;

    // The target first, as the documentation tells an operator.
    for change in [
        "ALTER TABLE t ADD COLUMN extra int DEFAULT 5",
        "CREATE TABLE late (id int PRIMARY KEY, v text)",
        "ALTER TABLE t ALTER COLUMN v TYPE varchar(500)",
    ] {
        databases.to.batch_execute(change).await?;
        databases.from.batch_execute(change).await?;
        databases
            .from
            .batch_execute("UPDATE t SET v = v || 'x'; INSERT INTO t SELECT max(id) + 1 FROM t")
            .await?;
        databases.arrived(&mut replicator).await?;
    }
    databases
        .from
        .batch_execute("INSERT INTO late VALUES (1, 'x'); UPDATE t SET extra = 6")
        .await?;
    databases.arrived(&mut replicator).await?;
    for change in ["ALTER TABLE t RENAME COLUMN v TO w", "ALTER TABLE t DROP COLUMN extra"] {
        databases.both(change).await?;
        databases.from.batch_execute("UPDATE t SET w = coalesce(w, '') || 'y'").await?;
        databases.arrived(&mut replicator).await?;
    }

    // A column that the target has not is not dropped on the way: it waits until it is there.
    databases
        .from
        .batch_execute("ALTER TABLE t ADD COLUMN lost int; UPDATE t SET lost = 471100471")
        .await?;
    wait_until(Duration::from_secs(20), "it says what is missing", async || {
        replicator.must_run()?;
        let log = replicator.log()?;
        assert!(!log.contains("471100471"), "{log}");
        Ok(log.contains("unexpected columns") && log.contains("lost"))
    })
    .await?;
    databases.to.batch_execute("ALTER TABLE t ADD COLUMN lost int").await?;
    databases.arrived(&mut replicator).await?;
    Ok(())
}

#[tokio::test]
async fn a_publication_of_inserts_alone_brings_inserts_alone() -> Result<()> {
    let databases = Databases::create("inserts_only").await?;
    databases.both("CREATE TABLE t (id int PRIMARY KEY, v text)").await?;
    databases.publish_as("FOR ALL TABLES WITH (publish = 'insert')").await?;
    let mut replicator = databases.replicate(&[])?;
    databases
        .from
        .batch_execute(
            "INSERT INTO t VALUES (1, 'a'), (2, 'b'); UPDATE t SET v = 'c'; DELETE FROM t WHERE id = 1;
             TRUNCATE t",
        )
        .await?;
    databases.confirmed(&mut replicator).await?;
    assert_eq!(databases.number("SELECT count(*) FROM t WHERE v IN ('a', 'b')").await?, 2);
    Ok(())
}

#[tokio::test]
async fn rows_that_the_target_has_already_are_taken_over() -> Result<()> {
    // As after a copy that was taken later than the slot: the stream repeats what is there.
    let tables = "CREATE TABLE t (id int PRIMARY KEY, v text, u int UNIQUE);
                  INSERT INTO t VALUES (1, 'a', 1), (2, 'b', 2)";
    let changes = [
        "UPDATE t SET v = 'c' WHERE id = 1; DELETE FROM t WHERE id = 2; INSERT INTO t VALUES (3, 'd', 2)",
    ];
    check("seen_plain", tables, &changes).await?;

    let databases = Databases::create("seen").await?;
    databases.both(tables).await?;
    databases.publish().await?;
    databases.from.batch_execute(changes[0]).await?;
    databases.to.batch_execute(changes[0]).await?;
    databases.from.batch_execute("UPDATE t SET u = 7 WHERE id = 3").await?;
    let mut replicator = databases.replicate(&[])?;
    databases.arrived(&mut replicator).await?;
    Ok(())
}
