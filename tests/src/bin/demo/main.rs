//! `make demo`: a shop moves from one PostgreSQL server to another while it is open, and the program
//! that moves it is killed half way. In the end both sides are compared row by row.
//!
//! What is shown is the documented way: a publication and a slot made by hand, the first rows copied,
//! then `replicator pglogical` with the documented flags.
//!
//! `make demo-failback` is the way back: see `back`; `make demo-mysql` begins at MySQL: see `mysql`.
mod back;
mod mysql;
mod options;
mod screen;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use replicator_tests::compare;
use replicator_tests::failback;
use replicator_tests::pair::{PUBLICATION, Pair, SLOT};
use replicator_tests::postgres;
use replicator_tests::product::Replicator;
use replicator_tests::recording::replay;
use replicator_tests::workload::{self, Load, Plan, Written};
use tokio::time::{Instant, sleep, timeout};

use crate::options::Options;
use crate::screen::{Arrivals, Screen, grouped, rounded};

/// Rows before the load begins.
const FIRST_ROWS: u32 = 20_000;
const WRITERS: u32 = 4;
/// Rows of each large transaction.
const LARGE_ROWS: u32 = 20_000;
/// From one large transaction to the next; the first comes after half of it.
const LARGE_EVERY: Duration = Duration::from_secs(15);
/// From one look to the next.
const LOOK: Duration = Duration::from_millis(500);
/// If nothing arrives for this long, replication has failed.
const STALL_MAX: Duration = Duration::from_secs(60);
/// The longest that a query about progress may take.
const QUERY_MAX: Duration = Duration::from_secs(15);
/// The most that one recording takes; the demo reads it whole.
const RECORDING_MAX: &str = "256MiB";
/// The longest that an orderly stop may take; the product's own grace period is 30 s.
const STOP_MAX: Duration = Duration::from_secs(60);

#[tokio::main]
async fn main() -> ExitCode {
    let mut screen = Screen::new();
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(error) => {
            screen.say(&format!("{error:#}")).unwrap_or_default();
            return ExitCode::FAILURE;
        }
    };
    let result = tokio::select! {
        biased;
        result = demo(&mut screen, options) => result,
        _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let log = options.failback.and_then(|_| failback::log_path(back::NAME).ok());
            let log = log.or_else(|| options.source.and_then(mysql::log));
            let log = log.unwrap_or_else(log_path);
            let line = format!("demo failed: {error:#}\nreplicator's log: {}", log.display());
            // The exit code says it too, if nobody can be told.
            screen.say(&line).unwrap_or_default();
            ExitCode::FAILURE
        }
    }
}

async fn demo(screen: &mut Screen, options: Options) -> Result<()> {
    if let Some(kind) = options.failback {
        return back::demo(screen, options, kind).await;
    }
    if let Some(kind) = options.source {
        return mysql::demo(screen, options, kind).await;
    }
    let mut stage = Stage::build(screen).await?;
    let begun = Instant::now();
    stage.start_replicator(screen, true)?;
    let written = stage.run_load(screen, options, begun).await?;
    stage.drain(screen, &written, begun).await?;
    let took = begun.elapsed();
    stage.stop(screen).await?;

    let comparison = compare::tables(&stage.pair.from, &stage.pair.to, "public").await?;
    ensure!(comparison.is_identical(), "the two sides differ\n{comparison}");
    let repeats = workload::repeats(&stage.pair.to).await?;
    ensure!(repeats == 0, "{repeats} rows of the journal were written more than once");
    let (tables, rows) = (comparison.tables.len(), grouped(comparison.identical()));
    screen.say(&format!("verified: {tables} tables, {rows} rows identical"))?;
    #[expect(clippy::cast_precision_loss, reason = "only shown")]
    let rate = written.rows as f64 / took.as_secs_f64();
    screen.say(&format!(
        "throughput: {} row changes in {} transactions at {} rows/s, from the first change to the last \
         that arrived; the load was held to {} rows/s, large transactions aside",
        grouped(written.rows),
        grouped(written.transactions),
        grouped(rounded(rate)),
        grouped(u64::from(options.rate))
    ))?;
    screen.say(&format!(
        "killed with SIGKILL: {}; memory of replicator: at most {} MiB",
        stage.kills,
        stage.memory_kib / 1024
    ))?;
    stage.replay(screen)
}

/// Two servers, and replicator between them.
struct Stage {
    // Ended first: fields are dropped in this order.
    replicator: Option<Replicator>,
    pair: Pair,
    starts: u32,
    kills: u32,
    memory_kib: u64,
    arrivals: Arrivals,
}

