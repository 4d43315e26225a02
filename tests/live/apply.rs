//! What the target and staging adapters promise, on a real PostgreSQL.
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use replicator_core::dialect::{Dialect, Product};
use replicator_core::model::catalog::Catalog;
use replicator_core::model::ident::TableName;
use replicator_core::model::mutation::{
    ApplyBatch, ApplyOrder, ApplyRequest, Change, Mutation, Piece, TxEnd,
};
use replicator_core::model::position::{Applied, Lsn, Position, TxSeq};
use replicator_core::model::row::{Cell, Layout, Row, RowBuilder};
use replicator_core::{Durable, Failure};
use replicator_io::clock::Clock;
use replicator_io::net::TcpDial;
use replicator_io::pg::connect::SessionOptions;
use replicator_io::pg::conninfo::ConnInfo;
use replicator_io::pg::pool::Pool;
use replicator_io::pool::PoolLimits;
use replicator_io::port::{Fence, Staging as _, Target as _};
use replicator_io::staging::pg_store::PgStore;
use replicator_io::staging::schema::{StagingName, prepare};
use replicator_io::target::catalog;
use replicator_io::target::pgwire::{PgTarget, PgTargetOptions};
use replicator_io::target::record::Record;
use replicator_tests::postgres::{self, Options, Server};
use tokio_postgres::Client;

const TABLES: &str = "
    CREATE TABLE parent (id int8 PRIMARY KEY, name text NOT NULL);
    CREATE TABLE child (id int8 PRIMARY KEY, parent_id int8 NOT NULL REFERENCES parent, note text);
    CREATE TABLE mail (id int8 PRIMARY KEY, address varchar(5) NOT NULL UNIQUE);
    CREATE TABLE replicator_dlq (event UUID DEFAULT md5(random()::text || clock_timestamp()::text)::uuid PRIMARY KEY,
        dlq_name TEXT NOT NULL, source_nanos INT8 NOT NULL, source_logical INT8 NOT NULL,
        data_after JSONB NOT NULL, data_before JSONB NOT NULL)";

/// A target with its staging in one database.
struct Bench {
    _server: Server,
    client: Client,
    catalog: Arc<Catalog>,
    store: PgStore<TcpDial>,
    target: PgTarget<TcpDial>,
}

impl Bench {
    async fn new() -> Result<Self> {
        let server = Server::start(postgres::major()?, &Options::default())?;
        let client = server.create_database("app").await?;
        client.batch_execute(TABLES).await?;
        let name = StagingName { database: None, schema: "_replicator".to_owned() };
        prepare(&client, &name, true).await?;
        let limits = PoolLimits {
            sessions_max: 4,
            idle_max: Duration::from_secs(60),
            age_max: Duration::from_secs(60),
            statements_max: 16,
            wait_max: Duration::from_secs(10),
        };
        let conninfo: ConnInfo = server.conninfo("app").parse()?;
        let (options, clock) = (SessionOptions::default(), Clock::start());
        let stored = Pool::new(TcpDial, conninfo.clone(), options.clone(), limits, clock);
        let timeout = Duration::from_secs(10);
        let product = Product::Postgres;
        let store = PgStore::pglogical(stored, product, &name, "public", timeout);
        let catalog = Arc::new(catalog::load(&client, product, "public").await?);
        let applying = PgTargetOptions {
            dialect: Dialect { product, database: "app".to_owned() },
            catalog: Arc::clone(&catalog),
            record: Some(Record::in_staging(store.record_names(), product, None)),
            apply_timeout: timeout,
            dead_letters: Some(TableName::new("public", "replicator_dlq")),
        };
        let pool = Pool::new(TcpDial, conninfo, options, limits, clock);
        let target = PgTarget::new(pool, applying);
        Ok(Self { _server: server, client, catalog, store, target })
    }

