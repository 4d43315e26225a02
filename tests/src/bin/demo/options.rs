//! How long, how fast, how many kills.
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use replicator_tests::failback::Kind;
use replicator_tests::mysql;

/// The command line, checked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Options {
    /// How long the load runs.
    pub(crate) duration: Duration,
    /// Rows per second that the load writes.
    pub(crate) rate: u32,
    /// How often replicator is killed, spread evenly over the duration.
    pub(crate) kills: u32,
    /// What the load's random choices begin with.
    pub(crate) seed: u64,
    /// The way back, into this; `None` is the way there.
    pub(crate) failback: Option<Kind>,
    /// The way there from this, and not from PostgreSQL.
    pub(crate) source: Option<mysql::Kind>,
}

impl Options {
    /// Reads `--minutes M --rate ROWS --kills N --seed S --failback TARGET --source SOURCE`;
    /// what is left out has a default.
    pub(crate) fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Self> {
        let duration = Duration::from_secs(60);
        let mut options =
            Self { duration, rate: 5_000, kills: 1, seed: 1, failback: None, source: None };
        let mut arguments = arguments.into_iter();
        while let Some(flag) = arguments.next() {
            let value = arguments.next().with_context(|| format!("{flag} needs a value"))?;
            let wrong = || format!("\"{value}\" is not a value for {flag}");
            match flag.as_str() {
                "--minutes" => {
                    let minutes: f64 = value.parse().with_context(wrong)?;
                    ensure!((0.05..=10_000.0).contains(&minutes), wrong());
                    options.duration = Duration::from_secs_f64(minutes * 60.0);
                }
                "--rate" => options.rate = value.parse().with_context(wrong)?,
                "--kills" => options.kills = value.parse().with_context(wrong)?,
                "--seed" => options.seed = value.parse().with_context(wrong)?,
                "--failback" => options.failback = Some(value.parse()?),
                "--source" => {
                    let named = mysql::Kind::ALL.into_iter().find(|kind| kind.name() == value);
                    options.source = Some(named.with_context(wrong)?);
                }
                _ => bail!(
                    "unknown flag {flag}; there are --minutes, --rate, --kills, --seed, --failback, --source"
                ),
            }
        }
        ensure!(options.rate > 0, "--rate is at least 1 row per second");
        Ok(options)
    }

    /// When the kill after `done` others is due, counted from the load's beginning.
    pub(crate) fn kill_due(&self, done: u32) -> Option<Duration> {
        (done < self.kills).then(|| self.duration * (done + 1) / (self.kills + 1))
    }
}
