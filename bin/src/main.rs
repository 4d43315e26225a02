//! The program `replicator`: reads the command line, runs the command, answers with an exit code:
//! 0 after an orderly end, 2 for a mistake in the command line, 1 for everything else.
mod cli;
mod config;
mod observe;
mod signal;
mod version;

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, anyhow};
use replicator_core::model::time::WallTime;
use replicator_io::clock::Clock;
use replicator_io::metrics::{Limits, Metrics};
use replicator_io::net::TcpDial;
use replicator_io::recorder::{Recorder, RecorderSettings};
use replicator_io::replicate::{self, PgLogicalSettings};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;
use tracing::{info, warn};

use crate::cli::{Command, PgLogicalFlags, ProcessFlags, Refusal};
use crate::config::{ObservingConfig, ProcessConfig, UsageError};
use crate::observe::{Log, Lookouts, Shown};
use crate::signal::Signals;

/// Rows are many small pieces of memory that one thread makes and another frees; this allocator is made
/// for that.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How long threads that wait for the operating system, such as name look-ups, may hold up the end.
const THREADS_LIMIT: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let cli = match cli::parse(std::env::args_os()) {
        Ok(cli) => cli,
        Err(refusal) => return refuse(&refusal),
    };
    match cli.command {
        Command::Version => {
            print(&mut io::stdout(), &version::report());
            ExitCode::SUCCESS
        }
        Command::PgLogical(flags) => match Job::new(&cli.process, &flags) {
            Ok(job) => job.start(),
            Err(error) => refuse(&Refusal::usage(&error.to_string())),
        },
    }
}

fn refuse(refusal: &Refusal) -> ExitCode {
    match refusal.code {
        0 => print(&mut io::stdout(), &refusal.text),
        _ => print(&mut io::stderr(), &refusal.text),
    }
    ExitCode::from(refusal.code)
}

/// Whoever closed the other end does not want to read it.
fn print(out: &mut impl io::Write, text: &str) {
    drop(out.write_all(text.as_bytes()).and_then(|()| out.flush()));
}

/// A replication that is about to start: all of it checked, nothing of it begun.
struct Job {
    process: ProcessConfig,
    observing: ObservingConfig,
    recording: Option<RecorderSettings>,
    settings: PgLogicalSettings,
    warnings: Vec<String>,
}

impl Job {
    fn new(process: &ProcessFlags, flags: &PgLogicalFlags) -> Result<Self, UsageError> {
        let (settings, warnings) = config::pglogical(flags, seed())?;
        Ok(Self {
            process: ProcessConfig::new(process)?,
            observing: ObservingConfig::new(&flags.observing)?,
            recording: config::recording(&flags.recording)?,
            settings,
            warnings,
        })
    }

    fn start(self) -> ExitCode {
        let log = match Log::start(&self.process.log) {
            Ok(log) => log,
            Err(error) => {
                print(&mut io::stderr(), &format!("error: {error:#}\n"));
                return ExitCode::FAILURE;
            }
        };
        // A panic is our bug; it ends the process like any other error.
        let ended = catch_unwind(AssertUnwindSafe(|| self.run(&log)))
            .unwrap_or_else(|_| Err(anyhow!("a bug ended the program; its message is above")));
        match ended {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                log.final_error(&error);
                ExitCode::FAILURE
            }
        }
    }

    fn run(self, log: &Log) -> anyhow::Result<()> {
        let runtime = runtime().context("could not start threads")?;
        let ended = runtime.block_on(self.replicate(log));
        runtime.shutdown_timeout(THREADS_LIMIT);
        ended
    }

    async fn replicate(self, log: &Log) -> anyhow::Result<()> {
        let Self { process, observing, recording, settings, warnings } = self;
        let mut signals = Signals::listen().context("could not listen for signals")?;
        info!(version = env!("CARGO_PKG_VERSION"), "Replicator starting");
        for warning in warnings {
            warn!("{warning}");
        }
        let recorder = recording.map(Recorder::create).transpose()?;
        let metrics = Arc::new(metrics(&settings, log)?);
        let clock = Clock::start();
        let shown = Shown { command: "pglogical", config: config::shown(&settings), clock };
        let mut lookouts = Lookouts::start(&observing, &metrics, shown).await?;
        let (stop, stopped) = watch::channel(false);
        let replication =
            replicate::pglogical(TcpDial, settings, stopped, metrics, recorder.clone());
        let work = async {
            tokio::select! {
                ended = replication => ended.map_err(anyhow::Error::from),
                error = lookouts.failed() => Err(error),
            }
        };
        let work = Box::pin(work);
        let asked = async || signals.stop_requested().await;
        let ended = signal::until_stopped(work, asked, &stop, process.grace_period).await;
        let lookouts_ended = lookouts.stop().await;
        if let Some(recorder) = recorder {
            recorder.finish();
        }
        if ended.is_ok() {
            info!("Server shutdown complete");
        }
        ended.and(lookouts_ended)
    }
}

fn metrics(settings: &PgLogicalSettings, log: &Log) -> anyhow::Result<Metrics> {
    let limits = Limits {
        applies_max: settings.core.applies_max,
        buffered_bytes_max: settings.core.buffered_bytes_max,
    };
    let metrics = Metrics::new("pglogical", &settings.schema_label(), limits, wall).with_process();
    metrics.registry().register(Box::new(log.counts()))?;
    Ok(metrics)
}

/// Two threads at least, so that one that computes for long does not hold up the other; more than four
/// would only pass rows around.
fn runtime() -> io::Result<Runtime> {
    let cores = available_parallelism().map_or(2, usize::from);
    Builder::new_multi_thread().worker_threads(cores.clamp(2, 4)).enable_all().build()
}

/// The time of day by this machine's clock.
fn wall() -> WallTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    WallTime { micros: i64::try_from(since.as_micros()).unwrap_or(i64::MAX) }
}

/// Differs between processes, so that they do not retry in step. Nothing else depends on it.
fn seed() -> u64 {
    wall().micros.unsigned_abs().rotate_left(20) ^ u64::from(std::process::id())
}
