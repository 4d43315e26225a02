//! The fixtures themselves: what the other live tests and the demo rely on.
use std::time::Duration;

use anyhow::Result;
use replicator_tests::pair::{DATABASE, PUBLICATION, Pair, SLOT};
use replicator_tests::postgres::{self, Options, Server};
use replicator_tests::workload::{Load, Plan};
use replicator_tests::{compare, wait_until};

#[tokio::test]
async fn a_server_keeps_its_rows_through_a_crash_and_leaves_nothing_behind() -> Result<()> {
    let server = Server::start(postgres::major()?, &Options::default().set("work_mem", "1234kB"))?;
    let client = server.client("postgres").await?;
    client.batch_execute("CREATE TABLE kept (id int); INSERT INTO kept VALUES (7)").await?;
    server.crash()?;
    assert!(client.query("SELECT 1", &[]).await.is_err());

    server.start_again()?;
    let client = server.client("postgres").await?;
    assert_eq!(client.query_one("SELECT id FROM kept", &[]).await?.get::<_, i32>(0), 7);
    assert_eq!(client.query_one("SHOW work_mem", &[]).await?.get::<_, String>(0), "1234kB");

    let log = server.log();
    assert!(log.exists());
    drop(server);
    assert!(!log.exists());
    Ok(())
}

#[tokio::test]
async fn two_servers_have_different_ports() -> Result<()> {
    let major = postgres::major()?;
    let one = Server::start(major, &Options::default())?;
    let other = Server::start(major, &Options::default())?;
    assert_ne!(one.port(), other.port());
    Ok(())
}

#[tokio::test]
async fn a_comparison_finds_every_kind_of_difference() -> Result<()> {
    let server = Server::start(postgres::major()?, &Options::default())?;
    let source = server.create_database("source").await?;
    let target = server.create_database("target").await?;
    let same = "CREATE TABLE keyed (b text, a int, c float8, PRIMARY KEY (a, b));
                CREATE TABLE loose (x int, y text);
                INSERT INTO keyed VALUES ('k', 1, 0.1), ('k', 2, 'NaN'), ('K', 2, 1e300);
                INSERT INTO loose VALUES (1, NULL), (1, NULL), (2, 'two');";
    source.batch_execute(same).await?;
    target.batch_execute(same).await?;
    let comparison = compare::tables(&source, &target, "public").await?;
    assert!(comparison.is_identical());
    assert_eq!(comparison.to_string(), "2 tables, 6 rows identical");

    target
        .batch_execute(
            "UPDATE keyed SET c = 0.1000000001 WHERE a = 1;
             DELETE FROM keyed WHERE b = 'K';
             INSERT INTO keyed VALUES ('x', 3, NULL);
             INSERT INTO loose VALUES (2, 'two');
             DELETE FROM loose WHERE ctid = (SELECT ctid FROM loose WHERE y IS NULL LIMIT 1);
             CREATE TABLE extra (id int)",
        )
        .await?;
    source.batch_execute("CREATE TABLE lost (id int)").await?;
    let comparison = compare::tables(&source, &target, "public").await?;
    let found: Vec<(&str, u64, u64)> = comparison
        .tables
        .iter()
        .map(|table| (table.table.as_str(), table.identical, table.differences))
        .collect();
    assert_eq!(found, [("keyed", 1, 3), ("loose", 2, 2), ("lost", 0, 1), ("extra", 0, 1)]);
    let examples = &comparison.tables[0].examples;
    assert_eq!(examples[0], "row (a=1, b=k) differs in c");
    assert_eq!(examples[1], "row (a=2, b=K) is missing in the target");
    assert_eq!(examples[2], "row (a=3, b=x) is in the target only");
    Ok(())
}

/// If PostgreSQL's own replication carries the load without a difference, then a difference that
/// another replication shows is no fault of the load or of the comparison.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_load_survives_the_replication_of_postgres_itself() -> Result<()> {
    let pair = Pair::start(postgres::major()?, &Options::default()).await?;
    let (from, to) = (&pair.from, &pair.to);
    assert_eq!(pair.open_shop(2_000).await? / 1000, 2);
    let conninfo = pair.source.conninfo(DATABASE);
    to.batch_execute(&format!(
        "CREATE SUBSCRIPTION s CONNECTION '{conninfo}' PUBLICATION {PUBLICATION}
         WITH (create_slot = false, slot_name = {SLOT}, copy_data = false)"
    ))
    .await?;

    let plan = Plan {
        seed: 7,
        writers: 3,
        rows_per_second: 3_000,
        large_rows: 5_000,
        large_every: Duration::from_millis(800),
    };
    let load = Load::start(&conninfo, plan).await?;
    wait_until(Duration::from_secs(60), "20,000 rows are written", async || {
        Ok(load.rows() >= 20_000)
    })
    .await?;
    let written = load.finish(&conninfo).await?;
    assert!(written.transactions > 100, "{written:?}");
    pair.confirmed(Duration::from_secs(60)).await?;
    let comparison = compare::tables(from, to, "public").await?;
    assert!(comparison.is_identical(), "{comparison}");
    to.batch_execute("ALTER SUBSCRIPTION s DISABLE").await?;
    Ok(())
}
