//! Starts runs again and again until it is told to stop.
//!
//! There is one way to recover: resume a new run from what is durable. So the supervisor knows nothing
//! of what went wrong beyond whether it is worth trying again, and how long to wait.
use std::future::Future;
use std::time::Duration;

use tokio::sync::watch;
use tracing::{info, warn};

use crate::clock::Clock;

/// How a run ended.
#[derive(Debug)]
pub enum Ended {
    /// In good order, because it was asked to.
    Stopped,
    /// Something happened that may pass: try again.
    Failed {
        /// What, for the operator.
        reason: String,
    },
    /// Trying again is of no use until a human has acted.
    GaveUp {
        /// What, with the way out.
        reason: String,
    },
}

/// Delays between runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// Before the second run.
    pub first: Duration,
    /// The delay doubles up to this.
    pub max: Duration,
    /// A run that lasted this long counts as healthy: the next delay is the first one again.
    pub healthy_after: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            first: Duration::from_millis(100),
            max: Duration::from_secs(10),
            healthy_after: Duration::from_secs(10),
        }
    }
}

/// Runs `attempt` until it ends in good order or for good. Each attempt is one run.
///
/// # Errors
///
/// The reason of [`Ended::GaveUp`].
pub async fn supervise<F: Future<Output = Ended>>(
    clock: Clock,
    backoff: Backoff,
    mut stop: watch::Receiver<bool>,
    mut attempt: impl FnMut() -> F,
) -> Result<(), GaveUp> {
    let mut delay = backoff.first;
    let mut last_reason = String::new();
    loop {
        let began = clock.now();
        let reason = match attempt().await {
            Ended::Stopped => return Ok(()),
            Ended::GaveUp { reason } => return Err(GaveUp { reason }),
            Ended::Failed { reason } => reason,
        };
        if *stop.borrow() {
            return Ok(());
        }
        if backoff.healthy_after <= clock.since(began) {
            delay = backoff.first;
        }
        // The same trouble again is said once at `warn`, so that an outage of hours stays readable.
        let wait = format!("{} ms", delay.as_millis());
        if reason == last_reason {
            info!(retry_in = %wait, "still failing, trying again");
        } else {
            warn!(retry_in = %wait, "replication interrupted: {reason}");
        }
        last_reason = reason;
        tokio::select! {
            biased;
            changed = stop.changed() => {
                if changed.is_err() || *stop.borrow() {
                    return Ok(());
                }
            }
            () = tokio::time::sleep(delay) => (),
        }
        delay = delay.saturating_mul(2).min(backoff.max);
    }
}

/// A human has to act.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct GaveUp {
    /// What happened, with the way out.
    pub reason: String,
}
