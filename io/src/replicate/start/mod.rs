//! `start`: rows that CockroachDB changefeeds bring by HTTP go back to the original database.
//!
//! ```text
//! request ─► http ─► webhook ─► the conveyor of its schema ─► machine ─► target
//!                                       └── staging
//! ```
//!
//! Each target schema that a request names has a conveyor: a supervised run of its own machine. All share
//! the staging file, or the connections to the staging database, and the settings of the target.
mod alone;
mod attempt;
mod conveyor;
mod feeds;
mod health;
mod lanes;
mod late;
mod mysql;
mod settings;
mod store;
mod stores;
mod target;
mod turn;

use std::sync::Arc;

use tokio::sync::watch;

use self::conveyor::Conveyors;
use self::health::Health;
pub use self::settings::{Consistency, StartSettings};
pub use self::stores::{StagingDatabase, StagingSettings, Stores};
pub use self::target::{StartTarget, StartTargetError};
use super::trouble::Trouble;
use crate::clock::Clock;
use crate::http::{self, HttpLimits, HttpMetrics, Listen};
use crate::metrics::Metrics;
use crate::net::Dial;
use crate::source::changefeed::discard;
use crate::source::changefeed::webhook::{self, Gate};
use crate::supervisor::GaveUp;

/// What `start` listens with.
#[derive(Debug)]
pub struct Entrance<L, G> {
    /// Where connections come from.
    pub listener: L,
    /// With what they are encrypted; `None` is not at all.
    pub tls: Option<watch::Receiver<Arc<rustls::ServerConfig>>>,
    /// Who may bring rows.
    pub gate: G,
    /// Of connections.
    pub limits: HttpLimits,
}

/// Takes what changefeeds bring until told to stop.
///
/// # Errors
///
/// The target cannot be used, or the staging file not any more: what a human has to look at.
pub async fn start<D: Dial, L: Listen, G: Gate>(
    dial: D,
    settings: StartSettings,
    staging: impl Into<Stores<D>>,
    entrance: Entrance<L, G>,
    stop: watch::Receiver<bool>,
    metrics: Arc<Metrics>,
) -> Result<(), GaveUp> {
    let found = settings.target.clone().find(&dial, settings.apply_timeout).await;
    let found = found.map_err(Trouble::into_gave_up)?;
    let staging = staging.into();
    let limits = settings.webhook;
    let (discard, timeout) = (settings.discard, settings.health_timeout);
    let target = found.clone();
    let health = Health { dial: dial.clone(), target, staging: staging.clone(), timeout };
    let stores = staging.clone();
    let conveyors =
        Conveyors::new(dial, settings, found, staging, stop.clone(), Arc::clone(&metrics));
    let Entrance { listener, tls, gate, limits: http_limits } = entrance;
    let router = match discard {
        Some(delay) => discard::router(delay, limits.response_timeout),
        None => {
            let known = conveyors.begin_known().await;
            known.map_err(|failure| Trouble::staging(&failure).into_gave_up())?;
            webhook::router(conveyors.target_kind(), limits, conveyors.clone(), gate)
        }
    };
    let router = http::metered(router, HttpMetrics::new(metrics.registry()), Clock::start());
    let router = router.merge(health.router());
    // From here on changefeeds are answered, whether one calls or not.
    metrics.opened();
    tokio::select! {
        () = http::serve(listener, tls, router, http_limits, stop) => (),
        // Whoever starts programs again helps more than a process that refuses everything.
        gave_up = stores.ended() => return Err(gave_up),
    }
    // Nobody brings anything any more; what was brought is finished.
    conveyors.finish().await;
    Ok(())
}
