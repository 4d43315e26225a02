//! Staged rows in a database: the promises of every staging store, and what an installation of the older
//! tool leaves behind.
#[path = "staging/older.rs"]
mod older;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use replicator_core::Failure;
use replicator_core::decode::changefeed::TargetKind;
use replicator_core::dialect::Product;
use replicator_core::model::mutation::{Change, Mutation, TimedMutation};
use replicator_core::model::position::{PartitionId, Position};
use replicator_core::model::time::Hlc;
use replicator_io::clock::Clock;
use replicator_io::net::TcpDial;
use replicator_io::pg::connect::{SessionOptions, connect_sql};
use replicator_io::pg::conninfo::ConnInfo;
use replicator_io::pg::pool::Pool;
use replicator_io::pool::PoolLimits;
use replicator_io::port::{Fence, Staging as _};
use replicator_io::staging::rows::{PgRows, RowsOptions};
use replicator_io::staging::schema::{StagingName, prepare_rows};
use replicator_tests::postgres::{self, Options, Server};
use sim::random::Random;
use sim::schema::{Sent, schema};
use sim::staging::model::ModelStaging;
use sim::staging::rows::{arranged, row, time};
use sim::staging::suite::{PARTITIONS, suite};
use tokio_postgres::Client;

const TIMEOUT: Duration = Duration::from_secs(20);

/// A database with a staging schema.
struct Bench {
    _server: Server,
    client: Client,
    pool: Pool<TcpDial>,
    name: StagingName,
}

fn pool(conninfo: ConnInfo) -> Pool<TcpDial> {
    let limits = PoolLimits {
        sessions_max: 8,
        idle_max: Duration::from_secs(60),
        age_max: Duration::from_secs(60),
        statements_max: 16,
        wait_max: Duration::from_secs(10),
    };
    Pool::new(TcpDial, conninfo, SessionOptions::default(), limits, Clock::start())
}

fn options(database: &str) -> RowsOptions {
    RowsOptions {
        database: database.to_owned(),
        schema: "public".to_owned(),
        partitions: (0..PARTITIONS).map(|number| format!("Part-{number}")).collect(),
        catalog: Arc::clone(&schema().catalog),
        target: TargetKind::Postgres,
        timeout: TIMEOUT,
        reader_index: true,
    }
}

impl Bench {
    async fn new() -> Result<Self> {
        let server = Server::start(postgres::major()?, &Options::default())?;
        let client = server.create_database("app").await?;
        let name = StagingName { database: None, schema: "_replicator".to_owned() };
        prepare_rows(&client, &name, Product::Postgres, true).await?;
        let pool = pool(server.conninfo("app").parse()?);
        Ok(Self { _server: server, client, pool, name })
    }

    /// The store for a target database; of each there may be many at the same time.
    fn store(&self, database: &str) -> PgRows<TcpDial> {
        self.store_with(options(database))
    }

    fn store_with(&self, options: RowsOptions) -> PgRows<TcpDial> {
        PgRows::new(self.pool.clone(), Product::Postgres, self.name.clone(), options)
    }

    async fn number(&self, sql: &str) -> Result<i64> {
        Ok(self.client.query_one(sql, &[]).await.context("a number")?.try_get(0)?)
    }
}

fn hlc(nanos: u64) -> Hlc {
    Hlc { nanos, logical: 1 }
}

/// An upsert of table `plain`.
fn plain(time: Hlc, key: i64, value: Option<i64>) -> TimedMutation {
    let id = schema().id("plain");
    let image = schema().row(id, 0, &[Some(key), value, None, Some(0)].map(Sent::Value));
    let key = schema().catalog.table(id).key_of(&image).expect("the key is sent");
    TimedMutation { time, mutation: Mutation { table: id, key, change: Change::Upsert(image) } }
}

async fn begun(store: &PgRows<TcpDial>) -> Fence {
    store.begin().await.expect("a run begins").0
}

async fn stage(store: &PgRows<TcpDial>, fence: Fence, rows: &[TimedMutation]) {
    store.stage(fence, rows.to_vec(), Hlc::default()).await.expect("rows are staged");
}

async fn read_all(store: &PgRows<TcpDial>) -> Vec<TimedMutation> {
    let page = store.read(Hlc::default(), hlc(u64::MAX), u32::MAX).await.expect("rows are read");
    assert!(page.exhausted, "there is nothing beyond all");
    page.rows
}

