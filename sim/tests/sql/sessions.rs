//! Sessions and transactions, without others in the way.
use std::time::Duration;

use tokio_postgres::types::Type;

use super::fixture::{Pretend, code};

const PLAIN: &str = "INSERT INTO plain (id, a, b, v) VALUES";

#[tokio::test]
async fn a_statement_that_is_not_understood_is_refused_with_its_text() {
    let client = Pretend::target().client().await;
    for sql in ["SELECT count(*) FROM plain", "SELECT pg_catalog.pg_backend_pid()", "VACUUM"] {
        let error = client.batch_execute(sql).await.unwrap_err();
        assert_eq!(code(&error), "0A000");
        assert!(error.as_db_error().unwrap().message().contains(sql), "{error:?}");
    }
}

#[tokio::test]
async fn a_failed_transaction_refuses_everything_but_its_end() {
    let pretend = Pretend::target();
    let client = pretend.client().await;
    client.batch_execute(&format!("BEGIN; {PLAIN} (1, 1, 1, 1)")).await.unwrap();
    let error = client.batch_execute(&format!("{PLAIN} (1, 2, 2, 2)")).await.unwrap_err();
    assert_eq!(code(&error), "23505");
    assert_eq!(error.as_db_error().unwrap().constraint(), Some("plain_pkey"));
    let error = client.batch_execute("SELECT id FROM plain").await.unwrap_err();
    assert_eq!(code(&error), "25P02");
    client.batch_execute("COMMIT").await.unwrap();
    assert_eq!(pretend.server.commit_count(), 0);
    client.batch_execute(&format!("{PLAIN} (1, 3, 3, 3)")).await.unwrap();
    assert_eq!(pretend.server.commit_count(), 1);
}

#[tokio::test]
async fn a_savepoint_takes_back_what_came_after_it() {
    let pretend = Pretend::target();
    let client = pretend.client().await;
    client.batch_execute(&format!("BEGIN; {PLAIN} (1, 1, 1, 1); SAVEPOINT s")).await.unwrap();
    client.batch_execute(&format!("{PLAIN} (2, 2, 2, 2)")).await.unwrap();
    let error = client.batch_execute(&format!("{PLAIN} (1, 2, 2, 2)")).await.unwrap_err();
    assert_eq!(code(&error), "23505");
    client.batch_execute("ROLLBACK TO SAVEPOINT s; RELEASE SAVEPOINT s; COMMIT").await.unwrap();
    let rows = client.query("SELECT id FROM plain ORDER BY id", &[]).await.unwrap();
    assert_eq!(rows.iter().map(|row| row.get::<_, i64>(0)).collect::<Vec<_>>(), [1]);
}

#[tokio::test]
async fn the_statements_of_one_simple_query_are_one_transaction() {
    let pretend = Pretend::target();
    let client = pretend.client().await;
    let both = format!("{PLAIN} (1, 1, 1, 1); {PLAIN} (1, 1, 1, 1)");
    assert_eq!(code(&client.batch_execute(&both).await.unwrap_err()), "23505");
    assert_eq!(pretend.server.commit_count(), 0);
    client.batch_execute(&format!("{PLAIN} (1, 1, 1, 1); {PLAIN} (2, 1, 1, 1)")).await.unwrap();
    let commits = pretend.server.commits();
    assert_eq!((commits.len(), commits[0].changes.len()), (1, 2));
}

#[tokio::test]
async fn values_travel_in_text_and_in_binary() {
    let pretend = Pretend::target();
    let client = pretend.client().await;
    pretend.server.run("CREATE TABLE t (k TEXT PRIMARY KEY, n INT4, b BYTEA, l BOOL)").unwrap();
    let statement = client
        .prepare("INSERT INTO t (k, n, b, l) VALUES ($1, $2, $3, $4) RETURNING n, b, k, l")
        .await
        .unwrap();
    assert_eq!(statement.params(), [Type::TEXT, Type::INT4, Type::BYTEA, Type::BOOL]);
    let row = client.query_one(&statement, &[&"x", &7_i32, &&b"\0\xff"[..], &true]).await.unwrap();
    assert_eq!((row.get::<_, i32>(0), row.get::<_, Vec<u8>>(1)), (7, vec![0, 255]));
    assert_eq!((row.get::<_, &str>(2), row.get::<_, bool>(3)), ("x", true));
    let text = client.simple_query("SELECT n, b, l FROM t WHERE k = 'x'").await.unwrap();
    let row = text.into_iter().find_map(|message| {
        let tokio_postgres::SimpleQueryMessage::Row(row) = message else { return None };
        Some(row)
    });
    let row = row.unwrap();
    assert_eq!((row.get(0), row.get(1), row.get(2)), (Some("7"), Some("\\x00ff"), Some("t")));
}

