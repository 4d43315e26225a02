//! The machine: CPU time and memory of processes, how busy it is (`/proc`, proc(5)), how slow its
//! disk is.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::time::{Instant, sleep};

/// The unit of the times in `/proc/PID/stat`: Linux fixes `USER_HZ` at 100 on x86-64 and ARM.
const TICKS_PER_SECOND: f64 = 100.0;

/// A machine less busy than this is calm enough to measure on.
const CALM_BUSY_MAX: f64 = 0.20;

/// How long one run waits for a calm machine.
const CALM_WAIT_MAX: Duration = Duration::from_secs(60);

/// CPU seconds of the processes that take part in replication.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Cpu {
    /// Our process; 0 for PostgreSQL's own replication, which has none.
    pub(crate) replicator: f64,
    /// The walsenders of the source.
    pub(crate) walsender: f64,
    /// The apply worker, or the backends of our sessions.
    pub(crate) target: f64,
    /// Everything else of both servers: WAL writers, checkpointers, short-lived backends.
    pub(crate) background: f64,
}

impl Cpu {
    /// All of it.
    pub(crate) fn total(&self) -> f64 {
        self.replicator + self.walsender + self.target + self.background
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Replicator,
    Walsender,
    Target,
    Background,
}

#[derive(Debug)]
struct Usage {
    part: Part,
    first: u64,
    last: u64,
}

/// Adds up the CPU time of two servers and of our process.
///
/// It must look while processes come and go: what a short-lived one used after the last look is
/// lost.
#[derive(Debug)]
pub(crate) struct Meter {
    source: u32,
    target: u32,
    replicator: Option<u32>,
    /// Backends of the benchmark's own sessions.
    ours: BTreeSet<u32>,
    seen: BTreeMap<u32, Usage>,
}

impl Meter {
    /// Starts to count. `source` and `target` are postmasters, `ours` backends to leave out.
    pub(crate) fn start(source: u32, target: u32, ours: BTreeSet<u32>) -> Self {
        let mut meter = Self { source, target, replicator: None, ours, seen: BTreeMap::new() };
        meter.look(true);
        meter
    }

    /// Also counts our process, from its birth.
    pub(crate) fn include(&mut self, replicator: u32) {
        self.replicator = Some(replicator);
    }

    /// Takes the times of all processes.
    pub(crate) fn sample(&mut self) {
        self.look(false);
    }

    fn look(&mut self, first: bool) {
        let Ok(entries) = fs::read_dir("/proc") else { return };
        for entry in entries.flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            // A process may end between two reads.
            let Some((parent, ticks)) = stat(pid) else { continue };
            if let Some(usage) = self.seen.get_mut(&pid) {
                usage.last = ticks;
                // A backend gets its name only after its start.
                if usage.part == Part::Background {
                    usage.part = part(pid, parent == self.source);
                }
                continue;
            }
            let part = if Some(pid) == self.replicator {
                Part::Replicator
            } else if (parent == self.source || parent == self.target) && !self.ours.contains(&pid)
            {
                part(pid, parent == self.source)
            } else {
                continue;
            };
            // Who was there at the start is counted from then on, a newcomer from its birth.
            let from = if first { ticks } else { 0 };
            self.seen.insert(pid, Usage { part, first: from, last: ticks });
        }
    }

    /// The CPU time used between the start and the last sample.
    pub(crate) fn cpu(&self) -> Cpu {
        let mut cpu = Cpu::default();
        for usage in self.seen.values() {
            let seconds = usage.last.saturating_sub(usage.first) as f64 / TICKS_PER_SECOND;
            match usage.part {
                Part::Replicator => cpu.replicator += seconds,
                Part::Walsender => cpu.walsender += seconds,
                Part::Target => cpu.target += seconds,
                Part::Background => cpu.background += seconds,
            }
        }
        cpu
    }
}

