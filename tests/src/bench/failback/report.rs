//! What was measured: medians, a table for people, JSON for programs.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::hand::{WAYS, Way};
use super::mysql::IntoMySql;
use super::{BLOCKED_MAX, MEMORY_LIMIT_MIB, MODES, Run, Step, Workload};
use crate::report::middle;

/// Everything that one benchmark found out.
#[derive(Debug)]
pub(crate) struct Report {
    machine: String,
    outcomes: Vec<Outcome>,
    /// What was measured on MySQL and MariaDB.
    pub(super) into_mysql: Vec<IntoMySql>,
    /// What went wrong.
    pub(crate) failures: Vec<String>,
}

/// One workload; medians of its runs, which are at least one.
#[derive(Debug)]
struct Outcome {
    workload: Workload,
    body_bytes: usize,
    /// Rows a second, in the order of [`WAYS`].
    hand: Vec<(Way, f64)>,
    ingest: Rate,
    apply: Rate,
    both: Rate,
    /// The same in the order of [`MODES`].
    modes: Vec<Rate>,
    blocked: Rate,
    blocked_seconds: f64,
    runs: usize,
    calm_runs: usize,
}

#[derive(Debug, Clone, Copy)]
struct Rate {
    rows_per_s: f64,
    /// Of our process.
    cpu_us_per_row: f64,
    /// Of our process, from its start; the largest of all runs.
    peak_mib: u64,
}

impl Outcome {
    fn new(workload: Workload, body_bytes: usize, runs: &[Run]) -> Option<Self> {
        let rows = workload.rows as f64;
        let of = |field: &dyn Fn(&Run) -> f64| middle(runs.iter().map(field).collect());
        let rate = |step: fn(&Run) -> Step| {
            Some(Rate {
                rows_per_s: of(&|run| rows / step(run).seconds)?,
                cpu_us_per_row: of(&|run| step(run).cpu * 1e6 / rows)?,
                peak_mib: runs.iter().map(|run| step(run).peak_kib / 1_024).max()?,
            })
        };
        let modes = (0..MODES.len()).map(|mode| {
            Some(Rate {
                rows_per_s: of(&|run| rows / run.modes[mode].seconds)?,
                cpu_us_per_row: of(&|run| run.modes[mode].cpu * 1e6 / rows)?,
                peak_mib: runs.iter().map(|run| run.modes[mode].peak_kib / 1_024).max()?,
            })
        });
        let hand = WAYS.iter().enumerate().map(|(index, way)| {
            Some((*way, of(&|run| run.hand.get(index).map_or(0.0, |(_, s)| rows / s))?))
        });
        Some(Self {
            workload,
            body_bytes,
            hand: hand.collect::<Option<Vec<_>>>()?,
            ingest: rate(|run| run.ingest)?,
            apply: rate(|run| run.apply)?,
            both: rate(|run| run.both)?,
            modes: modes.collect::<Option<Vec<_>>>()?,
            blocked: rate(|run| run.blocked)?,
            blocked_seconds: of(&|run| run.blocked.seconds)?,
            runs: runs.len(),
            calm_runs: runs.iter().filter(|run| run.calm).count(),
        })
    }

    /// The fastest way by hand. The fastest of single runs would be the luckiest one.
    fn floor(&self) -> (String, f64) {
        let best = self.hand.iter().max_by(|(_, one), (_, other)| one.total_cmp(other));
        best.map_or_else(|| ("-".to_owned(), 0.0), |(way, rate)| (way.to_string(), *rate))
    }

    /// The apply to the floor.
    fn ratio(&self) -> f64 {
        self.apply.rows_per_s / self.floor().1
    }

    fn line(&self) -> String {
        let (way, floor) = self.floor();
        format!(
            "{:<10} {:>8} {:>8.0} {:>8.0} {:>8.0} {way:<20} {:>5.2} {:>8.0} | {:>6.1} {:>6.1} {:>6.1} | \
             {:>4} {:>4} {:>4} | {:>8.0} {:>4} | {}/{}",
            self.workload.name,
            self.workload.rows,
            self.ingest.rows_per_s,
            self.apply.rows_per_s,
            floor,
            self.ratio(),
            self.both.rows_per_s,
            self.ingest.cpu_us_per_row,
            self.apply.cpu_us_per_row,
            self.both.cpu_us_per_row,
            self.ingest.peak_mib,
            self.apply.peak_mib,
            self.both.peak_mib,
            self.blocked.rows_per_s,
            self.blocked.peak_mib,
            self.calm_runs,
            self.runs
        )
    }