#[tokio::test]
async fn rows_in_a_database_keep_the_promises_of_staging() -> Result<()> {
    let bench = Bench::new().await?;
    suite(async |name: &str| bench.store(name)).await;
    let tables = bench.number("SELECT count(*) FROM _replicator.replicator_staging_tables").await?;
    ensure!(8 < tables, "the suite staged rows in {tables} tables");
    Ok(())
}

#[tokio::test]
async fn rows_in_cockroachdb_keep_the_promises_of_staging() -> Result<()> {
    // No server of it can be had here, so this one says when it has checked nothing.
    let Ok(url) = std::env::var("CRDB_URL") else {
        ensure!(std::env::var_os("COCKROACH_BIN").is_none(), "set CRDB_URL to a running server");
        return Ok(());
    };
    let conninfo: ConnInfo = url.parse()?;
    let database = format!("replicator_{}", std::process::id());
    let name = StagingName { database: Some(database.clone()), schema: "public".to_owned() };
    let session = connect_sql(&TcpDial, &conninfo, &SessionOptions::default()).await?;
    prepare_rows(session.client(), &name, Product::Cockroach, true).await?;
    let pool = pool(conninfo);
    let store = |of: &str| PgRows::new(pool.clone(), Product::Cockroach, name.clone(), options(of));
    suite(async |name: &str| store(name)).await;
    session.client().batch_execute(&format!("DROP DATABASE \"{database}\" CASCADE")).await?;
    Ok(())
}

/// Plays a story on both stores and compares each answer.
async fn compare(bench: &Bench, seed: u64) -> Result<()> {
    let database = format!("random_{seed}");
    let (model, mut store) = (ModelStaging::new(PARTITIONS), bench.store(&database));
    let mut fences = Vec::new();
    let mut random = Random::new(seed);
    for version in 0..random.within(5, 40) {
        let newest = fences.len().saturating_sub(1);
        // Mostly the newest run, now and then a dead one.
        let fence =
            match fences.get(if random.chance(90) { newest } else { random.below(newest + 1) }) {
                Some(fence) => *fence,
                None => Fence(0),
            };
        let (one, other) = match random.below(10) {
            _ if fences.is_empty() => begin_both(&model, &store, &mut fences).await?,
            0 => begin_both(&model, &store, &mut fences).await?,
            1 => {
                store = bench.store(&database);
                continue;
            }
            2 | 3 => {
                let (after, through) = (time(&mut random), time(&mut random));
                let rows_max = u32::try_from(random.below(8))?;
                let one = model.read(after, through, rows_max).await.map(arranged);
                let other = store.read(after, through, rows_max).await.map(arranged);
                ensure!(one == other, "seed {seed}: {one:?}\n{other:?}");
                continue;
            }
            4 => {
                let through = time(&mut random);
                (model.retire(fence, through).await, store.retire(fence, through).await)
            }
            5 => {
                let position = Position::Hlc(time(&mut random));
                let one = model.save_checkpoint(fence, position).await;
                (one, store.save_checkpoint(fence, position).await)
            }
            6 => {
                let partition = PartitionId(u32::try_from(random.below(2))?);
                let resolved = time(&mut random);
                let one = model.save_resolved(fence, partition, resolved).await;
                (one, store.save_resolved(fence, partition, resolved).await)
            }
            _ => {
                let version = i64::try_from(version)?;
                let rows: Vec<TimedMutation> =
                    (0..random.within(0, 6)).map(|_| row(&mut random, version)).collect();
                let floor = if random.chance(50) { time(&mut random) } else { Hlc::default() };
                let one = model.stage(fence, rows.clone(), floor).await;
                (one, store.stage(fence, rows, floor).await)
            }
        };
        ensure!(one == other, "seed {seed}: {one:?} {other:?}");
    }
    Ok(())
}

async fn begin_both(
    model: &ModelStaging,
    store: &PgRows<TcpDial>,
    fences: &mut Vec<Fence>,
) -> Result<(Result<(), Failure>, Result<(), Failure>)> {
    let (one, other) = (model.begin().await, store.begin().await);
    ensure!(one == other, "{one:?} {other:?}");
    fences.extend(one.map(|(fence, _)| fence));
    Ok((Ok(()), Ok(())))
}

