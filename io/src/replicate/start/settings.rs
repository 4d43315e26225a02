//! What `start` needs to know, as plain values.
use std::time::Duration;

use replicator_core::Config;

use super::target::StartTarget;
use crate::pg::pool::PoolLimits;
use crate::source::changefeed::webhook::WebhookLimits;

/// What `start` needs.
#[derive(Clone, Debug)]
pub struct StartSettings {
    /// The target.
    pub target: StartTarget,
    /// Limits and delays of each machine.
    pub core: Config,
    /// Apply rows when they come, without waiting for promises.
    pub immediate: bool,
    /// How much is taken from those who call us.
    pub webhook: WebhookLimits,
    /// Longest time for an answer about our health.
    pub health_timeout: Duration,
    /// Throw away what is brought, and take so much longer for it. `None` is not to.
    pub discard: Option<Duration>,
    /// Longest time for one target transaction.
    pub apply_timeout: Duration,
    /// The dead-letter table in each target schema.
    pub dlq_table: String,
    /// The table in each target schema that says what is in the target; `None` is to do without. PostgreSQL
    /// and CockroachDB only.
    pub progress_table: Option<String>,
    /// How often to read the target's tables again; `None` is never.
    pub schema_refresh: Option<Duration>,
    /// Connections to the target, for each schema.
    pub target_pool: PoolLimits,
}
