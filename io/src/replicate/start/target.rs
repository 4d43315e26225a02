//! Where rows go back to: what the operator names, and what is found there.
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use replicator_core::decode::changefeed::TargetKind;
use replicator_core::dialect::Product;
use replicator_core::model::ident::SchemaName;
use thiserror::Error;
use tracing::info;

use super::super::landing::{answer, connect};
use super::super::trouble::Trouble;
use crate::mysql::conninfo::{MySqlConnInfo, MySqlConnInfoError};
use crate::mysql::session::{MySqlOptions, MySqlSession};
use crate::net::Dial;
use crate::pg::connect::SessionOptions;
use crate::pg::conninfo::{ConnInfo, ConnInfoError};
use crate::target::product;

/// The connection string of a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StartTarget {
    /// PostgreSQL or CockroachDB.
    PgWire(ConnInfo),
    /// MySQL or MariaDB.
    MySql(MySqlConnInfo),
}

/// A connection string that cannot be used. Shows no values of parameters.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum StartTargetError {
    /// One of PostgreSQL or CockroachDB.
    #[error(transparent)]
    PgWire(#[from] ConnInfoError),
    /// One of MySQL or MariaDB.
    #[error(transparent)]
    MySql(#[from] MySqlConnInfoError),
}

impl FromStr for StartTarget {
    type Err = StartTargetError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.starts_with("mysql://") || text.starts_with("mariadb://") {
            return Ok(Self::MySql(text.parse()?));
        }
        Ok(Self::PgWire(text.parse()?))
    }
}

impl From<ConnInfo> for StartTarget {
    fn from(conninfo: ConnInfo) -> Self {
        Self::PgWire(conninfo)
    }
}

impl fmt::Display for StartTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PgWire(conninfo) => conninfo.fmt(f),
            Self::MySql(conninfo) => conninfo.fmt(f),
        }
    }
}

impl StartTarget {
    /// The database that is connected to.
    #[must_use]
    pub fn database(&self) -> &str {
        match self {
            Self::PgWire(conninfo) => &conninfo.database,
            Self::MySql(conninfo) => &conninfo.database,
        }
    }

    /// Asks the target what it is.
    pub(super) async fn find<D: Dial>(self, dial: &D, limit: Duration) -> Result<Found, Trouble> {
        match self {
            Self::PgWire(conninfo) => {
                let options = SessionOptions::default();
                let session = connect(dial, "target", &conninfo, &options).await?;
                let server = answer("target", limit, product::detect(session.client())).await?;
                info!("connected to {server}");
                Ok(Found::PgWire { conninfo, product: server.product })
            }
            Self::MySql(conninfo) => {
                let session = open(&conninfo, limit).await?;
                info!("connected to {}", session.server());
                Ok(Found::MySql { conninfo })
            }
        }
    }
}

/// A target that answered.
#[derive(Clone, Debug)]
pub(super) enum Found {
    PgWire { conninfo: ConnInfo, product: Product },
    MySql { conninfo: MySqlConnInfo },
}

impl Found {
    /// What it is to those who read requests.
    pub(super) const fn kind(&self) -> TargetKind {
        match self {
            Self::PgWire { product: Product::Postgres, .. } => TargetKind::Postgres,
            Self::PgWire { product: Product::Cockroach, .. } => TargetKind::Cockroach,
            Self::MySql { .. } => TargetKind::MySql,
        }
    }

    /// The database that its schemas are in. On MySQL they are in none.
    pub(super) fn named(&self) -> &str {
        match self {
            Self::PgWire { conninfo, .. } => &conninfo.database,
            Self::MySql { .. } => "",
        }
    }

    /// The schema by its whole name, so that nobody takes one schema for two.
    pub(super) fn whole(&self, schema: &SchemaName) -> SchemaName {
        let database = Some(self.named()).filter(|named| !named.is_empty());
        SchemaName { database: database.map(str::to_owned), schema: schema.schema.clone() }
    }

    /// Whether a schema of this database can be reached. On PostgreSQL a connection reaches one; on MySQL a
    /// schema is in none.
    pub(super) fn reaches(&self, database: Option<&str>) -> bool {
        match self {
            Self::PgWire { conninfo, .. } => {
                database.is_none_or(|named| named == conninfo.database)
            }
            Self::MySql { .. } => database.is_none(),
        }
    }
}

/// For sessions of transactions that take at most so long. A lock that is not had by then is told before the
/// whole transaction is given up.
pub(super) fn mysql_options(apply_timeout: Duration) -> MySqlOptions {
    let idle = apply_timeout.saturating_mul(2).max(Duration::from_secs(60));
    MySqlOptions { lock_wait: apply_timeout / 2, idle }
}

/// Opens a session on the side.
pub(super) async fn open(
    conninfo: &MySqlConnInfo,
    apply_timeout: Duration,
) -> Result<MySqlSession, Trouble> {
    let opened = MySqlSession::open(conninfo, &mysql_options(apply_timeout)).await;
    opened.map_err(|error| Trouble::settings("could not connect to target database", &error))
}

#[cfg(test)]
mod tests {
    use super::StartTarget;

    #[test]
    fn the_kind_of_target_is_told_by_its_scheme() {
        let parse = |text: &str| text.parse::<StartTarget>();
        for text in ["postgresql://me@db/app", "postgres://me@db/app", "user=me dbname=app host=db"]
        {
            assert!(matches!(parse(text), Ok(StartTarget::PgWire(_))), "{text}");
        }
        for text in ["mysql://me@db/app", "mysql://me@tcp(db:3306)/app", "mariadb://me@db/app"] {
            let target = parse(text).unwrap();
            assert!(matches!(target, StartTarget::MySql(_)), "{text}");
            assert_eq!(target.database(), "app");
        }
        let error = parse("oracle://me:secret@db/app").unwrap_err().to_string();
        assert!(!error.contains("secret"), "{error}");
    }
}
