//! A network that fails: each scenario ends with identical tables and a history in which nothing came
//! twice.
use std::time::Duration;

use anyhow::{Result, ensure};
use replicator_tests::churn::{self, Churn};
use replicator_tests::databases::Databases;
use replicator_tests::history;
use replicator_tests::product::Replicator;
use replicator_tests::proxy::{Admit, AtCommit, End, Proxy};
use replicator_tests::random::Random;
use tokio::time::sleep;

/// A load that is replicated by way of two proxies.
struct Scene {
    databases: Databases,
    to_source: Proxy,
    to_target: Proxy,
    replicator: Replicator,
    churn: Churn,
    random: Random,
}

impl Scene {
    async fn open(name: &str) -> Result<Self> {
        let databases = Databases::create(name).await?;
        for client in [&databases.from, &databases.to] {
            churn::create_tables(client).await?;
            history::watch(client, &churn::TABLES).await?;
        }
        let tables = churn::TABLES.map(|watched| watched.table).join(", ");
        databases.publish_as(&format!("FOR TABLE {tables}")).await?;
        churn::fill(&databases.from).await?;
        let to_source = Proxy::start(databases.source().port()).await?;
        let to_target = Proxy::start(databases.target().port()).await?;
        let source = databases.source().conninfo(name);
        let target = to_target.conninfo(&databases.target().conninfo(name));
        let mut replicator = databases.replicate(&[
            "--sourceConn",
            &to_source.conninfo(&source),
            "--targetConn",
            &target,
            // Whoever does not answer is given up after this.
            "--applyTimeout",
            "2s",
        ])?;
        databases.confirmed(&mut replicator).await?;
        let churn = Churn::start(&source, 3, 1);
        Ok(Self { databases, to_source, to_target, replicator, churn, random: Random::new(1) })
    }

    /// A moment somewhere in the load.
    async fn a_while(&mut self) {
        sleep(Duration::from_millis(self.random.between(50, 500))).await;
    }

    /// Everything works again. Returns how many connections had ended at a commit.
    async fn close(mut self) -> Result<u64> {
        self.to_source.heal();
        self.to_target.heal();
        self.a_while().await;
        let committed = self.churn.finish().await?;
        self.databases.arrived(&mut self.replicator).await?;
        let (from, to) = (&self.databases.from, &self.databases.to);
        let summary = history::compare(from, to, churn::TICKETS).await?;
        ensure!(committed > 50, "the load was no load: {committed} transactions");
        ensure!(summary.source_transactions > 50, "{summary:?}");
        Ok(self.to_target.ended_at_commit())
    }
}

/// Ends all connections to one side again and again.
async fn check_ends(name: &str, source: bool, end: End) -> Result<()> {
    let mut scene = Scene::open(name).await?;
    for _ in 0..8 {
        scene.a_while().await;
        let proxy = if source { &scene.to_source } else { &scene.to_target };
        proxy.end(end);
    }
    scene.close().await.map(drop)
}

#[tokio::test]
async fn cut_connections_to_the_source_change_nothing() -> Result<()> {
    check_ends("cut_source", true, End::Cut).await
}

#[tokio::test]
async fn cut_connections_to_the_target_change_nothing() -> Result<()> {
    check_ends("cut_target", false, End::Cut).await
}

#[tokio::test]
async fn reset_connections_to_the_source_change_nothing() -> Result<()> {
    check_ends("reset_source", true, End::Reset).await
}

#[tokio::test]
async fn reset_connections_to_the_target_change_nothing() -> Result<()> {
    check_ends("reset_target", false, End::Reset).await
}

