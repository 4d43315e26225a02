//! What a source may be like: how it logs, what its tables become, and what is refused before anything begins.
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use replicator_io::mysql::session::{MySqlOptions, MySqlSession};
use replicator_tests::moving::Moving;
use replicator_tests::mysql::{Kind, MariaDbVersion, Server};
use replicator_tests::wait_until;

use super::{ALL_PAIRS, PAIRS, on_both, with_pairs};

const SAID_MAX: Duration = Duration::from_secs(40);

#[tokio::test]
async fn w13_compressed_transactions_arrive() -> Result<()> {
    on_both(async |kind| {
        let moving = with_pairs(kind, "w13_compressed").await?;
        let mut replicator = moving.replicate(&[])?;
        let source = &moving.source;
        let (set, reset) = match kind {
            Kind::MySql => ("SET binlog_transaction_compression = ON; ", ""),
            Kind::MariaDb => {
                source.run("SET GLOBAL log_bin_compress_min_len = 10; SET GLOBAL log_bin_compress = ON")?;
                ("", "SET GLOBAL log_bin_compress = OFF")
            }
        };
        let rows = (1..500).map(|id| format!("({id}, 'vvvvvvvvvvvvvvvv')")).collect::<Vec<_>>();
        let rows = rows.join(", ");
        let done = moving.run(&format!(
            "{set}BEGIN; INSERT INTO pairs VALUES {rows}; UPDATE pairs SET v = CONCAT(id, v) WHERE id % 2; \
             DELETE FROM pairs WHERE id % 5 = 0; COMMIT; INSERT INTO pairs VALUES (1000, 'one')"
        ));
        source.run(reset)?;
        done?;
        let rows = moving.arrived(&mut replicator, ALL_PAIRS).await?;
        ensure!(rows.len() == 401, "{} rows", rows.len());
        Ok(())
    })
    .await
}

