//! Sessions that meet.
use std::time::Duration;

use tokio::time::timeout;
use tokio_postgres::{Client, Error};

use super::fixture::{Pretend, code};

/// Runs a statement in the background.
fn start(client: &std::sync::Arc<Client>, sql: &str) -> tokio::task::JoinHandle<Result<(), Error>> {
    let (client, sql) = (std::sync::Arc::clone(client), sql.to_owned());
    tokio::spawn(async move { client.batch_execute(&sql).await })
}

async fn pair() -> (Pretend, std::sync::Arc<Client>, std::sync::Arc<Client>) {
    let pretend = Pretend::target();
    pretend.server.run("INSERT INTO parent (id, v) VALUES (1, 1), (2, 2)").unwrap();
    pretend.server.run("INSERT INTO mail (id, address, v) VALUES (1, 1, 1)").unwrap();
    let (one, two) = (pretend.client().await, pretend.client().await);
    (pretend, one.into(), two.into())
}

/// What became of the second of two statements, which must wait for the end of the first.
async fn second(first: &str, end: &str, second: &str) -> Result<(), String> {
    let (_pretend, one, two) = pair().await;
    one.batch_execute(&format!("BEGIN; {first}")).await.unwrap();
    let mut waiting = start(&two, second);
    assert!(timeout(Duration::from_secs(5), &mut waiting).await.is_err(), "{second} does not wait");
    one.batch_execute(end).await.unwrap();
    waiting.await.unwrap().map_err(|error| code(&error))
}

#[tokio::test(start_paused = true)]
async fn a_writer_waits_for_whoever_wrote_the_row_and_sees_the_outcome() {
    let insert = "INSERT INTO plain (id, v) VALUES (1, 1)";
    assert_eq!(second(insert, "COMMIT", insert).await, Err("23505".to_owned()));
    assert_eq!(second(insert, "ROLLBACK", insert).await, Ok(()));
    let upsert =
        "INSERT INTO plain (id, v) VALUES (1, 2) ON CONFLICT (id) DO UPDATE SET v = excluded.v";
    assert_eq!(second(insert, "COMMIT", upsert).await, Ok(()));
    let nothing = "INSERT INTO plain (id, v) VALUES (1, 2) ON CONFLICT (id) DO NOTHING";
    assert_eq!(second(insert, "COMMIT", nothing).await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn a_unique_value_in_an_open_transaction_is_waited_for() {
    let insert = "INSERT INTO mail (id, address, v) VALUES (2, 1, 1)";
    for first in ["DELETE FROM mail WHERE id = 1", "UPDATE mail SET address = 7 WHERE id = 1"] {
        assert_eq!(second(first, "COMMIT", insert).await, Ok(()));
        assert_eq!(second(first, "ROLLBACK", insert).await, Err("23505".to_owned()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_reference_and_the_end_of_its_row_wait_for_each_other() {
    let child = "INSERT INTO child (id, parent, v) VALUES (1, 1, 1)";
    let delete = "DELETE FROM parent WHERE id = 1";
    assert_eq!(second(child, "COMMIT", delete).await, Err("23503".to_owned()));
    assert_eq!(second(child, "ROLLBACK", delete).await, Ok(()));
    assert_eq!(second(delete, "COMMIT", child).await, Err("23503".to_owned()));
    assert_eq!(second(delete, "ROLLBACK", child).await, Ok(()));
}

#[tokio::test]
async fn a_reference_does_not_wait_for_a_change_of_other_values() {
    let (pretend, one, two) = pair().await;
    one.batch_execute("BEGIN; UPDATE parent SET a = 5 WHERE id = 1").await.unwrap();
    two.batch_execute("INSERT INTO child (id, parent, v) VALUES (1, 1, 1)").await.unwrap();
    one.batch_execute("COMMIT").await.unwrap();
    // A parent that is not committed is not there.
    one.batch_execute("BEGIN; INSERT INTO parent (id, v) VALUES (3, 3)").await.unwrap();
    let orphan = two.batch_execute("INSERT INTO child (id, parent, v) VALUES (2, 3, 1)").await;
    assert_eq!(code(&orphan.unwrap_err()), "23503");
    assert_eq!(pretend.server.rows(sim::schema::schema().id("child")).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn whoever_closes_a_circle_of_waiting_gets_40p01_and_the_other_goes_on() {
    let (_pretend, one, two) = pair().await;
    one.batch_execute("BEGIN; UPDATE parent SET a = 1 WHERE id = 1").await.unwrap();
    two.batch_execute("BEGIN; UPDATE parent SET a = 2 WHERE id = 2").await.unwrap();
    let waiting = start(&one, "UPDATE parent SET a = 1 WHERE id = 2");
    tokio::time::sleep(Duration::from_secs(1)).await;
    let error = two.batch_execute("UPDATE parent SET a = 2 WHERE id = 1").await.unwrap_err();
    assert_eq!(code(&error), "40P01");
    waiting.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_wait_for_a_lock_has_the_limit_that_it_is_given() {
    let (pretend, one, two) = pair().await;
    pretend.knobs.set_lock_wait_max(Some(Duration::from_secs(7)));
    one.batch_execute("BEGIN; DELETE FROM parent WHERE id = 1").await.unwrap();
    let began = tokio::time::Instant::now();
    let error = two.batch_execute("DELETE FROM parent WHERE id = 1").await.unwrap_err();
    assert_eq!((code(&error).as_str(), began.elapsed().as_secs()), ("55P03", 7));
}

#[tokio::test]
async fn a_session_that_disconnects_is_rolled_back() {
    let (pretend, one, two) = pair().await;
    one.batch_execute("BEGIN; DELETE FROM parent WHERE id = 1").await.unwrap();
    drop(one);
    two.batch_execute("DELETE FROM parent WHERE id = 1").await.unwrap();
    assert_eq!(pretend.server.commit_count(), 3);
}

#[tokio::test(start_paused = true)]
async fn what_a_client_sent_before_it_vanished_is_carried_out_to_the_commit() {
    let (pretend, one, two) = pair().await;
    one.batch_execute("BEGIN; DELETE FROM parent WHERE id = 1").await.unwrap();
    // It waits for the lock, and its client goes away.
    let waiting = start(&two, "BEGIN; DELETE FROM parent WHERE id = 1; DELETE FROM mail; COMMIT");
    tokio::time::sleep(Duration::from_secs(1)).await;
    waiting.abort();
    drop(two);
    tokio::time::sleep(Duration::from_secs(1)).await;
    one.batch_execute("COMMIT").await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(pretend.server.rows(sim::schema::schema().id("mail")).is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_share_of_a_row_keeps_others_from_changing_it_and_sees_what_they_did() {
    let (_pretend, one, two) = pair().await;
    one.batch_execute("BEGIN; UPDATE parent SET a = 5 WHERE id = 1").await.unwrap();
    let sharing = std::sync::Arc::clone(&two);
    let waiting = tokio::spawn(async move {
        sharing.batch_execute("BEGIN").await.unwrap();
        let row = sharing.query_one("SELECT a FROM parent WHERE id = 1 FOR SHARE", &[]).await;
        row.unwrap().get::<_, i64>(0)
    });
    tokio::time::sleep(Duration::from_secs(1)).await;
    one.batch_execute("COMMIT").await.unwrap();
    assert_eq!(waiting.await.unwrap(), 5);
    let change = start(&one, "UPDATE parent SET a = 6 WHERE id = 1");
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!change.is_finished());
    two.batch_execute("COMMIT").await.unwrap();
    change.await.unwrap().unwrap();
}
