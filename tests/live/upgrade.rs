//! An installation of the older tool: what it left in its staging schema is where we go on.
use anyhow::Result;
use replicator_tests::databases::Databases;

/// What the older tool makes.
const OLD_STAGING: &str = "
    CREATE SCHEMA _replicator;
    CREATE TABLE _replicator.memo (key text PRIMARY KEY, value bytea NOT NULL);
    INSERT INTO _replicator.memo SELECT 'version-' || pr, '{\"state\":\"applied\"}'
    FROM unnest(ARRAY[400, 389, 572, 828]) pr";

async fn position(databases: &Databases) -> Result<String> {
    let row = databases.from.query_one("SELECT pg_current_wal_lsn()::text", &[]).await?;
    Ok(row.get(0))
}

async fn save(databases: &Databases, position: &str) -> Result<()> {
    let sql = format!(
        "INSERT INTO _replicator.memo VALUES ('pglogical-wal-offset-{}.public', '{position}')
         ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        databases.name()
    );
    Ok(databases.to.batch_execute(&sql).await?)
}

async fn installed(name: &str) -> Result<Databases> {
    let databases = Databases::create(name).await?;
    databases.both("CREATE TABLE t (id int PRIMARY KEY, v text)").await?;
    databases.to.batch_execute(OLD_STAGING).await?;
    databases.publish().await?;
    Ok(databases)
}

#[tokio::test]
async fn the_saved_position_of_the_older_tool_is_adopted_with_a_warning() -> Result<()> {
    let databases = installed("upgrade").await?;
    databases.from.batch_execute("INSERT INTO t VALUES (1, 'applied by the older tool')").await?;
    let applied = position(&databases).await?;
    databases.from.batch_execute("INSERT INTO t VALUES (2, 'not yet')").await?;
    // Whoever applies the first transaction again will be seen.
    databases.to.batch_execute("INSERT INTO t VALUES (1, 'once')").await?;
    save(&databases, &applied).await?;

    let mut replicator = databases.replicate(&[])?;
    databases.confirmed(&mut replicator).await?;
    let rows: String =
        databases.to.query_one("SELECT string_agg(v, ', ' ORDER BY id) FROM t", &[]).await?.get(0);
    assert_eq!(rows, "once, not yet");
    let log = replicator.log()?;
    let warned =
        |log: &str| log.lines().any(|line| line.starts_with("WARN") && line.contains(&applied));
    assert!(warned(&log), "{log}");
    assert!(replicator.stop(std::time::Duration::from_secs(20)).await?.success());

    // What we save, the older tool could read: one position as text under the same key.
    let memo = format!(
        "SELECT convert_from(value, 'UTF8')::pg_lsn > '{applied}' FROM _replicator.memo
         WHERE key = 'pglogical-wal-offset-{}.public'",
        databases.name()
    );
    assert!(databases.to.query_one(&memo, &[]).await?.get::<_, bool>(0));
    let sql = "SELECT count(*) FROM _replicator.memo WHERE key LIKE 'version-%'";
    assert_eq!(databases.number(sql).await?, 4);

    // From here on it is ours, and nothing is to be warned of.
    databases.from.batch_execute("INSERT INTO t VALUES (3, 'later')").await?;
    let mut replicator = databases.replicate(&[])?;
    databases.confirmed(&mut replicator).await?;
    assert_eq!(databases.number("SELECT count(*) FROM t").await?, 3);
    let later = replicator.log()?;
    let second = later.strip_prefix(log.as_str()).unwrap_or_default();
    assert!(!second.lines().any(|line| line.starts_with("WARN")), "{second}");
    Ok(())
}

/// The older tool tells the source first and saves afterwards, so after its death the slot knows better.
#[tokio::test]
async fn where_the_slot_is_ahead_of_the_older_tools_position_the_slot_is_right() -> Result<()> {
    let databases = installed("upgrade_behind").await?;
    let before = position(&databases).await?;
    databases.from.batch_execute("INSERT INTO t VALUES (1, 'applied by the older tool')").await?;
    databases.to.batch_execute("INSERT INTO t VALUES (1, 'once')").await?;
    let advance =
        format!("SELECT pg_replication_slot_advance('{}', pg_current_wal_lsn())", databases.name());
    databases.from.batch_execute(&advance).await?;
    save(&databases, &before).await?;
    databases.from.batch_execute("INSERT INTO t VALUES (2, 'not yet')").await?;
    let mut replicator = databases.replicate(&[])?;
    databases.confirmed(&mut replicator).await?;
    assert_eq!(databases.number("SELECT count(*) FROM t WHERE v IN ('once', 'not yet')").await?, 2);
    let log = replicator.log()?;
    assert!(log.contains(&before), "{log}");
    Ok(())
}

#[tokio::test]
async fn a_saved_position_that_the_source_has_not_reached_is_refused() -> Result<()> {
    let databases = installed("upgrade_ahead").await?;
    save(&databases, "FFFF/0").await?;
    databases.from.batch_execute("INSERT INTO t VALUES (1, 'would be skipped')").await?;
    let mut replicator = databases.replicate(&[])?;
    let log = databases.refused(&mut replicator).await?;
    assert!(log.contains("FFFF/0"), "{log}");
    assert_eq!(databases.number("SELECT count(*) FROM t").await?, 0);
    Ok(())
}