#[tokio::test]
async fn rows_in_a_database_are_what_they_are_in_the_pretend_store() -> Result<()> {
    let bench = Bench::new().await?;
    for seed in 0..80 {
        compare(&bench, seed).await?;
    }
    Ok(())
}

#[tokio::test]
async fn w24_tables_whose_names_come_out_equal_are_staged_apart() -> Result<()> {
    let bench = Bench::new().await?;
    // The documented name of both is shop_public_plain.
    let stores = [bench.store("Shop"), bench.store("shop")];
    for (key, store) in (1..).zip(&stores) {
        let fence = begun(store).await;
        stage(store, fence, &[plain(hlc(5), key, None)]).await;
    }
    for (key, store) in (1..).zip(&stores) {
        assert_eq!(read_all(store).await, [plain(hlc(5), key, None)]);
        // Also for one that has to look the names up.
        begun(store).await;
        assert_eq!(read_all(store).await, [plain(hlc(5), key, None)]);
    }
    assert_eq!(bench.number("SELECT count(*) FROM _replicator.shop_public_plain").await?, 1);
    Ok(())
}

#[tokio::test]
async fn w25_promises_of_names_with_capitals_are_kept() -> Result<()> {
    let bench = Bench::new().await?;
    let mut options = options("Shop");
    options.partitions = vec!["Feed".to_owned(), "feed".to_owned()];
    let store = bench.store_with(options);
    let fence = begun(&store).await;
    for (partition, nanos) in [(0, 5), (1, 7), (0, 6)] {
        let saved = store.save_resolved(fence, PartitionId(partition), hlc(nanos)).await;
        assert_eq!(saved, Ok(()));
    }
    let (_, durable) = store.begin().await.expect("a run begins");
    assert_eq!(durable.resolved.into_values().collect::<Vec<_>>(), [hlc(6), hlc(7)]);
    Ok(())
}

#[tokio::test]
async fn w29_a_paused_run_is_over_before_the_next_one_begins() -> Result<()> {
    let bench = Bench::new().await?;
    let store = bench.store("shop");
    let old = begun(&store).await;
    stage(&store, old, &[plain(hlc(1), 1, None)]).await;
    // A run that has checked its fence, and stops there for a while.
    let check = "SELECT 1 / (CASE WHEN (SELECT fence FROM _replicator.replicator_fences
                  WHERE stream = 'start-shop.public' FOR SHARE) = 1 THEN 1 ELSE 0 END)";
    bench.client.batch_execute("BEGIN").await?;
    bench.client.execute(check, &[]).await?;
    let next = bench.store("shop");
    let mut beginning = Box::pin(next.begin());
    let early = tokio::time::timeout(Duration::from_millis(300), &mut beginning).await;
    assert!(early.is_err(), "the next run began beside it");
    let late = "INSERT INTO _replicator.shop_public_plain (nanos, logical, key, mut)
                SELECT 2, logical, key, mut FROM _replicator.shop_public_plain";
    bench.client.batch_execute(&format!("{late}; COMMIT")).await?;
    let (new, _) = beginning.await.expect("a run begins");
    assert_eq!(read_all(&next).await.len(), 2, "what it wrote is known");
    // From here on its writes are void.
    assert!(bench.client.execute(check, &[]).await.is_err());
    let rows = vec![plain(hlc(3), 1, None)];
    assert_eq!(store.stage(old, rows.clone(), Hlc::default()).await, Err(Failure::Fenced));
    assert_eq!(next.stage(new, rows, Hlc::default()).await, Ok(()));
    Ok(())
}

