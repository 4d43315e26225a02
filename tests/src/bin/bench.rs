//! `make bench`: our replication against PostgreSQL's own, on the same two servers in one run.
//!
//! ```text
//! bench [--quick] [--workload NAME]… [--runs N] [--native-only]
//! bench --failback [--quick] [--workload NAME]… [--runs N]
//! bench --mysql [--quick] [--workload NAME]… [--runs N]
//! ```
//!
//! The names are those of `bench/workload.rs`, and `latency`. Our program is built first, unless
//! `REPLICATOR_BIN` names it. Results and our logs go to `target/bench`.
//!
//! Both sides have what they come with: a subscription does not wait for the flush of its commits
//! (`synchronous_commit` of CREATE SUBSCRIPTION is off) and checks no foreign keys, ours does both.
//!
//! `--failback` is `make bench-failback`: the way back, against inserting by hand. See `bench/failback`.
//! `--mysql` is part of `make bench-mysql`: from MySQL, against its own replication. See `bench/mysql.rs`.

#[path = "../bench/catchup.rs"]
mod catchup;
#[path = "../bench/failback/mod.rs"]
mod failback;
#[path = "../bench/latency.rs"]
mod latency;
#[path = "../bench/mysql.rs"]
mod mysql;
#[path = "../bench/picture.rs"]
mod picture;
#[path = "../bench/proc.rs"]
mod proc;
#[path = "../bench/report.rs"]
mod report;
#[path = "../bench/server.rs"]
mod server;
#[path = "../bench/side.rs"]
mod side;
#[path = "../bench/workload.rs"]
mod workload;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tokio::signal::unix::{SignalKind, signal};

use crate::catchup::{Stage, Written};
use crate::latency::Extent;
use crate::proc::Calm;
use crate::report::{Outcome, Report};
use crate::side::Side;
use crate::workload::{Scale, Workload};

/// How long all runs together wait for a calm machine.
const CALM_WAIT_FULL_MAX: Duration = Duration::from_secs(180);
const CALM_WAIT_QUICK_MAX: Duration = Duration::from_secs(20);

/// The command line.
#[derive(Debug)]
struct Options {
    scale: Scale,
    runs: usize,
    /// Empty: all.
    workloads: Vec<String>,
    native_only: bool,
    way: Way,
}

/// What is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Forward,
    MySql,
    Failback,
}

impl Options {
    fn parse(mut words: impl Iterator<Item = String>) -> Result<Self> {
        let mut options = Self {
            scale: Scale::Full,
            runs: 0,
            workloads: Vec::new(),
            native_only: false,
            way: Way::Forward,
        };
        while let Some(word) = words.next() {
            let mut value = || words.next().with_context(|| format!("{word} needs a value"));
            match word.as_str() {
                "--quick" => options.scale = Scale::Quick,
                "--workload" => options.workloads.push(value()?),
                "--runs" => options.runs = value()?.parse().context("--runs needs a number")?,
                "--native-only" => options.native_only = true,
                "--failback" => options.way = Way::Failback,
                "--mysql" => options.way = Way::MySql,
                _ => bail!("there is no option \"{word}\""),
            }
        }
        if options.runs == 0 {
            options.runs = if options.scale == Scale::Full { 3 } else { 1 };
        }
        let known: Vec<&str> = match options.way {
            Way::Failback => failback::names(),
            Way::MySql => mysql::names().to_vec(),
            Way::Forward => {
                let workloads = workload::all(options.scale);
                workloads.iter().map(|one| one.name).chain(["latency"]).collect()
            }
        };
        for name in &options.workloads {
            ensure!(known.contains(&name.as_str()), "no workload \"{name}\"; there are {known:?}");
        }
        Ok(options)
    }

    fn wants(&self, name: &str) -> bool {
        self.workloads.is_empty() || self.workloads.iter().any(|wanted| wanted == name)
    }

    /// Who is measured, in the order of the first round.
    fn sides(&self) -> Vec<Side> {
        let mut sides = vec![Side::NativeText, Side::Ours, Side::NativeBinary];
        sides.retain(|side| !self.native_only || *side != Side::Ours);
        sides
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let options = Options::parse(std::env::args().skip(1))?;
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .context("this package lies in the workspace's folder")?;
    if !options.native_only && std::env::var_os("REPLICATOR_BIN").is_none() {
        build(root)?;
    }
    let mut terminated = signal(SignalKind::terminate())?;
    // Whatever ends the benchmark, its servers and processes are stopped as they are dropped.
    let (text, failures) = tokio::select! {
        report = bench(&options, root) => report?,
        _ = terminated.recv() => bail!("terminated"),
        interrupted = tokio::signal::ctrl_c() => { interrupted?; bail!("interrupted") }
    };
    say(&format!("\n{text}"));
    ensure!(failures == 0, "{failures} failed");
    Ok(())
}

/// Builds our program beside this one.
fn build(root: &Path) -> Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(["build", "--release", "--quiet", "--package", "replicator"])
        .current_dir(root)
        .status()
        .context("could not run cargo")?;
    ensure!(status.success(), "could not build our program");
    Ok(())
}