    fn row(&self, table: &str, cells: &[Option<&str>]) -> (Row, Mutation) {
        let table = self.catalog.find(&TableName::new("public", table)).expect("a known table");
        let columns = (0_u16..).map(Some).take(cells.len()).collect();
        let mut builder = RowBuilder::new();
        for cell in cells {
            builder.push(match cell {
                None => Cell::Null,
                Some("?") => Cell::Unchanged,
                Some(text) => Cell::Text(text.as_bytes()),
            });
        }
        let row = builder.finish(Arc::new(Layout { table, columns })).expect("whole cells");
        let key = self.catalog.table(table).key_of(&row).expect("a whole key");
        let change = Change::Upsert(row.clone());
        (row, Mutation { table, key, change })
    }

    fn upsert(&self, table: &str, cells: &[Option<&str>]) -> Mutation {
        self.row(table, cells).1
    }

    fn insert(&self, table: &str, cells: &[Option<&str>]) -> Mutation {
        let (row, mutation) = self.row(table, cells);
        Mutation { change: Change::Insert(row), ..mutation }
    }

    fn update(&self, table: &str, cells: &[Option<&str>]) -> Mutation {
        let (row, mutation) = self.row(table, cells);
        Mutation { change: Change::Update(row), ..mutation }
    }

    fn delete(&self, table: &str, cells: &[Option<&str>]) -> Mutation {
        let (row, mutation) = self.row(table, cells);
        Mutation { change: Change::Delete(row), ..mutation }
    }

    async fn apply(&self, fence: Fence, request: ApplyRequest) -> Result<(), Failure> {
        self.target.apply(fence, request).await
    }

    async fn count(&self, table: &str) -> Result<i64> {
        let sql = format!("SELECT count(*) FROM {table}");
        Ok(self.client.query_one(&sql, &[]).await?.get(0))
    }
}

/// A batch of one transaction, number `seq`.
fn request(seq: u64, mutations: Vec<Mutation>) -> ApplyRequest {
    let lsn = |seq: u64| Position::Lsn(Lsn(seq * 16));
    let (first, position) = (TxSeq(seq), lsn(seq));
    let batch = ApplyBatch {
        first,
        last: first,
        after: Some(lsn(seq - 1)),
        position,
        committed: None,
        piece: Piece::Whole,
        ends: vec![TxEnd { seq: first, position, before: mutations.len() }],
        mutations,
    };
    ApplyRequest { batch: Arc::new(batch), order: ApplyOrder::Netted, dead: Vec::new() }
}

fn with_piece(mut request: ApplyRequest, piece: Piece) -> ApplyRequest {
    let batch = ApplyBatch { piece, ..(*request.batch).clone() };
    request.batch = Arc::new(batch);
    request
}

#[tokio::test]
async fn a_batch_is_applied_once_however_often_it_is_sent() -> Result<()> {
    let bench = Bench::new().await?;
    let (fence, durable) = bench.store.begin().await.expect("staging answers");
    assert_eq!(durable, Durable::default());
    let batch = request(1, vec![bench.upsert("parent", &[Some("1"), Some("a")])]);
    assert_eq!(bench.apply(fence, batch.clone()).await, Ok(()));
    bench.client.batch_execute("UPDATE parent SET name = 'newer'").await?;
    assert_eq!(bench.apply(fence, batch).await, Ok(()));
    let name: String = bench.client.query_one("SELECT name FROM parent", &[]).await?.get(0);
    assert_eq!(name, "newer");

    let (_, durable) = bench.store.begin().await.expect("staging answers");
    let through = Position::Lsn(Lsn(16));
    let applied = Applied { after: Some(Position::Lsn(Lsn(0))), through };
    assert_eq!(durable, Durable { applied: vec![applied], ..Durable::default() });
    Ok(())
}

#[tokio::test]
async fn a_repeated_batch_does_not_harm_the_next_one() -> Result<()> {
    let bench = Bench::new().await?;
    let (fence, _) = bench.store.begin().await.expect("staging answers");
    let batch = request(1, vec![bench.upsert("parent", &[Some("1"), Some("a")])]);
    assert_eq!(bench.apply(fence, batch.clone()).await, Ok(()));
    assert_eq!(bench.apply(fence, batch).await, Ok(()));
    // The repetition was refused in a transaction, which must not be left open in the pool.
    let next = request(2, vec![bench.upsert("parent", &[Some("2"), Some("b")])]);
    assert_eq!(bench.apply(fence, next).await, Ok(()));
    assert_eq!(bench.count("parent").await?, 2);
    Ok(())
}

