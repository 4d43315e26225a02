//! Feeds of queries, whose URLs name a table: the schema is complete as far as all of its feeds have promised.
use std::time::Duration;

use anyhow::{Result, ensure};
use replicator_tests::failback::Shop;
use replicator_tests::feeder::{Caller, Where};
use replicator_tests::pair::DATABASE;
use replicator_tests::product::Replicator;
use replicator_tests::wait_until;
use tokio::time::sleep;

use super::{LIMIT, OPEN, open};

/// By then a row that need not wait would be there.
const WHILE: Duration = Duration::from_secs(2);

fn note(id: u32, time: u32) -> String {
    format!(
        r#"{{"payload":[{{"after":{{"id":{id}}},"key":[{id}],"topic":"note","updated":"{time}.0"}}]}}"#
    )
}

/// As a query with `diff` tells it.
fn item(after: &str, before: &str, time: u32) -> String {
    format!(r#"{{"payload":[{{"after":{after},"before":{before},"updated":"{time}.0"}}]}}"#)
}

fn resolved(time: u32) -> String {
    format!(r#"{{"resolved":"{time}.0"}}"#)
}

struct Feeds<'a> {
    shop: &'a Shop,
    name: &'a str,
}

impl Feeds<'_> {
    async fn make_tables(&self) -> Result<()> {
        let sql = format!(
            "CREATE SCHEMA {} CREATE TABLE note (id INT8 PRIMARY KEY) \
             CREATE TABLE item (id INT8 PRIMARY KEY, text TEXT NOT NULL)",
            self.name
        );
        Ok(self.shop.to()?.batch_execute(&sql).await?)
    }

    fn place(&self, table: &str) -> Where {
        Where { path: format!("/{DATABASE}/{}{table}", self.name), ..self.shop.place() }
    }

    async fn bring(&self, replicator: &mut Replicator, table: &str, body: &str) -> Result<()> {
        Caller::new(self.place(table)).bring(replicator, body, LIMIT).await
    }

    async fn shown(&self) -> Result<String> {
        let name = self.name;
        let sql = format!(
            "SELECT concat_ws(' ', (SELECT string_agg('n' || id, ' ' ORDER BY id) FROM {name}.note), \
             (SELECT string_agg('i' || id || ':' || text, ' ' ORDER BY id) FROM {name}.item))"
        );
        Ok(self.shop.to()?.query_one(&sql, &[]).await?.get(0))
    }

    async fn shows(&self, replicator: &mut Replicator, wanted: &str) -> Result<()> {
        wait_until(LIMIT, &format!("it is {wanted}"), async || {
            replicator.must_run()?;
            Ok(self.shown().await? == wanted)
        })
        .await
    }

    async fn still_shows(&self, wanted: &str) -> Result<()> {
        sleep(WHILE).await;
        let shown = self.shown().await?;
        ensure!(shown == wanted, "it is {shown}");
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn w06_a_feed_of_a_query_has_promises_of_its_own() -> Result<()> {
    let shop = open("feeds").await?;
    let (staging, _client) = shop.staging().await?;
    let staged = ["--stagingConn", &staging, "--stagingCreateSchema"];
    for (name, staged) in [("file", &[][..]), ("rows", &staged)] {
        let feeds = Feeds { shop: &shop, name };
        feeds.make_tables().await?;
        let flags = [OPEN, staged].concat();
        let mut replicator = shop.replicator(&flags)?;
        for body in [note(1, 10), resolved(11)] {
            feeds.bring(&mut replicator, "", &body).await?;
        }
        feeds.shows(&mut replicator, "n1").await?;
        let new = item(r#"{"id":1,"text":"one"}"#, "null", 20);
        feeds.bring(&mut replicator, "/item", &new).await?;
        for body in [note(2, 20), resolved(30)] {
            feeds.bring(&mut replicator, "", &body).await?;
        }
        feeds.still_shows("n1").await?;

        replicator.kill()?;
        let mut replicator = shop.replicator(&flags)?;
        feeds.bring(&mut replicator, "", &resolved(31)).await?;
        feeds.still_shows("n1").await?;
        feeds.bring(&mut replicator, "/item", &resolved(25)).await?;
        feeds.shows(&mut replicator, "n1 n2 i1:one").await?;

        let gone = item("null", r#"{"id":1,"text":"one"}"#, 40);
        for (table, body) in [("/item", &gone), ("", &note(3, 40)), ("", &resolved(50))] {
            feeds.bring(&mut replicator, table, body).await?;
        }
        feeds.bring(&mut replicator, "/item", &resolved(50)).await?;
        feeds.shows(&mut replicator, "n1 n2 n3").await?;

        // The feed is gone for good, and somebody says so.
        replicator.stop(LIMIT).await?;
        let forgotten = format!("{DATABASE}.{name}.item");
        let flags = [&flags, &["--forgetFeeds", &forgotten][..]].concat();
        let mut replicator = shop.replicator(&flags)?;
        for body in [note(4, 60), resolved(61)] {
            feeds.bring(&mut replicator, "", &body).await?;
        }
        feeds.shows(&mut replicator, "n1 n2 n3 n4").await?;
        replicator.stop(LIMIT).await?;
    }
    Ok(())
}

/// Nobody waits for a feed of the whole schema that there never was.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_feed_of_a_query_may_be_the_only_one() -> Result<()> {
    let shop = open("only_feed").await?;
    let feeds = Feeds { shop: &shop, name: "lonely" };
    feeds.make_tables().await?;
    let mut replicator = shop.replicator(OPEN)?;
    for body in [&item(r#"{"id":1,"text":"one"}"#, "null", 20), &resolved(30)] {
        feeds.bring(&mut replicator, "/item", body).await?;
    }
    feeds.shows(&mut replicator, "i1:one").await?;
    replicator.stop(LIMIT).await?;
    Ok(())
}