impl Stage {
    /// Everything up to the moment when replication can begin.
    async fn build(screen: &mut Screen) -> Result<Self> {
        let major = postgres::major()?;
        screen.say(&format!("starting two servers of PostgreSQL {major}"))?;
        let pair = Pair::start(major, &postgres::Options::default()).await?;
        let (source, target) = (pair.source.port(), pair.target.port());
        screen.say(&format!("source on 127.0.0.1:{source}, target on 127.0.0.1:{target}"))?;
        let rows = grouped(pair.open_shop(FIRST_ROWS).await?);
        screen.say(&format!(
            "publication {PUBLICATION}, slot {SLOT}; the first {rows} rows are copied"
        ))?;
        // Nothing is left of an earlier demo.
        if folder().exists() {
            std::fs::remove_dir_all(folder())?;
        }
        let arrivals = Arrivals::new();
        Ok(Self { replicator: None, pair, starts: 0, kills: 0, memory_kib: 0, arrivals })
    }

    /// The documented command; `first` makes it create the staging schema.
    fn start_replicator(&mut self, screen: &mut Screen, first: bool) -> Result<()> {
        let mut arguments = self.pair.arguments(first);
        self.starts += 1;
        let recording = recording_path(self.starts).display().to_string();
        arguments.extend(["--recordTrace".to_owned(), recording]);
        arguments.extend(["--recordTraceMax", RECORDING_MAX].map(str::to_owned));
        if first {
            let mut shown = arguments.clone();
            (shown[2], shown[4]) = ("$SOURCE".to_owned(), "$TARGET".to_owned());
            screen.say(&format!("$ replicator {}", shown.join(" ")))?;
        }
        self.replicator = Some(Replicator::start(&log_path(), arguments)?);
        Ok(())
    }

    /// Writes to the source for as long as asked, and kills replicator when it is due.
    async fn run_load(
        &mut self,
        screen: &mut Screen,
        options: Options,
        begun: Instant,
    ) -> Result<Written> {
        let conninfo = self.pair.source.conninfo(replicator_tests::pair::DATABASE);
        let mut load = Load::start(&conninfo, plan(options)).await?;
        while begun.elapsed() < options.duration {
            sleep(LOOK).await;
            load.must_run()?;
            if options.kill_due(self.kills).is_some_and(|due| due <= begun.elapsed()) {
                self.replicator.take().context("replicator runs")?.kill()?;
                self.kills += 1;
                self.start_replicator(screen, false)?;
            }
            self.look(screen, load.rows(), begun).await?;
        }
        load.finish(&conninfo).await
    }

    /// Waits until everything that was written has arrived.
    async fn drain(
        &mut self,
        screen: &mut Screen,
        written: &Written,
        begun: Instant,
    ) -> Result<()> {
        while self.look(screen, written.rows, begun).await? < written.beat {
            sleep(LOOK).await;
        }
        self.pair.confirmed(STALL_MAX).await
    }

    /// Looks how far the target is, shows it, and returns the last beat that arrived.
    async fn look(&mut self, screen: &mut Screen, written: u64, begun: Instant) -> Result<i64> {
        let replicator = self.replicator.as_mut().context("replicator runs")?;
        replicator.must_run()?;
        self.memory_kib = self.memory_kib.max(replicator.memory_peak_kib());
        let sql = "SELECT beat, rows,
                          greatest(extract(epoch FROM clock_timestamp() - beaten_at), 0)::float8
                   FROM heartbeat";
        let row = timeout(QUERY_MAX, self.pair.to.query_one(sql, &[])).await??;
        let (beat, arrived, lag): (i64, i64, f64) = (row.get(0), row.get(1), row.get(2));
        if STALL_MAX < self.arrivals.saw(beat, u64::try_from(arrived)?) {
            bail!("nothing has arrived for {} s", STALL_MAX.as_secs());
        }
        let lag = Duration::from_secs_f64(lag);
        screen.show(&self.arrivals.progress(begun.elapsed(), written, lag, self.kills))?;
        Ok(beat)
    }

    /// Stops replicator in an orderly way.
    async fn stop(&mut self, screen: &mut Screen) -> Result<()> {
        let replicator = self.replicator.take().context("replicator runs")?;
        let status = replicator.stop(STOP_MAX).await?;
        ensure!(status.success(), "asked to stop, replicator ended with {status}");
        screen.say("everything has arrived and replicator has stopped; comparing both sides")
    }

    /// Tells machines again what replicator's machines were told, and compares what they answer.
    fn replay(&self, screen: &mut Screen) -> Result<()> {
        let (mut runs, mut steps) = (0, 0);
        for start in 1..=self.starts {
            let played = replay(&recording_path(start))?;
            ensure!(0 < played.steps, "recording {start} is empty");
            runs += played.runs;
            steps += played.steps;
        }
        let (runs, steps) = (grouped(runs), grouped(steps));
        screen.say(&format!(
            "recorded with hashed values: {runs} runs, {steps} steps; all replay identically"
        ))
    }
}

/// What the load does.
fn plan(options: Options) -> Plan {
    Plan {
        seed: options.seed,
        writers: WRITERS,
        rows_per_second: options.rate,
        large_rows: LARGE_ROWS,
        large_every: LARGE_EVERY,
    }
}

/// Where replicator records itself when it is started for this time, counted from 1.
fn recording_path(start: u32) -> PathBuf {
    folder().join(format!("recording-{start}"))
}

/// Where replicator's output goes.
fn log_path() -> PathBuf {
    folder().join("replicator.log")
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/demo")
}
