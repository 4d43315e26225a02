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
use replicator_io::pool::PoolLimits;
use replicator_io::replicate::start::{
    Consistency, Entrance, StagingDatabase, StagingSettings, StartSettings, Stores, start,
};
use replicator_io::source::changefeed::webhook::{Open, WebhookLimits};
use replicator_io::staging::embedded::{Embedded, EmbeddedError, EmbeddedSettings, Ledger};
use tokio::sync::watch;

use super::PORT;
use crate::cluster::checker::{DEAD_LETTERS, STAGING_SCHEMA};
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

/// Longest time for staging; the pretend disk is quick.
const STAGING_TIMEOUT: Duration = Duration::from_secs(5);

/// One installation of the program. Clones are the same one; it outlives its host's processes.
#[derive(Clone, Debug)]
pub(super) struct Program {
    /// Where it runs.
    pub(super) host: &'static str,
    settings: StartSettings,
    // What rows wait for: one after the other, each time the program starts.
    consistency: Vec<Consistency>,
    starts: Arc<AtomicUsize>,
    dial: SimDial,
    /// Where rows are staged in a file.
    pub(super) disk: SimDisk,
    // Where else they are staged.
    database: Option<StagingSettings>,
    stop: Arc<Mutex<Option<watch::Sender<bool>>>>,
}

impl Program {
    pub(super) fn new(
        host: &'static str,
        settings: StartSettings,
        consistency: Vec<Consistency>,
        disk: SimDisk,
        database: Option<StagingSettings>,
    ) -> Self {
        let (dial, stop, starts) = (SimDial::default(), Arc::default(), Arc::default());
        Self { host, settings, consistency, starts, dial, disk, database, stop }
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
            say(self.host, "starts");
            match self.database.clone() {
                Some(settings) => self.serve_from_database(settings, stopped).await?,
                None => self.serve_from_file(stopped).await?,
            }
            tokio::time::sleep(RESTART_DELAY).await;
        }
    }

    async fn serve_from_file(&self, stopped: watch::Receiver<bool>) -> turmoil::Result {
        match Ledger::open(self.disk.clone(), staging_settings()) {
            Ok(ledger) => {
                let file = Embedded::inline(ledger, STAGING_TIMEOUT);
                self.serve(file.clone().into(), stopped).await?;
                if let Err(failure) = file.close().await {
                    say(self.host, format_args!("could not close its file: {failure}"));
                }
            }
            Err(error) => {
                let text = chain(&error);
                say(self.host, format_args!("gives up: {text}"));
                match error {
                    EmbeddedError::Disk { .. } | EmbeddedError::Full { .. } => (),
                    EmbeddedError::Busy { .. }
                    | EmbeddedError::Damaged { .. }
                    | EmbeddedError::Format { .. } => broken(format!("staging: {text}")),
                }
            }
        }
        Ok(())
    }

    async fn serve_from_database(
        &self,
        settings: StagingSettings,
        stopped: watch::Receiver<bool>,
    ) -> turmoil::Result {
        match StagingDatabase::open(self.dial.clone(), settings).await {
            Ok(database) => self.serve(database.into(), stopped).await?,
            Err(gave_up) => say(self.host, format_args!("gives up: {gave_up}")),
        }
        Ok(())
    }

    async fn serve(
        &self,
        stores: Stores<SimDial>,
        stopped: watch::Receiver<bool>,
    ) -> turmoil::Result {
        let Config { applies_max, buffered_bytes_max, .. } = self.settings.core;
        let limits = Limits { applies_max, buffered_bytes_max };
        let metrics = Arc::new(Metrics::new(Command::Start, limits, wall));
        let listener = self.dial.listen(PORT).await?;
        let entrance = Entrance { listener, tls: None, gate: Open, limits: HttpLimits::default() };
        let start_number = self.starts.fetch_add(1, Ordering::Relaxed);
        let consistency = self.consistency[start_number % self.consistency.len()];
        let settings = StartSettings { consistency, ..self.settings.clone() };
        match start(self.dial.clone(), settings, stores, entrance, stopped, metrics).await {
            Ok(()) => say(self.host, "stops in good order"),
            Err(gave_up) => say(self.host, format_args!("gives up: {gave_up}")),
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

/// Draws the settings of the program for a world, without a table of progress.
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
            on_reject: match setup.limits {
                true => OnReject::DeadLetter { percent_max: 100 },
                false => OnReject::Stop,
            },
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

/// Draws how the program uses a staging database.
pub(super) fn staging_database(random: &mut Random) -> StagingSettings {
    let text = format!(
        "postgresql://replicator@staging:5432/{DATABASE}?sslmode=disable&connect_timeout=3"
    );
    let seconds = Duration::from_secs;
    StagingSettings {
        conninfo: text.parse().expect("a connection string of ours"),
        schema: vec![STAGING_SCHEMA.to_owned()],
        create: true,
        reader_index: random.chance(50),
        pool: PoolLimits {
            sessions_max: random.pick(&[3, 8]),
            idle_max: seconds(random.pick(&[1, 60])),
            age_max: seconds(random.pick(&[5, 300])),
            statements_max: 128,
            wait_max: seconds(5),
        },
        timeout: STAGING_TIMEOUT,
    }
}
