//! Three notions of time: ours ([`MonoTime`]) and the source's ([`WallTime`], [`Hlc`]).
use core::fmt;
use core::time::Duration;

/// Nanoseconds since the process started, as told to the machine by its driver.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct MonoTime(u64);

impl MonoTime {
    /// The moment the process started.
    pub const START: Self = Self(0);

    /// Builds a time from whole milliseconds.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis.saturating_mul(1_000_000))
    }

    /// Nanoseconds since the process started.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// This time plus `delay`, capped at the end of time.
    #[must_use]
    pub fn after(self, delay: Duration) -> Self {
        let nanos = u64::try_from(delay.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(nanos))
    }
}

/// A wall-clock time the source told us: microseconds since the Unix epoch. For lag only; nothing is
/// decided by it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WallTime {
    /// Microseconds since 1970-01-01 00:00 UTC; negative before.
    pub micros: i64,
}

/// A hybrid logical clock timestamp, as printed by CockroachDB: `nanos.logical`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hlc {
    /// Wall time in nanoseconds since the Unix epoch.
    pub nanos: u64,
    /// Orders events within one nanosecond.
    pub logical: u32,
}

impl fmt::Display for Hlc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:010}", self.nanos, self.logical)
    }
}
