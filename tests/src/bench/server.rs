//! The two PostgreSQL servers of a benchmark, and what every run asks of them.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use replicator_tests::postgres::{self, Options, Server};
use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::Client;

/// The settings of both servers: durable, and so large that no checkpoint falls into a run.
const SETTINGS: &[(&str, &str)] = &[
    ("shared_buffers", "1GB"),
    ("max_wal_size", "16GB"),
    ("min_wal_size", "2GB"),
    ("checkpoint_timeout", "60min"),
    ("track_commit_timestamp", "on"),
    ("autovacuum", "off"),
    ("synchronous_commit", "on"),
    // The launcher starts at most one apply worker in this time (5 s by default), and here one
    // subscription follows another.
    ("wal_retrieve_retry_interval", "100ms"),
];

/// No statement of a benchmark takes longer on a machine that can be measured at all.
const STATEMENT_TIME_MAX: Duration = Duration::from_secs(300);

/// How long a walsender may hold its slot after its receiver has gone.
const SLOT_RELEASE_MAX: Duration = Duration::from_secs(20);

/// The major version to measure on unless `$PG_MAJOR` names another: the numbers of two machines
/// should not differ because one of them has a newer server at hand.
const MAJOR: u16 = 15;

/// Starts one server.
pub(crate) fn start() -> Result<Server> {
    let major = if std::env::var_os("PG_MAJOR").is_some() { postgres::major()? } else { MAJOR };
    let durable = Options::default().durable();
    let options = SETTINGS.iter().fold(durable, |options, (name, value)| options.set(name, value));
    Server::start(major, &options)
}

/// The process id of the postmaster, whose children are the server's processes.
pub(crate) fn postmaster(server: &Server) -> Result<u32> {
    let file = server.log().with_file_name("data").join("postmaster.pid");
    let text = std::fs::read_to_string(&file)
        .with_context(|| format!("could not read {}", file.display()))?;
    let first = text.lines().next().context("the pid file is empty")?;
    first.trim().parse().context("the pid file holds no number")
}

/// The one text value a query returns.
pub(crate) async fn text(client: &Client, sql: &str) -> Result<String> {
    let row =
        client.query_one(sql, &[]).await.with_context(|| format!("could not query: {sql}"))?;
    row.try_get(0).context("the query returned no text")
}

/// Runs statements within the time limit.
pub(crate) async fn execute(client: &Client, sql: &str) -> Result<()> {
    timeout(STATEMENT_TIME_MAX, client.batch_execute(sql))
        .await
        .with_context(|| format!("no answer within {STATEMENT_TIME_MAX:?}: {sql}"))?
        .with_context(|| format!("could not execute: {sql}"))
}

/// Makes a slot that starts where the slot `from` does, so that every run reads the same WAL.
pub(crate) async fn copy_slot(source: &Client, from: &str, slot: &str) -> Result<()> {
    execute(source, &format!("SELECT pg_copy_logical_replication_slot('{from}', '{slot}')")).await
}

/// Drops a slot as soon as its walsender has let go of it.
pub(crate) async fn drop_slot(source: &Client, slot: &str) -> Result<()> {
    let deadline = Instant::now() + SLOT_RELEASE_MAX;
    loop {
        let row = source
            .query_opt("SELECT active FROM pg_replication_slots WHERE slot_name = $1", &[&slot])
            .await
            .context("could not look up the slot")?;
        match row.map(|row| row.get::<_, bool>(0)) {
            None => return Ok(()),
            Some(false) => {
                return execute(source, &format!("SELECT pg_drop_replication_slot('{slot}')"))
                    .await;
            }
            Some(true) if deadline <= Instant::now() => {
                bail!("slot \"{slot}\" is still in use after {SLOT_RELEASE_MAX:?}")
            }
            Some(true) => sleep(Duration::from_millis(20)).await,
        }
    }
}
