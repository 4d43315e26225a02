//! The target's side of a run: one schema of it, whoever brings the rows.
use std::panic::resume_unwind;
use std::sync::Arc;
use std::time::Duration;

use replicator_core::OnReject;
use replicator_core::dialect::{Dialect, Product};
use replicator_core::model::catalog::Catalog;
use replicator_core::model::ident::TableName;
use tracing::debug;

use super::trouble::Trouble;
use crate::driver::RunError;
use crate::error_chain;
use crate::net::Dial;
use crate::pg::connect::{AbortOnDrop, SessionOptions, connect_sql};
use crate::pg::conninfo::ConnInfo;
use crate::target::pgwire::PgTargetOptions;
use crate::target::record::Record;
use crate::target::{catalog, dead_letter};

/// A schema of the target, and what the operator wants of it.
pub(super) struct Side<'a, D> {
    pub(super) dial: &'a D,
    pub(super) target: &'a ConnInfo,
    pub(super) dialect: &'a Dialect,
    pub(super) schema: &'a str,
    pub(super) on_reject: OnReject,
    pub(super) dlq_table: &'a str,
    pub(super) apply_timeout: Duration,
    pub(super) schema_refresh: Option<Duration>,
}

impl<D: Dial> Side<'_, D> {
    /// What the target adapter needs for a run.
    pub(super) fn options(
        &self,
        catalog: &Arc<Catalog>,
        record: Option<Record>,
    ) -> Result<PgTargetOptions, Trouble> {
        let dead_letters = match self.on_reject {
            OnReject::Stop => None,
            OnReject::DeadLetter { .. } => {
                let name = TableName::new(self.schema, self.dlq_table);
                dead_letter::find(catalog, &name)
                    .map_err(|error| Trouble::Settings(error.to_string()))?;
                Some(name)
            }
        };
        Ok(PgTargetOptions {
            dialect: self.dialect.clone(),
            catalog: Arc::clone(catalog),
            record,
            apply_timeout: self.apply_timeout,
            dead_letters,
        })
    }

    /// Waits for a run, unless the target's tables change.
    pub(super) async fn watch<S, E>(
        &self,
        running: AbortOnDrop<Result<S, RunError<E>>>,
        catalog: &Arc<Catalog>,
    ) -> Result<Result<S, RunError<E>>, Trouble>
    where
        S: Send + 'static,
        E: std::error::Error + Send + 'static,
    {
        watch(running, self.schema_changed(catalog)).await
    }

    /// Returns when the target's tables are not what they were.
    pub(super) async fn schema_changed(&self, catalog: &Arc<Catalog>) -> Trouble {
        let Some(period) = self.schema_refresh else {
            return std::future::pending().await;
        };
        let product = self.dialect.product;
        let options = session_options(product, self.apply_timeout);
        loop {
            tokio::time::sleep(period).await;
            let asking = connect_sql(self.dial, self.target, &options).await;
            let Ok(session) = asking else { continue };
            let asking = catalog::load(session.client(), product, self.schema);
            let Ok(answer) = tokio::time::timeout(self.apply_timeout, asking).await else {
                continue;
            };
            match answer.map(|current| current.told_like(catalog)) {
                Ok(current) if current == **catalog => (),
                Ok(_) => {
                    return Trouble::Passing("the target's tables have changed".to_owned());
                }
                Err(error) => debug!("could not look for schema changes: {}", error_chain(&error)),
            }
        }
    }
}

/// Waits for a run, unless something changes that ends it. The run is a task of its own, so that the batches
/// it starts can run on the same thread: a small one is applied without waking another.
pub(super) async fn watch<S, E>(
    mut running: AbortOnDrop<Result<S, RunError<E>>>,
    changed: impl Future<Output = Trouble>,
) -> Result<Result<S, RunError<E>>, Trouble>
where
    S: Send + 'static,
    E: std::error::Error + Send + 'static,
{
    let ended = tokio::select! {
        biased;
        ended = running.task() => ended,
        changed = changed => {
            running.end().await;
            return Err(changed);
        }
    };
    Ok(ended.unwrap_or_else(|died| match died.try_into_panic() {
        Ok(panic) => resume_unwind(panic),
        Err(died) => Err(RunError::Died(died)),
    }))
}

/// For sessions that write, whose transactions take at most so long.
pub(super) fn session_options(product: Product, apply_timeout: Duration) -> SessionOptions {
    let idle = apply_timeout.saturating_mul(2).max(Duration::from_secs(60));
    SessionOptions::writing(product, idle)
}

/// How much larger than asked for a batch may become while the target cannot keep up. PostgreSQL gains up
/// to 10,000 rows a transaction, CockroachDB nothing beyond 1,000, and its conflicts grow.
pub(super) const fn growth(product: Product) -> usize {
    match product {
        Product::Postgres => 8,
        Product::Cockroach => 1,
    }
}
