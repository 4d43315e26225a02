//! Two replicators that share staging and target: one works, the other takes over.
use std::net::TcpListener;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use replicator_tests::failback::log_path;
use replicator_tests::feeder::{Caller, Where};
use replicator_tests::product::Replicator;
use replicator_tests::wait_until;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::{LIMIT, OPEN, Shop, open};

/// Numbers that only grow, and a list of those that did not.
const TABLES: &str = "CREATE TABLE note (id INT8 PRIMARY KEY, n INT8 NOT NULL); \
    CREATE TABLE backwards (id INT8, was INT8, became INT8); \
    CREATE FUNCTION look() RETURNS trigger LANGUAGE plpgsql AS \
      $$ BEGIN IF NEW.n < OLD.n THEN INSERT INTO backwards VALUES (NEW.id, OLD.n, NEW.n); END IF; \
         RETURN NULL; END $$; \
    CREATE TRIGGER look AFTER UPDATE ON note FOR EACH ROW EXECUTE PROCEDURE look()";

/// Rows that change.
const ROWS: u64 = 7;

/// A lease of five seconds, a second until somebody looks, and what a busy machine adds.
const TAKEOVER: Duration = Duration::from_secs(7);

const WAITS: &str = "another replicator works on the schema; waiting";
const TAKES_OVER: &str = "taking over";

/// One of the two.
struct One {
    replicator: Replicator,
    place: Where,
}

impl One {
    fn start(shop: &Shop, name: &str, staging: &str) -> Result<Self> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let mut arguments = shop.arguments();
        let bind = arguments.iter().position(|flag| flag == "--bindAddr").context("a listener")?;
        arguments[bind + 1] = format!("127.0.0.1:{port}");
        let more = ["--stagingConn", staging, "--stagingCreateSchema", OPEN[0]];
        arguments.extend(more.map(str::to_owned));
        let log = log_path(name)?;
        if log.exists() {
            std::fs::remove_file(&log)?;
        }
        let replicator = Replicator::start(&log, arguments)?;
        Ok(Self { replicator, place: Where { port, ..shop.place() } })
    }

    /// Waits until its log says something for the nth time.
    async fn says(&mut self, what: &str, times: usize, limit: Duration) -> Result<()> {
        wait_until(limit, what, async || {
            self.replicator.must_run()?;
            Ok(times <= self.replicator.log()?.matches(what).count())
        })
        .await
    }

    async fn post(&self, body: &str) -> Option<(u16, String)> {
        let mut caller = Caller::new(self.place.clone());
        timeout(Duration::from_secs(1), caller.post(body)).await.ok()?.ok()
    }
}

/// Sends ever larger numbers, each to both until one takes it.
async fn send(places: [Where; 2]) {
    for number in 1_u64.. {
        write(&places, number).await;
    }
}

/// Writes a number to its row.
async fn write(places: &[Where], number: u64) {
    let id = number % ROWS;
    let row = format!(
        r#"{{"payload":[{{"after":{{"id":{id},"n":{number}}},"key":[{id}],"topic":"note","updated":"{number}.0"}}]}}"#
    );
    bring(places, &row).await;
    bring(places, &format!(r#"{{"resolved":"{number}.0"}}"#)).await;
}

async fn bring(places: &[Where], body: &str) {
    for place in places.iter().cycle() {
        let mut caller = Caller::new(place.clone());
        let answer = timeout(Duration::from_millis(500), caller.post(body)).await;
        if let Ok(Ok((200, _))) = answer {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn newest(shop: &Shop) -> Result<u64> {
    let row = shop.to()?.query_one("SELECT coalesce(max(n), 0) FROM note", &[]).await?;
    Ok(row.get::<_, i64>(0).try_into()?)
}

async fn goes_on(shop: &Shop) -> Result<()> {
    let from = newest(shop).await?;
    wait_until(LIMIT, "more is applied", async || Ok(from + 20 < newest(shop).await?)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn w29_of_two_replicators_one_works_and_who_was_paused_changes_nothing() -> Result<()> {
    let shop = open("turns").await?;
    shop.to()?.batch_execute(TABLES).await?;
    let (staging, client) = shop.staging().await?;
    let mut first = One::start(&shop, "turns_first", &staging)?;
    wait_until(LIMIT, "the first one works", async || {
        first.replicator.must_run()?;
        Ok(matches!(first.post(r#"{"resolved":"0.0000000005"}"#).await, Some((200, _))))
    })
    .await?;
    let mut second = One::start(&shop, "turns_second", &staging)?;
    let mut sending = JoinSet::new();
    sending.spawn(send([first.place.clone(), second.place.clone()]));
    second.says(WAITS, 1, LIMIT).await?;
    goes_on(&shop).await?;
    let refused = second.post(r#"{"resolved":"0.0000000005"}"#).await.context("an answer")?;
    ensure!(refused.0 == 503 && refused.1.contains("another replicator"), "{refused:?}");

    // A pause is no death, but nobody can tell.
    first.replicator.signal("STOP")?;
    let paused = Instant::now();
    second.says(TAKES_OVER, 1, TAKEOVER).await?;
    goes_on(&shop).await?;
    tokio::time::sleep(Duration::from_secs(8).saturating_sub(paused.elapsed())).await;
    first.replicator.signal("CONT")?;
    first.says("could not renew the lease in time", 1, LIMIT).await?;
    first.says(WAITS, 1, LIMIT).await?;
    goes_on(&shop).await?;

    let One { replicator, .. } = second;
    replicator.kill()?;
    first.says(TAKES_OVER, 1, TAKEOVER).await?;
    goes_on(&shop).await?;

    // Who ends in good order keeps nobody waiting.
    let mut second = One::start(&shop, "turns_third", &staging)?;
    second.says(WAITS, 1, LIMIT).await?;
    let status = first.replicator.stop(LIMIT).await?;
    ensure!(status.success(), "an orderly stop ends with {status}");
    second.says(TAKES_OVER, 1, Duration::from_secs(3)).await?;
    // Nobody knows its port.
    sending.abort_all();
    check_end(&shop, second, &client).await
}

/// All that was taken is there, and nothing went back.
async fn check_end(shop: &Shop, mut last: One, staging: &tokio_postgres::Client) -> Result<()> {
    let number = newest(shop).await? + 1_000;
    for number in number..number + ROWS {
        write(std::slice::from_ref(&last.place), number).await;
    }
    let wanted = format!("SELECT count(*) FROM note WHERE n >= {number}");
    wait_until(LIMIT, "all rows are there", async || {
        last.replicator.must_run()?;
        let row = shop.to()?.query_one(&wanted, &[]).await?;
        Ok(u64::try_from(row.get::<_, i64>(0))? == ROWS)
    })
    .await?;
    let back = shop.to()?.query("SELECT id, was, became FROM backwards", &[]).await?;
    ensure!(back.is_empty(), "{} rows went back: {:?}", back.len(), back.first());
    let leases = "SELECT name, hostname FROM _replicator.leases";
    let held = staging.query(leases, &[]).await?;
    ensure!(held.len() == 1 && !held[0].get::<_, String>(1).is_empty(), "{held:?}");
    let status = last.replicator.stop(LIMIT).await?;
    ensure!(status.success(), "an orderly stop ends with {status}");
    ensure!(staging.query(leases, &[]).await?.is_empty(), "the lease was not given back");
    Ok(())
}
