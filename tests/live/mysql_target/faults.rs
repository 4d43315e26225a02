//! Servers that die, wait, or do not answer; and how connections are made.
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use replicator_core::Failure;
use replicator_core::dialect::mysql::Flavor;
use replicator_core::model::ident::TableName;
use replicator_core::model::mutation::ApplyOrder;
use replicator_io::mysql::session::MySqlSession;
use replicator_io::port::{Fence, Target as _};
use replicator_io::target::mysql::{catalog, find_dead_letters};
use replicator_tests::mysql::{Kind, Server};
use replicator_tests::proxy::{AtCommit, End, Proxy};

use super::bench::{Bench, OPTIONS, pool, request, servers};

const TABLE: &str = "CREATE TABLE t (id BIGINT PRIMARY KEY, v INT)";

#[tokio::test]
async fn a_lost_answer_to_a_commit_leaves_the_outcome_open() -> Result<()> {
    for kind in Kind::ALL {
        let server = Server::shared(kind)?;
        server.run(&format!("CREATE DATABASE lost_answer; USE lost_answer; {TABLE}"))?;
        let proxy = Proxy::start(server.port()).await?;
        let conninfo = proxy.conninfo(&server.conninfo("lost_answer"));
        let mut bench = Bench::by(server, "lost_answer", &conninfo).await?;
        assert_eq!(bench.apply(vec![bench.upsert("t", &["1", "1"])]).await, Ok(()));
        proxy.at_commit(AtCommit::NotAnswered(End::Cut));
        let lost = bench.apply(vec![bench.upsert("t", &["2", "2"])]).await;
        assert!(matches!(lost, Err(Failure::OutcomeUnknown { .. })), "{lost:?}");
        proxy.heal();
        // Once more, as the next run does.
        assert_eq!(bench.apply(vec![bench.upsert("t", &["2", "2"])]).await, Ok(()));
        assert_eq!(bench.ask("SELECT CONCAT(id, v) FROM t ORDER BY id").await?, "11 22");
    }
    Ok(())
}

#[tokio::test]
async fn an_idle_connection_that_died_is_replaced_before_it_is_used() -> Result<()> {
    for kind in Kind::ALL {
        let mut bench = Bench::new(kind, "killed", TABLE).await?;
        assert_eq!(bench.apply(vec![bench.upsert("t", &["1", "1"])]).await, Ok(()));
        let ids = bench
            .ask("SELECT id FROM information_schema.processlist WHERE db = 'killed' AND id <> CONNECTION_ID()")
            .await?;
        for id in ids.split(' ') {
            bench.run(&format!("KILL {id}")).await?;
        }
        tokio::time::sleep(Duration::from_millis(1_100)).await;
        assert_eq!(bench.apply(vec![bench.upsert("t", &["1", "2"])]).await, Ok(()));
        assert_eq!(bench.ask("SELECT v FROM t").await?, "2");
    }
    Ok(())
}

#[tokio::test]
async fn w18_deadlocks_and_lock_waits_are_tried_again() -> Result<()> {
    for kind in Kind::ALL {
        let mut bench = Bench::new(kind, "locks", TABLE).await?;
        bench.run("INSERT INTO t VALUES (1, 0), (2, 0)").await?;
        bench.run("BEGIN").await?;
        bench.run("UPDATE t SET v = 1 WHERE id = 2").await?;
        // The batch has row 1 and waits for row 2; we ask for row 1.
        let target = bench.target.clone();
        let rows = vec![bench.upsert("t", &["1", "5"]), bench.upsert("t", &["2", "5"])];
        let request = request(rows, ApplyOrder::RowWise(0..2));
        let applying = tokio::spawn(async move { target.apply(Fence(1), request).await });
        tokio::time::sleep(Duration::from_millis(300)).await;
        let ours = bench.run("UPDATE t SET v = 1 WHERE id = 1").await;
        let theirs = applying.await?;
        // The server chose one of the two.
        match (&ours, &theirs) {
            (Ok(()), Err(Failure::Transient { detail })) => {
                assert!(detail.contains("1213"), "{detail}");
                bench.run("ROLLBACK").await?;
            }
            (Err(error), Ok(())) => assert!(error.to_string().contains("1213"), "{error}"),
            outcome => panic!("{outcome:?}"),
        }
        // A lock that is held for longer than we wait.
        bench.run("BEGIN").await?;
        bench.run("UPDATE t SET v = 7 WHERE id = 1").await?;
        let late = bench.apply(vec![bench.upsert("t", &["1", "9"])]).await;
        let Err(Failure::Transient { detail }) = late else { panic!("{late:?}") };
        assert!(detail.contains("1205"), "{detail}");
        bench.run("ROLLBACK").await?;
        assert_eq!(bench.apply(vec![bench.upsert("t", &["1", "9"])]).await, Ok(()));
        assert_eq!(bench.ask("SELECT v FROM t WHERE id = 1").await?, "9");
    }
    Ok(())
}

