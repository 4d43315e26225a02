//! The hosts on which the program runs.
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use replicator_core::Config;
use replicator_core::decode::binlog::NoDates;
use replicator_core::decode::pg_transaction::TruncatePolicy;
use replicator_core::dialect::Product;
use replicator_core::model::time::WallTime;
use replicator_io::metrics::{Command, Limits, Metrics};
use replicator_io::pg::conninfo::ConnInfo;
use replicator_io::pool::PoolLimits;
use replicator_io::replicate::{
    ForwardSettings, MyLogicalSettings, PIECE_BYTES_MAX, PgLogicalSettings, mylogical, pglogical,
};
use tokio::sync::watch;

use super::checker::{DEAD_LETTERS, STAGING_SCHEMA};
use super::dial::SimDial;
use super::source::binlog::Binlog;
use super::source::{DATABASE, Log, SLOT};
use super::trace::{broken, say};
use crate::fault::Setup;
use crate::os::wall_micros;
use crate::random::Random;
use crate::schema::BULK;

/// How long an operator, or something that stands in for one, waits before it starts the program again.
const RESTART_DELAY: Duration = Duration::from_secs(1);

/// What the program is started as.
#[derive(Clone, Debug)]
pub enum Program {
    /// `pglogical`.
    PgLogical(PgLogicalSettings),
    /// `mylogical`, with `--fetchMetadata` as long as the log does not name columns.
    MyLogical(MyLogicalSettings, Binlog),
}

/// One installation of the program. Clones are the same one; it outlives its host's processes.
#[derive(Clone, Debug)]
pub struct Replicator {
    name: &'static str,
    settings: Program,
    dial: SimDial,
    refusals: bool,
    stop: Arc<Mutex<Option<watch::Sender<bool>>>>,
}

impl Replicator {
    /// An installation on the host of this name.
    ///
    /// `refusals` says whether its target refuses some rows for good.
    #[must_use]
    pub fn new(name: &'static str, settings: Program, refusals: bool) -> Self {
        Self { name, settings, dial: SimDial::default(), refusals, stop: Arc::default() }
    }

    /// Asks the program to end in good order.
    pub fn stop(&self) {
        let stop = self.stop.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(stop) = stop {
            stop.send_replace(true);
        }
    }

    /// Whether the process is about to die.
    pub fn set_dying(&self, dying: bool) {
        self.dial.set_dying(dying);
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
            let (command, core) = match &self.settings {
                Program::PgLogical(settings) => (Command::PgLogical, settings.forward.core),
                Program::MyLogical(settings, _) => (Command::MyLogical, settings.forward.core),
            };
            let limits = Limits {
                applies_max: core.applies_max,
                buffered_bytes_max: core.buffered_bytes_max,
            };
            let metrics = Arc::new(Metrics::new(command, limits, wall));
            say(self.name, "starts");
            let dial = self.dial.clone();
            let ended = match self.settings.clone() {
                Program::PgLogical(settings) => {
                    pglogical(dial, settings, stopped, metrics, None).await
                }
                Program::MyLogical(settings, log) => {
                    let settings =
                        MyLogicalSettings { fetch_metadata: log.is_unnamed(), ..settings };
                    mylogical(dial, settings, stopped, metrics, None).await
                }
            };
            match ended {
                Ok(()) => say(self.name, "stops in good order"),
                Err(gave_up) => {
                    say(self.name, format_args!("gives up: {gave_up}"));
                    let reason = gave_up.to_string();
                    if let Program::MyLogical(_, log) = &self.settings
                        && reason.contains("the binary log does not name their columns")
                    {
                        log.name_columns();
                    } else if self.is_lasting(&reason) {
                        broken(format!("{} gave up: {gave_up}", self.name));
                    }
                }
            }
            tokio::time::sleep(RESTART_DELAY).await;
        }
    }

    /// Whether no operator could help by starting the program again. No fault of ours leads to that, but a
    /// target that refuses a row for good does, until it no longer does.
    fn is_lasting(&self, reason: &str) -> bool {
        const MARKS: [&str; 6] = [
            "saved position",
            "was moved to",
            "lost",
            "another database cluster",
            "has not executed",
            "copy the tables again",
        ];
        let refused = reason.contains("rejected") && !self.refusals;
        refused || MARKS.iter().any(|mark| reason.contains(mark))
    }
}

/// Where the program keeps what must survive it: always the same schema of the one database that there is.
fn staging_schema(product: Product) -> Vec<String> {
    let parts: [&str; 2] = match product {
        Product::Postgres => [STAGING_SCHEMA, "public"],
        Product::Cockroach => [DATABASE, STAGING_SCHEMA],
    };
    parts.map(str::to_owned).to_vec()
}

/// Draws how large a piece of a transaction is. They go to the target one after the other, so thousands of
/// them would take longer than a world lasts.
fn piece_bytes_max(setup: &Setup, random: &mut Random) -> usize {
    let drawn = random.pick(&[1, 60, 200]);
    match setup {
        Setup { pieces: false, .. } => PIECE_BYTES_MAX,
        Setup { tables, .. } if tables.contains(&BULK) => 20_000,
        Setup { .. } => drawn,
    }
}

fn wall() -> WallTime {
    WallTime { micros: wall_micros() }
}

/// Draws the settings of the program for a world.
#[must_use]
pub fn settings(setup: &Setup, log: &Log, product: Product, random: &mut Random) -> Program {
    let core = setup.config;
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
    let standby_timeout = Duration::from_millis(random.pick(&[200, 1_000, 5_000]));
    let forward = ForwardSettings {
        target: conninfo("target"),
        staging: None,
        target_schema: None,
        staging_schema: staging_schema(product),
        staging_create: true,
        core: Config {
            // A save that failed is tried again after this time; the program never has none.
            save_interval: core.save_interval.max(Duration::from_millis(10)),
            ..core
        },
        truncate: TruncatePolicy::Apply,
        piece_bytes_max: piece_bytes_max(setup, random),
        apply_timeout: seconds(random.pick(&[2, 5])),
        dlq_table: DEAD_LETTERS.to_owned(),
        schema_refresh: random.pick(&[None, Some(seconds(4))]),
        target_pool: pool,
        staging_pool: PoolLimits { sessions_max: 2, statements_max: 16, ..pool },
    };
    match log {
        Log::Wal { .. } => Program::PgLogical(PgLogicalSettings {
            source: conninfo("source"),
            slot: SLOT.to_owned(),
            publication: None,
            standby_timeout,
            forward,
        }),
        Log::Binlog(log) => {
            let text = format!(
                "mysql://replicator@source:5432/{DATABASE}?sslmode=disable&connect_timeout=3"
            );
            let settings = MyLogicalSettings {
                source: text.parse().expect("a connection string of ours"),
                server_id: 10,
                default_gtids: Some(log.begin()),
                fetch_metadata: log.is_unnamed(),
                zero_dates: NoDates::Refuse,
                forward,
            };
            Program::MyLogical(settings, log.clone())
        }
    }
}
