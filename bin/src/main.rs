//! The program `replicator`: parse, build, run, exit code.
mod cli;
mod config;
mod observe;
mod signal;
mod version;
mod wire;

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use mimalloc::MiMalloc;
use replicator_core::model::time::WallTime;
use replicator_io::clock::Clock;
use replicator_io::metrics::{Limits, Metrics};
use tokio::sync::watch;
use tracing::{info, warn};

use crate::cli::{Cli, Command, PgLogicalFlags, Refusal};
use crate::config::{ObservingConfig, PgLogicalConfig, ProcessConfig};
use crate::observe::{Log, Lookouts, Shown};
use crate::signal::{Signals, until_stopped};

/// Rows are many small pieces of memory that one thread makes and another frees; this allocator is made
/// for that.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// The end of a run that failed.
const FAILED: u8 = 1;

/// One thread reads, the others write. More would only be idle: databases do the work.
const THREADS: usize = 3;

fn main() -> ExitCode {
    let parsed = cli::parse(std::env::args_os());
    let outcome = parsed.and_then(|cli| match cli {
        Cli { command: Command::Version, .. } => {
            Err(Refusal { text: version::report(), code: 0 })
        }
        Cli { command: Command::PgLogical(flags), process } => {
            pglogical(&flags, &process).map_err(|error| Refusal::usage(&error.to_string()))
        }
    });
    match outcome {
        Ok(code) => code,
        Err(Refusal { text, code }) => {
            // Nobody is left to tell if the standard streams are closed.
            let written = if code == 0 {
                std::io::stdout().write_all(text.as_bytes())
            } else {
                std::io::stderr().write_all(text.as_bytes())
            };
            drop(written);
            ExitCode::from(code)
        }
    }
}

/// Checks the flags, then runs. The error is a mistake in the flags.
fn pglogical(
    flags: &PgLogicalFlags,
    process: &cli::ProcessFlags,
) -> Result<ExitCode, config::UsageError> {
    let process = ProcessConfig::new(process)?;
    let observing = ObservingConfig::new(&flags.observing)?;
    let seed = u64::from(std::process::id());
    let (config, warnings) = PgLogicalConfig::new(flags, seed)?;
    let log = match Log::start(&process.log) {
        Ok(log) => log,
        Err(error) => {
            // There is no log to say it in.
            drop(writeln!(std::io::stderr(), "{error:#}"));
            return Ok(ExitCode::from(FAILED));
        }
    };
    info!("Replicator starting");
    for warning in warnings {
        warn!("{warning}");
    }
    match run(config, &process, &observing, &log) {
        Ok(()) => {
            info!("Server shutdown complete");
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => {
            log.final_error(&error);
            Ok(ExitCode::from(FAILED))
        }
    }
}

fn run(
    config: PgLogicalConfig,
    process: &ProcessConfig,
    observing: &ObservingConfig,
    log: &Log,
) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(THREADS)
        .enable_all()
        .build()
        .context("could not start threads")?;
    let ended = runtime.block_on(async {
        let mut signals = Signals::listen().context("could not listen for signals")?;
        let limits = Limits {
            applies_max: config.core.applies_max,
            buffered_bytes_max: config.core.buffered_bytes_max,
        };
        let metrics = Metrics::new("pglogical", &config.schema_label(), limits, wall_time);
        let metrics = Arc::new(metrics.with_process());
        metrics
            .registry()
            .register(Box::new(log.counts()))
            .context("could not register the log's metrics")?;
        let shown = Shown { command: "pglogical", config: config.shown(), clock: Clock::start() };
        let mut lookouts = Lookouts::start(observing, &metrics, shown).await?;
        let (stop, stopped) = watch::channel(false);
        let work = async {
            tokio::select! {
                ended = wire::pglogical(config, stopped, metrics) => ended,
                failed = lookouts.failed() => Err(failed),
            }
        };
        let grace = process.grace_period;
        let ended =
            until_stopped(work, async || signals.stop_requested().await, &stop, grace).await;
        let observed = lookouts.stop().await;
        ended.and(observed)
    });
    // Whatever still runs has been told to end and holds nothing that is not durable elsewhere.
    runtime.shutdown_background();
    ended
}

/// The time by this machine's clock, for lag: nothing is decided by it.
fn wall_time() -> WallTime {
    WallTime { micros: jiff::Timestamp::now().as_microsecond() }
}
