//! A target on a database of its own, and rows to bring there.
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use replicator_core::Failure;
use replicator_core::model::catalog::Catalog;
use replicator_core::model::ident::TableName;
use replicator_core::model::mutation::{
    ApplyBatch, ApplyOrder, ApplyRequest, Change, Mutation, Piece, TxEnd,
};
use replicator_core::model::position::{Lsn, Position, TxSeq};
use replicator_core::model::row::{Cell, Layout, Row, RowBuilder};
use replicator_io::clock::Clock;
use replicator_io::mysql::conninfo::MySqlConnInfo;
use replicator_io::mysql::pool::MySqlPool;
use replicator_io::mysql::session::{MySqlOptions, MySqlSession};
use replicator_io::pool::PoolLimits;
use replicator_io::port::{Fence, Target as _};
use replicator_io::target::mysql::{MySqlTarget, MySqlTargetOptions, catalog};
use replicator_tests::mysql::{Kind, MariaDbVersion, Server};

/// What sessions of the tests are like.
pub(crate) const OPTIONS: MySqlOptions =
    MySqlOptions { lock_wait: Duration::from_secs(5), idle: Duration::from_secs(60) };

/// The fence of the only run.
const FENCE: Fence = Fence(1);

/// A server of each product, and of the oldest MariaDB.
pub(crate) fn servers() -> Result<[(&'static str, Arc<Server>); 3]> {
    Ok([
        ("MySQL", Server::shared(Kind::MySql)?),
        ("MariaDB", Server::shared(Kind::MariaDb)?),
        ("MariaDB 10.5", Arc::new(Server::start_mariadb(MariaDbVersion::V10_5)?)),
    ])
}

/// A target.
pub(crate) struct Bench {
    pub(crate) server: Arc<Server>,
    pub(crate) database: String,
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) target: MySqlTarget,
    /// What is there before a test, and what is checked after it.
    pub(crate) session: MySqlSession,
}

impl Bench {
    /// A new database with these tables, on the server that tests share. `name` must be a test's own.
    pub(crate) async fn new(kind: Kind, name: &str, tables: &str) -> Result<Self> {
        Self::on(Server::shared(kind)?, name, tables).await
    }

    /// The same on this server.
    pub(crate) async fn on(server: Arc<Server>, name: &str, tables: &str) -> Result<Self> {
        server
            .run(&format!("CREATE DATABASE {name} CHARACTER SET utf8mb4; USE {name}; {tables}"))?;
        let conninfo = server.conninfo(name);
        Self::by(server, name, &conninfo).await
    }

    /// The same over a connection string of one's own.
    pub(crate) async fn by(server: Arc<Server>, name: &str, conninfo: &str) -> Result<Self> {
        let mut session = MySqlSession::open(&server.conninfo(name).parse()?, &OPTIONS).await?;
        let catalog = Arc::new(catalog::load(&mut session, name).await?);
        let target = target(conninfo.parse()?, name, &catalog);
        Ok(Self { server, database: name.to_owned(), catalog, target, session })
    }

    /// Runs one statement.
    pub(crate) async fn run(&mut self, sql: &str) -> Result<()> {
        self.session.query(sql).await?;
        Ok(())
    }

    /// The first field of each row of an answer, separated by blanks.
    pub(crate) async fn ask(&mut self, sql: &str) -> Result<String> {
        let rows = self.session.query(sql).await?;
        let fields = rows.into_iter().map(|row| row.into_iter().next().flatten());
        let fields: Vec<String> =
            fields.map(|field| field.unwrap_or_else(|| "NULL".to_owned())).collect();
        Ok(fields.join(" "))
    }

    /// An image and its key; `None` is NULL, `Some("?")` was not sent.
    pub(crate) fn row(&self, table: &str, cells: &[Option<&str>]) -> (Row, Mutation) {
        let name = TableName::new(&self.database, table);
        let table = self.catalog.find(&name).expect("a known table");
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

    pub(crate) fn upsert(&self, table: &str, cells: &[&str]) -> Mutation {
        let cells: Vec<Option<&str>> =
            cells.iter().map(|cell| (*cell != "NULL").then_some(*cell)).collect();
        self.row(table, &cells).1
    }

    pub(crate) fn update(&self, table: &str, cells: &[&str]) -> Mutation {
        let mutation = self.upsert(table, cells);
        let Change::Upsert(row) = mutation.change else { panic!("no upsert") };
        Mutation { change: Change::Update(row), ..mutation }
    }

    pub(crate) fn delete(&self, table: &str, cells: &[&str]) -> Mutation {
        let mutation = self.upsert(table, cells);
        let Change::Upsert(row) = mutation.change else { panic!("no upsert") };
        Mutation { change: Change::Delete(row), ..mutation }
    }

    /// A row that gets another key.
    pub(crate) fn moved(&self, table: &str, from: &[&str], to: &[&str]) -> Mutation {
        let (old, new) = (self.upsert(table, from), self.upsert(table, to));
        let (Change::Upsert(from), Change::Upsert(to)) = (old.change, new.change) else {
            panic!("no upserts")
        };
        Mutation { table: old.table, key: old.key, change: Change::Move { from, to } }
    }

    /// Applies a batch of one transaction, netted.
    pub(crate) async fn apply(&self, mutations: Vec<Mutation>) -> Result<(), Failure> {
        self.target.apply(FENCE, request(mutations, ApplyOrder::Netted)).await
    }

    /// Applies a batch of one transaction in the order given.
    pub(crate) async fn apply_in_order(&self, mutations: Vec<Mutation>) -> Result<(), Failure> {
        self.target.apply(FENCE, request(mutations, ApplyOrder::Source)).await
    }

    /// Applies a request.
    pub(crate) async fn send(&self, request: ApplyRequest) -> Result<(), Failure> {
        self.target.apply(FENCE, request).await
    }
}

/// A pool, as a run has one.
pub(crate) fn pool(conninfo: MySqlConnInfo, schema: &str) -> MySqlPool {
    let limits = PoolLimits {
        sessions_max: 4,
        idle_max: Duration::from_secs(60),
        age_max: Duration::from_secs(60),
        statements_max: 0,
        wait_max: Duration::from_secs(10),
    };
    MySqlPool::new(conninfo, OPTIONS, limits, Clock::start(), schema)
}

/// A target with a pool of its own.
fn target(conninfo: MySqlConnInfo, schema: &str, catalog: &Arc<Catalog>) -> MySqlTarget {
    let pool = pool(conninfo, schema);
    let options = MySqlTargetOptions {
        catalog: Arc::clone(catalog),
        record: None,
        apply_timeout: Duration::from_secs(60),
        dead_letters: Some(TableName::new(schema, "replicator_dlq")),
    };
    MySqlTarget::new(pool, options)
}

/// A batch of one transaction.
pub(crate) fn request(mutations: Vec<Mutation>, order: ApplyOrder) -> ApplyRequest {
    let (first, position) = (TxSeq(1), Position::Lsn(Lsn(16)));
    let batch = ApplyBatch {
        first,
        last: first,
        after: None,
        position,
        committed: None,
        piece: Piece::Whole,
        ends: vec![TxEnd { seq: first, position, before: mutations.len() }],
        mutations,
    };
    ApplyRequest { batch: Arc::new(batch), order, dead: Vec::new() }
}

/// A piece of a transaction.
pub(crate) fn piece(mutations: Vec<Mutation>, piece: Piece) -> ApplyRequest {
    let mut request = request(mutations, ApplyOrder::Source);
    let batch = ApplyBatch { piece, ..(*request.batch).clone() };
    request.batch = Arc::new(batch);
    request
}