#[tokio::test]
async fn w33_each_partition_keeps_one_promise() -> Result<()> {
    let bench = Bench::new().await?;
    // As many as the older tool leaves in a day.
    let old = "INSERT INTO _replicator.checkpoints (group_name, source_hlc, partition)
               SELECT 'shop.public', n::DECIMAL + 0.0000000001, 'Part-1'
                 FROM generate_series(1, 25000) AS n";
    bench.client.batch_execute(old).await?;
    let store = bench.store("shop");
    let (fence, durable) = store.begin().await.expect("a run begins");
    assert_eq!(durable.resolved[&PartitionId(1)], hlc(25_000));
    let count = "SELECT count(*) FROM _replicator.checkpoints";
    for (nanos, left) in [(1, 15_001), (2, 5_002), (3, 2), (4, 2)] {
        for partition in 0..PARTITIONS {
            let saved =
                store.save_resolved(fence, PartitionId(partition), hlc(25_000 + nanos)).await;
            assert_eq!(saved, Ok(()));
        }
        let left_now = bench.number(count).await?;
        assert!(left_now <= left + 1, "{left_now} rows after {nanos}");
    }
    assert_eq!(bench.number(count).await?, i64::from(PARTITIONS));
    store.save_checkpoint(fence, Position::Hlc(hlc(25_004))).await.expect("it is saved");
    let applied = "SELECT count(target_applied_at) FROM _replicator.checkpoints";
    assert_eq!(bench.number(applied).await?, i64::from(PARTITIONS));
    Ok(())
}

#[tokio::test]
async fn many_rows_are_read_in_pages_and_retired_in_parts() -> Result<()> {
    let bench = Bench::new().await?;
    let store = bench.store("shop");
    let fence = begun(&store).await;
    let rows: Vec<TimedMutation> = (0..25_000)
        .map(|key| plain(hlc(1 + key / 10), i64::try_from(key).unwrap(), None))
        .collect();
    stage(&store, fence, &rows).await;
    let (mut after, mut count) = (Hlc::default(), 0);
    loop {
        let page = store.read(after, hlc(u64::MAX), 1_005).await.expect("rows are read");
        count += page.rows.len();
        if page.exhausted {
            break;
        }
        assert_eq!(page.rows.len(), 1_010, "whole times");
        after = page.rows.last().expect("a page has rows").time;
    }
    assert_eq!(count, rows.len());
    store.retire(fence, hlc(2_400)).await.expect("rows are retired");
    assert_eq!(bench.number("SELECT count(*) FROM _replicator.shop_public_plain").await?, 1_000);
    assert_eq!(read_all(&store).await.len(), 1_000);
    Ok(())
}

#[tokio::test]
async fn w05_a_table_that_comes_later_is_read() -> Result<()> {
    let bench = Bench::new().await?;
    let store = bench.store("shop");
    let fence = begun(&store).await;
    stage(&store, fence, &[plain(hlc(1), 1, None)]).await;
    assert_eq!(read_all(&store).await.len(), 1);
    let mut random = Random::new(7);
    let mut other = row(&mut random, 1);
    while other.mutation.table == schema().id("plain") {
        other = row(&mut random, 1);
    }
    stage(&store, fence, &[TimedMutation { time: hlc(2), ..other }]).await;
    assert_eq!(read_all(&store).await.len(), 2);
    Ok(())
}

#[tokio::test]
async fn what_is_saved_with_a_position_comes_back() -> Result<()> {
    let bench = Bench::new().await?;
    let store = bench.store("shop");
    assert_eq!(store.identity().await, Ok(None));
    for identity in ["cluster one", "cluster two"] {
        store.save_identity(identity).await.expect("it is saved");
        assert_eq!(bench.store("shop").identity().await, Ok(Some(identity.to_owned())));
    }
    assert_eq!(store.independent().await, Ok(None));
    let (old, _) = store.begin().await.expect("it begins");
    let (fence, _) = store.begin().await.expect("it begins");
    store.save_independent(fence, "one\ntwo").await.expect("it is saved");
    assert_eq!(store.save_independent(old, "none").await, Err(Failure::Fenced));
    assert_eq!(store.independent().await, Ok(Some("one\ntwo".to_owned())));
    assert_eq!(store.feeds().await, Ok(None));
    store.save_feeds(fence, "all").await.expect("it is saved");
    assert_eq!(store.save_feeds(old, "none").await, Err(Failure::Fenced));
    assert_eq!(store.feeds().await, Ok(Some("all".to_owned())));
    // Positions that cannot be read are somebody's mistake, and nothing is guessed.
    let broken = "INSERT INTO _replicator.memo VALUES ('start-position-shop.public', 'x')";
    bench.client.batch_execute(broken).await?;
    let refused = store.begin().await.expect_err("it cannot be read").to_string();
    assert!(
        refused.contains("delete the row with key \"start-position-shop.public\""),
        "{refused}"
    );
    Ok(())
}
