//! The host on which `start` runs, with its disk.
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use replicator_core::decode::changefeed;
use replicator_core::model::time::WallTime;
use replicator_core::{Config, OnReject};
use replicator_io::http::HttpLimits;
use replicator_io::metrics::{Command, Limits, Metrics};
use replicator_io::pg::conninfo::ConnInfo;
use replicator_io::pg::pool::PoolLimits;
use replicator_io::replicate::start::{Consistency, Entrance, StartSettings, start};
use replicator_io::source::changefeed::webhook::{Open, WebhookLimits};
use replicator_io::staging::embedded::{Embedded, EmbeddedError, EmbeddedSettings, Ledger};
use tokio::sync::watch;

use super::PORT;
use crate::cluster::checker::DEAD_LETTERS;
use crate::cluster::dial::SimDial;
use crate::cluster::source::DATABASE;
use crate::cluster::trace::{broken, say};
use crate::disk::SimDisk;
use crate::fault::Setup;
use crate::os::wall_micros;
use crate::random::Random;

/// How long an operator, or something that stands in for one, waits before it starts the program again.
const RESTART_DELAY: Duration = Duration::from_secs(1);

/// Without a window.
pub(super) const CONSISTENT: Consistency = Consistency::Consistent { window: Duration::ZERO };

/// By how many seconds calendars differ, if they do.
const SKEW: i64 = 10;
const BEHIND: i64 = -SKEW;

/// Longest time for the staging file; the pretend disk is quick.
const STAGING_TIMEOUT: Duration = Duration::from_secs(5);

/// One installation of the program. Clones are the same one; it outlives its host's processes.
#[derive(Clone, Debug)]
pub(super) struct Program {
    settings: StartSettings,
    // What rows wait for: one after the other, each time the program starts.
    consistency: Vec<Consistency>,
    starts: Arc<AtomicUsize>,
    dial: SimDial,
    /// Where rows are staged.
    pub(super) disk: SimDisk,
    stop: Arc<Mutex<Option<watch::Sender<bool>>>>,
}

impl Program {
    pub(super) fn new(
        settings: StartSettings,
        consistency: Vec<Consistency>,
        disk: SimDisk,
    ) -> Self {
        let (dial, stop, starts) = (SimDial::default(), Arc::default(), Arc::default());
        Self { settings, consistency, starts, dial, disk, stop }
    }

    /// Asks the program to end in good order.
    pub(super) fn stop(&self) {
        let stop = self.stop.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(stop) = stop {
            stop.send_replace(true);
        }
    }

    /// Whether the process is about to die.
    pub(super) fn set_dying(&self, dying: bool) {
        self.dial.set_dying(dying);
    }

    /// Runs the program, again and again, for ever.
    ///
    /// # Errors
    ///
    /// Nobody can listen, which is a mistake of the world.
    pub(super) async fn run(self) -> turmoil::Result {
        loop {
            let (stop, stopped) = watch::channel(false);
            *self.stop.lock().unwrap_or_else(PoisonError::into_inner) = Some(stop);
            say("replicator", "starts");
            match Ledger::open(self.disk.clone(), staging_settings()) {
                Ok(ledger) => {
                    self.serve(Embedded::inline(ledger, STAGING_TIMEOUT), stopped).await?;
                }
                Err(error) => {
                    let text = chain(&error);
                    say("replicator", format_args!("gives up: {text}"));
                    match error {
                        EmbeddedError::Disk { .. } | EmbeddedError::Full { .. } => (),
                        EmbeddedError::Busy { .. }
                        | EmbeddedError::Damaged { .. }
                        | EmbeddedError::Format { .. } => broken(format!("staging: {text}")),
                    }
                }
            }
            tokio::time::sleep(RESTART_DELAY).await;
        }
    }

    async fn serve(&self, staging: Embedded, stopped: watch::Receiver<bool>) -> turmoil::Result {
        let Config { applies_max, buffered_bytes_max, .. } = self.settings.core;
        let limits = Limits { applies_max, buffered_bytes_max };
        let metrics = Arc::new(Metrics::new(Command::Start, limits, wall));
        let listener = self.dial.listen(PORT).await?;
        let entrance = Entrance { listener, tls: None, gate: Open, limits: HttpLimits::default() };
        let (dial, file) = (self.dial.clone(), staging.clone());
        let start_number = self.starts.fetch_add(1, Ordering::Relaxed);
        let consistency = self.consistency[start_number % self.consistency.len()];
        let settings = StartSettings { consistency, ..self.settings.clone() };
        match start(dial, settings, file, entrance, stopped, metrics).await {
            Ok(()) => say("replicator", "stops in good order"),
            Err(gave_up) => say("replicator", format_args!("gives up: {gave_up}")),
        }
        if let Err(failure) = staging.close().await {
            say("replicator", format_args!("could not close its file: {failure}"));
        }
        Ok(())
    }
}

/// The staging file is small, so that its pages are read again now and then.
fn staging_settings() -> EmbeddedSettings {
    EmbeddedSettings { cache_bytes: 64 << 10, ..EmbeddedSettings::new(PathBuf::from("/data")) }
}

fn wall() -> WallTime {
    WallTime { micros: wall_micros() }
}

/// A calendar that is ahead of the source's by so many seconds.
///
/// # Panics
///
/// There is no such calendar.
pub(super) fn wall_ahead(seconds: i64) -> fn() -> WallTime {
    match seconds {
        0 => wall,
        SKEW => || WallTime { micros: wall_micros() + SKEW * 1_000_000 },
        BEHIND => || WallTime { micros: wall_micros() - SKEW * 1_000_000 },
        _ => panic!("no calendar is ahead by {seconds} s"),
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}

/// Draws the settings of the program for a world.
pub(super) fn settings(setup: &Setup, random: &mut Random) -> StartSettings {
    let core = setup.config;
    let text =
        format!("postgresql://replicator@target:5432/{DATABASE}?sslmode=disable&connect_timeout=3");
    let target: ConnInfo = text.parse().expect("a connection string of ours");
    let seconds = Duration::from_secs;
    StartSettings {
        target: target.into(),
        core: Config {
            save_interval: core.save_interval.max(Duration::from_millis(10)),
            on_reject: OnReject::Stop,
            ..core
        },
        consistency: CONSISTENT,
        wall,
        webhook: WebhookLimits {
            body: changefeed::Limits::default(),
            bodies_bytes_max: random.pick(&[16 << 10, 1 << 20]),
            response_timeout: seconds(random.pick(&[3, 8])),
        },
        health_timeout: seconds(5),
        discard: None,
        apply_timeout: seconds(random.pick(&[2, 5])),
        dlq_table: DEAD_LETTERS.to_owned(),
        progress_table: None,
        forget_feeds: Vec::new(),
        schema_refresh: random.pick(&[None, Some(seconds(4))]),
        target_pool: PoolLimits {
            sessions_max: random.pick(&[2, 4, 16]).max(core.applies_max),
            idle_max: seconds(random.pick(&[1, 60])),
            age_max: seconds(random.pick(&[5, 300])),
            statements_max: random.pick(&[1, 4, 128]),
            wait_max: seconds(5),
        },
    }
}