    fn json(&self) -> Value {
        let rate = |rate: Rate| {
            json!({
                "rows_per_s": rate.rows_per_s.round(),
                "cpu_us_per_row": (rate.cpu_us_per_row * 10.0).round() / 10.0,
                "memory_peak_mib": rate.peak_mib,
            })
        };
        let hand = self.hand.iter().map(|(way, rate)| (way.to_string(), json!(rate.round())));
        json!({
            "name": self.workload.name,
            "rows": self.workload.rows,
            "body_bytes": self.body_bytes,
            "by_hand_rows_per_s": hand.collect::<serde_json::Map<_, _>>(),
            "ingest": rate(self.ingest),
            "apply": rate(self.apply),
            "apply_to_floor": (self.ratio() * 100.0).round() / 100.0,
            "both": rate(self.both),
            "both_by_mode": MODES.iter().zip(&self.modes)
                .map(|((name, _), mode)| ((*name).to_owned(), rate(*mode)))
                .collect::<serde_json::Map<_, _>>(),
            "blocked": rate(self.blocked),
            "blocked_all_staged_meanwhile": self.blocked_seconds < BLOCKED_MAX.as_secs_f64(),
            "calm_runs": [self.calm_runs, self.runs],
        })
    }
}

impl Report {
    /// Nothing yet.
    pub(super) fn new(machine: String) -> Self {
        Self { machine, outcomes: Vec::new(), into_mysql: Vec::new(), failures: Vec::new() }
    }

    /// Takes the medians of a workload's runs.
    pub(super) fn push(&mut self, workload: Workload, body_bytes: usize, runs: &[Run]) {
        self.outcomes.extend(Outcome::new(workload, body_bytes, runs));
    }

    /// The table for people.
    pub(crate) fn text(&self) -> String {
        let blocked = format!("blocked ({MEMORY_LIMIT_MIB} MiB)");
        let mut lines = vec![
            self.machine.clone(),
            String::new(),
            format!(
                "rows/s         rows   ingest    apply    floor by hand              ratio     both | \
                 CPU us a row: ingest, apply, both | peak MiB, as before | {blocked}: rows/s, peak MiB | calm"
            ),
        ];
        lines.extend(self.outcomes.iter().map(Outcome::line));
        for outcome in &self.outcomes {
            let hand = outcome.hand.iter().map(|(way, rate)| format!("{way}: {rate:.0}"));
            let hand = hand.collect::<Vec<_>>().join(", ");
            lines.push(format!("by hand, {}: {hand}", outcome.workload.name));
            let modes = MODES.iter().zip(&outcome.modes);
            let modes = modes.map(|((name, _), mode)| format!("{name}: {:.0}", mode.rows_per_s));
            let modes = modes.collect::<Vec<_>>().join(", ");
            lines.push(format!("both, {}, {modes}", outcome.workload.name));
            if BLOCKED_MAX.as_secs_f64() <= outcome.blocked_seconds {
                lines.push(format!(
                    "{}: not all rows were staged while the target was blocked, for {} s",
                    outcome.workload.name,
                    BLOCKED_MAX.as_secs()
                ));
            }
        }
        lines.extend(self.into_mysql.iter().map(IntoMySql::line));
        lines.extend(self.failures.iter().map(|failure| format!("FAILED {failure}")));
        lines.join("\n")
    }

    /// Writes `failback.json`.
    pub(super) fn write_json(&self, folder: &Path) -> Result<()> {
        let value = json!({
            "machine": self.machine,
            "workloads": self.outcomes.iter().map(Outcome::json).collect::<Vec<_>>(),
            "into_mysql": self.into_mysql.iter().map(IntoMySql::json).collect::<Vec<_>>(),
            "failures": self.failures,
        });
        let file = folder.join("failback.json");
        std::fs::write(&file, format!("{value:#}\n"))
            .with_context(|| format!("could not write {}", file.display()))
    }
}
