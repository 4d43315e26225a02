//! What `start` needs to know, as plain values.
use std::time::Duration;

use replicator_core::Config;
use replicator_core::model::mode::Mode;
use replicator_core::model::position::Position;
use replicator_core::model::time::{Hlc, WallTime};

use super::target::StartTarget;
use crate::pool::PoolLimits;
use crate::source::changefeed::webhook::WebhookLimits;

/// What rows wait for before they are applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consistency {
    /// For the rest of their source transactions, unless that is further behind than the window: then it is
    /// best effort until a quarter of that. Zero is no window.
    Consistent {
        /// How far the target may be behind the source.
        window: Duration,
    },
    /// Rows of related tables for the rest of their source transactions, the others for nothing.
    BestEffort,
    /// For nothing. Only for tables without foreign keys.
    Immediate,
}

impl Consistency {
    /// What a run is to do whose checkpoint is this. `before` is what the last one did.
    pub(super) fn mode(
        self,
        checkpoint: Option<Position>,
        now: WallTime,
        before: Option<Mode>,
    ) -> Mode {
        let window = match self {
            Self::Consistent { window } => window,
            Self::BestEffort => return Mode::BestEffort,
            Self::Immediate => return Mode::Consistent,
        };
        let now = Duration::from_micros(u64::try_from(now.micros).unwrap_or(0));
        let reached = match checkpoint {
            Some(Position::Hlc(Hlc { nanos, .. })) => Duration::from_nanos(nanos),
            Some(Position::Lsn(_) | Position::Ordinal(_)) | None => Duration::ZERO,
        };
        Mode::choose(window, now.saturating_sub(reached), before)
    }
}

/// What `start` needs.
#[derive(Clone, Debug)]
pub struct StartSettings {
    /// The target.
    pub target: StartTarget,
    /// Limits and delays of each machine.
    pub core: Config,
    /// What rows wait for.
    pub consistency: Consistency,
    /// The time by our clock, to tell how far behind the source we are.
    pub wall: fn() -> WallTime,
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
    /// The table in each target schema that says what is in the target; `None` is to do without.
    pub progress_table: Option<String>,
    /// Feeds that are gone for good, by the parts of the names of their schemas or tables: the first run of each
    /// schema waits for them no more.
    pub forget_feeds: Vec<Vec<String>>,
    /// How often to read the target's tables again; `None` is never.
    pub schema_refresh: Option<Duration>,
    /// Connections to the target, for each schema.
    pub target_pool: PoolLimits,
}