#[tokio::test]
async fn i7_a_new_run_waits_for_what_a_dead_one_sent() -> Result<()> {
    for kind in Kind::ALL {
        let mut bench = Bench::new(kind, "dead_run", TABLE).await?;
        bench.run("INSERT INTO t VALUES (1, 0)").await?;
        bench.run("BEGIN").await?;
        bench.run("UPDATE t SET v = 1 WHERE id = 1").await?;
        // The old run's batch waits for the row, and the run dies.
        let (target, rows) = (bench.target.clone(), vec![bench.upsert("t", &["1", "5"])]);
        let applying =
            tokio::spawn(
                async move { target.apply(Fence(1), request(rows, ApplyOrder::Netted)).await },
            );
        tokio::time::sleep(Duration::from_millis(500)).await;
        applying.abort();
        let pool = pool(bench.server.conninfo("dead_run").parse()?, "dead_run");
        let waiting = tokio::spawn(async move { pool.wait_for_earlier().await });
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert!(!waiting.is_finished());
        bench.run("COMMIT").await?;
        waiting.await??;
        // Whatever became of it, it is over.
        bench.run("UPDATE t SET v = 9").await?;
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(bench.ask("SELECT v FROM t").await?, "9");
    }
    Ok(())
}

#[tokio::test]
async fn a_crashed_server_is_found_again() -> Result<()> {
    for kind in Kind::ALL {
        let server = Arc::new(Server::start(kind)?);
        server.run(&format!("CREATE DATABASE crash; USE crash; {TABLE}"))?;
        let conninfo = server.conninfo("crash");
        let bench = Bench::by(Arc::clone(&server), "crash", &conninfo).await?;
        assert_eq!(bench.apply(vec![bench.upsert("t", &["1", "1"])]).await, Ok(()));
        server.crash()?;
        let dead = bench.apply(vec![bench.upsert("t", &["2", "2"])]).await;
        assert!(
            matches!(dead, Err(Failure::Transient { .. } | Failure::OutcomeUnknown { .. })),
            "{dead:?}"
        );
        server.start_again()?;
        let mut bench = Bench::by(server, "crash", &conninfo).await?;
        assert_eq!(bench.apply(vec![bench.upsert("t", &["2", "2"])]).await, Ok(()));
        assert_eq!(bench.ask("SELECT id FROM t ORDER BY id").await?, "1 2");
    }
    Ok(())
}

#[tokio::test]
async fn batches_larger_than_a_message_arrive_whole() -> Result<()> {
    for kind in Kind::ALL {
        let table = "CREATE TABLE wide (id BIGINT PRIMARY KEY, v LONGBLOB)";
        let mut bench = Bench::new(kind, "wide", table).await?;
        let megabyte = format!("\\x{}", "ab".repeat(1 << 20));
        let ids: Vec<String> = (0..12).map(|id| id.to_string()).collect();
        let rows = ids.iter().map(|id| bench.upsert("wide", &[id, &megabyte])).collect();
        assert_eq!(bench.apply(rows).await, Ok(()));
        let sum = bench.ask("SELECT SUM(LENGTH(v)) FROM wide").await?;
        assert_eq!(sum, (12 * (1 << 20)).to_string());
        // More than any message may be, on either server as it is set up here.
        let most: usize = bench.ask("SELECT @@max_allowed_packet").await?.parse()?;
        let large = format!("\\x{}", "ab".repeat(most / 2));
        let refused = bench.apply_in_order(vec![
            bench.upsert("wide", &["20", "\\x"]),
            bench.upsert("wide", &["21", &large]),
        ]);
        let refused = refused.await;
        let Err(Failure::Rejected { detail, at }) = refused else { panic!("it was taken") };
        assert_eq!(at, Some(1..2));
        assert!(detail.contains("max_allowed_packet"), "{detail}");
        assert_eq!(bench.ask("SELECT COUNT(*) FROM wide").await?, "12");
    }
    Ok(())
}

#[tokio::test]
async fn a10_sessions_are_strict_whatever_the_server_is() -> Result<()> {
    for (_, server) in servers()? {
        let mut bench = Bench::on(server, "strict", TABLE).await?;
        // Until the end of the test, for new sessions: nothing is checked.
        let lax =
            "SET GLOBAL sql_mode = '', GLOBAL foreign_key_checks = 0, GLOBAL time_zone = '+05:00'";
        let before = bench
            .ask("SELECT CONCAT('SET GLOBAL sql_mode = ''', @@GLOBAL.sql_mode, ''', GLOBAL foreign_key_checks = 1, GLOBAL time_zone = ''', @@GLOBAL.time_zone, '''')")
            .await?;
        bench.run(lax).await?;
        let opened = MySqlSession::open(&bench.server.conninfo("strict").parse()?, &OPTIONS).await;
        bench.run(&before).await?;
        let mut session = opened?;
        let rows = session
            .query("SELECT @@sql_mode, @@foreign_key_checks, @@time_zone, @@autocommit, @@character_set_client")
            .await?;
        let values: Vec<String> = rows[0].iter().flatten().cloned().collect();
        for mode in ["STRICT_ALL_TABLES", "NO_AUTO_VALUE_ON_ZERO", "NO_ZERO_IN_DATE"] {
            assert!(values[0].contains(mode), "{values:?}");
        }
        assert_eq!(values[1..], ["1", "+00:00", "1", "utf8mb4"]);
    }
    Ok(())
}

