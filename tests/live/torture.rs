//! Random kills of everything, under load.
use std::time::Duration;

use anyhow::{Context as _, Result};
use replicator_tests::churn::{self, Churn};
use replicator_tests::pair::{DATABASE, PUBLICATION, Pair, SLOT};
use replicator_tests::postgres::{self, Options, Server};
use replicator_tests::product::Replicator;
use replicator_tests::random::Random;
use replicator_tests::{compare, history};

/// How often somebody is killed, if `$TORTURE_KILLS` does not say.
const KILLS: u32 = 20;

fn number(variable: &str, otherwise: u32) -> Result<u32> {
    match std::env::var(variable) {
        Ok(text) => text.parse().with_context(|| format!("{variable} is \"{text}\"")),
        Err(_) => Ok(otherwise),
    }
}

struct Torture {
    pair: Pair,
    replicator: Replicator,
    random: Random,
}

impl Torture {
    async fn begin(seed: u64) -> Result<Self> {
        let pair = Pair::start(postgres::major()?, &Options::default()).await?;
        for client in [&pair.from, &pair.to] {
            churn::create_tables(client).await?;
            history::watch(client, &churn::TABLES).await?;
        }
        let tables = churn::TABLES.map(|watched| watched.table).join(", ");
        let publication = format!("CREATE PUBLICATION {PUBLICATION} FOR TABLE {tables}");
        pair.from.batch_execute(&publication).await?;
        let slot = format!("SELECT pg_create_logical_replication_slot('{SLOT}', 'pgoutput')");
        pair.from.batch_execute(&slot).await?;
        churn::fill(&pair.from).await?;
        let replicator = replicate(&pair)?;
        Ok(Self { pair, replicator, random: Random::new(seed) })
    }

    /// Kills the product, or a server, or a server and the product, and starts it again.
    async fn kill(&mut self) -> Result<()> {
        // A server that was killed leaves the product to itself: it must get over it.
        match self.random.between(0, 9) {
            0..5 => self.replace().await,
            5..7 => crash(&self.pair.source, &mut self.random).await,
            7..9 => crash(&self.pair.target, &mut self.random).await,
            _ => {
                crash(&self.pair.target, &mut self.random).await?;
                self.replace().await
            }
        }
    }

    async fn replace(&mut self) -> Result<()> {
        self.replicator.must_run()?;
        self.replicator.signal("KILL")?;
        self.replicator.wait(Duration::from_secs(10)).await?;
        // Its sessions are dead, and a server may find out at any time later.
        tokio::time::sleep(Duration::from_millis(self.random.between(0, 300))).await;
        self.replicator = replicate(&self.pair)?;
        Ok(())
    }

    /// Waits until all has arrived, and compares.
    async fn end(mut self) -> Result<history::Summary> {
        self.pair.from = self.pair.source.client(DATABASE).await?;
        self.pair.to = self.pair.target.client(DATABASE).await?;
        let confirmed = self.pair.confirmed(Duration::from_secs(90)).await;
        self.replicator.must_run()?;
        confirmed?;
        let (from, to) = (&self.pair.from, &self.pair.to);
        let comparison = compare::tables(from, to, "public").await?;
        assert!(comparison.is_identical(), "{comparison}");
        history::compare(from, to, churn::TICKETS).await
    }
}

fn replicate(pair: &Pair) -> Result<Replicator> {
    let log = postgres::home()?.join("logs").join("torture.log");
    let mut arguments = pair.arguments(true);
    arguments.extend(["--standbyTimeout".to_owned(), "200ms".to_owned()]);
    Replicator::start(&log, arguments)
}

async fn crash(server: &Server, random: &mut Random) -> Result<()> {
    server.crash()?;
    tokio::time::sleep(Duration::from_millis(random.between(0, 1500))).await;
    server.start_again()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_of_all_three_repeat_nothing_lose_nothing_and_break_no_transaction() -> Result<()> {
    let log = postgres::home()?.join("logs").join("torture.log");
    if log.exists() {
        std::fs::remove_file(&log)?;
    }
    let seed = number("TORTURE_SEED", 1)?;
    let mut torture = Torture::begin(seed.into()).await?;
    let churn = Churn::start(&torture.pair.source.conninfo(DATABASE), 4, seed.into());
    for kill in 1..=number("TORTURE_KILLS", KILLS)? {
        let pause = torture.random.between(200, 1800);
        tokio::time::sleep(Duration::from_millis(pause)).await;
        torture.kill().await.with_context(|| format!("kill {kill} of seed {seed}"))?;
    }
    let committed = churn.finish().await?;
    let summary = torture.end().await.with_context(|| format!("seed {seed}"))?;
    assert!(summary.changes > 1000, "{summary:?}");
    // The writers count commits whose answer they saw; the source may have some more.
    assert!(summary.source_transactions as u64 >= committed / 2, "{summary:?} of {committed}");
    Ok(())
}