#[tokio::test]
async fn a_run_whose_fence_was_removed_writes_nothing() -> Result<()> {
    let bench = Bench::new().await?;
    let (fence, _) = bench.store.begin().await.expect("staging answers");
    bench.client.batch_execute("DELETE FROM _replicator.replicator_fences").await?;
    let batch = request(1, vec![bench.upsert("parent", &[Some("1"), Some("a")])]);
    assert_eq!(bench.apply(fence, batch).await, Err(Failure::Fenced));
    assert_eq!(bench.count("parent").await?, 0);
    Ok(())
}

#[tokio::test]
async fn a_dead_run_writes_nothing() -> Result<()> {
    let bench = Bench::new().await?;
    let (old, _) = bench.store.begin().await.expect("staging answers");
    let (new, _) = bench.store.begin().await.expect("staging answers");
    let batch = request(1, vec![bench.upsert("parent", &[Some("1"), Some("a")])]);
    assert_eq!(bench.apply(old, batch.clone()).await, Err(Failure::Fenced));
    assert_eq!(bench.count("parent").await?, 0);
    let position = Position::Lsn(Lsn(16));
    assert_eq!(bench.store.save_checkpoint(old, position).await, Err(Failure::Fenced));
    assert_eq!(bench.apply(new, batch).await, Ok(()));
    assert_eq!(bench.store.save_checkpoint(new, position).await, Ok(()));
    let (_, durable) = bench.store.begin().await.expect("staging answers");
    assert_eq!(durable, Durable { checkpoint: Some(position), ..Durable::default() });
    Ok(())
}

#[tokio::test]
async fn rows_of_one_batch_go_in_the_order_constraints_need() -> Result<()> {
    let bench = Bench::new().await?;
    let (fence, _) = bench.store.begin().await.expect("staging answers");
    let parents = (1..=200).map(|id| bench.insert("parent", &[Some(&id.to_string()), Some("p")]));
    let children = (1..=200)
        .map(|id| bench.insert("child", &[Some(&id.to_string()), Some(&id.to_string()), None]));
    let first = request(1, children.chain(parents).collect());
    assert_eq!(bench.apply(fence, first).await, Ok(()));
    assert_eq!(bench.count("child").await?, 200);
    let moved = vec![
        bench.insert("parent", &[Some("900"), Some("new")]),
        bench.upsert("child", &[Some("7"), Some("900"), Some("moved")]),
        bench.delete("parent", &[Some("7"), None]),
    ];
    assert_eq!(bench.apply(fence, request(2, moved)).await, Ok(()));
    assert_eq!(bench.count("parent").await?, 200);
    Ok(())
}

#[tokio::test]
async fn an_existing_row_turns_a_copy_into_a_constraint_failure() -> Result<()> {
    let bench = Bench::new().await?;
    let (fence, _) = bench.store.begin().await.expect("staging answers");
    bench.client.batch_execute("INSERT INTO parent VALUES (5, 'old')").await?;
    let rows: Vec<Mutation> =
        (1..=200).map(|id| bench.insert("parent", &[Some(&id.to_string()), Some("p")])).collect();
    let copied = bench.apply(fence, request(1, rows.clone())).await;
    assert!(matches!(copied, Err(Failure::Constraint { .. })), "{copied:?}");
    assert_eq!(bench.count("parent").await?, 1);
    let in_order = ApplyRequest { order: ApplyOrder::Source, ..request(1, rows) };
    assert_eq!(bench.apply(fence, in_order).await, Ok(()));
    assert_eq!(bench.count("parent").await?, 200);
    Ok(())
}

