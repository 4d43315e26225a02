//! What the program tells its operator: logs, metrics, health, snapshots of metrics.
mod endpoints;
mod line;
mod log;
mod open_metrics;
mod snapshot;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use replicator_io::metrics::Metrics;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::info;

pub(crate) use self::endpoints::{Shown, listen};
pub(crate) use self::log::Log;
use crate::config::ObservingConfig;

/// How long the listener and the snapshots get to finish.
const STOP_LIMIT: Duration = Duration::from_secs(5);

/// The tasks that serve metrics and write snapshots. Dropping it ends them.
#[derive(Debug)]
pub(crate) struct Lookouts {
    tasks: JoinSet<anyhow::Result<()>>,
    stop: watch::Sender<bool>,
}

impl Lookouts {
    /// Starts what the configuration asks for.
    pub(crate) async fn start(
        config: &ObservingConfig,
        metrics: &Arc<Metrics>,
        shown: Shown,
    ) -> anyhow::Result<Self> {
        let (stop, stopped) = watch::channel(false);
        let mut tasks = JoinSet::new();
        if let Some(address) = &config.metrics {
            let listener = listen(address)
                .await
                .with_context(|| format!("could not listen on --metricsAddr {address}"))?;
            info!("metrics and health are served on http://{}", listener.local_addr()?);
            let router = endpoints::router(Arc::clone(metrics), shown);
            tasks.spawn(endpoints::serve(listener, router, stopped.clone()));
        }
        if let Some(snapshots) = &config.snapshots {
            tasks.spawn(snapshot::run(snapshots.clone(), Arc::clone(metrics), stopped));
        }
        Ok(Self { tasks, stop })
    }

    /// Returns when one of them has failed; waits for ever if there is none.
    pub(crate) async fn failed(&mut self) -> anyhow::Error {
        loop {
            match self.tasks.join_next().await {
                Some(Ok(Ok(()))) => (),
                Some(Ok(Err(error))) => return error,
                Some(Err(error)) => return error.into(),
                None => std::future::pending().await,
            }
        }
    }

    /// Ends them in good order.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        self.stop.send_replace(true);
        let ended = async {
            while let Some(ended) = self.tasks.join_next().await {
                ended.map_err(io::Error::other)??;
            }
            Ok(())
        };
        // One that a slow reader holds up is dropped: the reader asks again.
        tokio::time::timeout(STOP_LIMIT, ended).await.unwrap_or(Ok(()))
    }
}