/// Ends the sessions that a server would find dead by itself, after a minute by default
/// (`wal_sender_timeout`) or after hours (`tcp_keepalives_idle`).
async fn bury(scene: &Scene) -> Result<()> {
    sleep(Duration::from_secs(4)).await;
    let sender = "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots
                  WHERE slot_name = current_database() AND active";
    scene.databases.from.batch_execute(sender).await?;
    let sessions = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                    WHERE datname = current_database() AND pid <> pg_backend_pid()
                          AND state LIKE 'idle in transaction%'";
    scene.databases.to.batch_execute(sessions).await?;
    Ok(())
}

#[tokio::test]
async fn a_source_that_falls_silent_is_left_for_another_connection() -> Result<()> {
    let mut scene = Scene::open("silent_source").await?;
    // A minute by default. Since version 12 a database can say otherwise.
    if scene.databases.major() >= 12 {
        let sql = "ALTER DATABASE silent_source SET wal_sender_timeout = '5s'";
        scene.databases.from.batch_execute(sql).await?;
        scene.to_source.end(End::Cut);
        sleep(Duration::from_secs(2)).await;
    }
    scene.a_while().await;
    scene.to_source.end(End::Silence);
    bury(&scene).await?;
    scene.close().await.map(drop)
}

#[tokio::test]
async fn a_target_that_falls_silent_is_left_for_another_connection() -> Result<()> {
    let mut scene = Scene::open("silent_target").await?;
    for _ in 0..2 {
        scene.a_while().await;
        scene.to_target.end(End::Silence);
        bury(&scene).await?;
    }
    scene.close().await.map(drop)
}

#[tokio::test]
async fn a_slow_network_changes_nothing() -> Result<()> {
    let mut scene = Scene::open("slow").await?;
    for (source, target) in [(20, 0), (0, 20), (10, 10)] {
        scene.to_source.slow(Duration::from_millis(source));
        scene.to_target.slow(Duration::from_millis(target));
        sleep(Duration::from_millis(1500)).await;
        scene.a_while().await;
    }
    scene.close().await.map(drop)
}

#[tokio::test]
async fn servers_that_cannot_be_reached_for_a_while_are_tried_again() -> Result<()> {
    let mut scene = Scene::open("unreachable").await?;
    for admit in [Admit::None, Admit::Silence] {
        for source in [true, false] {
            scene.a_while().await;
            let proxy = if source { &scene.to_source } else { &scene.to_target };
            proxy.admit(admit);
            proxy.end(End::Reset);
            sleep(Duration::from_secs(2)).await;
            proxy.heal();
        }
    }
    scene.close().await.map(drop)
}

async fn check_commits(name: &str, fault: AtCommit, rounds: u32) -> Result<()> {
    let mut scene = Scene::open(name).await?;
    for _ in 0..rounds {
        scene.to_target.at_commit(fault);
        scene.a_while().await;
        if matches!(fault, AtCommit::NotHeard(End::Silence) | AtCommit::NotAnswered(End::Silence)) {
            bury(&scene).await?;
        }
        scene.a_while().await;
    }
    let ended = scene.close().await?;
    assert!(ended >= u64::from(rounds) / 2, "{ended} connections ended at a commit");
    Ok(())
}

#[tokio::test]
async fn a_commit_that_the_target_did_not_hear_is_made_again() -> Result<()> {
    check_commits("commit_cut", AtCommit::NotHeard(End::Cut), 8).await?;
    check_commits("commit_reset", AtCommit::NotHeard(End::Reset), 4).await
}

#[tokio::test]
async fn a_commit_whose_answer_is_lost_is_not_made_twice() -> Result<()> {
    check_commits("answer_cut", AtCommit::NotAnswered(End::Cut), 8).await?;
    check_commits("answer_reset", AtCommit::NotAnswered(End::Reset), 4).await
}

#[tokio::test]
async fn a_commit_after_which_nobody_answers_is_neither_lost_nor_made_twice() -> Result<()> {
    check_commits("commit_silence", AtCommit::NotHeard(End::Silence), 2).await?;
    check_commits("answer_silence", AtCommit::NotAnswered(End::Silence), 2).await
}
