//! Builds adapters and starts runs. The only place that knows every adapter.
//!
//! It does not know where bytes come from: the program dials over TCP, the simulator over its own network.
mod attempt;
mod ground;
mod identity;
mod onlooker;
mod settings;
mod side;
pub mod start;
mod trouble;

use std::sync::Arc;

use tokio::sync::watch;

use self::attempt::Attempt;
pub use self::settings::{PIECE_BYTES_MAX, PgLogicalSettings};
use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::net::Dial;
use crate::recorder::Recorder;
use crate::supervisor::{Backoff, GaveUp, supervise};

/// Replicates a PostgreSQL source until told to stop. `recorder` is told of everything that happens.
///
/// # Errors
///
/// What a human has to look at.
pub async fn pglogical<D: Dial>(
    dial: D,
    settings: PgLogicalSettings,
    stop: watch::Receiver<bool>,
    metrics: Arc<Metrics>,
    recorder: Option<Recorder>,
) -> Result<(), GaveUp> {
    let clock = Clock::start();
    let metrics = metrics.schema(&settings.schema_label());
    let settings = Arc::new(settings);
    let mut first = true;
    supervise(clock, Backoff::default(), stop.clone(), || {
        let attempt = Attempt {
            dial: dial.clone(),
            settings: Arc::clone(&settings),
            clock,
            stop: stop.clone(),
            metrics: Arc::clone(&metrics),
            recorder: recorder.clone(),
            first: std::mem::take(&mut first),
        };
        Box::pin(attempt.run())
    })
    .await
}