/// Measures what the options say. Returns the report, and how much of it failed.
async fn bench(options: &Options, root: &Path) -> Result<(String, usize)> {
    let folder = catchup::folder(root)?;
    let mut calm = Calm::new(match options.scale {
        Scale::Full => CALM_WAIT_FULL_MAX,
        Scale::Quick => CALM_WAIT_QUICK_MAX,
    });
    let Options { scale, runs, workloads, way, .. } = options;
    Ok(match way {
        Way::Failback => {
            let report = failback::bench(folder, *scale, *runs, workloads, &mut calm).await?;
            (report.text(), report.failures.len())
        }
        Way::MySql => {
            let report = mysql::bench(folder, *scale, *runs, workloads, &mut calm).await?;
            (report.text(), report.failures.len())
        }
        Way::Forward => {
            let report = forward(options, folder, &mut calm).await?;
            (report.text(), report.failures.len())
        }
    })
}

async fn forward(options: &Options, folder: PathBuf, calm: &mut Calm) -> Result<Report> {
    let stage = Stage { source: server::start()?, target: server::start()?, folder };
    let mut report = Report { machine: machine(&stage).await?, ..Report::default() };
    for workload in workload::all(options.scale) {
        if options.wants(workload.name) {
            catch_up(&stage, &workload, options, calm, &mut report).await?;
        }
    }
    if options.wants("latency") {
        measure_latency(&stage, options, calm, &mut report).await;
    }
    report.write_json(&stage.folder)?;
    picture::write(&report, &stage.folder)?;
    Ok(report)
}

/// Measures one workload; a failed run is noted, and the others go on.
async fn catch_up(
    stage: &Stage,
    workload: &Workload,
    options: &Options,
    calm: &mut Calm,
    report: &mut Report,
) -> Result<()> {
    let written: Written<'_> = catchup::write(stage, workload).await?;
    let mut sides = options.sides();
    let mut runs = Vec::new();
    for _ in 0..options.runs {
        for &side in &sides {
            match written.run(side, calm).await {
                Ok(run) => {
                    let rate = workload.rows as f64 / run.seconds;
                    let (name, side_name) = (workload.name, side.name());
                    say(&format!(
                        "{name:<10} {side_name:<14} {:.2} s, {rate:.0} rows/s",
                        run.seconds
                    ));
                    runs.push((side, run));
                }
                Err(error) => {
                    let failure = format!("{}, {}: {error:#}", workload.name, side.name());
                    say(&failure);
                    report.failures.push(failure);
                }
            }
        }
        // No side is always the first one after the others' runs.
        sides.rotate_left(1);
    }
    let wal_bytes = written.wal_bytes;
    written.finish().await?;
    report.outcomes.push(Outcome::new(workload, wal_bytes, &runs));
    Ok(())
}

async fn measure_latency(stage: &Stage, options: &Options, calm: &mut Calm, report: &mut Report) {
    let mut sides = options.sides();
    sides.retain(|side| *side != Side::NativeBinary);
    let (rate_time, idle_time) = match options.scale {
        Scale::Full => (Duration::from_secs(5), Duration::from_secs(20)),
        Scale::Quick => (Duration::from_secs(3), Duration::from_secs(5)),
    };
    let extent = Extent { runs: options.runs, rate_time, idle_time };
    match latency::measure(stage, &sides, extent, calm).await {
        Ok((latencies, idle)) => {
            report.latencies = latencies;
            report.idle = idle;
        }
        Err(error) => report.failures.push(format!("latency: {error:#}")),
    }
}

/// The server's version, and what of the machine the numbers depend on.
async fn machine(stage: &Stage) -> Result<String> {
    let client = stage.source.client("postgres").await?;
    let version = server::text(&client, "SELECT split_part(version(), ' ', 2)").await?;
    let processors = std::thread::available_parallelism()?;
    let flush = proc::flush_time(&stage.folder)?.as_secs_f64() * 1_000.0;
    Ok(format!(
        "PostgreSQL {version}, both servers on one machine, {processors} processors, \
         fdatasync {flush:.1} ms"
    ))
}

#[expect(clippy::print_stdout, reason = "the results are this program's output")]
fn say(line: &str) {
    println!("{line}");
}
