//! What is in the target, written down in the target: for runs whose staging is elsewhere.
//!
//! The operator makes one table in the target schema and names it. Each target transaction adds a
//! [record](super::record) of the source transactions that it holds, under a check of the fence, which is in
//! the same table: the row whose `first_tx` is 0. So everything is applied exactly once, and what an earlier
//! run sent is refused once a new one has begun (I7).
//!
//! Records say what the target has beyond the position that staging has saved. They are of no use with
//! another staging store, whose positions mean something else; so the fence also says whose they are.
use std::time::Duration;

use replicator_core::Failure;
use replicator_core::dialect::Product;
use replicator_core::model::catalog::Catalog;
use replicator_core::model::ident::TableName;
use replicator_core::model::mode::Lane;
use replicator_core::model::position::{Applied, Position};
use thiserror::Error;
use tokio_postgres::types::Type;

use super::record::Record;
use crate::net::Dial;
use crate::pg::pool::Pool;
use crate::pg::sessions::{Ask, Param, Sessions, transaction};
use crate::port::Fence;

/// Whose progress it is.
const STREAM: &str = "start";

/// The columns that the table must have.
const COLUMNS: [&str; 5] = ["stream", "fence", "first_tx", "after_position", "through_position"];

/// A table of progress cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ProgressTableError {
    /// It is not there.
    #[error("table {table} of --targetProgressTable does not exist; create it: {fix}")]
    Missing {
        /// Its name.
        table: TableName,
        /// The SQL that makes it.
        fix: String,
    },
    /// It is not as it must be.
    #[error(
        "table {table} of --targetProgressTable has not the columns and the primary key that it needs; \
         give another name, or drop it and create it again: {fix}"
    )]
    Shape {
        /// Its name.
        table: TableName,
        /// The SQL that makes it.
        fix: String,
    },
}

/// Looks the table up, and at its columns and its key; `fix` is the SQL that makes it.
pub(super) fn check_shape(
    catalog: &Catalog,
    name: &TableName,
    fix: impl FnOnce() -> String,
) -> Result<(), ProgressTableError> {
    let Some(id) = catalog.find(name) else {
        return Err(ProgressTableError::Missing { table: name.clone(), fix: fix() });
    };
    let table = catalog.table(id);
    let has_all = COLUMNS.iter().all(|column| table.find_column(column).is_some());
    let key: Vec<&str> =
        table.key.iter().map(|column| table.column(*column).name.as_str()).collect();
    if !has_all || key != ["stream", "first_tx", "fence"] {
        return Err(ProgressTableError::Shape { table: name.clone(), fix: fix() });
    }
    Ok(())
}

/// Whose progress it is, if these tables have some by themselves.
pub(super) const fn stream_of(lane: &Lane) -> &'static str {
    match lane {
        Lane::Whole => STREAM,
        Lane::Related(_) => "start-related",
        Lane::Independent(_) => "start-independent",
    }
}

/// What a target says is in it, and how it is told.
pub trait TargetProgress {
    /// How the transactions of a run record what they bring.
    type Record;

    /// The same table, for the rows of these tables alone: what it says of other lanes says nothing of them.
    #[must_use]
    fn of(&self, lane: &Lane) -> Self;

    /// Begins a run: waits for the transactions of earlier ones or fences them off. `store` is what the
    /// staging store is called, which says whether the records are its own. Returns what is in the target,
    /// and how the run's transactions record what they bring.
    ///
    /// # Errors
    ///
    /// See [`Failure`].
    fn begin(
        &self,
        store: &str,
    ) -> impl Future<Output = Result<(Self::Record, Vec<Applied>), Failure>> + Send;

    /// Forgets records of what is before the position that staging has saved.
    ///
    /// # Errors
    ///
    /// See [`Failure`]. They may be forgotten later.
    fn forget(&self, through: Position) -> impl Future<Output = Result<(), Failure>> + Send;
}

/// A table of progress.
#[derive(Debug)]
pub struct ProgressTable<D: Dial> {
    sessions: Sessions<D>,
    product: Product,
    table: String,
    stream: &'static str,
}

impl<D: Dial> ProgressTable<D> {
    /// The table of this name, whose shape is checked. It is for the rows of its own schema. `timeout` is for
    /// one request.
    ///
    /// # Errors
    ///
    /// See [`ProgressTableError`].
    pub fn find(
        pool: Pool<D>,
        product: Product,
        catalog: &Catalog,
        name: &TableName,
        timeout: Duration,
    ) -> Result<Self, ProgressTableError> {
        let fix = || {
            format!(
                "CREATE TABLE {name} (stream TEXT, fence INT8, first_tx INT8, after_position TEXT, \
                 through_position TEXT NOT NULL, PRIMARY KEY (stream, first_tx, fence));"
            )
        };
        check_shape(catalog, name, fix)?;
        let sessions = Sessions::new(pool, "target", timeout);
        Ok(Self { sessions, product, table: name.to_string(), stream: STREAM })
    }

