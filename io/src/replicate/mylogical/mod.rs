//! Replicates a MySQL or MariaDB source.
mod attempt;
mod position;
mod trouble;

use std::sync::Arc;

use tokio::sync::watch;

use self::attempt::Attempt;
use super::landing::Landing;
use super::settings::MyLogicalSettings;
use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::net::Dial;
use crate::recorder::Recorder;
use crate::supervisor::{Backoff, GaveUp, supervise};

/// Replicates a MySQL or MariaDB source until told to stop. `recorder` is told of everything that happens.
///
/// # Errors
///
/// What a human has to look at.
pub async fn mylogical<D: Dial>(
    dial: D,
    settings: MyLogicalSettings,
    stop: watch::Receiver<bool>,
    metrics: Arc<Metrics>,
    recorder: Option<Recorder>,
) -> Result<(), GaveUp> {
    let clock = Clock::start();
    let metrics = metrics.schema(&settings.forward.schema_label());
    let forward = Arc::new(settings.forward.clone());
    let settings = Arc::new(settings);
    let mut first = true;
    supervise(clock, Backoff::default(), stop.clone(), || {
        let attempt = Attempt {
            settings: Arc::clone(&settings),
            landing: Landing {
                dial: dial.clone(),
                settings: Arc::clone(&forward),
                clock,
                stop: stop.clone(),
                metrics: Arc::clone(&metrics),
                recorder: recorder.clone(),
                first: std::mem::take(&mut first),
            },
        };
        Box::pin(attempt.run())
    })
    .await
}
