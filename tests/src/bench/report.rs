//! The results: medians, a table for people, JSON for programs.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::catchup::Run;
use crate::latency::{Idle, Latency, RATES};
use crate::proc::Cpu;
use crate::side::Side;
use crate::workload::Workload;

/// The order of columns, bars and fields.
pub(crate) const SIDES: [Side; 3] = [Side::NativeText, Side::NativeBinary, Side::Ours];

/// Medians of the runs of one side.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Median {
    /// Rows a second.
    pub(crate) rows_per_s: f64,
    /// CPU seconds, each part by itself.
    pub(crate) cpu: Cpu,
    /// The largest peak of all runs.
    pub(crate) memory_peak_kib: Option<u64>,
    /// Runs that succeeded.
    pub(crate) runs: usize,
    /// Runs that began on a calm machine.
    pub(crate) calm_runs: usize,
}

/// One workload on all sides. A side without a successful run is missing.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// The workload.
    pub(crate) workload: Workload,
    /// Bytes of WAL that were read.
    pub(crate) wal_bytes: i64,
    /// In the order of [`SIDES`].
    pub(crate) sides: [Option<Median>; 3],
}

impl Outcome {
    /// Takes the medians.
    pub(crate) fn new(workload: &Workload, wal_bytes: i64, runs: &[(Side, Run)]) -> Self {
        let sides = SIDES.map(|side| {
            let runs: Vec<&Run> =
                runs.iter().filter(|run| run.0 == side).map(|run| &run.1).collect();
            median(workload.rows as f64, &runs)
        });
        Self { workload: workload.clone(), wal_bytes, sides }
    }

    /// Ours to PostgreSQL's with values as text.
    pub(crate) fn ratio(&self) -> Option<f64> {
        let [native, _, ours] = &self.sides;
        Some(ours.as_ref()?.rows_per_s / native.as_ref()?.rows_per_s)
    }

    fn json(&self) -> Value {
        let [native, binary, ours] = &self.sides;
        let rate = |side: &Option<Median>| side.map(|side| side.rows_per_s.round());
        let calm = |side: &Option<Median>| side.map(|side| json!([side.calm_runs, side.runs]));
        json!({
            "name": self.workload.name,
            "title": self.workload.title,
            "rows": self.workload.rows,
            "wal_bytes": self.wal_bytes,
            "ours_rows_per_s": rate(ours),
            "native_rows_per_s": rate(native),
            "native_binary_rows_per_s": rate(binary),
            "ratio": self.ratio().map(|ratio| (ratio * 100.0).round() / 100.0),
            "cpu_seconds": {
                "ours": ours.map(|side| cpu_json(side.cpu)),
                "native": native.map(|side| cpu_json(side.cpu)),
                "native_binary": binary.map(|side| cpu_json(side.cpu)),
            },
            "ours_memory_peak_kib": ours.and_then(|side| side.memory_peak_kib),
            "calm_runs": {
                "ours": calm(ours), "native": calm(native), "native_binary": calm(binary),
            },
        })
    }
}

fn cpu_json(cpu: Cpu) -> Value {
    let round = |seconds: f64| (seconds * 100.0).round() / 100.0;
    json!({
        "replicator": round(cpu.replicator),
        "walsender": round(cpu.walsender),
        "target": round(cpu.target),
        "background": round(cpu.background),
        "total": round(cpu.total()),
    })
}

fn median(rows: f64, runs: &[&Run]) -> Option<Median> {
    let of = |field: fn(&Run) -> f64| middle(runs.iter().map(|run| field(run)).collect());
    Some(Median {
        rows_per_s: rows / of(|run| run.seconds)?,
        cpu: Cpu {
            replicator: of(|run| run.cpu.replicator)?,
            walsender: of(|run| run.cpu.walsender)?,
            target: of(|run| run.cpu.target)?,
            background: of(|run| run.cpu.background)?,
        },
        memory_peak_kib: runs.iter().filter_map(|run| run.memory_peak_kib).max(),
        runs: runs.len(),
        calm_runs: runs.iter().filter(|run| run.calm).count(),
    })
}

/// The median; of an even number of values the mean of the two in the middle.
pub(crate) fn middle(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let upper = *values.get(values.len() / 2)?;
    let lower = *values.get((values.len() - 1) / 2)?;
    Some((lower + upper) / 2.0)
}

/// Medians over the runs of one side at one rate.
#[derive(Debug, Clone, Copy)]
struct LatencyMedian {
    side: Side,
    rate: u64,
    reached: f64,
    p50: f64,
    p99: f64,
    max: f64,
}