#[tokio::test]
async fn constraints_are_checked_when_they_are_due() {
    let pretend = Pretend::target();
    let client = pretend.client().await;
    let run = |sql: &'static str| {
        let client = &client;
        async move { client.batch_execute(sql).await.map_err(|error| code(&error)) }
    };
    let refused = |code: &str| Err::<(), String>(code.to_owned());
    assert_eq!(run("INSERT INTO parent (id, a) VALUES (1, 1)").await, refused("23502"));
    assert_eq!(run("INSERT INTO egg (id, hen, v) VALUES (1, 1, 1)").await, refused("23503"));
    // A row may refer to one that the same statement inserts after it.
    run("INSERT INTO tree (id, up, v) VALUES (1, 2, 1), (2, NULL, 2)").await.unwrap();
    assert_eq!(run("DELETE FROM tree WHERE id = 2").await, refused("23503"));
    run("DELETE FROM tree").await.unwrap();
    // Unique values are checked row by row.
    run("INSERT INTO mail (id, address, a, v) VALUES (1, 1, 1, 1), (2, 2, 2, 2)").await.unwrap();
    let shift = "UPDATE mail AS t SET address = x.n FROM unnest(ARRAY[1, 2], ARRAY[2, 1]) AS x(i, n) \
                 WHERE t.id = x.i";
    assert_eq!(run(shift).await, refused("23505"));
    let late =
        "BEGIN; SET CONSTRAINTS ALL DEFERRED; INSERT INTO late (id, parent, v) VALUES (1, 9, 1)";
    run(late).await.unwrap();
    assert_eq!(run("COMMIT").await, refused("23503"));
    assert_eq!(run("INSERT INTO late (id, parent, v) VALUES (1, 9, 1)").await, refused("23503"));
    run(late).await.unwrap();
    run("INSERT INTO parent (id, v) VALUES (9, 2); COMMIT").await.unwrap();
    assert_eq!(run("DELETE FROM parent WHERE id = 9").await, refused("23503"));
}

#[tokio::test]
async fn a_statement_must_not_change_a_row_twice() {
    let client = Pretend::target().client().await;
    let twice =
        format!("{PLAIN} (1, 1, 1, 1), (1, 2, 2, 2) ON CONFLICT (id) DO UPDATE SET a = excluded.a");
    assert_eq!(code(&client.batch_execute(&twice).await.unwrap_err()), "21000");
    let without = format!("{PLAIN} (1, 1, 1, 1) ON CONFLICT (a) DO NOTHING");
    assert_eq!(code(&client.batch_execute(&without).await.unwrap_err()), "42P10");
}

#[tokio::test]
async fn statements_fail_and_sessions_end_on_purpose_once() {
    let pretend = Pretend::target();
    let client = pretend.client().await;
    pretend.knobs.fail_next("INSERT INTO plain", "40001");
    client.batch_execute("DELETE FROM plain").await.unwrap();
    let insert = format!("{PLAIN} (1, 1, 1, 1)");
    assert_eq!(code(&client.batch_execute(&insert).await.unwrap_err()), "40001");
    client.batch_execute(&insert).await.unwrap();
    pretend.knobs.fail_next("COMMIT", "40001");
    client.batch_execute(&format!("BEGIN; {PLAIN} (2, 1, 1, 1)")).await.unwrap();
    assert_eq!(code(&client.batch_execute("COMMIT").await.unwrap_err()), "40001");
    client.batch_execute("DELETE FROM plain WHERE id = 3").await.unwrap();
    assert_eq!(pretend.server.commit_count(), 1);
    pretend.knobs.kill_next("DELETE", "57P01");
    assert_eq!(code(&client.batch_execute("DELETE FROM plain").await.unwrap_err()), "57P01");
    assert!(client.batch_execute("DELETE FROM plain").await.unwrap_err().is_closed());
}

#[tokio::test]
async fn too_many_sessions_are_refused_and_so_are_all_while_it_starts() {
    let pretend = Pretend::target();
    pretend.knobs.set_connections_max(Some(1));
    let first = pretend.client().await;
    let refusal = |pretend: Pretend| async move {
        let options = replicator_io::pg::connect::SessionOptions::default();
        let conninfo = super::fixture::conninfo();
        let error = replicator_io::pg::connect::connect_sql(&pretend, &conninfo, &options).await;
        error.unwrap_err().reason.code().map(str::to_owned)
    };
    assert_eq!(refusal(pretend.clone()).await.as_deref(), Some("53300"));
    drop(first);
    pretend.knobs.set_connections_max(None);
    pretend.knobs.set_refuses(true);
    assert_eq!(refusal(pretend.clone()).await.as_deref(), Some("57P03"));
    pretend.knobs.set_refuses(false);
    assert!(pretend.client().await.batch_execute("BEGIN").await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_transaction_that_idles_for_too_long_is_ended_and_its_locks_with_it() {
    let pretend = Pretend::target();
    let options = replicator_io::pg::connect::SessionOptions {
        idle_in_transaction_timeout: Some(Duration::from_secs(60)),
        ..replicator_io::pg::connect::SessionOptions::default()
    };
    let conninfo = super::fixture::conninfo();
    let idle = replicator_io::pg::connect::connect_sql(&pretend, &conninfo, &options);
    let idle = idle.await.unwrap();
    idle.client().batch_execute(&format!("BEGIN; {PLAIN} (1, 1, 1, 1)")).await.unwrap();
    let began = tokio::time::Instant::now();
    pretend.client().await.batch_execute(&format!("{PLAIN} (1, 2, 2, 2)")).await.unwrap();
    assert_eq!(began.elapsed().as_secs(), 60);
    assert!(idle.client().batch_execute("COMMIT").await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_statement_takes_as_long_as_it_is_told() {
    let pretend = Pretend::target();
    let client = pretend.client().await;
    pretend.knobs.set_delay(Duration::from_secs(3));
    let began = tokio::time::Instant::now();
    client.batch_execute("DELETE FROM plain; DELETE FROM plain").await.unwrap();
    assert_eq!(began.elapsed().as_secs(), 6);
}
