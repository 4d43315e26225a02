//! The hosts on which the program runs.
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use replicator_core::decode::pg_transaction::TruncatePolicy;
use replicator_core::model::time::WallTime;
use replicator_core::{Config, OnReject};
use replicator_io::metrics::{Limits, Metrics};
use replicator_io::pg::conninfo::ConnInfo;
use replicator_io::pg::pool::PoolLimits;
use replicator_io::replicate::{PgLogicalSettings, pglogical};
use tokio::sync::watch;

use super::dial::SimDial;
use super::source::{DATABASE, SLOT};
use super::trace::{broken, say};
use crate::os::wall_micros;
use crate::random::Random;

/// How long an operator, or something that stands in for one, waits before it starts the program again.
const RESTART_DELAY: Duration = Duration::from_secs(1);

/// One installation of the program. Clones are the same one; it outlives its host's processes.
#[derive(Clone, Debug)]
pub struct Replicator {
    name: &'static str,
    settings: PgLogicalSettings,
    stop: Arc<Mutex<Option<watch::Sender<bool>>>>,
}

impl Replicator {
    /// An installation on the host of this name.
    #[must_use]
    pub fn new(name: &'static str, settings: PgLogicalSettings) -> Self {
        Self { name, settings, stop: Arc::default() }
    }

    /// Asks the program to end in good order.
    pub fn stop(&self) {
        let stop = self.stop.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(stop) = stop {
            stop.send_replace(true);
        }
    }

    /// Runs the program, again and again, for ever.
    ///
    /// # Errors
    ///
    /// None; hosts of a simulation must be able to say so.
    pub async fn run(self) -> turmoil::Result {
        loop {
            let (stop, stopped) = watch::channel(false);
            *self.stop.lock().unwrap_or_else(PoisonError::into_inner) = Some(stop);
            let core = self.settings.core;
            let limits = Limits {
                applies_max: core.applies_max,
                buffered_bytes_max: core.buffered_bytes_max,
            };
            let label = self.settings.schema_label();
            let metrics = Arc::new(Metrics::new("pglogical", &label, limits, wall));
            say(self.name, "starts");
            match pglogical(SimDial, self.settings.clone(), stopped, metrics).await {
                Ok(()) => say(self.name, "stops in good order"),
                Err(gave_up) => {
                    say(self.name, format_args!("gives up: {gave_up}"));
                    if is_lasting(&gave_up.to_string()) {
                        broken(format!("{} gave up: {gave_up}", self.name));
                    }
                }
            }
            tokio::time::sleep(RESTART_DELAY).await;
        }
    }
}

/// Whether no operator could help by starting the program again. No fault of ours leads to that.
fn is_lasting(reason: &str) -> bool {
    ["rejected", "saved position", "was moved to", "lost", "another database cluster"]
        .iter()
        .any(|mark| reason.contains(mark))
}

fn wall() -> WallTime {
    WallTime { micros: wall_micros() }
}

/// Draws the settings of the program. `core` has the limits and delays of the machine.
#[must_use]
pub fn settings(core: Config, random: &mut Random) -> PgLogicalSettings {
    let conninfo = |host: &str| -> ConnInfo {
        let text = format!(
            "postgresql://replicator@{host}:5432/{DATABASE}?sslmode=disable&connect_timeout=3"
        );
        text.parse().expect("a connection string of ours")
    };
    let seconds = Duration::from_secs;
    let pool = PoolLimits {
        sessions_max: random.pick(&[2, 4, 16]).max(core.applies_max),
        idle_max: seconds(random.pick(&[1, 60])),
        age_max: seconds(random.pick(&[5, 300])),
        statements_max: random.pick(&[1, 4, 128]),
        wait_max: seconds(5),
    };
    PgLogicalSettings {
        source: conninfo("source"),
        target: conninfo("target"),
        staging: None,
        target_schema: None,
        staging_schema: vec!["_replicator".to_owned(), "public".to_owned()],
        staging_create: true,
        slot: SLOT.to_owned(),
        publication: None,
        standby_timeout: Duration::from_millis(random.pick(&[200, 1_000, 5_000])),
        core: Config {
            on_reject: OnReject::Stop,
            // A save that failed is tried again after this time; the program never has none.
            save_interval: core.save_interval.max(Duration::from_millis(10)),
            ..core
        },
        truncate: TruncatePolicy::Apply,
        apply_timeout: seconds(random.pick(&[2, 5])),
        dlq_table: "replicator_dlq".to_owned(),
        schema_refresh: random.pick(&[None, Some(seconds(4))]),
        target_pool: pool,
        staging_pool: PoolLimits { sessions_max: 2, statements_max: 16, ..pool },
    }
}