#[tokio::test]
async fn w13_images_that_leave_columns_out_change_only_what_they_have() -> Result<()> {
    on_both(async |kind| {
        let mut moving = Moving::create(kind, "w13_images").await?;
        let table = "CREATE TABLE t (id INT PRIMARY KEY, a INT, b VARCHAR(10), c TEXT)";
        moving.tables(table, table).await?;
        let mut replicator = moving.replicate(&[])?;
        moving.run("INSERT INTO t VALUES (1, 1, 'b', 'c'), (2, 2, NULL, 'c'), (3, 3, 'x', 'y')")?;
        moving.run(
            "SET binlog_row_image = MINIMAL; UPDATE t SET a = 9 WHERE id = 1; UPDATE t SET b = NULL WHERE id = 3; \
             DELETE FROM t WHERE id = 2; UPDATE t SET id = 5 WHERE id = 1; INSERT INTO t VALUES (7, 7, 'z', 'zz')",
        )?;
        moving.run("SET binlog_row_image = NOBLOB; UPDATE t SET a = 10 WHERE id = 5")?;
        let rows = moving.arrived(&mut replicator, "SELECT * FROM t ORDER BY id").await?;
        ensure!(!rows.is_empty(), "nothing is there");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn w13_names_are_asked_for_where_the_log_has_none() -> Result<()> {
    on_both(async |kind| {
        let source = Arc::new(Server::start_source(kind)?);
        source.run("SET GLOBAL binlog_row_metadata = MINIMAL")?;
        let mut moving = Moving::create_on(source, "w13_fetch").await?;
        let source = "CREATE TABLE t (id INT UNSIGNED PRIMARY KEY, size ENUM('s', 'm'), l VARCHAR(9) CHARSET latin1)";
        moving.tables(source, "CREATE TABLE t (size TEXT, l TEXT, id BIGINT PRIMARY KEY)").await?;
        moving.run("INSERT INTO t VALUES (4294967295, 'm', 'ü'), (1, 's', NULL)")?;
        let mut replicator = moving.replicate(&[])?;
        let log = moving.databases.refused(&mut replicator).await?;
        ensure!(log.contains("or --fetchMetadata be given"), "{log}");
        let mut replicator = moving.replicate(&["--fetchMetadata"])?;
        let rows = moving.arrived(&mut replicator, "SELECT id, size, l FROM t ORDER BY id").await?;
        ensure!(!rows.is_empty(), "nothing is there");
        Ok(())
    })
    .await
}

/// The catalog has the columns of today, the log those of its rows' day. Two columns of one type change places, which
/// nothing of a row shows.
#[tokio::test]
async fn a09_w13_names_that_were_asked_for_are_only_of_rows_that_they_are_true_for() -> Result<()> {
    on_both(async |kind| {
        let source = Arc::new(Server::start_source(kind)?);
        source.run("SET GLOBAL binlog_row_metadata = MINIMAL")?;
        let mut moving = Moving::create_on(source, "w13_renamed").await?;
        let table = "CREATE TABLE t (id INT PRIMARY KEY, a INT, b INT)";
        moving.tables(table, table).await?;
        let mut replicator = moving.replicate(&["--fetchMetadata"])?;
        let (swap, back) =
            ("ALTER TABLE t MODIFY a INT AFTER b; ", "ALTER TABLE t MODIFY b INT AFTER a; ");
        let rows = |first: u32| -> String {
            let insert = |id| format!("INSERT INTO t (id, a, b) VALUES ({id}, {id}1, {id}2); ");
            (first..first + 50).map(insert).collect()
        };
        let all = "SELECT id, a, b FROM t ORDER BY id";
        moving.run(&rows(1))?;
        moving.arrived(&mut replicator, all).await?;
        // While it runs the catalog is asked again where that is needed.
        for (first, change) in [(100, swap), (200, back), (300, swap)] {
            let (before, after) = (rows(first), rows(first + 50));
            moving.run(&format!("{before}{change}{after}CREATE INDEX i{first} ON t (a)"))?;
            moving.arrived(&mut replicator, all).await?;
        }
        let log = replicator.log()?;
        ensure!(log.contains("its catalog is asked again"), "{log}");
        // While it is away only rows from before a change are lost to it.
        replicator.kill()?;
        moving.run(&format!("CREATE INDEX j ON t (b); {}", rows(400)))?;
        let mut replicator = moving.replicate(&["--fetchMetadata"])?;
        moving.arrived(&mut replicator, all).await?;
        replicator.kill()?;
        moving.run(&format!("{back}{}", rows(500)))?;
        let mut replicator = moving.replicate(&["--fetchMetadata"])?;
        moving.arrived(&mut replicator, all).await?;
        replicator.kill()?;
        moving.run(&format!("{}{swap}{}", rows(600), rows(700)))?;
        let mut replicator = moving.replicate(&["--fetchMetadata"])?;
        let log = moving.databases.refused(&mut replicator).await?;
        ensure!(
            log.contains("cannot be read: the binary log does not name their columns"),
            "{log}"
        );
        ensure!(log.contains("ALTER TABLE t MODIFY a INT AFTER b"), "{log}");
        Ok(())
    })
    .await
}

/// What asking for columns relies on.
#[tokio::test]
async fn a_table_that_a_transaction_has_read_nothing_of_is_not_altered_meanwhile() -> Result<()> {
    on_both(async |kind| {
        let server = Server::shared(kind)?;
        server.run("CREATE DATABASE IF NOT EXISTS kept; CREATE TABLE kept.t (a INT)")?;
        let conninfo = server.conninfo("kept").parse()?;
        let options = MySqlOptions { lock_wait: SAID_MAX, idle: SAID_MAX };
        let mut reader = MySqlSession::open(&conninfo, &options).await?;
        reader.query("START TRANSACTION READ ONLY").await?;
        reader.query("SELECT 1 FROM `kept`.`t` LIMIT 0").await?;
        let alter = "SET SESSION lock_wait_timeout = 1; ALTER TABLE kept.t ADD b INT FIRST";
        let refused = server.run(alter);
        ensure!(refused.is_err(), "{refused:?}");
        reader.query("COMMIT").await?;
        server.run(alter).map(drop)
    })
    .await
}

#[tokio::test]
async fn a_table_that_the_target_lacks_stops_until_it_is_there() -> Result<()> {
    on_both(async |kind| {
        let moving = with_pairs(kind, "late_table").await?;
        let mut replicator = moving.replicate(&[])?;
        moving.run("CREATE TABLE late (id INT PRIMARY KEY); INSERT INTO late VALUES (1)")?;
        wait_until(SAID_MAX, "the log names the table", async || {
            Ok(replicator.log()?.contains("\"late\""))
        })
        .await?;
        moving.to().batch_execute("CREATE TABLE late (id INT PRIMARY KEY)").await?;
        let rows = moving.arrived(&mut replicator, "SELECT id FROM late").await?;
        ensure!(!rows.is_empty(), "nothing is there");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn columns_that_come_and_go_are_followed_when_the_target_has_them() -> Result<()> {
    on_both(async |kind| {
        let moving = with_pairs(kind, "columns").await?;
        let mut replicator = moving.replicate(&["--schemaRefresh", "500ms"])?;
        moving.run("INSERT INTO pairs VALUES (1, 'a')")?;
        moving.arrived(&mut replicator, ALL_PAIRS).await?;
        moving.to().batch_execute("ALTER TABLE pairs ADD COLUMN more INT").await?;
        moving
            .run("ALTER TABLE pairs ADD COLUMN more INT; INSERT INTO pairs VALUES (2, 'b', 5)")?;
        moving.arrived(&mut replicator, "SELECT id, v, more FROM pairs ORDER BY id").await?;
        moving.run("ALTER TABLE pairs DROP COLUMN v; UPDATE pairs SET more = 7 WHERE id = 1")?;
        let rows =
            moving.arrived(&mut replicator, "SELECT id, more FROM pairs ORDER BY id").await?;
        ensure!(!rows.is_empty(), "nothing is there");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn truncate_follows_its_policy() -> Result<()> {
    on_both(async |kind| {
        let moving = with_pairs(kind, "truncate").await?;
        let mut replicator = moving.replicate(&[])?;
        // What happens elsewhere is nobody's affair.
        let other = format!("{}_other", moving.name());
        moving.run(&format!("CREATE DATABASE {other}; CREATE TABLE {other}.pairs LIKE pairs"))?;
        moving.run(&format!("TRUNCATE {other}.pairs; INSERT INTO pairs VALUES (1, 'a')"))?;
        moving.arrived(&mut replicator, ALL_PAIRS).await?;
        moving.run("TRUNCATE pairs; INSERT INTO pairs VALUES (2, 'b')")?;
        let log = moving.databases.refused(&mut replicator).await?;
        ensure!(log.contains("the source ran TRUNCATE of"), "{log}");
        let mut replicator = moving.replicate(&["--truncate", "ignore"])?;
        moving.confirmed(&mut replicator).await?;
        let rows = moving.target_rows(ALL_PAIRS).await?;
        ensure!(rows == ["1\ta", "2\tb"], "{rows:?}");
        replicator.kill()?;
        moving.run("TRUNCATE TABLE pairs; INSERT INTO pairs VALUES (3, 'c')")?;
        let mut replicator = moving.replicate(&["--truncate", "apply"])?;
        let rows = moving.arrived(&mut replicator, ALL_PAIRS).await?;
        ensure!(rows == ["3\tc"], "{rows:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn statements_in_the_log_are_refused_where_they_count() -> Result<()> {
    on_both(async |kind| {
        let moving = with_pairs(kind, "statements").await?;
        let mut replicator = moving.replicate(&[])?;
        let other = format!("{}x", moving.name().replace("statements", "elsewhere"));
        moving.source.run(&format!(
            "CREATE DATABASE {other}; USE {other}; CREATE TABLE t (id INT); \
             SET binlog_format = STATEMENT; INSERT INTO t VALUES (1)"
        ))?;
        moving.run("INSERT INTO pairs VALUES (1, 'a')")?;
        moving.arrived(&mut replicator, ALL_PAIRS).await?;
        moving.run("SET binlog_format = STATEMENT; INSERT INTO pairs VALUES (2, 'b')")?;
        let log = moving.databases.refused(&mut replicator).await?;
        ensure!(log.contains("SET GLOBAL binlog_format = ROW"), "{log}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn everything_that_is_wrong_is_said_at_once() -> Result<()> {
    on_both(async |kind| {
        let source = Arc::new(Server::start(kind)?);
        source.run("SET GLOBAL binlog_row_metadata = MINIMAL; CREATE USER IF NOT EXISTS poor IDENTIFIED BY 'x'")?;
        if kind == Kind::MySql {
            source.run("SET GLOBAL gtid_mode = ON_PERMISSIVE")?;
        }
        let moving = Moving::create_on(source, "preflight").await?;
        moving.run(&format!("CREATE TABLE t (id INT PRIMARY KEY, extra INT); GRANT SELECT ON {}.* TO poor", moving.name()))?;
        moving.to().batch_execute("CREATE TABLE t (id INT PRIMARY KEY, needed INT NOT NULL)").await?;
        let port = moving.source.port();
        let conninfo = format!("mysql://poor:x@tcp(127.0.0.1:{port})/{}", moving.name());
        let mut replicator = moving.replicate(&["--sourceConn", &conninfo])?;
        let log = moving.databases.refused(&mut replicator).await?;
        let mut wanted = vec![
            "binlog_row_metadata of the source is MINIMAL",
            "our user on the source may not read its binary log",
            "unexpected columns on the source: \"extra\"",
            "refuse NULL and have no default: \"needed\"",
        ];
        if kind == Kind::MySql {
            wanted.push("gtid_mode of the source is ON_PERMISSIVE");
        }
        for wanted in wanted {
            ensure!(log.contains(wanted), "{wanted}: {log}");
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn w32_a09_every_form_of_connection_string_is_understood() -> Result<()> {
    on_both(async |kind| {
        let moving = with_pairs(kind, "w32_urls").await?;
        let source = &moving.source;
        let name = moving.name();
        source.run(&format!(
            "CREATE USER '{name}' IDENTIFIED BY 'p@:/%'; \
             GRANT SELECT, REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO '{name}'"
        ))?;
        let port = source.port();
        let ca = source.certificates().join("ca.crt").display().to_string();
        for (id, conninfo) in [
            format!("mysql://{name}:p%40%3A%2F%25@127.0.0.1:{port}/{name}"),
            format!("mysql://{name}:p@%3A%2F%25@tcp(127.0.0.1:{port})/{name}?sslmode=require"),
            format!("mysql://{name}:p%40:%2F%25@localhost:{port}/{name}?sslmode=verify-full&sslrootcert={ca}"),
        ]
        .iter()
        .enumerate()
        {
            let mut replicator = moving.replicate(&["--sourceConn", conninfo])?;
            moving.run(&format!("INSERT INTO pairs VALUES ({id}, 'x')"))?;
            moving.arrived(&mut replicator, ALL_PAIRS).await?;
            let log = replicator.log()?;
            ensure!(!log.contains("p@:/%") && !log.contains("p%40"), "the log has the password");
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_source_that_goes_away_is_waited_for() -> Result<()> {
    on_both(async |kind| {
        let source = Arc::new(Server::start_source(kind)?);
        let mut moving = Moving::create_on(source, "away").await?;
        moving.tables(PAIRS, PAIRS).await?;
        let mut replicator = moving.replicate(&[])?;
        moving.run("INSERT INTO pairs VALUES (1, 'a')")?;
        moving.arrived(&mut replicator, ALL_PAIRS).await?;
        moving.source.crash()?;
        tokio::time::sleep(Duration::from_secs(2)).await;
        moving.source.start_again()?;
        moving.run("INSERT INTO pairs VALUES (2, 'b')")?;
        let rows = moving.arrived(&mut replicator, ALL_PAIRS).await?;
        ensure!(!rows.is_empty(), "nothing is there");
        Ok(())
    })
    .await
}

/// Deadlocks and sessions that end concern one target transaction; the source is not asked again for anything.
#[tokio::test]
async fn w18_a_target_that_refuses_for_the_moment_is_tried_again() -> Result<()> {
    on_both(async |kind| {
        let mut moving = Moving::create(kind, "w18").await?;
        let tables = "CREATE TABLE one (id INT PRIMARY KEY, v INT); CREATE TABLE two (id INT PRIMARY KEY, v INT)";
        moving.tables(tables, tables).await?;
        let mut replicator = moving.replicate(&[])?;
        moving.run("INSERT INTO one VALUES (1, 0); INSERT INTO two VALUES (1, 0)")?;
        moving.confirmed(&mut replicator).await?;
        let both = "SELECT one.v, two.v FROM one, two";
        let number = async |sql: &str| -> Result<i64> { Ok(moving.to().query_one(sql, &[]).await?.get(0)) };
        let other = moving.databases.target().client(moving.name()).await?;
        // Of the two in a deadlock the one whose patience ends first is refused, and ours has more.
        other.batch_execute("SET deadlock_timeout = '1h'").await?;
        // Which of the two tables the product touches first is its own affair, so we see to both.
        for (first, second) in [("one", "two"), ("two", "one")] {
            other.batch_execute(&format!("BEGIN; UPDATE {second} SET v = -1")).await?;
            moving.run("BEGIN; UPDATE one SET v = v + 1; UPDATE two SET v = v + 1; COMMIT")?;
            let waiting = "SELECT count(*) FROM pg_stat_activity \
                           WHERE datname = current_database() AND wait_event_type = 'Lock'";
            wait_until(SAID_MAX, "the product waits for the lock", async || Ok(number(waiting).await? > 0)).await?;
            // If it holds the first already, this closes the circle; if not, it just takes it.
            other.batch_execute(&format!("UPDATE {first} SET v = -1")).await?;
            other.batch_execute("ROLLBACK").await?;
            moving.arrived(&mut replicator, both).await?;
        }
        let deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()";
        wait_until(SAID_MAX, "the deadlock is counted", async || Ok(number(deadlocks).await? > 0)).await?;
        let kill = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
                    WHERE datname = current_database() AND application_name = 'replicator'";
        ensure!(number(kill).await? > 0, "the product has no session");
        moving.run("UPDATE one SET v = 100")?;
        let rows = moving.arrived(&mut replicator, both).await?;
        ensure!(rows == ["100\t2"], "{rows:?}");
        Ok(())
    })
    .await
}

/// The oldest version of MariaDB that we read, and a newer one than in the other tests.
#[tokio::test]
async fn other_versions_of_mariadb_are_read() -> Result<()> {
    for version in [MariaDbVersion::V10_5, MariaDbVersion::V11_8] {
        let source = Arc::new(Server::start_mariadb(version)?);
        let name = format!("{version:?}").to_lowercase();
        let mut moving = Moving::create_on(source, &name).await?;
        let columns = "id INT PRIMARY KEY, n BIGINT, d DECIMAL(30, 10), t VARCHAR(50), b BLOB, ts TIMESTAMP(6) NULL, j JSON";
        let target = columns.replace("BLOB", "BYTEA").replace("TIMESTAMP(6)", "TIMESTAMPTZ(6)");
        let create = |columns: &str| format!("CREATE TABLE t ({columns})");
        moving.tables(&create(columns), &create(&target)).await?;
        let mut replicator = moving.replicate(&[])?;
        moving.run(
            "INSERT INTO t VALUES (1, -5, 12345678901234567890.0123456789, 'größer', 0x00FF, '2026-02-03 04:05:06.789', \
             '{\"a\": [1, 2.50]}'), (2, NULL, NULL, NULL, NULL, NULL, NULL)",
        )?;
        moving.run("SET GLOBAL log_bin_compress = ON")?;
        moving.run("UPDATE t SET n = n + 1, t = REPEAT('lang ', 10) WHERE id = 1; DELETE FROM t WHERE id = 2")?;
        moving.run(
            "XA START 'x'; INSERT INTO t (id, t) VALUES (3, 'xa'); XA END 'x'; XA PREPARE 'x'; XA COMMIT 'x'; \
             SET gtid_domain_id = 7; INSERT INTO t (id, t) VALUES (4, 'domain'); UPDATE t SET id = 5 WHERE id = 4",
        )?;
        let text = "SELECT id, n, d, t FROM t ORDER BY id";
        let rows = moving.arrived(&mut replicator, text).await?;
        ensure!(rows.len() == 3, "{version:?}: {rows:?}");
        // It goes on where it was, also after the server has died.
        replicator.kill()?;
        moving.source.crash()?;
        moving.source.start_again()?;
        moving.run("INSERT INTO t (id, b) VALUES (6, 0x01); FLUSH BINARY LOGS; UPDATE t SET t = 'new' WHERE id = 6")?;
        let mut replicator = moving.replicate(&[])?;
        moving.arrived(&mut replicator, text).await?;
        let hex = moving
            .target_rows("SELECT id, encode(b, 'hex') FROM t WHERE b IS NOT NULL ORDER BY id")
            .await?;
        ensure!(hex == ["1\t00ff", "6\t01"], "{version:?}: {hex:?}");
    }
    Ok(())
}
