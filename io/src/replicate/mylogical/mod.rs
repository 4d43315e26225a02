//! Replicates a MySQL or MariaDB source.
mod attempt;
mod columns;
mod position;
mod trouble;

use std::sync::Arc;

use tokio::sync::watch;

use self::attempt::Attempt;
use super::settings::MyLogicalSettings;
use super::stream;
use crate::metrics::Metrics;
use crate::net::Dial;
use crate::recorder::Recorder;
use crate::supervisor::GaveUp;

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
    let forward = settings.forward.clone();
    let (settings, learnt) = (Arc::new(settings), Arc::default());
    stream(dial, forward, stop, &metrics, recorder, |landing| {
        let (settings, learnt) = (Arc::clone(&settings), Arc::clone(&learnt));
        Attempt { settings, landing, learnt }.run()
    })
    .await
}
