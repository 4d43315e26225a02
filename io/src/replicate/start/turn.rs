//! Whose turn it is: of the replicators that share a staging database one works on a target schema.
use tracing::info;

use super::super::trouble::Trouble;
use super::attempt::Attempt;
use super::conveyor::{Shared, State};
use crate::net::Dial;

impl<D: Dial> Attempt<D> {
    /// Works when it is our turn, and for as long.
    pub(super) async fn in_turn(
        &self,
        work: impl Future<Output = Result<(), Trouble>>,
    ) -> Result<(), Trouble> {
        let Shared { settings, found, staging, clock, .. } = &*self.shared;
        // The first half tells processes apart, the second the runs of one.
        let nonce = u128::from(settings.core.seed) << 64 | u128::from(clock.now().as_nanos());
        let Some(lease) = staging.lease(found.named(), &self.schema.schema, nonce) else {
            return work.await;
        };
        let mut waited = false;
        let waiting = lease.wait(*clock, |by: &str| {
            waited = true;
            self.state.send_replace(State::Elsewhere);
            info!(schema = %self.schema, by, "another replicator works on the schema; waiting for its end");
        });
        let mut stop = self.shared.stop.clone();
        let taken = tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => return Ok(()),
            taken = waiting => taken.map_err(|failure| Trouble::staging(&failure))?,
        };
        if waited {
            self.state.send_replace(State::Starting);
            info!(schema = %self.schema, "the other replicator has ended; taking over");
        }
        let worked = lease.hold(*clock, taken, work).await;
        worked.unwrap_or_else(|| {
            let reason = "could not renew the lease in time; another replicator may work on the schema by now";
            Err(Trouble::Passing(reason.to_owned()))
        })
    }
}