#[tokio::test]
async fn a_refused_row_is_found_and_kept_without_its_value_in_the_text() -> Result<()> {
    let bench = Bench::new().await?;
    let (fence, _) = bench.store.begin().await.expect("staging answers");
    let rows = vec![
        bench.upsert("mail", &[Some("1"), Some("a")]),
        bench.upsert("mail", &[Some("2"), Some("too long")]),
        bench.upsert("mail", &[Some("3"), Some("c")]),
    ];
    let mut attempt = request(1, rows);
    attempt.order = ApplyOrder::RowWise(0..3);
    let refused = bench.apply(fence, attempt.clone()).await;
    let Err(Failure::Rejected { detail, at }) = refused else { panic!("{refused:?}") };
    assert_eq!(at, Some(1..2));
    assert!(detail.contains("22001") && !detail.contains("too long\""), "{detail}");
    attempt.order = ApplyOrder::Source;
    attempt.dead = vec![1];
    assert_eq!(bench.apply(fence, attempt).await, Ok(()));
    assert_eq!(bench.count("mail").await?, 2);
    let sql = "SELECT data_after ->> 'address' FROM replicator_dlq";
    assert_eq!(bench.client.query_one(sql, &[]).await?.get::<_, String>(0), "too long");
    Ok(())
}

#[tokio::test]
async fn an_update_of_a_missing_row_is_noticed_before_the_commit() -> Result<()> {
    let bench = Bench::new().await?;
    let (fence, _) = bench.store.begin().await.expect("staging answers");
    bench.client.batch_execute("INSERT INTO parent VALUES (1, 'wide')").await?;
    bench.client.batch_execute("INSERT INTO child VALUES (1, 1, 'wide')").await?;
    let kept = request(1, vec![bench.update("child", &[Some("1"), Some("1"), Some("?")])]);
    assert_eq!(bench.apply(fence, kept).await, Ok(()));
    let note: String = bench.client.query_one("SELECT note FROM child", &[]).await?.get(0);
    assert_eq!(note, "wide");
    let lost = request(
        2,
        vec![
            bench.upsert("parent", &[Some("2"), Some("b")]),
            bench.update("child", &[Some("2"), Some("2"), Some("?")]),
        ],
    );
    let refused = bench.apply(fence, lost).await;
    assert!(matches!(refused, Err(Failure::Rejected { .. })), "{refused:?}");
    assert_eq!(bench.count("parent").await?, 1);
    Ok(())
}

#[tokio::test]
async fn w12_a_key_change_keeps_large_values_that_were_not_sent() -> Result<()> {
    let bench = Bench::new().await?;
    let (fence, _) = bench.store.begin().await.expect("staging answers");
    bench.client.batch_execute("INSERT INTO parent VALUES (1, 'wide')").await?;
    bench.client.batch_execute("INSERT INTO child VALUES (1, 1, 'wide')").await?;
    let (from, old) = bench.row("child", &[Some("1"), None, None]);
    let (to, _) = bench.row("child", &[Some("2"), Some("1"), Some("?")]);
    let moved = Mutation { change: Change::Move { from, to }, ..old };
    let in_order = ApplyRequest { order: ApplyOrder::Source, ..request(1, vec![moved]) };
    assert_eq!(bench.apply(fence, in_order).await, Ok(()));
    let row = bench.client.query_one("SELECT id, note FROM child", &[]).await?;
    assert_eq!((row.get::<_, i64>(0), row.get::<_, &str>(1)), (2, "wide"));
    Ok(())
}

#[tokio::test]
async fn pieces_become_visible_together() -> Result<()> {
    let bench = Bench::new().await?;
    let (fence, _) = bench.store.begin().await.expect("staging answers");
    let piece = |id: &str| request(1, vec![bench.insert("parent", &[Some(id), Some("p")])]);
    assert_eq!(bench.apply(fence, with_piece(piece("1"), Piece::First)).await, Ok(()));
    // A refused piece can be tried again.
    let twice = with_piece(piece("1"), Piece::Middle);
    let twice = ApplyRequest { order: ApplyOrder::Source, ..twice };
    assert_eq!(bench.apply(fence, twice).await, Ok(()));
    assert_eq!(bench.count("parent").await?, 0);
    assert_eq!(bench.apply(fence, with_piece(piece("2"), Piece::Last)).await, Ok(()));
    assert_eq!(bench.count("parent").await?, 2);
    Ok(())
}
