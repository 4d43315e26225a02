//! The row by which a target transaction says which source transactions it holds.
//!
//! It is written in the same transaction as the data, under a check that no later run has begun. So a
//! transaction's outcome can be looked up after a lost answer or a crash, and a dead run's late commit
//! is refused (I7).
use replicator_core::Failure;
use replicator_core::dialect::Product;
use replicator_core::model::mutation::ApplyBatch;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Error, Statement};

use super::failure::{Progress, failure_of};
use crate::pg::pool::Session;
use crate::port::Fence;

/// The name of the primary key by which a second record of one batch is recognised.
pub const RECORD_KEY: &str = "replicator_applied_pkey";

/// Where records go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The table of records, qualified and quoted.
    pub applied_table: String,
    /// The table of fences, qualified and quoted.
    pub fence_table: String,
    /// The stream the records belong to.
    pub stream: String,
    /// Whose SQL.
    pub product: Product,
}

/// A record that is ready to be sent.
#[derive(Debug)]
pub(super) struct Prepared<'a> {
    statement: Statement,
    stream: &'a str,
    fence: i64,
    first: i64,
    after: Option<String>,
    through: String,
}

impl Record {
    /// Prepares the record of a batch.
    pub(super) async fn prepare(
        &self,
        session: &mut Session,
        fence: Fence,
        batch: &ApplyBatch,
    ) -> Result<Prepared<'_>, Failure> {
        let types = [Type::TEXT, Type::INT8, Type::INT8, Type::TEXT, Type::TEXT];
        let statement = session.prepare(&self.sql(), &types).await;
        let progress = Progress { commit_sent: false, at: None, table: None };
        Ok(Prepared {
            statement: statement.map_err(|error| failure_of(&error, &progress))?,
            stream: &self.stream,
            fence: i64::try_from(fence.0).unwrap_or(i64::MAX),
            first: i64::try_from(batch.first.0).unwrap_or(i64::MAX),
            after: batch.after.map(replicator_core::model::position::Position::to_sortable),
            through: batch.position.to_sortable(),
        })
    }

    /// What an error of the record means: a later run, a batch that is in already, or trouble.
    pub(super) fn outcome(error: &Error, progress: &Progress<'_>) -> Result<(), Failure> {
        let Some(db) = error.as_db_error() else { return Err(failure_of(error, progress)) };
        match db.code().code() {
            "22012" => Err(Failure::Fenced),
            "23505" if db.constraint() == Some(RECORD_KEY) => Ok(()),
            _ => Err(failure_of(error, progress)),
        }
    }

    /// `$1` = stream, `$2` = fence, `$3` = first transaction, `$4` = position before it, `$5` = position
    /// of the last one.
    ///
    /// A fence that does not match divides by zero: an error is the one answer that also stops the
    /// statements sent behind it. On PostgreSQL the lock makes a new run wait for this transaction;
    /// CockroachDB is serializable and needs none.
    fn sql(&self) -> String {
        let Self { applied_table, fence_table, product, .. } = self;
        let lock = match product {
            Product::Postgres => " FOR SHARE",
            Product::Cockroach => "",
        };
        format!(
            "INSERT INTO {applied_table} (stream, fence, first_tx, after_position, through_position) \
             SELECT stream, fence, $3, $4, $5 FROM {fence_table} \
             WHERE stream = $1 AND 1 / (CASE WHEN fence = $2 THEN 1 ELSE 0 END) = 1{lock}"
        )
    }
}

impl Prepared<'_> {
    /// Sends the record; returns how many rows it wrote. None means that somebody removed our fence.
    pub(super) async fn send(&self, client: &Client) -> Result<u64, Error> {
        let params: [&(dyn ToSql + Sync); 5] =
            [&self.stream, &self.fence, &self.first, &self.after, &self.through];
        client.execute(&self.statement, &params).await
    }
}
