//! What changefeeds bring goes back to a real PostgreSQL.
use std::time::Duration;

use anyhow::Result;
use replicator_io::replicate::start::Consistency;
use replicator_tests::postgres::{self, Options, Server};
use replicator_tests::wait_until;
use tokio_postgres::Client;

use super::{BODY_BYTES_MAX, CONSISTENT, Folder, Running, row};

const TABLES: &str = "
    CREATE TABLE parent (id int8 PRIMARY KEY, name text NOT NULL);
    CREATE TABLE child (id int8 PRIMARY KEY, parent_id int8 NOT NULL REFERENCES parent, note text)";

/// A target, and where staging is kept.
struct Bench {
    server: Server,
    client: Client,
    folder: Folder,
}

impl Bench {
    async fn new(name: &str) -> Result<Self> {
        let server = Server::start(postgres::major()?, &Options::default())?;
        let client = server.create_database("app").await?;
        client.batch_execute(TABLES).await?;
        Ok(Self { server, client, folder: Folder::new(name) })
    }

    async fn start(&self) -> Result<Running> {
        self.start_in(CONSISTENT).await
    }

    async fn start_in(&self, consistency: Consistency) -> Result<Running> {
        let target = self.server.conninfo("app");
        Running::start_in(&target, "/app/public", &self.folder.0, consistency).await
    }

    /// Waits until a question has this answer.
    async fn until(&self, sql: &str, wanted: &str) -> Result<()> {
        wait_until(Duration::from_secs(10), wanted, async || {
            Ok(self.client.query_one(sql, &[]).await?.try_get::<_, &str>(0)? == wanted)
        })
        .await
    }
}

const CHILDREN: &str = "SELECT COALESCE(string_agg(c.id || ':' || p.name || ':' || c.note, ' ' ORDER BY c.id), '') \
                        FROM child c JOIN parent p ON p.id = c.parent_id";
const PARENTS: &str = "SELECT COALESCE(string_agg(name, ' ' ORDER BY id), '') FROM parent";