    fn unreadable(&self) -> Failure {
        let Self { table, stream, .. } = self;
        let detail = format!(
            "target: table {table} of --targetProgressTable holds what cannot be read; delete the rows \
             whose stream is \"{stream}\", and what is staged is applied again"
        );
        Failure::Rejected { detail, at: None }
    }
}

impl<D: Dial> TargetProgress for ProgressTable<D> {
    type Record = Record;

    fn of(&self, lane: &Lane) -> Self {
        let (sessions, table) = (self.sessions.clone(), self.table.clone());
        Self { sessions, product: self.product, table, stream: stream_of(lane) }
    }

    async fn begin(&self, store: &str) -> Result<(Record, Vec<Applied>), Failure> {
        let Self { table, stream, .. } = self;
        let fence_row = "WHERE stream = $1 AND first_tx = 0";
        // `$1` = stream, `$2` = store.
        let both: [Param<'_>; 2] = [(stream, Type::TEXT), (&store, Type::TEXT)];
        let one = both.get(..1).unwrap_or_default();
        let make = format!(
            "INSERT INTO {table} (stream, fence, first_tx, through_position) \
             SELECT $1, 0, 0, $2 WHERE NOT EXISTS (SELECT 1 FROM {table} {fence_row})"
        );
        let take = format!("UPDATE {table} SET fence = fence + 1 {fence_row} RETURNING fence");
        let forget = format!(
            "DELETE FROM {table} WHERE stream = $1 AND first_tx > 0 AND EXISTS \
             (SELECT 1 FROM {table} {fence_row} AND through_position <> $2)"
        );
        let own = format!("UPDATE {table} SET through_position = $2 {fence_row}");
        let read = format!(
            "SELECT after_position, through_position FROM {table} \
             WHERE stream = $1 AND first_tx > 0 ORDER BY through_position"
        );
        let key = "SELECT conname::TEXT FROM pg_catalog.pg_constraint \
                   WHERE conrelid = $1::TEXT::REGCLASS AND contype = 'p'";
        let named: [Param<'_>; 1] = [(table, Type::TEXT)];
        let mut asks = vec![
            Ask { sql: make, params: both.to_vec() },
            Ask { sql: take, params: one.to_vec() },
            Ask { sql: forget, params: both.to_vec() },
            Ask { sql: own, params: both.to_vec() },
            Ask { sql: read, params: one.to_vec() },
            Ask { sql: key.to_owned(), params: named.to_vec() },
        ];
        if self.product == Product::Postgres {
            // Two runs that begin at once must not both make the row of the fence. It waits for those that
            // write, as the fence does; CockroachDB is serializable and needs no lock.
            let sql = format!("LOCK TABLE {table} IN SHARE ROW EXCLUSIVE MODE");
            asks.insert(0, Ask { sql, params: Vec::new() });
        }
        let answers = self.sessions.ask_again(async |client| transaction(client, &asks).await);
        let answers = answers.await?;
        let [.., _, fence, _, _, rows, key] = answers.as_slice() else {
            return Err(self.unreadable());
        };
        let fence = fence.first().and_then(|row| u64::try_from(row.get::<_, i64>(0)).ok());
        let key = key.first().map(|row| row.get::<_, String>(0));
        let (Some(fence), Some(applied_key)) = (fence, key) else { return Err(self.unreadable()) };
        let applied = rows
            .iter()
            .map(|row| {
                let (after, through): (Option<&str>, &str) = (row.get(0), row.get(1));
                Applied::from_sortable(after, through)
            })
            .collect::<Option<Vec<Applied>>>()
            .ok_or_else(|| self.unreadable())?;
        let record = Record {
            applied_table: table.clone(),
            applied_key,
            fence_query: format!("SELECT fence FROM {table} {fence_row}"),
            fence: Some(Fence(fence)),
            stream: (*stream).to_owned(),
            product: self.product,
            ordinals: None,
        };
        Ok((record, applied))
    }

    async fn forget(&self, through: Position) -> Result<(), Failure> {
        let through = through.to_sortable();
        // `$1` = stream, `$2` = position.
        let sql = format!(
            "DELETE FROM {} WHERE stream = $1 AND first_tx > 0 AND through_position <= $2",
            self.table
        );
        let params: [Param<'_>; 2] = [(&self.stream, Type::TEXT), (&through, Type::TEXT)];
        self.sessions
            .ask_again(async |client| client.execute_typed(&sql, &params).await.map(drop))
            .await
    }
}
