//! A command that runs until it is told to stop: what all of them have around their work.
mod start;

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use replicator_io::clock::Clock;
use replicator_io::metrics::{self, Limits, Metrics};
use replicator_io::net::TcpDial;
use replicator_io::recorder::{Recorder, RecorderSettings};
use replicator_io::replicate::{self, MyLogicalSettings, PgLogicalSettings};
use serde_json::{Map, Value};
use tokio::sync::watch;
use tracing::{info, warn};

use crate::cli::{MyLogicalFlags, PgLogicalFlags, ProcessFlags, StartFlags};
use crate::config::{self, ObservingConfig, ProcessConfig, StartConfig, UsageError};
use crate::observe::{Log, Lookouts, Shown};
use crate::signal::{self, Signals};

/// How long threads that wait for the operating system, such as name look-ups, may hold up the end.
const THREADS_LIMIT: Duration = Duration::from_secs(1);

/// A command that is about to run: all of it checked, nothing of it begun.
pub(crate) struct Job {
    process: ProcessConfig,
    observing: ObservingConfig,
    warnings: Vec<String>,
    work: Work,
}

/// What there is to do.
enum Work {
    PgLogical { settings: Box<PgLogicalSettings>, recording: Option<RecorderSettings> },
    MyLogical { settings: Box<MyLogicalSettings>, recording: Option<RecorderSettings> },
    Start(Box<StartConfig>),
}

impl Work {
    const fn command(&self) -> &'static str {
        match self {
            Self::PgLogical { .. } => "pglogical",
            Self::MyLogical { .. } => "mylogical",
            Self::Start(_) => "start",
        }
    }

    fn shown(&self) -> Map<String, Value> {
        match self {
            Self::PgLogical { settings, .. } => config::pglogical_shown(settings),
            Self::MyLogical { settings, .. } => config::mylogical_shown(settings),
            Self::Start(config) => config::start_shown(config),
        }
    }

    /// Which metrics there are, and what shares are shares of.
    fn measured(&self) -> (metrics::Command, Limits) {
        let (command, core) = match self {
            Self::PgLogical { settings, .. } => {
                (metrics::Command::PgLogical, &settings.forward.core)
            }
            Self::MyLogical { settings, .. } => {
                (metrics::Command::MyLogical, &settings.forward.core)
            }
            Self::Start(config) => (metrics::Command::Start, &config.settings.core),
        };
        let (applies_max, buffered_bytes_max) = (core.applies_max, core.buffered_bytes_max);
        (command, Limits { applies_max, buffered_bytes_max })
    }
}

impl Job {
    /// The job of `pglogical`.
    pub(crate) fn pglogical(
        process: &ProcessFlags,
        flags: &PgLogicalFlags,
    ) -> Result<Self, UsageError> {
        let (settings, warnings) = config::pglogical(flags, crate::seed())?;
        let recording = config::recording(&flags.recording)?;
        Ok(Self {
            process: ProcessConfig::new(process)?,
            observing: ObservingConfig::new(&flags.observing)?,
            warnings,
            work: Work::PgLogical { settings: Box::new(settings), recording },
        })
    }

    /// The job of `mylogical`.
    pub(crate) fn mylogical(
        process: &ProcessFlags,
        flags: &MyLogicalFlags,
    ) -> Result<Self, UsageError> {
        let (settings, warnings) = config::mylogical(flags, crate::seed())?;
        let recording = config::recording(&flags.recording)?;
        Ok(Self {
            process: ProcessConfig::new(process)?,
            observing: ObservingConfig::new(&flags.observing)?,
            warnings,
            work: Work::MyLogical { settings: Box::new(settings), recording },
        })
    }

    /// The job of `start`.
    pub(crate) fn start(process: &ProcessFlags, flags: &StartFlags) -> Result<Self, UsageError> {
        let (config, warnings) = config::start(flags, crate::seed())?;
        Ok(Self {
            process: ProcessConfig::new(process)?,
            observing: ObservingConfig::new(&flags.observing)?,
            warnings,
            work: Work::Start(Box::new(config)),
        })
    }

    /// Does it, to its end.
    pub(crate) fn run(self) -> ExitCode {
        let log = match Log::start(&self.process.log) {
            Ok(log) => log,
            Err(error) => {
                crate::print(&mut io::stderr(), &format!("error: {error:#}\n"));
                return ExitCode::FAILURE;
            }
        };
        // A panic is our bug; it ends the process like any other error.
        let ended = catch_unwind(AssertUnwindSafe(|| self.run_logged(&log)))
            .unwrap_or_else(|_| Err(anyhow!("a bug ended the program; its message is above")));
        match ended {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                log.final_error(&error);
                ExitCode::FAILURE
            }
        }
    }

    fn run_logged(self, log: &Log) -> anyhow::Result<()> {
        let runtime = crate::runtime().context("could not start threads")?;
        let ended = runtime.block_on(self.work(log));
        runtime.shutdown_timeout(THREADS_LIMIT);
        ended
    }

    async fn work(self, log: &Log) -> anyhow::Result<()> {
        let Self { process, observing, warnings, work } = self;
        let mut signals = Signals::listen().context("could not listen for signals")?;
        info!(version = env!("CARGO_PKG_VERSION"), "Replicator starting");
        for warning in warnings {
            warn!("{warning}");
        }
        let (command, limits) = work.measured();
        let metrics = Metrics::new(command, limits, crate::wall).with_process();
        metrics.registry().register(Box::new(log.counts()))?;
        let metrics = Arc::new(metrics);
        let clock = Clock::start();
        let shown = Shown { command: work.command(), config: work.shown(), clock };
        let mut lookouts = Lookouts::start(&observing, &metrics, shown).await?;
        let (stop, stopped) = watch::channel(false);
        let mut recorder = None;
        let done: Pin<Box<dyn Future<Output = anyhow::Result<()>>>> = match work {
            Work::PgLogical { settings, recording } => {
                recorder = recording.map(Recorder::create).transpose()?;
                Box::pin(pglogical(*settings, stopped, metrics, recorder.clone()))
            }
            Work::MyLogical { settings, recording } => {
                recorder = recording.map(Recorder::create).transpose()?;
                Box::pin(mylogical(*settings, stopped, metrics, recorder.clone()))
            }
            Work::Start(config) => {
                let hang_ups = signals.hang_ups();
                Box::pin(start::run(*config, stopped, metrics, hang_ups))
            }
        };
        let work = async {
            tokio::select! {
                ended = done => ended,
                error = lookouts.failed() => Err(error),
            }
        };
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

async fn pglogical(
    settings: PgLogicalSettings,
    stopped: watch::Receiver<bool>,
    metrics: Arc<Metrics>,
    recorder: Option<Recorder>,
) -> anyhow::Result<()> {
    replicate::pglogical(TcpDial, settings, stopped, metrics, recorder).await?;
    Ok(())
}

async fn mylogical(
    settings: MyLogicalSettings,
    stopped: watch::Receiver<bool>,
    metrics: Arc<Metrics>,
    recorder: Option<Recorder>,
) -> anyhow::Result<()> {
    replicate::mylogical(TcpDial, settings, stopped, metrics, recorder).await?;
    Ok(())
}