#[tokio::test]
async fn rows_arrive_when_they_are_resolved_whatever_their_order() -> Result<()> {
    let bench = Bench::new("order").await?;
    let failback = bench.start().await?;
    // A child before its parent, an older image after a newer one, and each of them twice.
    let child = row("child", 1, r#"{"id":1,"parent_id":7,"note":"a"}"#, 100);
    let parent = row("parent", 7, r#"{"id":7,"name":"new"}"#, 100);
    let older = row("parent", 7, r#"{"id":7,"name":"old"}"#, 90);
    let later = row("parent", 8, r#"{"id":8,"name":"later"}"#, 200);
    failback.bring(&[child.clone(), later]).await?;
    failback.bring(&[parent.clone(), older.clone()]).await?;
    failback.bring(&[older.clone(), child, parent]).await?;
    assert_eq!(bench.client.query(CHILDREN, &[]).await?[0].get::<_, &str>(0), "");
    failback.resolved(150).await?;
    bench.until(CHILDREN, "1:new:a").await?;
    bench.until(PARENTS, "new").await?;
    // An older promise and an older image change nothing any more.
    failback.resolved(120).await?;
    failback.bring(&[older]).await?;
    failback.resolved(250).await?;
    bench.until(PARENTS, "new later").await?;
    failback.stop().await
}

#[tokio::test]
async fn what_was_answered_survives_the_process() -> Result<()> {
    let bench = Bench::new("survives").await?;
    let failback = bench.start().await?;
    failback.bring(&[row("parent", 1, r#"{"id":1,"name":"kept"}"#, 100)]).await?;
    // Dropped in the middle of its work.
    drop(failback);
    let failback = loop {
        // The thread of the file is through in a moment.
        match bench.start().await {
            Ok(failback) => break failback,
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    };
    failback.resolved(100).await?;
    bench.until(PARENTS, "kept").await?;
    failback.bring(&[row("parent", 1, "null", 110)]).await?;
    failback.resolved(110).await?;
    bench.until(PARENTS, "").await?;
    failback.stop().await
}

#[tokio::test]
async fn what_cannot_be_taken_is_refused_with_its_status() -> Result<()> {
    let bench = Bench::new("refused").await?;
    let failback = bench.start().await?;
    let drift = row("parent", 1, r#"{"id":1,"name":"x","extra":1}"#, 100);
    let drift = format!(r#"{{"payload":[{drift}],"length":1}}"#);
    let large = "x".repeat(2 * BODY_BYTES_MAX);
    for (method, path, body, status) in [
        ("POST", "/", "{}", 404),
        ("POST", "/app", "{}", 404),
        ("POST", "/_/app", "{}", 404),
        ("POST", "/app/nowhere", "{}", 400),
        ("POST", "/other/public", "{}", 400),
        ("GET", "/app/public", "", 405),
        ("POST", "/app/public", "{", 400),
        ("POST", "/app/public", r#"{"payload":[{"topic":"parent"}]}"#, 400),
        ("POST", "/app/public", &drift, 409),
        ("POST", "/app/public", &large, 413),
        ("POST", "/app/public/nothing", "{}", 409),
        ("POST", "/app/public/parent", "{", 400),
        ("POST", "/app/public/parent", "", 200),
        ("POST", "/app/public", "", 200),
    ] {
        let (got, text) = failback.ask(method, path, body).await?;
        assert_eq!(got, status, "{method} {path}: {text}");
        assert!(status == 200 || text.contains("incident"), "{text}");
    }
    // None of that was staged.
    failback.resolved(1_000).await?;
    failback.bring(&[row("parent", 1, r#"{"id":1,"name":"good"}"#, 1_100)]).await?;
    failback.resolved(1_200).await?;
    bench.until(PARENTS, "good").await?;
    failback.stop().await
}

#[tokio::test]
async fn w06_a05_two_feeds_of_one_schema_lose_nothing_by_each_others_promises() -> Result<()> {
    let bench = Bench::new("feeds").await?;
    let failback = bench.start().await?;
    // One feed is of the parents, the other of the children, and nothing tells them apart.
    failback.bring(&[row("parent", 1, r#"{"id":1,"name":"one"}"#, 100)]).await?;
    failback.resolved(500).await?;
    bench.until(PARENTS, "one").await?;
    failback.bring(&[row("child", 1, r#"{"id":1,"parent_id":1,"note":"slow"}"#, 200)]).await?;
    failback.resolved(250).await?;
    failback.bring(&[row("parent", 1, r#"{"id":1,"name":"uno"}"#, 600)]).await?;
    failback.resolved(600).await?;
    bench.until(CHILDREN, "1:uno:slow").await?;
    bench.until(PARENTS, "uno").await?;
    failback.stop().await
}

#[tokio::test]
async fn a05_a_feed_begun_anew_with_an_older_cursor_brings_back_no_older_values() -> Result<()> {
    let bench = Bench::new("cursor").await?;
    let failback = bench.start().await?;
    let first = row("parent", 1, r#"{"id":1,"name":"first"}"#, 100);
    let second = row("parent", 1, r#"{"id":1,"name":"second"}"#, 200);
    let gone = [row("parent", 2, r#"{"id":2,"name":"gone"}"#, 150), row("parent", 2, "null", 250)];
    failback.bring(&[first.clone(), second.clone()]).await?;
    failback.bring(&gone).await?;
    failback.resolved(300).await?;
    bench.until(PARENTS, "second").await?;
    // The process is another one, too.
    failback.stop().await?;
    let failback = bench.start().await?;
    let unsent = row("parent", 3, r#"{"id":3,"name":"unsent"}"#, 160);
    failback.bring(&[unsent, first, gone[0].clone()]).await?;
    failback.resolved(180).await?;
    failback.bring(&[second, gone[1].clone()]).await?;
    failback.resolved(300).await?;
    failback.bring(&[row("parent", 4, r#"{"id":4,"name":"new"}"#, 400)]).await?;
    failback.resolved(400).await?;
    bench.until(PARENTS, "second unsent new").await?;
    failback.stop().await
}

/// Promises that come again, that are older than others, and that skip times change nothing of what is there, and
/// all of them are taken.
#[tokio::test]
async fn a05_promises_come_again_go_back_and_skip_without_harm() -> Result<()> {
    let bench = Bench::new("promises").await?;
    let failback = bench.start().await?;
    let name = |name: &str, time: u32| {
        let after = format!(r#"{{"id":{time},"name":"{name}"}}"#);
        row("parent", time.into(), &after, time)
    };
    failback.bring(&[name("a", 10)]).await?;
    for time in [10, 10, 5] {
        failback.resolved(time).await?;
    }
    bench.until(PARENTS, "a").await?;
    failback.bring(&[name("c", 30), name("b", 20)]).await?;
    // Nothing was promised about 20 alone, and what was is not about 40.
    failback.resolved(30).await?;
    failback.bring(&[name("d", 40)]).await?;
    failback.resolved(15).await?;
    failback.resolved(30).await?;
    bench.until(PARENTS, "a b c").await?;
    // Not even the next process has forgotten how far it was.
    failback.stop().await?;
    let failback = bench.start().await?;
    for time in [10, 20] {
        failback.resolved(time).await?;
    }
    failback.bring(&[name("e", 50)]).await?;
    assert_eq!(bench.client.query_one(PARENTS, &[]).await?.get::<_, &str>(0), "a b c");
    failback.resolved(1_000).await?;
    bench.until(PARENTS, "a b c d e").await?;
    failback.stop().await
}

#[tokio::test]
async fn a04_tables_and_columns_come_and_go_while_rows_come() -> Result<()> {
    come_and_go("schema", CONSISTENT).await
}

#[tokio::test]
async fn a04_tables_and_columns_come_and_go_in_best_effort() -> Result<()> {
    come_and_go("schema_best_effort", Consistency::BestEffort).await
}

#[tokio::test]
async fn a04_tables_and_columns_come_and_go_in_immediate_mode() -> Result<()> {
    come_and_go("schema_immediate", Consistency::Immediate).await
}

async fn come_and_go(name: &str, consistency: Consistency) -> Result<()> {
    let bench = Bench::new(name).await?;
    if consistency == Consistency::Immediate {
        // It is for tables without foreign keys.
        let sql = "ALTER TABLE child DROP CONSTRAINT child_parent_id_fkey";
        bench.client.batch_execute(sql).await?;
    }
    let failback = bench.start_in(consistency).await?;
    failback.bring(&[row("parent", 1, r#"{"id":1,"name":"one"}"#, 100)]).await?;
    failback.resolved(100).await?;
    bench.until(PARENTS, "one").await?;
    // A feed repeats what is refused until the target has been changed, too.
    let tag = row("tag", 1, r#"{"id":1,"label":"x"}"#, 200);
    let wider = row("parent", 2, r#"{"id":2,"name":"two","nick":"zwei"}"#, 200);
    assert!(failback.bring(std::slice::from_ref(&tag)).await.is_err(), "there is no such table");
    assert!(failback.bring(std::slice::from_ref(&wider)).await.is_err(), "there is no such column");
    let sql = "CREATE TABLE tag (id int8 GENERATED ALWAYS AS IDENTITY PRIMARY KEY, label text,
                                 number int8 GENERATED BY DEFAULT AS IDENTITY (START 7),
                                 made timestamptz NOT NULL DEFAULT now(),
                                 twice text GENERATED ALWAYS AS (label || label) STORED);
               ALTER TABLE parent ADD nick text; DROP TABLE child";
    bench.client.batch_execute(sql).await?;
    bring_again(&failback, &[tag, wider]).await?;
    failback.resolved(200).await?;
    bench
        .until("SELECT COALESCE(string_agg(concat(id, number, twice), ' '), '') FROM tag", "17xx")
        .await?;
    bench.until("SELECT COALESCE(string_agg(nick, ' '), '') FROM parent", "zwei").await?;

    rename_and_drop(&bench, &failback).await?;
    failback.stop().await
}

/// A column gets another name, and goes.
async fn rename_and_drop(bench: &Bench, failback: &Running) -> Result<()> {
    bench.client.batch_execute("ALTER TABLE parent RENAME nick TO alias").await?;
    let renamed = row("parent", 2, r#"{"id":2,"name":"two","alias":"dos"}"#, 300);
    bring_again(failback, &[renamed]).await?;
    failback.resolved(300).await?;
    // What is staged has its columns by their names, so none goes before its rows have come.
    bench.until("SELECT COALESCE(string_agg(alias, ' '), '') FROM parent", "dos").await?;
    bench.client.batch_execute("ALTER TABLE parent DROP alias").await?;
    bring_again(failback, &[row("parent", 3, r#"{"id":3,"name":"three"}"#, 400)]).await?;
    failback.resolved(400).await?;
    bench.until(PARENTS, "one two three").await
}

/// What is staged waits for its table, and nothing that comes after it goes before it.
#[tokio::test]
async fn a04_a_table_that_goes_while_its_rows_are_staged_gets_them_when_it_is_back() -> Result<()> {
    let bench = Bench::new("schema_staged").await?;
    let tag = "CREATE TABLE tag (id int8 PRIMARY KEY, label text)";
    bench.client.batch_execute(tag).await?;
    let failback = bench.start().await?;
    failback.bring(&[row("tag", 1, r#"{"id":1,"label":"staged"}"#, 100)]).await?;
    failback.bring(&[row("parent", 1, r#"{"id":1,"name":"same"}"#, 100)]).await?;
    bench.client.batch_execute("DROP TABLE tag").await?;
    bring_again(&failback, &[row("parent", 2, r#"{"id":2,"name":"later"}"#, 200)]).await?;
    failback.resolved(200).await?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(bench.client.query_one(PARENTS, &[]).await?.get::<_, &str>(0), "");
    bench.client.batch_execute(tag).await?;
    bench.until("SELECT COALESCE(string_agg(label, ' '), '') FROM tag", "staged").await?;
    bench.until(PARENTS, "same later").await?;
    failback.stop().await
}

#[tokio::test]
async fn rows_that_are_new_and_rows_that_are_not_arrive_alike() -> Result<()> {
    let bench = Bench::new("guess").await?;
    let sql = "INSERT INTO parent SELECT id, 'first' FROM generate_series(300, 1000) id";
    bench.client.batch_execute(sql).await?;
    let failback = bench.start().await?;
    let rows = |ids: std::ops::Range<i64>, name: &str, time: u32| {
        let one = |id| row("parent", id, &format!(r#"{{"id":{id},"name":"{name}\\"}}"#), time);
        ids.map(one).collect::<Vec<String>>()
    };
    let state = "SELECT string_agg(name || ':' || rows, ' ' ORDER BY name) FROM
                 (SELECT name, count(*) AS rows FROM parent GROUP BY name) AS names";
    for (ids, name, time, wanted) in [
        (0..200, "new", 100, r"first:701 new\:200"),
        (200..400, "mixed", 200, r"first:601 mixed\:200 new\:200"),
        (100..300, "old", 300, r"first:601 mixed\:100 new\:100 old\:200"),
        (2_000..2_500, "more", 400, r"first:601 mixed\:100 more\:500 new\:100 old\:200"),
        (2_400..2_600, "last", 500, r"first:601 last\:200 mixed\:100 more\:400 new\:100 old\:200"),
    ] {
        failback.bring(&rows(ids, name, time)).await?;
        failback.resolved(time.into()).await?;
        bench.until(state, wanted).await?;
    }
    failback.stop().await
}

/// Brings rows again and again until they are taken.
async fn bring_again(failback: &Running, rows: &[String]) -> Result<()> {
    wait_until(Duration::from_secs(20), "the rows are taken", async || {
        Ok(failback.bring(rows).await.is_ok())
    })
    .await
}