#[tokio::test]
async fn w32_connections_are_encrypted_as_asked_for() -> Result<()> {
    for kind in Kind::ALL {
        let bench = Bench::new(kind, "encrypted", TABLE).await?;
        let root = bench.server.certificates().join("ca.crt").display().to_string();
        let root = root.replace('/', "%2F");
        let cipher = async |parameters: &str| -> Result<String> {
            let conninfo = bench.server.conninfo_with("encrypted", parameters).parse()?;
            let mut session = MySqlSession::open(&conninfo, &OPTIONS).await?;
            let rows = session.query("SHOW SESSION STATUS LIKE 'Ssl_cipher'").await?;
            Ok(rows[0][1].clone().unwrap_or_default())
        };
        assert_eq!(cipher("sslmode=disable").await?, "");
        for parameters in [
            String::new(),
            "sslmode=preferred".to_owned(),
            "sslmode=require".to_owned(),
            format!("sslmode=require&sslrootcert={root}"),
            format!("sslmode=verify-ca&sslrootcert={root}"),
            format!("sslmode=verify-identity&sslrootcert={root}"),
        ] {
            let cipher = cipher(&parameters).await;
            assert!(cipher.is_ok_and(|cipher| !cipher.is_empty()), "{kind:?} {parameters}");
        }
        // Nobody whom browsers trust has signed it.
        for mode in ["verify-ca", "verify-identity"] {
            let error = cipher(&format!("sslmode={mode}")).await.unwrap_err();
            assert!(!format!("{error:#}").contains("s%c"), "{error:#}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn w27_the_catalog_is_read_as_it_is() -> Result<()> {
    let tables = "
        CREATE TABLE parent (a INT UNSIGNED, b VARCHAR(20), PRIMARY KEY (a, b));
        CREATE TABLE child (id BIGINT AUTO_INCREMENT PRIMARY KEY, A INT UNSIGNED, b VARCHAR(20),
            doc JSON, sum INT GENERATED ALWAYS AS (a + 1) VIRTUAL, mark CHAR(3) NOT NULL DEFAULT 'x',
            UNIQUE KEY beginning (b(3)), UNIQUE KEY whole (mark),
            CONSTRAINT to_parent FOREIGN KEY (a, b) REFERENCES parent (a, b));
        CREATE TABLE keyless (x INT);
        CREATE VIEW shown AS SELECT * FROM parent;";
    for kind in Kind::ALL {
        let mut bench = Bench::new(kind, "catalog", tables).await?;
        let flavor = bench.session.server().flavor;
        assert_eq!(flavor, if kind == Kind::MySql { Flavor::MySql } else { Flavor::MariaDb });
        let names: Vec<&str> =
            bench.catalog.tables().map(|(_, table)| table.name.table.as_str()).collect();
        assert_eq!(names, ["keyless", "parent", "child"]);
        let table = |name: &str| {
            let id = bench.catalog.find(&TableName::new("catalog", name)).expect("it is there");
            bench.catalog.table(id)
        };
        let (parent, child) = (table("parent"), table("child"));
        assert_eq!((parent.key.as_slice(), parent.referenced), (&[0, 1][..], true));
        assert_eq!(child.key, [0]);
        let uniques: Vec<(&str, Option<&[u16]>)> = child
            .uniques
            .iter()
            .map(|unique| (unique.name.as_str(), unique.columns.as_deref()))
            .collect();
        assert_eq!(uniques, [("beginning", None), ("whole", Some(&[5_u16][..]))]);
        let fk = &child.foreign_keys[0];
        assert_eq!(
            (fk.columns.as_slice(), fk.parent_columns.as_slice()),
            (&[1, 2][..], &[0, 1][..])
        );
        assert_eq!(child.column(3).cast, "json");
        assert!(child.column(5).has_default && !child.column(5).nullable);
        assert!(find_dead_letters(&bench.catalog, &TableName::new("catalog", "dlq")).is_err());
        // Nobody knows a schema of this name.
        let nothing = catalog::load(&mut bench.session, "no_such_schema").await?;
        assert_eq!(nothing.tables().count(), 0);
    }
    Ok(())
}
