//! Where rows are staged until their time has come: in a file of ours, or in a database.
use std::sync::Arc;
use std::time::Duration;

use replicator_core::Failure;
use replicator_core::dialect::Product;
use replicator_core::model::ident::parse_parts;
use tracing::info;

use super::super::landing::{answer, connect};
use super::super::side::session_options;
use super::super::trouble::Trouble;
use crate::auth::TableKeys;
use crate::clock::Clock;
use crate::error_chain;
use crate::net::Dial;
use crate::pg::connect::{SessionOptions, connect_sql};
use crate::pg::conninfo::ConnInfo;
use crate::pg::pool::Pool;
use crate::pool::PoolLimits;
use crate::staging::embedded::Embedded;
use crate::staging::lease::Lease;
use crate::staging::rows::{self, PgRows, RowsOptions};
use crate::staging::schema::{self, StagingName};
use crate::supervisor::GaveUp;
use crate::target::product;

/// Connections for leases. Those for rows may all be busy when one must be renewed.
const LEASE_SESSIONS: usize = 4;

/// What holds the staged rows of all schemas.
#[derive(Debug)]
pub enum Stores<D: Dial> {
    /// A file.
    Embedded(Embedded),
    /// CockroachDB or PostgreSQL.
    Database(StagingDatabase<D>),
}

impl<D: Dial> Clone for Stores<D> {
    fn clone(&self) -> Self {
        match self {
            Self::Embedded(file) => Self::Embedded(file.clone()),
            Self::Database(database) => Self::Database(database.clone()),
        }
    }
}

impl<D: Dial> From<Embedded> for Stores<D> {
    fn from(file: Embedded) -> Self {
        Self::Embedded(file)
    }
}

impl<D: Dial> From<StagingDatabase<D>> for Stores<D> {
    fn from(database: StagingDatabase<D>) -> Self {
        Self::Database(database)
    }
}

impl<D: Dial> Stores<D> {
    /// Returns if nothing can be staged any more, however often it is tried, and says why.
    pub(super) async fn ended(&self) -> GaveUp {
        match self {
            Self::Embedded(file) => file.ended().await,
            Self::Database(_) => std::future::pending().await,
        }
        let reason = "staging: the thread of the staging file has ended, which is an error in replicator (see \
                      above); start it again, nothing that was answered with 200 is lost";
        GaveUp { reason: reason.to_owned() }
    }

    /// The schemas that rows were ever brought for: the database, empty if there is none, and the schema.
    pub(super) async fn schemas(&self) -> Result<Vec<[String; 2]>, Failure> {
        match self {
            Self::Embedded(file) => {
                let named = |name: &String| match parse_parts(name).ok()?.as_slice() {
                    [schema] => Some([String::new(), schema.clone()]),
                    [database, schema] => Some([database.clone(), schema.clone()]),
                    _ => None,
                };
                Ok(file.streams().await?.iter().filter_map(named).collect())
            }
            Self::Database(StagingDatabase { settings, pool, name, .. }) => {
                rows::schemas(pool.clone(), name, settings.timeout).await
            }
        }
    }

    /// By what those who share the store agree which of them works on a schema. A file is one process's
    /// alone. `nonce` differs between all who ask, and each time that they do.
    pub(super) fn lease(&self, database: &str, schema: &str, nonce: u128) -> Option<Lease<D>> {
        match self {
            Self::Embedded(_) => None,
            Self::Database(StagingDatabase { settings, leases, name, .. }) => {
                let lease = rows::lease_name(database, schema);
                Some(Lease::new(leases.clone(), name, lease, nonce, settings.timeout))
            }
        }
    }

    /// Whether it answers.
    pub(super) async fn ask(&self, dial: &D) -> Result<(), String> {
        match self {
            Self::Embedded(file) => {
                file.totals().await.map(drop).map_err(|failure| failure.to_string())
            }
            Self::Database(database) => ask(dial, &database.settings.conninfo).await,
        }
    }
}

/// Whether a database answers a new session.
pub(super) async fn ask<D: Dial>(dial: &D, conninfo: &ConnInfo) -> Result<(), String> {
    let session = connect_sql(dial, conninfo, &SessionOptions::default()).await;
    let session = session.map_err(|error| error_chain(&error))?;
    let answer = session.client().simple_query("SELECT 1").await;
    answer.map(drop).map_err(|error| error_chain(&error))
}

/// The staging database as the operator names it.
#[derive(Clone, Debug)]
pub struct StagingSettings {
    /// How to get there.
    pub conninfo: ConnInfo,
    /// The staging schema: one or two parts, whose meaning depends on the product.
    pub schema: Vec<String>,
    /// Whether to make the staging schema if it is missing.
    pub create: bool,
    /// Whether staging tables get an index of the rows that are not applied.
    pub reader_index: bool,
    /// Connections.
    pub pool: PoolLimits,
    /// Longest time for one request.
    pub timeout: Duration,
}

/// A staging database whose tables are there. Clones share sessions.
#[derive(Debug)]
pub struct StagingDatabase<D: Dial> {
    settings: Arc<StagingSettings>,
    pool: Pool<D>,
    leases: Pool<D>,
    product: Product,
    name: StagingName,
}

impl<D: Dial> Clone for StagingDatabase<D> {
    fn clone(&self) -> Self {
        Self {
            settings: Arc::clone(&self.settings),
            pool: self.pool.clone(),
            leases: self.leases.clone(),
            product: self.product,
            name: self.name.clone(),
        }
    }
}

impl<D: Dial> StagingDatabase<D> {
    /// Connects, and makes the tables that are missing.
    ///
    /// # Errors
    ///
    /// The database cannot be used: what a human has to look at.
    pub async fn open(dial: D, settings: StagingSettings) -> Result<Self, GaveUp> {
        Self::try_open(dial, settings).await.map_err(Trouble::into_gave_up)
    }

    async fn try_open(dial: D, settings: StagingSettings) -> Result<Self, Trouble> {
        let StagingSettings { conninfo, schema, create, pool: limits, timeout, .. } = &settings;
        let session = connect(&dial, "staging", conninfo, &SessionOptions::default()).await?;
        let client = session.client();
        let server = answer("staging", *timeout, product::detect(client)).await?;
        let product = server.product;
        let name = StagingName::resolve(schema, product, &conninfo.database)
            .map_err(|error| Trouble::Lasting(error.to_string()))?;
        let prepared = schema::prepare_rows(client, &name, product, *create);
        answer("staging", *timeout, prepared).await?;
        info!("rows are staged in schema {name} of {server}");
        let options = session_options(product, *timeout);
        let few = PoolLimits { sessions_max: LEASE_SESSIONS, ..*limits };
        let pool = |dial: D, limits| {
            Pool::new(dial, conninfo.clone(), options.clone(), limits, Clock::start())
        };
        let (leases, pool) = (pool(dial.clone(), few), pool(dial, *limits));
        Ok(Self { settings: Arc::new(settings), pool, leases, product, name })
    }

    /// The keys of those who may bring rows.
    #[must_use]
    pub fn keys(&self) -> TableKeys<D> {
        TableKeys::new(self.pool.clone(), &self.name)
    }

    /// The store of one schema. `options` but for what is the same for all of them.
    pub(super) fn rows(&self, options: RowsOptions) -> PgRows<D> {
        PgRows::new(self.pool.clone(), self.product, self.name.clone(), options)
    }

    pub(super) fn settings(&self) -> &StagingSettings {
        &self.settings
    }
}