fn latency_medians(all: &[Latency]) -> Vec<LatencyMedian> {
    let mut medians = Vec::new();
    for rate in RATES {
        for side in SIDES {
            let of = |field: fn(&Latency) -> f64| {
                let same = all.iter().filter(|one| one.side == side && one.rate == rate);
                middle(same.map(field).collect())
            };
            if let (Some(reached), Some(p50), Some(p99), Some(max)) =
                (of(|one| one.reached), of(|one| one.p50), of(|one| one.p99), of(|one| one.max))
            {
                medians.push(LatencyMedian { side, rate, reached, p50, p99, max });
            }
        }
    }
    medians
}

/// Everything that one benchmark found out.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// The server's version and the machine, in words.
    pub(crate) machine: String,
    /// Catch-up, one for each workload.
    pub(crate) outcomes: Vec<Outcome>,
    /// All latency runs.
    pub(crate) latencies: Vec<Latency>,
    /// Our process at rest.
    pub(crate) idle: Option<Idle>,
    /// What went wrong.
    pub(crate) failures: Vec<String>,
}

impl Report {
    /// The tables for people.
    pub(crate) fn text(&self) -> String {
        let mut lines = vec![self.machine.clone(), String::new()];
        if !self.outcomes.is_empty() {
            lines.extend(self.catchup_lines());
        }
        let medians = latency_medians(&self.latencies);
        if !medians.is_empty() {
            lines.push(String::new());
            lines.push("commit to visible, ms    tx/s reached        p50      p99      max".into());
        }
        for one in medians {
            lines.push(format!(
                "{:<20} {:>8} {:>7.0} {:>10.2} {:>8.2} {:>8.2}",
                one.side.name(),
                one.rate,
                one.reached,
                one.p50,
                one.p99,
                one.max
            ));
        }
        if let Some(idle) = self.idle {
            lines.push(format!(
                "our process at rest: {:.2} CPU seconds in {:.0} s",
                idle.cpu_seconds, idle.seconds
            ));
        }
        lines.extend(self.failures.iter().map(|failure| format!("FAILED {failure}")));
        lines.join("\n")
    }

    fn catchup_lines(&self) -> Vec<String> {
        let mut lines = vec![
            "catch-up, rows/s           native    binary      ours  ratio | \
             CPU s: native (apply+wal+rest)  ours (ours+wal+target+rest) | peak MiB | calm"
                .to_owned(),
        ];
        for outcome in &self.outcomes {
            let [native, binary, ours] = &outcome.sides;
            let rate = |side: &Option<Median>| {
                side.map_or_else(|| "-".to_owned(), |side| format!("{:.0}", side.rows_per_s))
            };
            let cpu = |side: &Option<Median>, own: bool| {
                side.map_or_else(
                    || "-".to_owned(),
                    |Median { cpu, .. }| {
                        let first =
                            if own { format!("{:.1}+", cpu.replicator) } else { String::new() };
                        let parts = if own {
                            format!("{:.1}+{:.1}", cpu.walsender, cpu.target)
                        } else {
                            format!("{:.1}+{:.1}", cpu.target, cpu.walsender)
                        };
                        format!("{:.1} ({first}{parts}+{:.1})", cpu.total(), cpu.background)
                    },
                )
            };
            let peak = ours.and_then(|side| side.memory_peak_kib);
            let all = outcome.sides.iter().flatten();
            let (calm, runs) =
                all.fold((0, 0), |sum, side| (sum.0 + side.calm_runs, sum.1 + side.runs));
            lines.push(format!(
                "{:<10} {:>9} rows {:>8} {:>9} {:>9} {:>6} | {:>24} {:>32} | {:>8} | {calm}/{runs}",
                outcome.workload.name,
                outcome.workload.rows,
                rate(native),
                rate(binary),
                rate(ours),
                outcome.ratio().map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}")),
                cpu(native, false),
                cpu(ours, true),
                peak.map_or_else(|| "-".to_owned(), |kib| (kib / 1024).to_string()),
            ));
        }
        lines
    }

    /// Writes `pglogical.json`.
    pub(crate) fn write_json(&self, folder: &Path) -> Result<()> {
        let latency = |one: &LatencyMedian| {
            json!({
                "side": one.side.name(), "rate": one.rate, "reached": one.reached.round(),
                "p50_ms": one.p50, "p99_ms": one.p99, "max_ms": one.max,
            })
        };
        let value = json!({
            "machine": self.machine,
            "workloads": self.outcomes.iter().map(Outcome::json).collect::<Vec<_>>(),
            "latency": latency_medians(&self.latencies).iter().map(latency).collect::<Vec<_>>(),
            "idle": self.idle.map(|idle| {
                json!({ "seconds": idle.seconds, "cpu_seconds": idle.cpu_seconds })
            }),
            "failures": self.failures,
        });
        let file = folder.join("pglogical.json");
        std::fs::write(&file, format!("{value:#}\n"))
            .with_context(|| format!("could not write {}", file.display()))
    }
}
