//! `/_/healthz` on the webhook's listener: whether staging and the target answer.
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use replicator_core::model::time::MonoTime;
use tokio::sync::Mutex;
use tracing::warn;

use super::stores::{self, Stores};
use super::target::{Found, mysql_options};
use crate::clock::Clock;
use crate::error_chain;
use crate::mysql::session::MySqlSession;
use crate::net::Dial;

/// An answer serves everybody who asks so soon after: asking needs no token, and must not load the databases.
const FRESH: Duration = Duration::from_secs(1);

/// What is asked.
#[derive(Debug)]
pub(super) struct Health<D: Dial> {
    pub(super) dial: D,
    pub(super) target: Found,
    pub(super) staging: Stores<D>,
    /// Longest time for an answer.
    pub(super) timeout: Duration,
}

type Answer = (StatusCode, &'static str);

impl<D: Dial> Health<D> {
    /// Answers on the documented path.
    pub(super) fn router(self) -> Router {
        let (health, clock) = (Arc::new(self), Clock::start());
        let last: Arc<Mutex<Option<(MonoTime, Answer)>>> = Arc::default();
        let answer = async move || {
            // Others who ask meanwhile wait for the same answer.
            let mut last = last.lock().await;
            let now = clock.now();
            match *last {
                Some((when, answer)) if now < when.after(FRESH) => answer,
                Some(_) | None => {
                    let answer = health.ask().await;
                    *last = Some((clock.now(), answer));
                    answer
                }
            }
        };
        Router::new().route("/_/healthz", get(answer))
    }

    async fn ask(&self) -> Answer {
        let asked = tokio::time::timeout(self.timeout, async {
            if let Err(reason) = self.staging.ask(&self.dial).await {
                warn!("not healthy: staging: {reason}");
                return (StatusCode::INTERNAL_SERVER_ERROR, "staging does not answer\n");
            }
            match self.ask_target().await {
                Ok(()) => (StatusCode::OK, "OK"),
                Err(reason) => {
                    warn!("not healthy: target: {reason}");
                    (StatusCode::INTERNAL_SERVER_ERROR, "the target does not answer\n")
                }
            }
        });
        asked.await.unwrap_or_else(|_| {
            warn!("not healthy: no answer within {} s", self.timeout.as_secs());
            (StatusCode::INTERNAL_SERVER_ERROR, "staging or target do not answer in time\n")
        })
    }

    async fn ask_target(&self) -> Result<(), String> {
        match &self.target {
            Found::PgWire { conninfo, .. } => stores::ask(&self.dial, conninfo).await,
            Found::MySql { conninfo } => {
                let session = MySqlSession::open(conninfo, &mysql_options(self.timeout)).await;
                let mut session = session.map_err(|error| error_chain(&error))?;
                let answer = session.query("SELECT 1").await;
                answer.map(drop).map_err(|error| error_chain(&error))
            }
        }
    }
}
