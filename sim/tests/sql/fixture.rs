//! A pretend server in this process, and ways to reach it.
use std::sync::Arc;
use std::time::Duration;

use replicator_core::dialect::Product;
use replicator_core::model::position::Lsn;
use replicator_io::net::Dial;
use replicator_io::pg::connect::{SessionOptions, SqlSession, connect_sql};
use replicator_io::pg::conninfo::ConnInfo;
use replicator_io::pg::pool::{Pool, Pooled};
use replicator_io::pool::PoolLimits;
use sim::cluster::slot::SlotState;
use sim::cluster::sql::{Knobs, Role, SqlServer};
use sim::cluster::wire::Connection;
use tokio::io::DuplexStream;
use tokio_postgres::{Client, NoTls};

/// A server and its switches. Dialling it opens a pair of pipes.
#[derive(Clone, Debug)]
pub struct Pretend {
    pub server: SqlServer,
    pub knobs: Arc<Knobs>,
}

impl Dial for Pretend {
    type Stream = DuplexStream;

    async fn dial(&self, _host: &str, _port: u16) -> std::io::Result<DuplexStream> {
        let (ours, theirs) = tokio::io::duplex(64 << 10);
        let Self { server, knobs } = self.clone();
        tokio::spawn(async move {
            let mut connection = Connection::new(theirs);
            if let Ok(Some(startup)) = connection.open().await {
                // How it ended is for the client to see.
                drop(server.serve(startup, connection.into_stream(), knobs).await);
            }
        });
        Ok(ours)
    }
}

impl Pretend {
    pub fn target() -> Self {
        Self { server: SqlServer::new(Role::Target, Product::Postgres, 1), knobs: Arc::default() }
    }

    pub fn source() -> Self {
        let slot = SlotState::new("slot", "app", Lsn(0x100));
        Self {
            server: SqlServer::new(Role::Source(slot), Product::Postgres, 2),
            knobs: Arc::default(),
        }
    }

    /// A session of the product.
    pub async fn session(&self) -> SqlSession {
        connect_sql(self, &conninfo(), &SessionOptions::default()).await.unwrap()
    }

    /// A plain client.
    pub async fn client(&self) -> Client {
        let stream = self.dial("", 0).await.unwrap();
        let mut config = tokio_postgres::Config::new();
        config.user("app").dbname("app");
        let (client, connection) = config.connect_raw(stream, NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }

    pub fn pool<S: Pooled<Self>>(&self) -> Pool<Self, S> {
        let limits = PoolLimits {
            sessions_max: 4,
            idle_max: Duration::from_secs(60),
            age_max: Duration::from_secs(60),
            statements_max: 16,
            wait_max: Duration::from_secs(10),
        };
        let clock = replicator_io::clock::Clock::start();
        Pool::new(self.clone(), conninfo(), SessionOptions::default(), limits, clock)
    }
}

pub fn conninfo() -> ConnInfo {
    "postgres://app@pretend/app?sslmode=disable".parse().unwrap()
}

/// The SQLSTATE of a refusal.
pub fn code(error: &tokio_postgres::Error) -> String {
    error.code().map_or_else(|| format!("no code: {error:?}"), |code| code.code().to_owned())
}
