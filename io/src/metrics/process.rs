//! What the operating system says about this process, from `/proc` (proc(5)). Nothing is shown where
//! there is no `/proc`.
use std::fs;

use prometheus::{Counter, Gauge, IntGauge, Registry};

use super::families::{register, register_counter};

/// Ticks of the clock in `/proc/self/stat` per second: fixed in Linux's interface to programs.
const TICKS_PER_SECOND: f64 = 100.0;

/// Gauges of the process.
#[derive(Debug)]
pub(super) struct Process {
    cpu: Counter,
    resident: IntGauge,
    size: IntGauge,
    threads: IntGauge,
    files: IntGauge,
    start: Gauge,
}

impl Process {
    /// Adds the gauges to `registry`.
    pub(super) fn new(registry: &Registry) -> Self {
        let gauge = |name, help| register(registry, IntGauge::new(name, help));
        Self {
            cpu: register_counter(registry, "process_cpu_seconds_total", "Processor time used."),
            resident: gauge("process_resident_memory_bytes", "Memory in use."),
            size: gauge("process_virtual_memory_bytes", "Address space in use."),
            threads: gauge("process_threads", "Operating system threads."),
            files: gauge("process_open_fds", "Open files and sockets."),
            start: register(
                registry,
                Gauge::new("process_start_time_seconds", "Unix time of the start."),
            ),
        }
    }

    /// Reads what the system says.
    pub(super) fn refresh(&self) {
        let read = |file| fs::read_to_string(file).unwrap_or_default();
        if let Some(Stat { cpu_ticks, start_ticks }) = Stat::parse(&read("/proc/self/stat")) {
            let cpu = cpu_ticks / TICKS_PER_SECOND;
            self.cpu.inc_by((cpu - self.cpu.get()).max(0.0));
            if let Some(booted) = booted(&read("/proc/stat")) {
                self.start.set(booted + start_ticks / TICKS_PER_SECOND);
            }
        }
        let status = read("/proc/self/status");
        for (gauge, name, unit) in [
            (&self.resident, "VmRSS:", 1024),
            (&self.size, "VmSize:", 1024),
            (&self.threads, "Threads:", 1),
        ] {
            if let Some(value) = field(&status, name) {
                gauge.set(value.saturating_mul(unit));
            }
        }
        if let Ok(files) = fs::read_dir("/proc/self/fd") {
            self.files.set(i64::try_from(files.count()).unwrap_or(i64::MAX));
        }
    }
}

struct Stat {
    cpu_ticks: f64,
    start_ticks: f64,
}

impl Stat {
    /// Reads fields 14 (user time), 15 (system time) and 22 (start). They are counted from the end of
    /// the program's name, which stands in parentheses and may hold anything.
    fn parse(text: &str) -> Option<Self> {
        let (_, fields) = text.rsplit_once(')')?;
        let field = |number: usize| -> Option<f64> {
            fields.split_whitespace().nth(number.checked_sub(3)?)?.parse().ok()
        };
        Some(Self { cpu_ticks: field(14)? + field(15)?, start_ticks: field(22)? })
    }
}

/// When the system started, in Unix time.
fn booted(text: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

fn field(text: &str, name: &str) -> Option<i64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::{Stat, booted, field};

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let text = "7 (a) b) S 1 7 7 0 -1 4194560 10 0 0 0 250 50 0 0 20 0 3 0 9000 1 2 3";
        let stat = Stat::parse(text).unwrap();
        assert_eq!((stat.cpu_ticks, stat.start_ticks), (300.0, 9000.0));
        assert!(Stat::parse("").is_none() && Stat::parse("7 (a) S 1").is_none());
    }

    #[test]
    fn lines_are_found_by_name() {
        assert_eq!(field("VmSize:\t  20 kB\nVmRSS:\t 10 kB\n", "VmRSS:"), Some(10));
        assert_eq!(field("VmSize:\t  20 kB\n", "VmRSS:"), None);
        assert_eq!(booted("cpu 1 2\nbtime 1700000000\n"), Some(1.7e9));
    }
}
