//! Builds adapters and starts runs. The only place that knows every adapter.
//!
//! It does not know where bytes come from: the program dials over TCP, the simulator over its own network.
mod attempt;
mod identity;
mod landing;
mod mylogical;
mod onlooker;
mod settings;
mod side;
pub mod start;
mod trouble;

use std::sync::Arc;

use tokio::sync::watch;

use self::attempt::Attempt;
use self::landing::Landing;
pub use self::mylogical::mylogical;
pub use self::settings::{ForwardSettings, MyLogicalSettings, PIECE_BYTES_MAX, PgLogicalSettings};
use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::net::Dial;
use crate::recorder::Recorder;
use crate::supervisor::{Backoff, Ended, GaveUp, supervise};

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
    let forward = settings.forward.clone();
    let settings = Arc::new(settings);
    stream(dial, forward, stop, &metrics, recorder, |landing| {
        let settings = Arc::clone(&settings);
        Attempt { settings, landing }.run()
    })
    .await
}

/// Runs attempts at one stream until told to stop.
async fn stream<D: Dial, F: Future<Output = Ended>>(
    dial: D,
    settings: ForwardSettings,
    stop: watch::Receiver<bool>,
    metrics: &Metrics,
    recorder: Option<Recorder>,
    attempt: impl Fn(Landing<D>) -> F,
) -> Result<(), GaveUp> {
    let clock = Clock::start();
    let metrics = metrics.schema(&settings.schema_label());
    let settings = Arc::new(settings);
    let mut first = true;
    supervise(clock, Backoff::default(), stop.clone(), || {
        let landing = Landing {
            dial: dial.clone(),
            settings: Arc::clone(&settings),
            clock,
            stop: stop.clone(),
            metrics: Arc::clone(&metrics),
            recorder: recorder.clone(),
            first: std::mem::take(&mut first),
        };
        Box::pin(attempt(landing))
    })
    .await
}