/// What a child of a postmaster does, by the title it gives itself
/// (`src/backend/utils/misc/ps_status.c`).
fn part(pid: u32, source: bool) -> Part {
    let Ok(title) = fs::read(format!("/proc/{pid}/cmdline")) else { return Part::Background };
    let title = String::from_utf8_lossy(&title);
    if source {
        return if title.contains("walsender") { Part::Walsender } else { Part::Background };
    }
    // "logical replication worker", from 16 on "logical replication apply worker"; the launcher is
    // none. A backend's title holds its client's address.
    let apply = title.contains("logical replication") && title.contains("worker");
    if apply || title.contains("127.0.0.1") { Part::Target } else { Part::Background }
}

/// The parent of a process and the ticks it has used in user and kernel mode.
fn stat(pid: u32) -> Option<(u32, u64)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything; the fields after it are counted from `state`.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let parent = fields.get(1)?.parse().ok()?;
    let user: u64 = fields.get(11)?.parse().ok()?;
    let kernel: u64 = fields.get(12)?.parse().ok()?;
    Some((parent, user + kernel))
}

/// The CPU seconds a process has used since its birth.
pub(crate) fn cpu_seconds(pid: u32) -> Result<f64> {
    let (_, ticks) = stat(pid).with_context(|| format!("process {pid} has ended"))?;
    Ok(ticks as f64 / TICKS_PER_SECOND)
}

/// The most memory a process has had in RAM, in KiB (`VmHWM`).
pub(crate) fn memory_peak_kib(pid: u32) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status"))
        .with_context(|| format!("process {pid} has ended"))?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .context("the process has no VmHWM")?;
    line.trim().trim_end_matches("kB").trim().parse().context("VmHWM is no number")
}

/// Waits for a calm machine before each run, within a limit for each run and one for all of them.
#[derive(Debug)]
pub(crate) struct Calm {
    left: Duration,
}

impl Calm {
    /// Waits at most `left` in all runs together.
    pub(crate) fn new(left: Duration) -> Self {
        Self { left }
    }

    /// Waits until one second was calm; false if the time ran out first.
    pub(crate) async fn wait(&mut self) -> Result<bool> {
        let began = Instant::now();
        loop {
            let before = machine_ticks()?;
            sleep(Duration::from_secs(1)).await;
            let after = machine_ticks()?;
            let all = after.all.saturating_sub(before.all).max(1) as f64;
            let idle = after.idle.saturating_sub(before.idle) as f64;
            let calm = 1.0 - idle / all < CALM_BUSY_MAX;
            let waited = began.elapsed();
            if calm || CALM_WAIT_MAX.min(self.left) <= waited {
                // The second that a calm machine costs is not counted.
                self.left = self.left.saturating_sub(waited.saturating_sub(Duration::from_secs(1)));
                return Ok(calm);
            }
        }
    }
}

struct MachineTicks {
    all: u64,
    idle: u64,
}

/// The times of all processors since boot: user, nice, system, idle, iowait, irq, softirq, steal.
fn machine_ticks() -> Result<MachineTicks> {
    let text = fs::read_to_string("/proc/stat").context("could not read /proc/stat")?;
    let line = text.lines().next().context("/proc/stat is empty")?;
    let times: Vec<u64> =
        line.split_whitespace().skip(1).take(8).map(|time| time.parse().unwrap_or(0)).collect();
    Ok(MachineTicks { all: times.iter().sum(), idle: times.iter().skip(3).take(2).sum() })
}

/// How many writes the time of a flush is taken from.
const FLUSHES: usize = 21;

/// The median time of a write of 8 KiB to an existing file until it is on the disk, as a commit
/// waits for it (`wal_sync_method = fdatasync`).
pub(crate) fn flush_time(folder: &Path) -> Result<Duration> {
    let path = folder.join("flush.tmp");
    let file = OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .open(&path)
        .with_context(|| format!("could not make {}", path.display()))?;
    let page = [1; 8192];
    let mut times = Vec::with_capacity(FLUSHES);
    file.write_all_at(&page, 0)?;
    file.sync_all()?;
    for _ in 0..FLUSHES {
        let began = Instant::now();
        file.write_all_at(&page, 0)?;
        file.sync_data()?;
        times.push(began.elapsed());
    }
    fs::remove_file(&path)?;
    times.sort();
    times.get(FLUSHES / 2).copied().context("there were flushes")
}
