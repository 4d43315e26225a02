//! What an earlier run sent to the target must be over before a new one sends anything.
use replicator_core::dialect::Product;

use super::super::side::session_options;
use super::super::trouble::Trouble;
use super::attempt::Attempt;
use super::conveyor::Shared;
use super::store::Store;
use crate::error_chain;
use crate::fingerprint::fingerprint;
use crate::net::Dial;
use crate::pg::conninfo::ConnInfo;
use crate::pg::run_lock::{RunLock, RunLocks};
use crate::port::Fence;

impl<D: Dial> Attempt<D> {
    /// The locks of this run, once the server has ended the sessions of earlier ones. On CockroachDB nobody can
    /// wait for these.
    pub(super) async fn alone(
        &self,
        store: &Store<D>,
        fence: Fence,
        conninfo: &ConnInfo,
        product: Product,
    ) -> Result<Option<(RunLock, RunLocks)>, Trouble> {
        match product {
            Product::Cockroach => return Ok(None),
            Product::Postgres => (),
        }
        let Shared { dial, settings, .. } = &*self.shared;
        let named = store.named(&format!("{:016x}", settings.core.seed)).await;
        let named = named.map_err(|failure| Trouble::staging(&failure))?;
        let schema = &self.schema.schema;
        // Others may write to the same schema with a staging store of their own.
        let number = |what: &str| {
            let number = fingerprint(&format!("replicator {what} {named} {schema}"));
            i64::from_be_bytes(number.to_be_bytes())
        };
        let locks = RunLocks {
            newest: number("newest"),
            writers: number("writers"),
            run: number(&format!("run {}", fence.0)),
        };
        let options = session_options(product, settings.apply_timeout);
        let lock = RunLock::take(dial, conninfo, &options, locks).await;
        let lock = lock.map_err(|e| Trouble::Passing(format!("target: {}", error_chain(&e))))?;
        Ok(Some((lock, locks)))
    }
}

/// Returns when the locks are lost; never, if there are none.
pub(super) async fn lost(lock: Option<&RunLock>) -> Trouble {
    match lock {
        Some(lock) => Trouble::Passing(format!(
            "target: the session is gone that keeps earlier runs away: {}",
            lock.lost().await
        )),
        None => std::future::pending().await,
    }
}
