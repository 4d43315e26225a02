//! The row by which a target transaction says which source transactions it holds.
//!
//! It is written in the same transaction as the data, under a check that no later run has begun. So a
//! transaction's outcome can be looked up after a lost answer or a crash, and a dead run's late commit
//! is refused (I7).
use replicator_core::Failure;
use replicator_core::dialect::Product;
use replicator_core::model::mutation::ApplyBatch;
use replicator_core::model::position::Position;
use tokio_postgres::types::Type;

use super::failure::{Progress, failure_of};
use crate::ordinals::Ordinals;
use crate::pg::pipeline::Call;
use crate::pg::wire::WireError;
use crate::port::Fence;

/// Where records go.
#[derive(Clone, Debug)]
pub struct Record {
    /// The table of records, qualified and quoted.
    pub applied_table: String,
    /// The name of its primary key, by which a second record of one batch is recognised.
    pub applied_key: String,
    /// The query for the stream's fence, without a lock. `$1` = stream.
    pub fence_query: String,
    /// The fence of the run, if it is not the one of the staging store.
    pub fence: Option<Fence>,
    /// The stream the records belong to.
    pub stream: String,
    /// Whose SQL.
    pub product: Product,
    /// What positions stand for, where they are numbers that mean nothing to another run.
    pub ordinals: Option<Ordinals>,
}

/// The record of one batch, as bytes.
#[derive(Debug)]
pub(super) struct Recorded<'a> {
    stream: &'a str,
    fence: [u8; 8],
    first: [u8; 8],
    // The position before the batch, or the names of its transactions.
    after: Option<String>,
    through: String,
}

impl Record {
    /// One that is written where a staging store has its tables, by their names.
    #[must_use]
    pub fn in_staging(
        (applied_table, fence_table, stream): (&str, &str, &str),
        product: Product,
        ordinals: Option<Ordinals>,
    ) -> Self {
        let applied_key = match ordinals {
            Some(_) => "replicator_applied_gtids_pkey",
            None => "replicator_applied_pkey",
        };
        Self {
            applied_table: applied_table.to_owned(),
            applied_key: applied_key.to_owned(),
            fence_query: format!("SELECT fence FROM {fence_table} WHERE stream = $1"),
            fence: None,
            stream: stream.to_owned(),
            product,
            ordinals,
        }
    }

    /// The record of a batch.
    pub(super) fn of(&self, fence: Fence, batch: &ApplyBatch) -> Result<Recorded<'_>, Failure> {
        let fence = self.fence.unwrap_or(fence);
        let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX).to_be_bytes();
        let after = match &self.ordinals {
            None => batch.after.map(Position::to_sortable),
            Some(ordinals) => {
                let names = ordinals.names(batch.after, batch.position);
                let unnamed = |error| Failure::Rejected { detail: format!("{error}"), at: None };
                Some(names.map_err(unnamed)?.to_string())
            }
        };
        Ok(Recorded {
            stream: &self.stream,
            fence: number(fence.0),
            first: number(batch.first.0),
            after,
            through: batch.position.to_sortable(),
        })
    }

    /// What an error of the record means: a later run, a batch that is in already, or trouble.
    pub(super) fn outcome(
        &self,
        error: &WireError,
        progress: &Progress<'_>,
    ) -> Result<(), Failure> {
        let WireError::Server(refusal) = error else { return Err(failure_of(error, progress)) };
        match refusal.code.as_str() {
            "22012" => Err(Failure::Fenced),
            "23505" if refusal.constraint.as_ref() == Some(&self.applied_key) => Ok(()),
            _ => Err(failure_of(error, progress)),
        }
    }

    /// `$1` = stream, `$2` = fence, `$3` = first transaction, `$4` = position before it, or the names of all,
    /// `$5` = position of the last one.
    ///
    /// A fence that does not match, or is gone, divides by zero: an error is the one answer that also
    /// stops the statements sent behind it. On PostgreSQL the lock makes a new run wait for this
    /// transaction; CockroachDB is serializable and needs none.
    pub(super) fn sql(&self) -> String {
        let Self { applied_table, fence_query, product, .. } = self;
        let column = if self.ordinals.is_some() { "gtids" } else { "after_position" };
        let lock = match product {
            Product::Postgres => " FOR SHARE",
            Product::Cockroach => "",
        };
        format!(
            "INSERT INTO {applied_table} (stream, fence, first_tx, {column}, through_position) \
             SELECT $1, $2, $3, $4, $5 WHERE 1 / (CASE WHEN \
             ({fence_query}{lock}) = $2 THEN 1 ELSE 0 END) = 1"
        )
    }
}

impl Recorded<'_> {
    /// The call that writes it; `sql` is [`Record::sql`].
    pub(super) fn call<'a>(&'a self, sql: &'a str) -> Call<'a> {
        let text = |text: &'a str| (Type::TEXT.oid(), Some(text.as_bytes()));
        let number = |bytes: &'a [u8; 8]| (Type::INT8.oid(), Some(bytes.as_slice()));
        let after = (Type::TEXT.oid(), self.after.as_ref().map(String::as_bytes));
        let (fence, first) = (number(&self.fence), number(&self.first));
        let params = vec![text(self.stream), fence, first, after, text(&self.through)];
        Call { sql, params, rows: None }
    }
}
